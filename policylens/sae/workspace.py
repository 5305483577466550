"""The folder of a sweep's training: a folder per stamp, with the state while it goes on and the SAE when it is done."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from policylens.errors import UserError
from policylens.progress import say
from policylens.sae.files import CONFIG, FREQUENCIES, save_sae
from policylens.sae.history import log_frequencies
from policylens.sae.states import STATE, load_state, save_state
from policylens.sae.sweep import SweepKeeper
from policylens.sae.tracking import Tracker
from policylens.sae.training import Feed, Training, finished
from policylens.stores.files import remove_partial, write_json, write_tensors
from policylens.stores.tabular import write_csv

INDEX = "index.json"

SAVING_SHARE = 0.05
"""Share of the time that goes into saving states whenever a training was found sound."""


class Workspace(SweepKeeper):
    """Keeps the states and results of a sweep's members, and ends the job in order when asked to.

    folder: of the training. stamps: name -> stamp. origin: names for cfg.json. seeds: name -> seed of initialisation.
    save_every: seconds between two savings of the states.
    """

    def __init__(
        self,
        folder: Path,
        stamps: Mapping[str, str],
        seeds: Mapping[str, int],
        origin: Mapping[str, Any],
        save_every: float,
        tracker: Tracker | None = None,
    ) -> None:
        self.folder, self.stamps, self.seeds, self.origin = Path(folder), stamps, seeds, origin
        self.save_every, self.tracker = save_every, tracker
        self.interrupted = False
        self.troubles: dict[str, str] = {}
        self._saved, self._cost, self._sound = time.monotonic(), 0.0, False
        self._feed: Feed | None = None
        for name in stamps:
            self.of(name).mkdir(parents=True, exist_ok=True)
            remove_partial(self.of(name))

    def of(self, name: str) -> Path:
        """A member's folder."""
        return self.folder / self.stamps[name]

    def waiting(self) -> list[str]:
        """Names of the members that are not trained yet."""
        return [name for name in self.stamps if not (self.of(name) / CONFIG).exists()]

    def feeding(self, feed: Feed) -> None:
        """The members that follow are trained on this feed."""
        self._feed = feed

    def resume(self, training: Training) -> None:
        """Bring a new training to where it was left, if it was begun before."""
        self._sound = True
        path = self.of(training.name) / STATE
        if path.exists():
            load_state(path, training, self.stamps[training.name])
            say(f"{training.name}: going on from step {training.member.step}")

    def logged(self, training: Training) -> None:
        """Write the history, so that it can be looked at while training goes on."""
        self._sound = True
        write_csv(self.of(training.name) / "training.csv", training.history)
        if self.tracker:
            self.tracker.log(training.name, training.member.settings, training.history)

    def after(self, step: int, trainings: Sequence[Training]) -> None:
        """Save the states when it is time; when interrupted, save and stop.

        It is time every `save_every` seconds and, so that one that diverges early leaves a good state, after the first
        step and each new row of the history, as long as that takes little of the time.
        """
        if not (self.interrupted or self._due()):
            return
        started = time.monotonic()
        for training in trainings:
            save_state(self.of(training.name) / STATE, training, self.stamps[training.name])
        self._saved, self._sound = time.monotonic(), False
        self._cost = self._saved - started
        if self.interrupted:
            say(f"interrupted after step {step + 1}; the next run goes on from there")
            raise KeyboardInterrupt

    def _due(self) -> bool:
        since = time.monotonic() - self._saved
        return since >= self.save_every or (self._sound and since * SAVING_SHARE >= self._cost)

    def ended(self, training: Training) -> None:
        """Save the SAE, or keep the last good state of one that diverged."""
        if self.tracker:
            self.tracker.end(training.name)
        if training.trouble:
            self.troubles[training.name] = training.trouble
            say(f"{training.name}: {training.trouble}")
            return
        feed, name = self._feed, training.name
        origin = {**self.origin, "output_site": training.member.settings["output_site"]}
        write_tensors(self.of(name) / FREQUENCIES, {"sparsity": log_frequencies(training.member, feed.sample)})
        sae = finished(training.member, feed.before, feed.after, self.seeds[name], origin)
        save_sae(self.of(name), sae, training.history)
        (self.of(name) / STATE).unlink(missing_ok=True)

    def close(self) -> None:
        """Write the index, and forget what is no longer asked for; UserError naming what diverged, if anything did."""
        if self.troubles:
            name, trouble = next(iter(self.troubles.items()))
            more = f" ({len(self.troubles)} members diverged)" if len(self.troubles) > 1 else ""
            kept = self.of(name) / STATE
            where = f"; its last good state is {kept}" if kept.exists() else ""
            raise UserError(f"member {name!r}: {trouble}{more}{where}")
        wanted = set(self.stamps.values())
        for path in self.folder.iterdir():
            if re.fullmatch("[0-9a-f]{16}", path.name) and path.name not in wanted:
                shutil.rmtree(path)
        write_json(self.folder / INDEX, {"format": 1, "members": dict(self.stamps)})
