"""Captures: activations of a checkpoint at some sites, over a source or from a user's files."""


def capture_block(wildcards):
    return CONFIG[wildcards.policy].captures[wildcards.capture]


def capture_inputs(wildcards):
    """A recorded capture needs the checkpoint and the source; an imported one its file."""
    block = capture_block(wildcards)
    if "import" in block:
        return {"file": block["import"][int(wildcards.part.split("-")[1])]}
    names = {"policy": wildcards.policy, "source": block["source"], "part": wildcards.part}
    return {
        "record": template("checkpoint").format(policy=wildcards.policy, checkpoint=wildcards.checkpoint),
        "index": template("source").format(**names),
        "splits": template("source").format(**names).replace("index.json", "splits.zarr/zarr.json"),
        "part": template("source_part").format(**names),
    }


def capture_arguments(wildcards):
    """Where the script finds what `capture_inputs` names, as arguments."""
    block = capture_block(wildcards)
    found = capture_inputs(wildcards)
    if "import" in block:
        return ["--import", found["file"]]
    folder = os.path.dirname
    return ["--checkpoint", folder(found["record"]), "--source", folder(found["index"])]


def capture_parts(wildcards):
    parts = CONFIG[wildcards.policy].parts(capture_block(wildcards))
    return [
        template("capture_part").format(
            policy=wildcards.policy, checkpoint=wildcards.checkpoint, capture=wildcards.capture, part=part
        )
        for part in parts
    ]


def prunable_captures():
    """Regular expression of the captures whose activations go once their consumers are built."""
    names = {name for p in CONFIG.policies.values() for name, block in p.captures.items() if block.get("prunable")}
    return "|".join(sorted(names)) or "(?!)"


rule capture:
    input:
        unpack(capture_inputs),
    output:
        template("capture_part"),
    params:
        code=code("capture.py", of_family),
        environment=of_family,
        arguments=capture_arguments,
        settings=lambda w: as_json(capture_block(w)),
        device=CONFIG.compute["device"],
        batch_rows=CONFIG.compute["batch_rows"],
        threads=threads_of("capture"),
    threads: threads_of("capture")
    log:
        "results/logs/{policy}/{checkpoint}/activations/{capture}/{part}.log",
    resources:
        mem_mb=memory_of("capture", 3000),
        runtime=minutes_of("capture", 240),
    conda:
        conda_file(of_family)
    shell:
        run("capture.py")
        + " {params.arguments:q} --settings {params.settings:q} --part {wildcards.part}"
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
    params:
        code=code("index_parts.py"),
        environment=core,
    log:
        "results/logs/{policy}/{checkpoint}/activations/{capture}/index.log",
    resources:
        mem_mb=memory_of("index_capture", 500),
        runtime=minutes_of("index_capture", 10),
    conda:
        conda_file(core)
    shell:
        run("index_parts.py") + " --parts {input:q} --out $(dirname {output:q}) > {log:q} 2>&1"
