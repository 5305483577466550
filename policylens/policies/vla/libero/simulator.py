"""LIBERO's simulator: one scene, started from numbered initial states, with or without cameras.

An initial state is (pair, seed, number), the same for both tasks of a pair: LIBERO's samplers place the things, and a
joint that the tasks move is put between their thresholds.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import tempfile
import weakref
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policylens.errors import UserError
from policylens.policies.vla.libero.assets import find_assets
from policylens.policies.vla.libero.recording import LOOKS
from policylens.policies.vla.libero.tasks import Joint, Task

CONTROL_HZ = 20
SETTLE = 5
"""Steps without movement at the start of an episode, in which things come to rest; LIBERO drops as many."""

CAMERAS = {"image": "agentview", "wrist_image": "robot0_eye_in_hand"}
"""LIBERO's cameras by the name of the array that holds their pictures."""

IDLE = np.array([0, 0, 0, 0, 0, 0, -1], np.float64)
"""The action that moves nothing and opens the gripper."""

_rendering: weakref.ref[Simulator] | None = None


class Simulator:
    """One LIBERO environment. Start with `reset`; `close` it when done.

    task: whose BDDL file the scene is made from. env: robosuite's environment. data: MuJoCo's state.
    size: height and width of the pictures, None without cameras.
    """

    def __init__(self, task: Task, size: int | None = None, look: str = LOOKS[0], assets: str | None = None) -> None:
        """look: one of LOOKS. assets: LIBERO's meshes, see find_assets.

        Raises UserError without LIBERO or its meshes.
        """
        global _rendering
        self._assets = find_assets(assets)
        control_env = _libero(self._assets)
        if size is not None:
            # An environment that is freed while a newer one lives makes the newer one return stale pictures.
            if _rendering is not None and (older := _rendering()) is not None and not older.closed:
                older.close()
            _rendering = weakref.ref(self)
        self.task, self.size, self.closed = task, size, False
        self.raw: dict[str, Any] = {}
        with _global_seed(np.random.SeedSequence(0)):
            self._wrapped = control_env(
                bddl_file_name=str(task.bddl),
                has_offscreen_renderer=size is not None,
                use_camera_obs=size is not None,
                camera_names=list(CAMERAS.values()),
                camera_heights=size or 1,
                camera_widths=size or 1,
                control_freq=CONTROL_HZ,
                ignore_done=True,
            )
            self.env = self._wrapped.env
            if look == "plain":
                self._make_plain()
        # From now on resets keep the scene and its renderer: building them takes seconds.
        self.env.hard_reset = False

    @property
    def data(self) -> Any:
        """MuJoCo's state, through robosuite."""
        return self.env.sim.data

    def reset(self, seed: int, number: int) -> dict[str, Any]:
        """Start the initial state (pair, seed, number), things at rest; returns LIBERO's observation."""
        pair = self.task.pair
        words = [seed, number, *pair.name.encode()]
        with _global_seed(np.random.SeedSequence(words)) as generator:
            self._reset_env()
            if isinstance(pair.measure, Joint):
                self.data.set_joint_qpos(pair.measure.name, generator.uniform(*pair.measure.start))
        self.env.sim.forward()
        for robot in self.env.robots:  # robosuite goes on from where the last episode's commands left the fingers
            robot.gripper.current_action = np.zeros_like(robot.gripper.current_action)
        for _ in range(SETTLE):
            self.step(IDLE)
        return self.raw

    def step(self, action: NDArray) -> dict[str, Any]:
        """Hold an action (7,) in [-1, 1] for 50 ms; returns LIBERO's observation after it."""
        self.raw, *_ = self.env.step(np.clip(np.asarray(action, np.float64), -1, 1))
        # MuJoCo leaves places of bodies one physics step behind the joints: what follows from a state must not.
        self.env.sim.forward()
        return self.raw

    def restore(self, state: NDArray) -> dict[str, Any]:
        """Put everything that moves where a recorded state has it (MuJoCo's, flattened, as in LIBERO's HDF5 files).

        The places of fixtures, and how far the fingers have been told to go, are no part of such a state: start the
        same initial state before.
        """
        self.raw = self._wrapped.regenerate_obs_from_state(state)
        return self.raw

    def state(self) -> NDArray[np.float64]:
        """MuJoCo's state, flattened: time, positions, velocities."""
        return self.env.sim.get_state().flatten()

    def xml(self) -> str:
        """The scene as MJCF, fixtures where this initial state has them; files by their place below their packages."""
        import robosuite

        found = self.env.sim.model.get_xml()
        found = found.replace(str(self._assets), "libero/libero/assets")
        return found.replace(str(Path(robosuite.__file__).parent), "robosuite")

    def measure(self) -> float:
        """The number that the pair's tasks move opposite ways, in metres or radians."""
        wanted = self.task.pair.measure
        if isinstance(wanted, Joint):
            return float(self.data.get_joint_qpos(wanted.name))
        one, other, goal = (self.place(name)[:2] for name in wanted.things)
        return float(np.linalg.norm(other - goal) - np.linalg.norm(one - goal))

    def place(self, name: str) -> NDArray[np.float64]:
        """Position of an object (m), by its name in the BDDL file: (3,)."""
        return np.array(self.data.body_xpos[self.env.obj_body_id[name]])

    def success(self, task: Task) -> bool:
        """Whether a task of the pair has succeeded in this state, as LIBERO's predicates say."""
        return all(self.env._eval_predicate(goal) for goal in _goal(task))

    def close(self) -> None:
        """Free the simulator and its renderer."""
        if not self.closed:
            self.closed = True
            self._wrapped.close()
            gc.collect()  # the renderer goes now, not when another one is at work

    def _make_plain(self) -> None:
        self.env.set_xml_processor(_plain)
        self._reset_env()  # builds the scene anew, through the processor
        if self.size is not None:
            _draw_plainly(self.env.sim._render_context_offscreen.scn)

    def _reset_env(self) -> None:
        from robosuite.utils.errors import RandomizationError

        while True:  # placements are drawn again if things overlap
            with contextlib.suppress(RandomizationError):
                self.env.reset()
                return


def _plain(xml: str) -> str:
    """A scene's XML with antialiasing and the shadow map off (no light of LIBERO's scenes casts a shadow)."""
    root = ElementTree.fromstring(xml)
    visual = root.find("visual")
    visual = ElementTree.SubElement(root, "visual") if visual is None else visual
    quality = visual.find("quality")
    quality = ElementTree.SubElement(visual, "quality") if quality is None else quality
    quality.set("offsamples", "0")
    quality.set("shadowsize", "0")
    return ElementTree.tostring(root, encoding="unicode")


def _draw_plainly(scene: Any) -> None:
    import mujoco

    scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
    scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0


@contextlib.contextmanager
def _global_seed(sequence: np.random.SeedSequence) -> Iterator[np.random.Generator]:
    """Seed the global generators that LIBERO draws from; they are put back at the end."""
    before = np.random.get_state(), random.getstate()
    word = int(sequence.generate_state(1)[0])
    np.random.seed(word)
    random.seed(word)
    try:
        yield np.random.default_rng(sequence)
    finally:
        np.random.set_state(before[0])
        random.setstate(before[1])


def _goal(task: Task) -> list[list[str]]:
    """The goal of a task's BDDL file: predicates that all have to hold."""
    if task.slug not in _goals:
        import libero.libero.envs.bddl_utils as bddl_utils

        _goals[task.slug] = bddl_utils.robosuite_parse_problem(str(task.bddl))["goal_state"]
    return _goals[task.slug]


_goals: dict[str, list[list[str]]] = {}


def _libero(assets: Path) -> Any:
    """LIBERO's environment class, with its meshes taken from `assets`."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    os.environ.setdefault("PYOPENGL_PLATFORM", os.environ["MUJOCO_GL"])
    try:
        with _config():
            import libero.libero as package
            from libero.libero.envs.env_wrapper import ControlEnv
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in {"libero", "robosuite", "mujoco", "bddl"}:
            raise
        raise UserError("the LIBERO simulator needs LIBERO: run in the environment `vla` (envs/run vla ...)") from None
    package._assets_path_cache = str(assets)
    return ControlEnv


@contextlib.contextmanager
def _config() -> Iterator[None]:
    """LIBERO asks questions on stdin when it is imported without a config file: show it one, and say nothing else."""
    logging.getLogger("robosuite_logs").disabled = True
    before = os.environ.get("LIBERO_CONFIG_PATH")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.yaml").write_text("{}\n", encoding="utf-8")
        os.environ["LIBERO_CONFIG_PATH"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["LIBERO_CONFIG_PATH"]
            else:
                os.environ["LIBERO_CONFIG_PATH"] = before
