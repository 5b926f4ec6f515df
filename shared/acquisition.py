"""What the three acquisitions share: the checks at the door, and work in pieces of bounded size."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from shared.spec import ACQUISITIONS, one_of

ELEMENTS = (
    2**22
)  # galaxies x samples x (votes + 1) in one piece: some 100 MB with all that is made of them
NEVER = -1e30  # stands for ln 0, without its NaNs


class Piece(NamedTuple):
    """Galaxies to be scored in one go, as many as in every other piece; the first COUNT of them are asked for."""

    samples: np.ndarray  # float64 (galaxy, sample) of rho
    yes: np.ndarray  # float64 (galaxy, k): k
    no: np.ndarray  # float64 (galaxy, k): N - k, at least 0
    ways: np.ndarray  # float64 (galaxy, k): ln of N over k; NEVER where k > N
    count: int


def pieces(
    name: str, samples: np.ndarray, expected_votes: int | np.ndarray, keys: np.ndarray | None
) -> Iterator[Piece]:
    """SAMPLES (galaxy, sample) of rho in pieces, with the votes expected of each galaxy (a number, or one each).

    Raises ValueError for a name that there is not, samples that are not chances, votes that are not counts, or
    missing keys.
    """
    one_of("acquisition", name, ACQUISITIONS)
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
    if name == "random" and (keys is None or keys.shape != (len(samples), 2)):
        raise ValueError(
            "random needs keys, one per galaxy: shared.keys.galaxy_keys(seed, 'acquisition', ids)"
        )
    return _pieces(samples, np.broadcast_to(votes, len(samples)))


def _pieces(samples: np.ndarray, votes: np.ndarray) -> Iterator[Piece]:
    k = np.arange(votes.max(initial=0) + 1.0)
    size = min(max(1, ELEMENTS // (samples.shape[1] * len(k))), len(samples))
    for start in range(0, len(samples), max(size, 1)):
        count = min(size, len(samples) - start)
        rows = np.minimum(np.arange(start, start + size), start + count - 1)
        no = votes[rows, None] - k
        ways = np.where(
            no < 0,
            NEVER,
            gammaln(votes[rows, None] + 1) - gammaln(k + 1) - gammaln(np.maximum(no, 0) + 1),
        )
        yield Piece(
            samples[rows].astype(np.float64),
            np.broadcast_to(k, no.shape),
            np.maximum(no, 0),
            ways,
            count,
        )
