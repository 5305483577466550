"""What a recording of demonstrations came to: the content of its index.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from policylens.policies.vla.libero.reading import open_file
from policylens.policies.vla.libero.tasks import task
from policylens.statistics.intervals import wilson
from policylens.stores.files import sha256_of_file
from policylens.stores.provenance import provenance


def index(files: Sequence[Path], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Per task: its file and digest, attempts, demonstrations, the expert's success rate (95% Wilson), and steps.

    settings: what the files were recorded with.
    """
    tasks = {}
    for path in files:
        with open_file(path) as file:
            own, lengths = task(file.instruction), file.lengths()
        attempts = settings["episodes"]
        tasks[own.slug] = {
            "file": path.name,
            "sha256": sha256_of_file(path),
            "instruction": own.instruction,
            "pair": own.pair.name,
            "attempts": attempts,
            "demonstrations": len(lengths),
            "success": asdict(wilson(len(lengths), attempts)),
            "steps": {"total": sum(lengths), "shortest": min(lengths), "longest": max(lengths)},
        }
    return {"format": 1, "tasks": tasks, "provenance": provenance(settings=settings, seed=settings["seed"])}
