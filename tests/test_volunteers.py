"""Volunteers: what they are shown, what they said counted against a count by pandas, and uploads to a stand-in."""

import csv
import gzip
import json
import re
import sys
import threading
import types
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shared.data.prepare import prepare
from shared.output import subject_sets
from shared.output.subject_sets import upload, write_subject_set
from shared.output.volunteers import count_votes
from shared.run.records import write_whole
from shared.run.spec import OracleSpec, RunSpec, from_config
from trizoo import compose

QUESTIONS = {
    "smooth-or-featured": ("smooth", "featured-or-disk", "artifact"),
    "bar": ("yes", "no"),
    "spiral-arm-count": ("1", "2", "cant-tell"),
}
TASKS = {
    "T0": ("Is it smooth?", "smooth-or-featured", ["Smooth", "Features or disk", "Artifact!"]),
    "T1": ("Is there a bar?\n*Look closely*", "bar", ["![](https://a.b/bar.png) Yes", "No."]),
    "T2": ("How many arms?", "spiral-arm-count", ["1", "2", "Can't tell"]),
}
ANSWERS = {"Features or disk": "featured-or-disk"}
NAMES = [
    "classification_id",
    "user_name",
    "user_id",
    "user_ip",
    "workflow_id",
    "workflow_name",
    "workflow_version",
]
NAMES += [
    "created_at",
    "gold_standard",
    "expert",
    "metadata",
    "annotations",
    "subject_data",
    "subject_ids",
]


def oracle(tasks=None, answers=None, workflow=None):
    answers = ANSWERS if answers is None else answers
    return OracleSpec("volunteers", None, tasks or {}, answers, 7, workflow)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    words = ["dataset.galaxies=12", f"dataset.stores={tmp_path_factory.mktemp('stores')}"]
    return prepare(from_config(RunSpec, compose(words)).dataset)


class Painted:
    """A store of other images."""

    def __init__(self, images):
        self.images = images


def row(number, galaxy, annotations, user="amelia", account="11", minute=None, **other):
    """A row of an export; `annotations`: a value for each task, or the list itself."""
    if isinstance(annotations, dict):
        annotations = [
            {"task": task, "task_label": TASKS[task][0], "value": value}
            for task, value in annotations.items()
        ]
    minute = number if minute is None else minute
    about = {"retired": None, "image": "images/x.jpg"} | (
        {} if galaxy is None else {"!galaxy": galaxy}
    )
    return {
        "classification_id": str(number),
        "user_name": user,
        "user_id": account,
        "user_ip": "5a57456f5035229ca94e",
        "workflow_id": "371",
        "workflow_name": 'Shapes, "beta"',
        "workflow_version": "16.10",
        "created_at": f"2026-05-{1 + minute // 1440:02d} {minute // 60 % 24:02d}:{minute % 60:02d}:00 UTC",
        "gold_standard": "",
        "expert": "",
        "metadata": json.dumps({"session": "b7b5", "viewport": {"width": 1, "height": 2}}),
        "annotations": json.dumps(annotations),
        "subject_data": json.dumps({"4990081": about}),
        "subject_ids": "4990081",
    } | other


def put(folder, rows, name="export.csv", names=NAMES):
    """An export of `rows`."""

    def write(beside):
        with beside.open("w", encoding="utf-8", newline="") as file:
            lines = csv.DictWriter(file, names)
            lines.writeheader()
            lines.writerows(rows)

    write_whole(folder / "classifications" / name, write)


def asked(folder, *ids, number=0):
    """An ask about `ids`, without a store."""
    return write_subject_set(
        Painted(np.zeros((len(ids), 8, 8, 1), np.uint8)), range(len(ids)), ids, folder, number
    )


def test_an_ask_is_what_zooniverse_takes(store, tmp_path):
    rows = np.array([7, 2, 11])
    ids = store.galaxies["id"].iloc[rows]
    place = write_subject_set(store, rows, ids, tmp_path, 3)
    assert place == tmp_path / "ask-03"
    table = pd.read_csv(place / "manifest.csv", dtype=str)
    assert list(table) == ["image", "!galaxy"]
    assert table["!galaxy"].tolist() == ids.tolist()
    assert sorted(path.name for path in place.iterdir()) == ["images", "manifest.csv"]
    assert {f"images/{path.name}" for path in (place / "images").iterdir()} == set(table["image"])
    for place_in, file in zip(rows, table["image"], strict=True):
        with Image.open(place / file) as image:
            assert (image.format, image.mode) == ("JPEG", "L")
            pixels = np.asarray(image, np.float64)
        assert pixels.shape == (256, 256)
        assert np.abs(pixels - store.images[place_in][..., 0]).mean() < 2
    assert [path.name for path in tmp_path.iterdir()] == ["ask-03"]


def test_an_ask_is_the_same_to_the_byte_and_whole_or_not_there(store, tmp_path, monkeypatch):
    def bytes_of(place):
        return {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}

    rows, ids = [4, 5, 6], store.galaxies["id"].iloc[[4, 5, 6]]
    first = bytes_of(write_subject_set(store, rows, ids, tmp_path / "one", 0))
    saved, count = Image.Image.save, []

    def save(self, *what, **how):
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt
        saved(self, *what, **how)

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(KeyboardInterrupt):
        write_subject_set(store, rows, ids, tmp_path / "two", 0)
    assert not (tmp_path / "two" / "ask-00").exists()
    assert bytes_of(write_subject_set(store, rows, ids, tmp_path / "two", 0)) == first
    (tmp_path / "two" / "ask-00" / "uploaded.json").write_text("{}")
    write_subject_set(store, rows, ids, tmp_path / "two", 0)
    assert len(count) == 5  # the fifth image was the last: what is there is not written again
    assert (tmp_path / "two" / "ask-00" / "uploaded.json").exists()
    with pytest.raises(ValueError, match="asks about other galaxies"):
        write_subject_set(store, rows[:2], ids[:2], tmp_path / "two", 0)
    with pytest.raises(ValueError, match="3 ids for 2 galaxies"):
        write_subject_set(store, rows[:2], ids, tmp_path, 0)


def test_any_id_has_a_file_and_comes_back(tmp_path):
    ids = ["a/b", "a:b", "A_b", "a_b", '../x,"y"', "587722984435351614", "g.jpg", "é" * 300, " 00 "]
    noise = np.random.default_rng(0).integers(0, 256, (len(ids), 256, 256, 3), dtype=np.uint8)
    place = write_subject_set(Painted(noise), range(len(ids)), ids, tmp_path, 0)
    files = [path.name for path in (place / "images").iterdir()]
    assert len({name.lower() for name in files}) == len(ids)
    assert all(name.isascii() and name.count(".") == 1 and len(name) < 100 for name in files)
    assert all(0 < path.stat().st_size < 1_000_000 for path in (place / "images").iterdir())
    with Image.open(place / "images" / sorted(files)[0]) as image:
        assert image.mode == "RGB"
    put(tmp_path, [row(n, name.strip(), {"T0": "Smooth"}) for n, name in enumerate(ids)])
    votes = count_votes(tmp_path, oracle({"T0": "smooth-or-featured"}), QUESTIONS)
    assert votes.index.tolist() == ids
    assert votes["smooth-or-featured_smooth"].tolist() == [1] * len(ids)


def crowd(ids):
    """Twenty classifications of each galaxy and some others, and what they come to: (export rows, plain facts)."""
    random = np.random.default_rng(3)
    rows, facts, number = [], [], 1000
    for galaxy in [*ids, "nobody asked", None]:
        for _ in range(20):
            number += 1
            person = int(random.integers(15))  # some more than once
            user, account = (
                (f"user{person}", str(100 + person))
                if person < 10
                else (f"not-logged-in-{person}", "")
            )
            minute = int(random.integers(5000))
            answers = {}
            for task, (_, question, texts) in TASKS.items():
                kind = int(random.integers(-2, len(texts)))
                if kind >= -1:
                    answers[task] = None if kind == -1 else texts[kind]
                if kind >= 0:
                    facts.append(
                        (number, minute, user, galaxy, question, QUESTIONS[question][kind])
                    )
            rows.append(row(number, galaxy, answers, user, account, minute))
    names = ["number", "minute", "user", "galaxy", "question", "answer"]
    return rows, pd.DataFrame(facts, columns=names)


def by_hand(facts, ids):
    """Votes as pandas counts them."""
    facts = facts[facts["galaxy"].isin(ids)].sort_values(["minute", "number"])
    facts = facts.drop_duplicates(["user", "galaxy", "question"])
    columns = {}
    for question, some in QUESTIONS.items():
        own = facts[facts["question"] == question]
        for answer in some:
            columns[f"{question}_{answer}"] = own[own["answer"] == answer].groupby("galaxy").size()
        columns[f"{question}_total"] = own.groupby("galaxy").size()
    return pd.DataFrame(columns, index=ids).fillna(0).astype(np.int64).rename_axis("id")


def test_a_round_trip_counts_what_a_plain_count_does(store, tmp_path):
    rows = np.array([1, 3, 4, 8, 10])
    ids = store.galaxies["id"].iloc[rows]
    write_subject_set(store, rows[:3], ids.iloc[:3], tmp_path, 0)
    write_subject_set(store, rows[3:], ids.iloc[3:], tmp_path, 1)
    empty = count_votes(tmp_path, oracle(), QUESTIONS)
    assert empty.index.tolist() == ids.tolist()
    assert not empty.to_numpy().any()
    exported, facts = crowd(ids)
    expected = by_hand(facts, ids.tolist())
    assert 30 < expected["bar_total"].sum() < 60 < len(facts[facts["question"] == "bar"])
    put(tmp_path, exported[:80], "a.csv")
    put(tmp_path, exported[50:], "b.csv")
    votes = count_votes(tmp_path, oracle(), QUESTIONS)
    pd.testing.assert_frame_equal(votes, expected, check_index_type=False)
    assert set(votes.dtypes) == {np.dtype(np.int64)}
    messages = "\n".join(votes.attrs["messages"])
    assert "30 classifications were there twice" in messages
    assert "40 classifications are of nothing that was asked about" in messages
    repeats = facts["galaxy"].isin(ids).sum() - expected.filter(like="total").to_numpy().sum()
    assert f"{repeats} answers by someone who had answered before" in messages
    assert "task T1 (Is there a bar? *Look closely*) is taken for bar" in messages
    random = np.random.default_rng(0)
    for turn in range(6):
        parts = np.array_split(random.permutation(len(exported)), turn % 3 + 1)
        for path in (tmp_path / "classifications").iterdir():
            path.unlink()
        for part, name in zip(parts, random.permutation(["x.csv", "y.csv", "z.csv"]), strict=False):
            some = [exported[n] for n in part]
            put(tmp_path, some, name, list(random.permutation([*NAMES, *(["more"] * (turn > 3))])))
        again = count_votes(tmp_path, oracle({t: q for t, (_, q, _) in TASKS.items()}), QUESTIONS)
        pd.testing.assert_frame_equal(again, expected, check_index_type=False)


def bars(tmp_path, rows, *, tasks=None, name="export.csv", answers=None):
    """The votes for yes and no to bar of galaxy g, and what was told."""
    if not (tmp_path / "ask-00").exists():
        asked(tmp_path, "g")
    put(tmp_path, rows, name)
    votes = count_votes(tmp_path, oracle(tasks or {"T1": "bar"}, answers), QUESTIONS)
    assert votes.loc["g", "bar_total"] == votes.loc["g", "bar_yes"] + votes.loc["g", "bar_no"]
    return votes.loc["g", ["bar_yes", "bar_no"]].tolist(), "\n".join(votes.attrs["messages"])


def test_the_first_answer_counts_and_a_task_passed_over_is_none(tmp_path):
    rows = [
        row(5, "g", {"T1": "No"}, minute=50),
        row(4, "g", {"T1": "Yes"}, minute=40, account="11.0"),  # as a table of pandas would have it
        row(3, "g", {"T1": None}, minute=30),
        row(2, "g", {}, minute=20),
        row(9, "g", {"T1": "No"}, minute=10, account="12"),  # another of that name
        row(8, "g", {"T1": "No"}, minute=10, account="11", gold_standard="true"),
        row(7, "g", {"T1": "Yes"}, minute=10, account="13", expert="expert"),
        row(
            6, "g", {"T1": "Yes"}, user="11", account="", minute=10
        ),  # whose name is another's number
    ]
    votes, messages = bars(tmp_path, rows)
    assert votes == [3, 1]
    assert "1 classifications set a gold standard" in messages
    assert "1 answers by someone" in messages
    same = [row(n, "g", {"T1": text}, minute=1) for n, text in ((12, "No"), (3, "Yes"))]
    assert bars(tmp_path, same)[0] == [1, 0]  # at the same second: by number


def test_those_who_are_not_logged_in_are_known_again_in_a_later_export(tmp_path):
    """Every export gives them other names; a classification that two exports have tells which are one person's."""

    def vote(number, text, name):
        return row(number, "g", {"T1": text}, f"not-logged-in-{name}", "")

    bars(tmp_path, [vote(1, "Yes", "a1"), vote(2, "No", "a2")], name="may.csv")
    june = [
        vote(3, "No", "b1"),
        vote(1, "Yes", "b1"),
        vote(2, "No", "b2"),
        vote(4, "Yes", "b2"),
    ]
    assert bars(tmp_path, june, name="june.csv")[0] == [1, 1]
    july = [
        vote(2, "No", "c2"),
        vote(5, "No", "c2"),
        vote(6, "No", "c3"),
    ]
    assert bars(tmp_path, july, name="july.csv")[0] == [1, 2]
    for name, rows in {
        "1.csv": [vote(11, "Yes", "d1")],
        "2.csv": [vote(12, "No", "e2")],
        "3.csv": [vote(11, "Yes", "f3"), vote(12, "No", "f3")],
        "may.csv": [],
        "june.csv": [],
        "july.csv": [],
    }.items():
        votes, _ = bars(tmp_path, rows, name=name)
    assert votes == [1, 0]


def test_tasks_may_hold_others_and_others_may_be_there(tmp_path):
    task = {"task": "T1", "task_label": TASKS["T1"][0].upper(), "value": "No"}
    rows = [
        row(
            1,
            "g",
            [{"task": "T9", "task_label": None, "value": [{"task": "T0", "value": 3}, task]}],
        ),
        row(2, "g", [{"task": "T4", "value": {"choice": "NTHNGHR", "answers": {}}}], account="2"),
        row(
            3,
            "g",
            [{"task": "T3", "value": [{"x": 1, "tool": 0, "details": []}]}, task],
            account="3",
        ),
        row(4, "g", {"T1": ["![yes =50x](https://a.b/c.png)Yes "]}, account="4"),
        row(5, "g", {"T1": []}, account="5"),
        row(6, "g", {"T1": "unknown answer label"}, account="6"),
        row(7, "g", {"T1": "I give up"}, account="7"),
        row(8, "g", {"T1": "✔"}, account="8"),
    ]
    votes, messages = bars(tmp_path, rows, answers={"I give up": "", "✔": "yes"})
    assert votes == [2, 2]
    assert "2 answers mean no vote" in messages
    assert "tasks that ask none of the questions: T0, T3, T4" in messages
    assert "no task asked smooth-or-featured, spiral-arm-count" in messages
    two = {"1": {"!galaxy": "g"}, "2": {"!galaxy": "g"}}
    both = row(1, "g", {"T1": "No"}, subject_data=json.dumps(two))
    assert bars(tmp_path, [both])[0] == [0, 0]


def test_what_cannot_be_understood_is_named(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"export.csv, line 3: task T1 \(Is there a bar\?.*'Perhaps', .*none of bar's yes, no;",
    ):
        bars(tmp_path, [row(1, "g", {"T1": "Yes"}), row(2, "g", {"T1": "Perhaps"}, account="2")])
    with pytest.raises(ValueError, match="answered Yes and No, but bar takes one answer"):
        bars(tmp_path, [row(1, "g", {"T1": ["Yes", "No"]})])
    with pytest.raises(ValueError, match="answered '✖', which is none"):
        bars(tmp_path, [row(1, "g", {"T1": "✖"})], answers={"✔": "yes"})
    with pytest.raises(ValueError, match="answered without words, but bar takes one"):
        bars(tmp_path, [row(1, "g", {"T1": {"choice": "x"}})])
    with pytest.raises(
        ValueError, match=r"oracle\.tasks\.T1 is 'bars', which is no question; choose one of smooth"
    ):
        bars(tmp_path, [], tasks={"T1": "bars"})
    with pytest.raises(ValueError, match="makes 'perhaps' of 'Maybe', which answers no question"):
        bars(tmp_path, [], answers={"Maybe": "perhaps"})


def test_a_task_is_known_by_its_words_or_answers_or_must_be_said(tmp_path):
    def votes(*given, **questions):
        annotations = [
            {"task": t, "task_label": label, "value": value} for t, label, value in given
        ]
        rows = [row(n, "g", [one], account=str(n)) for n, one in enumerate(annotations)]
        put(tmp_path, rows)
        return count_votes(tmp_path, oracle(), QUESTIONS | questions).loc["g"]

    asked(tmp_path, "g")
    found = votes(("T5", "BAR?", "yes"), ("T6", "Odd?", "Yes"), ("T6", "Odd?", "No"))
    assert (found["bar_yes"], found["bar_no"]) == (
        1,
        0,
    )  # T6 could be it by its answers, were T5 not by its name
    found = votes(("T5", "Line?", "yes"), ("T5", "*LINE*", "no"), ("T7", "Text", "so what"))
    assert (found["bar_yes"], found["bar_no"]) == (1, 1)
    assert "tasks that ask none of the questions: T7 (Text)" in found.attrs["messages"]
    with pytest.raises(
        ValueError, match=r"tasks T5, T6 all look like bar; say .*'\+oracle.tasks=\{T5: bar\}'"
    ):
        votes(("T5", "Line?", "yes"), ("T6", "Odd?", "Yes"))
    with pytest.raises(
        ValueError, match=r"T5 \(Line\?\) was answered yes, which may be bar or ring; say"
    ):
        votes(("T5", "Line?", "yes"), ring=("yes", "no"))
    with pytest.raises(
        ValueError,
        match=r"T5 \(Line\?\) was answered maybe, yes, which may be bar; .*oracle.answers",
    ):
        votes(("T5", "Line?", "yes"), ("T5", "Line?", "maybe"))


def test_workflows_are_not_merged(tmp_path):
    """Task T1 of another workflow may ask something else: one is named, or there is only one."""

    def vote(number, text, **workflow):
        return row(number, "g", {"T1": text}, account=str(number), **workflow)

    other = {"workflow_id": "372", "workflow_name": "Is it centred?"}
    rows = [
        vote(1, "Yes", **other),
        vote(2, "No"),
        vote(3, "Yes", **other),
    ]
    with pytest.raises(
        ValueError,
        match=r'workflows, .*: 372 \(Is it centred\?, 2 classifications\), 371 \(Shapes, "beta", 1 .*workflow=372',
    ):
        bars(tmp_path, rows)
    for name, expected in {
        "371": [0, 1],
        "372": [2, 0],
        ' shapes,  "Beta"': [0, 1],
        "is it centred?": [2, 0],
    }.items():
        votes = count_votes(tmp_path, oracle({"T1": "bar"}, workflow=name), QUESTIONS)
        assert votes.loc["g", ["bar_yes", "bar_no"]].tolist() == expected
        (left,) = [line for line in votes.attrs["messages"] if "other workflows" in line]
        assert left.startswith(f"{3 - sum(expected)} classifications")
    for name, messages in {"373": "none", "shapes": "none"}.items():
        with pytest.raises(
            ValueError, match=f"oracle.workflow is '{name}', which names {messages}"
        ):
            count_votes(tmp_path, oracle({"T1": "bar"}, workflow=name), QUESTIONS)
    alike = [vote(1, "Yes", workflow_id="1"), vote(2, "No", workflow_id="2")]
    put(tmp_path, alike)
    with pytest.raises(ValueError, match=r"which names several of the workflows.*number of one"):
        count_votes(tmp_path, oracle({"T1": "bar"}, workflow='Shapes, "beta"'), QUESTIONS)
    put(
        tmp_path,
        [
            vote(1, "Yes"),
            vote(2, "No", workflow_id="371.0", workflow_name="Renamed"),
        ],
    )
    assert count_votes(tmp_path, oracle({"T1": "bar"}), QUESTIONS).loc["g", "bar_total"] == 2
    put(tmp_path, [])
    assert not count_votes(tmp_path, oracle(workflow="371"), QUESTIONS).to_numpy().any()


def test_a_task_that_was_reworded_must_be_named_by_its_words(tmp_path):
    """A workflow that was changed on the way may ask something else in the same task."""

    def vote(number, label, text, version):
        annotations = [{"task": "T1", "task_label": label, "value": text}]
        return row(number, "g", annotations, account=str(number), workflow_version=version)

    words = ["Is there a *bar*?", "is there a bar", "Is there a ring?", "Does it have a bar?"]
    rows = [
        vote(1, words[0], "Yes", "16.55"),
        vote(2, words[1], "No", "16.56"),
        vote(3, words[2], "Yes", "17.55"),
        vote(4, words[3], "Yes", "18.1"),
        vote(5, "", "Yes", "18.1"),  # whose words Zooniverse lost
    ]
    message = (
        r"task T1 is taken for bar, but was asked in several wordings: T1 \(Does it have a bar\?\) by 1 .*"
        r"T1 \(Is there a \*bar\*\?\) by 2 classifications of version 16.55, 16.56; .*"
        r"'\+oracle.tasks=\{does it have a bar: bar\}'"
    )
    with pytest.raises(ValueError, match=message):
        bars(tmp_path, rows)
    with pytest.raises(ValueError, match=message):
        count_votes(tmp_path, oracle(), QUESTIONS)
    for tasks, expected in (
        ({"is there a bar": "bar"}, [1, 1]),
        ({"does it have a bar": "bar", "is there a bar": "bar"}, [2, 1]),
        ({words[2]: "bar"}, [1, 0]),
    ):
        assert bars(tmp_path, rows, tasks=tasks)[0] == expected
    assert bars(tmp_path, [rows[0], rows[1], rows[4]])[0] == [2, 1]


ARMS = {"arms": ("1", "2", "3", "4", "more-than-4", "cant-tell", "1-2")}


def arms(tmp_path, *texts, answers=None):
    """The answers with a vote each, if `texts` are answered to a task."""
    if not (tmp_path / "ask-00").exists():
        asked(tmp_path, "g")
    annotations = [{"task": "T2", "task_label": "How many arms?", "value": text} for text in texts]
    put(tmp_path, [row(n, "g", [one], account=str(n + 1)) for n, one in enumerate(annotations)])
    votes = count_votes(tmp_path, oracle({"T2": "arms"}, answers or {}), ARMS).loc["g"]
    return {answer: votes[f"arms_{answer}"] for answer in ARMS["arms"] if votes[f"arms_{answer}"]}


def test_answers_are_alike_but_for_what_tells_nothing(tmp_path):
    answers = ("4", " 4 ", "More than 4", "MORE  THAN 4", "1 \u2013 2", "2.")
    assert arms(tmp_path, *answers) == {"2": 1, "4": 2, "more-than-4": 2, "1-2": 1}
    for text in ("Can't tell", "can\u2019t tell!", "CANT  TELL", "cant-tell", "![x](y) Cant Tell"):
        assert arms(tmp_path, text) == {"cant-tell": 1}


@pytest.mark.parametrize("text", ["4+", ">4", "<4", "-4", "\u22124", "4?", "4%", "12", "1.2.", "+"])
def test_an_answer_is_not_another_that_looks_like_it(tmp_path, text):
    known = {"1.2.": "1-2"}.get(text)
    if known:  # a full stop between digits, and 1-2, are the same but for punctuation
        assert arms(tmp_path, text) == {known: 1}
        return
    with pytest.raises(ValueError, match=f"answered {re.escape(repr(text))}, which is none of"):
        arms(tmp_path, "1", text)
    assert arms(tmp_path, "4", text, answers={text: "more-than-4"}) == {"4": 1, "more-than-4": 1}


def test_answers_that_only_punctuation_tells_apart_are_not_guessed(tmp_path):
    """Two texts of the workflow, or two of ours, would become one."""
    with pytest.raises(ValueError, match=r"answered '(4\.|\(4\))', which is none"):
        arms(tmp_path, "4.", "(4)")
    assert arms(tmp_path, "4", "4.", answers={"4.": "3"}) == {"4": 1, "3": 1}
    with pytest.raises(ValueError, match=r"answered '\(4\)', which is none"):
        arms(tmp_path, "(4)", answers={"4.": "3"})


def test_every_export_is_read_whatever_its_name(tmp_path):
    rows = [row(n, "g", {"T1": "Yes"}, account=str(n)) for n in range(1, 5)]
    folder = tmp_path / "classifications"
    for some, name in zip(rows, ("a.csv", "B.CSV", "c.Csv.GZ", "d.csv"), strict=True):
        put(tmp_path, [some], name)
        if name in ("c.Csv.GZ", "d.csv"):  # gzipped, whatever it is called
            (folder / name).write_bytes(gzip.compress((folder / name).read_bytes()))
    for name in ("notes.txt", "e.csv.zip", "._a.csv", ".DS_Store", "{}.tsv"):
        (folder / name).write_bytes(b"\0")
    (folder / "old.csv").mkdir()
    votes, messages = bars(tmp_path, [row(5, "g", {"T1": "No"}, account="5")])
    assert votes == [4, 1]
    assert "are read, so not e.csv.zip, notes.txt, old.csv, {}.tsv" in messages
    whole = (folder / "d.csv").read_bytes()
    for broken in (whole[:-12], whole[:40] + b"xxxx" + whole[44:], whole[:2] + b"\0" * 20):
        (folder / "d.csv").write_bytes(broken)
        with pytest.raises(ValueError, match=r"d\.csv.*Data Exports"):
            count_votes(tmp_path, oracle({"T1": "bar"}), QUESTIONS)


def test_a_person_is_not_another_after_a_spreadsheet(tmp_path):
    for account in ("2.7E+06", "2.7e6", "2731.5", "2,731", "-7", "#REF!", "user 7", "\u0662"):
        with pytest.raises(
            ValueError, match=rf"line 2: user_id is '{re.escape(account)}', which is no whole.*anew"
        ):
            bars(tmp_path, [row(1, "g", {"T1": "Yes"}, account=account)])
    for empty in ("", "nan", "NaN", "None", "null", "NULL", "<NA>", "#N/A", "0", "0"):
        rows = [row(n, "g", {"T1": "Yes"}, f"not-logged-in-{n}", empty) for n in range(3)]
        assert bars(tmp_path, rows)[0] == [3, 0]
        with pytest.raises(ValueError, match="line 2 says nobody who classified"):
            bars(tmp_path, [row(1, "g", {"T1": "Yes"}, empty.lower(), empty)])
    same = [
        row(n, "g", {"T1": "Yes"}, account=a) for n, a in enumerate(("2731", "2731.0", " 2731"))
    ]
    assert bars(tmp_path, same)[0] == [1, 0]


def test_what_was_classified_before_the_launch_is_left_out(tmp_path):
    def vote(number, about):
        return row(number, "g", {"T1": "Yes"}, account=str(number), metadata=about)

    before = ('{"live_project": false}', '{"live_project": "False"}')
    after = ('{"live_project": true}', "{}", "", '{"live_project": null, "seen_before": true}')
    rows = [vote(n, about) for n, about in enumerate((*before, *after), 1)]
    votes, messages = bars(tmp_path, rows)
    assert votes == [4, 0]
    assert "2 classifications were made before the project went live; left out" in messages
    again = [
        vote(1, before[0]) | {"user_id": "9"},
        vote(2, after[0]) | {"user_id": "9"},
    ]
    assert bars(tmp_path, again)[0] == [1, 0]  # whoever tried it out has a vote afterwards
    with pytest.raises(ValueError, match="line 2: metadata is no JSON"):
        bars(tmp_path, [vote(1, "{live}")])


FORMULAS = ["=HYPERLINK(0)", "+cmd", "-2+3", "@SUM(1)", "\t=1", "'=x", "'", "\uff1d1", " =1", "-x"]
FORMULAS += ["\r=1", "\n=1"]


def test_ids_that_are_formulas_are_shown_as_text_and_come_back(tmp_path):
    ids = [*FORMULAS, "-12.5", "+7", "-1e-3", "g-1", "a=b"]
    place = asked(tmp_path, *ids)
    cells = pd.read_csv(place / "manifest.csv", dtype=str, keep_default_na=False)["!galaxy"]
    assert cells.tolist() == [f"'{name}" for name in FORMULAS] + ids[len(FORMULAS) :]
    put(tmp_path, [row(n, cell.strip(), {"T1": "Yes"}) for n, cell in enumerate(cells)])
    votes = count_votes(tmp_path, oracle({"T1": "bar"}), QUESTIONS)
    assert votes.index.tolist() == ids
    assert votes["bar_yes"].tolist() == [1] * len(ids)


def test_ids_that_uploading_makes_one_are_refused(tmp_path):
    with pytest.raises(ValueError, match="ids 'g' and 'g ' are the same but for spaces"):
        asked(tmp_path, "g", "g ")
    assert not list(tmp_path.iterdir())
    asked(tmp_path, "g")
    asked(tmp_path, " g", number=1)
    with pytest.raises(ValueError, match="ids 'g' and ' g' are the same but for spaces"):
        count_votes(tmp_path, oracle(), QUESTIONS)


BROKEN = {
    "lacks annotations": lambda text: text.replace("annotations", "notes"),
    "line 3 has 13 fields, not 14": lambda text: text.rstrip().removesuffix(",4990081"),
    "line 3: unexpected end of data": lambda text: text[: text.rindex("4990081") - 15],
    "line 2: annotations is no JSON": lambda text: text.replace('"[{""task', '"[{task', 1),
    "line 3: subject_data holds no dict": lambda text: text.replace('"{""4990081""', '"[]"#', 2),
    "line 2: created_at is 'soon'": lambda text: text.replace("2026-05-01 00:01:00 UTC", "soon"),
    "line 2: classification_id is '1e0'": lambda text: text.replace("\n1,", "\n1e0,"),
    "line 2 says nobody who classified": lambda text: text.replace("amelia,11,", ",,", 1),
    "is not UTF-8": lambda text: text.replace("amelia", "am\udce9lie"),
    "export.csv is no classification export": lambda text: "",
}


@pytest.mark.parametrize("messages", BROKEN)
def test_a_broken_export_is_named(tmp_path, messages):
    asked(tmp_path, "g")
    put(tmp_path, [row(1, "g", {"T1": "Yes"}), row(2, "g", {"T1": "No"})])
    path = tmp_path / "classifications" / "export.csv"
    text = path.read_bytes().decode().replace("\r\n", "\n")
    broken = BROKEN[messages](text)
    if messages.endswith("holds no dict"):
        head, tail = text.rsplit('"{""4990081""', 1)
        broken = f"{head}[],4990081\n"
        assert tail
    assert broken != text
    path.write_bytes(broken.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=rf"export.csv.*{messages}|{messages}") as problem:
        count_votes(tmp_path, oracle({"T1": "bar"}), QUESTIONS)
    assert "Data Exports" in str(problem.value)


def test_what_a_spreadsheet_adds_is_no_matter(tmp_path):
    asked(tmp_path, "g")
    put(tmp_path, [row(1, "g", {"T1": "Yes"}, created_at="2026-05-01T00:00:00Z")])
    path = tmp_path / "classifications" / "export.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\r\n")
    (path.parent / "._export.csv").write_bytes(b"\x00\x05")
    long = [{"task": "T3", "value": [{"x": 1, "y": 2}] * 20000}]
    put(tmp_path, [row(2, "g", long, account="2")], "long.csv")
    assert count_votes(tmp_path, oracle({"T1": "bar"}), QUESTIONS).loc["g", "bar_yes"] == 1


class Zoo:
    """What Zooniverse keeps of an upload; it fails at the request of that number."""

    def __init__(self):
        self.sets, self.subjects, self.media, self.links = {}, {}, {}, []
        self.requests, self.fail, self.logins = 0, None, []
        self.lock = threading.Lock()

    def count(self):
        with self.lock:
            self.requests += 1
            if self.requests == self.fail:
                raise OSError("no more today")

    def add_set(self, raw):
        self.count()
        self.sets[str(len(self.sets) + 1)] = raw
        return str(len(self.sets))

    def add_subject(self, raw):
        self.count()
        self.subjects[str(len(self.subjects) + 51)] = raw
        return str(len(self.subjects) + 50)

    def put(self, number, body):
        self.count()
        self.media[number] = body

    def link(self, number, subjects):
        self.count()
        self.links += [(number, subject) for subject in subjects]


class Panoptes(BaseHTTPRequestHandler):
    """The part of Zooniverse's JSON API that its client uses for uploads."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format, *arguments):
        pass

    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "X-CSRF-Token": "token",
            "ETag": '"1"',
        }.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def handle_one(self):
        zoo, parts = self.server.zoo, urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        whole = "json" in self.headers.get("Content-Type", "")
        raw = json.loads(body) if whole and body and self.command != "GET" else {}
        match self.command, parts.path.strip("/").split("/"):
            case "GET", ["users", "sign_in"]:
                return {}
            case "POST", ["users", "sign_in"]:
                zoo.logins.append((raw["user"]["login"], raw["user"]["password"]))
                return {"users": [{"id": "9"}]}
            case "POST", ["oauth", "token"]:
                return {"access_token": "bearer", "refresh_token": "r", "expires_in": 7200}
            case "PUT", ["media", number]:
                zoo.put(number, body)
                return {}
        assert self.headers["Authorization"] == "Bearer bearer"
        match self.command, parts.path.strip("/").split("/"):
            case "POST", ["api", "subject_sets"]:
                number = zoo.add_set(raw["subject_sets"])
                return {"subject_sets": [raw["subject_sets"] | {"id": number}]}
            case "GET", ["api", "subject_sets", number]:
                return {"subject_sets": [{"id": number, "links": {"project": "7"}}]}
            case "POST", ["api", "subjects"]:
                number = zoo.add_subject(raw["subjects"])
                address = f"http://{self.headers['Host']}/media/{number}"
                (kind,) = raw["subjects"]["locations"]
                return {
                    "subjects": [raw["subjects"] | {"id": number, "locations": [{kind: address}]}]
                }
            case "GET", ["api", "set_member_subjects"]:
                there = (query["subject_set_id"], query["subject_id"]) in zoo.links
                return {"set_member_subjects": [{"id": "1", "links": {}}] * there}
            case "POST", ["api", "subject_sets", number, "links", "subjects"]:
                zoo.link(number, raw["subjects"])
                return {}
        raise AssertionError(f"the stand-in knows no {self.command} {self.path}")

    def do_GET(self):
        try:
            self.answer(self.handle_one())
        except OSError as problem:
            self.answer({"errors": [{"message": str(problem)}]}, 403)

    do_POST = do_PUT = do_GET


def pretend(zoo):
    """A module that has as much of Zooniverse's client as is used, and is as silent about images that are lost."""

    class Panoptes:
        def __init__(self, username, password):
            zoo.logins.append((username, password))
            self.session = types.SimpleNamespace(close=lambda: None)

        def __enter__(self):
            return self

        def __exit__(self, *problem):
            pass

    class Raw:
        def __init__(self):
            self.links, self.metadata, self.id = types.SimpleNamespace(), {}, None

    class SubjectSet(Raw):
        @classmethod
        def find(cls, number):
            found = cls()
            found.id = number
            return found

        def save(self):
            raw = {"display_name": self.display_name, "links": vars(self.links)}
            self.id = zoo.add_set(raw)

        def add(self, subjects):
            zoo.link(self.id, [one for one in subjects if (self.id, one) not in zoo.links])

    class Subject(Raw):
        def add_location(self, path):
            with open(path, "rb") as file:  # noqa: PTH123 as the client does
                self.body = file.read()

        def save(self):
            raw = {
                "locations": ["image/jpeg"],
                "metadata": self.metadata,
                "links": vars(self.links),
            }
            self.id = zoo.add_subject(raw)
            with suppress(OSError):  # of a thread that nobody asks
                self._upload_media(self.id, self.body, "image/jpeg")

        def _upload_media(self, address, body, kind):
            zoo.put(address, body)

    module = types.ModuleType("panoptes_client")
    module.panoptes = types.SimpleNamespace(PanoptesAPIException=RuntimeError)
    module.Panoptes, module.Subject, module.SubjectSet = Panoptes, Subject, SubjectSet
    return module


@pytest.fixture(params=["a stand-in for the client", "the client, a stand-in for the service"])
def zoo(request, monkeypatch):
    """What an upload reaches."""
    zoo = Zoo()
    monkeypatch.setenv("PANOPTES_USERNAME", "amelia")
    monkeypatch.setenv("PANOPTES_PASSWORD", "secret")
    if request.param.startswith("a "):
        monkeypatch.setitem(sys.modules, "panoptes_client", pretend(zoo))
        yield zoo
        return
    client = pytest.importorskip("panoptes_client", reason="trizoo[volunteers] is not installed")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Panoptes)
    server.zoo, server.daemon_threads, server.block_on_close = zoo, True, False
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("PANOPTES_ENDPOINT", address)
    for module in (client.panoptes, client.subject):
        for name in ("HTTP_RETRY_LIMIT", "UPLOAD_RETRY_LIMIT"):
            monkeypatch.setattr(module, name, 1, raising=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield zoo
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def complete(zoo, place, project=7):
    """Whether each galaxy of the ask in `place` is in the one subject set, with its image."""
    table = pd.read_csv(place / "manifest.csv", dtype=str)
    (number,) = {number for number, _ in zoo.links}
    assert zoo.sets[number]["links"]["project"] == project
    linked = [zoo.subjects[subject] for _, subject in zoo.links]
    assert [one["metadata"] for one in linked] == table.to_dict("records")
    assert all(one["links"]["project"] == project for one in linked)
    assert all(one["locations"] == ["image/jpeg"] for one in linked)
    assert [zoo.media[subject] for _, subject in zoo.links] == [
        (place / file).read_bytes() for file in table["image"]
    ]
    return number


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"project": "7"}', "\0" * 50])
def test_a_damaged_note_of_an_upload_is_refused(store, tmp_path, text):
    place = write_subject_set(store, [0], store.galaxies["id"].iloc[:1], tmp_path, 1)
    (place / subject_sets.UPLOADED).write_text(text)
    with pytest.raises(ValueError, match=r"uploaded\.json .*; delete it to upload"):
        upload(place, 7)


def test_an_upload_holds_all_and_is_not_done_twice(store, tmp_path, zoo):
    place = write_subject_set(store, [0, 1, 2], store.galaxies["id"].iloc[:3], tmp_path, 4)
    assert upload(place, 7) == complete(zoo, place)
    assert set(zoo.logins) == {("amelia", "secret")}
    assert zoo.sets["1"]["display_name"] == f"{tmp_path.name} ask-04"
    done = zoo.requests
    assert done == 1 + 2 * 3 + 1
    assert upload(place, 7) == "1"
    assert zoo.requests == done
    with pytest.raises(ValueError, match="was uploaded to project 7, not 8"):
        upload(place, 8)


@pytest.mark.parametrize("fail", range(1, 7))
def test_an_upload_that_stopped_goes_on(store, tmp_path, zoo, fail):
    """Of two galaxies: the set, each galaxy and its image, the link."""
    place = write_subject_set(store, [0, 1], store.galaxies["id"].iloc[:2], tmp_path, 0)
    zoo.fail = fail
    arrived = max(0, (fail - 2) // 2)
    with pytest.raises(ValueError, match=f"stopped after {arrived} of 2 galaxies: .*goes on"):
        upload(place, 7)
    note = place / "uploaded.json"
    assert len(json.loads(note.read_text())["subjects"] if note.exists() else ()) == arrived
    assert upload(place, 7) == complete(zoo, place)
    assert len(zoo.sets) == 1
    assert len(zoo.subjects) == 2 + (fail in (3, 5))  # one without an image, in no set


def test_an_upload_needs_the_client_and_an_account(tmp_path, monkeypatch):
    place = asked(tmp_path, "g")
    monkeypatch.setitem(sys.modules, "panoptes_client", None)
    with pytest.raises(ValueError, match=r"pip install 'trizoo\[volunteers\]'"):
        upload(place, 7)
    monkeypatch.setitem(sys.modules, "panoptes_client", pretend(Zoo()))
    monkeypatch.delenv("PANOPTES_USERNAME", raising=False)
    with pytest.raises(ValueError, match="PANOPTES_USERNAME and PANOPTES_PASSWORD"):
        upload(place, 7)
    assert not (place / subject_sets.UPLOADED).exists()
