"""What config.yaml may not ask of captures whose rows are tokens, and of sites that nothing reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from policylens.errors import UserError
from policylens.policies.sites import STEP

if TYPE_CHECKING:
    from policylens.project.config import PolicyBlock


def check_rows_are_steps(policy: PolicyBlock, where: str, capture: str, what: str) -> None:
    """UserError if a capture's rows are tokens, for what compares rows with those of the source."""
    for checkpoint in policy.checkpoints:
        for site in _of_capture(policy, capture, checkpoint):
            if site.row_space != STEP:
                raise UserError(
                    f"{where}: {what} needs a row per step, but the rows of the capture {capture!r} are tokens; use "
                    "slices, directions or steering"
                )


def check_read(policy: PolicyBlock, where: str, sites: Iterable[str]) -> None:
    """UserError for a site that nothing after it reads: changing it would change nothing."""
    for checkpoint in policy.checkpoints:
        known = policy.sites(checkpoint) or {}
        for name in sites:
            if name in known and known[name].dead_end:
                raise UserError(
                    f"{where}: changing the site {name!r} of the checkpoint {checkpoint!r} changes nothing "
                    f"({known[name].description}); choose an earlier site"
                )


def check_tokens(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """UserError for a capture that chooses tokens at sites that have none."""
    if not block["tokens"]:
        return
    for checkpoint in policy.checkpoints:
        known = policy.sites(checkpoint) or {}
        for name in block["sites"]:
            if name in known and known[name].row_space == STEP:
                raise UserError(f"{where}.tokens: the site {name!r} has no kinds of tokens; leave `tokens` out")


def _of_capture(policy: PolicyBlock, capture: str, checkpoint: str) -> list[Any]:
    known = policy.sites(checkpoint) or {}
    return [known[name] for name in policy.captures[capture]["sites"] if name in known]
