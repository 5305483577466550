"""What a safetensors file holds, by its header: names, types and shapes without torch, and without reading numbers."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import NamedTuple

from policylens.errors import UserError

LENGTH = struct.Struct("<Q")
LONGEST = 100_000_000
"""Bytes of a header that the format allows."""
NUMBERS = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U8": "<u1", "BOOL": "<u1"},
}
"""Type -> the array that its bytes are; of bfloat16 the bits."""


class Entry(NamedTuple):
    """A tensor of a file. dtype: as the format spells it, "F32". start, stop: its bytes in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of a safetensors file by name; UserError naming a file that is missing, cut short or another kind."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        with open(path, "rb") as handle:
            (length,) = LENGTH.unpack(handle.read(LENGTH.size))
            if length > LONGEST:
                raise ValueError("its header has no sensible length")
            record = json.loads(handle.read(length))
        first = LENGTH.size + length
        found = {name: _entry(entry, first) for name, entry in record.items() if name != "__metadata__"}
        wanted = max((entry.stop for entry in found.values()), default=first)
        if path.stat().st_size != wanted:
            raise ValueError(f"it has {path.stat().st_size} bytes, its header tells of {wanted}")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}); copy or export it again") from None
    return found


def _entry(entry: dict, first: int) -> Entry:
    dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if dtype in NUMBERS and stop - start != math.prod(shape) * int(NUMBERS[dtype][2]):
        raise ValueError(f"{dtype} {shape} takes other than {stop - start} bytes")
    return Entry(dtype, shape, first + start, first + stop)


def read_numbers(path: Path) -> dict[str, list[float]]:
    """All tensors of a small safetensors file, each flat. UserError as of `read_header`, and for exotic types."""
    import numpy as np

    header, content, found = read_header(path), Path(path).read_bytes(), {}
    for name, entry in header.items():
        if entry.dtype not in NUMBERS:
            raise UserError(f"{path}: tensor {name!r} is of the type {entry.dtype}; export it as F32")
        values = np.frombuffer(content[entry.start : entry.stop], NUMBERS[entry.dtype])
        if entry.dtype == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        found[name] = values.astype(np.float64).tolist()
    return found
