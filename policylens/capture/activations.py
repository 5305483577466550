"""Running a policy over one part of a source and writing what its sites hold.

One forward pass feeds every site, nothing after the last site is computed, and writing overlaps computing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policylens.capture.space import check_space
from policylens.errors import UserError
from policylens.policies.protocol import Batch, Policy
from policylens.policies.sites import Site
from policylens.progress import progress
from policylens.stores.store import Group, StoreWriter

BUFFERED_BYTES = 128 * 2**20
"""All sites of a capture share this much buffer, so that memory does not grow with their number."""

PIECE_VALUES = 2**18
"""Activations are converted, checked and copied so many at a time: few enough to stay in the processor's cache."""


def write_capture(
    out: Path,
    policy: Policy,
    sites: Sequence[str],
    batches: Iterable[Batch],
    coordinates: Mapping[str, np.ndarray],
    *,
    dtype: str = "float16",
    batch_rows: int = 4096,
    attributes: Mapping[str, Any] | None = None,
    what: str = "capturing",
) -> None:
    """Write the activations of `sites` over all batches as one store.

    out: `<part>.zarr`. sites: names; all must lie in one row space.
    batches: of at most `batch_rows` rows each, in the order of the coordinates.
    coordinates: name -> (rows,) values of every row of the part.
    dtype: "float16", "bfloat16" or "float32", what is stored.
    Raises UserError naming site and row for NaN, infinity, or values that do not fit the dtype, and for a recurrent
    policy: batches carry no states.
    """
    if policy.recurrent:
        raise UserError("the policy is recurrent: rows cannot be captured without the states of the steps before them")
    chosen = check_sites(policy.sites, sites)
    rows = len(next(iter(coordinates.values())))
    if rows == 0:
        raise UserError(f"{out}: the source has no rows to capture; record more episodes")
    storage = STORAGE[dtype]
    check_space(out, sum(rows * math.prod(site.row_shape) * storage.itemsize for site in chosen))
    with StoreWriter(out, "capture", attributes or {}, shard_bytes(len(chosen))) as store:
        group = store.group(chosen[0].row_space.name, tuple(coordinates))
        declare(group, chosen, dtype)
        start = 0
        for batch in progress(batches, -(-rows // batch_rows), what, "batches"):
            start += _record(group, policy, batch, chosen, dtype, coordinates, start)


def shard_bytes(sites: int) -> int:
    """Bytes of a shard of each of so many sites: two of every site's fit into the buffer that all share."""
    return BUFFERED_BYTES // sites // 2


def _record(
    group: Group,
    policy: Policy,
    batch: Batch,
    sites: Sequence[Site],
    dtype: str,
    coordinates: Mapping[str, np.ndarray],
    first_row: int,
) -> int:
    """Run one batch, hand what its sites hold to the store, and return the number of rows."""
    with torch.inference_mode():
        reads = policy.run(batch, read=[site.name for site in sites], stop_after=sites[-1].name).reads
    count = len(reads[sites[0].name])
    for piece in pieces(count, sites):
        start = first_row + piece.start
        rows = {name: to_storage(read[piece], dtype, name, start) for name, read in reads.items()}
        rows |= {name: values[start : first_row + piece.stop] for name, values in coordinates.items()}
        group.append(rows)
    return count


def pieces(rows: int, sites: Iterable[Site]) -> Iterator[slice]:
    """Cut a batch's rows into pieces of about PIECE_VALUES values of the widest site."""
    widest = max(math.prod(site.row_shape) for site in sites)
    step = max(1, PIECE_VALUES // widest)
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


STORAGE = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2")}
"""What each dtype is on disk; bfloat16 has no place in zarr and is kept as its bits, with an attribute."""


def check_sites(have: Mapping[str, Site], wanted: Sequence[str]) -> list[Site]:
    """The wanted sites in the order of computation; UserError for unknown ones or mixed row spaces."""
    unknown = [name for name in wanted if name not in have]
    if unknown or not wanted:
        raise UserError(f"unknown site {', '.join(unknown) or '(none given)'}; the policy has: {', '.join(have)}")
    chosen = [site for name, site in have.items() if name in set(wanted)]
    spaces = {site.row_space.name for site in chosen}
    if len(spaces) > 1:
        raise UserError(
            f"sites {', '.join(site.name for site in chosen)} lie in different row spaces "
            f"({', '.join(sorted(spaces))}); make one capture per row space"
        )
    return chosen


def declare(group: Group, sites: Iterable[Site], dtype: str) -> None:
    """Declare the sites' arrays in a store, with their named dimensions."""
    encoding = {"encoding": "bfloat16"} if dtype == "bfloat16" else {}
    for site in sites:
        attributes = {"description": site.description, **encoding}
        group.column(site.name, STORAGE[dtype], site.row_shape, site.dimensions, attributes)


def to_storage(activation: torch.Tensor, dtype: str, site: str, first_row: int) -> np.ndarray:
    """An activation as the array that is stored; UserError naming site and row if it is not finite there."""
    stored = activation.detach().to(getattr(torch, dtype)).cpu()
    # The smallest and the largest value are NaN where any value is: one fast pass, no mask in memory.
    if stored.numel() and not torch.stack(torch.aminmax(stored)).isfinite().all():
        _refuse(activation, stored, site, first_row)
    return stored.view(torch.int16).numpy().view(np.uint16) if dtype == "bfloat16" else stored.numpy()


def _refuse(activation: torch.Tensor, stored: torch.Tensor, site: str, first_row: int) -> None:
    row = int((~torch.isfinite(stored.flatten(1)).all(1)).nonzero()[0, 0])
    if not torch.isfinite(activation[row]).all():
        raise UserError(
            f"site {site!r}, row {first_row + row}: the activation is NaN or infinite; "
            "mend what made it, or leave the row out"
        )
    raise UserError(
        f"site {site!r}, row {first_row + row}: the activation does not fit "
        f"{str(stored.dtype).removeprefix('torch.')}; set the capture's dtype to bfloat16 or float32"
    )
