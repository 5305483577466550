"""Linear probes: ridge-regularised logistic regression, for many labels at once.

    minimise over w, b:  mean over rows of v [ log(1 + exp(z)) - y z ] + ridge / 2 ||w||^2,    z = x w + b

with row weights v (1, or such that both classes weigh the same). The intercept b is not penalised. Columns are
standardised by the training rows, so that one ridge means the same for all of them; directions are given back for the
columns as they came.

The problem is convex and smooth. All labels are solved together by conjugate gradients, preconditioned with the inverse
of X^T X / 4 + ridge, which bounds every label's Hessian (Böhning and Lindsay, "Monotonicity of quadratic-approximation
algorithms", Annals of the Institute of Statistical Mathematics 40 (1988)): one factorisation serves all labels, and an
iteration costs two matrix products. Deterministic: no draws, and a fixed number of iterations at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from policylens.errors import UserError

ITERATIONS = 25
TOLERANCE = 1e-3
CORRECTIONS = 3
SMALLEST_SPREAD = 1e-6
TINY = 1e-30


@dataclass(frozen=True)
class Probes:
    """t fitted probes. weights: (d, t), intercepts: (t,), for columns as they came; scores are log-odds."""

    weights: Tensor
    intercepts: Tensor

    def scores(self, x: Tensor) -> Tensor:
        """Log-odds (n, t) of rows (n, d)."""
        return x.to(self.weights.dtype) @ self.weights + self.intercepts


class _Design(Protocol):
    """Rows as a linear map: logits of (p, t) parameters, its transpose, and its preconditioner."""

    def logits(self, parameters: Tensor) -> Tensor: ...

    def back(self, rows: Tensor) -> Tensor: ...

    def precondition(self, gradient: Tensor) -> Tensor: ...


class _Shared:
    """All labels see the same columns (n, d); the last parameter is the intercept."""

    def __init__(self, x: Tensor, ridge: float) -> None:
        self.x, self.ridge = x, ridge
        bound = x.T @ x / (4 * len(x)) + ridge * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        self._factor = torch.linalg.cholesky(bound)

    def logits(self, parameters: Tensor) -> Tensor:
        return torch.addmm(parameters[-1], self.x, parameters[:-1])

    def back(self, rows: Tensor) -> Tensor:
        return torch.cat([self.x.T @ rows, rows.sum(0, keepdim=True)])

    def precondition(self, gradient: Tensor) -> Tensor:
        # Columns are centred: the intercept's part of the bound, 1/4, stands alone.
        return torch.cat([torch.cholesky_solve(gradient[:-1], self._factor), 4 * gradient[-1:]])


class _Chosen:
    """Every label sees its own k columns: x is (n, k, t)."""

    def __init__(self, x: Tensor, ridge: float) -> None:
        self.x, self.ridge = x, ridge
        products = torch.einsum("nit,njt->tij", x, x) / (4 * len(x))
        self._factor = torch.linalg.cholesky(products + ridge * torch.eye(x.shape[1], dtype=x.dtype, device=x.device))

    def logits(self, parameters: Tensor) -> Tensor:
        return (self.x * parameters[:-1]).sum(1) + parameters[-1]

    def back(self, rows: Tensor) -> Tensor:
        return torch.cat([(self.x * rows[:, None]).sum(0), rows.sum(0, keepdim=True)])

    def precondition(self, gradient: Tensor) -> Tensor:
        solved = torch.cholesky_solve(gradient[:-1].T[:, :, None], self._factor)[:, :, 0].T
        return torch.cat([solved, 4 * gradient[-1:]])


def balanced_weights(positive: Tensor) -> Tensor:
    """Weights (n, t) of the rows under each label such that both classes weigh the same and the mean is 1."""
    count = positive.sum(0)
    return len(positive) / 2 * torch.where(positive > 0, 1 / count, 1 / (len(positive) - count))


def fit_probes(x: Tensor, positive: Tensor, ridges: tuple[float, ...], weights: Tensor | None = None) -> list[Probes]:
    """Probes of t labels on the same columns, for each ridge: from the largest down, each starting at the one before.

    x: (n, d) floats. positive: (n, t) floats of 0 and 1. weights: (n, t) of the rows, mean 1; None: all 1.
    Returns one per ridge, in the order given.
    """
    standard, mean, spread = _standardised(x)
    start, found = torch.zeros(x.shape[1] + 1, positive.shape[1], dtype=x.dtype, device=x.device), {}
    for ridge in sorted(set(ridges), reverse=True):
        start = _minimise(_Shared(standard, _checked(ridge)), positive, weights, start, ridge)
        found[ridge] = _unstandardised(start, mean[:, None], spread[:, None])
    return [found[ridge] for ridge in ridges]


def fit_chosen(x: Tensor, columns: Tensor, positive: Tensor, ridge: float, weights: Tensor | None = None) -> Probes:
    """Probes of t labels, each on its own k columns.

    x: (n, d) floats. columns: (k, t) integers, the columns of each label. Returns weights (k, t): the log-odds of row
    x are `sum_i x[columns[i, t]] weights[i, t] + intercepts[t]` (:func:`chosen_scores`).
    """
    standard, mean, spread = _standardised(x)
    start = torch.zeros(len(columns) + 1, positive.shape[1], dtype=x.dtype, device=x.device)
    fitted = _minimise(_Chosen(standard[:, columns], _checked(ridge)), positive, weights, start, ridge)
    return _unstandardised(fitted, mean[columns], spread[columns])


def chosen_scores(probes: Probes, x: Tensor, columns: Tensor) -> Tensor:
    """Log-odds (n, t) of probes from :func:`fit_chosen` at rows x (n, d)."""
    return (x[:, columns] * probes.weights).sum(1) + probes.intercepts


def _checked(ridge: float) -> float:
    if not ridge > 0:
        raise UserError(f"ridge: must be above 0, got {ridge}: separable labels have no finite probe without it")
    return ridge


def _standardised(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.mean(0)
    spread = x.std(0, correction=0)
    # A column that does not vary says nothing; dividing by its rounding would make it loud.
    spread = torch.where(spread > SMALLEST_SPREAD * mean.abs().clamp_min(TINY), spread, torch.inf)
    return (x - mean) / spread, mean, spread


def _unstandardised(parameters: Tensor, mean: Tensor, spread: Tensor) -> Probes:
    weights = parameters[:-1] / spread
    return Probes(weights, parameters[-1] - (weights * mean).sum(0))


def _minimise(design: _Design, positive: Tensor, weights: Tensor | None, start: Tensor, ridge: float) -> Tensor:
    """Preconditioned conjugate gradients (Polak-Ribière, restarted where it would go uphill), all labels in step."""
    penalty = torch.full((len(start), 1), ridge, dtype=start.dtype, device=start.device)
    penalty[-1] = 0
    if weights is None:
        weights = torch.ones((), dtype=start.dtype, device=start.device)
    parameters, logits = start, design.logits(start)
    chance = torch.sigmoid(logits)
    gradient = design.back((chance - positive) * weights) / len(positive) + penalty * parameters
    steepest = design.precondition(gradient)
    direction, power = -steepest, (gradient * steepest).sum(0)
    enough = TOLERANCE**2 * power
    for _ in range(ITERATIONS):
        line = _Line(positive, weights, parameters, logits, direction, design.logits(direction), penalty)
        step, logits, chance = line.lowest((gradient * direction).sum(0), chance)
        parameters = parameters + step * direction
        new = design.back((chance - positive) * weights) / len(positive) + penalty * parameters
        steepest = design.precondition(new)
        moved, power_before = ((new - gradient) * steepest).sum(0), power
        gradient, power = new, (new * steepest).sum(0)
        if bool((power <= enough).all()):
            break
        direction = -steepest + (moved / power_before.clamp_min(TINY)).clamp_min(0) * direction
        direction = torch.where((gradient * direction).sum(0) < 0, direction, -steepest)
    return parameters


@dataclass(frozen=True)
class _Line:
    """The objective of every label along its direction, by its slope: it is convex, so the lowest point has slope 0."""

    positive: Tensor
    weights: Tensor
    parameters: Tensor
    logits: Tensor
    direction: Tensor
    change: Tensor
    penalty: Tensor

    def lowest(self, slope: Tensor, chance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Step (t,), logits and probabilities there: Newton's step, drawn back by secants where it goes too far.

        slope: (t,) at step 0, not positive. chance: probabilities at step 0.
        """
        bend = (chance * (1 - chance) * self.change.square() * self.weights).mean(0)
        bend = bend + (self.penalty * self.direction.square()).sum(0)
        step = -slope / bend.clamp_min(TINY)
        for _ in range(CORRECTIONS):
            logits, chance, beyond = self._at(step)
            too_far = beyond > -slope / 2
            if not bool(too_far.any()):
                break
            step = torch.where(too_far, step * slope / (slope - beyond), step)
        else:
            logits, chance, _ = self._at(step)
        return step, logits, chance

    def _at(self, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = torch.addcmul(self.logits, self.change, step)
        chance = torch.sigmoid(logits)
        slope = ((chance - self.positive) * self.change * self.weights).mean(0)
        moved = self.parameters + step * self.direction
        return logits, chance, slope + (self.penalty * moved * self.direction).sum(0)
