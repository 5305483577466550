"""Names that become parts of paths: checked once, here, so that no label can leave its folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from policylens.errors import UserError

NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"
"""Regular expression of a block name (policy, checkpoint, source, capture, sweep, member, site...)."""

_NAME = re.compile(NAME)
_HASHED = re.compile(r".*_[0-9a-f]{8}")
_LONGEST = 64


def check_name(name: str, what: str) -> str:
    """Return `name` if it may be a part of a path, else raise UserError saying which name is wrong."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise UserError(
            f"{what} {name!r} cannot be part of a path: use letters, digits, '_' and '-', "
            f"starting with a letter or digit, at most {_LONGEST} characters"
        )
    return name


def slug(label: str) -> str:
    """A path-safe name for any label: lower case, words joined by '_', never empty, never leaving its folder."""
    text = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")[:_LONGEST].strip("_")
    return text or "label_" + hashlib.sha256(label.encode()).hexdigest()[:8]


def slugs(labels: Iterable[str]) -> dict[str, str]:
    """Label -> slug, all different: labels whose slugs collide get the first 8 hex digits of their sha256.

    So do labels that look as if they had some already: no label can take the name that another one gets.
    The mapping does not depend on the order of the labels, and a manifest that keeps it makes it reversible.
    """
    labels = list(dict.fromkeys(labels))
    plain = {label: slug(label) for label in labels}
    taken: dict[str, int] = {}
    for name in plain.values():
        taken[name] = taken.get(name, 0) + 1
    return {
        label: _hashed(label, name) if taken[name] > 1 or _HASHED.fullmatch(name) else name
        for label, name in plain.items()
    }


def _hashed(label: str, name: str) -> str:
    return f"{name[: _LONGEST - 9]}_{hashlib.sha256(label.encode()).hexdigest()[:8]}"
