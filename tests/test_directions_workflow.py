"""Slices and directions in the workflow: built from a path, rebuilt for what changed and nothing else, steerable."""

import copy
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from directions_made import made, segments, write_concept_map
from pages import config_of
from project import Project
from running_snakemake import REPOSITORY
from support import run_here
from test_directions_published import write_pair
from test_sae_finetuning import tensors, write_gemma

from policylens.sae.files import save_sae
from policylens.sae.interchange.importing import import_sae

pytestmark = pytest.mark.pipeline

EPISODES, STEPS, D, M = 20, 6, 6, 12
DIRECTIONS = "results/theirs/recorded/directions/both"
CONFIG = {
    "seed": 1,
    "policies": {
        "theirs": {
            "family": "activations",
            "checkpoints": {"recorded": {}},
            "captures": {"all": {"import": ["all.npz"], "sites": ["layer", "embed"], "dtype": "float32"}},
            "sae": {
                "base": {
                    "capture": "all",
                    "sites": ["layer"],
                    "evaluation": {"split": "all"},
                    "members": {"gemma": {"import": "gemma"}},
                }
            },
            "slices": {"drawer": {"capture": "all", "concept_map": "drawer.json"}},
            "directions": {
                "both": {
                    "site": "layer",
                    "baseline_site": "embed",
                    "permutations": 200,
                    "pairs": {
                        "drawer": {"slice": "drawer", "positive": "open it", "negative": "close it"},
                        "published": {"import": "published"},
                    },
                    "expected": [{"pair": ["drawer", "published"], "latent_cosine": {"below": 1}}],
                },
                "gated": {
                    "site": "layer",
                    "sae": "base/gemma",
                    "gate": {"explained_variance": 0.9, "l0": [1, 200]},
                    "pairs": {"drawer": {"slice": "drawer", "positive": "open it", "negative": "close it"}},
                },
            },
        }
    },
}


def write_map(folder, last):
    concepts = {
        "open it": segments(range(1, EPISODES, 2), 1, last, STEPS),
        "close it": segments(range(0, EPISODES, 2), 1, last, STEPS),
    }
    write_concept_map(folder / "drawer.json", concepts)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with two pairs: one of a slice of imported activations, and one that was published."""
    project = Project(tmp_path_factory.mktemp("directions"))
    x, found = made(EPISODES, STEPS, D, effect=3.0, texts=3)
    embed = np.random.default_rng(1).normal(size=x.shape)
    columns = {"episode": found["episode"], "step": found["step"], "task_index": found["text"]}
    np.savez(project.folder / "all.npz", layer=x.astype(np.float32), embed=embed.astype(np.float32), **columns)
    write_map(project.folder, 4)
    write_gemma(project.folder / "gemma")
    write_pair(project.folder / "published", m=M, d=D)
    project.configure(CONFIG)
    project.snakemake("--", f"{DIRECTIONS}/index.json")
    return project


def test_a_path_gives_directions_with_all_that_is_said_of_them(project):
    folder = project.folder / DIRECTIONS
    index = json.loads((folder / "index.json").read_text())
    own = index["pairs"]["drawer"]
    assert own["n"] == {"rows": EPISODES * 4, "episodes": EPISODES, "prompts": 6}
    assert own["reliability"]["mean_difference"]["held_out"]["p"] == 1 / 201
    assert own["reliability"]["baseline"]["held_out"]["p"] > 1 / 201
    assert own["reliability"]["mean_difference"]["across_texts"]["least_auc"] > 0.9
    summary = (folder / "summary.txt").read_text()
    assert "not known".upper() + ": latent_cosine of drawer and published below 1" in summary
    for name in ("norms.png", "cosines.png", "reliability.png", "pairwise_stats.json"):
        assert (folder / name).stat().st_size > 0
    assert project.jobs(f"{DIRECTIONS}/index.json") == Counter()


def test_what_changed_is_made_again_and_nothing_else(project):
    config = copy.deepcopy(CONFIG)
    config["policies"]["theirs"]["directions"]["both"]["expected"][0]["latent_cosine"] = {"above": 1}
    project.configure(config)
    assert project.jobs(f"{DIRECTIONS}/index.json") == Counter({"index_directions": 1})
    project.configure(CONFIG)
    write_map(project.folder, 3)
    jobs = {"slice_capture": 1, "derive_direction": 1, "index_directions": 1}
    assert project.jobs(f"{DIRECTIONS}/index.json") == Counter(jobs)
    write_map(project.folder, 4)


def derive(project, out, direction, sae=None, metrics=None):
    """Derive the directions of a block's pair `drawer` anew, in this process, from what the workflow has made."""
    run, block = Path("results/theirs/recorded"), CONFIG["policies"]["theirs"]["directions"][direction]
    names = {"policy": "theirs", "checkpoint": "recorded", "direction": direction, "pair": "drawer", "site": "layer"}
    origin = {**names, "sae": block.get("sae"), "baseline_site": block.get("baseline_site")}
    settings = {"permutations": 200, "top": 30, "ridge": 0.01, "probe_rows": 8192, "seed": 1, **block}
    words = ["--pair", block["pairs"]["drawer"], "--block", settings, "--slice", run / "slices/drawer"]
    words += ["--capture", run / "activations/all", "--origin", origin, "--out", out / "drawer" / "analysis.json"]
    words += ["--sae", sae, "--metrics", metrics] if sae else []
    run_here("workflow_scripts/derive_direction.py", *words)
    return json.loads((out / "drawer" / "analysis.json").read_text())


def test_equal_jobs_write_equal_bytes(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project.folder)
    derive(project, tmp_path, "both")
    for name in ("analysis.json", "directions.safetensors", "cells.safetensors"):
        assert (tmp_path / "drawer" / name).read_bytes() == (Path(DIRECTIONS) / "drawer" / name).read_bytes(), name


def test_latents_of_an_sae_that_does_not_fit_are_gated(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project.folder)
    save_sae(tmp_path / "sae", import_sae(project.folder / "gemma"))
    metrics = {"capture": "all", "metrics": {}, "fidelity": None}
    for name, value in (("explained_variance", -0.2), ("l0", 6.0)):
        metrics["metrics"][name] = {"value": value, "low": value - 0.1, "high": value + 0.1}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    record = derive(project, tmp_path, "gated", tmp_path / "sae", tmp_path / "metrics.json")
    assert not record["gate"]["passed"]
    assert record["gate"]["same_capture"]
    assert record["latents"]["ranking"][0]["adjusted_p"] is not None
    assert set(record["vectors"]) >= {"latent_direction", "residual_direction", "residual_direction_with_bias"}
    words = ["--analyses", tmp_path / "drawer" / "analysis.json", "--expected", "[]", "--seed", 1]
    run_here("workflow_scripts/index_directions.py", *words, "--out", tmp_path / "index.json")
    assert json.loads((tmp_path / "index.json").read_text())["pairs"]["drawer"]["gated"]
    told = "GATED: explained variance -0.2 [-0.3, -0.1], at least 0.9 needed (measured on the capture all); nothing is"
    assert told in (tmp_path / "summary.txt").read_text()


def test_a_direction_is_a_step_on_the_way_to_steering_with_it(project):
    config = copy.deepcopy(CONFIG)
    source = {"checkpoint": "final", "episodes": 20, "rollout": {}}
    config["policies"]["arm"] = {
        "family": "franka",
        "checkpoints": {"final": {"path": str(REPOSITORY / "data/checkpoints/franka/mlp/final")}},
        "sources": {"played": source},
        "captures": {"played": {"source": "played", "sites": ["actor_mlp_3"]}},
        "slices": {"phases": {"capture": "played", "concept_map": "drawer.json"}},
        "directions": {
            "open": {
                "site": "actor_mlp_3",
                "pairs": {"drawer": {"slice": "phases", "positive": "open it", "negative": "close it"}},
            }
        },
        "steering": {
            "opening": {
                "capture": "played",
                "directions": {"open": {"direction": "open", "pair": "drawer", "vector": "mean_difference"}},
                "moves": [{"kind": "add", "strengths": [1]}],
                "goal": {"measure": "steps"},
                "episodes": {"choose": 4, "confirm": 8},
                "controls": {"directions": 0},
            }
        },
    }
    if not (REPOSITORY / "data/checkpoints/franka/mlp/final").exists():
        pytest.skip("the arm's checkpoint is not there")
    project.configure(config)
    gated = "results/theirs/recorded/directions/gated/index.json"
    jobs = project.jobs("results/arm/final/steering/opening/index.json", gated)
    project.configure(CONFIG)
    assert (jobs["slice_capture"], jobs["derive_direction"], jobs["steer"], jobs["index_directions"]) == (1, 2, 1, 1)
    assert (jobs["import_sae"], jobs["evaluate_sae"]) == (1, 1), "a gate needs the SAE's metrics"


def test_the_fine_tuning_sweep_of_the_docs_can_be_planned(project):
    write_gemma(project.folder / "data" / "gemma-2b-it-res-jb")
    torch.save(tensors(), project.folder / "data" / "sae_finetuned.pt")
    np.savez(project.folder / "data" / "instructions.npz", language_12=np.ones((4, D)), episode=np.arange(4))
    project.configure(config_of("sae_finetuning.md"))
    jobs = project.jobs("results/pi05/libero/sae/finetuned/index.json")
    project.configure(CONFIG)
    assert (jobs["train_sweep"], jobs["publish_sae"], jobs["write_recipe"], jobs["import_sae"]) == (1, 82, 81, 1)
