"""The manifest of a family of vision-language-action policies."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from policylens.errors import UserError
from policylens.policies.family import Family
from policylens.policies.vla.architecture import observations, sites
from policylens.policies.vla.foreign import architecture_of, own_names
from policylens.policies.vla.settings import IMPORT_SETTINGS, PLAY_SETTINGS, STRENGTH_SETTINGS, TRAINING_SETTINGS
from policylens.stores.weight_files import INDEX, SHARDS, WHOLE, weight_shapes

MEASURES = {
    "return": "1 if the instruction was fulfilled, else 0",
    "success": "the instruction was fulfilled, as LIBERO's predicates on the object say (share of episodes)",
    "opposite": "the contrary of the instruction was brought about (share of episodes)",
    "moved": "how far the pair's measure went the way of the instruction (m of a drawer or of bowls, rad of a knob)",
    "steps": "until the instruction was fulfilled; the horizon where it never was (steps)",
}

HUB_FILES = (WHOLE, INDEX, SHARDS, "config.json", "policy_preprocessor*.safetensors", "*norm_stats.json")
"""Of a checkpoint as LeRobot or openpi's conversion writes it: weights, whole or in shards, sizes, and statistics
in either form."""


def lessons(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The demonstrations' index."""
    return (settings["demonstrations"],) if "demonstrations" in settings else ()


def import_files(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Statistics that stand in a file of their own, and a local tokenizer's files."""
    folder = Path(options.get("tokenizer", ""))
    words = [str(path) for path in sorted(folder.glob("tokenizer*.json"))] if "tokenizer" in options else []
    return (*([options["statistics"]] if "statistics" in options else []), *words)


def foreign_architecture(name: str) -> Callable[[Path, Mapping[str, Any]], dict[str, Any]]:
    """From a foreign folder and the options of its import to the architecture, for the family of that name."""

    def architecture(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
        found = architecture_of(path, own_names(path, weight_shapes(path), operator.eq), options)
        if found["kind"] != name:
            raise UserError(f"{path}: is a checkpoint of {found['kind']}; write `family: {found['kind']}`")
        return found

    return architecture


def vla_family(name: str) -> Family:
    """name: "pi0" or "pi05". Small networks are trained of pi0.5 alone."""
    training = {"training": TRAINING_SETTINGS} if name == "pi05" else {}
    return Family(
        name=name,
        capabilities=frozenset({"run", "import", "rollout", "strength", "returns", *training}),
        sites=sites,
        environment="vla",
        settings={
            "import": IMPORT_SETTINGS,
            "rollout": PLAY_SETTINGS,
            "returns": PLAY_SETTINGS,
            "strength": STRENGTH_SETTINGS,
            **training,
        },
        measures=MEASURES,
        architecture=foreign_architecture(name),
        files=import_files,
        hub_files=HUB_FILES,
        lessons=lessons,
        observations=observations,
        steps_per_episode=110.0,
        rooms="vla",
    )
