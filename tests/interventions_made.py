"""A small policy over frames, SAEs for it, and the slow way to intervene: one whole pass per latent, row by row."""

from __future__ import annotations

import numpy as np
import torch

from policylens.interventions.subject import Subject
from policylens.policies.heads import Discrete, Gaussian
from policylens.policies.protocol import Policy, Stage
from policylens.policies.sites import Site
from policylens.sae.architectures import build
from policylens.sae.base import SAE, SAEConfig
from policylens.sae.latents import Latents
from policylens.sae.settings import resolve

SITES = (
    Site("frame", 4, inner=(("y", 2), ("x", 2))),
    Site("later", 3, inner=(("y", 2), ("x", 2))),
    Site("flat", 5),
)
WEIGHTS = "0" * 64


class Frames(Policy):
    """Frames (n, 2, 2, 4) mixed with their neighbours, then flattened; everything in a frame is coupled."""

    def __init__(self, head="gaussian", dtype=torch.float64):
        generator = torch.Generator().manual_seed(3)
        self.record = {"family": "made", "weights": {"sha256": WEIGHTS}}
        self.device, self.dtype, self.head = torch.device("cpu"), dtype, head
        shapes = {"mix": (16, 16), "narrow": (4, 3), "flat": (12, 5), "head": (5, 3), "value": (5, 1)}
        self.weights = {
            name: torch.randn(shape, generator=generator, dtype=dtype) / shape[0] ** 0.5
            for name, shape in shapes.items()
        }

    @property
    def observations(self):
        return ("frames",)

    @property
    def stages(self):
        mix, narrow, flat = (self.weights[name] for name in ("mix", "narrow", "flat"))

        def first(carry):
            x = carry["frames"]
            return {**carry, "x": torch.tanh(x.flatten(1) @ mix).reshape(x.shape)}

        def second(carry):
            return {"legal": carry["legal"], "x": torch.relu(carry["x"] @ narrow)}

        def third(carry):
            return {"legal": carry["legal"], "x": torch.tanh(carry["x"].flatten(1) @ flat)}

        return [Stage(site, "x", forward) for site, forward in zip(SITES, (first, second, third), strict=True)]

    def begin(self, batch, state):
        frames = torch.as_tensor(batch["frames"]).to(self.dtype)
        return {"frames": frames, "legal": frames[:, 0, 0, :3] > -1}

    def finish(self, carry):
        numbers = carry["x"] @ self.weights["head"]
        value = (carry["x"] @ self.weights["value"])[:, 0]
        if self.head == "gaussian":
            return Gaussian(numbers, torch.tensor([-0.5, 0.0, 0.2], dtype=self.dtype)), value, None
        return Discrete(numbers, carry["legal"]), value, None


class Walker(Policy):
    """A recurrent policy over observations (n, 4): the state is the first site's activation, as changed."""

    recurrent = True
    places = (Site("hidden", 5), Site("after", 4))

    def __init__(self, head="gaussian", dtype=torch.float64):
        generator = torch.Generator().manual_seed(5)
        self.record = {"family": "made", "weights": {"sha256": WEIGHTS}}
        self.device, self.dtype, self.head = torch.device("cpu"), dtype, head
        shapes = {"in": (4, 5), "on": (5, 5), "after": (5, 4), "head": (4, 3), "value": (5, 1)}
        self.weights = {
            name: 1.5 * torch.randn(shape, generator=generator, dtype=dtype) / shape[0] ** 0.5
            for name, shape in shapes.items()
        }

    @property
    def observations(self):
        return ("seen",)

    @property
    def stages(self):
        def hidden(carry):
            before = 0 if carry["state"] is None else carry["state"]["h"] @ self.weights["on"]
            return {"h": torch.tanh(carry["seen"] @ self.weights["in"] + before)}

        def after(carry):
            return {**carry, "x": torch.relu(carry["h"] @ self.weights["after"])}

        return [Stage(self.places[0], "h", hidden), Stage(self.places[1], "x", after)]

    def begin(self, batch, state):
        return {"seen": torch.as_tensor(batch["seen"]).to(self.dtype), "state": state}

    def finish(self, carry):
        numbers, value = carry["x"] @ self.weights["head"], (carry["h"] @ self.weights["value"])[:, 0]
        heads = Gaussian(numbers, torch.zeros(3, dtype=self.dtype)) if self.head == "gaussian" else Discrete(numbers)
        return heads, value, {"h": carry["h"]}


def walk_saes():
    """One per site of `Walker`."""
    return {place.name: sae_of(place.width, 6 + number, 7 + number) for number, place in enumerate(Walker.places)}


def walk_subject(site="hidden", episodes=(3, 6, 1, 5), head="gaussian", saes=None):
    """A subject of a recurrent policy, the policy, all its observations and its SAEs."""
    numbers = np.repeat(np.arange(len(episodes)) * 10, episodes)
    policy = Walker(head)
    batch = {"seen": np.random.default_rng(1).normal(size=(len(numbers), 4))}
    saes = saes or walk_saes()
    others = [np.flatnonzero(numbers != own) for own in numbers]
    donors = np.array([rows[3 * place % len(rows)] for place, rows in enumerate(others)])
    pieces = [{"seen": part} for part in np.array_split(batch["seen"], 3)]
    return Subject(policy, site, saes, pieces, numbers, donors), policy, batch, saes


def walked(policy, batch, lengths, read, edit=None):
    """Whole episodes one after the other, step after step: (rows' reads, heads' outputs, values)."""
    passes, row = [], 0
    for length in lengths:
        state = None
        for _ in range(length):
            own = {"seen": batch["seen"][row : row + 1]}
            edits = {site: (lambda x, change=change, row=row: change(x, row)) for site, change in (edit or {}).items()}
            passes.append(policy.run(own, state, read=read, edit=edits))
            state, row = passes[-1].state, row + 1
    return passes


def sae_of(width, latents=6, seed=0, dtype=torch.float64, settings=None, **origin):
    """An SAE with random weights; a third of the latents or so is active in a row."""
    generator = torch.Generator().manual_seed(seed)
    settings = resolve(settings or {"architecture": "standard", "latents": latents, "sparsity": 1.0})
    tensors = {
        name: torch.randn(shape, generator=generator, dtype=dtype) / shape[0] ** 0.5
        for name, shape in build(settings).shapes(width, width).items()
    }
    tensors["b_enc"] = tensors["b_enc"] - 0.3
    normalisation = {"centre": True, "scale": 1.0, "mean": [0.0] * width}
    origin = {"site": None, "checkpoint_sha256": None} | origin
    architecture = settings["architecture"]
    return SAE(SAEConfig(architecture, width, latents, width, settings, normalisation, 0.0, **origin), tensors)


def saes_of(dtype=torch.float64):
    """One per site of `Frames`."""
    return {site.name: sae_of(site.width, 6 + number, number, dtype) for number, site in enumerate(SITES)}


def frames(rows, seed=0):
    return {"frames": np.random.default_rng(seed).normal(size=(rows, 2, 2, 4))}


def subject_of(site="frame", episodes=(3, 4, 2, 5), head="gaussian", dtype=torch.float64, saes=None):
    """All that interventions start from, and the policy and batch it came from."""
    numbers = np.repeat(np.arange(len(episodes)) * 10, episodes)
    policy, batch = Frames(head, dtype), frames(len(numbers))
    others = [np.flatnonzero(numbers != own) for own in numbers]
    donors = np.array([rows[3 * place % len(rows)] for place, rows in enumerate(others)])
    pieces = [{"frames": part} for part in np.array_split(batch["frames"], 3)]
    return Subject(policy, site, saes or saes_of(dtype), pieces, numbers, donors), policy, batch


def slowly(subject, policy, batch, site, saes, mode, latent):
    """Outcome -> effect of changing one latent, (n, units), by two whole passes from the observations."""
    sae, later = saes[site], list(subject.outcomes.sites)

    def changed(x):
        rows = x.reshape(-1, x.shape[-1])
        f = sae.encode(rows).reshape(len(x), -1, sae.cfg.d_sae)
        g = f.clone()
        everything = Latents.of([f])
        change = mode.change(np.array([latent]), everything, subject.donors)
        g[:, :, latent] += torch.from_numpy(change[:, :, 0]).to(g)
        before, after = (sae.reconstruct(part.flatten(0, 1), rows).reshape(x.shape) for part in (f, g))
        return (x if mode.keep_error else before) + after - before

    def spliced(x):
        return x if mode.keep_error else sae(x.reshape(-1, x.shape[-1])).reshape(x.shape)

    before = policy.run(batch, read=later, edit={site: spliced})
    after = policy.run(batch, read=later, edit={site: changed})
    first, second = (subject.outcomes.of(result, before.heads) for result in (before, after))
    return {name: (second[name].double() - first[name].double()).numpy() for name in first}
