"""Recorded rollouts whose arrays are (step, episode, ...): every value ends in its own row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import refused

from policylens.capture.imports import import_rollout
from policylens.capture.layout import by_rows


def recorded(steps=4, episodes=3, width=2):
    grid = np.arange(steps)[:, None] * 100 + np.arange(episodes)
    return {"obs": grid[..., None] + np.zeros(width), "mu": grid[..., None] * 2.0}


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.booleans(), st.data())
def test_every_value_ends_in_its_own_row(steps, episodes, steps_first, data):
    arrays = recorded(steps, episodes)
    done = np.array(data.draw(st.lists(st.booleans(), min_size=steps * episodes, max_size=steps * episodes)))
    arrays["done"] = done.reshape(steps, episodes)
    if not steps_first:
        arrays = {name: values.swapaxes(0, 1) for name, values in arrays.items()}
    axes = ["step", "episode"] if steps_first else ["episode", "step"]
    flat = by_rows("file", arrays, {"axes": axes, "names": {"observations": "obs"}, "done": "done"}, 70)
    assert "obs" not in flat
    number, row, since = 69, 0, 0
    for column in range(episodes):
        for step in range(steps):
            new = step == 0 or done.reshape(steps, episodes)[step - 1, column]
            number, since = (number + 1, 0) if new else (number, since + 1)
            assert (flat["episode"][row], flat["step"][row]) == (number, since)
            assert flat["observations"][row, 0] == step * 100 + column
            assert flat["mu"][row, 0] == 2 * flat["observations"][row, 0]
            row += 1


def test_names_alone_change_nothing_else():
    arrays = {"obs": np.zeros((4, 2)), "episode": np.arange(4)}
    flat = by_rows("file", arrays, {"names": {"observations": "obs"}}, 0)
    assert set(flat) == {"observations", "episode"}
    assert flat["observations"] is arrays["obs"]


AXES = {"axes": ["step", "episode"]}
BAD = {
    "no such array": ({"names": {"a": "nowhere"}}, {}, ["'nowhere'", "it has: mu, obs"]),
    "a name that is taken": ({"names": {"mu": "obs"}}, {}, ["'mu' of its own"]),
    "another length": (AXES, {"short": np.zeros((3, 3))}, ["short (3, 3)", "same two axes"]),
    "one axis": (AXES, {"flat": np.zeros(12)}, ["flat (12,)"]),
    "episodes twice": (AXES, {"episode": np.zeros((4, 3), int)}, ["'episode'", "leave out it or `axes`"]),
    "no done": ({**AXES, "done": "end"}, {}, ["'end' (`done`)"]),
    "done is no flag": ({**AXES, "done": "mu"}, {}, ["'mu' (`done`)", "0 or 1"]),
}


@pytest.mark.parametrize(("layout", "more", "parts"), BAD.values(), ids=BAD)
def test_other_files_are_refused(layout, more, parts):
    with refused("file.npz", *parts):
        by_rows("file.npz", recorded() | more, layout, 0)


def test_what_has_no_entry_per_step_is_left_out():
    arrays = recorded() | {"dt": np.array(0.02), "success": np.array([True, False, True])}
    assert set(by_rows("file", arrays, AXES, 0)) == {"obs", "mu", "episode", "step"}


def test_a_recorded_rollout_becomes_a_source(tmp_path):
    path = tmp_path / "rollout.npz"
    np.savez(path, **recorded())
    rollout = import_rollout(path, {**AXES, "names": {"observations": "obs"}}, 5)
    assert rollout.episodes["episode"].tolist() == [5, 6, 7]
    assert rollout.episodes["length"].tolist() == [4, 4, 4]
    assert rollout.steps["step"].tolist() == [0, 1, 2, 3] * 3
    assert rollout.steps["observations"][:, 0].tolist() == [s * 100 + e for e in range(3) for s in range(4)]
