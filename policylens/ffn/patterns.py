"""Which files a pattern of config.yaml names. Free of heavy imports, for config validation uses it."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from policylens.errors import UserError

Items = TypeVar("Items", bound=Sequence)
"""Row numbers or paths."""


def matching(patterns: Sequence[str]) -> list[Path]:
    """Files that match any of the patterns, sorted by path; UserError for a pattern that none matches."""
    found: set[str] = set()
    for pattern in patterns:
        own = glob.glob(pattern)
        if not own:
            raise UserError(f"no file matches {pattern!r}; correct the pattern or make the files")
        found.update(own)
    return [Path(path) for path in sorted(found)]


def limited(items: Items, size: int, max_batches: int) -> Items:
    """So many of them as max_batches batches of `size` hold; all where max_batches is 0."""
    return items[: size * max_batches] if max_batches else items
