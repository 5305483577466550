"""What a folder of LeRobot's or openpi's says of its network: from config.json, statistics and headers of weights.

Free of heavy imports: the config knows a checkpoint's sites by this before anything is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from policylens.errors import UserError
from policylens.policies.vla.architecture import EMBEDDING, HEADS, NORMALISATIONS, TIED, UNUSED, check_architecture
from policylens.policies.vla.named_tokenizer import check_name
from policylens.policies.vla.statistics import DEFAULT_MODES, statistics_of
from policylens.stores.files import read_json

T = TypeVar("T")

TOKENIZER = "google/paligemma-3b-pt-224"
DEFAULTS = {"chunk": 50, "denoising_steps": 10, "max_state": 32, "max_action": 32}
PROMPT_TOKENS = {"pi0": 48, "pi05": 200}
CAMERAS = {"observation.images.image": "image", "observation.images.image2": "wrist_image"}
"""Where neither config.json nor options name cameras: those of LIBERO."""

_LANGUAGE = "paligemma_with_expert.paligemma.model.language_model"
_EXPERT = "paligemma_with_expert.gemma_expert.model"
_VISION = "paligemma_with_expert.paligemma.model.vision_tower.vision_model"
_RENAMED = {
    "action_time_mlp_in": {"pi05": "time_mlp_in"},
    "action_time_mlp_out": {"pi05": "time_mlp_out"},
    "time_mlp_in": {"pi0": "action_time_mlp_in"},
    "time_mlp_out": {"pi0": "action_time_mlp_out"},
}


def architecture_of(path: Path, shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture that policy.json will have. shapes: of all tensors, by their own names.

    Raises UserError naming the file, and the tensor where it is one, for what does not fit together.
    """
    config = read_json(path / "config.json") if (path / "config.json").is_file() else {}
    check_name(options.get("tokenizer", TOKENIZER))
    return check_architecture(_architecture(path, shapes, config, options))


def own_names(path: Path, tensors: Mapping[str, T], equal: Callable[[T, T], bool]) -> dict[str, T]:
    """The tensors as LeRobot's network has them: without prefix, tied ones under one name, unused ones gone.

    tensors: by name, or what is known of them. equal: whether two tensors may be one.
    """
    found = {name.removeprefix("model.").replace("._orig_mod.", "."): tensor for name, tensor in tensors.items()}
    kind = _kind(path, found)
    found = {_own_name(name, kind): tensor for name, tensor in found.items() if name != UNUSED}
    tied = found.pop(TIED, None)
    if tied is None and EMBEDDING not in found:
        raise UserError(f"{path}: has neither {EMBEDDING} nor {TIED}; the words' embedding is missing")
    if tied is not None and EMBEDDING in found and not equal(tied, found[EMBEDDING]):
        raise UserError(f"{path}: {TIED} and {EMBEDDING} differ, and must be the same; export the checkpoint again")
    return {**found, EMBEDDING: found.get(EMBEDDING, tied)}


def _kind(path: Path, tensors: Container[str]) -> str:
    """What its tensors say: the adaptive norms are pi0.5's, the projected state is pi0's."""
    adaptive = f"{_EXPERT}.norm.dense.weight" in tensors
    if adaptive == ("state_proj.weight" in tensors):
        raise UserError(f"{path}: no checkpoint of pi0 or pi0.5: their expert has either adaptive norms or state_proj")
    return "pi05" if adaptive else "pi0"


def _own_name(name: str, kind: str) -> str:
    start, _, rest = name.partition(".")
    return f"{_RENAMED.get(start, {}).get(kind, start)}.{rest}"


def _architecture(
    path: Path, tensors: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    kind = _kind(path, tensors)
    if config.get("type", kind) != kind:
        raise UserError(f"{path}/config.json: says {config['type']!r}, the tensors are those of {kind}")
    language, expert = (_stream(path, tensors, stream) for stream in (_LANGUAGE, _EXPERT))
    inputs = config.get("input_features") or {}
    outputs = config.get("output_features") or {}
    sizes = _sizes(path, tensors)
    modes = config.get("normalization_mapping") or {}
    statistics = statistics_of(path, options)
    given = {"state": _feature(inputs, "observation.state"), "action": _feature(outputs, "action")}
    count = {
        name: _first(options.get(name), given[name], len(statistics[name]["mean"])) for name in ("state", "action")
    }
    return {
        "kind": kind,
        "language": language,
        "expert": expert,
        "vision": _vision(path, tensors, options),
        "vocabulary": _shape(path, tensors, EMBEDDING)[0],
        "prompt_tokens": _first(options.get("prompt_tokens"), config.get("tokenizer_max_length"), PROMPT_TOKENS[kind]),
        "chunk": _first(
            options.get("chunk"), config.get("chunk_size"), config.get("action_horizon"), DEFAULTS["chunk"]
        ),
        "denoising_steps": _first(
            options.get("denoising_steps"), config.get("num_inference_steps"), DEFAULTS["denoising_steps"]
        ),
        **count,
        "max_state": _first(config.get("max_state_dim"), sizes["state"]),
        "max_action": _first(config.get("max_action_dim"), sizes["action"]),
        "cameras": _cameras(inputs, options),
        "normalisation": _normalisation(path, kind, modes, statistics, count, options),
        "tokenizer": {"name": options.get("tokenizer", TOKENIZER)},
    }


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _feature(features: Mapping[str, Any], name: str) -> int | None:
    return features[name]["shape"][0] if name in features else None


def _cameras(inputs: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """Names of the sources' arrays, in the order in which the checkpoint has its cameras."""
    own = [name for name in inputs if name.startswith("observation.images.")]
    named = options.get("cameras")
    if named is None:
        named = {name: CAMERAS.get(name, name.rpartition(".")[2]) for name in own} or CAMERAS
    unknown = sorted(own - named.keys() if own else set())
    if unknown:
        raise UserError(
            f"the checkpoint has the cameras {', '.join(own)}; the option `cameras` leaves out {unknown[0]}"
        )
    return [named[name] for name in own or named]


def _normalisation(
    path: Path,
    kind: str,
    modes: Mapping[str, str],
    statistics: Mapping[str, Any],
    count: Mapping[str, int],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Of longer statistics the first `count` numbers: openpi keeps some of what states and actions are padded to."""
    found = {}
    for name in ("state", "action"):
        given = str(modes.get(name.upper(), "")).rpartition(".")[2].lower()
        mode = options.get("normalisation", given or DEFAULT_MODES[kind])
        missing = [key for key in _needed(path, mode) if key not in statistics[name]]
        if missing:
            raise UserError(f"{path}: the statistics of {name} lack {', '.join(missing)}, which {mode} needs")
        found[name] = {"mode": mode, **{key: statistics[name][key][: count[name]] for key in _needed(path, mode)}}
    return found


def _needed(path: Path, mode: str) -> tuple[str, ...]:
    if mode not in NORMALISATIONS:
        raise UserError(f"{path}: states and actions are normalised by {mode!r}; known are {', '.join(NORMALISATIONS)}")
    return NORMALISATIONS[mode]


def _shape(path: Path, tensors: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    if name not in tensors:
        raise UserError(f"{path}: has no tensor {name}")
    return tensors[name]


def _sizes(path: Path, tensors: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """What states and actions are padded to."""
    action = _shape(path, tensors, "action_in_proj.weight")[1]
    state = _shape(path, tensors, "state_proj.weight")[1] if "state_proj.weight" in tensors else action
    return {"state": state, "action": action}


def _stream(path: Path, tensors: Mapping[str, tuple[int, ...]], stream: str) -> dict[str, int]:
    first = f"{stream}.layers.0"
    query = _shape(path, tensors, f"{first}.self_attn.q_proj.weight")
    keys = _shape(path, tensors, f"{first}.self_attn.k_proj.weight")
    if query[0] % HEADS or keys[0] % (query[0] // HEADS):
        raise UserError(f"{path}: {first}.self_attn has {query[0]} query units; LeRobot has {HEADS} heads")
    head = query[0] // HEADS
    return {
        "width": query[1],
        "hidden": _shape(path, tensors, f"{first}.mlp.down_proj.weight")[1],
        "depth": _count(tensors, f"{stream}.layers"),
        "head_dim": head,
        "kv_heads": keys[0] // head,
    }


def _count(tensors: Iterable[str], prefix: str) -> int:
    numbers = [re.match(rf"{re.escape(prefix)}\.([0-9]+)\.", name) for name in tensors]
    return 1 + max(int(match[1]) for match in numbers if match)


def _vision(path: Path, tensors: Mapping[str, tuple[int, ...]], options: Mapping[str, Any]) -> dict[str, int]:
    width, _, patch, _ = _shape(path, tensors, f"{_VISION}.embeddings.patch_embedding.weight")
    places = _shape(path, tensors, f"{_VISION}.embeddings.position_embedding.weight")[0]
    heads = options.get("vision_heads", 16 if width == 1152 else None)
    if heads is None:
        raise UserError(f"{path}: its vision tower is {width} wide; say its heads: `options: {{vision_heads: ...}}`")
    return {
        "width": width,
        "depth": _count(tensors, f"{_VISION}.encoder.layers"),
        "heads": heads,
        "hidden": _shape(path, tensors, f"{_VISION}.encoder.layers.0.mlp.fc1.weight")[0],
        "patch": patch,
        "image_size": round(places**0.5) * patch,
    }
