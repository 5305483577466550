"""summary.txt: what the correlations of a site say, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.correlations.measure import MEASURES


def summary(record: Mapping[str, Any], top: int = 8) -> str:
    """Some lines per measure. record: analysis.json."""
    lines = [
        f"Correlations at {record['site']} of {record['policy']} / {record['checkpoint']}, SAE {record['sae']}",
        f"{record['n_rows']} rows of {record['n_episodes']} episodes (split {record['split']}); "
        f"{len(record['inputs'])} inputs, {record['n_active']} of {record['n_latents']} latents ever active, "
        f"{record['n_units']} units",
    ]
    if record["null"]:
        lengths = record["null"]["rows_per_episode"]
        lines.append(
            f"null: {record['null']['shifts']} circular shifts within episodes of {lengths['least']} to "
            f"{lengths['most']} rows (median {lengths['median']:g})"
        )
    for measure in MEASURES:
        lines += ["", measure, *_significant(record["significant"][measure]), *_strongest(record, measure, top)]
    return "\n".join([*lines, "", *_held_out(record)]) + "\n"


def _significant(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    parts = [f"by {side} {own['inputs']} of {own['tested']}" for side, own in found.items()]
    return [f"  inputs followed beyond chance (adjusted p <= .05): {', '.join(parts)}"]


def _strongest(record: Mapping[str, Any], measure: str, top: int) -> list[str]:
    entries = sorted(record["inputs"], key=lambda own: -own[measure]["max"])[:top]
    lines = ["  inputs with the largest |r| of any latent:"]
    for own in entries:
        best, unit = own[measure]["best"][0], own[measure]["unit"]
        null = own[measure]["null"]
        chance = f"; 95% of shifts stay below {null['q95']:.3f}" if null else ""
        lines.append(
            f"    {own['name']}: latent {best['latent']} {best['r']:+.3f} (active in {best['density']:.1%}), "
            f"unit {unit['unit']} {unit['r']:+.3f}{chance}"
        )
    for kind in ("max", "mean"):
        best = ", ".join(f"{e['latent']} ({e[kind]:.3f})" for e in record["rankings"][measure][kind][:top])
        lines.append(f"  latents by {kind} |r| over inputs: {best}")
    return lines


NAMES = {
    "latents": "best of all latents",
    "units": "best of all units",
    "latents_of_as_many": "best of as many latents as units",
    "units_of_as_many": "best of as many units as latents",
    "latents_minus_units": "latents minus units",
    "latents_of_as_many_minus_units": "as many latents minus units",
    "latents_minus_units_of_as_many": "latents minus as many units",
}


def _held_out(record: Mapping[str, Any]) -> list[str]:
    found = record["held_out"]
    if found is None:
        return [f"not scored on held-out episodes: {record['no_held_out']}"]
    counts = ", ".join(f"{count} {side}" for side, count in found["candidates"].items())
    lines = [
        f"held out: chosen on validation among {counts}, scored on test; mean Pearson r over "
        f"{len(found['inputs'])} inputs"
    ]
    for name, words in NAMES.items():
        own = found["means"].get(name)
        if own is not None:
            lines.append(f"  {words}: {own['value']:.3f} [{own['low']:.3f}, {own['high']:.3f}]")
    return lines
