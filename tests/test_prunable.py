"""Activations marked prunable go once what needs them is built, and come back when something else needs them."""

import json

import pytest
import yaml
from project import CONFIG, Project

pytestmark = pytest.mark.pipeline


def test_a_prunable_capture_goes_and_comes_back(tmp_path):
    project = Project(tmp_path)
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    policy = config["policies"]["tiny"]
    policy["captures"]["both"]["prunable"] = True
    policy["sae"]["sweep"]["members"].pop("top")
    project.configure(config)
    project.snakemake()
    capture = tmp_path / "results" / "tiny" / "trained" / "activations" / "both"
    assert sorted(path.name for path in capture.iterdir()) == ["index.json"]
    assert not project.jobs(), "what is built stays up to date without its activations"

    policy["sae"]["sweep"]["members"]["more"] = {"architecture": "topk", "latents": 16, "k": 2}
    project.configure(config)
    jobs = project.jobs()
    assert jobs["capture_prunable"] == 2
    trained = tmp_path / "results/tiny/trained/sae/sweep/second/training"
    small = json.loads((trained / "index.json").read_text())["members"]["small"]
    before = (trained / small / "cfg.json").stat().st_ino
    project.snakemake()
    assert (trained / small / "cfg.json").stat().st_ino == before, "what is trained was trained again"
    assert (tmp_path / "results/tiny/trained/sae/sweep/second/more/metrics.json").exists()
    assert sorted(path.name for path in capture.iterdir()) == ["index.json"]
