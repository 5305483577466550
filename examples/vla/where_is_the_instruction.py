"""At which tokens of which layer is the instruction? Some get what they hold under the contrary instruction.

    envs/run vla python examples/vla/where_is_the_instruction.py --checkpoint data/checkpoints/pi05/final \
        --source results/pi05/sources/demos

Prints per layer and kind of token how far the plan moves (half the squared distance of normalised actions, mean over
the plan; 95% intervals over episodes), as a share of what the contrary instruction itself does. An exchange that moves
the plan all the way carries the whole instruction; one that does not, none of it that counts.
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
from policylens.statistics.intervals import bootstrap_ratio
from policylens.statistics.resampling import Resampling
from policylens.stores.tables import Table, open_table
from policylens.stores.texts import decode_texts, encode_text

CONTRARY = {"open": "close", "close": "open", "on": "off", "off": "on"}
KINDS = ("language", "state", "image")
BATCH = 32


def program() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--source", required=True, type=Path)
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    policy, source = load_policy(arguments.checkpoint), open_table(arguments.source)
    rng = np.random.default_rng(arguments.seed)
    rows = np.sort(rng.choice(source.n_rows, min(arguments.frames, source.n_rows), replace=False))
    sites = [name for name in policy.sites if name.startswith("language") and not name.endswith("ffn")]
    parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    moved = [exchanged(policy, source, part, sites) for part in progress(parts, len(parts), "frames", "batches")]
    episodes = Clusters.of(source.coordinate("episode")[rows])
    whole = episodes.sums(np.concatenate([part["whole"] for part in moved]))
    print(f"{len(rows)} frames of {len(whole)} episodes; share of the plan's move under the contrary instruction")
    print("| tokens exchanged after | " + " | ".join(KINDS) + " |\n|---|" + "---|" * len(KINDS))
    for site in sites:
        cells = []
        for kind in KINDS:
            own = episodes.sums(np.concatenate([part[site, kind] for part in moved]))
            share = bootstrap_ratio(own, whole, Resampling(seed=arguments.seed), n_rows=len(rows))
            cells.append(f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]")
        print(f"| `{site}` | " + " | ".join(cells) + " |")


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
