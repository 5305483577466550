"""Classical opponents, and the one form in which all agents are asked for moves."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policylens.errors import UserError
from policylens.policies.othello.family import AGENT
from policylens.policies.othello.randomness import below
from policylens.policies.othello.rules import ACTIONS, PASS, flipped, popcount
from policylens.policies.othello.search import Evaluate, search_positions
from policylens.policies.othello.selfplay import random_action
from policylens.policies.othello.solver import INFINITY, move_scores

# Positions uint64 (n,), (n,), none of them over, and one stream of random numbers each, which move on
# -> a legal action per position, int64 (n,).
Agent = Callable[[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]], NDArray[np.int64]]


@njit("void(int64[:], uint64[:], int64, int64[:])", cache=True)
def _draw_best(scores, streams, row, actions):
    """Choose among the actions with the highest score, each with the same chance."""
    best, ties = scores[0], 0
    for action in range(ACTIONS):
        best = max(best, scores[action])
    for action in range(ACTIONS):
        ties += scores[action] == best
    skip = below(streams, row, ties)
    for action in range(ACTIONS):
        if scores[action] == best:
            if skip == 0:
                actions[row] = action
                return
            skip -= 1


@njit("void(uint64[:], uint64[:], uint64[:], int64, int64[:])", cache=True)
def _alpha_beta_actions(own, opp, streams, depth, actions):
    scores = np.empty(ACTIONS, np.int64)
    for row in range(own.shape[0]):
        move_scores(own[row], opp[row], depth, scores)
        _draw_best(scores, streams, row, actions)


@njit("void(uint64[:], uint64[:], uint64[:], int64[:])", cache=True)
def _greedy_actions(own, opp, streams, actions):
    scores = np.empty(ACTIONS, np.int64)
    for row in range(own.shape[0]):
        scores[:] = -INFINITY
        scores[PASS] = 0  # only best where nothing can be turned
        for square in range(PASS):
            if not ((own[row] | opp[row]) >> np.uint64(square)) & np.uint64(1):
                turned = popcount(flipped(own[row], opp[row], square))
                scores[square] = turned if turned > 0 else -INFINITY
        _draw_best(scores, streams, row, actions)


@njit("void(uint64[:], uint64[:], uint64[:], int64[:])", cache=True)
def _random_actions(own, opp, streams, actions):
    for row in range(own.shape[0]):
        actions[row] = random_action(streams, row, own[row], opp[row])


def _random(own, opp, streams):
    actions = np.empty(len(own), np.int64)
    _random_actions(own, opp, streams, actions)
    return actions


def _greedy(own, opp, streams):
    actions = np.empty(len(own), np.int64)
    _greedy_actions(own, opp, streams, actions)
    return actions


def _looking_ahead(depth: int) -> Agent:
    def choose(own, opp, streams):
        actions = np.empty(len(own), np.int64)
        _alpha_beta_actions(own, opp, streams, depth, actions)
        return actions

    return choose


def opponent(name: str) -> Agent:
    """A classical agent by name: "random", "greedy" (turns most discs), "alphabeta-<depth>".

    Equally good moves are drawn with the same chance each. An unknown name is a UserError.
    """
    if not re.match(AGENT, name):
        raise UserError(f"there is no agent {name!r}; there are random, greedy and alphabeta-<depth>")
    if name.startswith("alphabeta-"):
        return _looking_ahead(int(name.removeprefix("alphabeta-")))
    return {"random": _random, "greedy": _greedy}[name]


def searching(evaluate: Evaluate, simulations: int) -> Agent:
    """A network that plays the most visited move of a search, or its likeliest move with 0 simulations."""

    def choose(own, opp, streams):
        visits, _, priors = search_positions(evaluate, own, opp, simulations)
        return (visits if simulations else priors).argmax(axis=1)

    return choose
