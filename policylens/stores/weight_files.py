"""A folder's weights: one safetensors file, or several shards with an index, as Hugging Face's tools write them.

model.safetensors.index.json names for each tensor the shard that holds it. Index and shards must say the same: a
tensor that is read from the wrong file, or not at all, shows in no shape.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policylens.errors import UserError
from policylens.stores.files import read_tensors
from policylens.stores.headers import Entry, read_header

if TYPE_CHECKING:
    from torch import Tensor

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARDS = "model-*-of-*.safetensors"


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's weights; UserError as of `weight_headers`.

    Files are mapped into memory, not copied: numbers are read as they are used.
    """
    return {name: tensor for path in weight_headers(folder) for name, tensor in read_tensors(path).items()}


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all tensors of a folder's weights, from headers alone; UserError as of `weight_headers`."""
    return {name: entry.shape for header in weight_headers(folder).values() for name, entry in header.items()}


def weight_headers(folder: Path) -> dict[Path, dict[str, Entry]]:
    """File -> its tensors, of all files of a folder's weights.

    UserError in one line for a folder without weights or with both forms, a shard that is missing or broken, a shard
    that the index does not name, and a tensor that does not stand exactly where the index says.
    """
    folder = Path(folder)
    whole, index = folder / WHOLE, folder / INDEX
    if not index.is_file() and not whole.is_file():
        raise UserError(f"{folder}: has neither {WHOLE} nor {INDEX}; give the folder of a checkpoint")
    if not index.is_file():
        return {whole: read_header(whole)}
    if whole.is_file():
        raise UserError(f"{folder}: has both {WHOLE} and {INDEX}; leave only the one that is meant")
    named = _weight_map(index)
    shards = sorted(set(named.values()))
    if missing := [shard for shard in shards if not (folder / shard).is_file()]:
        raise UserError(
            f"{folder}: lacks {len(missing)} of the {len(shards)} shards that {INDEX} names, {missing[0]} first; "
            "copy them there too"
        )
    if strange := sorted({path.name for path in folder.glob(SHARDS)} - set(shards)):
        raise UserError(f"{folder}: holds the shard {strange[0]}, which {INDEX} does not name; remove it")
    headers = {folder / shard: read_header(folder / shard) for shard in shards}
    for path, header in headers.items():
        _check_shard(path, header, {name for name, shard in named.items() if shard == path.name})
    return headers


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor -> shard; UserError for an index that says something else."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"{index}: {twice!r} stands there twice; export the checkpoint again")
        return dict(pairs)

    try:
        record = json.loads(index.read_text(encoding="utf-8"), object_pairs_hook=once)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{index}: not valid JSON ({error}); copy or export it again") from None
    found = record.get("weight_map") if isinstance(record, dict) else None
    if not isinstance(found, dict) or not found or not all(map(_is_shard, found.values())):
        raise UserError(f"{index}: needs a weight_map, from each tensor's name to a .safetensors file beside the index")
    return found


def _is_shard(name: Any) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name and "\\" not in name


def _check_shard(path: Path, header: dict[str, Entry], expected: set[str]) -> None:
    for wrong, what in (
        (sorted(expected - header.keys()), f"lacks the tensor {{}}, which {INDEX} places there"),
        (sorted(header.keys() - expected), f"holds the tensor {{}}, which {INDEX} does not place there"),
    ):
        if wrong:
            raise UserError(f"{path}: {what.format(repr(wrong[0]))}; shards and index must be of one export")
