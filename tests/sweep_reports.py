"""Reports of a sweep's members made by hand, with as much of metrics.json as figures and tables of a sweep read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policylens.sae.settings import resolve

D = 8
ABLATED = 2.0
"""KL of the ablations, nats."""


def estimate(value: float) -> dict[str, Any]:
    """An estimate with an interval of a tenth on both sides."""
    return {"value": value, "low": 0.9 * value, "high": 1.1 * value}


def report(
    settings: Mapping[str, Any],
    l0: float = 4.0,
    explained: float = 0.5,
    loss: float = 1.0,
    kl: float | None = 0.1,
    imported: bool = False,
) -> dict[str, Any]:
    """kl: of the reconstruction, in nats; None where no policy was run. imported: not trained here."""
    settings = resolve({"latents": 16, **settings})
    m = settings["latents"]
    return {
        "settings": settings,
        "d_in": D,
        "d_sae": m,
        "training_seed": None if imported else settings["seed"] or 0,
        "split": "test",
        "n_rows": 100,
        "n_episodes": 10,
        "metrics": {
            "explained_variance": estimate(explained),
            "normalised_mse": estimate(1 - explained),
            "l0": estimate(l0),
            "l1": estimate(2 * l0),
            "loss": estimate(loss),
        },
        "dead": {"latents": m // 4, "share": 0.25, "rate_below": 0.26, "level": 0.95, "n_rows": 100, "n_episodes": 10},
        "saebench": {"reconstruction_quality": {"mse": estimate(8 * (1 - explained))}},
        "fidelity": None if kl is None else _fidelity(kl),
    }


def _fidelity(kl: float) -> dict[str, Any]:
    edits = {"identity": 0.0, "reconstruction": kl, "resample": ABLATED, "mean": ABLATED, "zero": ABLATED}
    return {
        "edits": {
            name: {"kl": estimate(value), "agreement": estimate(1 / (1 + value))} for name, value in edits.items()
        },
        "kl_recovered": {name: estimate(1 - kl / ABLATED) for name in ("zero", "mean", "resample")},
    }


def history(steps: Sequence[int] = (0, 10, 20)) -> list[dict[str, float]]:
    """Rows of training.json, with a loss that falls."""
    names = ("reconstruction", "sparsity", "l0", "dead", "dead_for_long")
    return [{"step": step, "loss": 30.0 - step, **dict.fromkeys(names, 0.5)} for step in steps]
