"""A language model's SAE, imported and fine-tuned: formats as published, and the sweep of docs/sae_finetuning.md."""

import copy
import itertools
import json

import numpy as np
import pytest
import torch
from pages import config_of
from safetensors.torch import save_file
from support import refused

from policylens.project.config import Config
from policylens.project.sweeps import trained_members
from policylens.sae.interchange.importing import import_sae
from policylens.sae.settings import resolve
from policylens.sae.training import check_start, train

D, M = 6, 12


def tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (D, M), "b_enc": (M,), "W_dec": (M, D), "b_dec": (D,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write_gemma(folder, **more):
    """A folder with what gemma-2b-it-res-jb's cfg.json says of the function, of this size."""
    folder.mkdir(parents=True)
    save_file(tensors() | {"scaling_factor": torch.ones(M)}, folder / "sae_weights.safetensors")
    cfg = {
        "model_name": "gemma-2b-it",
        "hook_point": "blocks.12.hook_resid_post",
        "hook_point_layer": 12,
        "hook_point_head_index": None,
        "prepend_bos": True,
        "d_in": D,
        "d_sae": M,
        "activation_fn_str": "relu",
        "apply_b_dec_to_input": False,
        "finetuning_scaling_factor": False,
        "normalize_activations": "none",
        "dtype": "torch.float32",
        "device": "cuda",
    }
    (folder / "cfg.json").write_text(json.dumps(cfg | more))
    return folder


def rows(count=64):
    return np.random.default_rng(0).normal(size=(count, D)).astype(np.float32)


def check_plain(sae):
    """f = ReLU(x W_enc + b_enc), with no b_dec taken off and nothing scaled."""
    p, x = tensors(), torch.from_numpy(rows())
    f = torch.relu(x @ p["W_enc"] + p["b_enc"])
    assert sae.cfg.architecture == "standard"
    torch.testing.assert_close(sae.encode(x), f, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sae.decode(f), f @ p["W_dec"] + p["b_dec"], atol=1e-5, rtol=1e-5)


def test_the_language_models_sae_is_read_as_it_is(tmp_path):
    check_plain(import_sae(write_gemma(tmp_path / "gemma")))


@pytest.mark.parametrize("nested", [False, True])
def test_a_fine_tuned_state_dict_is_read_as_it_is(tmp_path, nested):
    torch.save({"state_dict": tensors()} if nested else tensors(), tmp_path / "finetuned.pt")
    check_plain(import_sae(tmp_path / "finetuned.pt", {"subtract_b_dec": False}))
    with refused("finetuned.pt", "subtract"):
        import_sae(tmp_path / "finetuned.pt")


@pytest.mark.parametrize("rescale", [False, True])
def test_fine_tuning_begins_where_the_imported_one_is(tmp_path, rescale):
    start = import_sae(write_gemma(tmp_path / "gemma"))
    settings = resolve(
        {
            "architecture": "plain_l1",
            "latents": M,
            "sparsity": 1e-5,
            "steps": 1,
            "batch_rows": 32,
            "learning_rate": 1e-12,
            "rescale": rescale,
        }
    )
    found, _ = train(rows(), settings, seed=0, start=start)
    x = torch.from_numpy(rows())
    torch.testing.assert_close(found(x), start(x), atol=1e-4, rtol=1e-4)


def test_fine_tuning_brings_the_error_down(tmp_path):
    start = import_sae(write_gemma(tmp_path / "gemma"))
    own = {"architecture": "plain_l1", "latents": M, "sparsity": 1e-5, "steps": 300, "batch_rows": 32}
    found, _ = train(rows(), resolve({**own, "learning_rate": 1e-2}), seed=0, start=start)
    x = torch.from_numpy(rows())
    before, after = (float((sae(x) - x).square().mean()) for sae in (start, found))
    assert after < before / 4


def test_another_architecture_cannot_go_on_from_it(tmp_path):
    start = import_sae(write_gemma(tmp_path / "gemma"))
    with refused("its architecture is standard, the training's topk"):
        check_start(start, resolve({"architecture": "topk", "latents": M, "k": 2}), D, D)
    with refused("its latents is 12, the training's 24"):
        check_start(start, resolve({"architecture": "plain_l1", "latents": 2 * M}), D, D)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The page's config, with files as it names them."""
    monkeypatch.chdir(tmp_path)
    write_gemma(tmp_path / "data" / "gemma-2b-it-res-jb")
    torch.save(tensors(), tmp_path / "data" / "sae_finetuned.pt")
    np.savez(tmp_path / "data" / "instructions.npz", language_12=rows(40), episode=np.repeat(np.arange(10), 4))
    return copy.deepcopy(config_of("sae_finetuning.md"))


def test_the_pages_sweep_is_the_studys(config):
    members = trained_members(Config(config)["pi05"].sweeps["finetuned"])
    keys = ("sparsity", "learning_rate", "batch_rows", "row_norm")
    norms = ("none", "mean_abs", "layer_norm")
    grid = itertools.product((1e-5, 3e-5, 1e-4), (3e-5, 1e-4, 3e-4), (128, 256, 512), norms)
    assert sorted(tuple(own.get(key, "none") for key in keys) for own in members.values()) == sorted(grid)
    assert len(members) == 81
    for own in members.values():
        assert own["steps"] == -(-2 * 16_000 // own["batch_rows"]), "two epochs"
        assert (own["gradient_clip"], own["centre"], own["sampling"]) == (None, False, "epochs")
        assert own["rescale"] is False
        assert own["start"] == "results/pi05/libero/sae/base/language_12/gemma"
