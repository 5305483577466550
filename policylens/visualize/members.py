"""How the members of a sweep are told apart in figures: order, names, and colour and marker of each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from policylens.sae.row_kinds import NONE, row_norm_of

Report = Mapping[str, Any]
Style = dict[str, Any]

MARKERS = "os^Dvp*XhP"
SHADES = ("Blues", "Oranges", "Greens", "Purples", "Reds", "Greys")
SIGNS = {"sparsity": "λ", "k": "k"}
SHORT = {"learning_rate": "lr"}
APART = ("architecture", "latents", "seed", *SIGNS)
"""Settings that are shown in ways of their own; `seed` stands in a report as `training_seed`, defaults resolved."""


def sparsity_of(settings: Mapping[str, Any]) -> tuple[str, float]:
    """Sign and value of the setting that makes a member sparse, ("", 0) if it has none."""
    for key, sign in SIGNS.items():
        if key in settings:
            return sign, settings[key]
    return "", 0.0


def trained_here(report: Report) -> bool:
    """Whether an SAE was trained here and not imported, so that its settings are known."""
    return report["training_seed"] is not None


def in_order(reports: Mapping[str, Report]) -> dict[str, Report]:
    """Members by architecture, sparsity, what else is varied, and width."""
    further = varied(reports)

    def place(item: tuple[str, Report]) -> tuple[Any, ...]:
        name, report = item
        settings = report["settings"]
        rest = tuple(_sortable(_value(report, key)) for key in further)
        return settings["architecture"], sparsity_of(settings)[1], rest, report["d_sae"], name

    return dict(sorted(reports.items(), key=place))


def varied(reports: Mapping[str, Report], leave_out: tuple[str, ...] = ()) -> list[str]:
    """Settings in which members of one architecture differ, besides width and sparsity; `training_seed` for seeds.

    Of imported SAEs most settings are not known, so they do not count.
    """
    found = set()
    own = {name: report for name, report in reports.items() if trained_here(report)}
    for report in own.values():
        for other in _same_kind(own, report):
            keys = report["settings"].keys() & other["settings"].keys() - set(APART) | {"row_norm"}
            found |= {key for key in (*keys, "training_seed") if _value(report, key) != _value(other, key)}
    return sorted(found - set(leave_out))


def series(reports: Mapping[str, Report], leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """Member -> what it is but for its width, e.g. "topk k=32": members of one such line differ in width.

    leave_out: further settings that are not named, so that one line holds members that differ in them.
    """
    further = varied(reports, leave_out)
    names = {name: " ".join(_words(report, further)) for name, report in reports.items()}
    # Of imported SAEs too little is known to say what sets them apart, so that each is a line of its own.
    alike = Counter(names[name] for name, report in reports.items() if not trained_here(report))
    return {name: f"{line} ({name})" if alike[line] > 1 else line for name, line in names.items()}


def short_labels(reports: Mapping[str, Report]) -> dict[str, str]:
    """Member -> a label of its own in a few characters, e.g. "topk m=1024 k=32"."""
    further = varied(reports)
    labels = {}
    for name, report in reports.items():
        architecture, *rest = _words(report, further)
        labels[name] = " ".join([architecture, f"m={report['d_sae']}", *rest])
    known = list(labels.values())
    return {name: label if known.count(label) == 1 else f"{label} ({name})" for name, label in labels.items()}


def styles(reports: Mapping[str, Report]) -> dict[str, Style]:
    """Colour, marker and series per member.

    Of several architectures each has a hue and a marker, and its sparsities shades; of one alone each line has its own.
    """
    import matplotlib

    ordered, names = in_order(reports), series(reports)
    architectures = list(dict.fromkeys(report["settings"]["architecture"] for report in ordered.values()))
    found = {}
    for number, architecture in enumerate(architectures):
        own = [name for name in ordered if ordered[name]["settings"]["architecture"] == architecture]
        levels = list(dict.fromkeys(names[name] for name in own))
        for name in own:
            level = levels.index(names[name])
            share = level / (len(levels) - 1) if len(levels) > 1 else 0.6
            if len(architectures) == 1:
                colour, marker = matplotlib.colormaps["viridis"](0.88 * share), MARKERS[level % len(MARKERS)]
            else:
                colour = matplotlib.colormaps[SHADES[number % len(SHADES)]](0.45 + 0.5 * share)
                marker = MARKERS[number % len(MARKERS)]
            found[name] = {"color": colour, "marker": marker, "label": names[name]}
    return found


def lines_of(names: Mapping[str, str]) -> dict[str, list[str]]:
    """Line -> its members, from member -> line."""
    found: dict[str, list[str]] = {}
    for name, line in names.items():
        found.setdefault(line, []).append(name)
    return found


def mark_size(latents: int) -> float:
    """Points across of the mark of a member of so many latents: one more per doubling."""
    return min(10.0, max(3.0, math.log2(latents) - 4))


def basis(reports: Mapping[str, Report]) -> str:
    """What was measured, on how much, and what the whiskers are: the small print of a figure."""
    first = next(iter(reports.values()))
    return (
        f"{first['split']} split: {first['n_rows']:,} rows of {first['n_episodes']:,} episodes; "
        "whiskers: 95% bootstrap intervals over episodes"
    )


def _same_kind(reports: Mapping[str, Report], report: Report) -> list[Report]:
    architecture = report["settings"]["architecture"]
    return [other for other in reports.values() if other["settings"]["architecture"] == architecture]


def _value(report: Report, key: str) -> Any:
    if key == "row_norm":
        return row_norm_of(report["settings"]) or NONE
    return report["training_seed"] if key == "training_seed" else report["settings"].get(key)


def _sortable(value: Any) -> tuple[int, float, str]:
    number = isinstance(value, int | float)
    return (0, value, "") if number else (1, 0.0, str(value))


def _words(report: Report, further: list[str]) -> list[str]:
    settings = report["settings"]
    sign, value = sparsity_of(settings)
    kind = settings["architecture"] + (f" → {settings['output_site']}" if settings.get("output_site") else "")
    if not trained_here(report):
        return [kind, *([f"k={value:g}"] if "k" in settings else []), "imported"]
    words = [kind] + ([f"{sign}={value:g}"] if sign else [])
    for key in further:
        own = _value(report, key)
        if own is not None:
            words.append(f"{SHORT.get(key, key.removeprefix('training_').replace('_', ' '))}={_text(own)}")
    return words


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value.rstrip("/").rpartition("/")[2] if isinstance(value, str) else str(value)
