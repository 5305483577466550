"""Buffers of a store being written: shards are whole, memory is two shards, and nothing is overwritten too early."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policylens.capture.activations import BUFFERED_BYTES, shard_bytes
from policylens.stores.buffers import DoubleBuffer
from policylens.stores.layout import rows_per_chunk, rows_per_shard
from policylens.stores.queue import WriteQueue


def done(_rows=None):
    event = threading.Event()
    event.set()
    return event


@given(shard=st.integers(1, 7), sizes=st.lists(st.integers(0, 20), max_size=10))
def test_all_rows_are_read_and_come_out_as_whole_shards(shard, sizes):
    read, shards = [np.empty((0, 2))], [np.empty((0, 2))]
    buffer = DoubleBuffer(
        shard,
        (2,),
        np.dtype("<f4"),
        lambda rows: read.append(rows.copy()) or done(),
        lambda rows: shards.append(rows.copy()) or done(),
    )
    values = np.arange(2 * sum(sizes), dtype=np.float64).reshape(-1, 2)
    for start, size in zip(np.cumsum([0, *sizes]), sizes, strict=False):
        buffer.append(values[start : start + size])
    buffer.flush()
    assert [len(rows) for rows in shards[1:-1]] == [shard] * (len(shards) - 2)
    np.testing.assert_array_equal(np.concatenate(read), values)
    np.testing.assert_array_equal(np.concatenate(shards), values)


def test_memory_is_two_shards():
    addresses = set()
    buffer = DoubleBuffer(4, (), np.dtype("<i8"), done, lambda rows: addresses.add(rows.ctypes.data) or done())
    buffer.append(np.arange(1000))
    assert len(addresses) == 2


@pytest.mark.parametrize("slow", ["read", "write"])
def test_a_shard_is_not_overwritten_before_both_are_done_with_it(slow):
    gate, shards = threading.Event(), []

    def write(rows):
        shards.append(rows)
        return gate if slow == "write" else done()

    read = {"read": lambda rows: gate, "write": done}[slow]
    buffer = DoubleBuffer(2, (), np.dtype("<i8"), read, write)
    filler = threading.Thread(target=buffer.append, args=(np.arange(6),), daemon=True)
    filler.start()
    filler.join(0.1)
    assert filler.is_alive()
    np.testing.assert_array_equal(shards[0], [0, 1])
    gate.set()
    filler.join(10)
    np.testing.assert_array_equal(shards[0], [4, 5])
    assert len(shards) == 3


@pytest.mark.parametrize("sites", [1, 3, 12, 200, 1000])
@pytest.mark.parametrize("row_bytes", [2 * 768, 2 * 4096])
def test_buffers_do_not_grow_with_the_number_of_sites(sites, row_bytes):
    size = shard_bytes(sites)
    assert rows_per_shard(row_bytes, size) % rows_per_chunk(row_bytes, size) == 0
    assert 2 * sites * row_bytes * rows_per_shard(row_bytes, size) <= BUFFERED_BYTES


def test_after_an_error_nothing_more_runs_and_nobody_waits_for_ever():
    ran, gate = [], threading.Event()

    def fail():
        gate.wait(10)
        raise OSError("full")

    def use(queue):
        queue.put(fail)
        later = queue.put(ran.append, 1)
        gate.set()
        assert later.wait(10)
        queue.put(ran.append, 2)

    with pytest.raises(OSError, match="full"), WriteQueue() as queue:
        use(queue)
    assert ran == []


def test_leaving_by_an_exception_skips_what_waits():
    ran, gate = [], threading.Event()

    def use(queue):
        queue.put(gate.wait, 10)
        queue.put(ran.append, 1)
        threading.Timer(0.05, gate.set).start()
        raise KeyError

    with pytest.raises(KeyError), WriteQueue() as queue:
        use(queue)
    assert ran == []
