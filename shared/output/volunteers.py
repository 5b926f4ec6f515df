"""Volunteers on Zooniverse: what they are shown, and what they said.

An ask is a folder ask-NN of a run: images, and manifest.csv, a row for each with the galaxy's id. Zooniverse's page for
uploads takes them as they are (help.zooniverse.org, Getting started, Example project), as does its command panoptes;
`upload` does it from here. A column that begins with "!" is hidden while volunteers classify and shown where they talk
about the galaxy afterwards; it comes back with every classification.

What they said comes back as classification exports (help.zooniverse.org, Data exports), any number of CSV files, or
gzipped ones, in the run's folder classifications, which may overlap: `count_votes` counts them. `count_exports` counts
those of any project, about whatever somebody else uploaded.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from shared.data.ids import check_digits
from shared.output.agreement import outliers
from shared.output.exports import Classification, find_exports, read_classifications
from shared.output.subject_sets import GALAXY, asked_galaxies, asked_places
from shared.output.wordings import (
    folded,
    known_words,
    major,
    match_answers,
    match_tasks,
    worded_questions,
)
from shared.run.spec import OracleSpec
from shared.run.spreadsheet import from_cell

EXPORTS = "classifications"
FIELDS = 12  # of metadata, named in a message


def count_votes(
    folder: Path, oracle: OracleSpec, questions: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """What volunteers said of every galaxy that the run in `folder` asked about: see `count`.

    The table begins with ra and dec, in degrees, where any are known.
    """
    galaxies = asked_galaxies(folder)

    def galaxy_of(subject: dict) -> str | None:
        return galaxies.get(str(subject.get(GALAXY, "")).strip())

    exports, unread = find_exports(folder / EXPORTS)
    _check_oracle(oracle, questions)
    notes = Counter()
    found = read_classifications(exports, galaxy_of, "nothing that was asked about", notes)
    table = count(_counted(found, oracle, notes), list(galaxies.values()), oracle, questions, notes)
    table.attrs["messages"] = unread + table.attrs["messages"]
    return _located(table, asked_places(folder))


def count_exports(paths: Sequence[Path], oracle: OracleSpec) -> tuple[pd.DataFrame, dict]:
    """What volunteers said of every galaxy in the exports at `paths`, whoever uploaded it, and the questions: see
    `count`.

    The metadata of a subject names its galaxy, in the field oracle.galaxy, and has its "ra" and "dec" where these are
    known; the table then begins with them. The questions are oracle.questions or, where these are none, the tasks.
    """
    subjects, notes = Subjects(oracle.galaxy or GALAXY), Counter()
    others = f"subjects without a field {subjects.field}"
    found = read_classifications(paths, subjects, others, notes)
    if not found and subjects.fields and subjects.field not in subjects.fields:
        raise ValueError(
            f"no subject has a field {subjects.field}, so that its galaxy is not known; name the one that does with "
            f"oracle.galaxy, of {', '.join(sorted(subjects.fields)[:FIELDS])}"
        )
    found = _counted(found, oracle, notes)
    questions = oracle.questions or worded_questions(found)
    if not questions:
        raise ValueError(
            f"no task of the {len(found)} classifications that count was answered in two ways or more; name the "
            "questions with all their answers, such as '+oracle.questions={bar: [yes,no]}'"
        )
    _check_oracle(oracle, questions)
    galaxies = list(dict.fromkeys(one.galaxy for one in found))
    check_digits("the exports' subjects", pa.chunked_array([pa.array(galaxies, pa.string())]))
    table = count(found, galaxies, oracle, questions, notes)
    return _located(table, subjects.places), questions


def _located(table: pd.DataFrame, places: Mapping[str, tuple[float, float]]) -> pd.DataFrame:
    """`table`, by id, after columns ra and dec, if the `places` of any of its galaxies are known."""
    if not any(name in places for name in table.index):
        return table
    at = np.array([places.get(name, (np.nan, np.nan)) for name in table.index])
    table.insert(0, "dec", at[:, 1])
    table.insert(0, "ra", at[:, 0])
    return table


class Subjects:
    """Which galaxy a subject is, by the `field` of its metadata; keeps where galaxies are."""

    def __init__(self, field: str):
        self.field, self.fields = field, set()
        self.places: dict[str, tuple[float, float]] = {}

    def __call__(self, subject: dict) -> str | None:
        self.fields |= subject.keys() - {"retired"}
        galaxy = str(subject.get(self.field) or "").strip()
        galaxy = from_cell(galaxy) if self.field == GALAXY else galaxy
        if not galaxy:
            return None
        fields = {name.strip("!#/ ").casefold(): value for name, value in subject.items()}
        try:
            place = float(fields["ra"]), float(fields["dec"])
        except (KeyError, TypeError, ValueError):
            return galaxy
        if 0 <= place[0] <= 360 and -90 <= place[1] <= 90:
            self.places.setdefault(galaxy, place)
        return galaxy


def count(
    classifications: list[Classification],
    galaxies: Sequence[str],
    oracle: OracleSpec,
    questions: Mapping[str, Sequence[str]],
    notes: Counter,
) -> pd.DataFrame:
    """Votes, int64 (galaxy, column), for each answer of each of `questions`, and each question's total, indexed by id.

    A classification counts once, in however many exports it is; a person counts once for a galaxy and question, with
    the answer given first. Whoever passed a task over has no vote on it. What was classified before the project went
    live does not count. `oracle` says which workflow and version count, which task asks which question, what answers
    are called there, and whether those count who seldom agree with others. The table's attrs["messages"] is a list of
    lines: what was left out, as `notes` count it, and how tasks were understood.
    Raises ValueError, naming the file and line, for what cannot be read or understood, and where several workflows, or
    several wordings of a task, could be meant.
    """
    known = known_words(oracle, questions)
    tasks, messages = match_tasks(classifications, oracle, questions, known)
    rows, voted = [], set()
    for one, question, answer in match_answers(classifications, tasks, known, notes):
        vote = (one.person, one.galaxy, question)
        if vote in voted:
            notes["{} answers by someone who had answered before; the first one counts"] += 1
            continue
        voted.add(vote)
        rows.append((*vote, answer))
    votes = pd.DataFrame(rows, columns=["person", "galaxy", "question", "answer"], dtype=object)
    if oracle.weighting == "agreement":
        few = votes["person"].isin(outliers(votes, questions))
        people = votes["person"][few].nunique()
        notes[f"{{}} answers by {people} people who seldom agree with others; left out"] += (
            few.sum()
        )
        votes = votes[~few]
    axis = [
        f"{question}_{answer}"
        for question in questions
        for answer in (*questions[question], "total")
    ]
    places = {name: place for place, name in enumerate(axis)}
    row_of = {name: row for row, name in enumerate(galaxies)}
    counts = np.zeros((len(galaxies), len(axis)), np.int64)
    at = votes["galaxy"].map(row_of).to_numpy(np.int64)
    for answers in (votes["answer"], "total"):
        columns = (votes["question"] + "_" + answers).map(places).to_numpy(np.int64)
        np.add.at(counts, (at, columns), 1)
    table = pd.DataFrame(counts, pd.Index(list(galaxies), dtype=str, name="id"), axis)
    table.attrs["messages"] = [line.format(number) for line, number in notes.items()] + messages
    return table


def _check_oracle(oracle: OracleSpec, questions: Mapping[str, Sequence[str]]) -> None:
    for task, question in oracle.tasks.items():
        if question not in questions:
            raise ValueError(
                f"oracle.tasks.{task} is {question!r}, which is no question; choose one of {', '.join(questions)}"
            )
    ours = sorted({answer for some in questions.values() for answer in some})
    for text, answer in oracle.answers.items():
        if answer and answer not in ours:
            raise ValueError(
                f"oracle.answers makes {answer!r} of {text!r}, which answers no question; choose one of "
                f"{', '.join(ours)}, or '' for no vote"
            )


def _counted(
    classifications: list[Classification], oracle: OracleSpec, notes: Counter
) -> list[Classification]:
    """Those of the workflow and of the version that count; `notes` counts the others."""
    found = _of_one_workflow(classifications, oracle, notes)
    if oracle.version is None or not found:
        return found
    kept = [one for one in found if oracle.version in (one.version, major(one.version))]
    if not kept:
        there = Counter(one.version for one in found)
        raise ValueError(
            f"oracle.version is {oracle.version!r}, of which nothing was classified; there are "
            + ", ".join(f"{version} ({number})" for version, number in there.most_common())
            + " (classifications); give one of these, or the number before the dot"
        )
    if left := len(found) - len(kept):
        notes["{} classifications are of other versions of the workflow; left out"] = left
    return kept


def _of_one_workflow(
    classifications: list[Classification], oracle: OracleSpec, notes: Counter
) -> list[Classification]:
    """Those of oracle.workflow, or all, which must be of one workflow; `notes` counts the others."""
    counts = Counter(one.workflow[0] for one in classifications)
    names = {one.workflow[0]: one.workflow[1] for one in classifications}
    there = ", ".join(
        f"{number} ({names[number]}, {count} classifications)" for number, count in counts.items()
    )
    if oracle.workflow is None:
        if len(counts) > 1:
            raise ValueError(
                f"what was classified is of several workflows, whose tasks may ask different things: {there}; say "
                f"which is meant, such as oracle.workflow={next(iter(counts))}"
            )
        return classifications
    called = {
        one.workflow[0]
        for one in classifications
        if folded(one.workflow[1]) == folded(oracle.workflow)
    }
    wanted = {oracle.workflow} if oracle.workflow in counts else called
    if classifications and len(wanted) != 1:
        raise ValueError(
            f"oracle.workflow is {oracle.workflow!r}, which names {'several' if wanted else 'none'} of the workflows "
            f"that were classified: {there}; give the number of one"
        )
    kept = [one for one in classifications if one.workflow[0] in wanted]
    if left := len(classifications) - len(kept):
        notes["{} classifications are of other workflows; left out"] = left
    return kept
