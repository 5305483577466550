"""Ablating every latent of an SAE: changed rows alone, from the site on, against whole passes.

Ways to the same effects (mean over rows of ablated - baseline on actions, value and a later SAE's latents):
  - passes: for each latent one pass of all rows from the observations on, with the SAE in it; as the scripts do that
    this pipeline replaces
  - batched: the same for many latents in one batch
  - nnsight: one trace per latent, over all rows; nnsight, invokes: many latents in one trace, each in an invoke of its
    own. In the environment `interop`; left out where that cannot be had
  - ours: only rows in which the latent is active, only the network's rest, latents batched together
Whole passes are timed on some latents and scaled to all that are alive: a pass costs the same for each of them.

Bounds: ours at least 50 times as fast as `passes` for Othello's second block (2048 latents, L0 32, 4096 positions), and
20 times for the first hidden layer of the Franka policy (512 latents, 3712 rows); effects equal to 1e-5 of the largest.
Also printed: L0, latents alive, and the share of the matrix products' measured rate that the necessary products reach.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from intervention_peer import ENVIRONMENT, Peer, nnsight
from intervention_settings import Case, franka, othello
from rounds import conclude, interleaved, median, ratio, timed, verdict
from torch.utils.flop_counter import FlopCounterMode

from policylens.console import main
from policylens.interventions.exact import measure
from policylens.interventions.modes import Mode
from policylens.interventions.outcomes import KL
from policylens.interventions.study import chosen
from policylens.interventions.subject import Subject
from policylens.interventions.sums import Sums
from policylens.progress import say

TOLERANCE = 1e-5
CEILING_SIZE = 2048
BATCH_ROWS = 8192


def program() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    results = []
    with nullcontext() if arguments.no_nnsight else nnsight(arguments.threads) as peer:
        if peer is None:
            reason = "--no-nnsight" if arguments.no_nnsight else f"no environment `{ENVIRONMENT}` with it"
            say(f"nnsight is not measured: {reason}")
        for case in (othello(arguments.rows, arguments.latents), franka(arguments.assets)):
            results += compared(case, peer, arguments)
    conclude(results, arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4096, help="positions of Othello")
    parser.add_argument("--latents", type=int, default=2048, help="of Othello's SAE")
    parser.add_argument("--assets", type=Path, help="folder with the published Franka checkpoint, rollout and SAEs")
    parser.add_argument("--passes", type=int, default=32, help="latents that whole passes are timed on")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patience", type=float, default=0.0, help="seconds for measuring disturbed rounds again")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-nnsight", action="store_true", help="leave nnsight out")
    parser.add_argument("--no-check", action="store_true", help="exit status 0 whatever is found")
    parser.add_argument("--out", type=Path, help="JSON to write")
    return parser.parse_args()


def compared(case: Case, peer: Peer | None, arguments: argparse.Namespace) -> list[dict]:
    """Ratios of one case."""
    subject, mode = case.subject(), Mode("zero")
    alive = chosen(subject, 0)
    some = np.random.default_rng(0).permutation(alive)[: arguments.passes]
    traces = {"nnsight": 1, "nnsight, invokes": together(subject)} if peer else {}
    whole = {
        "passes": timed(lambda: one_by_one(case, subject, some)),
        "batched": timed(lambda: batched(case, subject, some)),
        **{name: peer.way(case, some, number) for name, number in traces.items()},
    }
    others = [one_by_one(case, subject, some), *(peer.effects(case, some, number) for number in traces.values())]
    check_equal(case, subject, measure(subject, mode, some)[0], others)
    ways = {**whole, "ours": timed(lambda: measure(subject, mode, alive)), "ceiling": timed(ceiling())}
    seconds = interleaved(ways, arguments.rounds, case.name, arguments.patience)
    scale = len(alive) / len(some)
    seconds |= {name: [one * scale for one in seconds[name]] for name in whole}
    about = f"{len(alive)} of {subject.latents.shape[2]} latents alive, L0 {l0(subject):.1f}, {subject.n_rows} rows"
    say(f"{case.name}: {about}; effects equal to {TOLERANCE:g}")
    say(f"{case.name}: necessary products at {share(case, subject, seconds):.0%} of the measured rate of products")
    return ratios(case, seconds, list(whole), about)


def ratios(case: Case, seconds: dict[str, list[float]], whole: list[str], about: str) -> list[dict]:
    """Ours against each way of whole passes."""
    figures = {name: median(values) for name, values in seconds.items() if name != "ceiling"}
    bounds = {"passes": case.bound}
    return [
        {"what": f"{case.name}: ours / {name}", **verdict(ratio(seconds["ours"], seconds[name]), bounds.get(name)),
         "about": about, "seconds": figures}
        for name in whole
    ]  # fmt: skip


def together(subject: Subject) -> int:
    """How many latents' rows make a batch of whole passes."""
    return max(1, BATCH_ROWS // subject.n_rows)


def one_by_one(case: Case, subject: Subject, latents: np.ndarray) -> dict[str, np.ndarray]:
    """Mean effects (k, units) by one whole pass per latent."""
    return effects(case, subject, [np.array([latent]) for latent in latents])


def batched(case: Case, subject: Subject, latents: np.ndarray) -> dict[str, np.ndarray]:
    """The same with several latents' rows in one batch."""
    size = together(subject)
    return effects(case, subject, [latents[at : at + size] for at in range(0, len(latents), size)])


@torch.no_grad()
def effects(case: Case, subject: Subject, groups: list[np.ndarray]) -> dict[str, np.ndarray]:
    sae, found = subject.sae, {}
    before = subject.baseline(True).outcomes
    for group in groups:
        many = {name: np.concatenate([values] * len(group)) for name, values in case.batch.items()}
        at = np.repeat(np.arange(len(group)), subject.n_rows)

        def ablated(x: torch.Tensor, own: np.ndarray = group[at]) -> torch.Tensor:
            f = sae.encode(x)
            own = torch.from_numpy(own)
            return x - f.gather(1, own[:, None]) * sae.W_dec[own]

        result = case.policy.run(many, read=subject.outcomes.sites, edit={subject.site: ablated})
        after = subject.outcomes.of(result, result.heads)
        for name, values in after.items():
            means = values.reshape(len(group), subject.n_rows, -1).mean(1).numpy() - before[name].mean(0)
            found.setdefault(name, []).append(means)
    return {name: np.concatenate(values) for name, values in found.items()}


def check_equal(case: Case, subject: Subject, ours: dict[str, Sums], others: list[dict[str, np.ndarray]]) -> None:
    """The ways must give the same effects; KL is left to ours, since whole passes do not keep the baseline's head."""
    for name in ours.keys() - {KL}:
        mean = ours[name].means(subject.episodes)["mean"]
        largest = max(np.abs(subject.baseline(True).outcomes[name]).max(), 1e-12)
        far = float(np.max([np.abs(mean - other[name]) for other in others]) / largest)
        if not far <= TOLERANCE:
            sys.exit(f"{case.name}: effects on {name} differ by {far:.2g}")


def ceiling() -> Callable[[], object]:
    """A product of square matrices in float32."""
    a, b = (torch.randn(CEILING_SIZE, CEILING_SIZE) for _ in range(2))
    return lambda: a @ b


def share(case: Case, subject: Subject, seconds: dict[str, list[float]]) -> float:
    """Rate of the products that pairs need, as a share of the rate of plain products in the same rounds."""
    rows = torch.arange(64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        start = subject.baseline(True).start
        result = subject.resumed(subject.start, rows, start[rows], subject.outcomes.sites)
        subject.outcomes.of(result, result.heads)
    pairs = int(np.round(subject.latents.densities * subject.n_rows).sum())
    ours = counter.get_total_flops() / len(rows) * pairs / np.array(seconds["ours"])
    return float(median(ours / (2 * CEILING_SIZE**3 / np.array(seconds["ceiling"]))))


def l0(subject: Subject) -> float:
    return float(subject.latents.counts.sum() / subject.n_rows)


if __name__ == "__main__":
    main(program)
