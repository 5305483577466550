"""The Othello network as a policy that can be read, edited and resumed at its sites."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.policies.checkpoint import take_tensors
from policylens.policies.heads import Discrete
from policylens.policies.othello.family import check_architecture
from policylens.policies.othello.family import sites as sites_of
from policylens.policies.othello.network import ACTIONS, PLANES, Network, planes_from_cells
from policylens.policies.protocol import Batch, Carry, Policy, Stage


class OthelloPolicy(Policy):
    """A network that plays 6x6 Othello.

    A batch holds `cells`, int8 (n, 36): +1 the mover's discs, -1 the opponent's, 0 empty; and `legal`, bool
    (n, 37): legal actions, the last one being the pass. The value is the expected outcome in [-1, 1] for the
    side to move.
    """

    def __init__(self, record: Mapping[str, Any], network: Network) -> None:
        self.record = record
        self.network = network
        parameter = next(network.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype

    @functools.cached_property
    def stages(self) -> Sequence[Stage]:
        """embed; per block its hidden layer and the residual stream after it; the final norm."""
        by_name = {site.name: site for site in sites_of(self.record)}
        stages = [Stage(by_name["embed"], "stream", self._embed)]
        for number, block in enumerate(self.network.blocks, start=1):
            hidden = functools.partial(_hidden, block)
            stages.append(Stage(by_name[f"block_{number}_hidden"], "hidden", hidden))
            stages.append(Stage(by_name[f"block_{number}"], "stream", functools.partial(_write, block)))
        return [*stages, Stage(by_name["final_norm"], "features", self._norm)]

    def begin(self, batch: Batch, state: Any) -> Carry:
        """Input planes and the legal mask on the policy's device."""
        cells, legal = (_rows(batch, name, width) for name, width in (("cells", PLANES // 2), ("legal", ACTIONS)))
        if len(cells) != len(legal):
            raise UserError(f"a batch of Othello positions has {len(cells)} cells rows but {len(legal)} legal rows")
        planes = planes_from_cells(cells.to(self.device)).to(self.dtype)
        return {"planes": planes, "legal": legal.to(self.device, torch.bool)}

    def finish(self, carry: Carry) -> tuple[Discrete, Tensor, None]:
        """Logits with the legal mask, and the value."""
        logits, value = self.network.heads(carry["features"])
        return Discrete(logits, carry["legal"]), value, None

    def _embed(self, carry: Carry) -> Carry:
        return {"stream": self.network.embed(carry["planes"]), "legal": carry["legal"]}

    def _norm(self, carry: Carry) -> Carry:
        return {"features": self.network.final_norm(carry["stream"]), "legal": carry["legal"]}


def _hidden(block: Any, carry: Carry) -> Carry:
    return {**carry, "hidden": block.hidden(carry["stream"])}


def _write(block: Any, carry: Carry) -> Carry:
    return {"stream": block.write(carry["stream"], carry["hidden"]), "legal": carry["legal"]}


def _rows(batch: Batch, name: str, width: int) -> Tensor:
    if name not in batch:
        raise UserError(f"a batch of Othello positions needs `cells` and `legal`; it has {sorted(batch)}")
    rows = torch.as_tensor(batch[name])
    if rows.ndim != 2 or rows.shape[1] != width:
        raise UserError(f"`{name}` of Othello positions has shape (n, {width}), got {tuple(rows.shape)}")
    return rows


def build(
    record: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> OthelloPolicy:
    """The policy of a checkpoint's record and tensors; every tensor must fit the architecture, and none be left.

    Raises UserError for a wrong architecture, missing or foreign tensors, wrong shapes, NaN and infinity.
    """
    architecture = check_architecture(record["architecture"])
    with torch.device("meta"):
        network = Network(**architecture)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    taken = take_tensors(tensors, shapes, "othello")
    for name, tensor in taken.items():
        if not tensor.isfinite().all():
            raise UserError(f"othello: tensor {name!r} holds NaN or infinity; export the checkpoint again")
    network.load_state_dict(taken, assign=True)
    network = network.to(device=device, dtype=dtype or taken["embed.weight"].dtype).eval().requires_grad_(False)
    return OthelloPolicy(record, network)
