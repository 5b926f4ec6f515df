"""Rounds of active learning, with a backend that is exact: who is asked, who is learned from, how it goes on."""

import functools
import itertools
import json
import re

import numpy as np
import pytest
from fake import Fake, Stopped, galaxies, noise
from fake import run_of as composed
from scipy.stats import betabinom, spearmanr

from shared.method.active import initial, rounds, training_weights
from shared.method.chain import sealed
from shared.method.metrics import evaluate, log_scores, truth_rmse
from shared.method.pool import Galaxies, Samples, Truth, check_weighted, choose, risk
from shared.method.sampling import embed_galaxies, sample_galaxies
from shared.method.training import CHECKPOINT, fingerprint
from shared.method.vote_plan import vote_plan
from shared.network.weights import first_checkpoint, load_checkpoint, save_checkpoint
from shared.output.oracle import catalogue
from shared.proof import reference
from shared.run import keys

WORDS = (
    "acquisition.initial=8",
    "acquisition.per_round=5",
    "acquisition.rounds=3",
    "acquisition.first_steps=12",
    "acquisition.round_steps=7",
    "acquisition.samples=6",
    "posterior.samples=4",
    "training.batch_size=4",
    "backend.steps=6",
)
KNOWN, TEST, UNKNOWN = galaxies(0, 30), galaxies(30, 10), galaxies(40, 12)
UNKNOWN = UNKNOWN._replace(yes=UNKNOWN.yes * 0, total=UNKNOWN.total * 0)
NOBODY = UNKNOWN.take(np.arange(0))
IMAGES = noise(52)


@functools.cache
def run_of(*words):
    """The run of `words`, composed once."""
    return composed(*words)


def cast(run, known=KNOWN, test=TEST, unknown=UNKNOWN):
    """Who takes part in `run`."""
    first = np.isin(np.arange(len(known.rows)), initial(run, known))
    return Galaxies(known.take(first), known.take(~first), test, unknown)


def begun(folder, *words, backend=None, **some):
    """The rounds of a run of `words`, not yet gone through."""
    run = run_of(*WORDS, *words)
    return rounds(backend or Fake(), run, IMAGES, cast(run, **some), folder, catalogue)


def played(folder, *words, backend=None, **some):
    """Every round of a run of `words`."""
    return list(begun(folder, *words, backend=backend, **some))


def chosen_of(run, pool, number, backend=None, state=None, **some):
    """Whom round `number` chooses of a `pool`."""
    state = state or first_checkpoint(run.model, run.seed)
    galaxies = Galaxies(TEST, pool, TEST, NOBODY)._replace(**some)
    return choose(backend or Fake(), run, state, IMAGES, galaxies, number)


def sampled(run, galaxies, state=None, samples=6):
    """rho of `galaxies`."""
    state = state or first_checkpoint(run.model, run.seed)
    return sample_galaxies(Fake(), run, state, IMAGES, galaxies.rows, galaxies.hashes, samples)


def untimed(entries):
    """The entries as JSON would keep them, but for their seconds."""
    kept = [{key: value for key, value in entry.items() if key != "seconds"} for entry in entries]
    return json.loads(json.dumps(kept))


def test_each_round_learns_from_who_was_asked_before(tmp_path):
    backend = Fake()
    entries = played(tmp_path, backend=backend)
    assert [entry["number"] for entry in entries] == [0, 1, 2, 3]
    assert [entry["labelled"] for entry in entries] == [8, 13, 18, 23]
    assert all(entry["seconds"] > 0 for entry in entries)
    labelled = set(KNOWN.rows[initial(run_of(*WORDS), KNOWN)])
    learned = [set(np.unique(plan.rows)) for plan in backend.plans]
    assert [len(plan.steps) for plan in backend.plans] == [6, 6, 6, 1, 6, 1, 6, 1]
    assert np.concatenate([plan.steps for plan in backend.plans]).tolist() == list(range(33))
    for entry, calls in zip(entries, ((0, 1), (2, 3), (4, 5), (6, 7)), strict=True):
        assert set.union(*(learned[call] for call in calls)) <= labelled
        assert len(entry["rows"]) == len(set(entry["rows"])) == 5
        assert not labelled & set(entry["rows"])
        assert not set(TEST.rows) & set(entry["rows"])
        assert sorted(entry["scores"], reverse=True) == entry["scores"]
        labelled |= set(entry["rows"])
    assert set.union(*learned[2:4]) & set(entries[0]["rows"])  # two epochs and more
    assert {row for entry in entries[:3] for row in entry["rows"]} <= set(KNOWN.rows)


def test_the_last_round_proposes_galaxies_without_votes(tmp_path):
    *_, last = played(tmp_path / "some")
    assert set(last["rows"]) <= set(UNKNOWN.rows)
    assert last["unanswered"] is None
    assert last["pool"]["galaxies"] == 12
    assert last["pool"]["plain"] is last["pool"]["lure"] is last["pool"]["all"] is None
    *_, last = played(tmp_path / "none", unknown=NOBODY)
    assert last["pool"]["plain"] > 0
    assert set(last["rows"]) <= set(KNOWN.rows)
    assert len(last["rows"]) == 5


def test_galaxies_without_votes_change_no_other_round(tmp_path):
    without = played(tmp_path / "none", unknown=NOBODY)[:3]
    some = played(tmp_path / "some")[:3]
    for one, other in zip(without, some, strict=True):
        assert one.pop("digest") != other.pop("digest")
    assert untimed(without) == untimed(some)


def test_a_schedule_may_ask_about_everyone(tmp_path):
    words = ("acquisition.initial=20", "acquisition.rounds=2")
    for way in ("name=mutual_information", "name=random", "shards=2"):
        entries = played(tmp_path / way, *words, f"acquisition.{way}", unknown=NOBODY)
        assert [entry["labelled"] for entry in entries] == [20, 25, 30]
        assert entries[-1]["rows"] == []
        assert entries[-1]["pool"]["galaxies"] == 0
        assert entries[-1]["pool"]["plain"] is entries[-1]["pool"]["all"] is None


def test_a_schedule_of_no_rounds_trains_once_and_proposes(tmp_path):
    (entry,) = played(tmp_path, "acquisition.rounds=0")
    assert entry["labelled"] == 8
    assert set(entry["rows"]) <= set(UNKNOWN.rows)


def test_what_a_round_says_of_the_test_galaxies(tmp_path):
    run, backend = run_of(*WORDS, "acquisition.rounds=0"), Fake()
    (entry,) = played(tmp_path, "acquisition.rounds=0", backend=backend)
    state = first_checkpoint(run.model, run.seed)
    for plan in backend.plans:
        state, losses = Fake().train_steps(state, IMAGES, plan)
    samples = sampled(run, TEST, state, 4)
    assert untimed([entry["test"]]) == untimed([evaluate(samples, TEST.yes, TEST.total)])
    assert len(losses) == 6
    assert entry["test"]["galaxies"] == 10
    truth = np.linspace(0, 1, 52)
    galaxies = cast(run)._replace(truth=Truth(truth))
    (entry,) = rounds(Fake(), run, IMAGES, galaxies, tmp_path / "truth", catalogue)
    assert entry["test"]["truth_rmse"] == truth_rmse(samples, truth[TEST.rows])
    (entry,) = played(tmp_path / "nobody", "acquisition.rounds=0", test=NOBODY)
    assert entry["test"] is None


@pytest.mark.parametrize("name", ["mutual_information", "entropy"])
def test_those_of_the_largest_scores_are_chosen(name):
    run = run_of(*WORDS, f"acquisition.name={name}", "acquisition.expected_votes=7")
    chosen = chosen_of(run, KNOWN, 1)
    samples = sampled(run, KNOWN)
    scores = getattr(reference, name)(samples, 7)
    assert len(set(scores)) == 30
    places = sorted(range(30), key=lambda place: -scores[place])[:5]
    assert chosen.galaxies.rows.tolist() == places
    np.testing.assert_array_equal(chosen.choice.scores, scores[places])
    np.testing.assert_array_equal(chosen.samples.rho, samples[places])
    assert chosen.votes.tolist() == [7] * 5
    assert chosen.choice.probabilities.tolist() == [1] * 5


def test_equal_scores_are_told_apart_by_id_and_not_by_place():
    class Even(Fake):
        def acquire(self, name, samples, *_):
            return np.zeros(len(samples))

    run = run_of(*WORDS)
    mixed = KNOWN.take(np.random.default_rng(0).permutation(30))
    one, other = (chosen_of(run, pool, 0, Even()).galaxies for pool in (KNOWN, mixed))
    assert one.rows.tolist() == other.rows.tolist()
    assert one.hashes.tolist() == sorted(KNOWN.hashes)[:5]


def test_the_order_of_the_pool_decides_nothing():
    mixed = KNOWN.take(np.random.default_rng(0).permutation(30))
    run = run_of(*WORDS, "acquisition.shards=2", "acquisition.shard_size=7")
    one, other = (chosen_of(run, pool, 2).galaxies for pool in (KNOWN, mixed))
    assert one.rows.tolist() == other.rows.tolist()
    firsts = [set(pool.rows[initial(run, pool)]) for pool in (KNOWN, mixed)]
    assert firsts[0] == firsts[1]


def test_as_many_votes_are_expected_as_a_galaxy_has_or_as_the_labelled_have(capfd):
    run = run_of(*WORDS, "acquisition.expected_votes=0", "acquisition.per_round=30")
    chosen = chosen_of(run, KNOWN, 0)
    assert chosen.votes.tolist() == chosen.galaxies.total.tolist()
    one_each = [
        reference.mutual_information(sampled(run, KNOWN.take([place])), KNOWN.total[place])[0]
        for place in range(30)
    ]
    np.testing.assert_allclose(chosen.choice.scores, sorted(one_each, reverse=True))
    some = KNOWN._replace(total=np.where(KNOWN.rows < 4, 0, KNOWN.total))
    chosen = chosen_of(run, some, 0, labelled=TEST.take([0, 1, 9]))
    silent = chosen.galaxies.rows < 4
    assert chosen.votes[silent].tolist() == [TEST.total[0]] * 4
    assert (chosen.votes == chosen.galaxies.total)[~silent].all()
    assert f"4 galaxies have no votes: {TEST.total[0]} are expected" in capfd.readouterr().err


def test_samples_are_of_one_network_where_galaxies_are_scored_together():
    run = run_of(*WORDS, "acquisition.name=batch_mutual_information", "acquisition.per_round=1")
    alike = sampled(run, KNOWN._replace(hashes=KNOWN.hashes * 0))
    scores = reference.mutual_information(alike, 40)
    chosen = chosen_of(run, KNOWN, 0)
    assert chosen.galaxies.rows.tolist() == [scores.argmax()]
    np.testing.assert_allclose(chosen.choice.scores, scores.max())
    assert scores.argmax() != reference.mutual_information(sampled(run, KNOWN), 40).argmax()


def test_epig_foretells_those_that_are_named():
    words = ("acquisition.name=epig", "acquisition.expected_votes=3", "acquisition.target=some.csv")
    run, backend = run_of(*WORDS, *words, "acquisition.targets=4"), Fake()
    chosen = chosen_of(run, KNOWN, 0, backend, targets=TEST)
    assert backend.sampled == [30, 4]
    everyone = run_of(*WORDS, *words, "acquisition.targets=10", "acquisition.per_round=30")
    chosen = chosen_of(everyone, KNOWN, 0, targets=TEST)
    rho, others = (sampled(run, some._replace(hashes=some.hashes * 0)) for some in (KNOWN, TEST))
    each, foretold = (np.exp(reference.log_votes(some, 3)) for some in (rho, others))
    apart, shared = each.mean(1)[:, None, :, None] * foretold.mean(1)[:, None], []
    for star in (foretold, np.roll(foretold, 1, axis=1)):
        both = np.einsum("gtk,htl->ghkl", each, star) / 6
        shared.append((both * np.log(both / apart)).sum((2, 3)).mean(1))
    scores = shared[0] - shared[1]
    np.testing.assert_allclose(chosen.choice.scores, sorted(scores)[::-1], rtol=1e-9)
    within = run_of(*WORDS, *words[:2], "acquisition.targets=4")
    backend = Fake()
    chosen_of(within, KNOWN, 0, backend, targets=TEST)
    assert backend.sampled == [30]


def test_k_centre_looks_at_the_features_of_all_and_samples_only_whom_it_chooses(tmp_path):
    class Seen(Fake):
        def embed(self, state, images, views):
            seen.append(len(images))
            return super().embed(state, images, views)

    seen, backend = [], Seen()
    run = run_of(*WORDS, "acquisition.name=k_centre")
    chosen = chosen_of(run, KNOWN, 0, backend)
    assert sorted(seen) == [10, 30]
    assert backend.sampled == [5]
    state = first_checkpoint(run.model, run.seed)
    units, centres = (
        embed_galaxies(Fake(), run, state, IMAGES, some.rows) for some in (KNOWN, TEST)
    )
    first = reference.nearest(units, centres)
    assert chosen.galaxies.rows[0] == first.argmax()
    np.testing.assert_allclose(chosen.choice.scores[0], first.max())
    guarded, backend, seen[:] = run_of(*WORDS, "acquisition.guard=0.1"), Seen(), []
    chosen_of(guarded, KNOWN, 0, backend)
    assert seen == backend.sampled == [30]
    chosen_of(run_of(*WORDS), KNOWN, 0, backend)
    assert seen == [30]


def test_random_acquisition_samples_only_whom_it_draws_and_begins_alike(tmp_path):
    told, random = Fake(), Fake()
    chosen = played(tmp_path / "told", backend=told)
    drawn = played(tmp_path / "random", "acquisition.name=random", backend=random)
    assert told.sampled == [10, 22, 10, 17, 10, 12, 10, 12]
    assert random.sampled == [10, 5] * 4
    assert drawn[0]["test"] == chosen[0]["test"]
    assert drawn[0]["rows"] != chosen[0]["rows"]
    run = run_of(*WORDS, "acquisition.name=random")
    first, second = (chosen_of(run, KNOWN, number).galaxies.rows for number in (1, 2))
    u = keys.uniforms(keys.galaxy_keys(0, "acquisition", KNOWN.hashes), np.full(30, 1), 1)[:, 0]
    assert first.tolist() == np.argsort(-u)[:5].tolist()
    assert set(first) != set(second)


def test_shards_are_all_that_is_scored_and_others_in_each_round():
    run = run_of(*WORDS, "acquisition.shards=2", "acquisition.shard_size=3")
    everyone = chosen_of(run_of(*WORDS, "acquisition.per_round=30"), KNOWN, 0)
    score = dict(zip(everyone.galaxies.rows, everyone.choice.scores, strict=True))
    seen = []
    for number in range(4):
        backend = Fake()
        chosen = chosen_of(run, KNOWN, number, backend)
        assert backend.sampled == [6]
        assert chosen.scored == 6
        assert [score[row] for row in chosen.galaxies.rows] == chosen.choice.scores.tolist()
        seen.append(frozenset(chosen.galaxies.rows))
    assert len(set(seen)) == 4
    few = run_of(*WORDS, "acquisition.shards=1", "acquisition.shard_size=2")
    assert len(chosen_of(few, KNOWN, 0).galaxies.rows) == 2


def test_what_a_round_says_of_the_pool_by_the_network_that_chose(tmp_path):
    words = ("acquisition.rounds=1", "acquisition.expected_votes=9")
    first, second = played(tmp_path, *words, unknown=NOBODY)
    run = run_of(*WORDS, *words)
    state, backend = first_checkpoint(run.model, run.seed), Fake()
    for _ in begun(tmp_path / "again", *words, backend=backend, unknown=NOBODY):
        pass
    for plan in backend.plans[:2]:
        state, _ = Fake().train_steps(state, IMAGES, plan)
    galaxies = cast(run)
    losses = log_scores(sampled(run, galaxies.pool, state), galaxies.pool.yes, galaxies.pool.total)
    asked = np.isin(galaxies.pool.rows, first["rows"])
    assert asked.sum() == 5
    told = first["pool"]
    assert told["galaxies"] == 22
    assert told["plain"] == pytest.approx(losses[asked].mean(), rel=1e-12)
    assert told["all"] == pytest.approx(losses.mean(), rel=1e-12)
    assert told["lure"] is None
    assert "mutual_information chooses with probabilities of 0 and 1" in told["lure_refused"]
    assert first["votes"] == [9] * 5
    assert first["chances"] == [1.0] * 5
    assert first["unanswered"] == []
    assert first["learned"] == fingerprint(galaxies.labelled)
    everyone = galaxies.labelled.rows.tolist() + first["rows"]
    assert second["learned"] == fingerprint(KNOWN.take(np.sort(everyone)))


def test_the_log_score_of_a_round_is_of_the_likelihood():
    run = run_of(*WORDS, "likelihood=dirichlet_multinomial")
    chosen = chosen_of(run, KNOWN, 0)
    odds = 1 / (1 / sampled(run, KNOWN).astype(float) - 1)  # Fake's first logit is 0
    chances = betabinom.pmf(KNOWN.yes[:, None], KNOWN.total[:, None], odds, 1)
    assert chosen.all_galaxies == pytest.approx(-np.log(chances.mean(1)).mean(), rel=1e-5)
    places = chosen.galaxies.rows
    np.testing.assert_allclose(
        chosen.samples.losses(chosen.galaxies), -np.log(chances.mean(1))[places], rtol=1e-4
    )
    told = reference.dirichlet_information(np.stack([np.ones_like(odds), odds], -1), 40)
    np.testing.assert_allclose(chosen.choice.scores, np.sort(told)[::-1][:5], rtol=1e-4)


def test_what_a_round_says_of_the_galaxies_that_it_asked_about(tmp_path):
    words = ("acquisition.rounds=1", "acquisition.expected_votes=9")
    run, truth = run_of(*WORDS, *words), Truth(np.linspace(0, 1, 52), np.arange(52) % 2 == 0)
    galaxies = cast(run)._replace(truth=truth)
    first, last = rounds(Fake(), run, IMAGES, galaxies, tmp_path / "a", catalogue)
    rows, told = first["rows"], first["composition"]
    assert told["galaxies"] == 5
    assert told["fractions"]["of"] == "truth"
    assert told["fractions"]["mean"] == pytest.approx(truth.fractions[rows].mean())
    assert told["artifacts"] == sum(row % 2 == 0 for row in rows)
    assert 0 <= told["near_duplicates"] <= 5
    chosen = chosen_of(run, KNOWN, 0)
    scores = reference.mutual_information(sampled(run, KNOWN), 9)
    losses = log_scores(sampled(run, KNOWN), KNOWN.yes, KNOWN.total)
    errors = np.abs(sampled(run, KNOWN).mean(1) - KNOWN.yes / KNOWN.total)
    ranked = {
        "log_score": pytest.approx(spearmanr(scores, losses).statistic),
        "error": pytest.approx(spearmanr(scores, errors).statistic),
    }
    assert chosen.foretold == {"over": "pool", "galaxies": 30, "spearman": ranked}
    by_truth = chosen_of(run, KNOWN, 0, truth=truth).foretold["spearman"]["error"]
    errors = np.abs(sampled(run, KNOWN).mean(1) - truth.fractions[KNOWN.rows])
    assert by_truth == pytest.approx(spearmanr(scores, errors).statistic)
    assert (told["foretold"]["over"], told["foretold"]["galaxies"]) == ("pool", 22)
    assert last["composition"]["foretold"] is None  # nobody knows the votes
    galaxies = cast(run)
    first, last = rounds(Fake(), run, IMAGES, galaxies, tmp_path / "b", catalogue)
    assert first["composition"]["fractions"]["of"] == "votes"
    assert first["composition"]["artifacts"] is last["composition"]["fractions"] is None
    drawn = played(tmp_path / "random", *words, "acquisition.name=random")
    assert drawn[0]["composition"]["foretold"] is None  # by no score
    far = played(tmp_path / "far", *words, "acquisition.name=k_centre")
    assert far[0]["composition"]["foretold"]["over"] == "asked"


@pytest.mark.parametrize("way", ["random", "power", "gibbs", "mixture"])
def test_lure_tells_the_risk_of_the_pool_where_the_plain_mean_does_not(way):
    words = (f"acquisition={way}", "acquisition.per_round=6", "acquisition.expected_votes=9")
    more = ("acquisition.guard=0", "acquisition.share=0.4", "acquisition.samples=6")
    run = run_of(*words, *more, f"acquisition.coldness={8 if way == 'gibbs' else 2}")
    pool = KNOWN._replace(yes=KNOWN.yes * 0)  # so that those of whom samples differ surprise most
    truth = log_scores(sampled(run, pool), pool.yes, pool.total).mean()
    found = []
    for number in range(300):  # the same network and the same samples: only the draws differ
        chosen = chosen_of(run, pool, number)
        asked, chances = chosen.galaxies, chosen.choice.probabilities
        told = risk(run.acquisition, asked, chosen.samples, chances, 30, chosen.all_galaxies)
        assert told["lure_refused"] is None
        assert told["all"] is None if way == "random" else told["all"] == pytest.approx(truth)
        found.append([told["plain"] - truth, told["lure"] - truth])
    (plain, lure), error = np.mean(found, 0), np.std(found, 0) / len(found) ** 0.5
    assert abs(lure) < 4 * error[1] < 0.2 * truth
    assert way == "random" or plain > 5 * error[0]
    assert way != "random" or abs(plain) < 4 * error[0]


def test_no_risk_is_told_where_draws_cannot_speak_for_all():
    run = run_of(*WORDS, "acquisition=power")
    samples, chances = Samples(sampled(run, KNOWN.take(np.arange(3))), None), np.full(3, 0.1)
    some = KNOWN.take(np.arange(3))
    told = risk(run.acquisition, some, samples, chances, 10, None)
    assert told["lure_refused"] is None
    heard = some._replace(total=some.total * [1, 0, 1])
    partly = risk(run.acquisition, heard, samples, chances, 10, None)
    assert partly["lure"] is None
    assert partly["lure_refused"] == "1 of the 3 galaxies drawn were not answered"
    losses = log_scores(samples.rho, some.yes, some.total)
    assert partly["plain"] == pytest.approx((losses[0] + losses[2]) / 2)
    nobody = risk(run.acquisition, some._replace(total=some.total * 0), samples, chances, 10, None)
    assert nobody["plain"] is nobody["lure"] is None
    assert nobody["lure_refused"] == "their votes are not known yet"
    certain = risk(run.acquisition, some, samples, np.array([0.1, 1, 0.1]), 10, None)
    assert "galaxy 1 was certain to be taken" in certain["lure_refused"]
    guarded = run_of(*WORDS, "acquisition=power", "acquisition.guard=0.1").acquisition
    kept_out = risk(guarded, some, samples, chances, 10, None)
    assert kept_out["lure_refused"].endswith("or set acquisition.guard to 0")


def test_votes_are_planned_for_the_last_round_only(tmp_path):
    words = ("acquisition.vote_choices=[2,5]", "acquisition.vote_budget=10")
    entries = played(tmp_path, *words, "acquisition.expected_votes=30")
    assert [entry["votes"] for entry in entries[:3]] == [[30] * 5] * 3
    assert 8 < sum(entries[3]["votes"]) <= 10
    assert set(entries[3]["votes"]) <= {2, 5}


def best_plan(told, choices, budget):
    """The most that any plan of votes for all galaxies tells, by enumeration; `told` is of 0 votes and of choices."""
    plans = itertools.product(range(len(choices)), repeat=len(told))
    return max(
        sum(told[galaxy][option] for galaxy, option in enumerate(plan))
        for plan in plans
        if sum(choices[option] for option in plan) <= budget
    )


@pytest.mark.parametrize("budget", [1, 3, 6, 11])
def test_galaxies_and_votes_are_chosen_together_from_all_of_the_pool(budget):
    """What votes tell is concave, so that the next vote where it tells most is the best for every budget."""
    words = ("acquisition.vote_choices=[1,2,3]", f"acquisition.vote_budget={budget}")
    run, pool = run_of(*WORDS, *words, "acquisition.per_round=2"), KNOWN.take(np.arange(7))
    chosen = chosen_of(run, pool, 3)
    votes = (0, 1, 2, 3)
    told = np.array([reference.mutual_information(sampled(run, pool), n) for n in votes]).T
    assert (np.diff(told, 2) < 0).all()
    assert chosen.votes.sum() == budget
    got = told[np.searchsorted(pool.rows, chosen.galaxies.rows), chosen.votes]
    np.testing.assert_allclose(got.sum(), best_plan(told, votes, budget), rtol=1e-12)
    np.testing.assert_allclose(chosen.choice.scores, got, rtol=1e-12)
    assert (np.diff(got) <= 0).all()
    assert (len(chosen.votes) > 2) == (budget > 6)  # however many a round asks about
    mixed = pool.take(np.random.default_rng(0).permutation(7))
    again = chosen_of(run, mixed, 3)
    assert again.galaxies.rows.tolist() == chosen.galaxies.rows.tolist()
    assert again.votes.tolist() == chosen.votes.tolist()
    assert chosen_of(run, pool, 2).votes.tolist() == [40, 40]


def test_the_guard_keeps_votes_from_outliers_and_other_acquisitions_choose_whom_to_ask():
    words = ("acquisition.vote_choices=[2,5]", "acquisition.vote_budget=100")
    everyone = chosen_of(run_of(*WORDS, *words), KNOWN, 3)
    guarded = chosen_of(run_of(*WORDS, *words, "acquisition.guard=0.5"), KNOWN, 3)
    assert len(everyone.votes) > 15 >= len(guarded.votes)
    assert everyone.votes.sum() > 98 > guarded.votes.sum()
    run = run_of(*WORDS, *words, "acquisition=random", "acquisition.per_round=5")
    chosen = chosen_of(run, KNOWN, 3)
    assert len(chosen.votes) == 5
    told = [reference.mutual_information(chosen.samples.rho, votes) for votes in (2, 5)]
    assert chosen.votes.tolist() == vote_plan(np.stack(told, 1), (2, 5), 100).tolist()


def test_the_weights_of_training_are_those_of_one_sequence_of_draws(tmp_path):
    words = ("acquisition=power", "acquisition.guard=0", "acquisition.coldness=2")
    words += ("acquisition.samples=6", "acquisition.weighted=true")
    backend, plain = Fake(), Fake()
    entries = played(tmp_path, *words, backend=backend)
    run = run_of(*WORDS, *words)
    labelled = cast(run).labelled.rows
    found = training_weights(run, cast(run), entries[:2])
    chances = [1 / (30 - turn) for turn in range(8)] + entries[0]["chances"] + entries[1]["chances"]
    rows = [*labelled, *entries[0]["rows"], *entries[1]["rows"]]
    drawn = {
        row: 1 + (30 - 18) / (30 - m) * (1 / ((30 - m + 1) * q) - 1)
        for m, (row, q) in enumerate(zip(rows, chances, strict=True), 1)
    }
    np.testing.assert_allclose(found, [drawn[row] for row in sorted(rows)], rtol=1e-12)
    np.testing.assert_allclose([drawn[row] for row in labelled], 1, rtol=1e-12)
    assert found.min() < 0.6
    played(tmp_path / "plain", *words[:-1], backend=plain)
    first, other = (
        np.concatenate([plan.rows for plan in one.plans[2:4]]) for one in (backend, plain)
    )
    known = [*labelled, *entries[0]["rows"]]
    assert set(np.unique(first)) <= set(known)
    assert not np.array_equal(first, other)
    with pytest.raises(Stopped):
        played(tmp_path / "stopped", *words, backend=Fake(stop=20))
    assert untimed(played(tmp_path / "stopped", *words)) == untimed(entries)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["acquisition=mutual_information"], "mutual_information chooses with probabilities of 0"),
        (["acquisition=power", "acquisition.guard=0.1"], "or set acquisition.guard to 0"),
        (["acquisition=power", "acquisition.shards=2"], "acquisition.shards is 2, .* set it to 0"),
        (["acquisition=mixture", "oracle=volunteers"], "oracle is volunteers, .* oracle=catalogue"),
    ],
)
def test_galaxies_that_were_not_drawn_cannot_be_weighted(words, told):
    check_weighted(run_of(*words))
    with pytest.raises(ValueError, match=f"acquisition.weighted weighs .*{told}"):
        check_weighted(run_of(*words, "acquisition.weighted=true"))
    check_weighted(run_of("acquisition=random", "acquisition.weighted=true"))


def test_a_cold_start_begins_every_round_at_the_first_weights(tmp_path):
    backend = Fake()
    played(tmp_path, "acquisition.start=cold", backend=backend)
    assert [plan.steps[0] for plan in backend.plans] == [0, 6] * 4
    assert backend.begun == [0, 0, 0, 0]
    warm = Fake()
    played(tmp_path / "warm", backend=warm)
    assert warm.begun == [0]


@pytest.mark.parametrize(
    ("start", "name"), [("warm", "mutual_information"), ("cold", "random"), ("warm", "power")]
)
def test_rounds_that_stopped_anywhere_go_on_as_if_they_had_not(tmp_path, start, name):
    words = (f"acquisition.start={start}", f"acquisition.name={name}")
    whole = untimed(played(tmp_path / "whole", *words))
    checkpoint = (tmp_path / "whole" / CHECKPOINT).stat().st_size
    for done in range(1, 4):  # between rounds
        folder = tmp_path / f"{done}"
        some = begun(folder, *words)
        assert untimed(next(some) for _ in range(done)) == whole[:done]
        backend = Fake()
        assert untimed(played(folder, *words, backend=backend)) == whole
        assert len(backend.plans) == 2 * (4 - done)
        assert abs((folder / CHECKPOINT).stat().st_size - checkpoint) < 200  # digits of seconds
    for stop in (9, 12, 18, 26) if start == "warm" else (7, 9):  # within one
        folder = tmp_path / f"at {stop}"
        with pytest.raises(Stopped):
            played(folder, *words, backend=Fake(stop=stop))
        assert untimed(played(folder, *words)) == whole
    backend = Fake()
    assert untimed(played(tmp_path / "whole", *words, backend=backend)) == whole
    assert not backend.plans


def test_a_checkpoint_of_other_galaxies_is_refused(tmp_path):
    played(tmp_path)
    for other in (
        {"known": KNOWN.take(np.arange(29))},
        {"test": TEST._replace(yes=TEST.yes * 0)},
        {"unknown": NOBODY},
    ):
        with pytest.raises(ValueError, match=r"changed since .* again=true"):
            played(tmp_path, **other)
    run = run_of(*WORDS)
    galaxies = cast(run)._replace(targets=TEST)
    with pytest.raises(ValueError, match=r"changed since .* again=true"):
        list(rounds(Fake(), run, IMAGES, galaxies, tmp_path, catalogue))


def edited(folder, change):
    """Rounds of a run whose checkpoint `change` has been at, round after round."""
    run, path = run_of(*WORDS), folder / CHECKPOINT
    some = begun(folder)
    for _ in range(3):
        next(some)
    checkpoint, about = load_checkpoint(path, run.model)
    checkpoint = change(checkpoint, about["rounds"]) or checkpoint
    save_checkpoint(path, checkpoint, about)
    return played(folder)


def lift(checkpoint, done):
    done[1]["scores"][0] += 1e-12


def forget(checkpoint, done):
    del done[0]["digest"]


def drop(checkpoint, done):
    del done[0]


def swap(checkpoint, done):
    done[0]["rows"][:2] = done[0]["rows"][1::-1]


def turn(checkpoint, done):
    moments = {name: -array for name, array in checkpoint.first.items()}
    moments["answer/bias"] = moments["answer/bias"] + 1
    return checkpoint._replace(first=moments)


def step(checkpoint, done):
    return checkpoint._replace(step=checkpoint.step + 1)


def wait(checkpoint, done):
    done[1]["seconds"] += 1000


@pytest.mark.parametrize("change", [lift, forget, drop, swap])
def test_a_round_that_was_edited_is_refused(tmp_path, change):
    number = {lift: 1}.get(change, 0)
    with pytest.raises(ValueError, match=f"round {number} in .* not what this run left .*again=t"):
        edited(tmp_path, change)


@pytest.mark.parametrize("change", [turn, step])
def test_a_network_that_no_round_left_is_refused(tmp_path, change):
    with pytest.raises(ValueError, match=r"network in .* not the one that round 2 left .*again=t"):
        edited(tmp_path, change)


def test_seconds_are_nobodys_business(tmp_path):
    whole = played(tmp_path / "whole")
    assert untimed(edited(tmp_path / "edited", wait)) == untimed(whole)
    assert len({entry["digest"] for entry in whole}) == 4


def test_a_digest_is_of_the_round_all_before_and_what_decides_the_run():
    entry, before = {"rows": [1, 2], "seconds": 1.5}, [{"digest": "a"}]
    usual = sealed(entry, before, {"seed": 1})["digest"]
    assert usual == sealed({**entry, "seconds": 2, "digest": "x"}, before, {"seed": 1})["digest"]
    others = [
        sealed({**entry, "rows": [2, 1]}, before, {"seed": 1}),
        sealed(entry, [{"digest": "b"}], {"seed": 1}),
        sealed(entry, [], {"seed": 1}),
        sealed(entry, before, {"seed": 2}),
    ]
    assert len({usual, *(other["digest"] for other in others)}) == 5


def test_the_first_galaxies_are_random_and_of_the_seed():
    chosen = [initial(run_of(*WORDS, f"seed={seed}"), KNOWN) for seed in (0, 1)]
    assert all(len(set(places)) == 8 for places in chosen)
    assert set(chosen[0]) != set(chosen[1])


@pytest.mark.parametrize(
    "word",
    [
        "posterior.expected_votes=10001",
        "acquisition.expected_votes=2147483648",
        "acquisition.vote_choices=[1,10001]",
        "oracle.votes=10001",
        "dataset.columns.assumed_votes=10001",
    ],
)
def test_more_votes_than_anybody_asks_for_are_refused(word):
    name = re.escape(word.split("=")[0])
    with pytest.raises(ValueError, match=f"{name} is [0-9]+; it must be from [01] to 10000 votes"):
        run_of(word)
