"""From the runs of benchmarks/sae_training.py to its table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np
from sae_comparison import Run, common_goal, doubt, rows_per_second, seconds_to
from sae_settings import OURS, Setting

from policylens.statistics.ratios import paired_ratio

BOUND = 3.0
Runs = Mapping[str, Sequence[Run]]
"""Contestant -> its runs, one per round."""
Ceilings = Mapping[str, Mapping[str, float]]


def result(
    setting: Setting, runs: Runs, variants: Mapping[str, str], ceilings: Sequence[Ceilings], in_goal: Collection[str]
) -> dict[str, Any]:
    """Everything that is reported of one setting. ceilings: of each round. in_goal: who minimises the same loss."""
    rates = {name: [rows_per_second(run, setting.batch_rows) for run in runs[name]] for name in runs}
    rounds = [[run["curve"] for run in together] for together in zip(*(runs[name] for name in in_goal), strict=True)]
    goals = [common_goal(curves) for curves in rounds]
    times = {
        name: [seconds_to(run["curve"], *goal) for run, goal in zip(runs[name], goals, strict=True)] for name in in_goal
    }
    return {
        "setting": asdict(setting),
        "variants": dict(variants),
        "activations_per_second": rates,
        "faster": ratios(rates, in_goal),
        "goals": [{"explained_variance": quality, "l0": l0} for quality, l0 in goals],
        "doubt": next((found for curves in rounds if (found := doubt(curves, setting.latents))), ""),
        "seconds_to_goal": times,
        "sooner": ratios(inverse(times), in_goal),
        "end": {name: ends(runs[name]) for name in in_goal},
        "ceilings": ceilings,
        "share_of_ceiling": shares(setting, rates[OURS], ceilings),
        "curves": {name: [run["curve"] for run in runs[name]] for name in runs},
    }


def ratios(rates: Mapping[str, Sequence[float]], judged: Collection[str]) -> list[dict[str, Any]]:
    """Ours / each peer, and ours / the faster one of those that are judged."""
    best = ratio_to_best({name: rates[name] for name in rates if name in judged})
    return [ratio_to(peer, rates) for peer in rates if peer != OURS] + [best]


def inverse(times: Mapping[str, Sequence[float | None]]) -> dict[str, list[float]]:
    """1 / seconds, so that more is better as it is for rates."""
    return {tool: [1 / max(value, 1e-9) for value in values] for tool, values in times.items()}


def ratio_to(peer: str, rates: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Ours / a peer, round by round."""
    return _ratio(peer, rates[OURS], rates[peer])


def ratio_to_best(rates: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Ours / the peer that was faster in each round."""
    best = [max(values) for values in zip(*(rates[peer] for peer in rates if peer != OURS), strict=True)]
    found = _ratio("faster peer", rates[OURS], best)
    return found | {"bound": BOUND, "met": found["value"] >= BOUND}


def _ratio(name: str, above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    every = np.divide(above, below)
    if len(every) < 2:
        return {"than": name, "value": float(every[0]), "low": None, "high": None}
    estimate = paired_ratio(np.asarray(above), np.asarray(below))
    return {"than": name, "value": estimate.value, "low": estimate.low, "high": estimate.high}


def ends(runs: Sequence[Run]) -> dict[str, float]:
    """Medians of the last measurements."""
    return {name: median(run["curve"][-1][name] for run in runs) for name in ("explained_variance", "l0")}


def shares(setting: Setting, rates: Sequence[float], ceilings: Sequence[Ceilings]) -> dict[str, float]:
    """Our rate over what the matrix products alone would allow: the median over rounds."""
    algorithms = ("dense", "sparse") if setting.architecture == "topk" else ("dense",)
    return {
        f"{algorithm}, {dtype}": median(
            rate / ceiling[dtype][algorithm] for rate, ceiling in zip(rates, ceilings, strict=True)
        )
        for algorithm in algorithms
        for dtype in ceilings[0]
    }


def show(found: Mapping[str, Any]) -> None:
    """The result of one setting, on stdout."""
    print(f"\n{Setting(**found['setting']).name}")
    heads = (f"{'activations/s':>14}", f"{'s to goal':>11}", f"{'EV at end':>11}", f"{'L0 at end':>11}")
    print(f"  {'':<32}{'fastest setting':<24}{''.join(heads)}")
    for name, rates in found["activations_per_second"].items():
        figures = f"{median(rates):>14,.0f}{_goal_said(found, name)}"
        print(f"  {name:<32}{found['variants'][name]:<24}{figures}")
    quality, l0 = (median(goal[name] for goal in found["goals"]) for name in ("explained_variance", "l0"))
    print(f"  goal: held-out explained variance {quality:.4f} at L0 <= {l0:.1f} (median of the rounds)")
    if found["doubt"]:
        print(f"  NOT COMPARABLE IN TIME: {found['doubt']} (--effort)")
    for what, name in (("activations per second", "faster"), ("time to the goal", "sooner")):
        for ratio in found[name]:
            print(f"  {what}, ours against {ratio['than']}: {_said(ratio)}")
    print(f"  {_ceiling_said(found)}", flush=True)


def _goal_said(found: Mapping[str, Any], name: str) -> str:
    if name not in found["seconds_to_goal"]:
        return f"{'-':>11}" * 3
    end = found["end"][name]
    return f"{median(found['seconds_to_goal'][name]):>11.2f}{end['explained_variance']:>11.4f}{end['l0']:>11.1f}"


def _ceiling_said(found: Mapping[str, Any]) -> str:
    shares_said = ", ".join(f"{share:.0%} of {name}" for name, share in found["share_of_ceiling"].items())
    rates = (
        f"{dtype} {median(ceiling[dtype]['flops'] for ceiling in found['ceilings']) / 1e9:,.0f} GFLOP/s"
        for dtype in found["ceilings"][0]
    )
    return f"matrix products alone: {', '.join(rates)}; we reach {shares_said}"


def _said(ratio: Mapping[str, Any]) -> str:
    interval = "" if ratio["low"] is None else f" [{ratio['low']:.2f}, {ratio['high']:.2f}]"
    bound = f"   bound {ratio['bound']:g}{'' if ratio['met'] else ' MISSED'}" if "bound" in ratio else ""
    return f"{ratio['value']:.2f}{interval}{bound}"
