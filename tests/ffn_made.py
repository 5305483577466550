"""A small policy with feed-forward layers, tokens of its own and padding, and records and clusters of made-up units."""

from __future__ import annotations

import numpy as np
import torch
from franka_small import small_policy

from policylens.policies.editing import Edited
from policylens.policies.protocol import Vocabulary

SITES = ("block_1_hidden", "block_2_hidden")
TOKENS = ["\u2581open", "\u2581Open", "ing", "\u2581close", "<script>alert(1)</script>", "$x$"]


class Speaking(Edited):
    """The small transformer with a vocabulary, and rows of which only the first positions hold something."""

    def __init__(self, tokens=50, held=None, tied=False):
        super().__init__(small_policy("transformer"), {})
        generator = torch.Generator().manual_seed(1)
        self.words = [*TOKENS, *(f"t{number}" for number in range(tokens - len(TOKENS)))]
        self.unembedding, self.embedding = torch.randn(2, tokens, 16, generator=generator)
        self.embedding = self.unembedding if tied else self.embedding
        self.held = held

    def vocabulary(self):
        return Vocabulary(self.words, self.unembedding, self.embedding)

    def valid(self, site, batch):
        if self.held is None:
            return None
        flags = torch.zeros(len(batch["observations"]), dict(self.sites[site].inner)["token"], dtype=torch.bool)
        flags[:, : self.held] = True
        return flags


def numbered(batches, rows):
    """Batches of observations, each with episodes of two steps."""
    start = 0
    for batch in batches:
        numbers = np.arange(start, start + rows)
        start += rows
        yield batch, (numbers // 2, numbers % 2)


def blobs(clusters=4, each=20, width=16, spread=0.15, seed=0):
    """(points, labels): groups of vectors around random directions."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, width))
    labels = np.repeat(np.arange(clusters), each)
    return (centres[labels] + spread * rng.normal(size=(clusters * each, width))).astype(np.float32), labels


def record(layer, neuron, tokens=(), vector=None, largest=1.0):
    words = [{"token": word, "logit": float(len(tokens) - place)} for place, word in enumerate(tokens)]
    found = {"layer_index": layer, "neuron_index": neuron, "max_activation": largest, "top_tokens": words}
    return found | ({} if vector is None else {"value_vector": vector})
