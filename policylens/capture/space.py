"""A look at the disk before a large write."""

from __future__ import annotations

import shutil
from pathlib import Path

from policylens.errors import UserError

RESERVE = 64 * 2**20


def check_space(path: Path, size: int) -> None:
    """UserError if fewer than `size` bytes plus a small reserve are free where `path` will be written."""
    folder = Path(path).resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < size + RESERVE:
        raise UserError(
            f"{path}: needs {gigabytes(size + RESERVE)} GB (with a small reserve), {gigabytes(free)} GB are free; "
            "free some space or capture fewer sites or rows"
        )


def gigabytes(size: float) -> str:
    """Bytes as decimal gigabytes with sensible digits."""
    return f"{size / 1e9:.3g}"
