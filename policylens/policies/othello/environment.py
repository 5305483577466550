"""Rollouts: games of a policy against itself, as whole episodes with what the rules and the search know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from policylens.errors import UserError
from policylens.policies.othello.evaluation import PolicyEvaluator
from policylens.policies.othello.rules import unpack
from policylens.policies.othello.search import Puct
from policylens.policies.othello.selfplay import PlaySettings, play_games
from policylens.policies.othello.symmetry import class_keys
from policylens.policies.protocol import Policy
from policylens.policies.rollout import Rollout

DEFAULTS: dict[str, Any] = {
    "simulations": 32,
    "opening_plies": (0, 8),
    "temperature": 1.0,
    "temperature_plies": 10,
    "exploration": 1.5,
    "reduction": 0.2,
    "noise_weight": 0.0,
    "noise_shape": 0.5,
    "lanes": 256,
}
CHUNK = 512  # episodes handed over at once


def rollout(
    policy: Policy, settings: Mapping[str, Any], episodes: Sequence[int], seed: int, threads: int = 1
) -> Iterator[Rollout]:
    """Let the policy play the numbered episodes against itself; yields them in order, some hundreds at a time.

    settings (all optional, see DEFAULTS and PlaySettings): simulations per move, 0 to sample from the network's own
    policy; opening_plies, the range of uniformly random plies at the start (not recorded); temperature and
    temperature_plies; exploration and reduction of the search; noise_weight and noise_shape; lanes, games
    played at once (an episode is the same whatever their number). threads: torch threads.

    steps: episode int64, step int32 (plies since the start of the game, opening included), group uint64 (key of
    the position's symmetry class), cells int8 (n, 36), legal bool (n, 37), action int16, search_value float32 in
    [-1, 1] for the side to move, visits uint16 (n, 37). The visits
    add up to `simulations`, except that a forced move has only those left from the search before it, or one.
    episodes: episode int64, length int32 (recorded steps), opening_plies int32, outcome int32 (final disc
    difference seen from the player who moved first in the game).
    """
    torch.set_num_threads(threads)
    play, puct, lanes = _parsed(settings)
    evaluate = PolicyEvaluator(policy)
    for start in range(0, len(episodes), CHUNK):
        games = play_games(evaluate, play, puct, episodes[start : start + CHUNK], seed, lanes)
        yield _rollout(sorted(games, key=lambda game: int(game[1]["episode"])))


def _parsed(settings: Mapping[str, Any]) -> tuple[PlaySettings, Puct, int]:
    if unknown := sorted(settings.keys() - DEFAULTS.keys()):
        raise UserError(f"unknown rollout settings {', '.join(unknown)}; there are {', '.join(sorted(DEFAULTS))}")
    values = {**DEFAULTS, **settings}
    first, last = values.pop("opening_plies")
    if not 0 <= first <= last:
        raise UserError(f"opening_plies is a range [least, most] of plies, got {[first, last]}")
    puct = Puct(float(values.pop("exploration")), float(values.pop("reduction")))
    lanes = values.pop("lanes")
    for name in ("temperature", "noise_weight", "noise_shape"):
        values[name] = float(values[name])  # a compiled function for every mixture of types would be slow
    return PlaySettings(first_opening=first, last_opening=last, **values), puct, lanes


def _rollout(games: Sequence[tuple[NDArray, NDArray]]) -> Rollout:
    steps = np.concatenate([steps for steps, _ in games])
    episodes = np.stack([episode for _, episode in games])
    own, opp = steps["own"].copy(), steps["opp"].copy()
    cells, legal = unpack(own, opp)
    return Rollout(
        steps={
            "episode": steps["episode"].copy(),
            "step": steps["ply"].copy(),
            "group": class_keys(own, opp),
            "cells": cells,
            "legal": legal,
            "action": steps["action"].copy(),
            "search_value": steps["value"].copy(),
            "visits": steps["visits"].copy(),
        },
        episodes={
            "episode": episodes["episode"].copy(),
            "length": episodes["length"].copy(),
            "opening_plies": episodes["opening"].copy(),
            "outcome": episodes["outcome"].copy(),
        },
    )
