"""How figures look and are written here: the same bytes for the same numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policylens.stores.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#8A8A8A"

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "white",
    "svg.hashsalt": "policylens",
}
DPI = 150
HEADING = 0.55
"""Inches at the top for title and note."""
LAYOUTS = 3
"""A title that is made narrower makes room, and axes move: so often at most is a figure laid out anew."""
MARGIN = 8
"""Pixels between neighbouring texts."""
SMALLEST = 6.5
"""Points; texts are made no smaller than this."""


@contextlib.contextmanager
def drawing(path: Path, width: float, height: float, title: str, note: str) -> Iterator[Figure]:
    """A figure that is written to `path` as PNG when the block ends well.

    width, height: inches, legends outside the axes included. title: above all axes. note: small print under the
    title (which rows, which intervals).
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(rect=(0, 0, 1, 1 - HEADING / height), w_pad=0.08, h_pad=0.08)
        heading = {"x": 0.1 / width, "ha": "left", "va": "top", "in_layout": False}
        figure.text(y=1 - 0.08 / height, s=title, fontsize=12, fontweight="bold", **heading)
        figure.text(y=1 - 0.31 / height, s=note, fontsize=8.5, color="#555555", **heading)
        yield figure
        _settle(figure)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


def _settle(figure: Figure) -> None:
    """Lay the figure out and fit its texts, until neither texts nor axes move or it has been done `LAYOUTS` times."""
    before = None
    for _ in range(LAYOUTS):
        changed = _fit_texts(figure)
        places = [axes.get_position(original).bounds for axes in figure.axes for original in (False, True)]
        if not changed and places == before:
            return
        before = places


def _fit_texts(figure: Figure) -> bool:
    """Make the heading no wider than the figure, and titles of axes no wider than their share; whether any was not."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    changed = [
        _shrink(text, figure.bbox.x1 - text.get_window_extent(renderer).x0 - MARGIN, renderer) for text in figure.texts
    ]
    rows: dict[int, list[Axes]] = {}
    for axes in figure.axes:
        rows.setdefault(round(axes.bbox.y1), []).append(axes)
    for row in rows.values():
        row.sort(key=lambda axes: axes.bbox.x0)
        ends = [axes.bbox.x0 for axes in row[1:]] + [figure.bbox.x1]
        for axes, end in zip(row, ends, strict=True):
            for title in (axes.title, axes._left_title):
                changed.append(_shrink(title, end - axes.bbox.x0 - MARGIN, renderer))
    return any(changed)


def _shrink(text: Any, width: float, renderer: Any) -> bool:
    """Take a smaller font where the text is wider than so many pixels; below a legible size it is cut with dots.

    Returns whether that changed anything.
    """
    before = text.get_text(), text.get_fontsize()
    while text.get_text() and text.get_window_extent(renderer).width > max(width, 1):
        if text.get_fontsize() > SMALLEST:
            text.set_fontsize(text.get_fontsize() - 0.5)
        elif len(text.get_text()) <= 4:
            break
        else:
            text.set_text(text.get_text()[:-4].rstrip() + "...")
    return (text.get_text(), text.get_fontsize()) != before


def empty(path: Path, title: str, note: str, why: str) -> None:
    """A figure that says why there is none."""
    with drawing(path, 6.4, 1.6, title, note) as figure:
        axes = figure.subplots()
        axes.text(0.5, 0.5, why, ha="center", va="center", color="#555555")
        axes.set_axis_off()


def whiskers(estimate: Mapping[str, Any]) -> tuple[float, np.ndarray]:
    """An estimate's value, and how far its interval goes below and above it, (2, 1); 0 where there is none."""
    import numpy as np

    value, low, high = (np.nan if estimate[end] is None else estimate[end] for end in ("value", "low", "high"))
    return value, np.nan_to_num([[value - low], [high - value]]).clip(0)


def log_axis(axes: Axes, which: str) -> None:
    """Make an axis ("x" or "y") logarithmic, with plain numbers at its ticks: some in each decade if there are few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_data_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * max(low, 1e-12) else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
