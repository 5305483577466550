"""Timing several ways of doing something side by side, so that a busy machine is unfair to none of them."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from neighbours import undisturbed

from policylens.progress import progress
from policylens.stores.files import write_json

Way = Callable[[], float]
"""Does something and returns how many seconds it took."""


@dataclass(frozen=True)
class Ratio:
    """A ratio measured once per round: its median, and the smallest and largest seen."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def interleaved(ways: Mapping[str, Way], rounds: int, what: str, patience: float = 0.0) -> dict[str, list[float]]:
    """Seconds of every way in every round. Each round runs all ways, beginning with another one each time.

    patience: seconds for which what other processes disturb is measured again.
    """
    deadline = time.monotonic() + patience
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in progress(range(rounds), rounds, what, "rounds"):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            seconds[name].append(undisturbed(ways[name], deadline))
    return seconds


def timed(call: Callable[[], object]) -> Way:
    """A way that takes the wall-clock seconds of a call."""

    def run() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return run


def clearing(path: Path, way: Way) -> Way:
    """The way, with the folder that it writes removed before and after; removing is not timed."""

    def run() -> float:
        shutil.rmtree(path, ignore_errors=True)
        seconds = way()
        shutil.rmtree(path, ignore_errors=True)
        return seconds

    return run


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """above / below, round by round."""
    ratios = [one / other for one, other in zip(above, below, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def verdict(found: Ratio, bound: float | None) -> dict[str, object]:
    """The entries of a result that say how a ratio compares with its bound; None: it is only reported."""
    return {"ratio": asdict(found), "bound": bound, "met": bound is None or found.median <= bound}


def conclude(results: Sequence[Mapping[str, object]], arguments: argparse.Namespace) -> None:
    """Print the results, write them if asked to, and end with exit status 1 where a bound was missed.

    arguments: threads, rounds; out, the JSON file to write, or None; no_check, to succeed whatever was found.
    """
    report(results)
    if arguments.out:
        write_json(arguments.out, {"threads": arguments.threads, "rounds": arguments.rounds, "results": results})
    if not arguments.no_check and not all(result["met"] for result in results):
        sys.exit("a bound was missed")


def report(results: Sequence[Mapping[str, object]]) -> None:
    """A table of results on stdout, each with the figures behind its ratio."""
    print(f"{'what':<56} {'ratio (smallest to largest)':<28} bound")
    for result in results:
        bound = "-" if result["bound"] is None else f"{result['bound']:g}{'' if result['met'] else '  MISSED'}"
        print(f"{result['what']:<56} {Ratio(**result['ratio'])!s:<28} {bound}")
        for unit in ("seconds", "mebibytes"):
            if unit in result:
                figures = ", ".join(f"{name} {value:,.4g}" for name, value in result[unit].items())
                print(f"    {unit}: {figures}")
