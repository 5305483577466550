"""Measure how strong a checkpoint is, as its family defines strength, with intervals."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from policylens.console import main
from policylens.policies.registry import load_policy, require, room
from policylens.statistics.intervals import wilson
from policylens.stores.files import write_json


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, type=Path, help="folder with model.safetensors and policy.json")
    parser.add_argument("--settings", required=True, help="JSON: settings of the family's strength measurement")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, type=Path, help="strength.json to write")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    policy = load_policy(arguments.checkpoint)
    family = policy.record["family"]
    require(family, "strength", "measuring strength")
    settings = json.loads(arguments.settings)
    counts = room(family, "strength").evaluate(policy, settings, arguments.seed)
    write_json(
        arguments.out,
        {
            "checkpoint_sha256": policy.record["weights"]["sha256"],
            "settings": settings,
            "seed": arguments.seed,
            "results": with_intervals(counts),
        },
    )


def with_intervals(results: Any) -> Any:
    """Every {"successes": s, "n": n, ...} in the results with its rate and 95% Wilson interval."""
    if not isinstance(results, Mapping):
        return results
    found = {key: with_intervals(value) for key, value in results.items()}
    if "successes" in found and "n" in found:
        estimate = wilson(found["successes"], found["n"])
        found |= {"rate": estimate.value, "low": estimate.low, "high": estimate.high, "level": estimate.level}
    return found


if __name__ == "__main__":
    main(program)
