"""What capturing costs beyond its forward passes and its writing, and how it grows with the number of rows.

Three bounds, each measured as a ratio within one run:
  - Capturing 3 sites costs at most 1.15 times the larger of the forward passes alone and a plain zarr write of the same
    arrays with the same chunks and shards: for a 12-layer, 768-wide transformer, where computing dominates,
    and for a tiny network with wide sites, where writing does.
  - Ten times the rows take at most 10.5 times as long, at the same peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import zarr
from rounds import Ratio, interleaved, ratio, timed
from transformer import Transformer, Wide

from policylens.capture.activations import write_capture
from policylens.console import main
from policylens.policies.protocol import Batch, Policy
from policylens.stores.files import write_json

COST, GROWTH, MEMORY = 1.15, 10.5, 1.05
TIMES = 10
WARM_ROWS = 1_000
MIB = 2**20


@dataclass(frozen=True)
class Setting:
    """A policy to capture from, the sites, and rows per forward pass."""

    name: str
    policy: Callable[[], Policy]
    sites: tuple[str, ...]
    batch_rows: int


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("transformer", Transformer, ("block_3", "block_7", "block_11"), 8),
        Setting("wide", Wide, ("layer_0", "layer_1", "layer_2"), 512),
    )
}


def program() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.grow:
            print(json.dumps(grow(Path(folder), arguments.grow)))
            return
        rows = {"transformer": arguments.sequences, "wide": arguments.rows}
        results = [cost(SETTINGS[name], rows[name], arguments.rounds, Path(folder)) for name in SETTINGS]
        results += growth(arguments, Path(folder))
    report(results)
    if arguments.out:
        write_json(arguments.out, {"threads": arguments.threads, "results": results})
    if not arguments.no_check and not all(result["met"] for result in results):
        sys.exit("a bound was missed")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=64, help="rows of the transformer, of 64 tokens each")
    parser.add_argument("--rows", type=int, default=30_000, help="rows of the wide network, 24 KiB each")
    parser.add_argument("--grow-rows", type=int, default=20_000, help="rows of the wide network to multiply by ten")
    parser.add_argument("--rounds", type=int, default=7, help="repetitions; medians are printed")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--folder", type=Path, help="where to write meanwhile (default: the system's temporary folder)")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--no-check", action="store_true", help="print only; succeed even if a bound is missed")
    parser.add_argument("--grow", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def cost(setting: Setting, rows: int, rounds: int, folder: Path) -> dict[str, object]:
    """Seconds of forward passes, plain write and capture of the same rows, and the ratio between them."""
    policy, store, plain = setting.policy(), folder / "capture.zarr", folder / "plain.zarr"

    def capture() -> None:
        run_capture(setting, policy, rows, store)

    capture()  # a warm-up, and where the arrays for the plain write come from
    arrays = read_arrays(store)
    ways = {
        "forward": timed(lambda: run_forward(setting, policy, rows)),
        "write": clearing(plain, timed(lambda: plain_write(plain, arrays))),
        "capture": clearing(store, timed(capture)),
    }
    ways["write"]()
    seconds = interleaved(ways, rounds, setting.name)
    larger = [max(pair) for pair in zip(seconds["forward"], seconds["write"], strict=True)]
    found = ratio(seconds["capture"], larger)
    return {
        "what": f"{setting.name}: capture / larger of forward and write",
        "megabytes": sum(values.nbytes for values, _ in arrays.values()) / 1e6,
        "seconds": {way: statistics.median(values) for way, values in seconds.items()},
        **verdict(found, COST),
    }


def growth(arguments: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """Time and peak memory of ten times the rows over those of the rows, each capture in a process of its own."""
    few, many = arguments.grow_rows, arguments.grow_rows * TIMES
    memory: dict[int, list[float]] = {few: [], many: []}

    def way(rows: int) -> Callable[[], float]:
        def run() -> float:
            command = [sys.executable, __file__, "--grow", str(rows), "--folder", str(folder)]
            command += ["--threads", str(arguments.threads)]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            memory[rows].append(found["peak_bytes"])
            return found["seconds"]

        return run

    seconds = interleaved({"few": way(few), "many": way(many)}, max(3, arguments.rounds // 2), "growing")
    return [
        {
            "what": f"{TIMES} times the rows: seconds",
            "seconds": {
                f"{few} rows": statistics.median(seconds["few"]),
                f"{many} rows": statistics.median(seconds["many"]),
            },
            **verdict(ratio(seconds["many"], seconds["few"]), GROWTH),
        },
        {
            "what": f"{TIMES} times the rows: peak memory",
            "mebibytes": {f"{rows} rows": statistics.median(values) / MIB for rows, values in memory.items()},
            **verdict(ratio(memory[many], memory[few]), MEMORY),
        },
    ]


def grow(folder: Path, rows: int) -> dict[str, float]:
    """Seconds of one capture after a warm-up, and this process' peak memory."""
    setting = SETTINGS["wide"]
    policy, store = setting.policy(), folder / "capture.zarr"
    run_capture(setting, policy, WARM_ROWS, store)
    seconds = clearing(store, timed(lambda: run_capture(setting, policy, rows, store)))()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": seconds, "peak_bytes": peak}


def run_forward(setting: Setting, policy: Policy, rows: int) -> None:
    for batch in batches(setting, policy, rows):
        with torch.inference_mode():
            policy.run(batch)


def run_capture(setting: Setting, policy: Policy, rows: int, store: Path) -> None:
    steps = np.arange(rows, dtype=np.int32)
    coordinates = {"episode": np.zeros(rows, np.int64), "step": steps, "split": np.zeros(rows, np.int8)}
    write_capture(
        store, policy, setting.sites, batches(setting, policy, rows), coordinates, batch_rows=setting.batch_rows
    )


def batches(setting: Setting, policy: Policy, rows: int) -> Iterator[Batch]:
    """The same batch again and again: making observations is not what is measured."""
    observations = torch.randn(setting.batch_rows, *policy.row_shape, generator=torch.Generator().manual_seed(1))
    for start in range(0, rows, setting.batch_rows):
        yield {"observations": observations[: rows - start]}


def read_arrays(store: Path) -> dict[str, tuple[np.ndarray, zarr.Array]]:
    """All arrays of a capture: their values, and the array itself for how it is laid out."""
    group = zarr.open_group(str(store), mode="r")["step"]
    return {name: (array[...], array) for name, array in group.arrays()}


def plain_write(path: Path, arrays: dict[str, tuple[np.ndarray, zarr.Array]]) -> None:
    """What one would write by hand: every array created with zarr's own settings and filled shard by shard."""
    for name, (values, like) in arrays.items():
        array = zarr.create_array(
            store=str(path / name),
            shape=values.shape,
            dtype=values.dtype,
            chunks=like.chunks,
            shards=like.shards,
            compressors=like.compressors,
            fill_value=0,
        )
        for start in range(0, len(values), like.shards[0]):
            array[start : start + like.shards[0]] = values[start : start + like.shards[0]]


def clearing(path: Path, way: Callable[[], float]) -> Callable[[], float]:
    """The way, and what it wrote removed before and after, which is not timed."""

    def run() -> float:
        shutil.rmtree(path, ignore_errors=True)
        seconds = way()
        shutil.rmtree(path, ignore_errors=True)
        return seconds

    return run


def verdict(found: Ratio, bound: float) -> dict[str, object]:
    return {"ratio": asdict(found), "bound": bound, "met": found.median <= bound, "shown": str(found)}


def report(results: Sequence[dict[str, object]]) -> None:
    """A table on stdout."""
    print(f"{'what':<52} {'ratio (smallest to largest)':<30} {'bound':>6}")
    for result in results:
        print(f"{result['what']:<52} {result['shown']:<30} {result['bound']:>6} {'' if result['met'] else 'MISSED'}")
        for unit in ("seconds", "mebibytes"):
            figures = result.get(unit, {})
            if figures:
                print("    " + ", ".join(f"{name} {value:.3g}" for name, value in figures.items()) + f" {unit}")


if __name__ == "__main__":
    main(program)
