"""Stores: what is written is what is read, equal content gives equal bytes, and damage is named."""

import errno
import json
import shutil

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support import refused, tree

from policylens.stores import layout
from policylens.stores.files import json_text, read_json, write_json
from policylens.stores.store import StoreWriter, read_root
from policylens.stores.tables import Column, open_table, write_index
from policylens.stores.verify import verify

DTYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint64",
    "float16",
    "float32",
    "float64",
    ">f4",
    ">i2",
)
ROW_SHAPES = ((), (3,), (2, 3), (1, 1, 2))


@st.composite
def tables(draw, most_rows=40):
    """Name -> array, all with one number of rows, and where to cut them into appends."""
    rows = draw(st.integers(0, most_rows))
    names = draw(st.lists(st.sampled_from(["a", "block_1", "Z-2"]), min_size=1, max_size=3, unique=True))
    arrays = {}
    for name in names:
        dtype, shape = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(ROW_SHAPES))
        arrays[name] = draw(hnp.arrays(dtype, (rows, *shape), fill=st.nothing() if rows < 5 else None))
    return arrays


def cuts(arrays):
    rows = len(next(iter(arrays.values())))
    return st.lists(st.integers(0, rows), max_size=5).map(lambda places: [0, *sorted(places), rows])


def writer(path, attributes=None, shard_bytes=256):
    """A writer of stores with few rows per shard."""
    return StoreWriter(path, "source", attributes or {}, shard_bytes)


def write(path, spaces, attributes=None, shard_bytes=256):
    """spaces: row space -> (arrays, cut points)."""
    with writer(path, attributes, shard_bytes) as store:
        for space, (arrays, places) in spaces.items():
            for start, stop in zip(places, places[1:], strict=False):
                store.group(space, ("a",) if "a" in arrays else ()).append(
                    {name: values[start:stop] for name, values in arrays.items()}
                )


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch, request):
    """Few rows per chunk, so that a test's rows fill several chunks and shards."""
    if "small" not in request.fixturenames:  # which writes shards of the usual size
        monkeypatch.setattr(layout, "CHUNK_BYTES", 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stores")


def fresh(folder):
    shutil.rmtree(folder / "case", ignore_errors=True)
    return folder / "case"


@settings(max_examples=20)
@given(st.data())
def test_what_is_written_is_read(folder, data):
    """Several row spaces, in pieces of any size; as a whole, as a range, scattered, by mask, and empty."""
    out = fresh(folder)
    arrays, others = data.draw(tables()), data.draw(tables())
    write(
        out / "part-0000.zarr", {"step": (arrays, data.draw(cuts(arrays))), "token": (others, data.draw(cuts(others)))}
    )
    write_index(out, ["part-0000"])
    for space, expected in (("step", arrays), ("token", others)):
        table = open_table(out, space)
        assert sorted(table.names) == sorted(expected)
        for name, values in expected.items():
            check_column(table.array(name), values, data)


def check_column(column, values, data):
    assert column.dtype == values.dtype.newbyteorder("<")
    assert column.shape == values.shape
    same(column.read(), values)
    start, stop, step = (data.draw(st.none() | st.integers(-50, 50)) for _ in range(3))
    same(column.read(slice(start, stop, step or None)), values[start : stop : step or None])
    mask = data.draw(hnp.arrays(bool, len(values)))
    same(column.read(mask), values[mask])
    same(column.read([]), values[:0])
    if len(values):
        rows = np.array(data.draw(st.lists(st.integers(0, len(values) - 1), max_size=12)), dtype=np.int64)
        same(column.read(rows), values[rows])
    pieces = list(column.chunks(7))
    assert all(0 < len(piece) <= 7 for _, piece in pieces)
    assert [first for first, _ in pieces] == list(np.cumsum([0, *(len(piece) for _, piece in pieces)])[:-1])
    same(np.concatenate([piece for _, piece in pieces]) if pieces else column.read([]), values)


def same(found, expected):
    assert found.dtype == expected.dtype.newbyteorder("<")
    np.testing.assert_array_equal(found, expected)  # NaN equals NaN


@settings(max_examples=15)
@given(st.data())
def test_parts_are_one_table(folder, data):
    out = fresh(folder)
    sizes = data.draw(st.lists(st.integers(0, 15), min_size=1, max_size=4))
    whole = np.arange(sum(sizes) * 2, dtype=np.float32).reshape(-1, 2)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    parts = [f"part-{number:04d}" for number in range(len(sizes))]
    for part, start, stop in zip(parts, bounds, bounds[1:], strict=False):
        write(
            out / f"{part}.zarr",
            {"step": ({"x": whole[start:stop], "episode": np.arange(start, stop)}, [0, stop - start])},
        )
    write_index(out, parts)
    table = open_table(out)
    assert table.n_rows == len(whole)
    check_column(table.array("x"), whole, data)
    for part, start, stop in zip(parts, bounds, bounds[1:], strict=False):
        assert table.rows_of_part(part) == slice(start, stop)
        assert all(table.part_of_row(row) == part for row in range(start, stop))


@settings(max_examples=15)
@given(st.data())
def test_xarray_sees_the_same(folder, data):
    out = fresh(folder)
    arrays = data.draw(tables())
    write(out / "part-0000.zarr", {"step": (arrays, data.draw(cuts(arrays)))})
    with xarray.open_zarr(out / "part-0000.zarr", group="step", consolidated=False) as seen:
        assert set(seen.variables) == set(arrays)
        assert set(seen.coords) == {"a"} & set(arrays)
        for name, values in arrays.items():
            assert seen[name].dims == ("row", *(f"{name}_{axis}" for axis in range(values.ndim - 1)))
            np.testing.assert_array_equal(seen[name].values, values)


@settings(max_examples=15)
@given(st.data())
def test_equal_content_gives_equal_bytes(folder, data):
    """Whatever the pieces in which it came, and whatever stood there before."""
    out = fresh(folder)
    arrays = data.draw(tables())
    trees = []
    for number in range(3):
        path = out / ("again.zarr" if number else "first.zarr")
        write(path, {"step": (arrays, data.draw(cuts(arrays)))}, {"provenance": {"seed": 3}})
        trees.append(tree(path))
    assert trees[0] == trees[1] == trees[2]
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == [], "a lock was left behind"


def test_digests_depend_on_values_alone(folder):
    out = fresh(folder)
    values = np.arange(60, dtype=np.float32).reshape(20, 3)
    found = []
    for number, (kept, bytes_of_shard) in enumerate(
        [(values, 256), (values, 4096), (values + 1, 256), (values.reshape(30, 2), 256)]
    ):
        write(out / f"{number}.zarr", {"step": ({"x": kept}, [0, len(kept)])}, shard_bytes=bytes_of_shard)
        found.append(read_root(out / f"{number}.zarr")["arrays"]["step/x"]["sha256"])
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_bfloat16_bits_are_read_as_float32(tmp_path):
    values = np.array([[1.0, -2.5], [3.0e38, 0.0]], dtype=np.float32)
    with writer(tmp_path / "part-0000.zarr") as store:
        group = store.group("step")
        group.column("x", "<u2", (2,), ("row", "x_unit"), {"encoding": "bfloat16"})
        group.append({"x": (values.view(np.uint32) >> 16).astype(np.uint16)})
    write_index(tmp_path, ["part-0000"])
    column = open_table(tmp_path).array("x")
    for found in (column.read(), column.read([0, 1]), next(column.chunks(2))[1]):
        assert found.dtype == column.dtype == np.float32
        np.testing.assert_allclose(found, values, rtol=2**-8)


def test_nothing_looks_whole_before_the_end(tmp_path):
    path = tmp_path / "part-0000.zarr"
    with writer(path) as store:
        group = store.group("step")
        for _ in range(50):
            group.append({"x": np.ones((8, 4))})
        store._threads.writing.drain()
        assert list(path.rglob("c/*/*")), "nothing has been written yet: the test shows nothing"
        with refused("part-0000.zarr", "not a finished store"):
            read_root(path)
        assert [finding.fault for finding in verify(tmp_path)] == [
            "unfinished: it has no root zarr.json; the next run clears and rebuilds it"
        ]
    assert read_root(path)["arrays"]["step/x"]["shape"] == [400, 4]


@pytest.mark.parametrize("before", [False, True])
def test_an_exception_leaves_no_store(tmp_path, before):
    path = tmp_path / "part-0000.zarr"
    if before:
        write(path, {"step": ({"x": np.ones(3)}, [0, 3])})
    with pytest.raises(KeyError), writer(path) as store:
        store.group("step").append({"x": np.ones((200, 4))})
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_rows_of_another_shape_are_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="rows of shape"),
        writer(tmp_path / "part-0000.zarr") as store,
    ):
        group = store.group("step")
        group.append({"x": np.ones((2, 4))})
        group.append({"x": np.ones((2, 5))})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["digest.ArrayDigest.update", "store.Column._write"])
@pytest.mark.parametrize("appends", [1, 50])
def test_an_error_of_another_thread_reaches_the_caller(tmp_path, monkeypatch, method, appends):
    """Whether it comes while rows are still being appended, or with the last shard."""

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"policylens.stores.{method}", fail)
    with pytest.raises(OSError, match="No space"), StoreWriter(tmp_path / "part-0000.zarr", "source", {}, 64) as store:
        for _ in range(appends):
            store.group("step").append({"x": np.ones((2, 4))})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../../x", "a/b", "", "obs.image", "x" * 65])
def test_no_array_leaves_its_folder(tmp_path, name):
    inside = tmp_path / "deep" / "deeper"
    with refused(repr(name), "path"), writer(inside / "part-0000.zarr") as store:
        store.group("step").append({name: np.ones(3)})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("values", [np.array(["a"]), np.array([1j]), np.array([None]), np.array(["2020"], "M8[D]")])
def test_only_numbers_are_stored(tmp_path, values):
    with refused("'x'", "floats"), writer(tmp_path / "part-0000.zarr") as store:
        store.group("step").append({"x": values})


def test_uneven_arrays_are_refused(tmp_path):
    with pytest.raises(ValueError, match="equally many"), writer(tmp_path / "a.zarr") as store:
        store.group("step").append({"x": np.ones(3), "y": np.ones(2)})
    with pytest.raises(ValueError, match="different numbers"), writer(tmp_path / "a.zarr") as store:
        store.group("step").append({"x": np.ones(3)})
        store.group("step").append({"y": np.ones(2)})
    assert list(tmp_path.iterdir()) == []


def test_rows_that_are_not_there_are_refused():
    column = Column("x", [np_array(np.arange(5))])
    for rows in ([5], [-1], [0.5], np.ones(4, bool)):
        with pytest.raises(IndexError, match="'x'"):
            column.read(rows)


def np_array(values):
    """A zarr array in memory."""
    import zarr

    return zarr.array(values)


# Folders of parts


def two_parts(folder, **arrays):
    """Two parts of two episodes each; returns the folder."""
    for number in range(2):
        episodes = np.repeat([2 * number, 2 * number + 1], 5)
        values = {"episode": episodes, "x": np.full((10, 3), number + 0.5), **arrays}
        write(folder / f"part-000{number}.zarr", {"step": (values, [0, 10])})
    write_index(folder, ["part-0000", "part-0001"])
    return folder


def test_the_index_says_what_there_is(tmp_path):
    index = read_json(two_parts(tmp_path) / "index.json")
    assert index["rows"] == {"step": 20}
    assert index["arrays"] == {
        "step/episode": {"dtype": "<i8", "row_shape": []},
        "step/x": {"dtype": "<f8", "row_shape": [3]},
    }
    assert [part["rows"] for part in index["parts"]] == [{"step": 10}] * 2
    assert (tmp_path / "index.json").read_text() == json_text(index)


def test_parts_that_do_not_belong_together_are_refused(tmp_path):
    two_parts(tmp_path)
    write(tmp_path / "part-0001.zarr", {"step": ({"episode": np.arange(4)}, [0, 4])})
    with refused("part-0001.zarr", "step/x"):
        write_index(tmp_path, ["part-0000", "part-0001"])
    write(tmp_path / "part-0001.zarr", {"step": ({"episode": np.arange(1, 3), "x": np.ones((2, 3))}, [0, 2])})
    with refused("part-0001.zarr", "episode 1 is in part-0000"):
        write_index(tmp_path, ["part-0000", "part-0001"])
    with refused("part-0002.zarr", "not a finished store"):
        write_index(tmp_path, ["part-0000", "part-0002"])
    with refused("no parts"):
        write_index(tmp_path, [])


def test_what_the_index_does_not_describe_is_not_read(tmp_path):
    table = open_table(two_parts(tmp_path))
    with refused("no array 'y'", "episode, x"):
        table.array("y")
    with refused("no part 'part-0009'", "part-0000"):
        table.rows_of_part("part-0009")
    with refused("no row space 'token'", "step"):
        open_table(tmp_path, "token")
    write(tmp_path / "part-0000.zarr", {"step": ({"episode": np.repeat([0, 1], 5), "x": np.zeros((10, 3))}, [0, 10])})
    with refused("part-0000.zarr", "index.json"):
        open_table(tmp_path).array("x")
    (tmp_path / "part-0000.zarr" / "zarr.json").unlink()
    with refused("part-0000.zarr", "not finished"):
        open_table(tmp_path).array("x")
    with refused("nowhere", "index.json"):
        open_table(tmp_path / "nowhere")


# Verification


def faults(path):
    return {str(finding.path.name): finding.fault for finding in verify(path) if finding.fault}


def damage(path, offset=10):
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x40
    path.write_bytes(content)


def test_sound_trees_are_silent(tmp_path):
    two_parts(tmp_path)
    findings = list(verify(tmp_path))
    assert [finding.path.name for finding in findings] == ["part-0000.zarr", "part-0001.zarr", "index.json"]
    assert all(finding.fault is None for finding in findings)
    assert [finding.path for finding in verify(tmp_path / "part-0000.zarr")] == [tmp_path / "part-0000.zarr"]
    assert len(list(verify(tmp_path / "part-0000.zarr" / "zarr.json"))) == 1
    with refused("nowhere"):
        list(verify(tmp_path / "nowhere"))


@pytest.mark.parametrize("array", ["x", "episode"])
def test_a_flipped_byte_is_named(tmp_path, array):
    """`x` is stored plainly, `episode` is compressed."""
    two_parts(tmp_path)
    damage(
        next(path for path in sorted((tmp_path / "part-0001.zarr" / "step" / array / "c").rglob("*")) if path.is_file())
    )
    found = faults(tmp_path)
    assert list(found) == ["part-0001.zarr"]
    assert f"array step/{array}: " in found["part-0001.zarr"]


def test_a_missing_chunk_is_named(tmp_path):
    """Zarr itself reads it as zeros."""
    two_parts(tmp_path)
    shutil.rmtree(tmp_path / "part-0000.zarr" / "step" / "x" / "c")
    assert faults(tmp_path) == {"part-0000.zarr": "array step/x: its values are not those that were written"}


def edit_json(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def set_sha(document):
    document["attributes"]["policylens"]["arrays"]["step/x"]["sha256"] = "0" * 64


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (set_sha, "array step/x: its values are not those that were written"),
        (
            lambda d: d["attributes"]["policylens"]["arrays"]["step/x"].update(shape=[11, 3]),
            "shape [10, 3], [11, 3] was",
        ),
        (lambda d: d["attributes"]["policylens"]["arrays"]["step/x"].update(dtype="<f4"), "dtype float64, <f4 was"),
        (lambda d: d["attributes"]["policylens"]["arrays"]["step/x"].clear(), "cannot be read"),
        (lambda d: d["attributes"]["policylens"].update(format=99), "store format 99, this version reads 1"),
        (lambda d: d["attributes"].update(policylens=3), "not the root of a store of this project"),
        (lambda d: d.clear(), "not the root of a store of this project"),
    ],
)
def test_an_edited_root_is_named(tmp_path, change, fault):
    two_parts(tmp_path)
    edit_json(tmp_path / "part-0000.zarr" / "zarr.json", change)
    found = faults(tmp_path)
    assert fault in found["part-0000.zarr"]
    assert found["index.json"] == "was made from another version of the part part-0000"


def test_missing_pieces_are_named(tmp_path):
    two_parts(tmp_path)
    (tmp_path / "part-0000.zarr" / "zarr.json").unlink()
    shutil.rmtree(tmp_path / "part-0001.zarr" / "step" / "episode")
    found = faults(tmp_path)
    assert found["part-0000.zarr"].startswith("unfinished")
    assert found["part-0001.zarr"] == "array step/episode: missing"
    assert found["index.json"] == "names the part part-0000, which is not there"
    (tmp_path / "part-0001.zarr" / "step" / "zarr.json").unlink()
    assert faults(tmp_path)["part-0001.zarr"] == "group step: missing"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "not valid JSON"),
        ("[1]", "not an index"),
        ('{"parts": [3]}', "not an index"),
        ('{"parts": 3}', "not an index"),
    ],
)
def test_a_broken_index_is_named(tmp_path, text, fault):
    two_parts(tmp_path)
    (tmp_path / "index.json").write_text(text)
    assert fault in faults(tmp_path)["index.json"]


def test_an_index_that_miscounts_is_named(tmp_path):
    two_parts(tmp_path)
    edit_json(tmp_path / "index.json", lambda document: document["parts"][1]["rows"].update(step=9))
    assert faults(tmp_path) == {"index.json": "miscounts the rows of part-0001"}


def test_damaged_weights_are_named(small):
    assert faults(small.folder) == {}
    damage(small.checkpoint / "model.safetensors", -4)
    assert faults(small.folder) == {"model.safetensors": "its sha256 is not the one in policy.json"}
    (small.checkpoint / "model.safetensors").unlink()
    assert faults(small.folder) == {"model.safetensors": "missing"}
    write_json(small.checkpoint / "policy.json", {"weights": {}})
    assert faults(small.folder) == {"policy.json": "does not say what its weights are"}


# Small files


def test_json_is_written_one_way(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1.5, "ü"], "a": {"z": None, "y": True}})
    assert (tmp_path / "a.json").read_bytes() == json_text({"a": {"y": True, "z": None}, "b": [1.5, "ü"]}).encode()
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert read_json(tmp_path / "a.json")["b"] == [1.5, "ü"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "a.json" / "b.json"):
        with refused(str(path)):
            read_json(path)
