"""SAELens itself saves what is imported, and loads what is exported: encode and decode agree to 1e-5, both ways."""

import json

import pytest
import torch
from agreement import assert_same, assert_same_rows
from sae_made import normalising
from test_sae_interchange import EXPORTS, random_sae

from policylens.sae.files import save_sae
from policylens.sae.interchange.exporting import export_sae
from policylens.sae.interchange.importing import import_folder, import_sae

sae_lens = pytest.importorskip("sae_lens", reason="SAELens is in the environment `interop` alone: make test-all")

D, M, D_OUT, K = 24, 64, 16, 5


def inputs():
    return torch.randn(200, D, generator=torch.Generator().manual_seed(1))


def randomised(sae, seed=0):
    """Its parameters drawn anew at the size that training gives them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            size = D**-0.5 if name.startswith("W") else 1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
            if name == "threshold":
                parameter.abs_()
    return sae


def inference(name, **options):
    """An SAE of SAELens for inference, with random weights."""
    kinds = {
        "standard": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig),
        "topk": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig),
        "jumprelu": (sae_lens.JumpReLUSAE, sae_lens.JumpReLUSAEConfig),
        "gated": (sae_lens.GatedSAE, sae_lens.GatedSAEConfig),
        "transcoder": (sae_lens.Transcoder, sae_lens.TranscoderConfig),
        "jumprelu_transcoder": (sae_lens.JumpReLUTranscoder, sae_lens.JumpReLUTranscoderConfig),
    }
    own, config = kinds[name]
    return randomised(own(config(d_in=D, d_sae=M, **options)))


def training(name, **options):
    """An SAE of SAELens in training, after some steps of Adam."""
    kinds = {
        "standard": (sae_lens.StandardTrainingSAE, sae_lens.StandardTrainingSAEConfig),
        "topk": (sae_lens.TopKTrainingSAE, sae_lens.TopKTrainingSAEConfig),
        "batchtopk": (sae_lens.BatchTopKTrainingSAE, sae_lens.BatchTopKTrainingSAEConfig),
        "matryoshka": (sae_lens.MatryoshkaBatchTopKTrainingSAE, sae_lens.MatryoshkaBatchTopKTrainingSAEConfig),
        "jumprelu": (sae_lens.JumpReLUTrainingSAE, sae_lens.JumpReLUTrainingSAEConfig),
        "gated": (sae_lens.GatedTrainingSAE, sae_lens.GatedTrainingSAEConfig),
    }
    from sae_lens.saes.sae import TrainStepInput

    torch.manual_seed(0)
    own, config = kinds[name]
    sae = own(config(d_in=D, d_sae=M, **options))
    optimiser = torch.optim.Adam(sae.parameters(), 0.01)
    for step in range(30):
        coefficients = {n: getattr(c, "value", c) * 0.01 for n, c in sae.get_coefficients().items()}
        out = sae.training_forward_pass(TrainStepInput(inputs(), coefficients, None, step, False))
        optimiser.zero_grad()
        out.loss.backward()
        optimiser.step()
    return sae


def load(folder):
    return sae_lens.SAE.load_from_disk(folder, device="cpu")


@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("standard", {}),
        ("topk", {"k": K}),
        ("topk", {"k": K, "rescale_acts_by_decoder_norm": True}),
        ("jumprelu", {}),
        ("gated", {}),
    ],
)
def test_from_saelens(tmp_path, name, options, subtract):
    inference(name, apply_b_dec_to_input=subtract, **options).save_model(tmp_path)
    assert_same(load(tmp_path), import_sae(tmp_path), inputs())


ROW_NORMS = {"layer_norm": "layer_norm", "constant_norm_rescale": "rms"}


@pytest.mark.parametrize("how", ROW_NORMS)
@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize(("name", "options"), [("standard", {}), ("topk", {"k": K}), ("jumprelu", {}), ("gated", {})])
def test_rows_normalised_by_themselves(tmp_path, name, options, subtract, how):
    """As it is, after SAELens has trained it, and as it is written here, loaded there."""
    inference(name, apply_b_dec_to_input=subtract, normalize_activations=how, **options).save_model(tmp_path / "one")
    training(name, apply_b_dec_to_input=subtract, normalize_activations=how, **options).save_inference_model(
        tmp_path / "two"
    )
    x = inputs() * 3 + 1
    for folder in (tmp_path / "one", tmp_path / "two"):
        sae = import_sae(folder)
        assert sae.row_norm == ROW_NORMS[how]
        assert_same_rows(load(folder), sae, x)
        save_sae(tmp_path / "ours", sae)
        export_sae(tmp_path / "ours", "saelens", tmp_path / "theirs")
        assert_same_rows(load(tmp_path / "theirs"), sae, x)


@pytest.mark.parametrize("kind", ROW_NORMS.values())
@pytest.mark.parametrize("architecture", sorted(set(EXPORTS["saelens"]) - {"transcoder"}))
def test_rows_normalised_by_themselves_to_saelens(tmp_path, architecture, kind):
    sae = normalising(random_sae(architecture, D, M), kind)
    save_sae(tmp_path / "ours", sae)
    export_sae(tmp_path / "ours", "saelens", tmp_path / "theirs")
    assert_same_rows(load(tmp_path / "theirs"), sae, inputs() * 3 + 1)


@pytest.mark.parametrize("name", ["transcoder", "jumprelu_transcoder"])
def test_transcoders_from_saelens(tmp_path, name):
    inference(name, apply_b_dec_to_input=False, d_out=D_OUT).save_model(tmp_path)
    assert_same(load(tmp_path), import_sae(tmp_path, {"output_site": "out"}), inputs())


@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize(
    ("name", "options", "ours"),
    [
        ("standard", {"l1_coefficient": 2.0}, "standard"),
        ("topk", {"k": K}, "topk"),
        ("topk", {"k": K, "rescale_acts_by_decoder_norm": False}, "topk"),
        ("batchtopk", {"k": K}, "batch_topk"),
        ("batchtopk", {"k": K + 0.5}, "jumprelu"),
        ("matryoshka", {"k": K, "matryoshka_widths": [8, 24, M]}, "matryoshka"),
        ("jumprelu", {}, "jumprelu"),
        ("gated", {}, "gated"),
    ],
)
def test_what_saelens_has_trained(tmp_path, name, options, ours, subtract):
    sae = training(name, apply_b_dec_to_input=subtract, **options)
    sae.save_inference_model(tmp_path / "inference")
    found = import_sae(tmp_path / "inference")
    assert found.cfg.architecture == ours
    assert found.cfg.settings.get("k") == (K if ours in ("topk", "batch_topk", "matryoshka") else None)
    assert found.cfg.settings["sparsity"] == 2.0 if name == "standard" else True
    assert_same(load(tmp_path / "inference"), found, inputs())
    sae.save_model(tmp_path / "checkpoint")
    assert_same(import_sae(tmp_path / "checkpoint"), found, inputs())


def test_a_scale_that_saelens_has_not_folded(tmp_path):
    sae = inference("standard", apply_b_dec_to_input=True, normalize_activations="expected_average_only_in")
    sae.save_model(tmp_path)
    folded = load(tmp_path)
    folded.fold_activation_norm_scaling_factor(0.37)
    # SAELens folds the scale into b_dec, which it subtracts from raw activations: the same function.
    assert_same(folded, import_sae(tmp_path, {"scale": 0.37}), inputs())


@pytest.mark.parametrize(
    "cfg",
    [
        {"hook_point": "blocks.12.hook_resid_post", "apply_b_dec_to_input": False, "normalize_activations": "none"},
        {"hook_name": "blocks.3.hook_resid_pre", "normalize_activations": False, "activation_fn_str": "relu"},
        {"hook_point": "h", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "architecture": "standard"},
    ],
)
def test_folders_of_before_version_6(tmp_path, cfg):
    inference("standard").save_model(tmp_path)
    flat = {"d_in": D, "d_sae": M, "dtype": "torch.float32", "model_name": "gemma-2b-it", "hook_point_layer": 12}
    (tmp_path / "cfg.json").write_text(json.dumps(flat | cfg))
    assert_same(load(tmp_path), import_sae(tmp_path), inputs())


@pytest.mark.parametrize("architecture", sorted(EXPORTS["saelens"]))
def test_to_saelens(tmp_path, architecture):
    d_out = D_OUT if architecture == "transcoder" else D
    sae = random_sae(architecture, D, M, d_out)
    save_sae(tmp_path / "ours", sae)
    export_sae(tmp_path / "ours", "saelens", tmp_path / "theirs")
    theirs = load(tmp_path / "theirs")
    assert_same(theirs, sae, inputs())
    theirs.save_model(tmp_path / "again")
    again = import_sae(tmp_path / "again", {"output_site": "out"} if architecture == "transcoder" else {})
    assert_same(again, sae, inputs())


def test_frequencies_are_where_saelens_looks_for_them(tmp_path):
    from sae_lens.constants import SPARSITY_FILENAME
    from safetensors.torch import load_file, save_file

    inference("standard").save_model(tmp_path / "theirs")
    save_file({"sparsity": torch.linspace(-8, 0, M)}, tmp_path / "theirs" / SPARSITY_FILENAME)
    import_folder(tmp_path / "theirs", tmp_path / "ours")
    export_sae(tmp_path / "ours", "saelens", tmp_path / "again")
    assert torch.equal(load_file(tmp_path / "again" / SPARSITY_FILENAME)["sparsity"], torch.linspace(-8, 0, M))
