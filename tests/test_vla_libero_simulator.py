"""LIBERO's simulator: initial states, the expert, cameras, and demonstrations."""

import numpy as np
import pytest

pytest.importorskip("libero", reason="LIBERO is in the environment `vla` alone: make test-all")

from libero_made import assets

from policylens.policies.vla.libero.demonstrations import record
from policylens.policies.vla.libero.episode import Episode, axis_angle
from policylens.policies.vla.libero.expert import expert
from policylens.policies.vla.libero.hdf5 import write_demonstrations
from policylens.policies.vla.libero.placing import fingers, holds
from policylens.policies.vla.libero.reading import open_file
from policylens.policies.vla.libero.recording import Settings
from policylens.policies.vla.libero.simulator import Simulator
from policylens.policies.vla.libero.tasks import PAIRS, TASKS, task


@pytest.fixture(scope="module")
def meshes(tmp_path_factory):
    return assets(tmp_path_factory.mktemp("assets"))


@pytest.fixture(scope="module")
def blind(meshes):
    """Episodes without cameras, one after the other."""
    found = Episode(assets=meshes)
    yield found
    found.close()


@pytest.mark.parametrize("pair", PAIRS)
def test_expert_succeeds_at_both_tasks_from_one_initial_state(blind, pair):
    first, second = (task(words) for words in PAIRS[pair].instructions)
    starts = []
    for own, other in ((first, second), (second, first)):
        blind.reset(own, seed=3, number=1)
        starts.append(blind.simulator.state())
        before = blind.simulator.measure()
        assert not blind.success(own)
        assert not blind.success(other)
        for _ in range(140):
            blind.step(expert(blind.simulator, own))
            assert not blind.success(other)
            if blind.success():
                break
        assert blind.success(own)
        assert (blind.simulator.measure() - before) * own.sign > 0.05
    np.testing.assert_array_equal(*starts)


def test_a_bowl_is_lifted_let_go_on_the_plate_and_left_there(blind):
    own = task("put the black bowl at the back on the plate")
    blind.reset(own, 3, 1)
    bowl, held, highest = own.pair.measure.one, [], 0.0
    table = blind.simulator.place(bowl)[2]
    others = np.array([blind.simulator.place(f"akita_black_bowl_{number}") for number in (1, 2)])
    for _ in range(140):
        blind.step(expert(blind.simulator, own))
        held.append(holds(blind.simulator, bowl))
        highest = max(highest, blind.simulator.place(bowl)[2] - table)
    assert 20 < sum(held) < 100
    assert highest > 0.06  # over the other bowls, which are 0.05 m high
    assert not any(held[-10:])
    assert fingers(blind.simulator) > 0.07
    assert blind.success()
    stayed = [blind.simulator.place(f"akita_black_bowl_{number}") for number in (1, 2)]
    np.testing.assert_allclose(stayed, others, atol=1e-3)


@pytest.mark.parametrize(
    ("words", "steps"),
    [("put the black bowl at the back on the plate", 50), ("close the top drawer of the cabinet", 15)],
)
def test_expert_is_a_function_of_the_state(blind, words, steps):
    """In a restored state it does what it did there, whatever happened in between."""
    own = task(words)
    blind.reset(own, 0, 0)
    for _ in range(steps):
        blind.step(expert(blind.simulator, own))
    state, wanted = blind.simulator.state(), expert(blind.simulator, own)
    for _ in range(10):
        blind.step(np.array([0.5, -1, 1, 0, 0, 0.3, -1]))
    assert np.abs(expert(blind.simulator, own) - wanted).max() > 0.1
    blind.simulator.restore(state)
    np.testing.assert_allclose(expert(blind.simulator, own), wanted, atol=1e-9)


def test_initial_states_follow_from_their_number_alone(blind):
    drawer = task("open the top drawer of the cabinet")
    np.random.seed(0)
    drawn = np.random.random()
    np.random.seed(0)
    blind.reset(drawer, 0, 1)
    assert np.random.random() == drawn  # the global generator is as it was
    first = blind.simulator.state(), blind.simulator.env.sim.model.body_pos.copy()
    blind.step(np.ones(7))
    blind.reset(drawer, 0, 2)
    assert np.abs(blind.simulator.state() - first[0]).max() > 1e-3
    blind.reset(drawer, 0, 1)
    np.testing.assert_array_equal(blind.simulator.state(), first[0])
    np.testing.assert_array_equal(blind.simulator.env.sim.model.body_pos, first[1])


def test_axis_angle_is_robosuites():
    from robosuite.utils.transform_utils import quat2axisangle

    for quaternion in np.random.default_rng(0).normal(size=(50, 4)):
        quaternion /= np.linalg.norm(quaternion)
        np.testing.assert_allclose(axis_angle(quaternion), quat2axisangle(quaternion.copy()), atol=1e-12)
    np.testing.assert_array_equal(axis_angle(np.array([0, 0, 0, 1.0])), 0)


def test_demonstrations_are_recorded_the_same_twice(meshes, tmp_path):
    own, settings = TASKS["turn_on_the_stove"], Settings(episodes=1, size=32, look="plain", horizon=80)
    for name in ("first", "second"):  # the second simulator renders after the first has gone
        simulator = Simulator(own, settings.size, settings.look, meshes)
        assert write_demonstrations(tmp_path / name, record(simulator, own, settings), own, settings) == 1
        simulator.close()
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    with open_file(tmp_path / "first") as file:
        found = file.frames("demo_0")
    assert found.image.std() > 20  # pictures, not blanks, and they change
    assert (found.image[0] != found.image[-1]).any()
    # upright: the table, of light wood, fills the lower half; the dark wall is above it
    assert found.image[0, 20:].mean() > found.image[0, :8].mean() + 20


def test_attempts_that_fail_are_left_out(meshes, tmp_path):
    own, settings = TASKS["turn_on_the_stove"], Settings(episodes=2, size=16, look="plain", horizon=3)
    simulator = Simulator(own, settings.size, settings.look, meshes)
    assert list(record(simulator, own, settings)) == [0, 1]
    simulator.close()
