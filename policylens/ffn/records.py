"""The strongest units of each layer as records: what they answer most to, what they write, which tokens that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.ffn.projection import CHUNK, mean_embeddings, top_tokens
from policylens.policies.protocol import Policy, Vocabulary

Arrays = Mapping[str, np.ndarray]
Record = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """top_k_per_layer: at most so many units of each site. minimum: of their max |a|. layers: numbers; () for all."""

    top_k_per_layer: int = 32
    minimum: float = 0.0
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """Units as records, and what they are clustered by.

    records: layer by layer in the order of computation, in each the strongest first. vectors: (n, d) float32 value
    vectors. semantic: (n, d) mean embeddings of their top tokens; None without a vocabulary. language: see Vocabulary.
    """

    records: list[Record]
    vectors: Tensor
    semantic: Tensor | None
    language: bool | None = None


def strongest(arrays: Arrays, choice: Choice, by: str = "max_abs") -> np.ndarray:
    """Units of one site by max |a|, the strongest first, of equals the smaller number; none below the minimum."""
    values = arrays[by]
    order = np.argsort(-values, kind="stable")[: choice.top_k_per_layer]
    return order[values[order] >= choice.minimum]


def chosen_units(
    policy: Policy,
    found: Mapping[str, Arrays],
    sites: Sequence[Mapping[str, Any]],
    choice: Choice,
    projection: Mapping[str, Any] | None,
) -> Chosen:
    """Records of the strongest units. sites: name and layer of each, as the store has them.

    projection: top_k_tokens and chunk; None to read tokens where the policy has a vocabulary, with the defaults. Raises
    UserError for layers that are not there, streams of different widths, and tokens that the policy does not have.
    """
    taken = _wanted(sites, choice.layers)
    records: list[Record] = []
    vectors: list[Tensor] = []
    for site in taken:
        own = policy.value_vectors(site["name"])
        units = strongest(found[site["name"]], choice)
        records += [_record(site, int(unit), found[site["name"]]) for unit in units]
        vectors.append(own[torch.from_numpy(units).to(own.device)].detach().float().cpu())
    widths = {site["name"]: one.shape[1] for site, one in zip(taken, vectors, strict=True)}
    if len(set(widths.values())) > 1:
        told = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise UserError(
            f"the sites write into streams of different widths ({told}); give each stream a block of its own"
        )
    if not records:
        raise UserError(
            f"no unit reaches |a| of {choice.minimum:g}; lower `minimum` (the largest is "
            f"{max(float(found[site['name']]['max_abs'].max()) for site in taken):.3g})"
        )
    stacked, semantic = torch.cat(vectors), None
    vocabulary = policy.vocabulary()
    if projection is not None and vocabulary is None:
        raise UserError("the policy has no vocabulary: value vectors cannot be read as tokens; leave out `projection`")
    if vocabulary is not None:
        semantic = _with_tokens(records, stacked, vocabulary, projection or {})
    return Chosen(records, stacked, semantic, None if vocabulary is None else vocabulary.language)


def _wanted(sites: Sequence[Mapping[str, Any]], layers: Sequence[int]) -> list[Mapping[str, Any]]:
    numbers = [site["layer"] for site in sites]
    if missing := sorted(set(layers) - set(numbers)):
        raise UserError(f"there is no layer {missing[0]} among the sites; there are {', '.join(map(str, numbers))}")
    taken = [site for site in sites if not layers or site["layer"] in layers]
    for site in taken:
        if [one["layer"] for one in taken].count(site["layer"]) > 1:
            raise UserError(f"two sites are of layer {site['layer']}; give each stack of layers a block of its own")
    return taken


def _record(site: Mapping[str, Any], unit: int, arrays: Arrays) -> Record:
    return {
        "site": site["name"],
        "layer_index": site["layer"],
        "neuron_index": unit,
        "max_activation": float(arrays["max_abs"][unit]),
        "activation": float(arrays["max_value"][unit]),
        "mean_activation": float(arrays["mean_abs"][unit]),
        "share_above": float(arrays["share_above"][unit]),
        "reached": {name: int(arrays[name][unit]) for name in ("episode", "step", "token")},
        "top_tokens": [],
    }


def _with_tokens(
    records: Sequence[Record], vectors: Tensor, vocabulary: Vocabulary, projection: Mapping[str, Any]
) -> Tensor:
    """Put the top tokens into the records; returns their mean embeddings."""
    k, chunk = projection.get("top_k_tokens", 10), projection.get("chunk", CHUNK)
    values, ids = top_tokens(vectors, vocabulary.unembedding, k, chunk)
    for record, logits, numbers in zip(records, values.tolist(), ids.tolist(), strict=True):
        record["top_tokens"] = [
            {"token": vocabulary.tokens[number], "logit": logit} for logit, number in zip(logits, numbers, strict=True)
        ]
    return mean_embeddings(ids, vocabulary.embedding)


def overlap(found: Mapping[str, Arrays], names: Sequence[str], choice: Choice) -> dict[str, float | None]:
    """Site -> Jaccard index of the units chosen on episodes of even and of odd number: 1 the same, 0 none in common.

    None where all rows are of one half.
    """
    shares: dict[str, float | None] = {}
    for name in names:
        halves = found[name]["max_abs_halves"].T
        even, odd = (set(strongest({"max_abs": half}, choice).tolist()) for half in halves)
        seen = (halves >= 0).any(1).all()
        shares[name] = len(even & odd) / max(1, len(even | odd)) if seen else None
    return shares
