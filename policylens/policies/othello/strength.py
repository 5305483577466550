"""How strong a policy is: games against classical opponents, and endgame positions whose best moves are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policylens.policies.othello.evaluation import PolicyEvaluator
from policylens.policies.othello.match import Tally, play_pairs
from policylens.policies.othello.opponents import opponent, searching
from policylens.policies.othello.randomness import stream
from policylens.policies.othello.rules import (
    ACTIONS,
    START_OPP,
    START_OWN,
    is_over,
    legal_moves,
    play,
    popcount,
)
from policylens.policies.othello.search import Evaluate, search_positions
from policylens.policies.othello.selfplay import random_action
from policylens.policies.othello.solver import DISC, INFINITY, TO_THE_END, move_scores
from policylens.policies.protocol import Policy

DEFAULTS: dict[str, Any] = {
    "simulations": (0, 50),
    "games": 200,
    "opening_plies": 4,
    "opponents": ("random", "greedy", "alphabeta-2", "alphabeta-4", "alphabeta-6"),
    "endgames": 500,
    "endgame_empties": 12,
}


def evaluate(policy: Policy, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Strength of a policy, as counts.

    settings: see DEFAULTS. simulations: searches to test, 0 being the network's likeliest move ("network");
    games per opponent, two from each random opening of `opening_plies` plies, colours exchanged (the unit is the
    game; two games share an opening); endgames: test positions with `endgame_empties` empty squares.

    Returns {"games": {player: {opponent: tally}}, "endgames": {...}}. A tally has wins, draws, losses,
    score = (wins + draws / 2) / n, and successes = wins out of n.
    """
    wanted = {**DEFAULTS, **settings}
    network = PolicyEvaluator(policy)
    players = {f"mcts-{number}" if number else "network": number for number in wanted["simulations"]}
    results: dict[str, Any] = {"games": {}, "endgames": {}}
    for player, simulations in players.items():
        agent = searching(network, simulations)
        results["games"][player] = {
            name: _counts(play_pairs(agent, opponent(name), range(wanted["games"] // 2), wanted["opening_plies"], seed))
            for name in wanted["opponents"]
        }
    if wanted["endgames"]:
        positions = Endgames(wanted["endgames"], wanted["endgame_empties"], seed)
        results["endgames"] = _endgames(network, players, positions)
    return results


def _counts(tally: Tally) -> dict[str, Any]:
    return {
        "successes": tally.wins,
        "n": tally.games,
        "wins": tally.wins,
        "draws": tally.draws,
        "losses": tally.losses,
        "score": tally.score,
    }


@njit("void(uint64[:], int64, int64, uint64[:])", cache=True)
def _play_down(streams, row, empties, position):
    """Write a position with `empties` empty squares into `position` (own, opp) by random play; zero if none."""
    own, opp = START_OWN, START_OPP
    while 36 - popcount(own | opp) > empties and not is_over(own, opp):
        own, opp = play(own, opp, random_action(streams, row, own, opp))
    usable = 36 - popcount(own | opp) == empties and popcount(legal_moves(own, opp)) > 1
    position[0], position[1] = (own, opp) if usable else (np.uint64(0), np.uint64(0))


class Endgames:
    """Positions from random play in which the move decides: not all legal moves have the same result.

    own, opp: uint64 (n,); values: int64 (n, 37), exact disc difference after each action for the side that
    moves, far below -36 where illegal.
    """

    def __init__(self, count: int, empties: int, seed: int) -> None:
        found: list[tuple[np.uint64, np.uint64, NDArray[np.int64]]] = []
        position, scores = np.zeros(2, np.uint64), np.empty(ACTIONS, np.int64)
        number = 0
        while len(found) < count:
            streams = np.array([stream(np.uint64(seed), np.uint64(number))], np.uint64)
            number += 1
            _play_down(streams, 0, empties, position)
            if position.any():
                move_scores(position[0], position[1], TO_THE_END, scores)
                if len(np.unique(np.sign(scores[scores > -INFINITY]))) > 1:
                    found.append((position[0], position[1], scores // DISC))
        self.own = np.array([own for own, _, _ in found], np.uint64)
        self.opp = np.array([opp for _, opp, _ in found], np.uint64)
        self.values = np.array([values for _, _, values in found])
        self.legal = self.values > -INFINITY // DISC
        self.best = self.values.max(axis=1)

    def right(self) -> NDArray[np.bool_]:
        """Which actions reach the best result (win, draw, loss) there is, (n, 37)."""
        return self.legal & (np.sign(self.values) == np.sign(self.best)[:, None])

    def regret(self) -> NDArray[np.float64]:
        """Discs lost by each action against the best one, (n, 37); 0 where illegal."""
        return np.where(self.legal, self.best[:, None] - self.values, 0).astype(float)


def _endgames(network: Evaluate, players: Mapping[str, int], positions: Endgames) -> dict[str, Any]:
    """Right moves and mean regret (discs) per player; a uniformly random mover's expectation beside them."""
    right, regret = positions.right(), positions.regret()
    rows = np.arange(len(positions.own))
    chance = positions.legal / positions.legal.sum(axis=1, keepdims=True)
    found: dict[str, Any] = {
        "random": {
            "expected_rate": float((chance * right).sum(axis=1).mean()),
            "mean_regret": float((chance * regret).sum(axis=1).mean()),
        }
    }
    for player, simulations in players.items():
        actions = searching(network, simulations)(positions.own, positions.opp, rows)
        found[player] = {
            "successes": int(right[rows, actions].sum()),
            "n": len(rows),
            "mean_regret": float(regret[rows, actions].mean()),
        }
    _, values, _ = search_positions(network, positions.own, positions.opp, 0)
    decided = positions.best != 0
    agrees = np.sign(values) == np.sign(positions.best)
    found["value_sign"] = {"successes": int((agrees & decided).sum()), "n": int(decided.sum())}
    return found
