"""Short texts in stores, which hold no text: UTF-8 bytes, filled up with zeros."""

from __future__ import annotations

import numpy as np

from policylens.errors import UserError

WIDTH = 256


def encode_text(text: str, width: int = WIDTH) -> np.ndarray:
    """A text as uint8 (width,); UserError if it is empty, longer than that, or holds a zero byte."""
    content = text.encode("utf-8")
    if not content or len(content) > width or 0 in content:
        raise UserError(f"the text {text[:60]!r} has {len(content)} bytes; 1 to {width} are stored, none of them zero")
    return np.frombuffer(content.ljust(width, b"\0"), np.uint8).copy()


def decode_texts(values: np.ndarray) -> list[str]:
    """Texts of rows, uint8 (rows, width); UserError where bytes are no UTF-8."""
    try:
        return [row.tobytes().rstrip(b"\0").decode("utf-8") for row in np.asarray(values, np.uint8)]
    except UnicodeDecodeError as error:
        raise UserError(f"an array of texts holds bytes that are no UTF-8 ({error}); record its source again") from None
