"""One training of one tool, in a process of its own: reads a job from a JSON file and writes what it found to another.

    envs/run ENVIRONMENT python benchmarks/sae_run.py JOB.json

Job: tool, variants (names, one after the other), setting, seed, threads, folder (of train.npy and held_out.npy), out.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from sae_data import load
from sae_evaluator import Watch, check_form
from sae_settings import Setting

CHECKED_ROWS = 256


def program() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    rows, held_out = (load(Path(job["folder"]), name) for name in ("train", "held_out"))
    setting = Setting(**job["setting"])
    module = importlib.import_module(f"sae_{job['tool']}")
    found = {variant: one(module, rows, held_out, setting, variant, job["seed"]) for variant in job["variants"]}
    Path(job["out"]).write_text(json.dumps(found), encoding="utf-8")


def one(module, rows, held_out, setting: Setting, variant: str, seed: int) -> Mapping[str, object]:
    """Train once: seconds after each step, and the held-out measurements."""
    watch = Watch(setting, held_out)
    trained = module.train(rows, setting, variant, seed, watch)
    check_form(trained, held_out[:CHECKED_ROWS], setting.k if setting.architecture == "topk" else None)
    return {"seconds": watch.seconds, "curve": watch.curve, "warm_steps": setting.warm_steps}


if __name__ == "__main__":
    program()
