"""scaling.json and scaling.csv: all members of a sweep at one site in one table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from policylens.errors import UserError
from policylens.evaluation.pareto import fronts

METRICS = ("explained_variance", "normalised_mse", "l0", "l1", "loss")
SETTINGS = ("architecture", "latents", "sparsity", "k", "training_seed", "dead_share")
COMPARED = ("neurons", "random_sae", "untrained_sae", "pca", "linear_probe", "observation_probe")
SHARED = ("policy", "checkpoint", "checkpoint_sha256", "site", "capture", "split", "n_rows", "n_episodes")

Report = Mapping[str, Any]


def sweep_summary(
    reports: Mapping[str, Report], returns: Mapping[str, Report] = MappingProxyType({})
) -> dict[str, Any]:
    """The content of scaling.json: what the members share, and per member its settings and main numbers.

    `pareto` names the members that no other beats in both L0 and a quality.

    reports: member name -> its metrics.json. Members must have been evaluated on the same rows. returns: member name
    -> its return.json, of those that have one.
    """
    first_name, first = next(iter(reports.items()))
    for name, report in reports.items():
        for key in SHARED:
            if report[key] != first[key]:
                raise UserError(
                    f"members {first_name!r} and {name!r} cannot stand in one table: {key} is {first[key]!r} "
                    f"and {report[key]!r}; evaluate them on the same rows"
                )
        if _questions(report) != _questions(first):
            raise UserError(
                f"members {first_name!r} and {name!r} cannot stand in one table: their latents are compared with "
                "different labels or on different rows; evaluate them with the same concepts"
            )
    members = {name: {**_member(report), **_returns(returns.get(name))} for name, report in reports.items()}
    return {"format": 1, **{key: first[key] for key in SHARED}, "members": members, "pareto": fronts(reports)}


def _questions(report: Report) -> tuple[Any, ...] | None:
    """What latents are compared with: the same for all members of a table."""
    found = report["alignment"]
    if found is None:
        return None
    return found["label_set"], found["n_rows"], found["phase"], [target["name"] for target in found["targets"]]


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
        "loss_recovered": _interval(fidelity["loss_recovered"]["mean"]) if fidelity else None,
        **_alignment(report["alignment"]),
        **_probing(report["probing"]),
    }


def _alignment(alignment: Mapping[str, Any] | None) -> dict[str, Any]:
    """Means over targets of the SAE's best latents, and their AUC above each other method's.

    `_of_as_many`: only as many latents compete as there are neurons.
    """
    methods = alignment["methods"] if alignment else {}
    own, neurons = methods.get("sae", {}), methods.get("neurons", {}).get("sae_of_as_many", {})
    found = {f"concept_{name}": _interval(own.get(name)) for name in ("auc", "auc_within_phase", "f1")}
    found["concept_auc_of_as_many"] = _interval(neurons.get("auc"))
    found["auc_minus_neurons_of_as_many"] = _interval(neurons.get("minus_this", {}).get("auc"))
    for name in COMPARED:
        found[f"auc_minus_{name}"] = _interval(methods.get(name, {}).get("sae_minus_this", {}).get("auc"))
    return found


def _probing(probing: Mapping[str, Any] | None) -> dict[str, Any]:
    """Mean AUC of k latents together, and how far it is above that of k neurons, per k."""
    found = {}
    for k, methods in (probing["k"] if probing else {}).items():
        found[f"probing_auc_k{k}"] = _interval(methods["sae"]["auc"])
        found[f"probing_auc_k{k}_minus_neurons"] = _interval(methods["neurons"]["sae_minus_this"]["auc"])
    return found


def _returns(report: Report | None) -> dict[str, Any]:
    """Per task what the reconstruction changes of the policy's return, and the share kept of what the mean loses."""
    found = {}
    for task, measures in (report["tasks"] if report else {}).items():
        found[f"return_{task}_minus_original"] = _interval(measures["return"]["difference"]["reconstruction"])
        found[f"return_{task}_recovered"] = _interval(measures["return"]["recovered"]["mean"])
    return found


def _interval(estimate: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if estimate is None else {key: estimate[key] for key in ("value", "low", "high")}


def table_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The summary as flat rows for a CSV: an estimate `x` becomes the columns x, x_low and x_high.

    All rows have the same columns; what a member has not been measured for is empty.
    """
    members = summary["members"]
    keys = list(dict.fromkeys(key for member in members.values() for key in member))
    rows = []
    for name, member in members.items():
        row: dict[str, Any] = {"member": name}
        for key in keys:
            value = member.get(key)
            if key in SETTINGS:
                row[key] = value
            else:
                value = value or {"value": None, "low": None, "high": None}
                row |= {key: value["value"], f"{key}_low": value["low"], f"{key}_high": value["high"]}
        rows.append(row)
    return rows
