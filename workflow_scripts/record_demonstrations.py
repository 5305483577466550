"""Record demonstrations of one task: the scripted expert in LIBERO's simulator, as a file of LIBERO's own layout."""

import argparse
import json
from pathlib import Path

from policylens.console import main
from policylens.policies.vla.libero.demonstrations import record
from policylens.policies.vla.libero.hdf5 import write_demonstrations
from policylens.policies.vla.libero.recording import Settings
from policylens.policies.vla.libero.simulator import Simulator
from policylens.policies.vla.libero.tasks import task
from policylens.progress import progress


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True, help="slug of the task")
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON: episodes, noise, size, look, ...")
    parser.add_argument("--out", required=True, type=Path, help="<task>.hdf5")
    arguments = parser.parse_args()
    settings, wanted = Settings(**arguments.settings), task(arguments.task)
    simulator = Simulator(wanted, settings.size, settings.look)
    try:
        attempts = progress(
            record(simulator, wanted, settings), settings.episodes, f"recording {wanted.slug}", "attempts"
        )
        write_demonstrations(arguments.out, attempts, wanted, settings)
    finally:
        simulator.close()


if __name__ == "__main__":
    main(program)
