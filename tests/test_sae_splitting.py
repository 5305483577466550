"""Children, new latents and coverage, worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_made import directions, made

from policylens.evaluation import splitting as module
from policylens.evaluation.comparison import compare
from policylens.evaluation.matching import unit_rows
from policylens.evaluation.splitting import Coverage, children, split_numbers, splitting

NARROW = unit_rows(np.eye(4)[:3])
WIDE = unit_rows(np.array([[1, 0.1, 0, 0], [1, 0, 0.1, 0], [0, 1, 0, 0.1], [0, 0, 0, 1.0], [0, 0.6, 0.6, 0]]))


def test_children_of_hand_made_directions():
    found = children(NARROW, WIDE)
    assert found.toarray().tolist() == [
        [True, True, False, False, False],
        [False, False, True, False, True],
        [False, False, False, False, True],
    ]
    numbers = split_numbers(found)
    assert numbers["children"] == pytest.approx(5 / 3)
    assert (numbers["none"], numbers["one"], numbers["split"]) == pytest.approx((0, 1 / 3, 2 / 3))
    assert numbers["new"] == pytest.approx(1 / 5)
    strict = splitting(NARROW, WIDE)["0.9"]
    assert (strict["none"], strict["one"], strict["split"]) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert strict["new"] == pytest.approx(2 / 5)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**16))
@settings(max_examples=30)
def test_children_in_blocks_are_children(a, b, seed):
    narrow, wide = directions(a, 3, seed), directions(b, 3, seed + 1)
    whole = children(narrow, wide, 0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_ENTRIES", 2 * b)
        assert (children(narrow, wide, 0.5).toarray() == whole.toarray()).all()
    numbers = split_numbers(whole)
    assert numbers["none"] + numbers["one"] + numbers["split"] == pytest.approx(1)
    assert 0 <= numbers["new"] <= 1


def test_coverage_counts_rows_with_any_child():
    coverage = Coverage(children(NARROW, WIDE))
    narrow = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
    wide = np.array([[0, 1, 0, 0, 0], [0, 0, 1, 1, 0], [1, 1, 0, 0, 0], [0, 0, 0, 1, 0]], bool)
    coverage.add(narrow[:1], wide[:1])
    coverage.add(narrow[1:], wide[1:])
    assert coverage.active.tolist() == [3, 2, 1]
    assert coverage.covered.tolist() == [2, 1, 0]
    assert coverage.share(np.array([True, False, False])) == pytest.approx(2 / 3)
    assert coverage.share(np.array([True, True, True])) == pytest.approx(3 / 6)
    assert coverage.share(np.zeros(3, bool)) is None


def test_a_feature_that_splits_is_seen_to():
    """Two features of the narrow SAE: one stays, of the other the wide SAE has two halves that share its rows."""
    rng = np.random.default_rng(0)
    a, b, aside = np.eye(6)[:3]
    halves = [unit_rows((b + sign * 0.5 * aside)[None])[0] for sign in (1, -1)]
    rows = 400
    which = rng.integers(0, 3, rows)
    x = np.stack([a, halves[0], halves[1]])[which].astype(np.float32)
    narrow = made(np.stack([a, b]), threshold=0.2, b_enc=[-0.2, -0.2])
    wide = made(np.stack([a, *halves, np.eye(6)[4]]), threshold=0.2, b_enc=[-0.2, -0.65, -0.65, 0.9])
    found = compare({"narrow": narrow, "wide": wide}, x, np.repeat(np.arange(40), 10), seed=0)
    (pair,) = found["splitting"]
    assert (pair["narrow"], pair["wide"], pair["latents"]) == ("narrow", "wide", [2, 4])
    assert pair["observed"]["0.7"] == pytest.approx({"children": 1.5, "none": 0, "one": 0.5, "split": 0.5, "new": 0.25})
    assert pair["coverage"]["observed"] == {"one": 1.0, "split": 1.0}
    assert pair["coverage"]["permuted"]["split"] < 0.9
    assert pair["covariance"]["0.9"]["children"] < 1.5
