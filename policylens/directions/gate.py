"""Whether an SAE reconstructs this data well enough for its latents to be read: below that nothing is concluded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLAIN = {"explained_variance": "explained variance", "l0": "L0", "kl": "KL of the spliced reconstruction"}


def gate(wanted: Mapping[str, Any], metrics: Mapping[str, Any], capture: str | None) -> dict[str, Any]:
    """{"passed": bool, "measured_on": capture, "checks": [...], "same_capture": bool}.

    wanted: {"explained_variance": least, "l0": [least, most], "kl": most}; a threshold is met by the worse end of the
    95% interval. metrics: an SAE's metrics.json. capture: whose rows the latents are of. A quantity that was not
    measured, as KL of imported activations, is not passed.
    """
    checks = []
    if "explained_variance" in wanted:
        checks.append(
            _check("explained_variance", metrics["metrics"]["explained_variance"], wanted["explained_variance"], None)
        )
    if "l0" in wanted:
        checks.append(_check("l0", metrics["metrics"]["l0"], *wanted["l0"]))
    if "kl" in wanted:
        fidelity = metrics.get("fidelity") or {}
        spliced = ((fidelity.get("edits") or {}).get("reconstruction") or {}).get("kl")
        checks.append(_check("kl", spliced, None, wanted["kl"]))
    return {
        "passed": all(check["passed"] for check in checks),
        "measured_on": metrics["capture"],
        "same_capture": capture is not None and metrics["capture"] == capture,
        "checks": checks,
    }


def _check(name: str, found: Mapping[str, Any] | None, least: float | None, most: float | None) -> dict[str, Any]:
    value, low, high = (None if found is None else found[end] for end in ("value", "low", "high"))
    enough = found is not None and value is not None
    if enough and least is not None:
        enough = (value if low is None else low) >= least
    if enough and most is not None:
        enough = (value if high is None else high) <= most
    own = {"quantity": name, "value": value, "low": low, "high": high, "least": least, "most": most}
    return own | {"passed": bool(enough)}


def words(found: Mapping[str, Any]) -> str:
    """What failed, for people: "explained variance 0.21 [0.18, 0.25], at least 0.5 needed"."""
    return "; ".join(_shortfall(check) for check in found["checks"] if not check["passed"])


def _shortfall(check: Mapping[str, Any]) -> str:
    ends = "" if check["low"] is None else f" [{check['low']:.3g}, {check['high']:.3g}]"
    value = "was not measured" if check["value"] is None else f"{check['value']:.3g}{ends}"
    bounds = [
        f"{word} {check[end]:g}" for end, word in (("least", "at least"), ("most", "at most")) if check[end] is not None
    ]
    return f"{PLAIN[check['quantity']]} {value}, {' and '.join(bounds)} needed"
