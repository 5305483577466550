"""Actor-critics of rl_games: read strictly, run as torch runs them, and equal to the published rollout."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from franka_made import PREFIX, made, saved
from hypothesis import given, settings
from hypothesis import strategies as st
from support import REPOSITORY, check_protocol, refused
from torch import nn

from policylens.policies.franka.family import ACTIVATIONS
from policylens.policies.franka.importing import read
from policylens.policies.franka.policy import build
from policylens.policies.importing import import_checkpoint
from policylens.policies.registry import load_policy

ASSETS = REPOSITORY.parent / "shared" / "assets" / "franka_eureka"
KINDS = {
    "shared": {},
    "own critic": {"critic": (7, 4)},
    "discrete": {"head": "discrete"},
    "state-dependent spread": {"log_std": "linear"},
    "nothing normalised": {"normalised": False, "returns": False},
}


def loaded(folder, dtype=None, options=None, **kind):
    import_checkpoint(str(saved(folder / "made.pth", **kind)), folder / "checkpoint", "franka", options or {})
    return load_policy(folder / "checkpoint", dtype=dtype)


def observations(count=6, width=5):
    return {"observations": np.random.default_rng(1).normal(size=(count, width)).astype(np.float32)}


def plain(content, x, activation=nn.functional.elu, clip=5.0):
    """The network by the book: head and value of observations."""
    model = {name.removeprefix(PREFIX): tensor.double() for name, tensor in content["model"].items()}
    if "running_mean_std.running_mean" in model:
        spread = (model["running_mean_std.running_var"] + 1e-5).sqrt()
        x = ((x - model["running_mean_std.running_mean"]) / spread).clamp(-clip, clip)

    def linear(name, y):
        return y @ model[f"{name}.weight"].T + model[f"{name}.bias"]

    def stack(name):
        y, number = x, 0
        while f"{name}.{number}.weight" in model:
            y, number = activation(linear(f"{name}.{number}", y)), number + 2
        return y

    actor = stack("actor_mlp")
    critic = stack("critic_mlp") if "critic_mlp.0.weight" in model else actor
    return linear("mu" if "mu.weight" in model else "logits", actor), linear("value", critic)[:, 0]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_runs_as_written(tmp_path, kind):
    policy = loaded(tmp_path, dtype=torch.float64, **kind)
    batch = observations()
    result = policy.run(batch)
    head, value = plain(made(**kind), torch.from_numpy(batch["observations"]).double())
    found = result.heads.logits if kind.get("head") == "discrete" else result.heads.mu
    torch.testing.assert_close(found, head, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(result.value, value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_keeps_the_promises_of_policies(tmp_path, kind):
    policy = loaded(tmp_path, dtype=torch.float64, **kind)

    class Seen(nn.Module):
        """Where plain torch sees a site: the map after it is given it."""

        def forward(self, x):
            return x

    seen = Seen()
    normalise = policy._normalise
    policy.__dict__["_normalise"] = lambda carry: {**normalise(carry), "input": seen(normalise(carry)["input"])}
    check_protocol(policy, observations(), {"input": seen})


def test_observations_are_clamped_and_the_value_has_two_units(tmp_path):
    policy = loaded(tmp_path, dtype=torch.float64, options={"clip": 0.5})
    result = policy.run(observations(), read=["input"])
    assert float(result.reads["input"].abs().max()) == 0.5
    model = made()["model"]
    mean, variance = model["value_mean_std.running_mean"], model["value_mean_std.running_var"]
    expected = result.value * (variance + 1e-5).sqrt() + mean
    torch.testing.assert_close(policy.in_returns(result.value), expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_activation_is_the_one_told(tmp_path, activation):
    policy = loaded(tmp_path, dtype=torch.float64, options={"activation": activation})
    batch = observations()
    functions = {"tanh": torch.tanh, "swish": nn.functional.silu}
    function = functions.get(activation) or getattr(nn.functional, activation)
    head, _ = plain(made(), torch.from_numpy(batch["observations"]).double(), function)
    torch.testing.assert_close(policy.run(batch).heads.mu, head, rtol=1e-9, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 6),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.lists(st.integers(1, 5), max_size=3),
    st.integers(1, 4),
)
def test_the_architecture_is_read_from_the_tensors(tmp_path_factory, width, hidden, critic, actions):
    path = tmp_path_factory.mktemp("made") / "made.pth"
    saved(path, observations=width, hidden=hidden, critic=critic, actions=actions)
    record, tensors = read(path, {})
    found = record["architecture"]
    assert (found["observations"], found["hidden"], found["critic"]) == (width, hidden, critic)
    assert (found["actions"], record["training"]) == (actions, {"epoch": 7, "frame": 4096})
    build(record, tensors)


def edited(change):
    content = made()
    change(content["model"])
    return content


BAD = {
    "an unknown tensor": (
        edited(lambda model: model.update({"reward_mean_std.count": torch.zeros(1)})),
        ["reward_mean_std.count", "not imported"],
    ),
    "a recurrent network": (
        edited(lambda model: model.update({f"{PREFIX}rnn.rnn.weight_ih_l0": torch.zeros(2, 2)})),
        ["rnn.rnn.weight_ih_l0"],
    ),
    "layers that do not chain": (
        edited(lambda model: model.update({f"{PREFIX}actor_mlp.2.weight": torch.zeros(6, 9)})),
        ["actor_mlp.0 gives 8 units", "actor_mlp.2 takes 9"],
    ),
    "a head of another width": (
        edited(lambda model: model.update({f"{PREFIX}mu.weight": torch.zeros(3, 9)})),
        ["'mu.weight'", "[3, 9]", "[3, 6]"],
    ),
    "a missing bias": (edited(lambda model: model.pop(f"{PREFIX}mu.bias")), ["missing: mu.bias"]),
    "no value": (edited(lambda model: model.pop(f"{PREFIX}value.weight")), ["has no tensor", "value.weight"]),
    "a gap between layers": (
        edited(lambda model: model.update({f"{PREFIX}actor_mlp.6.weight": torch.zeros(6, 6)})),
        ["[0, 2, 6]"],
    ),
    "a NaN": (
        edited(lambda model: model[f"{PREFIX}mu.bias"].fill_(torch.nan)),
        ["'mu.bias'", "NaN", "export the checkpoint again"],
    ),
    "no state dict": ({"weights": {}}, ["'model'"]),
}


@pytest.mark.parametrize(("content", "parts"), BAD.values(), ids=BAD)
def test_other_checkpoints_are_refused(tmp_path, content, parts):
    path = tmp_path / "bad.pth"
    torch.save(content, path)
    with refused(*parts):
        import_checkpoint(str(path), tmp_path / "out", "franka", {})
    assert not (tmp_path / "out" / "policy.json").exists()


def test_a_pickle_with_foreign_classes_is_refused_by_name(tmp_path):
    path = tmp_path / "bad.pth"
    torch.save({"model": {}, "environment": Path("/")}, path)
    with refused("pathlib", "which would be run when loaded"):
        read(path, {})
    path.write_bytes(pickle.dumps({"model": {}}, protocol=2))
    with refused("bad.pth", "not a whole file"):
        read(path, {})


def test_options_are_checked(tmp_path):
    with refused("options.activation is 'sigmoid'; it must be one of elu, relu"):
        read(saved(tmp_path / "made.pth"), {"activation": "sigmoid"})


@pytest.mark.parametrize("batch", [{}, {"observations": np.zeros((3, 4), np.float32)}], ids=["none", "narrow"])
def test_wrong_observations_are_refused(tmp_path, batch):
    with refused("observations"):
        loaded(tmp_path).run(batch)


@pytest.mark.skipif(not ASSETS.exists(), reason="the published Franka checkpoint is not there")
@pytest.mark.parametrize("name", ["eval", "iter0", "iter2", "iter4"])
def test_the_published_checkpoints_load(tmp_path, name):
    import_checkpoint(str(ASSETS / f"FrankaCabinetGPT_epoch__{name}.pth"), tmp_path, "franka", {})
    record = json.loads((tmp_path / "policy.json").read_text())
    assert record["architecture"]["hidden"] == [256, 128, 64]


@pytest.mark.skipif(not ASSETS.exists(), reason="the published Franka checkpoint is not there")
def test_the_published_rollout_comes_out(tmp_path):
    import_checkpoint(str(ASSETS / "FrankaCabinetGPT_epoch__eval.pth"), tmp_path, "franka", {})
    rollout = np.load(ASSETS / "FrankaCabinetGPT_epoch__eval.npz")
    result = load_policy(tmp_path).run({"observations": rollout["pre_norm_obs"].reshape(-1, 23)}, read=["input"])
    for found, recorded in (
        (result.heads.mu, rollout["mu"].reshape(-1, 9)),
        (result.value, rollout["value"].reshape(-1)),
        (result.reads["input"], rollout["post_norm_obs"].reshape(-1, 23)),
    ):
        np.testing.assert_allclose(found.numpy(), recorded, atol=1e-5)
