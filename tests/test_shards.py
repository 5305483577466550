"""Shards written without zarr are byte for byte those that zarr writes."""

import numpy as np
import pytest
import zarr

from policylens.stores.shards import write_shard


@pytest.mark.parametrize("row_shape", [(), (3,), (2, 3), (1, 4, 2)])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<u2"])
@pytest.mark.parametrize("rows", [1, 4, 11, 12, 13, 24, 31])
def test_shards_are_the_ones_of_zarr(tmp_path, row_shape, dtype, rows):
    """Full shards, a last one that is not full, and a last chunk that is not."""
    shape = (rows, *row_shape)
    values = np.random.default_rng(0).integers(0, 2**8, shape).astype(dtype)
    values[:4] = 0  # a chunk of nothing but the fill value is written too
    array = zarr.create_array(
        str(tmp_path / "zarr"),
        shape=shape,
        dtype=dtype,
        chunks=(4, *row_shape),
        shards=(12, *row_shape),
        compressors=None,
        fill_value=0,
        config={"write_empty_chunks": True},
    )
    array[:] = values
    for number, start in enumerate(range(0, rows, 12)):
        write_shard(tmp_path / "ours", number, values[start : start + 12], 4, 12)
    expected = {
        path.relative_to(tmp_path / "zarr"): path for path in (tmp_path / "zarr" / "c").rglob("*") if path.is_file()
    }
    found = {path.relative_to(tmp_path / "ours"): path for path in (tmp_path / "ours").rglob("*") if path.is_file()}
    assert found.keys() == expected.keys()
    assert all(found[name].read_bytes() == path.read_bytes() for name, path in expected.items())
