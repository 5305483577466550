"""The simulated arm and cabinet, the expert, and rollouts. Needs MuJoCo: `envs/run franka python -m pytest`."""

import jsonschema
import numpy as np
import pytest
import torch
from franka_small import observations, small_policy
from pages import run_python
from support import REPOSITORY, refused

mujoco = pytest.importorskip("mujoco", reason="MuJoCo is in the environment `franka` alone: make test-all")

from policylens.policies.editing import Edited  # noqa: E402  (what follows imports MuJoCo)
from policylens.policies.franka import cabinet, environment  # noqa: E402
from policylens.policies.franka.environment import rollout  # noqa: E402
from policylens.policies.franka.expert import expert  # noqa: E402
from policylens.policies.franka.family import FAMILY, MEASURES  # noqa: E402
from policylens.policies.franka.initial import full_architecture, initial_tensors  # noqa: E402
from policylens.policies.franka.labels import label  # noqa: E402
from policylens.policies.franka.layout import is_open, progress  # noqa: E402
from policylens.policies.franka.play import BLOCK, PURPOSES, PlaySettings, acting, play, stream  # noqa: E402
from policylens.policies.franka.policy import build  # noqa: E402
from policylens.policies.franka.returns import _measures, returns  # noqa: E402
from policylens.policies.franka.simulator import CABINET_SPREAD, HOME, SCALE, Simulator  # noqa: E402
from policylens.policies.franka.strength import evaluate  # noqa: E402
from policylens.policies.registry import load_policy  # noqa: E402

QUICK = {"horizon": 12, "lanes": 5}


def started(seed=0):
    simulator = Simulator()
    simulator.reset(np.random.default_rng(seed))
    return simulator


def joined(rollouts):
    found = list(rollouts)
    steps = {name: np.concatenate([part.steps[name] for part in found]) for name in found[0].steps}
    episodes = {name: np.concatenate([part.episodes[name] for part in found]) for name in found[0].episodes}
    return steps, episodes


@pytest.fixture(scope="module")
def demonstrations():
    """Six episodes of the expert."""
    return sorted(play(None, PlaySettings(), range(6), "rollout", 0), key=lambda episode: episode.number)


def test_an_observation_is_laid_out_as_described():
    simulator = started()
    qpos, qvel = simulator.data.qpos.copy(), np.linspace(-0.5, 0.5, 11)
    drawer = simulator.model.joint("drawer_top")
    qpos[drawer.qposadr[0]], qvel[drawer.dofadr[0]] = 0.125, 0.75
    simulator.restore(qpos, qvel, np.array([0.8, 0.05, 0.4]))
    found = simulator.observation()
    joints = [simulator.model.joint(f"robot:panda0_joint{number}") for number in range(1, 8)]
    joints += [simulator.model.joint(f"robot:panda0_finger_joint{number}") for number in (1, 2)]
    for number, joint in enumerate(joints):
        low, high = joint.range
        assert found[number] == pytest.approx(2 * (qpos[joint.qposadr[0]] - low) / (high - low) - 1, abs=1e-6)
        assert found[9 + number] == pytest.approx(0.1 * qvel[joint.dofadr[0]], abs=1e-6)
    handle = np.array([0.8, 0.05, 0.4]) + [-cabinet.HANDLE - 0.125, 0, cabinet.HALF_HEIGHT / 2]
    hand = simulator.data.site("end_effector").xpos
    np.testing.assert_allclose(found[18:21], handle - hand, atol=1e-6)
    assert found[21] == pytest.approx(0.125)
    assert found[22] == pytest.approx(0.75)


def test_episodes_start_near_home_with_the_cabinet_moved():
    starts = [started(seed) for seed in range(40)]
    arms = np.array([simulator.data.qpos[simulator.qpos[:7]] for simulator in starts]) - HOME
    places = np.array([simulator.data.mocap_pos[0] for simulator in starts]) - cabinet.CABINET
    assert (np.abs(arms) <= 0.12).all()
    assert (np.abs(places) <= CABINET_SPREAD).all()
    assert (np.ptp(arms, axis=0) > 0.18).all()
    assert (np.ptp(places, axis=0) > 1.5 * CABINET_SPREAD).all()


def test_an_action_aims_relative_to_where_the_joints_are():
    simulator = started()
    q = simulator.data.qpos[simulator.qpos].copy()
    simulator.step(np.array([0.5, -0.5, 3.0, 0, 0, 0, 0, -1, -1]))
    wanted = q + SCALE * np.array([0.5, -0.5, 1.0, 0, 0, 0, 0, -1, -1])  # the third is clamped
    np.testing.assert_allclose(simulator.data.ctrl, np.clip(wanted, simulator.low, simulator.high))
    moved = simulator.data.qpos[simulator.qpos] - q
    assert moved[0] > 0 > moved[1]
    assert (moved[7:] < 0).all()
    clamped = started()
    clamped.step(np.array([0.5, -0.5, 1.0, 0, 0, 0, 0, -1, -1]))
    assert clamped.observation().tobytes() == simulator.observation().tobytes()


def test_a_step_is_twenty_milliseconds_and_leaves_everything_up_to_date():
    simulator, other = started(), started()
    for _ in range(5):
        simulator.step(expert(simulator))
    assert simulator.data.time == pytest.approx(0.1)
    other.restore(**simulator.state())
    np.testing.assert_allclose(other.observation(), simulator.observation(), atol=1e-6)
    np.testing.assert_array_equal(expert(other), expert(simulator))


def test_the_expert_opens_the_drawer(demonstrations):
    for episode in demonstrations:
        steps = episode.arrays()
        assert episode.opened_after is not None
        assert episode.opened_after < 250
        assert episode.length == episode.opened_after + PlaySettings().hold
        assert steps["finger_contact"][is_open(steps["observations"])].any()
        assert not steps["finger_contact"][0].any()
        np.testing.assert_array_equal(steps["taught"], steps["action"])


def test_an_episode_ends_when_the_drawer_has_been_held_open_or_at_the_horizon():
    (held,) = play(None, PlaySettings(hold=3), [0], "rollout", 0)
    assert held.length == held.opened_after + 3
    (cut,) = play(None, PlaySettings(horizon=40), [0], "rollout", 0)
    assert (cut.length, cut.opened_after) == (40, None)


def test_rewards_add_up_to_progress(demonstrations):
    for episode in demonstrations:
        steps = episode.arrays()
        whole = progress(episode.observation) - progress(steps["observations"][0])
        assert steps["reward"].sum(dtype=np.float64) == pytest.approx(whole, abs=1e-5)
        assert whole > 0.75


def test_labels_of_an_episode_go_through_the_phases(demonstrations):
    steps = demonstrations[0].arrays() | {"episode": np.zeros(demonstrations[0].length, np.int64)}
    found = label(steps, list(FAMILY.labels))
    first = [int(np.flatnonzero(found["phase"] == code)[0]) for code in range(4)]
    assert first == sorted(first)
    assert found["success"].all()


def test_recorded_states_can_be_restored(demonstrations):
    """From a recorded state on, the recorded actions lead where they led: to what the solver's fresh start allows."""
    steps = demonstrations[1].arrays()
    simulator = Simulator()
    simulator.restore(*(steps[name][50] for name in ("qpos", "qvel", "cabinet_position")))
    np.testing.assert_allclose(simulator.observation(), steps["observations"][50], atol=1e-6)
    for step in range(50, 60):
        simulator.step(steps["action"][step])
    np.testing.assert_allclose(simulator.observation(), steps["observations"][60], atol=1e-3)


def test_steps_and_episodes_are_described_by_their_arrays():
    steps, episodes = joined(rollout(small_policy("mlp"), QUICK, range(7), seed=0, threads=1))
    kinds = {name: (values.dtype.name, values.shape[1:]) for name, values in steps.items()}
    assert kinds == {
        "episode": ("int64", ()),
        "step": ("int32", ()),
        "observations": ("float32", (23,)),
        "action": ("float32", (9,)),
        "reward": ("float32", ()),
        "finger_contact": ("bool", (2,)),
        "qpos": ("float64", (11,)),
        "qvel": ("float64", (11,)),
        "cabinet_position": ("float64", (3,)),
        "value": ("float32", ()),
    }
    assert {name: values.dtype.name for name, values in episodes.items()} == {
        "episode": "int64",
        "length": "int32",
        "success": "bool",
        "opened_after": "int32",
        "return": "float64",
    }
    np.testing.assert_array_equal(episodes["length"], 12)
    assert not episodes["success"].any()
    assert (episodes["opened_after"] == -1).all()
    found = small_policy("mlp").run({"observations": steps["observations"]})
    np.testing.assert_allclose(steps["action"], found.heads.mu, atol=1e-5)
    np.testing.assert_allclose(steps["value"], found.value, atol=1e-5)


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_a_row_s_numbers_do_not_depend_on_what_stands_beside_it(kind):
    """For networks of the sizes that are trained; very narrow ones take another path through the matrix library."""
    architecture = full_architecture({"kind": kind})
    act = acting(build({"family": "franka", "architecture": architecture}, initial_tensors(architecture, 0)))
    rows, generator = observations(BLOCK + 5)["observations"], np.random.default_rng(1)
    whole = act(rows)
    for _ in range(10):
        some = generator.permutation(len(rows))[:20]
        for one, other in zip(whole, act(rows[some]), strict=True):
            np.testing.assert_array_equal(one[some], other)


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_episodes_do_not_depend_on_how_they_are_batched_or_handed_over(kind, monkeypatch):
    policy, settings = small_policy(kind), {**QUICK, "sample": True}
    whole, ends = joined(rollout(policy, settings, range(11), seed=3))
    monkeypatch.setattr(environment, "CHUNK", 4)
    chunks = list(rollout(policy, {**settings, "lanes": 3}, range(11), seed=3))
    assert [len(chunk.episodes["episode"]) for chunk in chunks] == [4, 4, 3]
    again, ends_again = joined(chunks)
    for one, other in ((whole, again), (ends, ends_again)):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    some, _ = joined(rollout(policy, settings, [7], seed=3))
    np.testing.assert_array_equal(some["qpos"], whole["qpos"][whole["episode"] == 7])
    other, _ = joined(rollout(policy, settings, [7], seed=4))
    assert some["qpos"].tobytes() != other["qpos"].tobytes()


def test_actions_are_the_mean_or_drawn_from_the_distribution():
    policy = small_policy("mlp")
    mean, _ = joined(rollout(policy, {"horizon": 1}, range(200), seed=0))
    drawn, _ = joined(rollout(policy, {"horizon": 1, "sample": True}, range(200), seed=0))
    np.testing.assert_array_equal(mean["observations"], drawn["observations"])
    spread = np.exp(policy.tensors["sigma"].numpy())
    np.testing.assert_allclose((drawn["action"] - mean["action"]).std(axis=0), spread, rtol=0.25)
    noisy, _ = joined(rollout(policy, {"horizon": 1, "noise": 0.1}, range(200), seed=0))
    np.testing.assert_allclose((noisy["action"] - mean["action"]).std(axis=0), 0.1, rtol=0.25)


def test_an_edited_policy_acts_as_edited():
    policy = small_policy("mlp")
    plain, _ = joined(rollout(policy, QUICK, range(3), seed=0))
    edited, _ = joined(rollout(Edited(policy, {"actor_mlp_3": torch.zeros_like}), QUICK, range(3), seed=0))
    assert plain["action"].tobytes() != edited["action"].tobytes()


def test_purposes_share_no_random_numbers():
    draws = {purpose: stream(purpose, 0, 0).integers(2**60) for purpose in PURPOSES}
    assert len(set(draws.values())) == len(PURPOSES)


def test_returns_of_two_policies_are_pairs():
    first, second = (returns(small_policy("mlp", seed), QUICK, [4, 2], seed=0)["drawer"] for seed in (0, 1))
    assert {name: values.shape for name, values in first.items()} == dict.fromkeys(MEASURES, (2,))
    assert first["return"].tobytes() != second["return"].tobytes()
    assert first["steps"].tolist() == [12, 12]
    reordered = returns(small_policy("mlp"), QUICK, [2, 4], seed=0)["drawer"]
    np.testing.assert_array_equal(reordered["return"][::-1], first["return"])
    acts = [acting(small_policy("mlp", seed)) for seed in (0, 1)]
    starts = [
        {
            episode.number: episode.arrays()["qpos"][0].tolist()
            for episode in play(act, PlaySettings(2), [2, 4], "returns", 0)
        }
        for act in acts
    ]
    assert starts[0] == starts[1]


def test_measures_say_how_far_an_episode_has_come():
    """Of the expert's own episodes, in which the order of things is known."""
    for episode in play(None, PlaySettings(), [0, 1], "returns", 0):
        episode.columns["divergence"] = [np.float32(0)] * episode.length
        found = _measures(episode, 300)
        assert found["success"] and found["pulled"] and found["touched"]  # noqa: PT018
        assert found["opening"] > 0.30
        assert found["closest"] < 0.03
        assert found["steps"] == episode.opened_after
    still = returns(small_policy("mlp"), QUICK, [0], seed=0)["drawer"]
    assert (still["success"], still["pulled"], still["steps"]) == (0, 0, 12)


def test_how_far_actions_are_from_those_of_another_policy_is_measured():
    policy, other = small_policy("mlp", 0), small_policy("mlp", 1)
    alone, watched = (returns(policy, QUICK, [4, 2], 0, reference)["drawer"] for reference in (None, other))
    assert all((alone[name] == watched[name]).all() for name in alone)
    assert (returns(policy, QUICK, [4, 2], 0, policy)["drawer"]["divergence"] == 0).all()
    steps = next(episode for episode in play(acting(policy), PlaySettings(12), [4], "returns", 0)).arrays()
    batch = {"observations": steps["observations"]}
    expected = other.run(batch).heads.divergence(policy.run(batch).heads).mean()
    np.testing.assert_allclose(watched["divergence"][0], expected, rtol=1e-5)


def test_strength_counts_open_drawers():
    found = evaluate(small_policy("mlp"), {"episodes": 6, "horizon": 20}, seed=0)["drawer"]
    assert (found["successes"], found["n"], found["steps"]) == (0, 6, None)
    assert found["return"]["n_clusters"] == 6
    assert found["value_explained"]["n_rows"] == 120
    assert found["value_explained"]["value"] < 1


def test_a_value_that_knows_the_returns_explains_them():
    from policylens.policies.franka.strength import _share

    returns_, value = np.random.default_rng(0).normal(size=(2, 500))
    value = returns_ + 0.5 * value + 3  # a constant error is none
    error = returns_ - value
    terms = [np.array([[x]]) for x in (error @ error, error.sum(), returns_ @ returns_, returns_.sum(), 500)]
    assert _share(*terms).item() == pytest.approx(1 - error.var() / returns_.var())


def test_a_policy_that_does_not_fit_the_simulator_is_refused():
    policy = small_policy("mlp")
    policy.record = {**policy.record, "architecture": {**policy.record["architecture"], "observations": 24}}
    with refused("24", "23"):
        acting(policy)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(cabinet, "PACKAGE", "no_such_package")
    with refused("no_such_package", "franka"):
        cabinet.assets()


def test_settings_are_checked_by_schema_and_by_the_rollout():
    schema = FAMILY.settings["rollout"]
    jsonschema.validate(environment.DEFAULTS, schema)
    assert schema["properties"].keys() == environment.DEFAULTS.keys()
    for wrong in ({"horizont": 3}, {"horizon": 0}, {"noise": -1}, {"sample": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
    with refused("horizont", "horizon"):
        next(rollout(small_policy("mlp"), {"horizont": 3}, range(1), seed=0))


def test_the_page_says_what_works(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    names, printed = run_python("franka.md")
    assert names["some"].episodes["success"].all()
    assert names["simulator"].observation()[21] == pytest.approx(names["some"].steps["observations"][61, 21], abs=1e-3)
    assert printed.count("\n") >= 2


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_the_shipped_checkpoints_open_drawers(kind):
    found = evaluate(load_policy(REPOSITORY / "data/checkpoints/franka" / kind / "final"), {"episodes": 12}, seed=3)
    assert found["drawer"]["successes"] >= 11
    assert found["drawer"]["value_explained"]["value"] > 0.5
