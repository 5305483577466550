"""Games of a network against itself, many at once, for training and for rollouts alike.

Every episode has its own stream of random numbers and every evaluation is done in blocks of one size, so an
episode comes out the same whatever is played beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policylens.policies.othello.randomness import below, gamma, stream, uniform
from policylens.policies.othello.rules import (
    ACTIONS,
    LONGEST_GAME,
    ONE,
    START_OPP,
    START_OWN,
    disc_difference,
    is_over,
    legal_actions,
    lowest,
    play,
    popcount,
)
from policylens.policies.othello.search import (
    OVER,
    Evaluate,
    Puct,
    Trees,
    absorb,
    advance_root,
    check_memory,
    plant,
    plant_root,
    read_root,
    search,
)

STEP = np.dtype(
    [
        ("episode", "i8"),
        ("ply", "i4"),
        ("own", "u8"),
        ("opp", "u8"),
        ("action", "i2"),
        ("value", "f4"),
        ("visits", "u2", (ACTIONS,)),
    ]
)
EPISODE = np.dtype([("episode", "i8"), ("opening", "i4"), ("length", "i4"), ("outcome", "i4")])
_GAME = np.dtype(
    [("episode", "i8"), ("opening", "i4"), ("ply", "i4"), ("length", "i4"), ("noised", "i4"), ("running", "i4")]
)


class PlaySettings(NamedTuple):
    """How games are played.

    simulations: visits per move, 0 to sample from the network's own policy.
    first_opening, last_opening: a game starts with a number of uniformly random plies drawn from this range.
    temperature: moves are drawn with probability ~ visits ** (1 / temperature), for the first
        `temperature_plies` plies after the opening; then the most visited move is played.
    noise_weight, noise_shape: share and shape of the Dirichlet noise mixed into the root's priors.
    """

    simulations: int = 64
    first_opening: int = 0
    last_opening: int = 4
    temperature: float = 1.0
    temperature_plies: int = 12
    noise_weight: float = 0.0
    noise_shape: float = 0.5


class _Games(NamedTuple):
    """lanes: _GAME (lanes,); steps: STEP (lanes, plies); streams: uint64 (lanes,)."""

    lanes: NDArray
    steps: NDArray
    streams: NDArray


@njit(cache=True)
def random_action(streams, lane, own, opp):
    """A legal action, each with the same chance, drawn from `streams[lane]`."""
    actions = legal_actions(own, opp)
    for _ in range(below(streams, lane, popcount(actions))):
        actions &= actions - ONE
    return lowest(actions)


@njit(cache=True)
def random_opening(streams, lane, plies):
    """A position after uniformly random plies from the start; drawn again if the game ended on the way."""
    while True:
        own, opp = START_OWN, START_OPP
        played = 0
        while played < plies and not is_over(own, opp):
            own, opp = play(own, opp, random_action(streams, lane, own, opp))
            played += 1
        if not is_over(own, opp):
            return own, opp


@njit(cache=True)
def _start(trees, games, settings, lane, seed, episode):
    games.streams[lane] = stream(np.uint64(seed), np.uint64(episode))
    spread = settings.last_opening - settings.first_opening + 1
    plies = settings.first_opening + below(games.streams, lane, spread)
    own, opp = random_opening(games.streams, lane, plies)
    game = games.lanes[lane]
    game.episode, game.opening, game.ply, game.length = episode, plies, plies, 0
    game.noised, game.running = 0, 1
    plant_root(trees, lane, own, opp)


@njit(cache=True)
def _mix_noise(trees, games, settings, lane):
    """Mix Dirichlet noise into the root's priors (Silver et al. 2018)."""
    root = trees.nodes[lane, 0]
    games.lanes[lane].noised = 1
    if settings.noise_weight <= 0.0 or root.edges < 2:
        return
    noise = np.empty(root.edges)
    for index in range(root.edges):
        noise[index] = gamma(games.streams, lane, settings.noise_shape) + 1e-12
    noise /= noise.sum()
    for index in range(root.edges):
        edge = trees.edges[lane, root.first + index]
        edge.prior = (1.0 - settings.noise_weight) * edge.prior + settings.noise_weight * noise[index]


@njit(cache=True)
def _choose(trees, games, settings, lane):
    """Draw the move: by visits (or priors, without search) under the temperature, later the best one."""
    root = trees.nodes[lane, 0]
    weights = np.empty(root.edges)
    for index in range(root.edges):
        edge = trees.edges[lane, root.first + index]
        weights[index] = edge.visits if settings.simulations > 0 else edge.prior
    chosen = np.argmax(weights)
    game = games.lanes[lane]
    if settings.temperature > 0.0 and game.ply - game.opening < settings.temperature_plies:
        weights = np.cumsum((weights / weights.max()) ** (1.0 / settings.temperature))
        chosen = np.searchsorted(weights, uniform(games.streams, lane) * weights[-1], side="right")
    return trees.edges[lane, root.first + chosen].action


@njit(cache=True)
def _move(trees, games, settings, lane):
    """Record the root as a step of the episode, and play."""
    game, root = games.lanes[lane], trees.nodes[lane, 0]
    step = games.steps[lane, game.length]
    step.episode, step.ply, step.own, step.opp = game.episode, game.ply, root.own, root.opp
    step.value = read_root(trees, lane, step.visits)
    step.action = _choose(trees, games, settings, lane)
    advance_root(trees, lane, step.action)
    game.ply += 1
    game.length += 1
    game.noised = 0
    game.running = trees.nodes[lane, 0].status != OVER


@njit(cache=True)
def _advance(trees, games, settings, puct, waiting, own, opp):
    """Play every running lane on until it waits for the network or its episode ends. Returns how many wait."""
    count = 0
    for lane in range(games.lanes.shape[0]):
        game = games.lanes[lane]
        while game.running:
            root = trees.nodes[lane, 0]
            if root.status != 0 and not game.noised:
                _mix_noise(trees, games, settings, lane)
            # A forced move needs no search, only the value below it.
            visits = min(settings.simulations, 1) if root.edges == 1 else settings.simulations
            if search(trees, lane, visits, puct):
                _move(trees, games, settings, lane)
            else:
                leaf = trees.nodes[lane, trees.lanes[lane].leaf]
                waiting[count], own[count], opp[count] = lane, leaf.own, leaf.opp
                count += 1
                break
    return count


def play_games(
    evaluate: Evaluate,
    settings: PlaySettings,
    puct: Puct,
    episodes: Sequence[int],
    seed: int,
    lanes: int = 256,
) -> Iterator[tuple[NDArray, NDArray]]:
    """Play the numbered episodes; yields (steps STEP (n,), episode EPISODE ()) as each game ends.

    Which game ends first depends on `lanes`; what happens in it does not.
    """
    lanes = min(lanes, len(episodes))
    trees = plant(lanes, settings.simulations)
    games = _Games(
        lanes=np.zeros(lanes, _GAME),
        steps=np.zeros((lanes, LONGEST_GAME), STEP),
        streams=np.zeros(lanes, np.uint64),
    )
    remaining = iter(episodes)
    for lane, episode in zip(range(lanes), remaining, strict=False):
        _start(trees, games, settings, lane, seed, episode)
    waiting = np.empty(lanes, np.int64)
    own, opp = np.empty(lanes, np.uint64), np.empty(lanes, np.uint64)
    while count := _advance(trees, games, settings, puct, waiting, own, opp):
        check_memory(trees)
        absorb(trees, waiting[:count], *evaluate(own[:count], opp[:count]))
        ended = np.flatnonzero((games.lanes["running"] == 0) & (games.lanes["episode"] >= 0))
        for lane in ended:
            yield _finished(trees, games, lane)
            games.lanes[lane]["episode"] = -1
            episode = next(remaining, None)
            if episode is not None:
                _start(trees, games, settings, lane, seed, episode)
    for lane in np.flatnonzero(games.lanes["episode"] >= 0):
        yield _finished(trees, games, lane)


def _finished(trees: Trees, games: _Games, lane: int) -> tuple[NDArray, NDArray]:
    game, last = games.lanes[lane], trees.nodes[lane, 0]
    difference = disc_difference(last["own"], last["opp"])
    record = np.zeros((), EPISODE)
    record["episode"], record["opening"], record["length"] = game["episode"], game["opening"], game["length"]
    record["outcome"] = difference if game["ply"] % 2 == 0 else -difference
    return games.steps[lane, : game["length"]].copy(), record
