"""Othello's rules, symmetries and random streams, against plain Python and known counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from othello_reference import (
    PASS,
    START,
    actions,
    after,
    board,
    boards,
    placements,
    random_position,
    squares_of,
    swapped,
    turned,
)

from policylens.policies.othello import randomness, rules, symmetry

SEEDS = st.integers(0, 10**6)


@pytest.mark.parametrize(("depth", "count"), list(enumerate([4, 12, 56, 244, 1364, 7604, 47740], start=1)))
def test_perft_gives_the_known_counts(depth, count):
    assert rules.perft(depth) == count


def test_the_start_is_the_usual_one():
    own, opp = boards([START])
    assert (own[0], opp[0]) == (rules.START_OWN, rules.START_OPP)
    assert squares_of(rules.legal_moves(own[0], opp[0])) == {8, 13, 22, 27}


@given(SEEDS)
def test_moves_flips_and_play_are_those_of_the_plain_rules(seed):
    cells = random_position(seed)
    (own,), (opp,) = boards([cells])
    assert squares_of(rules.legal_moves(own, opp)) == set(placements(cells))
    assert squares_of(rules.legal_actions(own, opp)) == set(actions(cells))
    for square in range(36):
        if cells[square] == 0:
            assert squares_of(rules.flipped(own, opp, square)) == turned(cells, square)
    for action in actions(cells):
        following = boards([after(cells, action)])
        assert rules.play(own, opp, action) == (following[0][0], following[1][0])
        assert rules.is_over(*rules.play(own, opp, action)) == (not actions(after(cells, action)))
    assert rules.disc_difference(own, opp) == sum(cells)


def test_a_side_without_a_move_passes_and_a_finished_game_has_no_action():
    cells = board("XXXXXX XXXXXX XXXXXX XXXXXX XXXXXX XXXOO.")
    (own,), (opp,) = boards([swapped(cells)])  # the other side can place on f6, this one cannot move
    assert squares_of(rules.legal_actions(own, opp)) == {PASS}
    assert not rules.is_over(own, opp)
    full = board("XXXXXX " * 6)
    (own,), (opp,) = boards([full])
    assert rules.legal_actions(own, opp) == 0
    assert rules.is_over(own, opp)


@given(st.lists(SEEDS, min_size=1, max_size=5))
def test_cells_and_bitboards_hold_the_same(seeds):
    positions = [random_position(seed) for seed in seeds]
    own, opp = boards(positions)
    cells, legal = rules.unpack(own, opp)
    assert cells.dtype == np.int8
    assert [tuple(row) for row in cells.tolist()] == positions
    assert [set(np.flatnonzero(row)) for row in legal] == [set(actions(position)) for position in positions]
    packed = rules.pack(cells)
    np.testing.assert_array_equal(packed, (own, opp))


def images(position):
    """The eight images of a position, each with its permutation of squares."""
    return [(squares, tuple(position[square] for square in squares[:36])) for squares in symmetry.SYMMETRIES]


@given(SEEDS)
def test_symmetries_carry_moves_along_and_share_a_key(seed):
    position = random_position(seed)
    for number, (squares, image) in enumerate(images(position)):
        (own,), (opp,) = boards([image])
        original = boards([position])[0][0]
        assert symmetry.image(original, number) == own
        assert set(placements(image)) == {at for at in range(36) if squares[at] in placements(position)}
        assert squares_of(rules.legal_moves(own, opp)) == set(placements(image))
    own, opp = boards([image for _, image in images(position)])
    assert len(set(symmetry.class_keys(own, opp))) == 1
    smallest = min(zip(own.tolist(), opp.tolist(), strict=True))
    assert {symmetry.canonical(a, b) for a, b in zip(own, opp, strict=True)} == {smallest}


def test_the_symmetries_are_eight_different_ones_that_keep_the_pass():
    assert len({tuple(squares) for squares in symmetry.SYMMETRIES}) == 8
    np.testing.assert_array_equal(symmetry.SYMMETRIES[0], np.arange(37))
    np.testing.assert_array_equal(symmetry.SYMMETRIES[:, PASS], PASS)


def test_different_classes_have_different_keys():
    positions = [random_position(seed) for seed in range(300)]
    positions += [swapped(position) for position in positions]  # another class, but for a few symmetric positions
    classes = [min(image for _, image in images(position)) for position in positions]
    assert len(set(classes)) > 500
    keys = symmetry.class_keys(*boards(positions)).tolist()
    assert len(set(zip(classes, keys, strict=True))) == len(set(classes)) == len(set(keys))


def test_streams_are_reproducible_and_differ():
    def numbers(seed, episode):
        streams = np.array([randomness.stream(np.uint64(seed), np.uint64(episode))], np.uint64)
        return [randomness.uniform(streams, 0) for _ in range(50)]

    assert numbers(3, 5) == numbers(3, 5)
    drawn = [tuple(numbers(seed, episode)) for seed in range(3) for episode in range(3)]
    assert len({number for stream in drawn for number in stream}) == 9 * 50
    assert all(0 <= number < 1 for stream in drawn for number in stream)


@pytest.mark.parametrize("shape", [0.1, 0.5, 0.9])
def test_gamma_draws_have_the_right_mean_and_variance(shape):
    streams = np.array([randomness.stream(np.uint64(0), np.uint64(0))], np.uint64)
    draws = np.array([randomness.gamma(streams, 0, shape) for _ in range(40_000)])
    assert draws.min() >= 0
    assert draws.mean() == pytest.approx(shape, abs=5 * (shape / len(draws)) ** 0.5)  # the variance is the shape too
    assert draws.var() == pytest.approx(shape, rel=0.1)


def test_integers_below_a_bound_are_even():
    streams = np.array([randomness.stream(np.uint64(0), np.uint64(1))], np.uint64)
    counts = np.bincount([randomness.below(streams, 0, 7) for _ in range(70_000)], minlength=7)
    assert len(counts) == 7
    np.testing.assert_allclose(counts, 10_000, atol=5 * 10_000**0.5)
