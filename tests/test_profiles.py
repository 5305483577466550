"""The Snakemake profiles: found, combined, and without settings that would undo each other."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from running_snakemake import REPOSITORY, command

PROFILES = REPOSITORY / "profiles"


def settings(name: str) -> dict:
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text())


def test_the_default_profile_overrules_no_other():
    """Snakemake lets profiles/default win over the profile that the user names."""
    others = [path.name for path in PROFILES.iterdir() if path.name != "default"]
    assert others
    for other in others:
        assert not settings("default").keys() & settings(other).keys()


def test_the_default_profile_leaves_the_number_of_cores_to_the_user():
    assert not settings("default").keys() & {"cores", "jobs"}


@pytest.mark.pipeline
def test_profiles_are_found_and_combined(tmp_path: Path):
    shutil.copytree(PROFILES, tmp_path / "profiles")
    (tmp_path / "Snakefile").write_text("rule only:\n    output: 'a'\n    shell: 'touch a'\n")
    words = [*command(), "--dryrun", "--profile", "profiles/slurm"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    said = done.stdout + done.stderr
    assert "Using profiles profiles/slurm and workflow specific profile profiles/default" in said
    assert "runtime=60" in said
