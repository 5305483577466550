"""LIBERO's HDF5 files, read: which observation goes with which action, which way up, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py", reason="h5py is in the environment `vla` alone: make test-all")

import h5py
import yaml

from policylens.concepts.contrast import Moves, choose_axis
from policylens.errors import UserError
from policylens.policies.vla.libero.index import index
from policylens.policies.vla.libero.orientation import upright
from policylens.policies.vla.libero.reading import open_file
from policylens.stores.schemas import check_against

REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLE = Path(__file__).parent / "libero_sample"
ON = SAMPLE / "turn_on_the_stove.hdf5"


@pytest.fixture
def copy(tmp_path):
    """A copy of the sample to be spoilt, and its path."""
    path = tmp_path / "copy.hdf5"
    path.write_bytes(ON.read_bytes())
    return path


def frames(path, **options):
    with open_file(path) as file:
        return file.frames("demo_1", **options)


def raw(key):
    with h5py.File(ON) as file:
        return file["data/demo_1"][key][()]


def test_an_action_goes_with_what_was_seen_before_it():
    found = frames(ON)
    np.testing.assert_array_equal(found.action, raw("actions")[1:].astype(np.float32))
    np.testing.assert_array_equal(found.image, raw("obs/agentview_rgb")[:-1, ::-1, ::-1])
    np.testing.assert_array_equal(found.wrist_image, raw("obs/eye_in_hand_rgb")[:-1, ::-1, ::-1])
    np.testing.assert_array_equal(found.state[:, :6], raw("obs/ee_states")[:-1].astype(np.float32))
    np.testing.assert_array_equal(found.state[:, 6:], raw("obs/gripper_states")[:-1].astype(np.float32))
    np.testing.assert_array_equal(found.step, np.arange(1, 12))


def test_rows_go_with_rows_where_a_file_is_so():
    found = frames(ON, align="rows", actions="expert_actions")
    np.testing.assert_array_equal(found.action, raw("expert_actions").astype(np.float32))
    np.testing.assert_array_equal(found.image, upright(raw("obs/agentview_rgb")))
    np.testing.assert_array_equal(found.step, np.arange(12))


def test_states_show_that_observations_come_after_actions():
    """MuJoCo's states stand before the step: the arm's joints of the next one are those of the observation."""
    states, joints = raw("states"), raw("obs/joint_states")
    np.testing.assert_allclose(states[1:, 1:8], joints[:-1], atol=1e-12)
    assert np.abs(states[1:, 1:8] - joints[1:]).max() > 1e-3


@pytest.mark.parametrize(
    "text", ["turn on the stove", ["t", "u", "r", "n", " ", "on the stove"], '"turn on the stove"'], ids=str
)
def test_the_tasks_text_in_all_its_forms(copy, text):
    with h5py.File(copy, "a") as file:
        file["data"].attrs["problem_info"] = json.dumps({"language_instruction": text})
    with open_file(copy) as found:
        assert found.instruction == "turn on the stove"
        assert found.demos == ["demo_0", "demo_1"]


def spoil(path, change):
    with h5py.File(path, "a") as file:
        change(file)


def without(*names):
    def change(file):
        for name in names:
            del file[name]

    return change


def replaced(name, values):
    def change(file):
        del file[name]
        file[name] = values

    return change


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (without("data"), "no group 'data'"),
        (without("data/demo_0", "data/demo_1"), "holds no demonstration"),
        (lambda file: file["data"].attrs.pop("problem_info"), "does not say what the task is"),
        (lambda file: file["data"].attrs.modify("problem_info", "{"), "does not say what the task is"),
        (without("data/demo_1/obs/ee_states"), "no array 'obs/ee_states', which this conversion needs"),
        (without("data/demo_1/actions"), "no array 'actions'"),
        (replaced("data/demo_1/actions", np.zeros((11, 7))), "does not hold as many rows"),
        (replaced("data/demo_1/actions", np.full((12, 7), np.nan)), "not finite"),
        (replaced("data/demo_1/obs/agentview_rgb", np.zeros((12, 8, 8, 3))), "is not uint8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_broken_files_are_refused_in_one_line(copy, change, fault):
    spoil(copy, change)
    with pytest.raises(UserError) as raised:
        frames(copy)
    assert fault in str(raised.value)
    assert str(copy) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_of_others_have_no_expert_actions(copy):
    spoil(copy, without("data/demo_1/expert_actions"))
    assert len(frames(copy).action) == 11
    with pytest.raises(UserError, match="only demonstrations recorded here have"):
        frames(copy, actions="expert_actions")


def test_what_is_no_hdf5_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such file"), open_file(tmp_path / "none.hdf5"):
        pass
    (tmp_path / "half.hdf5").write_bytes(ON.read_bytes()[:5000])
    with pytest.raises(UserError, match="not a whole HDF5 file"), open_file(tmp_path / "half.hdf5"):
        pass


def test_the_index_counts_attempts_and_demonstrations():
    settings = {"episodes": 3, "seed": 0}
    found = index([ON, SAMPLE / "turn_off_the_stove.hdf5"], settings)
    check_against("demonstrations", found, "index.json")
    task = found["tasks"]["turn_off_the_stove"]
    assert (task["attempts"], task["demonstrations"], task["steps"]["total"]) == (3, 2, 24)
    assert task["success"]["value"] == pytest.approx(2 / 3)
    assert task["success"]["low"] == pytest.approx(0.2077, abs=1e-4)  # Wilson, 2 of 3


def test_the_first_example_of_a_contrast_works_on_the_demonstrations_that_come_along():
    """That of docs/contrasts.md; by the arm's state, which is the default, there is none."""
    text = (REPOSITORY / "docs" / "contrasts.md").read_text()
    block = yaml.safe_load(text.split("```yaml")[1].split("```")[0])["contrasts"]["open_vs_close"]
    assert (
        block
        == yaml.safe_load((REPOSITORY / "config.yaml").read_text())["policies"]["pi05"]["contrasts"]["open_vs_close"]
    )
    moved = {name: [] for name in ("object_joint", "state")}
    for key in ("positive", "negative"):
        path = REPOSITORY / "data" / "demos" / "libero" / f"{block[key].replace(' ', '_')}.hdf5"
        with open_file(path) as file:
            assert file.instruction == block[key]
            taken = [file.frames(demo) for demo in file.demos]
        for name, found in moved.items():
            arrays = [np.asarray(getattr(one, name)).reshape(len(one.step), -1) for one in taken]
            found.append(np.stack([array[-1] - array[0] for array in arrays]))
    assert choose_axis(Moves.of(*moved[block["array"]]), "difference", block["minimum"]) == 0
    with pytest.raises(UserError, match="in no dimension"):
        choose_axis(Moves.of(*moved["state"]), "difference", 0.05)
