"""A small project to run the real workflow on: a copy of the repository's code, a tiny policy, a tiny config."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from running_snakemake import REPOSITORY, command
from support import NETWORK

from policylens.project.plan import parse_jobs

CODE = ("Snakefile", "envs", "policylens", "profiles", "rules", "schemas", "workflow_scripts")

CONFIG = {
    "seed": 1,
    "demo": ["results/tiny/trained/sae/sweep/index.json"],
    "policies": {
        "tiny": {
            "family": "module",
            "checkpoints": {
                "trained": {
                    "path": "weights.pt",
                    "options": {
                        "class": "network.py:Net",
                        "arguments": {"width": 8},
                        "inputs": ["observation"],
                        "head": "discrete",
                        "sites": {"first": 8, "second": 8},
                    },
                }
            },
            "sources": {
                "own": {
                    "import": ["one.npz", "two.npz"],
                    "split": {"train": 0.6, "validation": 0.1, "test": 0.3},
                }
            },
            "captures": {"both": {"source": "own", "sites": ["first", "second"]}},
            "sae": {
                "sweep": {
                    "capture": "both",
                    "sites": ["second"],
                    "settings": {"steps": 20, "batch_rows": 32, "log_points": 4},
                    "members": {
                        "small": {"architecture": "standard", "latents": 16, "sparsity": 0.5},
                        "top": {"architecture": "topk", "latents": 16, "k": 4},
                    },
                }
            },
        }
    },
}


class Project:
    """A folder in which the workflow runs, with the repository's code copied beside its data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in CODE:
            source = REPOSITORY / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)
        (folder / "network.py").write_text(NETWORK)
        write_weights(folder / "weights.pt", seed=0)
        write_observations(folder / "one.npz", 0)
        write_observations(folder / "two.npz", 1)
        self.configure(CONFIG)

    def configure(self, config: object) -> None:
        """Write config.yaml."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the workflow in this folder."""
        environment = os.environ | {"POLICYLENS_ERRORS": ""}
        environment.pop("POLICYLENS_ERRORS")
        result = subprocess.run(
            [*command(), "--cores", "2", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if check:
            assert result.returncode == 0, result.stdout + result.stderr + self.logs()
        return result

    def jobs(self, *targets: str) -> Counter[str]:
        """Rules of the jobs that would run, with their numbers; the headline rule itself left out."""
        result = self.snakemake("--dry-run", "--nocolor", "--", *targets)
        counts = Counter(job.rule for job in parse_jobs(result.stdout + result.stderr))
        counts.pop("demo", None)
        return counts

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in a file of the project; the text must be there."""
        text = (self.folder / path).read_text()
        assert old in text, f"{path} has changed: adapt the test"
        (self.folder / path).write_text(text.replace(old, new, 1))

    def logs(self) -> str:
        """All logs, for a failing test's message."""
        return "\n".join(f"== {path}\n{path.read_text()}" for path in self.folder.rglob("results/logs/**/*.log"))


def write_weights(
    path: Path, seed: int, width: int = 8, change: Callable[[str, torch.Tensor], torch.Tensor] | None = None
) -> None:
    """Weights of the network above; `change` turns each tensor, by name, into what is written."""
    scope: dict[str, object] = {}
    exec(NETWORK, scope)
    torch.manual_seed(seed)
    weights = scope["Net"](width).state_dict()
    torch.save({name: change(name, tensor) if change else tensor for name, tensor in weights.items()}, path)


def write_observations(path: Path, number: int, episodes: int = 12, steps: int = 20) -> None:
    """Episodes of observations as a user's file."""
    generator = np.random.default_rng(number)
    numbers = np.arange(number * episodes, (number + 1) * episodes)
    np.savez(
        path,
        observation=generator.normal(size=(episodes * steps, 6)).astype(np.float32),
        episode=np.repeat(numbers, steps),
        step=np.tile(np.arange(steps), episodes),
    )
