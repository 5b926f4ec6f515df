"""Rounds of active learning, with a backend that is exact: who is asked, who is learned from, how it goes on."""

import json

import numpy as np
import pytest
from fake import Fake, Stopped, galaxies, noise, run_of

from shared import keys, reference
from shared.active import Galaxies, choose, initial, rounds
from shared.metrics import evaluate
from shared.sampling import sample_galaxies
from shared.training import CHECKPOINT
from shared.weights import first_checkpoint

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
EVERYONE = Galaxies(KNOWN, TEST, UNKNOWN)
NOBODY = UNKNOWN.take(np.arange(0))
IMAGES = noise(52)


def played(folder, *words, backend=None, cast=EVERYONE):
    """Every round of a run of WORDS."""
    return list(rounds(backend or Fake(), run_of(*WORDS, *words), IMAGES, cast, folder))


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
    assert last["rows"] == UNKNOWN.rows[last["places"]].tolist()
    *_, last = played(tmp_path / "none", cast=EVERYONE._replace(unknown=NOBODY))
    assert set(last["rows"]) <= set(KNOWN.rows)
    assert len(last["rows"]) == 5


def test_galaxies_without_votes_change_no_other_round(tmp_path):
    without = played(tmp_path / "none", cast=EVERYONE._replace(unknown=NOBODY))
    assert untimed(without[:3]) == untimed(played(tmp_path / "some")[:3])


def test_a_schedule_may_ask_about_everyone(tmp_path):
    words = ("acquisition.initial=20", "acquisition.rounds=2")
    for way in ("name=mutual_information", "name=random", "shards=2"):
        cast = EVERYONE._replace(unknown=NOBODY)
        entries = played(tmp_path / way, *words, f"acquisition.{way}", cast=cast)
        assert [entry["labelled"] for entry in entries] == [20, 25, 30]
        assert entries[-1]["rows"] == []


def test_a_schedule_of_no_rounds_trains_once_and_proposes(tmp_path):
    (entry,) = played(tmp_path, "acquisition.rounds=0")
    assert entry["labelled"] == 8
    assert set(entry["rows"]) <= set(UNKNOWN.rows)


def test_what_a_round_says_of_the_test_galaxies(tmp_path):
    run, backend = run_of(*WORDS, "acquisition.rounds=0"), Fake()
    (entry,) = rounds(backend, run, IMAGES, EVERYONE, tmp_path)
    state = first_checkpoint(run.model, run.seed)
    for plan in backend.plans:
        state, losses = Fake().train_steps(state, IMAGES, plan)
    samples = sample_galaxies(Fake(), run, state, IMAGES, TEST.rows, TEST.hashes, 4)
    assert untimed([entry["test"]]) == untimed([evaluate(samples, TEST.yes, TEST.total)])
    assert len(losses) == 6
    assert entry["test"]["galaxies"] == 10


@pytest.mark.parametrize("name", ["mutual_information", "entropy"])
def test_those_of_the_largest_scores_are_chosen(name):
    run = run_of(*WORDS, f"acquisition.name={name}", "acquisition.expected_votes=7")
    state = first_checkpoint(run.model, run.seed)
    choice = choose(Fake(), run, state, IMAGES, KNOWN, 1)
    samples = sample_galaxies(Fake(), run, state, IMAGES, KNOWN.rows, KNOWN.hashes, 6)
    scores = getattr(reference, name)(samples, 7)
    assert len(set(scores)) == 30
    assert choice.places.tolist() == sorted(range(30), key=lambda place: -scores[place])[:5]
    np.testing.assert_array_equal(choice.scores, scores[choice.places])


def test_equal_scores_are_told_apart_by_id_and_not_by_place():
    class Even(Fake):
        def acquire(self, name, samples, *_):
            return np.zeros(len(samples))

    run = run_of(*WORDS)
    state = first_checkpoint(run.model, run.seed)
    mixed = KNOWN.take(np.random.default_rng(0).permutation(30))
    one, other = (choose(Even(), run, state, IMAGES, pool, 0) for pool in (KNOWN, mixed))
    assert KNOWN.rows[one.places].tolist() == mixed.rows[other.places].tolist()
    assert KNOWN.hashes[one.places].tolist() == sorted(KNOWN.hashes)[:5]


def test_the_order_of_the_pool_decides_nothing():
    mixed = KNOWN.take(np.random.default_rng(0).permutation(30))
    run = run_of(*WORDS, "acquisition.shards=2", "acquisition.shard_size=7")
    state = first_checkpoint(run.model, run.seed)
    one, other = (choose(Fake(), run, state, IMAGES, pool, 2) for pool in (KNOWN, mixed))
    assert KNOWN.rows[one.places].tolist() == mixed.rows[other.places].tolist()
    firsts = [set(pool.rows[initial(run, pool)]) for pool in (KNOWN, mixed)]
    assert firsts[0] == firsts[1]


def test_random_acquisition_samples_no_pool_and_begins_alike(tmp_path):
    told, random = Fake(), Fake()
    chosen = played(tmp_path / "told", backend=told)
    drawn = played(tmp_path / "random", "acquisition.name=random", backend=random)
    assert told.sampled == [10, 22, 10, 17, 10, 12, 10, 12]
    assert random.sampled == [10, 10, 10, 10]
    assert drawn[0]["test"] == chosen[0]["test"]
    assert drawn[0]["rows"] != chosen[0]["rows"]
    state = first_checkpoint(run_of().model, 0)
    run = run_of(*WORDS, "acquisition.name=random")
    first, second = (choose(Fake(), run, state, IMAGES, KNOWN, number) for number in (1, 2))
    u = keys.uniforms(keys.galaxy_keys(0, "acquisition", KNOWN.hashes), np.full(30, 1), 1)[:, 0]
    assert first.places.tolist() == np.argsort(-u)[:5].tolist()
    assert set(first.places) != set(second.places)


def test_shards_are_all_that_is_scored_and_others_in_each_round():
    run = run_of(*WORDS, "acquisition.shards=2", "acquisition.shard_size=3")
    state = first_checkpoint(run.model, run.seed)
    everyone = choose(Fake(), run_of(*WORDS, "acquisition.per_round=30"), state, IMAGES, KNOWN, 0)
    score, seen = dict(zip(everyone.places, everyone.scores, strict=True)), []
    for number in range(4):
        backend = Fake()
        choice = choose(backend, run, state, IMAGES, KNOWN, number)
        assert backend.sampled == [6]
        assert [score[place] for place in choice.places] == choice.scores.tolist()
        seen.append(frozenset(choice.places))
    assert len(set(seen)) == 4
    few = run_of(*WORDS, "acquisition.shards=1", "acquisition.shard_size=2")
    assert len(choose(Fake(), few, state, IMAGES, KNOWN, 0).places) == 2


def test_a_cold_start_begins_every_round_at_the_first_weights(tmp_path):
    backend = Fake()
    played(tmp_path, "acquisition.start=cold", backend=backend)
    assert [plan.steps[0] for plan in backend.plans] == [0, 6] * 4
    assert backend.begun == [0, 0, 0, 0]
    warm = Fake()
    played(tmp_path / "warm", backend=warm)
    assert warm.begun == [0]


@pytest.mark.parametrize("start", ["warm", "cold"])
@pytest.mark.parametrize("name", ["mutual_information", "random"])
def test_rounds_that_stopped_anywhere_go_on_as_if_they_had_not(tmp_path, start, name):
    words = (f"acquisition.start={start}", f"acquisition.name={name}")
    whole = untimed(played(tmp_path / "whole", *words))
    checkpoint = (tmp_path / "whole" / CHECKPOINT).stat().st_size
    for done in range(1, 4):  # between rounds
        folder = tmp_path / f"{done}"
        some = rounds(Fake(), run_of(*WORDS, *words), IMAGES, EVERYONE, folder)
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
    for cast in (
        EVERYONE._replace(known=KNOWN.take(np.arange(29))),
        EVERYONE._replace(test=TEST._replace(yes=TEST.yes * 0)),
        EVERYONE._replace(unknown=NOBODY),
    ):
        with pytest.raises(ValueError, match=r"changed since .* again=true"):
            played(tmp_path, cast=cast)


def test_the_first_galaxies_are_random_and_of_the_seed():
    chosen = [initial(run_of(*WORDS, f"seed={seed}"), KNOWN) for seed in (0, 1)]
    assert all(len(set(places)) == 8 for places in chosen)
    assert set(chosen[0]) != set(chosen[1])
