"""The benchmark of known dictionaries with SAELens itself: both tools find most of what easy data were made of."""

import json
import sys

import pytest
from support import run_here

pytest.importorskip("sae_lens", reason="SAELens is in the environment `interop` alone: make test-all")


def test_both_tools_recover_easy_data(tmp_path):
    easy = ["--rows", 8000, "--steps", 400, "--seeds", 2, "--dimensions", 24, "--features", 24, "--l0", 2]
    easy += ["--noise", 0, "--correlation", 0, "--width", 1.5, "--batch-rows", 256, "--learning-rate", 3e-3]
    run_here("benchmarks/dictionary_recovery.py", *easy, "--saelens", sys.executable, "--out", tmp_path)
    (condition,) = json.loads((tmp_path / "recovery.json").read_text())["conditions"]
    for tool in ("policylens", "saelens"):
        assert condition[tool]["recall"]["value"] > 0.7, tool
