"""Training with policylens, as `policylens.sae.training.train` does it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sae_evaluator import Trained, Watch
from sae_settings import Setting
from torch import Tensor

LOGGED_EVERY = 100
FAR_BELOW = -100.0
"""A bias at which next to no latent is active."""

AS_PEERS = {"initial_norms": [0.1, 0.1], "subtract_b_dec": True}
"""The same initialisation and the same parameters as both peers', so that the tools differ in nothing but speed."""

CLIP = 1.0
"""Largest norm of the gradient of the summed squares, which both peers clip to."""


def train(rows: Tensor, setting: Setting, variant: str, seed: int, watch: Watch) -> Trained:
    """Train one SAE. variant: the precision of the factors of products."""
    for bias in (0.0, FAR_BELOW):  # compiles what is compiled: the dense way and the sparse one
        _run(rows, replace(setting, steps=1, warm_steps=0), variant, seed, None, bias)
    return _run(rows, setting, variant, seed, watch)


def _run(rows: Tensor, setting: Setting, variant: str, seed: int, watch: Watch | None, bias: float = 0.0) -> Trained:
    from policylens.sae.selection import in_memory
    from policylens.sae.settings import resolve
    from policylens.sae.training import Feed, Keeper, Training, advance, new_member

    class Watching(Keeper):
        """Tells the clock when a step is done."""

        def after(self, step: int, trainings: Sequence[Training]) -> None:
            watch.stepped(lambda: trainings[0].member.finished)

    settings = resolve(settings_of(setting, variant))
    feed = Feed(in_memory(rows), settings, seed)
    member = new_member(settings, feed, seed, "cpu")
    member.parameters["b_enc"] += bias
    keeper = None if watch is None else Watching()

    def watched(steps: Sequence[int]) -> Iterable[int]:
        if watch is not None:
            watch.start(lambda: member.finished)
        return steps

    training = Training("SAE", member)
    advance([training], feed.stream, feed.sample, keeper, watched)
    if training.trouble:
        raise RuntimeError(training.trouble)
    tensors = member.finished
    return Trained(tensors, lambda x: member.architecture.decode(tensors, member.architecture.encode(tensors, x)))


def settings_of(setting: Setting, variant: str) -> dict[str, object]:
    """Defaults but for what is the same for all tools: no schedules, data that are normalised already."""
    own = {"k": setting.k} if setting.architecture == "topk" else {"sparsity": setting.sparsity} | AS_PEERS
    return own | {
        "gradient_clip": CLIP,
        "architecture": setting.architecture,
        "latents": setting.latents,
        "steps": setting.steps,
        "batch_rows": setting.batch_rows,
        "learning_rate": setting.learning_rate,
        "learning_rate_decay": 0.0,
        "centre": False,
        "rescale": False,
        "precision": variant,
        "log_points": max(1, setting.steps // LOGGED_EVERY),
    }
