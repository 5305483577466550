"""Training SAEs: one on an array, or several on the same stream of batches, each as if it were alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from policylens.errors import UserError
from policylens.sae.base import SAE, SAEConfig
from policylens.sae.history import Row, measured, trouble
from policylens.sae.member import Member
from policylens.sae.normalisation import Normalisation, Statistics, fold, unfold
from policylens.sae.order import Order
from policylens.sae.parallel import as_a_whole, in_parts
from policylens.sae.row_kinds import row_norm_of
from policylens.sae.selection import Selection, in_memory
from policylens.sae.settings import resolve
from policylens.sae.stream import Batch, Stream, monitor

CHECK_EVERY = 100
INITIALISATION, DRAWING, MONITOR = range(3)
POOL_BYTES = 2**31

Progress = Callable[[Sequence[int]], Iterable[int]]


class Training:
    """One member on its way: its state, its history, and what went wrong if it diverged.

    name: for messages. member: see :class:`Member`.
    """

    def __init__(self, name: str, member: Member, history: Sequence[Row] = ()) -> None:
        self.name, self.member, self.history = name, member, list(history)
        self.trouble: str | None = None
        steps, points = member.settings["steps"], member.settings["log_points"]
        self._logged = set(np.linspace(0, steps, points + 1).round().astype(int).tolist())

    @property
    def running(self) -> bool:
        """Whether there are steps left to do."""
        return self.trouble is None and self.member.step < self.member.settings["steps"]

    def begin(self, sample: Batch) -> None:
        """Measure the state before the first step."""
        if not self.history:
            self.history.append(measured(self.member, sample))

    def step(self, batch: Batch, sample: Batch) -> bool:
        """One step; True if the history got a new row. Divergence is noted in `trouble`."""
        self.member.update(batch.x, batch.target)
        step = self.member.step
        if step in self._logged:
            with as_a_whole():
                self.history.append(measured(self.member, sample))
        if step in self._logged or step % CHECK_EVERY == 1:
            self.trouble = trouble(self.member, self.history, sample)
        return step in self._logged


class Keeper:
    """What is done while a training goes on (states kept, histories written): here nothing."""

    def logged(self, training: Training) -> None:
        """The history has a new row."""

    def after(self, step: int, trainings: Sequence[Training]) -> None:
        """All have done a step."""

    def ended(self, training: Training) -> None:
        """The last step is done, or the training has diverged."""


def advance(
    trainings: Sequence[Training],
    stream: Stream,
    sample: Batch,
    keeper: Keeper | None = None,
    progress: Progress = iter,
) -> None:
    """Train all members to their end on one pass over the stream; members may stand at different steps.

    Each member gets the batches that it would get alone. One that diverges drops out; the others go on.
    """
    keeper = keeper or Keeper()
    for training in trainings:
        training.begin(sample)
        if not training.running:  # was stopped between its last step and its end
            keeper.ended(training)
    waiting = [training for training in trainings if training.running]
    if not waiting:
        return
    for training in waiting:
        training.member.architecture.scratch = waiting[0].member.architecture.scratch
    with in_parts():
        _advance(waiting, stream, sample, keeper, progress)


def _advance(waiting: list[Training], stream: Stream, sample: Batch, keeper: Keeper, progress: Progress) -> None:
    first = min(training.member.step for training in waiting)
    last = max(training.member.settings["steps"] for training in waiting)
    for step, batch in zip(progress(range(first, last)), stream.batches(first), strict=False):
        for training in waiting:
            if training.member.step == step and training.step(batch, sample):
                keeper.logged(training)
        keeper.after(step, waiting)
        for training in [training for training in waiting if not training.running]:
            waiting.remove(training)
            keeper.ended(training)
        if not waiting:
            return


class Feed:
    """Batches for all members that share a batch size, a normalisation and a way of drawing.

    settings: of any such member. seed: of the order of rows. pool_bytes: rows that are in memory together.
    """

    def __init__(
        self,
        selection: Selection,
        settings: Mapping[str, Any],
        seed: int,
        device: str = "cpu",
        pool_bytes: int = POOL_BYTES,
    ) -> None:
        self.selection = selection
        self.before, self.after = normalisations(selection, settings)
        value_bytes = selection.chunk(0).inputs.element_size()
        width = selection.d_in + (selection.d_out if selection.pieces[0].targets is not None else 0)
        order = Order(
            selection.bounds,
            pool_bytes // (width * value_bytes),
            stream_seed(seed, DRAWING),
            replacement=settings["sampling"] == "replacement",
            weights=selection.weights,
        )
        self.stream = Stream(selection, order, settings["batch_rows"], self.before, self.after, device)
        self.sample = monitor(
            selection, self.before, self.after, settings["monitor_rows"], stream_seed(seed, MONITOR), device
        )


SHARED = ("batch_rows", "centre", "rescale", "row_norm", "sampling", "monitor_rows", "output_site")
"""Settings that members on one feed have in common; one that is absent is common too."""


def normalisations(selection: Selection, settings: Mapping[str, Any]) -> tuple[Normalisation, Normalisation]:
    """Normalisation of the rows that are taken, and of those that are reconstructed."""
    wanted = {"centre": settings["centre"], "rescale": settings["rescale"]}
    weights, own = selection.weights, row_norm_of(settings)
    before = Statistics(lambda: (c.inputs for c in selection.chunks()), weights, own).normalisation(**wanted)
    if selection.pieces[0].targets is None:
        return before, before
    return before, Statistics(lambda: (c.targets for c in selection.chunks()), weights).normalisation(**wanted)


PLAIN = {"standard", "plain_l1"}
"""Architectures with the same tensors and functions, which differ in their loss: each can go on from the other."""


def new_member(settings: Mapping[str, Any], feed: Feed, seed: int, device: str, start: SAE | None = None) -> Member:
    """A member before its first step. start: an SAE to go on from, as a function of raw activations.

    One without `row_norm` gives its weights to a member with it: they act on the normalised rows.
    """
    d_in, d_out = feed.selection.d_in, feed.selection.d_out
    tensors = None
    if start is not None:
        check_start(start, settings, d_in, d_out)
        tensors = unfold(start.tensors, feed.before, feed.after, start.architecture.biases(start.tensors))
    return Member(settings, d_in, stream_seed(seed, INITIALISATION), device, d_out, tensors)


def check_start(start: SAE, settings: Mapping[str, Any], d_in: int, d_out: int) -> None:
    """UserError unless an SAE can be gone on from under these settings, at a site of these widths."""
    architecture = settings["architecture"]
    if {start.cfg.architecture, architecture} <= PLAIN:
        architecture = start.cfg.architecture
    has = (start.cfg.architecture, start.cfg.d_in, start.cfg.d_out, start.cfg.d_sae)
    wants = (architecture, d_in, d_out, settings["latents"])
    for name, one, other in zip(("architecture", "input width", "output width", "latents"), has, wants, strict=True):
        if one != other:
            raise UserError(f"{settings['start'] or 'start'}: its {name} is {one}, the training's {other}")
    normalises, wanted = row_norm_of(start.cfg.settings), row_norm_of(settings)
    if normalises not in (None, wanted):
        raise UserError(
            f"{settings['start'] or 'start'}: its row_norm is {normalises}, the training's {wanted or 'none'}; only "
            "one without row_norm can be gone on from with another"
        )


def train(
    activations: np.ndarray | Tensor,
    settings: Mapping[str, Any],
    seed: int,
    *,
    targets: np.ndarray | Tensor | None = None,
    start: SAE | None = None,
    device: str = "cpu",
    progress: Progress = iter,
    origin: Mapping[str, Any] | None = None,
) -> tuple[SAE, list[Row]]:
    """Train one SAE on an array.

    activations: (n, *positions, d) floats, raw. settings: see `policylens.sae.settings`; defaults are filled in.
    seed: of initialisation and batches: with the same number of torch threads the result is the same to the bit.
    targets: what a transcoder predicts, (n, *positions, d_out). start: an SAE to go on from. progress: passes the
    steps on, and may show them. origin: names for cfg.json (policy, checkpoint, site...).

    Returns the SAE on raw activations and its history (see `policylens.sae.history.measured`). Raises UserError for
    rows that are not finite, and for a training that diverges.
    """
    return train_on(in_memory(activations, targets), settings, seed, start, device, progress, origin)


def train_on(
    selection: Selection,
    settings: Mapping[str, Any],
    seed: int,
    start: SAE | None = None,
    device: str = "cpu",
    progress: Progress = iter,
    origin: Mapping[str, Any] | None = None,
) -> tuple[SAE, list[Row]]:
    """Train one SAE on a selection of rows; all else as :func:`train`."""
    settings = resolve(settings)
    feed = Feed(selection, settings, seed, device)
    own_seed = seed_of(settings, seed)
    training = Training("SAE", new_member(settings, feed, own_seed, device, start))
    advance([training], feed.stream, feed.sample, progress=progress)
    if training.trouble:
        raise UserError(training.trouble)
    return finished(training.member, feed.before, feed.after, own_seed, origin or {}), training.history


def seed_of(settings: Mapping[str, Any], seed: int) -> int:
    """Seed of a member's initialisation: its own, or else the given one."""
    return seed if settings["seed"] is None else settings["seed"]


def stream_seed(seed: int, purpose: int) -> int:
    """A 63-bit seed for one purpose, independent of the other purposes'."""
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1, np.uint64)[0] >> 1)


def finished(member: Member, before: Normalisation, after: Normalisation, seed: int, origin: Mapping[str, Any]) -> SAE:
    """The trained SAE with its normalisation folded in, on the CPU."""
    tensors = fold(member.finished, before, after, member.architecture.biases(member.finished))
    d_in, d_sae = tensors["W_enc"].shape
    cfg = SAEConfig(
        architecture=member.settings["architecture"],
        d_in=d_in,
        d_sae=d_sae,
        d_out=tensors["W_dec"].shape[1],
        settings=dict(member.settings),
        normalisation={"centre": after.centre, "scale": after.scale, "mean": after.raw_mean.tolist()},
        active_threshold=member.settings["active_threshold"] / after.scale,
        seed=seed,
        **origin,
    )
    return SAE(cfg, tensors)
