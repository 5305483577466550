"""Under which names a dataset's features come into a source, and which cannot come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError
from policylens.stores.faults import did_you_mean
from policylens.stores.names import check_name, slug

BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Columns of LeRobot's own: the numbers become coordinates or stay, the rest follows from them."""

TAKEN = ("episode", "step", "split", "task_index", "instruction")
PREFIXES = ("observation.images.", "observation.", "next.")
RENAMED = {"actions": "action"}


def array_names(features: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, str] | None) -> dict[str, str]:
    """Key of a feature -> name of its array.

    wanted: the config's choice, of which each key must be there; None for every feature that is numbers or images,
    named after the last part of its key. Raises UserError for keys that are not there, text, videos (they are not read)
    and names that are taken or used twice.
    """
    names = dict(wanted) if wanted is not None else _all(features)
    for key, name in names.items():
        _check_key(key, features)
        check_name(name, f"the array of {key!r}:")
        if name in TAKEN:
            raise UserError(f"the name {name!r}, given to {key!r}, is taken; choose another with arrays")
    doubled = {name for name in names.values() if list(names.values()).count(name) > 1}
    if doubled:
        keys = ", ".join(key for key, name in names.items() if name in doubled)
        raise UserError(f"several features would be called {min(doubled)!r} ({keys}); name them apart with arrays")
    return names


def _all(features: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {
        key: _plain(key)
        for key, feature in features.items()
        if key not in BOOKKEEPING and feature["dtype"] not in ("string", "language")
    }


def _plain(key: str) -> str:
    """`observation.images.wrist_image` -> wrist_image, `observation.state` -> state, `actions` -> action."""
    for prefix in PREFIXES:
        if key.startswith(prefix):
            key = key.removeprefix(prefix)
            break
    return RENAMED.get(key, slug(key))


def _check_key(key: str, features: Mapping[str, Mapping[str, Any]]) -> None:
    own = [name for name in features if name not in BOOKKEEPING]
    if key not in own:
        hint = did_you_mean(key, own) or f"it has: {', '.join(own)}"
        raise UserError(f"the dataset has no feature {key!r}; {hint}")
    if features[key]["dtype"] == "video":
        raise UserError(
            f"the camera {key!r} is coded as video, which is not read; write the dataset anew with use_videos=False "
            "(frames as PNG), or leave the camera out with arrays"
        )
    if features[key]["dtype"] in ("string", "language"):
        raise UserError(f"the feature {key!r} is text, which is no array; leave it out of arrays")
