"""One layer of the language model or the action expert, cut where its feed-forward part's activations are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN = -1e30
"""Added to scores of keys that are not to be seen; finite, so that a query that sees none gives no NaN."""

Seen = tuple[Tensor, Tensor]
"""Keys and values, (n, kv heads, tokens, head_dim) each."""


@dataclass(frozen=True)
class Block:
    """layer: LeRobot's."""

    layer: nn.Module

    def attend(
        self, stream: Tensor, angles: Tensor, mask: Tensor, seen: Seen | None = None, condition: Tensor | None = None
    ) -> tuple[Tensor, Seen]:
        """The stream after attention, and the keys and values of this stream.

        stream: (n, tokens, width). angles: (n, 2, tokens, head_dim), cosines and sines of its positions. mask: added to
        scores, broadcast to (n, heads, tokens, all keys). seen: keys and values of other tokens, which stand before the
        stream's own. condition: (n, width) of adaptive norms.
        """
        from transformers.models.gemma.modeling_gemma import apply_rotary_pos_emb

        own = self.layer.self_attn
        normed, gate = self.layer.input_layernorm(stream, condition)
        heads = (*normed.shape[:2], -1, own.head_dim)
        query, key, value = (
            project(normed).view(heads).transpose(1, 2) for project in (own.q_proj, own.k_proj, own.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, *angles.unbind(1))
        keys, values = key, value
        if seen is not None:
            keys, values = torch.cat([seen[0], key], dim=2), torch.cat([seen[1], value], dim=2)
        groups = (-1, query.shape[1] // keys.shape[1])
        mixed = functional.scaled_dot_product_attention(
            query, _shared(keys, *groups), _shared(values, *groups), attn_mask=mask, scale=own.scaling
        )
        added = own.o_proj(mixed.transpose(1, 2).flatten(2))
        return stream + (added if gate is None else added * gate), (key, value)

    def hidden(self, attended: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the down-projection takes, (n, tokens, hidden), and the gate (n, 1, width) of what it gives."""
        normed, gate = self.layer.post_attention_layernorm(attended, condition)
        mlp = self.layer.mlp
        return mlp.act_fn(mlp.gate_proj(normed)) * mlp.up_proj(normed), gate

    def down(self, hidden: Tensor) -> Tensor:
        """(n, tokens, hidden) -> (n, tokens, width)."""
        return self.layer.mlp.down_proj(hidden)


def _shared(heads: Tensor, batch: int, count: int) -> Tensor:
    """Each of the kv heads for `count` query heads, without a copy where there is one."""
    n, own, tokens, size = heads.shape
    return heads[:, :, None].expand(n, own, count, tokens, size).reshape(n, own * count, tokens, size)


def key_mask(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """What keys (n, tokens) add to all scores: (n, 1, 1, tokens)."""
    return torch.where(valid, 0.0, HIDDEN).to(dtype)[:, None, None]


def own_mask(prefix: Tensor, is_state: Tensor) -> Tensor:
    """The expert's mask: all see the prefix, actions see state and actions, and the state sees the state.

    prefix: (n, 1, 1, tokens) of its keys. is_state: (n, suffix). Returns (n, 1, suffix, tokens + suffix).
    """
    n, count = is_state.shape
    closed = is_state[:, None, :, None] & ~is_state[:, None, None, :]
    own = torch.where(closed, HIDDEN, 0.0).to(prefix.dtype)
    return torch.cat([prefix.expand(n, 1, count, -1), own], dim=-1)
