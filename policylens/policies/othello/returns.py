"""What a policy achieves in whole games against fixed opponents, episode by episode, without a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policylens.policies.family import DIVERGENCE
from policylens.policies.othello.evaluation import PolicyEvaluator
from policylens.policies.othello.match import play_games
from policylens.policies.othello.opponents import Agent, opponent, searching
from policylens.policies.othello.rules import CORNERS, FULL, popcount
from policylens.policies.protocol import Policy

DEFAULTS: dict[str, Any] = {"opening_plies": 4, "opponents": ("random", "greedy", "alphabeta-2")}


def returns(
    policy: Policy, settings: Mapping[str, Any], episodes: Sequence[int], seed: int, reference: Policy | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Opponent -> measure -> float64 (episodes,).

    settings: see DEFAULTS. An episode is two games from one random opening of `opening_plies` plies, with both
    colours, in which the network plays its likeliest move. Measures are those of family.py; `divergence` is there with
    a reference, which is asked about every position and does not play. The opening and the opponent's random numbers
    follow from seed and number of the episode, so that the same episodes of two policies are pairs.
    """
    wanted = {**DEFAULTS, **settings}
    evaluate = PolicyEvaluator(policy, reference)
    return {
        name: _against(opponent(name), evaluate, list(episodes), wanted["opening_plies"], seed)
        for name in wanted["opponents"]
    }


def _against(
    other: Agent, evaluate: PolicyEvaluator, episodes: Sequence[int], plies: int, seed: int
) -> dict[str, np.ndarray]:
    apart, moves = np.zeros((2, 2 * len(episodes)))

    def note(games: np.ndarray) -> None:
        apart[games] += evaluate.divergence
        moves[games] += 1

    own, opp = play_games(searching(evaluate, 0), other, episodes, plies, seed, note)
    discs, corners = (counted(own, kinds) - counted(opp, kinds) for kinds in (FULL, CORNERS))
    games = {"return": np.sign(discs), "success": discs > 0, "discs": discs, "corners": corners}
    if evaluate.reference is not None:
        games[DIVERGENCE] = apart / np.maximum(moves, 1)
    return {
        measure: values.reshape(2, len(episodes)).mean(axis=0, dtype=np.float64) for measure, values in games.items()
    }


def counted(boards: np.ndarray, squares: np.uint64) -> np.ndarray:
    """Discs on some of the squares of each bitboard, int64 (n,)."""
    return np.array([popcount(board & squares) for board in boards], np.int64)
