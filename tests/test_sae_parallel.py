"""Work cut among threads: every part once, torch on one thread inside, and on as many as before afterwards."""

import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_cases import torch_threads

from policylens.sae import parallel
from policylens.sae.optimiser import Adam
from policylens.sae.parallel import as_a_whole, by_rows, in_parts, over_edges, over_range, row_norms


@pytest.fixture
def three_threads():
    with torch_threads(3):
        yield


@given(st.integers(1, 40), st.integers(1, 5))
def test_parts_cover_the_range_in_order(length, threads):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "threads", lambda: threads)
        parts = over_range(lambda start, stop: list(range(start, stop)), length)
    assert len(parts) == min(threads, length)
    assert sum(parts, []) == list(range(length))


def test_parts_run_at_the_same_time_with_torch_on_one_thread(three_threads):
    together = threading.Barrier(3, timeout=60)

    def part(start, stop):
        together.wait()
        return torch.get_num_threads(), threading.get_ident()

    found = over_edges(part, [0, 1, 2, 3])
    assert [threads for threads, _ in found] == [1, 1, 1]
    assert len({name for _, name in found}) == 3
    assert torch.get_num_threads() == 3


def test_torch_has_its_threads_back_afterwards(three_threads):
    with pytest.raises(ValueError, match="wrong"), in_parts():
        assert (torch.get_num_threads(), parallel.threads()) == (1, 3)
        with as_a_whole():
            assert (torch.get_num_threads(), parallel.threads()) == (3, 3)
        assert torch.get_num_threads() == 1
        with in_parts():
            assert (torch.get_num_threads(), parallel.threads()) == (1, 3)
        raise ValueError("wrong")
    assert (torch.get_num_threads(), parallel.threads()) == (3, 3)
    assert threads_of_a_new_thread() == 3


def test_threads_of_the_pool_change_nothing_for_threads_to_come(three_threads):
    parallel._pool.cache_clear()
    over_edges(lambda start, stop: None, [0, 1, 2])
    assert threads_of_a_new_thread() == 3


def threads_of_a_new_thread() -> int:
    """Torch's number of threads as a thread sees it that asks for the first time."""
    seen = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    return seen[0]


def test_all_parts_are_waited_for_when_one_fails(three_threads):
    failed, done = threading.Event(), []

    def part(start, stop):
        if start == 0:
            failed.set()
            raise ValueError("wrong")
        failed.wait(60)
        time.sleep(0.05)
        done.append(start)

    with pytest.raises(ValueError, match="wrong"):
        over_edges(part, [0, 1, 2, 3])
    assert sorted(done) == [1, 2]


def test_rows_are_worked_on_in_place(three_threads):
    matrix, factors = torch.randn(7, 4), torch.arange(7.0)
    expected = matrix * factors[:, None]
    by_rows(lambda rows, some: rows.mul_(some[:, None]), matrix, factors)
    assert torch.equal(matrix, expected)
    assert torch.allclose(row_norms(matrix), matrix.norm(dim=1))


@pytest.mark.parametrize("threads", [1, 3, 5])
def test_adam_in_parts_is_torchs(monkeypatch, threads):
    monkeypatch.setattr(parallel, "threads", lambda: threads)
    monkeypatch.setattr("policylens.sae.optimiser.threads", lambda: threads)
    rng = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=rng) for shape in ((7, 3), (4,), (1,))]
    reference = [tensor.clone().requires_grad_() for tensor in tensors]
    gradients = [torch.empty_like(tensor) for tensor in tensors]
    ours, theirs = Adam(tensors, gradients, 0.1), torch.optim.Adam(reference, lr=0.1, fused=True)
    for step, limit in enumerate((0.5, 1e3, 2.0)):
        for gradient, exact in zip(gradients, reference, strict=True):
            gradient.copy_(torch.randn(gradient.shape, generator=rng))
            exact.grad = gradient.clone()
        ours.clip(limit)
        torch.nn.utils.clip_grad_norm_(reference, limit)
        ours.step(0.1 / (step + 1))
        theirs.param_groups[0]["lr"] = 0.1 / (step + 1)
        theirs.step()
    for tensor, exact, moments in zip(tensors, reference, ours.moments, strict=True):
        assert torch.allclose(tensor, exact, atol=1e-6)
        assert torch.allclose(moments["exp_avg_sq"], theirs.state[exact]["exp_avg_sq"], atol=1e-7)
    assert {float(count) for count in ours.steps} == {3.0}
