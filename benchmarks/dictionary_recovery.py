"""Do SAEs find the features that data were made of? Ours and, where it is installed, SAELens, on the same arrays.

Activations are sparse features in superposition (policylens/evaluation/synthetic.py): noise, the correlation between
features that are active together, and the SAE's width are varied. Both tools train TopK with k at the true L0, with the
same number of steps, rows per step and learning rate, three seeds each (of data, initialisation and batches). Learnt
directions are matched with the true ones one to one; recall and precision count cosines from 0.9. The unit of the
intervals is the seed.

    envs/run core python benchmarks/dictionary_recovery.py --out build/recovery
    envs/run core python benchmarks/dictionary_recovery.py --saelens "envs/run interop python" --out build/recovery

Writes recovery.json, recovery.csv and recovery.png.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policylens.console import main
from policylens.evaluation.recovery import FOUND, recovery
from policylens.evaluation.synthetic import Superposition
from policylens.progress import progress
from policylens.sae.training import train
from policylens.statistics.intervals import student
from policylens.stores.files import read_tensors, write_json, write_tensors
from policylens.stores.tabular import write_csv
from policylens.visualize import recovery_plots

HELD_OUT = 4096
MEASURES = ("recall", "precision", "mean_cosine")

Trainer = Callable[[Mapping[str, Any]], np.ndarray]
"""Job -> decoder directions (a, d) of the latents that are active in any held-out row."""


def program() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    base = Superposition(arguments.dimensions, arguments.features, arguments.l0)
    conditions = list(itertools.product(arguments.noise, arguments.correlation, arguments.width))
    with trainers(arguments.saelens) as tools, tempfile.TemporaryDirectory() as folder:
        jobs = list(itertools.product(conditions, range(arguments.seeds)))
        rows = [
            row
            for condition, seed in progress(jobs, len(jobs), "recovery", "trainings")
            for row in measured(tools, base, condition, seed, arguments, Path(folder))
        ]
    report = {
        "format": 1,
        "data": {"dimensions": base.width, "features": base.features, "l0": base.l0, "group": base.group},
        "training": {name: getattr(arguments, name) for name in ("rows", "steps", "batch_rows", "learning_rate")},
        "threshold": FOUND,
        "seeds": arguments.seeds,
        "tools": list(tools),
        "conditions": [summary(rows, condition, list(tools)) for condition in conditions],
    }
    if "saelens" not in tools:
        print("SAELens: not asked for (--saelens); its column is absent")
    write_json(arguments.out / "recovery.json", report)
    write_csv(arguments.out / "recovery.csv", rows)
    recovery_plots.recovery(arguments.out / "recovery.png", report)
    for condition in report["conditions"]:
        print(line(condition))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--features", type=int, default=128, help="true features")
    parser.add_argument("--l0", type=int, default=4, help="mean number of active features per row; k of the SAEs")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.3], help="as a share of the signal")
    parser.add_argument("--correlation", type=float, nargs="+", default=[0.0, 0.6], help="within a group of features")
    parser.add_argument("--width", type=float, nargs="+", default=[1.0, 2.0], help="latents per true feature")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch-rows", type=int, default=1024)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--saelens", help="words that start a Python with SAELens; left out: its column is absent")
    parser.add_argument("--out", required=True, type=Path, help="folder to write into")
    return parser.parse_args()


def measured(
    tools: Mapping[str, Trainer],
    base: Superposition,
    condition: tuple[float, float, float],
    seed: int,
    arguments: argparse.Namespace,
    folder: Path,
) -> Iterator[dict[str, Any]]:
    """One row per tool: what it recovers of one data set."""
    noise, correlation, width = condition
    data = replace(base, noise=noise, correlation=correlation)
    activations = torch.from_numpy(data.activations(arguments.rows + HELD_OUT, seed))
    arrays = {"train": activations[HELD_OUT:], "held_out": activations[:HELD_OUT]}
    write_tensors(folder / "data.safetensors", arrays)
    job = {
        "data": str(folder / "data.safetensors"),
        "out": str(folder / "directions.safetensors"),
        "latents": round(width * data.features),
        "k": data.l0,
        "steps": arguments.steps,
        "batch_rows": arguments.batch_rows,
        "learning_rate": arguments.learning_rate,
        "seed": seed,
    }
    for name, tool in tools.items():
        directions = tool(job)
        about = {"noise": noise, "correlation": correlation, "width": width, "seed": seed, "tool": name}
        yield {**about, "alive": len(directions), **recovery(directions, data.directions(seed))}


def ours(job: Mapping[str, Any]) -> np.ndarray:
    """Train a TopK SAE of this project."""
    data = read_tensors(Path(job["data"]))
    names = ("latents", "k", "steps", "batch_rows", "learning_rate")
    settings = {"architecture": "topk", "learning_rate_decay": 0.0, "log_points": 1, **{n: job[n] for n in names}}
    sae, _ = train(data["train"], settings, job["seed"])
    with torch.no_grad():
        alive = sae.active(sae.encode(data["held_out"])).any(0)
    return sae.W_dec[alive].numpy()


@contextmanager
def trainers(saelens: str | None) -> Iterator[dict[str, Trainer]]:
    """The tools by name; SAELens is one process for all its jobs, since it takes seconds to load."""
    if saelens is None:
        yield {"policylens": ours}
        return
    script = Path(__file__).with_name("dictionary_recovery_saelens.py")
    words = [*shlex.split(saelens), str(script)]
    quiet = os.environ | {"TQDM_DISABLE": "1"}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=quiet) as process:

        def theirs(job: Mapping[str, Any]) -> np.ndarray:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            if process.stdout.readline().strip() != job["out"]:
                raise RuntimeError("SAELens' process has ended; its last words stand above")
            return read_tensors(Path(job["out"]))["directions"].numpy()

        yield {"policylens": ours, "saelens": theirs}
        process.stdin.close()


def summary(
    rows: Sequence[Mapping[str, Any]], condition: tuple[float, float, float], tools: Sequence[str]
) -> dict[str, Any]:
    """One condition: per tool and measure the mean over seeds with its interval."""
    names = ("noise", "correlation", "width")
    found: dict[str, Any] = dict(zip(names, condition, strict=True))
    for tool in tools:
        own = [r for r in rows if r["tool"] == tool and tuple(r[name] for name in names) == condition]
        found[tool] = {measure: student(np.array([r[measure] for r in own])).record() for measure in MEASURES}
    return found


def line(condition: Mapping[str, Any]) -> str:
    """A condition for people."""
    words = [f"noise {condition['noise']:g}, correlation {condition['correlation']:g}, width {condition['width']:g}x:"]
    for tool in ("policylens", "saelens"):
        if tool in condition:
            numbers = ", ".join(f"{measure} {condition[tool][measure]['value']:.3f}" for measure in MEASURES)
            words.append(f"{tool} {numbers};")
    return " ".join(words).removesuffix(";")


if __name__ == "__main__":
    main(program)
