"""Arrays that a user already has (.npz, .pt, zarr), read without running anything that is in the file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from policylens.errors import UserError


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Name -> array of a .npz file, a .pt file holding a dict of tensors, or a zarr group.

    Pickled objects are refused, never run: .npz is read with allow_pickle=False, .pt with weights_only=True.
    """
    path = Path(path)
    readers = {".npz": _read_npz, ".pt": _read_pt, ".pth": _read_pt, ".zarr": _read_zarr}
    if not path.exists():
        raise UserError(f"{path}: there is no such file")
    if path.suffix not in readers:
        raise UserError(f"{path}: can read {', '.join(sorted(readers))}, not {path.suffix or 'a file without a suffix'}")
    arrays = readers[path.suffix](path)
    if not arrays:
        raise UserError(f"{path}: there are no arrays in it")
    return arrays


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "pickle" not in str(error):
            raise UserError(f"{path}: not a whole .npz file ({error})") from None
        raise UserError(
            f"{path}: holds pickled objects, which are not loaded; save plain numeric arrays with np.savez"
        ) from None
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise UserError(f"{path}: not a whole .npz file ({error})") from None


def _read_pt(path: Path) -> dict[str, np.ndarray]:
    import torch

    content = load_torch(path)
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UserError(f"{path}: must hold a dict from names to tensors; save one with torch.save")
    return {str(name): _numpy(value) for name, value in content.items()}


def load_torch(path: Path) -> object:
    """What is in a .pt/.pth file, loaded with weights_only=True; anything else than plain data is refused by name."""
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error)
        name = reason.split("GLOBAL ")[1].split()[0] if "GLOBAL " in reason else "a foreign object"
        raise UserError(
            f"{path}: holds {name}, which would be run when loaded; save its tensors alone (state_dict) instead"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a whole file saved by torch.save ({first})") from None


def _numpy(tensor: object) -> np.ndarray:
    import torch

    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _read_zarr(path: Path) -> dict[str, np.ndarray]:
    import zarr

    try:
        group = zarr.open_group(str(path), mode="r")
    except Exception as error:
        raise UserError(f"{path}: not a zarr group ({' '.join(str(error).split())[:100]})") from None
    return {name: array[:] for name, array in group.arrays()}
