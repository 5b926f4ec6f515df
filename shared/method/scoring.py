"""What the acquisition scores of every framework share: checks of the inputs, and work in pieces of bounded size."""

from collections.abc import Callable, Iterator
from itertools import combinations
from math import comb
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammaln

from shared.run.spec import MOST_VOTES

ELEMENTS = 2**21  # numbers in a piece's largest array: some 60 MB with all made of them
COUNTS = 2**18  # ways in which the votes on a question may fall, at most
TINY = 1e-18  # probabilities below it are taken for 0: their products are denormal, which is slow
LOG_ZERO = -1e30  # stands for ln 0, without its NaNs


class States(NamedTuple):
    """Possible votes of other galaxies, and the posterior over the samples once they have come in."""

    probabilities: np.ndarray  # float64 (state,), summing to 1
    posterior: np.ndarray  # float64 (state, sample): of each sample, given the state; rows sum to 1


class Piece(NamedTuple):
    """Galaxies, and some counts k of their votes, to be summed over in one go: as many as in every other piece.

    The first `count` of the galaxies are wanted, the others are padding; their places begin at `start`. Where all
    galaxies expect the same votes, `yes`, `no` and `ways` have one row for all.
    """

    samples: np.ndarray  # float (galaxy, sample) of rho
    yes: np.ndarray  # float64 (galaxy, k): k
    no: np.ndarray  # float64 (galaxy, k): N - k, at least 0
    ways: np.ndarray  # float64 (galaxy, k): ln of N over k; LOG_ZERO where k > N
    count: int
    start: int


def over_pieces(
    device: Any,
    score: Callable,
    samples: np.ndarray,
    expected_votes: int | np.ndarray,
    states: States | None,
) -> np.ndarray:
    """Scores float64 (galaxy,): the sum over the pieces of each galaxy.

    `score` computes those of a piece on the `device`, a module with `to_device` and `to_numpy`: of the piece's first
    four arrays and, if there are `states`, their probabilities, their posterior and its mean.
    Raises ValueError for samples, votes or states that are not such.
    """
    samples, votes = check_samples(samples), check_votes(expected_votes, len(samples))
    given = []
    if states is not None:
        check_states(states, samples.shape[1])
        given = [device.to_device(array) for array in without_tiny(states)]
    found = np.zeros(len(samples))
    for piece in pieces(samples, votes, states):
        scores = device.to_numpy(score(*map(device.to_device, piece[:4]), *given))
        found[piece.start : piece.start + piece.count] += scores[: piece.count]
    return found


def over_counts(
    device: Any, score: Callable, concentrations: np.ndarray, expected_votes: int
) -> np.ndarray:
    """Scores (galaxy,) of `concentrations` (galaxy, sample, answer): a sum over all ways in which the votes may fall.

    `score` computes those of a chunk of galaxies on the `device`, from the numbers 0 ... N - 1 and what `counts` gives.
    """
    concentrations = np.asarray(concentrations)
    found, ways = counts(concentrations, expected_votes)
    steps = np.arange(expected_votes, dtype=np.float64)
    given = [device.to_device(array) for array in (steps, found.T, ways)]
    return in_chunks(device, score, concentrations, given, concentrations.shape[1] * len(ways))


def to_centres(
    device: Any, distance: Callable, units: np.ndarray, centres: np.ndarray
) -> np.ndarray:
    """The distance (galaxy,) of `units` (galaxy, unit) to the nearest of `centres` (centre, unit), by `distance`."""
    units, centres = np.asarray(units), np.asarray(centres)
    check_units(units, centres)
    return in_chunks(device, distance, units, [device.to_device(centres)], sum(centres.shape))


def in_chunks(
    device: Any, compute: Callable, galaxies: np.ndarray, given: list, each: int
) -> np.ndarray:
    """What `compute` makes on the `device` of all `galaxies` and what is `given`, (galaxy,), chunk by chunk."""
    parts = [np.zeros(0)]
    for rows, count in padded_chunks(len(galaxies), each):
        parts.append(device.to_numpy(compute(device.to_device(galaxies[rows]), *given))[:count])
    return np.concatenate(parts)


def check_samples(samples: np.ndarray) -> np.ndarray:
    """`samples` (galaxy, sample) of rho. Raises ValueError for another shape, or what is not between 0 and 1."""
    samples = np.asarray(samples)
    if samples.ndim != 2 or not samples.shape[1]:
        raise ValueError(
            f"samples have the shape {samples.shape}; they must be (galaxy, sample), with a sample or more"
        )
    outside = ~((samples >= 0) & (samples <= 1)).all(1)
    if outside.any():
        raise ValueError(
            f"the samples of galaxy {outside.argmax()} are not all between 0 and 1; give vote fractions, not logits"
        )
    return samples


def check_votes(expected_votes: int | np.ndarray, galaxies: int) -> np.ndarray:
    """The votes int (galaxy,), or (), expected of each. Raises ValueError for what is no count, or above MOST_VOTES."""
    votes = np.asarray(expected_votes)
    if (
        votes.shape not in ((), (galaxies,))
        or not np.issubdtype(votes.dtype, np.integer)
        or (votes < 0).any()
    ):
        raise ValueError(
            f"expected_votes are {votes.dtype} of shape {votes.shape}; give one whole number from 0 on, or one "
            f"for each of the {galaxies} galaxies"
        )
    if (most := votes.max(initial=0)) > MOST_VOTES:
        raise ValueError(
            f"expected_votes are up to {most}, and at most {MOST_VOTES} are summed over; expect fewer, such as "
            "acquisition.expected_votes=40"
        )
    return votes


def check_states(states: States, samples: int) -> None:
    """Raise ValueError unless `states` are probabilities, of so many `samples`."""
    probabilities, posterior = map(np.asarray, states)
    shape = (probabilities.size, samples)
    if probabilities.ndim != 1 or not probabilities.size or posterior.shape != shape:
        raise ValueError(
            f"states have probabilities {probabilities.shape} and a posterior {posterior.shape}; they must be "
            f"(state,), of one or more, and (state, sample), of the same {samples} samples as the galaxies"
        )
    for what, rows in (("probabilities", probabilities[None]), ("posterior", posterior)):
        wrong = ~((rows >= 0).all(1) & (np.abs(rows.sum(1) - 1) < 1e-6))
        if wrong.any():
            row = wrong.argmax()
            raise ValueError(
                f"row {row} of the states' {what} sums to {rows[row].sum()} and begins at {rows[row].min()}; "
                "probabilities are at least 0 and sum to 1"
            )


def without_tiny(states: States) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The probabilities (state,) and the posterior (state, sample), tiny ones made 0, and its mean (sample,)."""
    probabilities, posterior = (np.where(array < TINY, 0, array) for array in states)
    return probabilities, posterior, probabilities @ posterior


def pieces(samples: np.ndarray, votes: np.ndarray, states: States | None) -> Iterator[Piece]:
    """Checked `samples` and `votes` in pieces: some counts of as many galaxies as ELEMENTS allow, or of one.

    Every score is a sum over counts, so it is the sum of those of a galaxy's pieces.
    """
    most = votes.max(initial=0)
    wide = samples.shape[1] if states is None else max(states.posterior.shape)
    block = min(max(1, ELEMENTS // wide), most + 1)
    factorials = gammaln(np.arange(most + block) + 1.0)  # their logarithms
    alike = votes.ndim == 0 or (votes == votes[:1]).all()
    start = 0
    for rows, count in padded_chunks(len(samples), wide * block):
        total = np.reshape(most if alike else votes[rows], (-1, 1))
        for first in range(0, most + 1, block):
            k = np.arange(first, first + block)
            no = np.maximum(total - k, 0)
            ways = np.where(k > total, LOG_ZERO, factorials[total] - factorials[k] - factorials[no])
            yes = np.broadcast_to(k.astype(np.float64), no.shape)
            yield Piece(samples[rows], yes, no.astype(np.float64), ways, count, start)
        start += count


def padded_chunks(galaxies: int, each: int) -> Iterator[tuple[np.ndarray, int]]:
    """Rows int64 (galaxy,) of all `galaxies`, `each` of which takes so many numbers, and how many of them are new.

    All chunks are of one length, so that a framework compiles once: the last one ends in copies of its last row.
    """
    size = min(max(1, ELEMENTS // each), galaxies)
    for start in range(0, galaxies, max(size, 1)):
        count = min(size, galaxies - start)
        yield np.minimum(np.arange(start, start + size), start + count - 1), count


def counts(concentrations: np.ndarray, expected_votes: int) -> tuple[np.ndarray, np.ndarray]:
    """How `expected_votes` may fall on the answers, int64 (k, answer), and ln of in how many orders, (k,).

    Raises ValueError for votes that are not a count or above MOST_VOTES, concentrations that are not (galaxy, sample,
    answer), finite and above 0, and for more than COUNTS ways.
    """
    if concentrations.ndim != 3 or not all(concentrations.shape[1:]):
        raise ValueError(
            f"concentrations have the shape {concentrations.shape}; they must be (galaxy, sample, answer), with a "
            "sample and an answer or more"
        )
    wrong = ~((concentrations > 0) & np.isfinite(concentrations)).all((1, 2))
    if wrong.any():
        raise ValueError(
            f"the concentrations of galaxy {wrong.argmax()} are not all finite and above 0; give those of a Dirichlet"
        )
    votes = np.asarray(expected_votes)
    if votes.shape or not np.issubdtype(votes.dtype, np.integer) or not 0 <= votes <= MOST_VOTES:
        raise ValueError(
            f"expected_votes is {expected_votes!r}; give one whole number from 0 to {MOST_VOTES}"
        )
    bars = concentrations.shape[2] - 1
    ways = comb(int(votes) + bars, bars)
    if ways > COUNTS:
        raise ValueError(
            f"{votes} votes can fall on {bars + 1} answers in {ways} ways, and at most {COUNTS} are summed over; "
            "expect fewer votes"
        )
    places = list(combinations(range(int(votes) + bars), bars))  # of bars among stars
    edges = np.pad(np.array(places, np.int64).reshape(ways, bars), ((0, 0), (1, 1)))
    edges[:, 0], edges[:, -1] = -1, votes + bars
    found = np.diff(edges, axis=1) - 1
    return found, gammaln(votes + 1) - gammaln(found + 1).sum(1)


def check_units(units: np.ndarray, centres: np.ndarray) -> None:
    """Raise ValueError unless `units` (galaxy, unit) and `centres` (centre, unit) fit, with a centre or more."""
    if units.ndim != 2 or centres.ndim != 2 or units.shape[1] != centres.shape[1]:
        raise ValueError(
            f"units have the shape {units.shape} and centres {centres.shape}; they must be (galaxy, unit) and "
            "(centre, unit), of the same units"
        )
    if not len(centres):
        raise ValueError("there are no centres to be near to; give one or more")
