"""The state of an unfinished training on disk: one file, whole or not there, from which it goes on to the bit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.sae.history import HISTORY
from policylens.sae.member import Member
from policylens.sae.optimiser import MOMENTS
from policylens.sae.training import Training
from policylens.stores.files import read_tensors, write_tensors
from policylens.stores.tensors import check_names, check_shape

STATE = "state.safetensors"


def save_state(path: Path, training: Training, stamp: str) -> bool:
    """Write a training's state, unless it is no longer a good one (then the last good one stays); returns whether.

    stamp: of the settings and the data, which must be the same when the training goes on.
    """
    tensors = _tensors(training.member)
    if training.trouble or not all(tensor.isfinite().all() for tensor in tensors.values()):
        return False
    record = {"stamp": stamp, "step": training.member.step, "history": training.history}
    record["digest"] = _digest(tensors, record)
    write_tensors(path, tensors, {"training": json.dumps(record, sort_keys=True)})
    return True


def load_state(path: Path, training: Training, stamp: str) -> None:
    """Bring a training to where it was left; UserError if the file is damaged or of another training."""
    try:
        tensors = read_tensors(path)
    except UserError:
        raise UserError(f"{path}: the state of the training is damaged; delete the file, and it starts anew") from None
    record = _record(path)
    digest = record.pop("digest", None)
    if digest != _digest(tensors, record):
        raise UserError(f"{path}: the state of the training is damaged; delete the file, and it starts anew")
    if record["stamp"] != stamp:
        raise UserError(f"{path}: is the state of another training; delete the file, and this one starts anew")
    _restore(path, training.member, tensors, record["step"])
    training.history = [{name: row[name] for name in HISTORY} for row in record["history"]]


def _tensors(member: Member) -> dict[str, Tensor]:
    found = {f"parameter.{name}": tensor for name, tensor in member.parameters.items()}
    found |= {f"memory.{name}": tensor for name, tensor in member.memory.items()}
    for name, moments in zip(member.parameters, member.moments(), strict=True):
        found |= {f"{kind}.{name}": moments[kind] for kind in MOMENTS}
    return {name: tensor.detach().cpu() for name, tensor in found.items()}


def _restore(path: Path, member: Member, tensors: dict[str, Tensor], step: int) -> None:
    present = _tensors(member)
    check_names(tensors, present, path, "not the state of this training; delete the file, and it starts anew")
    for name, tensor in tensors.items():
        check_shape(tensor, present[name].shape, path, name, "the training")
    for name, tensor in member.parameters.items():
        tensor.copy_(tensors[f"parameter.{name}"])
    for name, tensor in member.memory.items():
        tensor.copy_(tensors[f"memory.{name}"])
    for name, moments in zip(member.parameters, member.moments(), strict=True):
        for kind in MOMENTS:
            moments[kind].copy_(tensors[f"{kind}.{name}"])
    member.go_to(step)


def _record(path: Path) -> dict:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get("training")
    try:
        record = json.loads(text or "")
    except json.JSONDecodeError:
        record = None
    if not isinstance(record, dict) or not {"stamp", "step", "history", "digest"} <= record.keys():
        raise UserError(f"{path}: not the state of a training; delete the file, and it starts anew")
    return record


def _digest(tensors: dict[str, Tensor], record: dict) -> str:
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
