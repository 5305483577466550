"""What capturing costs beyond its forward passes and its writing, and how that grows with the number of rows.

Three bounds, each a ratio within one run:
  - Capturing 3 sites costs at most 1.15 times the larger of the forward passes alone and a plain zarr write of the
    same arrays with the same chunks and shards: for a 12-layer, 768-wide transformer, where computing dominates,
    and for a tiny network with wide sites, where writing does.
  - Ten times the rows take at most 10.5 times as long,
  - at the same peak memory (10% are left to the allocator).
Also reported: capturing against a zarr write that is told to leave out its search for empty chunks.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import zarr
from capture_growth import growth
from capture_settings import TRANSFORMER, WIDE, Setting, run_capture, run_forward
from rounds import clearing, conclude, interleaved, median, ratio, timed, verdict

from policylens.console import main

COST_BOUND = 1.15
MEMORY_FOLDER = Path("/dev/shm")
MEMORY_NEEDED = 6 * 2**30

Arrays = Mapping[str, tuple[np.ndarray, zarr.Array]]
"""Name -> the values, and an array whose layout shall be copied."""


def program() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(dir=arguments.folder or folder_in_memory()) as name:
        folder = Path(name)
        repeats = arguments.rounds, arguments.patience
        results = growth(arguments.grow_rows, *repeats, arguments.threads, folder)
        results += cost(TRANSFORMER, arguments.sequences, *repeats, folder)
        results += cost(WIDE, arguments.rows, *repeats, folder)
    conclude(results, arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=32, help="rows of the transformer, of 64 tokens each")
    parser.add_argument("--rows", type=int, default=60_000, help="rows of the wide network, 24 KiB each")
    parser.add_argument("--grow-rows", type=int, default=10_000, help="rows, of 24 KiB, that become ten times")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions; medians count")
    parser.add_argument(
        "--patience",
        type=float,
        default=0,
        help="seconds per setting for which what other processes disturb is measured again (Linux)",
    )
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--folder", type=Path, help="where to write meanwhile (default: in memory if there is room)")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--no-check", action="store_true", help="print only; succeed even if a bound is missed")
    return parser.parse_args()


def folder_in_memory() -> Path | None:
    """A folder in memory, so that the program is measured and not the disk; None (the usual folder) without room."""
    roomy = MEMORY_FOLDER.is_dir() and shutil.disk_usage(MEMORY_FOLDER).free >= MEMORY_NEEDED
    return MEMORY_FOLDER if roomy else None


def cost(setting: Setting, rows: int, rounds: int, patience: float, folder: Path) -> list[dict[str, object]]:
    """Ratios of capturing to the larger of forward passes and plain write of the same rows."""
    policy, store, plain = setting.policy(), folder / "capture.zarr", folder / "plain.zarr"
    run_capture(setting, policy, rows, store)  # a warm-up, and where the arrays to write plainly come from
    arrays = read_arrays(store)
    ways = {
        "forward": timed(lambda: run_forward(setting, policy, rows)),
        "write": clearing(plain, timed(lambda: plain_write(plain, arrays))),
        "tuned write": clearing(plain, timed(lambda: plain_write(plain, arrays, {"write_empty_chunks": True}))),
        "capture": clearing(store, timed(lambda: run_capture(setting, policy, rows, store))),
    }
    seconds = interleaved(ways, rounds, setting.name, patience)
    figures = {"seconds": {way: median(values) for way, values in seconds.items()}}
    megabytes = sum(values.nbytes for values, _ in arrays.values()) / 1e6
    results = []
    for write, bound in (("write", COST_BOUND), ("tuned write", None)):
        larger = [max(pair) for pair in zip(seconds["forward"], seconds[write], strict=True)]
        what = {"what": f"{setting.name}: capture / larger of forward, {write}", "megabytes": megabytes}
        results.append({**what, **figures, **verdict(ratio(seconds["capture"], larger), bound)})
    return results


def read_arrays(store: Path) -> Arrays:
    """All arrays of a capture."""
    group = zarr.open_group(str(store), mode="r")["step"]
    return {name: (array[...], array) for name, array in group.arrays()}


def plain_write(path: Path, arrays: Arrays, config: Mapping[str, bool] | None = None) -> None:
    """What one would write by hand: each array created with its final shape and filled shard by shard."""
    for name, (values, like) in arrays.items():
        array = zarr.create_array(
            store=str(path / name),
            shape=values.shape,
            dtype=values.dtype,
            chunks=like.chunks,
            shards=like.shards,
            compressors=like.compressors,
            fill_value=0,
            config=config,
        )
        for start in range(0, len(values), like.shards[0]):
            array[start : start + like.shards[0]] = values[start : start + like.shards[0]]


if __name__ == "__main__":
    main(program)
