"""Which rows an SAE sees, in which order: all of them, well mixed, in bounded memory, the same ones at every step."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import refused

from policylens.sae import selection as selection_module
from policylens.sae.normalisation import Normalisation, Statistics
from policylens.sae.order import Order
from policylens.sae.selection import InMemory, Piece, Selection, in_memory
from policylens.sae.stream import Stream, monitor


def untouched(width=1):
    return Normalisation(torch.zeros(width), False, 1.0)


def bounds_of(lengths):
    return np.concatenate([[0], np.cumsum(lengths)])


def numbers_drawn(order, epoch):
    """Row numbers of an epoch in the order of drawing."""
    found = []
    for number, pool in enumerate(order.pools(epoch)):
        rows = np.concatenate([np.arange(order.bounds[c], order.bounds[c + 1]) for c in pool.chunks])
        drawn = order.drawn(epoch, number, pool)
        assert len(drawn) == pool.draws
        found.append(rows[drawn])
    return np.concatenate(found)


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    pool_rows=st.integers(1, 40),
    seed=st.integers(0, 2**32),
)
def test_an_epoch_draws_every_row_once(lengths, pool_rows, seed):
    order = Order(bounds_of(lengths), pool_rows, seed, replacement=False)
    for epoch in (0, 1, 7):
        assert sorted(numbers_drawn(order, epoch)) == list(range(sum(lengths)))
    biggest = max(sum(lengths[c] for c in pool.chunks) for pool in order.pools(0))
    assert biggest <= max(pool_rows, max(lengths))


def order_of(chunks=400, length=10, pool=400, **rest):
    return Order(
        bounds_of([length] * chunks), pool, rest.pop("seed", 0), replacement=rest.pop("replacement", False), **rest
    )


def neighbours(order):
    """Rank correlation of position in the data and position in the epoch, and of one draw and the next."""
    drawn = numbers_drawn(order, 0).astype(float)
    along = np.corrcoef(drawn, np.arange(len(drawn)))[0, 1]
    adjacent = np.mean(np.abs(np.diff(drawn)) < order.bounds[1])
    return abs(along), adjacent


@pytest.mark.parametrize("pool", [4000, 400], ids=["one pool", "ten pools"])
def test_rows_are_mixed(pool):
    along, adjacent = neighbours(order_of(pool=pool))
    units = 4000 if pool == 4000 else 400  # rows are shuffled; with several pools, chunks of ten rows are
    assert along < 5 / units**0.5  # five standard errors of a correlation that is 0
    # By chance two draws lie closer than 10 rows with probability 0.005; in ten pools of 40 chunks, 0.05.
    assert adjacent < (0.012 if pool == 4000 else 0.08)


@pytest.mark.parametrize("broken", ["chunks", "rows"])
def test_the_test_of_mixing_sees_each_half_of_the_shuffle(monkeypatch, broken):
    class Off:
        def permutation(self, count):
            return np.arange(count)

    plain = Order._generator
    purpose = {"chunks": 0, "rows": 1}[broken]
    monkeypatch.setattr(Order, "_generator", lambda self, *p: Off() if p[0] == purpose else plain(self, *p))
    along, adjacent = neighbours(order_of(pool=400))
    assert along > 0.5 or adjacent > 0.5


def test_epochs_and_seeds_differ():
    draws = {seed: numbers_drawn(order_of(seed=seed), 0) for seed in (0, 1)}
    assert not np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], numbers_drawn(order_of(seed=0), 1))
    assert np.array_equal(draws[0], numbers_drawn(order_of(seed=0), 0))


def test_replacement_draws_independently():
    counts = np.bincount(numbers_drawn(order_of(40, 10, 400, replacement=True), 0), minlength=400)
    assert counts.sum() == 400
    # Poisson with mean 1: a share of 1/e is never drawn.
    assert 0.25 < (counts == 0).mean() < 0.5


@pytest.mark.parametrize("pool", [4000, 400])
def test_weights_are_how_often_rows_are_drawn(pool):
    weights = np.ones(4000)
    weights[:1000], weights[1000:1500] = 3.0, 0.0
    order = order_of(pool=pool, replacement=True, weights=weights)
    counts = sum(np.bincount(numbers_drawn(order, epoch), minlength=4000) for epoch in range(30))
    assert counts.sum() == 30 * 4000
    assert counts[1000:1500].sum() == 0
    assert counts[:1000].mean() / counts[1500:].mean() == pytest.approx(3.0, rel=0.05)


def test_weights_need_replacement():
    with refused("replacement"):
        order_of(weights=np.ones(4000))
    with refused("all row weights are 0"):
        order_of(weights=np.zeros(4000), replacement=True)


@pytest.mark.usefixtures("small_chunks")
def test_a_pool_without_weight_is_passed_over():
    weights = np.zeros(100)
    weights[7] = 2.0
    selection = in_memory(numbered(100))
    order = Order(selection.bounds, 30, 0, replacement=True, weights=weights)
    stream = Stream(selection, order, 25, untouched(2), untouched(2))
    assert set(np.concatenate(first_batches(stream, 8))) == {7}


def numbered(rows, positions=(), width=2):
    """Rows whose first value is their own number."""
    values = np.zeros((rows, *positions, width), np.float32)
    values[..., 0] = np.arange(rows * int(np.prod(positions))).reshape(rows, *positions)
    return values


def stream_of(selection, pool_rows, batch_rows=16, seed=3, **options):
    order = Order(selection.bounds, pool_rows, seed, replacement=options.get("replacement", False))
    normal = untouched(selection.d_in)
    return Stream(selection, order, batch_rows, normal, untouched(selection.d_out))


def first_batches(stream, count, start=0):
    return [batch.x[:, 0].tolist() for _, batch in zip(range(count), stream.batches(start), strict=False)]


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(selection_module, "CHUNK_VALUES", 20)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("pool", [1000, 30])
@pytest.mark.parametrize("replacement", [False, True])
def test_a_stream_begun_later_gives_the_same_batches(pool, replacement):
    selection = in_memory(numbered(100))
    whole = first_batches(stream_of(selection, pool, replacement=replacement), 20)
    for start in (1, 6, 7, 13):
        assert first_batches(stream_of(selection, pool, replacement=replacement), 20 - start, start) == whole[start:]
    assert len({tuple(batch) for batch in whole}) == 20


@pytest.mark.usefixtures("small_chunks")
def test_batches_go_on_over_pools_and_epochs_without_loss():
    seen = np.concatenate(first_batches(stream_of(in_memory(numbered(100)), 30), 25))
    for epoch in range(4):
        assert sorted(seen[100 * epoch : 100 * (epoch + 1)]) == list(range(100))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("pool", [4000, 400], ids=["one pool", "ten pools"])
def test_what_a_training_gets_is_mixed(pool):
    def correlations(stream):
        seen = np.concatenate(first_batches(stream, 40))
        return abs(np.corrcoef(seen, np.arange(4000))[0, 1]), np.mean(np.abs(np.diff(seen)) < 10)

    along, adjacent = correlations(stream_of(in_memory(numbered(4000)), pool, batch_rows=100))
    assert along < 5 / 400**0.5
    assert adjacent < 0.08


@pytest.mark.usefixtures("small_chunks")
def test_the_test_of_a_training_s_rows_sees_draws_that_are_not_used(monkeypatch):
    plain = Stream._load
    in_order = lambda self, *given: (found := plain(self, *given))._replace(drawn=torch.arange(len(found.drawn)))  # noqa: E731
    monkeypatch.setattr(Stream, "_load", in_order)
    with pytest.raises(AssertionError):
        test_what_a_training_gets_is_mixed(4000)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("pool", [400, 100])
def test_weights_are_how_often_a_training_gets_rows(pool):
    weights = np.ones(400)
    weights[:100], weights[100:150] = 3.0, 0.0
    selection = Selection([Piece(InMemory(numbered(400)), None, np.arange(400), weights, "x")])
    order = Order(selection.bounds, pool, 0, replacement=True, weights=selection.weights)
    stream = Stream(selection, order, 400, untouched(2), untouched(2))
    counts = np.bincount(np.concatenate(first_batches(stream, 60)).astype(int), minlength=400)
    assert counts[100:150].sum() == 0
    assert counts[:100].mean() / counts[150:].mean() == pytest.approx(3.0, rel=0.06)


class Counting(InMemory):
    """Counts the rows read, and how many are held at once."""

    def __init__(self, values):
        super().__init__(values)
        self.reads = 0

    def read(self, rows):
        self.reads += len(rows)
        return super().read(rows)


@pytest.mark.usefixtures("small_chunks")
def test_what_fits_is_read_once_and_what_does_not_is_read_per_epoch():
    for pool, times in ((100, 1), (30, 3)):
        column = Counting(numbered(100))
        selection = Selection([Piece(column, None, np.arange(100), None, "x")])
        first_batches(stream_of(selection, pool, batch_rows=25), 12)
        assert times * 100 <= column.reads <= times * 100 + 2 * pool


@pytest.mark.usefixtures("small_chunks")
def test_no_more_than_two_pools_are_in_memory(monkeypatch):
    import weakref

    held, most = [], []
    plain = Selection.gather

    def gather(self, numbers):
        rows = plain(self, numbers)
        held.append(weakref.ref(rows.inputs))
        most.append(sum(ref() is not None for ref in held))
        return rows

    monkeypatch.setattr(Selection, "gather", gather)
    first_batches(stream_of(in_memory(numbered(100)), 30, batch_rows=5), 60)
    assert len(most) > 10
    # The one in use was let go before another was asked for: the third is the one being filled.
    assert max(most) <= 3


def test_positions_are_rows_and_targets_go_with_them():
    inputs, goals = numbered(30, (2, 3)), numbered(30, (2, 3), width=4)
    selection = in_memory(inputs, goals + 1000)
    assert (selection.n_rows, selection.d_in, selection.d_out) == (180, 2, 4)
    order = Order(selection.bounds, 1000, 0, replacement=False)
    for _, batch in zip(range(6), Stream(selection, order, 50, untouched(2), untouched(4)).batches(), strict=False):
        torch.testing.assert_close(batch.target[:, 0], batch.x[:, 0] + 1000)


@pytest.mark.usefixtures("small_chunks")
def test_several_captures_are_one_selection():
    one, two = numbered(30), numbered(30) + 500
    pieces = [
        Piece(InMemory(one), None, np.arange(0, 30, 2), None, "a"),
        Piece(InMemory(two), None, np.arange(5), None, "b"),
    ]
    seen = np.concatenate(first_batches(stream_of(Selection(pieces), 8, batch_rows=10), 2))
    assert sorted(seen) == sorted([*range(0, 30, 2), *range(500, 505)])
    with refused("b: width 3", "a has 2"):
        Selection([pieces[0], Piece(InMemory(numbered(5, width=3)), None, np.arange(5), None, "b")])


@given(seed=st.integers(0, 1000), positions=st.integers(1, 3))
def test_rows_by_number(seed, positions):
    rng = np.random.default_rng(seed)
    selection = in_memory(numbered(50, (positions,)))
    numbers = rng.permutation(selection.n_rows)[:17]
    assert selection.rows(numbers).inputs[:, 0].tolist() == numbers.tolist()


def test_statistics_are_exact_chunk_by_chunk_and_weighted():
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, (5000, 6)).astype(np.float16)
    weights = rng.random(5000)
    parts = [torch.from_numpy(part) for part in np.array_split(x, 7)]
    for weight in (None, weights):
        found = Statistics(lambda: iter(parts), weight).normalisation(centre=True, rescale=True)
        mean = np.average(x.astype(np.float64), axis=0, weights=weight)
        norm = np.average(np.linalg.norm(x - mean, axis=1), weights=weight)
        np.testing.assert_allclose(found.mean, mean, rtol=1e-6)
        assert found.scale == pytest.approx(6**0.5 / norm, rel=1e-5)


def test_the_monitor_is_a_fixed_sample_of_training_rows():
    selection = in_memory(numbered(300))
    normal = untouched(2)
    one, two = (monitor(selection, normal, normal, 50, 7, "cpu").x for _ in range(2))
    assert torch.equal(one, two)
    assert len(set(one[:, 0].tolist())) == 50
    assert len(monitor(selection, normal, normal, 500, 7, "cpu").x) == 300


def test_the_monitor_follows_the_weights():
    weights = np.ones(300)
    weights[:100], weights[100:250] = 0.0, 50.0
    selection = Selection([Piece(InMemory(numbered(300)), None, np.arange(300), weights, "x")])
    normal = untouched(2)
    seen = monitor(selection, normal, normal, 100, 7, "cpu").x[:, 0].numpy()
    assert seen.min() >= 100
    assert (seen < 250).mean() > 0.9
    assert len(monitor(selection, normal, normal, 500, 7, "cpu").x) == 200
