"""Checks that several kinds of blocks in config.yaml share: each fault is a UserError of one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from policylens.errors import UserError
from policylens.project.interventions import sweep_and_member
from policylens.project.known import known
from policylens.stores.foreign import check_suffix

if TYPE_CHECKING:
    from policylens.project.config import PolicyBlock


def require(policy: PolicyBlock, capability: str, where: str) -> None:
    """That the family can do something."""
    if capability not in policy.family.capabilities:
        raise UserError(
            f"{where} needs the capability {capability!r}, which the family {policy.family.name!r} lacks; it has: "
            f"{', '.join(sorted(policy.family.capabilities)) or 'none'}"
        )


def check_observed(policy: PolicyBlock, where: str, capture: str, what: str) -> None:
    """That a capture is there, and was recorded from a source."""
    if "source" not in policy.captures[known(capture, policy.captures, where, "capture")]:
        raise UserError(f"{where}: needs {what}, but {capture!r} is imported")


def check_saes(policy: PolicyBlock, where: str, saes: Mapping[str, str]) -> None:
    """That the config has the sweep, member and site of every SAE. saes: site -> "sweep/member"."""
    for site, address in saes.items():
        sweep, member = sweep_and_member(address)
        own = policy.sweeps[known(sweep, policy.sweeps, f"{where}.saes.{site}", "sweep")]
        known(member, own["members"], f"{where}.saes.{site}", "member", f" of the sweep {sweep!r}")
        known(site, own["sites"], f"{where}.saes", "site", f" of the sweep {sweep!r}")


def check_labelled(policy: PolicyBlock, where: str, capture: str, labelset: str) -> None:
    """That a label set is there, and labels the capture's rows."""
    known(labelset, policy.labels, where, "label set")
    source = policy.captures[capture].get("source")
    if source not in policy.labels[labelset]["sources"]:
        raise UserError(
            f"{where}: the label set {labelset!r} has no labels of the rows of capture {capture!r}; "
            f"add its source {source!r} to the label set's sources"
        )


def check_ascending(edges: list[float], where: str) -> None:
    """That edges of bins stand in order."""
    if edges != sorted(edges):
        raise UserError(f"{where}.edges: must ascend, got {edges}")


def check_files(paths: Iterable[str], where: str) -> None:
    """That files are there, and of a kind that is read."""
    for path in paths:
        if not Path(path).exists():
            raise UserError(f"{where}: there is no file {path}")
        with naming(where):
            check_suffix(Path(path))


@contextlib.contextmanager
def naming(where: str) -> Iterator[None]:
    """Put the place in the config before what is wrong with it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
