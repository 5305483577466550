"""A circuit traced from an output back to the inputs: chosen on some rows, scored on others. Makes circuit.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from policylens.circuits.ablation import Ablation
from policylens.circuits.edges import Graph, input_effects
from policylens.circuits.outputs import Output
from policylens.circuits.scores import Scores, against_random
from policylens.circuits.selection import Candidates
from policylens.errors import UserError
from policylens.evaluation.fidelity import other_episodes
from policylens.interventions.modes import Mode
from policylens.interventions.subject import Subject
from policylens.policies.inputs import Input
from policylens.policies.protocol import Batch, Policy
from policylens.sae.base import SAE
from policylens.statistics.correction import benjamini_hochberg

FORMAT = 1
FAITHFUL = 0.8
DRAWN_AT_MOST = 32


@dataclass(frozen=True)
class Settings:
    """sizes: of circuits, ascending. mode: what is outside becomes. keep_error: of the SAEs. random: circuits per size.

    inputs: so many are shown. graph: size of the circuit whose graph is drawn; None: the smallest that is faithful
    (FAITHFUL) on the rows it is chosen on, at most DRAWN_AT_MOST.
    """

    output: Output
    sizes: Sequence[int] = (4, 8, 16, 32, 64, 128, 256)
    mode: str = "mean"
    keep_error: bool = True
    random: int = 200
    inputs: int = 8
    graph: int | None = None
    seed: int = 0


def settings_of(block: Mapping[str, Any], seed: int) -> Settings:
    """From a block of config.yaml."""
    more = {key: value for key, value in block.items() if key != "output"}
    return Settings(Output(block["output"]["outcome"], block["output"].get("unit")), seed=seed, **more)


@dataclass(frozen=True)
class RowSet:
    """Observations in batches, and the episode of each row: (n,) ascending."""

    batches: Sequence[Batch]
    episodes: np.ndarray

    def subjects(self, policy: Policy, saes: Mapping[str, SAE], seed: int) -> list[Subject]:
        """What single latents are changed in, one per site."""
        donors = other_episodes(self.episodes, seed)
        return [Subject(policy, site, saes, self.batches, self.episodes, donors) for site in saes]


def traced(
    policy: Policy,
    saes: Mapping[str, SAE],
    chosen_on: RowSet,
    scored_on: RowSet,
    inputs: Sequence[Input],
    own: Settings,
) -> dict[str, Any]:
    """Everything that circuit.json says of a circuit. saes: in the order of the pass."""
    if policy.recurrent:
        raise UserError("the policy is recurrent: circuits are of policies whose rows are independent of each other")
    single = Mode(own.mode, keep_error=own.keep_error)
    own.output.check(policy.run(chosen_on.batches[0]))
    candidates = Candidates.of(chosen_on.subjects(policy, saes, own.seed), single, own.output)
    sizes = _possible(own.sizes, candidates)
    ablation = Ablation(policy, saes, own.mode, own.keep_error, candidates.means)
    curve, reach = _curve(ablation, candidates, sizes, chosen_on, scored_on, own)
    size = own.graph or _faithful(curve)
    places = candidates.strongest(size)
    graph = Graph(scored_on.subjects(policy, saes, own.seed), candidates, places, single, own.output).found()
    return {
        "format": FORMAT,
        "output": {"outcome": own.output.outcome, "unit": own.output.unit, "name": own.output.name},
        "distance": own.output.measure,
        "mode": own.mode,
        "keep_error": own.keep_error,
        "sites": list(saes),
        "candidates": {site: int((candidates.sites == n).sum()) for n, site in enumerate(saes)},
        "reach": reach,
        "curve": curve,
        "size": len(places),
        **graph,
        "inputs": _inputs(ablation, candidates, places, inputs, scored_on, own),
    }


def _possible(sizes: Sequence[int], candidates: Candidates) -> list[int]:
    found = sorted({size for size in sizes if size < len(candidates)})
    if not found:
        raise UserError(f"sizes: only {len(candidates)} latents are ever active, a circuit has to be smaller")
    return found


def _curve(
    ablation: Ablation,
    candidates: Candidates,
    sizes: Sequence[int],
    chosen_on: RowSet,
    scored_on: RowSet,
    own: Settings,
) -> tuple[list[dict[str, Any]], float]:
    """Per size the circuit, its complement, the busiest latents and random circuits; and m(full) - m(empty)."""
    ends = [candidates.everything(False), candidates.everything(True)]
    circuits, busiest = ([pick(size) for size in sizes] for pick in (candidates.strongest, candidates.busiest))
    masks = [candidates.masks(places) for places in circuits]
    masks += [candidates.masks(places, inverted=True) for places in circuits]
    masks += [candidates.masks(places) for places in busiest]
    drawn = [candidates.masks(p) for places in circuits for p in candidates.drawn_like(places, own.random, own.seed)]
    distances = _distances(ablation, scored_on, [*ends, *masks, *drawn], own)
    before = _distances(ablation, chosen_on, [*ends, *masks[: len(sizes)]], own)
    scores = Scores(distances[0], distances[1], scored_on.episodes, own.seed)
    if scores.reach <= 0:
        raise UserError(
            f"changing all latents does not change {own.output.name} more than changing none; there is no circuit"
        )
    same = Scores(before[0], before[1], chosen_on.episodes, own.seed)
    step = len(sizes)
    faithful, complements, activity = (distances[2 + part * step : 2 + (part + 1) * step] for part in range(3))
    curve = [
        {
            "size": size,
            "per_site": np.bincount(candidates.sites[circuits[n]], minlength=len(candidates.widths)).tolist(),
            "faithfulness": scores.share(faithful[n]),
            "faithfulness_where_chosen": float(same.shares(before[2 + n : 3 + n])[0]),
            "completeness": scores.share(complements[n]),
            "by_activity": scores.share(activity[n]),
            "over_activity": scores.difference(faithful[n], activity[n]),
            "random": None,
        }
        for n, size in enumerate(sizes)
    ]
    if own.random:
        _beside_random(curve, scores.shares(distances[2 + 3 * step :]).reshape(step, own.random))
    return curve, scores.reach


def _beside_random(curve: list[dict[str, Any]], drawn: np.ndarray) -> None:
    """Put the random circuits beside each size; p adjusted over sizes (Benjamini and Hochberg)."""
    found = [against_random(entry["faithfulness"]["value"], own) for entry, own in zip(curve, drawn, strict=True)]
    adjusted = benjamini_hochberg(np.array([entry["p"] for entry in found]))
    for entry, beside, p in zip(curve, found, adjusted, strict=True):
        entry["random"] = beside | {"adjusted_p": float(p)}


def _distances(ablation: Ablation, rows: RowSet, circuits: Sequence[Any], own: Settings) -> np.ndarray:
    return ablation.distances(own.output, rows.batches, other_episodes(rows.episodes, own.seed), circuits)


def _faithful(curve: Sequence[Mapping[str, Any]]) -> int:
    """The smallest size that is faithful where it was chosen, or the largest that can still be drawn."""
    sizes = [entry["size"] for entry in curve]
    enough = [entry["size"] for entry in curve if entry["faithfulness_where_chosen"] >= FAITHFUL]
    drawable = [size for size in sizes if size <= DRAWN_AT_MOST] or sizes[:1]
    return min(enough[0], drawable[-1]) if enough else drawable[-1]


def _inputs(
    ablation: Ablation,
    candidates: Candidates,
    places: np.ndarray,
    inputs: Sequence[Input],
    rows: RowSet,
    own: Settings,
) -> dict[str, Any] | None:
    """The strongest inputs, and how many there are; None where the family names none, or none are asked for."""
    if not inputs or not own.inputs:
        return None
    first = np.sort(candidates.latents[places[candidates.sites[places] == 0]])
    donors = other_episodes(rows.episodes, own.seed)
    found = input_effects(inputs, ablation, own.output, rows.batches, donors, rows.episodes, first, own.seed)
    return {"count": len(found), "strongest": found[: own.inputs]}
