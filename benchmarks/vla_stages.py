"""What benchmarks/vla_cost.py times beside passes: each yields a name, its operations, and what to call."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rounds import interleaved, median

Timed = tuple[str, int, Callable[[], object]]
WIDTHS = (512, 1024, 2048)
EXPANSION = 8
BATCH_ROWS = 256


def training() -> Iterator[Timed]:
    """A step of fine-tuning: per row 4 d m of encoding and decoding, 6 d m of the gradients."""
    from policylens.sae.member import Member
    from policylens.sae.settings import resolve

    for precision in ("float32", "bfloat16"):
        for width in WIDTHS:
            latents = EXPANSION * width
            own = {"architecture": "plain_l1", "latents": latents, "batch_rows": BATCH_ROWS, "steps": 10**6}
            member = Member(resolve({**own, "sparsity": 1e-5, "precision": precision}), width, 0, "cpu")
            rows = torch.randn(BATCH_ROWS, width, generator=torch.Generator().manual_seed(0))
            flops = 10 * width * latents * BATCH_ROWS
            yield f"SAE step, d {width}, m {latents}, {precision}", flops, lambda m=member, x=rows: m.update(x)


def encoding() -> Iterator[Timed]:
    """Latents of rows, which is nearly all of a direction's cost: 2 d m each."""
    for width in WIDTHS[1:]:
        latents, rows = EXPANSION * width, 1024
        weight, x = torch.randn(width, latents), torch.randn(rows, width)
        yield f"encoding, d {width}", 2 * width * latents * rows, lambda w=weight, x=x: torch.relu(x @ w)


def projecting() -> Iterator[Timed]:
    """Value vectors of 18 x 32 units as tokens: 2 d per unit and token."""
    from policylens.ffn.projection import top_tokens

    units = 576
    for width, words in ((1024, 65_536), (2048, 65_536)):
        vectors, table = torch.randn(units, width), torch.randn(words, width)
        name = f"{units} units read as {words:,} tokens, d {width}"
        yield name, 2 * units * width * words, lambda v=vectors, t=table: top_tokens(v, t, 10)


def storing(folder: Path, rounds: int, timed: Callable[[Callable[[], object]], Any]) -> Iterator[dict[str, Any]]:
    """Bytes per second of writing and reading activations of d 2,048 as float16, into a folder."""
    from policylens.stores.store import StoreWriter
    from policylens.stores.tables import open_table, write_index

    for rows in (32_768, 131_072):
        values = np.random.default_rng(0).standard_normal((4096, 2048), dtype=np.float32).astype(np.float16)
        store = folder / "part-0000.zarr"

        def write(store: Path = store, rows: int = rows, values: np.ndarray = values) -> None:
            with StoreWriter(store, "capture", {}) as writer:
                group = writer.group("token", ("episode",))
                for _ in range(rows // len(values)):
                    group.append({"x": values, "episode": np.zeros(len(values), np.int64)})

        def read() -> None:
            open_table(folder).array("x").read()

        write()
        write_index(folder, ["part-0000"])
        size, ways = rows * 2048 * 2, {"write": timed(write), "read": timed(read)}
        seconds = interleaved(ways, rounds, f"{size / 1e6:.0f} MB")
        rates = {name: size / median(values) for name, values in seconds.items()}
        yield {"what": f"{size / 1e6:.0f} MB of activations", "bytes": rates}
        shutil.rmtree(store)
