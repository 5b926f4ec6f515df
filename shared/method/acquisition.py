"""What the three acquisitions share: the checks at the door, and work in pieces of bounded size."""

from collections.abc import Iterator
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from shared.run.spec import ACQUISITIONS, MOST_VOTES, SCORES, one_of

ELEMENTS = 2**21  # numbers in a piece's largest array: some 60 MB with all made of them
COUNTS = 2**18  # ways in which the votes on a question may fall, at most
TINY = 1e-18  # chances below it are taken for 0: their products are denormal, which is slow
LOG_ZERO = -1e30  # stands for ln 0, without its NaNs
WITH_STATES = ("batch_mutual_information", "epig")
SCORED = (*SCORES, "random", *WITH_STATES)  # by `acquire`; the others are made of these


class States(NamedTuple):
    """Votes of other galaxies that may come in, and what each would say about the samples of the posterior."""

    chances: np.ndarray  # float64 (state,), of each, summing to 1
    posterior: np.ndarray  # float64 (state, sample): each sample's chance then; rows sum to 1


class Piece(NamedTuple):
    """Galaxies, and some counts k of their votes, to be summed over in one go: as many as in every other piece.

    The first `count` of the galaxies are asked for; their places begin at `start`. Where all galaxies expect the same
    votes, `yes`, `no` and `ways` have one row for all.
    """

    samples: np.ndarray  # float (galaxy, sample) of rho
    yes: np.ndarray  # float64 (galaxy, k): k
    no: np.ndarray  # float64 (galaxy, k): N - k, at least 0
    ways: np.ndarray  # float64 (galaxy, k): ln of N over k; LOG_ZERO where k > N
    count: int
    start: int


def checked(
    name: str,
    samples: np.ndarray,
    expected_votes: int | np.ndarray,
    keys: np.ndarray | None,
    states: States | None,
) -> tuple[np.ndarray, np.ndarray]:
    """`samples` (galaxy, sample) of rho, and the votes int (galaxy,), or (), expected of each.

    Raises ValueError for a name that `acquire` cannot score, samples that are not chances, votes that are not counts,
    and keys or states that are missing or do not fit.
    """
    one_of("acquisition", name, ACQUISITIONS)
    if name not in SCORED:
        raise ValueError(
            f"{name} is a selection, made in shared.method.selection of scores; acquire has {', '.join(SCORED)}"
        )
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
    votes = np.asarray(expected_votes)
    if (
        votes.shape not in ((), (len(samples),))
        or not np.issubdtype(votes.dtype, np.integer)
        or (votes < 0).any()
    ):
        raise ValueError(
            f"expected_votes are {votes.dtype} of shape {votes.shape}; give one whole number from 0 on, or one "
            f"for each of the {len(samples)} galaxies"
        )
    if (most := votes.max(initial=0)) > MOST_VOTES:
        raise ValueError(
            f"expected_votes are up to {most}, and at most {MOST_VOTES} are summed over; expect fewer, such as "
            "acquisition.expected_votes=40"
        )
    if name == "random" and (keys is None or keys.shape != (len(samples), 2)):
        raise ValueError(
            "random needs keys, one per galaxy: shared.run.keys.galaxy_keys(seed, 'acquisition', ids)"
        )
    if name in WITH_STATES:
        _check_states(name, states, samples.shape[1])
    return samples, votes


def _check_states(name: str, states: States | None, samples: int) -> None:
    if states is None:
        raise ValueError(
            f"{name} needs states: what votes of other galaxies may come in, made in shared.method.selection"
        )
    chances, posterior = (np.asarray(array) for array in states)
    if chances.ndim != 1 or not len(chances) or posterior.shape != (len(chances), samples):
        raise ValueError(
            f"states have chances {chances.shape} and a posterior {posterior.shape}; they must be (state,), of one "
            f"or more, and (state, sample), of the same {samples} samples as the galaxies"
        )
    for what, rows in (("chances", chances[None]), ("posterior", posterior)):
        wrong = ~((rows >= 0).all(1) & (np.abs(rows.sum(1) - 1) < 1e-6))
        if wrong.any():
            row = wrong.argmax()
            raise ValueError(
                f"row {row} of the states' {what} sums to {rows[row].sum()} and begins at {rows[row].min()}; chances "
                "are at least 0 and sum to 1"
            )


def weighed(states: States) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The chances (state,) and the posterior (state, sample) of `states`, without tiny ones, and its mean (sample,)."""
    chances, posterior = (np.where(array < TINY, 0, array) for array in states)
    return chances, posterior, chances @ posterior


def pieces(samples: np.ndarray, votes: np.ndarray, states: States | None) -> Iterator[Piece]:
    """What `checked` gave, in pieces of some counts of as many galaxies as ELEMENTS allow, or of one.

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

    All stretches are of one length, so that a framework compiles once: the last one ends in copies of its last row.
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
