"""Input functions of slices and directions."""


def slice_block(wildcards):
    return CONFIG[wildcards.policy].slices[wildcards.slice]


def sliced(wildcards):
    """The capture whose rows are chosen, its source, and the concept map; or files to import."""
    block = slice_block(wildcards)
    names = {"policy": wildcards.policy, "checkpoint": wildcards.checkpoint}
    found = {"files": files_of(block)}
    if "capture" in block:
        capture = CONFIG[wildcards.policy].captures[block["capture"]]
        parts = CONFIG[wildcards.policy].parts(capture)
        found["capture"] = template("capture").format(**names, capture=block["capture"])
        found["parts"] = [template("capture_part").format(**names, capture=block["capture"], part=p) for p in parts]
        if "source" in capture:
            found["source"] = template("source").format(**names, source=capture["source"])
    concept_map = concept_map_path(wildcards.policy, block)
    return {**found, "concept_map": concept_map} if concept_map else found


def slice_arguments(wildcards):
    """Where the script finds what `sliced` names, as arguments."""
    found = sliced(wildcards)
    words = [w for name in ("capture", "source") if name in found for w in (f"--{name}", os.path.dirname(found[name]))]
    return [*words, *(["--concept-map", found["concept_map"]] if "concept_map" in found else [])]


def direction_block(wildcards):
    return CONFIG[wildcards.policy].directions[wildcards.direction]


def pair_of(wildcards):
    return direction_block(wildcards)["pairs"][wildcards.pair]


def derived_from(wildcards):
    """The rows of two concepts (or files), the capture they are of, the SAE, and its metrics where there is a gate."""
    block, pair = direction_block(wildcards), pair_of(wildcards)
    names = {"policy": wildcards.policy, "checkpoint": wildcards.checkpoint}
    found = {"files": files_of_pair(pair)}
    if "slice" in pair:
        found["slice"] = template("slice").format(**names, slice=pair["slice"])
        capture = CONFIG[wildcards.policy].slices[pair["slice"]].get("capture")
        if capture is not None:
            parts = CONFIG[wildcards.policy].parts(CONFIG[wildcards.policy].captures[capture])
            found["capture"] = template("capture").format(**names, capture=capture)
            found["parts"] = [template("capture_part").format(**names, capture=capture, part=part) for part in parts]
    if "sae" in block:
        sweep, member = sweep_and_member(block["sae"])
        names = {**names, "sweep": sweep, "member": member, "site": block["site"]}
        found["sae"] = template("sae").format(**names)
        if "gate" in block:
            found["metrics"] = template("sae_metrics").format(**names)
    return found


def derived_arguments(wildcards):
    """Where the script finds what `derived_from` names, as arguments."""
    found = derived_from(wildcards)
    folders = [name for name in ("slice", "capture", "sae") if name in found]
    words = [word for name in folders for word in (f"--{name}", os.path.dirname(found[name]))]
    return [*words, *(["--metrics", found["metrics"]] if "metrics" in found else [])]


def derived_settings(wildcards):
    """What of a block a pair's directions follow from."""
    names = ("permutations", "top", "ridge", "probe_rows", "seed", "gate", "baseline_site")
    return as_json({name: value for name, value in direction_block(wildcards).items() if name in names})


def direction_origin(wildcards):
    """What analysis.json says of where it comes from."""
    block = direction_block(wildcards)
    names = {name: wildcards[name] for name in ("policy", "checkpoint", "direction", "pair")}
    optional = {name: block.get(name) for name in ("sae", "baseline_site")}
    return as_json({**names, **optional, "site": block["site"]})


def direction_pairs(wildcards):
    pairs = direction_block(wildcards)["pairs"]
    return [template("direction_pair").format(**wildcards, pair=pair) for pair in pairs]


def direction_vectors(wildcards):
    return [path.replace("analysis.json", VECTORS) for path in direction_pairs(wildcards)]
