"""Contrasts: two concepts told apart by how demonstrations move; their windows, where these are, and a catalogue."""


rule build_contrast:
    input:
        unpack(contrasted),
    output:
        manifest=template("contrast"),
        map=template("contrast").replace("manifest.json", "concept_map.json"),
        record=template("contrast").replace("manifest.json", "contrast.json"),
        figure=report(
            template("contrast").replace("manifest.json", "axis.png"),
            caption="captions/contrast.rst",
            category="{policy}",
            subcategory="contrasts",
            labels={"figure": "{contrast}"},
        ),
    log:
        "results/logs/{policy}/contrasts/{contrast}.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("build_contrast", 2000),
        runtime=minutes_of("build_contrast", 30),
    params:
        code=code("build_contrast.py"),
        environment=core,
        block=lambda w: as_json(contrast_block(w)),
        origin=contrast_origin,
    shell:
        run("build_contrast.py") + " --source $(dirname {input.index:q}) --block {params.block:q}"
        " --origin {params.origin:q} --out $(dirname {output.manifest:q}) > {log:q} 2>&1"


rule catalog_contrasts:
    input:
        contrasts_of_policy,
    output:
        json=template("catalog"),
        table=template("catalog").replace(".json", ".md"),
    log:
        "results/logs/{policy}/contrasts/catalog.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("catalog_contrasts", 500),
        runtime=minutes_of("catalog_contrasts", 10),
    params:
        code=code("catalog_contrasts.py"),
        environment=core,
        slices=lambda w: as_json({name: slices_of(CONFIG[w.policy], name) for name in CONFIG[w.policy].contrasts}),
    shell:
        run("catalog_contrasts.py") + " --manifests {input:q} --policy {wildcards.policy} --slices {params.slices:q}"
        " --out {output.json:q} > {log:q} 2>&1"
