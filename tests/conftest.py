"""What all tests share: one thread, reproducible Hypothesis, and a small policy with observations."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, here and in subprocesses

import signal

import pytest
from hypothesis import settings
from support import Small, make_small

settings.register_profile("policylens", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("policylens")

# A shell ignores SIGINT for what it runs in the background, and children inherit that: tests interrupt theirs.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def small_original(tmp_path_factory) -> Small:
    """A small torch module, imported, with a source of two parts; shared, so only to be read."""
    return make_small(tmp_path_factory.mktemp("small"))


@pytest.fixture
def small(tmp_path) -> Small:
    """The same for one test, which may do with it as it likes."""
    return make_small(tmp_path)
