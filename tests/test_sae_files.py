"""SAEs on disk: what is saved comes back, and what is damaged is refused by name."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import refused

from policylens.sae.base import SAE, SAEConfig
from policylens.sae.files import load_sae, save_sae
from policylens.sae.settings import resolve
from policylens.stores.files import read_tensors, write_tensors

HISTORY = [{"step": 0, "loss": 2.5}, {"step": 10, "loss": 0.1}]


def random_sae(architecture, d, m, seed, dtype=torch.float32, **names):
    settings = resolve(
        {"architecture": architecture, "latents": m} | {"standard": {"sparsity": 1.0}, "topk": {"k": 1}}[architecture]
    )
    generator = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (d, m), "b_enc": (m,), "W_dec": (m, d), "b_dec": (d,)}
    tensors = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
    normalisation = {"centre": True, "scale": 0.25, "mean": torch.randn(d, generator=generator).tolist()}
    return SAE(
        SAEConfig(
            architecture, d, m, d, settings, normalisation, 0.4, str(dtype).removeprefix("torch."), seed, **names
        ),
        tensors,
    )


@given(
    architecture=st.sampled_from(["standard", "topk"]),
    d=st.integers(1, 9),
    m=st.integers(1, 20),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    policy=st.none() | st.text(max_size=8),
)
def test_round_trip(tmp_path_factory, architecture, d, m, seed, dtype, policy):
    folder = tmp_path_factory.mktemp("sae")
    sae = random_sae(architecture, d, m, seed, dtype, policy=policy)
    save_sae(folder, sae, HISTORY)
    loaded = load_sae(folder)
    assert loaded.cfg == sae.cfg
    x = torch.randn(7, d).to(dtype)
    assert torch.equal(loaded(x), sae(x))
    assert torch.equal(loaded.encode(x), sae.encode(x))


@pytest.fixture
def saved(tmp_path):
    save_sae(tmp_path / "sae", random_sae("topk", 4, 6, 0), HISTORY)
    return tmp_path / "sae"


def test_files_are_what_they_are_called(saved):
    assert sorted(path.name for path in saved.iterdir()) == [
        "cfg.json",
        "sae_weights.safetensors",
        "training.csv",
        "training.json",
    ]
    assert json.loads((saved / "training.json").read_text())["history"] == HISTORY
    assert (saved / "training.csv").read_text() == "step,loss\n0,2.5\n10,0.1\n"
    cfg = json.loads((saved / "cfg.json").read_text())
    assert (cfg["architecture"], cfg["d_in"], cfg["d_sae"], cfg["settings"]["k"]) == ("topk", 4, 6, 1)


def test_truncated_weights_are_refused(saved):
    path = saved / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with refused(str(path)):
        load_sae(saved)


@pytest.mark.parametrize("file", ["sae_weights.safetensors", "cfg.json"])
def test_a_missing_file_is_refused(saved, file):
    (saved / file).unlink()
    with refused(file):
        load_sae(saved)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda t: t.pop("b_dec"), ["missing: b_dec"]),
        (lambda t: t.update(extra=torch.zeros(1)), ["not expected: extra"]),
        (lambda t: t.update(W_enc=torch.zeros(6, 4)), ["'W_enc'", "[6, 4]", "[4, 6]"]),
        (lambda t: t.update(b_enc=torch.zeros(6).double()), ["'b_enc'", "float64"]),
        (lambda t: t.update(b_enc=torch.full((6,), torch.nan)), ["'b_enc'", "NaN"]),
    ],
)
def test_wrong_tensors_are_refused(saved, change, parts):
    path = saved / "sae_weights.safetensors"
    tensors = read_tensors(path)
    change(tensors)
    write_tensors(path, tensors)
    with refused(str(path), *parts):
        load_sae(saved)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda c: c.update(d_sae=7), "contradict"),
        (lambda c: c.update(architecture="standard"), "contradict"),
        (lambda c: c.update(architecture="gated"), "architecture"),
        (lambda c: c.pop("normalisation"), "normalisation"),
        (lambda c: c["normalisation"].update(mean=[0.0]), "mean"),
        (lambda c: c.update(note="x"), "note"),
        (lambda c: c.update(format=2), "format"),
    ],
)
def test_wrong_settings_are_refused(saved, change, part):
    path = saved / "cfg.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with refused(str(path), part):
        load_sae(saved)


def test_an_interrupted_save_leaves_no_sae_that_looks_whole(saved, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("policylens.sae.files.write_tensors", fail)
    with pytest.raises(OSError, match="disk full"):
        save_sae(saved, random_sae("topk", 4, 6, 1), HISTORY)
    with refused("cfg.json"):
        load_sae(saved)


def test_weights_of_another_sae_are_refused(saved, tmp_path):
    save_sae(tmp_path / "other", random_sae("topk", 4, 6, 1), HISTORY)
    (tmp_path / "other" / "sae_weights.safetensors").replace(saved / "sae_weights.safetensors")
    with refused("sae_weights.safetensors", "sha256"):
        load_sae(saved)
