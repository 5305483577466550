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
        lines += _clusters(record["clusters"][mode])
        if record["phases"]:
            lines += _phases(record["phases"], mode, top)
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


def _clusters(record: Mapping[str, Any] | None) -> list[str]:
    if record is None:
        return ["  clusters: too few latents do anything in every half of the episodes"]
    null = record["silhouette_of_clouds"]
    best = record["silhouettes"][str(record["count"])]
    lines = [
        f"  clusters by causal profile: {record['count']} ({record['n_latents']} latents); silhouette {best:.2f}, of "
        f"single clouds of the same covariance {null['median']:.2f} (95%: {null['high']:.2f}; p = {null['p']:.2g})",
    ]
    if record["stability"]:
        found = record["stability"]
        lines.append(
            f"    adjusted Rand index between halves of the episodes {found['halves']['mean']:.2f} (lowest "
            f"{found['halves']['lowest']:.2f}), between seeds {found['seeds']['mean']:.2f}; of such clouds "
            f"{found['clouds']['mean']:.2f}, permuted at most {found['permuted_high']:.2f} (95%)"
        )
        lines.append(f"    {_verdict(record)}")
    for number, cluster in enumerate(record["clusters"]):
        most = ", ".join(f"{e['outcome']}[{e['unit']}] {e['mean']:+.3g}" for e in cluster["strongest"][:3])
        latents = ", ".join(map(str, cluster["latents"][:8])) + (" ..." if len(cluster["latents"]) > 8 else "")
        lines.append(f"    {number}: {len(cluster['latents'])} latents ({latents}): more of them: {most}")
    return lines


def _verdict(record: Mapping[str, Any]) -> str:
    stable = "stable: other episodes give the same clusters" if record["stable"] else "NOT stable across episodes"
    if record["stable"] and record["stability"]["halves"]["mean"] <= record["stability"]["clouds"]["high"]:
        stable += ", as cuts through a single cloud would be"
    apart = "separated" if record["separated"] else "no better separated than a cloud without clusters is"
    return f"{stable} (threshold .65); {apart}"


def _phases(record: Mapping[str, Any], mode: str, top: int) -> list[str]:
    names = record["names"]
    lines = [f"  phases: {', '.join(f'{n} ({rows} rows)' for n, rows in zip(names, record['rows'], strict=True))}"]
    for outcome, found in record["modes"][mode].items():
        where = ", ".join(
            f"{count} in {name} (share of the median latent there: {usual:.0%})"
            for name, count, usual in zip(names, found["by_phase"], found["typical"], strict=True)
        )
        lines.append(
            f"    {outcome}: effects of {found['significant']} of {found['tested']} latents lie in one phase more than "
            f"shifted phases give (adjusted p <= .05): {where}"
        )
        for phase, name in enumerate(names):
            own = [entry for entry in found["latents"] if entry["phase"] == phase][:top]
            if own:
                shares = ", ".join(f"{e['latent']} ({e['share']:.0%}, expected {e['expected']:.0%})" for e in own)
                lines.append(f"      {name}: {shares}")
    return lines
