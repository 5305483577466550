"""The simulated arm and cabinet: states, observations in the published layout, and steps of 20 ms.

An action moves the targets of the joints' position controllers away from where the joints are:
target = q + SCALE * action. Were it added to the last target instead, the target would be a hidden state, and what to
do next would not follow from the observation.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from policylens.errors import UserError
from policylens.policies.franka import cabinet
from policylens.policies.franka.layout import (
    JOINT_POSITIONS,
    JOINT_VELOCITIES,
    OBSERVATIONS,
    TO_HANDLE,
    VELOCITY_SCALE,
)

try:
    import mujoco
except ModuleNotFoundError:
    raise UserError(
        "the Franka simulator needs MuJoCo: run in the environment `franka` (envs/run franka ...)"
    ) from None

TIMESTEP, SUBSTEPS = 0.004, 5
"""Seconds of a physics step; physics steps for which an action is held."""

SCALE = np.array([0.2] * 7 + [0.02] * 2)
"""How far an action of 1 moves the target: radians of the arm's joints, metres of the fingers'."""

HOME = np.array([1.563, -1.539, -1.095, -2.407, -2.526, 0.651, -0.366])
"""Arm's joints (radians) around which episodes start: the hand before the cabinet, fingers pointing at it."""

JOINTS = [f"robot:panda0_joint{number}" for number in range(1, 8)] + [
    "robot:panda0_finger_joint1",
    "robot:panda0_finger_joint2",
]
START_SPREAD = 0.12
CABINET_SPREAD = np.array([0.04, 0.10, 0.08])
START_FINGERS = 0.035


@functools.cache
def model() -> mujoco.MjModel:
    """The compiled scene; shared by all simulators, none of which changes it."""
    return mujoco.MjModel.from_xml_string(cabinet.scene(cabinet.assets(), TIMESTEP))


@functools.cache
def _places() -> dict[str, NDArray[np.int64]]:
    """Where in MuJoCo's arrays things are."""
    found = model()
    joints = [found.joint(name) for name in JOINTS]
    handle = [found.geom(name).id for name in ("handle_top", "handle_top_left", "handle_top_right")]
    fingers = [found.body(name).id for name in ("panda0_leftfinger", "panda0_rightfinger")]
    return {
        "qpos": np.array([joint.qposadr[0] for joint in joints]),
        "qvel": np.array([joint.dofadr[0] for joint in joints]),
        "low": np.array([joint.range[0] for joint in joints]),
        "high": np.array([joint.range[1] for joint in joints]),
        "handle": np.isin(np.arange(found.ngeom), handle),
        "fingers": np.stack([found.geom_bodyid == finger for finger in fingers]),
    }


class Simulator:
    """One arm before one cabinet. Start with `reset` or `restore`.

    data: MuJoCo's state, with positions, contacts and Jacobians up to date between steps.
    """

    def __init__(self) -> None:
        self.model, self.data = model(), mujoco.MjData(model())
        places = _places()
        self.qpos, self.qvel, self.low, self.high = (places[name] for name in ("qpos", "qvel", "low", "high"))
        self._handle, self._fingers = places["handle"], places["fingers"]
        self.hand, self.handle = self.model.site("end_effector").id, self.model.site("handle_top").id
        self._drawer = self.model.joint("drawer_top").qposadr[0], self.model.joint("drawer_top").dofadr[0]

    def reset(self, generator: np.random.Generator) -> None:
        """Start an episode: the arm near HOME, the cabinet moved by up to CABINET_SPREAD, all uniformly."""
        qpos = np.zeros(self.model.nq)
        qpos[self.qpos[:7]] = HOME + generator.uniform(-START_SPREAD, START_SPREAD, 7)
        qpos[self.qpos[7:]] = START_FINGERS
        place = cabinet.CABINET + generator.uniform(-CABINET_SPREAD, CABINET_SPREAD)
        self.restore(qpos, np.zeros(self.model.nv), place)

    def restore(self, qpos: NDArray, qvel: NDArray, cabinet_position: NDArray) -> None:
        """Put everything where a recorded step had it: qpos (11,), qvel (11,), cabinet_position (3,) as `state` says.

        The solver starts afresh, so that what follows agrees with the recording to rounding, not to the bit.
        """
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = qpos, qvel
        self.data.mocap_pos[0] = cabinet_position
        self.data.ctrl[:] = np.clip(self.data.qpos[self.qpos], self.low, self.high)
        mujoco.mj_forward(self.model, self.data)

    def step(self, action: NDArray) -> None:
        """Hold an action (9,) for 20 ms; what lies outside [-1, 1] is clamped."""
        wanted = self.data.qpos[self.qpos] + SCALE * np.clip(action, -1, 1)
        self.data.ctrl[:] = np.clip(wanted, self.low, self.high)
        # step1 ends where step2 begins: the contacts and Jacobians of the new state come at no extra cost.
        mujoco.mj_step2(self.model, self.data)
        mujoco.mj_step(self.model, self.data, SUBSTEPS - 1)
        mujoco.mj_step1(self.model, self.data)

    def observation(self) -> NDArray[np.float32]:
        """The observation, float32 (23,), laid out as layout.py says."""
        found = np.empty(OBSERVATIONS, np.float32)
        q = self.data.qpos[self.qpos]
        found[JOINT_POSITIONS] = 2 * (q - self.low) / (self.high - self.low) - 1
        found[JOINT_VELOCITIES] = VELOCITY_SCALE * self.data.qvel[self.qvel]
        found[TO_HANDLE] = self.data.site_xpos[self.handle] - self.data.site_xpos[self.hand]
        found[21], found[22] = self.data.qpos[self._drawer[0]], self.data.qvel[self._drawer[1]]
        return found

    def jacobian(self) -> NDArray[np.float64]:
        """How the hand's position and rotation (6) follow the arm's joints (7), at the point between the fingertips."""
        found = np.zeros((6, self.model.nv))
        mujoco.mj_jacSite(self.model, self.data, found[:3], found[3:], self.hand)
        return found[:, self.qvel[:7]]

    def finger_contact(self) -> NDArray[np.bool_]:
        """Whether the left and the right finger touch the upper drawer's handle, (2,)."""
        # Within MuJoCo's contact margin of 1 mm, where it exerts a force.
        pairs = self.data.contact.geom[self.data.contact.efc_address >= 0]
        touching = np.zeros(2, bool)
        for first, second in ((0, 1), (1, 0)):
            own = pairs[self._handle[pairs[:, second]], first]
            touching |= self._fingers[:, own].any(axis=1)
        return touching

    def state(self) -> dict[str, NDArray[np.float64]]:
        """What `restore` takes: qpos (11,), qvel (11,), cabinet_position (3,)."""
        found = {"qpos": self.data.qpos, "qvel": self.data.qvel, "cabinet_position": self.data.mocap_pos[0]}
        return {name: values.copy() for name, values in found.items()}
