"""From captures, sources and labels to the files of a site: what is read, what is said, and what is refused."""

import csv
import json

import numpy as np
import pytest
import scipy.sparse
import torch
import xarray
from interventions_made import sae_of
from support import make_small, refused, run_here

from policylens.correlations.analysis import analysis
from policylens.correlations.inputs import inputs_of, read_inputs
from policylens.correlations.rows import site_rows
from policylens.correlations.sample import Sample
from policylens.correlations.store import write_correlations
from policylens.correlations.study import study
from policylens.correlations.table import ranking_rows
from policylens.correlations.text import summary
from policylens.policies.inputs import Input
from policylens.sae.activations import whole_episodes
from policylens.sae.files import save_sae
from policylens.stores.groups import Groups
from policylens.stores.schemas import check_against
from policylens.stores.store import StoreWriter
from policylens.stores.tables import open_table, write_index

EPISODES, STEPS = 40, 10
SPLIT = np.repeat(np.arange(EPISODES) % 4 % 3, STEPS).astype(np.int8)
ORIGIN = {"policy": "p", "checkpoint": "c", "site": "frame", "sae": "s/m", "capture": "all", "labels": None}


def table(folder, kind, arrays):
    """A folder of one part of 40 episodes."""
    coordinates = {"episode": np.repeat(np.arange(EPISODES), STEPS), "step": np.tile(np.arange(STEPS), EPISODES)}
    if kind != "labels":
        coordinates["split"] = SPLIT
    with StoreWriter(folder / "part-0000.zarr", kind, {}) as store:
        store.group("step", tuple(coordinates)).append({**coordinates, **arrays})
    write_index(folder, ["part-0000"])
    return open_table(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A policy of the module family, a source, labels that are not always known, a capture of frames and an SAE."""
    folder = tmp_path_factory.mktemp("correlations")
    small = make_small(folder)
    rng = np.random.default_rng(0)
    n = EPISODES * STEPS
    observation = rng.normal(size=(n, 6)).astype(np.float32)
    unknown = np.where(np.arange(n) < STEPS, observation[:, 0], np.nan).astype(np.float32)
    late = np.where(np.arange(n) % STEPS > 5, observation[:, 1], np.nan).astype(np.float32)
    frame = rng.normal(size=(n, 2, 2, 4)).astype(np.float32)
    frame[..., 0] += 3 * observation[:, 1, None, None]
    table(folder / "source", "source", {"observation": observation})
    pair = rng.integers(0, 2, (n, 2)).astype(bool)
    table(folder / "labels", "labels", {"pair": pair, "late": late, "never": unknown})
    table(folder / "capture", "capture", {"frame": frame})
    save_sae(folder / "sae", sae_of(4, dtype=torch.float32))
    return folder, small


def arguments(place, **more):
    folder, small = place
    own = {"checkpoint": small.checkpoint, "source": folder / "source", "labels": folder / "labels"}
    own |= {"capture": folder / "capture", "sae": folder / "sae", "site": "frame", "shifts": 200} | more
    return [word for name, value in own.items() if value is not None for word in (f"--{name}", value)]


def correlate(place, out, **more):
    run_here("workflow_scripts/correlate.py", *arguments(place, **more), "--out", out)
    return Groups(out)


def test_a_site_from_its_files_to_words_and_pictures(place, tmp_path):
    store = correlate(place, tmp_path / "correlations.zarr")
    origin = json.dumps({**ORIGIN, "split": "test"})
    run_here("workflow_scripts/analyse_correlations.py", "--correlations", store.path, "--origin", origin,
             "--out", tmp_path / "analysis.json")  # fmt: skip
    record = json.loads((tmp_path / "analysis.json").read_text())
    names = [*(f"observation[{number}]" for number in range(6)), "pair[0]", "pair[1]", "late"]
    assert sorted(own["name"] for own in record["inputs"]) == sorted(names)
    late = next(own for own in record["inputs"] if own["name"] == "late")
    assert (late["rows"], late["episodes"], late["label"]) == (40, 10, True)
    assert [entry["name"] for entry in record["left_out"]] == ["never"]
    assert record["positions"] == 4
    second = next(own for own in record["inputs"] if own["name"] == "observation[1]")
    assert second["pearson"]["unit"]["unit"] == 0
    assert second["pearson"]["unit"]["r"] > 0.9
    assert second["pearson"]["best"][0]["adjusted_p"] == pytest.approx(1 / 201)
    scored = {own["name"]: own for own in record["held_out"]["inputs"]}
    assert scored["observation[1]"]["units"]["low"] > 0.9
    assert "observation[1]: latent" in (tmp_path / "summary.txt").read_text()
    rows = list(csv.DictReader((tmp_path / "ranking.csv").open()))
    assert rows[0]["input"] in ("observation[1]", "late")
    assert (tmp_path / "heatmap.png").stat().st_size > 10_000
    run_here("workflow_scripts/index_correlations.py", "--analyses", tmp_path / "analysis.json",
             "--out", tmp_path / "index.json")  # fmt: skip
    assert (tmp_path / "across_sites.png").stat().st_size > 10_000


def test_a_latent_is_its_mean_over_positions(place):
    folder, _ = place
    sae, capture = sae_of(4, dtype=torch.float32), open_table(folder / "capture")
    rows = np.array([3, 7, 50])
    found = site_rows(capture, "frame", sae, rows)
    frames = capture.array("frame").read(rows)
    with torch.no_grad():
        f = sae.encode(torch.from_numpy(frames).reshape(-1, 4)).reshape(3, 4, -1).numpy().astype(np.float64)
    np.testing.assert_allclose(found.latents.toarray(), f.mean(1), rtol=1e-6)
    np.testing.assert_allclose(found.units, frames.reshape(3, 4, 4).mean(1, dtype=np.float64))
    np.testing.assert_allclose(found.densities, (f != 0).any(1).mean(0))
    assert found.l0 == pytest.approx((f != 0).sum(2).mean())


@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_episodes_stay_whole(place, split):
    rows = whole_episodes(open_table(place[0] / "capture"), split, 57, 0)
    assert np.unique(rows.episodes, return_counts=True)[1].tolist() == [STEPS] * 5


def test_all_rows_are_not_scored_as_held_out(place, tmp_path):
    store = correlate(place, tmp_path / "correlations.zarr", split="all", shifts=0, labels=None)
    assert not store.has("held_out")
    assert "split is all" in store.attributes["no_held_out"]
    record = analysis(store, {**ORIGIN, "split": "all"})
    check_against("correlation", record, "analysis.json")
    assert record["null"] is None
    assert record["significant"]["pearson"] is None
    assert "not scored on held-out episodes" in summary(record)
    with xarray.open_zarr(store.path, group="inputs", consolidated=False) as found:
        assert found.sizes == {"input": 6, "latent": 6, "unit": 4}


def test_rankings_are_by_max_and_by_mean(tmp_path):
    """Latent 0 follows one input alone, latent 1 all three a little less, latent 2 nothing; latent 3 is dead."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(600, 3))
    latents = np.stack([inputs[:, 0], inputs.sum(1), rng.normal(size=600), np.zeros(600)], 1)
    sample = Sample(inputs, {"latents": scipy.sparse.csc_array(latents), "units": inputs}, np.repeat(np.arange(20), 30))
    facts = {"inputs": [{"name": name, "unit": "1", "label": False} for name in "xyz"]}
    facts |= {"n_rows": 600, "n_episodes": 20, "n_latents": 4, "n_units": 3, "positions": 1, "l0": 3.0, "left_out": []}
    facts |= {"null": None, "held_out": None, "no_held_out": "not asked"}
    density = np.array([1, 1, 1, 0.0])
    own = {"latent": np.arange(4), "density": density, "active_rows": (600 * density).astype(np.int64)}
    groups = {"inputs": {"input": np.arange(3), **study(sample, 0, 0).by_input}, "latents": own}
    write_correlations(tmp_path / "correlations.zarr", groups, facts)
    store = Groups(tmp_path / "correlations.zarr")
    rankings = analysis(store, {**ORIGIN, "split": "test"})["rankings"]["pearson"]
    assert [entry["latent"] for entry in rankings["max"]] == [0, 1, 2, 3]
    assert [entry["latent"] for entry in rankings["mean"]][:2] == [1, 0]
    assert (rankings["max"][0]["input"], rankings["max"][0]["r"]) == ("x", pytest.approx(1))
    assert {row["latent"] for row in ranking_rows(store)} == {0, 1, 2}


# Bad input


def test_inputs_that_mean_nothing_are_refused(place, tmp_path):
    record = {"family": "module", "architecture": {"inputs": ["pixels"]}}
    many = table(tmp_path / "many", "source", {"pixels": np.zeros((EPISODES * STEPS, 50, 50), np.uint8)})
    with refused("2500 inputs are more than 2048", "'module'", "fewer labels"):
        inputs_of(record, many, None)
    bad = table(tmp_path / "bad", "source", {"pixels": np.full(EPISODES * STEPS, np.inf)})
    with refused("input 'pixels': has infinite values"):
        read_inputs(inputs_of(record, bad, None), np.arange(3))
    assert inputs_of(record, bad, None)[0].input == Input("pixels", "1", "pixels")


def test_episodes_too_short_to_shift_name_their_capture(place, tmp_path, capsys):
    n = EPISODES * STEPS
    alone = {"episode": np.arange(n), "step": np.zeros(n, np.int64), "split": np.full(n, 2, np.int8)}
    for name, kind, values in (("source", "source", {"observation": np.eye(6)[np.arange(n) % 6]}),
                               ("capture", "capture", {"frame": np.ones((n, 4), np.float32)})):  # fmt: skip
        table(tmp_path / name, kind, {**alone, **values})
    own = {"source": tmp_path / "source", "capture": tmp_path / "capture", "labels": None}
    with pytest.raises(AssertionError, match="ended with 1"):
        correlate(place, tmp_path / "correlations.zarr", **own)
    line = capsys.readouterr().err
    assert line.startswith(f"error: {tmp_path / 'capture'}, split test: no input can be measured")
    assert "set shifts: 0" in line
    assert not (tmp_path / "correlations.zarr").exists()


def test_an_sae_of_another_width_is_refused(place):
    with refused("takes 5 units", "'frame'", "has 4"):
        site_rows(open_table(place[0] / "capture"), "frame", sae_of(5, dtype=torch.float32), np.arange(3))
