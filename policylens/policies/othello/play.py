"""Othello in the terminal: a person against a policy, or two agents against each other."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from policylens.errors import UserError
from policylens.policies.othello.evaluation import PolicyEvaluator
from policylens.policies.othello.family import AGENT
from policylens.policies.othello.match import Tally, play_pairs
from policylens.policies.othello.opponents import Agent, opponent, searching
from policylens.policies.othello.rules import (
    PASS,
    SIDE,
    SQUARES,
    START_OPP,
    START_OWN,
    disc_difference,
    is_over,
    legal_actions,
    play,
    popcount,
)
from policylens.policies.othello.search import Evaluate, search_positions
from policylens.policies.othello.squares import square_name
from policylens.policies.registry import load_policy
from policylens.progress import progress

_MEN = "XO"  # X moves first
_PAIRS_AT_ONCE = 10


def main(checkpoint: Path, options: Sequence[str]) -> None:
    """`policylens play`: a game with a person, or with --against a match. Raises UserError for bad options."""
    arguments = _parser().parse_args(options)
    evaluate = _evaluator(checkpoint)
    if arguments.against is None:
        play_person(evaluate, arguments.simulations, arguments.first == "me", input, print)
        return
    if arguments.games < 2 or arguments.games % 2:
        raise UserError(f"--games must be an even number, as both play both colours; got {arguments.games}")
    first = searching(evaluate, arguments.simulations)
    tally = match(first, agent(arguments.against), arguments.games // 2, arguments.opening_plies, arguments.seed)
    print(result_line(f"{checkpoint.name}:{arguments.simulations}", arguments.against, tally))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="policylens play", description=__doc__)
    parser.add_argument("--simulations", type=int, default=50, help="of its search; 0: its likeliest move")
    parser.add_argument("--first", choices=["me", "policy"], default="me", help="who moves first")
    parser.add_argument(
        "--against", help="instead of you: random, greedy, alphabeta-<depth>, or a checkpoint folder[:simulations]"
    )
    parser.add_argument("--games", type=int, default=100, help="games of a match, half of them with each colour")
    parser.add_argument("--opening-plies", type=int, default=4, help="random plies at the start of a match's games")
    parser.add_argument("--seed", type=int, default=0, help="of a match's openings and of tied moves")
    return parser


def _evaluator(checkpoint: Path) -> Evaluate:
    policy = load_policy(checkpoint)
    if policy.record["family"] != "othello":
        raise UserError(f"{checkpoint}: is of the family {policy.record['family']!r} and does not play Othello")
    return PolicyEvaluator(policy)


def agent(text: str) -> Agent:
    """An agent from its description: random, greedy, alphabeta-<depth>, or a checkpoint folder[:simulations]."""
    if re.match(AGENT, text):
        return opponent(text)
    folder, _, simulations = text.rpartition(":") if re.search(r":\d+$", text) else (text, "", "50")
    if not Path(folder).is_dir():
        raise UserError(f"no agent {text!r}: give random, greedy, alphabeta-<depth>, or a checkpoint's folder")
    return searching(_evaluator(Path(folder)), int(simulations))


def match(first: Agent, second: Agent, pairs: int, opening_plies: int, seed: int) -> Tally:
    """Two games from each of `pairs` random openings, some at a time, with progress."""
    starts = range(0, pairs, _PAIRS_AT_ONCE)
    tally = Tally(0, 0, 0)
    for start in progress(starts, len(starts), "playing", "batches of games"):
        numbers = range(start, min(start + _PAIRS_AT_ONCE, pairs))
        tally += play_pairs(first, second, numbers, opening_plies, seed)
    return tally


def result_line(first: str, second: str, tally: Tally) -> str:
    """A match's result in one line."""
    return (
        f"{first} against {second}: {tally.wins} won, {tally.draws} drawn, {tally.losses} lost "
        f"of {tally.games} games, score {tally.score:.3f}"
    )


def board_text(own: int, opp: int, mine: str) -> str:
    """The board with coordinates; `mine` is the mover's letter, * a square where it may place a disc."""
    theirs = _MEN[1 - _MEN.index(mine)]
    legal = int(legal_actions(np.uint64(own), np.uint64(opp)))
    lines = ["    " + " ".join("abcdef")]
    for row in range(SIDE):
        signs = []
        for square in range(row * SIDE, (row + 1) * SIDE):
            boards = ((int(own), mine), (int(opp), theirs), (legal, "*"))
            signs.append(next((sign for board, sign in boards if board >> square & 1), "."))
        lines.append(f"  {row + 1} " + " ".join(signs))
    return "\n".join(lines)


def parse_action(text: str) -> int | None:
    """ "c4" -> its square, "pass" -> the pass, anything else -> None."""
    text = text.strip().lower()
    if text == "pass":
        return PASS
    if re.fullmatch(r"[a-f][1-6]", text):
        return (int(text[1]) - 1) * SIDE + "abcdef".index(text[0])
    return None


def play_person(
    evaluate: Evaluate, simulations: int, person_first: bool, ask: Callable[[str], str], say: Callable[[str], None]
) -> None:
    """One game between a person and a network. `ask` returns a line of input; its end of file ends the game."""
    own, opp = START_OWN, START_OPP
    mover = 0  # 0 is X
    person = 0 if person_first else 1
    say(f"You are {_MEN[person]}. X moves first. Type a square such as c4, pass, or quit.")
    while not is_over(own, opp):
        if mover == person:
            say(board_text(own, opp, _MEN[mover]))
            action = _asked(own, opp, ask, say)
            if action is None:
                say("You left the game.")
                return
        else:
            action = _answer(evaluate, simulations, own, opp, say)
        own, opp = play(own, opp, action)
        mover = 1 - mover
    say(board_text(own, opp, _MEN[mover]))
    say(_ending(disc_difference(own, opp) * (1 if mover == person else -1), own, opp, mover))


def _asked(own: int, opp: int, ask: Callable[[str], str], say: Callable[[str], None]) -> int | None:
    """A legal action from the person, asked for until there is one; None if the person leaves."""
    legal = int(legal_actions(own, opp))
    names = ["pass" if action == PASS else square_name(action) for action in range(PASS + 1) if legal >> action & 1]
    while True:
        try:
            text = ask("your move: ")
        except (EOFError, KeyboardInterrupt):
            return None
        if text.strip().lower() in ("quit", "q", "exit"):
            return None
        action = parse_action(text)
        if action is not None and legal >> action & 1:
            return action
        say(f"{text.strip() or 'nothing'!r} is not a legal move; you can play {', '.join(names)}, or quit")


def _answer(evaluate: Evaluate, simulations: int, own: int, opp: int, say: Callable[[str], None]) -> int:
    visits, values, priors = search_positions(evaluate, np.array([own]), np.array([opp]), simulations)
    action = int((visits if simulations else priors)[0].argmax())
    name = "passes" if action == PASS else f"plays {square_name(action)}"
    say(f"The policy {name} (it expects {values[0]:+.2f}, from -1 lost to +1 won)")
    return action


def _ending(difference: int, own: int, opp: int, mover: int) -> str:
    discs = {_MEN[mover]: popcount(own), _MEN[1 - mover]: popcount(opp)}
    result = "You win" if difference > 0 else "You lose" if difference < 0 else "A draw"
    return f"{result}: X {discs['X']}, O {discs['O']}, empty {SQUARES - sum(discs.values())}."
