"""`trizoo votes`: what people said of galaxies, in a run that asked or in any Zooniverse export, as a vote table."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from shared.data.classes import quoted
from shared.output.oracle import VOTES
from shared.output.volunteers import count_exports, count_votes
from shared.run.progress import say
from shared.run.records import read_run
from shared.run.spec import OracleSpec, RunSpec, completed, from_config, to_config
from shared.run.spreadsheet import write_csv

USUAL = "smooth-or-featured"  # the question of dataset=folder
Counted = tuple[pd.DataFrame, dict[str, tuple[str, ...]]]  # votes by galaxy, and the questions


def votes(run: RunSpec, folder: Path) -> dict:
    """Write votes.csv: id, position where it is known, votes for each answer, each question's total.

    Of everything that was said so far, which a run that waits or goes on may not have learned from yet. Raises
    ValueError unless either a run or exports are named.
    """
    if (run.run is None) == (not run.oracle.exports):
        raise ValueError(
            "name what holds the votes: run=FOLDER, of an active run that asks people, or oracle.exports=[EXPORT,...], "
            "classification exports of any Zooniverse project"
        )
    if run.run is None:
        paths = [Path(name) for name in run.oracle.exports]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(
                    f"there is no {path}; oracle.exports names the exports' files"
                )
        table, questions = count_exports(paths, run.oracle)
    else:
        table, questions = counted_of(Path(run.run), run.oracle)
    for line in table.attrs["messages"]:
        say(line)
    totals = [f"{question}_total" for question in questions]
    table = table[table[totals].to_numpy().any(1)]
    if table.empty:
        raise ValueError(
            "nobody has answered a question yet; put in an export with classifications"
        )
    write_csv(folder / VOTES, table.reset_index())
    command = shlex.join(fit_words(folder / VOTES, questions))
    results = {
        "galaxies": len(table),
        "votes": {name: int(table[f"{name}_total"].sum()) for name in questions},
        "questions": {name: list(some) for name, some in questions.items()},
        "messages": table.attrs["messages"],
        "summary": f"{len(table)} galaxies, {int(table[totals].to_numpy().sum())} votes; to learn from them: "
        f"trizoo fit dataset=folder dataset.images=... {command}",
    }
    return {"where": {}, "results": results}


def fit_words(table: Path, questions: dict[str, tuple[str, ...]]) -> list[str]:
    """The words of a command that learns the first of `questions` from the votes in `table`."""
    words = [f"dataset.table={table}"]
    if USUAL not in questions:
        words.append(f"~dataset.questions.{USUAL}")
    for name, answers in questions.items():
        plus = "" if name == USUAL else "+"
        words.append(f"{plus}dataset.questions.{name}=[{','.join(map(quoted, answers))}]")
    question, (answer, *_) = next(iter(questions.items()))
    return [*words, f"question={question}", f"positive=[{quoted(answer)}]"]


def counted_of(folder: Path, oracle: OracleSpec) -> Counted:
    """What was said of the galaxies that the run in `folder` asked about; where `oracle` is silent, read as there."""
    held = read_run(folder)
    questions = {name: tuple(some) for name, some in held["dataset"]["questions"].items()}
    task, asked = held["task"]["name"], held.get("oracle", {}).get("name")
    source = READERS.get(task) or (READERS.get(asked) if task == "active" else None)
    if source is None:
        beside = f"; what it learned from is in {folder / 'votes.parquet'}" * (task == "active")
        raise ValueError(
            f"run is {folder}, a run of {task} that asks nobody{beside}; name one of active with "
            f"oracle={' or oracle='.join(READERS)}"
        )
    usual = to_config(OracleSpec("volunteers", None, {}, {}, None, None))
    named = {key: value for key, value in to_config(oracle).items() if value != usual[key]}
    own = completed(OracleSpec, held["oracle"], usual) | named
    own = replace(from_config(OracleSpec, own), exports=(), questions={})
    return source(folder, own, questions), questions


# Who asks people, by the name of a task or an oracle: gives the votes of the galaxies that a run's folder asked about,
# indexed by id, with lines about them in attrs["messages"], as `count_votes` does.
READERS: dict[str, Callable[[Path, OracleSpec, dict], pd.DataFrame]] = {"volunteers": count_votes}
