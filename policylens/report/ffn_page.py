"""clusters.html: clusters of units as a page that needs nothing but itself."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from policylens.ffn.text import heard, verdict
from policylens.report.training_stats_page import number

DATA_FILES = ("ffn_clusters.html",)

MEMBERS = 20
"""So many members of a cluster are listed, the strongest."""
TOKENS = 8


def page(record: Mapping[str, Any], clusters: Sequence[Mapping[str, Any]], figure: bytes) -> str:
    """HTML of analysis.json and clusters.json. figure: the map of units, PNG.

    Every text of the data is escaped. Without scripts everything is there to read; with them clusters can be filtered.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"number": number}
    text = Path(__file__).with_name(DATA_FILES[0]).read_text(encoding="utf-8")
    return environment.from_string(text).render(
        record=record,
        verdict=verdict(record),
        heard=heard(record),
        ranked={entry["cluster_id"]: entry for entry in record["ranking"]},
        clusters=[{**one, "strongest": _strongest(one)} for one in clusters],
        tokens=TOKENS,
        map=base64.b64encode(figure).decode(),
    )


def _strongest(cluster: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return sorted(cluster["members"], key=lambda one: -one["max_activation"])[:MEMBERS]
