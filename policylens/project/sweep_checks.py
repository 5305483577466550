"""Checks of SAE sweeps in config.yaml against the blocks that they name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policylens.errors import UserError
from policylens.policies.importing import is_hub_address, parse_hub_address
from policylens.project.checks import check_ascending, check_labelled, naming, require
from policylens.project.known import known
from policylens.project.row_norm_checks import check_goes_on
from policylens.project.sweeps import (
    import_path,
    imported_members,
    label_sets_of_rows,
    labels_of_rows,
    trained_members,
)
from policylens.project.tokens import check_rows_are_steps
from policylens.stores.schemas import check_value

if TYPE_CHECKING:
    from policylens.project.config import PolicyBlock


def check_sweep(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """Captures, sites, members and labels that there are, and nothing that does not go together."""
    capture = policy.captures[known(block["capture"], policy.captures, where, "capture")]
    for site in block["sites"]:
        known(site, capture["sites"], where, "site", f" in the capture {block['capture']!r}")
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
    check_labelled(policy, where, block["capture"], concepts["labels"])
    names = policy.labels[concepts["labels"]]["names"]
    for name in [*concepts.get("names", []), *([concepts["phase"]["label"]] if "phase" in concepts else [])]:
        known(name, names, where, "label", f" in the label set {concepts['labels']!r}")
    check_ascending(concepts.get("phase", {}).get("edges", []), f"{where}.phase")
    if "untrained" in concepts:
        known(concepts["untrained"], policy.checkpoints, where, "checkpoint")


def _check_members_work(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """Comparison, examples and closed loop: members and labels that there are, and a family that can."""
    if "labels" in block["comparison"]:
        check_labelled(policy, f"{where}.comparison", block["capture"], block["comparison"]["labels"])
    for key, work in (("examples", block.get("examples")), ("closed_loop", block["evaluation"].get("closed_loop"))):
        for name in (work or {}).get("members", ()):
            known(name, block["members"], f"{where}.{key}", "member")
    closed_loop = block["evaluation"].get("closed_loop")
    if closed_loop is not None:
        place = f"{where}.evaluation.closed_loop"
        require(policy, "returns", place)
        if "source" not in policy.captures[block["capture"]]:
            raise UserError(f"{place}: needs the policy behind the activations, but {block['capture']!r} is imported")
        check_value(policy.family.settings["returns"], closed_loop.get("settings", {}), place, ["settings"])


def _check_training(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """What a sweep is trained on: captures that have its sites, label sets of their source, SAEs that are there."""
    trained = trained_members(block)
    for name in block["train_on"]:
        capture = policy.captures[known(name, policy.captures, where, "capture")]
        for site in block["sites"]:
            known(site, capture["sites"], where, "site", f" in the capture {name!r}")
        for labelset in label_sets_of_rows(block):
            check_labelled(policy, where, name, labelset)
    for labelset, label in labels_of_rows(block):
        known(label, policy.labels[labelset]["names"], where, "label", f" in the label set {labelset!r}")
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
            _check_start(policy, f"{where}.{name}: start", own, sweep=where.rpartition(".")[2])


def _check_start(policy: PolicyBlock, where: str, member: Mapping[str, Any], sweep: str) -> None:
    start = member["start"]
    parts = Path(start).parts
    if parts[:1] != ("results",):
        if not (Path(start) / "cfg.json").is_file():
            raise UserError(f"{where}: there is no SAE at {start} (its cfg.json)")
    elif parts[1:2] == (policy.name,) and parts[3:5] == ("sae", sweep):
        raise UserError(
            f"{where}: {start} is of this very sweep, which is trained as one; give the member another sweep"
        )
    elif parts[1:2] == (policy.name,):
        check_goes_on(f"{where}: {start}", _built(policy, where, start), member)


def _built(policy: PolicyBlock, where: str, path: str) -> Mapping[str, Any]:
    """The member at a path below results/, of which the config must have the blocks that build it."""
    parts = Path(path).parts
    if len(parts) != 7 or parts[3] != "sae":
        raise UserError(
            f"{where}: {path} is no SAE's folder; those are results/POLICY/CHECKPOINT/sae/SWEEP/SITE/MEMBER"
        )
    _, _, checkpoint, _, sweep, site, member = parts
    known(checkpoint, policy.checkpoints, where, "checkpoint")
    own = policy.sweeps[known(sweep, policy.sweeps, where, "sweep")]
    known(site, own["sites"], where, "site", f" of the sweep {sweep!r}")
    return own["members"][known(member, own["members"], where, "member", f" of the sweep {sweep!r}")]


def _check_output_site(policy: PolicyBlock, where: str, member: Mapping[str, Any], capture: str) -> None:
    """That a transcoder's second site has been recorded beside the first."""
    site = member.get("output_site")
    if site is not None:
        known(site, policy.captures[capture]["sites"], f"{where}: output_site", "site", f" in the capture {capture!r}")


def _check_imports(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """Members from other tools' files: that these are there, or could be on the hub."""
    for name, own in imported_members(block).items():
        _check_output_site(policy, f"{where}.{name}", own, block["capture"])
        for path in (import_path(own, site) for site in block["sites"]):
            if is_hub_address(path):
                with naming(f"{where}.{name}: import"):
                    parse_hub_address(path)
            elif not path.startswith("results/") and not Path(path).exists():
                raise UserError(f"{where}.{name}: import: there is no file or folder {path}")
