"""Progress: a bar on a terminal, plain lines now and then in a log, and the items themselves unchanged."""

import io

import pytest

from policylens import progress as module
from policylens.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Four seconds pass with every look at the clock."""
    seconds = iter(range(0, 10**6, 4))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(seconds))


@pytest.mark.usefixtures("clock")
def test_a_log_gets_plain_lines(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    assert list(progress(range(9), 9, "training", "steps")) == list(range(9))
    lines = log.getvalue().splitlines()
    assert lines[0] == "training: 3 of 9 steps"
    assert 1 < len(lines) < 9
    assert "\r" not in log.getvalue()


@pytest.mark.usefixtures("clock")
def test_without_a_total_none_is_told(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    assert len(list(progress(range(5), None, "reading"))) == 5
    assert log.getvalue().splitlines()[0] == "reading: 3 it"


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert list(progress("abc", 3, "training", "steps")) == ["a", "b", "c"]
    assert "training: 100%" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
