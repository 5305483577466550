"""Plain state dicts: W_enc, b_enc, W_dec, b_dec (and threshold, or a gate's) in a .pt or .safetensors file.

Such a file does not say whether b_dec is subtracted before encoding, nor how many latents a row keeps: whoever imports
it says so. A .safetensors file written here says it itself, in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.sae.architecture import Tensors
from policylens.sae.architectures import build
from policylens.sae.base import SAE
from policylens.sae.interchange.convention import (
    Foreign,
    checked,
    exact,
    is_transcoder,
    output_site_of,
    settings_of,
)
from policylens.sae.interchange.dictionary_learning import state_dict, write_torch
from policylens.sae.row_kinds import row_norm_of
from policylens.stores.files import read_tensors, sha256_of_file, write_tensors
from policylens.stores.schemas import check_value

SUFFIXES = (".safetensors", ".pt", ".pth")
METADATA = "policylens"
COUNT = "k"
"""Tensor of a TopK SAE: how many latents a row keeps, an integer."""

MATRICES = ("W_enc", "W_dec")
SAID = {"subtract_b_dec", "transposed", "k", "row_norm"}
"""Options for what a file written here says itself."""

TOLD = {
    "type": "object",
    "required": ["settings", "subtract_b_dec", "transposed", "transcoder"],
    "properties": {
        "settings": {"type": "object", "required": ["architecture", "latents"]},
        "subtract_b_dec": {"type": "boolean"},
        "transposed": {"type": "boolean"},
        "transcoder": {"type": "boolean"},
    },
}
"""JSON schema of the metadata of a .safetensors file written here."""


def read(path: Path, options: Mapping[str, Any]) -> Foreign:
    """The SAE in a state dict. options: scale, subtract_b_dec, transposed, k, row_norm, output_site (`OPTIONS`).

    Raises UserError naming the file where it leaves open what the options do not say.
    """
    stored = read_tensors(path) if path.suffix == ".safetensors" else state_dict(path)
    told = read_metadata(path)
    if told and options.keys() & SAID:
        raise UserError(f"{path}: says itself what it is; leave out {', '.join(sorted(options.keys() & SAID))}")
    tensors = exact({name: tensor for name, tensor in stored.items() if name != COUNT}, path)
    tensors = _oriented(_thresholds(tensors), options.get("transposed", told.get("transposed")), path)
    (d_in, m), d_out = tensors["W_enc"].shape, tensors["W_dec"].shape[1]
    known = _known(stored, told, options, path)
    output_site = output_site_of(options, path, told.get("transcoder", True if d_in != d_out else None))
    known |= {"output_site": output_site} | {name: options[name] for name in ("row_norm",) if name in options}
    if row_norm_of(known) and "scale" in options:
        raise UserError(f"{path}: rows with a row_norm of their own are not scaled besides; leave scale out")
    if known["architecture"] == "standard" and output_site is not None:
        known["architecture"] = "transcoder"
    settings = settings_of(known["architecture"], m, path, known)
    what = f"a {settings['architecture']!r} SAE"
    checked(tensors, build(settings).shapes(d_in, d_out), path, what, "its architecture")
    return Foreign(
        path=path,
        settings=settings,
        tensors=tensors,
        subtracts_b_dec=_subtracts(tensors, told, options, path),
        scale=float(options.get("scale", 1.0)),
        imported={
            "format": "state_dict",
            "architecture": settings["architecture"],
            "files": {path.name: sha256_of_file(path)},
            "config": told or None,
        },
    )


def read_metadata(path: Path) -> dict[str, Any]:
    """What a .safetensors file written here says of itself; {} for all others."""
    if path.suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(METADATA)
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        raise UserError(f"{path}: its metadata {METADATA!r} is not JSON; export the SAE again") from None
    check_value(TOLD, found, f"{path}: metadata {METADATA!r}")
    return found


def _thresholds(tensors: Tensors) -> Tensors:
    """With thresholds as such rather than as logarithms, and not below 0, which their ReLU is equal to."""
    found = dict(tensors)
    if "log_threshold" in found:
        found["threshold"] = found.pop("log_threshold").exp()
    if "threshold" in found:
        found["threshold"] = found["threshold"].clamp(min=0)
    return found


def _known(
    stored: Mapping[str, Tensor], told: Mapping[str, Any], options: Mapping[str, Any], path: Path
) -> dict[str, Any]:
    """Its architecture here and what else of its settings is known."""
    if "settings" in told:
        return dict(told["settings"])
    if "threshold" in stored or "log_threshold" in stored:
        return {"architecture": "jumprelu"}
    if "b_gate" in stored:
        return {"architecture": "gated"}
    if COUNT not in stored:
        return {"architecture": "topk", "k": options["k"]} if "k" in options else {"architecture": "standard"}
    k = stored[COUNT]
    if k.numel() != 1 or k.is_floating_point() or options.get("k", int(k)) != int(k):
        raise UserError(f"{path}: tensor {COUNT!r} must be one whole number, and the option k, if given, the same")
    return {"architecture": "topk", "k": int(k)}


def _oriented(tensors: Tensors, transposed: bool | None, path: Path) -> Tensors:
    """With W_enc (d_in, m) and W_dec (m, d_out): the biases' widths tell, where they differ, or else `transposed`."""
    turned = _turned(tensors, path)
    seen = {way for way in turned.values() if way is not None}
    if transposed is not None and (not transposed) in seen:
        raise UserError(f"{path}: its shapes contradict transposed: {str(transposed).lower()}; leave it out")
    likely = next(iter(seen)) if len(seen) == 1 else transposed
    found = dict(tensors)
    for name, way in turned.items():
        if way is None and likely is None:
            raise UserError(
                f"{path}: tensor {name!r} is square, so that its layout cannot be told; say transposed: false for "
                "W_enc (d, m) and W_dec (m, d), true for the other way round"
            )
        found[name] = tensors[name].T if (likely if way is None else way) else tensors[name]
    return found


def _turned(tensors: Tensors, path: Path) -> dict[str, bool | None]:
    """Whether each matrix is the other way round, by its shape and the biases' widths; None if that cannot be told."""
    missing = [name for name in (*MATRICES, "b_dec") if name not in tensors]
    bias = next((tensors[name] for name in ("b_enc", "b_gate") if name in tensors), None)
    if missing or bias is None:
        raise UserError(f"{path}: not an SAE's state dict (missing: {', '.join(missing) or 'b_enc'})")
    m, d_out = bias.numel(), tensors["b_dec"].numel()
    found: dict[str, bool | None] = {}
    for name, straight in (("W_enc", (None, m)), ("W_dec", (m, d_out))):
        shape = tuple(tensors[name].shape)
        as_is, turns = _fits(shape, straight), _fits(shape[::-1], straight)
        if not as_is and not turns:
            raise UserError(
                f"{path}: tensor {name!r} has shape {list(shape)}, which does not go with {m} latents (b_enc) and "
                f"width {d_out} (b_dec)"
            )
        found[name] = None if as_is and turns else turns
    return found


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, int]) -> bool:
    return len(shape) == 2 and all(want in (None, have) for have, want in zip(shape, wanted, strict=True))


def _subtracts(tensors: Tensors, told: Mapping[str, Any], options: Mapping[str, Any], path: Path) -> bool:
    said = options.get("subtract_b_dec", told.get("subtract_b_dec"))
    if said is None and tensors["b_dec"].any():
        raise UserError(
            f"{path}: a state dict does not say whether b_dec is subtracted before encoding; say subtract_b_dec: "
            "true or false (SAELens calls it apply_b_dec_to_input)"
        )
    if said and tensors["b_dec"].shape[0] != tensors["W_enc"].shape[0]:
        raise UserError(f"{path}: b_dec cannot be subtracted from its input, which has another width")
    return bool(said)


def write(sae: SAE, path: Path) -> None:
    """Write an SAE's tensors as they are: f = act(x W_enc + b_enc), x_hat = f W_dec + b_dec.

    A .safetensors file also says which architecture with which settings. A .pt file has room for tensors alone: k is
    one of them, a threshold that all latents share is repeated, and linear latents and `row_norm` are refused.
    """
    if path.suffix == ".safetensors":
        told = {
            "settings": dict(sae.cfg.settings) | {"start": None},
            "subtract_b_dec": False,
            "transposed": False,
            "transcoder": is_transcoder(sae),
        }
        write_tensors(path, sae.tensors, {METADATA: json.dumps(told, sort_keys=True)})
    elif path.suffix in SUFFIXES:
        write_torch(path, _plain(sae, path))
    else:
        raise UserError(f"{path}: a state dict is a .safetensors, .pt or .pth file")


def _plain(sae: SAE, path: Path) -> Tensors:
    if sae.cfg.architecture == "linear":
        raise UserError(f"{path}: cannot say that its latents are linear; export to a .safetensors file")
    if sae.row_norm is not None:
        raise UserError(f"{path}: cannot say that it has row_norm {sae.row_norm}; export to a .safetensors file")
    tensors = dict(sae.tensors)
    if "threshold" in tensors:
        tensors["threshold"] = tensors["threshold"].expand(sae.cfg.d_sae)
    if sae.cfg.architecture == "topk":
        tensors[COUNT] = torch.tensor(sae.cfg.settings["k"])
    return tensors
