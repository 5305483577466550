"""Training by self-play: its parts, and that an interrupted run is the same as one that was not."""

import csv
import json
import shutil
from itertools import count

import jsonschema
import numpy as np
import pytest
import torch
from othello_reference import boards, placements, random_position
from othello_small import ARCHITECTURE
from support import refused, tree

from policylens.policies.checkpoint import read_checkpoint, read_record
from policylens.policies.othello.family import FAMILY
from policylens.policies.othello.network import initial_network
from policylens.policies.othello.replay import Replay
from policylens.policies.othello.selfplay import EPISODE, STEP
from policylens.policies.othello.symmetry import SYMMETRIES
from policylens.policies.othello.training import TrainingSettings, train

SETTINGS = {
    "iterations": 4,
    "architecture": ARCHITECTURE,
    "snapshots": [1, 3],
    "save_every": 2,
    "games": 6,
    "lanes": 4,
    "simulations": 6,
    "replay": 300,
    "reuse": 1.0,
    "batch": 32,
    "warm_up": 2,
}


def silent(line):
    """Progress that nobody reads."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training") / "run"
    lines = []
    train(SETTINGS, folder, 5, lines.append)
    assert len(lines) == 4
    return folder


def test_a_run_leaves_snapshots_a_log_and_a_state(trained):
    found = {path.name for path in trained.iterdir()}
    snapshots = {f"iteration-{number:04d}" for number in (0, 1, 3, 4)}
    assert found == snapshots | {"training_log.csv", "state.safetensors"}
    with open(trained / "training_log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["games"] for row in rows] == ["6", "12", "18", "24"]
    positions = [int(row["positions"]) for row in rows]
    assert int(rows[-1]["gradient_steps"]) == sum(
        round(new / 32) for new in np.diff([0, *positions])
    )  # each position drawn once on average
    record = read_record(trained / "iteration-0003")
    assert record["training"]["iteration"] == 3
    assert record["training"]["positions"] == positions[2]
    assert record["training"]["seed"] == 5


def test_the_untrained_control_is_the_network_that_training_starts_from(trained):
    _, tensors = read_checkpoint(trained / "iteration-0000")
    for name, tensor in initial_network(ARCHITECTURE, 5).state_dict().items():
        assert torch.equal(tensors[name], tensor)
    _, later = read_checkpoint(trained / "iteration-0001")
    assert not torch.equal(later["embed.weight"], tensors["embed.weight"])


@pytest.mark.parametrize("stops", [[2], [1, 3]])
def test_interrupted_and_resumed_equals_uninterrupted(trained, tmp_path, stops):
    folder = tmp_path / "run"
    for stop in [*stops, None]:
        train(SETTINGS, folder, 5, silent, stop_after=stop)
    assert tree(folder) == tree(trained)


def test_a_run_killed_between_two_states_goes_back_to_the_last_one(trained, tmp_path):
    class Killed(Exception):
        pass

    def die_after_the_third(line):
        if line.startswith("iteration 3/"):
            raise Killed

    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(SETTINGS, folder, 5, die_after_the_third)  # the state is that of iteration 2, the log says 3
    lines = []
    train(SETTINGS, folder, 5, lines.append)
    assert lines[0] == "resumed after iteration 2"
    assert tree(folder) == tree(trained)


def test_a_finished_run_is_left_as_it_is_and_its_log_written_again(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "training_log.csv").unlink()
    train(SETTINGS, folder, 5, silent)
    assert tree(folder) == tree(trained)


def test_another_seed_trains_another_network(trained, tmp_path):
    train(SETTINGS, tmp_path / "run", 6, silent, stop_after=1)
    first, other = (read_checkpoint(folder / "iteration-0001")[1] for folder in (trained, tmp_path / "run"))
    assert not torch.equal(first["embed.weight"], other["embed.weight"])


def test_the_state_of_another_run_is_refused(trained):
    before = tree(trained)
    with refused("state.safetensors", "other settings"):
        train(SETTINGS, trained, 6, silent)
    with refused("state.safetensors", "other settings"):
        train({**SETTINGS, "games": 7}, trained, 5, silent)
    assert tree(trained) == before


def test_training_fits_what_was_played(tmp_path):
    """Many steps on few games: the losses fall, which they do only if targets and positions belong together."""
    settings = {**SETTINGS, "iterations": 8, "simulations": 12, "reuse": 20.0, "warm_up": 20}
    train({**settings, "architecture": {"width": 48, "blocks": 2, "hidden": 48}}, tmp_path / "run", 0, silent)
    with open(tmp_path / "run" / "training_log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["policy_loss"]) < float(rows[0]["policy_loss"]) - 1.0
    assert float(rows[-1]["value_loss"]) < float(rows[0]["value_loss"])


def movable(seed):
    """A random position in which a disc can be placed."""
    return next(position for position in map(random_position, count(seed, 1000)) if placements(position))


def game(seeds, outcome, first_ply=0):
    """A made-up game through random positions, every visit on the lowest legal move."""
    positions = [movable(seed) for seed in seeds]
    steps = np.zeros(len(positions), STEP)
    steps["own"], steps["opp"] = boards(positions)
    steps["ply"] = first_ply + np.arange(len(positions))
    for step, position in zip(steps, positions, strict=True):
        step["visits"][placements(position)[0]] = 7
    steps["value"] = np.linspace(-0.5, 0.5, len(positions))
    episode = np.zeros((), EPISODE)
    episode["outcome"] = outcome
    return steps, episode


def test_results_are_for_the_side_to_move():
    replay = Replay(100)
    replay.add([game(range(4), 12), game(range(3), -2, first_ply=1), game(range(2), 0)])
    assert replay.columns["result"].tolist() == [1, -1, 1, -1, 1, -1, 1, 0, 0]


def test_the_latest_positions_are_kept():
    replay = Replay(5)
    assert replay.add([game(range(4), 1)]) == 4
    assert replay.add([game(range(10, 14), 1)]) == 4
    assert len(replay) == 5
    last = game(range(10, 14), 1)[0]
    np.testing.assert_array_equal(replay.columns["own"][-4:], last["own"])


def test_a_batch_holds_images_of_positions_with_their_own_targets():
    steps, episode = game(range(30), 3)
    replay = Replay(100)
    replay.add([(steps, episode)])
    planes, policy, value = replay.draw(np.random.default_rng(0), 500, search_share=0.25)
    known = {}
    for row, position in enumerate(map(movable, range(30))):
        target = placements(position)[0]
        expected = 0.75 * (1 if steps["ply"][row] % 2 == 0 else -1) + 0.25 * steps["value"][row]
        for squares in SYMMETRIES:
            image = tuple(position[square] for square in squares[:36])
            known.setdefault(image, set()).add((squares.tolist().index(target), round(float(expected), 5)))
    drawn = set()
    for board, target, goal in zip(planes, policy, value, strict=True):
        image = tuple((board[:36] - board[36:]).astype(int).tolist())
        drawn.add(image)
        assert target.sum() == 1
        assert (int(target.argmax()), round(float(goal), 5)) in known[image]
    assert len(drawn) > 150  # of at most 240 images


def test_the_learning_rate_warms_up_and_falls():
    settings = TrainingSettings.from_mapping({"iterations": 10, "learning_rate": 0.01, "warm_up": 10})
    assert settings.learning_rate_at(0, 0.0) == pytest.approx(0.001)
    assert settings.learning_rate_at(9, 0.0) == pytest.approx(0.01)
    assert settings.learning_rate_at(500, 0.5) == pytest.approx(0.01 * 0.51)
    assert settings.learning_rate_at(999, 1.0) == pytest.approx(0.0002)


def test_settings_are_checked_by_schema_and_by_training(tmp_path):
    schema = FAMILY.settings["training"]
    jsonschema.validate(json.loads(json.dumps(SETTINGS)), schema)
    assert schema["properties"].keys() == TrainingSettings.__dataclass_fields__.keys()
    with refused("iteration", "iterations"):
        train({**SETTINGS, "iteration": 3}, tmp_path / "run", 0, silent)
    with refused("iterations"):
        train({}, tmp_path / "run", 0, silent)


def test_a_run_can_start_from_a_checkpoint_and_says_which(trained, tmp_path):
    start = trained / "iteration-0004"
    train({**SETTINGS, "iterations": 1, "start": str(start)}, tmp_path / "run", 6, silent)
    record, first = read_checkpoint(tmp_path / "run" / "iteration-0000")
    started, tensors = read_checkpoint(start)
    assert all(torch.equal(first[name], tensor) for name, tensor in tensors.items())
    assert record["training"]["start_sha256"] == started["weights"]["sha256"]


def test_a_start_of_another_architecture_is_refused(trained, tmp_path):
    other = {**ARCHITECTURE, "hidden": ARCHITECTURE["hidden"] + 1}
    settings = {**SETTINGS, "architecture": other, "start": str(trained / "iteration-0004")}
    with refused("iteration-0004", "architecture"):
        train(settings, tmp_path / "run", 6, silent)
