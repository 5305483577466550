"""scaling.json and scaling.csv: all members of a sweep at one site in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError

METRICS = ("explained_variance", "normalised_mse", "l0", "l1", "loss")
SHARED = ("policy", "checkpoint", "checkpoint_sha256", "site", "capture", "split", "n_rows", "n_episodes")

Report = Mapping[str, Any]


def sweep_summary(reports: Mapping[str, Report]) -> dict[str, Any]:
    """The content of scaling.json: what the members share, and per member its settings and main numbers.

    reports: member name -> its metrics.json. Members must have been evaluated on the same rows.
    """
    first_name, first = next(iter(reports.items()))
    for name, report in reports.items():
        for key in SHARED:
            if report[key] != first[key]:
                raise UserError(
                    f"members {first_name!r} and {name!r} cannot stand in one table: {key} is {first[key]!r} "
                    f"and {report[key]!r}; evaluate them on the same rows"
                )
    members = {name: _member(report) for name, report in reports.items()}
    return {"format": 1, **{key: first[key] for key in SHARED}, "members": members}


def _member(report: Report) -> dict[str, Any]:
    settings = report["settings"]
    fidelity = report["fidelity"]
    return {
        "architecture": settings["architecture"],
        "latents": report["d_sae"],
        "sparsity": settings.get("sparsity"),
        "k": settings.get("k"),
        "training_seed": report["training_seed"],
        **{name: _interval(report["metrics"][name]) for name in METRICS},
        "dead_share": report["dead"]["share"],
        "kl": _interval(fidelity["edits"]["reconstruction"]["kl"]) if fidelity else None,
        "agreement": _interval(fidelity["edits"]["reconstruction"]["agreement"]) if fidelity else None,
        "kl_recovered": _interval(fidelity["kl_recovered"]["mean"]) if fidelity else None,
    }


def _interval(estimate: Mapping[str, Any]) -> dict[str, Any]:
    return {key: estimate[key] for key in ("value", "low", "high")}


def table_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The summary as flat rows for a CSV: an estimate `x` becomes the columns x, x_low and x_high."""
    rows = []
    for name, member in summary["members"].items():
        row: dict[str, Any] = {"member": name}
        for key, value in member.items():
            if key in (*METRICS, "kl", "agreement", "kl_recovered"):
                value = value or {"value": None, "low": None, "high": None}
                row |= {key: value["value"], f"{key}_low": value["low"], f"{key}_high": value["high"]}
            else:
                row[key] = value
        rows.append(row)
    return rows
