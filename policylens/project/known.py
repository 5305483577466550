"""Names that the config has, and what is said of one that it lacks."""

from __future__ import annotations

from collections.abc import Iterable

from policylens.errors import UserError
from policylens.stores.faults import did_you_mean

FEW = 12
"""So many names are listed even where one is likely meant."""


def known(name: str, names: Iterable[str], where: str, what: str, among: str = "") -> str:
    """The name, if it is one of `names`; else UserError with a suggestion, or with all there are."""
    names = list(names)
    if name in names:
        return name
    close = did_you_mean(name, names)
    listed = f"there are: {', '.join(names) or 'none'}"
    hint = close + (f" {listed}" if len(names) <= FEW else "") if close else listed
    raise UserError(f"{where}: there is no {what} {name!r}{among}; {hint}")
