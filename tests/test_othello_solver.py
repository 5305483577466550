"""Exact endgames and look-ahead, against plain Python that tries everything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from othello_reference import PASS, START, actions, after, board, boards, perfect, placements, random_position, turned
from support import refused

from policylens.policies.othello import solver
from policylens.policies.othello.opponents import opponent
from policylens.policies.othello.randomness import stream

ENDGAMES = st.integers(0, 10**6).map(lambda seed: random_position(seed, empties=6))


@settings(max_examples=25)
@given(ENDGAMES)
def test_solved_values_are_those_of_perfect_play(cells):
    own, opp = boards([cells])
    assert solver.solve(own, opp)[0] == perfect(cells)
    values = solver.solve_moves(own[0], opp[0])
    assert values == {action: -perfect(after(cells, action)) for action in actions(cells)}


def test_a_board_solved_by_hand():
    cells = board("XXXXXX XXXXXX XXXXXX XXXXXX XXXXXX XXXOO.")
    own, opp = boards([cells])
    assert solver.solve(own, opp)[0] == 36  # f6 turns both white discs
    assert solver.solve(opp, own)[0] == -36  # white passes, then the same


def test_a_deeper_endgame_agrees_with_its_own_best_line():
    own, opp = boards([random_position(seed, empties=11) for seed in range(5)])
    for row in range(5):
        values = solver.solve_moves(own[row], opp[row])
        assert max(values.values()) == solver.solve(own[row : row + 1], opp[row : row + 1])[0]


def weights(square):
    row, column = (min(part, 5 - part) for part in divmod(square, 6))
    table = {(0, 0): 100, (0, 1): -20, (0, 2): 10, (1, 1): -40, (1, 2): -2, (2, 2): 1}
    return table[(min(row, column), max(row, column))]


def judged(cells):
    """The classical evaluation, from its description."""
    swapped = tuple(-cell for cell in cells)
    mobility = len(placements(cells)) - len(placements(swapped))
    return sum(cell * weights(square) for square, cell in enumerate(cells)) + 8 * mobility


def looked_ahead(cells, depth):
    found = actions(cells)
    if not found:
        return 1000 * sum(cells)
    if found == [PASS]:
        return -looked_ahead(after(cells, PASS), depth)
    if depth == 0:
        return judged(cells)
    return max(-looked_ahead(after(cells, action), depth - 1) for action in found)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(0, 3))
def test_look_ahead_is_minimax_over_the_heuristic(seed, depth):
    cells = random_position(seed)
    (own,), (opp,) = boards([cells])
    assert solver.alpha_beta(own, opp, depth, -solver.INFINITY, solver.INFINITY) == looked_ahead(cells, depth)


def test_a_pass_costs_no_depth():
    passing = [cells for cells in map(random_position, range(1200)) if actions(cells) == [PASS]]
    assert len(passing) > 5
    for cells in passing:
        (own,), (opp,) = boards([cells])
        assert solver.alpha_beta(own, opp, 1, -solver.INFINITY, solver.INFINITY) == looked_ahead(cells, 1)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(-60, 60))
def test_a_narrow_window_bounds_the_score(seed, centre):
    (own,), (opp,) = boards([random_position(seed)])
    exact = solver.alpha_beta(own, opp, 3, -solver.INFINITY, solver.INFINITY)
    low, high = exact + centre - 10, exact + centre + 10
    score = solver.alpha_beta(own, opp, 3, low, high)
    if low < exact < high:
        assert score == exact
    elif exact <= low:
        assert exact <= score <= low
    else:
        assert high <= score <= exact


def chosen(name, cells, draws=40):
    """The actions an agent takes in one position under different streams."""
    own, opp = (np.repeat(side, draws) for side in boards([cells]))
    streams = np.array([stream(np.uint64(0), np.uint64(number)) for number in range(draws)], np.uint64)
    before = streams.copy()
    taken = opponent(name)(own, opp, streams)
    assert (streams != before).all()
    return set(taken.tolist())


@given(st.integers(0, 10**6))
def test_agents_take_what_they_promise(seed):
    cells = random_position(seed)
    found = actions(cells)
    flips = {action: len(turned(cells, action)) if action != PASS else 0 for action in found}
    assert chosen("greedy", cells) <= {action for action in found if flips[action] == max(flips.values())}
    scores = {action: -looked_ahead(after(cells, action), 0 if action != PASS else 1) for action in found}
    assert chosen("alphabeta-1", cells) <= {action for action in found if scores[action] == max(scores.values())}
    assert chosen("random", cells) <= set(found)


def test_the_random_agent_takes_every_move_and_ties_are_drawn():
    cells = random_position(0)
    assert chosen("random", cells, 400) == set(actions(cells))
    assert chosen("alphabeta-2", START, 100) == set(actions(START))  # all four first moves are images of each other
    assert chosen("greedy", START, 100) == set(actions(START))


@pytest.mark.parametrize("name", ["alphabeta-0", "alphabeta", "minimax", "", "random "])
def test_an_unknown_agent_is_refused(name):
    with refused(repr(name), "alphabeta-<depth>"):
        opponent(name)
