"""What it costs to fit a head on the features of a frozen encoder, beside the same steps on images.

    python -m benchmarks.features record=features.json model=resnet18 model.image_size=64

`record` is the file for the JSON; `on_features` and `on_images` are the steps that are timed of each; all other words
are those of the door. A store of 5,000 synthetic galaxies is embedded in an empty folder, then a head is fitted on the
features, on images with the encoder run at every step, and all of the network is trained. They come one after the other
in this process, with one thread, in batches of 256, and what counts is the processor's time: other work on the machine
delays it, but hardly changes that. Seconds of so many steps are those of the steps that were timed, times as many.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from conf.compose import compose
from shared.data.prepare import prepare
from shared.method.batches import Labelled
from shared.method.ensemble import open_networks
from shared.method.feature_store import frozen_features
from shared.method.start import start_of
from shared.method.training import calls
from shared.run.errors import complain
from shared.run.keys import galaxy_hash
from shared.run.progress import say
from shared.run.records import host, write_json
from shared.run.spec import RunSpec, from_config
from shared.tasks.galaxies import cutouts, labelled_parts
from shared.tasks.results import where

STEPS = 2000  # of a fit
WORDS = (
    *("task=fit", "dataset.galaxies=5000", "backend.threads=1", "backend.steps=2"),
    "training.trainable=head",
)


def main(words: list[str]) -> int:
    """Time what `words` ask for, and print it; 2 if it is refused."""
    given = dict(word.split("=", 1) for word in words)
    record = given.pop("record", None)
    steps = {
        name: int(given.pop(name, usual))
        for name, usual in (("on_features", 200), ("on_images", 4))
    }
    try:
        run = from_config(RunSpec, compose([*WORDS, *(f"{k}={v}" for k, v in given.items())]))
        found = timed(run, **steps) | {"host": host()}
    except ValueError as error:
        return complain(error)
    if record:
        write_json(Path(record), found)
    for name, spent in found["seconds"].items():
        print(f"{name:24} {spent['processor']:10.1f} s of the processor, {spent['clock']:10.1f} s")
    return 0


def timed(run: RunSpec, on_features: int, on_images: int) -> dict:
    """Seconds of the features of all galaxies, and of a fit's steps on them, and on images."""
    store = prepare(run.dataset)
    backend, images = open_networks(run), cutouts(run, store)
    labelled = labelled_parts(run, store, galaxy_hash(store.galaxies["id"]))["train"]
    whole = replace(run, training=replace(run.training, trainable="all"))
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        every = np.arange(len(images))
        with stopwatch(found, "features"):
            features, _ = frozen_features(backend, run, start_of(run), images, Path(folder), every)
        for name, one, shown, steps in (
            ("head on features", run, features, on_features),
            ("head on images", run, images, on_images),
            ("all on images", whole, images, on_images),
        ):
            say(name)
            state, first = backend.init(one, start_of(one)), one.backend.steps
            state = fitted(backend, one, state, shown, labelled, 0, first)  # it is compiled
            with stopwatch(found, name, STEPS / steps):
                fitted(backend, one, state, shown, labelled, first, first + steps)
    return {
        "model": run.model.name,
        "image_size": run.model.image_size,
        "galaxies": len(images),
        "batch_size": run.training.batch_size,
        "steps": STEPS,
        "steps_timed": {"head on features": on_features, "others": on_images},
        "precision": run.backend.precision,
        "seconds": found,
        "where": where(backend),
    }


def fitted(backend, run: RunSpec, state, images, labelled: Labelled, first: int, last: int):
    """The state after steps `first` to `last`."""
    for call in calls(backend, run, state, images, labelled, 0, first, last):
        state = call.state
    return state


@contextmanager
def stopwatch(found: dict, name: str, times: float = 1.0) -> Iterator[None]:
    """Note under `name` the seconds of the processor and of the clock until it ends, so many `times` over."""
    begun = time.process_time(), time.perf_counter()
    yield
    found[name] = {
        "processor": times * (time.process_time() - begun[0]),
        "clock": times * (time.perf_counter() - begun[1]),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
