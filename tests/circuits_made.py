"""A linear policy whose circuit is known, and identities as its SAEs."""

from __future__ import annotations

import numpy as np
import torch
from interventions_made import WEIGHTS, sae_of

from policylens.circuits.tracing import RowSet
from policylens.policies.heads import Gaussian
from policylens.policies.inputs import Input
from policylens.policies.protocol import Policy, Stage
from policylens.policies.sites import Site

WIDTH = 12
NEEDED = {"early": [0, 1], "late": [2, 3]}
"""What the value depends on: late[2] = 2 early[0], late[3] = early[1]; value = late[2] + late[3]."""


class Linear(Policy):
    """Observations (n, 12) are the early site; the late one is a rearrangement of them; the value reads two of it."""

    def __init__(self):
        self.record = {"family": "made", "weights": {"sha256": WEIGHTS}}
        self.device, self.dtype = torch.device("cpu"), torch.float64
        self.mix = torch.eye(WIDTH, dtype=torch.float64).roll(2, 1)  # early[i] goes to late[i + 2]
        self.mix[0] *= 2

    @property
    def stages(self):
        def same(carry):
            return {**carry, "x": carry["x"]}

        def mixed(carry):
            return {**carry, "x": carry["x"] @ self.mix}

        return [Stage(Site("early", WIDTH), "x", same), Stage(Site("late", WIDTH), "x", mixed)]

    @property
    def observations(self):
        return ("observations",)

    def begin(self, batch, state):
        return {"x": torch.as_tensor(batch["observations"]).to(self.dtype)}

    def finish(self, carry):
        x = carry["x"]
        return Gaussian(x[:, 4:6], torch.zeros(2, dtype=torch.float64)), x[:, 2] + x[:, 3], None


def identity():
    """An SAE whose latents are the units, exact for positive activations."""
    sae = sae_of(WIDTH, latents=WIDTH)
    for name, values in (("W_enc", torch.eye(WIDTH)), ("W_dec", torch.eye(WIDTH))):
        sae.tensors[name] = values.double()
    for name in ("b_enc", "b_dec"):
        sae.tensors[name] = torch.zeros(WIDTH, dtype=torch.float64)
    return sae


def saes():
    return {"early": identity(), "late": identity()}


def inputs():
    return tuple(Input(f"number {place}", "1", "observations", (place,)) for place in range(WIDTH))


def rows(seed, episodes=12, steps=8):
    """Positive numbers in two batches."""
    values = np.random.default_rng(seed).uniform(0.5, 1.5, size=(episodes * steps, WIDTH))
    return RowSet([{"observations": part} for part in np.array_split(values, 2)], np.repeat(np.arange(episodes), steps))
