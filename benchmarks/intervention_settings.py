"""What the benchmark of interventions runs on: Othello's second block, and the Franka policy's first hidden layer."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from policylens.evaluation.fidelity import other_episodes
from policylens.interventions.subject import BATCH_ROWS, Subject
from policylens.policies.importing import import_checkpoint
from policylens.policies.protocol import Policy
from policylens.policies.registry import load_policy, room
from policylens.sae.base import SAE
from policylens.sae.files import load_sae, save_sae
from policylens.sae.interchange.importing import import_sae
from policylens.sae.training import train
from policylens.stores.files import read_json, write_json
from policylens.stores.foreign import read_arrays

REPOSITORY = Path(__file__).resolve().parents[1]
OTHELLO = REPOSITORY / "data" / "checkpoints" / "othello" / "final"
ROLLOUT = {"simulations": 0, "temperature": 1.0}


@dataclass(frozen=True)
class Case:
    """name. bound: largest allowed ratio of our time to whole passes'. batch: observations of all rows.

    assets: folder of the published policy, None for one of this repository.
    """

    name: str
    bound: float
    assets: Path | None
    policy: Policy
    site: str
    saes: Mapping[str, SAE]
    batch: Mapping[str, np.ndarray]
    episodes: np.ndarray

    def subject(self) -> Subject:
        """What interventions start from."""
        donors = other_episodes(self.episodes, 0)
        starts = range(0, len(self.episodes), BATCH_ROWS)
        pieces = [{name: values[at : at + BATCH_ROWS] for name, values in self.batch.items()} for at in starts]
        return Subject(self.policy, self.site, self.saes, pieces, self.episodes, donors)

    def write(self, folder: Path) -> None:
        """Everything but the policy, which :func:`read_case` makes again."""
        for site, sae in self.saes.items():
            save_sae(folder / "saes" / site, sae)
        np.savez(folder / "rows.npz", episodes=self.episodes, **{f"batch.{name}": x for name, x in self.batch.items()})
        own = {"name": self.name, "bound": self.bound, "site": self.site, "sites": list(self.saes)}
        own["assets"] = None if self.assets is None else str(self.assets)
        write_json(folder / "case.json", own)


def read_case(folder: Path) -> Case:
    """What `Case.write` has written."""
    own, rows = read_json(folder / "case.json"), read_arrays(folder / "rows.npz")
    assets = None if own["assets"] is None else Path(own["assets"])
    policy = load_policy(OTHELLO) if own["name"].startswith("othello") else franka_policy(assets)
    saes = {site: load_sae(folder / "saes" / site) for site in own["sites"]}
    batch = {name.removeprefix("batch."): x for name, x in rows.items() if name != "episodes"}
    return Case(own["name"], own["bound"], assets, policy, own["site"], saes, batch, rows["episodes"])


def othello(rows: int, latents: int) -> Case:
    """Positions of self-play; TopK SAEs with k = 32 at two blocks, trained here for a moment."""
    policy = load_policy(OTHELLO)
    steps: dict[str, list[np.ndarray]] = {name: [] for name in (*policy.observations, "episode")}
    played = room("othello", "environment").rollout(policy, ROLLOUT, range(rows // 10), 0, 1)
    for rollout in islice(played, rows):
        for name, values in steps.items():
            values.append(rollout.steps[name])
    batch = {name: np.concatenate(values)[:rows] for name, values in steps.items()}
    episodes = batch.pop("episode")
    settings = {"architecture": "topk", "latents": latents, "k": 32, "steps": 200, "batch_rows": 1024}
    sites = ("block_2", "block_3")
    saes = _trained(policy, sites, batch, settings)
    return Case("othello block_2", 1 / 50, None, policy, sites[0], saes, batch, episodes)


def franka(assets: Path | None) -> Case:
    """The published policy, rollout and SAEs; without them random weights, observations and SAEs trained here."""
    name, sites, policy = "franka actor_mlp_1", ("actor_mlp_1", "actor_mlp_3"), franka_policy(assets)
    if assets is None:
        batch = {"observations": np.random.default_rng(0).normal(size=(3712, 23)).astype(np.float32)}
        # As many latents are active as in the published SAE, since that is what interventions cost.
        settings = {"architecture": "topk", "latents": 512, "k": 9, "steps": 400, "batch_rows": 256}
        saes = _trained(policy, sites, batch, settings)
        return Case(f"{name} (stand-in)", 1 / 20, None, policy, sites[0], saes, batch, np.repeat(np.arange(64), 58))
    recorded = read_arrays(assets / "FrankaCabinetGPT_epoch__eval.npz")["pre_norm_obs"].swapaxes(0, 1)
    batch = {"observations": recorded.reshape(-1, recorded.shape[-1])}
    saes = {site: import_sae(assets / f"sae_{site}.safetensors", {"subtract_b_dec": True}) for site in sites}
    episodes = np.repeat(np.arange(recorded.shape[0]), recorded.shape[1])
    return Case(f"{name} (published)", 1 / 20, assets, policy, sites[0], saes, batch, episodes)


def franka_policy(assets: Path | None) -> Policy:
    """The published policy; without its folder one with random weights."""
    if assets is not None:
        with tempfile.TemporaryDirectory() as folder:
            import_checkpoint(str(assets / "FrankaCabinetGPT_epoch__eval.pth"), Path(folder), "franka", {})
            return load_policy(Path(folder))
    from policylens.policies.franka.initial import full_architecture, initial_tensors
    from policylens.policies.franka.policy import build

    architecture = full_architecture({"kind": "mlp"})
    record = {"family": "franka", "architecture": architecture, "weights": {"sha256": "0" * 64}}
    return build(record, initial_tensors(architecture, 0))


@torch.no_grad()
def _trained(
    policy: Policy, sites: tuple[str, ...], batch: Mapping[str, np.ndarray], settings: Mapping[str, object]
) -> dict[str, SAE]:
    reads = policy.run(batch, read=sites).reads
    return {site: train(reads[site].numpy(), {**settings, "log_points": 1}, 0)[0] for site in sites}
