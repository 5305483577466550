"""summary.txt: what a circuit comes to, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHOWN = 8


def summary(record: Mapping[str, Any]) -> str:
    """Some lines. record: circuit.json."""
    chosen, scored = record["chosen_on"], record["scored_on"]
    kept = "kept" if record["keep_error"] else "left out"
    lines = [
        f"Circuit {record['circuit']} of {record['policy']} / {record['checkpoint']}: {record['output']['name']}, over "
        f"{', '.join(record['sites'])}",
        f"outside it: {record['mode']}; the SAEs' errors are {kept}; distance: {record['distance']}",
        f"chosen on {chosen['n_rows']} rows of {chosen['n_episodes']} episodes ({chosen['split']}), scored on "
        f"{scored['n_rows']} rows of {scored['n_episodes']} episodes ({scored['split']})",
        *(f"LIMITATION: {line}" for line in record["limitations"]),
        f"changing all latents of {sum(record['candidates'].values())} ever active comes to {record['reach']:.4g}",
        "",
        f"size   {'faithfulness':20}  {'random, as many per site':40}  busiest   completeness",
        *(_size(entry) for entry in record["curve"]),
        "",
        _verdict(record["curve"]),
        "",
        *_graph(record),
    ]
    return "\n".join(lines) + "\n"


def _size(entry: Mapping[str, Any]) -> str:
    beside, random = entry["random"], "none drawn"
    if beside:
        random = (
            f"{beside['median']:5.2f} (90%: {beside['low']:.2f}, {beside['high']:.2f}) p = {beside['adjusted_p']:.3f}"
        )
    own, busiest, rest = _interval(entry["faithfulness"]), _value(entry["by_activity"]), _value(entry["completeness"])
    return f"{entry['size']:4d}   {own:20}  {random:40}  {busiest:8}  {rest}"


def _interval(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return _value(found)
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _value(found: Mapping[str, Any]) -> str:
    return "none" if found["value"] is None else f"{found['value']:5.2f}"


def _verdict(curve: list[Mapping[str, Any]]) -> str:
    """Whether the circuit is better than chance, and than latents that are merely active."""
    if curve[0]["random"] is None:
        return "no random circuits were drawn: nothing says that these latents are special"
    better = [entry["size"] for entry in curve if entry["random"]["adjusted_p"] <= 0.05]
    if not better:
        return "better than random circuits (adjusted p <= .05) at no size: random circuits do as well"
    active = [e["size"] for e in curve if e["size"] in better and (e["over_activity"]["low"] or 0) > 0]
    busy = f"at sizes {_list(active)}" if active else "at none"
    return (
        f"better than random circuits (adjusted p <= .05) at sizes {_list(better)}; of these, than the busiest {busy}"
    )


def _list(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes))


def _graph(record: Mapping[str, Any]) -> list[str]:
    own = next((entry["faithfulness"] for entry in record["curve"] if entry["size"] == record["size"]), None)
    lines = [f"the circuit of {record['size']}" + (f" (faithfulness {_interval(own)}):" if own else ":")]
    for site in record["sites"]:
        own = sorted((n for n in record["nodes"] if n["site"] == site), key=lambda node: -node["effect"])
        named = ", ".join(f"{node['latent']} ({node['effect']:.3g})" for node in own[:SHOWN])
        lines.append(f"  {site}: {len(own)} latents" + (f", by effect on the output: {named}" if own else ""))
    control = record["edge_control"]
    if control:
        above = f"{control['above_95']:.0%} are stronger than 95% of those from the same site to the same latent"
        lines.append(f"  of its {control['edges']} edges {above} (5% by chance)")
    strongest = sorted(record["edges"], key=lambda edge: -edge["share"])[:SHOWN]
    lines += [
        f"    {edge['from'][0]}/{edge['from'][1]} -> {edge['to'][0]}/{edge['to'][1]}: {edge['share']:.2f} of its mean"
        for edge in strongest
    ]
    if record["inputs"] is None:
        return [*lines, "  no inputs: the policy's family names none, or none were asked for"]
    lines.append(f"  inputs, of {record['inputs']['count']}, by effect on the output when each is resampled alone:")
    return lines + [
        f"    {entry['name']}: {entry['effect']:.3g} [{entry['low']:.3g}, {entry['high']:.3g}]"
        for entry in record["inputs"]["strongest"]
    ]
