"""Which columns of a survey's tables are wanted, in which table they are, and all of them side by side."""

import difflib
from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from shared.data.ids import check_digits
from shared.data.rows import Column, as_pandas, few_of, without_commas
from shared.data.tables import Table, as_text, open_table, reading
from shared.run.progress import say
from shared.run.spec import DatasetSpec

FEW = 5  # missing columns named in an error
# what a table of shares may call the votes on a question, where dataset.columns.total does not say
USUAL_TOTALS = "{question}_total|{question}_total-votes|{question}_votes|{question}_count"
USUAL_TOTALS += "|total|total_votes|votes|n_votes|N"
USUAL_PLACES = {  # names of the columns of places, without regard to case
    "ra": ("ra", "ra_deg", "radeg", "raj2000", "_raj2000", "ra_j2000", "ra_icrs", "alpha_j2000"),
    "dec": ("dec", "dec_deg", "decdeg", "decj2000", "dej2000", "_dej2000", "dec_j2000", "de_icrs"),
}
USUAL_PLACES["ra"] += ("right_ascension", "alpha", "ra2000")
USUAL_PLACES["dec"] += ("declination", "delta", "delta_j2000", "decl", "dec2000")


def _wanted(dataset: DatasetSpec) -> dict[str, tuple[str, ...]]:
    """What each wanted column may be called, by our name for it."""
    columns = dataset.columns
    wanted = {key: getattr(columns, key) for key in ("id", "file", "ra", "dec")}
    wanted |= {f"select {name}": name for name in dataset.select}
    if _asks_for_scale(dataset):
        wanted |= {f"scale {name}": name for name in dataset.service.scale.columns}
    wanted = {key: tuple(name.split("|")) for key, name in wanted.items() if name is not None}
    return wanted | _wanted_votes(dataset)


def _wanted_votes(dataset: DatasetSpec) -> dict[str, tuple[str, ...]]:
    columns, questions = dataset.columns, dataset.questions
    if (columns.label is None) != (dataset.classes is None):
        raise ValueError(
            "dataset.columns.label and dataset.classes belong together; give both or neither"
        )
    if columns.label is not None:
        return {"label": tuple(columns.label.split("|"))}
    kind = "count" if columns.fraction is None else "fraction"
    pattern = getattr(columns, kind)
    if pattern is None:
        return {}
    totals = columns.total
    if kind == "fraction" and totals is None and columns.assumed_votes is None:
        totals = USUAL_TOTALS
    wanted = {}
    for question, answers in questions.items():
        called, *theirs = _called(dataset, question)
        for answer, their in zip(answers, theirs, strict=True):
            _add(
                wanted, f"{question}_{answer}", _fill(pattern, kind, question=called, answer=their)
            )
        total = () if totals is None else _fill(totals, "total", question=called)
        _add(wanted, f"{question}_total", total)
    return {key: names for key, names in wanted.items() if names}


def _called(dataset: DatasetSpec, question: str) -> tuple[str, ...]:
    """What the table calls a question, then each of its answers."""
    names, answers = dataset.columns.names, dataset.questions[question]
    for strange in [name for name in names if name not in dataset.questions]:
        raise ValueError(
            f"dataset.columns.names has {strange!r}, but dataset.questions asks {', '.join(dataset.questions)}"
        )
    called = names.get(question, (question, *answers))
    if len(called) != 1 + len(answers):
        raise ValueError(
            f"dataset.columns.names.{question} is {list(called)}; it must be what the table calls the question, then "
            f"each of its {len(answers)} answers: {', '.join(answers)}"
        )
    return called


def _add(wanted: dict, name: str, alternatives: tuple[str, ...]) -> None:
    if name in wanted:
        raise ValueError(
            f"dataset.questions gives the column {name} two meanings; rename an answer"
        )
    wanted[name] = alternatives


def _fill(pattern: str, key: str, **values: str) -> tuple[str, ...]:
    """`pattern`'s alternatives, filled with those of `values`."""
    choices = [
        dict(zip(values, some, strict=True))
        for some in product(*(value.split("|") for value in values.values()))
    ]
    try:
        return tuple(one.format(**some) for one in pattern.split("|") for some in choices)
    except (KeyError, IndexError, ValueError):
        braces = " and ".join(f"{{{name}}}" for name in values)
        raise ValueError(
            f"dataset.columns.{key} is {pattern!r}; it may hold {braces} and no other braces"
        ) from None


def _may_be_missing(dataset: DatasetSpec, key: str) -> bool:
    """Whether the table need not have a column: a total can be added up, or assumed."""
    total = key in {f"{question}_total" for question in dataset.questions}
    return total and (dataset.columns.fraction is None or dataset.columns.assumed_votes is not None)


def _is_text(key: str) -> bool:
    return key in ("id", "file", "label") or key.startswith("select ")


def read_columns(dataset: DatasetSpec) -> dict[str, Column]:
    """Every wanted column that is there, from the table or from the joined ones, by our name for it.

    Text is stripped, and empty where there is none; the rest is as its table has it.
    """
    wanted, table = _wanted(dataset), open_table(dataset.table, "dataset.table", dataset.table_hdu)
    found = _there(wanted, table.names)
    tables, joined = [table], {}
    for name, join in dataset.joins.items():
        missing = {key: wanted[key] for key in wanted if key not in (*found, *joined, "id")}
        if join.table is not None and missing:
            other = open_table(join.table, f"dataset.joins.{name}.table")
            joined |= {key: (name, other) for key in _there(missing, other.names)}
            found |= _there(missing, other.names)
            tables.append(other)
    missing = [key for key in wanted if key not in found and not _may_be_missing(dataset, key)]
    if missing:
        raise ValueError(_no_column(dataset, missing, wanted, tables))
    _check_different(dataset, found, joined)
    _say_totals(dataset, found)
    columns = _read(table, {key: name for key, name in found.items() if key not in joined})
    columns = _without_empty_end(table.path, columns)
    if not len(columns["id"].values):
        raise ValueError(f"{table.path} has no rows, so there is no galaxy; check dataset.table")
    for name in dict.fromkeys(name for name, _ in joined.values()):
        theirs = {key: found[key] for key in joined if joined[key][0] == name}
        other = next(other for named, other in joined.values() if named == name)
        columns |= _join(dataset, name, other, theirs, columns["id"].values)
    if (unit := dataset.columns.place_unit) is not None:
        units = {"ra": unit, "dec": "deg" if unit == "h" else unit}
        columns |= {
            key: columns[key]._replace(unit=columns[key].unit or unit)
            for key, unit in units.items()
            if key in columns
        }
    return columns


def has_votes(dataset: DatasetSpec) -> bool:
    """Whether the tables of `dataset` have any of its columns of votes."""
    tables = [open_table(dataset.table, "dataset.table", dataset.table_hdu)]
    for name, join in dataset.joins.items():
        if join.table is not None:
            tables.append(open_table(join.table, f"dataset.joins.{name}.table"))
    wanted = _wanted_votes(dataset)
    answers = {key: names for key, names in wanted.items() if not key.endswith("_total")}
    return any(_there(answers, table.names) for table in tables)


def usual_places(names: Sequence[str]) -> dict[str, str]:
    """Which of the columns called `names` hold ra and dec, by their names; {} unless both are there, each once."""
    found = {
        key: [name for name in names if name.lower() in usual]
        for key, usual in USUAL_PLACES.items()
    }
    if any(len(some) != 1 for some in found.values()):
        return {}
    return {key: some[0] for key, some in found.items()}


def _without_empty_end(path: str, columns: dict[str, Column]) -> dict[str, Column]:
    """`columns` without the rows at their end in which all of them are empty, as spreadsheets leave them."""
    rows = len(columns["id"].values)
    end = rows
    while end and not any(c.values[end - 1].as_py() not in (None, "") for c in columns.values()):
        end -= 1
    if end == rows:
        return columns
    say(f"passed over {rows - end:,} empty rows at the end of {path}")
    return {key: c._replace(values=c.values.slice(0, end)) for key, c in columns.items()}


def _say_totals(dataset: DatasetSpec, found: dict[str, str]) -> None:
    """Say in which columns the numbers of votes are, where only their names tell."""
    columns = dataset.columns
    if columns.fraction is not None and columns.total is None and columns.assumed_votes is None:
        names = dict.fromkeys(found[f"{question}_total"] for question in dataset.questions)
        say(f"the votes on each question are taken from {few_of(list(names))}")


def _there(wanted: dict[str, tuple[str, ...]], names: Sequence[str]) -> dict[str, str]:
    """The first of each column's possible names that is among `names`, where any is."""
    known = set(names)
    chosen = {key: next((n for n in some if n in known), None) for key, some in wanted.items()}
    return {key: name for key, name in chosen.items() if name is not None}


def _no_column(dataset: DatasetSpec, missing: list[str], wanted: dict, tables: list[Table]) -> str:
    lower = {name.lower(): name for table in tables for name in table.names}
    hints = []
    for key in missing[:FEW]:
        nearest = [difflib.get_close_matches(name.lower(), lower, n=1) for name in wanted[key]]
        near = [lower[some[0]] for some in nearest if some][:1]
        hint = " or ".join(map(repr, wanted[key]))
        hints.append(hint + (f" (the nearest is {near[0]!r})" if near else ""))
    more = f" and {len(missing) - FEW} others" if len(missing) > FEW else ""
    others = tables[0].note
    others += "".join(f"; {table.path} has {few_of(table.names)}" for table in tables[1:])
    advice = []
    if absent := [name for name, join in dataset.joins.items() if join.table is None]:
        which = ", ".join(f"dataset.joins.{name}.table" for name in absent)
        advice.append(f"name the table that has it ({which} is not given)")
    if any(key.startswith("scale ") for key in missing):
        advice.append("set dataset.service.scale.fixed to one scale for every galaxy")
    if any(key.startswith("select ") for key in missing):
        advice.append("correct dataset.select")
    if any(key.endswith("_total") for key in missing):
        advice.append(
            "shares say nothing without the number of votes: name its column in dataset.columns.total, or set "
            "dataset.columns.assumed_votes to a number"
        )
    if not all(key.startswith(("scale ", "select ")) for key in missing):
        advice.append(
            "say what the table calls it in dataset.columns, or correct dataset.questions"
        )
    return (
        f"{tables[0].path} has no column {', '.join(hints)}{more}; it has {few_of(tables[0].names)}{others}. "
        f"Fix: {'; or '.join(advice)}"
    )


def _check_different(dataset: DatasetSpec, found: dict[str, str], joined: dict) -> None:
    """Raise ValueError if two columns of votes would be read from one of the table's."""
    ours = {}
    for question, answers in dataset.questions.items():
        for key in (f"{question}_{answer}" for answer in (*answers, "total")):
            place = (joined.get(key, ("", None))[0], found.get(key, key))
            other = ours.setdefault(place, key)
            if other != key:
                raise ValueError(
                    f"{other} and {key} would both be the column {found[key]!r}; correct dataset.columns, whose "
                    "patterns and names must tell every question and answer apart"
                )


def _read(table: Table, names: dict[str, str]) -> dict[str, Column]:
    """The columns `names` of a table, by our name for them."""
    for name in dict.fromkeys(names.values()):
        if list(table.names).count(name) > 1:
            raise ValueError(
                f"{table.path} has {list(table.names).count(name)} columns called {name!r}; rename all but one"
            )
    text = list(dict.fromkeys(name for key, name in names.items() if _is_text(key)))
    numbers = list(dict.fromkeys(name for name in names.values() if name not in text))
    with reading(table.path):
        read = table.read(text, numbers)
    if pa.types.is_floating(read[names["id"]].type):
        raise ValueError(
            f"the ids of {table.path} are floating-point numbers, which cannot hold 18 digits; "
            "write that column as text or 64-bit integers, from the original table"
        )
    texts = {name: as_text(read[name]) for name in text}
    check_digits(table.path, texts[names["id"]])
    numbers = {name: without_commas(table.path, name, read[name]) for name in numbers}
    return {
        key: Column(
            name,
            texts[name] if _is_text(key) else numbers.get(name, read[name]),
            table.units.get(name),
        )
        for key, name in names.items()
    }


def _join(
    dataset: DatasetSpec, name: str, table: Table, wanted: dict[str, str], ids: pa.ChunkedArray
) -> dict[str, Column]:
    """The `wanted` columns of another table, in the order of `ids`; missing for galaxies that it does not have."""
    key = _there({"key": tuple(dataset.joins[name].key.split("|"))}, table.names)
    if not key:
        raise ValueError(
            f"{table.path} has no column {dataset.joins[name].key!r}; it has {few_of(table.names)}. "
            f"Say what it calls the galaxies' ids in dataset.joins.{name}.key"
        )
    read = _read(table, {"id": key["key"], **wanted})
    keys = read.pop("id").values
    rows = np.flatnonzero(pc.is_in(keys, ids).to_numpy())
    keys, columns = keys.take(rows), {ours: c.values.take(rows) for ours, c in read.items()}
    if pc.count_distinct(keys).as_py() < len(keys):
        _check_agreement(table, keys, columns, rows)
    partner = pc.index_in(ids, keys)
    values = {ours: column.take(partner) for ours, column in columns.items()}
    return {
        ours: read[ours]._replace(values=column.fill_null("") if _is_text(ours) else column)
        for ours, column in values.items()
    }


def _check_agreement(table: Table, keys, columns: dict, rows: np.ndarray) -> None:
    """Raise ValueError if a galaxy is there twice, with different values."""
    given = pd.DataFrame({"id": as_pandas(keys), **{k: as_pandas(c) for k, c in columns.items()}})
    different = given.drop_duplicates()
    for second in different.index[different["id"].duplicated()][:1]:
        name = given["id"][second]
        first = given.index[given["id"] == name][0]
        raise ValueError(
            f"galaxy {name} is in {table.path} twice, as row {rows[first] + 1} and row {rows[second] + 1}, and they "
            "differ in what is wanted; keep one of them"
        )


def _asks_for_scale(dataset: DatasetSpec) -> bool:
    """Whether galaxies' own sizes say how large their cutouts are."""
    scale = dataset.service.scale
    return has_scale(dataset) and scale.fixed is None


def has_scale(dataset: DatasetSpec) -> bool:
    """Whether the scale of cutouts is said, by a column or fixed."""
    images = dataset.images or ""
    return images.startswith("http") and "{scale}" in images
