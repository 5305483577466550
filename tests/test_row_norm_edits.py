"""SAEs that normalise each row by numbers of its own, in the policy: splicing, changing latents, circuits, steering."""

import numpy as np
import pytest
import torch
from directions_made import cells_of
from directions_made import made as rows_made
from hypothesis import given
from hypothesis import strategies as st
from interventions_made import Frames, frames, saes_of, slowly, subject_of, walk_saes, walk_subject, walked
from sae_made import directions, made, normalising
from support import refused
from test_tokens import WIDTH, Talking

from policylens.capture.tokens import Choice, selected
from policylens.circuits.ablation import Ablation
from policylens.circuits.outputs import Output
from policylens.directions.vectors import decoded
from policylens.evaluation.absorption import Concept, absorbed
from policylens.evaluation.comparison import compare
from policylens.evaluation.fidelity import Piece, fidelity_rows
from policylens.evaluation.token_fidelity import Frames as TokenFrames
from policylens.evaluation.token_fidelity import token_fidelity_rows
from policylens.interventions.controls import control
from policylens.interventions.exact import measure
from policylens.interventions.gradient import first_order
from policylens.interventions.modes import Mode
from policylens.sae.row_kinds import ROW_NORMS
from policylens.steering.edits import Steering
from policylens.steering.moves import Move
from policylens.steering.targets import latents_of, latents_target

MODES = (Mode("zero"), Mode("resample"), Mode("add", 1.5), Mode("zero", keep_error=False))


def perfect(width, kind):
    """Two latents per dimension, one for each sign: every row is reconstructed."""
    eye = np.eye(width)
    return normalising(made(np.concatenate([eye, -eye])), kind)


def normalising_saes(kind):
    return {site: normalising(sae, kind) for site, sae in saes_of().items()}


@pytest.mark.parametrize("kind", ROW_NORMS)
def test_a_perfect_dictionarys_pass_is_the_clean_one(kind):
    policy, batch = Frames(dtype=torch.float32), frames(24)
    recorded = policy.run(batch, read=["frame"]).reads["frame"].numpy()
    pieces = [Piece(batch, recorded, recorded[::-1].copy())]
    found = fidelity_rows(policy, "frame", perfect(4, kind), pieces)
    assert found["reconstruction"]["kl"].max() < 1e-7
    assert found["reconstruction"]["value_error"].max() < 1e-3
    assert found["zero"]["kl"].mean() > 1e-3
    plain = fidelity_rows(policy, "frame", normalising(perfect(4, kind), "none"), pieces)
    np.testing.assert_allclose(plain["reconstruction"]["kl"], 0, atol=1e-7)


def test_a_perfect_dictionarys_tokens_are_the_clean_ones():
    """Each token is a row, with a spread of its own; the others stay as they are."""
    policy, choice, mean = Talking(), Choice(("language",)), np.zeros(WIDTH, np.float32)
    batch, others = ({"seen": values} for values in (np.arange(1, 7) * 10.0, np.arange(6) * 10.0))
    passed = policy.run(batch, read=["stream"])
    recorded, _ = selected([policy.sites["stream"]], passed.reads, passed.tokens, choice)
    pieces = [TokenFrames(batch, others, recorded["stream"].numpy())]
    found = token_fidelity_rows(policy, "stream", perfect(WIDTH, "mean_abs"), pieces, choice, mean)
    assert found["reconstruction"]["kl"].max() < 1e-6
    assert found["zero"]["kl"].min() > 1


@pytest.mark.parametrize("kind", ROW_NORMS)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("site", ["frame", "flat"])
def test_effects_are_those_of_whole_passes(kind, mode, site):
    saes = normalising_saes(kind)
    subject, policy, batch = subject_of(site, saes=saes)
    every = np.arange(saes[site].cfg.d_sae)
    found, _ = measure(subject, mode, every)
    for latent in every:
        effects = slowly(subject, policy, batch, site, saes, mode, latent)
        for name, effect in effects.items():
            mean = found[name].means(subject.episodes)["mean"][latent]
            np.testing.assert_allclose(mean, effect.mean(0), atol=2e-6, err_msg=name)


def test_first_order_estimates_are_slopes():
    """Of so small a change that nothing but the slope counts."""
    subject, _, _ = subject_of("frame", saes=normalising_saes("layer_norm"))
    mode, every = Mode("add", 1e-3), np.arange(6)
    exactly = measure(subject, mode, every)[0]["value"].means(subject.episodes)["mean"]
    np.testing.assert_allclose(first_order(subject, mode, every)["value"], exactly, rtol=0.02, atol=2e-6)


def test_effects_on_a_recurrent_policy_are_those_of_whole_episodes():
    lengths = (3, 6, 1, 5)
    saes = {site: normalising(sae, "layer_norm") for site, sae in walk_saes().items()}
    subject, policy, batch, _ = walk_subject(episodes=lengths, saes=saes)
    sae = saes["hidden"]
    found = measure(subject, Mode("zero"), np.arange(6))[0]["mu"].means(subject.episodes)["mean"]
    before = walked(policy, batch, lengths, [])
    for latent in range(6):

        def change(x, row, latent=latent):
            f = sae.encode(x)
            g = f.clone()
            g[:, latent] = 0
            return x + sae.reconstruct(g, x) - sae.reconstruct(f, x)

        after = walked(policy, batch, lengths, [], {"hidden": change})
        effect = torch.cat([b.heads.mu - a.heads.mu for a, b in zip(before, after, strict=True)])
        np.testing.assert_allclose(found[latent], effect.mean(0).numpy(), atol=2e-6)


def test_a_control_along_the_latents_own_direction_is_the_latent():
    subject, _, _ = subject_of("frame", saes=normalising_saes("layer_norm"))
    own = subject.sae.W_dec[2].numpy()
    found = control(subject, Mode("zero"), 2, (own / np.linalg.norm(own))[None])
    sums = measure(subject, Mode("zero"), np.array([2]))[0]
    wanted = np.linalg.norm(sums["mu"].means(subject.episodes)["mean"][0])
    assert found["mu"]["norm"][0] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("keep_error", [True, False])
def test_what_is_outside_a_circuit_becomes_its_reference(keep_error):
    """Site by site and by hand: later sites' rows have the spread that changes before them leave."""
    policy, own = Frames("gaussian"), normalising_saes("layer_norm")
    batch, donors = frames(6, 1), np.array([3, 4, 5, 0, 1, 2])
    rng = np.random.default_rng(0)
    masks = {site: rng.random(sae.cfg.d_sae) < 0.5 for site, sae in own.items()}
    plain = policy.run(batch, read=list(own))

    def by_hand(site):
        def edit(x):
            f = own[site].encode(x)
            g = torch.where(torch.from_numpy(masks[site]), f, own[site].encode(plain.reads[site])[donors])
            before, after = (own[site].reconstruct(part, x) for part in (f, g))
            return (x if keep_error else before) + after - before

        return edit

    after = policy.run(batch, edit={site: by_hand(site) for site in own})
    expected = ((after.heads.mu - plain.heads.mu) ** 2).sum(1)
    found = Ablation(policy, own, "resample", keep_error, {}).distances(Output("mu"), [batch], donors, [masks])
    np.testing.assert_allclose(found[0], expected, atol=1e-12)


@given(kind=st.sampled_from(ROW_NORMS), inner=st.sampled_from([(), (3,)]), seed=st.integers(0, 50))
def test_steering_changes_the_latents_part_of_each_row(kind, inner, seed):
    sae = normalising(made(directions(9, 5, seed), b_enc=np.full(9, 0.1)), kind)
    rng = np.random.default_rng(seed)
    reference, given_rows = (rng.normal(1, 3, size=(20, *inner, 5)).astype(np.float32) for _ in range(2))
    rows = latents_of(sae, reference)
    chosen = [int(number) for number in np.flatnonzero(rows.counts)[:2]]
    target = latents_target("two", "site", sae, chosen, rows)
    x = torch.from_numpy(given_rows)
    flat = x.reshape(-1, 5)
    f = sae.encode(flat)
    g = f.clone()
    g[:, chosen] = 0
    wanted = flat + sae.reconstruct(g, flat) - sae.reconstruct(f, flat)
    torch.testing.assert_close(Steering(target, Move("zero"))(x).reshape(-1, 5), wanted, atol=1e-5, rtol=1e-5)
    along = torch.nn.functional.normalize(torch.ones(5), dim=0)
    moved = Steering(target, Move("zero"), along=along)(x).reshape(-1, 5) - flat
    torch.testing.assert_close(moved.norm(dim=1), (wanted - flat).norm(dim=1), atol=1e-4, rtol=1e-4)


def test_directions_are_refused():
    x, found = rows_made()
    sae = normalising(made(directions(8, 5), b_enc=0.1 * np.ones(8)), "layer_norm")
    with refused("row_norm layer_norm", "no direction"):
        cells_of(x, found, sae)
    with refused("row_norm layer_norm", "no direction"):
        decoded(np.ones(8), sae)


def test_absorption_is_the_same_for_rows_of_any_scale():
    sae = normalising(made(directions(8, 5)), "layer_norm")
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) * 3
    concept = Concept.of(sae, torch.arange(5.0) - 2, [0])
    one = absorbed(sae, x, sae.encode(x), concept)
    other = absorbed(sae, 7 * x + 2, sae.encode(7 * x + 2), concept)
    assert one.fraction.max() > 0
    np.testing.assert_allclose(one.fraction, other.fraction, atol=1e-3)


def test_random_dictionaries_are_of_normalised_rows():
    """Directions of such an SAE are compared with random ones among normalised rows, whatever else is compared."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6)).astype(np.float32) * np.array([30, 1, 1, 1, 1, 1], np.float32)
    x[:, 1:] *= 10 ** rng.uniform(-2, 2, size=(300, 1)).astype(np.float32)
    episodes = np.repeat(np.arange(30), 10)
    saes = {
        f"{kind}_{seed}": normalising(made(directions(10, 6, seed), b_enc=np.ones(10), seed=seed), kind)
        for kind in ("none", "layer_norm")
        for seed in (0, 1)
    }
    groups = {tuple(own["members"]): own for own in compare(saes, x, episodes, 0)["stability"]}
    assert set(groups) == {("none_0", "none_1"), ("layer_norm_0", "layer_norm_1")}
    nulls = [own["pairs"][0]["directions"] for own in groups.values()]
    assert nulls[0]["observed"] == nulls[1]["observed"]
    assert {**nulls[0], "observed": 0} != {**nulls[1], "observed": 0}
