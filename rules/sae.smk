"""Sparse autoencoders: training, evaluation on held-out episodes, and the sweep as a whole."""


# What a member's training follows from, besides the activations: written anew when that changes, so that the member
# is trained again, and no other.
rule write_recipe:
    output:
        template("sae_recipe"),
    log:
        "results/logs/{policy}/{checkpoint}/sae/{sweep}/{site}/{member}-recipe.log",
    localrule: True
    conda:
        conda_file(core)
    params:
        recipe=recipe,
    shell:
        "printf '%s\\n' {params.recipe:q} > {output:q} 2> {log:q}"


rule train_sweep:
    input:
        unpack(training_inputs),
    output:
        update(template("sae_training")),
    log:
        "results/logs/{policy}/{checkpoint}/sae/{sweep}/{site}/training.log",
    conda:
        conda_file(trainer)
    threads: threads_of("train_sweep")
    resources:
        mem_mb=memory_of("train_sweep", 8000),
        runtime=minutes_of("train_sweep", 1440),
    params:
        code=code("train_sweep.py"),
        environment=trainer,
        arguments=training_arguments,
        threads=threads_of("train_sweep"),
    shell:
        run("train_sweep.py")
        + " {params.arguments:q} --recipes {input.recipes:q} --site {wildcards.site} --threads {params.threads}"
        " --memory-mb {resources.mem_mb} --out $(dirname {output:q}) > {log:q} 2>&1"


rule import_sae:
    input:
        unpack(import_inputs),
    output:
        cfg=template("sae_imported"),
        weights=template("sae_imported").replace("cfg.json", "sae_weights.safetensors"),
        training=template("sae_imported").replace("cfg.json", "training.json"),
        curve=template("sae_imported").replace("cfg.json", "training.csv"),
    log:
        "results/logs/{policy}/{checkpoint}/sae/{sweep}/{site}/{member}-import.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("import_sae", 4000),
        runtime=minutes_of("import_sae", 60),
    params:
        code=code("import_sae.py"),
        environment=core,
        arguments=import_arguments,
    shell:
        run("import_sae.py") + " {params.arguments:q} --site {wildcards.site} --policy {wildcards.policy}"
        " --checkpoint {wildcards.checkpoint} --out $(dirname {output.cfg:q}) > {log:q} 2>&1"


# train_sweep leaves alone what is trained already. Through `ancient` (rules/masking.py) so do the members' files, and
# all that was made of them; a changed recipe or capture makes a member new.
rule publish_sae:
    input:
        unpack(member_inputs),
    output:
        cfg=template("sae"),
        weights=template("sae").replace("cfg.json", "sae_weights.safetensors"),
        training=template("sae").replace("cfg.json", "training.json"),
        curve=template("sae").replace("cfg.json", "training.csv"),
    log:
        "results/logs/{policy}/{checkpoint}/sae/{sweep}/{site}/{member}.log",
    localrule: True
    conda:
        conda_file(core)
    params:
        code=code("publish_sae.py"),
        environment=core,
        source=member_files,
    shell:
        run("publish_sae.py")
        + " {params.source:q} --member {wildcards.member} --out $(dirname {output.cfg:q}) > {log:q} 2>&1"


rule evaluate_sae:
    input:
        unpack(captured),
        unpack(played),
        unpack(compared),
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
        arguments=evaluation_arguments,
        concepts=lambda w: as_json(concept_options(w)),
        split=lambda w: sweep_block(w)["evaluation"]["split"],
        rows=lambda w: sweep_block(w)["evaluation"].get("rows", 0),
        seed=lambda w: sweep_block(w)["seed"],
        device=CONFIG.compute["device"],
        threads=threads_of("evaluate_sae"),
    shell:
        run("evaluate_sae.py")
        + " --sae $(dirname {input.cfg:q}) --capture $(dirname {input.index:q}) {params.arguments:q}"
        " --concepts {params.concepts:q} --site {wildcards.site} --split {params.split} --rows {params.rows}"
        " --seed {params.seed} --threads {params.threads} --device {params.device} --out {output:q} > {log:q} 2>&1"


rule summarise_sweep:
    input:
        metrics=member_metrics,
        returns=member_returns,
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
        pareto=report(
            template("sae_summary").replace("scaling.json", "pareto.png"),
            caption="captions/pareto.rst",
            category="{policy}",
            subcategory="{checkpoint}: SAE sweep {sweep}",
            labels={"site": "{site}", "figure": "sparsity and quality"},
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
        concepts=report(
            template("sae_summary").replace("scaling.json", "concepts.png"),
            caption="captions/concepts.rst",
            category="{policy}",
            subcategory="{checkpoint}: SAE sweep {sweep}",
            labels={"site": "{site}", "figure": "concepts"},
        ),
        probing=report(
            template("sae_summary").replace("scaling.json", "probing.png"),
            caption="captions/probing.rst",
            category="{policy}",
            subcategory="{checkpoint}: SAE sweep {sweep}",
            labels={"site": "{site}", "figure": "sparse probing"},
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
        run("summarise_sweep.py") + " --metrics {input.metrics:q} --returns {input.returns:q} --title {params.title:q}"
        " --out $(dirname {output.summary:q}) > {log:q} 2>&1"


rule plot_learning_rates:
    input:
        trained_metrics,
    output:
        report(
            template("sae_learning_rates"),
            caption="captions/learning_rate.rst",
            category="{policy}",
            subcategory="{checkpoint}: SAE sweep {sweep}",
            labels={"site": "{site}", "figure": "learning rate"},
        ),
    log:
        "results/logs/{policy}/{checkpoint}/sae/{sweep}/{site}/learning_rate.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("plot_learning_rates", 1000),
        runtime=minutes_of("plot_learning_rates", 10),
    params:
        code=code("plot_learning_rates.py"),
        environment=core,
        title=lambda w: f"{w.policy} / {w.checkpoint} / {w.site}",
    shell:
        run("plot_learning_rates.py") + " --metrics {input:q} --title {params.title:q} --out {output:q} > {log:q} 2>&1"


rule training_stats:
    input:
        metrics_at_all_sites,
    output:
        json=template("sae_training_stats"),
        page=report(
            template("sae_training_stats").replace(".json", ".html"),
            caption="captions/training_stats.rst",
            category="{policy}",
            subcategory="{checkpoint}: SAE sweep {sweep}",
            labels={"site": "all sites", "figure": "training statistics"},
        ),
    log:
        "results/logs/{policy}/{checkpoint}/sae/{sweep}/training_stats.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("training_stats", 500),
        runtime=minutes_of("training_stats", 10),
    params:
        code=code("training_stats.py"),
        environment=core,
    shell:
        run("training_stats.py")
        + " --metrics {input:q} --policy {wildcards.policy} --checkpoint {wildcards.checkpoint} --sweep {wildcards.sweep}"
        " --out {output.json:q} > {log:q} 2>&1"


rule index_sweep:
    input:
        summaries=sweep_summaries,
        beside=beside_sweep,
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
        run("index_sweep.py")
        + " --summaries {input.summaries:q} --beside {input.beside:q} --out {output:q} > {log:q} 2>&1"
