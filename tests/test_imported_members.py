"""Members of a sweep that come from other tools' files: in the workflow like those that are trained."""

import copy
import json
from collections import Counter

import pytest
import torch
from project import CONFIG, Project
from safetensors.torch import save_file

pytestmark = pytest.mark.pipeline

SITES = ("first", "second")
SUMMARY = {"training_stats": 1, "index_sweep": 1}


def write_published(project, site, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (8, 16), "b_enc": (16,), "W_dec": (16, 8), "b_dec": (8,)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(tensors, project.folder / f"{site}.safetensors")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose sweep holds nothing but an SAE of another tool, one for each of two sites."""
    project = Project(tmp_path_factory.mktemp("imported"))
    for seed, site in enumerate(SITES):
        write_published(project, site, seed)
    config = copy.deepcopy(CONFIG)
    config["policies"]["tiny"]["sae"]["sweep"] = {
        "capture": "both",
        "sites": list(SITES),
        "members": {"published": {"import": "{}.safetensors", "subtract_b_dec": True, "k": 4}},
    }
    project.configure(config)
    jobs = project.jobs()
    assert (jobs["import_sae"], jobs["publish_sae"], jobs["evaluate_sae"], jobs["train_sweep"]) == (2, 2, 2, 0)
    project.snakemake()
    return project


def test_an_imported_member_is_evaluated_like_any_other(project):
    sweep = project.folder / "results/tiny/trained/sae/sweep"
    for site in SITES:
        cfg = json.loads((sweep / site / "published" / "cfg.json").read_text())
        assert (cfg["architecture"], cfg["settings"]["k"], cfg["site"], cfg["policy"]) == ("topk", 4, site, "tiny")
        assert cfg["imported"]["files"].keys() == {f"{site}.safetensors"}
        assert len(cfg["normalisation"]["mean"]) == 8, "the capture's mean, for mean-ablation"
        metrics = json.loads((sweep / site / "published" / "metrics.json").read_text())
        assert metrics["fidelity"]["edits"]["mean"]["kl"]["value"] > 0
    assert list(json.loads((sweep / "index.json").read_text())["sites"]) == list(SITES)
    assert project.jobs() == Counter()


def test_a_changed_file_is_imported_again_at_its_site_alone(project):
    path = project.folder / "first.safetensors"
    path.touch()
    assert project.jobs() == Counter()
    write_published(project, "first", 9)
    expected = {"import_sae": 1, "publish_sae": 1, "evaluate_sae": 1, "summarise_sweep": 1, **SUMMARY}
    assert project.jobs() == Counter(expected)
    project.snakemake()
    assert project.jobs() == Counter()
