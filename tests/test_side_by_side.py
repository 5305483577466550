"""Runs in several processes: what they give, what they raise, and what is left when one is killed."""

import multiprocessing
import os
import signal

import numpy as np
import pytest

from policylens.errors import UserError
from policylens.steering.side_by_side import side_by_side
from policylens.stores.shelf import Shelf

several = pytest.mark.parametrize("workers", [1, 2, 3])


def works(**others):
    plain = {f"run-{number}": lambda number=number: {"value": np.array([number])} for number in range(7)}
    return plain | {name.replace("_", "-"): work for name, work in others.items()}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def wrong():
    raise UserError("run-3: nothing works")


@several
def test_all_runs_come_back_in_the_order_given(tmp_path, workers):
    made = side_by_side(works(), Shelf(tmp_path / "shelf", "stamp"), workers, "runs")
    assert [(name, int(arrays["value"][0])) for name, arrays in made.items()] == [(f"run-{n}", n) for n in range(7)]
    assert not multiprocessing.active_children()


def test_every_run_has_a_process_of_its_own(tmp_path):
    pids = {name: lambda: {"pid": np.array([os.getpid()])} for name in works()}
    made = side_by_side(pids, Shelf(tmp_path / "shelf", "stamp"), 2, "runs")
    assert os.getpid() not in (found := {int(arrays["pid"][0]) for arrays in made.values()})
    assert len(found) == 7


@several
def test_what_is_on_the_shelf_is_not_made_again(tmp_path, workers):
    side_by_side(works(), Shelf(tmp_path / "shelf", "stamp"), workers, "runs")
    made = side_by_side(dict.fromkeys(works(), wrong), Shelf(tmp_path / "shelf", "stamp"), workers, "runs")
    assert int(made["run-5"]["value"][0]) == 5


@several
def test_what_a_run_raises_is_raised_and_the_finished_are_kept(tmp_path, workers):
    shelf = Shelf(tmp_path / "shelf", "stamp")
    with pytest.raises(UserError, match="run-3: nothing works"):
        side_by_side(works(run_3=wrong), shelf, workers, "runs")
    assert shelf.has("run-0")
    assert not shelf.has("run-3")
    assert not multiprocessing.active_children()


def test_a_killed_process_is_told_and_not_waited_for(tmp_path):
    shelf = Shelf(tmp_path / "shelf", "stamp")
    with pytest.raises(UserError, match="run-4: its process ended with -9 before the run did"):
        side_by_side(works(run_4=die), shelf, 2, "runs")
    assert shelf.has("run-0")
    assert int(side_by_side(works(), shelf, 2, "runs")["run-4"]["value"][0]) == 4
