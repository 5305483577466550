"""LIBERO's meshes for tests: the user's, or those that stand beside the repository."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from support import REPOSITORY

from policylens.errors import UserError
from policylens.policies.vla.libero.assets import find_assets

ARCHIVE = REPOSITORY.parent / "shared" / "assets" / "libero" / "libero_assets_min.tgz"


def assets(folder: Path) -> str:
    """The folder of meshes; those of an archive are unpacked into `folder`. Skips the test where there are none."""
    try:
        return str(find_assets())
    except UserError:
        if not ARCHIVE.is_file():
            pytest.skip("LIBERO's meshes are not here: see docs/libero.md")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return str(folder / os.listdir(folder)[0])
