"""A digest of everything inside the repository that running a script can execute or read by import.

Snakemake does not see imported modules: a rule carries this digest as a parameter, so that a changed library
module reruns exactly the jobs whose script imports it. Nothing is imported to find out.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from policylens.errors import UserError
from policylens.project import syntax

_Stamp = tuple[int, int]
_known: dict[tuple[Path, Path, tuple[str, ...]], tuple[dict[str, _Stamp], str]] = {}


def digest(script: Path, root: Path, families: Sequence[str] = ()) -> str:
    """Return the digest (16 hexadecimal digits) of a script's import closure inside the repository `root`.

    Comments, formatting and docstrings do not count. Imports count wherever they stand (in functions too),
    with the `__init__.py` of every package on the way. Of the policy families, which are loaded by name, all
    modules of `families` count and nothing of any other. Data files count by content where a module declares
    them: `DATA_FILES = ("table.json",)`, relative to that module.

    Raises UserError for a missing script, family or data file and for a file that is no valid Python.
    """
    key = (Path(script), Path(root), tuple(sorted(set(families))))
    known = _known.get(key)
    if known is None or any(_stamp(path) != stamp for path, stamp in known[0].items()):
        known = _known[key] = _compute(*key)
    return known[1]


def files(script: Path, root: Path, families: Sequence[str] = ()) -> list[Path]:
    """Return the Python files of a script's import closure inside the repository, sorted."""
    start = [os.path.abspath(script)]
    if _stamp(start[0]) is None:
        raise UserError(f"{script}: no such script")
    for family in families:
        start += _family_modules(Path(root), family)
    bases = (os.path.dirname(start[0]), os.path.abspath(root))
    found: set[str] = set()
    while start:
        path = start.pop()
        if path not in found:
            found.add(path)
            start += _imported(path, bases)
    return [Path(path) for path in sorted(found)]


def _compute(script: Path, root: Path, families: tuple[str, ...]) -> tuple[dict[str, _Stamp], str]:
    """Return the digest and the stamps of what it follows from: files, and folders where one may appear."""
    base = os.path.abspath(root)
    stamps: dict[str, _Stamp] = {}
    summary = hashlib.sha256()
    for path in map(str, files(script, root, families)):
        stamps[path] = _stamp(path)
        folder = os.path.dirname(path)
        stamps[folder] = _stamp(folder)
        source = syntax.read(path, *stamps[path])
        summary.update(f"{os.path.relpath(path, base)}\n{source.digest}\n".encode())
        for name in source.data_files:
            data = os.path.join(folder, name)
            stamps[data] = _stamp(data)
            if stamps[data] is None:
                raise UserError(f"{path}: DATA_FILES names {name}, which does not exist beside it")
            content = hashlib.sha256(Path(data).read_bytes()).hexdigest()
            summary.update(f"{os.path.relpath(data, base)}\n{content}\n".encode())
    return stamps, summary.hexdigest()[:16]


def _stamp(path: str) -> _Stamp | None:
    """Return a path's modification time (ns) and size, or None when there is nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _family_modules(root: Path, family: str) -> list[str]:
    base = os.path.abspath(root)
    folder = Path(base) / "policylens" / "policies" / family
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no policy family {family} (a folder with family.py)")
    packages = _module_files(base, ("policylens", "policies", family))
    return packages + [str(path) for path in folder.rglob("*.py")]


def _imported(path: str, bases: Iterable[str]) -> list[str]:
    """Return the files that a file's imports execute, looked for as Python would with `bases` as its path."""
    found: list[str] = []
    for wanted in syntax.read(path, *_stamp(path)).imports:
        if wanted.level:
            folder = path
            for _ in range(wanted.level):
                folder = os.path.dirname(folder)
            found += _module_files(folder, wanted.parts)
        else:
            found += next(filter(None, (_module_files(base, wanted.parts) for base in bases)), [])
    return found


def _module_files(folder: str, parts: tuple[str, ...]) -> list[str]:
    """Return the files of a dotted module below a folder and of the packages on the way, if they exist."""
    found = [path for path in [os.path.join(folder, "__init__.py")] if not parts and os.path.isfile(path)]
    for part in parts:
        folder = os.path.join(folder, part)
        package = os.path.join(folder, "__init__.py")
        if os.path.isfile(package):
            found.append(package)
        elif os.path.isfile(folder + ".py"):
            return [*found, folder + ".py"]
        elif not os.path.isdir(folder):
            break
    return found
