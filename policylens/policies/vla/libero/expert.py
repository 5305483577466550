"""A scripted expert for every task: what it does follows from the simulator's state alone.

It can so be asked for its action wherever a policy, or noise, has brought the arm. The hand points down throughout.
Above and beside its goal it moves in a funnel: the farther off sideways, the higher.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policylens.policies.vla.libero.motion import CLOSE, OPEN, UP, Aim, funnel
from policylens.policies.vla.libero.placing import place
from policylens.policies.vla.libero.simulator import Simulator
from policylens.policies.vla.libero.tasks import Task

HANDLE = np.array([-0.00278, -0.10161, 0.18393])
"""Centre of the top drawer's handle in the drawer's body (m), from LIBERO's wooden_cabinet.xml; -y is the way out."""

GAIN = 12.0  # action per metre
TURN_GAIN = 0.6  # action per radian; a stiffer hand gets stuck at the knob

KNOB_END, KNOB_SIDE = 0.042, 0.055
"""From the knob's centre to the end of its ridge that is pushed, and how far beside it the hand comes down (m)."""


def expert(simulator: Simulator, task: Task) -> NDArray[np.float64]:
    """The expert's action in a simulator's state, float64 (7,) in [-1, 1]: moves, turns (OSC), gripper 1 closes."""
    hand = np.array(simulator.data.site_xpos[_site(simulator)])
    axes = np.array(simulator.data.site_xmat[_site(simulator)]).reshape(3, 3)
    aim = _SCRIPTS[task.slug](simulator, hand)
    turn = 0.5 * np.cross(axes, aim.axes, axisa=0, axisb=0, axisc=0).sum(axis=1)
    return np.concatenate(
        [np.clip(GAIN * (aim.target - hand), -1, 1), np.clip(TURN_GAIN * turn, -0.5, 0.5), [aim.grip]]
    )


def _open_drawer(simulator: Simulator, hand: NDArray) -> Aim:
    """Come down around the handle with open fingers, and pull from the finger behind it."""
    handle, out = _handle(simulator)
    grasp = handle - 0.012 * UP
    if abs((hand - grasp) @ out) < 0.022 and hand[2] < handle[2] + 0.008:
        return Aim(grasp + 0.10 * out, CLOSE)
    return Aim(funnel(hand, grasp, room=0.008), OPEN)


def _close_drawer(simulator: Simulator, hand: NDArray) -> Aim:
    """Come down before the handle with closed fingers, and push."""
    handle, out = _handle(simulator)
    if (hand - handle) @ out > 0.018 and hand[2] < handle[2] + 0.025:
        push = handle - 0.15 * out
        return Aim(np.array([push[0], push[1], handle[2]]), CLOSE)
    return Aim(funnel(hand, handle + 0.055 * out, room=0.02), CLOSE)


def _turn_on(simulator: Simulator, hand: NDArray) -> Aim:
    return _turn(simulator, hand, 1.0)


def _turn_off(simulator: Simulator, hand: NDArray) -> Aim:
    return _turn(simulator, hand, -1.0)


def _place_back(simulator: Simulator, hand: NDArray) -> Aim:
    return place(simulator, hand, "akita_black_bowl_3")


def _place_front(simulator: Simulator, hand: NDArray) -> Aim:
    return place(simulator, hand, "akita_black_bowl_1")


def _turn(simulator: Simulator, hand: NDArray, sign: float) -> Aim:
    """Come down beside one end of the knob's ridge with closed fingers, and push that end around."""
    body = simulator.env.sim.model.body_name2id(f"{simulator.task.pair.measure.fixture}_button")
    centre = np.array(simulator.data.body_xpos[body])
    axes = np.array(simulator.data.body_xmat[body]).reshape(3, 3)
    end = -np.sign(axes[0, 1]) or 1.0  # the end nearer the robot: of smaller world x
    side = sign * end  # on which side of the ridge, along its x axis, pushing turns it the right way
    height = centre + 0.03 * UP
    local = axes.T @ (hand - height)
    beside = side * local[0] > 0.012 and abs(local[1] - end * KNOB_END) < 0.025
    # Once at the ridge the hand may ride higher: noise, and what the ridge does to the fingers, lift it.
    if beside and hand[2] < height[2] + (0.032 if side * local[0] < 0.045 else 0.02):
        along = local[1] + 1.5 * (end * KNOB_END - local[1])
        return Aim(height + axes @ np.array([-side * 0.15, along, 0.0]), CLOSE)
    return Aim(funnel(hand, height + axes @ np.array([side * KNOB_SIDE, end * KNOB_END, 0.0]), room=0.01), CLOSE)


def _handle(simulator: Simulator) -> tuple[NDArray, NDArray]:
    """Centre of the top drawer's handle, and the direction out of the cabinet."""
    body = simulator.env.sim.model.body_name2id(f"{simulator.task.pair.measure.fixture}_cabinet_top")
    axes = np.array(simulator.data.body_xmat[body]).reshape(3, 3)
    return simulator.data.body_xpos[body] + axes @ HANDLE, -axes[:, 1]


def _site(simulator: Simulator) -> int:
    return simulator.env.robots[0].eef_site_id


_SCRIPTS = {
    "open_the_top_drawer_of_the_cabinet": _open_drawer,
    "close_the_top_drawer_of_the_cabinet": _close_drawer,
    "put_the_black_bowl_at_the_back_on_the_plate": _place_back,
    "put_the_black_bowl_at_the_front_on_the_plate": _place_front,
    "turn_on_the_stove": _turn_on,
    "turn_off_the_stove": _turn_off,
}
