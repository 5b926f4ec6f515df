"""Active learning: train, sample the pool, ask about the galaxies that teach most, repeat (W+20, section 4)."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared import keys
from shared.backend import Backend
from shared.batches import Cutouts, Labelled
from shared.metrics import evaluate
from shared.progress import say, track
from shared.sampling import sample_galaxies
from shared.spec import RunSpec
from shared.training import CHECKPOINT, begin, calls, fingerprint
from shared.weights import first_checkpoint, save_checkpoint


class Galaxies(NamedTuple):
    """Who takes part."""

    known: Labelled  # their votes can be revealed when they are asked about
    test: Labelled  # held out
    unknown: Labelled  # no votes, or too few: those whom the last round proposes to ask about


class Choice(NamedTuple):
    """Who is asked about, the most wanted first."""

    places: np.ndarray  # int64 (galaxy,) among those who could be
    scores: np.ndarray  # float64 (galaxy,)


def initial(run: RunSpec, pool: Labelled) -> np.ndarray:
    """The places (galaxy,) of the random galaxies that active learning begins with."""
    random = keys.bits(keys.galaxy_keys(run.seed, "start", pool.hashes), 0, 2)
    return np.lexsort((pool.hashes, random[:, 1], random[:, 0]))[: run.acquisition.initial]


def choose(
    backend: Backend, run: RunSpec, state: Any, images: Cutouts, pool: Labelled, number: int
) -> Choice:
    """The galaxies of the pool, or of some shards of it, that round NUMBER asks about: those of the largest scores."""
    spec, places = run.acquisition, np.arange(len(pool.rows))
    if not len(places):
        return Choice(places, np.zeros(0))
    if spec.shards:
        random = keys.bits(keys.galaxy_keys(run.seed, "shards", pool.hashes), number, 2)
        places = np.lexsort((pool.hashes, random[:, 1], random[:, 0]))[
            : spec.shards * spec.shard_size
        ]
    rows, hashes = pool.rows[places], pool.hashes[places]
    samples = np.zeros((len(places), 1))
    if spec.name != "random":
        samples = sample_galaxies(backend, run, state, images, rows, hashes, spec.samples)
    galaxy_keys = keys.galaxy_keys(run.seed, "acquisition", hashes)
    scores = backend.acquire(spec.name, samples, spec.expected_votes, galaxy_keys, number)
    best = np.lexsort((hashes, -scores))[: spec.per_round]
    return Choice(places[best], np.asarray(scores, np.float64)[best])


def rounds(
    backend: Backend, run: RunSpec, images: Cutouts, galaxies: Galaxies, folder: Path
) -> Iterator[dict]:
    """Each round in turn, as a record keeps it: who was labelled, how well the test galaxies were told, who is next.

    The last round proposes galaxies without votes, where there are such. Every round leaves a checkpoint in FOLDER,
    and a run that was stopped yields the rounds it had done, then goes on.
    """
    spec, path = run.acquisition, folder / CHECKPOINT
    start, about = begin(run, path, *galaxies)
    labelled, done = np.sort(initial(run, galaxies.known)), about.get("rounds", [])
    if done:
        say(f"going on after round {len(done) - 1} of {spec.rounds}")
    for entry in done:
        labelled = (
            np.union1d(labelled, entry["places"]) if entry["number"] < spec.rounds else labelled
        )
        yield entry
    state = backend.init(run, start)
    for number in range(len(done), spec.rounds + 1):
        begun = time.perf_counter()
        state, entry = _round(backend, run, state, images, galaxies, labelled, number, start.step)
        start = backend.export_checkpoint(state)
        done = [*done, {**entry, "seconds": time.perf_counter() - begun}]
        save_checkpoint(path, start, {"galaxies": fingerprint(*galaxies), "rounds": done})
        if number < spec.rounds:
            labelled = np.union1d(labelled, entry["places"])
        yield done[-1]


def _round(
    backend, run, state, images, galaxies: Galaxies, labelled, number: int, step: int
) -> tuple[Any, dict]:
    spec, last = run.acquisition, number == run.acquisition.rounds
    if number and spec.start == "cold":
        state, step = backend.init(run, first_checkpoint(run.model, run.seed)), 0
    steps = spec.first_steps if number == 0 or spec.start == "cold" else spec.round_steps
    known = galaxies.known.take(labelled)
    work = calls(backend, run, state, images, known, step, step, step + steps)
    seen = min(run.training.batch_size, len(labelled))
    losses = []
    what = f"round {number}, {len(labelled)} galaxies"
    for call in track(
        work, what, steps * seen, "images", weight=lambda call: len(call.losses) * seen
    ):
        state = call.state
        losses += call.losses.tolist()
    test = galaxies.test
    samples = sample_galaxies(
        backend, run, state, images, test.rows, test.hashes, run.posterior.samples
    )
    pool = np.setdiff1d(np.arange(len(galaxies.known.rows)), labelled)
    asked = galaxies.known.take(pool)
    if last and len(galaxies.unknown.rows):
        pool, asked = np.arange(len(galaxies.unknown.rows)), galaxies.unknown
    choice = choose(backend, run, state, images, asked, number)
    return state, {
        "number": number,
        "labelled": len(labelled),
        "places": pool[choice.places].tolist(),
        "rows": asked.rows[choice.places].tolist(),
        "scores": choice.scores.tolist(),
        "loss": float(np.mean(losses)),
        "test": evaluate(samples, test.yes, test.total),
    }
