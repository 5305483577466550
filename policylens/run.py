"""Results from a notebook: one checkpoint's folder, and everything that was built from it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from policylens.capture.batches import read_batch
from policylens.errors import UserError
from policylens.policies.checkpoint import RECORD
from policylens.policies.protocol import Policy
from policylens.policies.registry import load_policy
from policylens.stores.tables import INDEX, Table, open_table

if TYPE_CHECKING:
    from policylens.sae.base import SAE


class Run:
    """What was built for one checkpoint: `results/{policy}/{checkpoint}`."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}): captures {self.captures}, sweeps {self.sweeps}"

    @property
    def captures(self) -> list[str]:
        """Names of the captures that have been built."""
        return sorted(path.parent.name for path in self.folder.glob(f"activations/*/{INDEX}"))

    @property
    def sweeps(self) -> list[str]:
        """Names of the SAE sweeps of which something has been built."""
        return sorted(path.name for path in self.folder.glob("sae/*") if path.is_dir())

    @property
    def sources(self) -> list[str]:
        """Names of the policy's sources that have been built."""
        return sorted(path.parent.name for path in self.folder.parent.glob(f"sources/*/{INDEX}"))

    @functools.cached_property
    def _policies(self) -> dict[tuple[str, torch.dtype | None], Policy]:
        return {}

    def policy(self, device: str = "cpu", dtype: torch.dtype | None = None) -> Policy:
        """The policy itself, loaded once per device and precision. Needs the family's environment."""
        if (device, dtype) not in self._policies:
            self._policies[device, dtype] = load_policy(self.folder / "checkpoint", device, dtype)
        return self._policies[device, dtype]

    def capture(self, name: str, row_space: str | None = None) -> Table:
        """Activations: `.array(site).read(rows)`, `.coordinate("split")`..."""
        return open_table(self.folder / "activations" / name, row_space)

    def activations(
        self, capture: str, site: str, rows: np.ndarray | slice | None = None, device: str = "cpu"
    ) -> torch.Tensor:
        """Activations at a site as float32, (rows, ..., width), as SAEs take them. rows: see :meth:`Column.read`."""
        return torch.from_numpy(self.capture(capture).array(site).read(rows)).to(device).float()

    def source(self, name: str, row_space: str | None = None) -> Table:
        """Observations and what the environment knew of them."""
        return open_table(self.folder.parent / "sources" / name, row_space)

    def labels(self, source: str, labelset: str) -> Table:
        """Ground truth of a source's rows, aligned with the source and with captures of it."""
        return open_table(self.folder.parent / "sources" / source / "labels" / labelset)

    def batch(self, source: str, rows: np.ndarray | slice) -> dict[str, np.ndarray]:
        """Observations at some rows of a source, ready for `policy().run(batch)`."""
        return read_batch(self.source(source), self.policy().observations, rows)

    def sae(self, sweep: str, site: str, member: str, device: str = "cpu") -> SAE:
        """A trained SAE, which takes raw activations: `.encode(x)`, `.decode(f)`."""
        from policylens.sae.files import CONFIG, load_sae

        path = self.folder / "sae" / sweep / site / member / CONFIG
        if not path.exists():
            raise UserError(f"{path}: has not been built; build it first (snakemake {path})")
        return load_sae(self.folder / "sae" / sweep / site / member).to(device)


def open_run(folder: str | Path) -> Run:
    """Open `results/{policy}/{checkpoint}`; UserError if nothing has been built there."""
    run = Run(Path(folder))
    if not (run.folder / "checkpoint" / RECORD).exists() and not run.captures:
        raise UserError(f"{folder}: nothing has been built here; `policylens paths` lists what can be")
    return run
