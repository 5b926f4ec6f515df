"""The classes of galaxies that have one word each instead of votes: which there are, and how many galaxies of each."""

import re
from collections.abc import Mapping

import pandas as pd

from shared.data.ids import NOTHING
from shared.data.rows import as_value, few_of
from shared.data.tables import as_text, open_table, reading
from shared.run.progress import say

OTHERWISE = ("null", "true", "false", "nan", "inf")  # words that Hydra takes for no text
MOST_CLASSES = 40  # of a question that somebody asks; more are numbers, or ids


def classes_of(dataset: Mapping) -> tuple[str, dict[str, list[str]]]:
    """The column of classes of a `dataset`, plain data, and its classes: each with the ways it is written.

    Numbers are one class however they are written; empty cells, and what programs write for none, are no class. Says
    how many galaxies each has.

    Raises ValueError for a column that is not there, for one or too many classes, and for classes that differ in case
    or spaces alone, which may be the same or not (SB is no Sb).
    """
    table = open_table(dataset["table"], "dataset.table", dataset["table_hdu"])
    called = dataset["columns"]["label"]
    column = next((name for name in called.split("|") if name in table.names), None)
    if column is None:
        raise ValueError(
            f"{table.path} has no column {called!r}, which dataset.columns.label names; it has {few_of(table.names)}"
        )
    with reading(table.path):
        values = as_text(table.read([column], [])[column])
    counts = pd.Series(values.to_pandas(), dtype=str).value_counts(sort=False)
    known = {text: int(n) for text, n in counts.items() if not _is_none(text)}
    classes: dict = {}
    for text in sorted(known, key=lambda text: (len(text), text)):
        classes.setdefault(as_value(text), []).append(text)
    _check(table.path, column, known, classes)
    sizes = {ways[0]: sum(known[way] for way in ways) for ways in classes.values()}
    none = sum(counts) - sum(known.values())
    told = ", ".join(f"{name!r} {size:,}" for name, size in _sorted(sizes).items())
    say(
        f"classes of {column} in {table.path}: {told}"
        + (f"; {none:,} galaxies have none and are left out" if none else "")
    )
    return column, _sorted({ways[0]: ways for ways in classes.values()})


def _is_none(text: str) -> bool:
    return not text or re.match(NOTHING, text, re.IGNORECASE) is not None


def _sorted(classes: dict) -> dict:
    """By number where all are numbers, otherwise by the alphabet."""
    values = {name: as_value(name) for name in classes}
    if any(isinstance(value, str) for value in values.values()):
        return dict(sorted(classes.items()))
    return dict(sorted(classes.items(), key=lambda item: values[item[0]]))


def _check(path: str, column: str, known: Mapping[str, int], classes: dict) -> None:
    if len(classes) > MOST_CLASSES:
        raise ValueError(
            f"the column {column} of {path} has {len(classes):,} different values, {few_of(list(known)[:3])} for some; "
            f"at most {MOST_CLASSES} are taken for classes: name another column, or say in dataset.classes which "
            "values are which answer"
        )
    if len(classes) < 2:
        raise ValueError(
            f"the column {column} of {path} has {'one class' if classes else 'no classes'} ({few_of(list(known))}); "
            "there is nothing to tell apart: name another column"
        )
    alike: dict[str, list[str]] = {}
    for text in known:
        alike.setdefault(" ".join(re.split(r"[\s_-]+", text.casefold())), []).append(text)
    if several := {
        plain: ways for plain, ways in alike.items() if len(ways) > 1 and not _number(plain)
    }:
        told = "; ".join(
            ", ".join(f"{way!r} {known[way]:,}" for way in ways) for ways in several.values()
        )
        grouped = ",".join(
            f"{quoted(ways[0])}:[{','.join(map(quoted, ways))}]" for ways in alike.values()
        )
        raise ValueError(
            f"classes in the column {column} of {path} differ in case, spaces or hyphens alone: {told}. Make them "
            f"alike in the table, or say which are one: 'dataset.classes={{{grouped}}}'"
        )


def _number(text: str) -> bool:
    return not isinstance(as_value(text), str)


def quoted(text: str) -> str:
    """As Hydra reads it as this text, in a list or a group."""
    if re.fullmatch(r"[A-Za-z][\w-]*", text, re.ASCII) and text.lower() not in OTHERWISE:
        return text
    inside = re.sub(r'(\\*)("|$)', lambda end: 2 * end[1] + ('\\"' if end[2] else ""), text)
    return f'"{inside}"'
