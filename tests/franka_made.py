"""Checkpoints of the kind that rl_games writes, made up."""

from __future__ import annotations

import numpy as np
import torch

PREFIX = "a2c_network."


def made(
    observations=5,
    hidden=(8, 6),
    actions=3,
    critic=(),
    head="gaussian",
    log_std="constant",
    normalised=True,
    returns=True,
    dtype=torch.float32,
):
    """A whole file's content."""
    generator = torch.Generator().manual_seed(0)
    model = {}

    def linear(name, width, out):
        model[f"{PREFIX}{name}.weight"] = torch.randn(out, width, generator=generator, dtype=dtype) / width**0.5
        model[f"{PREFIX}{name}.bias"] = torch.randn(out, generator=generator, dtype=dtype) / 4
        return out

    last = {"actor_mlp": observations, "critic_mlp": observations}
    for stack, sizes in (("actor_mlp", hidden), ("critic_mlp", critic)):
        for number, size in enumerate(sizes):
            last[stack] = linear(f"{stack}.{2 * number}", last[stack], size)
    linear("value", last["critic_mlp"] if critic else last["actor_mlp"], 1)
    linear("mu" if head == "gaussian" else "logits", last["actor_mlp"], actions)
    if head == "gaussian" and log_std == "linear":
        linear("sigma", last["actor_mlp"], actions)
    elif head == "gaussian":
        model[f"{PREFIX}sigma"] = torch.full((actions,), -0.5, dtype=dtype)
    for name, size, there in (("running", observations, normalised), ("value", 1, returns)):
        if there:
            model[f"{name}_mean_std.running_mean"] = torch.randn(size, generator=generator, dtype=torch.float64)
            model[f"{name}_mean_std.running_var"] = torch.rand(size, generator=generator, dtype=torch.float64) + 0.5
            model[f"{name}_mean_std.count"] = torch.tensor(100.0, dtype=torch.float64)
    return {"model": model, "epoch": 7, "frame": 4096, "last_mean_rewards": np.float32(1.5), "env_state": None}


def saved(path, **options):
    """Write one; returns the path."""
    torch.save(made(**options), path)
    return path
