"""What each cluster of units is: its members, the tokens that they write, and which clusters speak of given words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policylens.ffn.clusters import Clustered
from policylens.statistics.correction import benjamini_hochberg
from policylens.statistics.partitions import silhouettes

SUMMARY = 10
NEAREST = 5
KEPT = ("layer_index", "neuron_index", "max_activation", "top_tokens")

Record = Mapping[str, Any]


def described(records: Sequence[Record], found: Clustered) -> list[dict[str, Any]]:
    """clusters.json: a cluster per entry, the largest first.

    token_summary: tokens by the sum of their logits over the members in whose lists they stand, over the cluster's
    size. nearest: the members closest to the centre. spread: root mean square distance of members to it.
    """
    own = silhouettes(found.points, found.labels)
    distances = np.linalg.norm(found.points - found.centres[found.labels], axis=1)
    entries = []
    for number in range(found.count):
        places = np.flatnonzero(found.labels == number)
        members = [records[place] for place in places]
        nearest = places[np.argsort(distances[places], kind="stable")[:NEAREST]]
        entries.append(
            {
                "cluster_id": number,
                "size": len(members),
                "members": [{key: one[key] for key in (*KEPT, "site") if key in one} for one in members],
                "token_summary": token_summary(members),
                "layers": {str(layer): count for layer, count in _counts(members).items()},
                "centroid": {
                    "norm": float(np.linalg.norm(found.centres[number])),
                    "spread": float(np.sqrt((distances[places] ** 2).mean())),
                    "nearest": [[records[place][key] for key in KEPT[:2]] for place in nearest],
                },
                "silhouette": float(own[places].mean()),
            }
        )
    return entries


def _counts(members: Sequence[Record]) -> dict[int, int]:
    layers = sorted(one["layer_index"] for one in members)
    return {layer: layers.count(layer) for layer in dict.fromkeys(layers)}


def token_summary(members: Sequence[Record]) -> list[dict[str, Any]]:
    """The tokens that members write most, with their mean logit (0 where a token is not in a member's list)."""
    sums: dict[str, float] = {}
    for one in members:
        for entry in one["top_tokens"]:
            sums[entry["token"]] = sums.get(entry["token"], 0.0) + entry["logit"]
    ranked = sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:SUMMARY]
    return [{"token": token, "logit": total / len(members)} for token, total in ranked]


def mentions(record: Record, keywords: Sequence[str]) -> int:
    """How many of a unit's top tokens hold one of the words, whatever their case and spaces."""
    words = [plain(word) for word in keywords]
    return sum(any(word in plain(entry["token"]) for word in words) for entry in record["top_tokens"])


def plain(text: str) -> str:
    """Lower case, without SentencePiece's mark of a space and spaces around it."""
    return text.replace("\u2581", " ").strip().casefold()


def ranking(clusters: Sequence[Record], keywords: Sequence[str]) -> list[dict[str, Any]]:
    """Clusters by the share of members that mention a keyword, those with more mentions first among equals.

    p: chance that a random set of as many units holds as many that mention one (hypergeometric, one-sided), and
    adjusted_p over the clusters (Benjamini and Hochberg). Empty without keywords.
    """
    from scipy.stats import hypergeom

    if not keywords:
        return []
    counted = [[mentions(member, keywords) for member in one["members"]] for one in clusters]
    total = sum(len(counts) for counts in counted)
    speaking = sum(count > 0 for counts in counted for count in counts)
    entries = []
    for one, counts in zip(clusters, counted, strict=True):
        own = sum(count > 0 for count in counts)
        p = float(hypergeom.sf(own - 1, total, speaking, len(counts)))
        entry = {"cluster_id": one["cluster_id"], "mentions": sum(counts), "members": own, "share": own / len(counts)}
        entries.append({**entry, "p": min(p, 1.0)})
    adjusted = benjamini_hochberg(np.array([entry["p"] for entry in entries]))
    for entry, value in zip(entries, adjusted, strict=True):
        entry["adjusted_p"] = float(value)
    return sorted(entries, key=lambda entry: (-entry["share"], -entry["mentions"], entry["cluster_id"]))
