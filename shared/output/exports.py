"""Zooniverse's classification exports: each line read, checked, and kept once."""

import csv
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

COLUMNS = (  # of an export, those that are read
    "classification_id",
    "user_name",
    "user_id",
    "workflow_id",
    "workflow_name",
    "workflow_version",
    "created_at",
    "gold_standard",
    "metadata",
    "annotations",
    "subject_data",
)
KINDS = (".csv", ".csv.gz")  # of exports, in any case
LONGEST = 1 << 26  # characters in one field or line of an export: drawings are long
NOBODY = {"", "0", "nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nat"}  # tables' empty ids
NAMED = 5  # things named in a message
ANEW = "export the classifications anew (the project's Data Exports) and put that file in its place"
GalaxyOf = Callable[[dict], str | None]  # of a subject's metadata; None: no galaxy that counts
Pair = tuple[str, str]  # a task of the workflow, T0, and its label: the words of the question


class Classification(NamedTuple):
    """One classification: one person, one galaxy, the tasks that were answered."""

    number: int  # Zooniverse's
    when: datetime
    person: str
    galaxy: str
    workflow: tuple[str, str]  # its number and its name
    version: str  # of the workflow
    answers: list[tuple[Pair, tuple[str, ...] | None]]  # None: no words but a drawing or the like
    where: str


def find_exports(folder: Path) -> tuple[list[Path], list[str]]:
    """The exports in `folder`, and a line about what else is there; hidden files are ignored."""
    paths = sorted(folder.glob("[!.]*"))
    exports = [path for path in paths if path.name.lower().endswith(KINDS) and path.is_file()]
    other = [path.name for path in paths if path not in exports]
    if not other:
        return exports, []
    more = f" and {len(other) - NAMED} more" if len(other) > NAMED else ""
    names = ", ".join(other[:NAMED]) + more
    return exports, [f"in {folder} only files {' and '.join(KINDS)} are read, so not {names}"]


def read_classifications(
    exports: Sequence[Path], galaxy_of: GalaxyOf, others: str, notes: Counter
) -> list[Classification]:
    """Every classification in the `exports` of what `galaxy_of` names, each once, in the order in which they were made.

    `notes` counts what is left out; `others` is what it says of subjects that are no galaxy.
    """
    found, persons, same = [], {}, {}
    for path in exports:
        for where, row in _rows(path):
            number, person = _number(row, where), _person(row, where)
            if number in persons:
                notes["{} classifications were there twice; each counts once"] += 1
                _one_person(same, persons[number], person)
                continue
            persons[number] = person
            subject = _subject(row, where)
            galaxy = None if subject is None else galaxy_of(subject)
            if _is(row["gold_standard"], "true", "t", "1"):
                notes["{} classifications set a gold standard; left out"] += 1
            elif galaxy is None:
                notes[f"{{}} classifications are of {others}; left out"] += 1
            elif not _live(row, where):
                notes["{} classifications were made before the project went live; left out"] += 1
            else:
                answers = list(_flat(_json(row, "annotations", list, where), where))
                workflow, version = _workflow(row), row["workflow_version"].strip()
                when = _when(row, where)
                found.append(
                    Classification(number, when, person, galaxy, workflow, version, answers, where)
                )
    found = [one._replace(person=_who(same, one.person)) for one in found]
    return sorted(found, key=lambda one: (one.when, one.number))


def _is(value: Any, *words: str) -> bool:
    return str(value).strip().lower() in words


def _live(row: dict[str, str], where: str) -> bool:
    """Whether the project was live, as far as it is known: the oldest classifications do not say."""
    about = _json(row, "metadata", dict, where) if row["metadata"].strip() else {}
    return not _is(about.get("live_project"), "false", "f", "0")


def _workflow(row: dict[str, str]) -> tuple[str, str]:
    return row["workflow_id"].strip().removesuffix(".0"), " ".join(row["workflow_name"].split())


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row of an export, and where it is."""
    csv.field_size_limit(LONGEST)
    try:
        with _opened(path) as file:
            lines = csv.reader(_lines(file, path), strict=True)
            names = next(lines, [])
            if missing := [name for name in COLUMNS if name not in names]:
                raise ValueError(
                    f"{path} is no classification export: it lacks {', '.join(missing)}; {ANEW}, or take it away"
                )
            for fields in lines:
                where = f"{path}, line {lines.line_num}"
                if fields and len(fields) != len(names):
                    raise ValueError(f"{where} has {len(fields)} fields, not {len(names)}; {ANEW}")
                if fields:
                    yield where, dict(zip(names, fields, strict=True))
    except csv.Error as problem:
        raise ValueError(f"{path}, line {lines.line_num}: {problem}; {ANEW}") from problem
    except UnicodeDecodeError as problem:
        raise ValueError(f"{path} is not UTF-8 ({problem}); {ANEW}") from problem
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise ValueError(f"{path} is damaged or cut short ({problem}); {ANEW}") from problem


def _opened(path: Path) -> TextIO:
    """The text of an export, gzipped or not, whatever it is called."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return (gzip.open if zipped else open)(path, "rt", encoding="utf-8-sig", newline="")


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    while line := file.readline(LONGEST):
        if len(line) == LONGEST:
            raise ValueError(f"{path} has a line of {LONGEST} characters or more; {ANEW}")
        yield line


def _number(row: dict[str, str], where: str) -> int:
    try:
        return int(row["classification_id"])
    except ValueError as problem:
        raise ValueError(
            f"{where}: classification_id is {row['classification_id']!r}, which is no number; {ANEW}"
        ) from problem


def _person(row: dict[str, str], where: str) -> str:
    """Who it was: the account's number or, of those who are not logged in, the name that this export gives them."""
    account, name = row["user_id"].strip(), row["user_name"].strip()
    if account.lower() not in NOBODY:
        if not re.fullmatch(r"[0-9]+(\.0*)?", account):
            raise ValueError(
                f"{where}: user_id is {account!r}, which is no whole number: another program has changed the file, "
                f"and several people may have become one; {ANEW}"
            )
        return f"user {int(account.split('.')[0])}"
    if name.lower() in NOBODY:
        raise ValueError(
            f"{where} says nobody who classified, so that nobody can be counted once; {ANEW}"
        )
    return f"name {name}"


def _one_person(same: dict[str, str], first: str, second: str) -> None:
    """Note that two names are one person's: each export names those who are not logged in anew, at random."""
    first, second = _who(same, first), _who(same, second)
    if first != second:
        same[second] = first


def _who(same: dict[str, str], person: str) -> str:
    while person in same:
        person = same[person]
    return person


def _when(row: dict[str, str], where: str) -> datetime:
    try:
        when = datetime.fromisoformat(row["created_at"].strip().replace(" UTC", "+00:00"))
    except ValueError as problem:
        raise ValueError(
            f"{where}: created_at is {row['created_at']!r}, which is no time; {ANEW}"
        ) from problem
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _subject(row: dict[str, str], where: str) -> dict | None:
    """The metadata of the one subject that was shown; None of several."""
    subjects = [
        about
        for about in _json(row, "subject_data", dict, where).values()
        if isinstance(about, dict)
    ]
    return subjects[0] if len(subjects) == 1 else None


def _json(row: dict[str, str], name: str, kind: type, where: str) -> Any:
    try:
        found = json.loads(row[name])
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"{where}: {name} is no JSON ({problem}); {ANEW}") from problem
    if not isinstance(found, kind):
        raise ValueError(f"{where}: {name} holds no {kind.__name__}, but {row[name][:40]}; {ANEW}")
    return found


def _flat(annotations: list, where: str) -> Iterator[tuple[Pair, tuple[str, ...] | None]]:
    """Each task and its answers; a combo task holds others."""
    for one in annotations:
        if not isinstance(one, dict):
            raise ValueError(f"{where}: annotations holds {str(one)[:40]!r}; {ANEW}")
        value = one.get("value")
        several = value if isinstance(value, list) else [value]
        if inner := [some for some in several if isinstance(some, dict) and "task" in some]:
            yield from _flat(inner, where)
            continue
        texts = tuple(some for some in several if some not in (None, ""))
        worded = all(isinstance(some, str) for some in texts)
        pair = (str(one.get("task", "")), str(one.get("task_label") or ""))
        yield pair, texts if worded else None
