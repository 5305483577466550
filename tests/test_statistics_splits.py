"""Splits by hash: stable, of the right size, and never sharing a group of near-identical rows."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from policylens.errors import UserError
from policylens.statistics.splits import (
    EXCLUDED,
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    separate_groups,
    split_of_episodes,
)
from policylens.stores.splits import stable_hash

FRACTIONS = (0.8, 0.1, 0.1)
WORD = (1 << 64) - 1

episode_ids = hnp.arrays(np.int64, st.integers(1, 60), elements=st.integers(-(1 << 63), (1 << 63) - 1))


def mix(state: int) -> int:
    """Splitmix64 in plain integers."""
    state = (state + 0x9E3779B97F4A7C15) & WORD
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & WORD
    return state ^ (state >> 31)


@given(episode_ids, st.text(max_size=8))
def test_the_hash_is_splitmix64_around_a_blake2b_key(ids, salt):
    key = int.from_bytes(hashlib.blake2b(salt.encode(), digest_size=8).digest(), "little")
    expected = [mix((mix(int(i) & WORD) + key) & WORD) for i in ids]
    assert stable_hash(ids, salt).tolist() == expected


def test_codes_never_change_between_versions():
    codes = split_of_episodes(np.arange(40), (0.5, 0.25, 0.25), "golden")
    assert codes.dtype == np.int8
    assert "".join(map(str, codes)) == "0002200102002000220211000110202101201201"


@given(episode_ids, episode_ids, st.randoms(use_true_random=False))
def test_adding_and_shuffling_episodes_moves_none(old, new, random):
    before = dict(zip(old.tolist(), split_of_episodes(old, FRACTIONS, "s").tolist(), strict=True))
    everything = np.concatenate([new, old])
    everything = everything[random.sample(range(len(everything)), len(everything))]
    after = split_of_episodes(everything, FRACTIONS, "s")
    assert all(before.get(i, code) == code for i, code in zip(everything.tolist(), after.tolist(), strict=True))


def test_shares_are_near_the_fractions_and_salts_are_independent():
    ids = np.arange(100_000)
    first, second = (split_of_episodes(ids, (0.7, 0.2, 0.1), salt) for salt in ("a", "b"))
    shares = np.bincount(first, minlength=3) / len(ids)
    np.testing.assert_allclose(shares, (0.7, 0.2, 0.1), atol=0.006)
    assert abs(np.mean(second[first == TEST] == TEST) - 0.1) < 0.012


@pytest.mark.parametrize(
    ("fractions", "present"),
    [
        ((1, 0, 0), {TRAIN}),
        ((0, 1, 0), {VALIDATION}),
        ((0, 0, 1), {TEST}),
        ((0.7, 0.3, 0), {TRAIN, VALIDATION}),
    ],
)
def test_a_split_of_fraction_zero_stays_empty(fractions, present):
    assert set(split_of_episodes(np.arange(5000), fractions, "s").tolist()) == present


def test_rounded_fractions_leave_no_sliver_to_an_empty_split(monkeypatch):
    monkeypatch.setattr("policylens.stores.splits._unit_interval", lambda hashes: np.full(1, 1 - 2.0**-53))
    assert split_of_episodes(np.arange(1), (0.7, 0.3 - 5e-10, 0), "s") == VALIDATION
    assert split_of_episodes(np.arange(1), (1 - 5e-10, 0, 0), "s") == TRAIN


coded_rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=80).map(
    lambda rows: (np.array([c for c, _ in rows], np.int8), np.array([g for _, g in rows], np.uint64))
)


@given(coded_rows, st.text(max_size=4))
def test_no_group_is_left_in_two_splits_and_none_is_lost(rows, salt):
    codes, groups = rows
    kept = separate_groups(codes, groups, FRACTIONS, salt)
    changed = kept != codes
    assert np.all(kept[changed] == EXCLUDED)
    for group in np.unique(groups):
        before = set(codes[groups == group].tolist()) - {EXCLUDED}
        after = set(kept[groups == group].tolist()) - {EXCLUDED}
        assert len(after) == min(1, len(before))
        assert after <= before


@given(coded_rows, coded_rows)
def test_further_rows_move_a_group_only_into_a_split_it_was_not_in(old, new):
    codes, groups = (np.concatenate(pair) for pair in zip(old, new, strict=True))
    n = len(old[0])
    before, after = separate_groups(*old, FRACTIONS, "s"), separate_groups(codes, groups, FRACTIONS, "s")
    for group in np.unique(old[1]):
        home_before = set(before[old[1] == group].tolist()) - {EXCLUDED}
        home_after = set(after[groups == group].tolist()) - {EXCLUDED}
        occurred = set(codes[:n][old[1] == group].tolist())
        assert not home_before or home_after == home_before or not home_after <= occurred


def test_groups_in_several_splits_go_to_each_with_its_fraction_as_weight():
    groups = np.repeat(np.arange(30_000, dtype=np.uint64), 2)
    codes = np.tile(np.array([TRAIN, TEST], np.int8), 30_000)
    kept = separate_groups(codes, groups, (0.6, 0.1, 0.3), "s")
    assert abs(np.mean(kept[0::2] == TRAIN) - 0.6 / 0.9) < 0.01
    assert SPLITS[EXCLUDED] == "excluded"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split_of_episodes(np.arange(3), (0.5, 0.5), "s"), "three numbers"),
        (lambda: split_of_episodes(np.arange(3), (0.5, 0.4, 0.2), "s"), "sum to 1"),
        (lambda: split_of_episodes(np.arange(3), (np.nan, 0.5, 0.5), "s"), "sum to 1"),
        (lambda: split_of_episodes(np.array([0.5]), FRACTIONS, "s"), "integers"),
        (lambda: separate_groups(np.zeros(2, int), np.zeros(3, int), FRACTIONS, "s"), "equal length"),
        (lambda: separate_groups(np.array([4]), np.array([0]), FRACTIONS, "s"), "0..3"),
        (lambda: separate_groups(np.array([TEST]), np.array([0]), (0.9, 0.1, 0), "s"), "fraction is 0"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(UserError, match=message):
        call()
