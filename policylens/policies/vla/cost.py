"""What a pass of pi0 or pi0.5 costs: floating-point operations per frame, stage by stage, from the architecture alone.

A product of (a, b) and (b, c) counts as 2abc; norms, activation functions and softmax are left out, as torch's
FlopCounterMode leaves them out, with which these numbers agree to the last one (tests/test_vla_cost.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from policylens.errors import UserError
from policylens.policies.vla.architecture import HEADS, image_tokens, prefix_tokens, suffix_tokens

PARTS = ("vision", "language", "expert")
COLOURS = 3


class StageCost(NamedTuple):
    """site: where the stage ends; "" of what follows the last site. part: of PARTS, by which flops are told apart."""

    site: str
    part: str
    flops: int


def pass_flops(
    architecture: Mapping[str, Any], stop_after: str | None = None, times: int | None = None
) -> dict[str, int]:
    """Operations per frame of a whole pass, or of one that stops after a site, by part of the network.

    times: how often the site is computed, of those that are at every denoising step; as often as there is if None.

    The vision tower is apart because its numbers are float32 whatever the precision of the rest. UserError for a site
    that there is not.
    """
    stages = list(stages_of(architecture))
    if stop_after is not None:
        places = [place for place, stage in enumerate(stages) if stage.site == stop_after]
        if not places:
            raise UserError(f"the policy has no site {stop_after!r}")
        stages = stages[: places[-1 if times is None else times - 1] + 1]
    return {part: sum(stage.flops for stage in stages if stage.part == part) for part in PARTS}


def stages_of(architecture: Mapping[str, Any]) -> Iterator[StageCost]:
    """Every stage of a pass in the order of computation, those of the expert at each denoising step."""
    found = architecture
    prefix, depth = prefix_tokens(found), found["language"]["depth"]
    yield StageCost("language_embed", "vision", len(found["cameras"]) * vision_flops(found))
    angles = (prefix + suffix_tokens(found)) * found["language"]["head_dim"]
    yield StageCost("language_embed", "language", angles)
    for layer in range(depth):
        yield from _layer("language", layer, found, prefix, prefix)
    for step in range(found["denoising_steps"]):
        yield from _denoising(found, first=step == 0)
    yield StageCost("", "expert", _velocity(found))


def vision_flops(architecture: Mapping[str, Any]) -> int:
    """Of one camera's image: SigLIP's patches and layers, and the projection into the language model's stream."""
    found, width = architecture["vision"], architecture["vision"]["width"]
    tokens = image_tokens(architecture)
    patches = 2 * tokens * COLOURS * found["patch"] ** 2 * width
    attention = 8 * tokens * width**2 + 4 * tokens**2 * width
    feed_forward = 4 * tokens * width * found["hidden"]
    projection = 2 * tokens * width * architecture["language"]["width"]
    return patches + found["depth"] * (attention + feed_forward) + projection


def _layer(stream: str, layer: int, found: Mapping[str, Any], tokens: int, keys: int) -> Iterator[StageCost]:
    """The two stages of a layer, per frame. tokens: of the stream. keys: that its tokens attend to."""
    own = found[stream]
    width, hidden, head = own["width"], own["hidden"], own["head_dim"]
    projections = 2 * tokens * width * head * (2 * HEADS + 2 * own["kv_heads"])
    attention = 4 * tokens * keys * head * HEADS
    adaptive = 2 * _adaptive(found) if stream == "expert" else 0
    read = 2 * 2 * tokens * width * hidden
    yield StageCost(f"{stream}_{layer}_ffn", stream, projections + attention + adaptive + read)
    yield StageCost(f"{stream}_{layer}", stream, 2 * tokens * hidden * width)


def _denoising(found: Mapping[str, Any], first: bool) -> Iterator[StageCost]:
    width, chunk = found["expert"]["width"], found["chunk"]
    advance = 0 if first else _velocity(found)
    actions = 2 * chunk * found["max_action"] * width
    if found["kind"] == "pi05":
        time = 4 * width**2
        yield StageCost("conditioning", "expert", advance + actions + time)
        yield StageCost("expert_embed", "expert", actions)
    else:
        state, time = 2 * found["max_state"] * width, 6 * chunk * width**2
        yield StageCost("expert_embed", "expert", advance + actions + state + time)
    tokens = suffix_tokens(found)
    for layer in range(found["expert"]["depth"]):
        yield from _layer("expert", layer, found, tokens, prefix_tokens(found) + tokens)


def _velocity(found: Mapping[str, Any]) -> int:
    """What the expert says after its last layer."""
    return _adaptive(found) + 2 * found["chunk"] * found["expert"]["width"] * found["max_action"]


def _adaptive(found: Mapping[str, Any]) -> int:
    """Of an adaptive norm: scale, shift and gate from the conditioning. pi0 has none."""
    return 6 * found["expert"]["width"] ** 2 if found["kind"] == "pi05" else 0
