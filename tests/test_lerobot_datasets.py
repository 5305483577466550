"""LeRobot datasets as sources: v3.0 and v2.1 are read as they were written, anything else is refused in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets_made import CLOSE, OPEN, Made, png, write_json, write_lines
from hypothesis import given
from hypothesis import strategies as st
from support import clear_line, environment, refused, run, run_here, script_command, tree

from policylens.datasets.frames import read_episodes
from policylens.datasets.info import read_info
from policylens.datasets.location import fetched, folder_of, lerobot_home
from policylens.datasets.meta import read_meta
from policylens.datasets.naming import array_names
from policylens.datasets.recording import chosen_episodes, description, rollouts
from policylens.stores.tables import open_table, write_index
from policylens.stores.texts import WIDTH, decode_texts, encode_text

VERSIONS = ("v3.0", "v2.1")


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def made(tmp_path, version):
    """A dataset's episodes, and the folder they are written to."""
    episodes = Made()
    return episodes, episodes.write(tmp_path / "drawer", version)


def meta_of(root):
    return read_meta(read_info(root))


def record(root, block=None):
    """All steps of a dataset as a source has them."""
    pieces = [rollout.steps for rollout in rollouts(meta_of(root), block or {}, 0, 1)]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def test_what_was_written_is_read(made):
    episodes, root = made
    steps = record(root)
    assert set(steps) == {"episode", "step", "task_index", "instruction", "image", "state", "action"}
    np.testing.assert_array_equal(steps["image"], np.concatenate(episodes.images))
    np.testing.assert_array_equal(steps["state"], np.concatenate(episodes.states))
    np.testing.assert_array_equal(steps["action"], np.concatenate(episodes.actions))
    np.testing.assert_array_equal(steps["episode"], np.repeat(np.arange(episodes.episodes), episodes.lengths))
    np.testing.assert_array_equal(steps["step"], np.concatenate([np.arange(n) for n in episodes.lengths]))
    texts = [episodes.tasks[episodes.task_of(number)] for number in range(episodes.episodes)]
    assert decode_texts(steps["instruction"]) == np.repeat(texts, episodes.lengths).tolist()
    assert [steps[name].dtype.str for name in ("image", "state", "step")] == ["|u1", "<f4", "<i4"]


def test_places_in_the_whole_dataset(made):
    episodes, root = made
    block = {"tasks": [CLOSE]}
    facts = [rollout.episodes for rollout in rollouts(meta_of(root), block, 0, 1)]
    assert [int(one["episode"][0]) for one in facts] == [1, 3, 5, 7, 9]
    assert [int(one["start"][0]) for one in facts] == episodes.starts[1::2]
    said = description(meta_of(root), block)
    assert said["total_frames"] == sum(episodes.lengths)
    assert sorted(said["files"]) == ["1", "3", "5", "7", "9"]
    assert all((root / file).is_file() for file in said["files"].values())


def test_parts_hold_whole_episodes_once(made):
    _, root = made
    whole = [int(one.episodes["episode"][0]) for part in range(3) for one in rollouts(meta_of(root), {}, part, 3)]
    assert whole == list(range(10))
    with refused("11 parts cannot hold 10 whole episodes"):
        list(rollouts(meta_of(root), {}, 0, 11))


def test_row_groups_need_not_be_episodes(tmp_path):
    """LeRobot writes a row group per episode; others need not, and a batch of rows need not end with one."""
    episodes = Made(episodes=8)
    root = episodes.write(tmp_path / "drawer", "v3.0")
    for file, numbers in (("file-000", range(4)), ("file-001", range(4, 8))):
        whole = pa.concat_tables([episodes.table(number) for number in numbers])
        pq.write_table(whole, root / "data" / "chunk-000" / f"{file}.parquet", row_group_size=37)
    np.testing.assert_array_equal(record(root)["state"], np.concatenate(episodes.states))
    some = record(root, {"episodes": [5, 2]})
    np.testing.assert_array_equal(some["state"], np.concatenate([episodes.states[2], episodes.states[5]]))


def test_groups_come_along(tmp_path, version):
    steps = record(Made(group=True).write(tmp_path / "drawer", version))
    assert steps["group"].dtype == np.uint64
    np.testing.assert_array_equal(steps["group"], steps["episode"] // 2)


def test_the_script_writes_a_source_twice_the_same(made, tmp_path):
    _, root = made
    block = {"dataset": {"root": str(root)}, "parts": 2}
    for place in ("first", "second"):
        for part in ("part-0000", "part-0001"):
            arguments = ("--settings", block, "--source", "demos", "--part", part)
            run_here("workflow_scripts/record_dataset.py", *arguments, "--out", tmp_path / place / f"{part}.zarr")
        write_index(tmp_path / place, ["part-0000", "part-0001"])
    assert tree(tmp_path / "first") == tree(tmp_path / "second")
    table = open_table(tmp_path / "first")
    assert table.attributes["dataset"]["arrays"]["observation.images.image"] == "image"
    assert len(np.unique(table.coordinate("episode"))) == 10


# Names


FEATURES = {
    "image": {"dtype": "image"},
    "observation.images.top.left": {"dtype": "image"},
    "observation.state": {"dtype": "float32"},
    "actions": {"dtype": "float32"},
    "next.reward": {"dtype": "float32"},
    "note": {"dtype": "string"},
    "timestamp": {"dtype": "float32"},
}


def test_default_names():
    assert array_names(FEATURES, None) == {
        "image": "image",
        "observation.images.top.left": "top_left",
        "observation.state": "state",
        "actions": "action",
        "next.reward": "reward",
    }
    assert array_names(FEATURES, {"actions": "moves"}) == {"actions": "moves"}


@pytest.mark.parametrize(
    ("features", "wanted", "said"),
    [
        (FEATURES, {"action": "action"}, "no feature 'action'; did you mean 'actions'"),
        (FEATURES, {"actions": "step"}, "'step', given to 'actions', is taken"),
        (FEATURES, {"note": "note"}, "is text"),
        (FEATURES, {"image": "../x"}, "cannot be part of a path"),
        ({"image": {"dtype": "image"}, "observation.image": {"dtype": "image"}}, None, "would be called 'image'"),
        ({"image": {"dtype": "video"}}, None, "coded as video"),
    ],
)
def test_names_that_cannot_be(features, wanted, said):
    with refused(said):
        array_names(features, wanted)


def test_a_video_that_is_not_wanted_is_no_fault():
    features = {"observation.images.top": {"dtype": "video"}, "observation.state": {"dtype": "float32"}}
    assert array_names(features, {"observation.state": "state"}) == {"observation.state": "state"}


@given(st.text(min_size=1, max_size=64).filter(lambda text: "\0" not in text))
def test_texts_come_back(text):
    row = encode_text(text)
    assert row.shape == (WIDTH,)
    assert decode_texts(row[None]) == [text]


def test_texts_that_do_not_fit():
    for text in ("", "x" * 257, "a\0b"):
        with refused("bytes"):
            encode_text(text)


# Where a dataset is


def test_where_lerobot_keeps_datasets(monkeypatch, tmp_path):
    for name in ("HF_LEROBOT_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert lerobot_home() == Path("~/.cache/huggingface/lerobot").expanduser()
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert lerobot_home() == tmp_path / "lerobot"
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path / "mine"))
    assert lerobot_home() == tmp_path / "mine"
    Made(episodes=2).write(tmp_path / "mine" / "org" / "drawer", "v3.0")
    assert folder_of({"repo_id": "org/drawer"}) == tmp_path / "mine" / "org" / "drawer"
    assert folder_of({"repo_id": "org/drawer", "revision": "v3.0"}) == tmp_path / "mine" / "org" / "drawer"
    assert folder_of({"repo_id": "org/drawer", "revision": "0123abc"}) is None
    with refused("org/gone", "HF_LEROBOT_HOME"):
        folder_of({"repo_id": "org/gone"})
    with refused("'main' of org/gone moves"):
        folder_of({"repo_id": "org/gone", "revision": "main"})


def test_a_wrong_version_of_a_local_copy(made, version):
    _, root = made
    other = VERSIONS[1 - VERSIONS.index(version)]
    with refused("info.json", f"the dataset is {version}", f"revision '{other}' is asked for"):
        read_info(root, other)


def test_a_repository_that_cannot_be_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with refused("org/gone at revision '0123abc' cannot be fetched", "correct repo_id or revision"):
        fetched({"repo_id": "org/gone", "revision": "0123abc"})


# What is wrong with a dataset, in one line each


def edit_info(root, **values):
    path = root / "meta" / "info.json"
    write_json(path, {**json.loads(path.read_text()), **values})


@pytest.mark.parametrize("other", ["v2.0", "v1.6", "v4.0", None])
def test_other_versions(made, other):
    _, root = made
    edit_info(root, codebase_version=other)
    with refused("info.json", f"LeRobot format {other}", "v3.0 and v2.1"):
        read_info(root)


def test_no_dataset_and_half_an_info(made, tmp_path):
    _, root = made
    with refused("no LeRobot dataset is here"):
        read_info(tmp_path)
    edit_info(root, features={}, fps=0)
    with refused("info.json: lacks fps, features"):
        read_info(root)
    (root / "meta" / "info.json").write_text("{")
    with refused("info.json: not valid JSON"):
        read_info(root)


def test_a_dataset_without_task_texts(made, version):
    _, root = made
    path = root / "meta" / ("tasks.parquet" if version == "v3.0" else "tasks.jsonl")
    path.unlink()
    with refused(str(root), "without task texts"):
        meta_of(root)
    if version == "v3.0":
        pq.write_table(pa.table({"task_index": [0, 1], "task": ["", OPEN]}), path)
    else:
        write_lines(path, [{"task_index": 0, "task": ""}, {"task_index": 1, "task": OPEN}])
    with refused("without task texts"):
        meta_of(root)


def test_frames_of_a_task_without_a_text(made, version):
    _, root = made
    if version == "v3.0":
        pq.write_table(pa.table({"task_index": [0], "task": [OPEN]}), root / "meta" / "tasks.parquet")
    else:
        write_lines(root / "meta" / "tasks.jsonl", [{"task_index": 0, "task": OPEN}])
    with refused("episode 1 has frames of task 1, of which meta/tasks has no text"):
        record(root)


def test_episodes_that_are_not_there(made):
    _, root = made
    with refused("there is no episode 12, 40; it has 10, numbered 0 to 9"):
        chosen_episodes(meta_of(root), None, [3, 12, 40])
    with refused("no episode has the task 'open the drawr'", "did you mean 'open the drawer'"):
        chosen_episodes(meta_of(root), ["open the drawr"], None)
    with refused("both of the chosen tasks and among the chosen episodes"):
        chosen_episodes(meta_of(root), [OPEN], [1, 3])
    edit_info(root, total_episodes=11)
    with refused("meta/episodes has 10 episodes", "info.json says 11"):
        meta_of(root)


def test_data_that_is_not_there(made):
    _, root = made
    meta = meta_of(root)
    file = root / meta.episodes[-1].file
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with refused(str(file), "not a whole parquet file"):
        record(root)
    file.unlink()
    with refused(str(file), "there is no such file"):
        record(root)
    shutil.rmtree(root / "meta" / "episodes", ignore_errors=True)
    (root / "meta" / "episodes.jsonl").unlink(missing_ok=True)
    with refused("meta/episodes"):
        meta_of(root)


def replaced(episodes, root, number, **columns):
    """Write a v2.1 episode anew with other columns (... takes one away)."""
    table = episodes.table(number)
    for key, values in columns.items():
        key = key.replace("__", ".")
        place = table.column_names.index(key)
        table = table.remove_column(place)
        if values is not ...:
            table = table.add_column(place, key, pa.array(values) if not isinstance(values, pa.Array) else values)
    pq.write_table(table, root / "data" / "chunk-000" / f"episode_{number:06d}.parquet")


def test_broken_episodes(tmp_path):
    episodes = Made(episodes=3)
    root = episodes.write(tmp_path / "drawer", "v2.1")
    steps = episodes.lengths[1]
    image = {"bytes": png(episodes.images[1][0]), "path": "x.png"}
    faults = [
        ({"frame_index": np.arange(steps)[::-1].copy()}, f"frames are not 0 to {steps - 1} in order"),
        ({"episode_index": np.full(steps, 7)}, "lacks episode 1"),
        ({"action": ...}, "lacks the columns action"),
        ({"action": [[1.0, 2.0]] * (steps - 1) + [[1.0]]}, "different shape in different frames"),
        ({"action": ["left"] * steps}, "holds no numbers"),
        ({"action": pa.array([[1.0, 2.0]] * (steps - 1) + [None])}, "has no value in 1 frames"),
        ({"observation__images__image": [image] * (steps - 1) + [{"bytes": b"no", "path": "x"}]}, "no whole image"),
        ({"observation__images__image": [image] * (steps - 1) + [{"bytes": None, "path": "x"}]}, "embed the images"),
        (
            {"observation__images__image": [image] * (steps - 1) + [{"bytes": png(np.zeros((4, 4), np.uint8))}]},
            "images of one size",
        ),
    ]
    for columns, said in faults:
        replaced(episodes, root, 1, **columns)
        with refused("episode_000001.parquet", said):
            record(root)


def test_a_data_path_that_leaves_the_folder(made):
    _, root = made
    edit_info(root, data_path="../elsewhere/file.parquet")
    with refused("data_path", "leaves the dataset's folder"):
        meta_of(root)


def test_only_what_is_asked_for_is_read(tmp_path):
    """Files of episodes that nobody wants may be missing."""
    episodes = Made(episodes=4)
    root = episodes.write(tmp_path / "drawer", "v2.1")
    (root / "data" / "chunk-000" / "episode_000003.parquet").unlink()
    meta = meta_of(root)
    found = dict(read_episodes(root, meta.episodes[:2], {"observation.state": "state"}))
    assert [len(arrays["state"]) for arrays in found.values()] == episodes.lengths[:2]
    assert all("image" not in arrays for arrays in found.values())


def test_the_script_says_it_in_one_line(made, tmp_path):
    _, root = made
    edit_info(root, codebase_version="v2.0")
    words = script_command(
        "record_dataset",
        "--settings",
        {"dataset": {"root": str(root)}},
        "--source",
        "demos",
        "--out",
        tmp_path / "x.zarr",
    )
    assert "LeRobot format v2.0" in clear_line(run(words, env=environment()))
    assert not (tmp_path / "x.zarr").exists()
