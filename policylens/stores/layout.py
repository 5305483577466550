"""How an array is cut into chunks (what is read at once) and shards (files, what is written at once)."""

from __future__ import annotations

import math

CHUNK_BYTES = 2 * 2**20
SHARD_BYTES = 64 * 2**20
LONGEST_CHUNK = 2**16


def rows_per_chunk(row_bytes: int, shard_bytes: int = SHARD_BYTES, expected_rows: int | None = None) -> int:
    """Rows in a chunk: a power of two, about 2 MiB (less where a shard is smaller), at most 65,536 rows.

    expected_rows: of the whole array, where known: a chunk is no longer than it takes to hold them.
    """
    rows = max(1, min(CHUNK_BYTES, shard_bytes) // max(1, row_bytes))
    return min(LONGEST_CHUNK, 2 ** int(math.log2(rows)), _enough(expected_rows))


def rows_per_shard(row_bytes: int, shard_bytes: int = SHARD_BYTES, expected_rows: int | None = None) -> int:
    """Rows in a shard: whole chunks, about `shard_bytes`, at least one chunk, no more than the expected rows take."""
    chunk = rows_per_chunk(row_bytes, shard_bytes, expected_rows)
    rows = chunk * max(1, shard_bytes // (chunk * max(1, row_bytes)))
    return rows if _enough(expected_rows) > rows else max(chunk, _enough(expected_rows))


def _enough(rows: int | None) -> int:
    """The power of two that holds so many rows; no bound where they are not known."""
    return 1 << 62 if rows is None else 1 << max(0, rows - 1).bit_length()
