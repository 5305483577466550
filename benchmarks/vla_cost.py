"""How many operations per second each stage of the vision-language-action row reaches here, at two sizes or more.

Passes of pi0.5 networks up to some sites, in float32 and bfloat16 (random weights, published positions, layers of up to
the published widths); a step of an SAE; encoding; reading value vectors as tokens; what looking at hidden units adds to
a pass; writing and reading activations. All in processor seconds of one run, ways by turns. If operations per second
hardly depend on the size, the operations of the published network (policylens/policies/vla/cost.py) can be turned into
time: benchmarks/vla_scale.py.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from capture import folder_in_memory
from rounds import interleaved, median
from vla_networks import architecture, frames, policies
from vla_stages import encoding, projecting, storing, training

from policylens.console import main
from policylens.policies.protocol import Policy
from policylens.policies.vla.cost import PARTS, pass_flops
from policylens.stores.files import write_json

SIZES = ((512, 4), (1024, 3), (2048, 2))
"""Width and layers of the language model; 2,048 is the published width."""


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="repetitions; medians count")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; seconds are summed over them")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = [network(width, depth, arguments.rounds) for width, depth in SIZES]
    results += [
        stage(what, name, flops, way, arguments.rounds)
        for what in (training, encoding, projecting)
        for name, flops, way in what()
    ]
    with tempfile.TemporaryDirectory(dir=folder_in_memory()) as folder:
        results += storing(Path(folder), arguments.rounds, cpu_timed)
    for result in results:
        tell(result)
    if arguments.out:
        write_json(arguments.out, {"threads": arguments.threads, "rounds": arguments.rounds, "results": results})


def network(width: int, depth: int, rounds: int) -> dict[str, Any]:
    """Of one frame: operations per second of each part and precision, and what is saved by stopping half-way."""
    found, batch = architecture(width, depth), frames(1)
    made = policies(found)
    middle, last = f"language_{depth // 2 - 1}", f"language_{depth - 1}"
    ways = {
        (precision, stop): cpu_timed(lambda policy=policy, stop=stop: passed(policy, batch, stop))
        for precision, policy in made.items()
        for stop in ("language_embed", middle, last, None)
    }
    ways["probed", last] = cpu_timed(lambda: probed(made["float32"], batch))
    for way in ways.values():
        way()
    seconds = {name: median(values) for name, values in interleaved(ways, rounds, f"width {width}").items()}
    flops, half = pass_flops(found), sum(pass_flops(found, middle).values())
    rates = {
        f"{precision} {part}": flops[part] / spent
        for precision in made
        for part, spent in zip(PARTS, _apart(seconds, precision, last), strict=True)
    }
    whole = {precision: seconds[precision, None] for precision in made}
    ratios = {
        "half / whole, seconds": seconds["float32", middle] / whole["float32"],
        "half / whole, operations": half / sum(flops.values()),
        "bfloat16 / float32, seconds": whole["bfloat16"] / whole["float32"],
        "looked at / language model alone, seconds": seconds["probed", last] / seconds["float32", last],
        "bfloat16, distance at the middle": _distance(made, batch, middle),
    }
    return {"what": f"pi0.5, width {width}, {depth} layers", "operations": flops, "rates": rates, "ratios": ratios}


def _apart(seconds: Mapping[Any, float], precision: str, last: str) -> list[float]:
    """Of vision, language and expert, from passes that stop after each."""
    ends = [0.0, *(seconds[precision, stop] for stop in ("language_embed", last, None))]
    return [later - earlier for earlier, later in zip(ends, ends[1:], strict=False)]


def passed(policy: Policy, batch: Mapping[str, Any], stop: str | None) -> Any:
    """A pass that reads where it stops, as a capture does."""
    with torch.inference_mode():
        return policy.run(batch, read=[stop] if stop else [], stop_after=stop)


def probed(policy: Policy, batch: Mapping[str, Any]) -> None:
    """All hidden units of the language model looked at."""
    import numpy as np

    from policylens.ffn.probe import probe

    sites = [site for name, site in policy.sites.items() if name.startswith("language") and name.endswith("_ffn")]
    probe(policy, sites, [(batch, (np.zeros(1, np.int64), np.zeros(1, np.int64)))], 0.5)


def _distance(made: Mapping[str, Policy], batch: Mapping[str, Any], site: str) -> float:
    """|bfloat16 - float32| / |float32| of a site's words."""
    fine, coarse = (passed(made[name], batch, site) for name in ("float32", "bfloat16"))
    words = fine.tokens[site].kinds == 1
    exact, near = (found.reads[site][words].float() for found in (fine, coarse))
    return float((near - exact).norm() / exact.norm())


def cpu_timed(call: Callable[[], object]) -> Callable[[], float]:
    """A way that takes the processor seconds of a call: other processes count for less than on the clock."""

    def run() -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    return run


def stage(what: Callable[..., Any], name: str, flops: int, way: Callable[[], object], rounds: int) -> dict[str, Any]:
    """Operations per second of something with a known number of them."""
    way()
    seconds = median(interleaved({name: cpu_timed(way)}, rounds, name)[name])
    return {"what": name, "operations": {what.__name__: flops}, "rates": {what.__name__: flops / seconds}}


def tell(result: Mapping[str, Any]) -> None:
    """One result on stdout."""
    print(result["what"])
    for name, rate in result.get("rates", {}).items():
        print(f"    {name}: {rate / 1e9:,.1f} billion operations per processor second")
    for name, ratio in result.get("ratios", {}).items():
        print(f"    {name}: {ratio:.3f}")
    for name, rate in result.get("bytes", {}).items():
        print(f"    {name}: {rate / 1e9:.2f} GB per processor second")


if __name__ == "__main__":
    main(program)
