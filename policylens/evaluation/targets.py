"""From labels of any kind to yes-or-no targets that a latent can be scored on.

bool                                   the label itself
integers, at most 6 different values   one target per value: "is it this value?"
other integers, floats                 "is it above the median of the training rows?"

A label that is a vector (one value per square, say) gives targets per element. NaN means that the label is not known
in that row: the row then counts for no target of the label. Targets that support no statement are left out, and said
to be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from policylens.errors import UserError

SPLITS = ("train", "validation", "test")
MOST_VALUES = 6
SMALLEST_SHARE = 0.01
FEWEST_EPISODES = 10

Labels = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Target:
    """A yes-or-no question about a row.

    name: e.g. "corners_mine = 2" or "cells_mine[7]". label: it is made from. rule: how, in one line.
    positive: split -> (n,) bool. known: split -> (n,) bool.
    """

    name: str
    label: str
    rule: str
    positive: Mapping[str, np.ndarray]
    known: Mapping[str, np.ndarray]

    def shares(self) -> dict[str, float | None]:
        """Split -> share of positive rows among the known ones; None where none is known."""
        found = {}
        for split in SPLITS:
            rows = self.positive[split][self.known[split]]
            found[split] = float(rows.mean()) if len(rows) else None
        return found


def make_targets(
    labels: Mapping[str, Labels], episodes: Mapping[str, np.ndarray]
) -> tuple[list[Target], list[dict[str, str]]]:
    """All targets of the labels that support a statement, and {"name", "why"} of those left out.

    labels: split -> label name -> (n,) or (n, elements). episodes: split -> (n,) the episode of each row.
    Raises UserError if no target is left.
    """
    kept, left_out, seen = [], [], {}
    for name in labels["train"]:
        for target in _targets_of(name, {split: np.asarray(labels[split][name]) for split in SPLITS}):
            why = _unfit(target, episodes) or _twin(target, seen)
            if why:
                left_out.append({"name": target.name, "why": why})
            else:
                kept.append(target)
    if not kept:
        reasons = "; ".join(sorted({entry["why"] for entry in left_out})) or "there are no labels"
        raise UserError(f"no label gives a target that can be scored ({reasons}); record more episodes")
    return kept, left_out


def _targets_of(name: str, values: Mapping[str, np.ndarray]) -> Iterator[Target]:
    train = values["train"]
    if train.dtype.kind not in "biuf":
        raise UserError(f"label {name!r}: expected numbers or truth values, got {train.dtype}")
    kinds = _kinds(train)
    for element in _elements(train):
        own = {split: value[(slice(None), *element)] for split, value in values.items()}
        known = {split: ~np.isnan(value) if value.dtype.kind == "f" else _all_of(value) for split, value in own.items()}
        where = name + (f"[{','.join(map(str, element))}]" if element else "")
        for suffix, rule, question in kinds or [_above_median(own["train"][known["train"]])]:
            positive = {split: question(value) & known[split] for split, value in own.items()}
            yield Target(where + suffix, name, rule, positive, known)


def _all_of(value: np.ndarray) -> np.ndarray:
    return np.ones(len(value), bool)


def _elements(values: np.ndarray) -> Iterator[tuple[int, ...]]:
    return np.ndindex(*values.shape[1:])


def _kinds(train: np.ndarray) -> list[tuple[str, str, Any]]:
    """(suffix of the name, rule, question) of each target, where these are the same for all elements."""
    if train.dtype.kind == "b":
        return [("", "true", lambda value: value.astype(bool))]
    if train.dtype.kind in "iu" and len(values := np.unique(train)) <= MOST_VALUES:
        return [(f" = {v}", f"equal to {v}", lambda value, v=v: value == v) for v in values.tolist()]
    return []


def _above_median(known: np.ndarray) -> tuple[str, str, Any]:
    median = float(np.median(known)) if len(known) else 0.0
    return f" > {median:g}", f"above {median:g}, the median of the training rows", lambda value: value > median


def _unfit(target: Target, episodes: Mapping[str, np.ndarray]) -> str | None:
    """Why a target supports no statement, or None."""
    for split in SPLITS:
        known, positive = target.known[split], target.positive[split]
        for rows, which in ((positive, "positive"), (known & ~positive, "negative")):
            if rows.sum() < SMALLEST_SHARE * known.sum() or not known.any():
                return f"fewer than {SMALLEST_SHARE:.0%} {which} rows in a split"
            if len(np.unique(episodes[split][rows])) < FEWEST_EPISODES:
                return f"{which} rows in fewer than {FEWEST_EPISODES} episodes of a split"
    return None


def _twin(target: Target, seen: dict[str, str]) -> str | None:
    """Why a target says what an earlier one says; it would count twice in every mean."""
    parts = [target.positive, target.known]
    key = hashlib.sha256(b"".join(part[split].tobytes() for part in parts for split in SPLITS)).hexdigest()
    earlier = seen.setdefault(key, target.name)
    return None if earlier == target.name else f"the same rows as {earlier}"
