"""Trains SAELens' TopK SAEs for dictionary_recovery.py, in the environment that has SAELens.

    envs/run interop python benchmarks/dictionary_recovery_saelens.py

Each line of the standard input is a job in JSON: `data` (safetensors with `train` and `held_out`, (n, d) float32),
`latents`, `k`, `steps`, `batch_rows`, `learning_rate`, `seed`, `out`. The decoder directions of the latents that are
active in any held-out row are written to `out` as the tensor `directions` (safetensors), and `out` is printed.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


def program() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr):
            save_file({"directions": trained(job)}, job["out"])
        print(job["out"], flush=True)


def trained(job: Mapping[str, Any]) -> Tensor:
    """Alive decoder directions (a, d) after training."""
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    data = load_file(job["data"])
    torch.manual_seed(job["seed"])
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=data["train"].shape[1], d_sae=job["latents"], k=job["k"]))
    config = SAETrainerConfig(
        total_training_samples=job["steps"] * job["batch_rows"],
        train_batch_size_samples=job["batch_rows"],
        lr=job["learning_rate"],
        lr_end=job["learning_rate"],
        lr_decay_steps=0,
        autocast=False,
        n_checkpoints=0,
    )
    scale = data["train"].shape[1] ** 0.5 / float(data["train"].norm(dim=1).mean())
    SAETrainer(config, sae, batches(data["train"] * scale, job["batch_rows"], job["seed"])).fit()
    with torch.no_grad():
        alive = (sae.encode(data["held_out"] * scale) > 0).any(0)
    return sae.W_dec.detach()[alive].contiguous()


def batches(rows: Tensor, size: int, seed: int) -> Iterator[Tensor]:
    """Batches of rows drawn with replacement."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield rows[torch.randint(len(rows), (size,), generator=generator)]


if __name__ == "__main__":
    program()
