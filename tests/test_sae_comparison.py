"""The comparison of a sweep's members as a program: comparison.json and its figures."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sae_made import made
from support import REPOSITORY, clear_line, refused, run, run_here, script_command, tree

from policylens.evaluation.comparison import compare
from policylens.project.config import Config
from policylens.project.paths import all_paths
from policylens.sae.base import SAE
from policylens.sae.files import save_sae
from policylens.stores.schemas import check_against
from policylens.stores.store import StoreWriter
from policylens.stores.tables import write_index

ROWS, STEPS, D = 1200, 10, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A capture of rows with a label, the label set, and SAEs of two seeds and two widths."""
    folder = tmp_path_factory.mktemp("comparison")
    rng = np.random.default_rng(0)
    label = rng.random(ROWS) < 0.4
    codes = np.where(rng.random((ROWS, D)) < 0.3, rng.uniform(0.5, 1.5, (ROWS, D)), 0)
    codes[:, 0] = label
    coordinates = {
        "episode": np.repeat(np.arange(ROWS // STEPS), STEPS),
        "step": np.tile(np.arange(STEPS), ROWS // STEPS).astype(np.int32),
    }
    splits = {"split": (coordinates["episode"] % 3).astype(np.int8)}
    for name, arrays in (("capture", {"site": codes.astype(np.float32), **splits}), ("labels", {"thing": label})):
        with StoreWriter(folder / name / "part-0000.zarr", name, {}) as store:
            store.group("step", ("episode", "step", *(splits if name == "capture" else ()))).append(
                {**coordinates, **arrays}
            )
        write_index(folder / name, ["part-0000"])
    order = rng.permutation(D)
    for name, sae in {
        "narrow": made(np.eye(D), threshold=0.1),
        "narrow_seed1": made(np.eye(D)[order], threshold=0.1, seed=1),
        "wide": made(np.vstack([np.eye(D), -np.eye(D)[:2] + 0.1]), threshold=0.1),
    }.items():
        save_sae(folder / name, sae)
    return folder


def arguments(folder, out, *more):
    saes = [folder / name for name in ("narrow", "narrow_seed1", "wide")]
    return ["--sae", *saes, "--capture", folder / "capture", "--site", "site", "--title", "a", "--out", out, *more]


def test_the_program_writes_the_same_report_twice(folder, tmp_path):
    for name in ("one", "two"):
        more = ["--labels", folder / "labels", "--rows", 2000]
        run_here("workflow_scripts/compare_saes.py", *arguments(folder, tmp_path / name / "comparison.json", *more))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert sorted(tree(tmp_path / "one")) == ["absorption.png", "comparison.json", "splitting.png", "stability.png"]
    report = json.loads((tmp_path / "one" / "comparison.json").read_text())
    check_against("sae_comparison", report, "comparison.json")
    (group,) = report["stability"]
    assert group["members"] == ["narrow", "narrow_seed1"]
    assert group["pairs"][0]["directions"]["observed"]["shares"]["0.9"] == 1
    (pair,) = report["splitting"]
    assert (pair["narrow"], pair["wide"]) == ("narrow", "wide")
    assert pair["observed"]["0.9"]["one"] == 1
    assert (report["n_rows"], report["n_episodes"]) == (400, 40)
    absorption = report["absorption"]["members"]
    assert absorption.keys() == {"narrow", "narrow_seed1", "wide"}
    assert absorption["narrow"]["targets"][0]["main_latents"] == [0]
    assert absorption["narrow"]["observed"]["fraction"]["value"] < 0.01


def test_without_labels_and_without_kin_the_figures_say_why(folder, tmp_path):
    words = ["--sae", folder / "narrow", "--capture", folder / "capture", "--site", "site", "--title", "a"]
    run_here("workflow_scripts/compare_saes.py", *words, "--out", tmp_path / "comparison.json")
    report = json.loads((tmp_path / "comparison.json").read_text())
    check_against("sae_comparison", report, "comparison.json")
    assert (report["stability"], report["splitting"], report["absorption"]) == ([], [], None)


def test_an_sae_of_another_width_is_refused(folder, tmp_path):
    save_sae(tmp_path / "odd", made(np.eye(4)))
    words = ["--sae", tmp_path / "odd", "--capture", folder / "capture", "--site", "site", "--title", "a"]
    result = run(script_command("compare_saes", *words, "--out", tmp_path / "comparison.json"))
    assert "odd: made for activations of width 4, site 'site' has 6" in clear_line(result)


def test_a_member_without_active_latents_is_described_and_left_out(folder, tmp_path):
    silent = made(np.eye(D), b_enc=np.full(D, -100.0), seed=2)
    save_sae(tmp_path / "silent", silent)
    out = tmp_path / "out" / "comparison.json"
    words = ["--sae", folder / "narrow", folder / "narrow_seed1", tmp_path / "silent", "--capture", folder / "capture"]
    run_here("workflow_scripts/compare_saes.py", *words, "--site", "site", "--title", "a", "--out", out)
    report = json.loads(out.read_text())
    check_against("sae_comparison", report, "comparison.json")
    assert report["members"]["silent"]["alive"] == 0
    (group,) = report["stability"]
    assert group["members"] == ["narrow", "narrow_seed1"]


def test_transcoders_are_compared_with_directions_of_their_output_site():
    rng = np.random.default_rng(0)
    read, written = rng.normal(size=(300, D)).astype(np.float32), rng.normal(size=(300, 4)).astype(np.float32)
    written[:, 0] *= 20
    saes = {}
    for seed in (0, 1):
        cfg = made(np.eye(D), seed=seed, output_site="out").cfg
        settings = {**cfg.settings, "architecture": "transcoder", "output_site": "out"}
        cfg = replace(cfg, architecture="transcoder", d_out=4, settings=settings)
        decoder = torch.from_numpy(rng.normal(size=(D, 4)).astype(np.float32)) * 0.05 + torch.eye(4)[0]
        tensors = {"W_enc": torch.eye(D), "b_enc": torch.zeros(D), "W_dec": decoder, "b_dec": torch.zeros(4)}
        saes[f"seed{seed}"] = SAE(cfg, tensors)
    found = compare(saes, read, np.repeat(np.arange(30), 10), 0, written={"out": written})
    directions = found["stability"][0]["pairs"][0]["directions"]
    # The decoder is along the one dimension that has nearly all variance, as are directions of that covariance,
    # though half of them point the other way.
    assert directions["covariance"]["shares"]["0.9"] > 0.3 > directions["isotropic"]["shares"]["0.9"]


def config(**sweep):
    """An Othello config with one sweep."""
    sweep = {"capture": "demo", "sites": ["block_2"], **sweep}
    othello = {
        "family": "othello",
        "checkpoints": {"final": {"path": str(REPOSITORY / "data" / "checkpoints" / "othello" / "final")}},
        "sources": {"demo": {"checkpoint": "final", "episodes": 20, "rollout": {}}},
        "labels": {"board": {"sources": ["demo"], "names": ["parity"]}},
        "captures": {"demo": {"source": "demo", "sites": ["block_2"]}},
        "sae": {"sweep": sweep},
    }
    return Config({"policies": {"othello": othello}})


ONE = {"members": {"only": {"architecture": "topk", "latents": 8, "k": 2}}}
AT = "results/othello/final/sae/sweep/block_2"


def paths_of(**sweep):
    return {
        path for kind, path in all_paths(config(**sweep)) if kind in ("sae_comparison", "sae_examples", "sae_return")
    }


def test_what_a_sweep_asks_for_is_what_can_be_built():
    assert paths_of(**ONE) == set()
    assert paths_of(**ONE, comparison={"labels": "board"}) == {f"{AT}/evaluation/comparison.json"}
    assert paths_of(**ONE, examples={}) == {f"{AT}/only/examples.zarr/zarr.json"}
    assert paths_of(**ONE, evaluation={"closed_loop": {}}) == {f"{AT}/only/return.json"}
    for varied in ({"seed": [0, 1]}, {"latents": [8, 16]}):
        grid = [{"architecture": "topk", "latents": 8, "k": 2} | varied]
        assert paths_of(grid=grid) == {f"{AT}/evaluation/comparison.json"}
        names = [f"topk_{'seed' if 'seed' in varied else 'm'}{value}" for value in next(iter(varied.values()))]
        assert paths_of(grid=grid, examples={"members": names[:1]}) == {
            f"{AT}/evaluation/comparison.json",
            f"{AT}/{names[0]}/examples.zarr/zarr.json",
        }


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"comparison": {"labels": "bord"}}, ("label set 'bord'", "'board'")),
        ({"comparison": {"row": 3}}, ("'row'", "'rows'")),
        ({"examples": {"members": ["olny"]}}, ("member 'olny'", "'only'")),
        ({"examples": {"split": "tets"}}, ("tets",)),
        ({"evaluation": {"closed_loop": {"members": ["olny"]}}}, ("member 'olny'", "'only'")),
        ({"evaluation": {"closed_loop": {"episodes": 1}}}, ("episodes", "1")),
        ({"evaluation": {"closed_loop": {"settings": {"oponents": []}}}}, ("'oponents'", "'opponents'")),
        ({"evaluation": {"closed_loop": {"settings": {"opponents": ["chess"]}}}}, ("chess",)),
    ],
)
def test_a_fault_in_the_config_is_one_clear_line(more, words):
    with refused("othello.sae.sweep", *words):
        config(**ONE, **more)


def test_closed_loop_needs_a_family_with_returns(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"")
    own = {
        "family": "activations",
        "checkpoints": {"own": {}},
        "captures": {"demo": {"import": [str(tmp_path / "x.npz")], "sites": ["a"]}},
        "sae": {"sweep": {"capture": "demo", "sites": ["a"], **ONE, "evaluation": {"closed_loop": {}}}},
    }
    with refused("closed_loop", "'returns'", "'activations'"):
        Config({"policies": {"own": own}})
