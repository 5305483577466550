"""The manifest of a family of vision-language-action policies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policylens.policies.family import Family
from policylens.policies.vla.architecture import observations, sites
from policylens.policies.vla.settings import IMPORT_SETTINGS, PLAY_SETTINGS, STRENGTH_SETTINGS, TRAINING_SETTINGS

MEASURES = {
    "return": "1 if the instruction was fulfilled, else 0",
    "success": "the instruction was fulfilled, as LIBERO's predicates on the object say (share of episodes)",
    "opposite": "the contrary of the instruction was brought about (share of episodes)",
    "moved": "how far the pair's measure went the way of the instruction (m of a drawer or of bowls, rad of a knob)",
    "steps": "until the instruction was fulfilled; the horizon where it never was (steps)",
}

HUB_FILES = ("model.safetensors", "config.json", "policy_preprocessor*.safetensors", "*norm_stats.json")
"""Of a checkpoint as LeRobot or openpi's conversion writes it: weights, sizes, and statistics in either form."""


def lessons(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The demonstrations' index."""
    return (settings["demonstrations"],) if "demonstrations" in settings else ()


def import_files(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Statistics that stand in a file of their own, and a local tokenizer's files."""
    folder = Path(options.get("tokenizer", ""))
    words = [str(path) for path in sorted(folder.glob("tokenizer*.json"))] if "tokenizer" in options else []
    return (*([options["statistics"]] if "statistics" in options else []), *words)


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
        files=import_files,
        hub_files=HUB_FILES,
        lessons=lessons,
        observations=observations,
        steps_per_episode=110.0,
        rooms="vla",
    )
