"""Interventions: exact effects of changing single latents, and what they say."""


rule intervene:
    input:
        unpack(intervened),
    output:
        template("effects"),
    log:
        "results/logs/{policy}/{checkpoint}/interventions/{intervention}/{site}/effects.log",
    conda:
        conda_file(of_family)
    threads: threads_of("intervene")
    resources:
        mem_mb=memory_of("intervene", 4000),
        runtime=minutes_of("intervene", 240),
    params:
        code=code("intervene.py", of_family),
        environment=of_family,
        arguments=intervention_arguments,
        settings=lambda w: as_json(own_settings(intervention_block(w))),
        device=CONFIG.compute["device"],
        threads=threads_of("intervene"),
    shell:
        run("intervene.py") + " --checkpoint $(dirname {input.record:q}) {params.arguments:q} --site {wildcards.site}"
        " --settings {params.settings:q} --code {params.code:q} --device {params.device} --threads {params.threads}"
        " --out $(dirname {output:q}) > {log:q} 2>&1"


rule analyse_interventions:
    input:
        template("effects"),
    output:
        json=template("intervention_site"),
        ranking=template("intervention_site").replace("analysis.json", "ranking.csv"),
        summary=template("intervention_site").replace("analysis.json", "summary.txt"),
        matrices=report(
            template("intervention_site").replace("analysis.json", "matrices.png"),
            caption="captions/matrices.rst",
            category="{policy}",
            subcategory="{checkpoint}: interventions {intervention}",
            labels={"site": "{site}", "figure": "causal matrices"},
        ),
        importance=report(
            template("intervention_site").replace("analysis.json", "importance.png"),
            caption="captions/importance.rst",
            category="{policy}",
            subcategory="{checkpoint}: interventions {intervention}",
            labels={"site": "{site}", "figure": "strongest latents"},
        ),
        controls=report(
            template("intervention_site").replace("analysis.json", "controls.png"),
            caption="captions/controls.rst",
            category="{policy}",
            subcategory="{checkpoint}: interventions {intervention}",
            labels={"site": "{site}", "figure": "random directions"},
        ),
        clusters=report(
            template("intervention_site").replace("analysis.json", "clusters.png"),
            caption="captions/clusters.rst",
            category="{policy}",
            subcategory="{checkpoint}: interventions {intervention}",
            labels={"site": "{site}", "figure": "clusters"},
        ),
        phases=report(
            template("intervention_site").replace("analysis.json", "phases.png"),
            caption="captions/phases.rst",
            category="{policy}",
            subcategory="{checkpoint}: interventions {intervention}",
            labels={"site": "{site}", "figure": "phases"},
        ),
    log:
        "results/logs/{policy}/{checkpoint}/interventions/{intervention}/{site}/analysis.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("analyse_interventions", 2000),
        runtime=minutes_of("analyse_interventions", 30),
    params:
        code=code("analyse_interventions.py"),
        environment=core,
        origin=intervention_origin,
        clusters=lambda w: intervention_block(w).get("clusters", 0),
        seed=lambda w: intervention_block(w)["seed"],
    shell:
        run("analyse_interventions.py") + " --effects $(dirname {input:q}) --origin {params.origin:q}"
        " --clusters {params.clusters} --seed {params.seed} --out {output.json:q} > {log:q} 2>&1"


rule index_interventions:
    input:
        intervention_sites,
    output:
        template("intervention"),
    log:
        "results/logs/{policy}/{checkpoint}/interventions/{intervention}/index.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("index_interventions", 500),
        runtime=minutes_of("index_interventions", 10),
    params:
        code=code("index_interventions.py"),
        environment=core,
    shell:
        run("index_interventions.py") + " --analyses {input:q} --out {output:q} > {log:q} 2>&1"
