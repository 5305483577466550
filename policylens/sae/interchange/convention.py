"""From other tools' conventions to the one of this project, and back.

Here f = act(x W_enc + b_enc) and x_hat = f W_dec + b_dec for raw activations x, or for rows that `row_norm` has
normalised. Elsewhere b_dec may be subtracted from x first, x may be scaled by one number, or latents may be selected by
size times decoder norm. All of that is affine, so it is folded into the tensors: in float64, rounded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.sae.architecture import Tensors
from policylens.sae.architectures import build
from policylens.sae.base import SAE
from policylens.sae.normalisation import Normalisation, fold
from policylens.sae.settings import resolve, schema
from policylens.stores.tensors import check_finite, check_names, check_shape

SMALLEST_NORM = 1e-8
UNKNOWN_SPARSITY = 0.0


@dataclass(frozen=True)
class Foreign:
    """An SAE as another tool has it, under this project's names.

    path: of the file or folder, for messages. settings: resolved, see :func:`settings_of`.
    tensors: float64, in the shapes of this project. subtracts_b_dec: whether it encodes x - b_dec (after scaling).
    scale: what x is multiplied with before encoding, and the reconstruction divided by.
    imported: plain JSON, what it was before: format, files, configuration.
    """

    path: Path
    settings: Mapping[str, Any]
    tensors: Tensors
    subtracts_b_dec: bool
    scale: float
    imported: Mapping[str, Any]

    def folded(self) -> Tensors:
        """Tensors of the equal SAE in this project's convention, float64."""
        tensors = self.tensors
        if self.subtracts_b_dec:
            tensors = shifted(self.settings, tensors, tensors["b_dec"])
        d_in, d_out = tensors["W_enc"].shape[0], tensors["W_dec"].shape[1]
        before, after = (Normalisation(torch.zeros(width), False, self.scale) for width in (d_in, d_out))
        return fold(tensors, before, after, build(self.settings).biases(tensors))


def output_site_of(options: Mapping[str, Any], path: Path, transcoder: bool | None) -> str | None:
    """The site that a transcoder predicts, None for an SAE; only its user knows that site's name.

    transcoder: whether it is one, None where its files leave that open.
    """
    name = options.get("output_site")
    if transcoder and name is None:
        raise UserError(f"{path}: is a transcoder; say which site it predicts with output_site")
    if transcoder is False and name is not None:
        raise UserError(f"{path}: is no transcoder, but reconstructs what it takes; leave output_site out")
    return name


def shifted(settings: Mapping[str, Any], tensors: Tensors, shift: Tensor) -> Tensors:
    """Tensors that encode x as the given ones (float64) encode x - shift; the reconstruction is unchanged."""
    before = Normalisation(shift, True, 1.0)
    after = Normalisation(torch.zeros(tensors["W_dec"].shape[1]), False, 1.0)
    return fold(tensors, before, after, build(settings).biases(tensors))


def is_transcoder(sae: SAE) -> bool:
    """Whether it predicts another activation than it takes."""
    return sae.cfg.output_site is not None or sae.cfg.d_out != sae.cfg.d_in


def with_norms_in_encoder(tensors: Tensors) -> Tensors:
    """Of an SAE that selects and reports f ||W_dec||: the equal one that selects f, with decoder rows of norm 1."""
    norms = tensors["W_dec"].norm(dim=1).clamp(min=SMALLEST_NORM)
    return tensors | {
        "W_enc": tensors["W_enc"] * norms,
        "b_enc": tensors["b_enc"] * norms,
        "W_dec": tensors["W_dec"] / norms[:, None],
    }


def settings_of(architecture: str, latents: int, source: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """Complete settings of an SAE that was not trained here.

    known: settings that are told (k, output_site...). A latent is active where it is not 0. What is not known has its
    default; an unknown weight of the sparsity is 0.
    """
    unknown = {"sparsity": UNKNOWN_SPARSITY} if "sparsity" in schema(architecture)["required"] else {}
    plain = {"centre": False, "rescale": False, "active_threshold": 0.0}
    return resolve({"architecture": architecture, "latents": latents} | plain | unknown | dict(known), str(source))


def prefixes_of(widths: Iterable[int], latents: int) -> list[float]:
    """Widths of nested dictionaries as the setting `prefixes`, in which numbers up to 1 are shares of the latents."""
    return [width if width > 1 else 1 / latents for width in widths]


def exact(tensors: Mapping[str, Tensor], path: Path) -> Tensors:
    """Tensors in float64; integers, NaN and infinity are refused by name."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise UserError(f"{path}: tensor {name!r} holds {tensor.dtype}, not floating point; export the SAE again")
    check_finite(tensors, path, "export the SAE again")
    return {name: tensor.detach().double() for name, tensor in tensors.items()}


def checked(
    tensors: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    path: Path,
    what: str,
    by: str,
    optional: Iterable[str] = (),
) -> None:
    """UserError unless the tensors are exactly those of `shapes` (of `optional` ones any may lack), in those shapes.

    what: e.g. "a 'gated' SAE of SAELens". by: who asks for the shapes.
    """
    expected = [name for name in shapes if name in tensors or name not in set(optional)]
    check_names(tensors, expected, path, f"not the tensors of {what}")
    for name in expected:
        check_shape(tensors[name], shapes[name], path, name, by)


def rounded(tensors: Tensors, dtype: torch.dtype, path: Path) -> Tensors:
    """The tensors in a dtype, in memory of their own; UserError where that overflows."""
    found = {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}
    check_finite(found, path, f"its values do not fit {str(dtype).removeprefix('torch.')}")
    return found
