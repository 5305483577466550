"""SAEBench's core metrics against its formulas, written out naively over all rows at once."""

import numpy as np
import pytest
import torch
from test_sae_evaluation import RESAMPLING, D, M, activations, identity_sae, make_sae

from policylens.evaluation.reconstruction import row_table
from policylens.evaluation.saebench import density_metrics, largest_cosines, saebench_metrics, weight_metrics

EPISODES = np.repeat(np.arange(6), 10)


def naive(sae, x):
    """Every row metric in float64."""
    w = {name: tensor.double().numpy() for name, tensor in sae.tensors.items()}
    f = np.maximum(x @ w["W_enc"] + w["b_enc"], 0)
    given = f @ w["W_dec"] + w["b_dec"]
    squared = ((x - given) ** 2).sum(1)
    norms = [np.linalg.norm(rows, axis=1) for rows in (x, given)]
    square = (x**2).sum(1).mean()
    return f, {
        "mse": squared.mean(),
        "explained_variance": 1 - squared.mean() / x.var(0).sum(),
        "explained_variance_legacy": (1 - squared / ((x - x.mean(0)) ** 2).sum(1)).mean(),
        "explained_variance_as_released": 1 - squared.mean() / (square - ((x**2).mean(0).mean()) ** 2),
        "cossim": ((x * given).sum(1) / (norms[0] * norms[1])).mean(),
        "l2_norm_in": norms[0].mean(),
        "l2_norm_out": norms[1].mean(),
        "l2_ratio": (norms[1] / norms[0]).mean(),
        "relative_reconstruction_bias": (given**2).sum(1).mean() / (x * given).sum(1).mean(),
        "l0": (f != 0).sum(1).mean(),
        "l1": f.sum(1).mean(),
    }


def test_row_metrics_are_those_of_their_formulas():
    sae, x = make_sae(), activations(60)
    found = saebench_metrics(sae, row_table(sae, x, batch_rows=7), EPISODES, RESAMPLING, None)
    f, wanted = naive(sae, x.astype(np.float64))
    groups = {
        name: value
        for part in ("reconstruction_quality", "shrinkage", "sparsity")
        for name, value in found[part].items()
    }
    assert groups.keys() == wanted.keys()
    for name, value in wanted.items():
        assert groups[name]["value"] == pytest.approx(value, rel=1e-5), name
        assert groups[name]["low"] < value < groups[name]["high"], name
    density = (f > 0).mean(0)
    misc = found["misc_metrics"]
    assert misc["frac_alive"] == (density > 0).mean()
    assert misc["freq_over_10_percent"] == (density > 0.1).mean()
    assert misc["normalized_freq_over_10_percent"] == pytest.approx(density[density > 0.1].sum() / density.sum())
    assert "model_behavior_preservation" not in found


def test_explained_variance_is_about_the_mean_and_the_released_formula_is_not():
    """Predicting the mean explains nothing; by the released formula it explains almost everything."""
    x = activations(60) + 1000
    zeros = {"W_enc": torch.zeros(D, M), "b_enc": torch.zeros(M), "W_dec": torch.ones(M, D)}
    sae = make_sae(zeros | {"b_dec": torch.from_numpy(x.mean(0))})
    found = saebench_metrics(sae, row_table(sae, x), EPISODES, RESAMPLING, None)["reconstruction_quality"]
    assert found["explained_variance"]["value"] == pytest.approx(0, abs=1e-2)
    assert abs(found["explained_variance_as_released"]["value"] - 1) < 1e-3


def test_density_metrics_by_hand():
    found = density_metrics(np.array([0.0, 0.005, 0.01, 0.05, 0.1, 0.335]))
    assert found == {
        "frac_alive": pytest.approx(5 / 6),
        "freq_over_1_percent": pytest.approx(3 / 6),
        "normalized_freq_over_1_percent": pytest.approx(0.485 / 0.5),
        "freq_over_10_percent": pytest.approx(1 / 6),
        "normalized_freq_over_10_percent": pytest.approx(0.335 / 0.5),
    }
    assert density_metrics(np.zeros(3))["normalized_freq_over_1_percent"] == 0


def test_weight_metrics_by_hand():
    directions = torch.tensor([[1.0, 0], [0, 2], [-3, 0], [1, 1]])
    np.testing.assert_allclose(largest_cosines(directions), [0.5**0.5, 0.5**0.5, 0, 0.5**0.5], atol=1e-6)
    found = weight_metrics(identity_sae())
    assert found == {
        "average_max_encoder_cosine_sim": 0,
        "average_max_decoder_cosine_sim": 0,
        "average_encoder_bias": 0,
        "average_encoder_norm": 1,
        "average_encoder_decoder_cosine_sim": 1,
    }


def test_a_transcoder_is_measured_on_what_it_should_give():
    sae, x, y = make_sae(), activations(60), activations(60, seed=1)
    found = saebench_metrics(sae, row_table(sae, x, y), EPISODES, RESAMPLING, None)
    error = (y - sae(torch.from_numpy(x)).numpy()).astype(np.float64)
    expected = 1 - (error**2).sum() / ((y - y.mean(0, dtype=np.float64)) ** 2).sum()
    assert found["reconstruction_quality"]["explained_variance"]["value"] == pytest.approx(expected, rel=1e-5)
    assert found["shrinkage"]["l2_norm_in"]["value"] == pytest.approx(np.linalg.norm(y, axis=1).mean(), rel=1e-5)
