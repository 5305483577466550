"""Absorption: its formulas by hand, and data in which a latent is planted that absorbs another."""

import numpy as np
import pytest
import torch
from sae_made import made

from policylens.evaluation.absorption import (
    Concept,
    absorbed,
    absorption,
    f1,
    of_targets,
    questions,
    report,
    summary,
)
from policylens.evaluation.comparison import other_rows
from policylens.evaluation.targets import make_targets
from policylens.statistics.resampling import Resampling

SPLITS = ("train", "validation", "test")
RESAMPLING = Resampling(seed=0, n_resamples=400)
# Latent 0 stands for the label, 1 half along it, 2 hardly along it, 3 across.
DECODER = np.array([[1, 0, 0, 0], [0.6, 0.8, 0, 0], [0.05, 0, 0.99875, 0], [0, 0, 0, 1]])
P = torch.tensor([2.0, 0, 0, 0])  # a probe's direction has any norm


def measured(f, x0, main=(0,), decoder=DECODER):
    """Absorption of rows with latents f, whose activation reaches x0 along the probe."""
    sae = made(decoder)
    f = torch.tensor(f, dtype=torch.float32)
    x = torch.zeros(len(f), 4)
    x[:, 0] = torch.tensor(x0)
    return absorbed(sae, x, f, Concept.of(sae, P, main))


def test_the_formulas_by_hand():
    rows = [
        [1.0, 0.0, 0.0, 0.0],  # the main latent gives everything
        [0.0, 1.0, 0.0, 0.0],  # another gives 0.6 of 1, the main one nothing: absorbed
        [0.3, 1.0, 0.0, 0.0],  # it gives 0.3, the other 0.6: 0.6 / 0.9
        [0.0, 0.5, 0.0, 0.0],  # 0.3 of 1 is less than the proportion
        [0.0, 0.0, 9.0, 0.0],  # a large latent at a cosine of 0.05: full absorption, but no fraction
        [0.8, 1.0, 0.0, 0.0],  # 0.8 by the main one: at most 0.2 can be taken
        [0.0, 0.0, 0.0, 5.0],  # nothing along the probe
    ]
    found = measured(rows, [1.0] * 7)
    assert found.fraction.tolist() == pytest.approx([0, 1, 0.6 / 0.9, 0, 0, 0.2 / 1.0, 0], abs=1e-6)
    assert found.full.tolist() == [False, True, False, False, True, False, False]
    assert found.main.tolist() == [True, False, True, False, False, True, False]


def test_a_row_that_is_not_along_the_probe_counts_nothing():
    found = measured([[0.0, 1.0, 0.0, 0.0]], [-1.0])
    assert (found.fraction.tolist(), found.full.tolist()) == ([0.0], [False])


def test_norms_of_decoders_do_not_matter():
    f = [[0.3, 1.0, 0.0, 0.0]]
    scale = np.array([4.0, 0.5, 1, 1])
    found = measured(np.array(f) / scale, [1.0], decoder=DECODER * scale[:, None])
    assert found.fraction.tolist() == pytest.approx(measured(f, [1.0]).fraction.tolist(), abs=1e-6)


def test_what_latents_have_to_give_starts_at_the_decoders_bias():
    sae = made(DECODER, b_dec=[5.0, 0, 0, 0])
    x = torch.zeros(1, 4)
    x[0, 0] = 6.0
    found = absorbed(sae, x, torch.tensor([[0.0, 1, 0, 0]]), Concept.of(sae, P, [0]))
    assert found.fraction.tolist() == [1.0]  # 0.6 of 1, not of 6


def test_at_most_three_absorb_together():
    decoder = np.vstack([np.eye(6)[:1], np.tile([[0.2, 0.98, 0, 0, 0, 0]], (5, 1))])
    sae = made(decoder)
    x = torch.zeros(1, 6)
    x[0, 0] = 1.0
    f = torch.tensor([[0.0, 1, 1, 1, 1, 1]])
    cosine = 0.2 / np.hypot(0.2, 0.98)
    assert cosine > 0.1
    found = absorbed(sae, x, f, Concept.of(sae, torch.eye(6)[0], [0]))
    assert found.fraction.tolist() == [1.0]  # three give 0.6 of 1
    found = absorbed(sae, x * 1.6, f, Concept.of(sae, torch.eye(6)[0], [0]))
    assert found.fraction.tolist() == [0.0]  # 0.6 of 1.6 is too little, though five give 1.0


def test_f1_by_hand():
    said = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool).T
    true = np.array([[1, 0, 1, 0], [0, 0, 0, 0]], bool).T
    known = np.ones((4, 2), bool)
    assert f1(said, true, known).tolist() == [0.5, 0.0]
    known[1, 0] = False
    assert f1(said, true, known).tolist() == pytest.approx([2 / 3, 0.0])


def world(split, episodes=40, steps=10):
    """Activations along two directions: a label, and a rare special case of it; the label; the episodes."""
    rng = np.random.default_rng(SPLITS.index(split))
    n = episodes * steps
    label, special = rng.random(n) < 0.5, rng.random(n) < 0.04
    special &= label
    noise = 0.02 * rng.normal(size=(n, 4))
    x = label[:, None] * np.eye(4)[0] + special[:, None] * np.eye(4)[1] + noise
    return x.astype(np.float32), label, np.repeat(np.arange(episodes), steps)


def sae_of(absorbing):
    """Latent 0 is the label's; if `absorbing`, latent 1 stands for both in the special case, and latent 0 is silent."""
    if not absorbing:
        return made(np.eye(4), b_enc=[-0.3] * 4, threshold=0.1)
    encoder = np.array([[1, -1.0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).T
    decoder = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    return made(decoder, encoder, b_enc=[-0.3] * 4, threshold=0.1)


def asked():
    data = {split: world(split) for split in SPLITS}
    activations = {split: x for split, (x, _, _) in data.items()}
    episodes = {split: of for split, (_, _, of) in data.items()}
    labels = {split: {"thing": label} for split, (_, label, _) in data.items()}
    targets, _ = make_targets(labels, episodes)
    elsewhere = {split: other_rows(of, 0) for split, of in episodes.items()}
    return targets, activations, episodes["test"], elsewhere


@pytest.mark.parametrize("absorbing", [True, False])
def test_planted_absorption_is_found_and_its_absence_too(absorbing):
    targets, activations, episodes, elsewhere = asked()
    kept, real, null = questions(targets, activations, elsewhere)
    assert len(kept) == 1
    assert real.f1[0] > 0.95
    sae = sae_of(absorbing)
    sums, main = absorption(sae, activations, real, episodes)
    found = summary(sums, main, RESAMPLING)
    x, label, _ = world("test")
    share = float((x[label, 1] > 0.5).mean()) if absorbing else 0.0
    assert main == [[0]]
    assert found["fraction"]["value"] == pytest.approx(share, abs=1e-3)
    assert found["full"]["value"] == pytest.approx(share, abs=1e-9)
    assert found["main"]["value"] == pytest.approx(1 - share, abs=1e-9)
    assert (share > 0.01) == absorbing
    assert found["fraction"]["n_clusters"] == 40
    (row,) = of_targets(kept, real, sums, main, RESAMPLING)
    assert row["n_rows"] == int(sums.rows.sum())
    assert row["main"][0] == pytest.approx(found["main"]["value"])


def test_a_single_main_latent_leaves_the_special_case_to_its_absorber():
    targets, activations, episodes, elsewhere = asked()
    _, real, _ = questions(targets, activations, elsewhere)
    sae = sae_of(True)
    x = torch.from_numpy(activations["test"])
    positive = torch.from_numpy(real.positive["test"][:, 0])
    special = x[:, 1] > 0.5
    found = absorbed(sae, x[positive], sae.encode(x[positive]), Concept.of(sae, real.probes.weights[:, 0], [0]))
    picked = special[positive].numpy()
    assert (found.fraction[picked] > 0.95).all()
    assert found.full[picked].all()
    assert not found.full[~picked].any()
    assert (found.fraction[~picked] == 0).all()


def test_batches_change_nothing(monkeypatch):
    targets, activations, episodes, elsewhere = asked()
    _, real, _ = questions(targets, activations, elsewhere)
    whole, _ = absorption(sae_of(True), activations, real, episodes)
    monkeypatch.setattr("policylens.evaluation.absorption.ENTRIES_AT_ONCE", 28)
    pieces, _ = absorption(sae_of(True), activations, real, episodes)
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_labels_of_other_episodes_leave_nothing_to_absorb():
    targets, activations, episodes, elsewhere = asked()
    found = report({"sae": sae_of(True)}, targets, activations, episodes, elsewhere, RESAMPLING)
    assert (found["targets"], found["answered"]) == (1, 1)
    member = found["members"]["sae"]
    assert member["observed"]["fraction"]["value"] > 2 * member["permuted"]["fraction"]["value"]


def test_what_no_probe_reads_is_left_out():
    targets, activations, episodes, elsewhere = asked()
    rng = np.random.default_rng(9)
    noise = {split: rng.normal(size=x.shape).astype(np.float32) for split, x in activations.items()}
    found = report({"sae": sae_of(True)}, targets, noise, episodes, elsewhere, RESAMPLING)
    assert found == {"targets": 1, "answered": 0, "members": {}}
