"""summary.txt: what a steering study says, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.policies.family import DIVERGENCE
from policylens.steering.controls import called

TOP = 5


def summary(record: Mapping[str, Any]) -> str:
    """record: index.json."""
    goal, episodes = record["goal"], record["episodes"]
    keep = "; ".join(f"{name} within {tolerance:g}" for name, tolerance in goal["keep"].items())
    lines = [
        f"Steering {record['steering']} of {record['policy']} / {record['checkpoint']}",
        f"goal: {goal['measure']} {goal['change']}" + (f", {keep}" if keep else ""),
        _least(goal, record["measures"]),
        f"{len(record['candidates'])} candidates on {episodes['choose']} episodes; confirmed on {episodes['confirm']} "
        f"others; controls on {episodes['control']} of those",
        "",
        "policy as it is: " + _means({name: entry["value"] for name, entry in _first_task(record["plain"]["confirm"])}),
        "",
        "largest gains when choosing (kept: the rest stayed within its tolerance)",
    ]
    for one in sorted(record["candidates"], key=_rank)[:TOP]:
        lines.append(
            f"  {one['name']}: gain {one['gain']:.3g}{'' if one['kept'] else ', not kept'}; {_means(one['means'])}"
        )
    if not record["chosen"]:
        return "\n".join([*lines, "", "no candidate gained anything and kept the rest: nothing to confirm"]) + "\n"
    lines += ["", "on other episodes"]
    for entry in record["chosen"]:
        lines += _chosen(entry, goal)
    return "\n".join(lines) + "\n"


def _rank(candidate: Mapping[str, Any]) -> tuple[float, float]:
    """As candidates are chosen: by gain, then by how little they disturb."""
    return -candidate["gain"], candidate["means"][DIVERGENCE]


def _least(goal: Mapping[str, Any], measures: Mapping[str, str]) -> str:
    """What "reached" takes."""
    if goal["least"] == 0:
        return "reached: any gain whose interval lies above 0, however small; goal.least says what counts"
    return f"reached: a gain of at least {goal['least']:g}; {goal['measure']}: {measures.get(goal['measure'], '?')}"


def _reached(verdict: Mapping[str, Any], least: float) -> str:
    bar = f"at least {least:g}" if least else "above 0"
    if verdict["reached"]:
        return f"reached: {bar}"
    if verdict["short"]:
        return f"not reached: below {least:g}" if least else "not reached: no gain"
    return f"undecided: the interval does not tell whether it is {bar}"


def _chosen(entry: Mapping[str, Any], goal: Mapping[str, Any]) -> list[str]:
    lines = [f"  {entry['name']}: gain {_interval(entry['gain'])} ({_reached(entry['verdict'], goal['least'])})"]
    for name, one in entry["keep"].items():
        state = "kept" if one["within"] else "not shown to be kept"
        lines.append(f"    {name}: {_interval(one['difference'])}, tolerance {one['tolerance']:g}: {state}")
    if not entry["controls"]:
        lines.append("    without controls beside it: what any push of this size does is not known")
    for kind, own in (entry["controls"] or {}).items():
        lines.append(
            f"    {own['as_strong']} of {own['drawn']} {called(kind)} gain as much "
            f"({own['as_strong_and_kept']} of them keep the rest); adjusted p {own['adjusted_p']:.3g}"
        )
    return lines


def _first_task(tasks: Mapping[str, Any]) -> Any:
    return next(iter(tasks.values())).items()


def _means(means: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in means.items())


def _interval(record: Mapping[str, Any]) -> str:
    low, high = (("?" if record[end] is None else f"{record[end]:.3g}") for end in ("low", "high"))
    return f"{record['value']:.3g} [{low}, {high}]"
