"""DAgger: what it learns from, and that an interrupted run is the same as one that was not. Needs MuJoCo."""

import csv
import json
import shutil

import jsonschema
import numpy as np
import pytest
import torch
from franka_small import SIZES
from support import refused, tree

pytest.importorskip("mujoco", reason="MuJoCo is in the environment `franka` alone: make test-all")

from policylens.policies.checkpoint import read_checkpoint, read_record  # noqa: E402  (what follows imports MuJoCo)
from policylens.policies.franka.dataset import Dataset, discounted  # noqa: E402
from policylens.policies.franka.family import FAMILY  # noqa: E402
from policylens.policies.franka.initial import LOG_STD, full_architecture, initial_tensors  # noqa: E402
from policylens.policies.franka.play import PlaySettings, play  # noqa: E402
from policylens.policies.franka.training import TrainingSettings, train  # noqa: E402
from policylens.policies.registry import load_policy  # noqa: E402
from policylens.stores.files import read_tensors  # noqa: E402

SETTINGS = {
    "iterations": 4,
    "snapshots": [1, 3],
    "save_every": 2,
    "demonstrations": 2,
    "episodes": 2,
    "horizon": 15,
    "lanes": 2,
    "steps": 5,
    "batch": 16,
    "warm_up": 2,
}


def settings_of(kind):
    return {**SETTINGS, "architecture": SIZES[kind]}


def silent(line):
    """Progress that nobody reads."""


def log_of(folder):
    with open(folder / "training_log.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", params=sorted(SIZES))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def trained(kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp("training") / "run"
    lines = []
    train(settings_of(kind), folder, 5, lines.append)
    assert len(lines) == 4
    return folder


def test_a_run_leaves_snapshots_a_log_and_a_state(trained, kind):
    found = {path.name for path in trained.iterdir()}
    assert found == {f"iteration-{number:04d}" for number in (0, 1, 3, 4)} | {"training_log.csv", "state.safetensors"}
    rows = log_of(trained)
    assert [row["episodes"] for row in rows] == ["2", "4", "6", "8"]
    assert [row["rows"] for row in rows] == ["30", "60", "90", "120"]
    assert rows[-1]["gradient_steps"] == "20"
    record = read_record(trained / "iteration-0003")
    assert record["architecture"] == full_architecture(SIZES[kind])
    counted = {name: record["training"][name] for name in ("iteration", "episodes", "gradient_steps", "seed")}
    assert counted == {"iteration": 3, "episodes": 6, "gradient_steps": 15, "seed": 5}
    assert load_policy(trained / "iteration-0004").architecture["kind"] == kind


def test_the_untrained_control_has_random_weights_and_the_run_s_statistics(trained, kind):
    _, untrained = read_checkpoint(trained / "iteration-0000")
    _, later = read_checkpoint(trained / "iteration-0004")
    for name, tensor in initial_tensors(full_architecture(SIZES[kind]), 5).items():
        if name.endswith(("_mean", "_variance")):
            assert not torch.equal(untrained[name], tensor)
            assert torch.equal(untrained[name], later[name])
        else:
            assert torch.equal(untrained[name], tensor)
            assert not torch.equal(untrained[name], later[name])


def test_every_second_iteration_has_noise(trained):
    held = read_tensors(trained / "state.safetensors")
    noisy = {
        int(number): bool(is_noisy)
        for number, is_noisy in zip(held["dataset.iteration"], held["dataset.noisy"], strict=True)
    }
    assert noisy == {0: True, 1: True, 2: False, 3: True}


@pytest.mark.parametrize("stops", [[2], [1, 3]])
def test_interrupted_and_resumed_equals_uninterrupted(trained, kind, tmp_path, stops):
    folder = tmp_path / "run"
    for stop in [*stops, None]:
        train(settings_of(kind), folder, 5, silent, stop_after=stop)
    assert tree(folder) == tree(trained)


def test_a_run_killed_between_two_states_goes_back_to_the_last_one(trained, kind, tmp_path):
    class Killed(Exception):
        pass

    def die_after_the_third(line):
        if line.startswith("iteration 3/"):
            raise Killed

    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(settings_of(kind), folder, 5, die_after_the_third)  # the state is that of iteration 2, the log says 3
    lines = []
    train(settings_of(kind), folder, 5, lines.append)
    assert lines[0] == "resumed after iteration 2"
    assert tree(folder) == tree(trained)


def test_a_finished_run_is_left_as_it_is_and_its_log_written_again(trained, kind, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "training_log.csv").unlink()
    train(settings_of(kind), folder, 5, silent)
    assert tree(folder) == tree(trained)


def test_another_seed_trains_another_network(trained, kind, tmp_path):
    train(settings_of(kind), tmp_path / "run", 6, silent, stop_after=1)
    first, other = (read_checkpoint(folder / "iteration-0001")[1] for folder in (trained, tmp_path / "run"))
    assert not torch.equal(first["mu.weight"], other["mu.weight"])


def test_the_state_of_another_run_is_refused(trained, kind):
    before = tree(trained)
    with refused("state.safetensors", "other settings"):
        train(settings_of(kind), trained, 6, silent)
    with refused("state.safetensors", "other settings"):
        train({**settings_of(kind), "steps": 6}, trained, 5, silent)
    assert tree(trained) == before


def test_training_learns_what_the_expert_does_and_what_comes_of_it(tmp_path):
    settings = {"iterations": 1, "demonstrations": 6, "steps": 500, "batch": 128, "warm_up": 20}
    train({**settings, "architecture": {"kind": "mlp", "hidden": [64, 32]}}, tmp_path / "run", 0, silent)
    assert float(log_of(tmp_path / "run")[0]["success"]) == 1.0  # the expert's
    policy = load_policy(tmp_path / "run" / "iteration-0001")
    episodes = list(play(None, PlaySettings(), range(900, 904), "training", 1))
    steps = [episode.arrays() for episode in episodes]
    observations, taught = (np.concatenate([one[name] for one in steps]) for name in ("observations", "taught"))
    returns = np.concatenate([discounted(one["reward"], 0.99) for one in steps])
    found = policy.run({"observations": observations})
    errors = taught - found.heads.mu.numpy()
    assert (errors**2).mean() < 0.35 * taught.var(axis=0).mean()
    assert np.corrcoef(policy.in_returns(found.value).numpy(), returns)[0, 1] > 0.7
    # The width is on its way to how far the mean is off.
    off = np.sqrt((errors**2).mean(axis=0))
    assert (off < 0.2).any()
    assert (policy.tensors["sigma"].numpy()[off < 0.2] < LOG_STD - 0.1).all()


def test_discounted_returns_count_what_follows():
    found = discounted(np.array([1, 2, 4], np.float32), 0.5)
    np.testing.assert_allclose(found, [3, 4, 4])
    assert found.dtype == np.float32


def test_a_dataset_knows_who_visited_what():
    dataset = Dataset()
    quick = PlaySettings(horizon=4, lanes=2)
    assert dataset.add(play(None, quick, range(2), "training", 0), 0.9, iteration=0, noisy=True) == 0.0
    assert dataset.own_rows(3).tolist() == list(range(8))  # the expert's, while there are no others
    for iteration in (1, 2, 3, 4):
        dataset.add(play(None, quick, [iteration], "training", 0), 0.9, iteration, noisy=iteration == 3)
    assert dataset.own_rows(3).tolist() == [*range(12, 16), *range(20, 24)]
    assert dataset.own_rows(100).tolist() == [*range(8, 16), *range(20, 24)]
    assert len(dataset) == 24


def test_the_learning_rate_warms_up_and_falls():
    settings = TrainingSettings.from_mapping({"iterations": 10, "learning_rate": 0.01, "warm_up": 10})
    assert settings.learning_rate_at(0, 0.0) == pytest.approx(0.001)
    assert settings.learning_rate_at(9, 0.0) == pytest.approx(0.01)
    assert settings.learning_rate_at(500, 0.5) == pytest.approx(0.01 * 0.51)
    assert settings.learning_rate_at(999, 1.0) == pytest.approx(0.0002)


def test_settings_are_checked_by_schema_and_by_training(tmp_path):
    schema = FAMILY.settings["training"]
    defaults = TrainingSettings(iterations=1)
    jsonschema.validate(json.loads(json.dumps(vars(defaults))), schema)
    assert schema["properties"].keys() == vars(defaults).keys()
    for wrong in ({}, {"iterations": 0}, {"iterations": 1, "stepz": 3}, {"iterations": 1, "architecture": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
    with refused("stepz", "steps"):
        train({"iterations": 1, "stepz": 3}, tmp_path, 0)
    with refused("iterations"):
        train({}, tmp_path, 0)
