"""Correlations of interpretable inputs with the latents of SAEs, site by site and side by side."""


rule correlate:
    input:
        unpack(correlated),
    output:
        template("correlations"),
    log:
        "results/logs/{policy}/{checkpoint}/correlations/{correlation}/{site}/correlations.log",
    conda:
        conda_file(of_family)
    threads: threads_of("correlate")
    resources:
        mem_mb=memory_of("correlate", 3000),
        runtime=minutes_of("correlate", 60),
    params:
        code=code("correlate.py", of_family),
        environment=of_family,
        arguments=correlation_arguments,
        device=CONFIG.compute["device"],
        threads=threads_of("correlate"),
    shell:
        run("correlate.py") + " {params.arguments:q} --site {wildcards.site} --device {params.device}"
        " --threads {params.threads} --out $(dirname {output:q}) > {log:q} 2>&1"


rule analyse_correlations:
    input:
        template("correlations"),
    output:
        json=template("correlation_site"),
        ranking=template("correlation_site").replace("analysis.json", "ranking.csv"),
        summary=template("correlation_site").replace("analysis.json", "summary.txt"),
        heat_map=report(
            template("correlation_site").replace("analysis.json", "heatmap.png"),
            caption="captions/heatmap.rst",
            category="{policy}",
            subcategory="{checkpoint}: correlations {correlation}",
            labels={"site": "{site}", "figure": "inputs and latents"},
        ),
    log:
        "results/logs/{policy}/{checkpoint}/correlations/{correlation}/{site}/analysis.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("analyse_correlations", 1000),
        runtime=minutes_of("analyse_correlations", 10),
    params:
        code=code("analyse_correlations.py"),
        environment=core,
        origin=correlation_origin,
    shell:
        run("analyse_correlations.py") + " --correlations $(dirname {input:q}) --origin {params.origin:q}"
        " --out {output.json:q} > {log:q} 2>&1"


rule index_correlations:
    input:
        correlation_sites,
    output:
        index=template("correlation"),
        across=report(
            template("correlation").replace("index.json", "across_sites.png"),
            caption="captions/across_sites.rst",
            category="{policy}",
            subcategory="{checkpoint}: correlations {correlation}",
            labels={"site": "all", "figure": "inputs across sites"},
        ),
    log:
        "results/logs/{policy}/{checkpoint}/correlations/{correlation}/index.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("index_correlations", 1000),
        runtime=minutes_of("index_correlations", 10),
    params:
        code=code("index_correlations.py"),
        environment=core,
    shell:
        run("index_correlations.py") + " --analyses {input:q} --out {output.index:q} > {log:q} 2>&1"
