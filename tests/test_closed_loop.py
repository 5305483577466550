"""Edited policies wherever they run, games episode by episode, and what a return loses."""

import json

import numpy as np
import pytest
import torch
from othello_small import small_checkpoint, small_policy
from sae_made import directions, made
from support import check_protocol, clear_line, make_small, refused, run, run_here, script_command, tree

from policylens.evaluation.closed_loop import ABLATIONS, runs_of, summarise
from policylens.policies.editing import Edited
from policylens.policies.othello.environment import rollout
from policylens.policies.othello.evaluation import PolicyEvaluator
from policylens.policies.othello.family import MEASURES
from policylens.policies.othello.match import pair_results, play_games, play_pairs
from policylens.policies.othello.opponents import opponent, searching
from policylens.policies.othello.returns import returns
from policylens.policies.othello.rules import unpack
from policylens.policies.registry import load_policy
from policylens.sae.files import save_sae
from policylens.statistics.resampling import Resampling
from policylens.stores.schemas import check_against
from policylens.stores.store import StoreWriter
from policylens.stores.tables import write_index

RESAMPLING = Resampling(seed=0, n_resamples=400)


def boards(n=9, seed=0):
    generator = np.random.default_rng(seed)
    legal = generator.random((n, 37)) < 0.3
    legal[:, 0] = True
    return {"cells": generator.integers(0, 2, (n, 36)).astype(np.int8), "legal": legal}


def test_an_edited_policy_is_a_policy():
    policy = small_policy(dtype=torch.float64)
    check_protocol(Edited(policy, {}), boards(), {"final_norm": policy.network.final_norm})


def test_edits_are_made_in_every_pass_that_comes_by():
    policy, batch = small_policy(dtype=torch.float64), boards()
    edits = {"block_1": lambda x: x * 0.5}
    edited = Edited(policy, edits)
    whole = edited.run(batch, read=["block_1", "block_2"])
    expected = policy.run(batch, read=["block_1", "block_2"], edit=edits)
    assert torch.equal(whole.heads.logits, expected.heads.logits)
    assert not torch.equal(whole.heads.logits, policy.run(batch).heads.logits)
    # A cache holds the edited activation: it is not edited a second time.
    for site in ("block_1", "block_2"):
        assert torch.equal(edited.run(resume=(site, whole.cache)).heads.logits, whole.heads.logits)
    from_start = policy.run(batch, read=["embed"])
    resumed = edited.run(resume=("embed", from_start.cache))
    torch.testing.assert_close(resumed.heads.logits, whole.heads.logits)
    assert edited.run(batch, read=["embed"], stop_after="embed").heads is None
    both = edited.run(batch, edit={"block_1": lambda x: x + 1}, read=["block_1"])
    assert torch.equal(both.reads["block_1"], policy.run(batch, read=["block_1"]).reads["block_1"] * 0.5 + 1)
    with refused("nowhere"):
        Edited(policy, {"nowhere": lambda x: x})


def test_a_policy_of_hooks_can_be_edited_too(tmp_path):
    small = make_small(tmp_path)
    policy = load_policy(small.checkpoint)
    batch = {"observation": np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)}
    edits = {"first": torch.zeros_like}
    expected = policy.run(batch, edit=edits).heads.logits
    assert torch.equal(Edited(policy, edits).run(batch).heads.logits, expected)


def test_a_rollout_runs_the_edited_policy():
    policy = small_policy()
    settings = {"simulations": 0, "temperature": 0.01, "opening_plies": [0, 0], "lanes": 4}
    plain, zeroed = (
        next(iter(rollout(Edited(policy, edits), settings, range(4), 0))).steps["action"]
        for edits in ({}, {"embed": torch.zeros_like})
    )
    original = next(iter(rollout(policy, settings, range(4), 0))).steps["action"]
    assert (plain == original).all()
    assert len(zeroed) != len(plain) or (zeroed != plain).any()


def test_results_of_games_are_those_of_the_tally():
    agents = opponent("alphabeta-2"), opponent("random")
    discs = pair_results(*agents, range(6), 4, seed=3)
    assert discs.shape == (2, 6)
    tally = play_pairs(*agents, range(6), 4, seed=3)
    assert ((discs > 0).sum(), (discs == 0).sum(), (discs < 0).sum()) == (tally.wins, tally.draws, tally.losses)
    assert (discs[:, 2:4] == pair_results(*agents, [2, 3], 4, seed=3)).all()


def test_an_episode_is_the_same_whichever_others_are_played():
    policy = small_policy()
    settings = {"opponents": ["random", "greedy"]}
    whole, part = returns(policy, settings, range(6), 1), returns(policy, settings, [2, 5], 1)
    assert list(whole) == ["random", "greedy"]
    for task, measures in whole.items():
        assert measures.keys() == MEASURES.keys()
        for name, values in measures.items():
            assert (values[[2, 5]] == part[task][name]).all()
        assert set(np.unique(measures["return"])) <= {-1, -0.5, 0, 0.5, 1}
    # The opponent's moves and the openings are shared: an edit that changes nothing changes no game.
    same = returns(Edited(policy, {"embed": lambda x: x}), settings, range(6), 1)
    assert all((same[task][name] == whole[task][name]).all() for task in whole for name in whole[task])
    assert any((returns(policy, settings, range(6), 2)[task]["discs"] != whole[task]["discs"]).any() for task in whole)


def test_how_far_moves_are_from_those_of_another_policy_is_measured():
    policy = small_policy()
    changed = Edited(policy, {"embed": torch.zeros_like})
    settings = {"opponents": ["random"]}
    alone, watched = (returns(changed, settings, range(6), 1, reference)["random"] for reference in (None, policy))
    assert all((alone[name] == watched[name]).all() for name in alone)
    assert (watched["divergence"] > 0).all()
    assert (returns(changed, settings, range(6), 1, changed)["random"]["divergence"] == 0).all()
    part = returns(changed, settings, [2, 5], 1, policy)["random"]["divergence"]
    np.testing.assert_array_equal(part, watched["divergence"][[2, 5]])


def test_the_divergence_of_an_episode_is_the_mean_over_its_decisions():
    policy, changed = small_policy(), Edited(small_policy(), {"embed": torch.zeros_like})
    boards_seen, per_game = [], ([], [])

    class Noting(PolicyEvaluator):
        def __call__(self, own, opp):
            boards_seen.append(unpack(own, opp))
            return super().__call__(own, opp)

    def note(games):
        cells, legal = boards_seen[-1]
        batch = {"cells": cells, "legal": legal}
        apart = policy.run(batch).heads.divergence(changed.run(batch).heads)
        for game, value in zip(games, apart, strict=True):
            per_game[game].append(float(value))

    play_games(searching(Noting(changed), 0), opponent("random"), [3], 4, seed=1, moved=note)
    found = returns(changed, {"opponents": ["random"]}, [3], 1, policy)["random"]["divergence"]
    # The two games of an opening weigh the same, however long they are.
    assert found.item() == pytest.approx(np.mean([np.mean(game) for game in per_game]), rel=1e-5)


def edit_pool(width=16):
    return np.random.default_rng(0).normal(size=(30, width)).astype(np.float32)


def test_what_is_put_in_the_activations_place():
    sae = made(np.eye(16), threshold=0.0)
    sae.cfg.normalisation["mean"][0] = 3.0
    pool = edit_pool()
    runs = runs_of(sae, "block_1", None, pool, seed=0)
    assert list(runs) == ["original", "reconstruction", *ABLATIONS]
    assert runs["original"] == {}
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    put = {name: edits["block_1"](x) for name, edits in runs.items() if edits}
    assert torch.equal(put["reconstruction"], sae(x))
    assert put["mean"].tolist() == [[3.0] + [0.0] * 15] * 5
    assert (put["zero"] == 0).all()
    drawn = [np.flatnonzero((pool == row).all(1)).tolist() for row in put["resample"].numpy()]
    assert all(len(found) == 1 for found in drawn)
    assert len({found[0] for found in drawn}) > 1
    again = runs_of(sae, "block_1", None, pool, seed=0)["resample"]["block_1"](x)
    assert torch.equal(again, put["resample"])


def test_a_transcoder_reads_at_one_site_and_writes_at_another():
    policy, batch = small_policy(), boards()
    sae = made(np.eye(16), threshold=0.0)
    runs = runs_of(sae, "embed", "block_1", edit_pool(), seed=0)
    found = Edited(policy, runs["reconstruction"]).run(batch, read=["embed", "block_1"])
    plain = policy.run(batch, read=["embed"])
    assert torch.equal(found.reads["embed"], plain.reads["embed"])
    assert torch.equal(found.reads["block_1"], sae(plain.reads["embed"]))


def made_results():
    original = np.array([1.0, 1.0, 0.5, 1.0, 0.5, 1.0] * 4)
    lost = np.array([0.0, 0.5, 0.0, 0.5, 0.0, 0.5] * 4)
    runs = {"original": original, "reconstruction": original - lost, "zero": original - 2}
    runs |= {"mean": original - 1, "resample": original - 1 - lost}
    return {
        name: {"task": {"return": values, "success": (values > 0.8).astype(float)}} for name, values in runs.items()
    }


def test_the_summary_by_hand():
    found = summarise(made_results(), range(24), RESAMPLING)["task"]["return"]
    assert found["runs"]["original"]["value"] == pytest.approx(5 / 6)
    assert found["difference"]["reconstruction"]["value"] == pytest.approx(-0.25)
    assert found["difference"]["mean"]["value"] == found["difference"]["mean"]["low"] == pytest.approx(-1)
    assert found["recovered"]["mean"]["value"] == pytest.approx(0.75)
    assert found["recovered"]["zero"]["value"] == pytest.approx(1 - 0.25 / 2)
    assert found["recovered"]["resample"]["value"] == pytest.approx(1 - 0.25 / 1.25)
    low, high = (found["difference"]["reconstruction"][end] for end in ("low", "high"))
    assert -0.37 < low < -0.25 < high < -0.13
    assert found["runs"]["original"]["unit"] == "episode"


def test_rates_have_wilsons_interval():
    found = summarise(made_results(), range(24), RESAMPLING)["task"]["success"]
    assert found["runs"]["zero"]["value"] == 0
    assert 0.1 < found["runs"]["zero"]["high"] < 0.2
    assert found["recovered"]["zero"]["value"] == pytest.approx(1 - 12 / 16)


@pytest.fixture(scope="module")
def othello(tmp_path_factory):
    """results/othello/final with a small network, a capture of block_1, and an SAE there."""
    folder = tmp_path_factory.mktemp("run") / "results" / "othello" / "final"
    small_checkpoint(folder / "checkpoint")
    capture = folder / "activations" / "demo"
    rows = 40
    with StoreWriter(capture / "part-0000.zarr", "capture", {}) as store:
        store.group("step", ("episode", "step", "split")).append(
            {
                "episode": np.repeat(np.arange(rows // 4), 4),
                "step": np.tile(np.arange(4), rows // 4).astype(np.int32),
                "split": np.full(rows, 2, np.int8),
                "block_1": np.random.default_rng(0).normal(size=(rows, 16)).astype(np.float32),
            }
        )
    write_index(capture, ["part-0000"])
    save_sae(folder / "sae", made(directions(24, 16), threshold=0.1, policy="othello", site="block_1", capture="demo"))
    return folder


def arguments(folder, out, **more):
    given = {
        "sae": folder / "sae",
        "capture": folder / "activations" / "demo",
        "checkpoint": folder / "checkpoint",
        "site": "block_1",
        "settings": {"opponents": ["random", "greedy"]},
        "episodes": 6,
        "title": "othello / final / block_1 / sae",
        "out": out,
        **more,
    }
    return [word for name, value in given.items() for word in (f"--{name}", value)]


def test_the_program_writes_the_same_report_twice(othello, tmp_path):
    for name in ("one", "two"):
        run_here("workflow_scripts/measure_return.py", *arguments(othello, tmp_path / name / "return.json"))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert sorted(tree(tmp_path / "one")) == ["return.json", "return.png"]
    report = json.loads((tmp_path / "one" / "return.json").read_text())
    check_against("sae_return", report, "return.json")
    assert list(report["tasks"]) == ["greedy", "random"]
    assert report["n_episodes"] == 6
    policy = load_policy(othello / "checkpoint")
    plain = returns(policy, {"opponents": ["random"]}, range(6), 0)["random"]["return"]
    assert report["tasks"]["random"]["return"]["runs"]["original"]["value"] == pytest.approx(plain.mean())


def test_what_cannot_be_measured_is_one_clear_line(othello, tmp_path):
    out = tmp_path / "return.json"
    save_sae(tmp_path / "foreign", made(directions(24, 16), checkpoint_sha256="0" * 64))
    words = script_command("measure_return", *arguments(othello, out, sae=tmp_path / "foreign"))
    assert "another checkpoint" in clear_line(run(words))
    for name, sae in {
        "wide": made(directions(24, 17)),
        "elsewhere": made(directions(24, 16), site="block_2"),
    }.items():
        save_sae(tmp_path / name, sae)
    words = script_command("measure_return", *arguments(othello, out, sae=tmp_path / "wide"))
    assert "wide: made for activations of width 17, site 'block_1' has 16" in clear_line(run(words))
    words = script_command("measure_return", *arguments(othello, out, sae=tmp_path / "elsewhere"))
    assert "elsewhere: is an SAE of the site 'block_2', not of 'block_1'" in clear_line(run(words))
    assert not out.exists()


def test_nothing_is_predicted_into_an_earlier_site():
    sae = made(directions(24, 16), site="block_2")
    edits = runs_of(sae, "block_2", "block_1", np.zeros((4, 16), np.float32), 0)["reconstruction"]
    with refused("'block_1' comes before 'block_2'"):
        edits["block_1"](torch.zeros(3, 16))
