"""contrast.json: how an axis was chosen, how sure its effect is, and what the windows hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import gammaln

from policylens.concepts.contrast import SLIGHT, Demo, Moves, best_axis, displacements
from policylens.concepts.contrast_checks import moves_other_way
from policylens.statistics.estimate import Estimate
from policylens.statistics.exchanges import MINIMUM_ARRANGEMENTS
from policylens.statistics.intervals import bootstrap_sums, wilson
from policylens.statistics.nulls import permutation_test
from policylens.statistics.resampling import Resampling

PERMUTATIONS = 1000
UNIT = "demonstration"

Demos = Mapping[str, Sequence[Demo]]


def moves_of(demos: Demos) -> Moves:
    """How the demonstrations of two tasks move, the positive concept first."""
    positive, negative = (displacements(own) for own in demos.values())
    return Moves.of(positive, negative)


def dimensions_record(moves: Moves, minimum: float, candidates: Sequence[int] | None) -> list[dict[str, Any]]:
    """Per dimension of the state: means, difference, effect, and whether an axis could lie there."""
    opposed = moves.opposed(minimum)
    return [
        {
            "index": index,
            "means": [float(mean[index]) for mean in moves.means],
            "difference": float(moves.difference[index]),
            "effect": float(moves.effect[index]),
            "opposed": bool(opposed[index]),
            "candidate": candidates is None or index in candidates,
        }
        for index in range(len(opposed))
    ]


def effect_estimate(demos: Demos, axis: int, seed: int) -> Estimate:
    """The effect along an axis with its bootstrap interval over demonstrations.

    Two sums of squares and means give it: a resample is a matrix product.
    """
    moved = [displacements(own)[:, axis] for own in demos.values()]
    terms = []
    for place, own in enumerate(moved):
        before, after = sum(map(len, moved[:place])), sum(map(len, moved[place + 1 :]))
        for power in range(3):
            terms.append(np.concatenate([np.zeros(before), own**power, np.zeros(after)]))
    return bootstrap_sums(terms, _effect_of_sums, Resampling(seed, unit=UNIT), undefined="nan")


def _effect_of_sums(*sums: np.ndarray) -> np.ndarray:
    """From n, sum and sum of squares of either concept to the effect, as :meth:`Moves.of` has it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        means = [sums[place + 1] / sums[place] for place in (0, 3)]
        variances = [sums[place + 2] / sums[place] - mean**2 for place, mean in zip((0, 3), means, strict=True)]
        return (means[0] - means[1]) / (np.sqrt(0.5 * np.maximum(sum(variances), 0)) + SLIGHT)


def null_of_effect(demos: Demos, axis: int, selection: Mapping[str, Any] | None, seed: int) -> dict[str, Any]:
    """p of |effect| when demonstrations exchange their concepts.

    selection: `rule`, `minimum`, `candidates` where the axis was chosen on these demonstrations: it is then chosen
    again in every permutation, an effect of 0 where none will do. None: the axis is kept. Concepts are exchanged within
    groups (the same beginning) where every group has both and there are groups enough.
    """
    moved = np.concatenate([displacements(own) for own in demos.values()])
    labels = np.repeat([True, False], [len(own) for own in demos.values()])

    def statistic(positive: np.ndarray) -> float:
        moves = Moves.of(moved[positive], moved[~positive])
        place = axis if selection is None else best_axis(moves, *selection.values())
        return 0.0 if place is None else float(abs(moves.effect[place]))

    blocks = _blocks(demos, labels)
    found = permutation_test(
        labels, np.arange(len(labels)), statistic, seed=seed, n_permutations=PERMUTATIONS, blocks=blocks
    )
    return {
        "p": found.p_values("greater"),
        "permutations": PERMUTATIONS,
        "median": float(np.median(found.null)),
        "within_groups": blocks is not None,
        "chosen_again": selection is not None,
    }


def _blocks(demos: Demos, labels: np.ndarray) -> np.ndarray | None:
    groups = [demo.group for own in demos.values() for demo in own]
    if None in groups:
        return None
    _, blocks = np.unique(np.array(groups, dtype=np.uint64), return_inverse=True)
    both = np.minimum(np.bincount(blocks, labels), np.bincount(blocks, ~labels))
    arrangements = gammaln(np.bincount(blocks) + 1).sum()
    return blocks if both.all() and arrangements >= np.log(MINIMUM_ARRANGEMENTS) else None


def windows_record(manifest: Mapping[str, Any], lengths: Mapping[int, int]) -> dict[str, Any]:
    """Per task: how many windows, how long, how much of their episodes, and how many move the other way.

    lengths: episode -> steps.
    """
    found = {}
    for task, mean in manifest["axis"]["mean_delta_per_task"].items():
        own = [segment for segment in manifest["segments"] if segment["task"] == task]
        steps = np.array([len(segment["axis_values"]) for segment in own])
        other = moves_other_way(np.array([segment["axis_delta"] for segment in own]), mean)
        frames = sum(lengths[segment["episode_index"]] for segment in own)
        found[task] = {
            "windows": len(own),
            "frames": int(steps.sum()),
            "of_frames": frames,
            "mean_steps": float(steps.mean()),
            "median_steps": float(np.median(steps)),
            "other_way": wilson(int(other.sum()), len(own), unit=UNIT).record(),
        }
    return found
