"""The pinned requirements of the environments: what envs/NAME.txt holds, its `-r` includes followed."""

from __future__ import annotations

import hashlib
from pathlib import Path


def read(name: str, envs: Path) -> tuple[str, ...]:
    """Return the requirements of an environment in the order of the files, comments left out.

    name: the environment, a file `<name>.txt` in the folder `envs`. Raises FileNotFoundError without it.
    """
    found: list[str] = []
    for line in (envs / f"{name}.txt").read_text().splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "-r":
            found.extend(read(words[1].removesuffix(".txt"), envs))
        else:
            found.append(" ".join(words))
    return tuple(found)


def digest(name: str, envs: Path) -> str:
    """Return a short digest of an environment's requirements, for use as a rule's parameter."""
    return hashlib.sha256("\n".join(read(name, envs)).encode()).hexdigest()[:16]
