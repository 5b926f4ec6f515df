"""The galaxies whose votes would tell most about other galaxies' votes (EPIG, Bickford Smith et al. 2023)."""

import numpy as np

from shared.method.acquisition import Needs
from shared.method.acquisition.ranking import largest
from shared.method.acquisition.states import all_states, independent_votes, log_votes

NEEDS = Needs(samples=True, joint=True, targets=True)
MOST_NUMBERS = 2**24  # in the states, at most: 134 MB


def choose(backend, spec, draws, pool, context, count):
    """The largest mean information, in nats, about the votes of the targets, less what chance makes of it.

    Few samples make any two galaxies look related: at 15, independent ones share .3 nat. So much is also found where
    each sample of the pool meets the next sample of the targets, another network, and is taken away. The scores of
    independent galaxies then are 0 in the mean, exactly, for any number of samples; of others their bias falls as
    1 / samples, as without it, but is smaller by far. The next sample is another member's in an ensemble.

    Raises ValueError for a single sample, which tells of nothing.
    """
    if (samples := pool.samples.shape[1]) < 2:
        raise ValueError(f"epig has {samples} sample; it needs 2 at least: acquisition.samples=100")
    pool = pool._replace(votes=independent_votes(pool.votes, pool.concentrations))
    states = target_states(spec, draws, pool, context)
    others = states._replace(posterior=np.roll(states.posterior, 1, axis=1))
    related, by_chance = (
        backend.acquire("epig", pool.samples, pool.votes, states=given)
        for given in (states, others)
    )
    return largest(related - by_chance, pool, spec.guard, count)


def target_states(spec, draws, pool, context):
    """All counts of every target's votes: of those named, or of up to `spec.targets` random galaxies of the pool."""
    samples, votes = context.targets, context.target_votes
    if samples is None:
        uniform = draws.of_galaxies("targets", pool.hashes)[:, 0]
        places = np.lexsort((pool.hashes, uniform))[: spec.targets]
        samples, votes = pool.samples[places], pool.votes[places]
    if (counts := len(samples) * (votes.max() + 1)) * samples.shape[1] > MOST_NUMBERS:
        raise ValueError(
            f"epig would look at {counts} counts of the votes of {len(samples)} targets, under {samples.shape[1]} "
            f"samples each, and at most {MOST_NUMBERS} numbers are kept; lower acquisition.expected_votes or "
            "acquisition.targets"
        )
    found = all_states(log_votes(samples, votes).reshape(-1, samples.shape[1]))
    return found._replace(probabilities=found.probabilities / len(samples))
