"""Write envs/NAME.yaml, for conda users, from the pins of envs/NAME.txt."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ENVS = Path(__file__).resolve().parent
sys.path.insert(0, str(ENVS.parent))

from policylens.project import pins  # noqa: E402  (the repository need not be installed)

HEAD = """\
# Made from {name}.txt by `python envs/make_yaml.py`: edit that file instead.
{more}name: policylens-{name}
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python={python}
  - pip
  - pip:
"""

MORE = (
    "# Then, since conda cannot leave out the dependencies of some only: pip install --no-deps -r envs/{name}.no-deps\n"
)


def yaml_of(name: str, envs: Path = ENVS) -> str:
    """Return the text of the conda environment file of an environment."""
    more = MORE.format(name=name) if pins.read_without_dependencies(name, envs) else ""
    version = envs / f"{name}.python"
    python = version.read_text().strip() if version.is_file() else "3.11"
    head = HEAD.format(name=name, more=more, python=python)
    return head + "".join(f"      - {pin}\n" for pin in pins.read(name, envs))


def drifted(envs: Path = ENVS) -> list[Path]:
    """Return the environment files that are missing, differ from their pins, or have none."""
    wanted = {path.with_suffix(".yaml"): yaml_of(path.stem, envs) for path in sorted(envs.glob("*.txt"))}
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]
    return stale + sorted(set(envs.glob("*.yaml")) - set(wanted))


def main() -> int:
    """Write or check the files; with --check, 1 when one has drifted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; say which have drifted, if any, and fail")
    arguments = parser.parse_args()
    stale = drifted()
    if arguments.check:
        for path in stale:
            message = f"envs/{path.name} is not what {path.stem}.txt says: run python envs/make_yaml.py"
            print(message, file=sys.stderr)
        return int(bool(stale))
    for path in stale:
        if path.with_suffix(".txt").is_file():
            path.write_text(yaml_of(path.stem))
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
