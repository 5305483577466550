"""Input functions of correlations: what their jobs depend on, from the blocks of config.yaml that their paths name."""


def correlation_block(wildcards):
    return CONFIG[wildcards.policy].correlations[wildcards.correlation]


def correlated(wildcards):
    """The rows of a capture, the inputs of the same rows, and the site's SAE."""
    block = correlation_block(wildcards)
    capture = CONFIG[wildcards.policy].captures[block["capture"]]
    names = {"policy": wildcards.policy, "checkpoint": wildcards.checkpoint, "capture": block["capture"]}
    of_source = {"policy": wildcards.policy, "source": capture["source"]}
    sweep, member = sweep_and_member(block["saes"][wildcards.site])
    parts = CONFIG[wildcards.policy].parts(capture)
    found = {
        "record": template("checkpoint").format(**names),
        "source": template("source").format(**of_source),
        "capture": template("capture").format(**names),
        "parts": [template("capture_part").format(**names, part=part) for part in parts],
        "sae": template("sae").format(**names, site=wildcards.site, sweep=sweep, member=member),
    }
    if "labels" in block:
        found["labels"] = template("labels").format(**of_source, labelset=block["labels"])
    return found


def correlation_arguments(wildcards):
    """Where the script finds what `correlated` names, and the block's settings, as arguments."""
    found, block = correlated(wildcards), correlation_block(wildcards)
    folders = {"checkpoint": "record", "source": "source", "capture": "capture", "sae": "sae", "labels": "labels"}
    words = [
        word for name, key in folders.items() if key in found for word in (f"--{name}", os.path.dirname(found[key]))
    ]
    return [*words, *(word for name in ("split", "rows", "shifts", "seed") for word in (f"--{name}", block[name]))]


def correlation_origin(wildcards):
    """What analysis.json says of where it comes from."""
    block = correlation_block(wildcards)
    names = {name: wildcards[name] for name in ("policy", "checkpoint", "site")}
    sae = {"sae": block["saes"][wildcards.site], "labels": block.get("labels")}
    return as_json({**names, **sae, "capture": block["capture"], "split": block["split"]})


def correlation_sites(wildcards):
    sites = correlation_block(wildcards)["saes"]
    return [template("correlation_site").format(**wildcards, site=site) for site in sites]
