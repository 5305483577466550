"""Helpers of many tests: running programs, comparing folders, a small policy, and the checks every policy must pass."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from policylens.capture.imports import import_rollout
from policylens.capture.settings import SPLIT
from policylens.capture.sources import write_source
from policylens.capture.splits import write_splits
from policylens.errors import UserError
from policylens.policies.heads import Discrete
from policylens.policies.importing import import_checkpoint
from policylens.policies.protocol import Pass, Policy

REPOSITORY = Path(__file__).resolve().parents[1]


# Programs


def environment(**more: str) -> dict[str, str]:
    """Environment variables under which a program finds this repository's library, and no workflow around it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("POLICYLENS_")}
    return kept | {"PYTHONPATH": str(REPOSITORY)} | more


def script_command(name: str, *arguments: object) -> list[str]:
    """The words that run `workflow_scripts/<name>.py`."""
    script = REPOSITORY / "workflow_scripts" / f"{name}.py"
    return [sys.executable, str(script), *(as_word(argument) for argument in arguments)]


def as_word(argument: object) -> str:
    """An argument as the command line has it: mappings as JSON."""
    return json.dumps(argument) if isinstance(argument, Mapping) else str(argument)


def run(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and keep what it printed."""
    options.setdefault("env", environment())
    return subprocess.run(words, capture_output=True, text=True, check=False, **options)


def run_script(name: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a workflow script, which must end well."""
    result = run(script_command(name, *arguments), **options)
    assert result.returncode == 0, result.stderr
    return result


def run_here(path: str, *arguments: object) -> None:
    """Run a program of the repository in this process, where torch has been loaded already; it must end well."""
    words = [str(REPOSITORY / path), *map(as_word, arguments)]
    with mock.patch.object(sys, "argv", words), mock.patch.object(sys, "path", [str(Path(words[0]).parent), *sys.path]):
        try:
            runpy.run_path(words[0], run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise AssertionError(f"{path} ended with {end.code}") from end


def policylens(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return run([sys.executable, "-m", "policylens", *map(str, arguments)], **options)


def clear_line(result: subprocess.CompletedProcess[str]) -> str:
    """The one line with which a program refused its input; fails if it ended in any other way."""
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 1, (result.returncode, result.stderr)
    assert lines[-1].startswith("error: "), result.stderr
    assert "Traceback" not in result.stderr
    return lines[-1].removeprefix("error: ")


@contextmanager
def refused(*parts: str) -> Iterator[None]:
    """Expect a UserError of one line that holds all the given parts."""
    with pytest.raises(UserError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message.strip()
    for part in parts:
        assert part in message


def tree(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def soon(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What a condition gives as soon as that is true, or falsehood if it takes far too long."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


# A small policy of the module family

NETWORK = '''
import torch
from torch import nn


class Net(nn.Module):
    """Six numbers in, four actions out."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(6, width), nn.Tanh())
        self.second = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        self.policy = nn.Linear(width, 4)
        self.value = nn.Linear(width, 1)

    def forward(self, observation):
        hidden = self.second(self.first(observation))
        return self.policy(hidden), self.value(hidden)
'''

WIDTH = 8


class Small:
    """Where the parts of the small policy's project are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = folder / "network.py"
        self.weights = folder / "weights.pt"
        self.observations = [folder / "one.npz", folder / "two.npz"]
        self.checkpoint = folder / "results" / "small" / "trained" / "checkpoint"
        self.source = folder / "results" / "small" / "sources" / "own"
        self.run = folder / "results" / "small" / "trained"

    @property
    def options(self) -> dict[str, Any]:
        """The checkpoint's options in a config."""
        return {
            "class": f"{self.network}:Net",
            "arguments": {"width": WIDTH},
            "inputs": ["observation"],
            "head": "discrete",
            "sites": {"first": WIDTH, "second": WIDTH},
        }


def make_small(folder: Path) -> Small:
    """Write the small policy, import it, and record its observations as a source of two parts."""
    small = Small(folder)
    small.network.write_text(NETWORK)
    scope: dict[str, Any] = {}
    exec(NETWORK, scope)
    torch.manual_seed(0)
    torch.save(scope["Net"](WIDTH).state_dict(), small.weights)
    import_checkpoint(str(small.weights), small.checkpoint, "module", small.options)
    parts = [f"part-{number:04d}" for number in range(len(small.observations))]
    for number, (path, part) in enumerate(zip(small.observations, parts, strict=True)):
        np.savez(path, **observations(number))
        write_source(small.source / f"{part}.zarr", [import_rollout(path)], SPLIT, "own", {})
    write_splits(small.source, parts, SPLIT, "own")
    return small


def observations(number: int, episodes: int = 10, steps: int = 15) -> dict[str, np.ndarray]:
    """Whole episodes of random observations; files of different numbers share no episode."""
    generator = np.random.default_rng(number)
    return {
        "observation": generator.normal(size=(episodes * steps, 6)).astype(np.float32),
        "episode": np.repeat(np.arange(number * episodes, (number + 1) * episodes), steps),
    }


# What every policy must do

Hook = nn.Module | tuple[str, nn.Module]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def check_protocol(policy: Policy, batch: Mapping[str, Any], hooks: Mapping[str, Hook]) -> None:
    """Every promise of `Policy.run`, at every site.

    hooks: for each site where plain torch can see it, the module whose output is the site's activation, or
        ("input", module) for the module whose (first) input it is. At least one site.
    """
    names = list(policy.sites)
    whole = policy.run(batch, read=names)
    before = {name: tensor.clone() for name, tensor in whole.reads.items()}
    assert list(whole.reads.keys() ^ names) == []
    _check_shapes(policy, whole)
    _check_hooks(policy, batch, whole, hooks)
    _check_refusals(policy, batch, whole)
    for name in names:
        _check_resume(policy, whole, name)
        _check_edits(policy, batch, whole, name)
        _check_stop(policy, batch, whole, name, hooks)
    for name, tensor in before.items():
        assert torch.equal(whole.reads[name], tensor), f"{name}: a later run changed an earlier one's reads"


def _check_shapes(policy: Policy, whole: Pass) -> None:
    rows = len(next(iter(whole.reads.values())))
    for name, site in policy.sites.items():
        assert whole.reads[name].shape == (rows, *site.row_shape), name
    assert whole.value is None or whole.value.shape == (rows,)


def _check_hooks(policy: Policy, batch: Mapping[str, Any], whole: Pass, hooks: Mapping[str, Hook]) -> None:
    assert hooks, "give at least one module to compare with"
    for name, hook in hooks.items():
        seen: list[torch.Tensor] = []
        with watching(hook, seen.append):
            plain = policy.run(batch)
        assert torch.equal(seen[-1], whole.reads[name]), name
        assert_same_outcome(plain, whole, 0)


@contextmanager
def watching(hook: Hook, see: Any) -> Iterator[None]:
    """Call `see` with a copy of a module's output (or input) whenever it runs."""
    if isinstance(hook, tuple):
        handle = hook[1].register_forward_pre_hook(lambda _module, inputs: see(inputs[0].clone()))
    else:
        handle = hook.register_forward_hook(lambda _module, _inputs, output: see(output.clone()))
    try:
        yield
    finally:
        handle.remove()


def assert_same_outcome(one: Pass, other: Pass, tolerance: float) -> None:
    """Heads and values agree, within an absolute and relative tolerance; 0 for exactly."""
    for first, second in zip(outcome(one), outcome(other), strict=True):
        torch.testing.assert_close(first, second, rtol=tolerance, atol=tolerance)


def outcome(result: Pass) -> list[torch.Tensor]:
    """All numbers that a pass ends with."""
    heads = result.heads
    numbers = [heads.logits] if isinstance(heads, Discrete) else [heads.mu, heads.log_std]
    return numbers if result.value is None else [*numbers, result.value]


def _check_resume(policy: Policy, whole: Pass, name: str) -> None:
    names = list(policy.sites)
    later = names[names.index(name) :]
    resumed = policy.run(resume=(name, whole.cache), read=later)
    assert_same_outcome(resumed, whole, TOLERANCE[policy.dtype])
    for site in later:
        torch.testing.assert_close(
            resumed.reads[site], whole.reads[site], rtol=TOLERANCE[policy.dtype], atol=TOLERANCE[policy.dtype]
        )
    for earlier in names[: names.index(name)]:
        with refused(earlier, "before"):
            policy.run(resume=(name, whole.cache), edit={earlier: lambda x: x})


def _check_edits(policy: Policy, batch: Mapping[str, Any], whole: Pass, name: str) -> None:
    names = list(policy.sites)
    same = policy.run(batch, read=names, edit={name: lambda x: x})
    assert_same_outcome(same, whole, 0)

    def halve(x: torch.Tensor) -> torch.Tensor:
        x *= 0.5  # in place, as people write it: what was read before must not change
        return x

    changed = policy.run(batch, read=names, edit={name: halve})
    assert torch.equal(changed.reads[name], whole.reads[name] * 0.5)
    for earlier in names[: names.index(name)]:
        assert torch.equal(changed.reads[earlier], whole.reads[earlier]), (name, earlier)
    assert any(not torch.equal(a, b) for a, b in zip(outcome(changed), outcome(whole), strict=True)), name
    resumed = policy.run(resume=(name, whole.cache), read=[name, names[-1]], edit={name: halve})
    assert_same_outcome(resumed, changed, TOLERANCE[policy.dtype])
    torch.testing.assert_close(
        resumed.reads[names[-1]],
        changed.reads[names[-1]],
        rtol=TOLERANCE[policy.dtype],
        atol=TOLERANCE[policy.dtype],
    )
    for wrong in (lambda x: x[..., :-1], lambda x: None):
        with refused(name, "returned"):
            policy.run(batch, edit={name: wrong})


def _check_stop(policy: Policy, batch: Mapping[str, Any], whole: Pass, name: str, hooks: Mapping[str, Hook]) -> None:
    names = list(policy.sites)
    calls: list[str] = []
    with _all_of([watching(hook, lambda _x, n=n: calls.append(n)) for n, hook in hooks.items()]):
        stopped = policy.run(batch, read=[name], stop_after=name)
    assert stopped.heads is None
    assert stopped.value is None
    assert torch.equal(stopped.reads[name], whole.reads[name])
    too_late = [site for site in names[names.index(name) + 1 :] if isinstance(hooks.get(site), nn.Module)]
    assert not set(calls) & set(too_late), f"stopping after {name} still computed {sorted(set(calls) & set(too_late))}"


@contextmanager
def _all_of(managers: list[Any]) -> Iterator[None]:
    """Enter several context managers at once."""
    if not managers:
        yield
        return
    with managers[0], _all_of(managers[1:]):
        yield


def _check_refusals(policy: Policy, batch: Mapping[str, Any], whole: Pass) -> None:
    first, last = list(policy.sites)[0], list(policy.sites)[-1]
    for call in (
        lambda: policy.run(batch, read=["nowhere"]),
        lambda: policy.run(batch, edit={"nowhere": lambda x: x}),
        lambda: policy.run(batch, stop_after="nowhere"),
        lambda: policy.run(resume=("nowhere", whole.cache)),
    ):
        with refused("nowhere", first):
            call()
    with refused(last, "cache"):
        policy.run(resume=(last, {}))
    with refused("observations"):
        policy.run()
