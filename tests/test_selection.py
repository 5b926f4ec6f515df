"""Choices from a pool, against enumeration: of every order of drawing, of all joint votes, of every plan of votes."""

import itertools
from dataclasses import replace
from functools import cache
from inspect import signature

import numpy as np
import pytest
from fake import Fake, run_of
from scipy.optimize import linprog
from scipy.stats import betabinom, binom, chisquare, entropy

from shared.method.acquisition import (
    Choice,
    Context,
    Draws,
    Needs,
    Pool,
    acquisition,
    needs,
    reweightable,
    select,
)
from shared.method.acquisition.states import independent_votes
from shared.method.lure import lure
from shared.method.outliers import distances
from shared.method.vote_plan import _steps, vote_plan
from shared.proof import reference
from shared.run import keys
from shared.run.keys import galaxy_hash
from shared.run.spec import ACQUISITIONS, MOST_VOTES, SCORES

NOBODY = Context(None, None, None)
DRAWS = 2000  # in 50 seeds


class Recorder(Fake):
    """A backend that scores a galaxy by its first sample, and notes the states that it was given."""

    def __init__(self):
        super().__init__()
        self.states = []

    def acquire(self, name, samples, expected_votes, states=None):
        self.states.append(states)
        if states is not None:
            return super().acquire(name, samples, expected_votes, states)
        return samples[:, 0]


class Deaf(Recorder):
    """A backend that notes states, and finds nothing in them."""

    def acquire(self, name, samples, expected_votes, states=None):
        self.states.append(states)
        return np.zeros(len(samples))


@cache
def base():
    return run_of().acquisition


def spec_of(name, **changes):
    return replace(base(), name=name, **changes)


def pool_of(galaxies, samples=6, votes=None, seed=0):
    random = np.random.default_rng(seed)
    return Pool(
        random.uniform(0.05, 0.95, (galaxies, samples)),
        np.resize([3, 5, 4], galaxies) if votes is None else np.full(galaxies, votes),
        galaxy_hash([f"galaxy {number}" for number in range(galaxies)]),
        random.normal(size=(galaxies, 4)),
        random.random(galaxies),
    )


def scored(scores):
    """A pool whose galaxies have `scores`, for Recorder."""
    scores = np.array(scores, float)
    return pool_of(len(scores))._replace(samples=scores[:, None], walk_information=scores)


def by_reference(name, pool):
    """The specification's scores (galaxy,)."""
    if name == "walk_information":
        return pool.walk_information
    rows = zip(pool.samples, pool.votes, strict=True)
    return np.array([getattr(reference, name)(rho[None], int(votes))[0] for rho, votes in rows])


def chosen(name, pool, count, seed=0, number=0, others=NOBODY, backend=None, **changes):
    spec = spec_of(name, **changes)
    return select(backend or Recorder(), spec, Draws(seed, number), pool, others, count)


def weigh(weights, order):
    """The chances of the galaxies of `order`, each at its turn, by weights: nobody else is as slow and as sure."""
    left, chances = dict(enumerate(weights)), []
    for place in order:
        chances.append(left[place] / sum(left.values()))
        del left[place]
    return chances


def mix(scores, share, order):
    """As `weigh`, of a mixture."""
    left, chances = dict(enumerate(scores)), []
    for place in order:
        best = max(left, key=left.get)
        chances.append(share / len(left) + (1 - share) * (place == best))
        del left[place]
    return chances


def laws():
    scores = (0.5, 0.1, 0.3, 0.05)
    squares, exponentials = np.square(scores), np.exp(4 * np.array(scores))
    return {
        "power": (scores, {"coldness": 2}, lambda order: weigh(squares, order)),
        "gibbs": (scores, {"coldness": 4}, lambda order: weigh(exponentials, order)),
        "mixture": (scores, {"share": 0.4}, lambda order: mix(scores, 0.4, order)),
        "random": (scores, {}, lambda order: weigh(np.ones(4), order)),
    }


@pytest.mark.parametrize("name", laws())
def test_orders_of_drawing_come_as_often_as_they_should(name):
    scores, changes, law = laws()[name]
    pool, orders = scored(scores), list(itertools.permutations(range(4), 3))
    often = dict.fromkeys(orders, 0)
    for number in range(DRAWS):
        choice = chosen(name, pool, 3, number % 50, number // 50, **changes)
        order = tuple(choice.places.tolist())
        often[order] += 1
        np.testing.assert_allclose(choice.probabilities, law(order), rtol=1e-12)
    expected = np.array([np.prod(law(order)) for order in orders])
    np.testing.assert_allclose(expected.sum(), 1)
    assert chisquare(list(often.values()), expected * DRAWS).pvalue > 1e-3
    if name == "random":
        return
    worse = np.array([np.prod(weigh((4, 3, 2, 1), order)) for order in orders])
    assert chisquare(list(often.values()), worse * DRAWS).pvalue < 1e-6  # the test can tell


@pytest.mark.parametrize("name", ["power", "gibbs", "mixture", "random"])
def test_the_chances_of_everybody_left_at_a_turn_add_up_to_one(name):
    pool = scored((0.5, 0.1, 0.3, 0.2, 0.05))
    turns = [{}, {}]
    for number in range(400):
        choice = chosen(name, pool, 2, number=number, share=0.5, coldness=0.5)
        first, second = choice.places.tolist()
        turns[0][first] = choice.probabilities[0]
        if first == 0:
            turns[1][second] = choice.probabilities[1]
    assert [len(turn) for turn in turns] == [5, 4]
    for turn in turns:
        np.testing.assert_allclose(sum(turn.values()), 1, rtol=1e-12)


def test_the_whole_pool_can_be_drawn_and_the_last_is_certain():
    pool = scored(np.random.default_rng(1).random(50))
    for name in ("power", "gibbs", "random"):
        choice = chosen(name, pool, 99, coldness=3)
        assert sorted(choice.places) == list(range(50))
        assert choice.probabilities[-1] == 1
    mixed = chosen("mixture", pool, 99, share=0.3)
    assert sorted(mixed.places) == list(range(50))
    np.testing.assert_allclose(mixed.probabilities[-1], 1)


def test_weights_too_large_and_too_small_for_a_float():
    scores = np.array([1e3, 2e3, 2e3 - 1])
    choice = chosen("gibbs", scored(scores), 3)
    assert choice.places[2] == 0
    odds = 1 / (1 + np.exp(-1))
    assert min(abs(choice.probabilities[0] - odds), abs(choice.probabilities[0] - 1 + odds)) < 1e-12
    small = [1e-250, 2e-250, 3e-250]
    choice = chosen("power", scored(small), 3, coldness=3)
    expected = weigh((1, 8, 27), choice.places.tolist())
    np.testing.assert_allclose(choice.probabilities, expected, rtol=1e-9)


def test_the_guard_comes_before_the_weights():
    pool = scored([0.3, 0.2, 0.4, 0, 0.5])._replace(
        features=np.array([[0.0], [1], [90], [2], [90]])
    )
    for number in range(40):
        choice = chosen("power", pool, 5, number=number, guard=0.4)
        assert set(choice.places[:2]) == {0, 1}
        assert choice.places[2] == 3
        assert choice.probabilities[1:3].tolist() == [1, 1]


@pytest.mark.parametrize("coldness", [0.01, 1])
def test_what_power_gives_scores_of_nothing(coldness):
    """They are drawn when nothing else is left, all alike; without coldness everybody is alike from the start."""
    pool = scored([0, 0.3, -1e-17, 0.2, 0])
    often = np.zeros(5)
    for number in range(900):
        choice = chosen("power", pool, 4, number=number, coldness=coldness)
        assert set(choice.places[:2]) == {1, 3}
        np.testing.assert_allclose(choice.probabilities[1:], [1, 1 / 3, 1 / 2], rtol=1e-12)
        often[choice.places[2]] += 1
    assert chisquare(often[[0, 2, 4]]).pvalue > 1e-3
    alike = chosen("power", pool, 5, coldness=0)
    np.testing.assert_allclose(alike.probabilities, 1 / np.arange(5, 0, -1))
    firsts = {chosen("power", pool, 1, number=n, coldness=0).places[0] for n in range(60)}
    assert firsts == set(range(5))


def test_a_mixture_is_its_score_or_chance_alone_at_the_ends():
    pool = scored((0.5, 0.1, 0.3, 0.2, 0.05))
    sure = chosen("mixture", pool, 4, share=0)
    assert sure.places.tolist() == [0, 2, 3, 1]
    assert sure.probabilities.tolist() == [1, 1, 1, 1]
    np.testing.assert_allclose(
        chosen("mixture", pool, 4, share=1).probabilities, 1 / np.arange(5, 1, -1)
    )


@pytest.mark.parametrize("name", SCORES)
def test_the_largest_scores_are_chosen_with_the_votes_of_each_galaxy(name):
    pool = pool_of(30)
    choice = chosen(name, pool, 7, backend=Fake())
    score = by_reference(name, pool)
    expected = sorted(range(30), key=lambda place: -score[place])[:7]
    assert choice.places.tolist() == expected
    np.testing.assert_allclose(choice.scores, [score[place] for place in expected], rtol=1e-12)
    assert choice.probabilities.tolist() == [1] * 7


@pytest.mark.parametrize("name", ["power", "gibbs", "mixture"])
@pytest.mark.parametrize("of", SCORES)
def test_draws_go_by_the_score_that_is_named(name, of):
    pool = pool_of(12, votes=4)
    choice = chosen(name, pool, 3, of=of, backend=Fake())
    score = by_reference(of, pool)
    np.testing.assert_allclose(choice.scores, score[choice.places], rtol=1e-12)


def test_random_is_the_largest_random_numbers_of_the_round():
    pool = pool_of(40)
    for number in (0, 3):
        u = keys.uniforms(keys.galaxy_keys(5, "acquisition", pool.hashes), np.full(40, number), 1)
        choice = chosen("random", pool, 6, seed=5, number=number)
        assert choice.places.tolist() == np.argsort(-u[:, 0])[:6].tolist()
        np.testing.assert_allclose(choice.probabilities, 1 / np.arange(40, 34, -1))


def test_equal_scores_go_by_the_hash():
    pool = pool_of(20)
    by_hash = sorted(range(20), key=lambda place: pool.hashes[place])
    for name in (*SCORES, "k_centre"):
        alike = pool._replace(
            features=np.ones((20, 3)), samples=np.full((20, 6), 0.5), walk_information=np.ones(20)
        )
        assert chosen(name, alike, 5, backend=Deaf()).places.tolist() == by_hash[:5], name


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_the_order_of_the_pool_decides_nothing(name):
    pool, order = pool_of(24), np.random.default_rng(3).permutation(24)
    mixed = Pool(*(array if array is None else array[order] for array in pool))
    others = Context(np.random.default_rng(4).normal(size=(3, 4)), None, None)
    changes = {"guard": 0.2, "states": 30, "targets": 5, "share": 0.5}
    one, other = (chosen(name, some, 9, 2, 6, others, Fake(), **changes) for some in (pool, mixed))
    assert order[other.places].tolist() == one.places.tolist()
    np.testing.assert_allclose(other.scores, one.scores, rtol=1e-9)
    np.testing.assert_allclose(other.probabilities, one.probabilities, rtol=1e-12)


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_few_galaxies_and_none(name):
    changes = {"guard": 0.3, "states": 4}
    choice = chosen(name, pool_of(4), 9, backend=Fake(), **changes)
    assert sorted(choice.places) == [0, 1, 2, 3]
    assert [array.dtype for array in choice[:3]] == [np.int64, np.float64, np.float64]
    nobody = chosen(
        name, Pool(*(array if array is None else array[:0] for array in pool_of(4))), 9, **changes
    )
    assert [array.shape for array in nobody[:3]] == [(0,)] * 3
    assert [array.shape for array in chosen(name, pool_of(4), 0, **changes)[:3]] == [(0,)] * 3


@pytest.mark.parametrize("name", ["random", "power", "gibbs", "mixture"])
def test_rounds_and_seeds_draw_anew(name):
    pool, changes = pool_of(40), {"share": 0.7, "backend": Fake()}
    ways = {
        tuple(chosen(name, pool, 5, seed, number, **changes).places.tolist())
        for seed, number in ((0, 0), (0, 1), (1, 0))
    }
    assert len(ways) == 3
    one, other = (chosen(name, pool, 5, 1, 1, **changes) for _ in range(2))
    assert all(np.array_equal(*pair) for pair in zip(one[:3], other[:3], strict=True))


def far(units):
    """Squared Mahalanobis distances, as Ledoit and Wolf's paper writes its lemma 3.2 to 3.5 down, galaxy by galaxy."""
    units = units[:, units.std(0) > 0]
    x = (units - units.mean(0)) / units.std(0)
    n, p = x.shape
    sample = sum(np.outer(one, one) for one in x) / n
    m = np.trace(sample) / p
    d = np.sum((sample - m * np.eye(p)) ** 2) / p
    scatter = sum(np.sum((np.outer(one, one) - sample) ** 2) / p for one in x) / n**2
    b = min(scatter, d)
    inverse = np.linalg.inv(b / d * m * np.eye(p) + (d - b) / d * sample)
    return np.array([one @ inverse @ one for one in x])


def far_out(units, share):
    """Whom the guard keeps back."""
    order = np.argsort(-far(units), kind="stable").tolist()
    return set(order[: round(share * len(units))])


@pytest.mark.parametrize("galaxies", [4, 20, 400])
def test_how_far_out_is_mahalanobis_distance_of_a_shrunk_covariance(galaxies):
    random = np.random.default_rng(galaxies)
    units = (
        random.normal(size=(galaxies, 6)) @ random.normal(size=(6, 6)) * np.geomspace(1e-3, 1e3, 6)
    )
    found = distances(units)
    np.testing.assert_allclose(found, far(units), rtol=1e-9)
    np.testing.assert_allclose(distances(units * 7 + 100), found, rtol=1e-6)
    plain = units - units.mean(0)
    plain = (plain / plain.std(0)) ** 2
    if galaxies > 6:  # correlations count
        assert np.abs(found / plain.sum(1) - 1).max() > 0.05


def test_how_far_out_needs_neither_many_galaxies_nor_large_memory(monkeypatch):
    units = np.random.default_rng(0).normal(size=(50, 9)).astype(np.float32)
    whole = distances(units)
    monkeypatch.setattr("shared.method.metrics.ELEMENTS", 30)
    np.testing.assert_allclose(distances(units), whole, rtol=1e-12)
    assert distances(units[:1]).tolist() == [0]
    assert distances(units[:0]).tolist() == []
    two = distances(units[:2])
    assert np.isfinite(two).all()
    np.testing.assert_allclose(two[0], two[1], rtol=1e-6)
    twins = distances(np.hstack([units, units]))
    assert np.isfinite(twins).all()


@pytest.mark.parametrize("name", [name for name in ACQUISITIONS if name != "random"])
def test_the_guard_keeps_the_farthest_from_every_score(name):
    pool = pool_of(20)
    units = pool.features * [1, 1e3, 1e-3, 1] + [0, 1e5, 0, 0]
    last = far_out(units, 0.25)
    assert len(last) == 5
    scores = np.where(np.isin(np.arange(20), list(last)), 0.9, 0.1) + np.arange(20) / 1e3
    guarded = pool._replace(features=units)
    if name not in ("batch_mutual_information", "epig"):
        guarded = guarded._replace(samples=np.stack([scores, 0 * scores], 1))
    changes = {"share": 0, "states": 9}
    choice = chosen(name, guarded, 20, guard=0.25, **changes)
    assert set(choice.places[15:]) == last
    assert set(chosen(name, guarded, 20, guard=0, **changes).places[15:]) != last
    if name in ("power", "gibbs"):  # among themselves, too, by their weights
        log = np.log(scores) if name == "power" else scores
        chances = [
            weigh(np.exp(log[part]), range(len(part)))
            for part in (choice.places[:15], choice.places[15:])
        ]
        np.testing.assert_allclose(choice.probabilities, np.concatenate(chances), rtol=1e-9)
    if name in (*SCORES, "mixture"):
        scores = acquisition(name if name in SCORES else "entropy").scores(Recorder(), guarded)
        assert choice.scores[15:].tolist() == sorted(scores[list(last)], reverse=True)


def test_units_that_are_alike_for_all_are_no_distance():
    pool = pool_of(20)
    units = np.hstack([pool.features, np.full((20, 2), 0.5)]).astype(np.float32)
    choice = chosen("variance", pool._replace(features=units), 20, guard=0.2)
    assert set(choice.places[16:]) == far_out(pool.features, 0.2)


def test_the_guard_leaves_random_places_alone():
    pool = pool_of(12)
    last = far_out(pool.features, 0.25)
    for name, changes in (("random", {}), ("mixture", {"share": 1}), ("mixture", {"share": 0.5})):
        firsts = [
            chosen(name, pool, 1, number=number, guard=0.25, **changes) for number in range(150)
        ]
        assert last <= {choice.places[0] for choice in firsts}
    outside = [choice for choice in firsts if choice.places[0] in last]
    np.testing.assert_allclose([choice.probabilities[0] for choice in outside], 0.5 / 12)
    plain, guarded = (chosen("random", pool, 12, guard=guard).places for guard in (0, 0.25))
    assert plain.tolist() == guarded.tolist()


@pytest.fixture
def all_networks(monkeypatch):
    """The samples are all networks that there are, so that however few are left, gains are right."""
    monkeypatch.setattr("shared.method.acquisition.batch_mutual_information.LEFT", 0)


def joint_information(samples, votes):
    """I(votes of these galaxies; network), by enumeration of all their joint counts."""
    total = 0.0
    for counts in itertools.product(*(range(n + 1) for n in votes)):
        each = np.prod(
            [binom.pmf(k, n, rho) for k, n, rho in zip(counts, votes, samples, strict=True)], 0
        )
        total += np.mean(each * np.log(each / each.mean()))
    return total


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_is_the_greedy_one_and_its_gains_are_exact(seed, all_networks):
    pool = pool_of(5, samples=4, seed=seed)._replace(votes=np.array([1, 3, 2, 4, 2]))
    choice = chosen("batch_mutual_information", pool, 4, states=1000)
    before, taken = 0.0, []
    for place, score in zip(choice.places, choice.scores, strict=True):
        gains = {
            other: joint_information(pool.samples[[*taken, other]], pool.votes[[*taken, other]])
            - before
            for other in range(5)
            if other not in taken
        }
        assert place == max(gains, key=gains.get)
        np.testing.assert_allclose(score, gains[place], rtol=1e-9)
        taken.append(place)
        before += score
    assert choice.probabilities.tolist() == [1] * 4


def test_all_joint_counts_up_to_the_limit_and_drawn_ones_beyond_it(all_networks):
    pool = pool_of(5, samples=4, votes=2)
    for states, expected in ((9, [1, 3, 9, 9, 9]), (8, [1, 3, 8, 8, 8]), (2, [1, 2, 2, 2, 2])):
        backend = Recorder()
        chosen("batch_mutual_information", pool, 5, states=states, backend=backend)
        assert [len(given.probabilities) for given in backend.states] == expected
        for given in backend.states:
            np.testing.assert_allclose(given.probabilities.sum(), 1)
            np.testing.assert_allclose(given.posterior.sum(1), 1)
        assert (backend.states[-1].probabilities == 1 / states).all()


def test_drawn_joint_counts_come_as_often_as_they_should_and_bias_nothing(all_networks):
    """Two galaxies of two votes: nine joint counts, of which seven are drawn, in many rounds."""
    pool, rounds, often, gains = pool_of(3, samples=3, votes=2), 700, np.zeros(9), []
    exact = chosen("batch_mutual_information", pool, 3, states=9)
    first, second, _ = exact.places
    like = [
        binom.pmf(j, 2, pool.samples[first]) * binom.pmf(k, 2, pool.samples[second])
        for j in range(3)
        for k in range(3)
    ]
    posterior = np.array(like) / np.sum(like, 1, keepdims=True)
    for number in range(rounds):
        backend = Recorder()
        choice = chosen(
            "batch_mutual_information", pool, 3, number=number, states=7, backend=backend
        )
        assert choice.places.tolist() == exact.places.tolist()
        gap = np.abs(backend.states[2].posterior[:, None] - posterior).max(2)
        assert (gap.min(1) < 1e-12).all()
        np.add.at(often, gap.argmin(1), 1)
        gains.append(choice.scores[2])
    expected = np.mean(like, 1)
    assert abs(np.mean(gains) - exact.scores[2]) < 4 * np.std(gains) / np.sqrt(rounds)
    assert np.std(gains) > 0.01 * exact.scores[2]
    assert chisquare(often, expected * often.sum()).pvalue > 1e-3
    even = np.outer(
        *(np.mean([binom.pmf(k, 2, pool.samples[g]) for k in range(3)], 1) for g in (first, second))
    )
    assert (
        chisquare(often, even.ravel() * often.sum()).pvalue < 1e-6
    )  # the votes of one tell of the other's


def test_samples_are_drawn_evenly(all_networks):
    """Networks that votes tell apart for sure: seven states of three networks hold each of them twice or thrice."""
    pool = pool_of(2)._replace(samples=np.array([[0.0, 0.5, 1.0]] * 2), votes=np.array([900, 900]))
    often = np.zeros(3)
    for number in range(300):
        backend = Deaf()
        chosen("batch_mutual_information", pool, 2, number=number, states=7, backend=backend)
        counts = backend.states[1].posterior.sum(0)
        np.testing.assert_allclose(counts, counts.round(), atol=1e-9)
        assert sorted(counts.round().tolist()) == [2, 2, 3]
        often += counts
    np.testing.assert_allclose(often / often.sum(), 1 / 3, atol=0.02)


def test_batches_of_independent_and_of_equal_galaxies(all_networks):
    """Four networks, of which one galaxy tells the first bit and another the second: their information adds up."""
    bits = np.array([[0.2, 0.2, 0.7, 0.7], [0.1, 0.6, 0.1, 0.6]])
    pool = pool_of(2)._replace(samples=bits, votes=np.array([4, 4]))
    alone = reference.mutual_information(bits, 4)
    choice = chosen("batch_mutual_information", pool, 2)
    np.testing.assert_allclose(choice.scores, alone[choice.places], rtol=1e-9)
    twins = pool._replace(samples=bits[[0, 0]])
    first, second = chosen("batch_mutual_information", twins, 2).scores
    assert 0 < second < 0.8 * first
    np.testing.assert_allclose(first + second, reference.mutual_information(bits[:1], 8), rtol=1e-9)


def test_drawn_batches_do_not_double_a_twin_either(all_networks):
    random = np.random.default_rng(2)
    pool = pool_of(4, votes=40)._replace(samples=random.uniform(0.3, 0.7, (4, 15))[[0, 0, 0, 1]])
    scores = chosen("batch_mutual_information", pool, 4, states=256).scores
    whole = reference.mutual_information(pool.samples[:1], 120)[0]
    other = reference.mutual_information(pool.samples[3:], 40)[0]
    assert whole < scores.sum() < min(whole + other, np.log(15))


@pytest.mark.parametrize("name", ["mutual_information", "entropy"])
def test_beta_binomial_votes_are_scored_as_such(name):
    pool, own = pool_of(8), np.random.default_rng(7).uniform(3, 60, (8, 6))
    scores = acquisition(name).scores(Fake(), pool._replace(concentrations=own))
    for galaxy, (rho, c, n) in enumerate(zip(pool.samples, own, pool.votes.tolist(), strict=True)):
        each = betabinom.pmf(np.arange(n + 1)[:, None], n, rho * c, (1 - rho) * c)
        told = entropy(each.mean(1))
        if name == "mutual_information":
            told -= np.mean(entropy(each))
        np.testing.assert_allclose(scores[galaxy], told, rtol=1e-9)
    certain = pool._replace(concentrations=np.full((8, 6), 1e7))
    np.testing.assert_allclose(
        acquisition(name).scores(Fake(), certain), by_reference(name, pool), rtol=1e-5
    )


def test_scattered_votes_tell_as_much_as_fewer_independent_ones():
    votes = np.array([40, 40, 40, 0, 1, 3])
    own = np.array([1e9, 10.0, 0.01, 5, 5, 0.1])[:, None] * np.ones(7)
    assert independent_votes(votes, own).tolist() == [40, 9, 1, 0, 1, 1]
    assert independent_votes(votes, None) is votes
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, (60, 1)) + random.normal(0, 0.5, (60, 100))
    rho, c = 1 / (1 + np.exp(-logits)), np.full((60, 100), 15.0)
    exact = reference.dirichlet_information(np.stack([rho * c, (1 - rho) * c], -1), 40)
    fewer = reference.mutual_information(rho, int(independent_votes(np.array([40]), c[:1])[0]))
    plain = reference.mutual_information(rho, 40)
    assert abs(fewer.mean() / exact.mean() - 1) < 0.1 < 0.5 < plain.mean() / exact.mean() - 1


@pytest.mark.parametrize("name", ["batch_mutual_information", "epig"])
def test_joint_votes_are_scored_as_so_many_independent_ones(name):
    pool = pool_of(9, samples=30, votes=40)
    own = np.full((9, 30), 10.0)
    one = chosen(name, pool._replace(concentrations=own), 5, backend=Fake())
    other = chosen(name, pool._replace(votes=np.full(9, 9)), 5, backend=Fake())
    assert one.places.tolist() == other.places.tolist()
    np.testing.assert_array_equal(one.scores, other.scores)


def test_a_batch_is_by_information_while_ten_samples_are_left_and_then_drawn():
    pool, backend = pool_of(16, samples=100, votes=20), Recorder()
    choice = chosen("batch_mutual_information", pool, 12, backend=backend, states=100)
    told, first = choice.by_information, reference.mutual_information(pool.samples, 20)
    left = [
        np.exp(np.mean([entropy(posterior) for posterior in given.posterior]))
        for given in backend.states
    ]
    assert len(left) == told
    assert min(left) >= 10
    assert 2 <= told < 6
    assert choice.scores[:told].sum() < np.log(100)
    rest = choice.places[told:]
    np.testing.assert_allclose(choice.scores[told:], first[rest], rtol=1e-9)
    np.testing.assert_allclose(choice.of_pool, first, rtol=1e-9)
    assert len(set(choice.places.tolist())) == 12
    other = chosen("batch_mutual_information", pool, 12, number=1, states=100)
    assert other.places[0] == choice.places[0]
    assert set(other.places[told:]) != set(rest)  # drawn
    sharp = chosen("batch_mutual_information", pool, 12, coldness=1e6, states=100)
    by_score = [place for place in np.argsort(-first) if place not in sharp.places[:told]]
    assert sharp.places[told:].tolist() == by_score[: 12 - told]


def test_the_drawn_part_of_a_batch_keeps_to_the_guard():
    pool = pool_of(20, samples=40, votes=40)
    choice = chosen("batch_mutual_information", pool, 16, guard=0.2, backend=Recorder())
    assert choice.by_information < 5
    assert not set(choice.places) & far_out(pool.features, 0.2)


def test_samples_of_one_network_are_not_several():
    """Forty samples of an ensemble of four without dropout: there are four networks, and no more are ever left."""
    four = pool_of(20, samples=4, votes=40)
    many = four._replace(samples=np.tile(four.samples, 10))
    assert chosen("batch_mutual_information", many, 6, backend=Recorder()).by_information == 1


def shared_information(one, other, votes, target_votes):
    """I(k; k*) of two galaxies' votes, by their joint table."""
    table = np.mean(
        [
            np.outer(
                binom.pmf(range(votes + 1), votes, a),
                binom.pmf(range(target_votes + 1), target_votes, b),
            )
            for a, b in zip(one, other, strict=True)
        ],
        0,
    )
    return np.sum(table * np.log(table / np.outer(table.sum(1), table.sum(0))))


def epig_of(pool, targets, votes):
    """Epig's scores (galaxy,) by joint tables: less the information that the next network's targets share."""
    return np.array(
        [
            np.mean(
                [
                    shared_information(rho, star, n, m)
                    - shared_information(rho, np.roll(star, 1), n, m)
                    for star, m in zip(targets, votes, strict=True)
                ]
            )
            for rho, n in zip(pool.samples, pool.votes.tolist(), strict=True)
        ]
    )


def test_epig_is_the_mean_information_about_the_votes_of_named_targets():
    pool, targets = pool_of(6), pool_of(3, seed=1)
    others = Context(None, targets.samples, np.array([2, 6, 3]))
    choice = chosen("epig", pool, 6, others=others, target="targets.csv")
    expected = epig_of(pool, *others[1:])
    assert choice.places.tolist() == sorted(range(6), key=lambda place: -expected[place])
    np.testing.assert_allclose(choice.scores, expected[choice.places], rtol=1e-8, atol=1e-12)


def expected_epig(rho, star, samples):
    """The mean of epig, and of it uncorrected, over every way to draw so many `samples` of all networks, alike."""
    pool, votes, found = pool_of(1), np.array([3]), []
    for drawn in itertools.product(range(len(rho)), repeat=samples):
        some = pool._replace(samples=rho[None, drawn], votes=votes)
        context = Context(None, star[None, drawn], votes)
        score = chosen("epig", some, 1, others=context, target="a.csv").scores[0]
        found.append([score, shared_information(rho[[*drawn]], star[[*drawn]], 3, 3)])
    return np.mean(found, 0)


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_epig_of_independent_galaxies_is_nothing_in_the_mean(samples):
    """Four networks, of which one galaxy tells the first bit and the target the second."""
    corrected, plain = expected_epig(*np.array([[0.1, 0.1, 0.8, 0.8], [0.2, 0.7] * 2]), samples)
    assert abs(corrected) < 1e-14
    assert plain > 0.05


def test_the_bias_of_epig_of_related_galaxies_falls_with_samples():
    rho, star = np.array([0.1, 0.3, 0.8]), np.array([0.2, 0.5, 0.7])
    truth = shared_information(rho, star, 3, 3)
    counts = np.array([3, 4, 5, 6])
    found = np.array([expected_epig(rho, star, samples)[0] for samples in counts])
    assert (np.diff(found) > 0).all()
    assert (found > 0).all()
    assert (found < truth).all()
    by_count = (truth - found) * counts  # as 1 / samples
    assert by_count.max() / by_count.min() < 1.3


def test_epig_of_one_sample_is_refused():
    with pytest.raises(ValueError, match=r"epig has 1 sample; .* acquisition.samples=100"):
        chosen("epig", pool_of(4, samples=1), 2)


def test_epig_foretells_random_galaxies_of_the_pool_where_none_are_named():
    pool = pool_of(9)
    everyone = chosen("epig", pool, 9, targets=99).scores
    named = chosen("epig", pool, 9, others=Context(None, pool.samples, pool.votes)).scores
    np.testing.assert_allclose(everyone, named, rtol=1e-9)
    groups, seen = set(), np.zeros(9)
    for number in range(90):
        backend = Recorder()
        chosen("epig", pool, 1, number=number, targets=4, backend=backend)
        states, _ = backend.states
        np.testing.assert_allclose(states.probabilities.sum(), 1)
        found = [
            place
            for place, (rho, votes) in enumerate(zip(pool.samples, pool.votes, strict=True))
            if np.isclose(states.probabilities, np.mean((1 - rho) ** votes) / 4, rtol=1e-9).any()
        ]
        assert len(found) == 4
        groups.add(tuple(found))
        seen[found] += 1
    assert len(groups) > 30
    assert chisquare(seen).pvalue > 1e-3


def test_votes_that_cannot_come_in_are_no_states():
    pool, backend = pool_of(3), Recorder()
    sure = Context(None, np.array([[0.0] * 6, [1.0] * 6]), np.array([3, 5]))
    choice = chosen("epig", pool, 3, others=sure, backend=backend)
    np.testing.assert_allclose(choice.scores, 0, atol=1e-12)
    assert backend.states[0].probabilities.tolist() == [0.5, 0.5]
    assert np.isfinite(backend.states[0].posterior).all()


def test_targets_of_too_many_votes_are_refused():
    samples = np.full((300, 9), 0.5)
    others = Context(None, samples, np.full(300, MOST_VOTES))
    with pytest.raises(ValueError, match=r"3000300 counts of the votes of 300 targets.*lower acq"):
        chosen("epig", pool_of(6, samples=9), 1, others=others, target="targets.csv")


def farthest(units, centres, count):
    """Greedy k-centre, the slow way."""
    centres, taken, distances = list(centres), [], []
    for _ in range(count):
        near = {
            place: min(float(np.linalg.norm(unit - centre)) for centre in centres)
            for place, unit in enumerate(units)
            if place not in taken
        }
        taken.append(max(near, key=near.get))
        distances.append(near[taken[-1]])
        centres.append(units[taken[-1]])
    return taken, distances


def test_k_centre_goes_where_nobody_is():
    pool, labelled = pool_of(25), np.random.default_rng(5).normal(size=(4, 4))
    choice = chosen("k_centre", pool, 8, others=Context(labelled, None, None))
    taken, distances = farthest(pool.features, labelled, 8)
    assert choice.places.tolist() == taken
    np.testing.assert_allclose(choice.scores, distances, rtol=1e-12)
    assert choice.probabilities.tolist() == [1] * 8


@pytest.mark.parametrize("labelled", [None, np.zeros((0, 4))])
def test_k_centre_begins_in_the_middle(labelled):
    pool = pool_of(25)
    choice = chosen("k_centre", pool, 6, others=Context(labelled, None, None))
    off = np.linalg.norm(pool.features - pool.features.mean(0), axis=1)
    assert choice.places[0] == off.argmin()
    np.testing.assert_allclose(choice.scores[0], off.min())
    taken, distances = farthest(pool.features, pool.features[[off.argmin()]], 5)
    assert choice.places[1:].tolist() == taken
    np.testing.assert_allclose(choice.scores[1:], distances, rtol=1e-12)


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_each_is_a_file_with_one_interface(name):
    module = acquisition(name)
    assert isinstance(module.NEEDS, Needs)
    assert list(signature(module.choose).parameters) == list(signature(select).parameters)
    assert hasattr(module, "scores") == (name in SCORES)
    assert isinstance(chosen(name, pool_of(3), 2), Choice)


def needing(what, **changes):
    return [name for name in ACQUISITIONS if getattr(needs(spec_of(name, **changes)), what)]


def test_what_each_name_needs():
    assert needing("features") == needing("labelled") == ["k_centre"]
    looking = [name for name in ACQUISITIONS if name != "random"]
    assert needing("features", guard=0.1) == looking
    assert needing("samples") == [name for name in looking if name != "k_centre"]
    assert needing("targets", target="a.csv") == ["epig"]
    assert needing("targets") == []
    assert needing("joint") == ["batch_mutual_information", "epig"]


def test_what_is_drawn():
    drawn = [name for name in ACQUISITIONS if reweightable(spec_of(name))]
    assert drawn == ["random", "power", "gibbs", "mixture"]
    assert not reweightable(spec_of("mixture", share=0))
    guarded = [name for name in ACQUISITIONS if reweightable(spec_of(name, guard=0.1))]
    assert guarded == ["random", "mixture"]


@pytest.mark.parametrize("count", range(1, 6))
def test_lure_has_no_bias_over_every_order_of_drawing(count):
    losses = np.array([3.0, -1.0, 0.5, 7.0, 2.0])
    for law in (
        lambda order: weigh((5, 1, 3, 0.5, 2), order),
        lambda order: mix((5, 1, 3, 0.5, 2), 0.3, order),
    ):
        total, plain, chance = 0.0, 0.0, 0.0
        for order in itertools.permutations(range(5), count):
            q = law(order)
            total += np.prod(q) * lure(losses[list(order)], np.minimum(q, 1), 5)
            plain += np.prod(q) * losses[list(order)].mean()
            chance += np.prod(q)
        np.testing.assert_allclose(chance, 1)
        np.testing.assert_allclose(total, losses.mean(), rtol=1e-12)
        assert count == 5 or abs(plain - losses.mean()) > 0.05  # as it would be without weights


def test_lure_of_alike_chances_is_the_mean_and_of_everybody_too():
    losses = np.array([3.0, 1.0, 2.5])
    assert lure(losses, 1 / np.array([9, 8, 7]), 9) == pytest.approx(losses.mean())
    assert lure(losses, np.array([0.9, 0.7, 1]), 3) == pytest.approx(losses.mean())
    assert lure([4.0], [1.0], 1) == 4


def risks(name, losses, scores, draws):
    """What `lure` makes of four of the galaxies with `scores`, in each of many rounds."""
    choices = [
        chosen(name, scored(scores), 4, number=number, share=0.5, coldness=2)
        for number in range(draws)
    ]
    return [lure(losses[choice.places], choice.probabilities, 8) for choice in choices]


@pytest.mark.parametrize("name", ["random", "power", "gibbs", "mixture"])
def test_lure_of_what_is_selected_comes_out_at_the_pool(name):
    random = np.random.default_rng(0)
    scores, losses = random.uniform(0.2, 1, 8), random.uniform(0, 10, 8)
    found = risks(name, losses, scores, 1000)
    assert abs(np.mean(found) - losses.mean()) < 4 * np.std(found) / np.sqrt(1000)
    assert 0.1 < np.std(found) < 5


def test_lure_knows_for_sure_where_chances_go_as_losses():
    scores = np.random.default_rng(0).uniform(0.2, 1, 8)
    np.testing.assert_allclose(risks("power", scores**2, scores, 20), np.mean(scores**2))


@pytest.mark.parametrize(
    ("losses", "chances", "size", "told"),
    [
        ([1, 2], [1, 1], 5, "galaxy 0 was certain to be taken, with 5 left: .* not drawn"),
        ([1, 2], [0.2, 1], 5, "galaxy 1 was certain to be taken, with 4 left"),
        ([1, 2], [1, 1], 2, "galaxy 0 was certain"),
        ([1, 2], [0.5, 0.5], 1, "2 probabilities of a pool of 1; .* no more"),
        ([], [], 5, "0 probabilities .* at least one"),
        ([1, 2], [0.5], 5, "2 losses and 1 probabilities"),
        ([1, 2], [0.5, 0], 5, "must be above 0"),
        ([1, 2], [0.5, np.nan], 5, "must be above 0"),
        ([1, 2], [0.5, 1.5], 5, "at most 1"),
    ],
)
def test_lure_refuses_what_was_not_drawn(losses, chances, size, told):
    with pytest.raises(ValueError, match=told):
        lure(np.array(losses, float), np.array(chances, float), size)


def test_lure_refuses_every_choice_that_is_none():
    for name in (*SCORES, "batch_mutual_information", "epig", "k_centre"):
        choice = chosen(name, pool_of(6), 3, backend=Fake())
        with pytest.raises(ValueError, match="was certain to be taken"):
            lure(np.ones(3), choice.probabilities, 6)


def worth(information, choices, plan):
    at = np.searchsorted([0, *choices], plan)
    return np.pad(information, ((0, 0), (1, 0)))[np.arange(len(plan)), at].sum()


def best_worth(information, choices, budget):
    plans = itertools.product((0, *choices), repeat=len(information))
    return max(worth(information, choices, plan) for plan in plans if sum(plan) <= budget)


def bound(information, choices, budget):
    """What plans of fractions could tell: the linear program."""
    galaxies, options = information.shape
    once = np.kron(np.eye(galaxies), np.ones(options))
    costs = np.tile(choices, galaxies)
    return -linprog(
        -information.ravel(),
        A_ub=np.vstack([once, costs]),
        b_ub=[*np.ones(galaxies), budget],
    ).fun


@pytest.mark.parametrize("concave", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_plans_are_the_best_up_to_their_last_step(seed, concave):
    choices, random = (1, 2, 4, 7), np.random.default_rng(seed)
    told = random.random((4, 4)) * [1, 2, 3, 4]
    if concave:
        told = -np.expm1(-np.array(choices) * random.uniform(0.1, 1, (4, 1)))
    exact = 0
    for budget in range(30):
        plan = vote_plan(told, choices, budget)
        assert plan.dtype == np.int64
        assert plan.sum() <= budget
        assert set(plan.tolist()) <= {0, *choices}
        most, ceiling = best_worth(told, choices, budget), bound(told, choices, budget)
        got = worth(told, choices, plan)
        assert got <= most + 1e-12
        assert ceiling - got < told.max()
        if most > ceiling - 1e-9:  # no step had to be broken
            exact += 1
            np.testing.assert_allclose(got, most, rtol=1e-12)
    assert exact >= 6


def test_plans_of_single_votes_are_the_best_for_every_budget():
    random = np.random.default_rng(0)
    told = np.cumsum(np.sort(random.random((4, 3)))[:, ::-1], 1)
    for budget in range(14):
        plan = vote_plan(told, (1, 2, 3), budget)
        assert plan.sum() == min(budget, 12)
        np.testing.assert_allclose(
            worth(told, (1, 2, 3), plan), best_worth(told, (1, 2, 3), budget)
        )


def test_plans_by_hand():
    def plan(told, budget, choices=(1, 5, 10)):
        return vote_plan(np.array(told, float), choices, budget).tolist()

    assert plan([[0, 0, 0], [0.1, 0.1, 0.1]], 99) == [0, 1]  # nothing told, nothing asked
    assert plan([[-1e-17, -1e-18, 0]], 99) == [0]
    assert plan([[0.1, 2, 2.1]], 4) == [0]  # a first vote is not worth it: all five or none
    assert plan([[0.1, 2, 2.1]], 6) == [5]
    assert plan([[3, 4, 4.5], [0.5, 2.4, 2.5]], 10) == [5, 5]
    assert plan([[3, 4, 4.5], [0.5, 2.4, 2.5]], 8) == [1, 5]
    assert plan([[1, 9, 10], [0.9, 1, 1]], 4) == [0, 1]  # five are too many, so the next best
    assert plan([[10, 11]], 4, (5, 6)) == [0]  # no sixth vote without the five
    assert plan([[1, 1, 1]] * 3, 2) == [1, 1, 0]
    assert plan([[1, 1, 1]], 0) == [0]
    assert plan(np.zeros((0, 3)), 5) == []
    assert plan([[1, 5, 10]], 9) == [5]  # no longer a step than need be


def test_steps_follow_each_other_and_never_grow_steeper():
    votes, random = np.array([0, 1, 5, 10, 20, 40]), np.random.default_rng(0).random((200, 6))
    lines = votes * np.arange(1, 101)[:, None] / 1000  # rounding makes some of their slopes rise
    galaxy, before, after, slope = _steps(votes, np.vstack([random, lines]))
    for number in range(300):
        mine = galaxy == number
        assert (np.diff(slope[mine]) <= 0).all()
        assert (before[mine][1:] == after[mine][:-1]).all()


def test_a_survey():
    random = np.random.default_rng(0)
    pool = Pool(
        random.random((300_000, 1)),
        np.full(300_000, 40),
        random.integers(0, 2**63, 300_000).astype(np.uint64),
        None,
    )
    for name in ("power", "mixture"):
        choice = chosen(name, pool, 128)
        assert len(set(choice.places.tolist())) == 128
        assert ((choice.probabilities > 0) & (choice.probabilities <= 1)).all()
    told = pool.samples * np.array([1, 3, 5, 8, 9])
    assert vote_plan(told, (1, 5, 10, 20, 40), 3_000_000).sum() == 3_000_000
