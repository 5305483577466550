"""What runs through a circuit: effects of its latents on each other and on the output, and of inputs on both.

An edge from latent i to latent j of a later site is the exact effect of changing i alone: a total effect, through
everything that lies between, other latents and what no SAE holds included. It is no statement about a direct path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policylens.circuits.ablation import Ablation, encoded
from policylens.circuits.outputs import Output
from policylens.circuits.selection import Candidates, mean_sizes
from policylens.interventions.exact import measure
from policylens.interventions.modes import Mode
from policylens.interventions.subject import Subject
from policylens.policies.inputs import Input
from policylens.policies.protocol import Batch
from policylens.statistics.intervals import cluster_bootstrap
from policylens.statistics.resampling import Resampling

COMPARED = 32
"""Latents per site, drawn from all that are ever active, whose effects on later latents edges are compared with."""


class Graph:
    """Nodes and edges of a circuit on some rows.

    subjects: one per site, in the order of the pass. candidates: what the circuit was chosen from. places: the circuit.
    """

    def __init__(
        self, subjects: Sequence[Subject], candidates: Candidates, places: np.ndarray, mode: Mode, output: Output
    ) -> None:
        self._subjects, self._candidates, self._mode, self._output = subjects, candidates, mode, output
        self._members = [
            np.sort(candidates.latents[places[candidates.sites[places] == n]]) for n in range(len(subjects))
        ]
        self._means = {subject.site: mean_sizes(subject) for subject in subjects}

    def found(self, seed: int) -> dict[str, Any]:
        """Entries `nodes`, `edges` and `edge_control` of circuit.json."""
        nodes, edges, drawn = [], [], []
        for number, subject in enumerate(self._subjects):
            own = self._members[number]
            if not len(own):
                continue
            sums, _ = measure(subject, self._mode, own)
            sizes, signs = self._output.effects(sums, subject.n_rows), self._output.signs(sums)
            for place, latent in enumerate(own):
                density = float(subject.latents.densities[latent])
                node = {"site": subject.site, "latent": int(latent), "effect": float(sizes[place]), "density": density}
                nodes.append(node | {"sign": None if signs is None else int(signs[place])})
            edges += self._edges(subject, own, sums)
            drawn.append(self._shares_of_others(number, seed))
        beside = np.concatenate([values for values in drawn if len(values)] or [np.zeros(0)])
        return {"nodes": nodes, **_compared(edges, beside)}

    def _edges(self, subject: Subject, own: np.ndarray, sums: Mapping[str, Any]) -> list[dict[str, Any]]:
        edges = []
        for later, targets in zip(self._subjects, self._members, strict=True):
            if later.site not in subject.outcomes.sites:
                continue
            found, means = sums[later.site], self._means[later.site]
            for place, latent in enumerate(own):
                for target in targets:
                    size, mean = (values[place, target] / subject.n_rows for values in (found.size, found.signed))
                    share = float(size / means[target]) if means[target] > 0 else 0.0
                    ends = {"from": [subject.site, int(latent)], "to": [later.site, int(target)]}
                    edges.append({**ends, "mean": float(mean), "size": float(size), "share": share})
        return edges

    def _shares_of_others(self, number: int, seed: int) -> np.ndarray:
        """Shares of edges between latents that are drawn among all that are ever active."""
        subject, candidates = self._subjects[number], self._candidates
        rng = np.random.default_rng([seed, number])
        alive = candidates.latents[candidates.sites == number]
        others = np.sort(rng.choice(alive, min(COMPARED, len(alive)), replace=False))
        sums, _ = measure(subject, self._mode, others)
        shares = []
        for later_number, later in enumerate(self._subjects):
            if later.site in subject.outcomes.sites:
                targets = candidates.latents[candidates.sites == later_number]
                targets = targets[self._means[later.site][targets] > 0]
                size = sums[later.site].size[:, targets] / subject.n_rows
                shares.append((size / self._means[later.site][targets]).ravel())
        return np.concatenate(shares) if shares else np.zeros(0)


def _compared(edges: list[dict[str, Any]], beside: np.ndarray) -> dict[str, Any]:
    """Each edge's percentile among those of random pairs, and how many lie above 95% of them."""
    if not edges or len(beside) < 200:
        return {"edges": [{**edge, "percentile": None} for edge in edges], "edge_control": None}
    own = np.array([edge["share"] for edge in edges])
    ordered = np.sort(beside)
    less, upto = (np.searchsorted(ordered, own, side) for side in ("left", "right"))
    places = 100 * ((less + upto) / 2 + 0.5) / (len(beside) + 1)
    control = {
        "pairs": len(beside),
        "median": float(np.median(beside)),
        "high": float(np.quantile(beside, 0.95)),
        "above_high": float((own > np.quantile(beside, 0.95)).mean()),
    }
    found = [{**edge, "percentile": float(place)} for edge, place in zip(edges, places, strict=True)]
    return {"edges": found, "edge_control": control}


def input_effects(
    inputs: Sequence[Input],
    ablation: Ablation,
    output: Output,
    batches: Sequence[Batch],
    donors: np.ndarray,
    episodes: np.ndarray,
    latents: np.ndarray,
    seed: int,
) -> list[dict[str, Any]]:
    """What each input does if it alone takes its value of a row of another episode, strongest on the output first.

    latents: of the circuit at its first site. effect: mean over rows of |change| of the output, summed over units, with
    its 95% interval over episodes; share: per latent, mean |change| as a share of its mean. All else that the policy
    observes stays, so that a changed observation may be one that no episode holds.
    """
    site = next(iter(ablation.saes))
    given = {name: np.concatenate([np.asarray(batch[name]) for batch in batches]) for name in {i.array for i in inputs}}
    changes = np.zeros((len(inputs), len(donors)))
    moved, totals = np.zeros((len(inputs), len(latents))), np.zeros(len(latents))
    start = 0
    for batch in batches:
        base = ablation.unchanged(batch)
        f = encoded(ablation.saes[site], base.reads[site])[:, :, latents].double()
        rows = np.arange(start, start + len(f))
        totals += f.abs().sum((0, 1)).cpu().numpy()
        for number, entry in enumerate(inputs):
            changed = ablation.unchanged(_with_input(batch, entry, given[entry.array][donors[rows]]))
            g = encoded(ablation.saes[site], changed.reads[site])[:, :, latents].double()
            moved[number] += (g - f).abs().sum((0, 1)).cpu().numpy()
            changes[number, rows] = output.sizes(base, changed)
        start += len(f)
    shares = np.divide(moved, totals, out=np.zeros_like(moved), where=totals > 0)
    estimate = cluster_bootstrap(changes.T, episodes, Resampling(seed))
    order = np.argsort(-estimate.value, kind="stable")
    return [
        {
            "name": inputs[n].name,
            "unit": inputs[n].unit,
            **{
                key: float(getattr(estimate, k)[n])
                for key, k in (("effect", "value"), ("low", "low"), ("high", "high"))
            },
            "shares": [{"latent": int(i), "share": float(s)} for i, s in zip(latents, shares[n], strict=True)],
        }
        for n in order
    ]


def _with_input(batch: Batch, entry: Input, donors: np.ndarray) -> dict[str, Any]:
    values = np.array(batch[entry.array])
    values[(slice(None), *entry.index)] = donors[(slice(None), *entry.index)]
    return {**batch, entry.array: values}
