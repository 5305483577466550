"""Input functions: what a job depends on, from the blocks of config.yaml that its path names."""


def checkpoint_files(wildcards):
    """The files of a checkpoint that is on disk; one on the hub has none of its own, its revision is a parameter."""
    policy = CONFIG[wildcards.policy]
    origin = policy.checkpoints[wildcards.checkpoint]
    return [*own_files(Path(origin.path)), *policy.family.files(origin.options)]


def own_files(path):
    if str(path).startswith("hf:"):
        return []
    if (path / "policy.json").exists():
        return [str(path / "policy.json"), str(path / "model.safetensors")]
    return [str(file) for file in sorted(path.iterdir()) if file.is_file()] if path.is_dir() else [str(path)]


def training_start(wildcards):
    """The checkpoint that a training run starts from, where it does not start from nothing."""
    start = CONFIG[wildcards.policy].trainings[wildcards.training]["settings"].get("start")
    return f"{start}/policy.json" if start else []


def source_block(wildcards):
    return CONFIG[wildcards.policy].sources[wildcards.source]


def source_inputs(wildcards):
    """A rollout needs its policy; an import needs its file."""
    block = source_block(wildcards)
    if "import" in block:
        return block["import"][int(wildcards.part.split("-")[1])]
    return template("checkpoint").format(policy=wildcards.policy, checkpoint=block["checkpoint"])


def source_parts(wildcards):
    parts = CONFIG[wildcards.policy].parts(source_block(wildcards))
    return [
        template("source_part").format(policy=wildcards.policy, source=wildcards.source, part=part) for part in parts
    ]


def label_parts(wildcards):
    parts = CONFIG[wildcards.policy].parts(source_block(wildcards))
    return [template("label_part").format(**wildcards, part=part) for part in parts]


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


def sweep_block(wildcards):
    return CONFIG[wildcards.policy].sweeps[wildcards.sweep]


def captured(wildcards):
    """A sweep's capture: its index and all its parts, so that a pruned part is rebuilt."""
    names = {
        "policy": wildcards.policy,
        "checkpoint": wildcards.checkpoint,
        "capture": sweep_block(wildcards)["capture"],
    }
    parts = CONFIG[wildcards.policy].parts(CONFIG[wildcards.policy].captures[names["capture"]])
    return {
        "index": template("capture").format(**names),
        "parts": [template("capture_part").format(**names, part=part) for part in parts],
    }


def played(wildcards):
    """What fidelity needs: the policy and the observations behind the capture; nothing for imported captures."""
    block = sweep_block(wildcards)
    source = CONFIG[wildcards.policy].captures[block["capture"]].get("source")
    if source is None or not block["evaluation"]["fidelity"]:
        return {}
    names = {"policy": wildcards.policy, "checkpoint": wildcards.checkpoint, "source": source}
    return {"record": template("checkpoint").format(**names), "source": template("source").format(**names)}


def played_arguments(wildcards):
    found = played(wildcards)
    folder = os.path.dirname
    return ["--checkpoint", folder(found["record"]), "--source", folder(found["source"])] if found else []


def member_metrics(wildcards):
    members = sweep_block(wildcards)["members"]
    return [template("sae_metrics").format(**wildcards, member=member) for member in members]


def sweep_summaries(wildcards):
    return [template("sae_summary").format(**wildcards, site=site) for site in sweep_block(wildcards)["sites"]]
