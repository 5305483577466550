"""Where LIBERO's meshes and textures are: its wheel does not hold them."""

from __future__ import annotations

import os
from pathlib import Path

from policylens.errors import UserError

VARIABLE = "POLICYLENS_LIBERO_ASSETS"
FOLDERS = ("articulated_objects", "scenes", "stable_scanned_objects", "turbosquid_objects")
"""What an assets folder has to hold."""


def find_assets(folder: str | os.PathLike[str] | None = None) -> Path:
    """The folder of LIBERO's assets.

    The first that is set of: `folder`, the variable POLICYLENS_LIBERO_ASSETS, `assets` in LIBERO's own config.yaml;
    else where LIBERO's download puts them. Never downloads. UserError if meshes are missing there.
    """
    named = folder or os.environ.get(VARIABLE) or _configured()
    found = Path(named) if named else Path.home() / ".cache" / "libero" / "assets"
    missing = [name for name in FOLDERS if not (found / name).is_dir()]
    if missing:
        raise UserError(
            f"{found}: LIBERO's meshes are not there (no folder {missing[0]!r}); download them with "
            "python -c 'from libero.libero.utils.download_utils import download_assets_from_huggingface as get; get()' "
            f"(it puts them into ~/.cache/libero/assets), or set {VARIABLE} to the folder that holds them"
        )
    return found.resolve()


def _configured() -> str | None:
    """`assets` of LIBERO's config file, if the user has one and the folder is there."""
    import yaml

    home = os.environ.get("LIBERO_CONFIG_PATH") or os.path.expanduser("~/.libero")
    try:
        value = yaml.safe_load(Path(home, "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    named = value.get("assets") if isinstance(value, dict) else None
    return named if isinstance(named, str) and os.path.isdir(named) else None
