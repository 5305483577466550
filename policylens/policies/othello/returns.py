"""What a policy achieves in whole games against fixed opponents, episode by episode, without a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policylens.policies.othello.evaluation import policy_evaluator
from policylens.policies.othello.match import pair_results
from policylens.policies.othello.opponents import opponent, searching
from policylens.policies.protocol import Policy

DEFAULTS: dict[str, Any] = {"opening_plies": 4, "opponents": ("random", "greedy", "alphabeta-2")}


def returns(
    policy: Policy, settings: Mapping[str, Any], episodes: Sequence[int], seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Opponent -> measure -> float64 (episodes,).

    settings: see DEFAULTS. An episode is two games from one random opening of `opening_plies` plies, with both
    colours, in which the network plays its likeliest move. return: mean of 1 for a win, 0 for a draw, -1 for a loss.
    success: share won. discs: mean final disc difference. The opening and the opponent's random numbers follow from
    seed and number of the episode, so that the same episodes of two policies are pairs.
    """
    wanted = {**DEFAULTS, **settings}
    agent = searching(policy_evaluator(policy), 0)
    found = {}
    for name in wanted["opponents"]:
        discs = pair_results(agent, opponent(name), list(episodes), wanted["opening_plies"], seed)
        games = {"return": np.sign(discs), "success": discs > 0, "discs": discs}
        found[name] = {measure: values.mean(axis=0, dtype=np.float64) for measure, values in games.items()}
    return found
