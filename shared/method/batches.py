"""Batches of training: which galaxies, in which order, under which views; equal in every backend."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from math import ceil, sqrt
from threading import Thread
from typing import Any, NamedTuple

import numpy as np

from shared.data.store import Images
from shared.method.likelihood import likelihood_of, ranks
from shared.method.views import STEPS_PER_CALL, Views, draw_views
from shared.run import keys
from shared.run.spec import RunSpec, TrainingSpec

IN_CACHE = 8  # stored images that are averaged together, where their array does not say how many
HELD = 4 << 30  # bytes of images that a framework keeps on a GPU
AT_ONCE = 2048  # images that are put there together
IMAGES, LEAST_STEPS = 4500, 800  # of training, where a run does not say how long


class Cutouts:
    """A store's images as a network is given them: `cutouts[rows]` is uint8 (..., y, x, channel), box-averaged.

    Colours are averaged too, unless the network has three `channels`. Only the rows asked for are read, so a store may
    be larger than memory. Rows that are expected are read beforehand, by a thread, while a framework computes.
    """

    def __init__(
        self,
        images: Images | np.ndarray,
        factor: int,
        contents: str | None = None,
        channels: int = 1,
    ):
        self.images, self.factor, self.channels = images, factor, channels
        self.streamed = hasattr(images, "at_once")  # which says how many it reads together
        self.at_once = getattr(images, "at_once", IN_CACHE)
        self.contents = contents  # a digest of all images, where they are a store's
        self.size = images.shape[1] // factor
        self.expected: list[tuple[np.ndarray, Future]] = []
        self.held: Callable | None = None  # gives rows from the device that keeps all images

    def __len__(self) -> int:
        return len(self.images)

    @property
    def nbytes(self) -> int:
        """The bytes of all images."""
        return len(self) * self.size**2 * self.channels

    def prefetch(self, rows: np.ndarray) -> None:
        """Begin to read `rows`; `self[`rows`]`, of the very same array, then gives what was read."""
        if self.held is not None:
            return
        answer: Future = Future()
        self.expected.append((rows, answer))
        Thread(target=_answer, args=(answer, self._read, rows), daemon=True).start()

    def parts(self) -> Iterator[np.ndarray] | None:
        """All images, some at a time, for a device that is to keep them; None where they are too many, or kept."""
        if self.held is not None or self.nbytes > HELD:
            return None
        starts = range(0, len(self), AT_ONCE)
        return (self._read(slice(start, start + AT_ONCE)) for start in starts)

    def on_device(self, rows: np.ndarray) -> Any:
        """Images of `rows` as a framework best gets them: from the device that keeps all, or `self[`rows`]`."""
        return self[rows] if self.held is None else self.held(rows)

    def subset(self, rows: np.ndarray) -> "np.ndarray | Held":
        """Images of `rows` for `Backend.sample` and the like, read once; only named where a device keeps them."""
        return self[rows] if self.held is None else Held(self.held, rows)

    def __getitem__(self, rows) -> np.ndarray:
        for place, (expected, answer) in enumerate(self.expected):
            if expected is rows:
                del self.expected[: place + 1]  # what was expected before it is not wanted any more
                return answer.result()
        return self._read(rows)

    def _read(self, rows) -> np.ndarray:
        rows = np.arange(len(self))[rows]
        found = np.empty((*np.shape(rows), self.size, self.size, self.channels), np.uint8)
        flat, places = found.reshape(-1, *found.shape[-3:]), np.ravel(rows)
        for start in range(0, len(places), self.at_once):
            block = slice(start, start + self.at_once)
            some = self.images[places[block]]
            channels = np.split(some, self.channels, -1) if self.channels > 1 else [some]
            for number, part in enumerate(channels):
                flat[block][..., number : number + 1] = box_average(part, self.factor)
        return found


class Held:
    """Some of the images that a device keeps: `held[places]` is uint8 (..., y, x, channel) there."""

    def __init__(self, gather: Callable, rows: np.ndarray):
        self.gather, self.rows = gather, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places) -> Any:
        return self.gather(self.rows[places])


def box_average(images: np.ndarray, factor: int) -> np.ndarray:
    """uint8 (galaxy, y, x, channel), the mean of each square `factor` (a power of two) wide, of all colours: one
    channel.

    Halves are rounded up.
    """
    colours = images.shape[-1]
    count = factor * factor * colours
    if count == 1:
        return images
    kind = np.dtype(np.uint16 if 255 * count < 2**16 else np.uint32)
    planes = [
        images[:, start::factor, :, colour] for start in range(factor) for colour in range(colours)
    ]
    total = planes[0].astype(kind)
    for plane in planes[1:]:
        total += plane
    for _ in range(
        factor.bit_length() - 1
    ):  # a number and its neighbour, as the two halves of a wider one
        pairs = total.view(f"u{2 * kind.itemsize}")
        total = ((pairs & np.iinfo(kind).max) + (pairs >> 8 * kind.itemsize)).astype(kind)
    return ((total + count // 2) // count).astype(np.uint8)[..., None]


def _answer(answer: Future, read: Callable, rows: np.ndarray) -> None:
    try:
        answer.set_result(read(rows))
    except BaseException as error:  # the reader is told, not the thread
        answer.set_exception(error)


class Labelled(NamedTuple):
    """The galaxies to train on."""

    rows: np.ndarray  # int64 (galaxy,) in the store
    hashes: np.ndarray  # uint64 (galaxy,) of their ids
    yes: np.ndarray  # int64 (galaxy,) votes on the run's question that are counted as yes
    total: np.ndarray  # int64 (galaxy,) votes on it
    votes: np.ndarray  # int64 (galaxy, answer) for each answer that is learned

    @classmethod
    def yes_or_no(cls, rows, hashes, yes, total) -> "Labelled":
        """Galaxies of which one yes-or-no question is learned: its answers are no and yes."""
        return cls(rows, hashes, yes, total, np.stack([total - yes, yes], -1))

    def take(self, chosen: np.ndarray) -> "Labelled":
        """Those of the places `chosen`."""
        return Labelled(*(array[chosen] for array in self))

    def some(self, most: int, purpose: str) -> "Labelled":
        """At most so many of them: always the same for a `purpose`."""
        order = np.argsort(keys.galaxy_hash(map(str, self.hashes), purpose))
        return self.take(np.sort(order[:most]))


class Plan(NamedTuple):
    """Many steps of training, for one call into a framework."""

    rows: np.ndarray  # int64 (step, galaxy)
    votes: np.ndarray  # float32 (step, galaxy, answer)
    ranks: np.ndarray  # float32 (step, rank): 0, 1, ... to the most votes of an answer, or beyond
    views: Views  # (step, galaxy, ...)
    keys: np.ndarray  # uint32 (step, galaxy, 2) of dropout
    steps: np.ndarray  # uint32 (step,), counted from the very first step of training
    scales: np.ndarray  # float64 (step, 3): what Adam multiplies by, see `adam_scales`


class Batch(NamedTuple):
    """The arrays of one step of training, on the device."""

    images: Any  # uint8 (galaxy, y, x, channel)
    votes: Any  # (galaxy, answer)
    ranks: Any  # (rank,)
    affine: Any  # of the views, (galaxy, 2, 3)
    crop: Any  # (galaxy, 3)
    contrast: Any  # (galaxy, 2)
    keys: Any  # uint32 (galaxy, 2) of dropout
    step: Any  # uint32, counted from the very first step of training
    scales: Any  # (3,): what Adam multiplies by


PER_GALAXY = ("images", "votes", "affine", "crop", "contrast", "keys")  # of a batch


def shard_of(batch: Batch, number: int, count: int) -> Batch:
    """Shard `number` of so many of a batch."""
    size = len(batch.images) // count
    own = slice(number * size, (number + 1) * size)
    return batch._replace(**{name: getattr(batch, name)[own] for name in PER_GALAXY})


def batch_size(spec: TrainingSpec, galaxies: int) -> int:
    """How many of so many labelled galaxies a batch has: whole shards, where the run says how many."""
    size = min(spec.batch_size, galaxies)
    return size - size % spec.shards if spec.shards and size > spec.shards else size


def with_steps(spec: TrainingSpec, galaxies: int) -> TrainingSpec:
    """`spec` with as many steps as it says, or else as so many labelled galaxies ask for.

    That is 4,500 times the root of their number of images, and at least 800 steps: 800 times each of 32 galaxies, 143
    times each of 1,000 and 20 times each of 50,000, whatever the batch.
    """
    if spec.steps is not None:
        return spec
    images = IMAGES * sqrt(galaxies)
    return replace(spec, steps=max(LEAST_STEPS, ceil(images / batch_size(spec, galaxies))))


def draw_plan(
    run: RunSpec,
    labelled: Labelled,
    size: int,
    origin: int,
    first: int,
    steps: int,
    weights: np.ndarray | None = None,
) -> Plan:
    """Steps `first` to `first` + `steps` of training on galaxies that were labelled at step `origin`.

    An epoch goes through the galaxies once, or by their `weights` (galaxy,), in an order of its own, in whole batches;
    the few that are left over wait for the next. `size` is the width of the images that are sampled.
    """
    batch = batch_size(run.training, len(labelled.rows))
    per_epoch = len(labelled.rows) // batch
    numbers = np.arange(first, first + steps)
    epochs = origin + (numbers - origin) // per_epoch * per_epoch
    orders = {
        epoch: epoch_order(run.seed, labelled.hashes, epoch, weights) for epoch in np.unique(epochs)
    }
    places = [(number - epoch) * batch for number, epoch in zip(numbers, epochs, strict=True)]
    chosen = np.stack(
        [orders[epoch][at : at + batch] for epoch, at in zip(epochs, places, strict=True)]
    )
    hashes, index = labelled.hashes[chosen], np.broadcast_to(numbers[:, None], chosen.shape)
    view_keys = keys.galaxy_keys(run.seed, "view", hashes)
    return Plan(
        labelled.rows[chosen],
        labelled.votes[chosen].astype(np.float32),
        np.tile(ranks(likelihood_of(run), labelled.votes), (steps, 1)),
        draw_views(run, size, view_keys, index, index // STEPS_PER_CALL),
        keys.galaxy_keys(run.seed, "dropout", hashes),
        numbers.astype(np.uint32),
        adam_scales(with_steps(run.training, len(labelled.rows)), numbers, origin),
    )


def epoch_order(
    seed: int, hashes: np.ndarray, epoch: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """The order (galaxy,) of an epoch that begins at step `epoch`: by random words of each galaxy's own key.

    With `weights` (galaxy,) above 0 a galaxy comes as often as its weight is times the mean of all, in the mean over
    epochs, and in each of them to within one. So the mean loss of a batch, and its gradient, are those of the galaxies
    so weighted, without bias, and no framework needs to know of weights.
    """
    own = keys.galaxy_keys(seed, "order", hashes)
    random = keys.bits(own, np.uint32(epoch), 2)
    order = np.lexsort((hashes, random[:, 1], random[:, 0]))
    if weights is None:
        return order
    offset = keys.uniforms(keys.purpose_key(seed, "order"), epoch, 1)[0]
    often = systematic(weights[order], float(offset))
    picked = np.repeat(order, often)
    copy = np.arange(len(picked)) - np.repeat(often.cumsum() - often, often)
    random = keys.bits(own, np.uint32(epoch), 4 + 2 * int(copy.max()))[picked]
    first, second = (random[np.arange(len(picked)), 2 + 2 * copy + word] for word in (0, 1))
    return picked[np.lexsort((hashes[picked], second, first))]


def systematic(weights: np.ndarray, offset: float) -> np.ndarray:
    """How often int64 (galaxy,) each is picked, as many in all as there are: for an `offset` that is uniform in [0, 1),
    in the mean exactly as its share of all `weights` says (systematic resampling).
    """
    count = len(weights)
    edges = count * np.cumsum(weights) / np.sum(weights)
    picked = np.searchsorted(edges, np.arange(count) + offset, "right")
    return np.bincount(np.minimum(picked, count - 1), minlength=count)


def adam_scales(spec: TrainingSpec, steps: np.ndarray, origin: int = 0) -> np.ndarray:
    """Adam's (a, b, rate) float64 (step, 3) at steps counted from 0, in training that began anew at `origin`.

    weight -= a * first / (b * sqrt(second) + epsilon). Both forms of epsilon (Kingma and Ba 2015, algorithm 1 and
    section 2) are this, with other a and b. AdamW takes rate * decay * weight off as well (Loshchilov and Hutter 2019,
    algorithm 2).
    """
    t, rate = np.asarray(steps, np.float64) + 1, learning_rates(spec, np.asarray(steps) - origin)
    bias1, root2 = 1 - spec.beta1**t, np.sqrt(1 - spec.beta2**t)
    if spec.epsilon_form == "textbook":
        return np.stack([rate / bias1, 1 / root2, rate], -1)
    return np.stack([rate * root2 / bias1, np.ones_like(t), rate], -1)


def learning_rates(spec: TrainingSpec, steps: np.ndarray) -> np.ndarray:
    """The rate float64 (step,) at steps counted from 0, which rises during the warm-up, then stays or falls.

    Cosine is whole after the warm-up and comes to 0 after the last step (Loshchilov and Hutter 2017, equation 5,
    without restarts).
    """
    done = np.asarray(steps, np.float64)
    rising = np.minimum((done + 1) / (spec.warmup + 1), 1)
    if spec.schedule == "constant":
        return spec.learning_rate * rising
    share = np.maximum(done - spec.warmup, 0) / max(spec.steps - spec.warmup, 1)
    return spec.learning_rate * rising * ((1 + np.cos(np.pi * share)) / 2)


class Chunk(NamedTuple):
    """Galaxies for one pass of prediction, as many as every other chunk; the first `count` of them are asked for."""

    images: Any  # uint8 (galaxy, y, x, channel), numpy's or on the device
    views: Views  # (galaxy, ...)
    keys: np.ndarray  # uint32 (galaxy, 2)
    count: int


def chunks(images, views: Views, galaxy_keys: np.ndarray, size: int) -> Iterator[Chunk]:
    """All galaxies in chunks of `size`, the last one filled up by repeating its last galaxy.

    Every pass has the same shape, so a galaxy's result depends on its own pixels and, in its last bits, on its place
    in the chunk and on `size`, by which kernels choose in what order they add; never on the other galaxies.
    """
    for start in range(0, len(galaxy_keys), size):
        count = min(size, len(galaxy_keys) - start)
        rows = np.minimum(np.arange(start, start + size), start + count - 1)
        yield Chunk(
            images[rows], Views(*(array[rows] for array in views)), galaxy_keys[rows], count
        )
