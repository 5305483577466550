"""Arrays that a user already has (.npz, .pt, zarr), read without running anything that is in the file."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policylens.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".npz", ".pt", ".pth", ".zarr")
"""Of the files that :func:`read_arrays` reads."""

PICKLES = (".pkl", ".pickle")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Name -> array (in native byte order) of a .npz file, a .pt file holding a dict of tensors, or a zarr group.

    A .pt file may hold dicts of tensors or arrays within its dict: their names are joined by points.
    Pickled objects are refused, never run: .npz is read with allow_pickle=False, .pt with weights_only=True;
    zarr itself refuses its pickling codec.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: there is no such file")
    check_suffix(path)
    readers = {".npz": _read_npz, ".pt": _read_pt, ".pth": _read_pt, ".zarr": _read_zarr}
    arrays = readers[path.suffix](path)
    if not arrays:
        raise UserError(f"{path}: there are no arrays in it")
    return {name: _native(values) for name, values in arrays.items()}


def check_suffix(path: Path) -> None:
    """UserError if the file is of a kind that :func:`read_arrays` does not read."""
    if path.suffix in PICKLES:
        raise UserError(
            f"{path}: is a pickle, which would run what is in it when loaded; where you trust it, load it yourself and "
            "save its arrays with np.savez (docs/own_activations.md)"
        )
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: can read {', '.join(SUFFIXES)}, not {path.suffix or 'a file without a suffix'}")


def _native(values: np.ndarray) -> np.ndarray:
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    import numpy as np

    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: not a whole .npz file; save it again with np.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: values for name in archive.files if isinstance(values := archive[name], np.ndarray)}
    except Exception as error:  # what is in the file can fail in any layer of the reader
        if isinstance(error, ValueError) and "pickle" in str(error):
            raise UserError(
                f"{path}: holds pickled objects, which are not loaded; save plain numeric arrays with np.savez"
            ) from None
        raise UserError(f"{path}: not a whole .npz file ({_first_line(error)})") from None


def _read_pt(path: Path) -> dict[str, np.ndarray]:
    import torch

    found = _flat(load_torch(path))
    if found is None:
        raise UserError(f"{path}: must hold a dict from names to tensors; save one with torch.save")
    return {name: _numpy(value) if isinstance(value, torch.Tensor) else value for name, value in found.items()}


def _flat(content: object) -> dict[str, Any] | None:
    """Tensors and arrays by name, those of dicts within by names joined by points; None for anything else."""
    import numpy as np
    import torch

    if not isinstance(content, dict):
        return None
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, torch.Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "biufc"):
            found[str(name)] = value
            continue
        inner = _flat(value)
        if inner is None:
            return None
        found |= {f"{name}.{own}": values for own, values in inner.items()}
    return found


def load_torch(path: Path) -> object:
    """What is in a .pt/.pth file, loaded with weights_only=True; anything else than plain data is refused by name.

    Plain data are tensors, numbers and arrays (numpy's too), texts, and lists and dicts of them.
    """
    import torch

    if not Path(path).is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        with torch.serialization.safe_globals(_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is in the file can fail in any layer of the reader
        reason = str(error)
        if foreign := re.search(r"GLOBAL (\S+)|but got <class '([^']+)'>", reason):
            raise UserError(
                f"{path}: holds {foreign[1] or foreign[2]}, which would be run when loaded; "
                "save its tensors alone (state_dict) instead"
            ) from None
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path}: not a whole file saved by torch.save; save or copy it again") from None
        raise UserError(f"{path}: not a whole file saved by torch.save ({_first_line(error)})") from None


def _numbers() -> list[Any]:
    """What a pickle of a numpy number or array refers to. None of it runs anything of the file's."""
    import numpy as np

    scalar, array = np._core.multiarray.scalar, np._core.multiarray._reconstruct
    kinds = (np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.float16, np.float32, np.float64)
    old = [(scalar, "numpy.core.multiarray.scalar"), (array, "numpy.core.multiarray._reconstruct")]
    return [scalar, array, *old, np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in kinds)]


def _numpy(tensor: Any) -> np.ndarray:
    import torch

    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _read_zarr(path: Path) -> dict[str, np.ndarray]:
    import zarr

    try:
        return {name: array[:] for name, array in zarr.open_group(str(path), mode="r").arrays()}
    except Exception as error:  # what is in the folder can fail in any layer of the reader
        raise UserError(f"{path}: not a whole zarr group ({_first_line(error)})") from None


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
