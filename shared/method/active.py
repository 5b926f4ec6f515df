"""Active learning: train, sample the pool, ask about the galaxies that teach most, repeat (W+20, section 4)."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shared.method.acquisition import Choice
from shared.method.backend import Backend
from shared.method.batches import Cutouts, Labelled, batch_size
from shared.method.chain import network_digest, sealed, verified
from shared.method.composition import near_duplicates
from shared.method.laplace_sampling import last_layers, with_posterior
from shared.method.likelihood import likelihood_of
from shared.method.lure import lure_weights
from shared.method.metrics import evaluate, truth_rmse
from shared.method.pool import (
    Galaxies,
    asked_composition,
    choose,
    risk,
    shuffled,
    with_answers,
)
from shared.method.sampling import embed_galaxies, sample_galaxies
from shared.method.start import standardised_start
from shared.method.training import CHECKPOINT, calls, fingerprint, made_of, resume_or_start
from shared.method.trees import mean_nll, one_question, sample, together
from shared.network.weights import save_checkpoint
from shared.run.progress import say, track
from shared.run.spec import RunSpec

Answers = Callable[[int, Labelled, list[int]], Labelled | None]


def initial(run: RunSpec, pool: Labelled) -> np.ndarray:
    """The places (galaxy,) of the random galaxies that active learning begins with."""
    return shuffled(run, "start", pool, 0)[: run.acquisition.initial]


def rounds(
    backend: Backend,
    run: RunSpec,
    images: Cutouts,
    galaxies: Galaxies,
    folder: Path,
    answers: Answers,
) -> Iterator[dict]:
    """Each round in turn, as a record keeps it: what was labelled, the test galaxies' metrics, what to label next.

    `answers`(number of the ask, pool, rows) gives those of the pool whose votes have come in since `rows` of it were
    asked about, or None if none of these has: then the rounds end, and go on from there another time. The last round
    asks for no votes; it only proposes. Every round leaves a checkpoint in `folder`, and a run that was stopped yields
    the rounds it had done, then goes on. Raises ValueError if the checkpoint is not what the run left.
    """
    spec, path = run.acquisition, folder / CHECKPOINT
    facts = made_of(run, images, *galaxies.parts)
    start, about = resume_or_start(run, path, facts, images, galaxies.labelled)
    identity = {"seed": run.seed, "galaxies": facts["galaxies"]}
    done = verified(path, about.get("rounds", []), start, identity)
    if done:
        say(f"going on after round {len(done) - 1} of {spec.rounds}")
    state, labelled, pool = backend.init(run, start), galaxies.labelled, galaxies.pool
    for number in range(spec.rounds + 1):
        if number == len(done):
            begun = time.perf_counter()
            weights = training_weights(run, galaxies, done) if spec.weighted else None
            state, entry = _round(
                backend, run, state, images, galaxies, labelled, pool, number, start.step, weights
            )
            start = backend.export_checkpoint(state)
            entry |= {"network": network_digest(start), "seconds": time.perf_counter() - begun}
            done = _kept(path, start, done, entry, facts, identity)
        entry = done[number]
        if entry["learned"] != fingerprint(labelled):
            raise ValueError(
                f"round {number} in {path} learned from other votes than are in {folder} now; put back the votes.csv "
                "that the run wrote, or begin anew with again=true"
            )
        answered = None if number == spec.rounds else answers(number + 1, pool, entry["rows"])
        if answered is not None and entry["unanswered"] is None:
            sampler = _sampler(backend, run, state, images, labelled)
            entry = with_answers(sampler, run, state, images, entry, pool, answered, galaxies.truth)
            done = _kept(path, start, done[:number], entry, facts, identity)
        yield done[number]
        if answered is None:
            return
        labelled = join(labelled, answered)
        pool = pool.take(~np.isin(pool.rows, answered.rows))


def learned_by(galaxies: Galaxies, done: list[dict], answers: Answers) -> Labelled:
    """What the network of the last of the rounds `done` was trained with: what was labelled when it began."""
    labelled, pool = galaxies.labelled, galaxies.pool
    for entry in done[:-1]:
        answered = answers(entry["number"] + 1, pool, entry["rows"])
        labelled = labelled if answered is None else join(labelled, answered)
        pool = pool.take(~np.isin(pool.rows, labelled.rows))
    return labelled


def training_weights(run: RunSpec, galaxies: Galaxies, done: list[dict]) -> np.ndarray:
    """How much each galaxy that is labelled after the rounds `done` weighs in training, float64 (galaxy,), by row.

    All draws, the first random ones too, are one sequence of draws from the galaxies there were. With their
    `lure_weights` the mean loss of the labelled is that of all of these, without bias: what scores prefer is not
    trained with more often than it occurs (Farquhar, Gal and Rainforth 2021).
    """
    first = galaxies.labelled.rows
    everyone = len(first) + len(galaxies.pool.rows)
    alike = 1 / (everyone - np.arange(len(first)))
    rows = np.concatenate([first, *(entry["rows"] for entry in done)])
    weights = lure_weights(np.concatenate([alike, *(entry["chances"] for entry in done)]), everyone)
    return weights[np.argsort(rows)]


def mean_score(choice: Choice) -> float | None:
    """The mean of the pool's scores before any galaxy was chosen, which falls as a posterior contracts."""
    return None if choice.of_pool is None else float(np.mean(choice.of_pool))


def join(one: Labelled, other: Labelled) -> Labelled:
    """The galaxies of both, in the order of the store."""
    both = Labelled(*(np.concatenate(arrays) for arrays in zip(one, other, strict=True)))
    return both.take(np.argsort(both.rows, kind="stable"))


def _round(
    backend, run, state, images, galaxies, labelled, pool, number: int, step: int, weights
) -> tuple[Any, dict]:
    spec, last = run.acquisition, number == run.acquisition.rounds
    if number and spec.start == "cold":
        state, step = backend.init(run, standardised_start(run, images, labelled)), 0
    state, loss = _learned(backend, run, state, images, labelled, number, step, weights)
    backend = _sampler(backend, run, state, images, labelled)
    test = _tested(backend, run, state, images, galaxies)
    wanted = galaxies.unknown if last and len(galaxies.unknown.rows) else pool
    now = galaxies._replace(labelled=labelled, pool=wanted)
    chosen = choose(backend, run, state, images, now, number)
    asked, choice = chosen.galaxies, chosen.choice
    both = np.concatenate([asked.rows, labelled.rows])
    units = np.split(embed_galaxies(backend, run, state, images, both), [len(asked.rows)])
    return state, {
        "number": number,
        "labelled": len(labelled.rows),
        "learned": fingerprint(labelled),
        "rows": asked.rows.tolist(),
        "scores": choice.scores.tolist(),
        "chances": choice.probabilities.tolist(),
        "votes": chosen.votes.tolist(),
        "unanswered": [] if asked.total.all() else None,
        "loss": loss,
        "test": test,
        "pool": risk(
            spec, asked, chosen.samples, choice.probabilities, chosen.scored, chosen.all_galaxies
        ),
        "composition": asked_composition(
            spec,
            galaxies.truth,
            asked,
            chosen.samples,
            choice.scores,
            near_duplicates(*units),
            chosen.foretold,
        )
        | {"by_information": choice.by_information, "mean_score": mean_score(choice)},
    }


def _learned(
    backend, run, state, images, labelled, number: int, step: int, weights
) -> tuple[Any, float]:
    spec, losses = run.acquisition, []
    steps = spec.first_steps if number == 0 or spec.start == "cold" else spec.round_steps
    of_round = replace(run, training=replace(run.training, steps=steps))
    work = calls(backend, of_round, state, images, labelled, step, step, step + steps, weights)
    seen = batch_size(run.training, len(labelled.rows))
    what = f"round {number}, {len(labelled.rows)} galaxies"
    total, how = steps * seen, f" in {steps:,} steps"
    for call in track(
        work, what, total, "images", weight=lambda call: len(call.losses) * seen, how=how
    ):
        state = call.state
        losses += call.losses.tolist()
    return state, float(np.mean(losses))


def _sampler(backend, run, state, images, labelled) -> Backend:
    """What the posterior of `state` is sampled by: of Laplace, last layers by the votes of those `labelled`."""
    if not run.posterior.by_laplace:
        return with_posterior(backend, run, state, None)
    samples = max(run.posterior.samples, run.acquisition.samples)
    none = labelled.take(np.arange(0))
    layers = last_layers(backend, run, state, images, labelled, none, samples)
    return with_posterior(backend, run, state, layers)


def _tested(backend, run, state, images, galaxies) -> dict | None:
    test, truth = galaxies.test, galaxies.truth.fractions
    if not len(test.rows):
        return None
    of_test = (backend, run, state, images, test.rows, test.hashes, run.posterior.samples)
    if likelihood_of(run).name == "binomial":
        samples = sample_galaxies(*of_test)
        measured = evaluate(samples, test.yes, test.total)
    else:
        found = together(list(sample(*of_test)))
        samples, own = one_question(run, found)
        measured = evaluate(samples, test.yes, test.total, concentrations=own)
        measured["tree_nll"] = mean_nll(run, test, found)
    return (
        measured
        if truth is None
        else measured | {"truth_rmse": truth_rmse(samples, truth[test.rows])}
    )


def _kept(path, checkpoint, before: list[dict], entry: dict, facts: dict, identity: dict) -> list:
    done = [*before, sealed(entry, before, identity)]
    save_checkpoint(path, checkpoint, facts | {"rounds": done})
    return done
