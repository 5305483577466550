"""dictionary_learning folders: ae.pt (a state dict) and config.json, as version 0.1.0 writes and loads them.

Its `utils.load_dictionary` is what is followed, default arguments included: an AutoEncoder's decoder is normalised on
loading; AutoEncoderTopK keeps the k largest, its threshold unused; BatchTopKSAE and MatryoshkaBatchTopKSAE use their
threshold. Normalisation of activations is folded into its files already.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.sae.architecture import Tensors
from policylens.sae.base import SAE
from policylens.sae.interchange.convention import (
    Foreign,
    checked,
    exact,
    is_transcoder,
    prefixes_of,
    rounded,
    settings_of,
    shifted,
    with_norms_in_encoder,
)
from policylens.sae.settings import prefix_widths
from policylens.stores.files import read_json, replacing, sha256_of_file, write_json
from policylens.stores.foreign import load_torch

CONFIG, WEIGHTS = "config.json", "ae.pt"

SHARED = {"encoder.weight": "W_enc", "decoder.weight": "W_dec"}
OWN_NAMES = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")}
PER_LATENT = ("b_enc", "b_gate", "b_mag", "r_mag")


class Layout(NamedTuple):
    """A dictionary class. ours: its architecture here. names: its tensors' names -> ours.

    subtracts: whether b_dec is subtracted before encoding. counts: its integer tensors.
    """

    ours: str
    names: dict[str, str]
    subtracts: bool
    counts: tuple[str, ...] = ()


_SELECTING = SHARED | {"encoder.bias": "b_enc", "b_dec": "b_dec", "threshold": "threshold"}
_GATED = {"decoder_bias": "b_dec", "gate_bias": "b_gate", "mag_bias": "b_mag", "r_mag": "r_mag"}
LAYOUTS = {
    "AutoEncoder": Layout("standard", SHARED | {"encoder.bias": "b_enc", "bias": "b_dec"}, True),
    "AutoEncoderNew": Layout("standard", SHARED | {"encoder.bias": "b_enc", "decoder.bias": "b_dec"}, False),
    "GatedAutoEncoder": Layout("gated", SHARED | _GATED, True),
    "JumpReluAutoEncoder": Layout("jumprelu", OWN_NAMES, False),
    "AutoEncoderTopK": Layout("topk", _SELECTING, True, ("k",)),
    "BatchTopKSAE": Layout("batch_topk", _SELECTING, True, ("k",)),
    "MatryoshkaBatchTopKSAE": Layout("matryoshka", OWN_NAMES, True, ("k", "group_sizes")),
}
WRITTEN = {
    "standard": "AutoEncoderNew",
    "plain_l1": "AutoEncoderNew",
    "tied": "AutoEncoderNew",
    "topk": "AutoEncoderTopK",
    "batch_topk": "BatchTopKSAE",
    "matryoshka": "MatryoshkaBatchTopKSAE",
    "jumprelu": "JumpReluAutoEncoder",
    "gated": "GatedAutoEncoder",
}
NOT_TRAINED = -1.0
"""AutoEncoderTopK's threshold where none was estimated."""


def read(path: Path, options: Mapping[str, Any]) -> Foreign:
    """The SAE in a dictionary_learning folder, or in a .pt file of one (a checkpoint). No options.

    Raises UserError naming the file: for a class that is not known, and for tensors that are not that class's.
    """
    weights = path / WEIGHTS if path.is_dir() else path
    config = find_config(weights)
    record = read_json(config) if config else None
    stored = state_dict(weights)
    name = _class(record, stored, config, weights)
    layout, tensors = LAYOUTS[name], _tensors(name, stored, weights)
    known = _known(name, stored, weights)
    if name == "AutoEncoder":
        tensors = with_norms_in_encoder(tensors)
    return Foreign(
        path=path,
        settings=settings_of(layout.ours, len(tensors["W_dec"]), weights, known),
        tensors=tensors,
        subtracts_b_dec=layout.subtracts,
        scale=1.0,
        imported={
            "format": "dictionary_learning",
            "architecture": name,
            "files": {file.name: sha256_of_file(file) for file in (weights, config) if file},
            "config": record,
        },
    )


def find_config(weights: Path) -> Path | None:
    """config.json beside the weights, or beside their folder `checkpoints`."""
    folders = [weights.parent, weights.parent.parent] if weights.parent.name == "checkpoints" else [weights.parent]
    return next((folder / CONFIG for folder in folders if (folder / CONFIG).is_file()), None)


def state_dict(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a .pt file, or of its one entry `state_dict`; anything else in it is refused."""
    content = load_torch(path)
    if isinstance(content, dict) and list(content) == ["state_dict"]:
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: must hold a dict from names to tensors; save the SAE's state_dict()")
    return {str(name): tensor for name, tensor in content.items()}


def classes_of(names: set[str]) -> list[str]:
    """The dictionary classes whose tensors have exactly these names."""
    return [name for name, layout in LAYOUTS.items() if names == layout.names.keys() | set(layout.counts)]


def _class(record: Any, stored: Mapping[str, Tensor], config: Path | None, weights: Path) -> str:
    told = record.get("trainer", {}).get("dict_class") if isinstance(record, dict) else None
    if told is not None:
        if told not in LAYOUTS:
            raise UserError(f"{config}: dict_class {told!r} is not known; read are: {', '.join(sorted(LAYOUTS))}")
        return told
    found = classes_of(set(stored))
    if len(found) != 1:
        what = f"could be {' or '.join(found)}" if found else "are of no known dictionary class"
        raise UserError(f"{config or weights}: trainer.dict_class is missing, and the tensors {what}; add {CONFIG}")
    return found[0]


def _tensors(name: str, stored: Mapping[str, Tensor], path: Path) -> Tensors:
    """Tensors under our names and in our shapes, float64."""
    layout, what = LAYOUTS[name], f"a dictionary_learning {name}"
    first = {ours: theirs for theirs, ours in layout.names.items()}["W_enc"]
    if first not in stored or stored[first].ndim != 2:
        raise UserError(f"{path}: not the tensors of {what}: {first!r} must be a matrix")
    d, m = stored[first].shape if first == "W_enc" else stored[first].shape[::-1]
    shapes = {"W_enc": (d, m), "W_dec": (m, d), "b_dec": (d,)} | {
        n: (m,) for n in ("b_enc", "b_gate", "b_mag", "r_mag")
    }
    shapes["threshold"] = (m,) if name == "JumpReluAutoEncoder" else ()
    theirs = {n: shapes[ours] if n not in SHARED else shapes[ours][::-1] for n, ours in layout.names.items()}
    counts = {n: tuple(stored[n].shape) if n == "group_sizes" and n in stored else () for n in layout.counts}
    checked(stored, theirs | counts, path, what, "the class")
    values = exact({n: stored[n] for n in layout.names}, path)
    tensors = {ours: values[n].T if n in SHARED else values[n] for n, ours in layout.names.items()}
    if layout.ours == "topk":
        del tensors["threshold"]
    if "threshold" in tensors:
        # Its latents pass a ReLU as well, which a threshold of 0 is equal to.
        tensors["threshold"] = tensors["threshold"].clamp(min=0)
    return tensors


def _known(name: str, stored: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    known: dict[str, Any] = {}
    if "k" in LAYOUTS[name].counts:
        known["k"] = int(stored["k"])
    if "group_sizes" in LAYOUTS[name].counts:
        widths, latents = stored["group_sizes"].flatten().cumsum(0).tolist(), len(stored["W_dec"])
        if not widths or widths[-1] != latents:
            raise UserError(f"{path}: group_sizes do not add up to the {latents} latents")
        known["prefixes"] = prefixes_of(widths, latents)
    return known


def write(sae: SAE, folder: Path) -> None:
    """Write an SAE as a folder that dictionary_learning's `load_dictionary` loads as the same function.

    Raises UserError for an SAE that it has no equal of.
    """
    name = WRITTEN.get(sae.cfg.architecture)
    if name is None or is_transcoder(sae):
        what = "transcoder" if is_transcoder(sae) else f"{sae.cfg.architecture!r} SAE"
        raise UserError(f"dictionary_learning has no equal of a {what}; export it as a state_dict")
    if sae.row_norm is not None:
        raise UserError(
            f"dictionary_learning has no equal of row_norm {sae.row_norm}; export it as a state_dict (.safetensors)"
        )
    layout = LAYOUTS[name]
    tensors = {n: tensor.detach().cpu().double() for n, tensor in sae.tensors.items()}
    if layout.subtracts:
        tensors = shifted(sae.cfg.settings, tensors, -tensors["b_dec"])
    if layout.ours == "topk":
        tensors["threshold"] = torch.tensor(NOT_TRAINED, dtype=torch.float64)
    tensors = rounded(tensors, torch.promote_types(sae.W_dec.dtype, torch.float32), folder)
    stored = {n: tensors[ours].T.contiguous() if n in SHARED else tensors[ours] for n, ours in layout.names.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    write_torch(folder / WEIGHTS, stored | _counts(sae, layout))
    write_json(folder / CONFIG, {"trainer": _trainer(sae, name), "buffer": {}})


def _counts(sae: SAE, layout: Layout) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    if "k" in layout.counts:
        found["k"] = torch.tensor(sae.cfg.settings["k"], dtype=torch.int32)
    if "group_sizes" in layout.counts:
        widths = torch.tensor([0, *prefix_widths(sae.cfg.settings)])
        found["group_sizes"] = widths.diff()
    return found


def _trainer(sae: SAE, name: str) -> dict[str, Any]:
    cfg = sae.cfg
    trainer = {
        "dict_class": name,
        "activation_dim": cfg.d_in,
        "dict_size": cfg.d_sae,
        "lm_name": cfg.policy,
        "layer": None,
        "submodule_name": cfg.site,
        "seed": cfg.seed,
    }
    return trainer | {"k": cfg.settings["k"]} if "k" in LAYOUTS[name].counts else trainer


def write_torch(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a .pt file, whole or not at all; equal tensors give equal bytes."""
    content = io.BytesIO()  # saved to a path, the file would hold the temporary name
    torch.save({name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}, content)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())
