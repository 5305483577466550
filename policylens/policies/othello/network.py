"""The network: a residual stack of feed-forward blocks over the flattened board."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

PLANES = 72  # 36 squares with the mover's discs, then 36 with the opponent's
ACTIONS = 37


class Block(nn.Module):
    """x + down(gelu(up(layernorm(x)))), in two halves so that the hidden layer is a site of its own."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def hidden(self, stream: Tensor) -> Tensor:
        """Residual stream (n, width) -> hidden activations after the GELU (n, hidden)."""
        return functional.gelu(self.up(self.norm(stream)))

    def write(self, stream: Tensor, hidden: Tensor) -> Tensor:
        """The residual stream (n, width) after adding what the hidden activations write into it."""
        return stream + self.down(hidden)


class Network(nn.Module):
    """Policy and value network.

    width: of the residual stream; blocks: how many; hidden: units in each block.
    """

    def __init__(self, width: int = 256, blocks: int = 4, hidden: int = 256) -> None:
        super().__init__()
        self.embed = nn.Linear(PLANES, width)
        self.blocks = nn.ModuleList([Block(width, hidden) for _ in range(blocks)])
        self.final_norm = nn.LayerNorm(width)
        self.policy = nn.Linear(width, ACTIONS)
        self.value = nn.Linear(width, 1)

    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Planes (n, 72) -> unmasked logits (n, 37) and value in [-1, 1] for the side to move (n,)."""
        stream = self.embed(planes)
        for block in self.blocks:
            stream = block.write(stream, block.hidden(stream))
        return self.heads(self.final_norm(stream))

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised stream (n, width) -> logits (n, 37) and value (n,)."""
        return self.policy(features), torch.tanh(self.value(features)).squeeze(-1)


def initial_network(architecture: Mapping[str, Any], seed: int) -> Network:
    """A freshly initialised network, the same for the same seed; torch's global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(**architecture)


def planes_from_cells(cells: Tensor) -> Tensor:
    """Cells (n, 36) in {+1, -1, 0} -> planes (n, 72) of 0 and 1, float32."""
    return torch.cat([cells > 0, cells < 0], dim=1).to(torch.float32)
