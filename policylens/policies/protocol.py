"""The one way in which every policy is run: reads, edits, resuming from the middle, stopping early.

A policy's forward pass is a row of *stages*. Between two stages the pass holds a *carry*: a dict of tensors that
is everything the rest of the network needs. A stage ends at a site: the carry's entry `key` is the site's
activation. Reading is looking at that entry, editing is replacing it, resuming is starting from a kept carry;
nothing else is needed, whatever the network looks like inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.policies import registry
from policylens.policies.heads import Heads
from policylens.policies.sites import TOKEN_KINDS, Site

Carry = dict[str, Any]
Batch = Mapping[str, Any]
Edit = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Stage:
    """A piece of the network that ends at a site.

    site: where it ends.
    key: the carry's entry that is the site's activation, (n, *inner, width).
    forward: carry before -> carry after. It must not change the carry it is given, nor tensors in it.
    tokens: the carry's entry that says what the site's positions are (:class:`Tokens`), where it has such.
    repeated: whether a pass comes by the site several times, as an iterative head does at each denoising step. There is
        one stage for each time, with (n, *inner[1:], width) at `key`; reads are stacked along the first inner axis.
    """

    site: Site
    key: str
    forward: Callable[[Carry], Carry]
    tokens: str | None = None
    repeated: bool = False


@dataclass(frozen=True)
class Tokens:
    """What the positions of a site are. kinds, ids: (n, tokens) integers.

    kinds: index into `policylens.policies.sites.TOKEN_KINDS`, or -1 for padding, which nothing reads. ids: of the
    vocabulary, or -1 where a position is no word.
    """

    kinds: Tensor
    ids: Tensor


@dataclass
class Pass:
    """What one run gives.

    heads: distribution over actions, or None after `stop_after`.
    value: (n,) the policy's own value estimate in its own units, or None if it has none.
    state: recurrent state after the run, or None.
    reads: activation per site read, (n, *inner, width).
    cache: carry per site read; give one back as `resume=(site, cache)`. A repeated site has none.
    tokens: per site read that has such, what its positions are.
    """

    heads: Heads | None = None
    value: Tensor | None = None
    state: Any = None
    reads: dict[str, Tensor] = field(default_factory=dict)
    cache: dict[str, Carry] = field(default_factory=dict)
    tokens: dict[str, Tokens] = field(default_factory=dict)


@dataclass(frozen=True)
class Vocabulary:
    """What a policy's network makes of texts, for reading directions of its residual stream as tokens.

    tokens: (v,) as the tokenizer spells them. unembedding: (v, d), one row per token: the logit of a token is the
    row's product with the stream. embedding: (v, d), what a token enters the stream as; the same tensor where tied.
    language: whether the unembedding has learnt to write a language; None where that is not known.
    """

    tokens: Sequence[str]
    unembedding: Tensor
    embedding: Tensor
    language: bool | None = None


class Policy:
    """A policy as a row of stages. Families subclass it and give `stages`, `begin` and `finish`.

    record: the parsed policy.json.
    device, dtype: where and in which precision the weights are.
    recurrent: whether a row is one step of an episode whose steps hand a state on: a tensor (n, ...), or a mapping of
        such. If not, a pass computes its rows independently of each other.
    """

    record: Mapping[str, Any]
    device: torch.device
    dtype: torch.dtype
    recurrent: bool = False

    @property
    def stages(self) -> Sequence[Stage]:
        """The stages in the order in which the network computes them."""
        raise TypeError(f"{type(self).__name__} does not define its stages")

    def begin(self, batch: Batch, state: Any) -> Carry:
        """The carry before the first stage: observations as tensors on the policy's device."""
        raise TypeError(f"{type(self).__name__} does not define how a pass begins")

    def finish(self, carry: Carry) -> tuple[Heads, Tensor | None, Any]:
        """Heads, value and new recurrent state from the carry after the last stage."""
        raise TypeError(f"{type(self).__name__} does not define how a pass ends")

    @property
    def observations(self) -> tuple[str, ...]:
        """Names of the source's arrays that make up a batch for this policy."""
        return registry.family(self.record["family"]).observations(self.record)

    @property
    def sites(self) -> dict[str, Site]:
        """All sites by name, in the order of computation."""
        return {stage.site.name: stage.site for stage in self.stages}

    def run(
        self,
        batch: Batch | None = None,
        state: Any = None,
        *,
        read: Iterable[str] = (),
        edit: Mapping[str, Edit] | None = None,
        resume: tuple[str, Mapping[str, Carry]] | None = None,
        stop_after: str | None = None,
        times: int | None = None,
    ) -> Pass:
        """Run the policy once over a batch.

        batch: observations with a common leading axis n; not needed with `resume`.
        state: recurrent state, or None at the start of an episode.
        read: sites whose activations (after any edit) and carries are returned.
        edit: per site a function from its activation to a replacement of the same shape; at a repeated site it is
            called each time. An edit with an attribute `kinds` (:class:`policylens.policies.editing.OnKinds`) changes
            tokens of these kinds alone.
        resume: (site, cache of an earlier pass): start right after that site instead of at the
            observations. The site itself can still be edited and read.
        stop_after: return as soon as this site has been computed; heads, value and state are then None.
        times: how often a repeated site is computed before the pass stops there; as often as there is if None.

        Raises UserError for a site that the policy does not have, or one that this run does not come by: it lies
        before the point of resumption, or after the site to stop at; and for `times` that there are not.
        """
        edit = dict(edit or {})
        read = set(read)
        first = 0 if resume is None else self._position(resume[0])
        last = len(self.stages) - 1 if stop_after is None else self._stop_position(stop_after, times)
        self._check_reachable([*read, *edit, *([stop_after] if stop_after else [])], first, last)
        result, repeats = Pass(), {}
        if resume is None and batch is None:
            raise UserError("a run needs a batch of observations, or a cache to resume from")
        carry = self.begin(batch, state) if resume is None else kept_carry(resume)
        for number, stage in enumerate(self.stages[first : last + 1]):
            if resume is None or number > 0:
                carry = stage.forward(carry)
            name = stage.site.name
            if name in edit:
                carry = {**carry, stage.key: edited(carry[stage.key], edit[name], name, _tokens(stage, carry))}
            if name in read:
                _note(result, repeats, stage, carry)
        result.reads |= {name: torch.stack(values, dim=1) for name, values in repeats.items()}
        if stop_after is None:
            result.heads, result.value, result.state = self.finish(carry)
        return result

    def affine(self, site: str) -> tuple[str, Tensor] | None:
        """A later site that is all that depends on this one, and is affine in it: its name and the weight, (d, d').

        A change of the activation by v changes that site's by v @ weight, and reaches the rest through it alone. None
        where there is no such site, or the family does not say.
        """
        return None

    def value_vectors(self, site: str) -> Tensor | None:
        """What each unit of a feed-forward layer's hidden site writes into the residual stream, (width, d).

        Row i is added once per unit of activation of unit i: a column of the layer's second linear map. None at every
        other site.
        """
        return None

    def vocabulary(self) -> Vocabulary | None:
        """The tokens that the residual stream can be read as; None for a policy without a language model."""
        return None

    def valid(self, site: str, batch: Batch) -> Tensor | None:
        """Which positions of a site hold something, (n, *inner) bool: not padding, not a camera that is not there.

        None: all of them. Of a repeated site the positions of each time.
        """
        return None

    def entry(self, site: str) -> str:
        """The carry's entry that is a site's activation: a cache may be resumed from with another one in its place."""
        return self.stages[self._position(site)].key

    def _position(self, site: str) -> int:
        for position, stage in enumerate(self.stages):
            if stage.site.name == site:
                return position
        raise UserError(f"the policy has no site {site!r}; it has {', '.join(self.sites)}")

    def _stop_position(self, site: str, times: int | None) -> int:
        self._position(site)
        positions = [position for position, stage in enumerate(self.stages) if stage.site.name == site]
        times = len(positions) if times is None else times
        if not 1 <= times <= len(positions):
            raise UserError(f"site {site!r} is computed {len(positions)} times in a pass; it cannot stop after {times}")
        return positions[times - 1]

    def _check_reachable(self, sites: Iterable[str], first: int, last: int) -> None:
        for site in sites:
            position = self._position(site)
            if position < first:
                raise UserError(
                    f"site {site!r} is computed before {self.stages[first].site.name!r}, where the run resumes"
                )
            if position > last:
                raise UserError(f"site {site!r} is computed after {self.stages[last].site.name!r}, where the run stops")


def _tokens(stage: Stage, carry: Carry) -> Tokens | None:
    return None if stage.tokens is None else carry[stage.tokens]


def _note(result: Pass, repeats: dict[str, list[Tensor]], stage: Stage, carry: Carry) -> None:
    """Keep what a stage that is read holds."""
    name, tokens = stage.site.name, _tokens(stage, carry)
    if tokens is not None:
        result.tokens[name] = tokens
    if stage.repeated:
        repeats.setdefault(name, []).append(carry[stage.key])
    else:
        result.reads[name], result.cache[name] = carry[stage.key], carry


def carry_of_rows(carry: Mapping[str, Any], rows: Tensor, count: int) -> Carry:
    """A carry of `count` rows, cut down to some of them: what else it holds stays as it is.

    rows: (b,) int64, any order, repetitions allowed. The rows are what a pass computes independently of each other: a
    time step, a frame or a sequence, with everything that is coupled inside.
    """

    def taken(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: taken(part) for name, part in value.items()}
        if isinstance(value, Tokens):
            return Tokens(taken(value.kinds), taken(value.ids))
        if not hasattr(value, "shape") or tuple(value.shape[:1]) != (count,):
            return value
        return value[rows.to(value.device)] if isinstance(value, Tensor) else value[rows.cpu().numpy()]

    return {name: taken(value) for name, value in carry.items()}


def joined_carries(carries: Sequence[Mapping[str, Any]], counts: Sequence[int]) -> Carry:
    """The carries of consecutive batches, of so many rows each, as one."""

    def joined(values: Sequence[Any]) -> Any:
        first = values[0]
        if isinstance(first, Mapping):
            return {name: joined([value[name] for value in values]) for name in first}
        if isinstance(first, Tokens):
            return Tokens(joined([value.kinds for value in values]), joined([value.ids for value in values]))
        if not hasattr(first, "shape") or any(tuple(v.shape[:1]) != (n,) for v, n in zip(values, counts, strict=True)):
            return first
        return torch.cat(list(values)) if isinstance(first, Tensor) else np.concatenate(list(values))

    return {name: joined([carry[name] for carry in carries]) for name in carries[0]}


def kept_carry(resume: tuple[str, Mapping[str, Carry]]) -> Carry:
    """The carry to resume from; UserError if the earlier pass did not keep it."""
    site, cache = resume
    if site not in cache:
        kept = ", ".join(cache) or "none"
        raise UserError(f"the cache holds no site {site!r}, read it in the earlier pass; it holds: {kept}")
    return cache[site]


def edited(activation: Tensor, edit: Edit, site: str, tokens: Tokens | None = None) -> Tensor:
    """The edit's replacement of an activation, in the activation's precision; UserError if its shape differs.

    The edit gets a copy and may change it in place: the activation itself may be kept in a cache. Where the edit is of
    some kinds of tokens, the others stay as they are.
    """
    replacement = edit(activation.clone())
    if not isinstance(replacement, Tensor) or replacement.shape != activation.shape:
        got = f"shape {tuple(replacement.shape)}" if isinstance(replacement, Tensor) else type(replacement).__name__
        raise UserError(
            f"the edit at site {site!r} returned {got} where the activation has shape {tuple(activation.shape)}"
        )
    replacement = replacement.to(activation.dtype)
    kinds = getattr(edit, "kinds", None)
    if kinds is None:
        return replacement
    if tokens is None:
        raise UserError(f"the positions of site {site!r} are of no kind: an edit of some kinds does not fit there")
    return torch.where(of_kinds(tokens.kinds, kinds)[..., None], replacement, activation)


def of_kinds(kinds: Tensor, wanted: Iterable[str]) -> Tensor:
    """Which positions are of the wanted kinds (names of TOKEN_KINDS): kinds (n, tokens) -> bool (n, tokens)."""
    codes = torch.tensor([TOKEN_KINDS.index(name) for name in wanted], device=kinds.device)
    return torch.isin(kinds, codes)
