"""Captures: activations of a checkpoint at some sites, over a source or from a user's files."""


rule capture:
    input:
        unpack(capture_inputs),
    output:
        template("capture_part"),
    log:
        "results/logs/{policy}/{checkpoint}/activations/{capture}/{part}.log",
    conda:
        conda_file(of_family)
    threads: threads_of("capture")
    resources:
        mem_mb=memory_of("capture", 3000),
        runtime=minutes_of("capture", 240),
    params:
        code=code("capture.py", of_family),
        environment=of_family,
        arguments=capture_arguments,
        settings=lambda w: as_json(capture_block(w)),
        device=CONFIG.compute["device"],
        batch_rows=CONFIG.compute["batch_rows"],
        threads=threads_of("capture"),
    shell:
        run("capture.py") + " {params.arguments:q} --settings {params.settings:q} --part {wildcards.part}"
        " --device {params.device} --batch-rows {params.batch_rows} --threads {params.threads}"
        " --out $(dirname {output:q}) > {log:q} 2>&1"


use rule capture as capture_prunable with:
    output:
        temp(template("capture_part")),
    wildcard_constraints:
        capture=prunable_captures(),


ruleorder: capture_prunable > capture


rule index_capture:
    input:
        capture_parts,
    output:
        template("capture"),
    log:
        "results/logs/{policy}/{checkpoint}/activations/{capture}/index.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("index_capture", 500),
        runtime=minutes_of("index_capture", 10),
    params:
        code=code("index_parts.py"),
        environment=core,
    shell:
        run("index_parts.py") + " --parts {input:q} --out $(dirname {output:q}) > {log:q} 2>&1"
