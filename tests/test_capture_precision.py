"""A capture may run its network in another precision than its weights have."""

import json

import numpy as np
import pytest
import torch
from othello_small import small_checkpoint
from support import run_here

from policylens.capture.splits import write_splits
from policylens.errors import UserError
from policylens.policies.registry import load_policy
from policylens.stores.schemas import check_against
from policylens.stores.store import StoreWriter
from policylens.stores.tables import open_table, write_index

ROWS = 24


@pytest.fixture
def source(tmp_path):
    """Random positions: six episodes of four."""
    rng, folder = np.random.default_rng(0), tmp_path / "source"
    with StoreWriter(folder / "part-0000.zarr", "source", {}) as store:
        store.group("step", ("episode", "step", "split")).append(
            {
                "episode": np.repeat(np.arange(ROWS // 4), 4),
                "step": np.tile(np.arange(4), ROWS // 4).astype(np.int32),
                "split": np.zeros(ROWS, np.int8),
                "cells": rng.integers(0, 2, (ROWS, 36)).astype(np.int8),
                "legal": np.ones((ROWS, 37), bool),
            }
        )
    write_index(folder, ["part-0000"])
    write_splits(folder, ["part-0000"], {"train": 0.8, "validation": 0.1, "test": 0.1}, "source")
    return folder


def captured(tmp_path, source, **more):
    """What block_2 holds, and the settings that the store tells."""
    folder = tmp_path / (more.get("precision") or "plain")
    settings = {"sites": ["block_2"], "dtype": "float32", **more}
    words = ["--checkpoint", small_checkpoint(tmp_path / "checkpoint"), "--source", source]
    words += ["--settings", json.dumps(settings), "--out", folder / "part-0000.zarr"]
    run_here("workflow_scripts/capture.py", *words)
    write_index(folder, ["part-0000"])
    table = open_table(folder)
    return table.array("block_2").read(), table.attributes["provenance"]["settings"]


def test_the_network_runs_in_the_capture_s_precision(tmp_path, source):
    plain, of_plain = captured(tmp_path, source)
    coarse, of_coarse = captured(tmp_path, source, precision="bfloat16")
    same, _ = captured(tmp_path, source, precision="float32")
    assert "precision" not in of_plain
    assert of_coarse["precision"] == "bfloat16"
    np.testing.assert_array_equal(plain, same)
    np.testing.assert_array_equal(coarse, torch.from_numpy(coarse).bfloat16().float().numpy())
    policy = load_policy(tmp_path / "checkpoint", "cpu", torch.bfloat16)
    batch = {name: open_table(source).array(name).read() for name in policy.observations}
    with torch.inference_mode():
        expected = policy.run(batch, read=["block_2"]).reads["block_2"].float().numpy()
    np.testing.assert_array_equal(coarse, expected)
    assert 0 < np.linalg.norm(coarse - plain) / np.linalg.norm(plain) < 0.05


def test_what_is_imported_has_no_network(tmp_path):
    config = {"policies": {"mine": {"family": "activations", "checkpoints": {"own": {}}}}}
    config["policies"]["mine"]["captures"] = {"all": {"import": ["x.npz"], "sites": ["layer"]}}
    check_against("config", config, "config.yaml")
    config["policies"]["mine"]["captures"]["all"]["precision"] = "bfloat16"
    with pytest.raises(UserError, match="a capture records a source, or imports files"):
        check_against("config", config, "config.yaml")
