"""summary.txt: what the directions of a block are, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.directions.expected import PASS
from policylens.directions.gate import words
from policylens.directions.pairwise import STATISTICS


def summary(record: Mapping[str, Any]) -> str:
    """Some lines per pair, the cosines between pairs, and the relations that were expected. record: index.json."""
    sae = f"SAE {record['sae']}" if record["sae"] else "no SAE"
    lines = [
        f"Directions {record['direction']} at {record['site']} of {record['policy']} / {record['checkpoint']}, {sae}"
    ]
    lines += _gate(record["gate"])
    for name, own in record["pairs"].items():
        lines += ["", *_pair(name, own)]
    if record["pairwise"]:
        lines += ["", "between pairs (cosine; 95% interval over episodes; p of |cosine| with concepts rearranged)"]
        lines += [line for entry in record["pairwise"] for line in _between(entry)]
    if record["expected"]:
        lines += ["", "expected relations", *map(_relation, record["expected"])]
    return "\n".join(lines) + "\n"


def _gate(gate: Mapping[str, Any] | None) -> list[str]:
    if gate is None:
        return ["no gate: whether the SAE reconstructs these rows was not asked"]
    where = f"measured on the capture {gate['measured_on']}" + (
        "" if gate["same_capture"] else ", which is not the slices'"
    )
    if gate["passed"]:
        return [f"gate: passed ({where})"]
    return [f"GATED: {words(gate)} ({where}); nothing is concluded from latents"]


def _pair(name: str, own: Mapping[str, Any]) -> list[str]:
    n = own["n"]
    count = ", ".join(f"{'?' if n[key] is None else n[key]} {key}" for key in ("rows", "episodes", "prompts"))
    lines = [f"{name}: {own['positive']!r} less {own['negative']!r} ({count})"]
    lines += [
        f"  norm of {vector}: {norm:.4g}" for vector, norm in own["norms"].items() if not vector.endswith("_mean")
    ]
    lines += [f"  {vector}: {text}" for vector, found in own["reliability"].items() for text in _reliable(found)]
    if own["latents"]:
        best = ", ".join(f"{e['latent']} ({e['difference']:+.3g}{_p(e['adjusted_p'])})" for e in own["latents"][:5])
        lines.append(f"  latents that differ most{' (gated)' if own['gated'] else ''}: {best}")
    if own["imported"]:
        most = own["imported"]["largest_difference"]
        lines.append(f"  imported; latent_direction differs from positive - negative by {most:.2g}")
    return lines + [f"  note: {note}" for note in own["notes"]]


def _p(p: float | None) -> str:
    return "" if p is None else f", adjusted p {p:.3g}"


def _reliable(found: Mapping[str, Any]) -> list[str]:
    norm = found["norm"]
    lines = [f"norm {norm['value']:.4g}" + _chance(norm)]
    if found["split_half"]:
        lines.append(f"split halves agree with cosine {interval(found['split_half'])}")
    if found["held_out"]:
        lines.append(f"held-out episodes: AUC {interval(found['held_out']['auc'])}" + _chance(found["held_out"]))
    if found["across_texts"]:
        own = found["across_texts"]
        lines.append(
            f"held-out instructions ({len(own['left_out'])} pairs): AUC {own['mean_auc']:.3f} (least "
            f"{own['least_auc']:.3f}), cosine {_number(own['mean_cosine'])} (least {_number(own['least_cosine'])})"
        )
    return lines


def interval(estimate: Mapping[str, Any]) -> str:
    """A value and its interval."""
    value, low, high = (_number(estimate[end]) for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}] (n = {estimate['n_clusters']} {estimate['unit']}s)"


def _chance(found: Mapping[str, Any]) -> str:
    if found["p"] is None:
        return ""
    return f"; with concepts rearranged 95% stay below {found['null_q95']:.4g}, p {found['p']:.3g}"


def _between(entry: Mapping[str, Any]) -> list[str]:
    lines = [f"  {entry['a']} and {entry['b']}"]
    for name in STATISTICS:
        own = entry[name]
        if own is None:
            continue
        ends = "" if own["low"] is None else f" [{own['low']:.4f}, {own['high']:.4f}]"
        chance = "" if own["p"] is None else f", p {own['p']:.3g}"
        norms = f"norms {own['norm_a']:.4g}, {own['norm_b']:.4g}"
        lines.append(f"    {name}_cosine {_number(own['cosine'], 4)}{ends}{chance}; {norms}")
    return lines


def _relation(entry: Mapping[str, Any]) -> str:
    ends = "" if entry["low"] is None else f" [{entry['low']:.4f}, {entry['high']:.4f}]"
    verdict = entry["verdict"] if entry["verdict"] == PASS else entry["verdict"].upper()
    return (
        f"  {verdict}: {entry['statistic']} of {' and '.join(entry['pair'])} {entry['relation']} {entry['bound']:g}: "
        f"{_number(entry['value'], 4)}{ends}"
    )


def _number(value: float | None, digits: int = 3) -> str:
    return "?" if value is None else f"{value:.{digits}f}"
