"""From a capture's rows to the rows of the source that they are of, where several rows are of one frame."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from policylens.errors import UserError
from policylens.stores.tables import Table


class FramesOfRows(NamedTuple):
    """rows: (f,) the source's rows, each once, in the order of the capture. episodes: (f,) theirs. of_row: (n,) the
    place in `rows` of each of the capture's rows."""

    rows: np.ndarray
    episodes: np.ndarray
    of_row: np.ndarray


def frames_of(capture: Table, source: Table, rows: np.ndarray) -> FramesOfRows:
    """The frames that some rows of a capture are of, by episode and step.

    Raises UserError if the source has no such frame, or has it twice.
    """
    own = _keys(capture.coordinate("episode")[rows], capture.coordinate("step")[rows])
    theirs = _keys(source.coordinate("episode"), source.coordinate("step"))
    order = np.argsort(theirs)
    if (theirs[order][1:] == theirs[order][:-1]).any():
        raise UserError(f"{source.folder}: has a step of an episode twice")
    distinct, first, inverse = np.unique(own, return_index=True, return_inverse=True)
    places = np.searchsorted(theirs[order], distinct)
    if (places == len(theirs)).any() or (theirs[order][np.minimum(places, len(theirs) - 1)] != distinct).any():
        raise UserError(f"{capture.folder}: holds frames that {source.folder} lacks; make the capture again")
    in_order = np.argsort(first)
    rank = np.empty_like(in_order)
    rank[in_order] = np.arange(len(in_order))
    found = order[places][in_order]
    return FramesOfRows(found, source.coordinate("episode")[found], rank[inverse])


def _keys(episodes: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(n,) structured numbers that sort by episode and step."""
    keys = np.empty(len(episodes), dtype=[("episode", "<i8"), ("step", "<i8")])
    keys["episode"], keys["step"] = episodes, steps
    return keys
