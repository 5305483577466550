"""A LeRobot dataset made of LIBERO's files holds exactly their frames, and is whole or not there."""

import io
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py", reason="h5py is in the environment `vla` alone: make test-all")
pytest.importorskip("lerobot", reason="LeRobot is in the environment `vla` alone: make test-all")

import pyarrow.parquet as parquet
from PIL import Image

from policylens.errors import UserError
from policylens.policies.vla.libero.conversion import convert
from policylens.policies.vla.libero.reading import open_file
from policylens.policies.vla.libero.subset import Subset
from policylens.stores.files import read_json

SAMPLE = Path(__file__).parent / "libero_sample"
FILES = [SAMPLE / "turn_on_the_stove.hdf5", SAMPLE / "turn_off_the_stove.hdf5"]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("datasets") / "both"
    return out, convert(FILES, Subset(), out)


def test_its_frames_are_the_files(made):
    out, record = made
    rows = parquet.read_table(out / "data" / "chunk-000" / "file-000.parquet").to_pylist()
    info = read_json(out / "meta" / "info.json")
    assert (info["codebase_version"], info["fps"], info["total_frames"], info["total_episodes"]) == ("v3.0", 20, 44, 4)
    assert record["tasks"] == {"turn on the stove": 2, "turn off the stove": 2}
    with open_file(FILES[1]) as file:
        wanted = file.frames("demo_1")
    own = [row for row in rows if row["episode_index"] == 3]
    assert record["episodes"][3]["demo"] == "demo_1"
    for step, row in enumerate(own):
        np.testing.assert_array_equal(row["observation.state"], wanted.state[step])
        np.testing.assert_array_equal(row["action"], wanted.action[step])
        for name in ("image", "wrist_image"):
            picture = Image.open(io.BytesIO(row[f"observation.images.{name}"]["bytes"]))
            np.testing.assert_array_equal(np.asarray(picture), getattr(wanted, name)[step])
    assert [row["timestamp"] for row in own] == pytest.approx(np.arange(11) / 20)
    tasks = parquet.read_table(out / "meta" / "tasks.parquet").to_pandas()
    assert list(tasks.index[[own[0]["task_index"]]]) == ["turn off the stove"]


def test_it_is_the_same_to_the_byte_when_made_again(made, tmp_path, monkeypatch):
    found = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        convert(FILES[:1], Subset(demos=1), Path("results/datasets/one"))
        found.append(contents(tmp_path / name))
    assert found[0] == found[1]
    assert list(read_json(made[0] / "meta" / "stats.json")) == sorted(read_json(made[0] / "meta" / "stats.json"))


def test_a_subset_by_the_tasks_text(tmp_path):
    record = convert(FILES, Subset(containing=["OFF"], demos=1, align="rows"), tmp_path / "off")
    assert [(episode["task"], episode["frames"]) for episode in record["episodes"]] == [("turn off the stove", 12)]
    assert list(record["files"]) == [str(FILES[1])]
    assert read_json(tmp_path / "off" / "policylens.json") == record
    with pytest.raises(UserError, match="their tasks are: turn off the stove, turn on the stove"):
        convert(FILES, Subset(tasks=["open the drawer"]), tmp_path / "none")


def test_nothing_is_left_of_a_conversion_that_fails(tmp_path):
    broken = tmp_path / "broken.hdf5"
    broken.write_bytes(FILES[0].read_bytes()[:4000])
    with pytest.raises(UserError, match="not a whole HDF5 file"):
        convert([FILES[0], broken], Subset(), tmp_path / "datasets" / "half")
    assert list((tmp_path / "datasets").iterdir()) == []
