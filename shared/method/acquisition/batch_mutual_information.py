"""The galaxies whose votes together would tell most about the network (BatchBALD for counts, Kirsch et al. 2019)."""

import numpy as np

from shared.method.acquisition import Needs
from shared.method.acquisition.ranking import Greedy
from shared.method.acquisition.states import all_states, log_votes, states
from shared.run import keys

NEEDS = Needs(samples=True, joint=True)


def choose(backend, spec, draws, pool, context, count):
    """Each time the galaxy whose votes tell most, given those of all chosen before; its score is that gain.

    The gain is a mean over the joint counts of those chosen (algorithm 1). As long as these are at most `spec.states`
    in number it is over all of them, and exact but for rounding. From then on it is over so many joint counts drawn
    from the posterior's mixture: state s takes one sample (stratified: every sample as often as any other, but for one)
    and draws each galaxy's votes by that sample's rho, with the galaxy's own random numbers; so a state only ever
    grows. The gain of a galaxy given one such state is exact, and the mean over states has no bias for a given batch.
    Drawn gains need not fall from turn to turn, as exact ones do, so every galaxy is scored at every turn.
    """
    greedy, samples, drawn = Greedy(pool, spec.guard), pool.samples.shape[1], spec.states
    every, some = np.zeros((1, samples)), np.zeros((drawn, samples))  # ln p(counts | sample)
    offset = keys.uniforms(keys.purpose_key(draws.seed, "states"), draws.number, 1)
    sample = ((np.arange(drawn) + offset) * samples / drawn).astype(np.int64)
    for _ in range(count):
        given = all_states(every) if len(every) else states(np.full(drawn, 1 / drawn), some)
        place = greedy.take(
            backend.acquire("batch_mutual_information", pool.samples, pool.votes, states=given)
        )
        each = log_votes(pool.samples[[place]], pool.votes[[place]])[0]
        few = len(every) * len(each) <= drawn
        every = (every[:, None] + each).reshape(-1, samples) if few else every[:0]
        uniform = draws.of_galaxies("states", pool.hashes[[place]], drawn)[0]
        upto = np.cumsum(np.exp(each[:, sample]), 0)
        some = some + each[(upto < uniform * upto[-1]).sum(0)]
    return greedy.choice()
