"""analysis.json of a pair: what its directions are, and how far they can be relied on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from policylens.directions.cells import BASELINE, Cells
from policylens.directions.latents import permutations_of, ranked
from policylens.directions.reliability import (
    HeldOut,
    across_texts,
    against_chance,
    episodes_of,
    norms,
    split_half,
)
from policylens.directions.vectors import MEANING, SUM_OF, UNITS
from policylens.directions.weights import contrast, enough_arrangements, relabelled

FORMAT = 1
FEW_PROMPTS = 5
"""Of a concept: with fewer, what tells prompts apart tells concepts apart."""


def described(vectors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Name -> norm, unit and meaning."""
    return {
        name: {
            "norm": float(np.linalg.norm(values)),
            "width": len(values),
            "unit": UNITS[name],
            "meaning": MEANING[name],
        }
        for name, values in vectors.items()
    }


def reliability(cells: Cells, permutations: int, seed: int) -> dict[str, Any]:
    """Sum's name -> norm, split halves, held-out episodes, held-out instructions; {} where episodes are not known."""
    if not cells.known:
        return {}
    rng = np.random.default_rng([seed, 1])
    drawn = relabelled(cells, permutations, rng) if permutations and enough_arrangements(cells) else None
    return {name: _of_sum(cells, name, drawn, seed) for name in cells.sums}


def _of_sum(cells: Cells, name: str, drawn: np.ndarray | None, seed: int) -> dict[str, Any]:
    gram = cells.gram(name)
    halves = split_half(cells, gram, seed)
    found: dict[str, Any] = {
        "norm": {"value": float(norms(gram, contrast(cells))), "p": None, "null_q95": None, "permutations": 0},
        "split_half": None if halves is None else halves.record(),
        "held_out": None,
        "across_texts": _texts(across_texts(cells, gram)),
    }
    if drawn is not None:
        found["norm"] = against_chance(found["norm"]["value"], norms(gram, contrast(cells, drawn)))
    if min(episodes_of(cells)) >= 2:
        held_out = HeldOut(cells, gram, seed)
        chance = {"p": None, "null_q95": None, "permutations": 0}
        auc = held_out.auc(seed).record()
        if drawn is not None:
            chance = against_chance(auc["value"], held_out.null(drawn))
            chance.pop("value")
        found["held_out"] = {"auc": auc, "folds": int(held_out.fold.max()) + 1, **chance}
    return found


def _texts(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Pairs of instructions that were left out, and their mean and least."""
    if not entries:
        return None
    cosines = [entry["cosine"] for entry in entries if entry["cosine"] is not None]
    return {
        "left_out": entries,
        "mean_cosine": float(np.mean(cosines)) if cosines else None,
        "least_cosine": min(cosines, default=None),
        "mean_auc": float(np.mean([entry["auc"] for entry in entries])),
        "least_auc": min(entry["auc"] for entry in entries),
    }


def latents(
    cells: Cells, decoder_norms: np.ndarray, active: np.ndarray, top: int, permutations: int, seed: int
) -> dict[str, Any]:
    """The latents that tell the concepts apart, and how many rearrangements of episodes their p are of."""
    drawn = None
    if permutations and cells.known and enough_arrangements(cells):
        drawn = relabelled(cells, permutations, np.random.default_rng([seed, 2]))
    alive = int((active > 0).sum())
    return {
        "active": alive,
        "permutations": 0 if drawn is None else permutations_of(alive, len(drawn)),
        "l0": float(active.sum() / cells.count.sum()),
        "ranking": ranked(cells, decoder_norms, active, drawn, top),
    }


def notes(cells: Cells, kinds: list[str]) -> list[str]:
    """What a reader has to know before believing the numbers."""
    found = []
    if not cells.known:
        found.append("which episodes the rows are of is not known: nothing can be said of their reliability")
    else:
        few = min(episodes_of(cells))
        if few < 4:
            found.append(f"a concept is shown by {few} episode(s) alone: halves say nothing")
        if not enough_arrangements(cells):
            found.append("too few episodes to rearrange their concepts: there are no p-values")
    prompts = prompts_of(cells)
    if prompts is None:
        found.append("under how many prompts the rows were recorded is not known")
    elif min(prompts) < FEW_PROMPTS:
        where = (
            "these are tokens of the instruction, so that " if "language" in kinds else "for tokens of the instruction "
        )
        found.append(
            f"the positive concept is shown by {prompts[1]} and the negative one by {prompts[0]} distinct prompt(s): "
            f"what tells the prompts apart tells the concepts apart; {where}the sample size is the number of prompts, "
            "and intervals and p-values over episodes are too narrow"
        )
    return found


def prompts_of(cells: Cells) -> tuple[int, int] | None:
    """Distinct instructions of the negative and of the positive concept; None where they are not known."""
    if (cells.text < 0).any():
        return None
    return tuple(len(np.unique(cells.text[cells.positive == side])) for side in (False, True))


def by_vector(found: Mapping[str, Any]) -> dict[str, Any]:
    """Reliability under the names of the vectors, and of the baseline."""
    named = {vector: found[name] for vector, name in SUM_OF.items() if name in found}
    return named | ({BASELINE: found[BASELINE]} if BASELINE in found else {})
