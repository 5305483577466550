"""Action heads: what a policy says about its next action, as a small tagged union.

Every head offers `divergence(other)`, `agreement(other)` and `loss(other)`, so that an analysis can ask how much an
intervention changed the policy without knowing which kind of policy it is; `outputs()` names the numbers whose change
is an effect, and `rows(index)` is the head of some rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Discrete:
    """A categorical distribution over actions.

    logits: (n, actions), natural-log scale, unmasked.
    legal: (n, actions) bool, or None where every action is always legal. Illegal actions have probability 0.
    """

    logits: Tensor
    legal: Tensor | None = None
    kind = "discrete"

    def log_probabilities(self) -> Tensor:
        """Log-probabilities, (n, actions), in nats; -inf at illegal actions."""
        logits = self.logits
        if self.legal is not None:
            logits = logits.masked_fill(~self.legal, -torch.inf)
        return torch.log_softmax(logits, dim=-1)

    def outputs(self) -> dict[str, Tensor]:
        """logits: (n, actions), of illegal actions too."""
        return {"logits": self.logits}

    def rows(self, index: Tensor) -> Discrete:
        """The distributions of some rows."""
        return Discrete(self.logits[index], None if self.legal is None else self.legal[index])

    def divergence(self, other: Discrete) -> Tensor:
        """KL(self || other) per row, (n,), in nats. Both must share the legal mask."""
        mine, theirs = self.log_probabilities(), other.log_probabilities()
        terms = mine.exp() * (mine - theirs)
        return torch.where(mine.isneginf(), torch.zeros_like(terms), terms).sum(-1)

    def agreement(self, other: Discrete) -> Tensor:
        """Whether the two put their largest probability on the same action, (n,) bool."""
        return self.log_probabilities().argmax(-1) == other.log_probabilities().argmax(-1)

    def loss(self, other: Discrete) -> Tensor:
        """-log-likelihood that `other` gives to the action that `self` prefers, (n,), in nats."""
        preferred = self.log_probabilities().argmax(-1, keepdim=True)
        return -other.log_probabilities().gather(-1, preferred).squeeze(-1)


@dataclass(frozen=True)
class Gaussian:
    """A diagonal normal distribution over continuous actions.

    mu: (n, actions), the mean, in the policy's action units.
    log_std: (n, actions) or (actions,), natural logarithm of the standard deviation.
    """

    mu: Tensor
    log_std: Tensor
    kind = "gaussian"

    def outputs(self) -> dict[str, Tensor]:
        """mu: (n, actions), unbounded. mu_clipped: the same within the action's bounds, -1 to 1, as it is executed."""
        return {"mu": self.mu, "mu_clipped": self.mu.clamp(-1, 1)}

    def rows(self, index: Tensor) -> Gaussian:
        """The distributions of some rows."""
        return Gaussian(self.mu[index], self.log_std[index] if self.log_std.ndim > 1 else self.log_std)

    def divergence(self, other: Gaussian) -> Tensor:
        """KL(self || other) per row, (n,), in nats (closed form for diagonal normals)."""
        ratio = 2 * (self.log_std - other.log_std)
        shift = (self.mu - other.mu) / other.log_std.exp()
        return 0.5 * (ratio.exp() + shift**2 - 1 - ratio).sum(-1)

    def agreement(self, other: Gaussian) -> Tensor:
        """Whether the means are within one standard deviation of `self` in every coordinate, (n,) bool."""
        return ((self.mu - other.mu).abs() <= self.log_std.exp()).all(-1)

    def loss(self, other: Gaussian) -> Tensor:
        """-log-density that `other` gives to the action that `self` prefers (its mean), (n,), in nats."""
        shift = (self.mu - other.mu) / other.log_std.exp()
        return (0.5 * shift**2 + other.log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


@dataclass(frozen=True)
class Flow:
    """Actions drawn by flow matching from given noise: a plan of several steps ahead.

    actions: (n, chunk, actions), normalised, as the network gives them: their spread over the data is about 1. What
    two policies draw from the same noise is compared as if each were the mean of a normal distribution of standard
    deviation 1: a distance between plans, in the unit of the KL of such distributions.
    """

    actions: Tensor
    kind = "flow"

    def outputs(self) -> dict[str, Tensor]:
        """actions: (n, chunk * actions), normalised."""
        return {"actions": self.actions.flatten(1)}

    def rows(self, index: Tensor) -> Flow:
        """The plans of some rows."""
        return Flow(self.actions[index])

    def divergence(self, other: Flow) -> Tensor:
        """Half the squared distance of the plans, mean over their steps, (n,), in nats of unit normal distributions."""
        return 0.5 * (self.actions - other.actions).square().sum(-1).mean(-1)

    def agreement(self, other: Flow) -> Tensor:
        """Whether the first actions differ by less than 0.1 in every coordinate, (n,) bool."""
        return ((self.actions - other.actions)[:, 0].abs() < 0.1).all(-1)

    def loss(self, other: Flow) -> Tensor:
        """-log-density of this plan around the other's, mean over steps, (n,), in nats."""
        return self.divergence(other) + 0.5 * self.actions.shape[-1] * math.log(2 * math.pi)


Heads = Discrete | Gaussian | Flow
