"""Which environment a job runs in: the simulator's where something is simulated, `core` everywhere else."""

import copy
import re

import numpy as np
import pytest
from franka_small import observations, small_checkpoint
from project import Project

POLICY = {
    "family": "franka",
    "checkpoints": {"small": {"path": "small"}},
    "training": {"short": {"settings": {"iterations": 1}}},
    "strength": {"quick": {"settings": {"episodes": 2}}},
    "sources": {
        "played": {"checkpoint": "small", "episodes": 20, "parts": 1, "rollout": {}},
        "brought": {"import": ["theirs.npz"]},
    },
    "labels": {"drawer": {"sources": ["played"], "names": ["phase"]}},
    "captures": {name: {"source": name, "sites": ["actor_mlp_1"]} for name in ("played", "brought")},
    "sae": {
        "sweep": {
            "capture": "played",
            "sites": ["actor_mlp_1"],
            "members": {"top": {"architecture": "topk", "latents": 16, "k": 2}},
            "evaluation": {"closed_loop": {"episodes": 20, "settings": {"horizon": 10}}},
        }
    },
    "steering": {
        "weaker": {
            "capture": "played",
            "saes": {"actor_mlp_1": "sweep/top"},
            "directions": {
                "later": {
                    "site": "actor_mlp_1",
                    "labels": "drawer",
                    "label": "phase",
                    "positive": [1, 2],
                    "negative": [0],
                }
            },
            "moves": ["zero"],
            "goal": {"measure": "return"},
        }
    },
}
SIMULATED = {"record_source", "train_policy", "measure_strength", "measure_return", "steer"}
SHELL = re.compile(r"envs/run (\w+) python \S*workflow_scripts/(\w+)\.py")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("project"))
    small_checkpoint(project.folder / "small", "mlp")
    np.savez(project.folder / "theirs.npz", **observations(40), episode=np.repeat(np.arange(20), 2))
    project.configure({"policies": {"arm": POLICY}})
    return project


def environments(project, *targets):
    """Script -> environments that jobs run it in."""
    result = project.snakemake("--dry-run", "--printshellcmds", "--nocolor", "--", *targets)
    found = {}
    for environment, script in SHELL.findall(result.stdout + result.stderr):
        found.setdefault(script, set()).add(environment)
    return found


def test_what_simulates_runs_where_the_simulator_is(project):
    found = environments(
        project,
        "results/arm/small/sae/sweep/index.json",
        "results/arm/small/strength/quick/strength.json",
        "results/arm/sources/played/labels/drawer/index.json",
        "results/training/arm/short/training_log.csv",
        "results/arm/small/steering/weaker/index.json",
    )
    assert found.keys() >= SIMULATED | {"import_checkpoint", "capture", "label_source", "train_sweep", "evaluate_sae"}
    assert "analyse_steering" in found
    assert {script for script, names in found.items() if "franka" in names} == SIMULATED
    assert all(len(names) == 1 for names in found.values())


def test_what_is_imported_needs_no_simulator(project):
    found = environments(project, "results/arm/small/activations/brought/index.json")
    assert {"record_source", "import_checkpoint", "capture"} <= found.keys()
    assert set().union(*found.values()) == {"core"}


def test_settings_of_the_simulator_are_checked_before_anything_is_built(project):
    config = copy.deepcopy(POLICY)
    config["sources"]["played"]["rollout"] = {"horizont": 5}
    project.configure({"policies": {"arm": config}})
    result = project.snakemake("--dry-run", check=False)
    project.configure({"policies": {"arm": POLICY}})
    assert "policies.arm.sources.played: rollout: unknown key 'horizont'; did you mean 'horizon'?" in result.stderr
