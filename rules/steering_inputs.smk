"""Input functions of steering."""


def steering_block(wildcards):
    """The block; directions of other blocks are files of theirs, of the same checkpoint."""
    block = CONFIG[wildcards.policy].steerings[wildcards.steering]
    directions = {name: from_block(wildcards, own) for name, own in block.get("directions", {}).items()}
    return {**block, "directions": directions} if directions else block


def steering_runs_block(wildcards):
    """What the runs depend on: not the least gain that counts, so that another one plays no episode again."""
    block = steering_block(wildcards)
    return {**block, "goal": {name: value for name, value in block["goal"].items() if name != "least"}}


def from_block(wildcards, own):
    """A direction of a block of directions as a file and an array in it; another as it is."""
    if "direction" not in own:
        return own
    analysis = template("direction_pair").format(**{**wildcards, **own})
    return {"site": own["site"], "file": os.path.join(os.path.dirname(analysis), VECTORS), "array": own["vector"]}


def steered(wildcards):
    """The policy, the capture that sets the scale, the SAEs, and labels that directions are made from."""
    block = steering_block(wildcards)
    capture = CONFIG[wildcards.policy].captures[block["capture"]]
    names = {"policy": wildcards.policy, "checkpoint": wildcards.checkpoint, "capture": block["capture"]}
    parts = CONFIG[wildcards.policy].parts(capture)
    labels = [
        template("labels").format(**names, source=capture["source"], labelset=labelset)
        for labelset in steering_labels(block)
    ]
    return {
        "record": template("checkpoint").format(**names),
        "capture": template("capture").format(**names),
        "parts": [template("capture_part").format(**names, part=part) for part in parts],
        "saes": list(saes_of(wildcards, block["saes"]).values()),
        "labels": labels,
        "clusters": sorted(set(steered_clusters(wildcards).values())),
        "files": sorted({own["file"] for own in block.get("directions", {}).values() if "file" in own}),
    }


def steered_clusters(wildcards):
    """Name of each cluster that is steered -> the file that holds it."""
    names = {"policy": wildcards.policy, "checkpoint": wildcards.checkpoint}
    own = steering_block(wildcards).get("clusters", {})
    return {name: template("ffn_clusters").format(**names, ffn=one["ffn"]) for name, one in own.items()}


def steering_arguments(wildcards):
    """Where the script finds what `steered` names, as arguments."""
    found, block = steered(wildcards), steering_block(wildcards)
    folder = os.path.dirname
    words = ["--checkpoint", folder(found["record"]), "--capture", folder(found["capture"])]
    words += sae_words(wildcards, block["saes"])
    words += [word for name, path in steered_clusters(wildcards).items() for word in ("--clusters", f"{name}={path}")]
    for path in found["labels"]:
        words += ["--labels", f"{labelset_of(path)}={folder(path)}"]
    return words


def steering_origin(wildcards):
    """What index.json says of where it comes from."""
    names = {name: wildcards[name] for name in ("policy", "checkpoint", "steering")}
    measures = {**CONFIG[wildcards.policy].family.measures, DIVERGENCE: DISTURBANCE}
    return as_json({**names, "block": steering_block(wildcards), "measures": measures})
