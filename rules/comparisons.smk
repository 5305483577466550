"""Evaluations beside the metrics: members compared with each other, examples per latent, returns in closed loop."""


rule compare_saes:
    input:
        unpack(with_labels),
    output:
        comparison=template("sae_comparison"),
        stability=report(
            template("sae_comparison").replace("comparison.json", "stability.png"),
            caption="captions/stability.rst",
            category="{policy}",
            subcategory="{checkpoint}: SAE sweep {sweep}",
            labels={"site": "{site}", "figure": "stability across seeds"},
        ),
        splitting=report(
            template("sae_comparison").replace("comparison.json", "splitting.png"),
            caption="captions/splitting.rst",
            category="{policy}",
            subcategory="{checkpoint}: SAE sweep {sweep}",
            labels={"site": "{site}", "figure": "splitting across widths"},
        ),
        absorption=report(
            template("sae_comparison").replace("comparison.json", "absorption.png"),
            caption="captions/absorption.rst",
            category="{policy}",
            subcategory="{checkpoint}: SAE sweep {sweep}",
            labels={"site": "{site}", "figure": "absorption"},
        ),
    log:
        "results/logs/{policy}/{checkpoint}/sae/{sweep}/{site}/comparison.log",
    conda:
        conda_file(core)
    threads: threads_of("compare_saes")
    resources:
        mem_mb=memory_of("compare_saes", 4000),
        runtime=minutes_of("compare_saes", 120),
    params:
        code=code("compare_saes.py"),
        environment=core,
        arguments=compared_arguments,
        comparison=lambda w: sweep_block(w)["comparison"],
        seed=lambda w: sweep_block(w)["seed"],
        device=CONFIG.compute["device"],
        threads=threads_of("compare_saes"),
        title=lambda w: f"{w.policy} / {w.checkpoint} / {w.site}",
    shell:
        run("compare_saes.py") + " {params.arguments:q} --capture $(dirname {input.index:q}) --site {wildcards.site}"
        " --rows {params.comparison[rows]} --targets {params.comparison[targets]} --seed {params.seed}"
        " --threads {params.threads} --device {params.device} --title {params.title:q} --out {output.comparison:q}"
        " > {log:q} 2>&1"


rule collect_examples:
    input:
        unpack(captured),
        cfg=template("sae"),
    output:
        template("sae_examples"),
    log:
        "results/logs/{policy}/{checkpoint}/sae/{sweep}/{site}/{member}-examples.log",
    conda:
        conda_file(core)
    threads: threads_of("collect_examples")
    resources:
        mem_mb=memory_of("collect_examples", 4000),
        runtime=minutes_of("collect_examples", 120),
    params:
        code=code("collect_examples.py"),
        environment=core,
        examples=lambda w: {**EXAMPLES, **(sweep_block(w).get("examples") or {})},
        seed=lambda w: sweep_block(w)["seed"],
        device=CONFIG.compute["device"],
        threads=threads_of("collect_examples"),
    shell:
        run("collect_examples.py")
        + " --sae $(dirname {input.cfg:q}) --capture $(dirname {input.index:q}) --site {wildcards.site}"
        " --count {params.examples[count]} --split {params.examples[split]} --seed {params.seed}"
        " --threads {params.threads} --device {params.device} --out $(dirname {output:q}) > {log:q} 2>&1"


rule measure_return:
    input:
        unpack(captured),
        record=checkpoint_of,
        cfg=template("sae"),
    output:
        json=template("sae_return"),
        figure=report(
            template("sae_return").replace(".json", ".png"),
            caption="captions/return.rst",
            category="{policy}",
            subcategory="{checkpoint}: SAE sweep {sweep}",
            labels={"site": "{site}", "figure": "return with {member}"},
        ),
    log:
        "results/logs/{policy}/{checkpoint}/sae/{sweep}/{site}/{member}-return.log",
    conda:
        conda_file(of_simulator)
    threads: threads_of("measure_return")
    resources:
        mem_mb=memory_of("measure_return", 4000),
        runtime=minutes_of("measure_return", 240),
    params:
        code=code("measure_return.py", of_simulator),
        environment=of_simulator,
        episodes=lambda w: closed_loop_of(w)["episodes"],
        settings=lambda w: as_json(closed_loop_of(w)["settings"]),
        split=lambda w: sweep_block(w)["evaluation"]["split"],
        seed=lambda w: sweep_block(w)["seed"],
        device=CONFIG.compute["device"],
        threads=threads_of("measure_return"),
        title=lambda w: f"{w.policy} / {w.checkpoint} / {w.site} / {w.member}",
    shell:
        run("measure_return.py")
        + " --sae $(dirname {input.cfg:q}) --capture $(dirname {input.index:q}) --checkpoint $(dirname {input.record:q})"
        " --site {wildcards.site} --split {params.split} --settings {params.settings:q} --episodes {params.episodes}"
        " --seed {params.seed} --threads {params.threads} --device {params.device} --title {params.title:q}"
        " --out {output.json:q} > {log:q} 2>&1"
