"""Units of feed-forward layers: how strongly they answer, what the strongest write, and which write alike."""


rule probe_ffn:
    input:
        unpack(ffn_observed),
    output:
        template("ffn_activations"),
    log:
        "results/logs/{policy}/{checkpoint}/ffn/{ffn}/activations.log",
    conda:
        conda_file(of_family)
    threads: threads_of("probe_ffn")
    resources:
        mem_mb=memory_of("probe_ffn", 3000),
        runtime=minutes_of("probe_ffn", 240),
    params:
        code=code("probe_ffn.py", of_family),
        environment=of_family,
        arguments=ffn_arguments,
        device=CONFIG.compute["device"],
        batch_rows=CONFIG.compute["batch_rows"],
        threads=threads_of("probe_ffn"),
    shell:
        run("probe_ffn.py") + " {params.arguments:q} --device {params.device} --batch-rows {params.batch_rows}"
        " --threads {params.threads} --out $(dirname {output:q}) > {log:q} 2>&1"


rule project_ffn:
    input:
        record=checkpoint_of,
        activations=template("ffn_activations"),
    output:
        records=template("ffn_records"),
        vectors=template("ffn_records").replace("records.json", "vectors.safetensors"),
    log:
        "results/logs/{policy}/{checkpoint}/ffn/{ffn}/records.log",
    conda:
        conda_file(of_family)
    threads: threads_of("project_ffn")
    resources:
        mem_mb=memory_of("project_ffn", 3000),
        runtime=minutes_of("project_ffn", 60),
    params:
        code=code("project_ffn.py", of_family),
        environment=of_family,
        block=lambda w: as_json(part_of(ffn_block(w), RECORDED)),
        device=CONFIG.compute["device"],
        threads=threads_of("project_ffn"),
    shell:
        run("project_ffn.py")
        + " --checkpoint $(dirname {input.record:q}) --activations $(dirname {input.activations:q})"
        " --block {params.block:q} --device {params.device} --threads {params.threads} --out {output.records:q}"
        " > {log:q} 2>&1"


rule cluster_ffn:
    input:
        activations=template("ffn_activations"),
        records=template("ffn_records"),
        vectors=template("ffn_records").replace("records.json", "vectors.safetensors"),
    output:
        json=template("ffn_clusters"),
        analysis=template("ffn_clusters").replace("clusters.json", "analysis.json"),
        summary=template("ffn_clusters").replace("clusters.json", "summary.txt"),
        page=report(
            template("ffn_clusters").replace("clusters.json", "clusters.html"),
            caption="captions/ffn_clusters.rst",
            category="{policy}",
            subcategory="{checkpoint}: FFN units {ffn}",
            labels={"figure": "clusters, as a page"},
        ),
        map=report(
            template("ffn_clusters").replace("clusters.json", "tsne.png"),
            caption="captions/ffn_map.rst",
            category="{policy}",
            subcategory="{checkpoint}: FFN units {ffn}",
            labels={"figure": "map of units"},
        ),
    log:
        "results/logs/{policy}/{checkpoint}/ffn/{ffn}/clusters.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("cluster_ffn", 2000),
        runtime=minutes_of("cluster_ffn", 60),
    params:
        code=code("cluster_ffn.py"),
        environment=core,
        origin=ffn_origin,
    shell:
        run("cluster_ffn.py") + " --activations $(dirname {input.activations:q}) --records {input.records:q}"
        " --origin {params.origin:q} --out {output.json:q} > {log:q} 2>&1"
