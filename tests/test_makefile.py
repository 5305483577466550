"""The Makefile: recipes are expanded when they run, so that a variable has its last value in all of them."""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_no_variable_is_set_twice():
    names = re.findall(r"^([A-Z_]+) *[:?]?=", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert len(names) > 5
    assert [name for name, times in Counter(names).items() if times > 1] == []


@pytest.mark.parametrize(
    ("target", "policy"), [("demo-franka", "franka"), ("demo-vla", "pi05_sample"), ("figures-vla", "pi05")]
)
def test_a_target_builds_one_policy(target, policy):
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    printed = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"results/(\w+)/", printed)) == {policy}


def test_pictures_and_pages_that_pages_name_are_there():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
