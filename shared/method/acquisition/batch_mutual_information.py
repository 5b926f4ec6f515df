"""The galaxies whose votes together would tell most about the network (BatchBALD for counts, Kirsch et al. 2019)."""

import numpy as np
from scipy.special import entr, xlogy

from shared.method.acquisition import Choice, Needs
from shared.method.acquisition.ranking import Greedy, draw
from shared.method.acquisition.states import all_states, independent_votes, log_votes, states
from shared.run import keys

NEEDS = Needs(samples=True, joint=True)
LEFT = 10  # samples that must be left for a gain to be told; it is then 80 % of that of all networks, or more


def choose(backend, spec, draws, pool, context, count):
    """Each time the galaxy whose votes tell most, given those of all chosen before; its score is that gain.

    S samples hold ln S nats. As votes come in fewer of them are left, e to the mean entropy of the states' posterior,
    and the gains of a posterior of so few say little of those of the true one: with less than LEFT the rest of the
    batch is drawn, by the power `coldness` of each galaxy's own mutual information, which is its score then
    (`power`; Kirsch et al. 2021 draw whole batches so). The first galaxy is always by information.

    The gain is a mean over the joint counts of those chosen (algorithm 1). As long as these are at most `spec.states`
    in number it is over all of them, and exact but for rounding. From then on it is over so many joint counts drawn
    from the posterior's mixture: state s takes one sample (stratified: every sample as often as any other, but for one)
    and draws each galaxy's votes by that sample's rho, with the galaxy's own random numbers; so a state only ever
    grows. The gain of a galaxy given one such state is exact, and the mean over states has no bias for a given batch.
    Drawn gains need not fall from turn to turn, as exact ones do, so every galaxy is scored at every turn.
    """
    pool = pool._replace(votes=independent_votes(pool.votes, pool.concentrations))
    greedy, samples, drawn = Greedy(pool, spec.guard), pool.samples.shape[1], spec.states
    every, some = np.zeros((1, samples)), np.zeros((drawn, samples))  # ln p(counts | sample)
    offset = keys.uniforms(keys.purpose_key(draws.seed, "states"), draws.number, 1)
    sample = ((np.arange(drawn) + offset) * samples / drawn).astype(np.int64)
    different = len({column.tobytes() for column in pool.samples.T})
    copies = samples / different  # above 1 of an ensemble without dropout
    for turn in range(count):
        given = all_states(every) if len(every) else states(np.full(drawn, 1 / drawn), some)
        left = np.exp(given.probabilities @ entr(given.posterior).sum(1)) / copies
        if turn and left < LEFT:
            return _with_drawn(greedy, spec, draws, pool, count)
        place = greedy.take(
            backend.acquire("batch_mutual_information", pool.samples, pool.votes, states=given)
        )
        each = log_votes(pool.samples[[place]], pool.votes[[place]])[0]
        few = len(every) * len(each) <= drawn
        every = (every[:, None] + each).reshape(-1, samples) if few else every[:0]
        uniform = draws.of_galaxies("states", pool.hashes[[place]], drawn)[0]
        upto = np.cumsum(np.exp(each[:, sample]), 0)
        some = some + each[(upto < uniform * upto[-1]).sum(0)]
    return greedy.choice()._replace(by_information=count)


def _with_drawn(greedy, spec, draws, pool, count):
    """What `greedy` has chosen, and others drawn by their first scores, to be `count` in all."""
    found = greedy.choice()
    weights = xlogy(spec.coldness, np.maximum(found.of_pool, 0))
    everyone = draw(weights, found.of_pool, pool, spec.guard, draws, len(pool.hashes)).places
    places = np.concatenate([found.places, everyone[greedy.left[everyone]]])[:count]
    scores = np.concatenate([found.scores, found.of_pool[places[len(found.places) :]]])
    return Choice(places, scores, np.ones(count), found.of_pool, len(found.places))
