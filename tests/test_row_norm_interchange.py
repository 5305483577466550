"""SAEs that normalise each row, from and for other tools: SAELens' formulas in float64, state dicts, refusals."""

import json

import numpy as np
import pytest
import torch
from sae_made import directions, made, normalising
from support import policylens, refused
from test_sae_interchange import above, exact, largest, relu, rows, saelens, usual

from policylens.sae.files import load_sae, save_sae
from policylens.sae.interchange.exporting import export_sae
from policylens.sae.interchange.importing import import_sae

THEIRS = {"layer_norm": "layer_norm", "constant_norm_rescale": "rms"}


def scaled(x, how):
    """SAELens' own arithmetic: (rows into the SAE, what brings them back)."""
    if how == "constant_norm_rescale":
        factor = x.shape[1] ** 0.5 / np.linalg.norm(x, axis=1, keepdims=True)
        return x * factor, lambda y: y / factor
    mean, spread = x.mean(1, keepdims=True), x.std(1, ddof=1, keepdims=True)
    return (x - mean) / (spread + 1e-5), lambda y: y * spread + mean


def check(sae, tensors, act, how, subtract=False):
    """Encode, and the reconstruction in the rows' own units, are SAELens' formulas."""
    t = exact(tensors)
    inside, back = scaled(rows(), how)
    f = act((inside - (t["b_dec"] if subtract else 0)) @ t["W_enc"] + t["b_enc"])
    wide, x = sae.to(dtype=torch.float64), torch.from_numpy(rows())
    torch.testing.assert_close(wide.encode(x), torch.from_numpy(f), rtol=1e-5, atol=2e-6)
    expected = torch.from_numpy(back(f @ t["W_dec"] + t["b_dec"]))
    torch.testing.assert_close(wide(x), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("how", THEIRS)
@pytest.mark.parametrize("subtract", [False, True])
def test_from_saelens(tmp_path, how, subtract):
    cfg = {"normalize_activations": how, "apply_b_dec_to_input": subtract}
    sae = import_sae(saelens(tmp_path / "plain", usual(), **cfg))
    assert sae.row_norm == THEIRS[how]
    check(sae, usual(), relu, how, subtract)
    sae = import_sae(saelens(tmp_path / "topk", usual(), architecture="topk", k=3, **cfg))
    check(sae, usual(), lambda a: largest(a, 3), how, subtract)
    theta = torch.linspace(0.1, 1, 10)
    sae = import_sae(saelens(tmp_path / "jump", usual() | {"threshold": theta}, architecture="jumprelu", **cfg))
    check(sae, usual(), above(theta), how, subtract)


def test_before_version_6(tmp_path):
    folder = saelens(tmp_path / "sae", usual())
    flat = {"d_in": 6, "d_sae": 10, "hook_point": "h", "normalize_activations": "layer_norm"}
    (folder / "cfg.json").write_text(json.dumps(flat | {"apply_b_dec_to_input": False}))
    check(import_sae(folder), usual(), relu, "layer_norm")


@pytest.mark.parametrize("how", THEIRS)
def test_there_and_back(tmp_path, how):
    sae = import_sae(saelens(tmp_path / "sae", usual(), normalize_activations=how))
    save_sae(tmp_path / "ours", sae)
    assert load_sae(tmp_path / "ours").row_norm == THEIRS[how]
    export_sae(tmp_path / "ours", "saelens", tmp_path / "again")
    assert json.loads((tmp_path / "again" / "cfg.json").read_text())["normalize_activations"] == how
    export_sae(tmp_path / "ours", "state_dict", tmp_path / "again.safetensors")
    x = torch.from_numpy(rows()).float()
    for again in (import_sae(tmp_path / "again"), import_sae(tmp_path / "again.safetensors")):
        assert again.row_norm == THEIRS[how]
        assert torch.equal(again(x), sae(x))


def test_a_state_dict_is_told(tmp_path):
    torch.save(usual(), tmp_path / "sae.pt")
    own = {"subtract_b_dec": False, "transposed": False}
    assert import_sae(tmp_path / "sae.pt", own).row_norm is None
    sae = import_sae(tmp_path / "sae.pt", own | {"row_norm": "layer_norm"})
    check(sae, usual(), relu, "layer_norm")
    with refused("sae.pt", "leave scale out"):
        import_sae(tmp_path / "sae.pt", own | {"row_norm": "layer_norm", "scale": 0.5})
    told = ["--subtract-b-dec", "false", "--transposed", "false", "--row-norm", "mean_abs"]
    assert policylens("sae", "import", tmp_path / "sae.pt", *told, "--out", tmp_path / "ours").returncode == 0
    assert load_sae(tmp_path / "ours").row_norm == "mean_abs"


def test_what_cannot_be_said_is_refused(tmp_path):
    for kind in ("layer_norm", "mean_abs"):
        save_sae(tmp_path / kind, normalising(made(directions(9, 6)), kind))
        with refused("sae.pt", f"row_norm {kind}", ".safetensors"):
            export_sae(tmp_path / kind, "state_dict", tmp_path / "sae.pt")
        with refused("dictionary_learning", f"row_norm {kind}"):
            export_sae(tmp_path / kind, "dictionary_learning", tmp_path / "theirs")
    with refused("SAELens has no equal of row_norm mean_abs"):
        export_sae(tmp_path / "mean_abs", "saelens", tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()
    with refused("cfg.json", "leave scale out"):
        import_sae(saelens(tmp_path / "sae", usual(), normalize_activations="layer_norm"), {"scale": 0.3})
    transcoder = saelens(
        tmp_path / "tc", usual(), architecture="transcoder", d_out=6, normalize_activations="layer_norm"
    )
    with refused(str(transcoder), "transcoder", "row_norm layer_norm"):
        import_sae(transcoder, {"output_site": "out"})


def test_another_kind_in_a_file_is_refused(tmp_path):
    save_sae(tmp_path / "sae", normalising(made(directions(9, 6)), "layer_norm"))
    path = tmp_path / "sae" / "cfg.json"
    path.write_text(path.read_text().replace('"layer_norm"', '"group_norm"'))
    with refused(str(path), "group_norm"):
        load_sae(tmp_path / "sae")
