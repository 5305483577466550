"""Steering units of an activation, and clusters of units at several sites at once."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from othello_small import small_checkpoint
from support import refused, run_here

from policylens.policies.registry import load_policy
from policylens.policies.sites import TOKEN, Site
from policylens.statistics.directions import CONTROLS
from policylens.steering.building import Reference, candidates, check_steerable
from policylens.steering.candidate import Candidate
from policylens.steering.controls import NEIGHBOURS, Controls, drawn_units
from policylens.steering.controls import UNITS as OTHER_UNITS
from policylens.steering.edits import Steering
from policylens.steering.goal import Goal
from policylens.steering.moves import Move
from policylens.steering.reach import reach, together
from policylens.steering.store import read_runs
from policylens.steering.study import Settings, study
from policylens.steering.targets import direction_target, units_target
from policylens.steering.world import World
from policylens.stores.files import read_json, write_json
from policylens.stores.shelf import Shelf
from policylens.stores.store import StoreWriter
from policylens.stores.tables import write_index

WIDTH = 16
UNITS = {"block_1": [2, 5], "block_2": [0]}


def activations(rows=60, inner=(), seed=0):
    return np.random.default_rng(seed).normal(size=(rows, *inner, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("inner", [(), (3,)], ids=["rows", "positions"])
def test_units_are_set_and_moved_in_their_own_numbers(inner):
    reference = activations(inner=inner)
    target = units_target("some", "a", [2, 5], reference)
    x = torch.from_numpy(activations(20, inner, seed=1))
    others = [unit for unit in range(WIDTH) if unit not in (2, 5)]
    expected = {
        Move("set", 10.0): torch.full_like(x[..., [2, 5]], 10.0),
        Move("add", -3.0): x[..., [2, 5]] - 3.0,
        Move("zero"): torch.zeros_like(x[..., [2, 5]]),
        Move("mean"): torch.from_numpy(reference.reshape(-1, WIDTH)[:, [2, 5]].mean(0)).expand_as(x[..., [2, 5]]),
        Move("clamp", high=0.5): x[..., [2, 5]].clamp(max=0.5),
    }
    for move, wanted in expected.items():
        found = Steering(target, move)(x)
        torch.testing.assert_close(found[..., [2, 5]], wanted, atol=1e-6, rtol=1e-6)
        assert torch.equal(found[..., others], x[..., others]), move
    far = reach(target, Move("set", 100.0), reference, 0)
    assert far["outside"] == 1
    assert together([far]) == far
    assert together([far, far])["size"] == pytest.approx(2**0.5 * far["size"])


def test_sites_that_nothing_reads_are_refused():
    """Also where the config could not see them: of a checkpoint in another form."""
    last = Site("last", 4, TOKEN, (("token", 2),), "after the last layer; nothing reads it", dead_end=True)
    sites = {"first": Site("first", 4), "last": last}
    check_steerable(sites, ["first"])
    with refused("site 'last' cannot be steered", "nothing reads it", "choose an earlier site"):
        check_steerable(sites, ["first", "last"])
    with refused("no site 'frist'", "first, last"):
        check_steerable(sites, ["frist"])


def test_a_unit_that_the_site_lacks_is_refused():
    with refused("some", "units 0 to 15", "16"):
        units_target("some", "a", [3, 16], activations())


def block(**more):
    return {
        "capture": "demo",
        "saes": {},
        "moves": [{"kind": "set", "strengths": [-20, 20]}],
        "goal": {"measure": "return", "change": "lower", "keep": {"divergence": 100}},
        "settings": {"opponents": ["random"]},
        "episodes": {"choose": 2, "confirm": 3},
        "confirm": 1,
        "controls": {"directions": 0, "episodes": 2},
        "rows": 0,
        "seed": 0,
        **more,
    }


def test_a_cluster_is_one_candidate_at_all_its_sites():
    reference = Reference({"block_1": activations(), "block_2": activations(seed=1)}, {})
    own = block(units={"one": {"site": "block_2", "units": [7]}})
    found = candidates(own, {}, reference, "cpu", {"opening": UNITS})
    assert [one.name for one in found] == ["one-set_-20", "one-set_20", "opening-set_-20", "opening-set_20"]
    edits = found[3].edits(0)
    x = torch.zeros(4, WIDTH)
    assert edits.keys() == UNITS.keys()
    for site, units in UNITS.items():
        moved = edits[site](x)
        assert (moved[:, units] == 20).all()
        assert moved.sum() == 20 * 4 * len(units)
    with refused("nothing to steer", "clusters"):
        candidates(block(), {}, reference, "cpu")
    with refused("one", "another name"):
        candidates(own, {}, reference, "cpu", {"one": UNITS})


@pytest.fixture(scope="module")
def othello(tmp_path_factory):
    """results/othello/final with a small network, a capture of both blocks, and clusters of their units."""
    folder = tmp_path_factory.mktemp("run") / "results" / "othello" / "final"
    small_checkpoint(folder / "checkpoint")
    coordinates = {"episode": np.repeat(np.arange(15), 4), "step": np.tile(np.arange(4), 15).astype(np.int32)}
    arrays = {"split": np.zeros(60, np.int8), "block_1": activations(), "block_2": activations(seed=1)}
    capture = folder / "activations" / "demo"
    with StoreWriter(capture / "part-0000.zarr", "capture", {}) as store:
        store.group("step", tuple(coordinates)).append({**coordinates, **arrays})
    write_index(capture, ["part-0000"])
    members = [
        {"layer_index": layer, "neuron_index": unit, "site": f"block_{layer}"}
        for layer, units in ((1, UNITS["block_1"]), (2, UNITS["block_2"]))
        for unit in units
    ]
    alone = [{"layer_index": 2, "neuron_index": 9, "site": "block_2"}]
    clusters = [
        {"cluster_id": number, "members": own, "token_summary": []} for number, own in ((0, members), (1, alone))
    ]
    write_json(folder / "ffn" / "mine" / "clusters.json", clusters)
    return folder


def told(policy, wanted, episodes, seed, reference):
    """A world of one decision per episode, quick enough for many runs."""
    generator = np.random.default_rng(seed)
    cells = generator.integers(-1, 2, (max(episodes) + 1, 36)).astype(np.int8)[list(episodes)]
    batch = {"cells": cells, "legal": np.ones((len(cells), 37), bool)}
    heads = policy.run(batch).heads
    apart = reference.run(batch).heads.divergence(heads).double().numpy()
    return {"easy": {"return": heads.log_probabilities()[:, 0].exp().double().numpy(), "divergence": apart}}


def test_controls_move_every_site_along_directions_of_its_own(othello, tmp_path):
    world = World(load_policy(othello / "checkpoint"), told, {}, 0)
    parts = tuple(units_target("opening", site, units, activations()) for site, units in UNITS.items())
    made_up = [Candidate(parts[0], Move("set", strength), parts[1:]) for strength in (-9.0, 9.0)]
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(2, 2, 3, WIDTH)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=-1, keepdims=True)
    directions = {site: dict(zip(CONTROLS, drawn[place], strict=True)) for place, site in enumerate(UNITS)}
    settings = Settings(Goal("return", "lower"), 10, 20, 1, 3, 20)
    found = study(world, made_up, settings, Controls(3, directions), Shelf(tmp_path, "x"))
    (place,) = found.chosen
    chosen = made_up[place]
    edits = {
        part.site: Steering(part, chosen.move, along=torch.from_numpy(drawn[number, 1, 2]))
        for number, part in enumerate(parts)
    }
    again = world.run(edits, range(10, 30))
    np.testing.assert_array_equal(again["easy/return"], found.controls["return"][0, 1, 2, 0])
    both = world.run(chosen.edits(0), range(10, 30))
    np.testing.assert_array_equal(both["easy/return"], found.confirming["return"][1, 0])
    first = world.run({parts[0].site: Steering(parts[0], chosen.move)}, range(10, 30))
    assert not np.array_equal(both["easy/return"], first["easy/return"]), "the second site is steered too"


@given(st.integers(0, 2**32 - 1), st.integers(2, 80), st.data())
def test_drawn_units_are_as_many_others_about_as_active(seed, width, data):
    units = tuple(data.draw(st.lists(st.integers(0, width - 1), min_size=1, max_size=width // 2, unique=True)))
    activity = np.random.default_rng(seed).permutation(width).astype(float)
    drawn = drawn_units(units, activity, np.random.default_rng(seed))
    assert len(set(drawn)) == len(units) == len(drawn)
    assert not set(drawn) & set(units)
    assert drawn == drawn_units(units, activity, np.random.default_rng(seed))
    if len(units) == 1 and width > 40:
        assert abs(activity[drawn[0]] - activity[units[0]]) <= NEIGHBOURS
        assert len({drawn_units(units, activity, np.random.default_rng(one))[0] for one in range(20)}) > 1


def test_units_are_compared_with_other_units_under_the_same_move(othello, tmp_path):
    world = World(load_policy(othello / "checkpoint"), told, {}, 0)
    rows = {site: activations() for site in UNITS}
    parts = tuple(units_target("opening", site, units, rows[site]) for site, units in UNITS.items())
    along = direction_target("way", "block_1", np.ones(WIDTH), rows["block_1"])
    made_up = [Candidate(parts[0], Move("set", 9.0), parts[1:]), Candidate(along, Move("add", -9.0))]
    ways = {site: {kind: np.eye(WIDTH, dtype=np.float32)[:3] for kind in CONTROLS} for site in UNITS}
    controls = Controls(3, ways, rows, seed=5)
    assert controls.kinds(made_up[0]) == (*CONTROLS, OTHER_UNITS)
    assert controls.kinds(made_up[1]) == CONTROLS
    crowd = units_target("crowd", "block_1", range(9), rows["block_1"])
    assert controls.kinds(Candidate(crowd, Move("zero"))) == CONTROLS, "there are but 7 others"
    found = study(
        world, made_up, Settings(Goal("divergence", "higher"), 10, 20, 2, 3, 20), controls, Shelf(tmp_path, "x")
    )
    assert sorted(found.chosen) == [0, 1]
    ours = found.chosen.index(0)
    assert np.isnan(found.controls["divergence"][1 - ours, 2]).all()
    edits = controls.edits(made_up[0], OTHER_UNITS, 2)
    assert [edit.target.units for edit in edits.values()] != [tuple(units) for units in UNITS.values()]
    assert [len(edit.target.units) for edit in edits.values()] == [len(units) for units in UNITS.values()]
    again = world.run(edits, range(10, 30))
    np.testing.assert_array_equal(again["easy/divergence"], found.controls["divergence"][ours, 2, 2, 0])
    changed = edits["block_1"](torch.zeros(1, WIDTH))
    assert sorted(changed[0].tolist())[-2:] == [9.0, 9.0]


def steer(folder, out, own):
    words = ["--checkpoint", folder / "checkpoint", "--capture", folder / "activations" / "demo", "--out", out]
    words += [word for name, one in own.get("clusters", {}).items()
              for word in ("--clusters", f"{name}={folder / 'ffn' / one['ffn'] / 'clusters.json'}")]  # fmt: skip
    return ["workflow_scripts/steer.py", *words, "--block", json.dumps(own)]


def test_the_programs_steer_clusters_while_the_policy_plays(othello, tmp_path):
    sites = ["block_1", "block_2"]
    own = block(
        units={"one": {"site": "block_2", "units": [7]}},
        clusters={
            "opening": {"ffn": "mine", "cluster": 0, "sites": sites},
            "alone": {"ffn": "mine", "cluster": 1, "sites": sites},
        },
    )
    run_here(*steer(othello, tmp_path / "runs.zarr", own))
    found, attributes = read_runs(tmp_path / "runs.zarr")
    by_name = {one["name"]: (place, one) for place, one in enumerate(attributes["candidates"])}
    place, opening = by_name["opening-set_20"]
    assert opening["units"] == UNITS
    assert opening["site"] == "2 sites"
    assert by_name["alone-set_20"][1]["site"] == "block_2"
    assert (found.choosing["divergence"][1 + place] > 0).all()
    origin = {"policy": "othello", "checkpoint": "final", "steering": "mine", "block": own, "measures": {}}
    measures = dict.fromkeys(found.choosing, "(1)")
    run_here(
        "workflow_scripts/analyse_steering.py", "--runs", tmp_path / "runs.zarr",
        "--origin", origin | {"measures": measures}, "--out", tmp_path / "index.json",
    )  # fmt: skip
    told_of = {one["name"]: one for one in read_json(tmp_path / "index.json")["candidates"]}
    assert told_of["opening-set_20"]["units"] == UNITS
    assert "block_1 2 5; block_2 0" in (tmp_path / "candidates.csv").read_text()


def test_a_cluster_that_is_not_there_is_one_clear_line(othello, tmp_path, capsys):
    own = block(clusters={"opening": {"ffn": "mine", "cluster": 5, "sites": ["block_1"]}})
    with pytest.raises(AssertionError, match="ended with 1"):
        run_here(*steer(othello, tmp_path / "runs.zarr", own))
    assert "there is no cluster 5; there are 0, 1" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "runs.zarr").exists()
