"""Any torch module as a policy, read and edited through forward hooks.

A module whose inside is not known cannot be started in the middle. Resuming therefore runs it from the observations
and puts the kept activation in place when the site is reached: exact, and as costly as a whole pass. A family of
its own, with stages, resumes at the cost of the rest alone.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from policylens.errors import UserError
from policylens.policies.checkpoint import take_tensors
from policylens.policies.heads import Discrete, Gaussian, Heads
from policylens.policies.module.family import site_name
from policylens.policies.module.family import sites as sites_of
from policylens.policies.protocol import Batch, Carry, Edit, Pass, Policy, edited
from policylens.policies.sites import Site


class _Stop(Exception):
    """Raised inside a hook to leave the forward pass once its last needed site is known."""


class ModulePolicy(Policy):
    """A user's module with some submodules as sites."""

    def __init__(self, record: Mapping[str, Any], module: nn.Module) -> None:
        self.record = record
        self.module = module.eval().requires_grad_(False)
        parameter = next(module.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        architecture = record["architecture"]
        self._sites = {site.name: site for site in sites_of(record)}
        self._submodules = {
            site_name(entry["submodule"]): module.get_submodule(entry["submodule"])
            for entry in architecture["sites"]
        }
        self._inputs, self._head = architecture["inputs"], architecture["head"]

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
    ) -> Pass:
        """See :meth:`Policy.run`. The batch is part of the cache, since resuming needs it."""
        edit, read = dict(edit or {}), set(read)
        wanted = {*read, *edit, *([stop_after] if stop_after else []), *([resume[0]] if resume else [])}
        for site in sorted(wanted - self._sites.keys()):
            raise UserError(f"the policy has no site {site!r}; it has {', '.join(self._sites)}")
        kept = None
        if resume is not None:
            carry = resume[1][resume[0]]
            batch, kept = carry["batch"], (resume[0], carry["activation"])
        if batch is None:
            raise UserError("a run needs a batch of observations, or a cache to resume from")
        return self._hooked(batch, wanted, read, edit, kept, stop_after)

    def _hooked(
        self,
        batch: Batch,
        wanted: set[str],
        read: set[str],
        edit: Mapping[str, Edit],
        kept: tuple[str, Tensor] | None,
        stop_after: str | None,
    ) -> Pass:
        result = Pass()
        seen: set[str] = set()

        def at(site: str, output: Tensor) -> Tensor:
            if site in seen:
                raise UserError(f"site {site!r}: its submodule is used more than once in a pass; choose another")
            seen.add(site)
            _check_output(site, output, self._sites[site].width)
            activation = kept[1] if kept and kept[0] == site else output
            if site in edit:
                activation = edited(activation, edit[site], site)
            if site in read:
                result.reads[site] = activation
                result.cache[site] = {"batch": batch, "activation": activation}
            if site == stop_after:
                raise _Stop
            return activation

        handles = [
            self._submodules[site].register_forward_hook(lambda _m, _i, output, site=site: at(site, output))
            for site in wanted
        ]
        try:
            output = self.module(*(self._tensor(batch, name) for name in self._inputs))
        except _Stop:
            return result
        finally:
            for handle in handles:
                handle.remove()
        result.heads, result.value = self._read_output(output, batch)
        return result

    def _tensor(self, batch: Batch, name: str) -> Tensor:
        if name not in batch:
            raise UserError(f"the batch has no array {name!r}, which the module's forward takes; it has {', '.join(batch)}")
        tensor = torch.as_tensor(batch[name]).to(self.device)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def _read_output(self, output: Any, batch: Batch) -> tuple[Heads, Tensor | None]:
        """Heads and value from what forward returned: a tensor, or a tuple (head, value)."""
        head, value = output if isinstance(output, tuple) else (output, None)
        value = None if value is None else value.reshape(len(head))
        if self._head == "gaussian":
            log_std = getattr(self.module, "log_std", None)
            return Gaussian(head, torch.zeros_like(head) if log_std is None else log_std.detach()), value
        legal = torch.as_tensor(batch["legal"], device=self.device) if "legal" in batch else None
        return Discrete(head, legal), value


def _check_output(site: str, output: Any, width: int) -> None:
    if not isinstance(output, Tensor) or output.shape[-1] != width:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"site {site!r}: its submodule gives {got}, the config says a tensor of width {width}")


def build(
    record: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str, dtype: torch.dtype | None
) -> ModulePolicy:
    """The module that policy.json describes, with its weights loaded strictly."""
    architecture = record["architecture"]
    module = load_class(architecture["class"])(**architecture.get("arguments", {}))
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    module.load_state_dict(take_tensors(tensors, expected, architecture["class"]))
    for entry in architecture["sites"]:
        try:
            module.get_submodule(entry["submodule"])
        except AttributeError:
            names = [name for name, _ in module.named_modules() if name]
            raise UserError(
                f"{architecture['class']} has no submodule {entry['submodule']!r}; it has: {', '.join(names)}"
            ) from None
    return ModulePolicy(record, module.to(device=device, dtype=dtype))


def load_class(address: str) -> type[nn.Module]:
    """The class at `path/to/file.py:Name` or `package.module:Name`. This runs the user's own file."""
    place, _, name = address.partition(":")
    if not name:
        raise UserError(f"class {address!r}: write path/to/file.py:ClassName or package.module:ClassName")
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise UserError(f"class {address!r}: there is no file {place}")
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise UserError(f"class {address!r}: {error}") from None
    if not isinstance(getattr(module, name, None), type):
        raise UserError(f"class {address!r}: {place} has no class {name}")
    return getattr(module, name)
