"""Steering as rules: what is run again when its block changes."""

import numpy as np
import pytest
from project import Project
from running_snakemake import REPOSITORY

WIDTH = 256


@pytest.mark.pipeline
def test_another_least_gain_plays_no_episode_again(tmp_path):
    """The job of the runs is given the same words, the analysis others."""
    project, played, analysed = Project(tmp_path), [], []
    for least in (0.25, 0.5):
        block = {"capture": "demo", "directions": {"out": {"site": "block_1", "file": "v.npz"}}, "moves": ["zero"]}
        block |= {"goal": {"measure": "return", "least": least}}
        np.savez(project.folder / "v.npz", v=np.ones(WIDTH))
        checkpoints = {"final": {"path": str(REPOSITORY / "data" / "checkpoints" / "othello" / "final")}}
        policy = {"family": "othello", "checkpoints": checkpoints, "steering": {"mine": block}}
        policy["sources"] = {"demo": {"checkpoint": "final", "episodes": 2, "parts": 1, "rollout": {"simulations": 1}}}
        policy["captures"] = {"demo": {"source": "demo", "sites": ["block_1"]}}
        project.configure({"policies": {"othello": policy}, "demo": []})
        shown = project.snakemake("-n", "-p", "--nocolor", "--", "results/othello/final/steering/mine/index.json")
        lines = shown.stdout.splitlines()
        played.append(next(line for line in lines if "/steer.py" in line))
        analysed.append(next(line for line in lines if "analyse_steering.py" in line))
    assert played[0] == played[1]
    assert analysed[0] != analysed[1]
