"""A small torch module of one's own: it steers a point towards a target."""

import torch
from torch import Tensor, nn


class Steering(nn.Module):
    """Position, velocity and target (two numbers each) in; logits of five actions and a value out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(6, width)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(width, 2 * width), nn.GELU()) for _ in range(2))
        self.writes = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.actions = nn.Linear(width, 5)
        self.value = nn.Linear(width, 1)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """observation: (n, 6). Returns logits (n, 5) and values (n, 1)."""
        stream = torch.tanh(self.embed(observation))
        for block, write in zip(self.blocks, self.writes, strict=True):
            stream = stream + write(block(stream))
        features = self.norm(stream)
        return self.actions(features), self.value(features)
