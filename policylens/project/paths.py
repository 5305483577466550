"""The path grammar: every path that can be built, as a template. docs/paths.md is made of this table.

Every wildcard is the name of a block in config.yaml (or of a site, a part, a sweep's member), so that a path can be
read aloud and names everything it depends on.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policylens.errors import UserError
from policylens.project.config import Config, PolicyBlock
from policylens.project.sweeps import (
    imported_members,
    learning_rates_to_compare,
    something_to_compare,
    trained_members,
)
from policylens.stores.names import NAME

WILDCARDS = (
    "policy",
    "checkpoint",
    "training",
    "strength",
    "source",
    "labelset",
    "contrast",
    "capture",
    "part",
    "sweep",
    "site",
    "member",
    "intervention",
    "steering",
    "circuit",
    "correlation",
    "ffn",
    "slice",
    "direction",
    "pair",
    "demonstration",
    "task",
    "dataset",
)

_RUN = "results/{policy}/{checkpoint}"
_SOURCE = "results/{policy}/sources/{source}"
_SAE = _RUN + "/sae/{sweep}"
_INTERVENTION = _RUN + "/interventions/{intervention}"
_STEERING = _RUN + "/steering/{steering}"
_CORRELATION = _RUN + "/correlations/{correlation}"
_FFN = _RUN + "/ffn/{ffn}"
_DIRECTION = _RUN + "/directions/{direction}"


@dataclass(frozen=True)
class Template:
    """A kind of path. template: with wildcards in braces. holds: what is there, in one line."""

    name: str
    template: str
    holds: str

    @property
    def wildcards(self) -> list[str]:
        """Names of the wildcards, in order."""
        return re.findall(r"\{(\w+)\}", self.template)


PATHS = {
    entry.name: entry
    for entry in (
        Template("training", "results/training/{policy}/{training}/training_log.csv", "a training run's log; its "
                 "checkpoints stand beside it, one folder per snapshot"),
        Template("demonstrations_task", "results/demonstrations/{demonstration}/{task}.hdf5", "demonstrations of one "
                 "task, as LIBERO keeps its own"),
        Template("demonstrations", "results/demonstrations/{demonstration}/index.json", "demonstrations: their tasks "
                 "and files, how many attempts succeeded"),
        Template("dataset", "results/datasets/{dataset}/meta/info.json", "a LeRobot dataset; its frames, tasks and "
                 "statistics stand beside it"),
        Template("dataset_record", "results/datasets/{dataset}/policylens.json", "what of which files the dataset "
                 "holds"),
        Template("source_part", _SOURCE + "/{part}.zarr/zarr.json", "observations of some whole episodes"),
        Template("source", _SOURCE + "/index.json", "a source: its parts, and rows and episodes per split"),
        Template("label_part", _SOURCE + "/labels/{labelset}/{part}.zarr/zarr.json", "ground truth of a part's rows"),
        Template("labels", _SOURCE + "/labels/{labelset}/index.json", "a label set: its parts and arrays"),
        Template("contrast", "results/{policy}/contrasts/{contrast}/manifest.json", "two concepts told apart by how "
                 "demonstrations move, and the windows in which they do; concept_map.json, contrast.json and axis.png "
                 "stand beside it"),
        Template("catalog", "results/{policy}/contrasts/catalog.json", "all contrasts of a policy: datasets, counts, "
                 "axes, effects, slices; catalog.md is the table"),
        Template("checkpoint", _RUN + "/checkpoint/policy.json", "the checkpoint in its one form, weights beside it"),
        Template("strength", _RUN + "/strength/{strength}/strength.json", "how well the checkpoint plays or controls"),
        Template("capture_part", _RUN + "/activations/{capture}/{part}.zarr/zarr.json", "activations of a part's rows"),
        Template("capture", _RUN + "/activations/{capture}/index.json", "a capture: its parts, sites and sizes"),
        Template("sae_training", _SAE + "/{site}/training/index.json", "the sweep's training at a site: what its "
                 "members are made from, and the states of those that are not done"),
        Template("sae_recipe", _SAE + "/{site}/training/recipes/{member}.json", "what a member's training follows "
                 "from, besides the activations"),
        Template("sae_imported", _SAE + "/{site}/imported/{member}/cfg.json", "an SAE of another tool in the form of "
                 "one trained here"),
        Template("sae", _SAE + "/{site}/{member}/cfg.json", "an SAE, trained or imported: "
                 "sae_weights.safetensors and training.json stand beside it"),
        Template("sae_metrics", _SAE + "/{site}/{member}/metrics.json", "an SAE's metrics on held-out episodes"),
        Template("sae_return", _SAE + "/{site}/{member}/return.json", "what the policy achieves with the SAE spliced "
                 "in; return.png stands beside it"),
        Template("sae_examples", _SAE + "/{site}/{member}/examples.zarr/zarr.json", "per latent the rows in which it "
                 "is strongest, and some of every strength"),
        Template("sae_comparison", _SAE + "/{site}/evaluation/comparison.json", "the members at a site compared: "
                 "stability across seeds, splitting and absorption; their plots stand beside it"),
        Template("sae_summary", _SAE + "/{site}/evaluation/scaling.json", "the sweep at a site as one table; "
                 "scaling.csv and the plots stand beside it"),
        Template("sae_learning_rates", _SAE + "/{site}/evaluation/learning_rate.png", "what members that differ in "
                 "their learning rate come to; only of sweeps that vary it"),
        Template("sae_training_stats", _SAE + "/training_stats.json", "the trainings at all sites in one table: "
                 "reconstruction, sparsity, dead and active latents; training_stats.html is the page"),
        Template("sweep", _SAE + "/index.json", "a sweep: its sites, members and where their results are"),
        Template("effects", _INTERVENTION + "/{site}/effects.zarr/zarr.json", "what changing each latent of the SAE "
                 "at a site does to actions, value and later SAEs' latents"),
        Template("intervention_site", _INTERVENTION + "/{site}/analysis.json", "what these effects say: rankings, "
                 "controls; summary.txt, ranking.csv and the figures stand beside it"),
        Template("intervention", _INTERVENTION + "/index.json", "interventions: their sites and SAEs, and where "
                 "their results are"),
        Template("steering_runs", _STEERING + "/runs.zarr/zarr.json", "what the policy came to, episode by episode, in "
                 "every run with something steered"),
        Template("steering", _STEERING + "/index.json", "what steering does: what was chosen, whether it holds on "
                 "other episodes, random directions; summary.txt, candidates.csv and the figures stand beside it"),
        Template("circuit", _RUN + "/circuits/{circuit}/circuit.json", "the latents that carry an output, from inputs "
                 "to it: faithfulness, completeness, random circuits; summary.txt and the figures stand beside it"),
        Template("correlations", _CORRELATION + "/{site}/correlations.zarr/zarr.json", "how each input correlates "
                 "with each latent of the SAE at a site and with the site's units"),
        Template("correlation_site", _CORRELATION + "/{site}/analysis.json", "what these correlations say: rankings, "
                 "the null, held-out scores; summary.txt, ranking.csv and heatmap.png stand beside it"),
        Template("correlation", _CORRELATION + "/index.json", "correlations: their sites and SAEs; across_sites.png "
                 "stands beside it"),
        Template("ffn_activations", _FFN + "/activations.zarr/zarr.json", "how strongly every unit of feed-forward "
                 "layers answers: max |activation| over rows and tokens, and where it was"),
        Template("ffn_records", _FFN + "/records.json", "the strongest units of each layer, and the tokens that their "
                 "value vectors project to; vectors.safetensors stands beside it"),
        Template("ffn_clusters", _FFN + "/clusters.json", "these units in clusters; analysis.json (null, stability, "
                 "keywords), clusters.html, tsne.png and summary.txt stand beside it"),
        Template("slice", _RUN + "/slices/{slice}/index.json", "which rows of a capture show which concept; rows.zarr "
                 "stands beside it"),
        Template("direction_pair", _DIRECTION + "/{pair}/analysis.json", "the directions between two concepts and "
                 "how reliable they are; directions.safetensors stands beside it"),
        Template("direction", _DIRECTION + "/index.json", "directions: how those of several pairs lie to each other; "
                 "summary.txt, pairwise_stats.json and the figures stand beside it"),
    )
}  # fmt: skip

CONSTRAINTS = {name: NAME for name in WILDCARDS} | {"part": "part-[0-9]+"}


def template(name: str) -> str:
    """The template of a kind of path."""
    return PATHS[name].template


def all_paths(config: Config) -> Iterator[tuple[str, str]]:
    """(kind, path) of everything that a config can build."""
    for kind, wildcards in _outside_policies(config):
        yield kind, template(kind).format(**wildcards)
    for policy in config.policies.values():
        for kind, wildcards in _blocks(policy):
            yield kind, template(kind).format(policy=policy.name, **wildcards)


def _outside_policies(config: Config) -> Iterator[tuple[str, dict[str, str]]]:
    for name, block in config.demonstrations.items():
        yield "demonstrations", {"demonstration": name}
        yield from (("demonstrations_task", {"demonstration": name, "task": task}) for task in block["tasks"])
    for name in config.datasets:
        yield "dataset", {"dataset": name}
        yield "dataset_record", {"dataset": name}


def headline_paths(config: Config) -> list[str]:
    """What stands at the ends: an index or summary per stage, of which everything else is a part."""
    ends = (
        "labels",
        "catalog",
        "strength",
        "capture",
        "sweep",
        "intervention",
        "circuit",
        "correlation",
        "steering",
        "ffn_clusters",
        "direction",
    )
    return [path for kind, path in all_paths(config) if kind in ends]


def _blocks(policy: PolicyBlock) -> Iterator[tuple[str, dict[str, str]]]:
    for training in policy.trainings:
        yield "training", {"training": training}
    for source, block in policy.sources.items():
        yield "source", {"source": source}
        yield from (("source_part", {"source": source, "part": part}) for part in policy.parts(block))
    for labelset, block in policy.labels.items():
        for source in block["sources"]:
            names = {"source": source, "labelset": labelset}
            yield "labels", names
            yield from (("label_part", {**names, "part": part}) for part in policy.parts(policy.sources[source]))
    yield from (("contrast", {"contrast": contrast}) for contrast in policy.contrasts)
    if policy.contrasts:
        yield "catalog", {}
    for checkpoint in policy.checkpoints:
        yield from _of_checkpoint(policy, checkpoint)


def _of_checkpoint(policy: PolicyBlock, checkpoint: str) -> Iterator[tuple[str, dict[str, str]]]:
    at = {"checkpoint": checkpoint}
    if policy.checkpoints[checkpoint].path is not None:
        yield "checkpoint", at
    for strength in policy.strengths:
        yield "strength", {**at, "strength": strength}
    for capture, block in policy.captures.items():
        yield "capture", {**at, "capture": capture}
        yield from (("capture_part", {**at, "capture": capture, "part": part}) for part in policy.parts(block))
    yield from _of_interventions(policy, checkpoint)
    for ffn in policy.ffns:
        yield from ((kind, {**at, "ffn": ffn}) for kind in ("ffn_activations", "ffn_records", "ffn_clusters"))
    for steering in policy.steerings:
        yield "steering_runs", {**at, "steering": steering}
        yield "steering", {**at, "steering": steering}
    yield from (("circuit", {**at, "circuit": circuit}) for circuit in policy.circuits)
    yield from _of_correlations(policy, checkpoint)
    yield from (("slice", {**at, "slice": name}) for name in policy.slices)
    for direction, block in policy.directions.items():
        yield "direction", {**at, "direction": direction}
        yield from (("direction_pair", {**at, "direction": direction, "pair": pair}) for pair in block["pairs"])
    for sweep, block in policy.sweeps.items():
        yield "sweep", {**at, "sweep": sweep}
        yield "sae_training_stats", {**at, "sweep": sweep}
        for site in block["sites"]:
            yield "sae_summary", {**at, "sweep": sweep, "site": site}
            if trained_members(block):
                yield "sae_training", {**at, "sweep": sweep, "site": site}
            for kind, members in (("sae_recipe", trained_members(block)), ("sae_imported", imported_members(block))):
                yield from ((kind, {**at, "sweep": sweep, "site": site, "member": member}) for member in members)
            for member in block["members"]:
                yield "sae", {**at, "sweep": sweep, "site": site, "member": member}
                yield "sae_metrics", {**at, "sweep": sweep, "site": site, "member": member}
            for kind, members in beside_members(block).items():
                yield from ((kind, {**at, "sweep": sweep, "site": site, "member": member}) for member in members)
            if something_to_compare(block):
                yield "sae_comparison", {**at, "sweep": sweep, "site": site}
            if learning_rates_to_compare(block):
                yield "sae_learning_rates", {**at, "sweep": sweep, "site": site}


def _of_interventions(policy: PolicyBlock, checkpoint: str) -> Iterator[tuple[str, dict[str, str]]]:
    for intervention, block in policy.interventions.items():
        names = {"checkpoint": checkpoint, "intervention": intervention}
        yield "intervention", names
        for site in block["saes"]:
            yield "effects", {**names, "site": site}
            yield "intervention_site", {**names, "site": site}


def _of_correlations(policy: PolicyBlock, checkpoint: str) -> Iterator[tuple[str, dict[str, str]]]:
    for correlation, block in policy.correlations.items():
        names = {"checkpoint": checkpoint, "correlation": correlation}
        yield "correlation", names
        for site in block["saes"]:
            yield "correlations", {**names, "site": site}
            yield "correlation_site", {**names, "site": site}


def beside_members(sweep: Mapping[str, Any]) -> dict[str, list[str]]:
    """Kind of path -> members of a sweep for which the config asks for it."""
    asked = {"sae_examples": sweep.get("examples"), "sae_return": sweep["evaluation"].get("closed_loop")}
    return {kind: list(work.get("members", sweep["members"])) for kind, work in asked.items() if work is not None}


def parse(path: str) -> tuple[str, Mapping[str, str]]:
    """(kind, wildcards) of a path of the grammar; UserError if it is none."""
    for name, entry in PATHS.items():
        pattern = re.escape(entry.template)
        for wildcard in entry.wildcards:
            pattern = pattern.replace(re.escape("{" + wildcard + "}"), f"(?P<{wildcard}>{CONSTRAINTS[wildcard]})", 1)
        match = re.fullmatch(pattern, path)
        if match:
            return name, match.groupdict()
    raise UserError(f"{path}: not a path of this project; `policylens paths` lists them")


def check_targets(config: Config, targets: Iterable[str]) -> None:
    """UserError in one line if a target of the grammar names a block that the config does not have."""
    known = set()
    for target in targets:
        try:
            parse(target)
        except UserError:
            continue  # a rule's name, or a file beside an indexed one: left to the workflow
        known = known or {path for _, path in all_paths(config)}
        if target not in known:
            close = difflib.get_close_matches(target, known, n=1, cutoff=0.8)
            hint = f"did you mean {close[0]}?" if close else "`policylens paths` lists what it can build"
            raise UserError(f"{target}: {config.source} has no blocks that build this; {hint}")
