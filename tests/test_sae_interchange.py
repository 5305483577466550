"""SAEs of other tools: folders as those tools write them, against their formulas in float64; round trips; refusals."""

import http.server
import json
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from support import clear_line, policylens, refused, run, run_here, script_command, tree
from test_hub import COMMIT, Hub, variables
from test_imports import Evil

from policylens.capture.imports import import_activations
from policylens.capture.settings import SPLIT
from policylens.sae import activations
from policylens.sae.architectures import build
from policylens.sae.base import SAE, SAEConfig
from policylens.sae.files import load_sae, save_sae
from policylens.sae.interchange.exporting import export_sae
from policylens.sae.interchange.importing import import_folder, import_sae
from policylens.sae.selection import in_memory
from policylens.sae.settings import ARCHITECTURES, resolve
from policylens.sae.training import train
from policylens.stores.splits import TRAIN
from policylens.stores.tables import open_table, write_index

D, M, D_OUT = 6, 10, 4


def numbers(seed=0, **shapes):
    """Random float32 tensors."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def usual(d_out=D, **more):
    return numbers(W_enc=(D, M), b_enc=(M,), W_dec=(M, d_out), b_dec=(d_out,), **more)


def gate():
    return numbers(W_enc=(D, M), b_gate=(M,), b_mag=(M,), r_mag=(M,), W_dec=(M, D), b_dec=(D,))


def exact(tensors):
    return {name: tensor.double().numpy() for name, tensor in tensors.items()}


def rows(width=D):
    return np.random.default_rng(5).normal(size=(40, width))


# Formulas of other tools, in float64, written down apart from the code under test


def relu(a):
    return np.maximum(a, 0)


def largest(a, k):
    kept = np.zeros_like(a)
    order = np.argsort(-a, axis=1)[:, :k]
    np.put_along_axis(kept, order, np.take_along_axis(a, order, 1), 1)
    return relu(kept)


def formula(tensors, act, *, subtract=False, scale=1.0, rescale=False):
    """Latents and reconstruction of `rows()`: act takes pre-activations."""
    t = exact(tensors)
    norms = np.linalg.norm(t["W_dec"], axis=1) if rescale else np.ones(len(t["W_dec"]))
    x = rows() * scale - (t["b_dec"] if subtract else 0)
    f = act((x @ t["W_enc"] + t["b_enc"]) * norms)
    return f, ((f / norms) @ t["W_dec"] + t["b_dec"]) / scale


def gated(tensors, *, subtract):
    t = exact(tensors)
    x = rows() - (t["b_dec"] if subtract else 0)
    on = x @ t["W_enc"] + t["b_gate"] > 0
    f = on * relu(x @ (t["W_enc"] * np.exp(t["r_mag"])) + t["b_mag"])
    return f, f @ t["W_dec"] + t["b_dec"]


def above(theta):
    return lambda a: relu(a) * (a > exact({"t": theta})["t"])


def assert_is(sae, expected):
    """Encode and decode agree with the formula, up to the one rounding of the weights."""
    latents, reconstruction = (torch.from_numpy(values) for values in expected)
    wide = sae.to(dtype=torch.float64)
    f = wide.encode(torch.from_numpy(rows()))
    torch.testing.assert_close(f, latents, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(wide.decode(latents), reconstruction, rtol=1e-5, atol=2e-6)


# SAELens folders


def saelens(folder, tensors, **cfg):
    """A folder as SAELens 6 writes it."""
    folder.mkdir(exist_ok=True)
    usual_cfg = {
        "d_in": D,
        "d_sae": M,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.54.12", "model_name": "m", "hook_name": "h"},
        "architecture": "standard",
    }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(usual_cfg | cfg))
    return folder


def older(folder, tensors, **cfg):
    """A folder as SAELens before version 6 wrote it: flat, with what was said alone."""
    saelens(folder, tensors)
    flat = {"d_in": D, "d_sae": M, "dtype": "torch.float32", "hook_point": "blocks.12.hook_resid_post"}
    (folder / "cfg.json").write_text(json.dumps(flat | cfg))
    return folder


def trained_as(name, **details):
    return {"sae_lens_version": "6.54.12", "training_architecture": name, "training_architecture_details": details}


@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize("how", ["standard", "topk", "rescaled topk", "jumprelu", "gated"])
def test_saelens(tmp_path, how, subtract):
    theta = numbers(3, threshold=(M,))["threshold"]  # some below 0, where SAELens' own ReLU decides
    tensors = {"gated": gate(), "jumprelu": usual() | {"threshold": theta}}.get(how, usual())
    cfg = {"architecture": how.split()[-1], "apply_b_dec_to_input": subtract}
    if "topk" in how:
        cfg |= {"k": 3, "rescale_acts_by_decoder_norm": how == "rescaled topk"}
    expected = {
        "standard": lambda: formula(tensors, relu, subtract=subtract),
        "topk": lambda: formula(tensors, lambda a: largest(a, 3), subtract=subtract),
        "rescaled topk": lambda: formula(tensors, lambda a: largest(a, 3), subtract=subtract, rescale=True),
        "jumprelu": lambda: formula(tensors, above(theta), subtract=subtract),
        "gated": lambda: gated(tensors, subtract=subtract),
    }[how]
    sae = import_sae(saelens(tmp_path / "sae", tensors, **cfg))
    assert sae.cfg.architecture == cfg["architecture"]
    assert_is(sae, expected())


def test_b_dec_is_subtracted_where_that_is_not_said(tmp_path):
    """As in SAELens, whose default it is."""
    folder = saelens(tmp_path / "sae", usual())
    cfg = json.loads((folder / "cfg.json").read_text())
    del cfg["apply_b_dec_to_input"]
    (folder / "cfg.json").write_text(json.dumps(cfg))
    assert_is(import_sae(folder), formula(usual(), relu, subtract=True))


@pytest.mark.parametrize(
    ("cfg", "subtract"),
    [
        ({"apply_b_dec_to_input": False, "normalize_activations": "none"}, False),
        ({"apply_b_dec_to_input": False, "normalize_activations": False, "activation_fn_str": "relu"}, False),
        ({"apply_b_dec_to_input": True, "normalize_activations": None, "sae_lens_version": "3.12.1"}, True),
        ({}, True),
    ],
)
def test_saelens_before_version_6(tmp_path, cfg, subtract):
    sae = import_sae(older(tmp_path / "sae", usual(), l1_coefficient=0.25, **cfg))
    assert (sae.cfg.architecture, sae.cfg.settings["sparsity"]) == ("standard", 0.25)
    assert_is(sae, formula(usual(), relu, subtract=subtract))


def test_topk_before_version_6_is_a_standard_one_with_another_activation(tmp_path):
    cfg = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 2}, "apply_b_dec_to_input": False}
    sae = import_sae(older(tmp_path / "sae", usual(), **cfg))
    assert sae.cfg.settings["k"] == 2
    assert_is(sae, formula(usual(), lambda a: largest(a, 2)))


def test_tensors_of_older_versions(tmp_path):
    factor = numbers(4, scaling_factor=(M,))["scaling_factor"]
    base = {"apply_b_dec_to_input": False}
    sae = import_sae(older(tmp_path / "one", usual() | {"scaling_factor": torch.ones(M)}, **base))
    assert_is(sae, formula(usual(), relu))
    tuned = older(tmp_path / "two", usual() | {"scaling_factor": factor}, finetuning_scaling_factor=True, **base)
    scaled = usual() | {"W_dec": usual()["W_dec"].double() * factor.double()[:, None]}
    assert_is(import_sae(tuned), formula(scaled, relu))
    with refused("sae_weights.safetensors", "'scaling_factor' is not 1"):
        import_sae(older(tmp_path / "three", usual() | {"scaling_factor": factor}, **base))
    logs = older(tmp_path / "four", usual() | {"log_threshold": factor}, architecture="jumprelu", **base)
    assert_is(import_sae(logs), formula(usual(), above(factor.double().exp())))


def test_batch_topk_is_saved_as_jumprelu(tmp_path):
    tensors = usual() | {"threshold": torch.full((M,), 0.7)}
    plain = saelens(tmp_path / "sae", tensors, architecture="jumprelu", metadata=trained_as("batchtopk", k=3.0))
    sae = import_sae(plain)
    assert (sae.cfg.architecture, sae.cfg.settings["k"], sae.tensors["threshold"].shape) == ("batch_topk", 3, ())
    assert_is(sae, formula(usual(), above(torch.tensor(0.7))))
    nested = trained_as("matryoshka_batchtopk", k=3, matryoshka_widths=[1, 4, M])
    sae = import_sae(saelens(tmp_path / "sae", tensors, architecture="jumprelu", metadata=nested))
    assert (sae.cfg.architecture, sae.cfg.settings["prefixes"]) == ("matryoshka", [1 / M, 4, M])
    assert_is(sae, formula(usual(), above(torch.tensor(0.7))))
    for other in (trained_as("batchtopk", k=2.5), trained_as("batchtopk"), trained_as("jumprelu")):
        sae = import_sae(saelens(tmp_path / "sae", tensors, architecture="jumprelu", metadata=other))
        assert sae.cfg.architecture == "jumprelu"
        assert_is(sae, formula(usual(), above(torch.tensor(0.7))))
    folded = usual() | {"threshold": torch.linspace(0.5, 0.6, M)}
    uneven = saelens(tmp_path / "sae", folded, architecture="jumprelu", metadata=trained_as("batchtopk", k=3))
    assert import_sae(uneven).cfg.architecture == "jumprelu", "one threshold per latent is not BatchTopK"


def test_batch_topk_in_training(tmp_path):
    """A checkpoint's folder: the threshold is one number, in units of latents times decoder norms."""
    tensors = usual() | {"topk_threshold": torch.tensor(1.5, dtype=torch.float64)}
    sae = import_sae(saelens(tmp_path / "sae", tensors, architecture="batchtopk", k=4))
    assert_is(sae, formula(usual(), above(torch.tensor(1.5)), rescale=True))


@pytest.mark.parametrize("how", ["transcoder", "jumprelu_transcoder"])
def test_transcoders(tmp_path, how):
    tensors = usual(D_OUT) | ({"threshold": torch.full((M,), 0.4)} if how != "transcoder" else {})
    folder = saelens(tmp_path / "sae", tensors, architecture=how, d_out=D_OUT)
    with refused(str(folder), "transcoder", "output_site"):
        import_sae(folder)
    sae = import_sae(folder, {"output_site": "mlp_out"})
    assert (sae.cfg.d_in, sae.cfg.d_out, sae.cfg.output_site) == (D, D_OUT, "mlp_out")
    assert_is(sae, formula(tensors, relu if how == "transcoder" else above(torch.full((M,), 0.4))))
    with refused("output_site"):
        import_sae(saelens(tmp_path / "plain", usual()), {"output_site": "mlp_out"})


def test_a_scale_is_folded_where_it_is_known(tmp_path):
    cfg = {"normalize_activations": "expected_average_only_in", "apply_b_dec_to_input": True}
    folder = saelens(tmp_path / "sae", usual(), **cfg)
    with refused("cfg.json", "'expected_average_only_in'", "scale"):
        import_sae(folder)
    with refused("scale: capture needs a capture"):
        import_sae(folder, {"scale": "capture"})
    assert_is(import_sae(folder, {"scale": 0.3}), formula(usual(), relu, subtract=True, scale=0.3))
    x = rows() * 7
    measured = D**0.5 / np.linalg.norm(x, axis=1).mean()
    sae = import_sae(folder, {"scale": "capture"}, in_memory(x))
    assert_is(sae, formula(usual(), relu, subtract=True, scale=measured))
    np.testing.assert_allclose(sae.mean.numpy(), x.mean(0), rtol=1e-5)
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": 0.2, "has_whitening": False}))
    assert_is(import_sae(folder), formula(usual(), relu, subtract=True, scale=0.2))
    topk = saelens(tmp_path / "topk", usual(), architecture="topk", k=3, rescale_acts_by_decoder_norm=True, **cfg)
    expected = formula(usual(), lambda a: largest(a, 3), subtract=True, scale=0.3, rescale=True)
    assert_is(import_sae(topk, {"scale": 0.3}), expected)
    with refused("cfg.json", "leave scale out"):
        import_sae(saelens(tmp_path / "plain", usual()), {"scale": 0.3})


def test_weights_of_half_precision_are_what_they_are(tmp_path):
    half = {name: tensor.bfloat16() for name, tensor in usual().items()}
    sae = import_sae(saelens(tmp_path / "sae", half, dtype="bfloat16"))
    assert sae.W_enc.dtype is torch.float32
    assert_is(sae, formula(half, relu))


@pytest.mark.parametrize(
    ("cfg", "parts"),
    [
        ({"normalize_activations": "covariance_whitening"}, ("cannot be folded", "save_inference_model")),
        ({"architecture": "skip_transcoder"}, ("'skip_transcoder'", "W_skip")),
        ({"architecture": "temporal"}, ("'temporal'", "time steps")),
        ({"architecture": "matching_pursuit"}, ("'matching_pursuit'", "passes")),
        ({"architecture": "abstopk"}, ("'abstopk'", "signed")),
        ({"architecture": "magic"}, ("'magic' is not known", "standard, topk")),
        ({"architecture": "topk"}, ("needs k",)),
        ({"architecture": "topk", "k": 99}, ("k is 99",)),
        ({"architecture": "jumprelu"}, ("not the tensors of a 'jumprelu' SAE", "missing: threshold")),
        ({"architecture": "gated"}, ("missing: b_gate, b_mag, r_mag", "not expected: b_enc")),
        ({"d_sae": 11}, ("'W_enc' has shape [6, 10]", "[6, 11]")),
        ({"d_in": None}, ("d_in",)),
        ({"use_error_term": True}, ("use_error_term",)),
        ({"reshape_activations": "upside_down"}, ("'upside_down'",)),
        ({"architecture": "transcoder", "apply_b_dec_to_input": True}, ("apply_b_dec_to_input",)),
        ({"metadata": {"sae_lens_version": "5.1.0"}, "activation_fn": "tanh-relu"}, ("'tanh-relu'",)),
    ],
)
def test_saelens_folders_that_are_refused(tmp_path, cfg, parts):
    folder = saelens(tmp_path / "sae", usual(), **cfg)
    with refused(str(folder), *parts):
        import_sae(folder)


def test_broken_saelens_folders_are_refused(tmp_path):
    folder = saelens(tmp_path / "sae", usual() | {"b_enc": torch.full((M,), torch.nan)})
    with refused("sae_weights.safetensors", "'b_enc'", "NaN"):
        import_sae(folder)
    saelens(folder, usual() | {"b_enc": torch.zeros(M, dtype=torch.int64)})
    with refused("sae_weights.safetensors", "'b_enc'", "int64"):
        import_sae(folder)
    (folder / "cfg.json").write_text((folder / "cfg.json").read_text().replace('"m"', "NaN"))
    saelens_weights = folder / "sae_weights.safetensors"
    save_file(usual(), saelens_weights)
    with refused(str(folder), "NaN"):
        import_sae(folder)
    saelens(folder, usual())
    saelens_weights.write_bytes(saelens_weights.read_bytes()[:-9])
    with refused("sae_weights.safetensors", "not a whole safetensors file"):
        import_sae(folder)
    saelens_weights.unlink()
    with refused("sae_weights.safetensors", "no such file"):
        import_sae(folder)


def test_frequencies_of_latents_come_along(tmp_path):
    folder = saelens(tmp_path / "sae", usual())
    frequencies = numbers(2, sparsity=(M,))
    save_file(frequencies, folder / "sparsity.safetensors")
    import_folder(folder, tmp_path / "ours")
    export_sae(tmp_path / "ours", "saelens", tmp_path / "again")
    copies = {(tmp_path / where / "sparsity.safetensors").read_bytes() for where in ("sae", "ours", "again")}
    assert len(copies) == 1
    save_file(numbers(2, sparsity=(M + 1,)), folder / "sparsity.safetensors")
    with refused("sparsity.safetensors", "[11]"):
        import_folder(folder, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


# dictionary_learning folders


def linear(tensors, **names):
    """As its linear layers keep matrices: transposed."""
    turned = {"W_enc": "encoder.weight", "W_dec": "decoder.weight"} | names
    return {
        turned.get(name, name): tensor.T.contiguous() if name in ("W_enc", "W_dec") else tensor
        for name, tensor in tensors.items()
    }


def dictionary(folder, tensors, dict_class, **trainer):
    """A folder as dictionary_learning 0.1.0 writes it."""
    folder.mkdir(exist_ok=True)
    torch.save(tensors, folder / "ae.pt")
    record = {"trainer": {"dict_class": dict_class, **trainer}, "buffer": {"d_submodule": D}}
    (folder / "config.json").write_text(json.dumps(record))
    return folder


def selecting(threshold):
    return {"k": torch.tensor(3, dtype=torch.int32), "threshold": torch.tensor(threshold)}


def unit(tensors):
    """Norms moved from decoder to encoder, which is how it loads an AutoEncoder."""
    norms = tensors["W_dec"].double().norm(dim=1)
    return tensors | {
        "W_enc": tensors["W_enc"].double() * norms,
        "b_enc": tensors["b_enc"].double() * norms,
        "W_dec": tensors["W_dec"].double() / norms[:, None],
    }


CLASSES = {
    "AutoEncoder": (
        "standard",
        lambda: linear(usual(), b_enc="encoder.bias", b_dec="bias"),
        lambda: formula(unit(usual()), relu, subtract=True),
    ),
    "AutoEncoderNew": (
        "standard",
        lambda: linear(usual(), b_enc="encoder.bias", b_dec="decoder.bias"),
        lambda: formula(usual(), relu),
    ),
    "GatedAutoEncoder": (
        "gated",
        lambda: linear(gate(), b_gate="gate_bias", b_mag="mag_bias", b_dec="decoder_bias"),
        lambda: gated(gate(), subtract=True),
    ),
    "JumpReluAutoEncoder": (
        "jumprelu",
        lambda: usual() | numbers(3, threshold=(M,)),
        lambda: formula(usual(), above(numbers(3, threshold=(M,))["threshold"])),
    ),
    "AutoEncoderTopK": (
        "topk",
        lambda: linear(usual(), b_enc="encoder.bias") | selecting(9.0),  # the threshold is not used
        lambda: formula(usual(), lambda a: largest(a, 3), subtract=True),
    ),
    "BatchTopKSAE": (
        "batch_topk",
        lambda: linear(usual(), b_enc="encoder.bias") | selecting(0.8),
        lambda: formula(usual(), above(torch.tensor(0.8)), subtract=True),
    ),
    "MatryoshkaBatchTopKSAE": (
        "matryoshka",
        lambda: usual() | selecting(-1.0) | {"group_sizes": torch.tensor([1, 3, 6])},
        lambda: formula(usual(), relu, subtract=True),
    ),
}


@pytest.mark.parametrize("name", CLASSES)
def test_dictionary_learning(tmp_path, name):
    architecture, tensors, expected = CLASSES[name]
    folder = dictionary(tmp_path / "sae", tensors(), name)
    sae = import_sae(folder)
    assert sae.cfg.architecture == architecture
    assert sae.cfg.settings.get("k", 3) == 3
    assert sae.cfg.settings.get("prefixes", [0.1, 4, 10]) == [0.1, 4, 10]
    assert_is(sae, expected())
    (folder / "checkpoints").mkdir()
    torch.save(tensors(), folder / "checkpoints" / "ae_500.pt")
    assert_is(import_sae(folder / "checkpoints" / "ae_500.pt"), expected())
    (folder / "config.json").unlink()
    if name in ("AutoEncoderTopK", "BatchTopKSAE"):
        with refused("ae.pt", "AutoEncoderTopK or BatchTopKSAE", "config.json"):
            import_sae(folder)
    else:
        assert_is(import_sae(folder), expected())


@pytest.mark.parametrize(
    ("name", "change", "parts"),
    [
        ("AutoEncoder", lambda t: t.pop("bias"), ("ae.pt", "missing: bias")),
        ("AutoEncoder", lambda t: t.update(extra=torch.ones(1)), ("ae.pt", "not expected: extra")),
        ("AutoEncoder", lambda t: t.update(bias=torch.ones(M)), ("ae.pt", "'bias' has shape [10]", "[6]")),
        ("BatchTopKSAE", lambda t: t.update(threshold=torch.ones(M)), ("ae.pt", "'threshold' has shape [10]", "[]")),
        ("MatryoshkaBatchTopKSAE", lambda t: t.update(group_sizes=torch.tensor([1, 3])), ("ae.pt", "group_sizes")),
        ("GatedAutoEncoder", lambda t: t.update({"encoder.weight": torch.ones(3)}), ("ae.pt", "'encoder.weight'")),
        ("JumpReluAutoEncoder", lambda t: t.update(b_enc=torch.full((M,), torch.inf)), ("ae.pt", "'b_enc'", "NaN")),
    ],
)
def test_wrong_tensors_of_a_dictionary_are_refused(tmp_path, name, change, parts):
    tensors = CLASSES[name][1]()
    change(tensors)
    with refused(*parts):
        import_sae(dictionary(tmp_path / "sae", tensors, name))


def test_unknown_dictionaries_are_refused(tmp_path):
    tensors = CLASSES["AutoEncoder"][1]()
    with refused("config.json", "'CrossCoder' is not known", "AutoEncoder"):
        import_sae(dictionary(tmp_path / "sae", tensors, "CrossCoder"))
    dictionary(tmp_path / "sae", tensors | {"more": torch.ones(1)}, "AutoEncoder")
    (tmp_path / "sae" / "config.json").write_text("{}")
    with refused("config.json", "no known dictionary class"):
        import_sae(tmp_path / "sae")
    with refused("scale has no meaning for a dictionary_learning SAE"):
        import_sae(dictionary(tmp_path / "sae", tensors, "AutoEncoder"), {"scale": 2})


# State dicts


def write_dict(path, tensors):
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_state_dicts(tmp_path, suffix):
    path = write_dict(tmp_path / f"tuned{suffix}", usual())
    with refused(str(path), "does not say whether b_dec is subtracted", "subtract_b_dec"):
        import_sae(path)
    for subtract in (False, True):
        options = {"subtract_b_dec": subtract}
        assert_is(import_sae(path, options), formula(usual(), relu, subtract=subtract))
        topk = import_sae(path, options | {"k": 2, "scale": 0.5})
        assert_is(topk, formula(usual(), lambda a: largest(a, 2), subtract=subtract, scale=0.5))
    theta = numbers(3, threshold=(M,))
    sae = import_sae(write_dict(path, usual() | theta), {"subtract_b_dec": False})
    assert_is(sae, formula(usual(), above(theta["threshold"])))
    sae = import_sae(write_dict(path, gate()), {"subtract_b_dec": True})
    assert_is(sae, gated(gate(), subtract=True))
    centred = usual() | {"b_dec": torch.zeros(D)}
    assert_is(import_sae(write_dict(path, centred)), formula(centred, relu))


@pytest.mark.parametrize("turned", [("W_enc",), ("W_dec",), ("W_enc", "W_dec")])
def test_transposed_state_dicts_are_recognised_by_their_shapes(tmp_path, turned):
    tensors = {name: tensor.T if name in turned else tensor for name, tensor in usual().items()}
    path = write_dict(tmp_path / "sae.pt", tensors)
    assert_is(import_sae(path, {"subtract_b_dec": False}), formula(usual(), relu))
    with refused("contradict transposed"):
        import_sae(path, {"subtract_b_dec": False, "transposed": turned == ("W_enc",)})


def test_square_state_dicts_need_to_be_told(tmp_path):
    tensors = numbers(W_enc=(D, D), b_enc=(D,), W_dec=(D, D), b_dec=(D,))
    path = write_dict(tmp_path / "sae.safetensors", tensors)
    with refused(str(path), "'W_enc' is square", "transposed"):
        import_sae(path, {"subtract_b_dec": False})
    assert_is(import_sae(path, {"subtract_b_dec": False, "transposed": False}), formula(tensors, relu))
    other = tensors | {name: tensors[name].T for name in ("W_enc", "W_dec")}
    assert_is(import_sae(path, {"subtract_b_dec": False, "transposed": True}), formula(other, relu))


def test_transcoders_as_state_dicts(tmp_path):
    path = write_dict(tmp_path / "sae.pt", usual(D_OUT))
    with refused(str(path), "is a transcoder", "output_site"):
        import_sae(path, {"subtract_b_dec": False})
    with refused(str(path), "another width"):
        import_sae(path, {"subtract_b_dec": True, "output_site": "out"})
    sae = import_sae(path, {"subtract_b_dec": False, "output_site": "out"})
    assert (sae.cfg.architecture, sae.cfg.d_out) == ("transcoder", D_OUT)
    assert_is(sae, formula(usual(D_OUT), relu))


@pytest.mark.parametrize(
    ("change", "options", "parts"),
    [
        (lambda t: t.pop("W_dec"), {}, ("missing: W_dec",)),
        (lambda t: t.pop("b_enc"), {}, ("missing: b_enc",)),
        (lambda t: t.update(W_skip=torch.ones(D, D)), {}, ("not expected: W_skip",)),
        (lambda t: t.update(b_dec=torch.ones(D + 1)), {}, ("'W_dec' has shape [10, 6]", "width 7")),
        (lambda t: t.update(W_enc=torch.ones(D)), {}, ("'W_enc' has shape [6]",)),
        (lambda t: t.update(k=torch.tensor(3)), {"k": 4}, ("'k'",)),
        (lambda t: t.update(k=torch.tensor([3, 4])), {}, ("'k'",)),
        (lambda t: t.update(threshold=torch.ones(3)), {}, ("'threshold' has shape [3]",)),
        (lambda t: t.update(W_enc=torch.ones(D, M) / 0), {}, ("'W_enc'", "NaN or infinity")),
        (lambda t: t.update(b_enc=torch.full((M,), 1e300, dtype=torch.float64)), {}, ("'b_enc'", "float32")),
        (lambda t: None, {"k": 0}, ("k is 0; it must be a whole number, at least 1",)),
        (lambda t: None, {"sacle": 1}, ("unknown key 'sacle'", "'scale'")),
    ],
)
def test_state_dicts_that_are_refused(tmp_path, change, options, parts):
    tensors = usual()
    change(tensors)
    path = write_dict(tmp_path / "sae.pt", tensors)
    with refused(str(path), *parts):
        import_sae(path, {"subtract_b_dec": False} | options)


def test_pickles_are_refused_and_never_run(tmp_path):
    mark = tmp_path / "mark"
    dictionary(tmp_path / "sae", usual() | {"b_enc": Evil(mark)}, "AutoEncoder")
    write_dict(tmp_path / "sae.pt", usual() | {"b_enc": Evil(mark)})
    for path, named in ((tmp_path / "sae", "ae.pt"), (tmp_path / "sae.pt", "sae.pt")):
        with refused(named, "holds exec", "run when loaded"):
            import_sae(path)
    assert not mark.exists()
    torch.save([1, 2], tmp_path / "sae.pt")
    with refused("sae.pt", "a dict from names to tensors"):
        import_sae(tmp_path / "sae.pt")


def test_what_is_no_sae_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "sae.npz").write_bytes(b"")
    for name, part in (("gone", "no such file or folder"), ("empty", "SAELens"), ("sae.npz", "dictionary_learning")):
        with refused(str(tmp_path / name), part):
            import_sae(tmp_path / name)
    save_sae(tmp_path / "ours", random_sae("standard"))
    with refused(str(tmp_path / "ours"), "already"):
        import_sae(tmp_path / "ours")


# Ours


KNOWN = {
    "topk": {"k": 2},
    "batch_topk": {"k": 2},
    "matryoshka": {"k": 2, "prefixes": [0.25, 0.5]},
    "transcoder": {"sparsity": 1.0, "output_site": "out"},
}
EXPORTS = {
    "saelens": set(ARCHITECTURES) - {"linear"},
    "dictionary_learning": set(ARCHITECTURES) - {"linear", "transcoder"},
    "state_dict": set(ARCHITECTURES),
}
PAIRS = [(name, architecture) for name, known in EXPORTS.items() for architecture in sorted(known)]


def random_sae(architecture, d=D, m=M, d_out=None, seed=0, **more):
    """An SAE with random weights of the size that training gives them; decoder rows have norm 1 where they do there."""
    settings = resolve({"architecture": architecture, "latents": m} | KNOWN.get(architecture, {"sparsity": 1.0}) | more)
    d_out = d_out or d
    tensors = numbers(seed, **build(settings).shapes(d, d_out))
    tensors["W_enc"] /= d**0.5
    tensors["W_dec"] /= d_out**0.5
    if architecture not in ("standard", "linear", "transcoder"):
        tensors["W_dec"] /= tensors["W_dec"].norm(dim=1, keepdim=True)
    if architecture == "tied":
        tensors["W_enc"] = tensors["W_dec"].T.contiguous()
    if "threshold" in tensors:
        tensors["threshold"] = tensors["threshold"].abs()
    normalisation = {"centre": True, "scale": 0.25, "mean": [0.5] * d_out}
    cfg = SAEConfig(architecture, d, m, d_out, settings, normalisation, 0.0, output_site=settings["output_site"])
    return SAE(cfg, tensors)


def destination(folder, name, suffix=".safetensors"):
    return folder / (f"sae{suffix}" if name == "state_dict" else "sae")


@given(
    pair=st.sampled_from(PAIRS),
    d=st.integers(1, 9),
    m=st.integers(2, 20),
    widen=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_round_trips(tmp_path_factory, pair, d, m, widen, seed):
    name, architecture = pair
    folder = tmp_path_factory.mktemp("trip")
    sae = random_sae(architecture, d, m, d + widen if architecture == "transcoder" else d, seed)
    save_sae(folder / "ours", sae)
    export_sae(folder / "ours", name, destination(folder, name))
    options = {"output_site": "out"} if architecture == "transcoder" else {}
    back = import_sae(destination(folder, name), options)
    x = torch.randn(30, d, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(back.encode(x), sae.encode(x), rtol=1e-5, atol=1e-5)
    f = sae.encode(x)
    torch.testing.assert_close(back.decode(f), sae.decode(f), rtol=1e-5, atol=1e-5)
    same = {"plain_l1": "standard", "tied": "standard"} if name != "state_dict" else {}
    assert back.cfg.architecture == same.get(architecture, architecture)
    for known in ("k", "output_site"):
        assert back.cfg.settings.get(known) == sae.cfg.settings.get(known)


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - {"linear"}))
def test_tensors_alone_give_the_same_function(tmp_path, architecture):
    """As .pt, which has no room for the architecture's name."""
    sae = random_sae(architecture)
    save_sae(tmp_path / "ours", sae)
    export_sae(tmp_path / "ours", "state_dict", tmp_path / "sae.pt")
    options = {"subtract_b_dec": False} | ({"output_site": "out"} if architecture == "transcoder" else {})
    x = torch.from_numpy(rows()).float()
    back = import_sae(tmp_path / "sae.pt", options)
    torch.testing.assert_close(back.encode(x), sae.encode(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(back(x), sae(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["jumprelu", "topk", "gated"])
def test_transcoders_of_other_architectures(tmp_path, architecture):
    sae = random_sae(architecture, d_out=D_OUT, output_site="out")
    save_sae(tmp_path / "ours", sae)
    with refused("dictionary_learning has no equal of a transcoder", "state_dict"):
        export_sae(tmp_path / "ours", "dictionary_learning", tmp_path / "dl")
    x = torch.from_numpy(rows()).float()
    places = [("state_dict", tmp_path / "sae.safetensors")]
    if architecture == "jumprelu":
        places.append(("saelens", tmp_path / "lens"))
    else:
        with refused(f"SAELens has no equal of a '{architecture}' transcoder"):
            export_sae(tmp_path / "ours", "saelens", tmp_path / "lens")
    for name, path in places:
        export_sae(tmp_path / "ours", name, path)
        torch.testing.assert_close(import_sae(path, {"output_site": "out"})(x), sae(x), rtol=1e-5, atol=1e-5)


def test_a_file_that_says_what_it_is_needs_no_options(tmp_path):
    save_sae(tmp_path / "ours", random_sae("topk"))
    export_sae(tmp_path / "ours", "state_dict", tmp_path / "sae.safetensors")
    with refused("sae.safetensors", "says itself what it is", "subtract_b_dec"):
        import_sae(tmp_path / "sae.safetensors", {"subtract_b_dec": False})
    for text, part in (
        ("{", "not JSON"),
        ("[]", "this is []; it must be a mapping"),
        ('{"settings": {}}', "is missing"),
    ):
        save_file(usual(), tmp_path / "sae.safetensors", {"policylens": text})
        with refused("sae.safetensors: ", "metadata 'policylens'", part):
            import_sae(tmp_path / "sae.safetensors")


def test_what_cannot_be_exported_is_refused(tmp_path):
    save_sae(tmp_path / "ours", random_sae("linear"))
    for name in ("saelens", "dictionary_learning"):
        with refused("no equal of a 'linear' SAE", "state_dict"):
            export_sae(tmp_path / "ours", name, tmp_path / "out")
    with refused("sae.pt", "linear"):
        export_sae(tmp_path / "ours", "state_dict", tmp_path / "sae.pt")
    with refused("sae.npz", ".safetensors"):
        export_sae(tmp_path / "ours", "state_dict", tmp_path / "sae.npz")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_and_imports_are_the_same_to_the_byte(tmp_path, name):
    save_sae(tmp_path / "ours", random_sae("topk"))
    suffix = ".pt"
    for where in ("one", "two"):
        (tmp_path / where).mkdir()
        export_sae(tmp_path / "ours", name, destination(tmp_path / where, name, suffix))
        options = {"subtract_b_dec": False} if name == "state_dict" else {}
        import_folder(destination(tmp_path / where, name, suffix), tmp_path / where / "back", options)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    for other in ("a.pt", "b.pt"):
        export_sae(tmp_path / "ours", "state_dict", tmp_path / other)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes(), "the file's own name is not in it"
    assert str(tmp_path) not in (tmp_path / "one" / "back" / "cfg.json").read_text()


def test_an_imported_sae_says_what_it_was(tmp_path):
    folder = saelens(tmp_path / "sae", usual(), apply_b_dec_to_input=True)
    import_folder(folder, tmp_path / "ours", origin={"policy": "p", "site": "s"})
    sae = load_sae(tmp_path / "ours")
    imported = sae.cfg.imported
    assert (imported["format"], imported["architecture"], sorted(imported["files"])) == (
        "saelens",
        "standard",
        ["cfg.json", "sae_weights.safetensors"],
    )
    assert imported["config"]["apply_b_dec_to_input"] is True
    assert (sae.cfg.policy, sae.cfg.site, sae.cfg.seed, sae.cfg.active_threshold) == ("p", "s", None, 0.0)
    with refused("imported without a capture", "mean"):
        sae.mean  # noqa: B018
    assert_is(sae, formula(usual(), relu, subtract=True))


@pytest.mark.parametrize("name", ["AutoEncoderNew", "JumpReluAutoEncoder", "GatedAutoEncoder", "BatchTopKSAE"])
def test_training_can_go_on_from_an_imported_sae(tmp_path, name):
    """A step that changes nothing leaves the function as it was."""
    tensors = {key: value / 3 for key, value in CLASSES[name][1]().items() if key != "k"}
    if "decoder.weight" in tensors:
        tensors["decoder.weight"] = tensors["decoder.weight"] / tensors["decoder.weight"].norm(dim=0)
    else:
        tensors["W_dec"] = tensors["W_dec"] / tensors["W_dec"].norm(dim=1, keepdim=True)
        tensors["threshold"] = tensors["threshold"].abs()
    kept = {"k": torch.tensor(3, dtype=torch.int32)} if name == "BatchTopKSAE" else {}
    import_folder(dictionary(tmp_path / "sae", tensors | kept, name), tmp_path / "ours")
    start = load_sae(tmp_path / "ours")
    own = {
        key: start.cfg.settings[key]
        for key in ("architecture", "latents", "sparsity", "k")
        if key in start.cfg.settings
    }
    settings = own | {"steps": 1, "batch_rows": 8, "learning_rate": 1e-12, "rescale": False, "log_points": 1}
    if own["architecture"] == "batch_topk":
        settings["threshold_decay"] = 1.0
    x = rows().astype(np.float32)
    trained, _ = train(x, settings, 0, start=start)
    torch.testing.assert_close(trained(torch.from_numpy(x)), start(torch.from_numpy(x)), rtol=1e-4, atol=1e-4)


# As people and the workflow run it


@pytest.fixture
def capture(tmp_path):
    """A capture of 60 episodes with a site of width D and one of width D_OUT."""
    generator = np.random.default_rng(0)
    sites = {"site": D, "out": D_OUT}
    arrays = {name: generator.normal(1, 2, size=(300, width)).astype(np.float32) for name, width in sites.items()}
    np.savez(tmp_path / "own.npz", episode=np.repeat(np.arange(60), 5), **arrays)
    import_activations(
        tmp_path / "own.npz",
        tmp_path / "capture" / "part-0000.zarr",
        list(sites),
        dtype="float32",
        fractions=SPLIT,
        salt="own",
        each_row_is_an_episode=False,
        first_episode=0,
        attributes={},
    )
    write_index(tmp_path / "capture", ["part-0000"])
    return tmp_path / "capture"


def training_mean(capture, site):
    table = open_table(capture)
    return table.array(site).read(np.flatnonzero(table.coordinate("split") == TRAIN)).mean(0)


def test_the_workflows_script_takes_the_mean_from_a_capture(tmp_path, capture):
    saelens(tmp_path / "sae", usual(D_OUT), architecture="transcoder", d_out=D_OUT)
    words = ["--from", tmp_path / "sae", "--out", tmp_path / "ours", "--capture", capture, "--output-site", "out"]
    run_here("workflow_scripts/import_sae.py", *words, "--site", "site")
    sae = load_sae(tmp_path / "ours")
    np.testing.assert_allclose(sae.mean.numpy(), training_mean(capture, "out"), rtol=1e-5)
    np.testing.assert_allclose(
        activations.training_mean(open_table(capture), "out"), training_mean(capture, "out"), 1e-5
    )
    assert (sae.cfg.capture, sae.cfg.site, sae.cfg.output_site) == ("capture", "site", "out")
    line = clear_line(run(script_command("import_sae", *words, "--site", "out")))
    assert "is an SAE of width 6 -> 4, but the capture's site has 4 -> 4" in line


def test_the_command_line(tmp_path, capture):
    cfg = {"normalize_activations": "expected_average_only_in"}
    saelens(tmp_path / "sae", usual(), **cfg)
    words = ["sae", "import", tmp_path / "sae", "--out", tmp_path / "ours"]
    line = clear_line(policylens(*words))
    assert line.startswith(f"{tmp_path}/sae/cfg.json: normalize_activations is 'expected_average_only_in'")
    told = ["--capture", capture, "--site", "site", "--scale", "capture", "--policy", "me"]
    result = policylens(*words, *told)
    assert result.returncode == 0, result.stderr
    assert load_sae(tmp_path / "ours").cfg.policy == "me"
    result = policylens("sae", "export", tmp_path / "ours", "--format", "saelens", "--out", tmp_path / "theirs")
    assert result.returncode == 0, result.stderr
    x = torch.from_numpy(rows()).float()
    assert torch.equal(import_sae(tmp_path / "theirs")(x), load_sae(tmp_path / "ours")(x))


@pytest.fixture
def hub():
    """A running hub whose repository holds an SAE of each format."""
    handler = type("OneHub", (Hub,), {"asked": [], "files": {}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.address = f"http://127.0.0.1:{server.server_port}"
    yield handler
    server.shutdown()
    server.server_close()


BRING = """
import json, sys
from policylens.errors import UserError
from policylens.sae.interchange.importing import import_folder

for address, out, options in json.loads(sys.argv[1]):
    try:
        import_folder(address, out, options)
        print("well")
    except UserError as error:
        print(error)
"""


def bring(env, *wanted):
    """Import in a process of its own, since the hub's address is read once; what each said."""
    done = run(
        [sys.executable, "-c", BRING, json.dumps([[a, str(out), options] for a, out, options in wanted])], env=env
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_saes_come_from_the_hub(tmp_path, hub):
    saelens(tmp_path / "lens", usual())
    dictionary(tmp_path / "dl", CLASSES["BatchTopKSAE"][1](), "BatchTopKSAE")
    (tmp_path / "plain").mkdir()
    write_dict(tmp_path / "plain" / "sae.pt", usual())
    for name in ("lens", "dl", "plain"):
        hub.files |= {f"{name}/{file}": content for file, content in tree(tmp_path / name).items()}
    there = {"lens": {}, "dl": {}, "dl/ae.pt": {}, "plain/sae.pt": {"subtract_b_dec": False}}
    wanted = [(f"hf://org/repo@v1/{path}", tmp_path / "out" / path, options) for path, options in there.items()]
    absent = [f"hf://org/{place}" for place in ("repo@v1/gone", "none@v1/gone", "repo@main/lens")]
    env = variables(tmp_path, hub.address)
    said = bring(env, *wanted, *((address, tmp_path / "x", {}) for address in absent))
    assert said[:4] == ["well"] * 4
    assert said[4].startswith("hf://org/repo@v1/gone: holds neither cfg.json (SAELens) nor config.json")
    assert said[5].startswith("hf://org/none@v1/gone/cfg.json: cannot be downloaded (")
    assert "pinned" in said[6]
    x = torch.from_numpy(rows()).float()
    for path, options in there.items():
        sae = load_sae(tmp_path / "out" / path)
        assert sae.cfg.imported["from"] == {"hub": "org/repo", "path": path, "revision": "v1", "commit": COMMIT}
        assert torch.equal(sae(x), import_sae(tmp_path / path, options)(x))
    gone = variables(tmp_path, "http://127.0.0.1:9") | {"HF_HUB_OFFLINE": "1"}
    addresses = [f"hf://org/repo@{COMMIT}/{path}" for path in ("lens", "dl", "gone")]
    *cached, never = bring(gone, *((address, tmp_path / "cached", {}) for address in addresses))
    assert cached == ["well", "well"], "what is in the cache under a commit needs no network"
    assert "cannot be downloaded (no network)" in never
