"""A small pi0.5 through the whole row: dataset, contrast, tokens, SAE, slices, directions, feed-forward clusters."""

import json
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("lerobot", reason="LeRobot is in the environment `vla` alone: make test-all")

import torch
from datasets_made import CLOSE, DIMENSIONS, OPEN, Made
from project import Project
from vla_made import architecture, weights

from policylens.policies.checkpoint import write_checkpoint
from policylens.policies.sites import TOKEN_KINDS
from policylens.stores.tables import open_table

pytestmark = pytest.mark.pipeline

RUN = "results/arm/small"
FRAMES, EPISODES = 60, 20
TARGETS = (f"{RUN}/sae/words/index.json", f"{RUN}/directions/words/index.json", f"{RUN}/ffn/language/clusters.json")
DECISION = f"{RUN}/activations/decision/index.json"
POLICY = {
    "family": "pi05",
    "checkpoints": {"small": {"path": "small"}},
    "sources": {"demos": {"dataset": {"root": "drawer"}, "split": {"train": 0.5, "validation": 0.2, "test": 0.3}}},
    "contrasts": {"drawer": {"source": "demos", "positive": OPEN, "negative": CLOSE}},
    "captures": {
        "words": {
            "source": "demos",
            "sites": ["language_embed", "language_1"],
            "tokens": {"kinds": ["language"]},
            "frames": 240,
            "batch_rows": 32,
        },
        "decision": {
            "source": "demos",
            "sites": ["expert_1"],
            "tokens": {"kinds": ["action"], "which": "last", "denoise": [-1]},
            "frames": FRAMES,
            "dtype": "float32",
            "batch_rows": 32,
        },
    },
    "sae": {
        "words": {
            "capture": "words",
            "sites": ["language_1"],
            "settings": {"steps": 100, "batch_rows": 256, "latents": 64},
            "members": {"topk": {"architecture": "topk", "k": 8}},
            "evaluation": {"rows": 200},
        }
    },
    "slices": {"drawer": {"capture": "words", "contrast": "drawer", "kinds": ["language"]}},
    "directions": {
        "words": {
            "site": "language_1",
            "sae": "words/topk",
            "baseline_site": "language_embed",
            "permutations": 200,
            "gate": {"explained_variance": 0.1, "l0": [1, 64]},
            "pairs": {"open": {"slice": "drawer", "positive": OPEN, "negative": CLOSE}},
        }
    },
    "ffn": {
        "language": {
            "source": "demos",
            "rows": 32,
            "sites": ["language_0_ffn", "language_1_ffn"],
            "top_k_per_layer": 12,
            "projection": {"top_k_tokens": 3},
            "clusters": {"count": 3, "clouds": 19, "restarts": 1},
        }
    },
}
DESCENDANTS = {
    **{"import_checkpoint": 1, "capture": 2, "index_capture": 2, "slice_capture": 1},
    **{"train_sweep": 1, "publish_sae": 1, "evaluate_sae": 1, "index_sweep": 1},
    **{"summarise_sweep": 1, "training_stats": 1, "derive_direction": 1, "index_directions": 1},
    **{"probe_ffn": 1, "project_ffn": 1, "cluster_ffn": 1},
}
"""Jobs of a changed checkpoint: neither the source, nor the contrast cut from it, nor what a member is told."""


def sizes():
    """Of a network that takes the made dataset: one camera, states of 4 numbers and actions of 2."""
    normalisation = {
        "state": {"mode": "quantiles", "q01": [-0.6] * DIMENSIONS, "q99": [0.6] * DIMENSIONS},
        "action": {"mode": "mean_std", "mean": [0.0] * 2, "std": [1.0] * 2},
    }
    own = {"cameras": ["image"], "state": DIMENSIONS, "action": 2, "normalisation": normalisation}
    return architecture("pi05", **own, denoising_steps=2)


def write_small(folder, seed=0):
    found = sizes()
    write_checkpoint(folder, family="pi05", architecture=found, tensors=weights(found, seed))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("vla"))
    write_small(project.folder / "small")
    Made(episodes=EPISODES).write(project.folder / "drawer", "v3.0")
    project.configure({"policies": {"arm": POLICY}})
    project.snakemake("--", *TARGETS, DECISION)
    return project


def read(project, path):
    return json.loads((project.folder / path).read_text())


def test_rows_are_tokens_of_the_frames_that_were_drawn(project):
    words = open_table(project.folder / RUN / "activations" / "words")
    decision = open_table(project.folder / RUN / "activations" / "decision")
    assert (words.row_space, decision.row_space) == ("token", "denoised_token")
    assert set(words.coordinate("kind").tolist()) == {TOKEN_KINDS.index("language")}
    frames = np.unique(np.stack([words.coordinate(name) for name in ("episode", "step")]), axis=1)
    assert frames.shape[1] == 240
    assert words.n_rows > frames.shape[1] * len(OPEN.split())
    assert words.array("language_1").read(slice(0, 5)).shape == (5, 64)
    assert decision.n_rows == FRAMES
    assert set(decision.coordinate("denoise").tolist()) == {1}
    assert set(decision.coordinate("token").tolist()) == {4}
    assert set(decision.coordinate("split").tolist()) == {0, 1, 2}


def test_a_captured_row_is_what_the_policy_computes(project):
    from policylens.policies.registry import load_policy

    decision = open_table(project.folder / RUN / "activations" / "decision")
    source = open_table(project.folder / "results" / "arm" / "sources" / "demos")
    policy = load_policy(project.folder / RUN / "checkpoint")
    episodes, steps = (source.coordinate(name) for name in ("episode", "step"))
    for row in (0, decision.n_rows - 1):
        where = (episodes == decision.coordinate("episode")[row]) & (steps == decision.coordinate("step")[row])
        (place,) = np.flatnonzero(where)
        batch = {name: source.array(name).read(slice(place, place + 1)) for name in policy.observations}
        with torch.inference_mode():
            found = policy.run(batch, read=["expert_1"]).reads["expert_1"][0, -1, -1]
        own = decision.array("expert_1").read(slice(row, row + 1))[0]
        np.testing.assert_allclose(own, found.numpy(), atol=1e-5)


def test_the_analyses_say_what_they_are_of(project):
    edits = read(project, f"{RUN}/sae/words/language_1/topk/metrics.json")["fidelity"]["edits"]
    assert edits["identity"]["kl"]["value"] == 0
    assert 0 < edits["reconstruction"]["kl"]["value"] < edits["mean"]["kl"]["value"], "spliced into the policy's passes"
    assert edits["mean"]["kl"]["n_clusters"] > 1
    index = read(project, f"{RUN}/directions/words/index.json")["pairs"]["open"]
    assert index["n"]["episodes"] == EPISODES
    assert index["reliability"]["mean_difference"]["held_out"]["p"] >= 1 / 201
    clusters = read(project, f"{RUN}/ffn/language/clusters.json")
    assert sum(len(one["members"]) for one in clusters) == 24
    assert {member["site"] for one in clusters for member in one["members"]} == {"language_0_ffn", "language_1_ffn"}


def test_a_second_run_does_nothing(project):
    (project.folder / "small" / "policy.json").touch()
    assert project.jobs(*TARGETS, DECISION) == Counter()


def test_a_changed_checkpoint_leaves_the_demonstrations(project):
    write_small(project.folder / "small", seed=1)
    jobs = project.jobs(*TARGETS, DECISION)
    write_small(project.folder / "small")
    assert jobs == Counter(DESCENDANTS)
    assert project.jobs(*TARGETS, DECISION) == Counter()
