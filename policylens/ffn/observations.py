"""Rows that a policy is run on: of a source, or files of one observation each as policy servers take them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from policylens.capture.batches import read_batch
from policylens.errors import UserError
from policylens.ffn.probe import Coordinates
from policylens.policies.protocol import Batch
from policylens.stores.tables import Table

TEXT_BYTES = 256
"""Texts are UTF-8 padded with zeros to so many bytes, as in sources."""
ALIASES = {"instruction": "prompt"}
"""Array of an observation -> what it is called where its own name is not there."""
REWRITE = (
    "python -c \"import sys, numpy as np; d = np.load(sys.argv[1], allow_pickle=True)['arr_0'].item(); flat = "
    "lambda d, at='': {k: v for n, x in d.items() for k, v in (flat(x, at + n + '/') if isinstance(x, dict) else "
    '{at + n: np.asarray(x)}).items()}; np.savez(sys.argv[1], **flat(d))" FILE'
)
"""What turns a file with a pickled dict into one of plain arrays; run by its owner, who knows where it is from."""


def source_batches(
    source: Table, names: Sequence[str], rows: np.ndarray, size: int
) -> Iterator[tuple[Batch, Coordinates]]:
    """Batches of at most `size` of some rows of a source, with episode and step of each row. rows: (n,) row numbers."""
    episodes, steps = (source.coordinate(name) for name in ("episode", "step"))
    for start in range(0, len(rows), size):
        piece = rows[start : start + size]
        yield read_batch(source, names, piece), (episodes[piece].astype(np.int64), steps[piece].astype(np.int64))


def file_batches(
    files: Sequence[Path], names: Sequence[str], size: int, called: Mapping[str, str] | None = None
) -> Iterator[tuple[Batch, Coordinates]]:
    """Batches of at most `size` observations, one per .npz file; the place of a file in the list is its episode.

    called: array -> its name in the files. Raises UserError naming the file if it is not an observation of the policy,
    or of other shapes than the file before.
    """
    for start in range(0, len(files), size):
        piece = files[start : start + size]
        found = [read_observation(path, names, called or {}) for path in piece]
        for path, one in zip(piece, found, strict=True):
            _check_like(path, one, piece[0], found[0])
        batch = {name: np.stack([one[name] for one in found]) for name in names}
        yield batch, (np.arange(start, start + len(piece)), np.zeros(len(piece), np.int64))


def _check_like(path: Path, one: Mapping[str, np.ndarray], first: Path, other: Mapping[str, np.ndarray]) -> None:
    for name, values in one.items():
        if values.shape != other[name].shape:
            raise UserError(
                f"{path}: array {name!r} has shape {values.shape}, that of {first} {other[name].shape}; "
                "give files of one kind"
            )


def read_observation(path: Path, names: Sequence[str], called: Mapping[str, str]) -> dict[str, np.ndarray]:
    """One observation, an array per name. A name is looked for as it is, then as the end of `observation/name`.

    Raises UserError for a file that is missing or broken, holds pickled objects, or lacks an array.
    """
    arrays = _plain_arrays(path)
    ends = {key.rpartition("/")[2]: key for key in arrays}
    found = {}
    for name in names:
        wanted = called.get(name)
        options = [wanted] if wanted else [name, ends.get(name), ALIASES.get(name), ends.get(ALIASES.get(name, ""))]
        key = next((option for option in options if option in arrays), None)
        if key is None:
            raise UserError(
                f"{path}: has no array {wanted or name!r}; it has: {', '.join(sorted(arrays))}; say with `names` what "
                "stands for what"
            )
        found[name] = as_text_bytes(str(arrays[key]), path) if arrays[key].dtype.kind == "U" else arrays[key]
    return found


def as_text_bytes(text: str, path: Path) -> np.ndarray:
    """A text as sources keep it: (TEXT_BYTES,) uint8. UserError naming the file if it is too long."""
    encoded = text.encode()
    if len(encoded) > TEXT_BYTES:
        raise UserError(f"{path}: a text of {len(encoded)} bytes; at most {TEXT_BYTES} fit: shorten it")
    return np.frombuffer(encoded.ljust(TEXT_BYTES, b"\0"), np.uint8)


def _plain_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: not a whole .npz file; save it again with np.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # what is in the file can fail in any layer of the reader
        if isinstance(error, ValueError) and "pickle" in str(error):
            raise UserError(
                f"{path}: holds a pickled object, which is not loaded; if you trust it, rewrite it with: {REWRITE}"
            ) from None
        raise UserError(f"{path}: not a whole .npz file ({type(error).__name__}); save it again") from None
