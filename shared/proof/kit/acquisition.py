"""Check 9: acquisition scores, and the galaxies of the largest."""

import numpy as np

from shared.proof import reference
from shared.proof.kit.arrays import ONE, Arrays, close, exact, given
from shared.proof.kit.fixtures import Fixtures
from shared.run import keys

POOL, WANTED = 400, 128  # galaxies scored, and chosen
VOTES, ROUND = 40, 3
APART = 1e-4  # nats between the last that is chosen and the first that is not


def acquisition(fixtures: Fixtures) -> Arrays:
    """Mutual information, entropy and random scores of a pool, and whom each chooses."""
    rho = _samples(fixtures)
    each = fixtures.random(9).integers(0, 41, POOL)
    information = [
        reference.mutual_information(one[None], int(n))[0] for one, n in zip(rho, each, strict=True)
    ]
    ids = [f"pool-{n}" for n in range(POOL)]
    galaxy_keys = keys.galaxy_keys(fixtures.seed, "acquisition", ids)
    uniforms = keys.uniforms(galaxy_keys, np.full(POOL, ROUND), 1)[:, 0]
    scores = {
        "mutual_information": close(
            reference.mutual_information(rho, VOTES), "galaxy", "mutual information in nats"
        ),
        "entropy": close(reference.entropy(rho, VOTES), "galaxy", "entropy in nats"),
        "random": exact(uniforms, "galaxy", "random scores"),
    }
    return {
        "in/rho": given(rho, "galaxy, sample", "samples of rho"),
        "in/votes": given([VOTES], ONE, "N, the votes expected of every galaxy"),
        "in/votes_each": given(each, "galaxy", "N, the votes expected of each"),
        "in/keys": given(galaxy_keys, "galaxy, word", "keys of the acquisition"),
        "in/index": given(np.array([ROUND], np.uint32), ONE, "the round"),
        "in/wanted": given([WANTED], ONE, "how many are chosen"),
        **{f"out/{name}": array for name, array in scores.items()},
        "out/mutual_information_each": close(
            information, "galaxy", "mutual information in nats, with an N for each"
        ),
        **{
            f"out/top_{name}": exact(_top(array.values), "place", f"the largest {name}, rising")
            for name, array in scores.items()
        },
    }


def _samples(fixtures: Fixtures) -> np.ndarray:
    """The first samples drawn of which rounding cannot decide who is chosen."""
    stream = 30
    rho = _drawn(fixtures.random(stream))
    while _gap(rho) < APART:
        stream += 1
        rho = _drawn(fixtures.random(stream))
    return rho


def _drawn(random: np.random.Generator) -> np.ndarray:
    """Samples float32 (galaxy, sample) of every kind, 0 and 1 among them."""
    centre, width = random.random((POOL, 1)), random.uniform(0, 0.2, (POOL, 1))
    rho = np.clip(centre + width * random.normal(0, 1, (POOL, 16)), 0, 1)
    rho[0], rho[1], rho[2] = 0, 1, [0, 1] * 8
    return rho.astype(np.float32)


def _gap(rho: np.ndarray) -> float:
    """How far the last that is chosen is above the first that is not, by the score where that is least."""
    ranked = [
        np.sort(score(rho, VOTES))[::-1]
        for score in (reference.mutual_information, reference.entropy)
    ]
    return min(scores[WANTED - 1] - scores[WANTED] for scores in ranked)


def _top(scores: np.ndarray) -> np.ndarray:
    return np.sort(np.argsort(-scores, kind="stable")[:WANTED])
