"""Keeps what Snakemake remembers of a file true when the job that should have rebuilt it fails.

Snakemake (9.27.1; its issues 3808 and 1978) compares a job with the metadata record of its output. When a job
fails, it deletes the output but records the new input checksums, parameters and code all the same, as if they
had been built. If files further down exist from before, the next run finds nothing to do and leaves them
stale.

So the record of every output is kept from the moment its job starts, and put back when the run ends without
that job having finished: the next run then compares with what was last really built. The journal on disk
serves a run that is killed; its lock says whether the run that wrote it still lives.

An output marked `update` is put back by Snakemake when its job fails, but with the time of the failure: as if it
were newer than what it was to be updated from. Its old time is put back with its record.

Not cured, since Snakemake compares file times there and not records: a changed file of a `script:` directive.
Rules here run their scripts by `shell:`, with a digest as a parameter.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

JOURNALS = Path(".snakemake") / "policylens" / "records"

_journal: Journal | None = None


class Journal:
    """The records, from before they were started, of the jobs that a run has started and not finished.

    On disk: one JSON line per event, {"old": {output: record or null}} or {"done": [output]}, appended before
    what it speaks of takes effect. A last line cut short by a kill speaks of nothing that has happened.
    """

    def __init__(self, persistence: Any) -> None:
        self.persistence = persistence
        self.old: dict[str, dict[str, Any] | None] = {}
        self.times: dict[str, int] = {}
        JOURNALS.mkdir(parents=True, exist_ok=True)
        self.descriptor, path = tempfile.mkstemp(dir=JOURNALS, suffix=".new")
        _lock(self.descriptor)
        self.path = Path(path).with_suffix(".journal")
        Path(path).rename(self.path)

    def started(self, outputs: Iterable[Any]) -> None:
        """Keep the records of a job's outputs; of a job that is started again, the first ones."""
        from snakemake.io import is_flagged

        outputs = list(outputs)
        keys = [self.persistence._get_key(output) for output in outputs]
        new = {key: _read(self.persistence, key) for key in keys if key not in self.old}
        kept = [key for key, output in zip(keys, outputs, strict=True) if key in new and is_flagged(output, "update")]
        self.times |= {key: os.stat(key).st_mtime_ns for key in kept if os.path.exists(key)}
        if new:
            self._append({"old": new})
            self.old |= new

    def finished(self, outputs: Iterable[Any]) -> None:
        """Let go of the records of a job's outputs: they have been built."""
        keys = [self.persistence._get_key(output) for output in outputs]
        self._append({"done": keys})
        for key in keys:
            self.old.pop(key, None)
            self.times.pop(key, None)

    def restore(self) -> None:
        """Put the records of unfinished jobs back, and the times of outputs that are still there."""
        _restore(self.persistence, self.old)
        for key, time in self.times.items():
            if os.path.exists(key):
                os.utime(key, ns=(time, time))
        self.remove()

    def remove(self) -> None:
        """End the journal."""
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)

    def _append(self, event: dict[str, Any]) -> None:
        os.write(self.descriptor, json.dumps(event).encode() + b"\n")


def recover(workflow: Any) -> None:
    """Put back the records that killed runs have left. Call it when the Snakefile is parsed.

    Only the main process does so: jobs on a cluster and jobs in subprocesses parse the Snakefile again. Journals
    of runs that are still alive are left alone, so that a dry run beside them disturbs nothing.
    """
    if not workflow.is_main_process:
        return
    for path in sorted(JOURNALS.glob("*.journal")):
        descriptor = os.open(path, os.O_RDWR)
        try:
            if _lock(descriptor):
                _recover(_persistence(), path)
                path.unlink()
        finally:
            os.close(descriptor)


def remember(workflow: Any) -> None:
    """Keep the records of all jobs from now on, those found later by a checkpoint too. Call it in onstart."""
    global _journal
    if not workflow.is_main_process:
        return
    journal = _journal = Journal(workflow.persistence)
    started, finish = workflow.persistence.started, workflow.dag.finish

    def remember_and_start(job: Any, external_jobid: str | None = None) -> None:
        journal.started(job.output)
        started(job, external_jobid)

    async def forget_and_finish(job: Any, *arguments: Any, **options: Any) -> Any:
        for single in job if job.is_group() else [job]:
            journal.finished(single.output)
        return await finish(job, *arguments, **options)

    workflow.persistence.started = remember_and_start
    workflow.dag.finish = forget_and_finish


def restore() -> None:
    """Put back the records of the jobs that were started and did not finish. Call it in onerror."""
    if _journal is not None:
        _journal.restore()


def forget() -> None:
    """End the journal of a run in which all went well. Call it in onsuccess."""
    if _journal is not None:
        _journal.remove()


def _recover(persistence: Any, journal: Path) -> None:
    """Put back what a killed run's journal holds, except records of outputs that were built to the end."""
    old: dict[str, dict[str, Any] | None] = {}
    for line in journal.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            event = json.loads(line)
            old |= event.get("old", {})
            for key in event.get("done", ()):
                old.pop(key, None)
    incomplete = persistence._filter_incomplete_keys(old)
    unbuilt = {key: record for key, record in old.items() if key in incomplete or not os.path.exists(key)}
    _restore(persistence, unbuilt)


def _restore(persistence: Any, records: dict[str, dict[str, Any] | None]) -> None:
    from snakemake.persistence import MetadataRecord

    for key, record in records.items():
        if record is None:
            persistence._delete_record(key)
        else:
            persistence._write_record(key, MetadataRecord.model_validate(record))
    persistence._clear_cache()


def _read(persistence: Any, key: str) -> dict[str, Any] | None:
    record = persistence._read_record(key)
    return None if record is None else dict(record.items())


def _persistence() -> Any:
    """Open Snakemake's records: while the Snakefile is parsed, the workflow has not done so yet."""
    from snakemake.persistence.file import FilePersistence

    return FilePersistence()


def _lock(descriptor: int) -> bool:
    """Take the lock of a journal; False when a living run holds it. Without locks in the file system: True."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
