"""config.yaml, loaded and checked before anything is built: each fault is one clear line.

First the schema (misspelt keys, wrong types, names that could leave their folder), then what only the blocks
together can tell: names that no block has, sites that the policy lacks, capabilities that the family lacks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policylens.capture.settings import capture_settings, part_names, shares, source_settings
from policylens.errors import UserError
from policylens.interventions.kinds import check_mode
from policylens.policies import registry
from policylens.policies.family import DIVERGENCE, Family
from policylens.policies.importing import is_hub_address, parse_hub_address
from policylens.project.circuits import circuit_settings
from policylens.project.contrasts import check_contrast, contrast_settings
from policylens.project.correlations import correlation_settings
from policylens.project.datasets import check_dataset
from policylens.project.demonstrations import dataset_settings, demonstrations_settings
from policylens.project.directions import check_directions, check_steered, direction_settings, with_sites
from policylens.project.ffn import check_ffn, ffn_settings, with_cluster_sites
from policylens.project.interventions import intervention_settings, sweep_and_member
from policylens.project.known import known as _known
from policylens.project.slices import check_slice
from policylens.project.steering import steered_sites, steering_labels, steering_settings
from policylens.project.sweeps import (
    import_path,
    imported_members,
    label_sets_of_rows,
    labels_of_rows,
    members_of,
    rows_of,
    trained_members,
)
from policylens.project.tokens import check_read, check_rows_are_steps, check_tokens
from policylens.steering.kinds import spelt_out
from policylens.stores.files import read_json
from policylens.stores.foreign import check_suffix
from policylens.stores.names import check_name
from policylens.stores.schemas import check_against, check_value

EVALUATION = {"split": "test", "fidelity": True}
EXAMPLES = {"count": 20, "split": "all"}
COMPARISON = {"rows": 20_000, "targets": 100}
CLOSED_LOOP = {"episodes": 200, "settings": {}}


@dataclass(frozen=True)
class Checkpoint:
    """Where a checkpoint comes from: a path (or hub address), and options of its import."""

    path: str | None
    options: Mapping[str, Any]


class PolicyBlock:
    """One policy of the config, with defaults filled in and series and sweeps spelled out.

    name: of the block. family: its manifest. Blocks are plain dicts, by name: sources, labels, contrasts, captures,
    sweeps, trainings, strengths, interventions, circuits, correlations, ffns, slices, directions, steerings.
    """

    def __init__(self, name: str, block: Mapping[str, Any], seed: int) -> None:
        self.name = name
        self.where = f"policies.{name}"
        if name in RESERVED_POLICIES:
            raise UserError(f"{self.where}: this name is taken by a folder of results/; choose another")
        self.family: Family = registry.family(block["family"])
        self.checkpoints = _checkpoints(block["checkpoints"], f"{self.where}.checkpoints")
        self.sources = {key: source_settings(value, seed) for key, value in block.get("sources", {}).items()}
        self.labels = dict(block.get("labels", {}))
        self.contrasts = {key: contrast_settings(value, seed) for key, value in block.get("contrasts", {}).items()}
        self.captures = {key: capture_settings(value) for key, value in block.get("captures", {}).items()}
        self.sweeps = {
            key: {
                "seed": seed,
                **value,
                "train_on": value.get("train_on", [value["capture"]]),
                "rows": rows_of(value),
                "evaluation": {**EVALUATION, **value.get("evaluation", {})},
                "comparison": {**COMPARISON, **value.get("comparison", {})},
                "members": members_of(value, f"{self.where}.sae.{key}"),
            }
            for key, value in block.get("sae", {}).items()
        }
        self.interventions = {
            key: intervention_settings(value, seed) for key, value in block.get("interventions", {}).items()
        }
        self.ffns = {key: ffn_settings(value, seed) for key, value in block.get("ffn", {}).items()}
        self.slices = dict(block.get("slices", {}))
        self.directions = {
            key: direction_settings(value, seed, f"{self.where}.directions.{key}")
            for key, value in block.get("directions", {}).items()
        }
        self.steerings = {
            key: self._steering(value, seed, f"{self.where}.steering.{key}")
            for key, value in block.get("steering", {}).items()
        }
        self.circuits = {key: circuit_settings(value, seed) for key, value in block.get("circuits", {}).items()}
        self.correlations = {
            key: correlation_settings(value, seed) for key, value in block.get("correlations", {}).items()
        }
        self.trainings = {key: {"seed": seed, **value} for key, value in block.get("training", {}).items()}
        self.strengths = {key: {"seed": seed, **value} for key, value in block.get("strength", {}).items()}

    def _steering(self, block: Mapping[str, Any], seed: int, where: str) -> dict[str, Any]:
        """A block of steering that says at which sites what it takes from other blocks is."""
        return with_sites(with_cluster_sites(steering_settings(block, seed), self.ffns, where), self.directions)

    def parts(self, block: Mapping[str, Any]) -> list[str]:
        """Names of the parts of a source, or of the files of an imported capture."""
        if "source" in block:
            return self.parts(self.sources[block["source"]])
        return part_names(block.get("parts") or len(block["import"]))

    def sites(self, checkpoint: str) -> dict[str, Any] | None:
        """Sites of a checkpoint by name, or None while what they follow from cannot be seen yet."""
        record = self._record(self.checkpoints[checkpoint], Path("results", self.name, checkpoint, "checkpoint"))
        return None if record is None else {site.name: site for site in self.family.sites(record)}

    def _record(self, checkpoint: Checkpoint, imported: Path) -> Mapping[str, Any] | None:
        """Enough of a checkpoint's policy.json: from its own folder, its options, or an import of the same address."""
        if checkpoint.path is None:
            return None
        if is_hub_address(checkpoint.path):
            address = parse_hub_address(checkpoint.path)
            record = self._read_record(imported / "policy.json") or {}
            origin = record.get("origin", {})
            same = (origin.get("hub"), origin.get("revision"), origin.get("path"))
            return record if same == (address.repo, address.revision, address.path) else None
        record = self._read_record(Path(checkpoint.path) / "policy.json")
        if record is None and self.family.architecture is not None:
            return {"architecture": self.family.architecture(checkpoint.options)}
        return record

    def _read_record(self, path: Path) -> Mapping[str, Any] | None:
        if not path.is_file():
            return None
        record = read_json(path)
        check_against("policy", record, path)
        if record["family"] != self.family.name:
            raise UserError(f"{path}: is of the family {record['family']!r}, the config says {self.family.name!r}")
        return record


RULES = (
    "analyse_correlations",
    "analyse_interventions",
    "analyse_steering",
    "build_contrast",
    "capture",
    "capture_prunable",
    "catalog_contrasts",
    "cluster_ffn",
    "collect_examples",
    "compare_saes",
    "convert_dataset",
    "correlate",
    "demo",
    "derive_direction",
    "evaluate_sae",
    "import_checkpoint",
    "import_sae",
    "index_capture",
    "index_correlations",
    "index_demonstrations",
    "index_directions",
    "index_interventions",
    "index_labels",
    "index_source",
    "index_sweep",
    "intervene",
    "label_source",
    "measure_return",
    "measure_strength",
    "plot_learning_rates",
    "probe_ffn",
    "project_ffn",
    "publish_sae",
    "record_demonstrations",
    "record_source",
    "slice_capture",
    "steer",
    "summarise_sweep",
    "trace_circuit",
    "train_policy",
    "train_sweep",
    "training_stats",
    "write_recipe",
)
"""Names of the workflow's rules: `snakemake <policy>` is one too."""

RESERVED_POLICIES = ("compare", "datasets", "demonstrations", "logs", "training", *RULES)
RESERVED_CHECKPOINTS = ("sources", "contrasts")


class Config:
    """The whole config. policies: name -> PolicyBlock. demonstrations, datasets: name -> block, outside of policies."""

    def __init__(self, raw: Mapping[str, Any], source: str = "config.yaml") -> None:
        """raw: the parsed YAML. source: what error lines name. Raises UserError at the first fault."""
        check_against("config", raw, source)
        self.source = source
        self.seed = raw.get("seed", 0)
        self.compute = {"device": "cpu", "batch_rows": 4096, **raw.get("compute", {})}
        self.resources: dict[str, dict[str, int]] = dict(raw.get("resources", {}))
        self.demo: list[str] = list(raw.get("demo", []))
        try:
            self.demonstrations = {
                name: demonstrations_settings(block, self.seed) for name, block in raw.get("demonstrations", {}).items()
            }
            self.datasets = {
                name: dataset_settings(block, self.demonstrations, f"datasets.{name}")
                for name, block in raw.get("datasets", {}).items()
            }
            self.policies = {name: PolicyBlock(name, block, self.seed) for name, block in raw["policies"].items()}
            for policy in self.policies.values():
                _check_policy(policy)
        except UserError as error:
            message = str(error)
            raise UserError(message if message.startswith(source) else f"{source}: {message}") from None

    def __getitem__(self, policy: str) -> PolicyBlock:
        """A policy's block; UserError for an unknown name."""
        return self.policies[_known(policy, self.policies, self.source, "policy")]


def load_config(path: Path) -> Config:
    """Read and check a config file."""
    return Config(parsed(path), str(path))


def parsed(path: Path) -> dict[str, Any]:
    """A config file's content; UserError for a key that stands twice, where YAML would take the last without a word."""
    import yaml

    try:
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_strict_loader())
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such config file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: must be a mapping with a key 'policies'")
    return raw


def _strict_loader() -> type:
    import yaml

    class Strict(yaml.SafeLoader):
        """Refuses keys that stand twice in one mapping."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands there twice", key.start_mark
                    )
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Strict


def _checkpoints(blocks: Mapping[str, Any], where: str) -> dict[str, Checkpoint]:
    found: dict[str, Checkpoint] = {}
    for name, checkpoint in _spelt_out(blocks):
        if name in found:
            raise UserError(f"{where}: the checkpoint {name!r} stands there twice, once as a member of a series")
        found[check_name(name, f"{where}: the checkpoint")] = checkpoint
    return found


def _spelt_out(blocks: Mapping[str, Any]) -> Iterator[tuple[str, Checkpoint]]:
    for name, block in blocks.items():
        options = block.get("options", {})
        if "series" in block:
            for member in block["members"]:
                yield f"{name}-{member}", Checkpoint(block["series"].replace("{}", member), options)
        else:
            yield name, Checkpoint(block.get("path"), options)


def _require(policy: PolicyBlock, capability: str, where: str) -> None:
    if capability not in policy.family.capabilities:
        raise UserError(
            f"{where} needs the capability {capability!r}, which the family {policy.family.name!r} lacks; it has: "
            f"{', '.join(sorted(policy.family.capabilities)) or 'none'}"
        )


def _check_policy(policy: PolicyBlock) -> None:
    _check_checkpoints(policy)
    for kind, (blocks, check) in {
        "sources": (policy.sources, _check_source),
        "labels": (policy.labels, _check_labels),
        "contrasts": (policy.contrasts, check_contrast),
        "captures": (policy.captures, _check_capture),
        "sae": (policy.sweeps, _check_sweep),
        "interventions": (policy.interventions, _check_intervention),
        "circuits": (policy.circuits, _check_circuit),
        "correlations": (policy.correlations, _check_correlation),
        "ffn": (policy.ffns, check_ffn),
        "slices": (policy.slices, check_slice),
        "directions": (policy.directions, check_directions),
        "steering": (policy.steerings, _check_steering),
    }.items():
        for name, block in blocks.items():
            check(policy, f"{policy.where}.{kind}.{name}", block)
    for capability, blocks in (("training", policy.trainings), ("strength", policy.strengths)):
        for name, block in blocks.items():
            where = f"{policy.where}.{capability}.{name}"
            _require(policy, capability, where)
            check_value(policy.family.settings[capability], block["settings"], where, ["settings"])


def _check_checkpoints(policy: PolicyBlock) -> None:
    for name, checkpoint in policy.checkpoints.items():
        where = f"{policy.where}.checkpoints.{name}"
        if name in RESERVED_CHECKPOINTS:
            raise UserError(f"{where}: this name is taken by a folder of results/; choose another")
        if checkpoint.path is None:
            if "run" in policy.family.capabilities:
                raise UserError(f"{where}: needs a path, or is a series with members")
        elif is_hub_address(checkpoint.path):
            parse_hub_address(checkpoint.path)
        elif not Path(checkpoint.path).exists():
            raise UserError(f"{where}: there is no checkpoint at {checkpoint.path}")
        elif not (Path(checkpoint.path) / "policy.json").is_file():
            _check_foreign(policy, checkpoint, where)


def _check_foreign(policy: PolicyBlock, checkpoint: Checkpoint, where: str) -> None:
    _require(policy, "import", f"{where}: {checkpoint.path} has no policy.json; importing it")
    if "import" in policy.family.settings:
        check_value(policy.family.settings["import"], dict(checkpoint.options), where, ["options"])


def _check_source(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    _check_split(block, where)
    if "import" in block:
        _check_files(block["import"], where)
        return
    if "dataset" in block:
        check_dataset(block, where)
        return
    _require(policy, "rollout", where)
    _known(block["checkpoint"], policy.checkpoints, where, "checkpoint")
    check_value(policy.family.settings["rollout"], block["rollout"], where, ["rollout"])
    if block["parts"] > block["episodes"]:
        raise UserError(f"{where}: {block['parts']} parts cannot hold {block['episodes']} whole episodes")


def _check_labels(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    _require(policy, "labels", where)
    for source in block["sources"]:
        _known(source, policy.sources, where, "source")
    for name in block["names"]:
        _known(name, policy.family.labels, where, "label", f" of the family {policy.family.name!r}")


def _check_capture(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    _check_split(block, where)
    if "import" in block:
        _check_files(block["import"], where)
        return
    _require(policy, "run", where)
    _known(block["source"], policy.sources, where, "source")
    for checkpoint in policy.checkpoints:
        sites = policy.sites(checkpoint)
        if sites is None:
            continue
        for site in block["sites"]:
            _known(site, sites, where, "site", f" of the checkpoint {checkpoint!r}")
        check_tokens(policy, where, block)
        spaces = {sites[site].row_space.name for site in block["sites"]}
        if len(spaces) > 1:
            raise UserError(f"{where}: its sites lie in several row spaces ({', '.join(sorted(spaces))}); split it")


def _check_sweep(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    capture = policy.captures[_known(block["capture"], policy.captures, where, "capture")]
    for site in block["sites"]:
        _known(site, capture["sites"], where, "site", f" in the capture {block['capture']!r}")
    if block["evaluation"]["split"] == "all" and trained_members(block):
        member = next(iter(trained_members(block)))
        raise UserError(
            f"{where}.evaluation.split: 'all' holds rows that {member!r} is trained on; it is for sweeps of imported "
            "members alone"
        )
    _check_training(policy, where, block)
    _check_imports(policy, where, block)
    _check_members_work(policy, where, block)
    if "concepts" in block["evaluation"]:
        _check_concepts(policy, f"{where}.evaluation.concepts", block)


def _check_concepts(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """What latents are compared with: labels of the capture's rows, and another checkpoint's SAE."""
    concepts = block["evaluation"]["concepts"]
    check_rows_are_steps(policy, f"{where}.evaluation.concepts", block["capture"], "comparing with labels")
    _check_labelled(policy, where, block["capture"], concepts["labels"])
    known = policy.labels[concepts["labels"]]["names"]
    for name in [*concepts.get("names", []), *([concepts["phase"]["label"]] if "phase" in concepts else [])]:
        _known(name, known, where, "label", f" in the label set {concepts['labels']!r}")
    _check_ascending(concepts.get("phase", {}).get("edges", []), f"{where}.phase")
    if "untrained" in concepts:
        _known(concepts["untrained"], policy.checkpoints, where, "checkpoint")


def _check_members_work(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """Comparison, examples and closed loop: members and labels that there are, and a family that can."""
    if "labels" in block["comparison"]:
        _check_labelled(policy, f"{where}.comparison", block["capture"], block["comparison"]["labels"])
    for key, work in (("examples", block.get("examples")), ("closed_loop", block["evaluation"].get("closed_loop"))):
        for name in (work or {}).get("members", ()):
            _known(name, block["members"], f"{where}.{key}", "member")
    closed_loop = block["evaluation"].get("closed_loop")
    if closed_loop is not None:
        place = f"{where}.evaluation.closed_loop"
        _require(policy, "returns", place)
        if "source" not in policy.captures[block["capture"]]:
            raise UserError(f"{place}: needs the policy behind the activations, but {block['capture']!r} is imported")
        check_value(policy.family.settings["returns"], closed_loop.get("settings", {}), place, ["settings"])


def _check_training(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """What a sweep is trained on: captures that have its sites, label sets of their source, SAEs that are there."""
    trained = trained_members(block)
    for name in block["train_on"]:
        capture = policy.captures[_known(name, policy.captures, where, "capture")]
        for site in block["sites"]:
            _known(site, capture["sites"], where, "site", f" in the capture {name!r}")
        for labelset in label_sets_of_rows(block):
            _check_labelled(policy, where, name, labelset)
    for labelset, label in labels_of_rows(block):
        _known(label, policy.labels[labelset]["names"], where, "label", f" in the label set {labelset!r}")
    for member, own in trained.items():
        if "weights" in block and own["sampling"] != "replacement":
            raise UserError(
                f"{where}.{member}: rows with weights are drawn with replacement; set sampling: replacement for it"
            )
        for name in {block["capture"], *block["train_on"]}:
            _check_output_site(policy, f"{where}.{member}", own, name)
    sources = {policy.captures[name].get("source") for name in block["train_on"]}
    if label_sets_of_rows(block) and len(sources) > 1:
        raise UserError(f"{where}: rows are chosen by labels, so all captures of train_on must be of one source")
    for name, own in trained.items():
        if own["start"]:
            _check_start(policy, f"{where}.{name}: start", own["start"], sweep=where.rpartition(".")[2])


def _check_start(policy: PolicyBlock, where: str, start: str, sweep: str) -> None:
    parts = Path(start).parts
    if parts[:1] != ("results",):
        if not (Path(start) / "cfg.json").is_file():
            raise UserError(f"{where}: there is no SAE at {start} (its cfg.json)")
    elif parts[1:2] == (policy.name,) and parts[3:5] == ("sae", sweep):
        raise UserError(
            f"{where}: {start} is of this very sweep, which is trained as one; give the member another sweep"
        )
    elif parts[1:2] == (policy.name,):
        _check_built(policy, where, start)


def _check_built(policy: PolicyBlock, where: str, path: str) -> None:
    """That the config has the blocks that build an SAE of this policy at a path below results/."""
    parts = Path(path).parts
    if len(parts) != 7 or parts[3] != "sae":
        raise UserError(
            f"{where}: {path} is no SAE's folder; those are results/POLICY/CHECKPOINT/sae/SWEEP/SITE/MEMBER"
        )
    _, _, checkpoint, _, sweep, site, member = parts
    _known(checkpoint, policy.checkpoints, where, "checkpoint")
    own = policy.sweeps[_known(sweep, policy.sweeps, where, "sweep")]
    _known(site, own["sites"], where, "site", f" of the sweep {sweep!r}")
    _known(member, own["members"], where, "member", f" of the sweep {sweep!r}")


def _check_output_site(policy: PolicyBlock, where: str, member: Mapping[str, Any], capture: str) -> None:
    """That a transcoder's second site has been recorded beside the first."""
    site = member.get("output_site")
    if site is not None:
        _known(site, policy.captures[capture]["sites"], f"{where}: output_site", "site", f" in the capture {capture!r}")


def _check_imports(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """Members from other tools' files: that these are there, or could be on the hub."""
    for name, own in imported_members(block).items():
        _check_output_site(policy, f"{where}.{name}", own, block["capture"])
        for path in (import_path(own, site) for site in block["sites"]):
            if is_hub_address(path):
                with _naming(f"{where}.{name}: import"):
                    parse_hub_address(path)
            elif not path.startswith("results/") and not Path(path).exists():
                raise UserError(f"{where}.{name}: import: there is no file or folder {path}")


def _check_intervention(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """A recorded capture, and SAEs of the sites."""
    _require(policy, "run", where)
    _check_observed(policy, where, block["capture"], "observations to run the policy on")
    check_rows_are_steps(policy, where, block["capture"], "intervening")
    check_read(policy, where, block["saes"])
    for mode in block.get("modes", []):
        with _naming(f"{where}.modes"):
            check_mode(mode)
    _check_saes(policy, where, block["saes"])
    if "phase" in block:
        _check_phase(policy, f"{where}.phase", block)


def _check_correlation(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """A recorded capture that has the sites, labels of its rows, and SAEs of the sites."""
    _check_observed(policy, where, block["capture"], "observations, which are its inputs")
    check_rows_are_steps(policy, where, block["capture"], "correlating with inputs")
    if "labels" in block:
        _check_labelled(policy, where, block["capture"], block["labels"])
    _check_saes(policy, where, block["saes"])
    for site in block["saes"]:
        sites = policy.captures[block["capture"]]["sites"]
        _known(site, sites, f"{where}.saes", "site", f" in the capture {block['capture']!r}")


def _check_observed(policy: PolicyBlock, where: str, capture: str, what: str) -> None:
    """That a capture is there, and was recorded from a source."""
    if "source" not in policy.captures[_known(capture, policy.captures, where, "capture")]:
        raise UserError(f"{where}: needs {what}, but {capture!r} is imported")


def _check_saes(policy: PolicyBlock, where: str, saes: Mapping[str, str]) -> None:
    """That the config has the sweep, member and site of every SAE. saes: site -> "sweep/member"."""
    for site, address in saes.items():
        sweep, member = sweep_and_member(address)
        own = policy.sweeps[_known(sweep, policy.sweeps, f"{where}.saes.{site}", "sweep")]
        _known(member, own["members"], f"{where}.saes.{site}", "member", f" of the sweep {sweep!r}")
        _known(site, own["sites"], f"{where}.saes", "site", f" of the sweep {sweep!r}")


def _check_phase(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    phase = block["phase"]
    _check_labelled(policy, where, block["capture"], phase["labels"])
    _known(phase["label"], policy.labels[phase["labels"]]["names"], where, "label", f" in {phase['labels']!r}")
    _check_ascending(phase.get("edges", []), where)


def _check_circuit(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    _known(block["intervention"], policy.interventions, where, "intervention")


def _check_ascending(edges: list[float], where: str) -> None:
    if edges != sorted(edges):
        raise UserError(f"{where}.edges: must ascend, got {edges}")


def _check_steering(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """A recorded capture that has the sites, something to steer, and a goal among what the family measures."""
    _require(policy, "returns", where)
    capture = policy.captures[_known(block["capture"], policy.captures, where, "capture")]
    if "source" not in capture:
        raise UserError(f"{where}: needs the policy behind the activations, but {block['capture']!r} is imported")
    _check_saes(policy, where, block["saes"])
    for name, own in block.get("directions", {}).items():
        _check_direction(policy, f"{where}.directions.{name}", own)
    check_read(policy, where, steered_sites(block))
    if not steered_sites(block):
        raise UserError(f"{where}: there is nothing to steer; name saes, directions, units or clusters")
    for site in steered_sites(block):
        _known(site, capture["sites"], where, "site", f" in the capture {block['capture']!r}")
    for name, group in block.get("groups", {}).items():
        _check_latents(policy, f"{where}.groups.{name}", block["saes"], group["site"], group["latents"])
    if isinstance(block["latents"], Mapping):
        for site, latents in block["latents"].items():
            _check_latents(policy, f"{where}.latents", block["saes"], site, latents)
    for labelset in steering_labels(block):
        _check_labelled(policy, where, block["capture"], labelset)
    for name, own in block.get("directions", {}).items():
        if "label" in own:
            _known(
                own["label"],
                policy.labels[own["labels"]]["names"],
                f"{where}.directions.{name}",
                "label",
                f" in the set {own['labels']!r}",
            )
    with _naming(f"{where}.moves"):
        spelt_out(block["moves"])
    if block["goal"]["measure"] in block["goal"].get("keep", {}):
        raise UserError(f"{where}.goal: {block['goal']['measure']!r} is to change and to be kept; leave it out of keep")
    if block["controls"]["directions"] and block["controls"]["episodes"] > block["episodes"]["confirm"]:
        raise UserError(f"{where}.controls.episodes: they are of those that confirm, which are fewer; ask for less")
    for measure in (block["goal"]["measure"], *block["goal"].get("keep", {})):
        known = [*policy.family.measures, DIVERGENCE]
        _known(measure, known, f"{where}.goal", "measure", f" of the family {policy.family.name!r}")
    check_value(policy.family.settings["returns"], block["settings"], where, ["settings"])


def _check_latents(policy: PolicyBlock, where: str, saes: Mapping[str, str], site: str, latents: Iterable[int]) -> None:
    """Numbers of latents that the SAE of the site has, where its settings tell how many these are."""
    sweep, member = sweep_and_member(saes[_known(site, saes, where, "SAE at the site")])
    count = policy.sweeps[sweep]["members"][member].get("latents")
    for latent in latents:
        if isinstance(count, int) and latent >= count:
            raise UserError(f"{where}: the SAE {saes[site]} at {site!r} has latents 0 to {count - 1}, not {latent}")


def _check_direction(policy: PolicyBlock, where: str, own: Mapping[str, Any]) -> None:
    """A file that is there, or a pair of a block of directions; labels are looked at with their label sets."""
    if "file" in own:
        _check_files([own["file"]], where)
    elif "direction" in own:
        check_steered(policy, where, own)


def _check_labelled(policy: PolicyBlock, where: str, capture: str, labelset: str) -> None:
    _known(labelset, policy.labels, where, "label set")
    source = policy.captures[capture].get("source")
    if source not in policy.labels[labelset]["sources"]:
        raise UserError(
            f"{where}: the label set {labelset!r} has no labels of the rows of capture {capture!r}; "
            f"add its source {source!r} to the label set's sources"
        )


def _check_files(paths: Iterable[str], where: str) -> None:
    for path in paths:
        if not Path(path).exists():
            raise UserError(f"{where}: there is no file {path}")
        with _naming(where):
            check_suffix(Path(path))


def _check_split(block: Mapping[str, Any], where: str) -> None:
    with _naming(f"{where}.split"):
        shares(block["split"])


@contextlib.contextmanager
def _naming(where: str) -> Iterator[None]:
    """Put the place in the config before what is wrong with it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
