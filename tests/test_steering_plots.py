"""The figure of gains against disturbances."""

import contextlib
from types import SimpleNamespace

import pytest

from policylens.policies.family import DIVERGENCE
from policylens.visualize import steering_plots


def record_of(nats):
    """A study whose candidates disturb actions so much."""
    means = [{"site": "block_1", "kept": True, "gain": 0.1, "means": {DIVERGENCE: value}} for value in nats]
    return {
        "policy": "arm",
        "checkpoint": "final",
        "steering": "drawer",
        "goal": {"measure": "success", "change": "higher", "keep": {}, "least": 0.05},
        "episodes": {"choose": 3, "confirm": 8},
        "measures": {"success": "of episodes (share)"},
        "candidates": means,
        "chosen": [],
    }


@pytest.mark.parametrize("nats", [[0.013, 0.1, 0.72], [1e-6, 0.3, 40.0], [0.11, 0.13], [0.2, 0.2], [0.0]])
def test_numbers_below_the_axis_stand_apart(tmp_path, monkeypatch, nats):
    seen, drawing = [], steering_plots.drawing

    @contextlib.contextmanager
    def watched(*arguments):
        with drawing(*arguments) as figure:
            yield seen.append(figure) or figure

    monkeypatch.setattr(steering_plots, "drawing", watched)
    steering_plots.frontier(tmp_path / "frontier.png", record_of(nats), SimpleNamespace(controls={}))
    (figure,) = seen
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    figure.draw_without_rendering()
    labels = [
        tick
        for which in (False, True)
        for tick in zip(axes.get_xticks(minor=which), axes.get_xticklabels(minor=which), strict=True)
    ]
    boxes = sorted(
        (box.x0, box.x1)
        for place, label in labels
        if low <= place <= high and label.get_text()
        for box in [label.get_window_extent()]
    )
    assert len(boxes) >= 2, "an axis needs two numbers to be read"
    assert all(first[1] < second[0] for first, second in zip(boxes, boxes[1:], strict=False))
