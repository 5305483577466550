"""Training with SAELens: its SAETrainer and its own training SAEs, fed with batches from memory.

Variants: float32; its option `autocast`; and that with its option `compile_sae`, which is `torch.compile` of the
forward pass. (Its `use_sparse_activations` fails on the CPU with torch 2.13: sparse tensors have no view.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from sae_batches import batches
from sae_evaluator import Tensors, Trained, Watch
from sae_settings import COMPILED, FLOAT32, Setting
from torch import Tensor

if TYPE_CHECKING:
    from sae_lens.saes.sae import TrainingSAE
    from sae_lens.training.sae_trainer import SAETrainer


def train(rows: Tensor, setting: Setting, variant: str, seed: int, watch: Watch) -> Trained:
    """Train one SAE."""
    torch.manual_seed(seed)
    sae = new_sae(setting)
    source = batches(rows, setting.batch_rows, seed)
    trainer = new_trainer(sae, setting, variant, watch.around(source, lambda: plain(sae)))
    if variant == COMPILED:
        sae.training_forward_pass = torch.compile(sae.training_forward_pass)
        compile_now(trainer, next(source))
    trainer.fit()
    watch.stepped(lambda: plain(sae))
    return Trained(plain(sae), sae)


def new_sae(setting: Setting) -> TrainingSAE:
    """A training SAE with SAELens' defaults but for sizes and sparsity."""
    from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

    shape = {"d_in": setting.width, "d_sae": setting.latents}
    if setting.architecture == "topk":
        return TopKTrainingSAE(TopKTrainingSAEConfig(k=setting.k, **shape))
    return StandardTrainingSAE(StandardTrainingSAEConfig(l1_coefficient=setting.sparsity, **shape))


def new_trainer(sae: TrainingSAE, setting: Setting, variant: str, source: Iterator[Tensor]) -> SAETrainer:
    """Its trainer with its defaults but for the learning rate."""
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    config = SAETrainerConfig(
        total_training_samples=setting.steps * setting.batch_rows,
        train_batch_size_samples=setting.batch_rows,
        lr=setting.learning_rate,
        lr_end=setting.learning_rate,
        autocast=variant != FLOAT32,
    )
    return SAETrainer(config, sae, source)


def compile_now(trainer: SAETrainer, batch: Tensor) -> None:
    """Compile both passes by one that changes nothing, so that compiling is not timed."""
    from sae_lens.saes.sae import TrainStepInput

    given = TrainStepInput(batch, trainer.get_coefficients(), trainer.dead_neurons, 0, False)  # noqa: FBT003
    with trainer.autocast_if_enabled:
        found = trainer.sae.training_forward_pass(step_input=given)
    found.loss.backward()
    trainer.optimizer.zero_grad()


@torch.no_grad()
def plain(sae: TrainingSAE) -> Tensors:
    """Its tensors as f = ReLU(x W_enc + b_enc), x_hat = f W_dec + b_dec.

    It subtracts b_dec from its input; its TopK chooses by f ||W_dec||, for which the norms are moved to the encoder.
    """
    weights = {name: getattr(sae, name).detach() for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    if sae.cfg.apply_b_dec_to_input:
        weights["b_enc"] = weights["b_enc"] - weights["b_dec"] @ weights["W_enc"]
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        norms = weights["W_dec"].norm(dim=1)
        weights["W_enc"], weights["b_enc"] = weights["W_enc"] * norms, weights["b_enc"] * norms
        weights["W_dec"] = weights["W_dec"] / norms[:, None]
    return weights
