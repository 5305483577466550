"""Value vectors read as tokens: their products with an unembedding, in memory that its size does not touch."""

from __future__ import annotations

import torch
from torch import Tensor

from policylens.errors import UserError

CHUNK = 8192
"""Tokens at once."""


@torch.no_grad()
def top_tokens(vectors: Tensor, unembedding: Tensor, k: int, chunk: int = CHUNK) -> tuple[Tensor, Tensor]:
    """The k tokens with the largest logits v . u, for each vector: logits float32 and ids int64, (n, k), largest first.

    vectors: (n, d). unembedding: (v, d), of any float type and on any device; no final norm is applied. Of equal
    logits those of smaller ids are taken and stand first, whatever the chunk. Peak memory beside the inputs: a chunk of
    the unembedding in float32 and about three times n x chunk numbers.
    """
    if vectors.shape[1] != unembedding.shape[1]:
        raise UserError(
            f"value vectors have {vectors.shape[1]} numbers, the unembedding's rows {unembedding.shape[1]}: these "
            "units do not write into the stream that the vocabulary is read from; choose other sites"
        )
    if k > len(unembedding):
        raise UserError(f"{k} tokens are wanted of a vocabulary of {len(unembedding)}; ask for fewer")
    vectors = vectors.float().to(unembedding.device)
    values = vectors.new_empty((len(vectors), 0))
    ids = torch.empty((len(vectors), 0), dtype=torch.int64, device=values.device)
    for start in range(0, len(unembedding), chunk):
        logits = vectors @ unembedding[start : start + chunk].float().T
        count = logits.shape[1]
        if values.shape[1] == k:  # an equal logit comes too late: only larger ones count
            count = int((logits > values[:, -1:]).sum(1).max())
        if count == 0:
            continue
        places = logits.topk(count).indices.sort(dim=1).values  # by id, so that the stable sort below keeps their order
        values = torch.cat([values, logits.gather(1, places)], dim=1)
        ids = torch.cat([ids, places + start], dim=1)
        values, order = values.sort(dim=1, descending=True, stable=True)
        values, ids = values[:, :k], ids.gather(1, order)[:, :k]
    return values.cpu(), ids.cpu()


@torch.no_grad()
def mean_embeddings(ids: Tensor, embedding: Tensor) -> Tensor:
    """(n, d) float32: mean embedding of each row's tokens. ids: (n, k). embedding: (v, d)."""
    return torch.stack([embedding[row].float().mean(0) for row in ids.to(embedding.device)]).cpu()
