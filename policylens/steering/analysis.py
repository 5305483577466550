"""What steering came to: every candidate on the episodes of choosing, and what was chosen on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policylens.policies.family import DIVERGENCE
from policylens.statistics.correction import benjamini_hochberg
from policylens.statistics.directions import percentile
from policylens.statistics.estimate import Estimate
from policylens.statistics.intervals import cluster_bootstrap, paired_difference, paired_rates, wilson
from policylens.statistics.resampling import Resampling
from policylens.steering.goal import Goal, goal_of
from policylens.steering.study import Found
from policylens.steering.world import mean_of_tasks

FORMAT = 1
SIGNIFICANT = 0.05
DESCRIBED = ("target", "site", "latents", "move", "size", "changed", "outside")

Arrays = Mapping[str, np.ndarray]


def analysis(found: Found, described: Sequence[Mapping[str, Any]], origin: Mapping[str, Any]) -> dict[str, Any]:
    """index.json of a study.

    described: every candidate, as the store's root has it. origin: policy, checkpoint, steering, the block of
    config.yaml, and measures: what each is, with its unit.
    """
    block = origin["block"]
    goal, resampling = goal_of(block["goal"]), Resampling(seed=block["seed"])
    names = [one["name"] for one in described]
    n_choose, n_confirm = (next(iter(part.values())).shape[-1] for part in (found.choosing, found.confirming))
    return {
        "format": FORMAT,
        **{name: origin[name] for name in ("policy", "checkpoint", "steering")},
        "capture": block["capture"],
        "saes": block["saes"],
        "goal": {"measure": goal.measure, "change": goal.change, "keep": dict(goal.keep), "least": goal.least},
        "measures": dict(origin["measures"]),
        "settings": block["settings"],
        "seed": block["seed"],
        "tasks": found.tasks,
        "episodes": {"choose": n_choose, "confirm": n_confirm, "control": _control_episodes(found)},
        "plain": {
            "choose": {name: float(values[0].mean()) for name, values in found.choosing.items()},
            "confirm": _of_run(found.confirming, 0, found.tasks, resampling),
        },
        "candidates": _candidates(found, goal, described),
        "chosen": _chosen(found, goal, [names[place] for place in found.chosen], resampling),
    }


def _control_episodes(found: Found) -> int:
    return next(iter(found.controls.values())).shape[-1] if found.controls else 0


def _candidates(found: Found, goal: Goal, described: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each comes to on the episodes of choosing, means over tasks and episodes."""
    results = mean_of_tasks(found.choosing)
    gains, kept = goal.gains(results)[1:], goal.kept(results)[1:]
    return [
        {
            "name": one["name"],
            **{key: one[key] for key in DESCRIBED},
            **({"units": one["units"]} if "units" in one else {}),
            "gain": float(gains[place]),
            "kept": bool(kept[place]),
            "means": {name: float(values[place + 1].mean()) for name, values in results.items()},
        }
        for place, one in enumerate(described)
    ]


def _chosen(found: Found, goal: Goal, names: Sequence[str], resampling: Resampling) -> list[dict[str, Any]]:
    results = mean_of_tasks(found.confirming)
    entries = [
        {
            "name": name,
            "tasks": _compared(found.confirming, place, found.tasks, resampling),
            "gain": _gain(results[goal.measure], place, goal, resampling).record(),
            "keep": {kept: _keep(results[kept], place, kept, goal, resampling) for kept in goal.keep},
            "controls": _controls(found, goal, place - 1) if found.controls else None,
        }
        for place, name in enumerate(names, start=1)
    ]
    for kind in found.kinds:
        own = [entry["controls"][kind] for entry in entries if kind in entry["controls"]]
        adjusted = benjamini_hochberg(np.array([control["p"] for control in own]))
        for control, p in zip(own, adjusted, strict=True):
            control["adjusted_p"] = float(p)
    for entry in entries:
        entry["verdict"] = _verdict(entry, goal.least)
    return entries


def _verdict(entry: Mapping[str, Any], least: float) -> dict[str, bool | None]:
    """reached: the gain's interval lies above 0, and nowhere below the least gain that counts.

    short: it lies wholly below that, or nowhere above 0, so that there is no gain that counts; neither: undecided.
    kept: those of what was to be kept lie within the tolerance. beyond_controls: the gain is larger than those of every
    kind of control; None without any.
    """
    low, high, controls = entry["gain"]["low"], entry["gain"]["high"], entry["controls"]
    beyond = None if controls is None else all(one["adjusted_p"] <= SIGNIFICANT for one in controls.values())
    return {
        "reached": low is not None and low > 0 and low >= least,
        "short": high is not None and (high <= 0 or high < least),
        "kept": all(one["within"] for one in entry["keep"].values()),
        "beyond_controls": beyond,
    }


def _gain(values: np.ndarray, place: int, goal: Goal, resampling: Resampling) -> Estimate:
    """How far a run is beyond the policy as it is, towards the goal: paired by episode, mean over tasks."""
    pair = (values[place], values[0]) if goal.sign > 0 else (values[0], values[place])
    return difference(*pair, resampling)


def _keep(values: np.ndarray, place: int, name: str, goal: Goal, resampling: Resampling) -> dict[str, Any]:
    tolerance = goal.keep[name]
    if name == DIVERGENCE:
        found = mean(values[place], resampling).record()
    else:
        found = difference(values[place], values[0], resampling).record()
    ends = [found["low"], found["high"]]
    within = None not in ends and max(abs(end) for end in ends) <= tolerance
    return {"difference": found, "tolerance": tolerance, "within": within}


def _controls(found: Found, goal: Goal, place: int) -> dict[str, Any]:
    """The chosen one among controls of every kind that it has, on the same episodes: those of the controls."""
    own = {name: values[:, :, : _control_episodes(found)] for name, values in found.confirming.items()}
    record: dict[str, Any] = {}
    for number, kind in enumerate(found.kinds):
        if np.isnan(found.controls[goal.measure][place, number]).all():
            continue
        runs = {
            name: np.concatenate([own[name][[0, place + 1]], values[place, number]])
            for name, values in found.controls.items()
        }
        results = mean_of_tasks(runs)
        gains, kept = goal.gains(results), goal.kept(results)
        others = gains[2:]
        strong = others >= gains[1] - 1e-12
        record[kind] = {
            "drawn": len(others),
            "gain": float(gains[1]),
            "median": float(np.median(others)),
            "high": float(np.quantile(others, 0.95)),
            "percentile": percentile(float(gains[1]), others),
            "p": float((1 + np.count_nonzero(strong)) / (1 + len(others))),
            "as_strong": int(np.count_nonzero(strong)),
            "as_strong_and_kept": int(np.count_nonzero(strong & kept[2:])),
            "divergence": float(results[DIVERGENCE][2:].mean()),
        }
    return record


def _compared(arrays: Arrays, place: int, tasks: Sequence[str], resampling: Resampling) -> dict[str, Any]:
    return {
        task: {
            name: {
                "steered": mean(values[place, number], resampling).record(),
                "difference": difference(values[place, number], values[0, number], resampling).record(),
            }
            for name, values in arrays.items()
        }
        for number, task in enumerate(tasks)
    }


def _of_run(arrays: Arrays, place: int, tasks: Sequence[str], resampling: Resampling) -> dict[str, Any]:
    return {
        task: {name: mean(values[place, number], resampling).record() for name, values in arrays.items()}
        for number, task in enumerate(tasks)
    }


def mean(values: np.ndarray, resampling: Resampling) -> Estimate:
    """Mean over episodes (n,): Wilson's interval for a rate, the bootstrap for everything else."""
    if np.isin(values, (0, 1)).all():
        return wilson(int(values.sum()), len(values), resampling.level)
    return cluster_bootstrap(values, np.arange(len(values)), resampling)


def difference(first: np.ndarray, second: np.ndarray, resampling: Resampling) -> Estimate:
    """Mean of first - second over paired episodes (n,): Newcombe's interval for rates, else the bootstrap."""
    if np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all():
        return paired_rates(first, second, resampling.level)
    return paired_difference(first, second, np.arange(len(first)), resampling)
