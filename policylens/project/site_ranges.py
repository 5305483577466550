"""Sites by ranges of layers, in config.yaml: `language_0..17_ffn` is language_0_ffn to language_17_ffn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from policylens.errors import UserError
from policylens.stores.names import check_name

_RANGE = re.compile(r"(?P<before>.*[^0-9])?(?P<first>[0-9]+)\.\.(?P<last>[0-9]+)(?P<after>[^0-9].*)?")
MOST = 1000
"""Sites of a range: more is a mistake in writing."""


def with_spelt_sites(block: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A block of config.yaml whose `sites` are all named."""
    return {**block, "sites": spelt_sites(block["sites"], f"{where}.sites")}


def spelt_sites(sites: Sequence[str], where: str) -> list[str]:
    """The sites, ranges spelt out in their order. UserError for one that is empty, or names a site again."""
    found: list[str] = []
    for text in sites:
        for name in _of_range(text, where):
            if name in found:
                raise UserError(f"{where}: {name!r} stands there twice, once in a range")
            found.append(name)
    return found


def _of_range(text: str, where: str) -> list[str]:
    match = _RANGE.fullmatch(text)
    if match is None:
        return [text]
    first, last = int(match["first"]), int(match["last"])
    if not first <= last < first + MOST:
        raise UserError(f"{where}: {text!r} is no range; write the smaller number first, as in language_0..17")
    before, after = match["before"] or "", match["after"] or ""
    return [check_name(f"{before}{number}{after}", f"{where}: the site") for number in range(first, last + 1)]
