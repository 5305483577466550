"""Known dictionaries: that the data are made as said, and that what is found is counted as said."""

import csv
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_made import directions
from support import refused, run_here

from policylens.evaluation.recovery import recovery
from policylens.evaluation.synthetic import Superposition
from policylens.sae.training import train

EASY = Superposition(width=32, features=24, l0=2)


def codes(data, rows, seed=0):
    """Strengths of orthogonal features, read back from the activations."""
    return data.activations(rows, seed) @ data.directions(seed).T


def test_features_are_unit_vectors_and_orthogonal_where_they_fit():
    gram = EASY.directions(0) @ EASY.directions(0).T
    np.testing.assert_allclose(gram, np.eye(24), atol=1e-5)
    many = Superposition(width=8, features=30, l0=2).directions(0)
    np.testing.assert_allclose(np.linalg.norm(many, axis=1), 1, atol=1e-5)
    assert many.shape == (30, 8)


def test_rates_and_strengths_are_as_said():
    found = codes(EASY, 20_000)
    active = found > 0.25
    assert active.sum(1).mean() == pytest.approx(2, rel=0.03)
    assert active.mean(0) == pytest.approx(np.full(24, 2 / 24), abs=0.01)
    assert found[active].min() == pytest.approx(0.5, abs=0.01)
    assert found[active].mean() == pytest.approx(1, abs=0.01)
    assert found[active].max() == pytest.approx(1.5, abs=0.01)


def test_features_of_a_group_come_together():
    tied = Superposition(width=32, features=24, l0=2, correlation=0.7, group=4)
    active = codes(tied, 20_000) > 0.25
    together = np.corrcoef(active.T)
    within = [together[i, j] for i in range(24) for j in range(i) if i // 4 == j // 4]
    across = [together[i, j] for i in range(24) for j in range(i) if i // 4 != j // 4]
    assert min(within) > 0.2
    assert abs(np.mean(across)) < 0.01
    assert active.sum(1).mean() == pytest.approx(2, rel=0.05)


def test_noise_is_a_share_of_the_signal():
    noisy = Superposition(width=32, features=24, l0=2, noise=0.5)
    clean, both = EASY.activations(20_000, 0), noisy.activations(20_000, 0)
    assert (both - clean).std() / np.sqrt((clean**2).mean()) == pytest.approx(0.5, rel=0.02)


def test_the_same_seed_gives_the_same_data():
    assert (EASY.activations(50, 3) == EASY.activations(50, 3)).all()
    assert not (EASY.directions(3) == EASY.directions(4)).all()


@pytest.mark.parametrize("wrong", [{"l0": 30}, {"correlation": 1.0}, {"noise": -1.0}, {"width": 1}])
def test_impossible_data_are_refused(wrong):
    with refused(next(iter(wrong))):
        Superposition(**{"width": 32, "features": 24, "l0": 2, **wrong})


@given(st.integers(0, 2**16), st.integers(1, 12))
@settings(max_examples=25)
def test_what_is_there_is_found(seed, kept):
    true = directions(12, 10, seed)
    rng = np.random.default_rng(seed)
    learnt = true[rng.permutation(12)[:kept]] * rng.uniform(0.1, 5, (kept, 1)).astype(np.float32)
    found = recovery(learnt, true)
    assert (found["recall"], found["precision"]) == (kept / 12, 1)
    assert found["mean_cosine"] == pytest.approx(kept / 12, abs=1e-5)


def test_a_direction_learnt_twice_counts_once():
    true = np.eye(4, dtype=np.float32)
    found = recovery(np.vstack([true[:2], true[:2]]), true)
    assert (found["recall"], found["precision"], found["mean_cosine"]) == (0.5, 0.5, 0.5)


def test_the_other_sign_is_another_direction():
    true = np.eye(4, dtype=np.float32)
    assert recovery(-true, true)["recall"] == 0


def test_easy_data_are_recovered_whole():
    settings = {"architecture": "topk", "latents": 48, "k": 2, "steps": 800, "batch_rows": 256, "learning_rate": 3e-3}
    sae, _ = train(EASY.activations(8000, 0), settings, 0)
    found = recovery(sae.W_dec.numpy(), EASY.directions(0))
    assert found["recall"] == 1
    assert found["mean_cosine"] > 0.98
    # Not by chance, and not by an order that the latents happen to have.
    assert recovery(directions(48, 32, 5), EASY.directions(0))["recall"] == 0
    in_order = (sae.W_dec[:24].numpy() * EASY.directions(0)).sum(1)
    assert (in_order > 0.9).mean() < 0.2


STUB = """
import json, sys
from safetensors.torch import load_file, save_file
for line in sys.stdin:
    job = json.loads(line)
    data = load_file(job["data"])
    save_file({"directions": data["train"][: job["latents"]] + 1}, job["out"])
    print(job["out"], flush=True)
"""


def test_the_benchmark_with_and_without_the_other_tool(tmp_path, capsys):
    small = ["--rows", 300, "--steps", 5, "--seeds", 2, "--dimensions", 8, "--features", 12, "--l0", 2]
    small += ["--noise", 0, "--correlation", 0, "--width", 1, "--batch-rows", 32]
    run_here("benchmarks/dictionary_recovery.py", *small, "--out", tmp_path / "alone")
    assert "SAELens: not asked for" in capsys.readouterr().out
    report = json.loads((tmp_path / "alone" / "recovery.json").read_text())
    assert report["tools"] == ["policylens"]
    assert report["conditions"][0]["policylens"]["recall"]["unit"] == "seed"
    (tmp_path / "stub.py").write_text(STUB)
    words = f"{sys.executable} {tmp_path / 'stub.py'}"
    run_here("benchmarks/dictionary_recovery.py", *small, "--saelens", words, "--out", tmp_path / "both")
    both = json.loads((tmp_path / "both" / "recovery.json").read_text())
    assert both["tools"] == ["policylens", "saelens"]
    assert both["conditions"][0]["policylens"] == report["conditions"][0]["policylens"]
    rows = list(csv.DictReader((tmp_path / "both" / "recovery.csv").open()))
    assert [(row["tool"], row["seed"]) for row in rows] == [(tool, seed) for seed in "01" for tool in both["tools"]]
    assert {row["alive"] for row in rows if row["tool"] == "saelens"} == {"12"}
