"""Two staged policies with random weights, to measure capturing with: one that computes much, one that writes much."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from policylens.policies.heads import Discrete
from policylens.policies.protocol import Batch, Carry, Policy, Stage
from policylens.policies.sites import STEP, Site

ACTIONS = 16


class Transformer(Policy):
    """A pre-norm transformer; a row is a sequence, and a site is the residual stream at all its tokens.

    layers, width, heads, tokens: its size; a batch's `observations` are (n, tokens, width) float32.
    """

    def __init__(self, layers: int = 12, width: int = 768, heads: int = 12, tokens: int = 64) -> None:
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.row_shape = (tokens, width)
        self._blocks = [_Block(width, heads).eval() for _ in range(layers)]
        self._head = nn.Linear(width, ACTIONS)
        self._stages = [
            Stage(Site(f"block_{depth}", width, STEP, (("position", tokens),)), "residual", block)
            for depth, block in enumerate(self._blocks)
        ]

    @property
    def stages(self) -> Sequence[Stage]:
        """One stage per block."""
        return self._stages

    def begin(self, batch: Batch, state: object) -> Carry:
        """The observations are the first residual stream."""
        return {"residual": torch.as_tensor(batch["observations"])}

    def finish(self, carry: Carry) -> tuple[Discrete, None, None]:
        """Logits from the last token."""
        return Discrete(self._head(carry["residual"][:, -1])), None, None


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, carry: Carry) -> Carry:
        residual = carry["residual"]
        residual = residual + self._attention(self.before_attention(residual))
        hidden = functional.gelu(self.widen(self.before_mlp(residual)))
        return {"residual": residual + self.narrow(hidden)}

    def _attention(self, x: Tensor) -> Tensor:
        split = self.queries_keys_values(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.mix(functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))


class Wide(Policy):
    """Linear layers with few inputs and very many outputs; a row is a step.

    width: of each site. inputs: of each layer; a batch's `observations` are (n, inputs) float32.
    """

    def __init__(self, layers: int = 3, width: int = 4096, inputs: int = 16) -> None:
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.row_shape = (inputs,)
        self._inputs = inputs
        self._layers = [nn.Linear(inputs, width) for _ in range(layers)]
        self._stages = [
            Stage(Site(f"layer_{depth}", width), "hidden", self._forward(layer))
            for depth, layer in enumerate(self._layers)
        ]

    @property
    def stages(self) -> Sequence[Stage]:
        """One stage per layer."""
        return self._stages

    def begin(self, batch: Batch, state: object) -> Carry:
        """The observations are the first layer's inputs."""
        return {"hidden": torch.as_tensor(batch["observations"])}

    def finish(self, carry: Carry) -> tuple[Discrete, None, None]:
        """Some of the last layer's units as logits."""
        return Discrete(carry["hidden"][:, :ACTIONS]), None, None

    def _forward(self, layer: nn.Linear):
        def forward(carry: Carry) -> Carry:
            return {"hidden": layer(carry["hidden"][:, : self._inputs])}

        return forward
