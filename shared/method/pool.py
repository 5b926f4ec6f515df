"""The pool of unlabelled galaxies: what is known of it, the choice from it, and the estimate of its risk."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from shared.method.acquisition import (
    Choice,
    Context,
    Draws,
    Pool,
    acquisition,
    needs,
    reweightable,
    select,
)
from shared.method.acquisition.mutual_information import information
from shared.method.acquisition.ranking import outliers
from shared.method.acquisition.states import independent_votes
from shared.method.backend import Backend
from shared.method.batches import Cutouts, Labelled
from shared.method.composition import composition, foretelling
from shared.method.likelihood import (
    LEAST,
    concentrations,
    fractions,
    learned_questions,
    likelihood_of,
    positive_fraction,
)
from shared.method.lure import lure
from shared.method.metrics import log_scores, mean, mean_rho
from shared.method.sampling import embed_galaxies, sample_logits
from shared.method.vote_plan import vote_plan
from shared.method.walks import walks_of
from shared.run import keys
from shared.run.progress import say
from shared.run.spec import AcquisitionSpec, RunSpec

UNKNOWN = "their votes are not known yet"


class Truth(NamedTuple):
    """What is known of a store's galaxies beside their votes, as of synthetic ones."""

    fractions: np.ndarray | None = None  # float64 (row,), true rho
    artifacts: np.ndarray | None = None  # bool (row,), whether it is a star, a trail or the like


class Galaxies(NamedTuple):
    """The galaxies of a run. One whose votes are not known has a total of 0."""

    labelled: Labelled  # trained on from the start
    pool: Labelled  # to choose from
    test: Labelled  # held out
    unknown: Labelled  # the last round chooses from these; from the pool, if there are none
    targets: Labelled | None = None  # epig: whose votes to predict; None: the pool's
    truth: Truth = Truth()

    @property
    def parts(self) -> tuple[Labelled, ...]:
        """All whose votes, or whose presence, decide a run."""
        return (*self[:4], *(() if self.targets is None else (self.targets,)))


class Samples(NamedTuple):
    """Samples of the posterior of the run's question."""

    rho: np.ndarray  # float (galaxy, sample)
    concentrations: np.ndarray | None  # float (galaxy, sample) about rho; None: votes are binomial

    def take(self, chosen: np.ndarray) -> "Samples":
        """Those of the places `chosen`."""
        return Samples(*(None if array is None else array[chosen] for array in self))

    def losses(self, galaxies: Labelled) -> np.ndarray:
        """The log score (galaxy,) of the votes of `galaxies`, in nats."""
        return log_scores(self.rho, galaxies.yes, galaxies.total, self.concentrations)

    def errors(self, galaxies: Labelled, truth: Truth) -> np.ndarray:
        """How far (galaxy,) the mean rho of `galaxies` is from the true one, or else from that of their votes."""
        if truth.fractions is None:
            return np.abs(mean_rho(self.rho) - galaxies.yes / galaxies.total)
        return np.abs(mean_rho(self.rho) - truth.fractions[galaxies.rows])


class Chosen(NamedTuple):
    """The galaxies to label next, the best first, and what the network predicted for them before training on them."""

    galaxies: Labelled
    votes: np.ndarray  # int64 (galaxy,) expected, or to ask for by acquisition.vote_budget
    choice: Choice
    samples: Samples
    scored: int  # galaxies that they were chosen from
    all_galaxies: float | None  # mean log score of all of those, where all their votes are known
    foretold: dict | None  # how their scores went with their losses, likewise


def choose(
    backend: Backend,
    run: RunSpec,
    state: Any,
    images: Cutouts,
    galaxies: Galaxies,
    number: int,
) -> Chosen:
    """The galaxies of the pool, or of some shards of it, that round `number` chooses.

    Of `galaxies`, those labelled are the ones trained on by now, and the pool those left.
    """
    spec, pool = run.acquisition, galaxies.pool
    if spec.shards:
        pool = pool.take(shuffled(run, "shards", pool, number)[: spec.shards * spec.shard_size])
    seen, all_galaxies, foretold = _seen(backend, run, state, images, galaxies, pool), None, None
    context = _context(backend, run, state, images, galaxies, number)
    choice = select(backend, spec, Draws(run.seed, number), seen, context, spec.per_round)
    votes = seen.votes[choice.places]
    budget = None if number < spec.rounds else spec.vote_budget
    if budget is not None and spec.name == "mutual_information":
        choice, votes = planned(backend, spec, seen, choice)
    asked = pool.take(choice.places)
    if needs(spec).samples:
        samples = Samples(seen.samples, seen.concentrations)
        if len(pool.rows) and pool.total.all():
            losses = samples.losses(pool)
            all_galaxies = mean(losses)
            errors = samples.errors(pool, galaxies.truth)
            foretold = foretelling("pool", choice.of_pool, losses, errors)
        samples = samples.take(choice.places)
    else:
        samples = _sampled(backend, run, state, images, asked)
    if budget is not None and spec.name != "mutual_information":
        votes = vote_plan(votes_tell(backend, spec, samples), spec.vote_choices, budget)
    return Chosen(asked, votes, choice, samples, len(pool.rows), all_galaxies, foretold)


def expected_votes(spec: AcquisitionSpec, galaxies: Labelled, labelled: Labelled) -> np.ndarray:
    """The votes int64 (galaxy,) that each of `galaxies` would get; with acquisition.expected_votes = 0 as many as it
    has.

    Of a galaxy whose votes are not known then as many as the median of those `labelled`.
    """
    if spec.expected_votes:
        return np.full(len(galaxies.rows), spec.expected_votes)
    unlabelled = galaxies.total == 0
    if not unlabelled.any():
        return galaxies.total
    median = int(np.median(labelled.total))
    say(
        f"{unlabelled.sum()} galaxies have no votes: {median} are expected, the median of the labelled"
    )
    return np.where(unlabelled, median, galaxies.total)


def risk(
    spec: AcquisitionSpec,
    asked: Labelled,
    samples: Samples,
    probabilities: np.ndarray,
    scored: int,
    all_galaxies: float | None,
) -> dict:
    """The mean log score of the pool of `scored` galaxies, estimated from those `asked` about before training on them.

    "plain" is their own mean; "lure" corrects it for how they were drawn (Farquhar et al. 2021), or "lure_refused" says
    why it cannot; "all" is `all_galaxies`, the truth that both estimate, where it is known.
    """
    answered = asked.total > 0
    losses, estimate = samples.losses(asked), None
    refused = _refusal(spec, answered)
    if refused is None:
        try:
            estimate = lure(losses, probabilities, scored)
        except ValueError as error:  # a draw that was no draw
            refused = str(error)
    return {
        "galaxies": scored,
        "plain": mean(losses[answered]) if answered.any() else None,
        "lure": estimate,
        "lure_refused": refused,
        "all": all_galaxies,
    }


def asked_composition(
    spec: AcquisitionSpec,
    truth: Truth,
    asked: Labelled,
    samples: Samples,
    scores: np.ndarray,
    duplicates: int,
    foretold: dict | None,
) -> dict:
    """The `composition` of those `asked` about; unless it was `foretold` over the pool, by their own `scores`."""
    known = asked.total > 0
    if foretold is None and known.any() and any(acquisition(spec.name).NEEDS):
        answered, some = asked.take(known), samples.take(known)
        foretold = foretelling(
            "asked", scores[known], some.losses(answered), some.errors(answered, truth)
        )
    own, artifacts = (None if array is None else array[asked.rows] for array in truth)
    return composition(own, (asked.yes, asked.total), artifacts, duplicates, foretold)


def check_weighted(run: RunSpec) -> None:
    """Raise ValueError for acquisition.weighted where galaxies are not all drawn, with known probabilities."""
    spec = run.acquisition
    if not spec.weighted:
        return
    if (refused := _refusal(spec, np.ones(1, bool))) is None and spec.shards:
        refused = f"acquisition.shards is {spec.shards}, so that most galaxies cannot be drawn; set it to 0"
    if refused is None and run.oracle.name != "catalogue":
        refused = f"oracle is {run.oracle.name}, who may leave some that were drawn unanswered; set oracle=catalogue"
    if refused is not None:
        raise ValueError(f"acquisition.weighted weighs galaxies by how they were drawn: {refused}")


def _refusal(spec: AcquisitionSpec, answered: np.ndarray) -> str | None:
    if not reweightable(spec):
        guarded = "; or set acquisition.guard to 0" if spec.guard else ""
        return (
            f"{spec.name} chooses with probabilities of 0 and 1, and a deterministic choice cannot be reweighted; draw "
            f"instead: acquisition=random, power, gibbs or mixture{guarded}"
        )
    if not answered.any():
        return UNKNOWN
    if not answered.all():
        return f"{(~answered).sum()} of the {len(answered)} galaxies drawn were not answered"
    return None


def _seen(backend, run, state, images, galaxies, pool) -> Pool:
    needed, features, told = needs(run.acquisition), None, None
    samples = Samples(np.zeros((len(pool.rows), 1)), None)
    if needed.walks:
        samples, told = _walked(backend, run, state, images, pool)
    elif needed.samples:
        samples = _sampled(backend, run, state, images, pool)
    if needed.features:
        features = embed_galaxies(backend, run, state, images, pool.rows)
    votes = expected_votes(run.acquisition, pool, galaxies.labelled)
    return Pool(samples.rho, votes, pool.hashes, features, told, samples.concentrations)


def _context(backend, run, state, images, galaxies, number: int) -> Context:
    spec, (labelled, targets) = run.acquisition, (galaxies.labelled, galaxies.targets)
    features = samples = votes = None
    if needs(spec).labelled:
        features = embed_galaxies(backend, run, state, images, labelled.rows)
    if needs(spec).targets and targets is not None:
        targets = targets.take(shuffled(run, "targets", targets, number)[: spec.targets])
        samples, own = _sampled(backend, run, state, images, targets)
        votes = independent_votes(expected_votes(spec, targets, labelled), own)
    return Context(features, samples, votes)


def _sampled(backend, run, state, images, galaxies) -> Samples:
    hashes = galaxies.hashes
    if needs(run.acquisition).joint:
        hashes = np.zeros_like(hashes)  # the same masks for all: a sample is one network
    return _collected(backend, run, state, images, galaxies._replace(hashes=hashes), None)


def _walked(backend, run, state, images, galaxies) -> tuple[Samples, np.ndarray]:
    """Samples, and what a volunteer's walk through all questions would tell (galaxy,), in nats."""
    likelihood, walks = likelihood_of(run), walks_of(*learned_questions(run))
    told = np.zeros(len(galaxies.rows))

    def walk(block: slice, logits: np.ndarray) -> None:
        told[block] = backend.walk_information(fractions(likelihood, logits), walks)

    return _collected(backend, run, state, images, galaxies, walk), told


def _collected(backend, run, state, images, galaxies, also: Callable | None) -> Samples:
    """Samples of `galaxies`, block by block; `also` is called with each block and its logits."""
    likelihood, rows, count = likelihood_of(run), galaxies.rows, run.acquisition.samples
    names, rho = [question for question, _ in run.asked], [np.zeros((0, count), np.float32)]
    own = list(rho)
    for block, logits in sample_logits(backend, run, state, images, rows, galaxies.hashes, count):
        rho.append(positive_fraction(run, logits))
        if (found := concentrations(likelihood, logits)) is not None:
            found = np.maximum(found[..., names.index(run.question)], LEAST)
            own.append(found.astype(logits.dtype))
        if also is not None:
            also(block, logits)
    binomial = concentrations(likelihood, np.zeros(run.model.answers)) is None
    return Samples(np.concatenate(rho), None if binomial else np.concatenate(own))


def planned(
    backend: Backend, spec: AcquisitionSpec, seen: Pool, choice: Choice
) -> tuple[Choice, np.ndarray]:
    """Whom to ask, and for how many votes int64 (galaxy,) each, within acquisition.vote_budget.

    Galaxies and votes are chosen together, from all of the pool but those that the guard keeps back: each next vote
    goes where it tells most. What N votes tell about the network is concave in N, as independent votes repeat each
    other, and so that is the most that so many votes can tell, galaxies taken one by one. A galaxy's score is what its
    votes tell; the first scores of all are those of `choice`.
    """
    by_hash = np.argsort(seen.hashes)  # the pool's order decides nothing
    nats = votes_tell(backend, spec, Samples(seen.samples, seen.concentrations).take(by_hash))
    nats[outliers(seen, spec.guard)[by_hash]] = 0
    votes = vote_plan(nats, spec.vote_choices, spec.vote_budget)
    asked = np.flatnonzero(votes)
    scores = nats[asked, np.searchsorted(spec.vote_choices, votes[asked])]
    order = np.argsort(-scores, kind="stable")
    asked, scores = asked[order], scores[order]
    found = Choice(by_hash[asked], scores, np.ones(len(asked)), choice.of_pool)
    return found, votes[asked]


def votes_tell(backend: Backend, spec: AcquisitionSpec, samples: Samples) -> np.ndarray:
    """What each of acquisition.vote_choices would tell about the network (galaxy, choice), in nats."""
    galaxies = np.ones(len(samples.rho), np.int64)
    return np.stack(
        [information(backend, *samples, votes * galaxies) for votes in spec.vote_choices], -1
    )


def with_answers(
    backend: Backend,
    run: RunSpec,
    state: Any,
    images: Cutouts,
    entry: dict,
    pool: Labelled,
    answered: Labelled,
    truth: Truth,
) -> dict:
    """The round `entry` once galaxies of the `pool` have been `answered`; `state` is the network that chose them."""
    rows = np.array(entry["rows"], np.int64)
    there = np.isin(rows, answered.rows)
    asked = pool.take(_places(pool.rows, rows))
    new = answered.take(_places(answered.rows, rows[there]))
    counts = [np.zeros_like(array) for array in asked[2:]]
    for count, known in zip(counts, new[2:], strict=True):
        count[there] = known
    asked, probabilities = Labelled(*asked[:2], *counts), np.array(entry["chances"])
    samples, scored = _sampled(backend, run, state, images, asked), entry["pool"]["galaxies"]
    found = risk(run.acquisition, asked, samples, probabilities, scored, entry["pool"]["all"])
    return {
        **entry,
        "unanswered": rows[~there].tolist(),
        "pool": found,
        "composition": entry["composition"]
        | asked_composition(
            run.acquisition,
            truth,
            asked,
            samples,
            np.array(entry["scores"]),
            entry["composition"]["near_duplicates"],
            entry["composition"]["foretold"],
        ),
    }


def _places(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    order = np.argsort(rows)
    return order[np.searchsorted(rows, wanted, sorter=order)]


def shuffled(run: RunSpec, purpose: str, pool: Labelled, index: int) -> np.ndarray:
    """The places (galaxy,) of the `pool` in an order that is random, but for every `index` its own."""
    random = keys.bits(keys.galaxy_keys(run.seed, purpose, pool.hashes), index, 2)
    return np.lexsort((pool.hashes, random[:, 1], random[:, 0]))
