"""Any torch module as a policy, read and edited through forward hooks.

A module whose inside is not known cannot be started in the middle. Resuming therefore runs it from the observations
and puts the kept activation in place when the site is reached: exact, and as costly as a whole pass. A family of
its own, with stages, resumes at the cost of the rest alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from policylens.errors import UserError
from policylens.policies.checkpoint import take_tensors
from policylens.policies.heads import Discrete, Gaussian, Heads
from policylens.policies.module.family import site_name
from policylens.policies.module.family import sites as sites_of
from policylens.policies.module.loading import construct
from policylens.policies.protocol import Batch, Carry, Edit, Pass, Policy, edited, kept_carry
from policylens.policies.sites import Site


class _Stop(Exception):
    """Raised inside a hook to leave the forward pass once its last needed site is known."""


@dataclass
class _Wishes:
    """What one pass shall do at the sites, and what it has done so far."""

    read: set[str]
    edit: Mapping[str, Edit]
    kept: tuple[str, Tensor] | None
    stop_after: str | None
    early: bool
    seen: list[str] = field(default_factory=list)

    @property
    def sites(self) -> set[str]:
        """All sites that the pass has to do with."""
        named = [*([self.stop_after] if self.stop_after else []), *([self.kept[0]] if self.kept else [])]
        return {*self.read, *self.edit, *named}

    @property
    def done(self) -> bool:
        """Whether the pass may end here: the site to stop after is known, and so is all that is read."""
        return self.early and self.stop_after in self.seen and self.read <= set(self.seen)


class ModulePolicy(Policy):
    """A user's module with some submodules as sites."""

    def __init__(self, record: Mapping[str, Any], module: nn.Module) -> None:
        self.record = record
        self.module = module.eval().requires_grad_(False)
        self.device, self.dtype = _place(module)
        self._sites = {site.name: site for site in sites_of(record)}
        self._submodules = {
            site_name(entry["submodule"]): module.get_submodule(entry["submodule"])
            for entry in record["architecture"]["sites"]
        }
        self._passed: set[str] = set()

    @property
    def sites(self) -> dict[str, Site]:
        """Sites by name, in the order in which policy.json lists them."""
        return self._sites

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
        """See :meth:`Policy.run`. The batch is part of the cache, since resuming needs it. No site is repeated.

        Which site comes first is only known once a pass has been there: a pass that stops early does so from the
        second time on, when its sites are known to be reached exactly once.
        """
        for site in {*read, *(edit or {}), *([stop_after] if stop_after else []), *([resume[0]] if resume else [])}:
            if site not in self._sites:
                raise UserError(f"the policy has no site {site!r}; it has {', '.join(self._sites)}")
        kept = None
        if resume is not None:
            carry = kept_carry(resume)
            batch, kept = carry["batch"], (resume[0], carry["activation"])
        if batch is None:
            raise UserError("a run needs a batch of observations, or a cache to resume from")
        wishes = _Wishes(set(read), dict(edit or {}), kept, stop_after, early=False)
        wishes.early = stop_after is not None and wishes.sites <= self._passed
        return self._hooked(batch, wishes)

    def entry(self, site: str) -> str:
        """See :meth:`Policy.entry`."""
        return "activation"

    def _hooked(self, batch: Batch, wishes: _Wishes) -> Pass:
        result = Pass()
        handles = [
            self._submodules[site].register_forward_hook(functools.partial(self._at, site, batch, wishes, result))
            for site in wishes.sites
        ]
        try:
            output = self.module(*(self._tensor(batch, name) for name in self.record["architecture"]["inputs"]))
            self._check_used_once(wishes)
        except _Stop:
            output = None
        finally:
            for handle in handles:
                handle.remove()
        _check_order(wishes)
        if wishes.stop_after is None:
            result.heads, result.value = self._read_output(output, batch)
        return result

    def _at(self, site: str, batch: Batch, wishes: _Wishes, result: Pass, *hooked: Any) -> Tensor:
        """What a site's forward hook does; its last argument is the submodule's output."""
        output = hooked[-1]
        if site in wishes.seen:
            raise UserError(f"site {site!r}: its submodule is used more than once in a pass; choose another")
        wishes.seen.append(site)
        _check_output(site, output, self._sites[site].width)
        kept = wishes.kept is not None and wishes.kept[0] == site
        activation = wishes.kept[1].clone() if kept else output
        if site in wishes.edit:
            activation = edited(activation, wishes.edit[site], site)
        if site in wishes.read:
            # A copy: what comes after may change the activation in place (nn.ReLU(inplace=True)).
            result.reads[site] = activation.clone()
            result.cache[site] = {"batch": batch, "activation": result.reads[site]}
        if wishes.done:
            raise _Stop
        return activation

    def _check_used_once(self, wishes: _Wishes) -> None:
        """After a whole pass: every site was reached (that none was twice, the hooks have seen)."""
        for site in sorted(wishes.sites - set(wishes.seen)):
            raise UserError(f"site {site!r}: its submodule is not used in a forward pass; choose another")
        self._passed |= wishes.sites

    def _tensor(self, batch: Batch, name: str) -> Tensor:
        if name not in batch:
            raise UserError(
                f"the batch has no array {name!r}, which the policy takes; it has {', '.join(batch) or 'none'}"
            )
        tensor = torch.as_tensor(batch[name]).to(self.device)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def _read_output(self, output: Any, batch: Batch) -> tuple[Heads, Tensor | None]:
        """Heads and value from what forward returned: a tensor, or a tuple (head, value)."""
        architecture = self.record["architecture"]
        head, value = output if isinstance(output, tuple) and len(output) == 2 else (output, None)
        if not isinstance(head, Tensor) or head.ndim != 2:
            raise UserError(f"{architecture['class']}: forward must give (n, actions), or that and a value")
        value = None if value is None else value.reshape(len(head))
        if architecture["head"] == "gaussian":
            log_std = getattr(self.module, "log_std", None)
            return Gaussian(head, torch.zeros_like(head) if log_std is None else log_std.detach()), value
        legal = self._tensor(batch, architecture["legal"]).bool() if "legal" in architecture else None
        return Discrete(head, legal), value


def _check_order(wishes: _Wishes) -> None:
    if wishes.kept is None:
        return
    before = wishes.seen[: wishes.seen.index(wishes.kept[0])] if wishes.kept[0] in wishes.seen else wishes.seen
    for site in sorted({*wishes.read, *wishes.edit} & set(before)):
        raise UserError(f"site {site!r} is computed before {wishes.kept[0]!r}, where the run resumes")


def _place(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and floating precision of a module's tensors."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32


def _check_output(site: str, output: Any, width: int) -> None:
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[-1] != width:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"site {site!r}: its submodule gives {got}, the config says a tensor (rows, {width})")


def build(
    record: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str, dtype: torch.dtype | None
) -> ModulePolicy:
    """The module that policy.json describes, with its weights loaded strictly.

    dtype: None for the file's own precision, the widest where it has several.
    """
    architecture = record["architecture"]
    module = construct(architecture["class"], architecture.get("arguments", {}))
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    taken = take_tensors(tensors, expected, architecture["class"])
    floating = [tensor.dtype for tensor in taken.values() if tensor.is_floating_point()]
    if floating:
        module.to(dtype=functools.reduce(torch.promote_types, floating))  # before loading: no weight is rounded
    module.load_state_dict(taken)
    for entry in architecture["sites"]:
        try:
            module.get_submodule(entry["submodule"])
        except AttributeError:
            names = [name for name, _ in module.named_modules() if name]
            raise UserError(
                f"{architecture['class']} has no submodule {entry['submodule']!r}; it has: {', '.join(names)}"
            ) from None
    return ModulePolicy(record, module.to(device=device, dtype=dtype))
