"""Time and peak memory of capturing ten times the rows, each capture in a process of its own.

Run as a program it is that process: it prints seconds and peak memory of one capture after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from capture_settings import EVEN, run_capture
from rounds import Ratio, clearing, interleaved, median, ratio, timed, verdict

from policylens.console import main

TIMES = 10
SECONDS_BOUND, MEMORY_BOUND = 10.5, 1.1
WARM_ROWS = 1_000
MIB = 2**20


def growth(rows: int, rounds: int, patience: float, threads: int, folder: Path) -> list[dict[str, object]]:
    """Ratios of seconds and of peak memory between ten times the rows and the rows.

    rows: enough to fill the buffers of the smaller capture too. Call it while this process is still small: a child's
    peak begins at what its parent held when it was started.
    """
    names = {count: f"{count} rows" for count in (rows, TIMES * rows)}
    peaks: dict[str, list[float]] = {name: [] for name in names.values()}

    def way(count: int) -> Callable[[], float]:
        def run() -> float:
            found = _measure(count, threads, folder)
            peaks[names[count]].append(found["peak_bytes"] / MIB)
            return found["seconds"]

        return run

    seconds = interleaved({name: way(count) for count, name in names.items()}, rounds, "growing", patience)
    few, many = names.values()
    return [
        {
            "what": f"{TIMES} times the rows: seconds",
            "seconds": {name: median(values) for name, values in seconds.items()},
            **verdict(ratio(seconds[many], seconds[few]), SECONDS_BOUND),
        },
        {
            "what": f"{TIMES} times the rows: peak memory",
            "mebibytes": {name: median(values) for name, values in peaks.items()},
            **verdict(_ratio_of_peaks(peaks[many], peaks[few]), MEMORY_BOUND),
        },
    ]


def _ratio_of_peaks(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """Not round by round: disturbed measurements count here, and there may be more of one than of the other."""
    return Ratio(median(above) / median(below), min(above) / max(below), max(above) / min(below))


def _measure(rows: int, threads: int, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--rows", rows, "--threads", threads, "--folder", folder]
    return json.loads(subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE).stdout)


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--folder", type=Path, required=True, help="where to write meanwhile")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    policy, store = EVEN.policy(), arguments.folder / "growing.zarr"
    run_capture(EVEN, policy, WARM_ROWS, store)
    seconds = clearing(store, timed(lambda: run_capture(EVEN, policy, arguments.rows, store)))()
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps({"seconds": seconds, "peak_bytes": peak}))


if __name__ == "__main__":
    main(program)
