"""Training: what it learns, that it repeats to the bit, and what it refuses."""

import numpy as np
import pytest
import torch
from sae_cases import found, planted
from support import refused

from policylens.sae.files import save_sae
from policylens.sae.member import Member, decay
from policylens.sae.normalisation import fold, measure
from policylens.sae.settings import resolve
from policylens.sae.training import train

SMALL = {
    "standard": {"architecture": "standard", "latents": 24, "sparsity": 1.0, "learning_rate": 1e-3},
    "topk": {"architecture": "topk", "latents": 24, "k": 3, "auxiliary_k": 4, "dead_after_rows": 500},
}
SHORT = {"steps": 40, "batch_rows": 64, "log_points": 4, "monitor_rows": 200}


@pytest.mark.parametrize(
    "settings",
    [
        {"architecture": "topk", "latents": 64, "k": 3, "steps": 800},
        {"architecture": "topk", "latents": 64, "k": 3, "steps": 800, "precision": "bfloat16"},
        {
            "architecture": "standard",
            "latents": 64,
            "sparsity": 1.0,
            "steps": 1000,
            "learning_rate": 3e-3,
            "centre": True,
        },
    ],
    ids=["topk", "topk bfloat16", "standard"],
)
def test_recovers_a_planted_dictionary(settings):
    x, dictionary = planted(8000)
    sae, history = train(x, settings | {"batch_rows": 256}, seed=0)
    assert found(sae.W_dec, dictionary) > 0.9
    held_out = torch.from_numpy(planted(1000)[0])
    error = (held_out - sae(held_out)).square().sum() / (held_out - held_out.mean(0)).square().sum()
    assert error < 0.25
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert found(train(x, settings | {"batch_rows": 256, "steps": 1}, seed=0)[0].W_dec, dictionary) < 0.1


@pytest.mark.parametrize("architecture", SMALL)
def test_same_seed_same_bytes(tmp_path, architecture):
    x, _ = planted(500)
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        save_sae(tmp_path / name, *train(x, SMALL[architecture] | SHORT, seed))
    files = ["sae_weights.safetensors", "cfg.json", "training.json", "training.csv"]
    for file in files:
        one, two, other = ((tmp_path / name / file).read_bytes() for name in ("one", "two", "other"))
        assert one == two, file
        assert one != other, file


def test_history_is_measured_at_the_steps_asked_for():
    _, history = train(planted(500)[0], SMALL["topk"] | SHORT | {"steps": 10, "log_points": 3}, 0)
    assert [row["step"] for row in history] == [0, 3, 7, 10]
    assert set(history[0]) == {"step", "loss", "reconstruction", "sparsity", "l0", "dead", "dead_for_long"}
    assert 0 < history[-1]["l0"] <= 3
    assert 0 <= history[-1]["dead"] < 1
    with_default = train(planted(500)[0], SMALL["topk"] | SHORT | {"steps": 2}, 0)[1]
    assert [row["step"] for row in with_default] == [0, 1, 2]


@pytest.mark.parametrize("architecture", SMALL)
def test_divergence_is_refused_and_names_the_step(architecture):
    x, _ = planted(300)
    with refused("diverged", "step", "learning_rate"):
        train(x, SMALL[architecture] | SHORT | {"learning_rate": 1e25}, 0)


def test_a_loss_far_beyond_the_data_is_refused():
    x, _ = planted(300)
    with refused("diverged", "times that of predicting nothing"):
        train(x, SMALL["standard"] | SHORT | {"learning_rate": 30.0}, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_refused(value):
    x, _ = planted(300)
    x[217, 3] = value
    with refused("row 217"):
        train(x, SMALL["topk"] | SHORT, 0)


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        (np.zeros((0, 4), np.float32), "nothing to train on"),
        (np.zeros((5, 0), np.float32), "nothing to train on"),
        (np.zeros((5, 4), np.int64), "floats"),
        (np.ones((5, 4), np.float32), "equal"),
    ],
)
def test_unusable_activations_are_refused(rows, part):
    with refused(part):
        train(rows, SMALL["topk"] | SHORT, 0)


def test_more_latents_kept_than_there_are_is_refused():
    with refused("k is 25", "24 latents"):
        train(planted(50)[0], SMALL["topk"] | {"k": 25}, 0)


def test_scaling_makes_the_mean_norm_the_root_of_the_width():
    x = torch.from_numpy(planted(1000)[0])
    for centre in (False, True):
        normalised = measure(x, centre=centre, rescale=True).apply(x)
        assert float(normalised.norm(dim=1).mean()) == pytest.approx(24**0.5, rel=1e-5)
        assert (float(normalised.mean(0).abs().max()) < 1e-4) == centre
    plain = measure(x, centre=False, rescale=False)
    assert torch.equal(plain.apply(x), x)
    torch.testing.assert_close(plain.mean, x.mean(0))


@pytest.mark.parametrize("architecture", SMALL)
@pytest.mark.parametrize("centre", [False, True])
def test_folding_is_exact(architecture, centre):
    member = Member(resolve(SMALL[architecture] | SHORT), 24, 0, "cpu")
    exact = {name: tensor.double() + 0.01 for name, tensor in member.parameters.items()}
    x = torch.from_numpy(planted(200)[0]).double()
    normalisation = measure(x, centre=centre, rescale=True)
    sae = member.architecture
    folded = fold(exact, normalisation, normalisation, sae.biases(exact))
    f, raw_f = sae.encode(exact, normalisation.apply(x)), sae.encode(folded, x)
    torch.testing.assert_close(raw_f, f, rtol=1e-12, atol=1e-12)
    back = sae.decode(exact, f) / normalisation.scale + normalisation.shift.double()
    torch.testing.assert_close(sae.decode(folded, raw_f), back, rtol=1e-12, atol=1e-12)


def test_active_threshold_is_carried_to_raw_units():
    x, _ = planted(500)
    sae, _ = train(x, SMALL["standard"] | SHORT | {"active_threshold": 0.3}, 0)
    rows = torch.from_numpy(x)
    f = sae.encode(rows)
    scaled = f * sae.W_dec.norm(dim=1) * sae.scale
    assert (
        torch.equal(sae.active(f), scaled > 0.3) or ((scaled - 0.3).abs()[sae.active(f) != (scaled > 0.3)] < 1e-5).all()
    )
    assert 0 < sae.active(f).sum() < (f > 0).sum()


def test_half_precision_activations_are_trained_on_in_float32():
    x = planted(500)[0].astype(np.float16)
    sae, _ = train(x, SMALL["topk"] | SHORT, 0)
    same, _ = train(x.astype(np.float32), SMALL["topk"] | SHORT, 0)
    assert sae.W_dec.dtype is torch.float32
    torch.testing.assert_close(sae.W_dec, same.W_dec, rtol=1e-3, atol=1e-3)


def test_activations_are_not_changed():
    x, _ = planted(300)
    before = x.copy()
    x.flags.writeable = False
    train(x, SMALL["topk"] | SHORT, 0)
    assert np.array_equal(x, before)


def test_learning_rate_falls_at_the_end():
    assert [decay(progress, 0.0) for progress in (0.0, 0.99)] == [1.0, 1.0]
    assert [decay(progress, 0.2) for progress in (0.0, 0.8, 0.9)] == pytest.approx([1.0, 1.0, 0.5])


def test_the_optimiser_is_adam_on_every_parameter():
    """Three steps against torch's plain Adam on separate copies, clipping and the learning rate's fall included."""
    settings = resolve(
        SMALL["standard"]
        | SHORT
        | {"steps": 3, "learning_rate_decay": 1.0, "gradient_clip": 0.5, "learning_rate": 0.01}
    )
    member = Member(settings, 24, 0, "cpu")
    reference = [p.clone().contiguous().requires_grad_() for p in member.parameters.values()]
    adam = torch.optim.Adam(reference, lr=0.01)
    x = measure(rows := torch.from_numpy(planted(64)[0]), centre=False, rescale=True).apply(rows)
    for step in range(3):
        terms = member.architecture.loss(dict(zip(member.parameters, reference, strict=True)), x, x, {}, step / 3)
        adam.zero_grad()
        terms.loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(reference, 0.5)
        assert norm > 0.5
        adam.param_groups[0]["lr"] = 0.01 * (1 - step / 3)
        adam.step()
        member.update(x)
    for mine, theirs in zip(member.parameters.values(), reference, strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-4, atol=1e-6)


def test_clipping_is_in_units_of_the_summed_squares():
    """A loss that is the mean over d dimensions is clipped at a d-th of the norm, so that its steps are the same."""
    x = torch.from_numpy(planted(64)[0])
    norms = {}
    for architecture in SMALL:
        member = Member(resolve(SMALL[architecture] | SHORT | {"gradient_clip": 0.1}), 24, 0, "cpu")
        member.update(x)
        norms[architecture] = float(torch.nn.utils.get_total_norm(list(member.gradients.values())))
    assert norms == pytest.approx({"standard": 0.1, "topk": 0.1 / 24}, rel=1e-4)
