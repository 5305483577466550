"""Frames of a LeRobot dataset: episodes of a parquet file as arrays."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policylens.datasets.meta import ANEW, Episode
from policylens.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

KEYS = ("episode_index", "frame_index", "task_index")


def read_episodes(
    root: Path, episodes: Sequence[Episode], names: Mapping[str, str], optional: Sequence[str] = ()
) -> Iterator[tuple[Episode, dict[str, np.ndarray]]]:
    """Each episode with its arrays, one file after another, an episode in memory at a time.

    names: key of a feature -> name of its array. optional: columns to take under their own names where they are there.
    Arrays: `step` int32, `task_index` int64, and the features': images uint8 (frames, h, w, channels), numbers float32
    or integers (frames, ...). Raises UserError for missing or broken files, missing episodes, columns or frames.
    """
    for path in dict.fromkeys(episode.file for episode in episodes):
        own = {episode.number: episode for episode in episodes if episode.file == path}
        file = _open(root / path)
        extra = [name for name in optional if name in file.schema_arrow.names]
        columns = [*KEYS, *names, *extra]
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise UserError(f"{root / path}: lacks the columns {', '.join(missing)}; {ANEW}")
        for number, table in _tables(root / path, file, columns, own):
            episode = own.pop(number, None)
            if episode is None:
                raise UserError(f"{root / path}: frames of episode {number} do not stand together; {ANEW}")
            yield episode, _arrays(root / path, episode, table, {**names, **{name: name for name in extra}})
        if own:
            raise UserError(f"{root / path}: lacks episode {min(own)}, which meta/episodes says is here; {ANEW}")


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise UserError(
            f"{path}: there is no such file, though meta names it; copy the dataset's data, or leave it out"
        )
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not a whole parquet file ({' '.join(str(error).split())[:120]}); {ANEW}")


def _tables(path: Path, file: Any, columns: list[str], wanted: Mapping[int, Episode]) -> Iterator[tuple[int, pa.Table]]:
    """Rows of each wanted episode, which stand together; row groups without any are not read."""
    import pyarrow as pa

    groups = [group for group in range(file.num_row_groups) if _may_hold(file, group, wanted)]
    held: list[pa.RecordBatch] = []
    current: int | None = None
    try:
        for batch in file.iter_batches(batch_size=256, row_groups=groups, columns=columns):
            for start, stop, number in _runs(batch.column(columns.index(KEYS[0])).to_numpy()):
                if number != current and held:
                    yield current, pa.Table.from_batches(held)
                    held = []
                current = number
                if number in wanted:
                    held.append(batch.slice(start, stop - start))
        if held:
            yield current, pa.Table.from_batches(held)
    except (OSError, pa.ArrowException) as error:
        raise _broken(path, error) from None


def _may_hold(file: Any, group: int, wanted: Mapping[int, Episode]) -> bool:
    """Whether a row group's range of episodes, where the file tells it, holds a wanted one."""
    paths = [file.schema.column(place).path for place in range(len(file.schema))]
    found = file.metadata.row_group(group).column(paths.index(KEYS[0])).statistics
    if found is None or not found.has_min_max:
        return True
    return any(found.min <= number <= found.max for number in wanted)


def _runs(values: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(start, stop, value) of each run of equal values."""
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]]) if len(values) else np.empty(0, int)
    for start, stop in zip(starts, [*starts[1:], len(values)], strict=True):
        yield int(start), int(stop), int(values[start])


def _arrays(path: Path, episode: Episode, table: pa.Table, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    where = f"{path}: episode {episode.number}"
    steps = table["frame_index"].to_numpy()
    if len(steps) != episode.length or not np.array_equal(steps, np.arange(episode.length)):
        raise UserError(
            f"{where}: its frames are not 0 to {episode.length - 1} in order, as meta/episodes says; {ANEW}"
        )
    found = {"step": steps.astype(np.int32), "task_index": table["task_index"].to_numpy().astype(np.int64)}
    for key, name in names.items():
        column = table[key]
        if column.null_count:
            raise UserError(f"{where}: {key!r} has no value in {column.null_count} frames; {ANEW}")
        read = _images if _is_image(column.type) else _numbers
        found[name] = read(f"{where}: {key!r}", column)
    return found


def _is_image(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def _images(where: str, column: pa.ChunkedArray) -> np.ndarray:
    """Decoded PNG or JPEG files, uint8 (frames, h, w, channels)."""
    from PIL import Image

    pictures = []
    for cell in column.to_pylist():
        if cell["bytes"] is None:
            raise UserError(f"{where} is a file beside the data ({cell['path']}), which is not read; embed the images")
        try:
            picture = np.asarray(Image.open(io.BytesIO(cell["bytes"])))
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{where} is no whole image ({error}); {ANEW}") from None
        pictures.append(picture if picture.ndim == 3 else picture[..., None])
    shapes = {(picture.shape, str(picture.dtype)) for picture in pictures}
    if len(shapes) > 1 or pictures[0].dtype != np.uint8:
        raise UserError(f"{where} must be 8-bit images of one size, got {sorted(shapes)}; {ANEW}")
    return np.stack(pictures)


def _numbers(where: str, column: pa.ChunkedArray) -> np.ndarray:
    """Numbers, (frames, ...): floats as float32, which is what policies take; integers and truth values as they are."""
    try:
        values = np.asarray(column.to_pylist())
    except ValueError:
        raise UserError(f"{where} has a different shape in different frames; {ANEW}") from None
    if values.dtype.kind not in "fiub":
        raise UserError(f"{where} holds no numbers (but {column.type}); leave it out with arrays")
    return values.astype(np.float32) if values.dtype.kind == "f" else values
