"""nnsight in the benchmark of interventions: a process in the environment that has it, which gets its jobs in turn."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from intervention_settings import REPOSITORY, Case
from rounds import Way

ENVIRONMENT = "interop"
SCRIPT = Path(__file__).with_name("interventions_nnsight.py")


class Peer:
    """Asks the process. folder: for cases and effects. threads: of torch, there."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, threads: int) -> None:
        self._process, self._folder, self._threads = process, folder, threads

    def ready(self) -> bool:
        """Whether the process has come up, with nnsight loaded."""
        return bool(self._process.stdout.readline())

    def way(self, case: Case, latents: Sequence[int], together: int) -> Way:
        """The seconds of ablating each latent, so many per trace."""
        return lambda: self._seconds(case, latents, together)

    def effects(self, case: Case, latents: Sequence[int], together: int) -> dict[str, np.ndarray]:
        """Outcome -> mean effects (k, units)."""
        self._seconds(case, latents, together)
        with np.load(self._out) as found:
            return dict(found)

    @property
    def _out(self) -> Path:
        return self._folder / "effects.npz"

    def _seconds(self, case: Case, latents: Sequence[int], together: int) -> float:
        path = self._folder / case.name
        if not path.exists():
            path.mkdir()
            case.write(path)
        job = {"case": str(path), "latents": [int(latent) for latent in latents], "together": together}
        self._process.stdin.write(json.dumps(job | {"threads": self._threads, "out": str(self._out)}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("nnsight's process has ended; its last words stand above")
        return float(answer)


@contextmanager
def nnsight(threads: int) -> Iterator[Peer | None]:
    """nnsight's process, or None where it does not start: it has said why."""
    words = [str(REPOSITORY / "envs" / "run"), ENVIRONMENT, "python", str(SCRIPT)]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):
        peer = Peer(process, Path(folder), threads)
        yield peer if peer.ready() else None
