"""Rows of a capture by concept: by episode and step, by kind of token, by tokens that all texts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policylens.capture.frames import frames_of
from policylens.errors import UserError
from policylens.slices.concept_map import ConceptMap, Segment
from policylens.stores.tables import Table
from policylens.stores.texts import decode_texts

TEXT = "instruction"
"""Array of a source: UTF-8 text of each row, padded with zeros."""
NAMES = ("names", "kinds", "codes", "table")
"""Attributes in which an array of codes may have its table."""


def rows_of_segments(
    episodes: np.ndarray, steps: np.ndarray, segments: Sequence[Segment]
) -> tuple[np.ndarray, list[int]]:
    """Row numbers, ascending and each once, of the rows in any of the segments; and how many each segment has.

    episodes, steps: (n,) of the rows.
    """
    order = np.argsort(episodes, kind="stable")
    ascending = episodes[order]
    found, counts = [], []
    for segment in segments:
        low, high = np.searchsorted(ascending, [segment.episode, segment.episode + 1])
        mine = order[low:high]
        mine = mine[(steps[mine] >= segment.first) & (steps[mine] <= segment.last)]
        found.append(mine)
        counts.append(len(mine))
    return np.unique(np.concatenate(found)), counts


def rows_of_concepts(
    capture: Table, concepts: ConceptMap, kinds: Sequence[str] = (), denoise: Sequence[int] = ()
) -> dict[str, np.ndarray]:
    """Concept -> rows of the capture, ascending.

    kinds: of tokens, by name. denoise: numbers of denoising steps. All rows where they are empty. Raises UserError for
    a concept of which the capture has no row.
    """
    wanted = of_kinds(capture, kinds) & of_denoising_steps(capture, denoise)
    episodes, steps = capture.coordinate("episode"), capture.coordinate("step")
    found = {}
    for text, segments in concepts.concepts.items():
        rows, _ = rows_of_segments(episodes, steps, segments)
        found[text] = rows[wanted[rows]]
        if len(found[text]) == 0:
            of = f" of the kinds {', '.join(kinds)}" if kinds else ""
            raise UserError(
                f"{concepts.path}: the concept {text!r} has no row{of} in {capture.folder}; capture its episodes, or "
                "leave the concept out"
            )
    return found


def of_kinds(capture: Table, kinds: Sequence[str]) -> np.ndarray:
    """(n,) bool: rows whose token is of one of the kinds; all where none are named."""
    if not kinds:
        return np.ones(capture.n_rows, bool)
    if "kind" not in capture.names:
        raise UserError(f"{capture.folder}: its rows have no kind; leave out kinds: {', '.join(kinds)}")
    codes = kind_codes(capture)
    for kind in kinds:
        if kind not in codes:
            raise UserError(f"{capture.folder}: has no tokens of the kind {kind!r}; it has: {', '.join(codes)}")
    return np.isin(capture.coordinate("kind"), [codes[kind] for kind in kinds])


def of_denoising_steps(capture: Table, steps: Sequence[int]) -> np.ndarray:
    """(n,) bool: rows of one of the denoising steps; all where none are named."""
    if not steps:
        return np.ones(capture.n_rows, bool)
    if "denoise" not in capture.names:
        raise UserError(f"{capture.folder}: its rows are of no denoising step; leave denoise out")
    held = capture.coordinate("denoise")
    there = np.unique(held).tolist()
    for step in steps:
        if step not in there:
            raise UserError(
                f"{capture.folder}: has no rows of the denoising step {step}; it has: {', '.join(map(str, there))}"
            )
    return np.isin(held, steps)


def kind_codes(capture: Table) -> dict[str, int]:
    """Name -> code of the kinds of tokens, from the array's attributes."""
    import zarr

    path = capture.folder / f"{capture.parts[0]}.zarr" / capture.row_space / "kind"
    attributes = dict(zarr.open_array(str(path), mode="r").attrs)
    for name in NAMES:
        table = attributes.get(name)
        if isinstance(table, Mapping):
            return _by_name(table)
        if isinstance(table, list):
            return {str(kind): code for code, kind in enumerate(table)}
    raise UserError(f"{path}: has no table of its codes; make the capture again")


def _by_name(table: Mapping[str, Any]) -> dict[str, int]:
    """A table from names to codes, or from codes to names."""
    if all(isinstance(value, int) for value in table.values()):
        return {str(name): code for name, code in table.items()}
    return {str(name): int(code) for code, name in table.items()}


def shared_tokens(capture: Table, rows: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, list[int]]]:
    """Rows at those token positions alone that hold one and the same token in every frame of all concepts.

    A position that some frames lack (of words behind numbers of varying length) is none of them: the mean over a
    concept's rows would tell how many of its frames have it. Returns the rows, and {"kept": positions, "dropped":
    positions}. Such tokens differ between concepts by what the network has mixed into them, and not by their own
    embedding. UserError where no position is shared.
    """
    for name in ("token", "token_id"):
        if name not in capture.names:
            raise UserError(f"{capture.folder}: has no coordinate {name!r}, which tokens: shared needs; leave it out")
    positions, ids = capture.coordinate("token"), capture.coordinate("token_id")
    frames = [capture.coordinate(name) for name in ("episode", "step", "denoise") if name in capture.names]
    mine = np.unique(np.concatenate(list(rows.values())))
    n_frames = np.unique(np.stack([values[mine] for values in frames]), axis=1).shape[1]
    held, times = np.unique(np.stack([positions[mine], ids[mine]]), axis=1, return_counts=True)
    every = np.unique(held[0]).tolist()
    kept = sorted(held[0][times == n_frames].tolist())
    if not kept:
        raise UserError(f"{capture.folder}: the concepts share no token at any position; leave out tokens: shared")
    return (
        {text: mine[np.isin(positions[mine], kept)] for text, mine in rows.items()},
        {"kept": kept, "dropped": [p for p in every if p not in kept]},
    )


def texts_of_rows(capture: Table, source: Table | None, rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Which instruction each row was recorded under: codes (n,) int64 and the texts that they stand for.

    From the source's `instruction`, else the capture's coordinate `task_index` ("task 3"). Codes are -1, and there
    are no texts, where neither is known.
    """
    if source is not None and TEXT in source.names:
        frames = frames_of(capture, source, rows)
        spelt, codes = np.unique(source.array(TEXT).read(frames.rows), axis=0, return_inverse=True)
        return codes.reshape(-1)[frames.of_row], decode_texts(spelt)
    if "task_index" in capture.names:
        tasks, codes = np.unique(capture.coordinate("task_index")[rows], return_inverse=True)
        return codes.reshape(-1), [f"task {task}" for task in tasks]
    return np.full(len(rows), -1, np.int64), []


def check_instructions(concepts: ConceptMap, codes: Mapping[str, np.ndarray], texts: Sequence[str]) -> None:
    """UserError where rows of a concept were recorded under an instruction that is another concept's text.

    codes: concept -> (rows,) places in `texts`. Such a map is of another dataset, or of other episode numbers.
    """
    for text, own in codes.items():
        for code in np.unique(own[own >= 0]):
            if texts[code] != text and texts[code] in concepts.concepts:
                raise UserError(
                    f"{concepts.path}: is of another dataset: episodes of its concept {text!r} were recorded under the "
                    f"instruction {texts[code]!r}; give the concept map of the source's dataset"
                )
