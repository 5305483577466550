"""Feature absorption: a latent that seems to stand for a concept stays silent where another one has taken its part.

Chanin et al., "A is for absorption" (2024), arXiv:2409.14507, in the form of SAEBench (Karvonen et al. 2025,
arXiv:2503.09532, evals/absorption), adapted from first letters of words to yes-or-no targets of rows:

- p is the unit direction of a logistic probe for the target on the activations. The *main latents* are the k that a
  k-sparse probe uses, k growing for as long as its F1 on validation rows rises by at least SPLIT_GAIN. Candidates are
  the latents whose mean is most above that of the negative rows (SAEBench: those with the largest weights of an L1
  probe).
- c_i = f_i W_dec,i . p is what latent i contributes along p, and t = (x - b_dec) . p what all of them have to give.
  (SAEBench takes x . p and decoders of norm 1; activations of policies are not centred, decoders need no norm 1.)
- Rows counted are positive test rows that the probe gets right; targets are those whose probe reaches an F1 of
  LEAST_F1 on validation rows, and SPLIT_GAIN more than always saying yes (labels are commoner than first letters).
- Fraction of a row: with A the sum of the ABSORBERS largest positive c_i among latents that are not main and whose
  decoder has a cosine of at least FRACTION_COSINE with p, and M the sum of the main latents' c_i: 0 where M >= t or
  A < PROPORTION t; 1 where M <= 0; else a / (a + M) with a = min(A, t - M).
- Full absorption of a row: no main latent is active, and the latent with the largest c_i of all has a cosine of at
  least FULL_COSINE with p and c_i >= PROPORTION t > 0.

The null gives every row the label of the same step of another episode (of another step where episodes have no equals in
length) and goes through all of it again, probe and choice of latents included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from policylens.concepts.probes import Probes, chosen_scores, fit_chosen, fit_probes
from policylens.evaluation.targets import Target
from policylens.evaluation.units import Values, columns, latents
from policylens.sae.base import SAE
from policylens.statistics.clusters import Clusters
from policylens.statistics.intervals import bootstrap_mean_ratio, bootstrap_ratio
from policylens.statistics.resampling import Resampling

ABSORBERS = 3
FRACTION_COSINE = 0.1
FULL_COSINE = 0.025
PROPORTION = 0.4
SPLIT_GAIN = 0.03
MOST_MAIN = 10
LEAST_F1 = 0.6

ENTRIES_AT_ONCE = 1 << 22

Activations = Mapping[str, np.ndarray]


class Absorbed(NamedTuple):
    """Per counted row: fraction float64 (n,), full bool (n,), main bool (n,): whether a main latent is active."""

    fraction: np.ndarray
    full: np.ndarray
    main: np.ndarray


class Concept(NamedTuple):
    """A target as an SAE sees it. along: (m,) W_dec . p. cosines: (m,) of the decoder directions with p.

    main: (k,) positions of the main latents. direction: (d,) p.
    """

    along: Tensor
    cosines: Tensor
    main: Tensor
    direction: Tensor

    @classmethod
    def of(cls, sae: SAE, direction: Tensor, main: Sequence[int]) -> Concept:
        """direction: (d,) of the probe, of any norm."""
        p = direction.to(sae.W_dec)
        p = p / p.norm()
        along = sae.W_dec @ p
        cosines = along / sae.W_dec.norm(dim=1).clamp_min(torch.finfo(along.dtype).tiny)
        return cls(along, cosines, torch.tensor(main, dtype=torch.int64, device=sae.device), p)


def absorbed(sae: SAE, x: Tensor, f: Tensor, concept: Concept) -> Absorbed:
    """The two measures for positive rows x (n, d) that the probe gets right, and their latents f (n, m)."""
    parts, total = f * concept.along, (sae.normalised(x) - sae.b_dec) @ concept.direction
    on = sae.active(f)[:, concept.main].any(1)
    full = _full(parts, total, concept.cosines) & ~on
    found = (_fraction(parts, total, concept).double(), full, on)
    return Absorbed(*(values.cpu().numpy() for values in found))


def _fraction(parts: Tensor, total: Tensor, concept: Concept) -> Tensor:
    by_main = parts[:, concept.main].sum(1)
    could = concept.cosines >= FRACTION_COSINE
    could[concept.main] = False
    others = parts[:, could].clamp_min(0)
    by_others = others.topk(min(ABSORBERS, others.shape[1]), dim=1).values.sum(1)
    taken = torch.minimum(by_others, total - by_main)
    share = torch.where(by_main <= 0, 1.0, taken / (taken + by_main))
    nothing = (by_main >= total) | (by_others < PROPORTION * total) | (total <= 0)
    return torch.where(nothing, 0.0, share)


def _full(parts: Tensor, total: Tensor, cosines: Tensor) -> Tensor:
    largest, which = parts.max(1)
    return (cosines[which] >= FULL_COSINE) & (total > 0) & (largest >= PROPORTION * total)


class Questions(NamedTuple):
    """The targets as matrices. positive, known: split -> bool (n, t). probes: on the activations."""

    positive: Mapping[str, np.ndarray]
    known: Mapping[str, np.ndarray]
    probes: Probes
    f1: np.ndarray

    @classmethod
    def of(cls, positive: Activations, known: Activations, activations: Activations) -> Questions:
        """Fit the probes on training rows and score them on validation rows; activations: split -> (n, d)."""
        x, y = (torch.from_numpy(part["train"]).double() for part in (activations, positive))
        (probes,) = fit_probes(x, y, (1 / len(x),), _of_known(known["train"]))
        said = probes.scores(torch.from_numpy(activations["validation"])).numpy() > 0
        return cls(positive, known, probes, f1(said, positive["validation"], known["validation"]))

    def only(self, chosen: np.ndarray) -> Questions:
        """Some of the targets, by position."""
        return Questions(
            {split: values[:, chosen] for split, values in self.positive.items()},
            {split: values[:, chosen] for split, values in self.known.items()},
            Probes(self.probes.weights[:, chosen], self.probes.intercepts[chosen]),
            self.f1[chosen],
        )


def _of_known(known: np.ndarray) -> Tensor | None:
    """Weights of the rows (n, t) with which a probe is fitted on the known ones alone."""
    if known.all():
        return None
    weights = torch.from_numpy(known).double()
    return weights / weights.mean(0)


def f1(said: np.ndarray, positive: np.ndarray, known: np.ndarray) -> np.ndarray:
    """F1 = 2 TP / (2 TP + FP + FN) of every column of bool (n, t), over the known rows; 0 where nothing is right."""
    hits = 2.0 * (said & positive & known).sum(0)
    marks = (said & known).sum(0) + (positive & known).sum(0)
    return np.divide(hits, marks, out=np.zeros(len(hits)), where=marks > 0)


def questions(
    targets: Sequence[Target], activations: Activations, elsewhere: Mapping[str, np.ndarray]
) -> tuple[list[Target], Questions, Questions]:
    """The targets that a probe can answer, their probes, and the same targets with the labels of other episodes.

    activations: split -> (n, d). elsewhere: split -> (n,) the row whose label each row takes in the null.
    """
    positive, known = (
        {split: np.stack([getattr(target, part)[split] for target in targets], axis=1) for split in activations}
        for part in ("positive", "known")
    )
    asked = Questions.of(positive, known, activations)
    yes = f1(np.ones_like(positive["validation"]), positive["validation"], known["validation"])
    kept = np.flatnonzero(asked.f1 >= np.maximum(LEAST_F1, yes + SPLIT_GAIN))
    asked = asked.only(kept)
    moved = ({split: part[split][elsewhere[split]] for split in activations} for part in (asked.positive, asked.known))
    return [targets[number] for number in kept], asked, Questions.of(*moved, activations)


def main_latents(train: Values, validation: Values, asked: Questions) -> list[list[int]]:
    """Per target the latents of the k-sparse probe with the smallest k that one more does not improve by SPLIT_GAIN.

    train, validation: latents (n, m). Best first; at least one each.
    """
    order = _most_above(train, asked)
    chosen: list[list[int]] = [[] for _ in range(order.shape[1])]
    best, growing = np.full(order.shape[1], -np.inf), np.arange(order.shape[1])
    for k in range(1, len(order) + 1):
        reached = _sparse_f1(train, validation, asked.only(growing), order[:k, growing])
        better = reached >= best[growing] + SPLIT_GAIN
        growing, reached = growing[better], reached[better]
        best[growing] = reached
        for target in growing:
            chosen[target].append(int(order[k - 1, target]))
        if not len(growing):
            break
    return chosen


def _most_above(train: Values, asked: Questions) -> np.ndarray:
    """(k, t) the MOST_MAIN latents whose mean over positive rows is most above that over negative ones."""
    positive = asked.positive["train"].astype(np.float64)
    negative = asked.known["train"] - positive
    means = [np.asarray(train.T @ rows) / np.maximum(rows.sum(0), 1) for rows in (positive, negative)]
    return np.argsort(means[1] - means[0], axis=0, kind="stable")[:MOST_MAIN]


def _sparse_f1(train: Values, validation: Values, asked: Questions, chosen: np.ndarray) -> np.ndarray:
    used, where = np.unique(chosen, return_inverse=True)
    where = torch.from_numpy(where.reshape(chosen.shape))
    x, test = (torch.from_numpy(columns(part, used)).double() for part in (train, validation))
    y = torch.from_numpy(asked.positive["train"]).double()
    probes = fit_chosen(x, where, y, 1 / len(x), _of_known(asked.known["train"]))
    said = chosen_scores(probes, test, where).numpy() > 0
    return f1(said, asked.positive["validation"], asked.known["validation"])


class Sums(NamedTuple):
    """Per episode and target, float64 (c, t): counted rows, and sums over them of :class:`Absorbed`'s numbers."""

    rows: np.ndarray
    fraction: np.ndarray
    full: np.ndarray
    main: np.ndarray


@torch.no_grad()
def absorption(
    sae: SAE, activations: Activations, asked: Questions, episodes: np.ndarray
) -> tuple[Sums, list[list[int]]]:
    """Sums of one SAE over the test rows, and its main latents per target.

    activations: split -> (n, d). episodes: (n,) of the test rows.
    """
    main = main_latents(latents(sae, activations["train"]), latents(sae, activations["validation"]), asked)
    concepts = [Concept.of(sae, asked.probes.weights[:, number], own) for number, own in enumerate(main)]
    test = torch.from_numpy(activations["test"])
    right = (asked.probes.scores(test).numpy() > 0) & asked.positive["test"] & asked.known["test"]
    grouped = Clusters.of(episodes)
    clusters = grouped.unsorted(grouped.cluster_of_row)
    sums = Sums(*(np.zeros((grouped.n_clusters, len(main))) for _ in Sums._fields))
    size = max(1, ENTRIES_AT_ONCE // sae.cfg.d_sae)
    for start in range(0, len(test), size):
        x = test[start : start + size].to(sae.device)
        _add(sums, sae, x, concepts, right[start : start + size], clusters[start : start + size])
    return sums, main


def _add(sums: Sums, sae: SAE, x: Tensor, concepts: Sequence[Concept], right: np.ndarray, clusters: np.ndarray) -> None:
    f = sae.encode(x)
    for number, concept in enumerate(concepts):
        rows = np.flatnonzero(right[:, number])
        if not len(rows):
            continue
        picked = torch.from_numpy(rows).to(x.device)
        found = absorbed(sae, x[picked], f[picked], concept)
        for name, values in {"rows": np.ones(len(rows)), **found._asdict()}.items():
            getattr(sums, name)[:, number] += np.bincount(clusters[rows], values, len(sums.rows))


def summary(sums: Sums, main: Sequence[Sequence[int]], resampling: Resampling) -> dict[str, Any]:
    """Means over targets, intervals over episodes; null where no row counts.

    fraction, full: of the two measures. main: share of the counted rows in which a main latent is active.
    latents: main latents per target. targets: with rows that count.
    """
    carried = sums.rows.sum(0) > 0
    if not carried.any():
        return {"targets": 0, "latents": None, "fraction": None, "full": None, "main": None}
    rows = int(sums.rows.sum())
    means = {
        name: bootstrap_mean_ratio(
            getattr(sums, name)[:, carried], sums.rows[:, carried], resampling, n_rows=rows
        ).record()
        for name in ("fraction", "full", "main")
    }
    count = [len(own) for own, any_rows in zip(main, carried, strict=True) if any_rows]
    return {"targets": len(count), "latents": float(np.mean(count)), **means}


def report(
    saes: Mapping[str, SAE],
    targets: Sequence[Target],
    activations: Activations,
    episodes: np.ndarray,
    elsewhere: Mapping[str, np.ndarray],
    resampling: Resampling,
) -> dict[str, Any]:
    """Absorption in every SAE of one site, with its null, as plain JSON values. See :func:`questions`.

    episodes: (n,) of the test rows.
    """
    kept, asked, null = questions(targets, activations, elsewhere)
    found = {}
    for name, sae in saes.items() if kept else ():
        (sums, main), (by_chance, chosen) = (absorption(sae, activations, of, episodes) for of in (asked, null))
        found[name] = {
            "observed": summary(sums, main, resampling),
            "permuted": summary(by_chance, chosen, resampling),
            "targets": of_targets(kept, asked, sums, main, resampling),
        }
    return {"targets": len(targets), "answered": len(kept), "members": found}


def of_targets(
    targets: Sequence[Target], asked: Questions, sums: Sums, main: Sequence[Sequence[int]], resampling: Resampling
) -> list[dict[str, Any]]:
    """Per target its probe's F1, the main latents, the rows that count, and the measures as [value, low, high]."""
    parts = {
        name: bootstrap_ratio(getattr(sums, name), sums.rows, resampling, undefined="nan").record()
        for name in ("fraction", "full", "main")
    }
    return [
        {
            "name": target.name,
            "probe_f1": float(asked.f1[number]),
            "main_latents": list(main[number]),
            "n_rows": int(sums.rows[:, number].sum()),
            "n_episodes": int((sums.rows[:, number] > 0).sum()),
            **{name: [part[end][number] for end in ("value", "low", "high")] for name, part in parts.items()},
        }
        for number, target in enumerate(targets)
    ]
