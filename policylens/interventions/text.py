"""summary.txt: what an analysis says, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def summary(record: Mapping[str, Any], top: int = 5) -> str:
    """Some lines per mode and outcome. record: analysis.json."""
    lines = [
        f"Interventions at {record['site']} of {record['policy']} / {record['checkpoint']}, SAE {record['sae']}",
        f"{record['n_rows']} rows of {record['n_episodes']} episodes; {record['n_measured']} of {record['n_latents']} "
        f"latents measured, L0 {record['l0']:.2f}",
    ]
    for mode, outcomes in record["modes"].items():
        lines += ["", f"{mode}"]
        for outcome, found in outcomes.items():
            lines += _outcome(outcome, found, top)
    return "\n".join(lines) + "\n"


def _outcome(outcome: str, found: Mapping[str, Any], top: int) -> list[str]:
    best = ", ".join(f"{entry['latent']} ({entry['norm']:.4g})" for entry in found["ranking"][:top])
    lines = [f"  {outcome}: strongest by norm of the mean effect: {best}"]
    if found["density_correlation"] is not None:
        lines.append(f"    rank correlation of that norm with density: {found['density_correlation']:.2f}")
    if found["first_order"] and found["first_order"]["norms"] is not None:
        lines.append(f"    rank correlation with first-order estimates: {found['first_order']['norms']:.3f} (norms)")
    if found["controls"]:
        lines += [_controls(kind, found["controls"]) for kind in ("isotropic", "covariance")]
    return lines


def _controls(kind: str, record: Mapping[str, Any]) -> str:
    own = record[f"{kind}_norm"]
    share = f"{own['significant']} of {len(record['latents'])}"
    return f"    stronger than {own['directions']} {kind} directions (adjusted p <= .05): {share} controlled latents"
