"""Directions between concepts: planted ones are found, and what is said of their reliability is right."""

import json

import numpy as np
import pytest
import torch
from directions_made import cells_of, made
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_made import directions as unit_rows
from sae_made import made as sae_made
from support import refused

from policylens.directions.analysis import latents, notes, reliability
from policylens.directions.cells import ACTIVATION, BASELINE, LATENT, RESIDUAL, Cells
from policylens.directions.expected import FAIL, PASS, UNDECIDED, UNKNOWN, checked
from policylens.directions.gate import gate, words
from policylens.directions.pairwise import Pair, compared, flat, statistics
from policylens.directions.reliability import HeldOut, across_texts, cosines, jackknife, split_half
from policylens.directions.vectors import decoded, probe, vectors_of, write_vectors
from policylens.directions.weights import contrast, enough_arrangements, folds, halves, kinds, relabelled
from policylens.stores.files import read_tensors


def sae_of(d=5, m=8, seed=0):
    bias = torch.randn(d, generator=torch.Generator().manual_seed(seed))
    return sae_made(unit_rows(m, d, seed), b_enc=0.1 * np.ones(m), b_dec=bias.numpy())


def test_directions_are_those_of_the_rows_themselves():
    x, found = made(texts=2)
    sae = sae_of()
    cells, active = cells_of(x, found, sae)
    vectors = vectors_of(cells, sae)
    rows = torch.from_numpy(x.astype(np.float32))
    f = sae.encode(rows).double().numpy()
    means = {side: f[found["positive"] == side].mean(0) for side in (True, False)}
    np.testing.assert_allclose(vectors["positive_latent_mean"], means[True], atol=1e-6)
    np.testing.assert_allclose(vectors["latent_direction"], means[True] - means[False], atol=1e-6)
    along = (means[True] - means[False]) @ sae.W_dec.double().numpy()
    np.testing.assert_allclose(vectors["residual_direction"], along, atol=1e-6)
    with_bias = sae.decode(torch.from_numpy(means[True] - means[False]).float()).numpy()
    np.testing.assert_allclose(vectors["residual_direction_with_bias"], with_bias, atol=1e-5)
    sides = [x[found["positive"] == side].astype(np.float32).astype(np.float64).mean(0) for side in (True, False)]
    np.testing.assert_allclose(vectors["mean_difference"], sides[0] - sides[1], atol=1e-6)
    assert active.tolist() == (f != 0).sum(0).tolist()


def test_a_planted_direction_is_found_by_all_that_look_for_it():
    x, found = made(episodes=60, steps=20, effect=3.0, noise=1.0)
    cells, _ = cells_of(x, found)
    difference = vectors_of(cells, None)["mean_difference"]
    np.testing.assert_allclose(difference, [3, 0, 0, 0, 0], atol=5 * np.sqrt(2 / 600))
    learnt = probe(x[found["positive"]], x[~found["positive"]], 1e-4)
    assert learnt[0] / np.linalg.norm(learnt) > 0.97
    assert learnt[0] == pytest.approx(3.0, rel=0.2), "log-odds of two normals a distance apart: effect / variance"


def test_cells_survive_a_file(tmp_path):
    cells, _ = cells_of(*made())
    cells.save(tmp_path / "cells.safetensors")
    again = Cells.load(tmp_path / "cells.safetensors")
    assert again.sums[ACTIVATION].tolist() == cells.sums[ACTIVATION].tolist()
    assert again.positive.tolist() == cells.positive.tolist()


@settings(max_examples=25)
@given(st.integers(4, 12), st.integers(0, 5), st.floats(-50, 50))
def test_a_shift_of_all_rows_changes_no_direction(episodes, seed, shift):
    x, found = made(episodes=episodes, seed=seed)
    plain, moved = cells_of(x, found)[0], cells_of(x + shift, found)[0]
    weights = contrast(plain)
    np.testing.assert_allclose(weights @ plain.count, 0, atol=1e-12)
    np.testing.assert_allclose(weights @ plain.sums[ACTIVATION], weights @ moved.sums[ACTIVATION], atol=1e-4)
    np.testing.assert_allclose(plain.gram(ACTIVATION), moved.gram(ACTIVATION), atol=5e-3)


def mixed(both, ones, others, seed=0):
    """Cells of episodes of which some show both concepts."""
    rng = np.random.default_rng(seed)
    episode = np.concatenate([np.repeat(np.arange(both), 2), np.arange(both, both + ones + others)])
    positive = np.concatenate([np.tile([True, False], both), np.ones(ones, bool), np.zeros(others, bool)])
    text = np.zeros(len(episode), np.int64)
    return Cells(
        positive, episode, text, rng.integers(1, 5, len(episode)), {ACTIVATION: rng.normal(size=(len(episode), 3))}
    )


@given(st.integers(0, 5), st.integers(1, 6), st.integers(1, 6), st.integers(0, 9))
def test_rearranging_keeps_what_has_to_stay(both, ones, others, seed):
    cells = mixed(both, ones, others)
    for labels in relabelled(cells, 5, np.random.default_rng(seed)):
        single = cells.episode >= both
        assert labels[single].sum() == ones, "as many episodes of each concept as before"
        assert (labels[: 2 * both : 2] != labels[1 : 2 * both : 2]).all(), "an episode of both still shows both"


@given(st.integers(0, 5), st.integers(2, 9), st.integers(2, 9), st.integers(2, 5), st.integers(0, 9))
def test_halves_and_folds_hold_whole_episodes_of_every_kind(both, ones, others, count, seed):
    cells = mixed(both, ones, others)
    fold = folds(cells, count, np.random.default_rng(seed))
    _, kind, of_cell = kinds(cells)
    for own in np.unique(kind):
        sizes = [len(np.unique(cells.episode[(fold == f) & (kind[of_cell] == own)])) for f in range(count)]
        assert max(sizes) - min(sizes) <= 1
    assert all(len(set(fold[cells.episode == episode])) == 1 for episode in np.unique(cells.episode))
    taken = halves(cells, 3, np.random.default_rng(seed))
    assert abs(taken.sum(1) * 2 - len(kind)).max() <= 3


def test_episodes_of_both_concepts_are_swapped_half_of_the_time():
    cells = mixed(6, 0, 0)
    swapped = relabelled(cells, 400, np.random.default_rng(0)) != cells.positive
    np.testing.assert_allclose(swapped.mean(0), 0.5, atol=0.1)


def test_too_few_episodes_cannot_be_rearranged():
    assert not enough_arrangements(mixed(0, 2, 2)), "6 arrangements"
    assert enough_arrangements(mixed(0, 3, 3)), "20 arrangements"
    assert enough_arrangements(mixed(5, 0, 0)), "32 arrangements"


def test_halves_of_a_strong_direction_agree_and_of_noise_do_not():
    def agreement(effect):
        cells, _ = cells_of(*made(episodes=60, effect=effect, d=20, seed=3))
        return split_half(cells, cells.gram(ACTIVATION), seed=0)

    strong, none = agreement(8.0), agreement(0.0)
    # two halves of 15 + 15 episodes of 6 rows: each unit of a half's difference has variance 2 / 90
    assert strong.value == pytest.approx(64 / (64 + 20 * 2 / 90), abs=0.01)
    assert strong.low > 0.98
    assert none.low < 0 < none.high
    assert (strong.n_clusters, strong.unit) == (60, "episode")


def test_equal_episodes_agree_perfectly():
    x, found = made(noise=0.0, effect=1.0)
    cells, _ = cells_of(x, found)
    assert split_half(cells, cells.gram(ACTIVATION), seed=0).value == pytest.approx(1)


def test_the_jackknifes_interval_is_that_of_a_mean_on_fishers_scale():
    left_out = np.tanh([0.4, 0.5, 0.6])
    low, high = jackknife(float(np.tanh(0.5)), left_out)
    half = 4.302652729911275 * np.sqrt(2 / 3 * 0.02)
    np.testing.assert_allclose([low, high], np.tanh([0.5 - half, 0.5 + half]), rtol=1e-7)
    assert np.isnan(jackknife(0.5, np.array([0.1, np.nan, 0.2]))[0])


def test_held_out_scores_never_see_their_own_episode():
    x, found = made(episodes=20, effect=1.0)
    cells, _ = cells_of(x, found)
    held_out = HeldOut(cells, cells.gram(ACTIVATION), seed=0)
    scores = held_out.scores(cells.positive)
    place = int(np.flatnonzero(held_out.positive)[0])
    fold, episode = held_out.of_fold[place], held_out.episode[place]
    rest = held_out.fold != fold
    sides = (rest & cells.positive, rest & ~cells.positive)
    means = [cells.sums[ACTIVATION][own].sum(0) / cells.count[own].sum() for own in sides]
    direction = (means[0] - means[1]) / np.linalg.norm(means[0] - means[1])
    own = x[found["episode"] == episode].astype(np.float32).astype(float).mean(0)
    assert scores[place] == pytest.approx((own - (means[0] + means[1]) / 2) @ direction, abs=1e-6)


def test_p_values_of_noise_are_uniform_and_of_a_direction_small():
    p = []
    for seed in range(20):
        cells, _ = cells_of(*made(episodes=16, effect=0.0, of_episode=1.0, seed=seed))
        found = reliability(cells, 200, seed)[ACTIVATION]
        p.append([found["norm"]["p"], found["held_out"]["p"]])
    below = (np.array(p) <= 0.5).sum(0)
    assert ((below >= 4) & (below <= 16)).all(), "within 99% of a binomial of 20 and 1/2"
    cells, _ = cells_of(*made(episodes=16, effect=3.0, of_episode=0.2))
    found = reliability(cells, 200, 0)[ACTIVATION]
    assert found["norm"]["p"] == found["held_out"]["p"] == 1 / 201
    assert found["held_out"]["auc"]["value"] == 1


def test_a_direction_of_the_prompt_does_not_outlive_other_prompts():
    x, found = made(episodes=48, effect=0.0, texts=4, d=30, noise=0.1)
    x = x + 2 * np.eye(30)[10 + found["text"]]
    cells, _ = cells_of(x, found)
    gram = cells.gram(ACTIVATION)
    assert HeldOut(cells, gram, 0).auc(0).value == 1, "held-out episodes of the same prompts"
    left_out = across_texts(cells, gram)
    assert len(left_out) == 16
    assert np.abs([entry["cosine"] for entry in left_out]).max() < 0.2
    x, found = made(episodes=48, effect=3.0, texts=4, d=30, noise=0.1)
    cells, _ = cells_of(x, found)
    left_out = across_texts(cells, cells.gram(ACTIVATION))
    assert min(entry["cosine"] for entry in left_out) > 0.98
    assert min(entry["auc"] for entry in left_out) == 1
    single = cells_of(*made(texts=1))[0]
    assert across_texts(single, single.gram(ACTIVATION)) == []


def test_a_baseline_site_without_the_concept_says_nothing():
    x, found = made(episodes=40, effect=2.0)
    below, _ = made(episodes=40, effect=0.0, seed=9)
    cells, _ = cells_of(x, found, baseline=below)
    told = reliability(cells, 200, 0)
    assert told[ACTIVATION]["held_out"]["p"] < 0.01 < told[BASELINE]["held_out"]["p"]


def test_latents_are_ranked_by_what_they_add_and_corrected():
    x, found = made(episodes=30, effect=4.0, d=6)
    decoder = np.eye(6)
    decoder[0] *= 0.5
    sae = sae_made(decoder, encoder=np.eye(6))
    cells, active = cells_of(x, found, sae)
    norms = sae.W_dec.norm(dim=1).double().numpy()
    told = latents(cells, norms, active, 3, 300, 0)
    first = told["ranking"][0]
    assert (first["latent"], first["adjusted_p"]) == (0, 1 / 301)
    assert first["difference"] == pytest.approx(first["positive_mean"] - first["negative_mean"])
    assert first["decoder_norm"] == 0.5
    others = told["ranking"][1:]
    assert any(entry["adjusted_p"] > entry["p"] for entry in others), "6 latents were searched"
    assert all(entry["adjusted_p"] >= entry["p"] for entry in told["ranking"])
    assert min(entry["adjusted_p"] for entry in others) > 0.05
    assert len(told["ranking"]) == 3


def test_notes_say_what_the_sample_size_is():
    few = cells_of(*made(texts=1))[0]
    assert "1 and the negative one by 1 distinct prompt(s)" in notes(few, ["language"])[0]
    assert "these are tokens of the instruction" in notes(few, ["language"])[0]
    many = cells_of(*made(episodes=60, texts=5))[0]
    assert notes(many, []) == []
    unknown = Cells(few.positive, np.full(len(few), -1), np.full(len(few), -1), few.count, few.sums)
    assert "which episodes the rows are of is not known" in notes(unknown, [])[0]
    assert reliability(unknown, 200, 0) == {}


def pair_of(effect, seed, first=0):
    x, found = made(episodes=40, d=12, effect=effect, seed=seed)
    found = found | {"episode": found["episode"] + first}
    sae = sae_of(12, 20)
    cells, _ = cells_of(x, found, sae)
    return Pair(vectors_of(cells, sae), cells)


def test_pairs_of_one_direction_are_parallel_and_of_noise_are_not():
    same = compared(pair_of(6.0, 0), pair_of(6.0, 1, 100), "mean_difference", 0)
    assert same["low"] > 0.95
    assert same["p"] == 1 / 1001
    other = compared(pair_of(0.0, 0), pair_of(0.0, 1, 100), "mean_difference", 0)
    assert other["low"] < 0 < other["high"]
    assert other["p"] > 0.01
    opposite = Pair({name: -values for name, values in pair_of(6.0, 0).vectors.items()}, None)
    turned = compared(pair_of(6.0, 0), opposite, "latent_direction", 0)
    assert turned["cosine"] == pytest.approx(-1)
    assert turned["low"] is None, "no episodes, no interval"


def test_statistics_have_cosines_and_norms_under_published_names():
    a, b = pair_of(6.0, 0), pair_of(6.0, 1, 100)
    found = flat(statistics({"a": a, "b": b}, 0))["a__b"]
    expected = np.linalg.norm(a.vectors["latent_direction"])
    assert found["latent_norm_a"] == pytest.approx(expected)
    assert found["residual_cosine"] != pytest.approx(found["residual_with_bias_cosine"], abs=1e-3)
    assert found["probe_cosine"] is None


def test_the_cosine_of_weights_is_that_of_the_vectors():
    cells, _ = cells_of(*made(episodes=10))
    one, other = (contrast(cells, kept=(cells.episode % 3 != k) * 1.0) for k in (0, 1))
    gram = cells.gram(ACTIVATION)
    u, v = one @ cells.sums[ACTIVATION], other @ cells.sums[ACTIVATION]
    assert cosines(gram, one, other) == pytest.approx(u @ v / np.linalg.norm(u) / np.linalg.norm(v))


@pytest.mark.parametrize(
    ("relation", "cosine", "low", "high", "verdict"),
    [
        ({"below": 0}, -0.3, -0.5, -0.1, PASS),
        ({"below": 0}, -0.3, -0.5, 0.1, UNDECIDED),
        ({"below": 0}, 0.3, 0.1, 0.5, FAIL),
        ({"above": 0}, 0.3, 0.1, 0.5, PASS),
        ({"above": 0}, -0.3, -0.5, -0.1, FAIL),
        ({"below": 0}, -0.3, None, None, PASS),
        ({"above": 0.2}, 0.1, None, None, FAIL),
        ({"below": 0}, None, None, None, UNKNOWN),
    ],
)
def test_relations_hold_where_the_whole_interval_does(relation, cosine, low, high, verdict):
    own = None if cosine is None else {"cosine": cosine, "low": low, "high": high}
    found = [{"a": "x", "b": "y", "latent": own}]
    entry = checked([{"pair": ["y", "x"], "latent_cosine": relation}], found)[0]
    assert entry["verdict"] == verdict


def metrics(explained, l0, kl=None):
    def estimate(value):
        return {"value": value, "low": value - 0.05, "high": value + 0.05}

    fidelity = None if kl is None else {"edits": {"reconstruction": {"kl": estimate(kl)}}}
    found = {"explained_variance": estimate(explained), "l0": estimate(l0)}
    return {"capture": "demo", "metrics": found, "fidelity": fidelity}


def test_the_gate_takes_the_worse_end_of_the_interval():
    wanted = {"explained_variance": 0.5, "l0": [1, 200]}
    assert gate(wanted, metrics(0.56, 30), "demo")["passed"]
    shut = gate(wanted, metrics(0.54, 30), "demo")
    assert not shut["passed"]
    assert words(shut) == "explained variance 0.54 [0.49, 0.59], at least 0.5 needed"
    assert not gate(wanted, metrics(0.9, 1.01), "demo")["passed"]
    assert not gate({"kl": 0.1}, metrics(0.9, 30), "demo")["passed"], "not measured is not passed"
    assert gate({"kl": 0.1}, metrics(0.9, 30, kl=0.04), "other") == {
        "passed": True,
        "measured_on": "demo",
        "same_capture": False,
        "checks": [
            {
                "quantity": "kl",
                "value": 0.04,
                "low": pytest.approx(-0.01),
                "high": 0.09,
                "least": None,
                "most": 0.1,
                "passed": True,
            }
        ],
    }


def test_vectors_say_what_they_are_measured_in(tmp_path):
    sae = sae_of()
    path = tmp_path / "directions.safetensors"
    write_vectors(path, decoded(np.ones(8), sae), {"site": "layer"})
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        about = json.loads(file.metadata()["policylens"])["vectors"]
    assert about["residual_direction"]["unit"] == "activation"
    assert about["latent_direction"]["unit"] == "latents"
    difference = read_tensors(path)["residual_direction_with_bias"] - read_tensors(path)["residual_direction"]
    np.testing.assert_allclose(difference.numpy(), sae.b_dec.numpy(), atol=1e-5)


def test_an_sae_of_another_width_is_refused():
    x, found = made(d=5)
    with refused("the SAE takes activations 6 wide, these rows are 5 wide"):
        cells_of(x, found, sae_of(6))


def test_sums_of_latents_go_through_the_decoder():
    sae = sae_of()
    cells, _ = cells_of(*made(), sae)
    np.testing.assert_allclose(cells.sums[RESIDUAL], cells.sums[LATENT] @ sae.W_dec.double().numpy())
