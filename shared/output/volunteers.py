"""Volunteers on Zooniverse: what they are shown, and what they said.

An ask is a folder ask-NN of a run: images, and manifest.csv, a row for each with the galaxy's id. Zooniverse's page for
uploads takes them as they are (help.zooniverse.org, Getting started, Example project), as does its command panoptes;
`upload` does it from here. A column that begins with "!" is hidden while volunteers classify and shown where they talk
about the galaxy afterwards; it comes back with every classification.

What they said comes back as classification exports (help.zooniverse.org, Data exports), any number of CSV files, or
gzipped ones, in the run's folder classifications, which may overlap. `heard` counts them.
"""

import csv
import gzip
import json
import os
import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import pandas as pd
from PIL import Image

from shared.data.store import Store
from shared.run.progress import track
from shared.run.records import read_json, write_folder, write_json
from shared.run.spec import OracleSpec
from shared.run.spreadsheet import as_csv, from_cell, to_cell

MANIFEST, UPLOADED, EXPORTS = "manifest.csv", "uploaded.json", "classifications"
NOTE = {"project": int, "subject_set": (str, None), "subjects": {str: str}, "whole": bool}
IMAGE, GALAXY = "image", "!galaxy"  # the manifest's columns
QUALITY = 95  # of JPEG; 256 x 256 pixels of noise have 0.2 MB, and Zooniverse takes 1 MB
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
APOSTROPHES = "'\u2018\u2019\u02bc`\u00b4"
TELLING = "%#?"  # punctuation that tells answers apart, as symbols of mathematics (+, <, =) do
NO_LABEL = "unknown answer label"  # what Zooniverse writes for one that a workflow has no more
PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)")  # in Markdown, of which answers are made
NAMED = 5  # things named in a message
ANEW = "export the classifications anew (the project's Data Exports) and put that file in its place"

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


def write_subject_set(
    store: Store, rows: Sequence[int] | np.ndarray, ids: Iterable, folder: Path, number: int
) -> Path:
    """The folder ask-NN in `folder`, of that `number`, with what volunteers are shown: `rows` (galaxy,) of `store` and
    their `ids` (galaxy,), in this order.

    It appears whole or not at all, and is left alone if it is there. Raises ValueError if it is there and about other
    galaxies.
    """
    place, names = folder / f"ask-{number:02d}", [str(name) for name in ids]
    if len(names) != len(rows):
        raise ValueError(f"{len(names)} ids for {len(rows)} galaxies; give one each")
    _as_uploaded(names)
    files = [f"images/{order:05d}-{_safe(name)}.jpg" for order, name in enumerate(names)]
    manifest = as_csv(pd.DataFrame({IMAGE: files, GALAXY: names}, dtype=object))
    if place.exists():
        if (place / MANIFEST).read_bytes() != manifest:
            raise ValueError(
                f"{place} asks about other galaxies than this run; give the run a folder of its own"
            )
        return place

    def fill(beside: Path) -> None:
        (beside / "images").mkdir()
        for row, file in track(list(zip(rows, files, strict=True)), "writing what volunteers see"):
            pixels = np.asarray(store.images[int(row)])
            grey = pixels.shape[-1] == 1
            Image.fromarray(pixels[..., 0] if grey else pixels).save(
                beside / file, quality=QUALITY, subsampling=0
            )
        (beside / MANIFEST).write_bytes(manifest)

    return write_folder(place, fill)


def count_votes(
    folder: Path, oracle: OracleSpec, questions: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """What volunteers said of every galaxy that the run in `folder` asked about: votes, int64 (galaxy, column), for
    each answer of each of `questions`, and each question's total, indexed by the galaxy's id.

    A classification counts once, in however many exports it is; a person counts once for a galaxy and question, with
    the answer given first. Whoever passed a task over has no vote on it. What was classified before the project went
    live does not count. `oracle` says which workflow counts, which task asks which question, and what answers are
    called there. The table's attrs["told"] is a list of lines: what was left out, and how tasks were understood. Raises
    ValueError, naming the file and line, for what cannot be read or understood, and where several workflows, or several
    wordings of a task, could be meant.
    """
    _check_oracle(oracle, questions)
    galaxies, notes, voted = _asked(folder), Counter(), set()
    exports, unread = _exports(folder / EXPORTS)
    said = sorted(
        _classifications(exports, galaxies, notes), key=lambda one: (one.when, one.number)
    )
    said = _of_one_workflow(said, oracle, notes)
    known = _words(oracle, questions)
    tasks, told = _tasks(said, oracle, questions, known)
    axis = [
        f"{question}_{answer}"
        for question in questions
        for answer in (*questions[question], "total")
    ]
    rows = {name: row for row, name in enumerate(galaxies.values())}
    places = {name: place for place, name in enumerate(axis)}
    votes = np.zeros((len(galaxies), len(axis)), np.int64)
    for one, question, answer in _answers(said, tasks, known, notes):
        vote = (one.person, one.galaxy, question)
        if vote in voted:
            notes["{} answers by someone who had answered before; the first one counts"] += 1
            continue
        voted.add(vote)
        for column in (answer, "total"):
            votes[rows[one.galaxy], places[f"{question}_{column}"]] += 1
    table = pd.DataFrame(votes, pd.Index(list(rows), dtype=str, name="id"), axis)
    table.attrs["told"] = unread + [line.format(count) for line, count in notes.items()] + told
    return table


def upload(asked: Path, project: int) -> str:
    """The subject set of Zooniverse's `project` that holds what is in the folder `asked`, uploaded now unless it is
    there.

    The account is that of the environment's PANOPTES_USERNAME and PANOPTES_PASSWORD. uploaded.json notes each galaxy as
    it arrives, so that an upload which was stopped goes on. Raises ValueError if the client is not installed, the
    account not named, or the upload stopped.
    """
    note = {"project": project, "subject_set": None, "subjects": {}, "whole": False}
    if (asked / UPLOADED).exists():
        note = read_json(asked / UPLOADED, NOTE, "delete it to upload the folder again")
    if note["project"] != project:
        raise ValueError(
            f"{asked} was uploaded to project {note['project']}, not {project}; set oracle.project back, or delete "
            f"{asked / UPLOADED} to upload it again"
        )
    if not note["whole"]:
        _send(asked, note)
    return note["subject_set"]


def _send(asked: Path, note: dict) -> None:
    try:
        import panoptes_client
    except ImportError as problem:
        raise ValueError(
            f"uploading {asked} needs Zooniverse's client, which is not there ({problem}); pip install "
            "'trizoo[volunteers]', or set oracle.project=null and upload the folder by hand"
        ) from problem
    account = [os.environ.get(f"PANOPTES_{name}") for name in ("USERNAME", "PASSWORD")]
    if not all(account):
        raise ValueError(
            f"uploading {asked} needs a Zooniverse account; set the environment variables PANOPTES_USERNAME and "
            "PANOPTES_PASSWORD, or oracle.project=null and upload the folder by hand"
        )
    rows = _manifest(asked)
    try:
        client = panoptes_client.Panoptes(username=account[0], password=account[1])
        try:
            with client:
                _send_rows(panoptes_client, asked, rows, note)
        finally:
            client.session.close()
    except (panoptes_client.panoptes.PanoptesAPIException, OSError) as problem:
        raise ValueError(
            f"the upload of {asked} stopped after {len(note['subjects'])} of {len(rows)} galaxies: {problem}; the same "
            "command goes on from there"
        ) from problem


def _send_rows(service: Any, asked: Path, rows: list[dict[str, str]], note: dict) -> None:
    class Subject(service.Subject):
        """One that knows whether its image arrived: the client tells nobody."""

        lost = False

        def _upload_media(self, *what):
            self.lost = True
            arrived = super()._upload_media(*what)
            self.lost = False
            return arrived

    if note["subject_set"] is None:
        subject_set = service.SubjectSet()
        subject_set.links.project = note["project"]
        subject_set.display_name = f"{asked.resolve().parent.name} {asked.name}"
        subject_set.save()
        note["subject_set"] = str(subject_set.id)
        write_json(asked / UPLOADED, note)
    left = [row for row in rows if row[GALAXY] not in note["subjects"]]
    for row in track(left, f"uploading {asked.name}"):
        subject = Subject()
        subject.links.project = note["project"]
        subject.metadata.update(row)
        subject.add_location(str(asked / row[IMAGE]))
        subject.save()
        if subject.lost:
            raise OSError(f"the image of {row[GALAXY]} did not arrive")
        note["subjects"][row[GALAXY]] = str(subject.id)
        write_json(asked / UPLOADED, note)
    subjects = [note["subjects"][row[GALAXY]] for row in rows]
    service.SubjectSet.find(note["subject_set"]).add(subjects)  # passes over those it has
    note["whole"] = True
    write_json(asked / UPLOADED, note)


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]


def _manifest(asked: Path) -> list[dict[str, str]]:
    with (asked / MANIFEST).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _asked(folder: Path) -> dict[str, str]:
    """The id of every galaxy that was asked about, in order, by what a classification says of it."""
    asks = sorted(folder.glob("ask-*"), key=lambda asked: (len(asked.name), asked.name))
    return _as_uploaded([from_cell(row[GALAXY]) for asked in asks for row in _manifest(asked)])


def _as_uploaded(names: Sequence[str]) -> dict[str, str]:
    """Each of `names` by what it is once uploaded, which is its cell of the manifest, trimmed.

    Raises ValueError where that makes two of them one.
    """
    found: dict[str, str] = {}
    for name in names:
        if (first := found.setdefault(to_cell(name).strip(), name)) != name:
            raise ValueError(
                f"the ids {first!r} and {name!r} are the same but for spaces, which Zooniverse drops; give these "
                "galaxies ids that differ in more"
            )
    return found


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


def _exports(folder: Path) -> tuple[list[Path], list[str]]:
    """The exports in `folder`, and a line that tells what else is there; hidden files are nobody's business."""
    paths = sorted(folder.glob("[!.]*"))
    exports = [path for path in paths if path.name.lower().endswith(KINDS) and path.is_file()]
    other = [path.name for path in paths if path not in exports]
    if not other:
        return exports, []
    more = f" and {len(other) - NAMED} more" if len(other) > NAMED else ""
    names = ", ".join(other[:NAMED]) + more
    return exports, [f"in {folder} only files {' and '.join(KINDS)} are read, so not {names}"]


def _classifications(
    exports: Sequence[Path], galaxies: dict[str, str], notes: Counter
) -> list[Classification]:
    """Every classification of `galaxies` in the `exports`, each once; `notes` counts what is left out."""
    said, persons, same = [], {}, {}
    for path in exports:
        for where, row in _rows(path):
            number, person = _number(row, where), _person(row, where)
            if number in persons:
                notes["{} classifications were there twice; each counts once"] += 1
                _one_person(same, persons[number], person)
                continue
            persons[number] = person
            galaxy = galaxies.get(_galaxy(row, where))
            if _is(row["gold_standard"], "true", "t", "1"):
                notes["{} classifications set a gold standard; left out"] += 1
            elif galaxy is None:
                notes["{} classifications are of nothing that was asked about; left out"] += 1
            elif not _live(row, where):
                notes["{} classifications were made before the project went live; left out"] += 1
            else:
                answers = list(_flat(_json(row, "annotations", list, where), where))
                workflow, version = _workflow(row), row["workflow_version"].strip()
                when = _when(row, where)
                said.append(
                    Classification(number, when, person, galaxy, workflow, version, answers, where)
                )
    return [one._replace(person=_who(same, one.person)) for one in said]


def _is(value: Any, *words: str) -> bool:
    return str(value).strip().lower() in words


def _live(row: dict[str, str], where: str) -> bool:
    """Whether the project was live, as far as it is known: the oldest classifications do not say."""
    about = _json(row, "metadata", dict, where) if row["metadata"].strip() else {}
    return not _is(about.get("live_project"), "false", "f", "0")


def _workflow(row: dict[str, str]) -> tuple[str, str]:
    return row["workflow_id"].strip().removesuffix(".0"), " ".join(row["workflow_name"].split())


def _of_one_workflow(
    said: list[Classification], oracle: OracleSpec, notes: Counter
) -> list[Classification]:
    """Those of `said` that are of oracle.workflow, or all, which must be of one workflow; `notes` counts the others."""
    counts = Counter(one.workflow[0] for one in said)
    names = {one.workflow[0]: one.workflow[1] for one in said}
    there = ", ".join(
        f"{number} ({names[number]}, {count} classifications)" for number, count in counts.items()
    )
    if oracle.workflow is None:
        if len(counts) > 1:
            raise ValueError(
                f"what was classified is of several workflows, whose tasks may ask different things: {there}; say "
                f"which is meant, such as oracle.workflow={next(iter(counts))}"
            )
        return said
    called = {
        one.workflow[0] for one in said if _folded(one.workflow[1]) == _folded(oracle.workflow)
    }
    wanted = {oracle.workflow} if oracle.workflow in counts else called
    if said and len(wanted) != 1:
        raise ValueError(
            f"oracle.workflow is {oracle.workflow!r}, which names {'several' if wanted else 'none'} of the workflows "
            f"that were classified: {there}; give the number of one"
        )
    kept = [one for one in said if one.workflow[0] in wanted]
    if left := len(said) - len(kept):
        notes["{} classifications are of other workflows; left out"] = left
    return kept


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


def _galaxy(row: dict[str, str], where: str) -> str | None:
    """What the one subject that was shown says of its galaxy; None: nothing, or there were several."""
    subjects = [
        about
        for about in _json(row, "subject_data", dict, where).values()
        if isinstance(about, dict)
    ]
    return str(subjects[0].get(GALAXY, "")).strip() if len(subjects) == 1 else None


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


def _folded(text: str) -> str:
    """`text` without pictures, case and superfluous spaces."""
    text = unicodedata.normalize("NFC", PICTURE.sub(" ", text)).casefold()
    return " ".join(text.split())


def _letters(text: str) -> str:
    """The letters and digits of `text`, by which tasks are known."""
    return "".join(c for c in _folded(text) if c.isalnum())


def _bare(text: str) -> str:
    """`text` as `_folded`, without the spaces and the punctuation that do not tell answers apart.

    4+, <4, -4 and 4? are not 4, and 1-2 is not 12; Can't tell. is cant-tell.
    """
    text = re.sub(r"(?<!\w)-(?=\d)", "\u2212", _folded(text))  # a minus, which is no hyphen
    kept = "".join(
        c if c.isalnum() or c in TELLING or unicodedata.category(c) == "Sm" else " "
        for c in text
        if c not in APOSTROPHES
    )
    return re.sub(r"(?<!\d) | (?!\d)", "", " ".join(kept.split()))


def _words(oracle: OracleSpec, questions: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """Question -> text -> the answer that is meant; '': no vote."""
    return {
        question: {answer: answer for answer in some}
        | {text: ours for text, ours in oracle.answers.items() if not ours or ours in some}
        for question, some in questions.items()
    }


def _meanings(known: Mapping[str, str], texts: Iterable[str]) -> dict[str, str]:
    """What those of `texts` mean that are among the `known` ones.

    A text is known to the letter; else but for case and spaces; else but for punctuation, unless that makes two known
    ones, or two of `texts`, the same.
    """
    texts = set(texts)
    found = {text: known[text] for text in texts if text in known}
    for shorten in (_folded, _bare):
        ours, theirs = defaultdict(set), defaultdict(set)
        for text, answer in known.items():
            ours[shorten(text)].add(answer)
        for text in texts:
            theirs[shorten(text)].add(_folded(text))
        for text in texts - found.keys():
            short = shorten(text)
            if short and len(ours[short]) == len(theirs[short]) == 1:
                found[text] = next(iter(ours[short]))
    return found


def _tasks(
    said: list[Classification],
    oracle: OracleSpec,
    questions: Mapping[str, Sequence[str]],
    known: dict[str, dict[str, str]],
) -> tuple[dict[Pair, str], list[str]]:
    """The question that each task asks, of those that ask one of `questions`, and lines that tell it.

    As oracle.tasks says, of tasks or of their words; where that is empty, by the task's words, else by all that was
    answered to it.
    """
    texts = defaultdict(set)
    for one in said:
        for pair, some in one.answers:
            texts[pair].update(some or ())
    if oracle.tasks:
        by_words = {_letters(words): question for words, question in oracle.tasks.items()}
        named = {
            pair: by_words[words] for pair in texts if (words := _letters(pair[1])) in by_words
        }
        tasks = {pair: oracle.tasks[pair[0]] for pair in texts if pair[0] in oracle.tasks}
        _check_wordings({pair: tasks[pair] for pair in tasks.keys() - named.keys()}, said)
        tasks, told = tasks | named, []
    else:
        names = Counter(map(_letters, questions))
        plain = {_letters(question): question for question in questions}
        tasks = {
            pair: plain[name]
            for pair in sorted(texts)
            for name in [_letters(pair[1]), _letters(pair[0])]
            if name and names[name] == 1
        }
        left = [pair for pair in sorted(texts) if pair not in tasks]
        free = [question for question in questions if question not in tasks.values()]
        tasks |= _by_answers({pair: texts[pair] - {NO_LABEL} for pair in left}, free, known)
        _check_wordings(tasks, said)
        told = [f"task {_named(pair)} is taken for {tasks[pair]}" for pair in sorted(tasks)]
    if other := [_named(pair) for pair in sorted(texts) if pair not in tasks]:
        told.append(f"tasks that ask none of the questions: {', '.join(other[:NAMED])}")
    if unasked := [question for question in questions if question not in tasks.values()]:
        told += [f"no task asked {', '.join(unasked)}"] if said else []
    return tasks, told


def _check_wordings(tasks: dict[Pair, str], said: list[Classification]) -> None:
    """Raise ValueError if one task is taken for a question in several wordings: the workflow was changed on the way."""
    wordings = defaultdict(dict)
    for (task, words), question in sorted(tasks.items()):
        if _letters(words):
            wordings[task, question].setdefault(_letters(words), words)
    for (task, question), found in wordings.items():
        if len(found) > 1:
            told = [_wording(task, words, said) for words in found.values()]
            first = " ".join(re.sub(r"\W", " ", _folded(next(iter(found.values())))).split())
            raise ValueError(
                f"task {task} is taken for {question}, but was asked in several wordings: {'; '.join(told)}. Say with "
                f"oracle.tasks which of these ask {question}, all of them if they mean the same, by their words: such "
                f"as '+oracle.tasks={{{first}: {question}}}'"
            )


def _wording(task: str, words: str, said: list[Classification]) -> str:
    versions = [
        one.version
        for one in said
        for pair, _ in one.answers
        if pair[0] == task and _letters(pair[1]) == _letters(words)
    ]
    told = ", ".join(sorted(set(versions))[:NAMED])
    return f"{_named((task, words))} by {len(versions)} classifications of version {told}"


def _by_answers(
    texts: dict[Pair, set[str]], questions: list[str], known: dict[str, dict[str, str]]
) -> dict[Pair, str]:
    """The one question of `questions` that each task's answers fit; raises ValueError where that is not plain."""
    found = {}
    for pair, some in texts.items():
        fits = {question: len(_meanings(known[question], some)) for question in questions}
        near = [question for question in questions if fits[question]]
        whole = [question for question in near if fits[question] == len(some)]
        if near and len(whole) != 1:
            raise ValueError(
                f"task {_named(pair)} was answered {', '.join(sorted(some)[:NAMED])}, which may be "
                f"{' or '.join(whole or near)}; {_say_tasks(pair[0], (whole or near)[0])}"
                + ("" if whole else ", and what its answers are called with oracle.answers")
            )
        if whole:
            found[pair] = whole[0]
    for question in questions:
        if len(names := sorted({pair[0] for pair in found if found[pair] == question})) > 1:
            raise ValueError(
                f"the tasks {', '.join(names)} all look like {question}; {_say_tasks(names[0], question)}"
            )
    return found


def _say_tasks(task: str, question: str) -> str:
    return (
        f"say which tasks ask what with oracle.tasks, such as '+oracle.tasks={{{task}: {question}}}': all others "
        "are then passed over"
    )


def _named(pair: Pair) -> str:
    return f"{pair[0]} ({' '.join(pair[1].split())[:60]})" if pair[1] else pair[0]


def _answers(
    said: list[Classification],
    tasks: dict[Pair, str],
    known: dict[str, dict[str, str]],
    notes: Counter,
) -> Iterator[tuple[Classification, str, str]]:
    """Every (classification, question, answer), in the order in which they were given."""
    given = [
        (one, pair, tasks[pair], texts)
        for one in said
        for pair, texts in one.answers
        if pair in tasks and texts != ()
    ]
    spoken = defaultdict(set)
    for _, _, question, texts in given:
        spoken[question].update(texts or ())
    meant = {question: _meanings(known[question], spoken[question]) for question in known}
    for one, pair, question, texts in given:
        if texts is None or len(texts) > 1:
            raise ValueError(
                f"{one.where}: task {_named(pair)} was answered "
                f"{'without words' if texts is None else ' and '.join(texts)}, but {question} takes one answer; "
                "make it a question that allows one, or take the task out of oracle.tasks"
            )
        answer = meant[question].get(texts[0])
        if answer is None and texts[0] != NO_LABEL:
            ours = [text for text in known[question].values() if text]
            raise ValueError(
                f"{one.where}: task {_named(pair)} was answered {texts[0]!r}, which is none of {question}'s "
                f"{', '.join(dict.fromkeys(ours))}; say which is meant, or '' for no vote, with oracle.answers, "
                f"such as '+oracle.answers={{{texts[0]}: {ours[0]}}}'"
            )
        if answer:
            yield one, question, answer
        else:
            notes["{} answers mean no vote, by oracle.answers or as Zooniverse lost them"] += 1
