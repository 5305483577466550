"""The script that puts a bowl on the plate: grasp it by the rim, lift, carry, lower, let go, and move away.

Which of these it does follows from where hand, bowl, fingers and plate are, and from what the fingers touch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policylens.policies.vla.libero.motion import CLOSE, OPEN, UP, Aim, funnel, leaning
from policylens.policies.vla.libero.simulator import Simulator

PLATE = "plate_1"
RIM = np.array([0.0, -0.048, 0.034])
"""From a bowl's place to where it is held (m), from LIBERO's akita_black_bowl.xml: the upper of the two rings of boxes,
on the side nearer the cabinet. The fingers close along y, one of them inside the bowl."""

ALONG = 0.01
"""How far along the rim the grasp may be off that point (m)."""

LEAN = leaning(0.3, 0.2)
"""Ahead: upright, the arm would be stretched out, and stuck, at the bowl in front. Along y: as the bowl's wall leans;
upright, the fingers tilt the bowl and slip off."""

HELD, LOOSE = 0.012, 0.04
"""Fingers that touch the bowl on both sides, less than this apart (m), hold it; from where on they may leave it, when
they open. Open they are 0.08 apart."""

FIRM = 2.0
"""How much harder than other scripts' hand this one pulls to where it is to be: noise would move it off the rim."""


def place(simulator: Simulator, hand: NDArray, bowl: str) -> Aim:
    """Where the hand, now at `hand` (3,), is to go next; bowl: its name in the BDDL file."""
    at, apart = simulator.place(bowl), fingers(simulator)
    goal = simulator.place(PLATE) + 0.004 * UP  # a bowl that stands on the plate is as much higher
    if np.linalg.norm((at - goal)[:2]) < 0.02 and touch(simulator, bowl, PLATE):
        return Aim(hand + 0.05 * UP if apart > LOOSE else hand, OPEN, LEAN)
    if apart < HELD and holds(simulator, bowl):
        move = FIRM * (funnel(at, goal, room=0.01) - at)
        fastest = 0.05 if at[2] > goal[2] + 0.01 else 0.03  # still at the table: it may slip
        return Aim(hand + np.clip(move, -0.05, fastest), CLOSE, LEAN)
    rim = at + RIM
    rim[0] += np.clip(hand[0] - rim[0], -ALONG, ALONG)
    aside, above = np.abs((hand - rim)[:2]).max(), (hand - rim)[2]
    if aside < 0.015 and -0.015 < above < 0.01:
        return Aim(hand + FIRM * (rim - hand), CLOSE, LEAN)
    return Aim(hand + FIRM * (funnel(hand, rim - 0.004 * UP, room=0.01) - hand), OPEN, LEAN)


def fingers(simulator: Simulator) -> float:
    """How far the two fingertips are apart (m)."""
    return float(np.abs(simulator.data.qpos[simulator.env.robots[0]._ref_gripper_joint_pos_indexes]).sum())


def holds(simulator: Simulator, name: str) -> bool:
    """Whether both fingertips touch an object, by its name in the BDDL file."""
    env = simulator.env
    return env._check_grasp(env.robots[0].gripper, env.get_object(name).contact_geoms)


def touch(simulator: Simulator, one: str, other: str) -> bool:
    """Whether two objects touch, by their names in the BDDL file."""
    return simulator.env.check_contact(simulator.env.get_object(one), simulator.env.get_object(other))
