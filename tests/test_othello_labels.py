"""Labels of Othello positions: boards labelled by hand, and plain Python that counts what the labels say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from othello_reference import (
    PASS,
    START,
    actions,
    after,
    board,
    boards,
    perfect,
    placements,
    random_game,
    random_position,
    squares_of,
    swapped,
    turned,
)
from support import refused

from policylens.policies.othello.family import LABELS
from policylens.policies.othello.labels import label
from policylens.policies.othello.stability import stable
from policylens.policies.othello.symmetry import SYMMETRIES

SEEDS = st.integers(0, 10**6)
SQUARES = [name for name, line in LABELS.items() if line.startswith("36")]
OF_ONE_POSITION = [name for name in LABELS if name != "outcome"]
CORNERS = (0, 5, 30, 35)


def rows_of(positions):
    return {"cells": np.array(positions, np.int8)}


def labelled(position, names=tuple(OF_ONE_POSITION)):
    return {name: values[0] for name, values in label(rows_of([position]), names).items()}


def where(values):
    return set(np.flatnonzero(values))


def test_the_start_labelled_by_hand():
    found = labelled(START)
    assert where(found["cells_mine"]) == {15, 20}
    assert where(found["cells_theirs"]) == {14, 21}
    assert found["cells_empty"].sum() == found["empties"] == 32
    assert where(found["legal_moves"]) == where(found["flips"]) == {8, 13, 22, 27}
    assert found["flips"].sum() == found["mobility_mine"] == found["mobility_theirs"] == 4
    assert found["corners_mine"] == found["corners_theirs"] == found["corners_takeable"] == 0
    assert not found["stable_mine"].any()
    assert not found["stable_theirs"].any()
    assert not found["parity"]
    assert not found["solver_known"]
    assert np.isnan(found["solver_value"])


def test_an_endgame_labelled_by_hand():
    found = labelled(
        board("""
            XXXXXX
            XOXXXX
            XXOXXX
            XXXOXX
            XXXXOX
            OOOOO.
        """)
    )
    assert where(found["legal_moves"]) == {35}  # f6 turns the diagonal up to a1; the last row has no disc of mine
    assert found["flips"][35] == 4
    assert found["mobility_mine"] == 1
    assert found["mobility_theirs"] == 0
    assert found["corners_mine"] == 2
    assert found["corners_theirs"] == 1
    assert found["corners_takeable"] == 1
    assert found["empties"] == 1
    assert found["parity"]
    assert found["solver_known"]
    assert found["solver_value"] == 26
    # Only the diagonal can still be turned: the last row and column hang on their corners, all else is full.
    assert where(found["stable_mine"]) == where(found["cells_mine"])
    assert where(found["stable_theirs"]) == {30, 31, 32, 33, 34}


def test_discs_hang_on_corners():
    found = labelled(
        board("""
            XXX.O.
            XX.OO.
            X.....
            ...X..
            ......
            .....O
        """)
    )
    assert where(found["stable_mine"]) == {0, 1, 2, 6, 7, 12}
    assert where(found["stable_theirs"]) == {35}
    assert found["corners_mine"] == 1
    assert found["corners_theirs"] == 1
    assert not labelled(board("X..... X..... ...... ...... ...... ......"))["stable_theirs"].any()


def test_flips_counted_by_hand():
    found = labelled(
        board("""
            X.OOO.
            XXXOO.
            .XOO..
            ..OX..
            ......
            ......
        """)
    )
    assert {square: int(count) for square, count in enumerate(found["flips"]) if count} == {
        11: 2,  # f2 turns d2 and e2
        16: 2,  # e3 turns c3 and d3
        19: 1,  # b4 turns c4
        22: 1,  # e4 turns d3
        26: 2,  # c5 turns c3 and c4
        27: 1,  # d5 turns c4
    }
    assert found["mobility_mine"] == 6
    assert found["mobility_theirs"] == 6


@given(SEEDS)
def test_every_label_is_what_plain_python_counts(seed):
    cells = random_position(seed)
    found = labelled(cells, tuple(name for name in OF_ONE_POSITION if not name.startswith("s")))
    legal, theirs = placements(cells), placements(swapped(cells))
    expected = {
        "cells_mine": [cell == 1 for cell in cells],
        "cells_theirs": [cell == -1 for cell in cells],
        "cells_empty": [cell == 0 for cell in cells],
        "legal_moves": [square in legal for square in range(36)],
        "flips": [len(turned(cells, square)) for square in range(36)],
        "mobility_mine": len(legal),
        "mobility_theirs": len(theirs),
        "corners_mine": sum(cells[corner] == 1 for corner in CORNERS),
        "corners_theirs": sum(cells[corner] == -1 for corner in CORNERS),
        "corners_takeable": sum(corner in legal for corner in CORNERS),
        "parity": cells.count(0) % 2 == 1,
        "empties": cells.count(0),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@settings(max_examples=15)
@given(SEEDS)
def test_solved_values_are_those_of_perfect_play(seed):
    cells = random_position(seed, empties=5)
    found = labelled(cells, ("solver_value", "solver_known"))
    assert found["solver_known"]
    assert found["solver_value"] == perfect(cells)


@settings(max_examples=20)
@given(SEEDS)
def test_labels_turn_with_the_board_and_swap_with_the_colours(seed):
    cells = random_position(seed, empties=9 if seed % 2 else None)
    found = labelled(cells)
    for squares in SYMMETRIES:
        image = labelled(tuple(cells[square] for square in squares[:36]))
        for name, values in found.items():
            expected = values[squares[:36]] if name in SQUARES else values
            np.testing.assert_array_equal(image[name], expected, err_msg=name)
    other = labelled(swapped(cells))
    for name in ("cells", "corners", "stable", "mobility"):
        np.testing.assert_array_equal(other[f"{name}_mine"], found[f"{name}_theirs"], err_msg=name)


def reachable(cells):
    """Every position that can follow, each from its mover's view, with the number of plies in between."""
    todo, seen = [(cells, 0)], set()
    while todo:
        here, plies = todo.pop()
        if (here, plies % 2) not in seen:
            seen.add((here, plies % 2))
            todo += [(after(here, action), plies + 1) for action in actions(here)]
    return seen


@settings(max_examples=20)
@given(SEEDS)
def test_stable_discs_keep_their_colour_whatever_is_played(seed):
    cells = random_position(seed, empties=5)
    (own,), (opp,) = boards([cells])
    mine, theirs = squares_of(stable(own, opp)), squares_of(stable(opp, own))
    for following, parity in reachable(cells):
        color = 1 if parity == 0 else -1
        assert all(following[square] == color for square in mine)
        assert all(following[square] == -color for square in theirs)


@given(SEEDS)
def test_stable_discs_stay_stable_through_a_game(seed):
    kept = (set(), set())
    for number, (cells, _) in enumerate(random_game(seed)):
        (own,), (opp,) = boards([cells])
        sides = (squares_of(stable(own, opp)), squares_of(stable(opp, own)))
        first, second = sides if number % 2 == 0 else sides[::-1]
        assert kept[0] <= first
        assert kept[1] <= second
        kept = (first, second)


def test_stability_is_found_and_not_only_denied():
    final = board("XXXXXX XOXXXX XXOXXX XXXOXX XXXXOX OOOOOX")
    found = labelled(final, ("stable_mine", "stable_theirs"))
    assert where(found["stable_mine"]) | where(found["stable_theirs"]) == set(range(36))


def game_rows(seeds):
    """Whole random games as rows of a source, and each row's final disc difference for its mover."""
    cells, action, episode, step, expected = [], [], [], [], []
    for number, seed in enumerate(seeds):
        moves = list(random_game(seed))
        final = after(*moves[-1])
        for index, (position, taken) in enumerate(moves):
            cells.append(position)
            action.append(taken)
            episode.append(number)
            step.append(index)
            expected.append(sum(final) if (len(moves) - index) % 2 == 0 else -sum(final))
    rows = {"cells": np.array(cells, np.int8), "action": np.array(action, np.int16)}
    return {**rows, "episode": np.array(episode), "step": np.array(step, np.int32)}, expected


@given(st.lists(SEEDS, min_size=1, max_size=3))
def test_outcomes_are_those_of_the_episodes_for_the_side_to_move(seeds):
    rows, expected = game_rows(seeds)
    np.testing.assert_array_equal(label(rows, ["outcome"])["outcome"], expected)


def test_an_episode_cut_short_is_refused():
    rows, _ = game_rows([1, 2])
    with refused("episode 1", "whole games"):
        label({name: values[:-3] for name, values in rows.items()}, ["outcome"])
    with refused("action"):
        label({name: values for name, values in rows.items() if name != "action"}, ["outcome"])


def test_only_the_labels_asked_for_are_made_and_unknown_ones_refused():
    assert list(label(rows_of([START]), ["parity", "empties"])) == ["parity", "empties"]
    with refused("centre", "cells_mine"):
        label(rows_of([START]), ["parity", "centre"])


@pytest.mark.parametrize("empties", [10, 11])
def test_solved_are_the_positions_with_at_most_ten_empties(empties):
    cells = random_position(4, empties=empties)
    assert cells.count(0) == empties
    found = labelled(cells, ("solver_value", "solver_known"))
    assert bool(found["solver_known"]) == (empties == 10)
    assert np.isnan(found["solver_value"]) == (empties == 11)


def test_positions_with_a_pass_have_no_legal_square():
    cells = board("XXXXXX XXXXXX XXXXXX XXXXXX XXXXXX XXXOO.")
    assert actions(swapped(cells)) == [PASS]
    assert not labelled(swapped(cells), ("legal_moves",))["legal_moves"].any()
