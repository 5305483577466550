"""The published VLA directions: their statistics come out, from the files that were published."""

import json
import sys

import numpy as np
import pytest
import torch
import yaml
from sae_made import directions as unit_rows
from sae_made import made as sae_made
from support import REPOSITORY, environment, refused, run, run_here

from policylens.directions.published import read_published
from policylens.project.config import Config
from policylens.project.directions import read_pairs

ASSETS = REPOSITORY.parent / "shared" / "assets" / "vla_steering"
EXAMPLE = REPOSITORY / "examples" / "vla_published"
needs_assets = pytest.mark.skipif(not ASSETS.exists(), reason="the published directions are not there")
D, M = 6, 9


def write_pair(folder, seed=0, name="pair", m=M, d=D):
    """A folder as the published tool writes it."""
    generator = torch.Generator().manual_seed(seed)
    means = {side: torch.rand(m, generator=generator) for side in ("positive", "negative")}
    folder.mkdir(parents=True)
    for side, mean in means.items():
        torch.save({"concept": f"{side} text", "count": 7, "mean": mean}, folder / f"{side}_latent_mean.pt")
    direction = means["positive"] - means["negative"]
    beside = {"pair": name, "positive_concept": "positive text", "counts": {"positive": 7, "negative": 7}}
    torch.save({**beside, "latent_direction": direction}, folder / "latent_direction.pt")
    torch.save({**beside, "residual_direction": torch.ones(d)}, folder / "residual_direction.pt")
    return folder


@needs_assets
def test_the_published_cosines_come_out_to_the_printed_digit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepared = ["--assets", ASSETS, "--out", tmp_path / "build"]
    run_here("examples/vla_published/prepare.py", *prepared)
    config = Config(yaml.safe_load((tmp_path / "build" / "config.yaml").read_text()))
    block = config["vla_published"].directions["layer12"]
    assert list(block["pairs"]) == ["open_drawer_main", "on_stove"]
    out = tmp_path / "layer12"
    for name, pair in block["pairs"].items():
        origin = {"policy": "p", "checkpoint": "c", "direction": "layer12", "pair": name, "site": block["site"]}
        words = ["--pair", pair, "--block", block, "--origin", {**origin, "sae": None, "baseline_site": None}]
        run_here("workflow_scripts/derive_direction.py", *words, "--out", out / name / "analysis.json")
    analyses = [out / name / "analysis.json" for name in block["pairs"]]
    words = ["--expected", json.dumps(block["expected"]), "--seed", 0, "--out", out / "index.json"]
    run_here("workflow_scripts/index_directions.py", "--analyses", *analyses, *words)
    found = json.loads((out / "pairwise_stats.json").read_text())["open_drawer_main__on_stove"]
    assert round(found["latent_cosine"], 4) == 0.3557
    assert round(found["residual_with_bias_cosine"], 4) == -0.0529
    assert found["residual_cosine"] is None, "the true one needs the decoder"
    assert found["latent_norm_a"] == pytest.approx(20.229963302612305, rel=1e-6)
    assert found["residual_with_bias_norm_b"] == pytest.approx(72.21045684814453, rel=1e-6)
    index = json.loads((out / "index.json").read_text())
    for own in index["pairs"].values():
        assert own["imported"]["largest_difference"] < 1e-8
    assert index["expected"][0]["verdict"] == "fail", "they are expected to point apart, and do not"
    assert "FAIL: latent_cosine of open_drawer_main and on_stove below 0: 0.3557" in (out / "summary.txt").read_text()
    result = run_script_of_example("compare.py", "--results", out)
    assert result.returncode == 0
    assert "all 4 figures agree" in result.stdout


def run_script_of_example(name, *arguments):
    return run([sys.executable, str(EXAMPLE / name), *map(str, arguments)], env=environment())


def test_a_comparison_that_fails_says_so(tmp_path):
    found = {"latent_cosine": 0.3558, "residual_with_bias_cosine": -0.0529}
    (tmp_path / "pairwise_stats.json").write_text(json.dumps({"open_drawer_main__on_stove": found}))
    (tmp_path / "index.json").write_text(json.dumps({"pairs": {}}))
    (tmp_path / "summary.txt").write_text("")
    result = run_script_of_example("compare.py", "--results", tmp_path)
    assert result.returncode == 1
    assert "1 of 2 figures differ" in result.stderr


def test_a_decoder_gives_the_direction_without_its_bias(tmp_path):
    folder = write_pair(tmp_path / "pair")
    sae = sae_made(unit_rows(M, D), b_dec=np.arange(D))
    vectors, told = read_published(folder, sae)
    expected = vectors["latent_direction"] @ sae.W_dec.double().numpy()
    np.testing.assert_allclose(vectors["residual_direction"], expected, atol=1e-6)
    assert vectors["residual_direction_with_bias"].tolist() == [1] * D, "the published one is kept as it is"
    assert (told["positive"], told["rows"]["negative"]) == ("positive text", 7)
    assert told["difference"] < 1e-7


def test_what_is_no_folder_of_directions_is_refused(tmp_path):
    folder = write_pair(tmp_path / "pair")
    with refused("there is no such folder of directions"):
        read_published(tmp_path / "none")
    with refused("its directions have 9 latents, the SAE 12"):
        read_published(folder, sae_made(unit_rows(12, D)))
    torch.save({"mean": torch.ones(M + 1)}, folder / "positive_latent_mean.pt")
    with refused("positive_latent_mean.pt: has 10 latents, latent_direction.pt 9"):
        read_published(folder)
    torch.save({"mean": torch.full((M,), torch.nan)}, folder / "positive_latent_mean.pt")
    with refused("positive_latent_mean.pt: holds NaN"):
        read_published(folder)
    torch.save({"concept": "x"}, folder / "positive_latent_mean.pt")
    with refused("positive_latent_mean.pt: holds no vector 'mean'"):
        read_published(folder)
    (folder / "positive_latent_mean.pt").unlink()
    with refused("positive_latent_mean.pt: there is no such file"):
        read_published(folder)


@needs_assets
def test_the_published_pairs_file_gives_pairs_of_slices_or_of_directions(tmp_path):
    path = ASSETS / "layer12_pairs.json"
    assert [entry["name"] for entry in read_pairs(path)][-1] == "back_plate"
    raw = {"site": "language_12", "import": {"pairs": str(path), "slices": str(tmp_path)}}
    block = {"family": "activations", "checkpoints": {"c": {}}, "directions": {"d": raw}}
    with refused(
        "directions.d.pairs.open_drawer_main: there is no file", "layer12/open the top drawer of the cabinet.pt"
    ):
        Config({"policies": {"p": block}})
    for entry in read_pairs(path):
        for side in ("positive", "negative"):
            (tmp_path / entry[f"{side}_path"]).parent.mkdir(parents=True, exist_ok=True)
            torch.save(torch.randn(4, D), tmp_path / entry[f"{side}_path"])
    pairs = Config({"policies": {"p": block}})["p"].directions["d"]["pairs"]
    assert pairs["on_stove"]["positive"] == "turn on the stove"
    words = ["--pair", pairs["on_stove"], "--block", {"permutations": 200, "seed": 0, "ridge": 0.1, "probe_rows": 8}]
    names = ("policy", "checkpoint", "direction", "pair", "site")
    origin = dict.fromkeys(names, "x") | {"sae": None, "baseline_site": None}
    run_here(
        "workflow_scripts/derive_direction.py", *words, "--origin", origin, "--out", tmp_path / "out" / "analysis.json"
    )
    told = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert told["reliability"] == {}
    assert "which episodes the rows are of is not known" in told["notes"][0]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"pairs": []}, "pairs"),
        ({"pairs": [{"name": "a"}]}, "positive_label"),
        ([], "must be"),
    ],
)
def test_a_pairs_file_of_another_form_is_refused(tmp_path, content, part):
    (tmp_path / "pairs.json").write_text(json.dumps(content))
    with refused("pairs.json", part):
        read_pairs(tmp_path / "pairs.json")


def test_a_pair_is_no_way_out_of_its_folder(tmp_path):
    entry = {f"{side}_{what}": "x" for side in ("positive", "negative") for what in ("label", "path")}
    (tmp_path / "pairs.json").write_text(json.dumps({"pairs": [{"name": "../x", **entry}]}))
    with refused("the pair '../x' cannot be part of a path"):
        read_pairs(tmp_path / "pairs.json")
    twice = [{"name": "x", **entry}] * 2
    (tmp_path / "pairs.json").write_text(json.dumps({"pairs": twice}))
    with refused("the pair 'x' stands there twice"):
        read_pairs(tmp_path / "pairs.json")
