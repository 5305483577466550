"""Slices of captures by concept, directions between concepts, and how these lie to each other."""


rule slice_capture:
    input:
        unpack(sliced),
    output:
        template("slice"),
    log:
        "results/logs/{policy}/{checkpoint}/slices/{slice}.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("slice_capture", 4000),
        runtime=minutes_of("slice_capture", 30),
    params:
        code=code("slice_capture.py"),
        environment=core,
        arguments=slice_arguments,
        block=lambda w: as_json(slice_block(w)),
        origin=lambda w: as_json({name: w[name] for name in ("policy", "checkpoint", "slice")}),
    shell:
        run("slice_capture.py") + " {params.arguments:q} --block {params.block:q} --origin {params.origin:q}"
        " --out $(dirname {output:q}) > {log:q} 2>&1"


rule derive_direction:
    input:
        unpack(derived_from),
    output:
        json=template("direction_pair"),
        vectors=template("direction_pair").replace("analysis.json", VECTORS),
    log:
        "results/logs/{policy}/{checkpoint}/directions/{direction}/{pair}.log",
    conda:
        conda_file(core)
    threads: threads_of("derive_direction")
    resources:
        mem_mb=memory_of("derive_direction", 6000),
        runtime=minutes_of("derive_direction", 120),
    params:
        code=code("derive_direction.py"),
        environment=core,
        arguments=derived_arguments,
        pair=lambda w: as_json(pair_of(w)),
        block=derived_settings,
        origin=direction_origin,
        device=CONFIG.compute["device"],
        threads=threads_of("derive_direction"),
    shell:
        run("derive_direction.py") + " {params.arguments:q} --pair {params.pair:q} --block {params.block:q}"
        " --origin {params.origin:q} --device {params.device} --threads {params.threads} --out {output.json:q}"
        " > {log:q} 2>&1"


rule index_directions:
    input:
        analyses=direction_pairs,
        vectors=direction_vectors,
    output:
        json=template("direction"),
        pairwise=template("direction").replace("index.json", "pairwise_stats.json"),
        summary=template("direction").replace("index.json", "summary.txt"),
        norms=report(
            template("direction").replace("index.json", "norms.png"),
            caption="captions/norms.rst",
            category="{policy}",
            subcategory="{checkpoint}: directions {direction}",
            labels={"figure": "lengths"},
        ),
        cosines=report(
            template("direction").replace("index.json", "cosines.png"),
            caption="captions/cosines.rst",
            category="{policy}",
            subcategory="{checkpoint}: directions {direction}",
            labels={"figure": "cosines between pairs"},
        ),
        reliability=report(
            template("direction").replace("index.json", "reliability.png"),
            caption="captions/reliability.rst",
            category="{policy}",
            subcategory="{checkpoint}: directions {direction}",
            labels={"figure": "reliability"},
        ),
    log:
        "results/logs/{policy}/{checkpoint}/directions/{direction}/index.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("index_directions", 4000),
        runtime=minutes_of("index_directions", 30),
    params:
        code=code("index_directions.py"),
        environment=core,
        expected=lambda w: as_json(direction_block(w)["expected"]),
        seed=lambda w: direction_block(w)["seed"],
    shell:
        run("index_directions.py") + " --analyses {input.analyses:q} --expected {params.expected:q}"
        " --seed {params.seed} --out {output.json:q} > {log:q} 2>&1"
