"""Weights in shards with an index, and headers of safetensors files, against the safetensors library."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import refused

from policylens.stores.headers import read_header, read_numbers
from policylens.stores.weight_files import INDEX, WHOLE, read_weights, weight_shapes

TENSORS = {f"layer.{number}": torch.arange(6.0).reshape(2, 3) + number for number in range(4)}
SHARDS = {
    "model-00001-of-00002.safetensors": ("layer.0", "layer.2"),
    "model-00002-of-00002.safetensors": ("layer.1", "layer.3"),
}
FIRST, SECOND = SHARDS
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]


@pytest.fixture
def sharded(tmp_path):
    """A folder as Hugging Face's tools write one."""
    for shard, names in SHARDS.items():
        save_file({name: TENSORS[name] for name in names}, tmp_path / shard)
    write_index(tmp_path)
    return tmp_path


def write_index(folder, **changed):
    named = {name: shard for shard, names in SHARDS.items() for name in names}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 96}, "weight_map": {**named, **changed}}))


def test_shards_are_one_checkpoint(sharded):
    found = read_weights(sharded)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())
    assert weight_shapes(sharded) == dict.fromkeys(TENSORS, (2, 3))


def test_a_whole_file_is_one_too(tmp_path):
    save_file(TENSORS, tmp_path / WHOLE, metadata={"format": "pt"})
    assert all(torch.equal(read_weights(tmp_path)[name], tensor) for name, tensor in TENSORS.items())
    assert weight_shapes(tmp_path) == dict.fromkeys(TENSORS, (2, 3))


def test_a_missing_shard_is_one_line(sharded):
    (sharded / SECOND).unlink()
    with refused(str(sharded), "lacks 1 of the 2 shards", SECOND, "copy them there too"):
        weight_shapes(sharded)


def test_what_index_and_shards_do_not_agree_on_is_one_line(sharded):
    write_index(sharded, **{"layer.4": SECOND})
    with refused(SECOND, "lacks the tensor 'layer.4'"):
        read_weights(sharded)
    write_index(sharded, **{"layer.1": FIRST})
    with refused(FIRST, "lacks the tensor 'layer.1'"):
        read_weights(sharded)
    write_index(sharded)
    save_file({name: TENSORS[name] for name in ("layer.0", "layer.1", "layer.2")}, sharded / FIRST)
    with refused(FIRST, "holds the tensor 'layer.1'", "does not place there"):
        read_weights(sharded)


def test_more_than_the_index_names_is_one_line(sharded):
    save_file(TENSORS, sharded / "model-00003-of-00003.safetensors")
    with refused("holds the shard model-00003-of-00003.safetensors", "remove it"):
        read_weights(sharded)
    (sharded / "model-00003-of-00003.safetensors").unlink()
    save_file(TENSORS, sharded / WHOLE)
    with refused("has both model.safetensors and model.safetensors.index.json"):
        read_weights(sharded)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}', "'a' stands there twice"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "needs a weight_map"),
        ('{"weight_map": {"a": "x.bin"}}', "needs a weight_map"),
        ('{"weight_map": {}}', "needs a weight_map"),
        ("[]", "needs a weight_map"),
        ('{"weight_map"', "not valid JSON"),
    ],
)
def test_a_wrong_index_is_one_line(sharded, text, part):
    (sharded / INDEX).write_text(text)
    with refused(str(sharded / INDEX), part):
        read_weights(sharded)


def test_no_weights_are_one_line(tmp_path):
    with refused(str(tmp_path), "has neither model.safetensors nor model.safetensors.index.json"):
        read_weights(tmp_path)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_those_of_the_library(tmp_path, dtype):
    path = tmp_path / "numbers.safetensors"
    tensors = {"some": torch.tensor([[0.0, 1.0], [1.5, 3.25]]).to(dtype), "none": torch.zeros(0, dtype=dtype)}
    save_file(tensors, path)
    assert read_numbers(path) == {name: x.double().flatten().tolist() for name, x in load_file(path).items()}


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[:4], lambda b: b"\xff" * 8 + b[8:]]
)
def test_a_damaged_file_is_one_line(tmp_path, damage):
    path = tmp_path / "x.safetensors"
    save_file(TENSORS, path)
    assert {name: entry.shape for name, entry in read_header(path).items()} == dict.fromkeys(TENSORS, (2, 3))
    path.write_bytes(damage(path.read_bytes()))
    with refused(str(path), "not a whole safetensors file"):
        read_header(path)
