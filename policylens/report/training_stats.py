"""training_stats.json: the trainings of a sweep at all its sites in one table, as a page shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policylens.errors import UserError

FORMAT = 1
STATISTICS = {
    "explained_variance": {
        "name": "explained variance",
        "unit": "share",
        "meaning": "1 - sum ||x - x_hat||^2 / sum ||x - mean||^2, the mean over the evaluated rows",
    },
    "normalised_mse": {"name": "normalised MSE", "unit": "share", "meaning": "sum ||x - x_hat||^2 / sum ||x||^2"},
    "mse": {
        "name": "squared error",
        "unit": "activation units squared, per row",
        "meaning": "||x - x_hat||^2, summed over dimensions",
    },
    "l0": {"name": "mean active (L0)", "unit": "latents per row", "meaning": "active latents per row"},
    "active_share": {"name": "active share", "unit": "share of latents", "meaning": "L0 / m"},
    "l1": {
        "name": "sparsity (L1)",
        "unit": "normalised units, per row",
        "meaning": "sum_i |f_i| ||W_dec,i||, in units of the normalised data",
    },
    "dead": {"name": "dead", "unit": "share of latents", "meaning": "latents never active in the evaluated rows"},
    "loss": {
        "name": "loss",
        "unit": "per row, each architecture has its own",
        "meaning": "main part of the training loss on the evaluated rows",
    },
}
"""Key of an entry -> what it is. All are measured on the held-out split."""

AT_THE_END = ("step", "loss", "reconstruction", "sparsity", "l0", "dead", "dead_for_long")
"""Of the last row of a training's history: on fixed training rows, in units of the normalised data."""
METRICS = ("explained_variance", "normalised_mse", "l0", "l1", "loss")
SETTINGS = ("sparsity", "k", "learning_rate", "steps", "batch_rows")
IMPORTED = ("k",)
"""Of the settings those that are known of an SAE that was not trained here."""

Report = Mapping[str, Any]
History = Sequence[Mapping[str, float]]


def training_stats(
    found: Mapping[tuple[str, str], tuple[Report, History]], policy: str, checkpoint: str, sweep: str
) -> dict[str, Any]:
    """The content of training_stats.json.

    found: (site, member) -> its metrics.json and the rows of its training.json (none for an imported SAE). policy,
    checkpoint, sweep: names of their blocks. UserError where members are evaluated on different splits.
    """
    splits = {report["split"]: where for where, (report, _) in found.items()}
    if len(splits) > 1:
        (one, first), (other, second) = sorted(splits.items())[:2]
        raise UserError(
            f"{'/'.join(first)} is evaluated on the split {one!r} and {'/'.join(second)} on {other!r}; "
            "evaluate all members on the same split"
        )
    return {
        "format": FORMAT,
        "policy": policy,
        "checkpoint": checkpoint,
        "sweep": sweep,
        "split": next(iter(splits)),
        "statistics": STATISTICS,
        "sites": list(dict.fromkeys(site for site, _ in found)),
        "members": list(dict.fromkeys(member for _, member in found)),
        "entries": [_entry(site, member, *pair) for (site, member), pair in found.items()],
    }


def _entry(site: str, member: str, report: Report, history: History) -> dict[str, Any]:
    settings, metrics = report["settings"], report["metrics"]
    known = SETTINGS if report["training_seed"] is not None else IMPORTED
    l0 = _interval(metrics["l0"])
    return {
        "site": site,
        "member": member,
        "architecture": settings["architecture"],
        "latents": report["d_sae"],
        "d_in": report["d_in"],
        "training_seed": report["training_seed"],
        **{key: settings.get(key) if key in known else None for key in SETTINGS},
        "n_rows": report["n_rows"],
        "n_episodes": report["n_episodes"],
        **{key: _interval(metrics[key]) for key in METRICS},
        "mse": _interval(report["saebench"]["reconstruction_quality"]["mse"]),
        "active_share": {part: None if x is None else x / report["d_sae"] for part, x in l0.items()},
        "dead": {key: report["dead"][key] for key in ("latents", "share", "rate_below", "level")},
        "training": {key: history[-1].get(key) for key in AT_THE_END} if history else None,
    }


def _interval(estimate: Mapping[str, Any]) -> dict[str, Any]:
    return {key: estimate[key] for key in ("value", "low", "high")}
