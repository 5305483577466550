"""The pinned requirements of the environments: what envs/NAME.txt and envs/NAME.no-deps hold."""

from __future__ import annotations

import hashlib
from pathlib import Path


def read(name: str, envs: Path) -> tuple[str, ...]:
    """Return the requirements of an environment in the order of the files, `-r` followed, comments left out.

    name: the environment, a file `<name>.txt` in the folder `envs`. Raises FileNotFoundError without it.
    """
    found: list[str] = []
    for line in _lines(envs / f"{name}.txt"):
        if line.startswith("-r "):
            found.extend(read(line.removeprefix("-r ").removesuffix(".txt"), envs))
        else:
            found.append(line)
    return tuple(found)


def read_without_dependencies(name: str, envs: Path) -> tuple[str, ...]:
    """Return the requirements that are installed afterwards without their own: `<name>.no-deps`, if there is one."""
    path = envs / f"{name}.no-deps"
    return tuple(_lines(path)) if path.is_file() else ()


def _lines(path: Path) -> list[str]:
    """The lines that say something, with single spaces."""
    lines = (" ".join(line.split()) for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def digest(name: str, envs: Path) -> str:
    """Return a short digest of an environment's requirements, for use as a rule's parameter."""
    pins = read(name, envs) + read_without_dependencies(name, envs)
    return hashlib.sha256("\n".join(pins).encode()).hexdigest()[:16]
