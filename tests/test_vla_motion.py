"""How the scripts' hand comes down at a place and is turned."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from policylens.policies.vla.libero.motion import DOWN, HIGHEST, funnel, leaning

ANGLES = st.floats(-1.2, 1.2)
PLACES = st.tuples(*[st.floats(-0.5, 0.5)] * 3).map(np.array)


@given(ANGLES, ANGLES)
def test_a_leaning_hand_points_down_ahead_and_along_y(ahead, left):
    axes = leaning(ahead, left)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) > 0
    np.testing.assert_allclose(axes[:, 2], [np.sin(ahead), np.cos(ahead) * np.sin(left), -np.cos(ahead) * np.cos(left)])


def test_a_hand_that_does_not_lean_points_straight_down():
    np.testing.assert_array_equal(leaning(0.0, 0.0), DOWN)


@given(PLACES, PLACES, st.floats(0.0, 0.05))
def test_a_funnel_never_leads_below_its_goal_and_away_from_it(hand, goal, room):
    found = funnel(hand, goal, room)
    before, after = (np.linalg.norm(place[:2] - goal[:2]) for place in (hand, found))
    assert goal[2] - 1e-12 <= found[2] <= goal[2] + HIGHEST + 1e-12
    assert after <= before + 1e-12
    if before > room + HIGHEST:
        assert found[2] > goal[2]
