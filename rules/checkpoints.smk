"""Checkpoints: imported into one form, measured for strength; and training of our own."""


rule import_checkpoint:
    input:
        checkpoint_files,
    output:
        record=template("checkpoint"),
        weights=template("checkpoint").replace("policy.json", "model.safetensors"),
    log:
        "results/logs/{policy}/{checkpoint}/checkpoint.log",
    conda:
        conda_file(of_family)
    resources:
        mem_mb=memory_of("import_checkpoint", 2000),
        runtime=minutes_of("import_checkpoint", 30),
    params:
        code=code("import_checkpoint.py", of_family),
        environment=of_family,
        path=lambda w: CONFIG[w.policy].checkpoints[w.checkpoint].path,
        family=lambda w: CONFIG[w.policy].family.name,
        options=lambda w: as_json(CONFIG[w.policy].checkpoints[w.checkpoint].options),
    shell:
        run("import_checkpoint.py") + " --path {params.path:q} --family {params.family} --options {params.options:q}"
        " --out $(dirname {output.record:q}) > {log:q} 2>&1"


rule train_policy:
    input:
        training_files,
    output:
        template("training"),
    log:
        "results/logs/{policy}/training/{training}.log",
    conda:
        conda_file(of_simulator)
    threads: threads_of("train_policy")
    resources:
        mem_mb=memory_of("train_policy", 4000),
        runtime=minutes_of("train_policy", 600),
    params:
        code=code("train_policy.py", of_simulator),
        environment=of_simulator,
        family=lambda w: CONFIG[w.policy].family.name,
        settings=lambda w: as_json(CONFIG[w.policy].trainings[w.training]["settings"]),
        seed=lambda w: CONFIG[w.policy].trainings[w.training]["seed"],
        threads=threads_of("train_policy"),
    shell:
        run("train_policy.py") + " --family {params.family} --settings {params.settings:q} --seed {params.seed}"
        " --threads {params.threads} --out $(dirname {output:q}) > {log:q} 2>&1"


rule measure_strength:
    input:
        record=template("checkpoint"),
    output:
        template("strength"),
    log:
        "results/logs/{policy}/{checkpoint}/strength/{strength}.log",
    conda:
        conda_file(of_simulator)
    threads: threads_of("measure_strength")
    resources:
        mem_mb=memory_of("measure_strength", 2000),
        runtime=minutes_of("measure_strength", 120),
    params:
        code=code("measure_strength.py", of_simulator),
        environment=of_simulator,
        settings=lambda w: as_json(CONFIG[w.policy].strengths[w.strength]["settings"]),
        seed=lambda w: CONFIG[w.policy].strengths[w.strength]["seed"],
        threads=threads_of("measure_strength"),
    shell:
        run("measure_strength.py")
        + " --checkpoint $(dirname {input.record:q}) --settings {params.settings:q} --seed {params.seed}"
        " --threads {params.threads} --out {output:q} > {log:q} 2>&1"
