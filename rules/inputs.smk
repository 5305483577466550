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


def training_files(wildcards):
    """The checkpoint that a training run starts from, if it starts from one, and what it learns from."""
    policy = CONFIG[wildcards.policy]
    settings = policy.trainings[wildcards.training]["settings"]
    start = [f"{settings['start']}/policy.json"] if "start" in settings else []
    return [*start, *policy.family.lessons(settings)]


def source_block(wildcards):
    return CONFIG[wildcards.policy].sources[wildcards.source]


def source_inputs(wildcards):
    """A rollout needs its policy; an import its file; a dataset what is said of it."""
    block = source_block(wildcards)
    if "dataset" in block:
        return meta_files(block["dataset"])
    if "import" in block:
        return block["import"][int(wildcards.part.split("-")[1])]
    return template("checkpoint").format(policy=wildcards.policy, checkpoint=block["checkpoint"])


def source_script(wildcards):
    return "record_dataset.py" if "dataset" in source_block(wildcards) else "record_source.py"


def source_arguments(wildcards):
    """What the script of a source is told besides its block."""
    if "dataset" in source_block(wildcards):
        return []
    return ["--input", source_inputs(wildcards), "--threads", threads_of("record_source")]


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


def training_inputs(wildcards):
    """What a sweep is trained on: its captures, the label sets that choose its rows, and SAEs that members go on from."""
    block = sweep_block(wildcards)
    names = {"policy": wildcards.policy, "checkpoint": wildcards.checkpoint}
    own = {**dict(wildcards.items()), "member": "{member}"}
    recipes = [template("sae_recipe").format(**own).format(member=member) for member in trained_members(block)]
    found = {"indexes": [], "parts": [], "labels": [], "recipes": recipes, "starts": member_starts(block)}
    for capture in block["train_on"]:
        parts = CONFIG[wildcards.policy].parts(CONFIG[wildcards.policy].captures[capture])
        found["indexes"].append(template("capture").format(**names, capture=capture))
        found["parts"] += [template("capture_part").format(**names, capture=capture, part=part) for part in parts]
    for labelset in label_sets_of_rows(block):
        source = CONFIG[wildcards.policy].captures[block["train_on"][0]]["source"]
        found["labels"].append(template("labels").format(policy=wildcards.policy, source=source, labelset=labelset))
    return found


def member_inputs(wildcards):
    """What a member's result follows from; the sweep's training itself is `ancient`, since it spares what is trained."""
    own = sweep_block(wildcards)["members"][wildcards.member]
    if IMPORT in own:
        return {"imported": template("sae_imported").format(**wildcards)}
    found = training_inputs(wildcards)
    start = own["start"]
    return {
        "indexes": found["indexes"],
        "labels": found["labels"],
        "starts": [f"{start.rstrip('/')}/cfg.json"] if start else [],
        "recipe": template("sae_recipe").format(**wildcards),
        "training": ancient(template("sae_training").format(**wildcards)),
    }


def member_files(wildcards):
    """The folder that a member's files are taken from, as arguments."""
    found = member_inputs(wildcards)
    if "imported" in found:
        return ["--imported", os.path.dirname(found["imported"])]
    return ["--training", os.path.dirname(found["training"])]


def import_inputs(wildcards):
    """The files of an SAE of another tool, and a capture of its site, which gives the mean of its rows."""
    path = Path(import_path(sweep_block(wildcards)["members"][wildcards.member], wildcards.site))
    beside = [path.parent / name for name in ("cfg.json", "config.json", "sparsity.safetensors")]
    if path.parent.name == "checkpoints":
        beside.append(path.parents[1] / "config.json")
    more = [str(file) for file in beside if path.is_file() and file.is_file() and file != path]
    return {"files": own_files(path) + more, **captured(wildcards)}


def import_arguments(wildcards):
    """What the script is told of an import."""
    own = sweep_block(wildcards)["members"][wildcards.member]
    words = ["--from", import_path(own, wildcards.site), "--capture", os.path.dirname(captured(wildcards)["index"])]
    for name, value in import_options(own).items():
        words += [f"--{name.replace('_', '-')}", as_json(value)]
    return words


def member_starts(block):
    starts = {own["start"] for own in trained_members(block).values() if own["start"]}
    return sorted(f"{start.rstrip('/')}/cfg.json" for start in starts)


def training_arguments(wildcards):
    """Where the script finds what `training_inputs` names, as arguments."""
    found = training_inputs(wildcards)
    folder = os.path.dirname
    captures = [word for index in found["indexes"] for word in ("--capture", folder(index))]
    labels = [word for path in found["labels"] for word in ("--labels", f"{labelset_of(path)}={folder(path)}")]
    block = sweep_block(wildcards)
    return captures + labels + (["--wandb", as_json(block["wandb"])] if "wandb" in block else [])


def labelset_of(path):
    return Path(path).parent.name


def recipe(wildcards):
    """What a member's training follows from, as JSON: settings, rows, seed, device, threads and code."""
    block = sweep_block(wildcards)
    return as_json(
        {
            "settings": block["members"][wildcards.member],
            "rows": block["rows"],
            "seed": block["seed"],
            "device": CONFIG.compute["device"],
            "threads": threads_of("train_sweep"),
            "code": code("train_sweep.py")(wildcards),
        }
    )


def trainer(wildcards):
    """The environment that SAEs are trained in: with Weights & Biases where a sweep asks for it."""
    return "tracking" if "wandb" in sweep_block(wildcards) else "core"


def played(wildcards):
    """The policy and the observations behind the capture, for fidelity and for probes on what the policy sees.

    Nothing for imported captures.
    """
    block = sweep_block(wildcards)
    source = CONFIG[wildcards.policy].captures[block["capture"]].get("source")
    if source is None or not (block["evaluation"]["fidelity"] or "concepts" in block["evaluation"]):
        return {}
    names = {"policy": wildcards.policy, "checkpoint": wildcards.checkpoint, "source": source}
    return {"record": template("checkpoint").format(**names), "source": template("source").format(**names)}


def compared(wildcards):
    """What concepts are measured with: labels of the capture's rows, and the same SAE of an untrained checkpoint."""
    block = sweep_block(wildcards)
    concepts = block["evaluation"].get("concepts")
    if concepts is None:
        return {}
    source = CONFIG[wildcards.policy].captures[block["capture"]]["source"]
    labels = template("labels").format(policy=wildcards.policy, source=source, labelset=concepts["labels"])
    untrained = concepts.get("untrained")
    imported = IMPORT in block["members"][wildcards.member]
    if imported or untrained in (None, wildcards.checkpoint):
        return {"labels": labels}
    return {"labels": labels, **untrained_sae(wildcards, untrained)}


def untrained_sae(wildcards, checkpoint):
    """The member of the same name of another checkpoint, and that checkpoint's capture."""
    capture = sweep_block(wildcards)["capture"]
    at = {"policy": wildcards.policy, "checkpoint": checkpoint, "capture": capture}
    member = {name: wildcards[name] for name in ("sweep", "site", "member")}
    parts = CONFIG[wildcards.policy].parts(CONFIG[wildcards.policy].captures[capture])
    return {
        "untrained": template("sae").format(**at, **member),
        "untrained_index": template("capture").format(**at),
        "untrained_parts": [template("capture_part").format(**at, part=part) for part in parts],
    }


def evaluation_arguments(wildcards):
    """Where the script finds what `played` and `compared` name, as arguments."""
    found = {**played(wildcards), **compared(wildcards)}
    options = {
        "--checkpoint": "record",
        "--source": "source",
        "--labels": "labels",
        "--untrained-sae": "untrained",
        "--untrained-capture": "untrained_index",
    }
    words = [
        word for option, name in options.items() if name in found for word in (option, os.path.dirname(found[name]))
    ]
    return words if sweep_block(wildcards)["evaluation"]["fidelity"] else [*words, "--no-fidelity"]


def concept_options(wildcards):
    """How concepts are measured; which labels and which checkpoint stands in the job's inputs."""
    concepts = sweep_block(wildcards)["evaluation"].get("concepts", {})
    return {key: value for key, value in concepts.items() if key not in ("labels", "untrained")}


def member_metrics(wildcards):
    members = sweep_block(wildcards)["members"]
    return [template("sae_metrics").format(**wildcards, member=member) for member in members]


def member_returns(wildcards):
    members = beside_members(sweep_block(wildcards)).get("sae_return", [])
    return [template("sae_return").format(**wildcards, member=member) for member in members]


def trained_metrics(wildcards):
    """Those of members whose learning rate is known."""
    members = trained_members(sweep_block(wildcards))
    return [template("sae_metrics").format(**wildcards, member=member) for member in members]


def metrics_at_all_sites(wildcards):
    block = sweep_block(wildcards)
    places = [{"site": site, "member": member} for site in block["sites"] for member in block["members"]]
    return [template("sae_metrics").format(**wildcards, **place) for place in places]


def with_labels(wildcards):
    """Everything that members at a site are compared on."""
    block = sweep_block(wildcards)
    members = [template("sae").format(**wildcards, member=member) for member in block["members"]]
    found = {**captured(wildcards), "saes": members}
    if "labels" in block["comparison"]:
        found["labels"] = labels_of_sweep(wildcards, block["comparison"]["labels"])
    return found


def labels_of_sweep(wildcards, labelset):
    source = CONFIG[wildcards.policy].captures[sweep_block(wildcards)["capture"]]["source"]
    return template("labels").format(policy=wildcards.policy, source=source, labelset=labelset)


def compared_arguments(wildcards):
    found = with_labels(wildcards)
    labels = ["--labels", os.path.dirname(found["labels"])] if "labels" in found else []
    return ["--sae", *map(os.path.dirname, found["saes"]), *labels]


def closed_loop_of(wildcards):
    return {**CLOSED_LOOP, **sweep_block(wildcards)["evaluation"]["closed_loop"]}


def checkpoint_of(wildcards):
    return template("checkpoint").format(policy=wildcards.policy, checkpoint=wildcards.checkpoint)


def beside_sweep(wildcards):
    """What belongs to a sweep besides its sites' tables: the page of its trainings, and what the config asks for."""
    block = sweep_block(wildcards)
    found = [template("sae_training_stats").format(**wildcards)]
    found += [
        template(kind).format(**wildcards, site=site, member=member)
        for kind, members in beside_members(block).items()
        for site in block["sites"]
        for member in members
    ]
    if something_to_compare(block):
        found += [template("sae_comparison").format(**wildcards, site=site) for site in block["sites"]]
    if learning_rates_to_compare(block):
        found += [template("sae_learning_rates").format(**wildcards, site=site) for site in block["sites"]]
    return found


def sweep_summaries(wildcards):
    return [template("sae_summary").format(**wildcards, site=site) for site in sweep_block(wildcards)["sites"]]


def intervention_block(wildcards):
    return CONFIG[wildcards.policy].interventions[wildcards.intervention]


def saes_of(wildcards, addresses):
    """Site -> cfg.json of the SAE there, from site -> sweep/member."""
    return {
        site: template("sae").format(
            policy=wildcards.policy, checkpoint=wildcards.checkpoint, site=site, sweep=sweep, member=member
        )
        for site, (sweep, member) in ((site, sweep_and_member(address)) for site, address in addresses.items())
    }


def sae_words(wildcards, addresses):
    """--sae SITE=FOLDER for each of them."""
    found = saes_of(wildcards, addresses).items()
    return [word for site, path in found for word in ("--sae", f"{site}={os.path.dirname(path)}")]


def intervened(wildcards):
    """The policy, the rows it runs on, and the SAEs."""
    capture = intervention_block(wildcards)["capture"]
    block = CONFIG[wildcards.policy].captures[capture]
    names = {"policy": wildcards.policy, "checkpoint": wildcards.checkpoint, "capture": capture}
    parts = CONFIG[wildcards.policy].parts(block)
    found = {
        "record": template("checkpoint").format(**names),
        "source": template("source").format(**names, source=block["source"]),
        "capture": template("capture").format(**names),
        "parts": [template("capture_part").format(**names, part=part) for part in parts],
        "saes": list(saes_of(wildcards, intervention_block(wildcards)["saes"]).values()),
    }
    if "phase" in intervention_block(wildcards):
        labelset = intervention_block(wildcards)["phase"]["labels"]
        found["labels"] = template("labels").format(**names, source=block["source"], labelset=labelset)
    return found


def intervention_arguments(wildcards):
    """Where the script finds what `intervened` names, as arguments."""
    found, block = intervened(wildcards), intervention_block(wildcards)
    words = [word for name in ("source", "capture") for word in (f"--{name}", os.path.dirname(found[name]))]
    words += sae_words(wildcards, block["saes"])
    if "phase" in block:
        words += ["--labels", os.path.dirname(found["labels"]), "--phase", as_json(phase_options(block))]
    return [*words, "--split", block["split"], "--rows", block["rows"], "--seed", block["seed"]]


def intervention_origin(wildcards):
    """What analysis.json says of where it comes from."""
    block = intervention_block(wildcards)
    names = {name: wildcards[name] for name in ("policy", "checkpoint", "site")}
    return as_json(
        {**names, "sae": block["saes"][wildcards.site], "capture": block["capture"], "split": block["split"]}
    )


def intervention_sites(wildcards):
    sites = intervention_block(wildcards)["saes"]
    return [template("intervention_site").format(**wildcards, site=site) for site in sites]
