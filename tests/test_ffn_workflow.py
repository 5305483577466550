"""FFN clustering from config.yaml to the page: the programs on a small transformer, the workflow's jobs, the config."""

import copy
import json

import numpy as np
import pytest
from ffn_made import SITES, Speaking, numbered
from franka_small import observations, small_checkpoint
from project import Project
from support import SPLIT, refused, run_here, tree

from policylens.capture.imports import import_rollout
from policylens.capture.sources import write_source
from policylens.capture.splits import write_splits
from policylens.ffn.clusters import cluster, points_of
from policylens.ffn.files import language_of, vectors_of, write_vectors
from policylens.ffn.probe import check_units
from policylens.ffn.probe import probe as probe_units
from policylens.ffn.records import Choice, chosen_units
from policylens.ffn.store import read_strengths, write_strengths
from policylens.project.config import Config
from policylens.project.ffn import PROBED, RECORDED, ffn_settings, part_of
from policylens.project.paths import all_paths
from policylens.stores.files import read_json, sha256_of_file, write_json, write_tensors
from policylens.stores.schemas import check_against

BLOCK = {
    "source": "own",
    "sites": ["block_1_hidden", "block_2_hidden"],
    "top_k_per_layer": 12,
    "minimum": 0.05,
    "store_value_vectors": True,
    "clusters": {"count": 3, "clouds": 19, "restarts": 2},
}
POLICY = {
    "family": "franka",
    "checkpoints": {"small": {"path": "small"}},
    "sources": {"own": {"import": ["theirs.npz"]}},
    "captures": {"hidden": {"source": "own", "sites": ["block_1_hidden", "block_2_hidden"]}},
    "ffn": {"mine": BLOCK},
    "steering": {
        "overwrite": {
            "capture": "hidden",
            "clusters": {"first": {"ffn": "mine", "cluster": 0}},
            "units": {"one": {"site": "block_1_hidden", "units": [3]}},
            "moves": [{"kind": "set", "strengths": [5]}],
            "goal": {"measure": "success"},
        }
    },
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with a small transformer's checkpoint and a source of 20 episodes."""
    folder = tmp_path_factory.mktemp("ffn")
    small_checkpoint(folder / "small", "transformer")
    np.savez(folder / "theirs.npz", **observations(60), episode=np.repeat(np.arange(20), 3))
    write_source(folder / "own" / "part-0000.zarr", [import_rollout(folder / "theirs.npz")], SPLIT, "own", {})
    write_splits(folder / "own", ["part-0000"], SPLIT, "own")
    return folder


def probe(small, out, block=BLOCK, **more):
    full = ffn_settings(block, 0)
    words = {"checkpoint": small / "small", "block": json.dumps(part_of(full, PROBED)), "out": out, **more}
    words |= {"source": small / "own"} if "source" in block else {}
    return ["workflow_scripts/probe_ffn.py", *(word for key, value in words.items() for word in (f"--{key}", value))]


def build(small, out, block=BLOCK, **more):
    """All three programs, into a folder."""
    full = ffn_settings(block, 0)
    run_here(*probe(small, out / "activations.zarr", block, **more))
    run_here(
        "workflow_scripts/project_ffn.py", "--checkpoint", small / "small", "--activations", out / "activations.zarr",
        "--block", json.dumps(part_of(full, RECORDED)), "--out", out / "records.json",
    )  # fmt: skip
    origin = {"policy": "arm", "checkpoint": "small", "ffn": "mine", "block": full}
    run_here(
        "workflow_scripts/cluster_ffn.py", "--activations", out / "activations.zarr", "--records", out / "records.json",
        "--origin", json.dumps(origin), "--out", out / "clusters.json",
    )  # fmt: skip


def test_the_programs_make_everything_and_the_same_each_time(small, tmp_path):
    build(small, tmp_path / "one")
    build(small, tmp_path / "two")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {"activations.zarr", "records.json", "vectors.safetensors", "clusters.json", "analysis.json",
                     "clusters.html", "tsne.png", "summary.txt"}  # fmt: skip
    records, clusters = (read_json(tmp_path / "one" / name) for name in ("records.json", "clusters.json"))
    assert all(len(one["value_vector"]) == 16 for one in records)
    members = sorted((one["layer_index"], one["neuron_index"]) for cluster in clusters for one in cluster["members"])
    assert members == sorted((one["layer_index"], one["neuron_index"]) for one in records)
    analysis = read_json(tmp_path / "one" / "analysis.json")
    check_against("ffn_analysis", analysis, "analysis.json")
    assert [site["positions"] for site in analysis["sites"]] == [60 * 12, 60 * 12]
    # Other batches add up in another order, and find the same units in the same places.
    build(small, tmp_path / "three", **{"batch-rows": 7})
    assert [one["neuron_index"] for one in read_json(tmp_path / "three" / "records.json")] == [
        one["neuron_index"] for one in records
    ]
    assert [one["reached"] for one in read_json(tmp_path / "three" / "records.json")] == [
        one["reached"] for one in records
    ]


def test_files_of_observations_give_what_their_rows_in_a_source_give(small, tmp_path):
    rows = observations(60)["observations"]
    for number, row in enumerate(rows):
        np.savez(tmp_path / f"{number:04d}.npz", **{"observation/observations": row})
    own = {key: value for key, value in BLOCK.items() if key != "source"}
    build(small, tmp_path / "files", {**own, "observations": [f"{tmp_path}/*.npz"]})
    build(small, tmp_path / "source")
    keys = ("site", "neuron_index", "max_activation", "mean_activation", "share_above")
    one, other = (
        [[record[key] for key in keys] for record in read_json(tmp_path / name / "records.json")]
        for name in ("files", "source")
    )
    assert one == other


def test_batches_are_as_large_as_the_block_says_else_as_the_program_is_told(small, tmp_path):
    for name, own in {"told": {}, "own": {"batch_rows": 7}}.items():
        run_here(*probe(small, tmp_path / name, {**BLOCK, "max_batches": 2, **own}, **{"batch-rows": 9}))
    rows = {
        name: {site["rows"] for site in read_json(tmp_path / name / "zarr.json")["attributes"]["policylens"]["sites"]}
        for name in ("told", "own")
    }
    assert rows == {"told": {18}, "own": {14}}


def refusal(capsys, words):
    """The one line with which a program, run in this process, refuses."""
    capsys.readouterr()
    with pytest.raises(AssertionError, match="ended with 1"):
        run_here(*words)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    return last


def test_what_cannot_be_done_is_one_clear_line(small, tmp_path, capsys):
    words = probe(small, tmp_path / "a.zarr", {**BLOCK, "sites": ["block_1"]})
    assert "not of a feed-forward layer's hidden units" in refusal(capsys, words)
    build(small, tmp_path / "one")
    full = ffn_settings({**BLOCK, "projection": {}}, 0)
    words = ["--checkpoint", small / "small", "--activations", tmp_path / "one" / "activations.zarr",
             "--block", json.dumps(part_of(full, RECORDED)), "--out", tmp_path / "records.json"]  # fmt: skip
    assert "the policy has no vocabulary" in refusal(capsys, ["workflow_scripts/project_ffn.py", *words])
    assert not (tmp_path / "records.json").exists()
    before = sha256_of_file(tmp_path / "one" / "clusters.json")
    full = ffn_settings({**BLOCK, "clusters": {"space": "semantic"}}, 0)
    origin = {"policy": "arm", "checkpoint": "small", "ffn": "mine", "block": full}
    words = ["--activations", tmp_path / "one" / "activations.zarr", "--records", tmp_path / "one" / "records.json",
             "--origin", json.dumps(origin), "--out", tmp_path / "one" / "clusters.json"]  # fmt: skip
    assert "'semantic'" in refusal(capsys, ["workflow_scripts/cluster_ffn.py", *words])
    assert sha256_of_file(tmp_path / "one" / "clusters.json") == before


# The config


def configured(small, monkeypatch, change=lambda policy: None):
    monkeypatch.chdir(small)
    policy = copy.deepcopy(POLICY)
    change(policy)
    return Config({"policies": {"arm": policy}})


def test_a_block_has_its_paths_and_defaults(small, monkeypatch):
    config = configured(small, monkeypatch)
    paths = [path for kind, path in all_paths(config) if kind.startswith("ffn")]
    folder = "results/arm/small/ffn/mine"
    assert paths == [f"{folder}/activations.zarr/zarr.json", f"{folder}/records.json", f"{folder}/clusters.json"]
    assert config["arm"].ffns["mine"]["clusters"]["space"] == "weight"
    assert config["arm"].ffns["mine"]["split"] == "all"
    assert config["arm"].steerings["overwrite"]["clusters"]["first"]["sites"] == BLOCK["sites"]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda p: p["ffn"]["mine"].update(sites=["block_1_hiden"]), ("ffn.mine", "block_1_hidden")),
        (lambda p: p["ffn"]["mine"].update(source="owm"), ("ffn.mine", "did you mean 'own'")),
        (lambda p: p["ffn"]["mine"].update(observations=["x.npz"]), ("ffn.mine", "or observations")),
        (lambda p: p["ffn"]["mine"].pop("source"), ("ffn.mine", "or observations")),
        (lambda p: p["ffn"]["mine"].update(top_k=3), ("ffn.mine", "top_k")),
        (lambda p: p["ffn"]["mine"]["clusters"].update(space="tokens"), ("ffn.mine.clusters.space", "semantic")),
        (lambda p: p["ffn"]["mine"]["clusters"].update(clouds=5), ("clouds",)),
        (lambda p: p["steering"]["overwrite"]["clusters"]["first"].update(ffn="mime"), ("clusters.first", "'mine'")),
        (lambda p: p["steering"]["overwrite"]["clusters"]["first"].update(cluster=3), ("clusters 0 to 2", "not 3")),
        (lambda p: p["captures"]["hidden"].update(sites=["block_1_hidden"]), ("overwrite", "block_2_hidden")),
        (lambda p: p["steering"]["overwrite"]["units"]["one"].update(units=[]), ("units",)),
    ],
)
def test_faults_of_the_config_are_one_line(small, monkeypatch, change, parts):
    with refused("policies.arm", *parts):
        configured(small, monkeypatch, change)


def test_patterns_that_match_nothing_are_refused(small, monkeypatch):
    def change(policy):
        policy["ffn"]["mine"] = {key: value for key, value in BLOCK.items() if key != "source"}
        policy["ffn"]["mine"]["observations"] = ["nothing/*.npz"]

    with refused("ffn.mine.observations", "nothing/*.npz"):
        configured(small, monkeypatch, change)


# The workflow


@pytest.mark.pipeline
def test_steering_a_cluster_asks_for_the_clustering(tmp_path):
    project = Project(tmp_path)
    small_checkpoint(tmp_path / "small", "transformer")
    np.savez(tmp_path / "theirs.npz", **observations(60), episode=np.repeat(np.arange(20), 3))
    project.configure({"policies": {"arm": POLICY}})
    jobs = project.jobs("results/arm/small/steering/overwrite/index.json")
    wanted = ("probe_ffn", "project_ffn", "cluster_ffn", "steer")
    assert [jobs[rule] for rule in wanted] == [1, 1, 1, 1]


def test_top_tokens_are_a_space_too(tmp_path):
    """A policy with a vocabulary, whose units are put into clusters by what their tokens are."""
    policy = Speaking(held=5)
    sites = check_units(policy, SITES)
    found = probe_units(policy, sites, numbered([observations(20)], 20), 0.0)
    write_strengths(tmp_path / "activations.zarr", sites, found, {"minimum": 0.0})
    strengths, attributes = read_strengths(tmp_path / "activations.zarr")
    chosen = chosen_units(policy, strengths, attributes["sites"], Choice(10), {"top_k_tokens": 3})
    write_json(tmp_path / "records.json", chosen.records)
    both = {"weight": chosen.vectors, "semantic": chosen.semantic}
    write_vectors(tmp_path / "vectors.safetensors", both, language=False)
    settings = {"space": "semantic", "count": 2, "clouds": 19, "restarts": 1, "keywords": ["open"]}
    origin = {
        "policy": "arm",
        "checkpoint": "small",
        "ffn": "mine",
        "block": ffn_settings({**BLOCK, "clusters": settings}, 0),
    }
    words = ["--activations", tmp_path / "activations.zarr", "--records", tmp_path / "records.json"]
    run_here("workflow_scripts/cluster_ffn.py", *words, "--origin", origin, "--out", tmp_path / "clusters.json")
    analysis = read_json(tmp_path / "analysis.json")
    assert analysis["tokens"]
    assert analysis["language"] is False
    assert "has learnt no language" in (tmp_path / "summary.txt").read_text()
    assert len(analysis["ranking"]) == 2
    labels = {
        (one["layer_index"], one["neuron_index"]): cluster["cluster_id"]
        for cluster in read_json(tmp_path / "clusters.json")
        for one in cluster["members"]
    }
    own = cluster(points_of(chosen.semantic.numpy(), True), 2, 0, 1).labels
    assert [labels[one["layer_index"], one["neuron_index"]] for one in chosen.records] == own.tolist()
    write_tensors(tmp_path / "vectors.safetensors", {"weight": chosen.vectors[1:]})
    assert language_of(tmp_path) is None  # a file that says nothing of it
    with refused("19 vectors for 20 records"):
        vectors_of(chosen.records, tmp_path, "weight")
