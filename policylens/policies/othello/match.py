"""Games between two agents, all at once, from random openings that both play with both colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policylens.policies.othello.opponents import Agent
from policylens.policies.othello.randomness import mix, stream
from policylens.policies.othello.rules import disc_difference, is_over, play
from policylens.policies.othello.selfplay import random_opening


@dataclass(frozen=True)
class Tally:
    """Results of games, for the first agent."""

    wins: int
    draws: int
    losses: int

    @property
    def games(self) -> int:
        """How many games there were."""
        return self.wins + self.draws + self.losses

    @property
    def score(self) -> float:
        """Wins plus half the draws, per game."""
        return (self.wins + 0.5 * self.draws) / self.games

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.wins + other.wins, self.draws + other.draws, self.losses + other.losses)


@njit("void(uint64[:], int64, uint64[:], uint64[:])", cache=True)
def _openings(streams, plies, own, opp):
    for row in range(streams.shape[0]):
        own[row], opp[row] = random_opening(streams, row, plies)


@njit("void(uint64[:], uint64[:], int64[:])", cache=True)
def _play_all(own, opp, actions):
    for row in range(own.shape[0]):
        own[row], opp[row] = play(own[row], opp[row], actions[row])


@njit("void(uint64[:], uint64[:], boolean[:])", cache=True)
def _find_over(own, opp, over):
    for row in range(own.shape[0]):
        over[row] = is_over(own[row], opp[row])


def _streams(seed: int, numbers: Sequence[int]) -> NDArray[np.uint64]:
    return np.array([stream(np.uint64(seed), np.uint64(number)) for number in numbers], np.uint64)


def random_positions(plies: int, numbers: Sequence[int], seed: int) -> tuple[NDArray, NDArray]:
    """Unfinished positions after uniformly random plies, own and opp uint64 (n,), one for each number."""
    own, opp = np.empty(len(numbers), np.uint64), np.empty(len(numbers), np.uint64)
    _openings(_streams(seed, numbers), plies, own, opp)
    return own, opp


def play_pairs(first: Agent, second: Agent, pairs: Sequence[int], plies: int, seed: int) -> Tally:
    """The results of :func:`pair_results`, counted."""
    results = np.sign(pair_results(first, second, pairs, plies, seed))
    return Tally(int((results > 0).sum()), int((results == 0).sum()), int((results < 0).sum()))


def pair_results(first: Agent, second: Agent, pairs: Sequence[int], plies: int, seed: int) -> NDArray[np.int64]:
    """The final disc differences for the first agent, (2, pairs), of the games of :func:`play_games`."""
    own, opp = play_games(first, second, pairs, plies, seed)
    return np.array([disc_difference(*position) for position in zip(own, opp, strict=True)]).reshape(2, len(pairs))


def play_games(
    first: Agent,
    second: Agent,
    pairs: Sequence[int],
    plies: int,
    seed: int,
    moved: Callable[[NDArray[np.int64]], None] | None = None,
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Play two games from each numbered opening of `plies` random plies, colours exchanged.

    Returns the last boards, the first agent's discs and the second's, each (2 * pairs,): games in which the first
    agent moves first after the opening, then those in which it moves second. A pair of games depends on its number and
    the seed, not on which others are played with it.

    moved: told the games, as places in these arrays, in which the first agent has just moved.
    """
    own, opp = (np.concatenate([board, board]) for board in random_positions(plies, pairs, seed))
    first_moves = np.arange(len(own)) < len(pairs)  # whether the side to move is the first agent
    streams = _streams(int(mix(np.uint64(seed))), [2 * pair + colour for colour in (0, 1) for pair in pairs])
    over = np.zeros(len(own), np.bool_)
    while not over.all():
        for agent, moves in ((first, ~over & first_moves), (second, ~over & ~first_moves)):
            rows = np.flatnonzero(moves)
            _move(agent, rows, own, opp, streams)
            if moved is not None and agent is first and len(rows):
                moved(rows)
        first_moves ^= ~over
        _find_over(own, opp, over)
    return np.where(first_moves, own, opp), np.where(first_moves, opp, own)


def _move(agent: Agent, rows: NDArray, own: NDArray, opp: NDArray, streams: NDArray) -> None:
    """Let an agent move in the games `rows`; boards and streams are changed in place."""
    if len(rows) == 0:
        return
    its_own, its_opp, its_streams = own[rows], opp[rows], streams[rows]
    _play_all(its_own, its_opp, agent(its_own, its_opp, its_streams))
    own[rows], opp[rows], streams[rows] = its_own, its_opp, its_streams
