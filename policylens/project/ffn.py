"""Blocks of FFN clustering in config.yaml: defaults, and checks against other blocks. Free of heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from policylens.errors import UserError
from policylens.ffn.patterns import matching
from policylens.project.known import known

if TYPE_CHECKING:
    from policylens.project.config import PolicyBlock

DEFAULTS: dict[str, Any] = {
    "split": "all",
    "rows": 0,
    "max_batches": 0,
    "top_k_per_layer": 32,
    "minimum": 0.0,
    "layers": [],
    "store_value_vectors": False,
}
CLUSTERS: dict[str, Any] = {
    "count": 10,
    "space": "weight",
    "normalise": True,
    "keywords": [],
    "restarts": 10,
    "clouds": 99,
    "perplexity": 30.0,
}
PROBED = ("sites", "split", "rows", "batch_rows", "max_batches", "minimum", "source", "observations", "names")
"""What looking at activations is told; all else says what is made of them."""
RECORDED = ("top_k_per_layer", "minimum", "layers", "store_value_vectors", "projection")


def ffn_settings(block: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A block with its defaults filled in; seed: of the whole config."""
    return {"seed": seed, **DEFAULTS, **block, "clusters": {**CLUSTERS, **block.get("clusters", {})}}


def part_of(block: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Those of a block's settings that a job is told."""
    return {name: block[name] for name in names if name in block}


def check_ffn(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """A source that there is, or patterns; sites that every known checkpoint has; a policy that can be run."""
    if "run" not in policy.family.capabilities:
        raise UserError(f"{where} needs the capability 'run', which the family {policy.family.name!r} lacks")
    if "source" in block:
        known(block["source"], policy.sources, where, "source")
    else:
        try:
            matching(block["observations"])
        except UserError as error:
            raise UserError(f"{where}.observations: {error}") from None
    for checkpoint in policy.checkpoints:
        for site in block["sites"] if (sites := policy.sites(checkpoint)) is not None else ():
            known(site, sites, where, f"site in the checkpoint {checkpoint!r} called")


def with_cluster_sites(steering: Mapping[str, Any], ffns: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A block of steering whose clusters also say on which sites they may have units.

    ffns: the policy's blocks of clustering. Raises UserError for a block or a cluster that there is not.
    """
    clusters = {}
    for name, own in steering.get("clusters", {}).items():
        block = ffns[known(own["ffn"], ffns, f"{where}.clusters.{name}", "ffn block")]
        if own["cluster"] >= block["clusters"]["count"]:
            last = block["clusters"]["count"] - 1
            raise UserError(f"{where}.clusters.{name}: {own['ffn']!r} has clusters 0 to {last}, not {own['cluster']}")
        clusters[name] = {**own, "sites": list(block["sites"])}
    return {**steering, "clusters": clusters} if clusters else dict(steering)
