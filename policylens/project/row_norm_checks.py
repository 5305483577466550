"""What training with `row_norm` can go on from, said of the config before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError
from policylens.sae.row_kinds import row_norm_of

Settings = Mapping[str, Any]
"""Of a member: complete settings, or the options of an import."""


def check_goes_on(where: str, start: Settings, member: Settings) -> None:
    """An SAE with row_norm goes on under the same one; without, its weights can go on under any."""
    has, wants = row_norm_of(start), row_norm_of(member)
    if has not in (None, wants):
        raise UserError(f"{where}: has row_norm {has}, the member {wants or 'none'}; give both the same")
