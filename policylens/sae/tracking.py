"""Following trainings in Weights & Biases, beside the CSV files that are always written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from policylens.errors import UserError


class Tracker:
    """One run per member. mode: "offline" (files under `folder`, to be synchronised later) or "online"."""

    def __init__(self, folder: Path, project: str, group: str, mode: str) -> None:
        try:
            import wandb
        except ImportError:
            raise UserError(
                "wandb: the package is not installed in this environment; install it, or remove `wandb` from the sweep"
            ) from None
        self._wandb, self._folder = wandb, Path(folder)
        self._project, self._group, self._mode = project, group, mode
        self._runs: dict[str, Any] = {}
        self._sent: dict[str, int] = {}

    def log(self, name: str, settings: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> None:
        """Send the rows of a history that have not been sent."""
        if name not in self._runs:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._runs[name] = self._wandb.init(
                project=self._project,
                group=self._group,
                name=name,
                dir=str(self._folder),
                mode=self._mode,
                config=dict(settings),
                reinit="create_new",
            )
        for row in history[self._sent.get(name, 0) :]:
            values = {key: value for key, value in row.items() if key != "step"}
            self._runs[name].log(values, step=int(row["step"]))
        self._sent[name] = len(history)

    def end(self, name: str) -> None:
        """The member's run is over."""
        if name in self._runs:
            self._runs.pop(name).finish()
