"""JSON schemas of what config.yaml may say of vision-language-action policies."""

from __future__ import annotations

from policylens.policies.vla.architecture import NORMALISATIONS

COUNT = {"type": "integer", "minimum": 1}
NOT_NEGATIVE = {"type": "number", "minimum": 0}
POSITIVE = {"type": "number", "exclusiveMinimum": 0}

IMPORT_SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "tokenizer": {"type": "string"},
        "cameras": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}},
        "vision_heads": COUNT,
        "state": COUNT,
        "action": COUNT,
        "chunk": COUNT,
        "denoising_steps": COUNT,
        "prompt_tokens": COUNT,
        "statistics": {"type": "string"},
        "normalisation": {"enum": sorted(NORMALISATIONS)},
    },
}
"""tokenizer: a folder or a hub's name. cameras: the checkpoint's image keys, in its order -> arrays of sources.
vision_heads: attention heads of the vision tower, which its tensors do not tell. state, action, chunk, denoising_steps,
prompt_tokens: where the checkpoint has no config.json that says so. statistics: a file of them, where it has none."""

_SCENE = {
    "size": COUNT,
    "look": {"enum": ["libero", "plain"]},
    "assets": {"type": "string"},
    "horizon": COUNT,
    "replan": COUNT,
}
_PLAY = {
    **_SCENE,
    "pairs": {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"type": "string"}},
    "instructions": {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"type": "string"}},
    "hold": {"type": "integer", "minimum": 0},
    "noise": NOT_NEGATIVE,
}
PLAY_SETTINGS = {"type": "object", "additionalProperties": False, "properties": _PLAY}
"""Of rollouts and returns: see play.PlaySettings."""

STRENGTH_SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {**_PLAY, "episodes": {"type": "integer", "minimum": 2}},
}

TRAINING_SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["iterations", "demonstrations"],
    "properties": {
        **_SCENE,
        "iterations": COUNT,
        "demonstrations": {"type": "string"},
        "architecture": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                **dict.fromkeys(
                    (
                        "width",
                        "hidden",
                        "depth",
                        "head_dim",
                        "expert_width",
                        "expert_hidden",
                        "vision_width",
                        "vision_hidden",
                        "vision_depth",
                        "vision_heads",
                        "patch",
                        "chunk",
                        "denoising_steps",
                    ),
                    COUNT,
                ),
                "cameras": {
                    "type": "array",
                    "minItems": 1,
                    "uniqueItems": True,
                    "items": {"enum": ["image", "wrist_image"]},
                },
            },
        },
        "snapshots": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "save_every": COUNT,
        "steps": COUNT,
        "batch": COUNT,
        "learning_rate": POSITIVE,
        "warm_up": COUNT,
        "weight_decay": NOT_NEGATIVE,
        "clip": POSITIVE,
        "alone": {"type": "integer", "minimum": 0},
        "episodes": {"type": "integer", "minimum": 0},
    },
}
"""See training.TrainingSettings."""
