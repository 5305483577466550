"""Rollouts of an Othello policy."""

import jsonschema
import numpy as np
import pytest
import torch
from othello_reference import actions
from othello_small import small_policy
from support import refused

from policylens.policies.othello import environment
from policylens.policies.othello.environment import rollout
from policylens.policies.othello.family import FAMILY
from policylens.policies.othello.labels import label
from policylens.policies.othello.rules import pack
from policylens.policies.othello.symmetry import class_keys
from policylens.policies.protocol import Policy

QUICK = {"simulations": 4, "lanes": 5}


def joined(rollouts):
    found = list(rollouts)
    steps = {name: np.concatenate([part.steps[name] for part in found]) for name in found[0].steps}
    episodes = {name: np.concatenate([part.episodes[name] for part in found]) for name in found[0].episodes}
    return steps, episodes


def test_steps_and_episodes_are_described_by_their_arrays():
    steps, episodes = joined(rollout(small_policy(), QUICK, range(12), seed=0, threads=1))
    kinds = {name: (values.dtype.name, values.shape[1:]) for name, values in steps.items()}
    assert kinds == {
        "episode": ("int64", ()),
        "step": ("int32", ()),
        "group": ("uint64", ()),
        "cells": ("int8", (36,)),
        "legal": ("bool", (37,)),
        "action": ("int16", ()),
        "search_value": ("float32", ()),
        "visits": ("uint16", (37,)),
    }
    np.testing.assert_array_equal(episodes["episode"], np.arange(12))
    np.testing.assert_array_equal(np.bincount(steps["episode"]), episodes["length"])
    assert steps["legal"][np.arange(len(steps["step"])), steps["action"]].all()
    for cells, legal in zip(steps["cells"][::17], steps["legal"][::17], strict=True):
        assert set(np.flatnonzero(legal)) == set(actions(tuple(cells.tolist())))
    first_rows = np.flatnonzero(np.diff(steps["episode"], prepend=-1))
    np.testing.assert_array_equal(steps["step"][first_rows], episodes["opening_plies"])
    outcome = label(steps, ["outcome"])["outcome"]
    sign = np.where(steps["step"] % 2 == 0, 1, -1)
    np.testing.assert_array_equal(outcome * sign, episodes["outcome"][steps["episode"]])


def test_groups_are_the_keys_of_symmetry_classes():
    steps, _ = joined(rollout(small_policy(), {**QUICK, "opening_plies": [0, 0]}, range(8), seed=0))
    starts = steps["group"][steps["step"] == 0]
    assert len(set(starts.tolist())) == 1
    assert len(set(steps["group"][steps["step"] == 1].tolist())) == 1  # the four first moves are images of each other
    np.testing.assert_array_equal(steps["group"], class_keys(*pack(steps["cells"])))


def test_episodes_do_not_depend_on_how_they_are_batched_or_handed_over(monkeypatch):
    policy = small_policy()
    whole, ends = joined(rollout(policy, QUICK, range(11), seed=3))
    monkeypatch.setattr(environment, "CHUNK", 4)
    chunks = list(rollout(policy, {**QUICK, "lanes": 3}, range(11), seed=3))
    assert [len(chunk.episodes["episode"]) for chunk in chunks] == [4, 4, 3]
    again, ends_again = joined(chunks)
    for one, other in ((whole, again), (ends, ends_again)):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    some, _ = joined(rollout(policy, QUICK, [7], seed=3))
    np.testing.assert_array_equal(some["action"], whole["action"][whole["episode"] == 7])
    other, _ = joined(rollout(policy, QUICK, [7], seed=4))
    assert some["cells"].tobytes() != other["cells"].tobytes()


def test_zero_simulations_sample_the_policy():
    policy = small_policy()
    settings = {"simulations": 0, "opening_plies": [4, 4], "temperature_plies": 64}
    steps, _ = joined(rollout(policy, settings, range(300), seed=0))
    assert not steps["visits"].any()
    result = policy.run({"cells": steps["cells"], "legal": steps["legal"]})
    np.testing.assert_allclose(steps["search_value"], result.value, atol=1e-5)
    probability = result.heads.log_probabilities().exp().numpy()
    rows = np.arange(len(steps["action"]))
    chosen = np.zeros_like(probability)
    chosen[rows, steps["action"]] = 1
    # Calibrated: what is chosen agrees in sum with the probabilities, by their standard deviation.
    deviation = np.sqrt((probability * (1 - probability)).sum(axis=0))
    assert (np.abs((chosen - probability).sum(axis=0)) < 4.5 * deviation + 1e-6).all()


def test_an_edited_policy_plays_as_edited():
    class Mute(Policy):
        """The small policy with its stream silenced: every legal move is as likely as its bias."""

        def __init__(self):
            self.inner = small_policy()
            self.record = self.inner.record

        def run(self, batch, state=None, **options):
            return self.inner.run(batch, state, edit={"block_2": torch.zeros_like}, **options)

    plain, _ = joined(rollout(small_policy(), QUICK, range(4), seed=0))
    edited, _ = joined(rollout(Mute(), QUICK, range(4), seed=0))
    assert plain["action"].tobytes() != edited["action"].tobytes()


def test_settings_are_checked_by_schema_and_by_the_rollout():
    schema = FAMILY.settings["rollout"]
    jsonschema.validate({**environment.DEFAULTS, "opening_plies": [0, 8]}, schema)
    assert schema["properties"].keys() == environment.DEFAULTS.keys()
    for wrong in ({"simulation": 3}, {"simulations": -1}, {"opening_plies": [1]}, {"noise_shape": 1.5}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
    with refused("simulation", "simulations"):
        next(rollout(small_policy(), {"simulation": 3}, range(1), seed=0))
    with refused("opening_plies", "[5, 2]"):
        next(rollout(small_policy(), {"opening_plies": [5, 2]}, range(1), seed=0))
