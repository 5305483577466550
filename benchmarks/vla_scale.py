"""The tables of docs/scaling.md: what each stage costs for the published pi0.5.

Operations and bytes follow from the architecture. Processor-hours follow from the rates that benchmarks/vla_cost.py
measured (its --out file); GPU-hours from an accelerator's peak and a share of it that is assumed, for nothing was
measured on one.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vla_networks import REAL_WIDTH, architecture

from policylens.console import main
from policylens.policies.vla.architecture import image_tokens
from policylens.policies.vla.cost import PARTS, pass_flops
from policylens.stores.files import read_json

MEASURED = Path(__file__).resolve().parents[1] / "docs" / "vla_cost.json"
PI05 = architecture(REAL_WIDTH, 18)
PI05["vision"]["depth"] = 27
TOKENS = (50_000, 5_000_000, 50_000_000)
PER_FRAME = 16
"""Words of a prompt that are no padding and no state: `Task: turn on the stove, State: ...; Action:` and its like."""
SEEN_BYTES = 2 * 256 * 256 * 3
"""Of a frame of LIBERO: two cameras."""
LATENTS, EPOCHS, TRAINING_SHARE, MEMBERS = 16_384, 2, 0.8, 81
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
"""Instructions, steps of an episode, actions executed of each plan, processor seconds of a step (docs/libero.md)."""
ALONE = 0.02
"""Share of the bfloat16 peak assumed of a pass of one frame: mostly the start of kernels, and reading weights."""


class Cost(NamedTuple):
    """One stage at one size. operations: by part. read, written: bytes; what is written is what lies on disk."""

    operations: Mapping[str, float]
    read: float
    written: float


SAE_STEP = f"SAE step, d {REAL_WIDTH}, m {LATENTS}, {ASSUMED['sae'][0]}"

Stage = Callable[[float, float], Cost]
"""From tokens and frames to the cost."""


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, default=MEASURED, help="what benchmarks/vla_cost.py --out wrote")
    arguments = parser.parse_args()
    print(*tables(measured(arguments.measured)), sep="\n")


def tables(rates: Mapping[str, float]) -> Iterator[str]:
    """Lines of both tables. rates: operations per processor second, by part."""
    yield "| stage | frames | operations | read | disk | GPU-hours | processor-hours |"
    yield "|---|---|---|---|---|---|---|"
    for name, per_frame, stage in STAGES:
        sizes = ((tokens, math.ceil(tokens / per_frame)) for tokens in TOKENS)
        yield row(name, [(frames, stage(tokens, frames)) for tokens, frames in sizes], rates)
    yield ""
    yield from steering(rates)


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
        cells = [name, f"{count:,}", _power(count * passes * sum(flops.values()))]
        hours = (count * each for each in (STEPS * SIMULATED / 3600, gpu, own))
        yield f"| {' | '.join([*cells, *map(_hours, hours)])} |"


def measured(path: Path) -> dict[str, float]:
    """Operations per processor second of each part, at the published widths; of float32 where the part has no other."""
    found = {result["what"]: result.get("rates", {}) for result in read_json(path)["results"]}
    passes = next(rates for name, rates in found.items() if name.startswith(f"pi0.5, width {REAL_WIDTH}"))
    step = next(rates for name, rates in found.items() if name == SAE_STEP)
    rates = {part: passes[f"{ASSUMED[part][0]} {part}"] for part in PARTS}
    return {**rates, "sae": step["training"]}


def row(name: str, sizes: Sequence[tuple[float, Cost]], rates: Mapping[str, float]) -> str:
    """A line of the table. sizes: frames and cost, of TOKENS in turn."""
    columns = [
        [_count(frames) for frames, _ in sizes],
        [_power(sum(cost.operations.values())) for _, cost in sizes],
        [_bytes(cost.read) for _, cost in sizes],
        [_bytes(cost.written) for _, cost in sizes],
        [
            _hours(_spent(cost, {part: PEAK[how] * share for part, (how, share) in ASSUMED.items()}))
            for _, cost in sizes
        ],
        [_hours(_spent(cost, rates)) for _, cost in sizes],
    ]
    return f"| {' | '.join([name, *map(_cell, columns)])} |"


def _spent(cost: Cost, rates: Mapping[str, float]) -> float:
    """Hours at so many operations per second of each part."""
    return sum(flops / rates[part] for part, flops in cost.operations.items()) / 3600


def _cell(values: Sequence[str]) -> str:
    """One value if all are alike."""
    return values[0] if len(set(values)) == 1 else ", ".join(values)


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
    """Latents of every row; a pair's vectors."""
    return Cost({"sae": 2 * WIDTH * LATENTS * tokens}, tokens * WIDTH * HALF, 4 * (LATENTS + 6 * WIDTH))


def units(tokens: float, frames: float) -> Cost:
    """A pass that looks at all hidden units; eight numbers are kept of each."""
    looked = capture("language_17_ffn", 0)(tokens, frames)
    return looked._replace(written=LAYERS * HIDDEN * 8 * 8)


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
    ("FFN units, 18 layers", PER_FRAME, units),
)
"""Name, tokens that a frame gives, and the cost of so many tokens of so many frames."""


def _count(value: float) -> str:
    return f"{value / 1e6:.3g}M" if value >= 1e6 else f"{value / 1e3:.3g}k" if value >= 1e3 else f"{value:.3g}"


def _power(value: float) -> str:
    return f"{value:.1e}".replace("e+", "e") if value else "-"


def _bytes(value: float) -> str:
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return "-" if value == 0 else f"{value / 1e3:.3g} kB"


def _hours(value: float) -> str:
    """To two digits, which is more than is known."""
    return "-" if value == 0 else f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


if __name__ == "__main__":
    main(program)
