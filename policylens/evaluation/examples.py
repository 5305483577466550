"""Rows in which each latent is active: the strongest, and some of every strength. In one pass, at bounded memory.

`examples.zarr` beside the SAE (docs/formats.md) has one row per latent, so that a notebook reads a latent's examples
at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from policylens.sae.activations import flattened, read_activations
from policylens.sae.base import SAE
from policylens.stores.store import StoreWriter
from policylens.stores.tables import Table

STORE = "examples.zarr"
GROUP = "latent"
DECILES = 10
PER_DECILE = 2
SAMPLE = 200
"""Active rows drawn per latent, of which the deciles are those of all its active rows, as well as 200 can tell."""

NONE = -1
VECTOR_BITS = 40
ENTRIES_AT_ONCE = 1 << 22

SAME_BITS = 8
"""Strengths that agree but for the last 8 bits of their 24 count as one moment seen again: equal rows give equal
strengths only up to the rounding of the products that they come from."""

_FIELDS = np.dtype(
    [("latent", np.int64), ("key", np.uint64), ("vector", np.int64), ("strength", np.float32), ("count", np.int64)]
)


class Examples(NamedTuple):
    """Activations per latent, (m, n) each. vector: number of row and position in the capture, -1 for none.

    strength: |f| ||W_dec||, 0 where there is none. count: how many activations this one stands for.
    """

    vector: np.ndarray
    strength: np.ndarray
    count: np.ndarray


class Largest:
    """The n activations with the largest keys of each latent, whatever the batches they come in.

    Keys are 64-bit numbers, none of which a latent meets twice. Of those that agree in all but the last `shift` bits
    only the largest is kept, and counts for all of them.
    """

    def __init__(self, latents: int, n: int, shift: int = 0) -> None:
        self._n, self._shift = n, np.uint64(shift)
        self._least = np.zeros(latents, np.uint64)
        self._kept = np.empty(0, _FIELDS)
        self._new: list[np.ndarray] = []
        self._waiting = 0

    def add(self, entries: np.ndarray) -> None:
        """Activations as records."""
        entries = entries[entries["key"] >> self._shift >= self._least[entries["latent"]]]
        self._new.append(entries)
        self._waiting += len(entries)
        if self._waiting > len(self._least) * self._n:
            self._merge()

    def _merge(self) -> None:
        entries = np.concatenate([self._kept, *self._new])
        self._new, self._waiting = [], 0
        if not len(entries):
            return
        entries = entries[np.lexsort((~entries["key"], entries["latent"]))]
        latent, moment = entries["latent"], entries["key"] >> self._shift
        first = np.flatnonzero(np.concatenate([[True], (latent[1:] != latent[:-1]) | (moment[1:] != moment[:-1])]))
        counts = np.add.reduceat(entries["count"], first)
        entries = entries[first]
        entries["count"] = counts
        self._kept = entries[_rank_in_runs(entries["latent"]) < self._n]
        full = _rank_in_runs(self._kept["latent"]) == self._n - 1
        self._least[self._kept["latent"][full]] = self._kept["key"][full] >> self._shift

    def result(self) -> Examples:
        """What has been kept, the largest key first."""
        self._merge()
        place = self._kept["latent"], _rank_in_runs(self._kept["latent"])
        found = no_examples((len(self._least), self._n))
        for name, values in found._asdict().items():
            values[place] = self._kept[name]
        return found


def no_examples(shape: tuple[int, ...]) -> Examples:
    """Gaps only."""
    return Examples(np.full(shape, NONE, np.int64), np.zeros(shape, np.float32), np.zeros(shape, np.int64))


def _rank_in_runs(values: np.ndarray) -> np.ndarray:
    """Position of every entry within its run of equal values."""
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])) if len(values) else np.empty(0, int)
    lengths = np.diff(np.append(starts, len(values)))
    return np.arange(len(values)) - np.repeat(starts, lengths)


def strongest_keys(strength: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Keys by which the strongest activation is the largest, and of equal ones the first: uint64.

    The bits of a float32 that is not negative are ordered as the floats are; the last 40 bits are the vector's.
    """
    bits = strength.view(np.uint32).astype(np.uint64) >> np.uint64(SAME_BITS)
    return (bits << np.uint64(VECTOR_BITS)) | (np.uint64(2**VECTOR_BITS - 1) - vector.view(np.uint64))


def random_keys(latent: np.ndarray, vector: np.ndarray, seed: int) -> np.ndarray:
    """Keys that follow from latent, vector and seed alone and look random (splitmix64): uint64, never 0."""
    with np.errstate(over="ignore"):
        x = (latent.view(np.uint64) << np.uint64(40)) ^ vector.view(np.uint64)
        x = (x ^ (np.uint64(seed) * np.uint64(0xD1342543DE82EF95))) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) | np.uint64(1)


class Collector:
    """The strongest activations of every latent, and a random sample of all of them."""

    def __init__(self, sae: SAE, count: int, seed: int) -> None:
        """count: strongest activations per latent. seed: of the sample."""
        self._sae, self._seed = sae, seed
        self._strongest = Largest(sae.cfg.d_sae, count, VECTOR_BITS)
        self._sample = Largest(sae.cfg.d_sae, SAMPLE)
        self.fired = np.zeros(sae.cfg.d_sae, np.int64)

    @torch.no_grad()
    def add(self, x: np.ndarray, vectors: np.ndarray) -> None:
        """Raw activations (n, d), and the number of each in the capture, ascending over all calls."""
        strength = self._sae.strength(self._sae.encode(torch.from_numpy(x).to(self._sae.device)))
        strength = torch.where(strength > self._sae.cfg.active_threshold, strength, 0.0).cpu()
        row, latent = (places.numpy() for places in strength.nonzero(as_tuple=True))
        self.fired += np.bincount(latent, minlength=len(self.fired))
        entries = np.empty(len(row), _FIELDS)
        entries["latent"], entries["vector"], entries["count"] = latent, vectors[row], 1
        entries["strength"] = strength.numpy()[row, latent]
        for kept, keys in (
            (self._strongest, strongest_keys(entries["strength"].copy(), entries["vector"].copy())),
            (self._sample, random_keys(latent, entries["vector"].copy(), self._seed)),
        ):
            entries["key"] = keys
            kept.add(entries)

    @property
    def strongest(self) -> Examples:
        """(m, count), the strongest first."""
        return self._strongest.result()

    @property
    def deciles(self) -> Examples:
        """(m, DECILES * PER_DECILE): random active rows of the weakest tenth first, of the strongest last."""
        return by_decile(self._sample.result())


def by_decile(sample: Examples) -> Examples:
    """PER_DECILE of a random sample (m, s), in random order, from each tenth of its strengths.

    A latent with fewer than DECILES * PER_DECILE activations has gaps (-1).
    """
    known = sample.vector != NONE
    count = known.sum(axis=1, keepdims=True)
    order = np.argsort(np.where(known, sample.strength, np.inf), axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    decile = np.where(known, rank * DECILES // np.maximum(count, 1), DECILES)
    found = no_examples((len(sample.vector), DECILES, PER_DECILE))
    for number in range(DECILES):
        within = decile == number
        nth = np.cumsum(within, axis=1) - 1
        for place in range(PER_DECILE):
            rows, columns = np.nonzero(within & (nth == place))
            for values, of in zip(found, sample, strict=True):
                values[rows, number, place] = of[rows, columns]
    return Examples(*(values.reshape(len(values), -1) for values in found))


def collect(sae: SAE, capture: Table, site: str, rows: np.ndarray, count: int, seed: int, progress=iter) -> Collector:
    """Run an SAE over some rows of a capture's site, batch by batch.

    rows: ascending row numbers. count: strongest activations per latent. progress: passes the batches' starts on.
    """
    column = capture.array(site)
    positions = int(np.prod(column.shape[1:-1]))
    size = max(1, ENTRIES_AT_ONCE // (max(sae.cfg.d_sae, sae.cfg.d_in) * positions))
    collector = Collector(sae, count, seed)
    for start in progress(range(0, len(rows), size)):
        piece = rows[start : start + size]
        vectors = (piece[:, None] * positions + np.arange(positions)).reshape(-1)
        collector.add(flattened(read_activations(column, piece)), vectors)
    return collector


def write_examples(path: Path, collector: Collector, capture: Table, site: str, attributes: Mapping[str, Any]) -> None:
    """Write `examples.zarr`: docs/formats.md says what is in it."""
    positions = int(np.prod(capture.array(site).shape[1:-1]))
    found = {"top": collector.strongest, "decile": collector.deciles}
    with StoreWriter(path, "examples", {**attributes, "inner_shape": list(capture.array(site).shape[1:-1])}) as store:
        group = store.group(GROUP)
        arrays = {"fired": collector.fired}
        for name, examples in found.items():
            for key, values in _columns(examples, capture, positions).items():
                arrays[f"{name}_{key}"] = values
        for name, values in arrays.items():
            group.column(name, values.dtype, values.shape[1:], (GROUP, f"{name.split('_')[0]}_rank")[: values.ndim])
        group.append(arrays)


def _columns(examples: Examples, capture: Table, positions: int) -> dict[str, np.ndarray]:
    known = examples.vector != NONE
    row = np.where(known, examples.vector // positions, NONE)
    coordinates = {name: capture.coordinate(name) for name in ("episode", "step")}
    return {
        "row": row,
        "position": np.where(known, examples.vector % positions, NONE).astype(np.int32),
        "strength": examples.strength,
        "count": examples.count,
        **{name: np.where(known, values[row], NONE).astype(np.int64) for name, values in coordinates.items()},
    }


def read_examples(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of `examples.zarr` in an SAE's folder by name: `top_row`, `decile_strength`, `fired`, ..."""
    import zarr

    from policylens.stores.store import read_root

    path = Path(folder) / STORE
    return {
        name.split("/")[1]: zarr.open_array(str(path / name), mode="r")[:] for name in sorted(read_root(path)["arrays"])
    }
