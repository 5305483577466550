"""Names of the ways to normalise each row by numbers of its own, and which of them settings ask for. No heavy imports.

What each does is said and done in `policylens.sae.row_norm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError

NONE = "none"
ROW_NORMS = ("layer_norm", "mean_abs", "rms")

SETTING = {
    "enum": [NONE, *ROW_NORMS],
    "description": "Normalise each row by numbers of its own, before centre and rescale: its mean and standard "
    "deviation (layer_norm), its mean |x| (mean_abs), its root mean square (rms). Left out: none.",
}
"""JSON schema of the setting `row_norm`. It has no default, so that recipes of SAEs without it stay what they were."""


def row_norm_of(settings: Mapping[str, Any]) -> str | None:
    """One of ROW_NORMS, or None where rows are not normalised by numbers of their own."""
    found = settings.get("row_norm", NONE)
    return None if found == NONE else found


def without_none(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which `row_norm: none`, which says the same as nothing, is left out: one recipe for one training."""
    return {name: value for name, value in settings.items() if (name, value) != ("row_norm", NONE)}


def check_has_directions(kind: str | None, sae: str) -> None:
    """UserError for an SAE whose latents add another amount to each row. sae: as the line names it, "the SAE ..."."""
    if kind:
        raise UserError(
            f"{sae} has row_norm {kind}: what a latent adds differs from row to row, and so it has no direction in "
            "the activation; name an SAE without row_norm, or none"
        )


def check_row_norm(settings: Mapping[str, Any], source: str) -> None:
    """UserError for a transcoder: what it predicts has a mean and a spread that its input does not tell."""
    if row_norm_of(settings) and settings["output_site"] is not None:
        raise UserError(
            f"{source}: a transcoder cannot have row_norm {settings['row_norm']}, since the rows it predicts have "
            "another spread than those it takes; leave row_norm out"
        )
