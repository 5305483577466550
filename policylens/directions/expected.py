"""Whether directions lie to each other as the config says that they are expected to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policylens.directions.pairwise import STATISTICS

PASS, FAIL, UNDECIDED, UNKNOWN = "pass", "fail", "undecided", "not known"


def checked(expected: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry per relation: pair, statistic, relation ("below" or "above"), bound, value, low, high and verdict.

    expected: [{"pair": [a, b], "latent_cosine": {"below": 0}}]. found: of `pairwise.statistics`. Where there is an
    interval all of it has to lie on the right side to pass, and on the wrong one to fail.
    """
    by_pair = {frozenset((entry["a"], entry["b"])): entry for entry in found}
    return [
        _entry(one["pair"], name, relation, bound, by_pair[frozenset(one["pair"])])
        for one in expected
        for name, relations in one.items()
        if name != "pair"
        for relation, bound in relations.items()
    ]


def _entry(pair: Sequence[str], name: str, relation: str, bound: float, found: Mapping[str, Any]) -> dict[str, Any]:
    own = found[name.removesuffix("_cosine")] or {"cosine": None, "low": None, "high": None}
    value, low, high = own["cosine"], own["low"], own["high"]
    return {
        "pair": list(pair),
        "statistic": name,
        "relation": relation,
        "bound": bound,
        "value": value,
        "low": low,
        "high": high,
        "verdict": _verdict(relation, bound, value, low, high),
    }


def _verdict(relation: str, bound: float, value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return UNKNOWN
    ends = (value, value) if low is None or high is None else (low, high)
    if relation == "above":
        ends, bound = (-ends[1], -ends[0]), -bound
    if ends[1] < bound:
        return PASS
    return FAIL if ends[0] >= bound else UNDECIDED


KNOWN = tuple(f"{name}_cosine" for name in STATISTICS)
