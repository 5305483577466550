"""How good a policy is: drawers opened from starts that training has never seen, and how well its value foretells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from policylens.policies.franka.actor_critic import ActorCritic
from policylens.policies.franka.dataset import discounted
from policylens.policies.franka.environment import DEFAULTS as PLAY_DEFAULTS
from policylens.policies.franka.environment import parsed
from policylens.policies.franka.play import Episode, acting, play
from policylens.statistics.intervals import bootstrap_sums, cluster_bootstrap
from policylens.statistics.resampling import Resampling

DEFAULTS: dict[str, Any] = {"episodes": 200, "discount": 0.99}


def evaluate(policy: ActorCritic, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Strength of a policy: {"drawer": {...}}, with the episode as the unit of every interval.

    settings: episodes; discount, of the returns that training's value head has learnt; and those of rollouts.

    successes of n episodes in which the drawer was opened; return, the mean sum of rewards; steps, until it was open,
    over the episodes in which it was (None if there are fewer than two); value_explained, the share of the variance of
    discounted returns over all steps that the value explains: 1 - var(return - value) / var(return).
    """
    wanted = {**DEFAULTS, **settings}
    how = parsed({name: value for name, value in wanted.items() if name in PLAY_DEFAULTS})
    found = play(acting(policy), how, range(wanted["episodes"]), "strength", seed)
    episodes = sorted(found, key=lambda episode: episode.number)
    resampling, numbers = Resampling(seed=seed), np.arange(len(episodes))
    totals = np.array([np.sum(episode.columns["reward"], dtype=np.float64) for episode in episodes])
    steps = np.array([episode.opened_after for episode in episodes if episode.opened_after is not None], np.float64)
    return {
        "drawer": {
            "successes": len(steps),
            "n": len(episodes),
            "return": cluster_bootstrap(totals, numbers, resampling).record(),
            "steps": cluster_bootstrap(steps, numbers[: len(steps)], resampling).record() if len(steps) > 1 else None,
            "value_explained": _explained(policy, episodes, wanted["discount"], resampling),
        }
    }


def _explained(
    policy: ActorCritic, episodes: Sequence[Episode], discount: float, resampling: Resampling
) -> dict[str, Any]:
    sums = []
    for episode in episodes:
        columns = episode.arrays()
        returns = discounted(columns["reward"], discount).astype(np.float64)
        value = policy.in_returns(torch.from_numpy(columns["value"]).to(policy.device, policy.dtype))
        error = returns - value.cpu().numpy().astype(np.float64)
        sums.append([error @ error, error.sum(), returns @ returns, returns.sum(), len(returns)])
    terms = list(np.array(sums).T)
    return bootstrap_sums(terms, _share, resampling, n_rows=int(terms[-1].sum()), undefined="nan").record()


def _share(error2: NDArray, error: NDArray, return2: NDArray, returns: NDArray, n: NDArray) -> NDArray:
    return 1 - (error2 - error**2 / n) / (return2 - returns**2 / n)
