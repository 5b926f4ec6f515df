"""Labels that people give galaxies in the browser: the file that keeps them, and the votes that they come to.

labels.jsonl has a line for each thing that happened, in order, and is only ever appended to:

    shown     a galaxy was handed to a person ("who"); "chosen" says how (random, first or the acquisition's name), and
              "expected" what the network expected of each answer before anybody's vote, or null
    vote      an answer to a question about a galaxy
    skip      the person passes the rest of a galaxy over; answers before it count
    artifact  it is no galaxy, where no question of the run has that answer
    undo      the event whose key is "of" never was

All but "shown" have a "key" that the browser made, so that a request that is repeated counts once, and are on the disk
before they are acknowledged. A process that is killed leaves at most one line torn, the last; it was never acknowledged
and is dropped.
"""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from shared.run.progress import say
from shared.run.questions import Leads, Questions
from shared.run.records import make_folder
from shared.run.spec import RunSpec

LABELS = "labels.jsonl"
ARTIFACT = "artifact"  # what an answer is called that says so
KINDS = ("vote", "skip", "artifact", "undo")


class Schema(NamedTuple):
    """The questions that are asked, in their order."""

    questions: Questions
    leads: Leads

    @property
    def artifact(self) -> str | None:
        """The question that has the answer `artifact`, if one has."""
        return next((name for name, some in self.questions.items() if ARTIFACT in some), None)

    def walk(self, given: Mapping[str, str]) -> tuple[dict[str, str], str | None]:
        """Those of the answers `given` (question -> answer) that count, and the next question; None: there is none.

        An answer counts if its question is asked after those before it.
        """
        counted: dict[str, str] = {}
        while True:
            open_ones = (name for name in self.questions if name not in counted)
            asked = next((name for name in open_ones if self._asked(name, counted)), None)
            if asked is None or asked not in given:
                return counted, asked
            counted[asked] = given[asked]

    def _asked(self, question: str, counted: Mapping[str, str]) -> bool:
        froms = self.leads.get(question)
        return froms is None or any(counted.get(name) in some for name, some in froms.items())


def schema_of(run: RunSpec) -> Schema:
    """What people are asked: the questions that the run learns, with all their answers.

    Where what leads to a question is not learned with it, it is asked of everybody.
    """
    names = [question for question, _ in run.asked]
    leads = run.dataset.leads if run.questions is not None else {}
    return Schema(
        {name: run.dataset.questions[name] for name in names},
        {name: leads[name] for name in names if name in leads and set(leads[name]) <= set(names)},
    )


class Labelling(NamedTuple):
    """What a person has said of a galaxy, by the events that were not undone."""

    answers: dict[str, str]  # that count
    question: str | None  # the next one
    ended: str | None  # skip | artifact: how it ended without all answers

    @property
    def done(self) -> bool:
        """Whether nothing more is asked."""
        return self.ended is not None or self.question is None

    @property
    def counts(self) -> bool:
        """Whether it is a label: done, and not passed over at the first question."""
        return self.done and (self.ended == ARTIFACT or bool(self.answers))


class Labels:
    """The file at `path`, open for more, about galaxies with `ids` (row,). One process at a time may have it open.

    Raises ValueError, naming the line, for a file that is damaged before its last line or is of other galaxies or
    questions.
    """

    def __init__(self, path: Path, ids: Sequence[str], schema: Schema):
        self.path, self.ids, self.schema = path, list(ids), schema
        self.rows = {name: row for row, name in enumerate(self.ids)}
        self.keys: dict[str, dict] = {}  # every event that has a key
        self.standing: dict[
            tuple[str, int], dict[str, dict]
        ] = {}  # (who, row) -> key -> event, not undone
        self.shown: dict[tuple[str, int], dict] = {}  # (who, row) -> the first time
        make_folder(path.parent)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def add(self, event: dict) -> bool:
        """Write an `event` and count it, unless one with its key is there already; whether it was new.

        Raises OSError if it cannot be written: then nothing of it is there.
        """
        if event.get("key") in self.keys:
            return False
        event = {**event, "when": datetime.now(UTC).isoformat(timespec="milliseconds")}
        end = os.lseek(self._file, 0, os.SEEK_END)
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            while line:  # a disk that is nearly full takes a part, then fails
                line = line[os.write(self._file, line) :]
            if event["event"] != "shown":
                os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, end)
            raise
        self._count(event)
        return True

    def of(self, who: str, row: int) -> Labelling:
        """What `who` has said of the galaxy in `row`."""
        return self._labelling(list(self.standing.get((who, row), {}).values()))

    def history(self, who: str, most: int) -> list[dict]:
        """The last events of `who` that may be undone: "key", "row" and the "answers" before each."""
        found = []
        for event in [one for one in self.keys.values() if one["who"] == who]:
            row = self.rows[event["galaxy"]]
            events = self.standing.get((who, row), {})
            if event["key"] in events:
                before = list(events).index(event["key"])
                answers = self._labelling(list(events.values())[:before]).answers
                found.append({"key": event["key"], "row": row, "answers": answers})
        return found[-most:]

    def check(self, event: dict) -> None:
        """Raise ValueError unless `event` is one that may be added."""
        kind, question = event.get("event"), event.get("question")
        if kind == "shown":
            known = event.get("galaxy") in self.rows
        elif kind == "undo":
            undone = self.keys.get(event.get("of"), {})
            of_same = all(undone.get(name) == event.get(name) for name in ("who", "galaxy"))
            known = of_same and undone.get("event") not in (None, "undo")
        else:
            known = kind in KINDS and event.get("galaxy") in self.rows
        if known and kind == "vote":
            known = event.get("answer") in self.schema.questions.get(question, ())
        if not known:
            said = {name: event.get(name) for name in ("event", "galaxy", "question", "answer")}
            raise ValueError(
                f"{said} is about no galaxy, question, answer or earlier event of this run"
            )

    def _labelling(self, events: list[dict]) -> Labelling:
        given = {one["question"]: one["answer"] for one in events if one["event"] == "vote"}
        answers, question = self.schema.walk(given)
        ended = next((one["event"] for one in reversed(events) if one["event"] != "vote"), None)
        return Labelling(answers, question, ended)

    def _count(self, event: dict) -> None:
        place = (event["who"], self.rows[event["galaxy"]])
        if event["event"] == "shown":
            self.shown.setdefault(place, event)
            return
        self.keys[event["key"]] = event
        if event["event"] == "undo":
            self.standing.get(place, {}).pop(event["of"], None)
        else:
            self.standing.setdefault(place, {})[event["key"]] = event

    def _read(self) -> None:
        with self.path.open("rb") as file:
            *lines, torn = file.read().split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                event = json.loads(line)
                self.check(event)
                if event["event"] == "shown" or event["key"] not in self.keys:
                    self._count(event)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ValueError(
                    f"line {number} of {self.path} is not one that this run wrote ({error}); give the run a folder of "
                    "its own, or put back the file as it was"
                ) from error
        if torn:
            say(
                f"{self.path}: the last line was not written to its end ({len(torn)} bytes) and never acknowledged; "
                "dropped"
            )
            os.ftruncate(self._file, os.fstat(self._file).st_size - len(torn))
            os.fsync(self._file)


def labels_to_votes(labels: Labels, questions: Questions) -> pd.DataFrame:
    """The votes int64 (galaxy, column) for each answer of each of `questions`, and each question's total, by galaxies'
    ids: one vote for each person, galaxy and question, the last that was not undone.

    Galaxies without votes have no row, nor has one that anybody called an artifact where that is no answer.
    """
    axis = [f"{name}_{one}" for name, some in questions.items() for one in (*some, "total")]
    places = {name: place for place, name in enumerate(axis)}
    counts: dict[int, np.ndarray] = {}
    out = set()
    for who, row in labels.standing:
        given = labels.of(who, row)
        if given.ended == ARTIFACT:
            out.add(row)
        for question, answer in given.answers.items():
            own = counts.setdefault(row, np.zeros(len(axis), np.int64))
            own[[places[f"{question}_{answer}"], places[f"{question}_total"]]] += 1
    rows = sorted(counts.keys() - out)
    ids = pd.Index([labels.ids[row] for row in rows], dtype=str, name="id")
    return pd.DataFrame(np.array([counts[row] for row in rows]).reshape(-1, len(axis)), ids, axis)
