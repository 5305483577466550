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
    training: Path, out: Path, snapshots: Sequence[str] | None = None, *, replace: bool = False
) -> Iterator[Path]:
    """Copy snapshots of a training run, each checked first, and the run's log; yields every folder made.

    training: folder with one checkpoint folder per snapshot, and training_log.csv.
    out: where the checkpoints go, e.g. data/checkpoints/othello. snapshots: names, or None for all.
    replace: overwrite what is already there.
    Raises UserError, before copying anything, for an unknown snapshot, a damaged one, or one that is already there.
    """
    found = {path.parent.name: path.parent for path in sorted(training.glob(f"*/{RECORD}"))}
    chosen = list(snapshots or found)
    if not chosen:
        raise UserError(f"{training}: has no snapshots; give a training's folder, results/training/<policy>/<training>")
    _check_log(training, out, replace)
    for name in chosen:
        if name not in found:
            raise UserError(f"{training}: has no snapshot {name!r}; it has: {', '.join(found) or 'none'}")
        if (out / name).exists() and not replace:
            raise UserError(f"{out / name}: is already there; give --replace to overwrite it")
        read_checkpoint(found[name], verify=True)
    for name in chosen:
        (out / name / RECORD).unlink(missing_ok=True)  # it comes last: a folder with one is whole
        for file in (WEIGHTS, RECORD):
            _copy(found[name] / file, out / name / file)
        yield out / name
    if (training / LOG).exists():
        _copy(training / LOG, out / LOG)


def _check_log(training: Path, out: Path, replace: bool) -> None:
    mine, there = training / LOG, out / LOG
    if mine.exists() and there.exists() and not replace and mine.read_bytes() != there.read_bytes():
        raise UserError(f"{there}: is another training's log; give --replace to overwrite it")


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
