"""A policy that is edited wherever it runs: in a rollout, in a search, in a match."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from policylens.errors import UserError
from policylens.policies.heads import Heads
from policylens.policies.protocol import Batch, Carry, Edit, Pass, Policy, Stage, Vocabulary
from policylens.policies.sites import TOKEN_KINDS, Site


class OnKinds:
    """An edit of tokens of some kinds alone; all others stay as they are. kinds: names of TOKEN_KINDS."""

    def __init__(self, edit: Edit, kinds: Sequence[str]) -> None:
        unknown = [kind for kind in kinds if kind not in TOKEN_KINDS]
        if unknown or not kinds:
            raise UserError(f"there is no kind of token {unknown[0] if unknown else ''!r}; there are: {TOKEN_KINDS}")
        self.edit, self.kinds = edit, tuple(kinds)

    def __call__(self, x: Tensor) -> Tensor:
        """(n, tokens, d) -> the same shape; where it counts is for :meth:`Policy.run` to say."""
        return self.edit(x)


class Edited(Policy):
    """A policy with edits that are part of it: every pass that comes by their sites has them.

    policy: what is edited; it stays as it is. edits: site -> function, as `Policy.run` takes them. An edit that a
    run gives for the same site comes after it. Raises UserError for a site that the policy does not have.
    """

    def __init__(self, policy: Policy, edits: Mapping[str, Edit]) -> None:
        for site in edits:
            if site not in policy.sites:
                raise UserError(f"the policy has no site {site!r}; it has {', '.join(policy.sites)}")
        self.policy, self.edits = policy, dict(edits)
        self.record, self.device, self.dtype = policy.record, policy.device, policy.dtype
        self.recurrent = policy.recurrent

    @property
    def stages(self) -> Sequence[Stage]:
        """The policy's own."""
        return self.policy.stages

    @property
    def observations(self) -> tuple[str, ...]:
        """The policy's own."""
        return self.policy.observations

    @property
    def sites(self) -> dict[str, Site]:
        """The policy's own."""
        return self.policy.sites

    def affine(self, site: str) -> tuple[str, Tensor] | None:
        """The policy's own, unless an edit stands between."""
        found = self.policy.affine(site)
        return None if found is None or found[0] in self.edits else found

    def value_vectors(self, site: str) -> Tensor | None:
        """The policy's own."""
        return self.policy.value_vectors(site)

    def vocabulary(self) -> Vocabulary | None:
        """The policy's own."""
        return self.policy.vocabulary()

    def valid(self, site: str, batch: Batch) -> Tensor | None:
        """The policy's own."""
        return self.policy.valid(site, batch)

    def entry(self, site: str) -> str:
        """The policy's own."""
        return self.policy.entry(site)

    def begin(self, batch: Batch, state: Any) -> Carry:
        """The policy's own."""
        return self.policy.begin(batch, state)

    def finish(self, carry: Carry) -> tuple[Heads, Any, Any]:
        """The policy's own."""
        return self.policy.finish(carry)

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
        """See :meth:`Policy.run`; reads and caches have the edits in them.

        A pass resumed from such a cache does not make them again up to and at the site that it starts from.
        """
        order = list(self.sites)
        first = order.index(resume[0]) + 1 if resume is not None and resume[0] in order else 0
        last = order.index(stop_after) if stop_after in order else len(order) - 1
        own = {site: change for site, change in self.edits.items() if first <= order.index(site) <= last}
        more = dict(edit or {})
        both = {site: _one_after_the_other(own[site], more[site]) for site in own.keys() & more.keys()}
        edits = {**own, **more, **both}
        return self.policy.run(batch, state, read=read, edit=edits, resume=resume, stop_after=stop_after, times=times)


def _one_after_the_other(first: Edit, second: Edit) -> Edit:
    def both(x: Tensor) -> Tensor:
        return second(first(x))

    kinds = getattr(first, "kinds", None)
    if kinds != getattr(second, "kinds", None):
        raise UserError("two edits at one site must be of the same kinds of tokens")
    return both if kinds is None else OnKinds(both, kinds)
