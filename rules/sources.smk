"""Sources: where observations come from, in parts of whole episodes; and labels of their rows."""


rule record_source:
    input:
        source_inputs,
    output:
        template("source_part"),
    log:
        "results/logs/{policy}/sources/{source}/{part}.log",
    conda:
        conda_file(of_source)
    threads: threads_of("record_source")
    resources:
        mem_mb=memory_of("record_source", 3000),
        runtime=minutes_of("record_source", 240),
    params:
        code=lambda w: code(source_script(w), of_source)(w),
        environment=of_source,
        script=source_script,
        settings=lambda w: as_json(source_block(w)),
        arguments=source_arguments,
    shell:
        run("{params.script}")
        + " {params.arguments:q} --settings {params.settings:q} --source {wildcards.source} --part {wildcards.part}"
        " --out $(dirname {output:q}) > {log:q} 2>&1"


rule index_source:
    input:
        source_parts,
    output:
        index=template("source"),
        splits=template("source").replace("index.json", "splits.zarr/zarr.json"),
    log:
        "results/logs/{policy}/sources/{source}/index.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("index_source", 2000),
        runtime=minutes_of("index_source", 30),
    params:
        code=code("index_source.py"),
        environment=core,
        settings=lambda w: as_json(source_block(w)["split"]),
    shell:
        run("index_source.py") + " --parts {input:q} --split {params.settings:q} --source {wildcards.source}"
        " --out $(dirname {output.index:q}) > {log:q} 2>&1"


rule label_source:
    input:
        part=template("source_part"),
        index=template("source"),
    output:
        template("label_part"),
    log:
        "results/logs/{policy}/sources/{source}/labels/{labelset}/{part}.log",
    conda:
        conda_file(of_family)
    resources:
        mem_mb=memory_of("label_source", 3000),
        runtime=minutes_of("label_source", 120),
    params:
        code=code("label_source.py", of_family),
        environment=of_family,
        family=lambda w: CONFIG[w.policy].family.name,
        names=lambda w: CONFIG[w.policy].labels[w.labelset]["names"],
    shell:
        run("label_source.py")
        + " --family {params.family} --source $(dirname {input.index:q}) --part {wildcards.part}"
        " --names {params.names:q} --out $(dirname {output:q}) > {log:q} 2>&1"


rule index_labels:
    input:
        label_parts,
    output:
        template("labels"),
    log:
        "results/logs/{policy}/sources/{source}/labels/{labelset}/index.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("index_labels", 500),
        runtime=minutes_of("index_labels", 10),
    params:
        code=code("index_parts.py"),
        environment=core,
    shell:
        run("index_parts.py") + " --parts {input:q} --out $(dirname {output:q}) > {log:q} 2>&1"
