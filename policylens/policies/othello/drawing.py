"""A position as an SVG picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from policylens.policies.othello.squares import SIDE, SQUARES, square_name

SQUARE = 30
MARGIN = 16
_BOARD, _LINE, _MINE, _THEIRS, _MARK = "#2e7d4f", "#1b4a30", "#111111", "#f5f5f5", "#d62728"
_POSITIVE, _NEGATIVE = "#ffb000", "#5a4fcf"  # told apart by colour-blind people too


def draw(
    cells: Sequence[int],
    marked: int | None = None,
    values: Sequence[float] | None = None,
    title: str = "",
) -> str:
    """A position as the text of an SVG picture; equal arguments give equal text.

    cells: 36 entries, +1 the mover's discs (black), -1 the opponent's (white), 0 empty.
    marked: a square to frame, such as the action (a pass, 36, frames nothing).
    values: a number per square, such as an action's logit effect, shown as a tint: amber above 0, violet
        below, opaque at the largest magnitude. NaN leaves a square plain.
    title: alternative text, for people who hear the page.
    """
    if len(cells) != SQUARES or (values is not None and len(values) < SQUARES):
        raise ValueError(f"a board has {SQUARES} squares")
    size = MARGIN + SIDE * SQUARE + 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" role="img">',
        f"<title>{escape(title or describe(cells, marked))}</title>",
        f'<rect {_rectangle(MARGIN, MARGIN, SIDE * SQUARE)} fill="{_BOARD}"/>',
    ]
    parts += _coordinates()
    if values is not None:
        parts += _tints([float(value) for value in values[:SQUARES]])
    parts += [_square(square) for square in range(SQUARES)]
    parts += [_disc(square, _MINE if cell > 0 else _THEIRS) for square, cell in enumerate(cells) if cell]
    if marked is not None and 0 <= marked < SQUARES:
        parts.append(_frame(marked))
    return "".join([*parts, "</svg>"])


def describe(cells: Sequence[int], marked: int | None = None) -> str:
    """A position in words."""
    mine = " ".join(square_name(square) for square, cell in enumerate(cells) if cell > 0) or "none"
    theirs = " ".join(square_name(square) for square, cell in enumerate(cells) if cell < 0) or "none"
    action = "" if marked is None else f"; marked: {square_name(marked) if marked < SQUARES else 'pass'}"
    return f"Othello position. To move: {mine}; opponent: {theirs}{action}"


def _corner(square: int) -> tuple[int, int]:
    return MARGIN + square % SIDE * SQUARE, MARGIN + square // SIDE * SQUARE


def _rectangle(x: int, y: int, side: int) -> str:
    return f'x="{x}" y="{y}" width="{side}" height="{side}"'


def _square(square: int) -> str:
    x, y = _corner(square)
    return f'<rect {_rectangle(x, y, SQUARE)} fill="none" stroke="{_LINE}"/>'


def _disc(square: int, color: str) -> str:
    x, y = _corner(square)
    return f'<circle cx="{x + SQUARE // 2}" cy="{y + SQUARE // 2}" r="{SQUARE * 2 // 5}" fill="{color}"/>'


def _frame(square: int) -> str:
    x, y = _corner(square)
    place = _rectangle(x + 2, y + 2, SQUARE - 4)
    return f'<rect {place} fill="none" stroke="{_MARK}" stroke-width="3"/>'


def _tints(values: Sequence[float]) -> list[str]:
    finite = [abs(value) for value in values if value == value]
    largest = max(finite, default=0.0)
    tints = []
    for square, value in enumerate(values):
        if value == value and value != 0 and largest > 0:
            x, y = _corner(square)
            color = _POSITIVE if value > 0 else _NEGATIVE
            opacity = abs(value) / largest
            tints.append(f'<rect {_rectangle(x, y, SQUARE)} fill="{color}" fill-opacity="{opacity:.3f}"/>')
    return tints


def _coordinates() -> list[str]:
    style = f'font-family="sans-serif" font-size="10" text-anchor="middle" fill="{_LINE}"'
    texts = []
    for index in range(SIDE):
        middle = MARGIN + index * SQUARE + SQUARE // 2
        texts.append(f'<text x="{middle}" y="11" {style}>{"abcdef"[index]}</text>')
        texts.append(f'<text x="7" y="{middle + 4}" {style}>{index + 1}</text>')
    return texts
