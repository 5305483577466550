"""Input functions of contrasts."""


def contrast_block(wildcards):
    return CONFIG[wildcards.policy].contrasts[wildcards.contrast]


def contrasted(wildcards):
    """The source with all its parts, and a published manifest and map where they are taken over."""
    block = contrast_block(wildcards)
    names = {"policy": wildcards.policy, "source": block["source"]}
    parts = CONFIG[wildcards.policy].parts(CONFIG[wildcards.policy].sources[block["source"]])
    return {
        "index": template("source").format(**names),
        "parts": [template("source_part").format(**names, part=part) for part in parts],
        "files": [block[key] for key in ("manifest", "concept_map") if key in block],
    }


def contrast_origin(wildcards):
    """What contrast.json says of where it comes from."""
    return as_json(
        {"policy": wildcards.policy, "source": contrast_block(wildcards)["source"], "contrast": wildcards.contrast}
    )


def contrasts_of_policy(wildcards):
    names = CONFIG[wildcards.policy].contrasts
    return [template("contrast").format(policy=wildcards.policy, contrast=name) for name in names]
