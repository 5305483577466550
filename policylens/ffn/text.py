"""summary.txt: what a clustering of units says, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SHOWN = 5

Record = Mapping[str, Any]


def verdict(record: Record) -> str:
    """Whether there are clusters at all, in a sentence or two. record: analysis.json."""
    separation, stability = record["separation"], record["stability"]
    null, clouds = separation["nulls"]["cloud"], stability["cloud"]
    told = {
        name: f"{separation[name]:.3g} (95% of single clouds: up to {null[name]['high']:.3g}, p {null[name]['p']:.2g})"
        for name in ("silhouette", "explained")
    }
    found = (
        f"Mean silhouette {told['silhouette']}, share explained {told['explained']}; adjusted Rand index between "
        f"halves of the units {stability['halves']['mean']:.3g} (clouds: up to {clouds['high']:.3g}), between seeds "
        f"{stability['seeds']['mean']:.3g}."
    )
    if separation["separated"] and stability["stable"]:
        return f"The units fall into clusters. {found}"
    if separation["separated"]:
        return f"The units are more clustered than one cloud, but not into these clusters reliably. {found}"
    return f"Not shown to be more than one cloud of vectors, sorted into groups. {found}"


def heard(record: Record) -> str:
    """What tokens can say, by what is known of the head that they were read from; "" where that is a language's."""
    if not record["tokens"]:
        return "The policy has no vocabulary: what units write is not read as tokens."
    if record["language"] is None:
        return (
            "Whether the head over words still writes a language is not known: the policy's record does not say, and "
            "training on actions need not keep it. Tokens, and clusters that speak of words, mean something if it does."
        )
    if not record["language"]:
        return (
            "The head over words has learnt no language: by its record the policy was trained from scratch, on actions "
            "alone. Tokens, and clusters that speak of words, show that the plumbing holds, and no more."
        )
    return ""


def summary(record: Record, clusters: Sequence[Record]) -> str:
    """record: analysis.json. clusters: clusters.json."""
    settings = record["settings"]
    lines = [
        f"Units of feed-forward layers: {record['ffn']} of {record['policy']} / {record['checkpoint']}",
        f"{record['units']} units of {len(record['sites'])} sites, {len(clusters)} clusters of their "
        + ("value vectors" if settings["space"] == "weight" else "top tokens' mean embeddings"),
        "",
    ]
    for site in record["sites"]:
        same = "" if site["halves"] is None else f"; chosen on even and odd episodes alike: {site['halves']:.2f}"
        lines.append(
            f"  {site['name']}: {site['chosen']} of {site['width']} units, over {site['rows']:,} rows, "
            f"{site['positions']:,} tokens; largest |a| {site['largest']:.3g}{same}"
        )
    lines += ["", verdict(record), *filter(None, [heard(record)]), ""]
    lines += [_cluster(one) for one in clusters]
    if record["ranking"]:
        lines += ["", f"clusters that speak of {', '.join(settings['keywords'])}"]
        lines += [
            f"  {one['cluster_id']}: {one['members']} members, {one['mentions']} mentions; adjusted p "
            f"{one['adjusted_p']:.2g}"
            for one in record["ranking"][:SHOWN]
            if one["mentions"]
        ] or ["  none does"]
    return "\n".join(lines) + "\n"


def _cluster(one: Record) -> str:
    tokens = ", ".join(repr(entry["token"]) for entry in one["token_summary"][:SHOWN])
    layers = ", ".join(f"layer {layer}: {count}" for layer, count in one["layers"].items())
    return f"  {one['cluster_id']}: {one['size']} units ({layers})" + (f"; {tokens}" if tokens else "")
