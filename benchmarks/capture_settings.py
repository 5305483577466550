"""What the capture benchmark captures, and the two things every way of doing it shares: batches and forward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformer import Transformer, Wide

from policylens.capture.activations import write_capture
from policylens.policies.protocol import Batch, Policy


@dataclass(frozen=True)
class Setting:
    """A policy to capture from, the sites, and rows per forward pass."""

    name: str
    policy: Callable[[], Policy]
    sites: tuple[str, ...]
    batch_rows: int


TRANSFORMER = Setting("transformer", Transformer, ("block_3", "block_7", "block_11"), 8)
"""12 layers, 768 wide: computing dominates. The last site is the last layer, so that no computation is saved."""

WIDE = Setting("wide", Wide, ("layer_0", "layer_1", "layer_2"), 512)
"""Three sites of 4096 units that cost hardly anything to compute: writing dominates."""

EVEN = Setting("even", partial(Wide, inputs=256), WIDE.sites, WIDE.batch_rows)
"""The same sites at about as much computing as writing."""


def run_forward(setting: Setting, policy: Policy, rows: int) -> None:
    """The forward passes alone: nothing is read and nothing is kept."""
    for batch in batches(setting, policy, rows):
        with torch.inference_mode():
            policy.run(batch)


def run_capture(setting: Setting, policy: Policy, rows: int, store: Path) -> None:
    """Capture the setting's sites as float16."""
    coordinates = {
        "episode": np.zeros(rows, np.int64),
        "step": np.arange(rows, dtype=np.int32),
        "split": np.zeros(rows, np.int8),
    }
    write_capture(
        store, policy, setting.sites, batches(setting, policy, rows), coordinates, batch_rows=setting.batch_rows
    )


def batches(setting: Setting, policy: Policy, rows: int) -> Iterator[Batch]:
    """The same observations again and again: making them is not what is measured."""
    observations = torch.randn(setting.batch_rows, *policy.row_shape, generator=torch.Generator().manual_seed(1))
    for start in range(0, rows, setting.batch_rows):
        yield {"observations": observations[: rows - start]}
