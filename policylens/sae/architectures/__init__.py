"""The architectures by name: one file each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.sae.architecture import Architecture
from policylens.sae.architectures.batch_topk import BatchTopK
from policylens.sae.architectures.gated import Gated
from policylens.sae.architectures.jumprelu import JumpReLU
from policylens.sae.architectures.linear import Linear
from policylens.sae.architectures.matryoshka import Matryoshka
from policylens.sae.architectures.plain_l1 import PlainL1
from policylens.sae.architectures.standard import Standard
from policylens.sae.architectures.tied import Tied
from policylens.sae.architectures.topk import TopK
from policylens.sae.architectures.transcoder import Transcoder
from policylens.sae.settings import check_architecture

REGISTRY: dict[str, type[Architecture]] = {
    "standard": Standard,
    "plain_l1": PlainL1,
    "linear": Linear,
    "tied": Tied,
    "topk": TopK,
    "batch_topk": BatchTopK,
    "jumprelu": JumpReLU,
    "gated": Gated,
    "matryoshka": Matryoshka,
    "transcoder": Transcoder,
}


def build(settings: Mapping[str, Any]) -> Architecture:
    """The architecture that resolved settings ask for."""
    name = settings["architecture"]
    check_architecture(name, "SAE settings")
    return REGISTRY[name](settings)
