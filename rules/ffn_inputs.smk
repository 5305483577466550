"""Input functions of FFN clustering."""


def ffn_block(wildcards):
    return CONFIG[wildcards.policy].ffns[wildcards.ffn]


def ffn_observed(wildcards):
    """The policy, and the rows or files that it is run on."""
    block = ffn_block(wildcards)
    found = {"record": checkpoint_of(wildcards)}
    if "observations" in block:
        return {**found, "files": [str(path) for path in matching(block["observations"])]}
    names = {"policy": wildcards.policy, "source": block["source"]}
    parts = CONFIG[wildcards.policy].parts(CONFIG[wildcards.policy].sources[block["source"]])
    return {
        **found,
        "source": template("source").format(**names),
        "parts": [template("source_part").format(**names, part=part) for part in parts],
    }


def ffn_arguments(wildcards):
    """Where the script finds what `ffn_observed` names, and what it is told, as arguments."""
    found, block = ffn_observed(wildcards), ffn_block(wildcards)
    words = ["--checkpoint", os.path.dirname(found["record"]), "--seed", block["seed"]]
    words += ["--source", os.path.dirname(found["source"])] if "source" in found else []
    return [*words, "--block", as_json(part_of(block, PROBED))]


def ffn_origin(wildcards):
    """What analysis.json says of where it comes from."""
    names = {name: wildcards[name] for name in ("policy", "checkpoint", "ffn")}
    return as_json({**names, "block": ffn_block(wildcards)})
