"""A trained sparse autoencoder: tensors, settings and where they come from. It takes raw activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.sae.architecture import Tensors
from policylens.sae.architectures import build
from policylens.sae.row_kinds import row_norm_of
from policylens.sae.row_norm import Scales, scales_of

FORMAT = 1


@dataclass(frozen=True)
class SAEConfig:
    """What an SAE is, besides its weights: the content of cfg.json.

    architecture: its name. d_in, d_sae, d_out: width of the activation it takes, number of latents, and width of the
        activation it gives (d_in but for a transcoder).
    settings: of its training, complete (`policylens.sae.settings`). With `row_norm` in them the SAE normalises each row
        by numbers of its own, which is no part of the weights; "the activation's own units" are then those of the
        normalised row.
    normalisation: {"centre": bool, "scale": float, "mean": [d_out floats]} of the training rows that it gives. Already
        folded into the weights; kept for mean-ablation and for stating norms in the units of the training. The mean of
        an imported SAE is None where no capture was given.
    active_threshold: a latent is active where |f| * ||W_dec|| exceeds this, in the given activation's own units.
    dtype: of the tensors in the file.
    seed: of initialisation and batches, None if not trained here.
    policy, checkpoint, site, capture: names. output_site: of a transcoder. checkpoint_sha256: of the policy's weights.
        capture_sha256: of the capture's index. None where unknown. further_captures: where it was trained on several,
        `capture` and `capture_sha256` of each of the others.
    """

    architecture: str
    d_in: int
    d_sae: int
    d_out: int
    settings: Mapping[str, Any]
    normalisation: Mapping[str, Any]
    active_threshold: float
    dtype: str = "float32"
    seed: int | None = None
    policy: str | None = None
    checkpoint: str | None = None
    checkpoint_sha256: str | None = None
    site: str | None = None
    output_site: str | None = None
    capture: str | None = None
    capture_sha256: str | None = None
    further_captures: list[Mapping[str, str]] = field(default_factory=list)
    imported: Mapping[str, Any] | None = None
    format: int = field(default=FORMAT)

    def record(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


class SAE:
    """f = encode(x), x_hat = reconstruct(f, x), for raw activations x (n, d_in); x_hat = decode(f) without `row_norm`.

    cfg: see :class:`SAEConfig`. tensors: W_enc (d_in, m), b_enc (m,), W_dec (m, d_out), b_dec (d_out,) and whatever
    else the architecture has (`Architecture.shapes`).
    """

    def __init__(self, cfg: SAEConfig, tensors: Tensors) -> None:
        self.cfg, self.tensors = cfg, tensors
        self.architecture = build(cfg.settings)
        self.row_norm = row_norm_of(cfg.settings)

    def __repr__(self) -> str:
        return f"SAE({self.cfg.architecture}, {self.cfg.d_in} -> {self.cfg.d_sae}, site {self.cfg.site!r})"

    @property
    def W_enc(self) -> Tensor:  # noqa: N802
        """(d_in, m) encoder weights."""
        return self.tensors["W_enc"]

    @property
    def b_enc(self) -> Tensor:
        """(m,) encoder biases; AttributeError where the architecture has others in their place."""
        if "b_enc" not in self.tensors:
            has = ", ".join(name for name in self.tensors if name.startswith("b_"))
            raise AttributeError(f"a {self.cfg.architecture} SAE has no b_enc; its biases are {has}")
        return self.tensors["b_enc"]

    @property
    def W_dec(self) -> Tensor:  # noqa: N802
        """(m, d_out) decoder directions, one per latent."""
        return self.tensors["W_dec"]

    @property
    def b_dec(self) -> Tensor:
        """(d_out,) decoder bias."""
        return self.tensors["b_dec"]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.W_dec.device

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> SAE:
        """The same SAE on another device or in another precision."""
        return SAE(self.cfg, {name: tensor.to(device, dtype) for name, tensor in self.tensors.items()})

    def encode(self, x: Tensor) -> Tensor:
        """Latents (..., m) of activations (..., d_in); not negative but for a linear bottleneck.

        Over (n, height, width, channels) that is a 1x1 convolution, and a linear decoder is another.
        """
        return self.architecture.encode(self.tensors, self.normalised(x))

    def decode(self, f: Tensor) -> Tensor:
        """Reconstruction (..., d_out) from latents (..., m); with `row_norm` that of the normalised row."""
        return self.architecture.decode(self.tensors, f)

    def reconstruct(self, f: Tensor, x: Tensor) -> Tensor:
        """Reconstruction (..., d_out) of activations x from latents f (..., m), in the units of x."""
        given = self.decode(f)
        return given if self.row_norm is None else self._scales(x).back(given)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction (..., d_out) of activations (..., d_in)."""
        return self.reconstruct(self.encode(x), x)

    __call__ = forward

    def normalised(self, x: Tensor) -> Tensor:
        """What the weights act on: x itself or, with `row_norm`, each row normalised by numbers of its own."""
        return x if self.row_norm is None else self._scales(x).into(x)

    def spread(self, x: Tensor) -> Tensor | None:
        """(..., 1) what a row's normalised units are worth in its own, None for 1: without `row_norm`."""
        return None if self.row_norm is None else self._scales(x).spread

    def added(self, by: Tensor, x: Tensor) -> Tensor:
        """What latents that change by `by` (..., m) add to activations x (..., d) of the same leading dimensions.

        by W_dec, times the spread of each row of x. The row's mean and spread stay those of x.
        """
        moved = by @ self.W_dec
        return moved if self.row_norm is None else moved * self._scales(x).spread

    def _scales(self, x: Tensor) -> Scales:
        return scales_of(self.row_norm, x)

    def strength(self, f: Tensor) -> Tensor:
        """|f| * ||W_dec||, (n, m): the norm that each latent contributes, in the activation's units.

        With `row_norm` in those of the normalised row.
        """
        return f.abs() * self.W_dec.norm(dim=1)

    def active(self, f: Tensor) -> Tensor:
        """Which latents count as active, (n, m) bool."""
        return self.strength(f) > self.cfg.active_threshold

    @property
    def mean(self) -> Tensor:
        """(d_out,) mean of the training rows that it reconstructs; UserError where that is not known."""
        if self.cfg.normalisation["mean"] is None:
            raise UserError(f"{self}: was imported without a capture, so its mean is not known; import it with one")
        return torch.tensor(self.cfg.normalisation["mean"], dtype=self.W_dec.dtype, device=self.device)

    @property
    def scale(self) -> float:
        """What activations were multiplied with for training."""
        return self.cfg.normalisation["scale"]
