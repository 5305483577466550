"""Labels of drawer-opening steps, from recorded arrays alone: no simulator is needed."""

import sys

import numpy as np
import pytest
from support import refused, run

from policylens.policies.franka.family import FAMILY
from policylens.policies.franka.labels import PHASES, label
from policylens.policies.franka.layout import is_open, progress


def rows():
    """Two episodes: one approaches, grasps, pulls and opens; the other only touches the handle."""
    observations = np.zeros((9, 23), np.float32)
    observations[:, 18:21] = [0.3, -0.4, 0.0]
    observations[:6, 21] = [0, 0, 0.005, 0.02, 0.29, 0.31]
    observations[:6, 22] = [0, 0, 0.1, 0.2, 0.3, -0.1]
    contact = np.zeros((9, 2), bool)
    contact[1:4, 1] = True
    contact[7, 0] = True
    return {"observations": observations, "finger_contact": contact, "episode": np.repeat([5, 3], [6, 3])}


def test_labels_are_those_of_made_up_steps():
    found = label(rows(), list(FAMILY.labels))
    assert [PHASES[code] for code in found["phase"]] == [
        "approach",
        "grasp",
        "grasp",
        "pull",
        "pull",
        "done",
        "approach",
        "grasp",
        "approach",
    ]
    np.testing.assert_allclose(found["distance_to_handle"], 0.5)
    assert found["finger_contact"].tolist() == [False, True, True, True, False, False, False, True, False]
    np.testing.assert_array_equal(found["drawer_position"], rows()["observations"][:, 21])
    np.testing.assert_array_equal(found["drawer_velocity"], rows()["observations"][:, 22])
    assert found["success"].tolist() == [True] * 6 + [False] * 3
    assert {name: values.dtype.name for name, values in found.items()} == {
        "phase": "int8",
        "distance_to_handle": "float32",
        "finger_contact": "bool",
        "drawer_position": "float32",
        "drawer_velocity": "float32",
        "success": "bool",
    }


def test_labels_of_some_names_need_no_more_than_these_do():
    """An imported rollout knows nothing of contacts."""
    imported = {"observations": rows()["observations"]}
    assert label(imported, ["drawer_position"])["drawer_position"].shape == (9,)
    for name, needed in (("phase", "finger_contact"), ("finger_contact", "finger_contact"), ("success", "episode")):
        with refused(repr(needed), "observations"):
            label(imported, [name])
    with refused("observations", "(22,)"):
        label({"observations": np.zeros((3, 22), np.float32)}, ["drawer_position"])


def test_unknown_labels_are_refused():
    with refused("grip", "phase"):
        label(rows(), ["grip"])


def test_importing_capturing_and_labelling_load_no_simulator():
    rooms = "".join(
        f"import policylens.policies.franka.{room};" for room in ("family", "importing", "policy", "labels")
    )
    program = f"import sys; {rooms} sys.exit('mujoco' in sys.modules)"
    assert run([sys.executable, "-c", program]).returncode == 0


def test_a_missing_simulator_is_one_clear_line():
    program = "import sys; sys.modules['mujoco'] = None; import policylens.policies.franka.environment"
    last = run([sys.executable, "-c", program]).stderr.strip().splitlines()[-1]
    assert last.startswith("policylens.errors.UserError: the Franka simulator needs MuJoCo")
    assert "envs/run franka" in last


@pytest.mark.parametrize("unit", ["(m)", "(m/s)", "(bool)"])
def test_descriptions_name_their_units(unit):
    named = [name for name, description in FAMILY.labels.items() if unit in description]
    assert named


def test_progress_grows_with_closeness_and_opening():
    near, far, open_ = np.zeros((3, 23), np.float32)
    far[18] = 0.1
    open_[21] = 0.35
    values = progress(np.stack([far, near, open_]))
    np.testing.assert_allclose(values, [0.125, 0.25, 1.0], atol=1e-6)
    assert is_open(np.stack([near, open_])).tolist() == [False, True]
