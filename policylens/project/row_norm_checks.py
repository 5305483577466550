"""What SAEs with `row_norm` cannot be used for, said of the config before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError
from policylens.sae.row_kinds import row_norm_of

Settings = Mapping[str, Any]
"""Of a member: complete settings, or the options of an import."""


def check_has_directions(where: str, name: str, member: Settings) -> None:
    """Directions of latents need an SAE whose latents add the same to every row."""
    kind = row_norm_of(member)
    if kind:
        raise UserError(
            f"{where}: the SAE {name} has row_norm {kind}: what a latent adds differs from row to row, so that latents "
            "have no direction in the activation; name an SAE without row_norm"
        )


def check_goes_on(where: str, start: Settings, member: Settings) -> None:
    """An SAE with row_norm goes on under the same one; without, its weights can go on under any."""
    has, wants = row_norm_of(start), row_norm_of(member)
    if has not in (None, wants):
        raise UserError(f"{where}: has row_norm {has}, the member {wants or 'none'}; give both the same")
