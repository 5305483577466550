"""Adam, as torch has it, on as many threads as the rest of a step; every number's update is its own affair."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from policylens.sae.parallel import by_rows, over_edges, threads

MOMENTS = ("exp_avg", "exp_avg_sq")
TINY = 1e-6
"""What torch adds to a norm that gradients are clipped by."""


class Adam:
    """One optimiser for several contiguous tensors, cut into parts by rows on a CPU.

    moments: of every tensor, {"exp_avg", "exp_avg_sq"}, in the tensors' order.
    """

    def __init__(self, tensors: Sequence[Tensor], gradients: Sequence[Tensor], learning_rate: float) -> None:
        self.moments = [{kind: torch.zeros_like(tensor) for kind in MOMENTS} for tensor in tensors]
        self._gradients, device = list(gradients), tensors[0].device.type
        count = threads() if device == "cpu" else 1
        cuts = [[slice(len(t) * part // count, len(t) * (part + 1) // count) for t in tensors] for part in range(count)]
        self._parts = [self._part(tensors, part, learning_rate, fused=device != "mps") for part in cuts]

    def _part(
        self, tensors: Sequence[Tensor], cuts: Sequence[slice], learning_rate: float, fused: bool
    ) -> torch.optim.Adam:
        rows = [tensor[cut] for tensor, cut in zip(tensors, cuts, strict=True)]
        part = torch.optim.Adam(rows, lr=learning_rate, fused=fused)
        for row, gradient, moments, cut in zip(rows, self._gradients, self.moments, cuts, strict=True):
            row.grad = gradient[cut]
            step = torch.zeros((), dtype=torch.float32, device=row.device)
            part.state[row] = {"step": step} | {kind: moments[kind][cut] for kind in MOMENTS}
        return part

    @property
    def steps(self) -> list[Tensor]:
        """Every counter of steps."""
        return [state["step"] for part in self._parts for state in part.state.values()]

    def clip(self, limit: float) -> None:
        """Scale all gradients down to a norm of `limit` together, if they are larger."""

        def norms(start: int, stop: int) -> Tensor:
            rows = [row for part in self._parts[start:stop] for row in part.param_groups[0]["params"]]
            return torch.stack([torch.linalg.vector_norm(row.grad) for row in rows])

        norm = torch.linalg.vector_norm(torch.cat(over_edges(norms, range(len(self._parts) + 1))))
        if norm.device.type == "cpu" and norm <= limit:
            return  # scaling by 1 would be a pass over all gradients; elsewhere asking would wait for the device
        factor = (limit / (norm + TINY)).clamp(max=1.0)
        for gradient in self._gradients:
            by_rows(lambda rows: rows.mul_(factor), gradient)

    def step(self, learning_rate: float) -> None:
        """One update of all tensors."""

        def update(start: int, stop: int) -> None:
            for part in self._parts[start:stop]:
                for group in part.param_groups:
                    group["lr"] = learning_rate
                part.step()

        over_edges(update, range(len(self._parts) + 1))
