"""config.yaml: every fault is one clear line that names its place; and the grammar of paths."""

import copy
import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from datasets_made import CLOSE, OPEN, Made
from hypothesis import given, settings
from hypothesis import strategies as st
from support import REPOSITORY, WIDTH, environment, make_small, refused

from policylens.policies.importing import import_checkpoint
from policylens.project.circuits import splits_of
from policylens.project.config import RULES, Config, load_config
from policylens.project.paths import PATHS, all_paths, check_targets, headline_paths, parse
from policylens.stores.names import NAME

OTHELLO = {
    "format": 1,
    "family": "othello",
    "architecture": {"width": 4, "blocks": 2, "hidden": 8},
    "weights": {"file": "model.safetensors", "sha256": "0" * 64, "tensors": {}},
}

SEGMENT = {"file": "", "demo": "", "start_step": 0, "end_step": 1, "axis_delta": 1.0, "axis_values": [0.0, 1.0]}
MANIFEST = {
    "axis": {"index": 0, "effect_size": 1.0, "mean_delta_per_task": {OPEN: 1.0, CLOSE: -1.0}},
    "segments": [{**SEGMENT, "task": task, "episode_index": number} for number, task in enumerate((OPEN, CLOSE))],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the config names: the small policy's files, and an Othello checkpoint's record."""
    folder = tmp_path_factory.mktemp("config")
    make_small(folder)
    shutil.rmtree(folder / "results")
    (folder / "othello").mkdir()
    (folder / "othello" / "policy.json").write_text(json.dumps(OTHELLO))
    for number in range(2):
        shutil.copytree(folder / "othello", folder / f"step-{number}")
    Made(episodes=4).write(folder / "drawer", "v2.1")
    shutil.copytree(folder / "drawer", folder / "older")
    (folder / "older" / "meta" / "info.json").write_text('{"codebase_version": "v2.0"}')
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "notes.csv").write_text("")
    (folder / "published.safetensors").write_bytes(b"")
    return folder


@pytest.fixture(autouse=True)
def _there(place, monkeypatch):
    monkeypatch.chdir(place)


def sound():
    """A config with everything in it."""
    options = {
        "class": "network.py:Net",
        "arguments": {"width": WIDTH},
        "inputs": ["observation"],
        "head": "discrete",
        "sites": {"first": WIDTH, "second": WIDTH},
    }
    return {
        "seed": 3,
        "compute": {"device": "cpu", "batch_rows": 64},
        "resources": {"train_sweep": {"threads": 2}},
        "demonstrations": {"scripted": {"tasks": ["turn on the stove"], "episodes": 2}},
        "datasets": {"stove": {"demonstrations": ["scripted"]}},
        "demo": ["results/own/trained/sae/sweep/index.json"],
        "policies": {
            "own": {
                "family": "module",
                "checkpoints": {"trained": {"path": "weights.pt", "options": options}},
                "sources": {
                    "files": {"import": ["one.npz", "two.npz"]},
                    "demos": {"dataset": {"root": "drawer"}, "parts": 2},
                },
                "contrasts": {
                    "drawer": {"source": "demos", "positive": OPEN, "negative": CLOSE},
                    "published": {"source": "demos", "manifest": "manifest.json"},
                },
                "captures": {"both": {"source": "files", "sites": ["first", "second"]}},
                "sae": {
                    "sweep": {
                        "capture": "both",
                        "sites": ["second"],
                        "settings": {"steps": 10},
                        "members": {
                            "plain": {"architecture": "standard", "latents": 16, "sparsity": 0.5},
                            "published": {"import": "published.safetensors", "scale": "capture"},
                        },
                        "grid": [{"architecture": "topk", "latents": [16, 32], "k": [2, 4]}],
                        "examples": {"members": ["plain"]},
                    }
                },
            },
            "board": {
                "family": "othello",
                "checkpoints": {
                    "final": {"path": "othello"},
                    "step": {"series": "step-{}", "members": ["0", "1"]},
                },
                "training": {"run": {"settings": {"iterations": 2}}},
                "strength": {"quick": {"settings": {}}},
                "sources": {
                    "games": {"checkpoint": "final", "episodes": 10, "parts": 3, "rollout": {"simulations": 4}}
                },
                "labels": {"truth": {"sources": ["games"], "names": ["parity", "empties"]}},
                "captures": {"demo": {"source": "games", "sites": ["block_1", "block_2"], "prunable": True}},
                "sae": {
                    "played": {
                        "capture": "demo",
                        "sites": ["block_1"],
                        "members": {"top": {"architecture": "topk", "latents": 8, "k": 2}},
                        "grid": [{"architecture": "topk", "latents": 8, "k": 2, "learning_rate": [0.01, 0.1]}],
                        "evaluation": {"closed_loop": {}},
                    }
                },
                "interventions": {"causal": {"capture": "demo", "saes": {"block_1": "played/top"}, "modes": ["mean"]}},
                "ffn": {"units": {"source": "games", "sites": ["block_1"]}},
                "slices": {
                    "moves": {"capture": "demo", "concept_map": "results/board/contrasts/sides/concept_map.json"},
                },
                "directions": {
                    "sides": {
                        "site": "block_1",
                        "sae": "played/top",
                        "pairs": {"black": {"slice": "moves", "positive": "black", "negative": "white"}},
                        "gate": {"l0": [1, 4]},
                    }
                },
                "steering": {
                    "weaker": {
                        "capture": "demo",
                        "saes": {"block_1": "played/top"},
                        "latents": {"block_1": [1, 2]},
                        "groups": {"both": {"site": "block_1", "latents": [1, 2]}},
                        "directions": {
                            "odd": {
                                "site": "block_2",
                                "labels": "truth",
                                "label": "parity",
                                "positive": [1],
                                "negative": [0],
                            },
                            "side": {"direction": "sides", "pair": "black", "vector": "residual_direction"},
                        },
                        "moves": ["zero", {"kind": "add", "strengths": [1, 2]}],
                        "goal": {"measure": "return", "keep": {"divergence": 0.5}},
                        "settings": {"opponents": ["random"]},
                    }
                },
                "circuits": {"move": {"intervention": "causal", "output": {"outcome": "kl"}}},
                "correlations": {"own": {"capture": "demo", "saes": {"block_1": "played/top"}, "labels": "truth"}},
            },
            "recorded": {
                "family": "activations",
                "checkpoints": {"theirs": {}},
                "captures": {"all": {"import": ["one.npz"], "sites": ["layer"], "each_row_is_an_episode": True}},
            },
        },
    }


def changed(path, value):
    """The sound config with one entry set (or taken away, by ...); path: keys joined by "."."""
    config = sound()
    *folders, last = path.split(".")
    entry = config
    for key in folders:
        entry = entry[int(key)] if isinstance(entry, list) else entry[key]
    if value is ...:
        del entry[last]
    else:
        entry[last] = value
    return config


def test_the_sound_config_is_sound():
    config = Config(sound())
    assert list(config["board"].checkpoints) == ["final", "step-0", "step-1"]
    assert config["board"].checkpoints["step-1"].path == "step-1"
    members = config["own"].sweeps["sweep"]["members"]
    published = members.pop("published")
    assert published == {"import": "published.safetensors", "scale": "capture"}
    assert list(members) == ["plain", "topk_m16_k2", "topk_m16_k4", "topk_m32_k2", "topk_m32_k4"]
    assert members["topk_m32_k2"]["latents"] == 32
    assert {member["steps"] for member in members.values()} == {10}
    assert config["own"].sources["files"]["parts"] == 2
    assert config["own"].sources["files"]["seed"] == 3
    assert config["own"].parts(config["own"].captures["both"]) == ["part-0000", "part-0001"]
    assert config["own"].captures["both"]["dtype"] == "float16"


OWN, BOARD = "policies.own", "policies.board"
SWEEP = f"{OWN}.sae.sweep"
CAUSAL = "policies.board.interventions.causal"
WEAKER = "policies.board.steering.weaker"
MOVES = "policies.board.slices.moves"
SIDES = "policies.board.directions.sides"
MOVE = "policies.board.circuits.move"
CORRELATIONS = "policies.board.correlations.own"
PLAYED = f"{BOARD}.sae.played"
DEMOS, DRAWER = f"{OWN}.sources.demos", f"{OWN}.contrasts.drawer"
GOOD = {"architecture": "standard", "latents": 16, "sparsity": 1}

FAULTS = [
    # misspelt keys
    ("polices", {}, "unknown key 'polices'; did you mean 'policies'?"),
    (f"{OWN}.captrues", {}, f"{OWN}: unknown key 'captrues'; did you mean 'captures'?"),
    (f"{OWN}.captures.both.dtpye", "float16", f"{OWN}.captures.both: unknown key 'dtpye'; did you mean 'dtype'?"),
    (f"{OWN}.checkpoints.trained.pth", "x", f"{OWN}.checkpoints.trained: unknown key 'pth'; did you mean 'path'?"),
    (f"{OWN}.checkpoints.trained.options.inptus", [], "unknown key 'inptus'; did you mean 'inputs'?"),
    (f"{BOARD}.sources.games.episode", 3, f"{BOARD}.sources.games: unknown key 'episode'; did you mean 'episodes'?"),
    (f"{BOARD}.sources.games.rollout.simulation", 3, "rollout: unknown key 'simulation'; did you mean 'simulations'?"),
    (f"{BOARD}.training.run.settings.iteration", 3, "settings: unknown key 'iteration'; did you mean 'iterations'?"),
    (f"{SWEEP}.settings.learning_rat", 0.1, "unknown key 'learning_rat'; did you mean 'learning_rate'?"),
    (f"{SWEEP}.evaluation", {"spilt": "test"}, f"{SWEEP}.evaluation: unknown key 'spilt'; did you mean 'split'?"),
    ("compute.devise", "cpu", "compute: unknown key 'devise'; did you mean 'device'?"),
    # what is missing
    ("policies", ..., "'policies' is missing"),
    (f"{OWN}.family", ..., f"{OWN}: 'family' is missing"),
    (f"{OWN}.captures.both.sites", ..., f"{OWN}.captures.both: 'sites' is missing"),
    (f"{OWN}.checkpoints.trained.options.class", ..., "options: 'class' is missing"),
    (f"{BOARD}.training.run.settings", {}, "settings: 'iterations' is missing"),
    (f"{SWEEP}.members.plain.sparsity", ..., f"{SWEEP}.plain: 'sparsity' is missing"),
    # datasets and contrasts
    (f"{DEMOS}.dataset.rot", "x", f"{DEMOS}.dataset: unknown key 'rot'; did you mean 'root'?"),
    (f"{DEMOS}.dataset.root", ..., f"{DEMOS}.dataset: a dataset has a root (its folder) or a repo_id"),
    (f"{DEMOS}.dataset.root", "gone", f"{DEMOS}.dataset: gone: no LeRobot dataset is here"),
    (f"{DEMOS}.dataset.root", "older", "info.json: LeRobot format v2.0, only v3.0 and v2.1 are read"),
    (f"{DEMOS}.dataset.revision", "v2.1", f"{DEMOS}.dataset: a folder has no revision"),
    (f"{DEMOS}.dataset", {"root": "drawer", "repo_id": "org/x", "revision": "v3.0"}, "'v3.0' is asked for"),
    (f"{DEMOS}.dataset", {"repo_id": "org/drawer"}, f"{DEMOS}.dataset: there is no dataset"),
    (f"{DEMOS}.dataset", {"repo_id": "org/drawer", "revision": "main"}, "revision 'main' of org/drawer moves"),
    (f"{DEMOS}.dataset", {"repo_id": "org/drawer", "revision": "v2.0"}, "revision 'v2.0' of org/drawer is of that"),
    (f"{DEMOS}.dataset.arrays", {"observation.stat": "state"}, "did you mean 'observation.state'?"),
    (f"{DEMOS}.parts", 5, f"{DEMOS}: 5 parts cannot hold 4 whole episodes"),
    (
        f"{DEMOS}.rollout",
        {},
        f"{DEMOS}: a source is either rollouts (checkpoint, episodes, rollout), files (import) or a",
    ),
    (f"{DRAWER}.source", "demo", f"{DRAWER}: there is no source 'demo'; did you mean 'demos'?"),
    (f"{DRAWER}.negative", OPEN, f"{DRAWER}: positive and negative are the same text"),
    (f"{DRAWER}.negative", ..., f"{DRAWER}: a contrast has a positive and a negative task text, or a published"),
    (
        f"{DRAWER}.rule",
        "efect",
        f"{DRAWER}.rule is 'efect'; it must be one of difference, effect; did you mean 'effect'?",
    ),
    (f"{DRAWER}.threshold", 0, f"{DRAWER}.threshold is 0; it must be a number, above 0"),
    (f"{OWN}.contrasts.published.rule", "effect", "a published manifest, which brings its own axis and windows"),
    (f"{OWN}.contrasts.published.manifest", "gone.json", "published.manifest: gone.json: there is no such file"),
    (
        f"{OWN}.contrasts.published.manifest",
        f"results/{OWN.split('.')[1]}/contrasts/gone/manifest.json",
        "published.manifest: there is no contrast 'gone'",
    ),
    (f"{OWN}.contrasts.published.manifest", "results/x/manifest.json", "is of no contrast of this policy; copy it out"),
    (f"{OWN}.contrasts.published.concept_map", "manifest.json", "published.concept_map: manifest.json: unknown key"),
    (f"{DEMOS}.dataset.tasks", [OPEN], f"{DRAWER}.negative: the source 'demos' leaves out the task 'close the drawer'"),
    # what there is not
    (f"{OWN}.family", "modul", "there is no policy family 'modul'"),
    (f"{OWN}.checkpoints.trained.path", "gone.pt", f"{OWN}.checkpoints.trained: there is no checkpoint at gone.pt"),
    (f"{OWN}.sources.files.import", ["gone.npz"], f"{OWN}.sources.files: there is no file gone.npz"),
    (f"{OWN}.sources.files.import", ["notes.csv"], f"{OWN}.sources.files: notes.csv: can read .npz"),
    ("policies.recorded.captures.all.import", ["gone.npz"], "captures.all: there is no file gone.npz"),
    (f"{OWN}.captures.both.source", "file", f"{OWN}.captures.both: there is no source 'file'; did you mean 'files'?"),
    (f"{OWN}.captures.both.sites", ["frist"], "no site 'frist' of the checkpoint 'trained'; did you mean 'first'?"),
    (f"{BOARD}.captures.demo.sites", ["block_3"], "no site 'block_3' of the checkpoint 'final'; did you mean 'block_"),
    (f"{BOARD}.sources.games.checkpoint", "finale", "there is no checkpoint 'finale'; did you mean 'final'?"),
    (f"{BOARD}.labels.truth.sources", ["game"], "there is no source 'game'; did you mean 'games'?"),
    (f"{BOARD}.labels.truth.names", ["pairity"], "no label 'pairity' of the family 'othello'; did you mean 'parity'?"),
    (f"{SWEEP}.capture", "bth", f"{SWEEP}: there is no capture 'bth'; did you mean 'both'?"),
    (f"{SWEEP}.sites", ["third"], f"{SWEEP}: there is no site 'third' in the capture 'both'; there are: first, second"),
    (f"{SWEEP}.members.plain.architecture", "jump_relu", f"{SWEEP}.plain: architecture 'jump_relu' is not known"),
    # what a family cannot do
    (f"{OWN}.sources.files", {"checkpoint": "trained", "episodes": 3, "rollout": {}}, "needs the capability 'rollout'"),
    (f"{OWN}.labels", {"truth": {"sources": ["files"], "names": ["x"]}}, "needs the capability 'labels'"),
    (f"{OWN}.training", {"run": {"settings": {}}}, f"{OWN}.training.run needs the capability 'training'"),
    (f"{OWN}.strength", {"run": {"settings": {}}}, f"{OWN}.strength.run needs the capability 'strength'"),
    ("policies.recorded.captures.all", {"source": "x", "sites": ["a"]}, "needs the capability 'run'"),
    (
        f"{BOARD}.checkpoints.final.path",
        "weights.pt",
        "weights.pt has no policy.json; importing it needs",
    ),
    # names
    (
        f"{OWN}.captures.../../x",
        {"source": "files", "sites": ["first"]},
        "captures: '../../x': a name may hold letters",
    ),
    ("policies.../../x", {"family": "module", "checkpoints": {}}, "policies: '../../x': a name may hold letters"),
    (f"{BOARD}.labels.truth.names", ["../../x"], f"{BOARD}.labels.truth.names.0: '../../x': a name may hold letters"),
    (f"{OWN}.captures.both.sites", ["../../x"], f"{OWN}.captures.both.sites.0: '../../x': a name may hold letters"),
    (f"{SWEEP}.members.../../x", GOOD, f"{SWEEP}.members: '../../x': a name may hold letters"),
    (f"{BOARD}.checkpoints.step.members", ["../../x"], "members.0: '../../x': a name may hold letters"),
    (f"{BOARD}.checkpoints.step.members", [7], "members.0: 7: a name may hold letters"),
    (f"{BOARD}.checkpoints.step.members", ["0", "0"], "must have each entry once, and '0' stands there twice"),
    (f"{BOARD}.checkpoints.step-1", {"path": "othello"}, "the checkpoint 'step-1' stands there twice"),
    (f"{BOARD}.checkpoints.step.members", ["x" * 64], "cannot be part of a path"),
    (f"{BOARD}.checkpoints.sources", {"path": "othello"}, "sources: this name is taken by a folder of results/"),
    ("policies.training", {"family": "othello", "checkpoints": {}}, "policies.training: this name is taken"),
    ("policies.logs", {"family": "othello", "checkpoints": {}}, "policies.logs: this name is taken"),
    ("policies.demo", {"family": "othello", "checkpoints": {}}, "policies.demo: this name is taken"),
    (f"{SWEEP}.members.evaluation", GOOD, f"{SWEEP}: the member name 'evaluation' is taken"),
    (f"{SWEEP}.members.training", GOOD, f"{SWEEP}: the member name 'training' is taken"),
    (f"{SWEEP}.members.imported", GOOD, f"{SWEEP}: the member name 'imported' is taken"),
    # the rows of a sweep, and what its members are trained from
    (f"{SWEEP}.members.plain.sparsity", -1, f"{SWEEP}.plain: sparsity is -1; it must be a number, at least 0"),
    (f"{SWEEP}.members.plain.architecture", "standart", "'standart' is not known; did you mean 'standard'?"),
    (f"{SWEEP}.members.plain.start", "results/own/a/sae/nosweep/second/b", "start: there is no checkpoint 'a'"),
    (
        f"{SWEEP}.members.plain.start",
        "results/own/trained/sae/nosweep/second/b",
        "start: there is no sweep 'nosweep'; did you mean 'sweep'? there are: sweep",
    ),
    (f"{SWEEP}.members.plain.start", "results/own/trained/sae", "start: results/own/trained/sae is no SAE's folder"),
    (
        f"{SWEEP}",
        {
            "capture": "both",
            "sites": ["second"],
            "weights": {"array": "step", "weights": {"1": 2}},
            "members": {"lin": {"architecture": "linear", "latents": 4}},
        },
        f"{SWEEP}.lin: rows with weights are drawn with replacement; set sampling: replacement for it",
    ),
    (f"{SWEEP}.members.plain.start", "gone", f"{SWEEP}.plain: start: there is no SAE at gone (its cfg.json)"),
    (
        f"{SWEEP}.members.plain.start",
        "results/own/trained/sae/sweep/second/topk_m16_k2",
        f"{SWEEP}.plain: start: results/own/trained/sae/sweep/second/topk_m16_k2 is of this very sweep",
    ),
    (
        f"{SWEEP}.members.plain.output_site",
        "frist",
        f"{SWEEP}.plain: output_site: there is no site 'frist' in the capture 'both'; did you mean 'first'?",
    ),
    (f"{SWEEP}.train_on", ["both", "bth"], f"{SWEEP}: there is no capture 'bth'; did you mean 'both'?"),
    (f"{SWEEP}.train_on", [], f"{SWEEP}.train_on is []; it must have at least 1 entry"),
    (f"{SWEEP}.where", [], f"{SWEEP}.where is []; it must have at least 1 entry"),
    (f"{SWEEP}.where", [{"array": "step"}], f"{SWEEP}.where.0: a condition needs equals, one_of, at_least or at_most"),
    (f"{SWEEP}.where", [{"array": "step", "equal": 1}], "unknown key 'equal'; did you mean 'equals'?"),
    (f"{SWEEP}.where", [{"array": "truth/empties", "equals": 1}], f"{SWEEP}: there is no label set 'truth'"),
    (f"{PLAYED}.where", [{"array": "truht/parity", "equals": 1}], "no label set 'truht'; did you mean 'truth'?"),
    (f"{PLAYED}.where", [{"array": "truth/pairity", "equals": 1}], "no label 'pairity' in the label set 'truth'; did"),
    (f"{PLAYED}.weights", {"array": "truht/parity", "weights": {"1": 2}}, "did you mean 'truth'?"),
    (
        f"{PLAYED}.weights",
        {"array": "truth/parity", "weights": {"1": -2}},
        "weights.1 is -2; it must be a number, at least 0",
    ),
    (f"{SWEEP}.wandb", {"projct": "x"}, f"{SWEEP}.wandb: unknown key 'projct'; did you mean 'project'?"),
    # members from elsewhere
    (f"{SWEEP}.members.published.import", "gone.pt", "published: import: there is no file or folder gone.pt"),
    (f"{SWEEP}.members.published.import", 3, f"{SWEEP}.published: import: 3 is no path"),
    (
        f"{SWEEP}.members.published.import",
        "hf://org/repo/x",
        "published: import: hf://org/repo/x: write hf://org/repo@",
    ),
    (f"{SWEEP}.members.published.scal", 2, f"{SWEEP}.published: unknown key 'scal'; did you mean 'scale'?"),
    (f"{SWEEP}.members.published.output_site", "thrid", "published: output_site: there is no site 'thrid'"),
    (f"{SWEEP}.sites", ["first", "second"], f"{SWEEP}.published: import: the sweep has several sites; put {{}} into"),
    # shapes and numbers
    (f"{BOARD}.checkpoints.step.series", "step", "series: 'step': a series is a path with {}"),
    (f"{BOARD}.checkpoints.step", {"series": "step-{}"}, "checkpoints.step: a checkpoint has a path, or is a series"),
    (f"{BOARD}.checkpoints.final.members", ["a"], "checkpoints.final: a checkpoint has a path, or is a series"),
    (f"{BOARD}.checkpoints.final", {}, "checkpoints.final: needs a path, or is a series with members"),
    (f"{OWN}.checkpoints.trained.path", "hf://org/repo/path", "write hf://org/repo@revision/path"),
    (f"{OWN}.checkpoints.trained.path", "hf://org/repo@main/path", "write hf://org/repo@revision/path"),
    (f"{OWN}.sources.files.parts", 2, f"{OWN}.sources.files: a source is either rollouts"),
    (f"{BOARD}.sources.games.rollout", ..., f"{BOARD}.sources.games: a source is either rollouts"),
    (f"{BOARD}.sources.games.parts", 11, f"{BOARD}.sources.games: 11 parts cannot hold 10 whole episodes"),
    (
        f"{BOARD}.sources.games.episodes",
        0,
        f"{BOARD}.sources.games.episodes is 0; it must be a whole number, at least 1",
    ),
    (f"{OWN}.captures.both.import", ["one.npz"], f"{OWN}.captures.both: a capture records a source, or imports files"),
    (
        f"{OWN}.captures.both.dtype",
        "float8",
        "dtype is 'float8'; it must be one of float16, bfloat16, float32; did you",
    ),
    (f"{OWN}.captures.both.sites", [], f"{OWN}.captures.both.sites is []; it must have at least 1 entry"),
    (f"{OWN}.sources.files.split", {"train": 0.8, "validation": 0.1, "test": 0.2}, f"{OWN}.sources.files.split: "),
    (f"{OWN}.sources.files.split", {"train": 0.8, "validation": 0.1, "test": 0.2}, "add up to 1"),
    (
        f"{OWN}.sources.files.split",
        {"train": 1.2, "validation": 0, "test": 0},
        "split.train is 1.2; it must be a number from 0 to 1",
    ),
    (f"{OWN}.sources.files.split", {"train": 1.0}, "'validation' is missing"),
    ("policies.recorded.captures.all.split", {"train": 0.5, "validation": 0, "test": 0}, "captures.all.split: "),
    (
        f"{SWEEP}.members.plain",
        {"architecture": "topk", "latents": 16, "k": 17},
        "k is 17 but there are only 16",
    ),
    (f"{SWEEP}.grid", [{"architecture": "topk", "latents": [4, 32], "k": [8]}], "k is 8 but there are only 4 latents"),
    (f"{SWEEP}.grid", [{"latents": [4], "k": [8]}], f"{SWEEP}: a grid needs one architecture"),
    (
        f"{SWEEP}.grid",
        [{"architecture": "topk", "latents": [], "k": 2}],
        f"{SWEEP}: the grid's latents is an empty",
    ),
    (
        f"{SWEEP}.grid",
        [{"architecture": "topk", "latents": 16, "k": [2, 2]}],
        "member 'topk_k2' stands there twice",
    ),
    (f"{SWEEP}", {"capture": "both", "sites": ["first"]}, f"{SWEEP}: a sweep needs members or a grid"),
    # values of another kind
    ("seed", "1", "seed is '1'; it must be a whole number, at least 0 (it is text: leave out quotes"),
    (f"{OWN}.checkpoints.trained.path", 7, "trained.path is 7; it must be text (put it in quotes)"),
    (f"{BOARD}.captures.demo.prunable", "yes", "demo.prunable is 'yes'; it must be true or false"),
    (f"{BOARD}.captures.demo.sites", "block_1", "demo.sites is 'block_1'; it must be a list"),
    (f"{OWN}.sae.sweep.evaluation", [], f"{SWEEP}.evaluation is []; it must be a mapping"),
    ("resources.train_sweep", None, "resources.train_sweep is null; it must be a mapping"),
    ("resources.Train", {}, "resources: 'Train': a rule is named by small letters and '_'"),
    (
        f"{SWEEP}.where",
        [{"array": "a b", "equals": 1}],
        "where.0.array: 'a b': an array is named as the capture has it",
    ),
    (f"{SWEEP}.members.plain.learning_rate", "1e-3", "must be a number, above 0 (it is text: leave out quotes, and"),
    (f"{SWEEP}.members.plain.gradient_clip", -1, "gradient_clip is -1; it must be a number, above 0, or null"),
    (f"{SWEEP}.members.plain.initial_norms", [1], "initial_norms is [1]; it must have 2 entries"),
    (f"{SWEEP}.members.plain.sampling", "epoch", "one of replacement, epochs; did you mean 'epochs'?"),
    (f"{SWEEP}.evaluation", {"fidelity": 1}, "evaluation.fidelity is 1; it must be true or false"),
    # interventions
    (f"{CAUSAL}.capture", "dem", f"{CAUSAL}: there is no capture 'dem'; did you mean 'demo'?"),
    (f"{CAUSAL}.saes", {"block_1": "plaid/top"}, f"{CAUSAL}.saes.block_1: there is no sweep 'plaid'"),
    (f"{CAUSAL}.saes", {"block_1": "played/to"}, "no member 'to' of the sweep 'played'; did you mean 'top'?"),
    (f"{CAUSAL}.saes", {"block_2": "played/top"}, f"{CAUSAL}.saes: there is no site 'block_2' of the sweep 'played'"),
    (f"{CAUSAL}.saes", {"block_1": "top"}, "'top': an SAE is named by sweep/member"),
    (f"{CAUSAL}.saes", {"block_1": "../top"}, "'../top': an SAE is named by sweep/member"),
    (f"{CAUSAL}.saes", {}, f"{CAUSAL}.saes is {{}}; it must have at least 1 entry"),
    (f"{CAUSAL}.modes", ["ablate"], f"{CAUSAL}.modes: there is no mode 'ablate' of intervention; there are: zero"),
    (f"{CAUSAL}.modes", [{"kind": "set"}], f"{CAUSAL}.modes: the mode 'set' of intervention needs a strength"),
    (f"{CAUSAL}.modes", [{"kind": "set", "by": 1}], f"{CAUSAL}.modes.0: unknown key 'by'"),
    (
        f"{CAUSAL}.phase",
        {"labels": "tru", "label": "empties", "bins": 2},
        f"{CAUSAL}.phase: there is no label set 'tru'; did you mean 'truth'?",
    ),
    (
        f"{CAUSAL}.phase",
        {"labels": "truth", "label": "emptis", "bins": 2},
        f"{CAUSAL}.phase: there is no label 'emptis' in 'truth'; did you mean 'empties'?",
    ),
    (
        f"{CAUSAL}.phase",
        {"labels": "truth", "label": "empties", "edges": [3, 1]},
        f"{CAUSAL}.phase.edges: must ascend, got [3, 1]",
    ),
    (
        f"{CAUSAL}.phase",
        {"labels": "truth", "label": "empties"},
        f"{CAUSAL}.phase: a phase needs labels and label, and either bins or edges",
    ),
    (f"{CAUSAL}.clusters", 1, f"{CAUSAL}.clusters is 1; it must be a whole number, at least 2"),
    (f"{CAUSAL}.controls", 50, "50: at least 200 random directions are needed"),
    (f"{CAUSAL}.controlled", "most", "'most': a number of latents, or all"),
    (
        "policies.recorded.interventions",
        {"causal": {"capture": "all", "saes": {"layer": "a/b"}}},
        "interventions.causal needs the capability 'run'",
    ),
    # steering
    (f"{WEAKER}.capture", "dem", f"{WEAKER}: there is no capture 'dem'; did you mean 'demo'?"),
    (f"{WEAKER}.saes", {"block_1": "played/to"}, "no member 'to' of the sweep 'played'; did you mean 'top'?"),
    (f"{WEAKER}.latents", {"block_2": [1]}, f"{WEAKER}.latents: there is no SAE at the site 'block_2'"),
    (f"{WEAKER}.latents", [1, 2], "latents is how many of each SAE"),
    (f"{WEAKER}.latents", {"block_1": [8]}, "the SAE played/top at 'block_1' has latents 0 to 7, not 8"),
    (f"{WEAKER}.goal.keep", {"return": 1}, f"{WEAKER}.goal: 'return' is to change and to be kept"),
    (f"{WEAKER}.controls", {"episodes": 999}, f"{WEAKER}.controls.episodes: they are of those that confirm"),
    (f"{WEAKER}.groups.both.site", "block_2", f"{WEAKER}.groups.both: there is no SAE at the site 'block_2'"),
    (f"{WEAKER}.groups", {"../x": {"site": "block_1", "latents": [1]}}, "../x"),
    (f"{WEAKER}.directions.odd.site", "embed", f"{WEAKER}: there is no site 'embed' in the capture 'demo'"),
    (f"{WEAKER}.directions.odd.labels", "truths", f"{WEAKER}: there is no label set 'truths'; did you mean 'truth'?"),
    (f"{WEAKER}.directions.odd.label", "empty", f"{WEAKER}.directions.odd: there is no label 'empty' in the set"),
    (
        f"{WEAKER}.directions.odd",
        {"site": "block_1"},
        "a direction has labels, label, positive and negative, or a file",
    ),
    (
        f"{WEAKER}.directions.odd",
        {"site": "block_1", "file": "no.npz"},
        f"{WEAKER}.directions.odd: there is no file no",
    ),
    (
        f"{WEAKER}.directions.side.direction",
        "side",
        f"{WEAKER}.directions.side: there is no block of directions 'side'; did you mean 'sides'?",
    ),
    (f"{WEAKER}.directions.side.pair", "white", f"{WEAKER}.directions.side: there is no pair 'white' of 'sides'"),
    (f"{WEAKER}.directions.side.vector", "latent_direction", "must be one of residual_direction"),
    # slices and directions
    (f"{MOVES}.capture", "dem", f"{MOVES}: there is no capture 'dem'; did you mean 'demo'?"),
    (f"{MOVES}.concept_map", "no.json", f"{MOVES}: there is no file no.json"),
    ("policies.board.captures.demo.sites", ["block_1..4"], "there is no site 'block_3'"),
    ("policies.board.captures.demo.sites", ["block_a..2"], "a range of layers is written language_0..17_ffn"),
    ("policies.board.captures.demo.sites", ["block_1..2..3"], "a range of layers is written language_0..17_ffn"),
    (f"{MOVES}.denoise", 0, "the site 'block_1' of the capture 'demo' is computed once"),
    (f"{MOVES}.denoise", [], "denoise is the number of a denoising step, from 0, or a list of such"),
    (f"{MOVES}.denoise", -1, "denoise is the number of a denoising step, from 0, or a list of such"),
    (f"{MOVES}.contrast", "sides", "a slice's concepts come from a contrast or from a concept_map"),
    (f"{MOVES}.site", "block_1", "a slice is of a capture; or has site and import"),
    (f"{MOVES}.kinds", [], f"{MOVES}.kinds"),
    (
        "policies.board.slices",
        {"moves": {"capture": "demo", "contrast": "sides"}},
        f"{MOVES}: there is no contrast 'sides'; there are: none",
    ),
    (f"{SIDES}.site", "embed", f"{SIDES}.site: there is no site 'embed' of the sweep 'played'"),
    (f"{SIDES}.sae", "played/to", f"{SIDES}.sae: there is no member 'to' of the sweep 'played'; did you mean 'top'?"),
    (f"{SIDES}.sae", "top", "an SAE is named sweep/member"),
    (f"{SIDES}.baseline_site", "embed", f"{SIDES}.pairs.black: there is no site 'embed' in the slice 'moves'"),
    (f"{SIDES}.permutations", 10, "at least 200 rearrangements are needed"),
    (f"{SIDES}.gate", {}, f"{SIDES}.gate"),
    (f"{SIDES}.pairs", {}, f"{SIDES}: has no pairs"),
    (f"{SIDES}.pairs.black.slice", "move", f"{SIDES}.pairs.black: there is no slice 'move'; did you mean 'moves'?"),
    (f"{SIDES}.pairs.black.negative", "black", f"{SIDES}.pairs.black: positive and negative are the same concept"),
    (f"{SIDES}.pairs.black", {"import": "no"}, f"{SIDES}.pairs.black: there is no file no/positive_latent_mean.pt"),
    (f"{SIDES}.pairs.black", {"slice": "moves"}, "a pair has slice, positive and negative; or import"),
    (f"{SIDES}.import", {"pairs": "no.json", "directions": "no"}, "no.json: there is no such file"),
    (f"{SIDES}.import", {"pairs": "no.json"}, "an import has pairs (a file), and the folder"),
    (
        f"{SIDES}.expected",
        [{"pair": ["black", "white"], "latent_cosine": {"below": 0}}],
        f"{SIDES}.expected.0: there is no pair 'white'; there are: black",
    ),
    (
        f"{SIDES}.expected",
        [{"pair": ["black", "black"], "latent_cosine": {"below": 0}}],
        f"{SIDES}.expected.0: a pair has no cosine with itself",
    ),
    (f"{SIDES}.expected", [{"pair": ["black", "black"], "latent_cosin": {"below": 0}}], "latent_cosin"),
    (f"{WEAKER}.moves", ["ablate"], f"{WEAKER}.moves: there is no move 'ablate'; there are: zero, mean"),
    (f"{WEAKER}.moves", [{"kind": "add"}], f"{WEAKER}.moves: the move 'add' needs strengths alone"),
    (f"{WEAKER}.goal.measure", "wins", f"{WEAKER}.goal: there is no measure 'wins' of the family 'othello'"),
    (f"{WEAKER}.goal.keep", {"discz": 1}, "no measure 'discz' of the family 'othello'; did you mean 'discs'?"),
    (f"{WEAKER}.settings", {"oponents": ["random"]}, f"{WEAKER}: settings: unknown key 'oponents'"),
    (f"{WEAKER}.controls", {"directions": 50}, "50: at least 200 random directions are needed"),
    (
        "policies.own.steering",
        {"x": {"capture": "both", "moves": ["zero"], "goal": {"measure": "return"}}},
        "policies.own.steering.x needs the capability 'returns'",
    ),
    # circuits
    (f"{MOVE}.intervention", "casual", f"{MOVE}: there is no intervention 'casual'; did you mean 'causal'?"),
    (f"{MOVE}.mode", "set", f"{MOVE}.mode is 'set'; it must be one of mean, zero, resample"),
    (f"{MOVE}.random", 20, "20: at least 200 random circuits are needed"),
    (f"{MOVE}.output", {"unit": 1}, f"{MOVE}.output: 'outcome' is missing"),
    (f"{MOVE}.sizes", [0], f"{MOVE}.sizes.0 is 0; it must be a whole number, at least 1"),
    (f"{MOVE}.size", 4, f"{MOVE}: unknown key 'size'; did you mean 'sizes'?"),
    # correlations
    (f"{CORRELATIONS}.capture", "dem", f"{CORRELATIONS}: there is no capture 'dem'; did you mean 'demo'?"),
    (f"{CORRELATIONS}.labels", "truths", f"{CORRELATIONS}: there is no label set 'truths'; did you mean 'truth'?"),
    (f"{CORRELATIONS}.saes", {"block_1": "played/to"}, f"{CORRELATIONS}.saes.block_1: there is no member 'to'"),
    (
        f"{CORRELATIONS}.saes",
        {"block_2": "played/top"},
        f"{CORRELATIONS}.saes: there is no site 'block_2' of the sweep",
    ),
    (f"{CORRELATIONS}.saes", {"block_1": "top"}, "'top': an SAE is named by sweep/member"),
    (f"{CORRELATIONS}.shifts", 20, "20: at least 200 shifts are needed to place a correlation, or 0 for none"),
    (f"{CORRELATIONS}.split", "tset", f"{CORRELATIONS}.split is 'tset'; it must be one of"),
    (f"{CORRELATIONS}.modes", ["zero"], f"{CORRELATIONS}: unknown key 'modes'"),
    (
        "policies.recorded.correlations",
        {"own": {"capture": "all", "saes": {"layer": "a/b"}}},
        "correlations.own: needs observations, which are its inputs, but 'all' is imported",
    ),
    (f"{SWEEP}.evaluation", {"split": "all"}, f"{SWEEP}.evaluation.split: 'all' holds rows that 'plain' is trained on"),
    # layouts
    (f"{OWN}.sources.files.layout", {"axes": ["episode"]}, "it must be one of [step, episode], [episode, step]"),
    (f"{OWN}.sources.files.layout", {"done": "ends"}, "layout: 'axes' is missing, which goes with 'done'"),
    (f"{BOARD}.sources.games.layout", {"names": {"a": "b"}}, f"{BOARD}.sources.games: a source is either rollouts"),
    ("compute.device", "gpu", "compute.device: 'gpu': a device is cpu, cuda, cuda:1"),
    ("seed", -1, "my.yaml: seed is -1; it must be a whole number, at least 0"),
    ("resources.train_sweep.threads", 0, "resources.train_sweep.threads is 0; it must be a whole number, at least 1"),
]


@pytest.mark.parametrize(("path", "value", "part"), FAULTS, ids=[f"{n}-{fault[0]}" for n, fault in enumerate(FAULTS)])
def test_each_fault_is_one_clear_line(path, value, part):
    config = changed(path.replace("../../x", "TRICK"), value)
    config = yaml.safe_load(yaml.safe_dump(config).replace("TRICK", "../../x"))
    with refused("my.yaml: ", part):
        Config(config, "my.yaml")


def test_rows_chosen_by_labels_are_of_one_source():
    config = changed(f"{PLAYED}.where", [{"array": "truth/parity", "equals": 1}])
    assert Config(config)["board"].sweeps["played"]["rows"]["where"] == [{"array": "truth/parity", "equals": 1}]
    board = config["policies"]["board"]
    board["sources"]["more"] = copy.deepcopy(board["sources"]["games"])
    board["captures"]["more"] = {"source": "more", "sites": ["block_1"]}
    board["labels"]["truth"]["sources"].append("more")
    board["sae"]["played"]["train_on"] = ["demo", "more"]
    with refused(PLAYED, "all captures of train_on must be of one source"):
        Config(config)


def test_a_site_stands_in_the_path_of_an_import(place):
    config = changed(f"{SWEEP}.sites", ["first", "second"])
    config["policies"]["own"]["sae"]["sweep"]["members"]["published"] = {"import": "{}.pt"}
    (place / "first.pt").write_bytes(b"")
    with refused(f"{SWEEP}.published: import: there is no file or folder second.pt"):
        Config(config)
    (place / "second.pt").write_bytes(b"")
    paths = [path for kind, path in all_paths(Config(config)) if kind == "sae_imported"]
    sweep = "results/own/trained/sae/sweep"
    assert paths == [f"{sweep}/{site}/imported/published/cfg.json" for site in ("first", "second")]


def test_a_sweep_of_imports_has_no_training():
    config = changed(f"{SWEEP}.members", {"published": {"import": "published.safetensors"}})
    del config["policies"]["own"]["sae"]["sweep"]["grid"], config["policies"]["own"]["sae"]["sweep"]["examples"]
    kinds = {kind for kind, path in all_paths(Config(config)) if "/sae/sweep/" in path and "/own/" in path}
    assert {"sae", "sae_imported", "sae_metrics", "sweep"} <= kinds
    assert not kinds & {"sae_training", "sae_recipe"}


def test_correlations_are_of_sites_that_their_capture_has():
    config = changed(f"{BOARD}.captures.late", {"source": "games", "sites": ["block_2"]})
    config["policies"]["board"]["correlations"]["own"]["capture"] = "late"
    with refused(f"{CORRELATIONS}.saes: there is no site 'block_1' in the capture 'late'"):
        Config(config)


def with_concepts(capture="demo", **concepts):
    """The sound config with a sweep whose latents are compared with labels."""
    config = sound()
    for block in ("interventions", "circuits", "correlations", "directions", "steering"):
        del config["policies"]["board"][block]
    config["policies"]["board"]["sae"] = {
        "known": {
            "capture": capture,
            "sites": ["block_1"],
            "members": {"plain": GOOD},
            "evaluation": {"concepts": {"labels": "truth", **concepts}},
        }
    }
    return config


def test_concepts_of_labels_that_are_there_are_sound():
    phase = {"label": "empties", "bins": 4}
    config = Config(with_concepts(names=["parity"], phase=phase, untrained="step-0", probing=[1, 5]))
    assert config["board"].sweeps["known"]["evaluation"]["concepts"]["phase"] == phase


CONCEPTS = "policies.board.sae.known.evaluation.concepts"


@pytest.mark.parametrize(
    ("concepts", "part"),
    [
        ({"labels": "truht"}, f"{CONCEPTS}: there is no label set 'truht'; did you mean 'truth'?"),
        ({"names": ["paryti"]}, f"{CONCEPTS}: there is no label 'paryti' in the label set 'truth'; did you mean"),
        ({"phase": {"label": "phase", "bins": 3}}, f"{CONCEPTS}: there is no label 'phase' in the label set 'truth'"),
        ({"phase": {"label": "empties"}}, f"{CONCEPTS}.phase: a phase needs either bins or edges"),
        (
            {"phase": {"label": "empties", "bins": 1}},
            f"{CONCEPTS}.phase.bins is 1; it must be a whole number, at least 2",
        ),
        ({"phase": {"label": "empties", "edges": [5, 3]}}, f"{CONCEPTS}.phase.edges: must ascend, got [5, 3]"),
        ({"untrained": "step-7"}, f"{CONCEPTS}: there is no checkpoint 'step-7'"),
        ({"probing": [0]}, "probing.0 is 0; it must be a whole number, at least 1"),
        ({"labells": "truth"}, f"{CONCEPTS}: unknown key 'labells'; did you mean 'labels'?"),
    ],
)
def test_concepts_that_cannot_be_measured_are_refused(concepts, part):
    with refused("my.yaml: ", part):
        Config(with_concepts(**concepts), "my.yaml")


def test_concepts_need_labels_of_the_captures_own_rows():
    config = with_concepts(capture="more")
    board = config["policies"]["board"]
    board["sources"]["more"] = copy.deepcopy(board["sources"]["games"])
    board["captures"]["more"] = {"source": "more", "sites": ["block_1"]}
    with refused("has no labels of the rows of capture 'more'", "add its source 'more'"):
        Config(config)
    del board["captures"]["more"]["source"]
    board["captures"]["more"]["import"] = ["one.npz"]
    with refused("has no labels of the rows of capture 'more'"):
        Config(config)


def test_files_that_are_no_config_are_refused(tmp_path):
    with refused("gone.yaml", "no such config file"):
        load_config(tmp_path / "gone.yaml")
    for content, part in (
        (b"a: [", "not valid YAML"),
        (b"policies:\n  a: {k: 4, k: 5}\n", "the key 'k' stands there twice"),
        (b"- a", "a mapping"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"", "a mapping"),
    ):
        (tmp_path / "c.yaml").write_bytes(content)
        with refused(str(tmp_path / "c.yaml"), part):
            load_config(tmp_path / "c.yaml")


def test_a_checkpoint_of_another_family_is_refused(place):
    config = changed(f"{OWN}.checkpoints.trained.path", "othello")
    with refused("othello/policy.json", "'othello'", "'module'"):
        Config(config)


def test_a_new_site_needs_no_new_import_to_be_known(place):
    """An earlier import's policy.json does not know it; the options do."""
    config = sound()
    checkpoint = config["policies"]["own"]["checkpoints"]["trained"]
    built = place / "results" / "own" / "trained" / "checkpoint"
    import_checkpoint("weights.pt", built, "module", checkpoint["options"])
    checkpoint["options"]["sites"]["policy"] = 4
    config["policies"]["own"]["captures"]["both"]["sites"].append("policy")
    try:
        assert "policy" in Config(config)["own"].sites("trained")
    finally:
        shutil.rmtree(place / "results")


def test_sites_of_a_hub_checkpoint_are_known_once_it_is_imported(place):
    config = changed(f"{BOARD}.checkpoints.final.path", "hf://org/repo@v1/best")
    config["policies"]["board"]["captures"]["demo"]["sites"] = ["nowhere"]
    for block in ("sae", "interventions", "circuits", "correlations", "directions", "steering"):
        del config["policies"]["board"][block]
    del config["policies"]["board"]["checkpoints"]["step"]
    assert Config(config)["board"].sites("final") is None
    built = place / "results" / "board" / "final" / "checkpoint"
    built.mkdir(parents=True)
    try:
        origin = {"hub": "org/repo", "revision": "v1", "path": "best", "commit": "0" * 40}
        (built / "policy.json").write_text(json.dumps(OTHELLO | {"origin": origin}))
        with refused("no site 'nowhere' of the checkpoint 'final'"):
            Config(config)
        (built / "policy.json").write_text(json.dumps(OTHELLO | {"origin": origin | {"revision": "v0"}}))
        assert Config(config)["board"].sites("final") is None, "what was imported before is of another revision"
    finally:
        shutil.rmtree(place / "results")


def test_the_repositorys_own_config_is_valid_but_for_its_weights(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    if (REPOSITORY / "data/checkpoints/othello/final").exists():
        assert check_targets(load_config("config.yaml"), ["demo"]) is None
    else:
        with refused("there is no checkpoint at data/checkpoints/othello/final"):
            load_config("config.yaml")


def test_config_is_checked_without_heavy_imports():
    code = (
        "import sys, yaml; from policylens.project.config import Config; Config(yaml.safe_load(sys.stdin))\n"
        "heavy = {'torch', 'numba', 'matplotlib', 'zarr', 'xarray', 'pandas', 'scipy'} & sys.modules.keys()\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    words = [sys.executable, "-c", code]
    result = subprocess.run(
        words, input=yaml.safe_dump(sound()), env=environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_no_policy_can_take_a_rules_name():
    text = "".join(path.read_text() for path in [*REPOSITORY.glob("rules/*.smk"), REPOSITORY / "Snakefile"])
    found = re.findall(r"^rule (\w+):", text, re.MULTILINE) + re.findall(r"^use rule \w+ as (\w+)", text, re.MULTILINE)
    assert sorted(found) == sorted(RULES)


# Paths


def test_circuits_are_chosen_on_other_rows_than_they_are_scored_on():
    assert splits_of({"split": "test"}) == ("validation", "test")
    assert splits_of({"split": "all"}) == ("all", "all"), "nothing is held out from imported SAEs of all rows"


def test_all_paths_parse_back():
    found = list(all_paths(Config(sound())))
    assert {kind for kind, _ in found} == set(PATHS)
    assert len({path for _, path in found}) == len(found)
    for kind, path in found:
        assert parse(path)[0] == kind


names = st.from_regex(NAME, fullmatch=True).filter(lambda name: len(name) <= 64)


@settings(max_examples=100)
@given(st.sampled_from(list(PATHS.values())), st.data())
def test_a_path_gives_back_its_kind_and_wildcards(entry, data):
    wildcards = {name: data.draw(names) for name in entry.wildcards}
    if "part" in wildcards:
        wildcards["part"] = f"part-{data.draw(st.integers(0, 99999)):04d}"
    assert parse(entry.template.format(**wildcards)) == (entry.name, wildcards)


@pytest.mark.parametrize(
    "path",
    [
        "results",
        "results/a/b",
        "results/a/../checkpoint/policy.json",
        "results/a/b/checkpoint/policy.json\n",
        "demo",
        "/results/a/b/checkpoint/policy.json",
    ],
)
def test_other_paths_are_refused(path):
    with refused("not a path of this project") if "\n" not in path else pytest.raises(Exception, match="not a path"):
        parse(path)


def test_targets_without_blocks_are_refused():
    config = Config(sound(), "my.yaml")
    good = [path for _, path in all_paths(config)]
    check_targets(config, [*good, "demo", "own", "results/own/trained/checkpoint/model.safetensors"])
    with refused("my.yaml has no blocks", "did you mean results/own/trained/activations/both/index.json?"):
        check_targets(config, ["results/own/trained/activations/bth/index.json"])
    with refused("`policylens paths`"):
        check_targets(config, ["results/x/y/sae/z/index.json"])


def test_headlines_are_the_ends_of_every_policy():
    config = Config(sound())
    found = headline_paths(config)
    assert "results/own/trained/sae/sweep/index.json" in found
    assert "results/board/sources/games/labels/truth/index.json" in found
    assert set(found) < {path for _, path in all_paths(config)}
    assert copy.deepcopy(found) == headline_paths(Config(sound()))


def test_ranges_of_sites_are_spelt_out():
    found = Config(changed("policies.board.captures.demo.sites", ["block_1..2_hidden", "block_1..2"]), "my.yaml")[
        "board"
    ]
    assert found.captures["demo"]["sites"] == ["block_1_hidden", "block_2_hidden", "block_1", "block_2"]
