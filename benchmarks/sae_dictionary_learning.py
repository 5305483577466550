"""Training with dictionary_learning: its trainers' `update`, called as its own trainSAE calls it.

The standard SAE is its `StandardTrainerAprilUpdate`, whose penalty is weighted by the decoder's norms like ours.
Its encoder's biases begin at 0, as the other tools' do, and not at torch's default.
Variants: float32, and autocast, which trainSAE offers for GPUs and which is as easily had on a CPU by calling `update`
within it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from sae_batches import batches
from sae_evaluator import Tensors, Trained, Watch
from sae_settings import AUTOCAST, Setting
from torch import Tensor

if TYPE_CHECKING:
    from dictionary_learning.trainers.trainer import SAETrainer

TRAINERS = {"standard": "StandardTrainerAprilUpdate", "topk": "TopKTrainer"}


def train(rows: Tensor, setting: Setting, variant: str, seed: int, watch: Watch) -> Trained:
    """Train one SAE."""
    return train_with(TRAINERS[setting.architecture], rows, setting, variant, seed, watch)


def train_with(name: str, rows: Tensor, setting: Setting, variant: str, seed: int, watch: Watch) -> Trained:
    """Train one SAE with a trainer of this name."""
    trainer = new_trainer(setting, name, seed)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=variant == AUTOCAST)
    source = batches(rows, setting.batch_rows, seed)
    for step, batch in zip(range(setting.steps), watch.around(source, lambda: plain(trainer)), strict=False):
        with autocast:
            trainer.update(step, batch)
    watch.stepped(lambda: plain(trainer))
    return Trained(plain(trainer), trainer.ae)


def new_trainer(setting: Setting, name: str, seed: int) -> SAETrainer:
    """Its trainer with its defaults but for the learning rate and the schedules, of which there are none."""
    from dictionary_learning.trainers import standard, top_k

    given = {
        "steps": setting.steps + 1,  # it wants more steps than warm-up steps, even when they are 0
        "activation_dim": setting.width,
        "dict_size": setting.latents,
        "lr": setting.learning_rate,
        "warmup_steps": 0,
        "seed": seed,
        "device": "cpu",
        "layer": 0,
        "lm_name": "none",
    }
    if setting.architecture == "topk":
        return top_k.TopKTrainer(k=setting.k, **given)
    penalty = {"l1_penalty": setting.sparsity, "sparsity_warmup_steps": None}
    trainer = getattr(standard, name)(**penalty, **given)
    torch.nn.init.zeros_(trainer.ae.encoder.bias)  # torch's random ones alone make an L0 that differs by a third
    return trainer


@torch.no_grad()
def plain(trainer: SAETrainer) -> Tensors:
    """Its tensors as f = ReLU(x W_enc + b_enc), x_hat = f W_dec + b_dec; it subtracts its bias from the input."""
    ae = trainer.ae
    bias = (ae.b_dec if hasattr(ae, "b_dec") else ae.bias).detach()
    encoder = ae.encoder.weight.detach()
    return {
        "W_enc": encoder.T,
        "b_enc": ae.encoder.bias.detach() - encoder @ bias,
        "W_dec": ae.decoder.weight.detach().T,
        "b_dec": bias,
    }
