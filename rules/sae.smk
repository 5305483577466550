"""Sparse autoencoders: training, evaluation on held-out episodes, and the sweep as a whole."""


rule train_sae:
    input:
        unpack(captured),
    output:
        cfg=template("sae"),
        weights=template("sae").replace("cfg.json", "sae_weights.safetensors"),
        training=template("sae").replace("cfg.json", "training.json"),
        curve=template("sae").replace("cfg.json", "training.csv"),
    log:
        "results/logs/{policy}/{checkpoint}/sae/{sweep}/{site}/{member}.log",
    conda:
        conda_file(core)
    threads: threads_of("train_sae")
    resources:
        mem_mb=memory_of("train_sae", 6000),
        runtime=minutes_of("train_sae", 240),
    params:
        code=code("train_sae.py"),
        environment=core,
        settings=lambda w: as_json(sweep_block(w)["members"][w.member]),
        rows=lambda w: sweep_block(w).get("rows", 0),
        seed=lambda w: sweep_block(w)["seed"],
        device=CONFIG.compute["device"],
        threads=threads_of("train_sae"),
    shell:
        run("train_sae.py")
        + " --capture $(dirname {input.index:q}) --site {wildcards.site} --settings {params.settings:q}"
        " --rows {params.rows} --seed {params.seed} --threads {params.threads} --device {params.device}"
        " --out $(dirname {output.cfg:q}) > {log:q} 2>&1"


rule evaluate_sae:
    input:
        unpack(captured),
        unpack(played),
        cfg=template("sae"),
    output:
        template("sae_metrics"),
    log:
        "results/logs/{policy}/{checkpoint}/sae/{sweep}/{site}/{member}-metrics.log",
    conda:
        conda_file(of_family)
    threads: threads_of("evaluate_sae")
    resources:
        mem_mb=memory_of("evaluate_sae", 4000),
        runtime=minutes_of("evaluate_sae", 60),
    params:
        code=code("evaluate_sae.py", of_family),
        environment=of_family,
        arguments=played_arguments,
        split=lambda w: sweep_block(w)["evaluation"]["split"],
        rows=lambda w: sweep_block(w)["evaluation"].get("rows", 0),
        seed=lambda w: sweep_block(w)["seed"],
        device=CONFIG.compute["device"],
        threads=threads_of("evaluate_sae"),
    shell:
        run("evaluate_sae.py")
        + " --sae $(dirname {input.cfg:q}) --capture $(dirname {input.index:q}) {params.arguments:q}"
        " --site {wildcards.site} --split {params.split} --rows {params.rows} --seed {params.seed}"
        " --threads {params.threads} --device {params.device} --out {output:q} > {log:q} 2>&1"


rule summarise_sweep:
    input:
        member_metrics,
    output:
        summary=template("sae_summary"),
        table=template("sae_summary").replace("json", "csv"),
        scaling=report(
            template("sae_summary").replace("json", "png"),
            caption="captions/scaling.rst",
            category="{policy}",
            subcategory="{checkpoint}: SAE sweep {sweep}",
            labels={"site": "{site}", "figure": "size and sparsity"},
        ),
        fidelity=report(
            template("sae_summary").replace("scaling.json", "fidelity.png"),
            caption="captions/fidelity.rst",
            category="{policy}",
            subcategory="{checkpoint}: SAE sweep {sweep}",
            labels={"site": "{site}", "figure": "policy fidelity"},
        ),
        density=report(
            template("sae_summary").replace("scaling.json", "density.png"),
            caption="captions/density.rst",
            category="{policy}",
            subcategory="{checkpoint}: SAE sweep {sweep}",
            labels={"site": "{site}", "figure": "latent density"},
        ),
        training=report(
            template("sae_summary").replace("scaling.json", "training.png"),
            caption="captions/training.rst",
            category="{policy}",
            subcategory="{checkpoint}: SAE sweep {sweep}",
            labels={"site": "{site}", "figure": "training"},
        ),
    log:
        "results/logs/{policy}/{checkpoint}/sae/{sweep}/{site}/summary.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("summarise_sweep", 1000),
        runtime=minutes_of("summarise_sweep", 10),
    params:
        code=code("summarise_sweep.py"),
        environment=core,
        title=lambda w: f"{w.policy} / {w.checkpoint} / {w.site}",
    shell:
        run("summarise_sweep.py")
        + " --metrics {input:q} --title {params.title:q} --out $(dirname {output.summary:q}) > {log:q} 2>&1"


rule index_sweep:
    input:
        sweep_summaries,
    output:
        template("sweep"),
    log:
        "results/logs/{policy}/{checkpoint}/sae/{sweep}/index.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("index_sweep", 500),
        runtime=minutes_of("index_sweep", 10),
    params:
        code=code("index_sweep.py"),
        environment=core,
    shell:
        run("index_sweep.py") + " --summaries {input:q} --out {output:q} > {log:q} 2>&1"
