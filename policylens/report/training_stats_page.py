"""training_stats.html: training_stats.json as a page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DATA_FILES = ("training_stats.html",)

MAPS = ("explained_variance", "l0", "l1", "dead")
"""Statistics that are drawn as a map of members and sites."""

LIGHT, DARK = (247, 251, 255), (8, 48, 107)
"""Ends of the maps' colours: one hue by lightness, which every eye orders alike."""

LEGIBLE = 0.65
"""From this share of the way on, white text stands out more than black."""


def page(stats: Mapping[str, Any]) -> str:
    """HTML of training_stats.json; without scripts the table is read as it stands, with them it can be sorted."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"number": number, "percent": percent}
    text = Path(__file__).with_name(DATA_FILES[0]).read_text(encoding="utf-8")
    return environment.from_string(text).render(
        stats=stats, maps=[_map(stats, key) for key in MAPS], rows=_most_rows(stats["entries"])
    )


def number(value: float | None) -> str:
    """Three significant digits, thousands set apart."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(share: float | None) -> str:
    """A share in per cent."""
    return "–" if share is None else f"{100 * share:.3g}%"


def _most_rows(entries: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    return max((entry["n_rows"], entry["n_episodes"]) for entry in entries)


def _map(stats: Mapping[str, Any], key: str) -> dict[str, Any]:
    """One statistic as a table of members and sites: a cell is (text, background, colour of the text)."""
    told = percent if stats["statistics"][key]["unit"].startswith("share") else number
    values = {(e["site"], e["member"]): _plain(e[key]) for e in stats["entries"]}
    known = [value for value in values.values() if value is not None]
    low, high = (min(known), max(known)) if known else (None, None)
    return {
        **stats["statistics"][key],
        "low": told(low),
        "high": told(high),
        "lines": [
            (member, [_cell(values.get((site, member)), low, high, told) for site in stats["sites"]])
            for member in stats["members"]
        ],
    }


def _plain(found: Mapping[str, Any]) -> float | None:
    return found["share"] if "share" in found else found["value"]


def _cell(value: float | None, low: float | None, high: float | None, told: Any) -> tuple[str, str, str]:
    if value is None or low is None or high is None:
        return "–", "transparent", "inherit"
    share = (value - low) / (high - low) if high > low else 0.0
    colour = [round(a + share * (b - a)) for a, b in zip(LIGHT, DARK, strict=True)]
    return told(value), f"rgb({', '.join(map(str, colour))})", "#fff" if share > LEGIBLE else "#111"
