"""The figures of a sweep of SAEs: size and sparsity, latent density, policy fidelity, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policylens.visualize.figure import GREY, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Report = Mapping[str, Any]
Style = dict[str, Any]

MARKERS = "os^Dvp*XhP"
SHADES = ("Blues", "Oranges", "Greens", "Purples", "Reds", "Greys")
ABLATIONS = {"resample": "resample-ablation", "mean": "mean-ablation", "zero": "zero-ablation"}
LABELS = {"sparsity": "λ", "k": "k"}


def sparsity_of(settings: Mapping[str, Any]) -> tuple[str, float]:
    """Name and value of the setting that makes a member sparse, ("", 0) if it has none."""
    for key, sign in LABELS.items():
        if key in settings:
            return sign, settings[key]
    return "", 0.0


def styles(reports: Mapping[str, Report]) -> dict[str, Style]:
    """Colour, marker and label per member: a hue and a marker per architecture, a shade per sparsity."""
    import matplotlib

    architectures = sorted({report["settings"]["architecture"] for report in reports.values()})
    found = {}
    for name, report in reports.items():
        settings = report["settings"]
        number = architectures.index(settings["architecture"])
        sign, value = sparsity_of(settings)
        peers = sorted({sparsity_of(other["settings"])[1] for other in _same_kind(reports, settings)})
        depth = 0.45 + 0.5 * (peers.index(value) / (len(peers) - 1) if len(peers) > 1 else 0.6)
        found[name] = {
            "color": matplotlib.colormaps[SHADES[number % len(SHADES)]](depth),
            "marker": MARKERS[number % len(MARKERS)],
            "label": settings["architecture"] + (f" {sign}={value:g}" if sign else ""),
        }
    return found


def _same_kind(reports: Mapping[str, Report], settings: Mapping[str, Any]) -> list[Report]:
    return [r for r in reports.values() if r["settings"]["architecture"] == settings["architecture"]]


def _order(report: Report) -> tuple[Any, ...]:
    return (report["settings"]["architecture"], sparsity_of(report["settings"])[1], report["d_sae"])


def in_order(reports: Mapping[str, Report]) -> dict[str, Report]:
    """Members by architecture, sparsity and width."""
    return dict(sorted(reports.items(), key=lambda item: (*_order(item[1]), item[0])))


def short_label(report: Report) -> str:
    """A member in a few characters."""
    sign, value = sparsity_of(report["settings"])
    return f"{report['settings']['architecture']} m={report['d_sae']}" + (f" {sign}={value:g}" if sign else "")


def _basis(reports: Mapping[str, Report]) -> str:
    first = next(iter(reports.values()))
    return (
        f"{first['split']} split: {first['n_rows']:,} rows of {first['n_episodes']:,} episodes; "
        "whiskers: 95% bootstrap intervals over episodes"
    )


def _points(axes: Axes, members: Sequence[Report], style: Style, x: str, y: str) -> None:
    xs, ys = (np.array([_values(report, key) for report in members]) for key in (x, y))
    errors = {
        "xerr": None if x == "latents" else _arms(xs),
        "yerr": _arms(ys),
    }
    axes.errorbar(
        xs[:, 0], ys[:, 0], **errors, **style, markersize=5, linewidth=1.4, elinewidth=1, capsize=2, capthick=1
    )


def _values(report: Report, key: str) -> list[float]:
    if key == "latents":
        return [report["d_sae"]] * 3
    estimate = report["metrics"][key]
    return [np.nan if estimate[part] is None else estimate[part] for part in ("value", "low", "high")]


def _arms(values: np.ndarray) -> np.ndarray:
    value, low, high = values.T
    return np.maximum(0, np.nan_to_num(np.stack([value - low, high - value])))


PANELS = (
    ("latents", "l0", "Sparsity against size"),
    ("latents", "normalised_mse", "Error against size"),
    ("latents", "loss", "Loss against size"),
    ("l0", "normalised_mse", "Error against sparsity"),
)
AXES = {
    "latents": "latents m",
    "l0": "L0: active latents per row",
    "normalised_mse": "normalised MSE: Σ‖x − x̂‖² / Σ‖x‖²",
    "loss": "loss per row (each architecture has its own)",
}


def scaling(path: Path, reports: Mapping[str, Report], title: str) -> None:
    """L0, error and loss against the number of latents, and error against L0.

    reports: member name -> metrics.json. title: names policy, checkpoint and site.
    """
    reports = in_order(reports)
    style = styles(reports)
    series: dict[str, list[str]] = {}
    for name in reports:
        series.setdefault(style[name]["label"], []).append(name)
    with drawing(path, 9, 7.2, f"SAE size and sparsity: {title}", _basis(reports)) as figure:
        grid = figure.subplots(2, 2)
        for axes, (x, y, heading) in zip(grid.flat, PANELS, strict=True):
            for names in series.values():
                _points(axes, [reports[name] for name in names], style[names[0]], x, y)
            axes.set(title=heading, xlabel=AXES[x], ylabel=AXES[y])
            _scales(axes, x, y, list(reports.values()))
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper")


def _scales(axes: Axes, x: str, y: str, reports: Sequence[Report]) -> None:
    from matplotlib.ticker import NullLocator

    if x == "latents":
        widths = sorted({report["d_sae"] for report in reports})
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, [str(width) for width in widths])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(widths[0] / 1.4, widths[-1] * 1.4)
    else:
        axes.set_xlim(left=0)
    values = [_values(report, y)[0] for report in reports]
    if y == "loss" and max(values) > 20 * min(values) > 0:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)


def density(path: Path, reports: Mapping[str, Report], title: str) -> None:
    """Per member the histogram of log10 density of its latents."""
    reports = in_order(reports)
    style = styles(reports)
    columns = min(len(reports), 5 if len(reports) > 9 else 3 if len(reports) > 4 else 2)
    rows = -(-len(reports) // columns)
    with drawing(
        path, 0.6 + 2.9 * columns, 1.1 + 2.0 * rows, f"Latent density: {title}", _density_note(reports)
    ) as figure:
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for axes in grid.flat[len(reports) :]:
            axes.set_visible(False)
        for axes, (name, report) in zip(grid.flat, reports.items(), strict=False):
            found = report["density"]
            axes.stairs(found["latents"], found["log10_edges"], fill=True, color=style[name]["color"])
            axes.set_title(short_label(report), fontsize=9)
            axes.text(
                0.03,
                0.95,
                f"never active: {found['never_active']:,} of {report['d_sae']:,}\n"
                f"L0 {report['metrics']['l0']['value']:.1f}",
                transform=axes.transAxes,
                va="top",
                fontsize=8,
                color="#333333",
            )
            axes.set_ylim(0, 1.45 * max(1, *found["latents"]))
        figure.supxlabel("log10 of the share of rows in which a latent is active", fontsize=9)
        figure.supylabel("latents per bin", fontsize=9)


def _density_note(reports: Mapping[str, Report]) -> str:
    first = next(iter(reports.values()))
    return f"{first['split']} split: {first['n_rows']:,} rows of {first['n_episodes']:,} episodes"


FIDELITY = {
    "kl": ("KL(original ‖ edited), nats", "Action distribution"),
    "agreement": ("share of rows with the same top action", "Top action"),
    "value_error": ("mean |edited − original| value", "Value"),
}


def fidelity(path: Path, reports: Mapping[str, Report], title: str) -> None:
    """What the policy loses per member's reconstruction, beside ablations of the whole site."""
    reports = {name: report for name, report in in_order(reports).items() if report["fidelity"]}
    if not reports:
        _without_fidelity(path, title)
        return
    style = styles(reports)
    bars = _fidelity_bars(reports, style)
    metrics = [metric for metric in FIDELITY if metric in bars[0][2]]
    width, height = 2.2 + 2.9 * len(metrics), 1.5 + 0.27 * len(bars)
    with drawing(path, width, height, f"Policy fidelity: {title}", _basis(reports)) as figure:
        grid = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axes, metric in zip(grid, metrics, strict=True):
            _draw_bars(axes, bars, metric)
        grid[0].set_yticks(range(len(bars)), [label for label, *_ in bars])
        grid[0].invert_yaxis()


def _fidelity_bars(reports: Mapping[str, Report], style: Mapping[str, Style]) -> list[tuple[str, Any, Any]]:
    """(label, colour, metric -> estimate): every member's reconstruction, then the ablations, which they share."""
    bars = [
        (short_label(report), style[name]["color"], report["fidelity"]["edits"]["reconstruction"])
        for name, report in reports.items()
    ]
    edits = next(iter(reports.values()))["fidelity"]["edits"]
    return bars + [(label, GREY, edits[edit]) for edit, label in ABLATIONS.items()]


def _draw_bars(axes: Axes, bars: Sequence[tuple[str, Any, Any]], metric: str) -> None:
    estimates = [found[metric] for _, _, found in bars]
    spans = np.array([[np.nan if e[part] is None else e[part] for part in ("value", "low", "high")] for e in estimates])
    places = np.arange(len(bars))
    axes.barh(places, spans[:, 0], color=[colour for _, colour, _ in bars], height=0.7)
    axes.errorbar(spans[:, 0], places, xerr=_arms(spans), fmt="none", ecolor="#222222", elinewidth=1, capsize=2)
    label, heading = FIDELITY[metric]
    furthest = float(np.nanmax(spans))
    for place, (value, _, high) in zip(places, spans, strict=True):
        axes.text(max(value, np.nan_to_num(high)) + 0.02 * furthest, place, f"{value:.3g}", va="center", fontsize=8)
    axes.set(title=heading, xlabel=label, xlim=(0, 1.22 * furthest or 1), ylim=(-0.6, len(bars) - 0.4))
    if metric == "agreement":
        axes.set_xticks(np.linspace(0, 1, 6))
    axes.grid(axis="y", visible=False)


def _without_fidelity(path: Path, title: str) -> None:
    with drawing(path, 6, 1.6, f"Policy fidelity: {title}", "no policy was run for this sweep") as figure:
        axes = figure.subplots()
        axes.text(0.5, 0.5, "fidelity needs a policy and its observations", ha="center", va="center")
        axes.set_axis_off()


CURVES = (
    ("loss", "loss"),
    ("reconstruction", "Σ (x − x̂)² per row"),
    ("l0", "L0: active latents per row"),
    ("dead", "share of latents never active"),
)


def training(
    path: Path, reports: Mapping[str, Report], histories: Mapping[str, Sequence[Mapping[str, float]]], title: str
) -> None:
    """Loss, error, L0 and dead latents over the training of every member.

    histories: member name -> rows of training.json.
    """
    reports = in_order(reports)
    style = styles(reports)
    widths = sorted({report["d_sae"] for report in reports.values()})
    note = "measured on fixed training rows, in units of the normalised data" + (
        f"; thicker lines: more latents ({widths[0]} to {widths[-1]})" if len(widths) > 1 else ""
    )
    with drawing(path, 9.5, 7, f"SAE training: {title}", note) as figure:
        grid = figure.subplots(2, 2, sharex=True)
        for axes, (key, label) in zip(grid.flat, CURVES, strict=True):
            for name, report in reports.items():
                steps, values = ([row[column] for row in histories[name]] for column in ("step", key))
                thickness = np.interp(widths.index(report["d_sae"]), [0, 1, 4], [1, 1.5, 2.6])
                axes.plot(steps, values, color=style[name]["color"], lw=thickness, label=style[name]["label"])
            axes.set_title(label)
            _curve_scale(axes, key)
        for axes in grid[1]:
            axes.set_xlabel("optimiser step")
        handles, labels = grid.flat[0].get_legend_handles_labels()
        last = dict(zip(labels, handles, strict=True))
        figure.legend(last.values(), last.keys(), loc="outside right upper")


def _curve_scale(axes: Axes, key: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if key == "dead":
        axes.set_ylim(0, max(0.05, 1.05 * axes.dataLim.ymax))
        return
    axes.set_yscale("log")
    few_decades = axes.dataLim.ymax < 100 * max(axes.dataLim.ymin, 1e-12)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few_decades else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
