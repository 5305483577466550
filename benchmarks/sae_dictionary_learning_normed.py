"""Training with dictionary_learning's `StandardTrainer`: decoder directions of norm 1, no clipping.

Its steps are cheaper than those of `StandardTrainerAprilUpdate`. At the same L0 it explains less after the same steps,
so that it would only make the common goal easier to reach: it is compared in activations per second.
"""

from __future__ import annotations

from sae_dictionary_learning import train_with
from sae_evaluator import Trained, Watch
from sae_settings import Setting
from torch import Tensor


def train(rows: Tensor, setting: Setting, variant: str, seed: int, watch: Watch) -> Trained:
    """Train one SAE."""
    return train_with("StandardTrainer", rows, setting, variant, seed, watch)
