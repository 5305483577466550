"""Blocks of demonstrations and datasets: defaults, paths, and what is refused; tasks and their BDDL files."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policylens.errors import UserError
from policylens.policies.vla.libero import tasks
from policylens.policies.vla.libero.assets import FOLDERS, VARIABLE, find_assets
from policylens.policies.vla.libero.subset import Subset
from policylens.project.config import Config
from policylens.project.demonstrations import own_tasks
from policylens.project.paths import all_paths

TASKS = ["turn on the stove", "open_the_top_drawer_of_the_cabinet"]
SAMPLE = str(Path(__file__).parent / "libero_sample" / "turn_on_the_stove.hdf5")


def config(demonstrations=None, datasets=None):
    return Config(
        {
            "seed": 5,
            "demonstrations": {"own": {"tasks": TASKS, "episodes": 3}} if demonstrations is None else demonstrations,
            "datasets": datasets or {},
            "policies": {},
        }
    )


def test_defaults_and_paths():
    found = config(datasets={"on": {"demonstrations": ["own"], "containing": ["Turn ON"], "files": [SAMPLE]}})
    block = found.demonstrations["own"]
    assert (block["seed"], block["size"], block["noise"], block["look"]) == (5, 128, 0.15, "libero")
    assert block["tasks"] == ["turn_on_the_stove", "open_the_top_drawer_of_the_cabinet"]
    assert own_tasks(found.datasets["on"], found.demonstrations) == {"own": ["turn_on_the_stove"]}
    assert [path for _, path in all_paths(found)] == [
        "results/demonstrations/own/index.json",
        "results/demonstrations/own/turn_on_the_stove.hdf5",
        "results/demonstrations/own/open_the_top_drawer_of_the_cabinet.hdf5",
        "results/datasets/on/meta/info.json",
        "results/datasets/on/policylens.json",
    ]


@pytest.mark.parametrize(
    ("demonstrations", "datasets", "fault"),
    [
        ({"own": {"tasks": ["turn on the stov"], "episodes": 1}}, {}, "there is no task 'turn on the stov'; did you"),
        ({"own": {"tasks": TASKS, "episodes": 0}}, {}, "demonstrations.own.episodes"),
        ({"own": {"tasks": TASKS, "episodes": 1, "look": "nice"}}, {}, "demonstrations.own.look"),
        (
            None,
            {"x": {"demonstrations": ["owm"]}},
            "datasets.x: there are no demonstrations 'owm'; did you mean 'own'?",
        ),
        (None, {"x": {"files": ["none.hdf5"]}}, "datasets.x: there is no file none.hdf5"),
        (None, {"x": {"files": ["data.zarr"]}}, "files of demonstrations are LIBERO's, .hdf5"),
        (None, {"x": {}}, "a dataset is made of demonstrations, of files, or of both"),
        (None, {"x": {"demonstrations": ["own"], "tasks": ["close it"]}}, "datasets.x: no task of its demonstrations"),
        (None, {"x": {"demonstrations": ["own"], "align": "after"}}, "datasets.x.align"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_faults_are_one_line(demonstrations, datasets, fault):
    with pytest.raises(UserError) as raised:
        config(demonstrations, datasets)
    assert fault in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["demonstrations", "datasets"])
def test_no_policy_is_called_as_their_folders(name):
    with pytest.raises(UserError, match="taken by a folder of results"):
        Config({"policies": {name: {"family": "activations", "checkpoints": {"a": {}}}}})


def test_every_task_has_its_own_bddl_file_in_its_pairs_scene():
    assert {f"bddl/{slug}.bddl" for slug in tasks.TASKS} == set(tasks.DATA_FILES)
    for pair in tasks.PAIRS.values():
        scenes = set()
        for words in pair.instructions:
            text = tasks.task(words).bddl.read_text(encoding="utf-8")
            assert f"(:language {words})" in text
            assert all(re.search(rf"\b{thing}\b", text) for thing in pair.measure.things)
            scenes.add(text[: text.index("(:goal")].replace(words, ""))
        assert len(scenes) == 1
        assert (
            len({re.search(r"\(:goal\s+(.*)\)", tasks.task(words).bddl.read_text())[1] for words in pair.instructions})
            == 2
        )


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_a_subset_takes_what_it_names(text, other):
    assert Subset().takes(text)
    assert Subset(tasks=[text.swapcase().casefold()]).takes(text) == (text.swapcase().casefold() == text.casefold())
    assert Subset(containing=[text]).takes(other + text)
    assert Subset(tasks=[other]).takes(text) == (other.casefold() == text.casefold())


def test_missing_meshes_are_one_line_that_says_where_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    for name in FOLDERS[:-1]:
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=rf"{FOLDERS[-1]}.*download_assets_from_huggingface.*{VARIABLE}") as raised:
        find_assets()
    assert "\n" not in str(raised.value)
    (tmp_path / FOLDERS[-1]).mkdir()
    assert find_assets() == tmp_path.resolve()
    with pytest.raises(UserError):  # what is asked for by name comes first
        find_assets(tmp_path / "scenes")


def test_libero_s_own_config_names_its_assets(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(tmp_path))
    for name in FOLDERS:
        (tmp_path / "meshes" / name).mkdir(parents=True)
    (tmp_path / "config.yaml").write_text(f"assets: {tmp_path / 'meshes'}\n")
    assert find_assets() == (tmp_path / "meshes").resolve()
