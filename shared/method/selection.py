"""Who is asked about next: a choice from the pool, by scores or by draws whose chances are known."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, logsumexp, xlog1py, xlogy

from shared.method.acquisition import States
from shared.method.backend import Backend
from shared.run import keys
from shared.run.spec import AcquisitionSpec

JOINT = 2**24  # numbers in the states of epig, at most: 134 MB


class Pool(NamedTuple):
    """The galaxies that may be asked about."""

    samples: (
        np.ndarray
    )  # float (galaxy, sample) of rho; where `joint`, a sample is one network for all galaxies
    votes: np.ndarray  # int64 (galaxy,) expected
    hashes: np.ndarray  # uint64 (galaxy,) of their ids
    units: np.ndarray | None  # float (galaxy, unit), their features; for k_centre and guard


class Context(NamedTuple):
    """Galaxies that a choice looks at beside the pool."""

    labelled: (
        np.ndarray | None
    )  # float (galaxy, unit), features of those labelled already; for k_centre
    targets: (
        np.ndarray | None
    )  # float (galaxy, sample) of rho, of those whose votes are to be foretold; for epig
    target_votes: np.ndarray | None  # int64 (galaxy,) expected of the targets


class Choice(NamedTuple):
    """Who is asked about, the most wanted first."""

    places: np.ndarray  # int64 (galaxy,) in the pool
    scores: np.ndarray  # float64 (galaxy,)
    chances: (
        np.ndarray
    )  # float64 (galaxy,) of being drawn at its turn from those left then; 1 where nothing is drawn


def joint(spec: AcquisitionSpec) -> bool:
    """Whether galaxies are scored together, so that a sample has to be the same network for all of them."""
    return spec.name in ("batch_mutual_information", "epig")


def drawn(spec: AcquisitionSpec) -> bool:
    """Whether galaxies are drawn with known chances, nobody being kept out: then `lure` may correct for the choice."""
    if spec.name == "mixture":
        return spec.share > 0
    return spec.name == "random" or (spec.name in ("power", "gibbs") and spec.guard == 0)


def needs_units(spec: AcquisitionSpec) -> bool:
    """Whether the features of the pool are looked at (and for k_centre of those labelled)."""
    return spec.name == "k_centre" or (spec.guard > 0 and spec.name != "random")


def needs_targets(spec: AcquisitionSpec) -> bool:
    """Whether `Others` must name targets; else those of epig are galaxies of the pool."""
    return spec.name == "epig" and spec.target is not None


def select(
    backend: Backend,
    spec: AcquisitionSpec,
    seed: int,
    number: int,
    pool: Pool,
    others: Context,
    count: int,
) -> Choice:
    """`count` galaxies of the pool, or all if it has fewer, in round `number`; its order in the arrays plays no part.

    A score of one galaxy, and epig: the largest scores. power, gibbs: draws (see `_draw`). mixture: see `_mix`.
    batch_mutual_information, k_centre: one after the other, each given those before. random: those of the largest
    random numbers. Equal scores go by the hash.

    The guard keeps back the share of the pool whose features lie farthest out. No score chooses these as long as there
    are others; then they are chosen in the same way. random, and the random places of mixture, know no guard.
    """
    count = min(count, len(pool.hashes))
    if not count:
        return Choice(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    last = np.zeros(len(pool.hashes), bool)
    if spec.guard and spec.name != "random":
        last = _outliers(pool, spec.guard)
    if spec.name == "k_centre":
        return _k_centre(backend, pool, others.labelled, last, count)
    if spec.name == "batch_mutual_information":
        return _batch(backend, spec, seed, number, pool, last, count)
    galaxy_keys = keys.galaxy_keys(seed, "acquisition", pool.hashes)
    states = {"states": _votes_of_targets(spec, seed, number, pool, others)} if joint(spec) else {}
    name = spec.of if spec.name in ("power", "gibbs", "mixture") else spec.name
    scores = backend.acquire(name, pool.samples, pool.votes, galaxy_keys, number, **states)
    scores = np.asarray(scores, np.float64)
    if spec.name in ("power", "gibbs"):
        return _draw(spec, seed, number, pool, scores, last, count)
    if spec.name == "mixture":
        return _mix(spec, seed, number, pool, scores, last, count)
    places = np.lexsort((pool.hashes, -scores, last))[:count]
    left = len(scores) - np.arange(count) if spec.name == "random" else np.ones(count)
    return Choice(places, scores[places], 1 / left)


def _outliers(pool: Pool, share: float) -> np.ndarray:
    """`share` of the pool, rounded, bool (galaxy,): those farthest from its mean, each unit in its standard deviations.

    That is the Mahalanobis distance of a diagonal covariance. A unit that is the same for all is left out.
    """
    distance = np.zeros(len(pool.hashes))
    for unit in pool.units.T:
        if unit.min() < unit.max():
            unit = unit.astype(np.float64)
            distance += ((unit - unit.mean()) / unit.std()) ** 2
    last = np.zeros(len(distance), bool)
    last[np.lexsort((pool.hashes, -distance))[: round(share * len(distance))]] = True
    return last


def _best(scores: np.ndarray, left: np.ndarray, last: np.ndarray, hashes: np.ndarray) -> int:
    """Where the largest score is among those `left` bool (galaxy,), those in `last` only if they are all."""
    free = left & ~last
    places = np.flatnonzero(free if free.any() else left)
    places = places[scores[places] == scores[places].max()]
    return int(places[hashes[places].argmin()])


def _uniforms(some_keys: np.ndarray, number: int, count: int) -> np.ndarray:
    """`count` uniform numbers float64 (..., count) between 0 and 1 and neither, odd multiples of 2^-53."""
    words = keys.bits(some_keys, number, 2 * count).astype(np.uint64)
    return ((words[..., ::2] << 20 | words[..., 1::2] >> 12) + 0.5) * 2.0**-52


def _draw(spec, seed: int, number: int, pool: Pool, scores, last, count: int) -> Choice:
    """Galaxies drawn one after the other, each by its weight among those left (Kirsch et al. 2021, section 3).

    The weight is score^coldness for power and exp(coldness x score) for gibbs; the largest sums of its logarithm and
    Gumbel noise are such draws. For power a score of 0, or below 0 by rounding, has the weight 0 unless coldness is
    0: it is drawn only when nothing else is left, and then all such are alike.
    """
    weights = spec.coldness * scores
    if spec.name == "power":
        weights = xlogy(spec.coldness, np.maximum(scores, 0))
    tiers = 2 * last + np.isneginf(weights)  # nobody of a tier is drawn before those below
    weights = np.where(np.isneginf(weights), 0, weights)
    uniform = _uniforms(keys.galaxy_keys(seed, "draw", pool.hashes), number, 1)[:, 0]
    order = np.lexsort((pool.hashes, -(weights - np.log(-np.log(uniform))), tiers))
    chances = []
    for tier in np.unique(tiers):
        some = weights[order[tiers[order] == tier]]
        left = np.logaddexp.accumulate(some[::-1])[::-1]  # ln of the sum from each turn on
        chances.append(np.exp(some - left))
    places = order[:count]
    return Choice(places, scores[places], np.concatenate(chances)[:count])


def _mix(spec, seed: int, number: int, pool: Pool, scores, last, count: int) -> Choice:
    """For each place a coin: by the chance SHARE any galaxy that is left, all alike, else the best score that is left.

    A galaxy's chance is share / left, and 1 - share more if it has the best score.
    """
    uniform = _uniforms(keys.galaxy_keys(seed, "draw", pool.hashes), number, 1)[:, 0]
    coins = _uniforms(keys.purpose_key(seed, "draw"), number, count)
    random_order, best = (
        np.lexsort((pool.hashes, uniform)),
        np.lexsort((pool.hashes, -scores, last)),
    )
    left, first, top = np.ones(len(scores), bool), 0, 0
    places, chances = np.zeros(count, np.int64), np.zeros(count)
    for turn, coin in enumerate(coins):
        while not left[random_order[first]]:
            first += 1
        while not left[best[top]]:
            top += 1
        place = random_order[first] if coin < spec.share else best[top]
        places[turn], left[place] = place, False
        chances[turn] = spec.share / (len(scores) - turn) + (1 - spec.share) * (place == best[top])
    return Choice(places, scores[places], chances)


def _k_centre(backend: Backend, pool: Pool, labelled, last: np.ndarray, count: int) -> Choice:
    """Each time the galaxy farthest from all that are labelled or chosen (Sener and Savarese 2018, algorithm 1).

    Its score is that distance. If nobody is labelled, the first is the galaxy nearest to the pool's mean, and its score
    the distance to that.
    """
    left, places, scores = np.ones(len(last), bool), [], []
    empty = labelled is None or not len(labelled)
    centres = pool.units.mean(0, np.float64, keepdims=True) if empty else labelled
    distance = np.asarray(backend.nearest(pool.units, centres), np.float64)
    for turn in range(count):
        middle = empty and not turn
        place = _best(-distance if middle else distance, left, last, pool.hashes)
        places.append(place)
        scores.append(distance[place])
        left[place] = False
        near = backend.nearest(pool.units, pool.units[[place]])
        distance = np.asarray(near, np.float64) if middle else np.minimum(distance, near)
    return Choice(np.array(places), np.array(scores), np.ones(count))


def _batch(
    backend: Backend, spec, seed: int, number: int, pool: Pool, last: np.ndarray, count: int
) -> Choice:
    """Each time the galaxy whose votes tell most, given those of all chosen before; its score is that gain.

    BatchBALD for counts (Kirsch et al. 2019, algorithm 1). The gain is a mean over the joint counts of those chosen.
    As long as these are at most STATES in number it is over all of them, and exact but for rounding. From then on it is
    over STATES joint counts drawn from the posterior's mixture: state s takes one sample (stratified: every sample as
    often as any other, but for one) and draws each galaxy's votes by that sample's rho, with the galaxy's own
    random numbers; so a state only ever grows. The gain of a galaxy given one such state is exact, and the mean over
    states has no bias for a given batch. Drawn gains need not fall from turn to turn, as exact ones do, so every galaxy
    is scored at every turn: `count` times the pool.
    """
    states, samples = spec.states, pool.samples.shape[1]
    every, some = np.zeros((1, samples)), np.zeros((states, samples))  # ln chance of the counts
    offset = keys.uniforms(keys.purpose_key(seed, "states"), number, 1)
    sample = ((np.arange(states) + offset) * samples / states).astype(np.int64)
    left, places, scores = np.ones(len(last), bool), [], []
    for _ in range(count):
        given = _all_states(every) if len(every) else _states(np.full(states, 1 / states), some)
        gains = backend.acquire("batch_mutual_information", pool.samples, pool.votes, states=given)
        gains = np.asarray(gains, np.float64)
        place = _best(gains, left, last, pool.hashes)
        places.append(place)
        scores.append(gains[place])
        left[place] = False
        each = _log_votes(pool.samples[[place]], pool.votes[[place]])[0]
        few = len(every) * len(each) <= states
        every = (every[:, None] + each).reshape(-1, samples) if few else every[:0]
        uniform = _uniforms(
            keys.galaxy_keys(seed, "states", pool.hashes[[place]])[0], number, states
        )
        upto = np.cumsum(np.exp(each[:, sample]), 0)
        some = some + each[(upto < uniform * upto[-1]).sum(0)]
    return Choice(np.array(places), np.array(scores), np.ones(count))


def _votes_of_targets(spec, seed: int, number: int, pool: Pool, others: Context) -> States:
    """All counts of every target's votes: of those named, or of up to TARGETS random galaxies of the pool."""
    samples, votes = others.targets, others.target_votes
    if samples is None:
        uniform = _uniforms(keys.galaxy_keys(seed, "targets", pool.hashes), number, 1)[:, 0]
        places = np.lexsort((pool.hashes, uniform))[: spec.targets]
        samples, votes = pool.samples[places], pool.votes[places]
    if (states := len(samples) * (votes.max() + 1)) * samples.shape[1] > JOINT:
        raise ValueError(
            f"epig would look at {states} counts of the votes of {len(samples)} targets, under {samples.shape[1]} "
            f"samples each, and at most {JOINT} numbers are kept; lower acquisition.expected_votes or "
            "acquisition.targets"
        )
    found = _all_states(_log_votes(samples, votes).reshape(-1, samples.shape[1]))
    return found._replace(chances=found.chances / len(samples))


def _log_votes(samples: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """ln Binomial(k | N, rho) (galaxy, k, sample) of samples (galaxy, sample); -inf for k above the galaxy's N."""
    rho, k = samples.astype(np.float64)[:, None], np.arange(votes.max() + 1)[:, None]
    no = votes[:, None, None] - k
    ways = gammaln(votes[:, None, None] + 1) - gammaln(k + 1) - gammaln(np.maximum(no, 0) + 1)
    return np.where(no < 0, -np.inf, ways + xlogy(k, rho) + xlog1py(np.maximum(no, 0), -rho))


def _all_states(joints: np.ndarray) -> States:
    """The states of ln p(counts | sample) (state, sample), all that there are; without those that cannot come about."""
    chances = np.exp(logsumexp(joints, 1)) / joints.shape[1]
    return _states(chances[chances > 0], joints[chances > 0])


def _states(chances: np.ndarray, joints: np.ndarray) -> States:
    return States(chances, np.exp(joints - logsumexp(joints, 1, keepdims=True)))


def lure(losses: np.ndarray, chances: np.ndarray, pool_size: int) -> float:
    """The mean loss of a pool, without bias, from `losses` (galaxy,) of those drawn from it, in the order of drawing.

    The mean of v_m x loss_m with v_m = 1 + (N - M) / (N - m) (1 / ((N - m + 1) q_m) - 1), of M drawn from N, where
    `chances` (galaxy,) are q_m: of being drawn at its turn (R_LURE of Farquhar, Gal and Rainforth 2021). A galaxy that
    could not be drawn is not accounted for, whatever its loss.

    Raises ValueError where nothing was drawn: no galaxy, more than there are, or one that was certain to be taken.
    """
    losses, chances = np.asarray(losses, np.float64), np.asarray(chances, np.float64)
    count, left = len(losses), pool_size - np.arange(len(losses))
    if not 1 <= count <= pool_size or chances.shape != losses.shape:
        raise ValueError(
            f"{count} losses and {len(chances)} chances of a pool of {pool_size}; give one loss and one chance for "
            "each galaxy drawn, at least one and no more than the pool has"
        )
    if not ((chances > 0) & (chances <= 1)).all():
        raise ValueError(f"chances are {chances.tolist()}; each must be above 0 and at most 1")
    certain = (chances == 1) & (left > 1)
    if certain.any():
        turn = int(certain.argmax())
        raise ValueError(
            f"galaxy {turn} was certain to be taken, with {left[turn]} left: a choice that is not drawn says nothing "
            "about those it passes over; use acquisition random, power, gibbs or mixture"
        )
    rest = pool_size - count
    weights = 1 + rest / np.maximum(left - 1, 1) * (1 / (left * chances) - 1)
    return float(np.mean(weights * losses))


def vote_plan(information: np.ndarray, choices: Sequence[int], budget: int) -> np.ndarray:
    """How many votes int64 (galaxy,) to ask for, 0 or one of `choices` (rising), within a `budget` of votes in all.

    `information` (galaxy, choice) is what so many votes tell, 0 votes telling nothing. Votes go where each tells most:
    along every galaxy's least concave curve above its information, the steepest steps first. That is the most
    information that any plan has, up to the first step that the budget is too small for; then come the steepest of
    those that it still allows. Of equal steps the earlier galaxy's comes first.
    """
    votes = np.concatenate([[0], choices])
    told = np.pad(np.asarray(information, np.float64), ((0, 0), (1, 0)))
    galaxy, before, after, slope = _steps(votes, told)
    order = np.argsort(-slope, kind="stable")
    galaxy, before, after = galaxy[order], before[order], after[order]
    spent = np.cumsum(after - before)
    whole = np.searchsorted(spent, budget, "right")
    plan = np.zeros(len(told), np.int64)
    np.maximum.at(plan, galaxy[:whole], after[:whole])
    left, cost = budget - plan.sum(), after - before
    for step in whole + np.flatnonzero(cost[whole:] <= left):
        if cost[step] <= left and plan[galaxy[step]] == before[step]:
            plan[galaxy[step]], left = after[step], left - cost[step]
    return plan


def _steps(votes: np.ndarray, told: np.ndarray) -> tuple[np.ndarray, ...]:
    """Every galaxy's least concave curve above `told` (galaxy, choice), as far as it rises, in steps (step,).

    A step has its galaxy, the votes before and after it, and its slope. A galaxy's steps come in their order, and no
    slope is larger than the one before it.
    """
    galaxy, at = np.arange(len(told)), np.zeros(len(told), np.int64)
    steepest, found = np.full(len(told), np.inf), []
    while True:
        later = votes > votes[at][:, None]
        rise = told[galaxy] - told[galaxy, at][:, None]
        slopes = np.where(later, rise / np.where(later, votes - votes[at][:, None], 1), 0)
        to = slopes.argmax(1)
        slope = np.minimum(slopes.max(1), steepest)
        goes = slope > 0
        found.append((galaxy[goes], votes[at][goes], votes[to][goes], slope[goes]))
        if not goes.any():
            return tuple(np.concatenate(column) for column in zip(*found, strict=True))
        galaxy, at, steepest = galaxy[goes], to[goes], slope[goes]


def tree_information(
    information: Mapping[str, np.ndarray], asked: Mapping[str, np.ndarray]
) -> np.ndarray:
    """What a volunteer's answers to a whole schema tell (galaxy,): of each question, by its chance to be `asked`.

    `information` is question -> (galaxy,), `asked` that of `shared.data.schema.asked_chances`.
    """
    return sum(asked[question] * told for question, told in information.items())
