"""docs/own_policy.md, own_activations.md and notebooks.md say what works: their blocks are run."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pages import blocks, build, commands, config_of, run_python
from support import REPOSITORY, run_here, tree

from policylens.capture.settings import SPLIT
from policylens.capture.sources import write_source
from policylens.capture.splits import write_splits
from policylens.concepts.labels import write_labels
from policylens.policies.checkpoint import write_checkpoint
from policylens.policies.rollout import Rollout
from policylens.project.config import Config
from policylens.project.paths import check_targets, parse
from policylens.stores.foreign import read_arrays
from policylens.stores.tables import open_table, write_index


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with the examples, to work in."""
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def follow(page):
    """Do what a page says: its first command, its config, its targets; returns what its Python blocks define."""
    first, *targets = commands(page)
    assert first.startswith("envs/run core python examples/")
    run_here(*first.removeprefix("envs/run core python ").split())
    config = Config(config_of(page))
    for line in targets:
        *words, target = line.split()
        assert words == ["snakemake", "-j2"]
        parse(target)
        check_targets(config, [target])
    build(config)
    return run_python(page)


def test_a_policy_of_ones_own(elsewhere):
    names, printed = follow("own_policy.md")
    assert names["features"].shape == (2400, 32)
    assert 0 < names["held_out"].sum() < 2400
    assert "nan" not in printed
    assert float(names["plain"].heads.divergence(names["zeroed"].heads).mean()) > 0
    read = torch.from_numpy(names["features"][:100])
    torch.testing.assert_close(names["plain"].reads["norm"], read, rtol=1e-4, atol=1e-5)


def test_activations_of_ones_own(elsewhere):
    theirs = {"activations": {"layer_12": np.ones((4, 24), np.float32)}, "episode": np.arange(4)}
    (elsewhere / "activations.pkl").write_bytes(pickle.dumps(theirs))
    names, printed = follow("own_activations.md")
    assert set(read_arrays(elsewhere / "data/theirs/activations.pt")) == {"activations.layer_12", "episode"}
    assert names["capture"].n_rows == 2000
    assert printed.startswith("['part-0000', 'part-0001'] 2000 ['")
    assert names["x"].dtype == torch.float32
    assert (names["sae"].encode(names["x"]) > 0).sum(1).float().mean() <= 3


@pytest.mark.parametrize("program", ["own_module/make_weights.py", "own_activations/make_activations.py"])
def test_the_examples_files_are_the_same_every_time(tmp_path, program):
    for folder in ("one", "two"):
        run_here(f"examples/{program}", tmp_path / folder)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert len(tree(tmp_path / "one")) == 2


def othello_tree():
    """What `make demo` builds, but tiny: results/othello with a random network, random boards and one SAE."""
    from policylens.policies.othello.network import Network

    torch.manual_seed(0)
    sizes = {"width": 16, "blocks": 4, "hidden": 32}
    tensors = Network(**sizes).state_dict()
    for tensor in tensors.values():
        torch.nn.init.normal_(tensor, std=0.3)
    checkpoint, source = "results/othello/final/checkpoint", "results/othello/sources/demo"
    write_checkpoint(checkpoint, family="othello", architecture=sizes, tensors=tensors)
    write_source(f"{source}/part-0000.zarr", [boards()], SPLIT, "demo", {})
    write_splits(Path(source), ["part-0000"], SPLIT, "demo")
    labels = Path(f"{source}/labels/board")
    table = open_table(source)
    write_labels(labels / "part-0000.zarr", table, "part-0000", mobility, ["mobility_mine"], {}, {})
    write_index(labels, ["part-0000"])
    capture = Path("results/othello/final/activations/demo")
    settings = {"sites": ["block_1", "block_2"]}
    arguments = ["--checkpoint", checkpoint, "--source", source, "--settings", settings]
    run_here("workflow_scripts/capture.py", *arguments, "--out", capture / "part-0000.zarr")
    run_here("workflow_scripts/index_parts.py", "--out", capture, "--parts", capture / "part-0000.zarr" / "zarr.json")
    arguments = [
        "--capture",
        capture,
        "--site",
        "block_2",
        "--out",
        "results/othello/final/sae/demo/block_2/topk_m1024_k32",
    ]
    settings = {"architecture": "topk", "latents": 64, "k": 32, "steps": 20, "batch_rows": 128}
    run_here("workflow_scripts/train_sae.py", *arguments, "--settings", settings)


def boards(episodes=60, steps=20):
    generator = np.random.default_rng(0)
    rows = episodes * steps
    legal = generator.random((rows, 37)) < 0.2
    legal[:, 0] = True
    numbers = np.arange(episodes)
    cells = generator.integers(-1, 2, (rows, 36)).astype(np.int8)
    rows = {
        "cells": cells,
        "legal": legal,
        "episode": np.repeat(numbers, steps),
        "step": np.tile(np.arange(steps), episodes),
    }
    return Rollout(rows, {"episode": numbers, "length": np.full(episodes, steps)})


def mobility(rows, names):
    return {"mobility_mine": rows["legal"].sum(1).astype(np.int8)}


def test_the_notebook_page(elsewhere):
    othello_tree()
    names, printed = run_python("notebooks.md")
    assert "captures ['demo'], sweeps ['demo']" in printed
    assert names["some"].shape == (3, 16)
    assert np.array_equal(names["some"][1], names["some"][2])
    assert names["part"].block_2.dims == ("row", "block_2_unit")
    assert set(names["part"].coords) == {"episode", "step", "split"}
    assert names["f"].shape == (len(names["x"]), 64)
    assert len(names["mobility"]) == len(names["x"])
    assert float(names["plain"].heads.divergence(names["spliced"].heads).mean()) > 0
    fires = names["sae"].encode(names["plain"].reads["block_2"])[:, names["latent"]] > 0
    changed = names["change"] > 1e-9
    assert changed.any()
    assert not (changed & ~fires).any(), "ablating a latent changes only rows in which it fires"
    assert names["early"].heads is None


def test_pages_have_the_blocks_that_are_run():
    for page, languages in {"own_policy.md": 3, "own_activations.md": 3, "notebooks.md": 1}.items():
        assert sum(bool(blocks(page, language)) for language in ("python", "yaml", "bash")) == languages, page
