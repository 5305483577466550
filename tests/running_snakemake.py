"""How tests call Snakemake: $POLICYLENS_SNAKEMAKE, or the pinned one through envs/run."""

import functools
import os
import shlex
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@functools.cache
def command() -> tuple[str, ...]:
    """Return the words that start Snakemake; skips the test when no Snakemake can be run."""
    given = os.environ.get("POLICYLENS_SNAKEMAKE")
    words = shlex.split(given) if given else [str(REPOSITORY / "envs" / "run"), "workflow", "snakemake"]
    try:
        asked = subprocess.run([*words, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no Snakemake: {error}")
    if asked.returncode != 0:
        pytest.skip(f"no Snakemake: {asked.stderr.strip().splitlines()[-1:]}")
    return tuple(words)
