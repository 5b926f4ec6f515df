"""Volunteers on Zooniverse: what they are shown, and what they said.

An ask is a folder ask-NN of a run: images, and manifest.csv, a row for each with the galaxy's id. Zooniverse's page for
uploads takes them as they are (help.zooniverse.org, Getting started, Example project), as does its command panoptes;
`upload` does it from here. A column that begins with "!" is hidden while volunteers classify and shown where they talk
about the galaxy afterwards; it comes back with every classification.

What they said comes back as classification exports (help.zooniverse.org, Data exports), any number of CSV files, or
gzipped ones, in the run's folder classifications, which may overlap. `heard` counts them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from shared.output.exports import Classification, find_exports, read_classifications
from shared.output.subject_sets import asked_galaxies
from shared.output.wordings import folded, known_words, match_answers, match_tasks
from shared.run.spec import OracleSpec

EXPORTS = "classifications"


def count_votes(
    folder: Path, oracle: OracleSpec, questions: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """What volunteers said of every galaxy that the run in `folder` asked about: votes, int64 (galaxy, column), for
    each answer of each of `questions`, and each question's total, indexed by the galaxy's id.

    A classification counts once, in however many exports it is; a person counts once for a galaxy and question, with
    the answer given first. Whoever passed a task over has no vote on it. What was classified before the project went
    live does not count. `oracle` says which workflow counts, which task asks which question, and what answers are
    called there. The table's attrs["messages"] is a list of lines: what was left out, and how tasks were understood.
    Raises ValueError, naming the file and line, for what cannot be read or understood, and where several workflows, or
    several wordings of a task, could be meant.
    """
    _check_oracle(oracle, questions)
    galaxies, notes, voted = asked_galaxies(folder), Counter(), set()
    exports, unread = find_exports(folder / EXPORTS)
    classifications = sorted(
        read_classifications(exports, galaxies, notes), key=lambda one: (one.when, one.number)
    )
    classifications = _of_one_workflow(classifications, oracle, notes)
    known = known_words(oracle, questions)
    tasks, messages = match_tasks(classifications, oracle, questions, known)
    axis = [
        f"{question}_{answer}"
        for question in questions
        for answer in (*questions[question], "total")
    ]
    rows = {name: row for row, name in enumerate(galaxies.values())}
    places = {name: place for place, name in enumerate(axis)}
    votes = np.zeros((len(galaxies), len(axis)), np.int64)
    for one, question, answer in match_answers(classifications, tasks, known, notes):
        vote = (one.person, one.galaxy, question)
        if vote in voted:
            notes["{} answers by someone who had answered before; the first one counts"] += 1
            continue
        voted.add(vote)
        for column in (answer, "total"):
            votes[rows[one.galaxy], places[f"{question}_{column}"]] += 1
    table = pd.DataFrame(votes, pd.Index(list(rows), dtype=str, name="id"), axis)
    table.attrs["messages"] = (
        unread + [line.format(count) for line, count in notes.items()] + messages
    )
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


def _of_one_workflow(
    classifications: list[Classification], oracle: OracleSpec, notes: Counter
) -> list[Classification]:
    """Those of `said` that are of oracle.workflow, or all, which must be of one workflow; `notes` counts the others."""
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
