"""At which tokens of which layer is the instruction? Some get what they hold under the contrary instruction.

    envs/run vla python examples/vla/where_is_the_instruction.py --checkpoint data/checkpoints/pi05/final \
        --source results/pi05/sources/demos --figure shares.png

Prints and draws per layer and kind of token how far the plan moves (half the squared distance of normalised actions,
mean over the plan; 95% intervals over episodes), as a share of what the contrary instruction itself does. An exchange
that moves the plan all the way carries the whole instruction; one that does not, none of it that counts.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from policylens.capture.batches import read_batch
from policylens.console import main
from policylens.policies.editing import OnKinds
from policylens.policies.protocol import Policy
from policylens.policies.registry import load_policy
from policylens.progress import progress
from policylens.statistics.clusters import Clusters
from policylens.statistics.estimate import Estimate
from policylens.statistics.intervals import bootstrap_ratio
from policylens.statistics.resampling import Resampling
from policylens.stores.tables import Table, open_table
from policylens.stores.texts import decode_texts, encode_text
from policylens.visualize.figure import drawing

CONTRARY = {"open": "close", "close": "open", "on": "off", "off": "on"}
KINDS = ("language", "state", "image")
MARKS = (("#0072B2", "o"), ("#E69F00", "s"), ("#009E73", "^"))
BATCH = 32


def program() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--source", required=True, type=Path)
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--figure", type=Path, help="PNG to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    policy, source = load_policy(arguments.checkpoint), open_table(arguments.source)
    rng = np.random.default_rng(arguments.seed)
    rows = np.sort(rng.choice(source.n_rows, min(arguments.frames, source.n_rows), replace=False))
    sites = [name for name in policy.sites if name.startswith("language") and not name.endswith("ffn")]
    parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    moved = [exchanged(policy, source, part, sites) for part in progress(parts, len(parts), "frames", "batches")]
    shares = shares_of(moved, Clusters.of(source.coordinate("episode")[rows]), sites, Resampling(seed=arguments.seed))
    n_episodes = len(np.unique(source.coordinate("episode")[rows]))
    print(f"{len(rows)} frames of {n_episodes} episodes; share of the plan's move under the contrary instruction")
    print("| tokens exchanged after | " + " | ".join(KINDS) + " |\n|---|" + "---|" * len(KINDS))
    for site in sites:
        cells = (f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]" for share in shares[site])
        print(f"| `{site}` | " + " | ".join(cells) + " |")
    if arguments.figure:
        title = f"Where the instruction is: {policy.record['family']}, {arguments.checkpoint.name}"
        draw(
            arguments.figure, title, shares, f"{len(rows)} frames of {n_episodes} episodes; 95% intervals over episodes"
        )


def shares_of(
    moved: list[dict], episodes: Clusters, sites: list[str], resampling: Resampling
) -> dict[str, list[Estimate]]:
    """Site -> share per kind of token: of the plan's move under the contrary instruction, with intervals."""
    whole = np.concatenate([part["whole"] for part in moved])
    return {
        site: [
            bootstrap_ratio(
                episodes.sums(np.concatenate([part[site, kind] for part in moved])),
                episodes.sums(whole),
                resampling,
                n_rows=len(whole),
            )
            for kind in KINDS
        ]
        for site in sites
    }


def draw(path: Path, title: str, shares: dict[str, list[Estimate]], note: str) -> None:
    """Shares by site, a colour and a marker per kind of token."""
    with drawing(path, 7.2, 3.4, title, note) as figure:
        axes = figure.subplots()
        for place, (kind, (colour, marker)) in enumerate(zip(KINDS, MARKS, strict=True)):
            found = [intervals[place] for intervals in shares.values()]
            x = np.arange(len(found)) + 0.12 * (place - 1)
            value = np.array([share.value for share in found])
            reach = np.abs(np.array([[share.low, share.high] for share in found]).T - value)
            axes.errorbar(
                x, value, reach, color=colour, marker=marker, linestyle="none", capsize=2, label=f"{kind} tokens"
            )
        axes.set_xticks(range(len(shares)), list(shares))
        axes.set_xlabel("site whose tokens get what they hold under the contrary instruction")
        axes.set_ylabel("share of the plan's move")
        axes.set_ylim(-0.03, 1.05)
        axes.legend()


def contrary(text: str) -> str:
    """The other instruction of the pair."""
    return " ".join(CONTRARY.get(word, word) for word in text.split())


def exchanged(policy: Policy, source: Table, rows: np.ndarray, sites: list[str]) -> dict:
    """How far plans move, (n,) float64: "whole", with the contrary instruction; (site, kind), with these exchanged."""
    batch = read_batch(source, policy.observations, rows)
    other = {
        **batch,
        "instruction": np.stack([encode_text(contrary(text)) for text in decode_texts(batch["instruction"])]),
    }
    with torch.inference_mode():
        own, theirs = policy.run(batch, read=sites), policy.run(other, read=sites)
        found = {"whole": own.heads.divergence(theirs.heads).double().numpy()}
        for site in sites:
            for kind in KINDS:
                edit = {site: OnKinds(lambda x, given=theirs.reads[site]: given, [kind])}
                plan = policy.run(resume=(site, own.cache), edit=edit).heads
                found[site, kind] = own.heads.divergence(plan).double().numpy()
    return found


if __name__ == "__main__":
    main(program)
