"""How far a move goes, on activations that the policy has without it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from policylens.steering.edits import Steering
from policylens.steering.moves import Move
from policylens.steering.targets import Target

BATCH_ROWS = 2048


@torch.no_grad()
def reach(target: Target, move: Move, activations: np.ndarray, seed: int) -> dict[str, float]:
    """On reference rows (n, *inner, d), positions counting as rows:

    size: mean length of the change, over the root mean square distance of the activations from their mean. changed:
    share of rows that it changes. outside: share of rows in which some coordinate is moved to where it is in no
    reference row, beyond its least or largest value: what follows is then no statement about the policy as it is.
    """
    edit = Steering(target, move, seed)
    flat = activations.reshape(-1, activations.shape[-1])
    spread = float(np.sqrt(flat.var(axis=0, dtype=np.float64).sum()))
    lengths, outside = [], []
    for piece in torch.from_numpy(activations).to(target.directions.device).split(BATCH_ROWS):
        lengths.append(edit.change(piece).norm(dim=-1).reshape(-1).cpu().numpy())
        wanted = move.wanted(target.read(piece), target, edit.generator)
        slack = 1e-5 * (target.scale.high - target.scale.low)
        beyond = (wanted < target.scale.low - slack) | (wanted > target.scale.high + slack)
        outside.append(beyond.any(dim=-1).reshape(-1).cpu().numpy())
    length = np.concatenate(lengths)
    return {
        "size": float(length.mean(dtype=np.float64) / spread),
        "changed": float((length > 0).mean()),
        "outside": float(np.concatenate(outside).mean()),
    }


def together(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What is said of a move at several sites: the root of the sum of squared sizes, and the largest shares."""
    size = math.sqrt(sum(one["size"] ** 2 for one in parts)) if len(parts) > 1 else parts[0]["size"]
    return {"size": size, **{name: max(one[name] for one in parts) for name in ("changed", "outside")}}
