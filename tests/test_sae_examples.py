"""Examples per latent: against a plain search through everything, however the rows are cut into batches."""

import numpy as np
import pytest
import torch
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_made import directions, made
from support import clear_line, make_small, run, run_here, script_command, tree

from policylens.capture.activations import write_capture
from policylens.capture.batches import batches_of_rows
from policylens.evaluation import examples
from policylens.evaluation.examples import (
    DECILES,
    NONE,
    PER_DECILE,
    SAMPLE,
    STORE,
    Collector,
    Examples,
    by_decile,
    collect,
    random_keys,
    read_examples,
    write_examples,
)
from policylens.policies.registry import load_policy
from policylens.sae.files import save_sae
from policylens.stores.store import StoreWriter, read_root
from policylens.stores.tables import open_table, write_index

M, D = 6, 4


def sae_of(threshold=0.3):
    return made(directions(M, D), threshold=threshold)


def collected(x, sizes, count=3, sae=None):
    collector = Collector(sae or sae_of(), count, seed=0)
    start = 0
    for size in sizes:
        piece = slice(start, start + size)
        collector.add(x[piece], np.arange(len(x))[piece])
        start += size
    return collector


@given(st.integers(0, 60), st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(0, 2**16))
@settings(max_examples=40)
def test_the_strongest_are_the_strongest_whatever_the_batches(rows, sizes, seed):
    x = np.random.default_rng(seed).normal(size=(rows, D)).astype(np.float32)
    found = collected(x, [*sizes, rows])
    sae = sae_of()
    strength = sae.strength(sae.encode(torch.from_numpy(x))).numpy()
    strength = np.where(strength > 0.3, strength, 0)
    assert (found.fired == (strength > 0).sum(0)).all()
    for latent in range(M):
        order = np.argsort(-strength[:, latent], kind="stable")[:3]
        order = order[strength[order, latent] > 0]
        expected = [*order, *[NONE] * (3 - len(order))]
        assert found.strongest.vector[latent].tolist() == expected
        np.testing.assert_allclose(found.strongest.strength[latent, : len(order)], strength[order, latent], rtol=1e-5)
        assert (found.strongest.strength[latent, len(order) :] == 0).all()
    whole = collected(x, [rows or 1])
    for one, other in zip(found.deciles, whole.deciles, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_merging_in_between_forgets_nothing(monkeypatch):
    x = np.random.default_rng(0).normal(size=(3000, D)).astype(np.float32)
    whole, pieces = collected(x, [3000], count=5), collected(x, [7] * 429, count=5)
    assert (whole.strongest.vector == pieces.strongest.vector).all()
    assert (whole.deciles.vector == pieces.deciles.vector).all()


def test_the_same_moment_stands_there_once_and_is_counted():
    moment = np.repeat(np.arange(5), [9, 1, 4, 1, 2])[np.random.default_rng(1).permutation(17)]
    x = np.random.default_rng(0).normal(size=(5, D)).astype(np.float32)[moment]
    found = collected(x, [6, 6, 5]).strongest
    assert (found.vector != NONE).sum() > 5
    for vectors, counts in zip(found.vector, found.count, strict=True):
        known = vectors[vectors != NONE]
        assert len(set(moment[known])) == len(known)
        assert known.tolist() == [np.flatnonzero(moment == moment[vector])[0] for vector in known]
        assert counts[: len(known)].tolist() == [(moment == moment[vector]).sum() for vector in known]
        assert (counts[len(known) :] == 0).all()


def test_deciles_are_random_rows_of_each_tenth():
    strength = np.linspace(1, 2, 100, dtype=np.float32)
    order = np.random.default_rng(0).permutation(100)
    found = by_decile(Examples(order[None], strength[order][None], np.ones((1, 100), np.int64)))
    tenths = found.vector.reshape(DECILES, PER_DECILE) // 10
    assert (tenths == np.arange(DECILES)[:, None]).all()
    few = by_decile(Examples(np.array([[4, NONE, NONE]]), np.array([[2.0, 0, 0]], np.float32), np.array([[1, 0, 0]])))
    assert (few.vector != NONE).sum() == 1


def test_the_sample_is_fair():
    latent, vector = np.zeros(20_000, np.int64), np.arange(20_000)
    keys = random_keys(latent, vector, seed=3)
    assert len(np.unique(keys)) == len(keys)
    picked = np.sort(np.argsort(keys)[-2000:])
    assert abs(picked.mean() / 10_000 - 1) < 0.05
    counts = np.histogram(picked, 10, (0, 20_000))[0]
    assert ((counts > 150) & (counts < 250)).all()
    other = random_keys(latent + 1, vector, seed=3)
    assert abs(np.corrcoef(keys.astype(float), other.astype(float))[0, 1]) < 0.03
    assert (random_keys(latent, vector, seed=4) != keys).all()


def test_a_sample_of_many_has_its_size():
    x = np.abs(np.random.default_rng(0).normal(size=(2000, D))).astype(np.float32)
    sae = made(np.eye(D), threshold=0.0)
    collector = collected(x, [500] * 4, sae=sae)
    assert (collector._sample.result().vector != NONE).sum() == D * SAMPLE
    decile = collector.deciles.strength.reshape(D, DECILES, PER_DECILE).mean(2)
    assert (np.diff(decile, axis=1) > 0).all()


def spatial(folder, rows=40):
    """A capture whose site has 2 x 3 positions, one part."""
    values = np.random.default_rng(0).normal(size=(rows, 2, 3, D)).astype(np.float32)
    with StoreWriter(folder / "part-0000.zarr", "capture", {}) as store:
        store.group("step", ("episode", "step", "split")).append(
            {
                "episode": np.repeat(np.arange(rows // 4), 4),
                "step": np.tile(np.arange(4), rows // 4).astype(np.int32),
                "split": np.zeros(rows, np.int8),
                "board": values,
            }
        )
    write_index(folder, ["part-0000"])
    return open_table(folder), values


def test_positions_of_spatial_sites(tmp_path, monkeypatch):
    capture, values = spatial(tmp_path / "capture")
    monkeypatch.setattr(examples, "ENTRIES_AT_ONCE", 200)
    rows = np.arange(3, 40)
    sae = sae_of()
    write_examples(tmp_path / "examples.zarr", collect(sae, capture, "board", rows, 4, 0), capture, "board", {})
    found = read_examples(tmp_path)
    assert read_root(tmp_path / "examples.zarr")["inner_shape"] == [2, 3]
    known = found["top_row"] != NONE
    assert known.any()
    for latent, rank in zip(*np.nonzero(known), strict=True):
        row, position = found["top_row"][latent, rank], found["top_position"][latent, rank]
        x = torch.from_numpy(values[row][np.unravel_index(position, (2, 3))][None])
        assert found["top_strength"][latent, rank] == pytest.approx(
            float(sae.strength(sae.encode(x))[0, latent]), rel=1e-4
        )
        assert (found["top_episode"][latent, rank], found["top_step"][latent, rank]) == (row // 4, row % 4)
        assert row >= 3


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small policy with a capture of its site `second`, and an SAE on it."""
    small = make_small(tmp_path_factory.mktemp("small"))
    policy, source = load_policy(small.checkpoint), open_table(small.source)
    capture = small.run / "activations" / "both"
    for part in source.parts:
        rows = source.rows_of_part(part)
        coordinates = {name: source.array(name).read(rows) for name in ("episode", "step", "split")}
        given = batches_of_rows(source, policy.observations, np.r_[rows], 64)
        write_capture(capture / f"{part}.zarr", policy, ["second"], given, coordinates, batch_rows=64)
    write_index(capture, source.parts)
    save_sae(small.run / "sae", made(directions(12, 8), threshold=0.1))
    return small


def arguments(small, sae=None):
    capture = small.run / "activations" / "both"
    return ["--sae", sae or small.run / "sae", "--capture", capture, "--site", "second"]


def test_the_program_writes_the_same_store_twice_and_a_notebook_reads_it(small, tmp_path):
    for name in ("one", "two"):
        out = tmp_path / name / "examples.zarr"
        run_here(
            "workflow_scripts/collect_examples.py", *arguments(small), "--out", out, "--count", 5, "--split", "train"
        )
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    found = xarray.open_zarr(tmp_path / "one" / "examples.zarr", group="latent", consolidated=False)
    assert found.top_row.dims == ("latent", "top_rank")
    assert found.top_row.shape == (12, 5)
    assert found.decile_row.shape == (12, DECILES * PER_DECILE)
    capture = open_table(small.run / "activations" / "both")
    rows = found.top_row.values[found.top_row.values >= 0]
    assert (capture.coordinate("split")[rows] == 0).all()


def test_a_site_of_another_width_is_refused(small, tmp_path):
    save_sae(tmp_path / "wide", made(directions(4, 5)))
    words = script_command("collect_examples", *arguments(small, tmp_path / "wide"), "--out", tmp_path / STORE)
    assert "trained on width 5, site 'second' has 8" in clear_line(run(words))
    assert not (tmp_path / STORE).exists()
