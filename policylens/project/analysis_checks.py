"""Checks of interventions, correlations, circuits and steering in config.yaml against the blocks that they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from policylens.errors import UserError
from policylens.interventions.kinds import check_mode
from policylens.policies.family import DIVERGENCE
from policylens.project.checks import (
    check_ascending,
    check_files,
    check_labelled,
    check_observed,
    check_saes,
    naming,
    require,
)
from policylens.project.directions import check_steered
from policylens.project.interventions import sweep_and_member
from policylens.project.known import known
from policylens.project.steering import steered_sites, steering_labels
from policylens.project.tokens import check_read, check_rows_are_steps
from policylens.steering.kinds import spelt_out
from policylens.stores.schemas import check_value

if TYPE_CHECKING:
    from policylens.project.config import PolicyBlock


def check_intervention(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """A recorded capture, and SAEs of the sites."""
    require(policy, "run", where)
    check_observed(policy, where, block["capture"], "observations to run the policy on")
    check_rows_are_steps(policy, where, block["capture"], "intervening")
    check_read(policy, where, block["saes"])
    for mode in block.get("modes", []):
        with naming(f"{where}.modes"):
            check_mode(mode)
    check_saes(policy, where, block["saes"])
    if "phase" in block:
        _check_phase(policy, f"{where}.phase", block)


def check_correlation(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """A recorded capture that has the sites, labels of its rows, and SAEs of the sites."""
    check_observed(policy, where, block["capture"], "observations, which are its inputs")
    check_rows_are_steps(policy, where, block["capture"], "correlating with inputs")
    if "labels" in block:
        check_labelled(policy, where, block["capture"], block["labels"])
    check_saes(policy, where, block["saes"])
    for site in block["saes"]:
        sites = policy.captures[block["capture"]]["sites"]
        known(site, sites, f"{where}.saes", "site", f" in the capture {block['capture']!r}")


def _check_phase(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    phase = block["phase"]
    check_labelled(policy, where, block["capture"], phase["labels"])
    known(phase["label"], policy.labels[phase["labels"]]["names"], where, "label", f" in {phase['labels']!r}")
    check_ascending(phase.get("edges", []), where)


def check_circuit(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """That its interventions are there."""
    known(block["intervention"], policy.interventions, where, "intervention")


def check_steering(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """A recorded capture that has the sites, something to steer, and a goal among what the family measures."""
    require(policy, "returns", where)
    capture = policy.captures[known(block["capture"], policy.captures, where, "capture")]
    if "source" not in capture:
        raise UserError(f"{where}: needs the policy behind the activations, but {block['capture']!r} is imported")
    check_saes(policy, where, block["saes"])
    for name, own in block.get("directions", {}).items():
        _check_direction(policy, f"{where}.directions.{name}", own)
    check_read(policy, where, steered_sites(block))
    if not steered_sites(block):
        raise UserError(f"{where}: there is nothing to steer; name saes, directions, units or clusters")
    for site in steered_sites(block):
        known(site, capture["sites"], where, "site", f" in the capture {block['capture']!r}")
    for name, group in block.get("groups", {}).items():
        _check_latents(policy, f"{where}.groups.{name}", block["saes"], group["site"], group["latents"])
    if isinstance(block["latents"], Mapping):
        for site, latents in block["latents"].items():
            _check_latents(policy, f"{where}.latents", block["saes"], site, latents)
    for labelset in steering_labels(block):
        check_labelled(policy, where, block["capture"], labelset)
    for name, own in block.get("directions", {}).items():
        if "label" in own:
            known(
                own["label"],
                policy.labels[own["labels"]]["names"],
                f"{where}.directions.{name}",
                "label",
                f" in the set {own['labels']!r}",
            )
    with naming(f"{where}.moves"):
        spelt_out(block["moves"])
    if block["goal"]["measure"] in block["goal"].get("keep", {}):
        raise UserError(f"{where}.goal: {block['goal']['measure']!r} is to change and to be kept; leave it out of keep")
    if block["controls"]["directions"] and block["controls"]["episodes"] > block["episodes"]["confirm"]:
        raise UserError(f"{where}.controls.episodes: they are of those that confirm, which are fewer; ask for less")
    for measure in (block["goal"]["measure"], *block["goal"].get("keep", {})):
        measures = [*policy.family.measures, DIVERGENCE]
        known(measure, measures, f"{where}.goal", "measure", f" of the family {policy.family.name!r}")
    check_value(policy.family.settings["returns"], block["settings"], where, ["settings"])


def _check_latents(policy: PolicyBlock, where: str, saes: Mapping[str, str], site: str, latents: Iterable[int]) -> None:
    """Numbers of latents that the SAE of the site has, where its settings tell how many these are."""
    sweep, member = sweep_and_member(saes[known(site, saes, where, "SAE at the site")])
    count = policy.sweeps[sweep]["members"][member].get("latents")
    for latent in latents:
        if isinstance(count, int) and latent >= count:
            raise UserError(f"{where}: the SAE {saes[site]} at {site!r} has latents 0 to {count - 1}, not {latent}")


def _check_direction(policy: PolicyBlock, where: str, own: Mapping[str, Any]) -> None:
    """A file that is there, or a pair of a block of directions; labels are looked at with their label sets."""
    if "file" in own:
        check_files([own["file"]], where)
    elif "direction" in own:
        check_steered(policy, where, own)
