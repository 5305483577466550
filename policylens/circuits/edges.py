"""What runs through a circuit: effects of its latents on each other and on the output, and of inputs on both.

An edge from latent i to latent j of a later site is the exact effect of changing i alone: a total effect, through
everything that lies between, other latents and what no SAE holds included. It is no statement about a direct path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from policylens.circuits.ablation import Ablation
from policylens.circuits.outputs import Output
from policylens.circuits.selection import Candidates, in_pieces, mean_sizes
from policylens.interventions.exact import measure
from policylens.interventions.modes import Mode
from policylens.interventions.subject import Subject
from policylens.policies.inputs import Input
from policylens.policies.protocol import Batch
from policylens.progress import progress
from policylens.sae.latents import encoded
from policylens.statistics.intervals import cluster_bootstrap
from policylens.statistics.resampling import Resampling

FEWEST_SOURCES = 20
"""Among fewer latents of a site an edge is not placed."""


class Graph:
    """Nodes and edges of a circuit on some rows.

    subjects: one per site, in the order of the pass. candidates: what the circuit was chosen from. places: the circuit.
    """

    def __init__(
        self, subjects: Sequence[Subject], candidates: Candidates, places: np.ndarray, mode: Mode, output: Output
    ) -> None:
        self._subjects, self._mode, self._output = subjects, mode, output
        count = range(len(subjects))
        self._members = {
            subjects[n].site: np.sort(candidates.latents[places[candidates.sites[places] == n]]) for n in count
        }
        self._sources = {subjects[n].site: candidates.latents[candidates.sites == n] for n in count}
        self._means = {subject.site: mean_sizes(subject)[self._members[subject.site]] for subject in subjects}

    def found(self) -> dict[str, Any]:
        """Entries `nodes`, `edges` and `edge_control` of circuit.json."""
        nodes, edges = [], []
        for subject in self._subjects:
            if len(self._members[subject.site]):
                own, onward = self._of_site(subject)
                nodes += own
                edges += onward
        placed = np.array([edge["percentile"] for edge in edges if edge["percentile"] is not None])
        control = {"edges": len(placed), "above_95": float((placed > 95).mean())} if len(placed) else None
        return {"nodes": nodes, "edges": edges, "edge_control": control}

    def _of_site(self, subject: Subject) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """A site's nodes, and the edges that start there. Edges are placed among those of all its latents."""
        site, sources = subject.site, self._sources[subject.site]
        later = [name for name in subject.outcomes.sites if len(self._members[name])]
        sizes, signs, onward = self._measured(subject, sources, later)
        places = np.searchsorted(sources, self._members[site])
        nodes = [
            {
                "site": site,
                "latent": int(sources[place]),
                "effect": float(sizes[place]),
                "density": float(subject.latents.densities[sources[place]]),
                "sign": None if signs is None else int(signs[place]),
            }
            for place in places
        ]
        return nodes, [edge for name in later for edge in self._edges(site, places, name, *onward[name])]

    def _edges(
        self, site: str, places: np.ndarray, later: str, size: np.ndarray, mean: np.ndarray
    ) -> list[dict[str, Any]]:
        """From the circuit's latents at one site to those at a later one. size, mean: (sources, members there)."""
        sources = self._sources[site]
        percentiles = 100 * (stats.rankdata(size, axis=0) - 0.5) / len(sources)
        totals = self._means[later]
        shares = np.divide(size, totals, out=np.zeros_like(size), where=totals > 0)
        return [
            {
                "from": [site, int(sources[place])],
                "to": [later, int(latent)],
                "mean": float(mean[place, target]),
                "size": float(size[place, target]),
                "share": float(shares[place, target]),
                "percentile": float(percentiles[place, target]) if len(sources) >= FEWEST_SOURCES else None,
            }
            for place in places
            for target, latent in enumerate(self._members[later])
        ]

    def _measured(
        self, subject: Subject, latents: np.ndarray, later: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray | None, dict[str, tuple[np.ndarray, np.ndarray]]]:
        """Effects on the output (k,), their signs, and per later site mean |effect| and mean effect on its members."""
        sizes, signs, onward = [], [], {site: ([], []) for site in later}
        pieces = in_pieces(subject, latents)
        for piece in progress(pieces, len(pieces), f"{subject.site}: edges", "pieces"):
            sums, _ = measure(subject, self._mode, piece)
            sizes.append(self._output.effects(sums, subject.n_rows))
            signs.append(self._output.signs(sums))
            for site, (size, mean) in onward.items():
                size.append(sums[site].size[:, self._members[site]] / subject.n_rows)
                mean.append(sums[site].signed[:, self._members[site]] / subject.n_rows)
        joined = {site: tuple(np.concatenate(part) for part in parts) for site, parts in onward.items()}
        return np.concatenate(sizes), None if signs[0] is None else np.concatenate(signs), joined


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
