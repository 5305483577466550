"""What policy.json says of a vision-language-action network, checked; and the sites that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from policylens.errors import UserError
from policylens.policies.sites import DENOISED_TOKEN, TOKEN, Site

KINDS = ("pi0", "pi05")
HEADS = 8
"""Attention heads of both streams: LeRobot's training pass has this number written into it."""

TIED = "paligemma_with_expert.paligemma.lm_head.weight"
EMBEDDING = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
UNUSED = "paligemma_with_expert.gemma_expert.lm_head.weight"
"""The expert's head over words, which nothing reads: 0.26e9 numbers in published checkpoints, left out of ours."""

_SHARED = {"depth", "head_dim", "kv_heads"}
_PARTS = {
    "language": {"width", "hidden", *_SHARED},
    "expert": {"width", "hidden", *_SHARED},
    "vision": {"width", "depth", "heads", "hidden", "patch", "image_size"},
}
_COUNTS = ("vocabulary", "prompt_tokens", "chunk", "denoising_steps", "state", "action", "max_state", "max_action")
_KEYS = {"kind", *_PARTS, *_COUNTS, "cameras", "normalisation", "tokenizer"}
NORMALISATIONS = {"quantiles": ("q01", "q99"), "mean_std": ("mean", "std"), "min_max": ("min", "max"), "identity": ()}
"""How states and actions are normalised -> the statistics that it takes."""


def check_architecture(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture if it is one of these networks, else UserError saying what is wrong.

    kind: "pi0" or "pi05". language, expert: width of the stream, hidden units of a feed-forward layer, depth, head_dim
    and kv_heads, of which the last three are the same in both. vision: of the SigLIP tower; image_size: pixels of a
    side, a multiple of patch. vocabulary: words. prompt_tokens: positions of the prompt. chunk: actions that are
    planned at once. denoising_steps: of sampling. state, action: numbers of a state and an action; max_state,
    max_action: what they are padded to. cameras: names of the observations' images, in order. normalisation: of
    "state" and "action" {"mode": see NORMALISATIONS, its statistics: lists}. tokenizer: {"words": [...]} for one of
    whole words, or {"name": a hub's repository or a folder}.
    """
    found = dict(architecture)
    if found.keys() != _KEYS or found["kind"] not in KINDS:
        raise UserError(f"not the architecture of a pi0 or pi05 network: it has {', '.join(sorted(found))}")
    for part, keys in _PARTS.items():
        _check_counts(part, found[part], keys)
    _check_counts("it", {name: found[name] for name in _COUNTS}, set(_COUNTS))
    language, expert, vision = (found[part] for part in _PARTS)
    if any(language[name] != expert[name] for name in _SHARED):
        raise UserError(f"language model and expert must agree in {', '.join(sorted(_SHARED))}: {language}, {expert}")
    if vision["image_size"] % vision["patch"] or vision["width"] % vision["heads"]:
        raise UserError(f"vision: patch must divide image_size, and heads width: {vision}")
    if found["state"] > found["max_state"] or found["action"] > found["max_action"]:
        raise UserError("states or actions are longer than what they are padded to")
    if not found["cameras"]:
        raise UserError("a policy that sees needs at least one camera")
    for name in ("state", "action"):
        _check_normalisation(name, found["normalisation"].get(name), found[name])
    return found


def _check_counts(what: str, values: Mapping[str, Any], keys: set[str]) -> None:
    sound = values.keys() == keys and all(isinstance(value, int) and value > 0 for value in values.values())
    if not sound:
        raise UserError(f"{what} needs {', '.join(sorted(keys))}, all of them positive integers; it has {dict(values)}")


def _check_normalisation(what: str, how: Mapping[str, Any] | None, size: int) -> None:
    if not isinstance(how, Mapping) or how.get("mode") not in NORMALISATIONS:
        raise UserError(f"the normalisation of {what} needs a mode: one of {', '.join(NORMALISATIONS)}")
    for name in NORMALISATIONS[how["mode"]]:
        values = how.get(name)
        if not isinstance(values, list) or len(values) != size or not all(math.isfinite(value) for value in values):
            raise UserError(f"the normalisation of {what} needs {name}: {size} numbers")


def image_tokens(architecture: Mapping[str, Any]) -> int:
    """Tokens that a camera's image becomes."""
    vision = architecture["vision"]
    return (vision["image_size"] // vision["patch"]) ** 2


def prefix_tokens(architecture: Mapping[str, Any]) -> int:
    """Positions of the language model's stream: those of all images, then the prompt."""
    return len(architecture["cameras"]) * image_tokens(architecture) + architecture["prompt_tokens"]


def suffix_tokens(architecture: Mapping[str, Any]) -> int:
    """Positions of the expert's stream: the chunk's actions; pi0 has the state before them."""
    return architecture["chunk"] + (architecture["kind"] == "pi0")


def sites(record: Mapping[str, Any]) -> tuple[Site, ...]:
    """All sites in the order of computation; those of the expert are computed at every denoising step.

    language_embed, language_<k>: the language model's stream before the first layer and after layer k (from 0);
    language_<k>_ffn: what the down-projection of layer k's feed-forward part takes. expert_...: the same of the action
    expert. conditioning: what pi0.5's adaptive norms take, a vector per denoising step.
    """
    found = check_architecture(record["architecture"])
    depth = found["language"]["depth"]
    steps = ("denoise", found["denoising_steps"])
    prefix, suffix = ("token", prefix_tokens(found)), ("token", suffix_tokens(found))
    taken = [_site("language_embed", found["language"]["width"], "embedded images and prompt", prefix)]
    for layer in range(depth):
        taken += _layer("language", layer, found, (prefix,), dead_end=layer == depth - 1)
    if found["kind"] == "pi05":
        taken.append(_site("conditioning", found["expert"]["width"], "what adaptive norms take", steps, ("token", 1)))
    taken.append(_site("expert_embed", found["expert"]["width"], "embedded noisy actions", steps, suffix))
    for layer in range(depth):
        taken += _layer("expert", layer, found, (steps, suffix))
    return tuple(taken)


def _layer(
    stream: str, layer: int, found: Mapping[str, Any], inner: tuple[tuple[str, int], ...], dead_end: bool = False
) -> list[Site]:
    of = f"of layer {layer} of the {'language model' if stream == 'language' else 'action expert'}"
    no_use = "; nothing reads it, for the expert sees the keys and values of its input" if dead_end else ""
    sites = [
        _site(f"{stream}_{layer}_ffn", found[stream]["hidden"], f"input of the down-projection {of}{no_use}", *inner),
        _site(f"{stream}_{layer}", found[stream]["width"], f"residual stream after {of[3:]}{no_use}", *inner),
    ]
    return [replace(site, layer=layer, dead_end=dead_end) for site in sites]


def _site(name: str, width: int, description: str, *inner: tuple[str, int]) -> Site:
    space = DENOISED_TOKEN if inner[0][0] == "denoise" else TOKEN
    return Site(name, width, space, inner, description)


def observations(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The arrays of a batch: the cameras' images, the state and the instruction."""
    return (*record["architecture"]["cameras"], "state", "instruction")
