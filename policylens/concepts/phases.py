"""Phases of an episode: a label of numbers cut at edges, such as the stages of a task or how full a board is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from policylens.errors import UserError


def check_phase_values(values: np.ndarray, label: str) -> None:
    """UserError unless a label's values can be cut into phases: one known number per row."""
    if values.ndim != 1 or (values.dtype.kind == "f" and np.isnan(values).any()):
        raise UserError(f"phase: the label {label!r} must be one known number per row; name another")


def phase_edges(values: np.ndarray, phase: Mapping[str, Any]) -> list[float]:
    """Where one phase ends and the next begins, ascending.

    values: (n,) the label in the rows whose quantiles count, for {"label": name, "bins": number of them}. phase: that,
    or {"label": name, "edges": [numbers]}, which are returned as they are.
    """
    edges = phase.get("edges")
    if edges is None:
        edges = np.unique(np.quantile(values.astype(np.float64), np.arange(1, phase["bins"]) / phase["bins"]))
    return [float(edge) for edge in edges]


def phase_of(values: np.ndarray, edges: list[float]) -> np.ndarray:
    """(n,) int64 phases from 0: phase p holds values from edges[p - 1] on and below edges[p]."""
    return np.searchsorted(edges, values, side="right")


def phase_names(label: str, edges: list[float], whole: bool = False) -> list[str]:
    """How figures and tables call the phases: "empties < 8", "empties 8 to 16", "empties >= 16".

    whole: whether the label has whole numbers alone, so that a phase from 1 to below 2 is "phase 1".
    """
    ends = [f"{edge:g}" for edge in edges]
    middle = [
        f"{label} {low:g}" if whole and high == low + 1 and low == int(low) else f"{label} {low:g} to {high:g}"
        for low, high in zip(edges, edges[1:], strict=False)
    ]
    return [f"{label} < {ends[0]}", *middle, f"{label} >= {ends[-1]}"]
