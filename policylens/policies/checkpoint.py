"""The one form of a checkpoint: a folder with model.safetensors and policy.json.

policy.json says what the network is and carries the weights' sha256, so that everything downstream can depend on
a small file. docs/formats.md is normative; schemas/policy.schema.json checks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policylens.errors import UserError
from policylens.stores.files import (
    read_json,
    read_tensors,
    remove_partial,
    sha256_of_file,
    write_json,
    write_tensors,
)
from policylens.stores.lock import writing
from policylens.stores.schemas import check_against
from policylens.stores.tensors import check_finite, check_names, check_shape

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "model.safetensors"
RECORD = "policy.json"
FORMAT = 1
EXPORT_AGAIN = "export the checkpoint again"


def write_checkpoint(
    folder: Path,
    *,
    family: str,
    architecture: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    training: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a checkpoint folder and return its record (the content of policy.json).

    architecture: everything besides the weights that is needed to build the network (JSON values).
    tensors: name -> tensor, all of them.
    training: how it was trained (JSON values), or None if unknown.
    origin: where it came from (JSON values), or None if it was trained here.
    policy.json is written last: a folder with one is whole.
    """
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).unlink(missing_ok=True)
        remove_partial(folder)
        write_tensors(folder / WEIGHTS, tensors)
        record = _record(folder, family, architecture, tensors, training, origin)
        write_json(folder / RECORD, record)
    return record


def _record(
    folder: Path,
    family: str,
    architecture: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    training: Mapping[str, Any] | None,
    origin: Mapping[str, Any] | None,
) -> dict[str, Any]:
    record = {
        "format": FORMAT,
        "family": family,
        "architecture": dict(architecture),
        "weights": {
            "file": WEIGHTS,
            "sha256": sha256_of_file(folder / WEIGHTS),
            "tensors": {
                name: {"shape": list(tensors[name].shape), "dtype": dtype_name(tensors[name])}
                for name in sorted(tensors)
            },
        },
    }
    if training is not None:
        record["training"] = dict(training)
    if origin is not None:
        record["origin"] = dict(origin)
    return record


def read_record(folder: Path) -> dict[str, Any]:
    """The parsed and checked policy.json of a checkpoint folder."""
    path = Path(folder) / RECORD
    record = read_json(path)
    check_against("policy", record, path)
    return record


def read_checkpoint(folder: Path, *, verify: bool = False) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Record and tensors of a checkpoint folder, strictly: names, shapes, dtypes and finiteness are checked.

    verify: also hash the weights and compare with the record (a large file takes a while).
    Raises UserError naming the file and the tensor that is wrong.
    """
    record = read_record(folder)
    path = Path(folder) / WEIGHTS
    tensors = read_tensors(path)
    if verify and sha256_of_file(path) != record["weights"]["sha256"]:
        raise UserError(f"{path}: its sha256 is not the one in {RECORD}; import the checkpoint again")
    _check_tensors(path, record["weights"]["tensors"], tensors)
    return record, tensors


def dtype_name(tensor: Tensor) -> str:
    """Of a tensor's dtype, as policy.json says it: "float32"."""
    return str(tensor.dtype).removeprefix("torch.")


def _check_tensors(path: Path, expected: Mapping[str, Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> None:
    check_names(tensors, expected, path, f"tensors do not match {RECORD}")
    for name, tensor in tensors.items():
        check_shape(tensor, expected[name]["shape"], path, name, RECORD)
        if dtype_name(tensor) != expected[name]["dtype"]:
            raise UserError(f"{path}: tensor {name!r} is {dtype_name(tensor)}, {RECORD} says {expected[name]['dtype']}")
    check_finite(tensors, path, EXPORT_AGAIN)


def take_tensors(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], what: str
) -> dict[str, Tensor]:
    """`tensors` if their names and shapes are exactly `expected`, else UserError saying what differs."""
    check_names(tensors, expected, what, "the weights do not fit the architecture")
    for name, shape in expected.items():
        check_shape(tensors[name], shape, what, name, "the architecture")
    return dict(tensors)
