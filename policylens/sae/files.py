"""A trained SAE on disk: sae_weights.safetensors, cfg.json, training.json and training.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from policylens.errors import UserError
from policylens.sae.architectures import build
from policylens.sae.base import SAE, SAEConfig
from policylens.stores.files import read_json, read_tensors, sha256_of_file, write_json, write_tensors
from policylens.stores.schemas import check_against
from policylens.stores.tabular import write_csv
from policylens.stores.tensors import check_finite, check_names, check_shape

WEIGHTS = "sae_weights.safetensors"
CONFIG = "cfg.json"
TRAINING = "training.json"

FREQUENCIES = "sparsity.safetensors"
"""May be beside: `sparsity`, (m,) log10 of the share of training rows in which each latent is not 0 (of SAELens)."""


def save_sae(folder: Path, sae: SAE, history: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write an SAE into a folder; cfg.json is written last, so that a folder with one is whole.

    history: rows of the training (`policylens.sae.training.train`).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    write_tensors(folder / WEIGHTS, sae.tensors)
    write_json(folder / TRAINING, {"format": 1, "history": list(history)})
    write_csv(folder / "training.csv", list(history))
    weights = {"file": WEIGHTS, "sha256": sha256_of_file(folder / WEIGHTS)}
    write_json(folder / CONFIG, {**sae.cfg.record(), "weights": weights})


def load_sae(folder: Path) -> SAE:
    """Load an SAE, strictly: settings, names, shapes, dtype and finiteness are checked.

    Raises UserError naming the file and what is wrong with it.
    """
    folder = Path(folder)
    record = read_json(folder / CONFIG)
    check_against("sae_cfg", record, folder / CONFIG)
    weights = record.pop("weights")
    cfg = SAEConfig(**record)
    if cfg.settings.get("latents") != cfg.d_sae or cfg.settings.get("architecture") != cfg.architecture:
        raise UserError(f"{folder / CONFIG}: its settings contradict d_sae or architecture; restore the file")
    mean = cfg.normalisation["mean"]
    if mean is not None and len(mean) != cfg.d_out:
        raise UserError(
            f"{folder / CONFIG}: normalisation.mean must have d_out = {cfg.d_out} numbers; restore the file"
        )
    tensors = read_tensors(folder / WEIGHTS)
    _check_tensors(folder / WEIGHTS, cfg, tensors)
    if sha256_of_file(folder / WEIGHTS) != weights["sha256"]:
        raise UserError(f"{folder / WEIGHTS}: its sha256 is not the one in {CONFIG}; train or copy the SAE again")
    return SAE(cfg, tensors)


def _check_tensors(path: Path, cfg: SAEConfig, tensors: Mapping[str, torch.Tensor]) -> None:
    expected = build(cfg.settings).shapes(cfg.d_in, cfg.d_out)
    check_names(tensors, expected, path, f"not the tensors of a {cfg.architecture!r} SAE")
    for name, tensor in tensors.items():
        check_shape(tensor, expected[name], path, name, CONFIG)
        if str(tensor.dtype).removeprefix("torch.") != cfg.dtype:
            raise UserError(f"{path}: tensor {name!r} is {tensor.dtype}, {CONFIG} says {cfg.dtype}")
    check_finite(tensors, path, "train the SAE again")
