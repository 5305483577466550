"""Training SAEs with policylens, SAELens and dictionary_learning, side by side on the same activations.

For standard and TopK SAEs at three sizes, in rounds, one per seed; each run is a process of its own, and the tools take
turns within a round:
  (a) training activations per second in the steady state, which shall be at least 3 times the faster peer's;
  (b) seconds of training to a common held-out explained variance at matched L0, evaluated in float32 by the same code
      for all while the clock stands still: at most a third of the sooner peer's.
Each peer runs at its fastest setting, found by trying all (float32, autocast, compiled) before the rounds. The share of
what the matrix products alone would allow is measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from neighbours import undisturbed
from sae_comparison import Run, rows_per_second
from sae_data import captured, prepare, superposition
from sae_report import result, show
from sae_settings import Contestant, Setting, contestants, full, quick

from policylens.console import main
from policylens.progress import say
from policylens.stores.files import write_json

FOLDER = Path(__file__).resolve().parent
MEMORY_FOLDER = Path("/dev/shm")
PROBED_STEPS, PROBES = 4, 2
BRIEF_STEPS, BRIEF_WARM_STEPS = 12, 4


class Bench:
    """Runs jobs in processes of their own.

    folder: for data and jobs. threads: of every process. patience: seconds in all for which runs that other processes
    disturb are repeated.
    """

    def __init__(self, folder: Path, threads: int, patience: float) -> None:
        self.folder, self.threads, self._deadline = folder, threads, time.monotonic() + patience

    def run(self, contestant: Contestant, setting: Setting, variants: Sequence[str], seed: int) -> dict[str, Run]:
        """What each variant found, in a process that is run again when it was disturbed."""
        job = {"tool": contestant.tool, "variants": list(variants), "setting": asdict(setting), "seed": seed}
        found: dict[str, Run] = {}

        def way() -> float:
            started = time.monotonic()
            found.update(self.process(contestant.environment, "sae_run.py", job))
            return time.monotonic() - started

        undisturbed(way, self._deadline)
        return found

    def process(self, environment: str, program: str, job: Mapping[str, object]) -> dict[str, Any]:
        """The JSON that a program writes about a job."""
        job_file, out = self.folder / "job.json", self.folder / "found.json"
        common = {"threads": self.threads, "folder": str(self.folder), "out": str(out)}
        job_file.write_text(json.dumps(job | common), encoding="utf-8")
        command = [str(FOLDER.parent / "envs" / "run"), environment, "python", str(FOLDER / program), str(job_file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.stderr.write(done.stderr)
            raise RuntimeError(f"{program} failed on {job}")
        return json.loads(out.read_text(encoding="utf-8"))


def program() -> None:
    arguments = parse()
    settings = quick() if arguments.quick else full(arguments.effort)
    settings = [setting for setting in settings if arguments.only in setting.name]
    seeds = range(2 if arguments.quick else arguments.seeds)
    results = []
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None) as name:
        bench = Bench(Path(name), arguments.threads, arguments.patience)
        prepared = None
        for setting in settings:
            if prepared != (setting.width, setting.rows):
                prepared = (setting.width, setting.rows)
                activations(setting, arguments, bench.folder)
            results.append(compare(setting, bench, seeds))
            show(results[-1])
    if arguments.out:
        write_json(arguments.out, {"threads": arguments.threads, "seeds": len(seeds), "results": results})
    if not (arguments.quick or arguments.no_check) and not all(met(found) for found in results):
        sys.exit("a bound was missed")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute or two, to see that it works; no bounds")
    parser.add_argument("--effort", type=float, default=1.0, help="factor of the number of steps")
    parser.add_argument("--seeds", type=int, default=3, help="rounds, each with another seed")
    parser.add_argument("--only", default="", help='settings whose name holds this, such as "topk" or "m=2048"')
    parser.add_argument("--threads", type=int, default=2, help="torch threads of every tool")
    parser.add_argument("--capture", type=Path, help="folder of a capture to train on where its width is the setting's")
    parser.add_argument("--site", help="site of the capture")
    parser.add_argument(
        "--patience", type=float, default=0, help="seconds in all for which what other processes disturb is run again"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--no-check", action="store_true", help="print only; succeed even if a bound is missed")
    arguments = parser.parse_args()
    if bool(arguments.capture) != bool(arguments.site):
        parser.error("--capture and --site go together")
    return arguments


def activations(setting: Setting, arguments: argparse.Namespace, folder: Path) -> None:
    """Write the rows of a setting: the capture's where it has that width, else synthetic ones."""
    if arguments.capture:
        train, held_out = captured(arguments.capture, arguments.site, setting.rows, setting.held_out)
        if train.shape[1] == setting.width:
            prepare(folder, train, held_out)
            return
    rows = superposition(setting.rows + setting.held_out, setting.width)
    prepare(folder, rows[: setting.rows], rows[setting.rows :])


def compare(setting: Setting, bench: Bench, seeds: Sequence[int]) -> dict[str, Any]:
    """All contestants on one setting."""
    field = contestants(setting.architecture)
    variants = {contestant.name: fastest(contestant, setting, bench) for contestant in field}
    runs: dict[str, list[Run]] = {contestant.name: [] for contestant in field}
    ceilings = []
    for seed in seeds:
        ceilings.append(bench.process("core", "sae_ceiling.py", {"setting": asdict(setting)}))
        for place in range(len(field)):
            contestant = field[(seed + place) % len(field)]
            say(f"{setting.name}: seed {seed}, {contestant.name}")
            variant = variants[contestant.name]
            run = bench.run(contestant, setting if contestant.same_loss else briefly(setting), [variant], seed)
            runs[contestant.name].append(run[variant])
    return result(setting, runs, variants, ceilings, [one.name for one in field if one.same_loss])


def briefly(setting: Setting) -> Setting:
    """A setting long enough for the rate of a tool that is as fast with many active latents as with few."""
    warm_steps = min(setting.warm_steps, BRIEF_WARM_STEPS)
    return replace(setting, steps=min(setting.steps, BRIEF_STEPS), warm_steps=warm_steps, evaluations=1)


def fastest(contestant: Contestant, setting: Setting, bench: Bench) -> str:
    """The variant of a contestant that makes most steps per second in a few, at its better of two tries."""
    variants = contestant.variants[setting.architecture]
    if len(variants) == 1:
        return variants[0]
    say(f"{setting.name}: trying {contestant.name}")
    short = replace(setting, steps=1 + min(setting.warm_steps, PROBED_STEPS), warm_steps=1, evaluations=1)
    tries = [bench.run(contestant, short, variants, seed=0) for _ in range(PROBES)]
    rates = {name: max(rows_per_second(found[name], short.batch_rows) for found in tries) for name in variants}
    say("  " + ", ".join(f"{name}: {rate:,.0f}/s" for name, rate in rates.items()))
    return max(rates, key=rates.__getitem__)


def met(found: Mapping[str, Any]) -> bool:
    """Whether a setting's bounds are kept; times that say nothing are not judged."""
    judged = ("faster",) if found["doubt"] else ("faster", "sooner")
    return all(ratio.get("met", True) for name in judged for ratio in found[name])


if __name__ == "__main__":
    main(program)
