"""Observations as policy servers take them, for a small pi0.5: the published one runs, others are one clear line."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lerobot", reason="LeRobot is in the environment `vla` alone: make test-all")

from support import run_here
from vla_made import architecture, weights

from policylens.capture.sources import write_source
from policylens.capture.splits import write_splits
from policylens.ffn.store import read_strengths
from policylens.policies.checkpoint import write_checkpoint
from policylens.policies.rollout import Rollout
from policylens.project.ffn import PROBED, ffn_settings, part_of
from policylens.stores.texts import encode_text

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "assets" / "vla_steering" / "test_observation.npz"
SITE = "language_1_ffn"


def checkpoint(folder, state):
    """A pi0.5 whose states have so many numbers, with the words of the published instruction."""
    given = {"mode": "quantiles", "q01": [-2.0] * state, "q99": [2.0] * state}
    own = architecture("pi05", state=state)
    own["normalisation"] = {**own["normalisation"], "state": given}
    own["tokenizer"] = {"words": [*own["tokenizer"]["words"], "pick", "up", "object"]}
    write_checkpoint(folder, family="pi05", architecture=own, tensors=weights(own))
    return folder


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("seven") / "small", 7)


def probe(folder, out, block):
    block = part_of(ffn_settings({"sites": [SITE], **block}, 0), PROBED)
    run_here("workflow_scripts/probe_ffn.py", "--checkpoint", folder, "--block", json.dumps(block), "--out", out)


def observation(path, **changes):
    """A file like the published one, of other sizes."""
    rng = np.random.default_rng(0)
    arrays = {
        "observation/image": rng.integers(0, 255, (32, 32, 3), dtype=np.uint8),
        "observation/wrist_image": rng.integers(0, 255, (32, 32, 3), dtype=np.uint8),
        "observation/state": rng.normal(size=7).astype(np.float32),
        "prompt": np.array("pick up the object"),
    }
    kept = {name: value for name, value in {**arrays, **changes}.items() if value is not None}
    np.savez(path, **kept)
    return str(path)


def test_the_published_observation_runs(seven, tmp_path):
    if not PUBLISHED.exists():
        pytest.skip("the published observation is not there")
    probe(seven, tmp_path / "a.zarr", {"observations": [str(PUBLISHED)]})
    strengths, attributes = read_strengths(tmp_path / "a.zarr")
    (site,) = attributes["sites"]
    # 16 tokens of each image; <bos> Task: pick up the object, State: seven bins; Action: and no padding.
    assert (site["rows"], site["positions"]) == (1, 2 * 16 + 20)
    largest, token = strengths[SITE]["max_abs"], strengths[SITE]["token"]
    assert largest.min() > 0
    assert set(token.tolist()) <= set(range(2 * 16 + 20))


def test_names_say_what_stands_for_what(seven, tmp_path):
    plain = observation(tmp_path / "plain.npz")
    renamed = {"observation/state": None, "joints": np.load(plain)["observation/state"]}
    other = observation(tmp_path / "other.npz", **renamed)
    probe(seven, tmp_path / "plain.zarr", {"observations": [plain]})
    probe(seven, tmp_path / "other.zarr", {"observations": [other], "names": {"state": "joints"}})
    own, theirs = (read_strengths(tmp_path / f"{name}.zarr")[0][SITE] for name in ("plain", "other"))
    np.testing.assert_array_equal(own["max_abs"], theirs["max_abs"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"observation/state": np.zeros(8, np.float32)}, "states 'state' are (1, 8); this policy's are (n, 7)"),
        ({"observation/image": np.zeros((32, 32, 3), np.float32)}, "must be (1, h, w, 3) uint8"),
        ({"observation/wrist_image": None}, "has no array 'wrist_image'"),
        ({"prompt": np.array("pick up the object " * 12)}, "shorten the instruction"),
        ({"prompt": np.array({"text": "pick up"}, dtype=object)}, "holds a pickled object"),
    ],
)
def test_an_observation_of_something_else_is_one_line(seven, tmp_path, capsys, changes, said):
    path = observation(tmp_path / "it.npz", **changes)
    with pytest.raises(AssertionError, match="ended with 1"):
        probe(seven, tmp_path / "a.zarr", {"observations": [path]})
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"error: {path}: ")
    assert said in line
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"wrist_image": None}, "no array 'wrist_image'"),
        ({"image": np.zeros((6, 8, 8, 3), np.float32)}, "images 'image' are torch.float32"),
        ({"state": np.zeros((6, 4), np.float32)}, "states 'state' are (1, 4); this policy's are (n, 7)"),
        ({"instruction": np.stack([encode_text("open the drawer " * 14)] * 6)}, "shorten the instruction"),
    ],
)
def test_a_source_of_something_else_is_one_line(seven, tmp_path, capsys, changes, said):
    arrays = {
        "image": np.zeros((6, 8, 8, 3), np.uint8),
        "wrist_image": np.zeros((6, 8, 8, 3), np.uint8),
        "state": np.zeros((6, 7), np.float32),
        "instruction": np.stack([encode_text("open the drawer")] * 6),
        "episode": np.repeat(np.arange(3), 2),
        "step": np.tile(np.arange(2, dtype=np.int32), 3),
    }
    steps = {name: value for name, value in {**arrays, **changes}.items() if value is not None}
    episodes = {"episode": np.arange(3), "length": np.full(3, 2, np.int32)}
    split = {"train": 0.5, "validation": 0.2, "test": 0.3}
    write_source(tmp_path / "source" / "part-0000.zarr", [Rollout(steps, episodes)], split, "source", {})
    write_splits(tmp_path / "source", ["part-0000"], split, "source")
    settings = {"source": "source", "sites": ["language_1"], "tokens": {"kinds": ["language"]}}
    words = ["--checkpoint", seven, "--source", tmp_path / "source", "--settings", settings]
    with pytest.raises(AssertionError, match="ended with 1"):
        run_here("workflow_scripts/capture.py", *words, "--out", tmp_path / "part-0000.zarr")
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"error: {tmp_path / 'source'}: not for this policy, which takes image, wrist_image, state")
    assert said in line
    assert not (tmp_path / "part-0000.zarr").exists()
