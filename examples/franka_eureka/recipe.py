"""The published SAEs' recipe, trained anew by this pipeline: its blocks of the config, and what came of it.

The recipe: ReLU latents, twice as many as dimensions; mean squared error plus 0.4 times the mean latent; Adam at 1e-3,
200 epochs in batches of 256, rows as they are. That is the architecture `plain_l1` and its defaults, but for the number
of steps. Not copied: the original normalised its decoder over the latents instead of the dimensions, and kept two
biases in the encoder.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from policylens.run import Run
from policylens.sae.base import SAE
from policylens.sae.files import CONFIG
from policylens.stores.splits import TEST, TRAIN

WIDTHS = {"actor_mlp_1": 256, "actor_mlp_3": 128, "actor_mlp_5": 64}
SEEDS = (0, 1, 2)
ROWS, EPOCHS, BATCH_ROWS = 3712, 200, 256
STEPS = ROWS * EPOCHS // BATCH_ROWS
SPLITS = {
    "recipe": {"train": 1.0, "validation": 0.0, "test": 0.0},
    "recipe_held_out": {"train": 0.75, "validation": 0.0, "test": 0.25},
}
"""Name of a source and its capture -> shares of the episodes. The original trained and measured on all rows."""


class Statistics(NamedTuple):
    """Of an SAE over some rows.

    loss: squared error, mean over rows and dimensions. explained: 1 - loss / variance of the rows about their mean.
    dead: latents that are 0 in all of the rows, in percent. active: latents above 0 per row. mean: of f, which the
    penalty is on. decoded: mean of f ||W_dec,i||, which the penalty is meant for. NaN: not known.
    """

    loss: float
    explained: float
    dead: float
    active: float
    mean: float = math.nan
    decoded: float = math.nan


DIGITS = Statistics(6, 3, 2, 2, 4, 4)
HEADINGS = (
    "site",
    "SAE",
    "measured on",
    "reconstruction loss",
    "explained variance",
    "dead latents, %",
    "mean active",
    "mean f",
    "mean f \\|\\|W_dec\\|\\|",
)


def blocks(source: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Kind of block -> name -> block, to add to the policy's. source: the block that imports the rollout."""
    settings = {"architecture": "plain_l1", "sparsity": 0.4, "steps": STEPS, "batch_rows": BATCH_ROWS}
    return {
        "sources": {name: {**source, "split": split} for name, split in SPLITS.items()},
        "captures": {name: {"source": name, "sites": list(WIDTHS), "dtype": "float32"} for name in SPLITS},
        "sae": {
            f"{name}_{site}": {
                "capture": name,
                "sites": [site],
                "settings": {**settings, "latents": 2 * width},
                "members": {f"seed_{seed}": {"seed": seed} for seed in SEEDS},
            }
            for name in SPLITS
            for site, width in WIDTHS.items()
        },
    }


def targets(results: str) -> list[str]:
    """Files that the workflow has to build for `table`, under a checkpoint's folder of results."""
    return [
        f"{results}/sae/{name}_{site}/{site}/seed_{seed}/cfg.json"
        for name in SPLITS
        for site in WIDTHS
        for seed in SEEDS
    ]


def table(results: Path, published: dict[str, tuple[float, float, float]]) -> str:
    """Markdown: the recipe's SAEs, mean over seeds (smallest to largest), beside what was published.

    published: site -> loss, dead latents in percent, latents active per row.
    """
    run = Run(results)
    lines = [f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
    for site, (loss, dead, active) in published.items():
        x = run.activations("recipe", site)
        theirs = Statistics(loss, 1 - loss / variance(x), dead, active)
        if (results / "sae" / "published" / site / "published" / CONFIG).exists():
            theirs = theirs._replace(**latents(run.sae("published", site, "published"), x))
        lines.append(line(site, "published", "the rows it was trained on", [theirs]))
        for name, code, where in (
            ("recipe", TRAIN, "the rows they were trained on"),
            ("recipe_held_out", TRAIN, "their training rows, of {} episodes"),
            ("recipe_held_out", TEST, "rows of {} held-out episodes"),
        ):
            capture = run.capture(name)
            rows = capture.coordinate("split") == code
            x = run.activations(name, site, rows)
            episodes = len(np.unique(capture.coordinate("episode")[rows]))
            found = [statistics(run.sae(f"{name}_{site}", site, f"seed_{seed}"), x) for seed in SEEDS]
            lines.append(line("", f"recipe, {len(SEEDS)} seeds", where.format(episodes), found))
    return "\n".join(lines)


@torch.no_grad()
def statistics(sae: SAE, x: torch.Tensor) -> Statistics:
    """Of an SAE over activations (rows, d)."""
    f = sae.encode(x)
    loss, fired = float((x - sae.decode(f)).square().mean()), f > 0
    dead = 100 * float((~fired.any(0)).double().mean())
    return Statistics(loss, 1 - loss / variance(x), dead, float(fired.sum(1).double().mean()), **latents(sae, x))


@torch.no_grad()
def latents(sae: SAE, x: torch.Tensor) -> dict[str, float]:
    """`mean` and `decoded` of :class:`Statistics`."""
    f = sae.encode(x)
    return {"mean": float(f.double().mean()), "decoded": float((f * sae.W_dec.norm(dim=1)).double().mean())}


def variance(x: torch.Tensor) -> float:
    """Of rows (rows, d) about their mean: mean over dimensions."""
    return float(x.double().var(0, unbiased=False).mean())


def line(site: str, what: str, where: str, found: list[Statistics]) -> str:
    """A row of the table."""
    cells = []
    for values, digits in zip(zip(*found, strict=True), DIGITS, strict=True):
        mean, low, high = (f"{value:.{digits}f}" for value in (np.mean(values), min(values), max(values)))
        single = mean if math.isfinite(values[0]) else "-"
        cells.append(single if len(found) == 1 else f"{mean} ({low} to {high})")
    return f"| {f'`{site}`' if site else ''} | {what} | {where} | {' | '.join(cells)} |"
