"""Promoting trained snapshots to checkpoints that are kept: an explicit act, never a rule's output."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from policylens.errors import UserError
from policylens.policies.checkpoint import RECORD, WEIGHTS, read_checkpoint
from policylens.stores.files import replacing

LOG = "training_log.csv"


def promote(
    training: Path,
    out: Path,
    snapshots: Sequence[str] | None = None,
    *,
    name: str | None = None,
    replace: bool = False,
) -> Iterator[Path]:
    """Copy snapshots of a training run, each checked first, and the run's log; yields every folder made.

    training: folder with one checkpoint folder per snapshot, and training_log.csv.
    out: where the checkpoints go, e.g. data/checkpoints/othello; the log goes there as training_log_<training>.csv.
    snapshots: names, or None for all. name: what the one snapshot is to be called, e.g. "final".
    replace: overwrite what is already there.
    Raises UserError, before copying anything, for an unknown snapshot, a damaged one, or one that is already there.
    """
    targets = _targets(training, out, snapshots, name)
    for snapshot, target in targets.items():
        if target.exists() and not replace:
            raise UserError(f"{target}: is already there; give --replace to overwrite it")
        read_checkpoint(snapshot, verify=True)
    for snapshot, target in targets.items():
        (target / RECORD).unlink(missing_ok=True)  # it comes last: a folder with one is whole
        for file in (WEIGHTS, RECORD):
            _copy(snapshot / file, target / file)
        yield target
    if (training / LOG).exists():
        _copy(training / LOG, out / f"{Path(LOG).stem}_{training.resolve().name}.csv")


def _targets(training: Path, out: Path, snapshots: Sequence[str] | None, name: str | None) -> dict[Path, Path]:
    """Snapshot folder -> where it goes."""
    found = {path.parent.name: path.parent for path in sorted(training.glob(f"*/{RECORD}"))}
    chosen = list(snapshots or found)
    if not chosen:
        raise UserError(f"{training}: has no snapshots; give a training's folder, results/training/<policy>/<training>")
    for snapshot in chosen:
        if snapshot not in found:
            raise UserError(f"{training}: has no snapshot {snapshot!r}; it has: {', '.join(found) or 'none'}")
    if name is not None and len(chosen) != 1:
        raise UserError(f"{training}: one name is for one snapshot; choose one of {', '.join(chosen)}")
    return {found[snapshot]: out / (name or snapshot) for snapshot in chosen}


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
