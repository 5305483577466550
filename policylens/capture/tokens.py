"""Captures of tokens: every row is one token of one frame (and of one denoising step, where there are several)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policylens.capture.activations import STORAGE, check_sites, pieces, shard_bytes, to_storage
from policylens.capture.settings import ALL, LAST
from policylens.capture.space import check_space
from policylens.errors import UserError
from policylens.policies.protocol import Batch, Policy, Tokens, of_kinds
from policylens.policies.sites import TOKEN_KINDS, Site, is_denoised
from policylens.progress import progress
from policylens.stores.store import Group, StoreWriter


@dataclass(frozen=True)
class Choice:
    """Which tokens are captured.

    kinds: names of TOKEN_KINDS. which: "all" of them, or the "last" of each frame. denoise: numbers of denoising steps,
    -1 is the last; all if empty.
    """

    kinds: tuple[str, ...] = TOKEN_KINDS
    which: str = ALL
    denoise: tuple[int, ...] = ()

    @classmethod
    def of(cls, block: Mapping[str, Any]) -> Choice:
        """From the block `tokens` of a capture in config.yaml."""
        kinds, steps = block.get("kinds", TOKEN_KINDS), block.get("denoise", ())
        return cls(tuple(kinds), block.get("which", ALL), tuple(steps))

    def mask(self, tokens: Tokens) -> Tensor:
        """(n, tokens) bool."""
        chosen = of_kinds(tokens.kinds, self.kinds)
        if self.which == LAST:
            chosen &= chosen.flip(1).cumsum(1).flip(1) == 1
        return chosen

    def steps(self, count: int) -> list[int]:
        """Numbers of the chosen ones of so many denoising steps, ascending; UserError for one that is not there."""
        wrong = [step for step in self.denoise if not -count <= step < count]
        if wrong:
            raise UserError(f"there is no denoising step {wrong[0]}; they are 0 to {count - 1}, or -1 for the last")
        return sorted({step % count for step in self.denoise}) or list(range(count))

    def times(self, site: Site) -> int | None:
        """How many denoising steps a pass has to go through at a site; None where it has none."""
        return self.steps(site.inner[0][1])[-1] + 1 if is_denoised(site) else None


def is_of_tokens(site: Site) -> bool:
    """Whether a site's rows are tokens."""
    return "token" in site.row_space.coordinates


def write_tokens(
    out: Path,
    policy: Policy,
    sites: Sequence[str],
    batches: Iterable[Batch],
    coordinates: Mapping[str, np.ndarray],
    choice: Choice,
    *,
    dtype: str = "float16",
    batch_rows: int = 32,
    attributes: Mapping[str, Any] | None = None,
    what: str = "capturing",
) -> None:
    """Write the chosen tokens' activations of `sites` over all batches as one store.

    out: `<part>.zarr`. sites: names; all must lie in one row space. batches: frames, in the order of the coordinates.
    coordinates: name -> (frames,). Rows stand frame by frame, in each by denoising step and token. Raises UserError for
    NaN, infinity or values that do not fit the dtype, and where no frame has a token of the wanted kinds. A pass ends
    with the last site at the last chosen denoising step.
    """
    chosen = check_sites(policy.sites, sites)
    names, times = [site.name for site in chosen], choice.times(chosen[0])
    frames, done, written = len(next(iter(coordinates.values()))), 0, 0
    with StoreWriter(out, "capture", attributes or {}, shard_bytes(len(chosen))) as store:
        group = store.group(chosen[0].row_space.name, chosen[0].row_space.coordinates)
        _declare(group, chosen, dtype)
        for batch in progress(batches, -(-frames // batch_rows), what, "batches"):
            with torch.inference_mode():
                found = policy.run(batch, read=names, stop_after=names[-1], times=times)
            reads, where = selected(chosen, found.reads, found.tokens, choice)
            count = len(next(iter(found.reads.values())))
            if written == 0:
                per_frame = len(where["token"]) / count
                size = sum(site.width for site in chosen) * STORAGE[dtype].itemsize
                check_space(out, int(per_frame * frames * size))
            frame = done + where.pop("frame")
            _append(group, reads, {**{name: values[frame] for name, values in coordinates.items()}, **where}, dtype)
            done, written = done + count, written + len(frame)
        if written == 0:
            raise UserError(f"{out}: no frame has a token of the kinds {', '.join(choice.kinds)} at {chosen[0].name}")


def selected(
    sites: Sequence[Site], reads: Mapping[str, Tensor], tokens: Mapping[str, Tokens], choice: Choice
) -> tuple[dict[str, Tensor], dict[str, np.ndarray]]:
    """Activations of the chosen tokens, (rows, width) per site, and the rows' coordinates.

    sites: of one row space. reads, tokens: of a pass, up to the last chosen denoising step at least. Rows stand frame
    by frame, in each by denoising step and token; the coordinate `frame` is the place in the batch.
    """
    first = sites[0].name
    n, *inner = reads[first].shape[:-1]
    own = tokens.get(first) or _nameless(n, inner[-1], reads[first].device)
    mask = choice.mask(own) if first in tokens else torch.ones_like(own.kinds, dtype=torch.bool)
    if not is_denoised(sites[0]):
        frame, token = (index.cpu() for index in mask.nonzero(as_tuple=True))
        taken = {name: read[mask] for name, read in reads.items()}
        return taken, _coordinates(own, frame, token)
    steps = torch.tensor(choice.steps(sites[0].inner[0][1]), device=mask.device)
    frame, step, token = mask[:, None].expand(-1, len(steps), -1).nonzero(as_tuple=True)
    taken = {name: read[frame, steps[step], token] for name, read in reads.items()}
    return taken, {**_coordinates(own, frame.cpu(), token.cpu()), "denoise": _small(steps[step])}


def _nameless(n: int, tokens: int, device: torch.device) -> Tokens:
    """Of a site whose positions are no tokens of any kind."""
    none = torch.full((n, tokens), -1, device=device)
    return Tokens(none, none)


def _coordinates(tokens: Tokens, frame: Tensor, token: Tensor) -> dict[str, np.ndarray]:
    kinds, ids = tokens.kinds.cpu()[frame, token], tokens.ids.cpu()[frame, token]
    return {
        "frame": frame.numpy(),
        "token": _small(token),
        "kind": kinds.numpy().astype(np.int8),
        "token_id": ids.numpy().astype(np.int32),
    }


def _small(values: Tensor) -> np.ndarray:
    return values.cpu().numpy().astype(np.int16)


def _declare(group: Group, sites: Sequence[Site], dtype: str) -> None:
    encoding = {"encoding": "bfloat16"} if dtype == "bfloat16" else {}
    for site in sites:
        attributes = {"description": site.description, **encoding}
        group.column(site.name, STORAGE[dtype], (site.width,), ("row", f"{site.name}_unit"), attributes)
    group.column("kind", np.int8, attributes={"names": list(TOKEN_KINDS)})


def _append(group: Group, reads: Mapping[str, Tensor], where: Mapping[str, np.ndarray], dtype: str) -> None:
    rows = len(next(iter(where.values())))
    flat = [Site(name, read.shape[-1]) for name, read in reads.items()]
    for piece in pieces(rows, flat):
        stored = {name: to_storage(read[piece], dtype, name, piece.start) for name, read in reads.items()}
        group.append({**stored, **{name: values[piece] for name, values in where.items()}})


def drawn_frames(count: int, limit: int, seed: int) -> np.ndarray:
    """Numbers of at most `limit` of `count` frames (0: all), drawn by seed, ascending."""
    if not limit or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))
