"""Do single latents say what the labels say? The best unit of each method, chosen on validation, scored on test.

For every target and method the unit with the largest |AUC - 1/2| on validation episodes is taken, in the direction
that it has there (a unit may say "not"): each unit is a candidate both ways, whatever the method. Its AUC and F1 are
those on test episodes; F1's threshold is the best one on validation. Probes are one score per target and have nothing
to choose.

The best of many is better than the best of few. So beside the SAE's best of all latents stands what it comes to when
only as many random latents compete as the other method has units: the expectation over all subsets of the latents that
are ever active, which follows from their order on validation (`policylens.statistics.auc.best_of_subset`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from policylens.evaluation.targets import Target
from policylens.evaluation.units import Units, Values, columns
from policylens.statistics.auc import (
    Pairs,
    auc_estimates,
    aucs,
    best_of_subset,
    mean_auc,
    mean_auc_difference,
)
from policylens.statistics.clusters import Clusters
from policylens.statistics.estimate import Estimate
from policylens.statistics.intervals import bootstrap_mean_ratio, bootstrap_ratio
from policylens.statistics.resampling import Resampling

BLOCK = 256
Plain = dict[str, Any]


class Group(NamedTuple):
    """Targets that are known in the same rows. targets: (t,) positions; rows: split -> (n,) rows; positive: (n, t)."""

    targets: np.ndarray
    rows: Mapping[str, np.ndarray]
    positive: Mapping[str, np.ndarray]


def groups_of(targets: Sequence[Target]) -> list[Group]:
    """Targets by the rows in which they are known, so that each row set is ranked once."""
    found: dict[tuple[bytes, ...], list[int]] = {}
    for number, target in enumerate(targets):
        key = tuple(np.packbits(target.known[split]).tobytes() for split in ("train", "validation", "test"))
        found.setdefault(key, []).append(number)
    groups = []
    for members in found.values():
        first = targets[members[0]]
        rows = {split: np.flatnonzero(known) for split, known in first.known.items()}
        positive = {
            split: np.stack([targets[number].positive[split][kept] for number in members], axis=1)
            for split, kept in rows.items()
        }
        groups.append(Group(np.array(members), rows, positive))
    return groups


class TestRows:
    """The test rows of all targets: where they lie in episodes and phases, and the pairs they make."""

    __test__ = False

    def __init__(self, groups: Sequence[Group], episodes: np.ndarray, phase: np.ndarray | None) -> None:
        """episodes: (n,) of the test rows. phase: (n,) integers, or None."""
        grouped = Clusters.of(episodes)
        self.n_rows, self.n_clusters = grouped.n_rows, grouped.n_clusters
        self.clusters = grouped.unsorted(grouped.cluster_of_row)
        self.n_targets = sum(len(group.targets) for group in groups)
        self.pairs = [self._pairs(group, None) for group in groups]
        self.phase_pairs = None if phase is None else [self._pairs(group, phase) for group in groups]
        self.totals = self._gathered(groups, self.pairs)
        self.phase_totals = None if self.phase_pairs is None else self._gathered(groups, self.phase_pairs)

    def _pairs(self, group: Group, phase: np.ndarray | None) -> Pairs:
        rows = group.rows["test"]
        strata = None if phase is None else phase[rows]
        return Pairs(group.positive["test"], self.clusters[rows], self.n_clusters, strata)

    def _gathered(self, groups: Sequence[Group], pairs: Sequence[Pairs]) -> np.ndarray:
        totals = self.empty()
        for group, found in zip(groups, pairs, strict=True):
            totals[:, group.targets] = found.totals
        return totals

    def empty(self) -> np.ndarray:
        """(clusters, targets) zeros."""
        return np.zeros((self.n_clusters, self.n_targets))


@dataclass
class Scored:
    """One method on all t targets. Per-cluster sums are (c, t), see `policylens.statistics.auc.Pairs`.

    candidates: units that competed. unit: (t,) the chosen ones, sign: (t,) 1 or -1, chosen_auc: (t,) on validation;
    None for probes. wins, phase_wins: of test rows. hits, marks: per cluster 2 TP and 2 TP + FP + FN, F1's two sums.
    facts: what else is recorded of the method.
    """

    candidates: int
    wins: np.ndarray
    phase_wins: np.ndarray | None
    hits: np.ndarray | None = None
    marks: np.ndarray | None = None
    unit: np.ndarray | None = None
    sign: np.ndarray | None = None
    chosen_auc: np.ndarray | None = None
    facts: Mapping[str, Any] | None = None


class Alignment:
    """Scores methods on the same targets and rows."""

    def __init__(self, targets: Sequence[Target], episodes: np.ndarray, phase: np.ndarray | None = None) -> None:
        """episodes: (n,) of the test rows. phase: (n,) integers of the test rows; pairs within one phase alone count
        for the AUC within phases."""
        self.targets, self.groups = targets, groups_of(targets)
        self.test = TestRows(self.groups, episodes, phase)

    def best_units(self, units: Units) -> Scored:
        """A method's best unit for each target."""
        validation = self._validation_aucs(units)
        unit = np.abs(validation - 0.5).argmax(0)
        chosen = validation[unit, np.arange(len(unit))]
        sign = np.where(chosen >= 0.5, 1, -1)
        scored = self._blank(units.count, unit=unit, sign=sign, chosen_auc=np.where(sign > 0, chosen, 1 - chosen))
        for number, group in enumerate(self.groups):
            for one in np.unique(unit[group.targets]):
                places = np.flatnonzero(unit[group.targets] == one)
                own = {split: _column(units.values[split], one, group.rows[split]) for split in ("validation", "test")}
                self._add(scored, number, places, own["test"], sign[group.targets[places]])
                for place in places:
                    direction = sign[group.targets[place]]
                    self._add_f1(scored, number, place, direction * own["validation"], direction * own["test"])
        scored.facts = units.facts
        return scored

    def probe(self, scores: Mapping[str, np.ndarray], facts: Mapping[str, Any] | None = None) -> Scored:
        """A method that has one score per target: split -> (n, t)."""
        scored = self._blank(1)
        for number, group in enumerate(self.groups):
            for place, target in enumerate(group.targets):
                own = {split: scores[split][group.rows[split], target] for split in ("validation", "test")}
                self._add(scored, number, np.array([place]), own["test"], np.array([1]))
                self._add_f1(scored, number, place, own["validation"], own["test"])
        scored.facts = facts
        return scored

    def expected_best(self, units: Units, counts: Sequence[int]) -> dict[int, Scored]:
        """Per number of competing units: the expected score of the best one, over random subsets of the active ones.

        A unit is active if it is not constant on validation rows; where fewer are, all of them compete.
        """
        validation = self._validation_aucs(units)
        alive = np.flatnonzero(_varies(units.values["validation"]))
        if len(alive) == 0:
            alive = np.arange(units.count)
        order = alive[np.argsort(-np.abs(validation[alive] - 0.5), axis=0, kind="stable")]
        found, chances = {}, {}
        for count in sorted(set(counts)):
            shares = best_of_subset(len(alive), min(count, len(alive)))
            chance = np.zeros(validation.shape)
            chance[order[: len(shares)], np.arange(validation.shape[1])] = shares[:, None]
            found[count], chances[count] = self._blank(min(count, len(alive))), chance
        sign = np.where(validation >= 0.5, 1, -1)
        for number, group in enumerate(self.groups):
            self._add_expected(found, chances, units, sign, number, group)
        return found

    def _add_expected(
        self,
        found: Mapping[int, Scored],
        chances: Mapping[int, np.ndarray],
        units: Units,
        sign: np.ndarray,
        number: int,
        group: Group,
    ) -> None:
        wanted = np.any([chance[:, group.targets] > 0 for chance in chances.values()], axis=0)
        for one in np.flatnonzero(wanted.any(1)):
            places = np.flatnonzero(wanted[one])
            column = _column(units.values["test"], one, group.rows["test"])
            targets = group.targets[places]
            for name, pairs in (("wins", self.test.pairs), ("phase_wins", self.test.phase_pairs)):
                if pairs is not None:
                    won = _oriented(pairs[number], column, places, sign[one, targets])
                    for count, scored in found.items():
                        getattr(scored, name)[:, targets] += won * chances[count][one, targets]

    def _blank(self, candidates: int, **more: Any) -> Scored:
        phase = None if self.test.phase_pairs is None else self.test.empty()
        return Scored(candidates, self.test.empty(), phase, self.test.empty(), self.test.empty(), **more)

    def _validation_aucs(self, units: Units) -> np.ndarray:
        """(units, targets), in blocks of units."""
        found = np.empty((units.count, len(self.targets)))
        for start in range(0, units.count, BLOCK):
            block = columns(units.values["validation"], slice(start, start + BLOCK))
            for group in self.groups:
                rows, positive = group.rows["validation"], group.positive["validation"]
                found[start : start + BLOCK, group.targets] = aucs(block[rows], positive)
        return found

    def _add(self, scored: Scored, number: int, places: np.ndarray, column: np.ndarray, sign: np.ndarray) -> None:
        targets = self.groups[number].targets[places]
        scored.wins[:, targets] = _oriented(self.test.pairs[number], column, places, sign)
        if self.test.phase_pairs is not None:
            scored.phase_wins[:, targets] = _oriented(self.test.phase_pairs[number], column, places, sign)

    def _add_f1(self, scored: Scored, number: int, place: int, validation: np.ndarray, test: np.ndarray) -> None:
        group = self.groups[number]
        threshold = best_f1_threshold(validation, group.positive["validation"][:, place])
        said, true = test >= threshold, group.positive["test"][:, place]
        clusters = self.test.clusters[group.rows["test"]]
        target = group.targets[place]
        hits = np.bincount(clusters, said & true, self.test.n_clusters)
        scored.hits[:, target] = 2 * hits
        scored.marks[:, target] = np.bincount(clusters, said, self.test.n_clusters) + np.bincount(
            clusters, true, self.test.n_clusters
        )


def _column(values: Values, one: int, rows: np.ndarray) -> np.ndarray:
    return columns(values, slice(one, one + 1))[rows, 0]


def _varies(values: Values) -> np.ndarray:
    """(units,) whether a unit takes more than one value."""
    parts = (columns(values, slice(start, start + BLOCK)) for start in range(0, values.shape[1], BLOCK))
    return np.concatenate([np.ptp(part, axis=0) > 0 for part in parts])


def _oriented(pairs: Pairs, column: np.ndarray, places: np.ndarray, sign: np.ndarray) -> np.ndarray:
    won = pairs.wins(column, places)
    return np.where(sign > 0, won, pairs.totals[:, places] - won)


def best_f1_threshold(scores: np.ndarray, positive: np.ndarray) -> float:
    """The score from which on "yes" gives the largest F1 = 2 TP / (2 TP + FP + FN); the highest such score.

    scores: (n,). positive: (n,) bool, at least one true.
    """
    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    hits = np.cumsum(positive[order])
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + hits[-1])
    # A threshold cannot part rows of equal score.
    last = np.append(descending[1:] != descending[:-1], True)
    return float(descending[np.where(last, f1, -1).argmax()])


def summary(
    alignment: Alignment, methods: Mapping[str, Scored], same: Mapping[int, Scored], resampling: Resampling
) -> Plain:
    """Per method the means over targets, and how much the SAE is above it; plain JSON values.

    methods: name -> scores; "sae" among them. same: of :meth:`Alignment.expected_best` of the SAE's latents.
    """
    sae = methods["sae"]
    return {name: _of_method(alignment, sae, name, scored, same, resampling) for name, scored in methods.items()}


def _of_method(
    alignment: Alignment,
    sae: Scored,
    name: str,
    scored: Scored,
    same: Mapping[int, Scored],
    resampling: Resampling,
) -> Plain:
    f1 = bootstrap_mean_ratio(scored.hits, scored.marks, resampling, n_rows=alignment.test.n_rows)
    found = {
        "candidates": scored.candidates,
        **(scored.facts or {}),
        **_means(alignment, scored, resampling),
        "f1": f1.record(),
    }
    if name == "sae":
        return found
    found["sae_minus_this"] = _differences(alignment, sae, scored, resampling)
    if scored.unit is not None:
        few = same[scored.candidates]
        found["sae_of_as_many"] = {
            "candidates": few.candidates,
            **_means(alignment, few, resampling),
            "minus_this": _differences(alignment, few, scored, resampling),
        }
    return found


def _means(alignment: Alignment, scored: Scored, resampling: Resampling) -> Plain:
    test = alignment.test
    within = None
    if scored.phase_wins is not None:
        within = mean_auc(scored.phase_wins, test.phase_totals, resampling, test.n_rows).record()
    return {"auc": mean_auc(scored.wins, test.totals, resampling, test.n_rows).record(), "auc_within_phase": within}


def _differences(alignment: Alignment, first: Scored, second: Scored, resampling: Resampling) -> Plain:
    test = alignment.test
    within = None
    if first.phase_wins is not None:
        within = mean_auc_difference(
            first.phase_wins, second.phase_wins, test.phase_totals, resampling, test.n_rows
        ).record()
    plain = mean_auc_difference(first.wins, second.wins, test.totals, resampling, test.n_rows).record()
    return {"auc": plain, "auc_within_phase": within}


def per_target(alignment: Alignment, methods: Mapping[str, Scored], resampling: Resampling) -> list[Plain]:
    """Per target what it is, and per method the unit, its direction and its scores as [value, low, high]."""
    found = [
        {
            "name": target.name,
            "label": target.label,
            "rule": target.rule,
            "positive_share": target.shares(),
            "methods": {},
        }
        for target in alignment.targets
    ]
    for name, scored in methods.items():
        for entry, numbers in zip(found, _of_targets(alignment, scored, resampling), strict=True):
            entry["methods"][name] = numbers
    return found


def _of_targets(alignment: Alignment, scored: Scored, resampling: Resampling) -> list[Plain]:
    test = alignment.test
    estimates = {
        "auc": auc_estimates(scored.wins, test.totals, resampling, test.n_rows),
        "f1": bootstrap_ratio(scored.hits, scored.marks, resampling, n_rows=test.n_rows, undefined="nan"),
    }
    if scored.phase_wins is not None:
        estimates["auc_within_phase"] = auc_estimates(scored.phase_wins, test.phase_totals, resampling, test.n_rows)
    rows = [{key: triple(value[t]) for key, value in estimates.items()} for t in range(test.n_targets)]
    if scored.unit is not None:
        for row, unit, sign, auc in zip(rows, scored.unit, scored.sign, scored.chosen_auc, strict=True):
            row |= {"unit": int(unit), "sign": int(sign), "validation_auc": round(float(auc), 5)}
    return rows


def triple(estimate: Estimate) -> list[float | None]:
    """[value, low, high] to five decimals, far below their intervals' width; null where undefined."""
    record = estimate.record()
    return [None if record[key] is None else round(record[key], 5) for key in ("value", "low", "high")]
