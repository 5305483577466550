"""Lets Snakemake see a job's own reasons to run although a job that it depends on through `ancient` runs too.

Snakemake 9.27.1 asks only those jobs for reasons of their own (a changed input, parameter or code) that are not
downstream of a job that runs; the others run because that one does. Behind an edge that is `ancient` they do not, and
nobody has asked them: a job whose capture changed in an earlier run is left as it is, with stale results, for as long
as the job behind the edge runs too. Here such edges no longer count as downstream.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

_LIFTED = "_policylens_masking_lifted"


def lift() -> None:
    """Change how Snakemake finds the jobs that have to run. Call it when the Snakefile is parsed; twice is once."""
    from snakemake.dag import DAG

    if hasattr(DAG, _LIFTED):
        return
    plain = DAG.update_needrun

    @functools.wraps(plain)
    async def update_needrun(dag: Any, *arguments: Any, **options: Any) -> None:
        dag.bfs = functools.partial(_following, dag.depending)
        try:
            await plain(dag, *arguments, **options)
        finally:
            del dag.bfs

    DAG.update_needrun = update_needrun
    setattr(DAG, _LIFTED, True)


def _following(depending: Any, direction: Any, *jobs: Any, stop: Callable[[Any], bool] = lambda job: False) -> Iterator:
    """DAG.bfs, except that towards depending jobs it does not follow edges all of whose files are ancient."""
    queue = deque(jobs)
    visited = set(queue)
    while queue:
        job = queue.popleft()
        if stop(job):
            continue
        yield job
        for other, files in direction[job].items():
            ancient = direction is depending and all(file.is_ancient for file in files)
            if other not in visited and not ancient:
                visited.add(other)
                queue.append(other)
