"""Clusters of latents by what they do, and in which phase they do it: planted ones are found, absent ones are not."""

import numpy as np
import pytest
from interventions_made import saes_of, slowly, subject_of
from support import refused

from policylens.concepts.phases import check_phase_values, phase_edges, phase_names, phase_of
from policylens.interventions.clusters import clustered
from policylens.interventions.exact import measure
from policylens.interventions.modes import Mode
from policylens.interventions.phases import SHIFTS, Phases, density_in_phases, sizes_in_phases
from policylens.interventions.profiles import half_effects, halvings, profiles
from policylens.interventions.study import Settings, study
from policylens.interventions.sums import FOLDS
from policylens.statistics.partitions import adjusted_rand
from policylens.stores.shelf import Shelf

FOLD_ROWS = [40, 60, 50, 50]


def made(truth, noise, seed=0, scale=1.0):
    """Effects on two outcomes of latents whose directions are those of their clusters, fold by fold."""
    rng = np.random.default_rng(seed)
    count = truth.max() + 1
    strength = rng.uniform(0.1, 10, len(truth))[:, None]  # how often a latent is active must not matter
    folds = {}
    for name, width, unit in (("mu", 6, scale), ("later", 30, 1.0)):
        directions = rng.normal(size=(count, width))
        each = directions[truth][:, None, :] + noise * rng.normal(size=(len(truth), len(FOLD_ROWS), width))
        folds[name] = unit * strength[:, :, None] * each
    return half_effects(folds, FOLD_ROWS), folds


TRUTH = np.repeat(np.arange(3), [20, 15, 10])


def test_planted_clusters_are_found_and_stable():
    _, folds = made(TRUTH, 0.3)
    latents = np.arange(45) * 2
    found = clustered(latents, folds, FOLD_ROWS, None, 0)
    labels = np.full(45, -1)
    for number, cluster in enumerate(found["clusters"]):
        labels[np.array(cluster["latents"]) // 2] = number
    assert found["count"] == 3
    assert adjusted_rand(labels, TRUTH) == 1
    assert found["stable"] is True
    assert found["separated"] is True
    assert found["stability"]["halves"]["values"] == [1, 1, 1]
    assert found["stability"]["permuted_high"] < 0.2
    for cluster in found["clusters"]:
        assert sum(cluster["outcomes"].values()) == pytest.approx(1)


def test_what_is_one_cloud_is_said_to_be():
    rng = np.random.default_rng(1)
    whole = rng.normal(size=(60, 1, 30)) @ np.diag(np.linspace(1, 3, 30))
    folds = {"mu": whole + 0.1 * rng.normal(size=(60, 4, 30))}
    found = clustered(np.arange(60), folds, FOLD_ROWS, None, 0)
    assert found["separated"] is False


def test_noise_is_not_stable():
    _, folds = made(TRUTH, 30.0)
    found = clustered(np.arange(45), folds, FOLD_ROWS, 3, 0)
    assert found["stable"] is False
    assert found["chosen_by"] == "config"
    assert abs(found["stability"]["halves"]["mean"]) < 0.3


def test_too_few_latents_are_not_clustered():
    _, folds = made(TRUTH[:6], 0.3)
    assert clustered(np.arange(6), folds, FOLD_ROWS, None, 0) is None


def test_profiles_have_shape_alone():
    effects, _ = made(TRUTH, 0.3)
    stretched, _ = made(TRUTH, 0.3, scale=1000.0)
    np.testing.assert_allclose(profiles(stretched), profiles(effects), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(profiles(effects), axis=1), 1)
    assert not profiles({"mu": np.zeros((3, 2))}).any()


def test_halves_are_means_over_their_rows():
    rng = np.random.default_rng(0)
    folds = {"mu": rng.normal(size=(2, 4, 3))}
    found = half_effects(folds, FOLD_ROWS, [1, 2])["mu"]
    np.testing.assert_allclose(found, (60 * folds["mu"][:, 1] + 50 * folds["mu"][:, 2]) / 110)
    assert halvings(FOLD_ROWS) == [([0, 1], [2, 3]), ([0, 2], [1, 3]), ([0, 3], [1, 2])]
    assert halvings([3, 0, 2, 2]) == []


def test_folds_and_rows_add_up(tmp_path):
    subject, _, _ = subject_of()
    codes = np.arange(subject.n_rows) % 2
    settings = Settings(modes=(Mode("zero"),), controls=0, keep_rows=("mu",))
    found = study(subject, settings, Shelf(tmp_path / "unfinished", "stamp"), Phases(codes, 2)).groups
    zero, phases, pairs = found["zero"], found["zero_phases"], found["zero_rows"]
    rows = subject.episodes.fold_rows
    assert rows.sum() == subject.n_rows
    assert zero["mu_raised"].shape[1] == FOLDS
    whole = (zero["mu_raised"] * rows[:, None]).sum(1) / rows.sum()
    np.testing.assert_allclose(whole, -zero["mu_mean"], atol=1e-6, err_msg="zero only lowers")
    assert not [name for name in zero if name.endswith("_row_size")], "rows are not stored"
    for place, latent in enumerate(zero["latent"]):
        mine = pairs["latent"] == latent
        for phase in (0, 1):
            own = np.abs(pairs["mu"][mine & (codes[pairs["place"]] == phase)]).sum()
            assert phases["mu_size"][place, phase] == pytest.approx(own / (codes == phase).sum(), abs=1e-6)
    np.testing.assert_allclose(np.nansum(phases["mu_share"], 1), 1, atol=1e-5)
    active = subject.latents.dense(zero["latent"])[:, 0] != 0
    np.testing.assert_allclose(
        density_in_phases(subject, zero["latent"], Phases(codes, 2))[:, 1],
        (subject.latents.dense(zero["latent"]) != 0).any(1)[codes == 1].mean(0),
    )
    assert active.shape[0] == subject.n_rows


def test_raising_is_told_from_lowering():
    subject, policy, batch = subject_of()
    mode, saes = Mode("resample"), saes_of()
    sums, _ = measure(subject, mode, np.arange(6))
    folds = subject.episodes.folds[subject.episodes.of_row]
    for latent in range(6):
        change = mode.change(np.array([latent]), subject.latents, subject.donors)[:, :, 0].sum(1)
        assert (change > 0).any()
        assert (change < 0).any()
        effect = slowly(subject, policy, batch, "frame", saes, mode, latent)["mu"] * np.sign(change)[:, None]
        expected = np.stack([effect[folds == fold].sum(0) for fold in range(FOLDS)])
        np.testing.assert_allclose(sums["mu"].raised[latent], expected, atol=2e-5)


# Phases

EPISODES = np.repeat(np.arange(30), 40)
CODES = np.tile(np.repeat([0, 1, 2], [10, 10, 20]), 30)


def test_a_planted_phase_is_found():
    rng = np.random.default_rng(0)
    anywhere = rng.exponential(size=len(CODES)) * (rng.random(len(CODES)) < 0.3)
    grasp = anywhere * (CODES == 1)
    found = sizes_in_phases(np.stack([grasp, anywhere, np.zeros(len(CODES))]), Phases(CODES, 3), EPISODES, 0)
    assert found["share"][0].tolist() == [0, 1, 0]
    assert found["p"][0] == 1 / (1 + SHIFTS)
    np.testing.assert_allclose(found["expected"][0], [0.25, 0.25, 0.5], atol=0.01)
    assert found["selectivity"][0] == pytest.approx(0.75, abs=0.01)
    assert found["p"][1] > 0.05
    assert abs(found["selectivity"][1]) < 0.1
    assert found["p"][2] == 1
    assert np.isnan(found["selectivity"][2])
    own = anywhere[CODES == 2]
    assert found["size"][1, 2] == pytest.approx(own.mean())
    assert found["size_low"][1, 2] < own.mean() < found["size_high"][1, 2]


def test_smooth_latents_are_not_selective_by_chance():
    """Autocorrelated latents: shifted phases are as long as the real ones, so that p holds its level."""
    rng = np.random.default_rng(3)
    place = np.arange(40) / 40
    sizes = np.stack(
        [np.concatenate([1 + np.cos(2 * np.pi * (place + rng.random())) for _ in range(30)]) for _ in range(200)]
    )
    found = sizes_in_phases(sizes, Phases(CODES, 3), EPISODES, 0)
    assert 0.01 < (found["p"] <= 0.05).mean() < 0.1


def test_phases_are_cut_at_edges_or_quantiles():
    values = np.array([0, 1, 2, 3, 4, 5, 6, 7])
    assert phase_edges(values, {"label": "x", "edges": [1, 3]}) == [1, 3]
    edges = phase_edges(values, {"label": "x", "bins": 2})
    assert edges == [3.5]
    assert phase_of(values, [1, 3]).tolist() == [0, 1, 1, 2, 2, 2, 2, 2]
    assert phase_names("x", [1, 2, 4], whole=True) == ["x < 1", "x 1", "x 2 to 4", "x >= 4"]
    assert phase_names("x", [1, 3]) == ["x < 1", "x 1 to 3", "x >= 3"]
    for bad in (np.array([1.0, np.nan]), np.zeros((2, 2))):
        with refused("'x' must be one known number per row"):
            check_phase_values(bad, "x")
