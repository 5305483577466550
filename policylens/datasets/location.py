"""Where a LeRobot dataset is: a folder, what LeRobot keeps of a repository on this machine, or the hub.

Free of heavy imports, for config validation uses it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policylens.errors import UserError

INFO = Path("meta", "info.json")
VERSION = re.compile(r"v\d+\.\d+")
"""Revisions that name a version of the format, as LeRobot tags its repositories with."""
VERSIONS = ("v3.0", "v2.1")
"""Those that are read."""

MOVING = ("main", "master", "HEAD")
NEEDED = ("meta/*", "data/*")


def lerobot_home() -> Path:
    """LeRobot's folder of datasets: $HF_LEROBOT_HOME, else `lerobot` in $HF_HOME (default ~/.cache/huggingface)."""
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    hub = os.environ.get("HF_HOME", os.path.join(caches, "huggingface"))
    return Path(os.environ.get("HF_LEROBOT_HOME", os.path.join(hub, "lerobot"))).expanduser()


def folder_of(block: Mapping[str, Any]) -> Path | None:
    """The folder of the dataset that a block names by `root` or `repo_id`; None if it is to be fetched from the hub.

    A repository of which LeRobot's folder holds a copy is taken from there, as LeRobot does, unless `revision` is a
    commit or a tag, of which a plain copy says nothing. Raises UserError where nothing can be found or fetched.
    """
    if "root" in block:
        return Path(block["root"]).expanduser()
    kept = lerobot_home() / block["repo_id"]
    revision = block.get("revision")
    if (kept / INFO).is_file() and (revision is None or VERSION.fullmatch(revision)):
        return kept
    if revision is None:
        raise UserError(
            f"there is no dataset {kept} ({INFO}); set HF_LEROBOT_HOME to the folder that holds "
            f"{block['repo_id']}, give its folder as root, or pin a revision to have it fetched from the hub"
        )
    if revision in MOVING:
        raise UserError(f"revision {revision!r} of {block['repo_id']} moves; pin a commit hash or a tag, such as v3.0")
    if VERSION.fullmatch(revision) and revision not in VERSIONS:
        raise UserError(
            f"revision {revision!r} of {block['repo_id']} is of that LeRobot format, and only {' and '.join(VERSIONS)} "
            "are read; name one of these, or convert a copy and give its folder as root"
        )
    return None


def fetched(block: Mapping[str, Any]) -> Path:
    """The dataset's folder, fetched from the hub into LeRobot's cache if need be, without its videos.

    Raises UserError for a repository or a revision that the hub does not have.
    """
    folder = folder_of(block)
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(
            snapshot_download(
                block["repo_id"],
                repo_type="dataset",
                revision=block["revision"],
                cache_dir=lerobot_home() / "hub",
                allow_patterns=list(NEEDED),
            )
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        first = " ".join(str(error).split())[:160]
        raise UserError(
            f"the dataset {block['repo_id']} at revision {block['revision']!r} cannot be fetched from the hub "
            f"({first}); correct repo_id or revision, or give a local folder as root"
        ) from None
