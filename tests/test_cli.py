"""The command line: `policylens paths`, `verify` and `promote` as people run them."""

import json
import shutil

import pytest
import torch
import yaml
from support import clear_line, policylens, tree

from policylens.policies.checkpoint import read_checkpoint, write_checkpoint
from policylens.project.config import load_config
from policylens.project.paths import PATHS, all_paths


@pytest.fixture
def project(small):
    """The small policy with a config.yaml beside it."""
    small.config = small.folder / "config.yaml"
    blocks = {
        "family": "module",
        "checkpoints": {"trained": {"path": str(small.weights), "options": small.options}},
        "sources": {"own": {"import": [str(path) for path in small.observations]}},
        "captures": {"both": {"source": "own", "sites": ["first", "second"]}},
    }
    small.config.write_text(yaml.safe_dump({"policies": {"small": blocks}}))
    return small


def test_paths_lists_what_the_config_can_build(project):
    result = policylens("paths", cwd=project.folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [path for _, path in all_paths(load_config(project.config))]
    some = policylens("paths", "--config", project.config, "activations")
    assert set(some.stdout.splitlines()) == {line for line in result.stdout.splitlines() if "activations" in line}
    kinds = policylens("paths", "--kinds")
    assert all(entry.template in kinds.stdout.splitlines() for entry in PATHS.values())


def test_paths_names_a_fault_of_the_config(project):
    project.config.write_text(project.config.read_text().replace("captures:", "captrues:"))
    line = clear_line(policylens("paths", cwd=project.folder))
    assert line == "config.yaml: policies.small: unknown key 'captrues'; did you mean 'captures'?"
    line = clear_line(policylens("paths", "--config", "gone.yaml", cwd=project.folder))
    assert line == "gone.yaml: there is no such config file"


def test_verify_is_silent_about_sound_trees_and_names_damage(project):
    """Once for each kind of ending; tests/test_stores.py has the kinds of damage."""
    result = policylens("verify", cwd=project.folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "results: 5 stores and files are sound\n"
    (project.source / "part-0001.zarr" / "zarr.json").unlink()
    result = policylens("verify", cwd=project.folder)
    named = result.stdout.splitlines()
    assert named[0].startswith("results/small/sources/own/part-0001.zarr: unfinished")
    assert named[1] == "results/small/sources/own/index.json: names the part part-0001, which is not there"
    assert clear_line(result).startswith("results: 2 of 5 stores and files are damaged or unfinished")
    assert clear_line(policylens("verify", "gone", cwd=project.folder)) == "gone: there is no such file or folder"
    (project.folder / "empty").mkdir()
    assert clear_line(policylens("verify", "empty", cwd=project.folder)).startswith("empty: there are no stores")


@pytest.fixture
def training(tmp_path):
    """A training's folder with two snapshots."""
    folder = tmp_path / "training"
    for name, value in (("0000", 0.0), ("final", 1.0)):
        write_checkpoint(folder / name, family="module", architecture={}, tensors={"w": torch.full((3,), value)})
    (folder / "training_log.csv").write_text("iteration,loss\n0,1.5\n")
    return folder


def promote(training, *arguments):
    return policylens("promote", training, "--policy", "mine", "--out", training.parent / "kept", *arguments)


def renamed_log(files):
    """The log of a training goes into the kept folder under the training's name."""
    return {name.replace("training_log.csv", "training_log_training.csv"): content for name, content in files.items()}


def test_promote_copies_snapshots_and_the_log(training):
    result = promote(training)
    kept = training.parent / "kept" / "mine"
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [str(kept / "0000"), str(kept / "final")]
    assert tree(kept) == renamed_log(tree(training))
    assert read_checkpoint(kept / "final", verify=True)[1]["w"].tolist() == [1.0] * 3


def test_promote_overwrites_only_when_told(training):
    kept = training.parent / "kept" / "mine"
    assert promote(training, "--snapshots", "final").returncode == 0
    assert sorted(path.name for path in kept.iterdir()) == ["final", "training_log_training.csv"]
    before = tree(kept)
    shutil.rmtree(training / "final")
    write_checkpoint(training / "final", family="module", architecture={}, tensors={"w": torch.zeros(3)})
    assert "final: is already there; give --replace" in clear_line(promote(training))
    assert tree(kept) == before, "nothing is copied if anything is refused"
    assert promote(training, "--replace").returncode == 0
    assert tree(kept) == renamed_log(tree(training))


def test_promote_gives_one_snapshot_a_name(training):
    assert promote(training, "--snapshots", "0000", "--name", "best").returncode == 0
    kept = training.parent / "kept" / "mine"
    assert read_checkpoint(kept / "best", verify=True)[1]["w"].tolist() == [0.0] * 3
    assert "one name is for one snapshot" in clear_line(promote(training, "--name", "best"))
    assert "'../x' cannot be part of a path" in clear_line(promote(training, "--name", "../x"))


def test_promote_refuses_what_it_cannot_trust(training):
    assert "no snapshot 'best'; it has: 0000, final" in clear_line(promote(training, "--snapshots", "best"))
    assert "'../../x' cannot be part of a path" in clear_line(policylens("promote", training, "--policy", "../../x"))
    assert "has no snapshots" in clear_line(promote(training / "final"))
    record = json.loads((training / "final" / "policy.json").read_text())
    record["weights"]["sha256"] = "0" * 64
    (training / "final" / "policy.json").write_text(json.dumps(record))
    assert "its sha256 is not the one in policy.json" in clear_line(promote(training))
    assert not (training.parent / "kept").exists()


def test_help_is_quick_and_complete():
    result = policylens("--help")
    assert result.returncode == 0
    for command in ("paths", "plan", "verify", "promote", "play"):
        assert command in result.stdout
