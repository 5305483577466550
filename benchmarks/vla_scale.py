"""The tables of docs/scaling.md: what each stage costs for the published pi0.5.

Operations and bytes follow from the architecture. Processor-hours follow from the rates that benchmarks/vla_cost.py
measured (its --out file); GPU-hours from an accelerator's peak and a share of it that is assumed, for nothing was
measured on one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from vla_networks import REAL_WIDTH, architecture

from policylens.console import main
from policylens.policies.vla.architecture import image_tokens
from policylens.policies.vla.cost import PARTS, pass_flops
from policylens.stores.files import read_json

PI05 = architecture(REAL_WIDTH, 18)
PI05["vision"]["depth"] = 27
TOKENS = (50_000, 5_000_000, 50_000_000)
PER_FRAME = 16
"""Words of a prompt that are no padding and no state: `Task: turn on the stove, State: ...; Action:` and its like."""
SEEN_BYTES = 2 * 256 * 256 * 3
"""Of a frame of LIBERO: two cameras."""
LATENTS, EPOCHS, TRAINING_SHARE, MEMBERS = 16_384, 2, 0.8, 54
HALF = 2
"""Bytes of a stored number."""
LAYERS, WIDTH, HIDDEN = PI05["language"]["depth"], PI05["language"]["width"], PI05["language"]["hidden"]

PEAK = {"bfloat16": 989e12, "float32": 67e12}
"""Operations per second of an H100 SXM, dense, by its data sheet; float32 without TF32, which torch leaves off."""
ASSUMED = {
    "vision": ("float32", 0.6),
    "language": ("bfloat16", 0.4),
    "expert": ("bfloat16", 0.2),
    "sae": ("float32", 0.5),
}
"""In which precision a part runs, and the share of the peak that it is assumed to reach."""


CANDIDATES, CHOOSE, CONFIRMED, CONFIRM, KINDS, DIRECTIONS, CONTROL_EPISODES = 21, 40, 3, 200, 2, 200, 10
"""A steering block with its default numbers of episodes: 7 strengths at 3 sites; controls of two kinds."""
TASKS, STEPS, REPLAN, SIMULATED = 2, 250, 10, 0.16
"""Instructions, steps of an episode, actions executed of each plan, and processor seconds of a step (docs/libero.md)."""
ALONE = 0.02
"""Share of the bfloat16 peak assumed of a pass of one frame: mostly the start of kernels, and reading weights."""


class Cost(NamedTuple):
    """One stage at one size. operations: by part. read, written: bytes; what is written is what lies on disk."""

    operations: Mapping[str, float]
    read: float
    written: float


Stage = Callable[[float, float], Cost]
"""From tokens and frames to the cost."""


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", required=True, type=Path, help="what benchmarks/vla_cost.py --out wrote")
    arguments = parser.parse_args()
    rates = measured(arguments.measured)
    print("| stage | tokens | frames | operations | read | disk | GPU-hours | processor-hours |")
    print("|---|---|---|---|---|---|---|---|")
    for name, per_frame, stage in STAGES:
        for tokens in TOKENS:
            frames = tokens / per_frame
            print(row(name, tokens, frames, stage(tokens, frames), rates))
    print("", *steering(rates), sep="\n")


def steering(rates: Mapping[str, float]) -> Iterator[str]:
    """Lines of the table of a steering block: an episode, and the whole block with and without its controls."""
    flops = pass_flops(PI05)
    passes = 2 * STEPS / REPLAN
    gpu = passes * sum(flops.values()) / (PEAK["bfloat16"] * ALONE) / 3600
    own = passes * sum(count / rates[part] for part, count in flops.items()) / 3600
    chosen = TASKS * (CHOOSE * (1 + CANDIDATES) + CONFIRM * (1 + CONFIRMED))
    controls = TASKS * CONFIRMED * KINDS * DIRECTIONS * CONTROL_EPISODES
    yield "| | episodes | operations | simulator, processor-hours | passes, GPU-hours | passes, processor-hours |"
    yield "|---|---|---|---|---|---|"
    for name, count in (("an episode", 1), ("choosing and confirming", chosen), ("controls", controls)):
        cells = [name, f"{count:,}", f"{count * passes * sum(flops.values()):.1e}"]
        hours = (count * each for each in (STEPS * SIMULATED / 3600, gpu, own))
        yield f"| {' | '.join([*cells, *map(_hours, hours)])} |"


def measured(path: Path) -> dict[str, float]:
    """Operations per processor second of each part, at the published widths; of float32 where the part has no other."""
    found = {result["what"]: result.get("rates", {}) for result in read_json(path)["results"]}
    passes = next(rates for name, rates in found.items() if name.startswith(f"pi0.5, width {REAL_WIDTH}"))
    step = next(rates for name, rates in found.items() if name.startswith(f"SAE step, d {REAL_WIDTH}"))
    rates = {part: passes[f"{ASSUMED[part][0]} {part}"] for part in PARTS}
    return {**rates, "sae": step["training"]}


def row(name: str, tokens: float, frames: float, cost: Cost, rates: Mapping[str, float]) -> str:
    """A line of the table."""
    gpu = sum(flops / (PEAK[ASSUMED[part][0]] * ASSUMED[part][1]) for part, flops in cost.operations.items()) / 3600
    cpu = sum(flops / rates[part] for part, flops in cost.operations.items()) / 3600
    total = sum(cost.operations.values())
    cells = [
        name,
        _count(tokens),
        _count(frames),
        f"{total:.1e}" if total else "-",
        _bytes(cost.read),
        _bytes(cost.written),
    ]
    return f"| {' | '.join([*cells, _hours(gpu), _hours(cpu)])} |"


def capture(stop: str, written_per_token: int) -> Stage:
    """A capture up to a site of so many bytes per token."""

    def cost(tokens: float, frames: float) -> Cost:
        flops = {part: frames * count for part, count in pass_flops(PI05, stop).items()}
        return Cost(flops, frames * SEEN_BYTES, tokens * written_per_token)

    return cost


def training(members: int) -> Stage:
    """SAEs fine-tuned together: batches are read once for all."""

    def cost(tokens: float, frames: float) -> Cost:
        rows = TRAINING_SHARE * tokens * EPOCHS
        weights = members * (2 * WIDTH * LATENTS + LATENTS + WIDTH) * 4
        return Cost({"sae": 10 * WIDTH * LATENTS * rows * members}, rows * WIDTH * HALF, weights)

    return cost


def directions(tokens: float, frames: float) -> Cost:
    """Latents of every row."""
    return Cost({"sae": 2 * WIDTH * LATENTS * tokens}, tokens * WIDTH * HALF, 10e6)


def source(tokens: float, frames: float) -> Cost:
    """Pictures as they are, before compression."""
    return Cost({}, frames * SEEN_BYTES, frames * SEEN_BYTES)


STAGES = (
    ("source", PER_FRAME, source),
    ("instruction tokens at `language_12`", PER_FRAME, capture("language_12", WIDTH * HALF)),
    ("instruction tokens, 18 layers", PER_FRAME, capture("language_17", LAYERS * WIDTH * HALF)),
    ("image tokens at `language_12`", 2 * image_tokens(PI05), capture("language_12", WIDTH * HALF)),
    ("decision tokens at `expert_12`", 1, capture("expert_12", PI05["expert"]["width"] * HALF)),
    ("fine-tuning an SAE", PER_FRAME, training(1)),
    (f"fine-tuning {MEMBERS} SAEs", PER_FRAME, training(MEMBERS)),
    ("directions", PER_FRAME, directions),
    ("FFN units, 18 layers", PER_FRAME, capture("language_17_ffn", 0)),
)
"""Name, tokens that a frame gives, and the cost of so many tokens of so many frames."""


def _count(value: float) -> str:
    return f"{value / 1e6:.3g}M" if value >= 1e6 else f"{value / 1e3:.3g}k" if value >= 1e3 else f"{value:.3g}"


def _bytes(value: float) -> str:
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return "-" if value == 0 else f"{value / 1e3:.3g} kB"


def _hours(value: float) -> str:
    return "-" if value == 0 else f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


if __name__ == "__main__":
    main(program)
