"""JSON schemas of what config.yaml may say of vision-language-action policies."""

from __future__ import annotations

from policylens.policies.vla.architecture import NORMALISATIONS

COUNT = {"type": "integer", "minimum": 1}

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
