"""config.yaml, loaded and checked before anything is built: each fault is one clear line.

First the schema (misspelt keys, wrong types, names that could leave their folder), then what only the blocks
together can tell: names that no block has, sites that the policy lacks, capabilities that the family lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policylens.capture.settings import capture_settings, part_names, shares, source_settings
from policylens.errors import UserError
from policylens.policies import registry
from policylens.policies.family import Family
from policylens.policies.importing import is_hub_address, parse_hub_address
from policylens.project.analysis_checks import check_circuit, check_correlation, check_intervention, check_steering
from policylens.project.checks import check_files, naming, require
from policylens.project.circuits import circuit_settings
from policylens.project.compute import compute_settings
from policylens.project.contrasts import check_contrast, contrast_settings
from policylens.project.correlations import correlation_settings
from policylens.project.datasets import check_dataset, check_made
from policylens.project.demonstrations import dataset_settings, demonstrations_settings
from policylens.project.directions import check_directions, direction_settings, with_sites
from policylens.project.ffn import check_ffn, ffn_settings, with_cluster_sites
from policylens.project.interventions import intervention_settings
from policylens.project.known import known as _known
from policylens.project.site_ranges import with_spelt_sites
from policylens.project.slices import check_slice
from policylens.project.steering import steering_settings
from policylens.project.sweep_checks import check_sweep
from policylens.project.sweeps import (
    members_of,
    rows_of,
)
from policylens.project.tokens import check_tokens
from policylens.stores.files import read_json
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
        self._foreign: dict[Path, Mapping[str, Any]] = {}  # architectures of checkpoints that are not ours, once read
        self.sources = {key: source_settings(value, seed) for key, value in block.get("sources", {}).items()}
        self.labels = dict(block.get("labels", {}))
        self.contrasts = {key: contrast_settings(value, seed) for key, value in block.get("contrasts", {}).items()}
        self.captures = {key: capture_settings(value) for key, value in self._blocks(block, "captures").items()}
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
            for key, value in self._blocks(block, "sae").items()
        }
        self.interventions = {
            key: intervention_settings(value, seed) for key, value in block.get("interventions", {}).items()
        }
        self.ffns = {key: ffn_settings(value, seed) for key, value in self._blocks(block, "ffn").items()}
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

    def _blocks(self, block: Mapping[str, Any], kind: str) -> dict[str, Any]:
        """The blocks of a kind that has sites, all of which are named."""
        return {key: with_spelt_sites(own, f"{self.where}.{kind}.{key}") for key, own in block.get(kind, {}).items()}

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
        """Enough of a checkpoint's policy.json: from its folder, its options, or an import of the same address."""
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
            if imported not in self._foreign:
                self._foreign[imported] = self.family.architecture(Path(checkpoint.path), checkpoint.options)
            return {"architecture": self._foreign[imported]}
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
        self.compute = compute_settings(raw.get("compute", {}), source)
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
                check_made(policy.sources, self.datasets, policy.where)
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


def _check_policy(policy: PolicyBlock) -> None:
    _check_checkpoints(policy)
    for kind, (blocks, check) in {
        "sources": (policy.sources, _check_source),
        "labels": (policy.labels, _check_labels),
        "contrasts": (policy.contrasts, check_contrast),
        "captures": (policy.captures, _check_capture),
        "sae": (policy.sweeps, check_sweep),
        "interventions": (policy.interventions, check_intervention),
        "circuits": (policy.circuits, check_circuit),
        "correlations": (policy.correlations, check_correlation),
        "ffn": (policy.ffns, check_ffn),
        "slices": (policy.slices, check_slice),
        "directions": (policy.directions, check_directions),
        "steering": (policy.steerings, check_steering),
    }.items():
        for name, block in blocks.items():
            check(policy, f"{policy.where}.{kind}.{name}", block)
    for capability, blocks in (("training", policy.trainings), ("strength", policy.strengths)):
        for name, block in blocks.items():
            where = f"{policy.where}.{capability}.{name}"
            require(policy, capability, where)
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
    require(policy, "import", f"{where}: {checkpoint.path} has no policy.json; importing it")
    if "import" in policy.family.settings:
        check_value(policy.family.settings["import"], dict(checkpoint.options), where, ["options"])


def _check_source(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    _check_split(block, where)
    if "import" in block:
        check_files(block["import"], where)
        return
    if "dataset" in block:
        check_dataset(block, where)
        return
    require(policy, "rollout", where)
    _known(block["checkpoint"], policy.checkpoints, where, "checkpoint")
    check_value(policy.family.settings["rollout"], block["rollout"], where, ["rollout"])
    if block["parts"] > block["episodes"]:
        raise UserError(f"{where}: {block['parts']} parts cannot hold {block['episodes']} whole episodes")


def _check_labels(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    require(policy, "labels", where)
    for source in block["sources"]:
        _known(source, policy.sources, where, "source")
    for name in block["names"]:
        _known(name, policy.family.labels, where, "label", f" of the family {policy.family.name!r}")


def _check_capture(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    _check_split(block, where)
    if "import" in block:
        check_files(block["import"], where)
        return
    require(policy, "run", where)
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


def _check_split(block: Mapping[str, Any], where: str) -> None:
    with naming(f"{where}.split"):
        shares(block["split"])
