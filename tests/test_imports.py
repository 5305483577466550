"""A user's own activations and observations: read back as they were, or refused with the place of the fault."""

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
import zarr
from support import as_word, clear_line, observations, refused, run, run_here, script_command

from policylens.capture.imports import import_activations, import_rollout
from policylens.capture.settings import SPLIT
from policylens.capture.sources import write_source
from policylens.policies.rollout import Rollout
from policylens.stores.foreign import read_arrays
from policylens.stores.splits import split_of_episodes
from policylens.stores.tables import open_table, write_index


def activations(number=0, episodes=12, steps=10, width=5):
    generator = np.random.default_rng(number)
    rows = episodes * steps
    return {
        "layer_3": generator.normal(size=(rows, width)).astype(np.float32),
        "tokens": generator.normal(size=(rows, 4, width)),
        "episode": np.repeat(np.arange(number * episodes, (number + 1) * episodes), steps),
        "reward": generator.normal(size=rows),
    }


def save(path, arrays):
    """Write arrays as what the path's suffix says."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".zarr":
        group = zarr.open_group(path, mode="w")
        for name, values in arrays.items():
            group.create_array(name, data=values)
    else:
        torch.save({name: torch.from_numpy(values) for name, values in arrays.items()}, path)
    return path


def bring(path, out, sites=("layer_3",), dtype="float32", first_episode=0, each_row_is_an_episode=False):
    """Import a file as a part."""
    import_activations(
        path,
        out,
        sites,
        dtype=dtype,
        fractions=SPLIT,
        salt="own",
        each_row_is_an_episode=each_row_is_an_episode,
        first_episode=first_episode,
        attributes={},
    )


def opened(folder, *parts):
    write_index(folder, parts)
    return open_table(folder)


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".zarr"])
def test_activations_come_back_as_they_were(tmp_path, suffix):
    arrays = activations()
    path = save(tmp_path / f"own{suffix}", arrays)
    bring(path, tmp_path / "own" / "part-0000.zarr", ["layer_3", "tokens"])
    table = opened(tmp_path / "own", "part-0000")
    assert sorted(table.names) == ["episode", "layer_3", "split", "step", "tokens"]
    np.testing.assert_array_equal(table.array("layer_3").read(), arrays["layer_3"])
    np.testing.assert_array_equal(table.array("tokens").read(), arrays["tokens"].astype(np.float32))
    np.testing.assert_array_equal(table.coordinate("episode"), arrays["episode"])
    np.testing.assert_array_equal(table.coordinate("step"), np.tile(np.arange(10), 12))
    shares = tuple(SPLIT.values())
    np.testing.assert_array_equal(table.coordinate("split"), split_of_episodes(arrays["episode"], shares, "own"))
    stored = zarr.open_array(tmp_path / "own" / "part-0000.zarr" / "step" / "tokens")
    assert stored.metadata.dimension_names == ("row", "tokens_axis0", "tokens_unit")


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 2**-10), ("bfloat16", 2**-7), ("float32", 0)])
def test_precision_is_the_captures(tmp_path, dtype, digits):
    arrays = activations()
    bring(save(tmp_path / "own.npz", arrays), tmp_path / "part-0000.zarr", dtype=dtype)
    found = opened(tmp_path, "part-0000").array("layer_3").read()
    np.testing.assert_allclose(found, arrays["layer_3"], rtol=digits, atol=1e-7)
    assert (digits == 0) == np.array_equal(found, arrays["layer_3"])


def test_coordinates_of_the_file_stand(tmp_path):
    arrays = activations() | {"step": np.arange(120)[::-1], "split": np.full(120, 2), "token": np.arange(120)}
    bring(save(tmp_path / "own.npz", arrays), tmp_path / "part-0000.zarr")
    table = opened(tmp_path, "part-0000")
    for name in ("step", "split", "token"):
        np.testing.assert_array_equal(table.coordinate(name), arrays[name])
    assert table.coordinate("split").dtype == np.int8


def test_several_files_are_several_parts(tmp_path):
    """Through the script, as the workflow runs it."""
    out = tmp_path / "own"
    settings = {"import": ["a.npz", "b.npz"], "sites": ["layer_3"]}
    for number in range(2):
        save(tmp_path / f"{number}.npz", activations(number))
        arguments = ["--import", tmp_path / f"{number}.npz", "--part", f"part-000{number}", "--settings", settings]
        run_here("workflow_scripts/capture.py", *arguments, "--out", out / f"part-000{number}.zarr")
    table = opened(out, "part-0000", "part-0001")
    expected = np.concatenate([activations(number)["layer_3"] for number in range(2)])
    np.testing.assert_array_equal(table.array("layer_3").read(), expected.astype(np.float16))
    assert len(np.unique(table.coordinate("episode"))) == 24
    provenance = table.attributes["provenance"]
    assert provenance["settings"]["dtype"] == "float16"
    assert list(provenance["inputs"]) == ["0.npz"]
    assert str(tmp_path) not in (out / "index.json").read_text() + json.dumps(provenance)


def test_files_that_share_an_episode_are_refused(tmp_path):
    for part in ("part-0000", "part-0001"):
        bring(save(tmp_path / "own.npz", activations(0)), tmp_path / f"{part}.zarr")
    with refused("part-0001.zarr", "episode 0 is in part-0000"):
        write_index(tmp_path, ["part-0000", "part-0001"])


def test_rows_can_be_episodes_if_that_is_said(tmp_path):
    arrays = {"layer_3": activations()["layer_3"]}
    path = save(tmp_path / "own.npz", arrays)
    with refused("own.npz", "no integer array 'episode'", "each_row_is_an_episode: true"):
        bring(path, tmp_path / "part-0000.zarr")
    for number in range(2):
        out = tmp_path / f"part-000{number}.zarr"
        bring(path, out, each_row_is_an_episode=True, first_episode=number << 32)
    episodes = opened(tmp_path, "part-0000", "part-0001").coordinate("episode")
    assert len(np.unique(episodes)) == 240
    with refused("own.npz", "each_row_is_an_episode"):
        bring(save(path, activations()), tmp_path / "part-0000.zarr", each_row_is_an_episode=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_named(tmp_path, value):
    arrays = activations()
    arrays["layer_3"][77, 3] = value
    with refused("'layer_3'", "row 77", "NaN or infinite"):
        bring(save(tmp_path / "own.npz", arrays), tmp_path / "part-0000.zarr")
    assert not (tmp_path / "part-0000.zarr").exists()


def test_what_does_not_fit_float16_says_so(tmp_path):
    arrays = activations()
    arrays["layer_3"][77, 3] = -7e4
    arrays["layer_3"][3, 3] = 65504
    path = save(tmp_path / "own.npz", arrays)
    with refused("'layer_3'", "row 77", "does not fit float16", "bfloat16 or float32"):
        bring(path, tmp_path / "part-0000.zarr", dtype="float16")
    bring(path, tmp_path / "part-0000.zarr", dtype="bfloat16")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"layer_3": None}, ("no array 'layer_3'", "it has: episode")),
        ({"layer_3": np.arange(120)}, ("'layer_3' must be floating point", "int64 (120,)")),
        ({"layer_3": np.ones(120)}, ("'layer_3' must be floating point", "float64 (120,)")),
        ({"layer_3": np.ones((0, 3)), "episode": np.arange(0)}, ("'layer_3' has no rows",)),
        ({"episode": np.arange(119)}, ("'episode' has 119 rows, the activations have 120",)),
        ({"episode": np.arange(120) % 2}, ("rows of an episode must stand together",)),
        ({"split": np.full(120, 4)}, ("'split' must hold codes (0 train, 1 validation",)),
        ({"../../x": np.arange(120)}, ("'../../x' cannot be part of a path",)),
    ],
)
def test_faults_of_a_file_are_named(tmp_path, changes, parts):
    arrays = {name: values for name, values in (activations() | changes).items() if values is not None}
    (tmp_path / "in").mkdir()
    with refused(*parts):
        bring(save(tmp_path / "in" / "own.npz", arrays), tmp_path / "out" / "part-0000.zarr")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["own.npz"]


def test_sites_of_different_lengths_are_refused(tmp_path):
    path = save(tmp_path / "own.npz", activations() | {"other": np.ones((7, 2))})
    with refused("own.npz", "layer_3 120, other 7"):
        bring(path, tmp_path / "part-0000.zarr", ["layer_3", "other"])


def test_bytes_of_other_machines_are_read(tmp_path):
    arrays = {name: values.astype(values.dtype.newbyteorder(">")) for name, values in activations().items()}
    bring(save(tmp_path / "own.npz", arrays), tmp_path / "part-0000.zarr")
    np.testing.assert_array_equal(opened(tmp_path, "part-0000").array("layer_3").read(), activations()["layer_3"])


class Evil:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


def evil_zarr(path, mark):
    """An array of zarr's format 2 whose one chunk is a pickle."""
    (path / "x").mkdir(parents=True)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    codecs = {"filters": None, "compressor": {"id": "pickle", "protocol": 5}}
    array = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "<f8", "order": "C", "fill_value": 0, **codecs}
    (path / "x" / ".zarray").write_text(json.dumps(array))
    (path / "x" / "0").write_bytes(pickle.dumps(Evil(mark)))


def test_pickles_are_refused_and_never_run(tmp_path):
    mark = tmp_path / "mark"
    np.savez(tmp_path / "a.npz", layer_3=np.array([Evil(mark)], dtype=object))
    torch.save({"layer_3": Evil(mark)}, tmp_path / "a.pt")
    evil_zarr(tmp_path / "a.zarr", mark)
    with refused("a.npz", "pickled objects"):
        read_arrays(tmp_path / "a.npz")
    with refused("a.zarr", "pickle"):
        read_arrays(tmp_path / "a.zarr")
    with refused("a.pt", "holds exec,"):
        read_arrays(tmp_path / "a.pt")
    assert not mark.exists()


def test_broken_files_are_named(tmp_path):
    whole = save(tmp_path / "own.npz", activations()).read_bytes()
    with refused("gone.npz", "no such file"):
        read_arrays(tmp_path / "gone.npz")
    for content in (b"", b"hello", whole[:-30], whole[: len(whole) // 2]):
        (tmp_path / "own.npz").write_bytes(content)
        with refused("own.npz", "not a whole .npz file"):
            read_arrays(tmp_path / "own.npz")
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    (tmp_path / "own.npz").write_bytes(damaged)
    with refused("own.npz", "not a whole .npz file"):
        read_arrays(tmp_path / "own.npz")
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("readme.txt", "no arrays")
    with refused("text.npz", "no arrays in it"):
        read_arrays(tmp_path / "text.npz")
    for path, content in (("own.csv", b"1,2"), ("own", b"")):
        (tmp_path / path).write_bytes(content)
        with refused(path, ".npz, .pt"):
            read_arrays(tmp_path / path)
    torch.save([torch.ones(3)], tmp_path / "list.pt")
    with refused("list.pt", "a dict from names to tensors"):
        read_arrays(tmp_path / "list.pt")


def test_dicts_within_a_dict_have_joined_names(tmp_path):
    """As activations are often recorded: {"activations": {layer: array}, ...}, of torch or of NumPy."""
    layers = {"layer_3": torch.ones(4, 2, dtype=torch.bfloat16), "layer_5": np.arange(8.0, dtype=np.float32)}
    torch.save({"activations": layers, "step": np.arange(4)}, tmp_path / "own.pt")
    found = read_arrays(tmp_path / "own.pt")
    assert set(found) == {"activations.layer_3", "activations.layer_5", "step"}
    np.testing.assert_array_equal(found["activations.layer_5"], np.arange(8.0))
    assert found["activations.layer_3"].dtype == np.float32
    others = {"a dict from names to tensors": "text", "holds numpy.dtypes.ObjectDType": np.array([None])}
    for part, other in others.items():
        torch.save({"activations": {**layers, "other": other}}, tmp_path / "own.pt")
        with refused("own.pt", part):
            read_arrays(tmp_path / "own.pt")


def test_a_pickle_is_one_line_that_says_what_to_do(tmp_path):
    (tmp_path / "own.pkl").write_bytes(pickle.dumps({"layer_3": np.ones((4, 2))}))
    with refused("own.pkl", "is a pickle", "np.savez"):
        read_arrays(tmp_path / "own.pkl")


def test_broken_zarr_is_named(tmp_path):
    (tmp_path / "empty.zarr").mkdir()
    with refused("empty.zarr", "not a whole zarr group"):
        read_arrays(tmp_path / "empty.zarr")
    path = save(tmp_path / "own.zarr", {"x": np.arange(5)})
    next(file for file in (path / "x" / "c").rglob("*") if file.is_file()).write_bytes(b"damaged")
    with refused("own.zarr", "not a whole zarr group"):
        read_arrays(path)


# Observations as a source


def test_own_observations_become_a_source(tmp_path):
    """Through the scripts, as the workflow runs them."""
    out, settings = tmp_path / "own", {"import": ["0.npz", "1.npz"]}
    for number in range(2):
        np.savez(tmp_path / f"{number}.npz", **observations(number))
        arguments = ["--input", tmp_path / f"{number}.npz", "--settings", settings, "--source", "own"]
        run_here("workflow_scripts/record_source.py", *arguments, "--out", out / f"part-000{number}.zarr")
    roots = [out / f"part-000{number}.zarr" / "zarr.json" for number in range(2)]
    run_here("workflow_scripts/index_source.py", "--parts", *roots, "--split", SPLIT, "--source", "own", "--out", out)
    steps, episodes = open_table(out), open_table(out, "episode")
    expected = np.concatenate([observations(number)["observation"] for number in range(2)])
    np.testing.assert_array_equal(steps.array("observation").read(), expected)
    np.testing.assert_array_equal(episodes.coordinate("length"), [15] * 20)
    counts = steps.index["splits"]
    assert sum(split["rows"] for split in counts.values()) == 300
    assert {name: split["rows"] for name, split in counts.items()} == {
        name: int((steps.coordinate("split") == code).sum())
        for code, name in enumerate(("train", "validation", "test", "excluded"))
    }


def test_groups_in_several_splits_are_settled_across_parts(tmp_path):
    from policylens.capture.splits import final_splits, write_splits

    parts = ["part-0000", "part-0001"]
    for number, part in enumerate(parts):
        arrays = observations(number, episodes=40, steps=3)
        arrays["group"] = (np.arange(120) % 7).astype(np.uint64)
        write_source(tmp_path / f"{part}.zarr", [import_rollout(save(tmp_path / "o.npz", arrays))], SPLIT, "own", {})
    index = write_splits(tmp_path, parts, SPLIT, "own")
    table = open_table(tmp_path)
    codes = final_splits(tmp_path, slice(0, 240))
    assert all(len(set(codes[(table.coordinate("group") == group) & (codes < 3)])) <= 1 for group in range(7))
    assert index["splits"]["excluded"]["rows"] == int((codes == 3).sum()) > 0
    (tmp_path / "splits.zarr" / "zarr.json").unlink()
    with refused("splits.zarr", "index.json"):
        final_splits(tmp_path, slice(0, 3))


def test_own_splits_of_observations_stand(tmp_path):
    arrays = observations(0) | {"split": np.repeat([0, 2], 75)}
    write_source(tmp_path / "part-0000.zarr", [import_rollout(save(tmp_path / "o.npz", arrays))], SPLIT, "own", {})
    np.testing.assert_array_equal(opened(tmp_path, "part-0000").coordinate("split"), arrays["split"])


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"episode": None}, ("no integer array 'episode'",)),
        ({"episode": np.zeros(150)}, ("no integer array 'episode'",)),
        ({"extra": np.ones(3)}, ("extra 3",)),
        ({"extra": np.float64(3)}, ("extra 0",)),
        ({"episode": np.arange(150) % 3}, ("stand together",)),
        ({"name": np.array(["a"] * 150)}, ("'name'", "no text")),
        ({"obs.image": np.ones(150)}, ("'obs.image' cannot be part of a path",)),
        ({"split": np.full(150, -1)}, ("'split' must hold codes",)),
    ],
)
def test_faults_of_observations_are_named(tmp_path, changes, parts):
    arrays = {name: values for name, values in (observations(0) | changes).items() if values is not None}
    with refused(*parts):
        rollout = import_rollout(save(tmp_path / "own.npz", arrays))
        write_source(tmp_path / "part-0000.zarr", [rollout], SPLIT, "own", {})
    assert not (tmp_path / "part-0000.zarr").exists()


def test_broken_observations_are_named_by_their_row_in_the_part(tmp_path):
    def rollout(first, value):
        steps = {"episode": np.full(5, first), "step": np.arange(5), "x": np.array([0, 0, value, 0, 0.0])}
        return Rollout(steps, {"episode": np.array([first]), "length": np.array([5])})

    with refused("part-0000.zarr", "'x' is NaN or infinite at row 7"):
        write_source(tmp_path / "part-0000.zarr", [rollout(0, 1.0), rollout(1, np.nan)], SPLIT, "own", {})
    with refused("part-0000.zarr", "empty"):
        write_source(tmp_path / "part-0000.zarr", [], SPLIT, "own", {})


def test_a_script_given_nonsense_says_so(tmp_path):
    words = script_command("capture", "--import", tmp_path / "own.npz", "--out", tmp_path / "part-0000.zarr")
    result = run([*words, "--settings", as_word({"sites": ["layer_3"]}), "--part", "first"])
    assert clear_line(result) == "part 'first': parts are called part-0000, part-0001, ..."
