"""Steering: what edits do, how candidates are chosen and confirmed, and the programs on a small Othello policy."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from othello_small import small_checkpoint
from sae_made import directions, made
from support import clear_line, refused, run, run_here, script_command, tree

from policylens.directions.vectors import write_vectors
from policylens.policies.othello.returns import returns
from policylens.policies.registry import load_policy
from policylens.sae.files import load_sae, save_sae
from policylens.statistics.directions import CONTROLS
from policylens.statistics.intervals import paired_rates
from policylens.steering.analysis import analysis
from policylens.steering.building import Reference, candidates
from policylens.steering.candidate import Candidate
from policylens.steering.controls import Controls
from policylens.steering.edits import Steering
from policylens.steering.goal import Goal, choose
from policylens.steering.kinds import KINDS, spelt_out
from policylens.steering.moves import Move, move_of
from policylens.steering.reach import reach
from policylens.steering.store import read_runs, write_runs
from policylens.steering.study import Found, Settings, settings_of, study
from policylens.steering.targets import contributing, direction_target, latents_of, latents_target
from policylens.steering.text import summary
from policylens.steering.world import World, stacked
from policylens.stores.shelf import Shelf
from policylens.stores.store import StoreWriter
from policylens.stores.tables import write_index

WIDTH = 16


def activations(rows=60, inner=(), width=WIDTH, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, *inner, width)).astype(np.float32)


def sae_of(latents=24):
    """Unit-norm directions with a bias, so that latents are silent in some rows."""
    decoder = directions(latents, WIDTH) * np.linspace(0.5, 2, latents)[:, None].astype(np.float32)
    return made(decoder, b_enc=np.full(latents, -0.2))


def target_of(latents, inner=()):
    sae = sae_of()
    return latents_target("few", "block_1", sae, latents, latents_of(sae, activations(inner=inner))), sae


# Moves


@pytest.mark.parametrize("inner", [(), (3,)], ids=["rows", "positions"])
def test_a_move_changes_the_latents_part_of_the_activation_and_nothing_else(inner):
    target, sae = target_of([3, 7], inner)
    x = torch.from_numpy(activations(20, inner, seed=1))
    flat = x.reshape(-1, WIDTH)
    f = sae.encode(flat)[:, [3, 7]]
    reference = sae.encode(torch.from_numpy(activations(inner=inner)).reshape(-1, WIDTH))[:, [3, 7]]
    unit = reference.sum(0) / (reference > 0).sum(0)
    expected = {
        Move("zero"): torch.zeros_like(f),
        Move("mean"): reference.mean(0).expand_as(f),
        Move("add", -1.5): f - 1.5 * unit,
        Move("set", 2.0): (2 * unit).expand_as(f),
        Move("clamp", low=0.5, high=1.0): f.clamp(0.5 * unit, unit),
        Move("clamp", high=1.0): torch.minimum(f, unit),
    }
    for move, wanted in expected.items():
        found = Steering(target, move)(x)
        torch.testing.assert_close(found.reshape(-1, WIDTH), flat + (wanted - f) @ sae.W_dec[[3, 7]], atol=2e-6, rtol=0)
    assert not torch.equal(Steering(target, Move("zero"))(x), x)


def test_a_silent_latent_is_left_alone_by_ablation():
    target, _ = target_of([3])
    x = torch.from_numpy(activations(200, seed=1))
    silent = target.read(x)[:, 0, 0] == 0
    assert 0 < silent.sum() < len(x)
    assert torch.equal(Steering(target, Move("zero"))(x)[silent], x[silent])


def test_resampled_latents_are_those_of_reference_rows():
    target, _ = target_of([3, 7], (2,))
    x = torch.from_numpy(activations(30, (2,), seed=1))
    wanted = Move("resample").wanted(target.read(x), target, torch.Generator().manual_seed(0))
    pool = target.scale.pool
    assert all((pool == row).flatten(1).all(1).any() for row in wanted)
    one, two = (Steering(target, Move("resample"), seed)(x) for seed in (0, 1))
    assert not torch.equal(one, two)
    assert torch.equal(one, Steering(target, Move("resample"), 0)(x))


def test_a_direction_is_projected_out_or_moved_along():
    vector, x = np.arange(WIDTH), torch.from_numpy(activations(20, seed=1))
    reference = activations()
    target = direction_target("way", "block_1", vector, reference)
    along = torch.from_numpy(vector / np.linalg.norm(vector)).float()
    torch.testing.assert_close(Steering(target, Move("zero"))(x) @ along, torch.zeros(20), atol=1e-6, rtol=0)
    on = reference @ along.numpy()
    found = Steering(target, Move("set", -2.0))(x) @ along
    torch.testing.assert_close(found, torch.full((20,), float(on.mean() - 2 * on.std(ddof=1))), atol=1e-5, rtol=0)
    added = Steering(target, Move("add", 1.0))(x) - x
    torch.testing.assert_close(added, (on.std(ddof=1) * along).expand(20, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("latents", [[3], [3, 7, 9]])
def test_random_directions_move_as_far_row_by_row(latents):
    target, _ = target_of(latents)
    x = torch.from_numpy(activations(20, seed=1))
    along = torch.from_numpy(directions(1, WIDTH, seed=5)[0])
    for move in (Move("zero"), Move("add", 1.0)):
        own, other = (Steering(target, move, along=way)(x) - x for way in (None, along))
        torch.testing.assert_close(own.norm(dim=1), other.norm(dim=1), atol=2e-6, rtol=0)
        assert torch.linalg.matrix_rank(other) == 1
    # A push is a push: what is taken away from one latent is taken away along the direction too.
    if len(latents) == 1:
        assert ((Steering(target, Move("zero"), along=along)(x) - x) @ along <= 1e-6).all()


def test_what_moves_are_called():
    names = [move_of(single).name for single in spelt_out([*KINDS[:3], {"kind": "add", "strengths": [-0.5, 2]}])]
    assert names == ["zero", "mean", "resample", "add_-0p5", "add_2"]
    assert Move("clamp", low=0.0, high=1.5).name == "clamp_0_1p5"
    assert Move("clamp", high=1.0).name == "clamp__1"
    assert Move("clamp", low=1.0).name == "clamp_1_"


@pytest.mark.parametrize(
    ("moves", "part"),
    [
        (["ablate"], "there is no move 'ablate'; there are: zero"),
        (["add"], "needs strengths alone"),
        ([{"kind": "zero", "strengths": [1]}], "takes no strengths"),
        ([{"kind": "clamp"}], "needs low, high or both"),
        ([{"kind": "clamp", "low": 2, "high": 1}], "low 2 above high 1"),
        (["zero", "zero"], "stands there twice"),
        ([{"kind": "add", "strengths": [1]}, {"kind": "add", "strengths": [1.0]}], "stands there twice"),
        ([{"kind": "add", "strengths": [float("nan")]}], "NaN and infinity are no strengths"),
        ([{"kind": "clamp", "high": float("inf")}], "NaN and infinity are no strengths"),
    ],
)
def test_moves_that_are_none_are_refused(moves, part):
    with refused(part):
        spelt_out(moves)


def test_a_move_of_ones_own_is_checked_too():
    for move, part in (
        ({"kind": "zer"}, "there is no move 'zer'"),
        ({"kind": "add"}, "needs a strength"),
        ({"kind": "zero", "low": 1}, "takes no low or high"),
        ({"kind": "clamp", "low": 2, "high": 1}, "low 2 above high 1"),
    ):
        with refused(part):
            Move(**move)
    target, _ = target_of([3])
    with refused("few is of the site 'block_1', 16 units; it was put at one of 5"):
        Steering(target, Move("zero"))(torch.zeros(3, 5))


# Targets


def test_the_scale_is_that_of_the_reference_rows():
    target, sae = target_of([3])
    f = sae.encode(torch.from_numpy(activations()))[:, 3].numpy()
    scale = target.scale
    assert scale.unit.item() == pytest.approx(f[f > 0].mean(), rel=1e-5)
    assert scale.mean.item() == pytest.approx(f.mean(), rel=1e-5)
    assert (scale.low.item(), scale.high.item()) == (0, pytest.approx(f.max()))
    assert scale.origin.item() == 0


def test_targets_that_cannot_be_steered_are_refused():
    sae, rows = sae_of(), activations()
    codes = latents_of(sae, rows)
    with refused("few: the SAE at 'block_1' has latents 0 to 23, not 24"):
        latents_target("few", "block_1", sae, [24], codes)
    dead = made(np.eye(WIDTH), b_enc=np.full(WIDTH, -100.0))
    dead.tensors["b_enc"][0] = 0
    with refused("latent 5", "active in none of the reference rows"):
        latents_target("few", "block_1", dead, [5], latents_of(dead, rows))
    with refused("it has the shape (3,), the site 'block_1' 16 units; give one as wide"):
        direction_target("way", "block_1", np.ones(3), rows)
    with refused("the direction is 0 everywhere"):
        direction_target("way", "block_1", np.zeros(WIDTH), rows)
    with refused("the direction holds NaN or infinity"):
        direction_target("way", "block_1", np.full(WIDTH, np.nan), rows)
    with refused("do not vary along the direction"):
        direction_target("way", "block_1", np.ones(WIDTH), np.zeros((5, WIDTH), np.float32))


def test_latents_that_contribute_most_come_first():
    sae, rows = sae_of(), activations()
    f = sae.encode(torch.from_numpy(rows))
    worth = (f.sum(0) * sae.W_dec.norm(dim=1)).numpy()
    assert contributing(sae, latents_of(sae, rows), 4) == np.argsort(-worth)[:4].tolist()
    assert len(contributing(sae, latents_of(sae, rows), 0)) == np.count_nonzero(worth)


def test_candidates_are_every_target_with_every_move(tmp_path):
    rows, sae = activations(), sae_of()
    np.savez(tmp_path / "given.npz", direction=np.ones((1, WIDTH)))
    phase = np.arange(60) % 3
    block = {
        "latents": {"block_1": [2, 5]},
        "groups": {"pair": {"site": "block_1", "latents": [2, 5]}},
        "directions": {
            "later": {"site": "block_1", "labels": "set", "label": "phase", "positive": [2], "negative": [0, 1]},
            "given": {"site": "block_1", "file": str(tmp_path / "given.npz")},
        },
        "moves": ["zero", {"kind": "add", "strengths": [1]}],
    }
    found = candidates(block, {"block_1": sae}, Reference({"block_1": rows}, {("set", "phase"): phase}), "cpu")
    names = ["block_1-2", "block_1-5", "pair", "later", "given"]
    assert [one.name for one in found] == [f"{name}-{move}" for name in names for move in ("zero", "add_1")]
    by_name = {one.target.name: one.target for one in found}
    assert by_name["pair"].latents == (2, 5)
    expected = rows[phase == 2].mean(0) - rows[phase < 2].mean(0)
    np.testing.assert_allclose(by_name["later"].directions[0], expected / np.linalg.norm(expected), atol=1e-6)
    block["directions"] = {"never": {**block["directions"]["later"], "positive": [9]}}
    with refused("directions.never: phase: in none of the reference rows is the label one of [9]"):
        candidates(block, {}, Reference({"block_1": rows}, {("set", "phase"): phase}), "cpu")
    block["directions"] = {"given": {"site": "block_1", "file": str(tmp_path / "given.npz"), "array": "way"}}
    with refused("directions.given", "given.npz", "there is no array 'way'; array: one of direction"):
        candidates(block, {}, Reference({"block_1": rows}, {}), "cpu")
    write_vectors(tmp_path / "directions.safetensors", {"probe": np.arange(WIDTH), "mean_difference": rows[0]}, {})
    made = {"site": "block_1", "file": str(tmp_path / "directions.safetensors"), "array": "mean_difference"}
    one = candidates(block | {"directions": {"made": made}}, {}, Reference({"block_1": rows}, {}), "cpu")[0]
    np.testing.assert_allclose(one.target.directions[0], rows[0] / np.linalg.norm(rows[0]), atol=1e-6)
    block["directions"] = {"pair": {"site": "block_1", "file": str(tmp_path / "given.npz")}}
    with refused("two things to steer are both called 'pair'"):
        candidates(block, {"block_1": sae}, Reference({"block_1": rows}, {}), "cpu")


def test_how_far_a_move_goes_is_told():
    target, sae = target_of([3])
    rows = activations()
    f = sae.encode(torch.from_numpy(rows))[:, 3].numpy()
    spread = np.sqrt(((rows - rows.mean(0)) ** 2).sum(1).mean())
    found = reach(target, Move("zero"), rows, seed=0)
    assert found["changed"] == pytest.approx((f > 0).mean())
    assert found["size"] == pytest.approx((f * float(sae.W_dec[3].norm())).mean() / spread, rel=1e-5)
    assert found["outside"] == 0
    assert reach(target, Move("resample"), rows, seed=0)["outside"] == 0
    far = 2 * float(f.max() / f[f > 0].mean())
    assert reach(target, Move("set", far), rows, seed=0)["outside"] == 1
    part = reach(target, Move("add", 1.0), rows, seed=0)["outside"]
    assert part == pytest.approx((f + f[f > 0].mean() > f.max()).mean(), abs=0.02)


# Choosing


def results(success, touched, divergence):
    """Runs whose episodes all come to the same."""
    given = {"success": success, "touched": touched, "divergence": divergence}
    return {name: np.repeat(np.array(values, float)[:, None], 4, axis=1) for name, values in given.items()}


def test_the_best_that_keeps_the_rest_is_chosen_once_per_target():
    found = results([1, 0.2, 0.1, 0.5, 0.5, 1.0], [1, 0.98, 0.5, 0.96, 1, 1], [0, 1, 2, 3, 0.5, 0])
    targets = ["a", "a", "b", "c", "d"]
    goal = Goal("success", "lower", {"touched": 0.05})
    assert choose(goal, found, targets, 3) == [0, 3, 2]  # of equal gains the one that disturbs less first
    assert choose(goal, found, ["a", "a", "b", "b", "d"], 3) == [0, 3]
    assert choose(goal, found, targets, 1) == [0]
    assert choose(Goal("success", "lower"), found, targets, 1) == [1]
    assert choose(Goal("success", "higher"), found, targets, 3) == []
    assert choose(Goal("success", "lower", {"divergence": 0.75}), found, targets, 3) == [3]


def test_rates_of_pairs_have_newcombes_interval():
    """Airway hyper-responsiveness before and after a transplantation (Bentur and others, 2009): -0.507 to -0.026."""
    first = np.repeat([1, 1, 0, 0], [1, 1, 7, 12])
    second = np.repeat([1, 0, 1, 0], [1, 1, 7, 12])
    found = paired_rates(first, second)
    assert found.value == pytest.approx(-6 / 21)
    assert (found.low, found.high) == (pytest.approx(-0.507, abs=5e-4), pytest.approx(-0.026, abs=5e-4))
    same = paired_rates(np.ones(200), np.ones(200))
    assert same.value == 0
    assert same.low == pytest.approx(-same.high)
    assert same.high == pytest.approx(1.959964**2 / (200 + 1.959964**2), rel=1e-5)
    with refused("expected 0 and 1 alone"):
        paired_rates(np.array([0.5, 1]), np.ones(2))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_an_interval_of_paired_rates_holds_the_difference_and_turns_with_it(pairs):
    first, second = (np.array(side, float) for side in zip(*pairs, strict=True))
    found, turned = paired_rates(first, second), paired_rates(second, first)
    assert found.low <= found.value + 1e-12
    assert found.high >= found.value - 1e-12
    assert found.low >= -1 - 1e-9
    assert found.high <= 1 + 1e-9
    assert (found.low, found.high) == (pytest.approx(-turned.high), pytest.approx(-turned.low))


def test_intervals_of_paired_rates_cover():
    generator, covered = np.random.default_rng(0), 0
    for _ in range(400):
        easy = generator.random(40)
        found = paired_rates((easy < 0.7).astype(float), (0.5 * easy + 0.5 * generator.random(40) < 0.4).astype(float))
        covered += found.low <= 0.7 - 0.32 <= found.high
    assert covered / 400 > 0.9


# Studies


@pytest.fixture(scope="module")
def othello(tmp_path_factory):
    """results/othello/final with a small network, a capture of block_1, labels of its rows, and an SAE there."""
    root = tmp_path_factory.mktemp("run") / "results" / "othello"
    folder = root / "final"
    small_checkpoint(folder / "checkpoint")
    coordinates = {
        "episode": np.repeat(np.arange(15), 4),
        "step": np.tile(np.arange(4), 15).astype(np.int32),
    }
    capture, labels = folder / "activations" / "demo", root / "sources" / "demo" / "labels" / "board"
    split = np.zeros(60, np.int8)
    for place, arrays in (
        (capture, {"split": split, "block_1": activations()}),
        (labels, {"parity": np.arange(60) % 2 == 0}),
    ):
        with StoreWriter(place / "part-0000.zarr", "capture", {}) as store:
            store.group("step", tuple(coordinates)).append({**coordinates, **arrays})
        write_index(place, ["part-0000"])
    save_sae(folder / "sae", made(sae_of().W_dec, b_enc=np.full(24, -0.2), policy="othello", site="block_1"))
    return folder


BLOCK = {
    "capture": "demo",
    "saes": {"block_1": "demo/small"},
    "latents": 2,
    "directions": {
        "odd": {"site": "block_1", "labels": "board", "label": "parity", "positive": [1], "negative": [0]},
    },
    "moves": [{"kind": "add", "strengths": [-20, 20]}],
    "goal": {"measure": "return", "change": "lower", "keep": {"divergence": 100}},
    "settings": {"opponents": ["random", "greedy"]},
    "episodes": {"choose": 2, "confirm": 3},
    "confirm": 1,
    "controls": {"directions": 0, "episodes": 2},
    "rows": 0,
    "seed": 0,
}


def steer(folder, out, block=None, **more):
    given = {
        "checkpoint": folder / "checkpoint",
        "capture": folder / "activations" / "demo",
        "sae": f"block_1={folder / 'sae'}",
        "labels": f"board={folder.parent / 'sources' / 'demo' / 'labels' / 'board'}",
        "block": json.dumps(block or BLOCK),
        "out": out,
        **more,
    }
    return ["workflow_scripts/steer.py", *(word for name, value in given.items() for word in (f"--{name}", value))]


def world_of(folder):
    return World(load_policy(folder / "checkpoint"), returns, BLOCK["settings"], 0)


def test_a_run_is_the_familys_returns_with_the_edit_in_every_pass(othello):
    world = world_of(othello)
    plain = world.run({}, range(3))
    expected = returns(world.policy, BLOCK["settings"], range(3), 0)
    assert {f"{task}/{name}" for task in expected for name in expected[task]} < plain.keys()
    assert all((plain[f"{task}/{name}"] == expected[task][name]).all() for task in expected for name in expected[task])
    assert (plain["random/divergence"] == 0).all()
    zeroed = world.run({"block_1": torch.zeros_like}, range(3))
    assert (zeroed["random/divergence"] > 0).all()
    both = stacked([plain, zeroed])
    assert both["return"].shape == (2, 2, 3)
    assert (both["discs"][1, 1] == zeroed["greedy/discs"]).all()


def test_the_programs_write_the_same_whatever_the_workers_and_go_on_where_they_stopped(othello, tmp_path, monkeypatch):
    run_here(*steer(othello, tmp_path / "one" / "runs.zarr"))
    whole = tree(tmp_path / "one")
    run_here(*steer(othello, tmp_path / "two" / "runs.zarr", threads=2))
    assert tree(tmp_path / "two") == whole
    assert not any("unfinished" in name for name in whole)

    made_now = []
    piece = Shelf.piece

    def failing(self, name, make):
        if name == "confirm-plain" and "stop" not in made_now:
            made_now.append("stop")
            raise KeyboardInterrupt
        return piece(self, name, lambda: made_now.append(name) or make())

    monkeypatch.setattr(Shelf, "piece", failing)
    with pytest.raises(AssertionError, match="ended with 130"):
        run_here(*steer(othello, tmp_path / "three" / "runs.zarr"))
    assert "choose-plain" in made_now
    made_now[:] = ["stop"]
    run_here(*steer(othello, tmp_path / "three" / "runs.zarr"))
    assert "choose-plain" not in made_now
    assert "confirm-plain" in made_now
    assert tree(tmp_path / "three") == whole


def told(policy, wanted, episodes, seed, reference):
    """A world of one decision per episode, quick enough for many runs: how likely the first action is, and the KL."""
    generator = np.random.default_rng(seed)
    cells = generator.integers(-1, 2, (max(episodes) + 1, 36)).astype(np.int8)[list(episodes)]
    batch = {"cells": cells, "legal": np.ones((len(cells), 37), bool)}
    heads = policy.run(batch).heads
    likely = heads.log_probabilities()[:, 0].exp().double().numpy()
    apart = reference.run(batch).heads.divergence(heads).double().numpy()
    return {"easy": {"return": likely, "divergence": apart}, "hard": {"return": likely / 2, "divergence": apart}}


@pytest.fixture(scope="module")
def studied(othello, tmp_path_factory):
    """A study with controls, as the store and the analysis have it."""
    sae, rows, folder = sae_of(), activations(), tmp_path_factory.mktemp("studied")
    made_up = candidates({**BLOCK, "directions": {}}, {"block_1": sae}, Reference({"block_1": rows}, {}), "cpu")
    goal = {"measure": "return", "change": "lower", "keep": {"divergence": 100.0}}
    block = BLOCK | {"goal": goal, "episodes": {"choose": 20, "confirm": 30}, "confirm": 2}
    block["controls"] = {"directions": 200, "episodes": 10}
    ways = {"block_1": {kind: directions(200, WIDTH, seed) for seed, kind in enumerate(CONTROLS)}}
    world = World(load_policy(othello / "checkpoint"), told, {}, 0)
    found = study(world, made_up, settings_of(block), Controls(200, ways), Shelf(folder / "shelf", "x"))
    shown = [
        {"name": one.name, "target": one.target.name, "site": "block_1", "latents": [1], "move": one.move.name}
        | {"size": 0.1, "changed": 1.0, "outside": 0.0}
        for one in made_up
    ]
    write_runs(folder / "runs.zarr", found, {"candidates": shown})
    return folder / "runs.zarr", block


def test_the_analysis_says_what_the_runs_hold(studied, tmp_path):
    runs, block = studied
    origin = {"policy": "othello", "checkpoint": "final", "steering": "weaker", "block": block}
    origin["measures"] = {"return": "of two (points)", "divergence": "KL (nats)"}
    words = ("--runs", runs, "--origin", json.dumps(origin), "--out")
    for name in ("one", "two"):
        run_here("workflow_scripts/analyse_steering.py", *words, tmp_path / name / "index.json")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    names = ["candidates.csv", "confirmed.png", "frontier.png", "index.json", "summary.txt"]
    assert sorted(tree(tmp_path / "one")) == names
    record = json.loads((tmp_path / "one" / "index.json").read_text())
    found, attributes = read_runs(runs)
    assert len(record["candidates"]) == 4 == len(attributes["candidates"])
    assert record["tasks"] == ["easy", "hard"] == found.tasks
    assert record["episodes"] == {"choose": 20, "confirm": 30, "control": 10}
    means = found.choosing["return"].mean((1, 2))
    assert [one["gain"] for one in record["candidates"]] == pytest.approx(means[0] - means[1:])
    assert found.chosen, "a push of twenty units is to make the first action less likely"
    best = record["chosen"][0]
    assert best["name"] == record["candidates"][found.chosen[0]]["name"]
    confirmed = found.confirming["return"].mean(1)
    assert best["gain"]["value"] == pytest.approx((confirmed[0] - confirmed[1]).mean())
    own = confirmed[:, :10].mean(1)
    others = own[0] - found.controls["return"][0, 0].mean((1, 2))
    control = best["controls"]["isotropic"]
    assert control["gain"] == pytest.approx(own[0] - own[1])
    assert control["p"] == pytest.approx((1 + (others >= own[0] - own[1] - 1e-12).sum()) / 201)
    text = (tmp_path / "one" / "summary.txt").read_text()
    assert best["name"] in text
    assert "4 candidates on 20 episodes; confirmed on 30 others" in text


def test_controls_move_as_far_along_their_own_direction(studied, othello):
    """One run of the store made again by hand."""
    found, _ = read_runs(studied[0])
    sae, rows = sae_of(), activations()
    made_up = candidates({**BLOCK, "directions": {}}, {"block_1": sae}, Reference({"block_1": rows}, {}), "cpu")
    one = made_up[found.chosen[0]]
    along = torch.from_numpy(directions(200, WIDTH, 1)[17])
    world = World(load_policy(othello / "checkpoint"), told, {}, 0)
    again = world.run({"block_1": Steering(one.target, one.move, along=along)}, range(20, 30))
    np.testing.assert_array_equal(again["easy/return"], found.controls["return"][0, 1, 17, 0])


def test_choosing_and_confirming_share_no_episode(othello):
    asked = []
    world = world_of(othello)

    def noting(policy, wanted, episodes, seed, reference):
        asked.append(list(episodes))
        return returns(policy, wanted, episodes, seed, reference)

    watched = World(world.policy, noting, {"opponents": ["random"]}, 0)
    sae, rows = load_sae(othello / "sae"), activations()
    target = latents_target("one", "block_1", sae, [3], latents_of(sae, rows))
    settings_ = Settings(Goal("return", "lower"), 3, 4, 1, 0)
    made_up = [Candidate(target, Move("add", strength)) for strength in (-40.0, 40.0)]
    study(watched, made_up, settings_, Controls(0, {}), Shelf(othello / "shelf", "x"))
    chosen_on = {episode for episodes in asked[:3] for episode in episodes}
    confirmed_on = {episode for episodes in asked[3:] for episode in episodes}
    assert chosen_on == {0, 1, 2}
    assert confirmed_on == {3, 4, 5, 6}


def planted(success, controls=None):
    """A study of one chosen candidate. success: (2, n) of the policy as it is and as steered."""
    n = success.shape[1]
    measures = {"success": success, "touched": np.ones((2, n)), "divergence": np.array([np.zeros(n), np.full(n, 0.1)])}
    runs = {name: values[:, None, :] for name, values in measures.items()}
    return Found(["drawer"], runs, [0], runs, controls or {}, CONTROLS if controls else ())


def record_of(found, **goal):
    block = {
        "capture": "demo",
        "saes": {},
        "goal": {"measure": "success", "change": "lower", **goal},
        "settings": {},
        "seed": 0,
    }
    origin = {"policy": "p", "checkpoint": "c", "steering": "s", "block": block, "measures": {}}
    shown = {"name": "x-zero", "target": "x", "site": "a", "latents": [1], "move": "zero"}
    return analysis(found, [shown | {"size": 0.1, "changed": 1.0, "outside": 0.0}], origin)


def test_verdicts_need_intervals_and_controls():
    n = 100
    steered = (np.arange(n) >= 60).astype(float)
    record = record_of(planted(np.stack([np.ones(n), steered])), keep={"touched": 0.05})
    assert record["chosen"][0]["verdict"] == {
        "reached": True,
        "short": False,
        "kept": True,
        "beyond_controls": None,
    }
    assert record["chosen"][0]["gain"]["value"] == pytest.approx(0.6)
    # No difference was seen, but a hundred episodes cannot tell that it is within a hundredth.
    tight = record_of(planted(np.stack([np.ones(n), steered])), keep={"touched": 0.01})["chosen"][0]
    assert not tight["verdict"]["kept"]
    assert tight["keep"]["touched"]["difference"]["value"] == 0
    nothing = record_of(planted(np.stack([np.ones(n), np.ones(n)])))["chosen"][0]
    assert not nothing["verdict"]["reached"]
    disturbed = record_of(planted(np.stack([np.ones(n), steered])), keep={"divergence": 0.05})["chosen"][0]
    assert not disturbed["verdict"]["kept"]
    for broken, expected in ((0, True), (5, True), (30, False)):
        others = np.ones((1, 2, 200, 1, n))
        others[:, :, :broken] = 0
        controls = {"success": others, "touched": np.ones_like(others), "divergence": np.ones_like(others)}
        entry = record_of(planted(np.stack([np.ones(n), steered]), controls))["chosen"][0]
        assert entry["controls"]["covariance"]["as_strong"] == broken
        assert entry["controls"]["covariance"]["p"] == pytest.approx((1 + broken) / 201)
        assert entry["verdict"]["beyond_controls"] is expected
    assert "200 isotropic directions gain as much" in summary(
        record_of(planted(np.stack([np.ones(n), steered]), controls))
    )


# A drawer that is a ten-thousandth of a metre less closed in every episode: surely above 0, and nothing to speak of.
@pytest.mark.parametrize(
    ("gains", "least", "reached", "short", "words"),
    [
        ([1e-4], None, True, False, "(reached: above 0)"),
        ([1e-4], 0.02, False, True, "(not reached: below 0.02)"),
        ([0.09, 0.1], 0.02, True, False, "(reached: at least 0.02)"),
        ([0.01, 0.05], 0.03, False, False, "(undecided: the interval does not tell whether it is at least 0.03)"),
        ([-0.1, 0.12], None, False, False, "(undecided: the interval does not tell whether it is above 0)"),
        ([-0.1, -0.12], None, False, True, "(not reached: no gain)"),
        ([0.0], 0, False, True, "(not reached: no gain)"),
        ([0.02], 0.02, True, False, "(reached: at least 0.02)"),
    ],
)
def test_a_gain_counts_from_the_least_that_the_goal_names(gains, least, reached, short, words):
    n = 40
    steered = 1.5 - np.resize(gains, n)
    record = record_of(planted(np.stack([np.full(n, 1.5), steered])), **({} if least is None else {"least": least}))
    assert record["goal"]["least"] == (least or 0)
    verdict = record["chosen"][0]["verdict"]
    assert (verdict["reached"], verdict["short"]) == (reached, short)
    text = summary(record)
    assert words in text
    assert ("however small" in text) == (not least)
    assert "without controls" in text


def test_without_anything_to_confirm_the_study_still_says_what_it_saw():
    found = planted(np.ones((2, 10)))
    text = summary(record_of(Found(found.tasks, found.choosing, [], found.confirming, {})))
    assert "nothing to confirm" in text


def test_what_cannot_be_steered_is_one_clear_line(othello, tmp_path):
    out = tmp_path / "runs.zarr"
    save_sae(tmp_path / "foreign", made(directions(24, WIDTH), checkpoint_sha256="0" * 64))
    for words, part in (
        (steer(othello, out, sae=f"block_1={tmp_path / 'foreign'}"), "trained on another checkpoint's activations"),
        (steer(othello, out, {**BLOCK, "latents": {"block_1": [99]}}), "has latents 0 to 23, not 99"),
    ):
        assert part in clear_line(run(script_command("steer", *words[1:])))
    assert not out.exists()
