"""Sparse probing: how much of a label k units say together, for k = 1, 2, 5 or what is asked for.

For each target the k units with the largest |mean over positive rows - mean over negative rows| on training rows are
taken, and a logistic regression on them is fitted on the same rows, both classes weighing the same. It is scored on
test episodes: AUC, and the accuracy balanced over both classes. Source: Gurnee et al., "Finding neurons in a haystack"
(2023), arXiv:2305.01610; the choice by mean difference is that of SAEBench's sparse probing (Karvonen et al. 2025,
arXiv:2503.09532), which draws equally many rows of both classes where weights stand here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from policylens.concepts.probes import Probes, balanced_weights, chosen_scores, fit_chosen
from policylens.evaluation.alignment import Alignment, Group, triple
from policylens.evaluation.units import Units, Values, columns
from policylens.statistics.auc import auc_estimates, mean_auc, mean_auc_difference
from policylens.statistics.intervals import bootstrap_mean_ratio, bootstrap_sums
from policylens.statistics.resampling import Resampling

ENTRIES_IN_MEMORY = 1 << 24
Plain = dict[str, Any]


def largest_differences(values: Values, positive: np.ndarray, k: int) -> np.ndarray:
    """For each target the k units whose means differ most between its positive and negative rows: (k, t).

    values: (n, units). positive: (n, t) bool, both kinds in every column. Ties go to the lower number.
    """
    labels = positive.astype(np.float64)
    count = labels.sum(0)
    sums = values.T @ labels
    totals = np.asarray(values.sum(0, dtype=np.float64)).reshape(-1, 1)
    difference = np.abs(sums / count - (totals - sums) / (len(labels) - count))
    return np.argsort(-difference, axis=0, kind="stable")[:k]


class _Result:
    """Per-cluster sums (c, t) of one method at one k. right, rows: (c, 2 t), positives then negatives."""

    def __init__(self, alignment: Alignment) -> None:
        test = alignment.test
        self.wins = test.empty()
        self.right, self.rows = (np.zeros((test.n_clusters, 2 * test.n_targets)) for _ in range(2))


def probing(
    alignment: Alignment, methods: Mapping[str, Units], ks: Sequence[int], resampling: Resampling
) -> tuple[Plain, list[Plain]]:
    """Sparse probes of every target.

    methods: name -> units, "sae" among them. Returns means over targets, {"k": {k: {method: ...}}}, and per target
    {k: {method: {units, auc, balanced_accuracy}}}; plain JSON values.
    """
    means: Plain = {}
    details: list[Plain] = [{} for _ in alignment.targets]
    for k in ks:
        found = {name: _probe(alignment, units, k) for name, units in methods.items()}
        means[str(k)] = {
            name: _means(alignment, name, result, found["sae"][0], resampling) for name, (result, _) in found.items()
        }
        for name, (result, chosen) in found.items():
            for detail, numbers in zip(details, _of_targets(alignment, result, chosen, resampling), strict=True):
                detail.setdefault(str(k), {})[name] = numbers
    return means, details


def _probe(alignment: Alignment, units: Units, k: int) -> tuple[_Result, list[list[int]]]:
    result, chosen = _Result(alignment), [[] for _ in alignment.targets]
    k = min(k, units.count)
    for number, group in enumerate(alignment.groups):
        picked = largest_differences(_rows(units.values["train"], group.rows["train"]), group.positive["train"], k)
        for place, target in enumerate(group.targets):
            chosen[target] = picked[:, place].tolist()
        size = max(1, ENTRIES_IN_MEMORY // (k * max(len(rows) for rows in group.rows.values())))
        for start in range(0, len(group.targets), size):
            places = np.arange(start, min(start + size, len(group.targets)))
            _add(alignment, result, units, number, places, picked[:, places])
    return result, chosen


def _rows(values: Values, rows: np.ndarray) -> Values:
    return values if len(rows) == values.shape[0] else values[rows]


def _add(
    alignment: Alignment, result: _Result, units: Units, number: int, places: np.ndarray, picked: np.ndarray
) -> None:
    """Fit and score some targets of a group."""
    group = alignment.groups[number]
    used, where = np.unique(picked, return_inverse=True)
    where = torch.from_numpy(where.reshape(picked.shape))
    probes = _fit(units, group, places, used, where)
    test = torch.from_numpy(columns(units.values["test"], used)[group.rows["test"]])
    scores = chosen_scores(probes, test, where).numpy()
    clusters = alignment.test.clusters[group.rows["test"]]
    n_clusters, n_targets = alignment.test.n_clusters, alignment.test.n_targets
    for column, place in zip(scores.T, places, strict=True):
        target, true = group.targets[place], group.positive["test"][:, place]
        result.wins[:, [target]] = alignment.test.pairs[number].wins(column, np.array([place]))
        said = column > 0
        for offset, rows, right in ((0, true, said & true), (n_targets, ~true, ~said & ~true)):
            result.right[:, target + offset] = np.bincount(clusters, right, n_clusters)
            result.rows[:, target + offset] = np.bincount(clusters, rows, n_clusters)


def _fit(units: Units, group: Group, places: np.ndarray, used: np.ndarray, where: torch.Tensor) -> Probes:
    train = torch.from_numpy(columns(units.values["train"], used)[group.rows["train"]])
    positive = torch.from_numpy(group.positive["train"][:, places]).float()
    # As scikit-learn's C = 1, which SAEBench uses: the ridge shrinks with the number of rows.
    return fit_chosen(train, where, positive, 1 / len(train), balanced_weights(positive))


def _means(alignment: Alignment, name: str, result: _Result, sae: _Result, resampling: Resampling) -> Plain:
    test = alignment.test
    found = {
        "auc": mean_auc(result.wins, test.totals, resampling, test.n_rows).record(),
        "balanced_accuracy": bootstrap_mean_ratio(result.right, result.rows, resampling, n_rows=test.n_rows).record(),
    }
    if name != "sae":
        difference = mean_auc_difference(sae.wins, result.wins, test.totals, resampling, test.n_rows)
        found["sae_minus_this"] = {"auc": difference.record()}
    return found


def _of_targets(
    alignment: Alignment, result: _Result, chosen: Sequence[list[int]], resampling: Resampling
) -> list[Plain]:
    test, t = alignment.test, alignment.test.n_targets
    auc = auc_estimates(result.wins, test.totals, resampling, test.n_rows)
    parts = [part[:, half] for half in (slice(t), slice(t, None)) for part in (result.right, result.rows)]
    accuracy = bootstrap_sums(
        parts,
        lambda hits, positive, rejections, negative: (hits / positive + rejections / negative) / 2,
        resampling,
        n_rows=test.n_rows,
        undefined="nan",
    )
    return [
        {"units": units, "auc": triple(auc[number]), "balanced_accuracy": triple(accuracy[number])}
        for number, units in enumerate(chosen)
    ]
