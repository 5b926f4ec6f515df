"""A backend of several workers: each computes a part of what is asked, and all have the same result.

A batch is cut into shards (`shared.method.batches`), whose sums are added in their order whatever computes them. Worker
k of N computes the k-th N-th of them; the sums are gathered by the framework's own collectives (`impl_*/workers.py`)
and added by everybody, so that each worker takes the same step. Samples and features are dealt out in whole chunks. So
1, 2 or 4 workers with as many threads each give the same bytes.

The first worker is the run's own process, which alone reads images and writes files. It tells the others each call into
the framework, with the pixels of their galaxies.
"""

import hashlib
from collections.abc import Iterable
from itertools import pairwise
from typing import Any
from weakref import finalize

import numpy as np

from shared.method.backend import Backend
from shared.method.batches import Cutouts, Plan
from shared.method.crew import Crew
from shared.method.views import Views
from shared.network.weights import PARTS, Checkpoint, Weights
from shared.run.channel import Channel, Message
from shared.run.spec import BackendSpec, RunSpec, from_config, shard_count, to_config


class Remote:
    """A state that every worker has: this process's own, and the number under which the others know it."""

    def __init__(self, own: Any, number: int):
        self.own, self.number = own, number


class Workers:
    """A crew as one backend: it satisfies the Protocol of `shared.method.backend`."""

    def __init__(self, crew: Crew):
        self.crew, self.backend = crew, crew.backend
        self.count, self.chunk = crew.spec.workers, crew.spec.chunk
        self.states, self.unused = 0, []
        # what looks at no state is the backend's own
        self.acquire, self.nearest = self.backend.acquire, self.backend.nearest
        self.dirichlet_information = self.backend.dirichlet_information
        self.walk_information = self.backend.walk_information
        self.peak_memory = self.backend.peak_memory

    def configure(self, spec: BackendSpec) -> None:
        """Refused: workers are configured as they join."""
        raise ValueError("workers are configured when they join; open them with open_networks")

    def out_of_memory(self, error: BaseException) -> bool:
        """Never said: the others are at the call that one has left, so that it cannot be made again with less."""
        return False

    def init(self, run: RunSpec, start: Checkpoint) -> Remote:
        """The network and its optimiser as they were at a checkpoint, on every worker."""
        self.states += 1
        with self.crew.watched():
            same = checkpoint_arrays(start)
            facts = {"run": to_config(run), "step": start.step}
            self._tell("init", self.states, [same] * self.count, facts)
            state = Remote(self.backend.init(run, start), self.states)
            finalize(state, self.unused.append, state.number)
            self._answers()
        return state

    def train_steps(self, state: Remote, images: Cutouts, plan: Plan) -> tuple[Remote, np.ndarray]:
        """The state after all steps of a plan, on every worker, and the mean loss (step,) before each."""
        with self.crew.watched():
            own = self._share_out("train_steps", state, images, plan)
            state.own, losses = self.backend.train_steps(state.own, *own)
            self._answers()
        return state, losses

    def gradients(self, state: Remote, images: Cutouts, plan: Plan) -> tuple[float, Weights]:
        """The mean loss of a plan's first batch and its gradient with respect to every weight."""
        with self.crew.watched():
            own = self._share_out("gradients", state, images, plan)
            found = self.backend.gradients(state.own, *own)
            self._answers()
        return found

    def seen(self, state: Remote, images: np.ndarray, views: Views) -> np.ndarray:
        """What the network is shown, (galaxy, y, x, channel)."""
        return self.backend.seen(state.own, images, views)

    def features(self, state: Remote, images: np.ndarray, views: Views) -> Any:
        """The units (galaxy, unit), on this worker's device."""
        return self.backend.features(state.own, images, views)

    def logits(self, state: Remote, units: Any, kept: dict[str, np.ndarray]) -> np.ndarray:
        """Logits (galaxy, sample, answer) of units (galaxy, unit)."""
        return self.backend.logits(state.own, units, kept)

    def sample(
        self,
        state: Remote,
        images: np.ndarray,
        views: Views,
        keys: np.ndarray,
        first: int,
        samples: int,
    ) -> np.ndarray:
        """Logits (galaxy, sample, answer) of samples `first` to `first` + `samples`."""
        facts = {"first": first, "samples": samples}
        return self._deal_out("sample", state, images, views, {"keys": keys}, facts)

    def embed(self, state: Remote, images: np.ndarray, views: Views) -> np.ndarray:
        """The encoder's units (galaxy, unit) of any number of galaxies."""
        return self._deal_out("embed", state, images, views, {}, {})

    def export_weights(self, state: Remote) -> Weights:
        """All that prediction needs."""
        return self.backend.export_weights(state.own)

    def export_checkpoint(self, state: Remote) -> Checkpoint:
        """All that training changes; ValueError unless every worker has the same, to the last bit."""
        with self.crew.watched():
            self._tell("digest", state.number, [{}] * self.count)
            own = self.backend.export_checkpoint(state.own)
            for number, message in enumerate(self._answers(), 2):
                if message.facts["digest"] != digest(own):
                    raise ValueError(
                        f"worker {number} of {self.count} has come to other weights than the first: its processor "
                        "rounds otherwise; give the run workers on machines of one kind"
                    )
        return own

    def describe(self) -> dict[str, str]:
        """The backend's own description, and the number of workers."""
        return {**self.backend.describe(), "workers": str(self.count)}

    def _share_out(self, what: str, state: Remote, images: Cutouts, plan: Plan):
        """Tell each of the others its shards of the plan's batches; the images and the plan of this worker."""
        galaxies = plan.rows.shape[1]
        shards = shard_count(state.own.run.training, galaxies)
        if shards % self.count:
            raise ValueError(
                f"a batch of {galaxies} galaxies is cut into {shards} shards, which {self.count} workers cannot share; "
                f"set training.shards={self.count}, or backend.workers to what divides {shards}"
            )
        pixels = images[plan.rows]
        bounds = [galaxies * number // self.count for number in range(self.count + 1)]
        parts = [(slice(None), slice(*ends)) for ends in pairwise(bounds)]
        named = [plan_arrays(plan, part) | {"images": pixels[part]} for part in parts]
        self._tell(what, state.number, named)
        return sent_images(named[0]), sent_plan(named[0])

    def _deal_out(
        self,
        what: str,
        state: Remote,
        images: np.ndarray,
        views: Views,
        others: dict[str, np.ndarray],
        facts: dict,
    ) -> np.ndarray:
        """What the call finds for all galaxies, whose chunks are dealt out to the workers, as many to each."""
        galaxies, arrays = len(images), {"images": images, **views._asdict(), **others}
        chunks = -(-galaxies // self.chunk)
        bounds = [
            min(galaxies, chunks * number // self.count * self.chunk)
            for number in range(self.count + 1)
        ]
        named = [
            {name: array[slice(*ends)] for name, array in arrays.items()}
            for ends in pairwise(bounds)
        ]
        with self.crew.watched():
            self._tell(what, state.number, named, facts)
            found = [galaxy_call(self.backend, what, state.own, named[0], facts)]
            found += [message.arrays["found"] for message in self._answers()]
        return np.concatenate(found)

    def _tell(self, what: str, state: int, arrays: Iterable[dict], facts: dict | None = None):
        """Tell each of the others a call with the arrays of its own; the first are this worker's."""
        facts = {"state": state, "unused": [*self.unused], **(facts or {})}
        del self.unused[: len(facts["unused"])]
        _, *others = arrays
        for channel, own in zip(self.crew.channels, others, strict=True):
            channel.send(what, facts, own)

    def _answers(self) -> list[Message]:
        return [channel.receive() for channel in self.crew.channels]


def follow(channel: Channel, backend: Backend) -> None:
    """Do as a worker all calls that come, until it is told to end."""
    states: dict[int, Any] = {}
    while (call := channel.receive()).what != "end":
        what, facts, arrays = call
        number = facts["state"]
        for unused in facts["unused"]:
            states.pop(unused, None)
        if what == "init":
            run = from_config(RunSpec, facts["run"])
            states[number] = backend.init(run, sent_checkpoint(arrays, facts["step"]))
            channel.send("done")
        elif what == "digest":
            channel.send("done", {"digest": digest(backend.export_checkpoint(states[number]))})
        elif what == "train_steps":
            given = (sent_images(arrays), sent_plan(arrays))
            states[number], _ = backend.train_steps(states[number], *given)
            channel.send("done")
        elif what == "gradients":
            backend.gradients(states[number], sent_images(arrays), sent_plan(arrays))
            channel.send("done")
        elif what in ("sample", "embed"):
            found = galaxy_call(backend, what, states[number], arrays, facts)
            channel.send("done", arrays={"found": found})
        else:
            raise ValueError(f"{what!r} is no call that a worker knows")


def galaxy_call(backend: Backend, what: str, state: Any, arrays: dict, facts: dict) -> np.ndarray:
    """What `sample` or `embed` finds for the galaxies of `arrays`."""
    given = (state, arrays["images"], views_of(arrays))
    if what == "embed":
        return backend.embed(*given)
    return backend.sample(*given, arrays["keys"], facts["first"], facts["samples"])


class Given:
    """Images of one call that were read already: as much of `Cutouts` as a framework asks for."""

    def __init__(self, images: np.ndarray):
        self.images = images

    def parts(self) -> None:
        """No device keeps them: the next call has others."""

    def on_device(self, rows: np.ndarray) -> np.ndarray:
        """The images, which are those of `rows`."""
        return self.images


def sent_images(arrays: dict[str, np.ndarray]) -> Any:
    """The images of a call of training."""
    return Given(arrays["images"])


def plan_arrays(plan: Plan, part: tuple[slice, slice]) -> dict[str, np.ndarray]:
    """A plan's arrays by name, with `part` of what they say of (step, galaxy)."""
    whole = {**plan._asdict(), **plan.views._asdict()}
    del whole["views"]
    every = ("ranks", "steps", "scales")
    return {name: array if name in every else array[part] for name, array in whole.items()}


def sent_plan(arrays: dict[str, np.ndarray]) -> Plan:
    """The plan whose arrays were `plan_arrays`."""
    own = {name: arrays[name] for name in Plan._fields if name != "views"}
    return Plan(views=views_of(arrays), **own)


def views_of(arrays: dict[str, np.ndarray]) -> Views:
    """The views among the arrays of a call."""
    return Views(*(arrays[name] for name in Views._fields))


def checkpoint_arrays(start: Checkpoint) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint, as PART/NAME."""
    return {
        f"{part}/{name}": array for part in PARTS for name, array in getattr(start, part).items()
    }


def sent_checkpoint(arrays: dict[str, np.ndarray], step: int) -> Checkpoint:
    """The checkpoint whose arrays were `checkpoint_arrays`."""
    parts: dict[str, dict] = {part: {} for part in PARTS}
    for place, array in arrays.items():
        part, _, name = place.partition("/")
        parts[part][name] = array
    return Checkpoint(step=step, **parts)


def digest(checkpoint: Checkpoint) -> str:
    """A short name for all bytes of a checkpoint."""
    arrays = sorted(checkpoint_arrays(checkpoint).items())
    named = [name.encode() + hashlib.sha256(array.tobytes()).digest() for name, array in arrays]
    return hashlib.sha256(b"".join(named)).hexdigest()
