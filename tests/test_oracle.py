"""Votes drawn from those of a catalogue; a survey in which volunteers answer, or do not, from ask to ask."""

import functools
import json
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fake import Fake, Stopped, galaxies, noise
from fake import run_of as composed
from scipy.stats import hypergeom, spearmanr

import trizoo
from shared.data.split import split
from shared.data.store import votes
from shared.method.batches import Labelled
from shared.method.metrics import log_scores
from shared.method.sampling import sample_galaxies
from shared.network.weights import load_checkpoint
from shared.output import oracle
from shared.output.exports import COLUMNS
from shared.output.oracle import revealed
from shared.run.config import identity
from shared.run.keys import galaxy_hash
from shared.run.spec import MOST_VOTES
from shared.tasks import active as module
from shared.tasks.active import active, partition
from shared.tasks.galaxies import cutouts

WORDS = (
    "oracle=volunteers",
    "minimum_votes=3",
    "split={validation: 0.1, test: 0.2}",
    "acquisition=power",
    "acquisition.initial=6",
    "acquisition.per_round=4",
    "acquisition.rounds=2",
    "acquisition.samples=5",
    "acquisition.first_steps=6",
    "acquisition.round_steps=4",
    "training.batch_size=4",
    "backend.steps=2",
    "posterior.samples=4",
)
QUESTION, GALAXIES = "smooth-or-featured", 60


@functools.cache
def run_of(*words):
    """The run of `words`, composed once."""
    return composed(*words)


def test_a_galaxy_reveals_so_many_of_its_votes_and_never_others_than_it_has():
    some = galaxies(0, 300)
    assert revealed(some, None, 0) is some
    drawn = {count: revealed(some, count, 0) for count in (1, 5, 10, 60)}
    assert drawn[60].yes.tolist() == some.yes.tolist()
    assert drawn[60].total.tolist() == some.total.tolist()
    for count, found in drawn.items():
        assert found.total.tolist() == np.minimum(count, some.total).tolist()
        assert (found.yes >= np.maximum(0, found.total - (some.total - some.yes))).all()
        assert (found.yes <= np.minimum(found.total, some.yes)).all()
    assert ((drawn[10].yes - drawn[5].yes) >= 0).all()  # the first five of ten are the five
    assert ((drawn[10].yes - drawn[5].yes) <= drawn[10].total - drawn[5].total).all()
    mixed = some.take(np.random.default_rng(0).permutation(300))
    again = revealed(mixed, 5, 0)
    np.testing.assert_array_equal(drawn[5].yes[mixed.rows], again.yes)
    assert revealed(some, 5, 1).yes.tolist() != drawn[5].yes.tolist()
    assert some.yes.tolist() == galaxies(0, 300).yes.tolist()  # left as they were


def test_revealing_many_votes_takes_no_more_memory_than_few():
    galaxies = 4000
    total = np.full(galaxies, 2**31 - 1)
    many = Labelled.yes_or_no(
        np.arange(galaxies), np.arange(galaxies, dtype=np.uint64), total // 4, total
    )
    tracemalloc.start()
    try:
        found = revealed(many, MOST_VOTES // 4, 0)
        assert tracemalloc.get_traced_memory()[1] < 150e6
    finally:
        tracemalloc.stop()
    assert set(found.total) == {MOST_VOTES // 4}
    assert abs(found.yes.mean() / (MOST_VOTES // 4) - 0.25) < 0.002
    one = many.take(np.arange(3990, 4000))
    np.testing.assert_array_equal(revealed(one, MOST_VOTES // 4, 0).yes, found.yes[3990:])


def test_votes_are_drawn_without_replacement():
    many = galaxies(0, 20000)
    many = many._replace(yes=np.full(20000, 4), total=np.full(20000, 9))
    found = np.bincount(revealed(many, 5, 3).yes, minlength=6)
    expected = 20000 * hypergeom(9, 4, 5).pmf(np.arange(6))
    assert found[5] == 0
    assert ((found - expected)[:5] ** 2 / expected[:5]).sum() < 18.5  # chi-squared, 4: 1 in 1000


@pytest.fixture
def survey(monkeypatch):
    """A function: the outcome of active learning on a store of 60 galaxies, so many of them with votes."""

    def go(folder, *words, backend=None, asked=30, columns=True):
        store = made(asked, columns, folder)
        monkeypatch.setattr(module, "prepare_store", lambda dataset: store)
        monkeypatch.setattr(module, "open_networks", lambda run: backend or Fake())
        folder.mkdir(exist_ok=True)
        return active(run_of(*WORDS, *words), folder)

    return go


def made(asked, columns, folder):
    """A store of noise."""
    rows = np.arange(GALAXIES)
    table = pd.DataFrame({"id": [f"00{row}" for row in rows], "ra": rows / 7, "dec": -rows / 3})
    table["pixels_crc32"] = rows
    if columns:
        total = np.where(rows < asked, 5 + rows, rows % 3)
        table[f"{QUESTION}_smooth"] = total // 2
        table[f"{QUESTION}_featured-or-disk"] = total - total // 2
        table[f"{QUESTION}_artifact"] = 0
        table[f"{QUESTION}_total"] = total
    questions = {QUESTION: ("smooth", "featured-or-disk", "artifact")} if columns else {}
    images = noise(GALAXIES).images
    return SimpleNamespace(
        images=images,
        galaxies=table,
        questions=questions,
        folder=folder,
        split_ids=table["id"],
    )


def manifest(folder, number):
    """The ids that ask `number` is about."""
    return pd.read_csv(folder / f"ask-{number:02d}" / "manifest.csv", dtype=str)["!galaxy"].tolist()


def export(folder, name, votes):
    """An export in which volunteers `said` of galaxies: smooth so often, featured so often."""
    (folder / "classifications").mkdir(exist_ok=True)
    rows = []
    for galaxy, (smooth, featured) in votes.items():
        for person in range(smooth + featured):
            answer = "Smooth" if person < smooth else "Featured or disk"
            rows.append(
                {
                    "classification_id": int.from_bytes(f"{galaxy}/{person}".encode()),
                    "user_id": person + 1,
                    "created_at": f"2026-01-01 00:00:{person:02d} UTC",
                    "annotations": json.dumps([{"task": "T0", "task_label": "", "value": answer}]),
                    "subject_data": json.dumps({"1": {"!galaxy": galaxy}}),
                }
            )
    table = pd.DataFrame(rows, dtype=object).reindex(columns=COLUMNS)
    table.to_csv(folder / "classifications" / f"{name}.csv", index=False)


def tell(folder, number):
    """What volunteers say of ask ASK: all but its last galaxy are answered, the last by two people only."""
    *answered_ids, late = manifest(folder, number)
    votes = {name: (2 + place, 3) for place, name in enumerate(answered_ids)}
    export(folder, f"after {number}", {**votes, late: (1, 1)})
    return answered_ids, late


def test_a_survey_goes_on_as_volunteers_answer(tmp_path, survey):
    folder, backend = tmp_path / "run", Fake()
    outcome = survey(folder, "seed=1", backend=backend)
    assert set(outcome) == {"waiting"}
    assert outcome["waiting"].startswith(f"4 galaxies wait for volunteers: upload {folder}/ask-01;")
    assert f"export into {folder}/classifications, and give the same command" in outcome["waiting"]
    store = made(30, True, folder)
    part = split(store.galaxies["id"], run_of(*WORDS).split)
    known = np.flatnonzero((part == "train") & (np.arange(GALAXIES) < 30))
    assert set(np.unique([plan.rows for plan in backend.plans[:1]])) <= set(known)
    first = manifest(folder, 1)
    assert len(list((folder / "ask-01" / "images").glob("*.jpg"))) == 4
    assert all(int(name) >= 30 and part[int(name)] != "test" for name in first)
    assert not (folder / "ask_next.csv").exists()

    backend = Fake()
    assert survey(folder, "seed=1", backend=backend) == outcome
    assert not backend.plans  # nothing is trained twice
    assert not backend.sampled

    answered_ids, late = tell(folder, 1)
    backend = Fake()
    outcome = survey(folder, "seed=1", backend=backend)
    assert f"upload {folder}/ask-02" in outcome["waiting"]
    learned = np.unique(np.concatenate([plan.rows.ravel() for plan in backend.plans]))
    assert set(learned) <= set(known) | {int(name) for name in answered_ids}
    frozen = pd.read_csv(folder / "ask-01" / "votes.csv", dtype={"id": str}).set_index("id")
    assert frozen.index.tolist() == answered_ids
    assert frozen[f"{QUESTION}_smooth"].tolist() == [2, 3, 4]
    assert frozen[f"{QUESTION}_total"].tolist() == [5, 6, 7]
    second = manifest(folder, 2)
    assert not set(second) & {*answered_ids, late}  # who answers late is learned from all the same

    export(folder, "after 1", {answered_ids[0]: (9, 9)})  # later exports change no past round
    *answered, last = second
    export(folder, "after 2", {name: (1, 4) for name in {*answered, late}})
    outcome = survey(folder, "seed=1")
    results = outcome["results"]
    pd.testing.assert_frame_equal(
        frozen, pd.read_csv(folder / "ask-01" / "votes.csv", dtype={"id": str}).set_index("id")
    )
    assert [entry["acquired"] for entry in results["rounds"][:2]] == [first, second]
    assert [entry["unanswered"] for entry in results["rounds"]] == [[late], [last], None]
    counts = [entry["labelled"] for entry in results["rounds"]]
    assert counts == [len(known), len(known) + 3, len(known) + 7]
    proposed = pd.read_csv(folder / "ask_next.csv", dtype={"id": str})
    assert list(proposed) == ["rank", "id", "ra", "dec", "score", "chance", "votes"]
    assert not {*answered_ids, *answered, late} & set(proposed["id"])
    assert proposed["chance"].tolist() == results["rounds"][2]["chances"]
    assert proposed["votes"].tolist() == [40] * 4
    assert not (folder / "ask-03").exists()


def test_what_answers_say_of_the_network_that_asked(tmp_path, survey):
    folder, run = tmp_path / "run", run_of(*WORDS)
    survey(folder)
    checkpoint, about = load_checkpoint(folder / "checkpoint.safetensors", run.model)
    (waiting,) = about["rounds"]
    assert waiting["unanswered"] is None
    assert waiting["pool"]["plain"] is waiting["pool"]["lure"] is waiting["pool"]["all"] is None
    assert waiting["pool"]["lure_refused"] == "their votes are not known yet"
    export(folder, "all", {name: (1 + place, 3) for place, name in enumerate(manifest(folder, 1))})
    survey(folder)
    _, about = load_checkpoint(folder / "checkpoint.safetensors", run.model)
    first, rows = about["rounds"][0], np.array(waiting["rows"])
    hashes = galaxy_hash([f"00{row}" for row in rows])
    shown = cutouts(run, made(30, True, folder))
    samples = sample_galaxies(Fake(), run, checkpoint, shown, rows, hashes, 5)
    losses = log_scores(samples, 1 + np.arange(4), 4 + np.arange(4))
    assert first["pool"]["plain"] == pytest.approx(losses.mean(), rel=1e-12)
    weights = [first["pool"]["galaxies"] - np.arange(4), first["chances"]]
    assert first["pool"]["lure"] == pytest.approx(lure_of(losses, *weights), rel=1e-9)
    assert first["unanswered"] == []
    assert first["digest"] != waiting["digest"]
    assert waiting["composition"]["foretold"] is waiting["composition"]["fractions"] is None
    told = first["composition"]
    ranked = spearmanr(first["scores"], losses).statistic
    assert (told["foretold"]["over"], told["foretold"]["galaxies"]) == ("asked", 4)
    assert told["foretold"]["spearman"]["log_score"] == pytest.approx(ranked)
    assert told["fractions"]["mean"] == pytest.approx(
        np.mean((1 + np.arange(4)) / (4 + np.arange(4)))
    )


def lure_of(losses, left, probabilities):
    """The estimate as its authors write it, from how many were `left` at each turn."""
    pool, drawn = left[0], len(losses)
    terms = [
        (1 + (pool - drawn) / (n - 1) * (1 / (n * q) - 1)) * loss
        for n, q, loss in zip(left, probabilities, losses, strict=True)
    ]
    return sum(terms) / drawn


def test_a_survey_without_any_votes_begins_with_random_galaxies(tmp_path, survey):
    for columns in (False, True):
        folder, backend = tmp_path / f"{columns}", Fake()
        outcome = survey(folder, backend=backend, asked=0, columns=columns)
        assert outcome["waiting"].startswith("6 galaxies wait for volunteers: upload")
        assert not backend.begun
        assert not (folder / "checkpoint.safetensors").exists()
        first = manifest(folder, 0)
        assert len(first) == len(set(first)) == 6
        part = split([f"00{row}" for row in range(GALAXIES)], run_of(*WORDS).split)
        assert all(part[int(name)] != "test" for name in first)
        tell(folder, 0)
        assert "ask-01" in survey(folder, asked=0, columns=columns)["waiting"]
        tell(folder, 1)
        survey(folder, asked=0, columns=columns)
        tell(folder, 2)
        results = survey(folder, asked=0, columns=columns)["results"]
        assert [entry["labelled"] for entry in results["rounds"]] == [5, 8, 11]
        assert [entry["test"] for entry in results["rounds"]] == [None] * 3
        assert "no test galaxies" in results["summary"]


@pytest.mark.parametrize("stop", [3, 7, 11])
def test_a_survey_that_was_stopped_anywhere_goes_on_as_if_it_was_not(tmp_path, survey, stop):
    digests = {}
    for name in ("whole", "stopped"):
        folder = tmp_path / name
        for number in (1, 2, 3):
            if name == "stopped":
                try:
                    survey(folder, backend=Fake(stop=stop))
                except Stopped:
                    pass
                else:
                    assert (stop - 2) // 4 + 1 != number
            outcome = survey(folder)
            if number < 3:
                tell(folder, number)
        digests[name] = [entry["digest"] for entry in outcome["results"]["rounds"]]
    assert digests["whole"] == digests["stopped"]
    assert len(set(digests["whole"])) == 3


def test_votes_that_a_round_has_learned_from_are_not_to_be_changed(tmp_path, survey):
    folder = tmp_path / "run"
    survey(folder)
    tell(folder, 1)
    survey(folder)
    file = folder / "ask-01" / "votes.csv"
    file.write_text(file.read_text().replace(",2,3,0,5", ",3,2,0,5"))
    with pytest.raises(ValueError, match=r"round 1 .* learned from other votes .*votes.csv"):
        survey(folder)


def test_galaxies_are_uploaded_once_where_there_is_a_project(tmp_path, survey, monkeypatch):
    sent = []
    monkeypatch.setattr(oracle, "upload", lambda place, project: sent.append((place, project)))
    folder = tmp_path / "run"
    outcome = survey(folder, "oracle.project=7")
    assert sent == [(folder / "ask-01", 7)]
    assert "they are in project 7; collect" in outcome["waiting"]
    tell(folder, 1)
    survey(folder, "oracle.project=7")
    survey(folder, "oracle.project=7")
    assert {place for place, _ in sent[2:]} == {folder / "ask-02"}


def test_what_is_told_of_an_export(tmp_path, survey, capfd):
    folder = tmp_path / "run"
    survey(folder)
    tell(folder, 1)
    export(folder, "strange", {"nobody": (1, 0)})
    survey(folder)
    output = capfd.readouterr().err
    assert "1 classifications are of nothing that was asked about" in output
    assert "4 of 4 galaxies were classified so far, 3 by 3 or more" in output


def test_too_few_to_ask_about_are_refused_before_any_is_asked(tmp_path, survey):
    for asked, words, need in ((30, "acquisition.rounds=9", 36), (0, "acquisition.rounds=15", 66)):
        with pytest.raises(ValueError, match=rf"ask about {need} galaxies, but only \d+ can be as"):
            survey(tmp_path / f"{asked}", words, asked=asked)
        assert not list((tmp_path / f"{asked}").iterdir())


def test_the_catalogue_reveals_what_it_is_told_to_and_test_galaxies_everything(tmp_path, survey):
    words = ("oracle=catalogue", "oracle.votes=4", "acquisition.rounds=1")
    backend = Fake()
    survey(tmp_path / "run", *words, backend=backend, asked=60)
    assert {int(total) for plan in backend.plans for total in plan.votes.sum(-1).ravel()} == {4}
    store, run = made(60, True, tmp_path), run_of(*WORDS, *words)
    galaxies, _ = partition(run, store, tmp_path)
    _, total = votes(store, QUESTION, ("smooth",))
    assert galaxies.test.total.tolist() == total[galaxies.test.rows].tolist()
    assert len(galaxies.test.rows) > 5
    rows = np.concatenate([galaxies.labelled.rows, galaxies.pool.rows])
    assert (split(store.galaxies["id"].iloc[rows], run.split) == "train").all()


def test_the_truth_is_that_of_all_galaxies(tmp_path):
    store, run = made(60, True, tmp_path), run_of(*WORDS, "oracle=catalogue", "positive=[artifact]")
    galaxies, _ = partition(run, store, tmp_path)
    assert galaxies.truth == (None, None)
    store.galaxies[f"true_{QUESTION}_artifact"] = np.linspace(0, 0.5, GALAXIES)
    galaxies, _ = partition(run, store, tmp_path)
    np.testing.assert_array_equal(galaxies.truth.fractions, np.linspace(0, 0.5, GALAXIES))
    store.galaxies["artifact"] = np.arange(GALAXIES) < 3
    galaxies, _ = partition(run, store, tmp_path)
    assert galaxies.truth.artifacts.sum() == 3
    two = run_of(*WORDS, "oracle=catalogue", "positive=[artifact,smooth]")
    store.galaxies[f"true_{QUESTION}_smooth"] = 0.25
    both, _ = partition(two, store, tmp_path)
    np.testing.assert_allclose(both.truth.fractions, galaxies.truth.fractions + 0.25)


def test_targets_are_galaxies_of_the_dataset(tmp_path, survey):
    file = tmp_path / "some.csv"
    words = ("oracle=catalogue", "acquisition=epig", f"acquisition.target={file}")
    words += ("acquisition.rounds=1", "acquisition.expected_votes=2", "acquisition.samples=3")
    file.write_text("id,why\n0058,a\n003,b\n0058,c\n")
    backend = Fake()
    survey(tmp_path / "run", *words, backend=backend, asked=50)
    store = made(50, True, tmp_path)
    galaxies, _ = partition(run_of(*WORDS, *words), store, tmp_path)
    assert galaxies.targets.rows.tolist() == [3, 58]
    assert galaxies.targets.total.tolist() == [8, 0]  # one of too few votes counts as of none
    assert backend.sampled.count(2) == 2
    for text, message in (
        ("id\n3\n0058\n0099\n", r"names 2 galaxies that the dataset has not \(3, 0099\)"),
        ("name\n003\n", "whose columns are name; it needs one called id"),
        ("id\n", "names no galaxy"),
    ):
        file.write_text(text)
        backend = Fake()
        with pytest.raises(ValueError, match=message):
            survey(tmp_path / "refused", *words, backend=backend, asked=50)
        assert not backend.begun
    file.unlink()
    with pytest.raises(FileNotFoundError):
        survey(tmp_path / "refused", *words, asked=50)


def test_how_answers_are_read_may_change_while_a_run_waits_and_nothing_else():
    usual = trizoo.compose(["task=active", "oracle=volunteers"])
    for word, same in (
        ("+oracle.tasks={T0: smooth-or-featured}", True),
        ("+oracle.answers={Yes: smooth}", True),
        ("oracle.project=7", True),
        ("oracle.workflow=371", True),
        ("oracle.votes=7", False),
        ("oracle=catalogue", False),
    ):
        words = ["task=active", *(() if word == "oracle=catalogue" else ("oracle=volunteers",))]
        other = trizoo.compose([*words, word])
        assert (identity(other) == identity(usual)) == same
