"""Ablating latents with nnsight, for interventions.py, in the environment that has nnsight.

    envs/run interop python benchmarks/interventions_nnsight.py

Prints `ready` once nnsight is loaded. Each line of the standard input is then a job in JSON: `case` (the folder of a
Case), `latents`, `together` (how many latents share a trace, each in an invoke of its own over all rows), `threads`,
`out`. The mean effects of zero-ablating each latent are written to `out` (.npz, outcome -> (latents, units)), and the
seconds that this took are printed. kl is left out.

nnsight edits what modules take and give when they are called. Othello's residual stream passes between methods
of a block, Franka's layers are functions over tensors: neither is the output of a module. So each site that is needed
becomes one, of an `nn.Identity`. A trace runs the whole module, from the observations on.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from intervention_settings import Case, read_case
from torch import Tensor, nn

from policylens.interventions.outcomes import VALUE
from policylens.interventions.subject import Subject
from policylens.policies.protocol import Policy

try:
    from nnsight import NNsight
except ImportError as error:
    sys.exit(str(error))


class Hookable(nn.Module):
    """A policy as a module that has some of its sites as modules."""

    def __init__(self, policy: Policy, observations: Sequence[str], sites: Sequence[str]) -> None:
        super().__init__()
        self.policy, self.observations = policy, observations
        self.sites = nn.ModuleDict({site: nn.Identity() for site in sites})

    def forward(self, *observations: Tensor) -> dict[str, Tensor]:
        """The head's outputs and the value, (n, units)."""
        carry = self.policy.begin(dict(zip(self.observations, observations, strict=True)), None)
        for stage in self.policy.stages:
            carry = stage.forward(carry)
            if stage.site.name in self.sites:
                carry = {**carry, stage.key: self.sites[stage.site.name](carry[stage.key])}
        heads, value, _ = self.policy.finish(carry)
        return heads.outputs() | {VALUE: value.reshape(-1, 1)}


class Bench:
    """A case, ready to be traced."""

    def __init__(self, case: Case) -> None:
        self.subject = case.subject()
        self.rows = [torch.from_numpy(values) for values in case.batch.values()]
        sites = [self.subject.site, *self.subject.outcomes.sites]
        self.model = NNsight(Hookable(case.policy, tuple(case.batch), sites))
        before = self.subject.baseline(True).outcomes
        self.before = {name: values.mean(0) for name, values in before.items()}

    @torch.no_grad()
    def effects(self, latents: Sequence[int], together: int) -> dict[str, np.ndarray]:
        """Mean effects (k, units) of zero-ablating each latent, so many of them per trace."""
        found: dict[str, list[np.ndarray]] = {}
        for at in range(0, len(latents), together):
            for outcomes in self._traced(latents[at : at + together]):
                for name, values in outcomes.items():
                    found.setdefault(name, []).append(values.mean(0).numpy() - self.before[name])
        return {name: np.stack(values) for name, values in found.items()}

    def _traced(self, latents: Sequence[int]) -> list[dict[str, Tensor]]:
        """Outcomes (n, units) of one trace, per latent."""
        saved = []
        with self.model.trace() as tracer:
            for latent in latents:
                with tracer.invoke(*self.rows):
                    site = getattr(self.model.sites, self.subject.site)
                    site.output = tracer.apply(without, site.output, self.subject, latent)
                    later = {name: getattr(self.model.sites, name).output.save() for name in self.subject.outcomes.saes}
                    saved.append((self.model.output.save(), later))
        return [self._outcomes(outputs.value, later) for outputs, later in saved]

    def _outcomes(self, outputs: Mapping[str, Tensor], later: Mapping[str, Any]) -> dict[str, Tensor]:
        saes = self.subject.outcomes.saes
        return {**outputs, **{name: saes[name].encode(read.value) for name, read in later.items()}}


def without(x: Tensor, subject: Subject, latent: int) -> Tensor:
    """The activation (n, d) without a latent's part."""
    return x - subject.sae.encode(x)[:, latent, None] * subject.sae.W_dec[latent]


def program() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr):
            seconds = timed(job)
        print(seconds, flush=True)


def timed(job: Mapping[str, Any]) -> float:
    torch.set_num_threads(job["threads"])
    bench = bench_of(job["case"])
    start = time.perf_counter()
    effects = bench.effects(job["latents"], job["together"])
    seconds = time.perf_counter() - start
    np.savez(job["out"], **effects)
    return seconds


@functools.lru_cache(maxsize=1)
def bench_of(path: str) -> Bench:
    return Bench(read_case(Path(path)))


if __name__ == "__main__":
    program()
