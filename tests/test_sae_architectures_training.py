"""What each architecture learns, thresholds that find their place, and dead latents that start anew."""

import numpy as np
import pytest
import torch
from sae_cases import OWN, found, make, memory_of, planted, random_rows, settings_of

from policylens.sae import resampling
from policylens.sae.architecture import RESAMPLED, SINCE
from policylens.sae.member import Member
from policylens.sae.settings import resolve

ROWS = 256


def normalised(x):
    rows = torch.from_numpy(x)
    rows = rows - rows.mean(0)
    return rows * (rows.shape[1] ** 0.5 / rows.norm(dim=1).mean())


def trained(settings, x, target=None, before_step=None, rows=ROWS):
    """A member after all its steps on random batches, and its loss at the first one."""
    member, generator = Member(settings, x.shape[1], 0, "cpu", (x if target is None else target).shape[1]), draw(0)
    first = None
    for _ in range(settings["steps"]):
        if before_step:
            before_step(member)
        picks = torch.randint(len(x), (rows,), generator=generator)
        terms = member.update(x[picks], None if target is None else target[picks])
        first = float(terms.loss) if first is None else first
    return member, first, float(terms.loss)


def draw(seed):
    return torch.Generator().manual_seed(seed)


LEARNING = {
    "standard": ({"sparsity": 1.0, "learning_rate": 3e-3}, 0.25),
    "plain_l1": ({"sparsity": 3.0, "learning_rate": 6e-3}, 0.25),
    "tied": ({"sparsity": 1.0, "learning_rate": 3e-3}, 0.25),
    "topk": ({"k": 3}, 0.1),
    "batch_topk": ({"k": 3}, 0.1),
    "jumprelu": ({"sparsity": 1.0, "learning_rate": 2e-3}, 0.1),
    "gated": ({"sparsity": 3.0, "learning_rate": 3e-3}, 0.15),
    "matryoshka": ({"k": 3, "prefixes": [0.5], "learning_rate": 3e-3}, 0.15),
    "transcoder": ({"sparsity": 1.0, "learning_rate": 3e-3, "output_site": "other"}, 0.25),
}


@pytest.mark.parametrize("architecture", LEARNING)
def test_recovers_a_planted_dictionary(architecture):
    """64 latents for 32 planted directions in 24 dimensions, three per row; a transcoder's target is turned."""
    x, dictionary = planted(8000)
    own, share = LEARNING[architecture]
    settings = resolve({"architecture": architecture, "latents": 64, "steps": 1000, "batch_rows": ROWS, **own})
    x = normalised(x)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(24, 24)))
    target = x @ torch.from_numpy(turn).float() if architecture == "transcoder" else x
    member, first, last = trained(settings, x, target)
    p, sae = member.finished, member.architecture
    f = sae.encode(p, x)
    assert last < 0.5 * first
    assert (target - sae.decode(p, f)).square().sum() / target.square().sum() < share
    assert 1 < (f > 0).sum(1).float().mean() < 9
    wanted = dictionary @ turn if architecture == "transcoder" else dictionary
    assert found(p["W_dec"], wanted) > 0.85
    untrained = Member(settings, 24, 0, "cpu").finished["W_dec"]
    assert found(untrained, wanted) < 0.1


def test_a_linear_bottleneck_finds_sparse_directions_and_keeps_its_target():
    """Signed sparse codes on an orthogonal dictionary; without a target lambda stays, and the code stays dense."""
    rng = np.random.default_rng(0)
    dictionary, _ = np.linalg.qr(rng.normal(size=(16, 16)))
    codes = rng.laplace(size=(8000, 16)) * (rng.random((8000, 16)) < 0.1)
    x = torch.from_numpy(codes @ dictionary).float()
    x *= 4 / x.norm(dim=1).mean()
    shares = {}
    for target in (0.1, None):
        settings = settings_of("linear", 16, steps=1500, learning_rate=3e-3, sparsity=1e-3, sparsity_target=target)
        member, _, _ = trained(settings, x)
        p = member.finished
        z = member.architecture.encode(p, x)
        shares[target] = float((z.abs() * p["W_dec"].norm(dim=1) > settings["active_threshold"]).float().mean())
        assert (found(p["W_dec"], dictionary) > 0.9) == (target is not None)
    assert shares[0.1] == pytest.approx(0.1, abs=0.03)
    assert shares[None] > 0.4


@pytest.mark.parametrize("surrogate", ["threshold", "all"])
@pytest.mark.parametrize("start", [0.1, 2.0])
def test_thresholds_move_to_where_an_activation_stops_being_worth_its_price(start, surrogate):
    """Four independent activations, uniform on [0, 4], with encoder and decoder held at the identity.

    Leaving out an activation a costs a^2 and saves lambda, so theta^2 = lambda is best. The rectangle sees the errors
    of the rows below theta alone, on average at theta - eps/4: it rests at theta (theta - eps/4) = lambda.
    """
    width, weight = 0.5, 1.0
    settings = settings_of(
        "jumprelu",
        4,
        sparsity=weight,
        sparsity_warmup=0.0,
        bandwidth=width,
        initial_threshold=start,
        surrogate=surrogate,
        steps=1500,
        learning_rate=3e-3,
        learning_rate_decay=0.5,
    )
    still = {"W_enc": torch.eye(4), "W_dec": torch.eye(4), "b_enc": torch.zeros(4), "b_dec": torch.zeros(4)}

    def hold(member):
        for name, value in still.items():
            member.parameters[name].copy_(value)

    member, _, _ = trained(settings, torch.rand(20_000, 4, generator=draw(3)) * 4, before_step=hold, rows=512)
    rest = width / 8 + (weight + width**2 / 64) ** 0.5
    torch.testing.assert_close(member.parameters["threshold"], torch.full((4,), rest), rtol=0, atol=0.06)


def test_thresholds_do_not_fall_below_zero():
    sae = make("jumprelu")
    p = sae.initial(5, 5, draw(0))
    p["threshold"].sub_(1)
    sae.constrain(p)
    assert float(p["threshold"].min()) == 0


def test_a_transcoder_starts_by_predicting_nothing():
    sae = make("transcoder")
    p = sae.initial(5, 3, draw(0))
    assert not p["W_dec"].any()
    assert p["W_dec"].shape == (12, 3)
    assert p["W_enc"].any()
    x, y = random_rows(10, 5), random_rows(10, 3)
    assert float(sae.loss(p, x, y, memory_of(sae), 1.0).loss) == pytest.approx(float(y.square().sum(1).mean()))


# Dead latents


def dying(architecture, **more):
    """A member of which half the latents are silenced, by a bias that no gradient reaches; and its data."""
    settings = settings_of(architecture, 32, steps=200, dead_after_rows=2000, batch_rows=ROWS, **more)
    member = Member(settings, 24, 5, "cpu")
    for name in member.architecture.biases(member.parameters):
        member.parameters[name][:16] -= 1000
    return member, normalised(planted(4000)[0])


RESAMPLED_ONES = [name for name in OWN if name != "linear"]


@pytest.mark.parametrize("architecture", RESAMPLED_ONES)
def test_resampling_brings_dead_latents_back(architecture):
    own = {"auxiliary_weight": 0.0} if "k" in OWN[architecture] else {}
    if architecture == "transcoder":
        own = {"output_site": "other"}
    dead = {}
    for every in (None, 50):
        member, x = dying(architecture, resample_every=every, **own)
        generator = draw(0)
        for _ in range(100):
            member.update(x[torch.randint(len(x), (ROWS,), generator=generator)])
        dead[every] = (member.memory[SINCE][:16] > 12 * ROWS).sum()
        assert (int(member.memory[RESAMPLED]) >= 16) == (every is not None)
    assert dead[None] == 16
    assert dead[50] <= 4


def test_a_latent_starts_anew_as_the_source_says():
    member, x = dying("standard", resample_every=50)
    member.memory[SINCE][:3] = 10_000
    for state in member.moments():
        state["exp_avg"].fill_(1.0)
        state["exp_avg_sq"].fill_(1.0)
    before = {name: tensor.clone() for name, tensor in member.parameters.items()}
    batch = x[:ROWS] + 3
    assert resampling.resample(member, batch, batch) == 3
    p, centre = member.parameters, batch.mean(0)
    torch.testing.assert_close(p["W_dec"][:3].norm(dim=1), torch.ones(3))
    living = before["W_enc"][:, 3:].norm(dim=0).mean()
    torch.testing.assert_close(p["W_enc"][:, :3], 0.2 * living * p["W_dec"][:3].T)
    torch.testing.assert_close(centre @ p["W_enc"][:, :3] + p["b_enc"][:3], torch.zeros(3), rtol=0, atol=1e-5)
    rows = (batch - centre) / (batch - centre).norm(dim=1, keepdim=True)
    nearest = (p["W_dec"][:3] @ rows.T).max(1)
    torch.testing.assert_close(nearest.values, torch.ones(3))
    assert len(set(nearest.indices.tolist())) == 3
    for name, state in zip(member.parameters, member.moments(), strict=True):
        for moments in (state["exp_avg"], state["exp_avg_sq"]):
            assert torch.equal(moments[3:], torch.ones_like(moments[3:]))
            assert torch.equal(moments[:3], torch.full_like(moments[:3], name == "b_dec"))
        if name != "b_dec":
            latents = p[name].T if name == "W_enc" else p[name]
            kept = before[name].T if name == "W_enc" else before[name]
            assert torch.equal(latents[3:], kept[3:]), name
    assert torch.equal(p["b_dec"], before["b_dec"])
    assert member.memory[SINCE][:3].tolist() == [0, 0, 0]
    assert int(member.memory[RESAMPLED]) == 3


def test_rows_are_drawn_by_the_square_of_their_loss_and_never_twice():
    losses = torch.tensor([0.0, 1.0, 2.0, 0.0, 3.0])
    picks = [tuple(resampling.drawn(losses.square(), 1, seed, 0).tolist()) for seed in range(3000)]
    shares = [sum(pick == (row,) for pick in picks) / 3000 for row in range(5)]
    assert shares == pytest.approx([0, 1 / 14, 4 / 14, 0, 9 / 14], abs=0.03)
    assert sorted(resampling.drawn(losses, 9, 0, 0).tolist()) == [1, 2, 4]
    assert len(resampling.drawn(torch.zeros(4), 2, 0, 0)) == 0
    assert len(resampling.drawn(losses, 0, 0, 0)) == 0


def test_resampling_repeats_and_stops_in_time():
    runs = []
    for _ in range(2):
        member, x = dying("topk", resample_every=50, auxiliary_weight=0.0)
        for step in range(60):
            member.update(x[(step * 7) % 100 : (step * 7) % 100 + ROWS])
        runs.append(member)
    assert int(runs[0].memory[RESAMPLED]) > 0
    for name, tensor in runs[0].parameters.items():
        assert torch.equal(tensor, runs[1].parameters[name]), name
    member = runs[0]
    due = []
    for member.step in range(1, 201):
        due += [member.step] if resampling.due(member) else []
    assert due == [50, 100, 150]


def test_a_gated_latent_that_starts_anew_has_equal_gate_and_magnitude():
    member, x = dying("gated", resample_every=50)
    member.parameters["r_mag"].fill_(0.7)
    member.memory[SINCE][2] = 10_000
    assert resampling.resample(member, x[:ROWS], x[:ROWS]) == 1
    p = member.parameters
    assert float(p["r_mag"][2]) == 0
    assert float(p["b_gate"][2]) == float(p["b_mag"][2])
    assert float(p["r_mag"][1]) == pytest.approx(0.7)


def test_a_jumprelu_latent_that_starts_anew_has_the_initial_threshold():
    member, x = dying("jumprelu", resample_every=50, initial_threshold=0.3)
    member.parameters["threshold"].fill_(9.0)
    member.memory[SINCE][2] = 10_000
    resampling.resample(member, x[:ROWS], x[:ROWS])
    assert member.parameters["threshold"][1:4].tolist() == pytest.approx([9.0, 0.3, 9.0])


def test_auxk_brings_dead_latents_back():
    dead = {}
    for weight in (0.0, 1 / 32):
        member, x = dying("batch_topk", auxiliary_weight=weight, auxiliary_k=8, learning_rate=1e-2)
        member.parameters["b_enc"][:16] += 997
        generator = draw(0)
        for _ in range(200):
            member.update(x[torch.randint(len(x), (ROWS,), generator=generator)])
        dead[weight] = int((member.memory[SINCE][:16] > 10 * ROWS).sum())
    assert dead[1 / 32] < dead[0.0]
