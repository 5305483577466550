"""`policylens contrast check`: faults and notes of published files, in lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from policylens.concepts.contrast import tasks_of
from policylens.concepts.contrast_checks import check_manifest, check_map, check_source, read_manifest, read_map
from policylens.concepts.demos import read_demos
from policylens.errors import UserError


def check(manifest: Path, concept_map: Path | None, source: Path | None, array: str) -> Iterator[str]:
    """Lines of what is found, faults first; UserError at the end where there are faults.

    source: a source's folder, with whose demonstrations the manifest is compared.
    """
    record = read_manifest(manifest)
    found = [check_manifest(record)]
    if concept_map is not None:
        found.append(check_map(record, read_map(concept_map)))
    if source is not None:
        found.append(check_source(record, read_demos(source, tasks_of(record), array)))
    faults = [fault for one in found for fault in one.faults]
    yield from (f"fault: {fault}" for fault in faults)
    yield from (f"note: {note}" for one in found for note in one.notes)
    if faults:
        raise UserError(
            f"{manifest}: {len(faults)} faults, listed above; build it anew, or give its own map and source"
        )
    yield f"{manifest}: sound, {len(record['segments'])} segments"
