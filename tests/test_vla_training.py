"""A small pi0.5 learns from recorded demonstrations, and acts in the simulator."""

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lerobot", reason="LeRobot is in the environment `vla` alone: make test-all")
pytest.importorskip("h5py", reason="h5py is in the environment `vla` alone: make test-all")

from libero_made import assets
from support import refused
from vla_made import policy

from policylens.errors import UserError
from policylens.policies.editing import Edited
from policylens.policies.vla.environment import rollout
from policylens.policies.vla.frames import SLUGS, Frames, of_demonstrations
from policylens.policies.vla.initial import architecture_of, tasks_of
from policylens.policies.vla.libero.reading import open_file
from policylens.policies.vla.libero.tasks import TASKS, task
from policylens.policies.vla.play import PlaySettings, learnt
from policylens.policies.vla.prompts import Prompts
from policylens.policies.vla.returns import returns
from policylens.policies.vla.training import train
from policylens.stores.files import read_json, read_tensors

SAMPLE = Path(__file__).parent / "libero_sample"
SIZES = {"width": 16, "hidden": 16, "depth": 2, "expert_width": 16, "expert_hidden": 16, "vision_width": 16}
SIZES |= {"vision_hidden": 16, "vision_depth": 1, "chunk": 3, "denoising_steps": 2}


@pytest.fixture
def demonstrations(tmp_path):
    folder = tmp_path / "demonstrations"
    shutil.copytree(SAMPLE, folder)
    (folder / "index.json").write_text("{}")
    return folder / "index.json"


def settings(index, iterations):
    return {
        "demonstrations": str(index),
        "iterations": iterations,
        "architecture": SIZES,
        "size": 32,
        "steps": 4,
        "batch": 8,
        "warm_up": 2,
        "episodes": 0,
    }


def test_frames_pair_what_was_seen_with_what_the_expert_wanted_next(demonstrations):
    parts = of_demonstrations(demonstrations, 32)
    path = sorted(demonstrations.parent.glob("*.hdf5"))[0]
    import h5py

    with h5py.File(path) as file:
        first = file["data/demo_0"]
        np.testing.assert_array_equal(parts[0]["taught"], first["expert_actions"][1:].astype(np.float32))
        picture = first["obs/agentview_rgb"][0]
    np.testing.assert_array_equal(parts[0]["image"][0], picture[::-1, ::-1])
    with open_file(path) as file:
        assert TASKS[sorted(TASKS)[parts[0]["task"][0]]].instruction == file.instruction
    with pytest.raises(UserError, match="32 pixels wide"):
        of_demonstrations(demonstrations, 64)


def test_a_policy_has_the_words_and_the_room_that_its_tasks_need(demonstrations):
    frames = Frames(32)
    frames.add(of_demonstrations(demonstrations, 32))
    shown = tasks_of(frames)
    assert {one.instruction for one in shown} == {"turn on the stove", "turn off the stove"}
    assert "bowl" not in architecture_of(SIZES, frames)["tokenizer"]["words"]
    bowls = [slug for slug in TASKS if "bowl" in slug]
    frames.columns["task"][:] = SLUGS.index(bowls[0])
    found = architecture_of(SIZES, frames)
    low = np.full((1, 8), -2.0)  # below what has been seen: every number has a minus sign
    prompts = Prompts("pi05", found["tokenizer"], found["prompt_tokens"] + 4)
    prompt = prompts([TASKS[slug].instruction for slug in bowls], np.repeat(low, 2, axis=0))
    assert ((prompt.kinds >= 0).sum(axis=1) == 35).all()
    assert (prompt.ids[0] != prompt.ids[1]).sum() == 1  # back or front


def test_chunks_end_with_their_episode(demonstrations):
    frames = Frames(32)
    frames.add(of_demonstrations(demonstrations, 32))
    rows = frames.chunks(4)
    episode = frames.columns["episode"]
    assert (episode[rows] == episode[:, None]).all()
    first = int((episode == 0).sum())
    assert rows[0].tolist() == [0, 1, 2, 3]
    assert rows[first - 2].tolist() == [first - 2, first - 1, first - 1, first - 1]


def test_a_resumed_training_equals_one_in_a_piece(demonstrations, tmp_path):
    lines = []
    train(settings(demonstrations, 3), tmp_path / "whole", 5, lines.append)
    train(settings(demonstrations, 3), tmp_path / "parts", 5, lines.append, stop_after=1)
    train(settings(demonstrations, 3), tmp_path / "parts", 5, lines.append)
    whole, parts = (
        read_tensors(tmp_path / name / "iteration-0003" / "model.safetensors") for name in ("whole", "parts")
    )
    first = read_tensors(tmp_path / "whole" / "iteration-0000" / "model.safetensors")
    assert all(whole[name].equal(parts[name]) for name in whole)
    assert any(not whole[name].equal(first[name]) for name in whole)
    record = read_json(tmp_path / "whole" / "iteration-0003" / "policy.json")
    assert record["training"]["gradient_steps"] == 12
    assert record["training"]["tasks"] == ["turn on the stove", "turn off the stove"]
    assert learnt(record) == record["training"]["tasks"]


def test_a_training_without_demonstrations_is_one_line(tmp_path):
    with pytest.raises(UserError, match="lack `demonstrations`"):
        train({"iterations": 1}, tmp_path, 0)
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(UserError, match="no demonstrations beside it"):
        train(settings(tmp_path / "index.json", 1), tmp_path / "out", 0)


def test_signs_and_contraries():
    opening, closing = task("open the top drawer of the cabinet"), task("close the top drawer of the cabinet")
    assert (opening.sign, closing.sign) == (-1, 1)
    assert (task("turn on the stove").sign, task("turn off the stove").sign) == (1, -1)
    assert opening.contrary == closing
    assert closing.contrary == opening


def test_play_settings_are_checked():
    only = PlaySettings.of({"pairs": ["stove"], "instructions": ["turn off the stove"]}, {})
    assert [one.instruction for one in only.tasks] == ["turn off the stove"]
    with pytest.raises(UserError, match="no pair of tasks 'oven'"):
        PlaySettings.of({"pairs": ["oven"]}, {})
    with pytest.raises(UserError, match="have no instruction 'turn on the stove'"):
        PlaySettings.of({"pairs": ["drawer"], "instructions": ["turn on the stove"]}, {})


def test_what_is_played_is_what_the_policy_has_learnt():
    bowls = "put the black bowl at the back on the plate"
    record = {"training": {"tasks": ["turn on the stove", bowls]}}
    played = PlaySettings.of({}, record)
    assert played.pairs == ("stove", "bowls")
    assert [one.instruction for one in played.tasks] == ["turn on the stove", bowls]
    assert len(PlaySettings.of({"pairs": ["drawer"]}, record).tasks) == 2
    named = PlaySettings.of({"instructions": ["turn off the stove"]}, record)
    assert (named.pairs, [one.instruction for one in named.tasks]) == (("stove",), ["turn off the stove"])
    for unsaid in ({}, {"training": {}}, {"origin": {"path": "theirs"}}):
        with refused("does not say which tasks it has learnt", "name `pairs`", "drawer, stove, bowls"):
            PlaySettings.of({}, unsaid)
    with refused("there is no task 'dance'"):
        PlaySettings.of({"instructions": ["dance"]}, {})


def test_both_instructions_begin_alike_and_an_edit_disturbs(tmp_path):
    made = policy("pi05", prompt_tokens=48)
    play = {"pairs": ["drawer"], "horizon": 3, "size": 32, "assets": assets(tmp_path)}
    same = returns(made, play, [0], 7, reference=made)
    assert set(same) == {task.slug for task in PlaySettings.of(play, {}).tasks}
    assert all(not measures["divergence"].any() for measures in same.values())
    edited = Edited(made, {"language_0": lambda x: x + 1})
    assert all(measures["divergence"][0] > 0 for measures in returns(edited, play, [0], 7, reference=made).values())
    first, second = rollout(made, play, [0, 1], 7)
    assert first.steps["group"][0] == second.steps["group"][0]
    np.testing.assert_array_equal(first.steps["image"][0], second.steps["image"][0])
    np.testing.assert_array_equal(first.steps["state"][0], second.steps["state"][0])
    assert (first.steps["instruction"][0] != second.steps["instruction"][0]).any()
    assert first.steps["action"].dtype == np.float32
    assert (np.abs(first.steps["action"]) <= 1).all()
