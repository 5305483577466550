"""Writing a shard of an uncompressed array: byte for byte what zarr writes, without its two copies of the data.

A shard file of zarr v3's sharding codec is its chunks one after another, then an index (per chunk its offset and
length, uint64, or all ones where there is no chunk), then the index' crc32c. Where chunks cut only the rows and nothing
is compressed, "its chunks one after another" is the rows as they lie in memory.
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

NO_CHUNK = 2**64 - 1


def write_shard(array: Path, number: int, rows: np.ndarray, chunk_rows: int, shard_rows: int) -> None:
    """Write a shard of an array that lies in the folder `array`.

    number: of the shard, from 0. rows: (n, *row_shape), at most `shard_rows`, C order, little endian.
    chunk_rows: of which a chunk that is not full is filled up with zeros.
    """
    path = array.joinpath("c", str(number), *["0"] * (rows.ndim - 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    chunks = -(-len(rows) // chunk_rows)
    row_bytes = rows[:1].nbytes
    with path.open("wb") as file:
        file.write(rows.data)
        file.write(bytes((chunks * chunk_rows - len(rows)) * row_bytes))
        file.write(_index(chunks, chunk_rows * row_bytes, shard_rows // chunk_rows))


def _index(chunks: int, chunk_bytes: int, places: int) -> bytes:
    import google_crc32c  # zarr's own, see zarr.codecs.crc32c_

    index = np.full((places, 2), NO_CHUNK, dtype="<u8")
    index[:chunks, 0] = np.arange(chunks) * chunk_bytes
    index[:chunks, 1] = chunk_bytes
    content = index.tobytes()
    return content + google_crc32c.value(content).to_bytes(4, "little")
