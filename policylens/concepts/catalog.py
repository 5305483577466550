"""The catalogue of a policy's contrasts: dataset, manifest, counts, axis, effect and slices, as data and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from policylens.concepts.contrast_study import MANIFEST, MAP, RECORD
from policylens.stores.files import read_json
from policylens.stores.schemas import check_against

HEADINGS = (
    "suite",
    "positive / negative",
    "dataset, frames",
    "manifest, map",
    "windows",
    "frames in windows",
    "axis",
    "effect",
    "move the other way",
    "slices",
)


def catalog(folders: Sequence[Path], policy: str, slices: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """folders: of contrasts, named as they are. slices: contrast -> index files of what is cut by it."""
    return {
        "format": 1,
        "policy": policy,
        "contrasts": [_entry(folder, list(slices.get(folder.name, ()))) for folder in folders],
    }


def _entry(folder: Path, slices: list[str]) -> dict[str, Any]:
    record = read_json(folder / RECORD)
    check_against("contrast", record, folder / RECORD)
    manifest = read_json(folder / MANIFEST)
    axis = record["axis"]
    return {
        "contrast": folder.name,
        "source": record["source"],
        "dataset": record["dataset"],
        "array": record["settings"]["array"],
        "manifest": (folder / MANIFEST).as_posix(),
        "concept_map": (folder / MAP).as_posix(),
        "tasks": record["tasks"],
        "windows": {task: record["windows"][task]["windows"] for task in record["tasks"]},
        "frames": {task: record["windows"][task]["frames"] for task in record["tasks"]},
        "mean_steps": {task: record["windows"][task]["mean_steps"] for task in record["tasks"]},
        "other_way": {task: record["windows"][task]["other_way"] for task in record["tasks"]},
        "axis": axis["index"],
        "rule": axis["rule"],
        "held_out": axis["held_out"],
        "effect_size": manifest["axis"]["effect_size"],
        "effect": axis["effect"],
        "p": axis["null"]["p"],
        "slices": slices,
    }


def as_table(record: Mapping[str, Any]) -> str:
    """The catalogue in Markdown."""
    lines = [
        f"# Contrasts of {record['policy']}",
        "",
        "Windows are parts of demonstrations; effect: difference of mean displacements along the axis over their "
        "pooled deviation, with a 95% bootstrap interval over demonstrations, and p when demonstrations exchange their "
        "concepts; the other way: share of windows that move against their task's mean, with Wilson's 95% interval.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
    ]
    lines += ["| " + " | ".join(_cells(entry)) + " |" for entry in record["contrasts"]]
    return "\n".join(lines) + "\n"


def _cells(entry: Mapping[str, Any]) -> list[str]:
    effect, tasks = entry["effect"], entry["tasks"]
    rule = f"largest {entry['rule']}" if entry["rule"] else "its manifest's"
    interval = "no interval" if effect["low"] is None else f"{effect['low']:.2f} to {effect['high']:.2f}"
    other = [
        f"{100 * one['value']:.0f}% ({100 * one['low']:.0f} to {100 * one['high']:.0f}%)"
        for one in (entry["other_way"][task] for task in tasks)
    ]
    return [
        _plain(entry["contrast"]),
        " / ".join(_plain(task) for task in tasks),
        f"{_plain(entry['dataset']['repo_id'])}, {entry['dataset']['frames']:,}",
        f"`{entry['manifest']}`, `{entry['concept_map']}`",
        " / ".join(str(entry["windows"][task]) for task in tasks),
        " / ".join(f"{entry['frames'][task]:,}" for task in tasks),
        f"{entry['array']}[{entry['axis']}], {rule}{', held out' if entry['held_out'] else ''}",
        f"{entry['effect_size']:.2f} ({interval}; p {entry['p']:.2g})",
        " / ".join(other),
        _slices(entry["slices"]),
    ]


def _slices(paths: Sequence[str]) -> str:
    """Index files as text: slices, and the checkpoints they are of; `.../{checkpoint}/slices/{name}/...`."""
    places = [Path(path).parts[-5:-1] for path in paths]
    names, checkpoints = (dict.fromkeys(place[at] for place in places) for at in (3, 1))
    return f"{', '.join(f'`{name}`' for name in names)} of {', '.join(checkpoints)}" if paths else "none"


def _plain(text: str) -> str:
    """A text as a cell of a table can hold it."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
