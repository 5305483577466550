"""LIBERO's HDF5 files of demonstrations, written as LIBERO's create_dataset.py writes them.

data/demo_{i}: actions, states, robot_states, rewards, dones and obs/{...}, one row a step. obs[j] was seen AFTER
actions[j], states[j] is MuJoCo's state BEFORE it. More than LIBERO's: expert_actions[j], what the expert wanted in
states[j]; obs/object_joint[j], the measure of the task's pair (tasks.py) after the step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from policylens.policies.vla.libero.demonstrations import Demonstration
from policylens.policies.vla.libero.recording import Settings
from policylens.policies.vla.libero.simulator import CAMERAS, CONTROL_HZ
from policylens.policies.vla.libero.tasks import Task
from policylens.stores.files import replacing

ENV_NAME, PROBLEM = "Libero_Kitchen_Tabletop_Manipulation", "libero_kitchen_tabletop_manipulation"


def write_demonstrations(path: Path, found: Iterable[Demonstration | int], task: Task, settings: Settings) -> int:
    """Write what `record` yields as one LIBERO file, atomically; returns the number of demonstrations.

    Equal demonstrations give equal bytes. Failed attempts are listed in the attribute `failed`.
    """
    import h5py

    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        data = file.create_group("data")
        data.attrs.update(_attributes(task, settings))
        demos, total, failed = 0, 0, []
        for attempt in found:
            if isinstance(attempt, int):
                failed.append(attempt)
                continue
            _write_demo(data.create_group(f"demo_{demos}"), attempt, settings)
            demos, total = demos + 1, total + len(attempt.actions)
        data.attrs.update({"num_demos": demos, "total": total, "failed": np.array(failed, np.int64)})
    return demos


def _attributes(task: Task, settings: Settings) -> dict[str, Any]:
    """Attributes of the group `data`, as LIBERO has them, and what the recording followed from."""
    bddl = f"policylens/policies/vla/libero/bddl/{task.bddl.name}"
    words = {"problem_name": PROBLEM, "domain_name": "robosuite", "language_instruction": task.instruction}
    kwargs = {
        "robots": ["Panda"],
        "control_freq": CONTROL_HZ,
        "camera_heights": settings.size,
        "camera_widths": settings.size,
        "camera_names": sorted(CAMERAS.values(), reverse=True),
    }
    env = {"type": 1, "env_name": ENV_NAME, "problem_name": PROBLEM, "bddl_file": bddl, "env_kwargs": kwargs}
    return {
        "env_name": ENV_NAME,
        "problem_info": json.dumps(words),
        "macros_image_convention": "opengl",
        "bddl_file_name": bddl,
        "bddl_file_content": task.bddl.read_text(encoding="utf-8"),
        "env_args": json.dumps(env),
        "pair": task.pair.name,
        "object_joint": task.pair.measure.name,
        "seed": settings.seed,
        "noise": settings.noise,
        "look": settings.look,
    }


def _write_demo(group: Any, found: Demonstration, settings: Settings) -> None:
    length = len(found.actions)
    last = np.zeros(length, np.uint8)
    last[-1] = 1
    arrays = {
        "actions": found.actions,
        "expert_actions": found.expert_actions,
        "states": found.states,
        "robot_states": found.robot_states,
        "rewards": last,
        "dones": last,
        **{f"obs/{name}": values for name, values in found.obs.items()},
    }
    for name, values in arrays.items():
        packed = {"compression": "gzip", "compression_opts": 4} if values.ndim == 4 else {}
        group.create_dataset(name, data=values, track_times=False, **packed)
    group.attrs.update(
        {
            "num_samples": length,
            "model_file": found.model,
            "init_state": found.states[0],
            "initial_state": np.array([settings.seed, found.number]),
        }
    )
