"""Transcoder: the standard SAE's loss with another activation to predict, such as a layer's output from its input.

    f     = ReLU(x W_enc + b_enc)
    y_hat = f W_dec + b_dec
    L     = mean over rows of [ sum_d (y - y_hat)^2 + lambda sum_i ||W_dec,i||_2 f_i ]       y: the target

The setting `output_site` names the site of y. The decoder starts at 0, so that the first prediction is y's mean (0
once centred). Source: Dunefsky, Chlenski and Nanda, "Transcoders Find Interpretable LLM Feature Circuits" (2024),
arXiv:2406.11944, section 3 (with the penalty of `architectures.standard`, which the decoder's scale cannot evade).
"""

from __future__ import annotations

import torch

from policylens.sae.architecture import Tensors
from policylens.sae.architectures.standard import Standard


class Transcoder(Standard):
    """Standard, but for the target and the decoder's start."""

    def initial(self, d_in: int, d_out: int, generator: torch.Generator) -> Tensors:
        """The standard encoder, and a decoder of zeros."""
        p = super().initial(d_in, d_out, generator)
        return p | {"W_dec": torch.zeros_like(p["W_dec"])}
