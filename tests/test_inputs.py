"""Interpretable inputs: families name each number of their observations once, and say where it is."""

import json

import numpy as np
from support import REPOSITORY

from policylens.policies.inputs import Input, unnamed
from policylens.policies.registry import family


def record(folder):
    return json.loads((REPOSITORY / "data/checkpoints" / folder / "policy.json").read_text())


def test_each_number_of_an_observation_is_named_once():
    for name, folder, count in (("franka", "franka/mlp/final", 23), ("othello", "othello/final", 36)):
        found = family(name).inputs(record(folder))
        assert len({one.name for one in found}) == len({one.index for one in found}) == count
        assert {one.array for one in found} <= set(family(name).observations(record(folder)))


def test_the_names_are_those_of_the_layouts():
    franka = {one.index[0]: (one.name, one.unit) for one in family("franka").inputs(record("franka/mlp/final"))}
    assert franka[10] == ("velocity of joint 2", "10 rad/s")
    assert franka[17] == ("velocity of finger 2", "10 m/s")
    assert franka[20] == ("hand to handle, z", "m")
    assert franka[21] == ("position of drawer", "m")
    othello = {one.index[0]: one.name for one in family("othello").inputs(record("othello/final"))}
    assert (othello[0], othello[5], othello[35]) == ("a1", "f1", "f6")


def test_an_actor_critic_of_another_width_has_numbers_without_names():
    found = family("franka").inputs({"architecture": {"observations": 2}})
    assert found == unnamed("observations", (2,))
    assert [one.name for one in found] == ["observations[0]", "observations[1]"]


def test_an_input_finds_its_column():
    batch = {"x": np.arange(12).reshape(2, 2, 3), "y": np.array([7, 8])}
    assert Input("c", "1", "x", (1, 2)).of(batch).tolist() == [5, 11]
    assert Input("y", "1", "y").of(batch).tolist() == [7, 8] == unnamed("y", ())[0].of(batch).tolist()
