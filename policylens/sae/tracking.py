"""Following trainings in Weights & Biases, beside the CSV files that are always written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from policylens.errors import UserError
from policylens.stores.files import read_json, write_json


class Tracker:
    """One run per member, known by an id of its own, so that a training that goes on goes on in its run.

    The last step that was sent is kept in a file: a training that was stopped repeats the steps since its state was
    saved, to the bit, and their rows are not sent again.

    folder: for the files of Weights & Biases. ids: member name -> id of its run. mode: "offline" (files under
    `folder`, to be synchronised later) or "online".
    """

    def __init__(self, folder: Path, project: str, group: str, mode: str, ids: Mapping[str, str]) -> None:
        try:
            import wandb
        except ImportError:
            raise UserError(
                "wandb: the package is not installed in this environment; install it, or remove `wandb` from the sweep"
            ) from None
        self._wandb, self._folder, self._ids = wandb, Path(folder), ids
        self._project, self._group, self._mode = project, group, mode
        self._runs: dict[str, Any] = {}

    def log(self, name: str, settings: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> None:
        """Send the rows of a history that have not been sent."""
        if name not in self._runs:
            self._runs[name] = self._begin(name, settings)
        sent = self._last_sent(name)
        new = [row for row in history if row["step"] > sent]
        for row in new:
            values = {key: value for key, value in row.items() if key != "step"}
            self._runs[name].log(values, step=int(row["step"]))
        if new:
            write_json(self._record(name), {"last_step": int(new[-1]["step"])})

    def end(self, name: str) -> None:
        """The member's run is over."""
        if name in self._runs:
            self._runs.pop(name).finish()

    def _begin(self, name: str, settings: Mapping[str, Any]) -> Any:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._wandb.init(
            project=self._project,
            group=self._group,
            name=name,
            id=self._ids[name],
            resume="allow",
            dir=str(self._folder),
            mode=self._mode,
            config=dict(settings),
            reinit="create_new",
        )

    def _record(self, name: str) -> Path:
        return self._folder / f"{self._ids[name]}.json"

    def _last_sent(self, name: str) -> int:
        path = self._record(name)
        return read_json(path)["last_step"] if path.exists() else -1
