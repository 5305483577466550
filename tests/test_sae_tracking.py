"""Following a training: what is sent to Weights & Biases, and that a training that goes on sends nothing twice."""

import sys
import types

import pytest
from support import refused
from test_sae_sweep import Stopped, run, settings_of, stop_after, workspace

from policylens.sae.sweep import Plan
from policylens.sae.tracking import Tracker

RUN = "0123456789abcdef"


class Wandb(types.ModuleType):
    """What of the package is used: every run and every row is written down."""

    def __init__(self):
        super().__init__("wandb")
        self.begun, self.sent, self.finished = [], [], []

    def init(self, **options):
        self.begun.append(options)
        log = lambda values, step: self.sent.append((options["id"], step, values))  # noqa: E731
        return types.SimpleNamespace(log=log, finish=lambda: self.finished.append(options["id"]))


def tracked(folder, members, save_every):
    keeper = workspace(folder, members, Plan(seed=5), save_every)
    keeper.stamps = {"topk": RUN}
    keeper.of("topk").mkdir(parents=True, exist_ok=True)
    keeper.tracker = Tracker(folder / "wandb", "mine", "the sweep", "offline", keeper.stamps)
    return keeper


def stopped_and_resumed(folder):
    """Train a member, stop it after 17 of 30 steps with the state of step 9, go on; returns its whole history."""
    members = {"topk": settings_of()["topk"]}
    first = tracked(folder, members, 1e9)
    plain = first.after

    def after(step, trainings):
        first.save_every = 0 if step + 1 <= 9 else 1e9
        plain(step, trainings)

    first.after = after
    with pytest.raises(Stopped):
        run(folder, members, keeper=stop_after(first, 17))
    first.tracker.end("topk")
    again = tracked(folder, members, 1e9)
    histories = []
    ended = again.ended
    again.ended = lambda training: (histories.append(list(training.history)), ended(training))
    run(folder, members, keeper=again)
    return histories[0]


def test_every_row_is_sent_once_in_the_members_own_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", wandb := Wandb())
    history = stopped_and_resumed(tmp_path)
    assert [row["step"] for row in history] == [0, 10, 20, 30]
    assert wandb.sent == [
        (RUN, row["step"], {key: value for key, value in row.items() if key != "step"}) for row in history
    ]
    assert [options["resume"] for options in wandb.begun] == ["allow", "allow"]
    assert {(options["id"], options["name"], options["mode"]) for options in wandb.begun} == {(RUN, "topk", "offline")}
    assert wandb.begun[0]["config"]["latents"] == 24
    assert wandb.finished == [RUN, RUN]


def test_the_results_do_not_depend_on_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", Wandb())
    stopped_and_resumed(tmp_path / "followed")
    members = {"topk": settings_of()["topk"]}
    plain = run(tmp_path / "plain", members)
    for path in plain.of("topk").iterdir():
        assert (tmp_path / "followed" / RUN / path.name).read_bytes() == path.read_bytes()


def test_without_the_package_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with refused("wandb: the package is not installed", "remove `wandb` from the sweep"):
        Tracker(tmp_path, "mine", "the sweep", "offline", {})
