"""Small files: JSON, text and safetensors, written whole or not at all, and read strictly."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policylens.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes if not.

    The content is on disk before the name is: a reader sees the old file or the whole new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.chmod(temporary, _new_file_mode())  # some writers make files that only their owner may read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Remove what killed writers left in a folder that nobody else writes to now (a lock is held)."""
    for path in folder.glob(".*.partial"):
        path.unlink(missing_ok=True)


@functools.cache
def _new_file_mode() -> int:
    """What the umask leaves of rw-rw-rw-."""
    umask = os.umask(0o022)
    os.umask(umask)
    return 0o666 & ~umask


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8 with Unix line ends, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def json_text(value: Any) -> str:
    """The one way JSON is written here: sorted keys, two spaces, no NaN, a final newline."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write JSON deterministically and atomically. NaN and infinity are refused (ValueError)."""
    write_text(path, json_text(value))


def read_json(path: Path) -> Any:
    """Parse a JSON file; a missing or broken one is a UserError that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UserError(f"{path}: there is no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); make the file anew") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically; equal tensors give equal bytes."""
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        save_file(_unshared(tensors), temporary, metadata=dict(metadata) if metadata else None)


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor in memory of its own, as the format demands: tied weights share theirs."""
    plain: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        memory = tensor.untyped_storage()
        shared = memory.data_ptr() in taken or memory.nbytes() != tensor.nbytes
        plain[name] = tensor.clone() if shared else tensor
        taken.add(memory.data_ptr())
    return plain


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file; a missing, truncated or foreign file is a UserError that names it."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}); copy or export it again") from None


def read_metadata(path: Path) -> dict[str, str]:
    """What stands in a safetensors file beside its tensors, {} where nothing does; UserError for another file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}); copy or export it again") from None


def sha256_of_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, streamed."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
