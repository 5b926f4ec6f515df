"""A survey's table: a row per galaxy, with its id, what its image is called, its place and its votes.

Only wanted columns are read, as numbers or as text, and ids always as text: an 18-digit id never passes through a
floating-point column, which would change its last digits. Rows are counted from 1, the header not counted; where
several files make one table, through all of them in the order of their names.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import product
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from shared.data.cutouts import SUFFIXES
from shared.data.tables import Table, as_text, open_table, reading
from shared.run.keys import galaxy_hash
from shared.run.progress import say
from shared.run.spec import DatasetSpec

SHOWN = 30  # columns or values named in an error
FEW = 5  # missing columns named in an error
# Votes of a galaxy on a question: surveys ask about 40 volunteers, and of a galaxy that serves as an example some
# thousands. What is computed of a galaxy takes longer the more votes it has.
MOST = 1_000_000
EXACT = 2**53  # the integers up to here are floating-point numbers, of those beyond only some
ROUNDED = 0.005  # how far from the truth a published share may be: two decimals
CLOSE = 1e-6  # how far outside 0 to 1 a share may be, as a 32-bit number is

# Ids that are none: a number with an exponent, or with a fraction of zeros, has been through a floating-point column,
# which holds 16 digits; and what programs write where there is no value.
EXPONENT = r"^[+-]?(\d|\d+[.,]\d*|[.,]\d+)[eE][+-]?\d{1,3}$"
ZEROS, FRACTION = r"^\+?\d+[.,]0*$", r"^[+-]?\d+[.,]\d*[1-9]\d*$"
NOTHING = (
    r"^(-\d+([.,]\d*)?|[+-]?(nan|inf(inity)?)|nat|null|none|nil|<na>|n/?a|masked|undefined|-+|\?+"
    r"|#+|#[a-z0/]+[!?]?)$"
)

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")

# Degrees in a unit, by its first letters; of a right ascension, hours are angles, too.
ANGLES = {"deg": 1, "°": 1, "d:m:s": 1, "rad": 180 / np.pi, "arcmin": 1 / 60, "arcsec": 1 / 3600}
HOURS = {"h": 15, "hr": 15, "hour": 15, "hours": 15, "hourangle": 15, "h:m:s": 15, "hms": 15}


class Column(NamedTuple):
    """A wanted column: what its table calls it, and its values (galaxy,)."""

    name: str
    values: pa.ChunkedArray
    unit: str | None = None


class Rows(NamedTuple):
    """The rows of a table that are galaxies."""

    path: str
    ids: pa.ChunkedArray
    numbers: np.ndarray  # from 1

    def galaxy(self, i: int) -> str:
        """The galaxy in place I, for an error."""
        return f"galaxy {self.ids[int(i)]} (row {self.numbers[i]} of {self.path})"


def read_catalogue(dataset: DatasetSpec) -> pd.DataFrame:
    """The galaxies of dataset.table, indexed by their row in it.

    Columns: id; file, what the table calls the image (the id where it has no such column, empty where it does not
    say); ra and dec in degrees, converted where the file gives another unit (NaN: unknown); scale in arcseconds per
    pixel, if dataset.images is an address that asks for it; votes_from (counted, fractions, assumed or class) and the
    int32 votes QUESTION_ANSWER and QUESTION_total of every question, if the table has votes. dataset.select keeps some
    rows, then dataset.galaxies some of those (see `fewer`), in the order of the table.

    A question whose columns are all empty was asked of nobody: 0 votes. Shares become votes by `_rebuilt`.

    Raises FileNotFoundError if a table is not there, and ValueError, naming the row and a way out, for anything in
    one that cannot be meant.
    """
    columns = _read_columns(dataset)
    ids = columns["id"].values
    rows = Rows(dataset.table, ids, np.arange(1, len(ids) + 1))
    _check_ids(rows)
    if dataset.select:
        taken = _selected(dataset, columns)
        columns = {key: Column(c.name, c.values.filter(taken)) for key, c in columns.items()}
        rows = Rows(dataset.table, columns["id"].values, rows.numbers[taken.to_numpy()])
    _check_twice(rows)
    galaxies = {
        "id": _pandas(rows.ids),
        "file": _pandas(columns["file"].values if "file" in columns else rows.ids),
        "ra": _degrees(columns.get("ra"), -180, 360, rows),
        "dec": _degrees(columns.get("dec"), -90, 90, rows),
        **_scale(dataset, columns, rows),
        **_votes(dataset, columns, rows),
    }
    galaxies = pd.DataFrame(galaxies, index=rows.numbers)
    if "label" in columns:  # galaxies of other classes have no vote
        galaxies = galaxies[galaxies[f"{next(iter(dataset.questions))}_total"] > 0]
    galaxies = fewer(galaxies, dataset.galaxies)
    _check_scale(dataset, galaxies)
    return galaxies


def list_catalogue(names: Sequence[str]) -> pd.DataFrame:
    """The galaxies of the images called `names`, where there is no table: id (from the name), file (the name), ra, dec.

    Raises ValueError if two names would be one galaxy.
    """
    named = {}
    for name in names:
        last = PurePosixPath(name).name
        suffix = next((end for end in SUFFIXES if last.lower().endswith(end)), "")
        other = named.setdefault(last[: len(last) - len(suffix)], name)
        if other != name:
            raise ValueError(f"{other} and {name} would be one galaxy; rename one")
    index = range(1, len(named) + 1)
    galaxies = pd.DataFrame({"id": list(named), "file": list(named.values())}, index, dtype=str)
    return galaxies.assign(ra=np.nan, dec=np.nan)


def fewer(galaxies: pd.DataFrame, count: int | None) -> pd.DataFrame:
    """`count` of `galaxies`, in their order; None: all. Those of the smallest hash of their id, which is not the
    split's: every part keeps its share, and fewer galaxies are some of more.
    """
    if count is None:
        return galaxies
    chosen = np.argsort(galaxy_hash(galaxies["id"], "fewer"), kind="stable")[:count]
    return galaxies.iloc[np.sort(chosen)]


# Which columns are wanted, and in which table they are.


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
    kind = "fraction" if columns.count is None else "count"
    pattern = getattr(columns, kind)
    if pattern is None:
        return {}
    if kind == "fraction" and columns.total is None and columns.assumed_votes is None:
        raise ValueError(
            "dataset.columns.fraction gives shares of votes, but nothing says of how many: set dataset.columns.total "
            "to the column of each question's votes, or dataset.columns.assumed_votes to a number"
        )
    wanted = {}
    for question, answers in questions.items():
        called, *theirs = _called(dataset, question)
        for answer, their in zip(answers, theirs, strict=True):
            _add(
                wanted, f"{question}_{answer}", _fill(pattern, kind, question=called, answer=their)
            )
        total = ()
        if columns.total is not None:
            total = _fill(columns.total, "total", question=called)
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
    return total and (
        dataset.columns.count is not None or dataset.columns.assumed_votes is not None
    )


def _is_text(key: str) -> bool:
    return key in ("id", "file", "label") or key.startswith("select ")


def _read_columns(dataset: DatasetSpec) -> dict[str, Column]:
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
    columns = _read(table, {key: name for key, name in found.items() if key not in joined})
    if not len(columns["id"].values):
        raise ValueError(f"{table.path} has no rows, so there is no galaxy; check dataset.table")
    for name in dict.fromkeys(name for name, _ in joined.values()):
        theirs = {key: found[key] for key in joined if joined[key][0] == name}
        other = next(other for named, other in joined.values() if named == name)
        columns |= _join(dataset, name, other, theirs, columns["id"].values)
    return columns


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
    others += "".join(f"; {table.path} has {_some(table.names)}" for table in tables[1:])
    advice = []
    if absent := [name for name, join in dataset.joins.items() if join.table is None]:
        which = ", ".join(f"dataset.joins.{name}.table" for name in absent)
        advice.append(f"name the table that has it ({which} is not given)")
    if any(key.startswith("scale ") for key in missing):
        advice.append("set dataset.service.scale.fixed to one scale for every galaxy")
    if any(key.startswith("select ") for key in missing):
        advice.append("correct dataset.select")
    if any(key.endswith("_total") for key in missing):
        advice.append("set dataset.columns.assumed_votes")
    if not all(key.startswith(("scale ", "select ")) for key in missing):
        advice.append(
            "say what the table calls it in dataset.columns, or correct dataset.questions"
        )
    return (
        f"{tables[0].path} has no column {', '.join(hints)}{more}; it has {_some(tables[0].names)}{others}. "
        f"Way out: {'; or '.join(advice)}"
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


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
    _check_digits(table.path, texts[names["id"]])
    return {
        key: Column(name, texts[name] if _is_text(key) else read[name], table.units.get(name))
        for key, name in names.items()
    }


def _join(
    dataset: DatasetSpec, name: str, table: Table, wanted: dict[str, str], ids: pa.ChunkedArray
) -> dict[str, Column]:
    """The `wanted` columns of another table, in the order of `ids`; missing for galaxies that it does not have."""
    key = _there({"key": tuple(dataset.joins[name].key.split("|"))}, table.names)
    if not key:
        raise ValueError(
            f"{table.path} has no column {dataset.joins[name].key!r}; it has {_some(table.names)}. "
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
    given = pd.DataFrame({"id": _pandas(keys), **{k: _pandas(c) for k, c in columns.items()}})
    different = given.drop_duplicates()
    for second in different.index[different["id"].duplicated()][:1]:
        name = given["id"][second]
        first = given.index[given["id"] == name][0]
        raise ValueError(
            f"galaxy {name} is in {table.path} twice, as row {rows[first] + 1} and row {rows[second] + 1}, and they "
            "differ in what is wanted; keep one of them"
        )


# Values: from an Arrow column to the text, places and votes of every galaxy.


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Every value as float64; NaN where there is none, infinity where it is no number."""
    kind = column.type
    if pa.types.is_null(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.cast(pa.float64(), safe=False).to_numpy()
    texts = as_text(column)
    values = pd.to_numeric(pd.Series(texts.to_pylist(), dtype=object), errors="coerce")
    none = pc.is_in(texts, pa.array(pyarrow.csv.ConvertOptions().null_values)).to_numpy()
    return np.where(values.isna() & ~none, np.inf, values.to_numpy(np.float64))


def _pandas(column: pa.ChunkedArray):
    """A column as the array that pandas keeps of it."""
    return column.to_pandas().array


def _told(column: Column, i: int) -> str:
    """A value, for an error."""
    value = column.values[int(i)].as_py()
    comma = isinstance(value, str) and re.fullmatch(r"\s*[+-]?[\d .]*\d,\d[\d,. ]*", value)
    hint = " (a number is written with a point, and nothing between its thousands)" if comma else ""
    return f"{column.name} = {'(empty)' if value is None or value == '' else value}{hint}"


def _check_ids(rows: Rows) -> None:
    """Raise ValueError, naming its row, for an id that stands for none."""
    for i in np.flatnonzero(pc.equal(rows.ids, ""))[:1]:
        raise ValueError(
            f"row {rows.numbers[i]} of {rows.path} has no id; give it one or remove the row"
        )
    nothing = pc.match_substring_regex(rows.ids, NOTHING, ignore_case=True)
    for i in np.flatnonzero(nothing)[:1]:
        raise ValueError(
            f"row {rows.numbers[i]} of {rows.path} has the id {rows.ids[int(i)]}, which names no galaxy: such words "
            "and negative numbers stand for a missing value. Give it one or remove the row"
        )


def _check_digits(path: str, ids: pa.ChunkedArray) -> None:
    """Raise ValueError, naming its row, for an id that has lost digits; say so where all of them may have.

    Large integers all of which a floating-point column could hold have most likely been in one. That is no proof:
    SDSS's specobjid are multiples of 1024 by nature. So it is told, and where two became one, that is refused.
    """
    lost = pc.match_substring_regex(ids, EXPONENT)
    zeros = pc.match_substring_regex(ids, ZEROS)
    if pc.any(zeros).as_py() and not pc.any(pc.match_substring_regex(ids, FRACTION)).as_py():
        lost = pc.or_(lost, zeros)  # else a way to number, as 1.0, 1.1, 1.2
    for i in np.flatnonzero(lost)[:1]:
        raise ValueError(
            f"row {i + 1} of {path} has the id {ids[int(i)]}, a floating-point number, which has lost digits, perhaps "
            "in a spreadsheet or in TOPCAT; use the original table"
        )
    long = ids.filter(pc.match_substring_regex(ids, r"^\d{16,19}$"))
    values = long.cast(pa.uint64()).to_numpy()
    values = values[values > EXACT]
    if len(values) > 2 and (values.astype(np.float64).astype(np.uint64) == values).all():
        say(
            f"the {len(values):,} long ids of {path}, {values[0]} for one, are all such as a floating-point column "
            "can hold, which most others are not; if they have been in one, their last digits are wrong: use the "
            "original table"
        )


def _check_twice(rows: Rows) -> None:
    if pc.count_distinct(rows.ids).as_py() == len(rows.ids):
        return
    ids = pd.Series(_pandas(rows.ids), rows.numbers)
    row = ids.index[ids.duplicated()][0]
    first = ids.index[ids == ids[row]][0]
    raise ValueError(
        f"galaxy {ids[row]} is in {rows.path} twice, as row {first} and row {row}; keep one of them"
    )


def _value(text: str) -> Decimal | str:
    """What `text` is compared as: numbers as numbers, exactly, however they are written."""
    return Decimal(text) if NUMBER.fullmatch(text) else text


def _among(values: pa.ChunkedArray, wanted: Iterable[str]) -> pa.ChunkedArray:
    """Which `values`, of text, are among those `wanted`, bool (row,)."""
    keys = {_value(text) for text in wanted}
    alike = [text for text in pc.unique(values).to_pylist() if _value(text) in keys]
    return pc.is_in(values, pa.array(alike, pa.string()))


def _say_absent(name: str, wanted: Iterable[str], column: Column) -> None:
    """Say which of the values `wanted` by the key `name` no row has."""
    there = {_value(text) for text in pc.unique(column.values).to_pylist()}
    if absent := [text for text in wanted if _value(text) not in there]:
        say(f"no row has {_some(absent)} in the column {column.name}, which {name} names")


def _selected(dataset: DatasetSpec, columns: dict[str, Column]) -> pa.ChunkedArray:
    """Which rows (row,) of bool have the values that dataset.select asks for."""
    taken = None
    for name, values in dataset.select.items():
        column = columns[f"select {name}"]
        here = _among(column.values, values)
        taken = here if taken is None else pc.and_(taken, here)
        if not pc.any(taken).as_py():
            there = sorted(pc.unique(column.values).to_pylist())
            raise ValueError(
                f"dataset.select.{name} is {list(values)}, which keeps no galaxy of {dataset.table}; {column.name} "
                f"holds {_some(there)}"
            )
        _say_absent(f"dataset.select.{name}", values, column)
    return taken


def _degrees(column: Column | None, least: float, most: float, rows: Rows) -> np.ndarray:
    """Degrees (galaxy,) of a declination or, of `most` 360, a right ascension: from numbers in the column's unit, or
    from text as 08:26:17.42 (of a right ascension: hours), -54:12:16.5, 8h26m17s or 187.5d.
    """
    if column is None:
        return np.full(len(rows.numbers), np.nan)
    unit = (column.unit or "deg").strip("\"' []()").lower()
    angles = [size for start, size in ANGLES.items() if unit.startswith(start)]
    angles += [HOURS[unit]] if most == 360 and unit in HOURS else []
    numbers = _numbers(column.values)
    if not angles and np.isfinite(numbers).any():
        raise ValueError(
            f"{rows.path} gives the column {column.name} the unit {column.unit!r}; write it in degrees (rad, arcmin, "
            "arcsec and, of a right ascension, h are known, too), and say so in the file"
        )
    degrees = numbers * angles[0] if angles else numbers
    if np.isinf(degrees).any():
        hours = most == 360 and not unit.startswith("d:m")
        degrees = np.where(np.isinf(degrees), _sexagesimal(column, hours), degrees)
    for i in np.flatnonzero((degrees < least) | (degrees > most))[:1]:
        raise ValueError(
            f"{rows.galaxy(i)} has {_told(column, i)}; it must be in degrees, from {least} to {most}, or empty"
        )
    return degrees


def _sexagesimal(column: Column, hours: bool) -> np.ndarray:
    """The degrees that text means: A:B:C (in `hours`, or degrees), AhBmCs, AdBmCs or Ad; infinity where
    it means none.
    """
    text = as_text(column.values).to_pandas()
    parts = text.str.extract(
        r"^([+-]?)(?:(\d+)\s*([:hd°\s])\s*([0-5]?\d)\s*[:m'\s]\s*([0-5]?\d(?:\.\d*)?)\s*[s\"]?|"
        r"(\d+(?:\.\d*)?)\s*(?:d|deg|°))$"
    )
    whole, minutes, seconds, plain = (pd.to_numeric(parts[place]) for place in (1, 3, 4, 5))
    of_hours = (parts[2] == "h") | (~parts[2].isin(["d", "°"]) & hours)
    angle = (whole + minutes / 60 + seconds / 3600) * np.where(of_hours, 15, 1)
    angle = angle.mask((parts[2] == "h") & (not hours)).fillna(plain)
    return (angle * np.where(parts[0] == "-", -1, 1)).fillna(np.inf).to_numpy(np.float64)


def _asks_for_scale(dataset: DatasetSpec) -> bool:
    """Whether galaxies' own sizes say how large their cutouts are."""
    scale = dataset.service.scale
    return _has_scale(dataset) and scale.fixed is None


def _has_scale(dataset: DatasetSpec) -> bool:
    images = dataset.images or ""
    return images.startswith("http") and "{scale}" in images


def _scale(dataset: DatasetSpec, columns: dict[str, Column], rows: Rows) -> dict[str, np.ndarray]:
    """The column of arcseconds per pixel, if it is needed; NaN where a size is missing or not above 0."""
    scale = dataset.service.scale
    if not _has_scale(dataset):
        return {}
    if scale.fixed is not None:
        return {"scale": np.full(len(rows.numbers), scale.fixed)}
    if not scale.columns:
        raise ValueError(
            "dataset.images asks for a {scale}; set dataset.service.scale.fixed, or name a column of galaxies' "
            "sizes in dataset.service.scale.columns"
        )
    sizes = [
        factor * _numbers(columns[f"scale {name}"].values) for name, factor in scale.columns.items()
    ]
    smallest = np.min(sizes, axis=0)
    good = (smallest > 0) & np.isfinite(sizes).all(axis=0)
    return {"scale": np.where(good, np.maximum(smallest, scale.least), np.nan)}


def _check_scale(dataset: DatasetSpec, galaxies: pd.DataFrame) -> None:
    if "scale" in galaxies:
        for row in galaxies.index[galaxies["scale"].isna()][:1]:
            raise ValueError(
                f"galaxy {galaxies['id'][row]} (row {row} of {dataset.table}) has no size above 0 in "
                f"{', '.join(dataset.service.scale.columns)}, so the scale of its cutout is unknown; correct it, "
                "remove the row, or set dataset.service.scale.fixed"
            )


def _votes(
    dataset: DatasetSpec, columns: dict[str, Column], rows: Rows
) -> dict[str, np.ndarray | list]:
    """The column votes_from, and the int32 votes of every question; nothing if the table has no votes."""
    if "label" in columns:
        return _votes_of_classes(dataset, columns["label"], rows)
    if dataset.columns.count is None and dataset.columns.fraction is None:
        return {}
    votes, kinds = {}, set()
    for question, answers in dataset.questions.items():
        given = [columns[f"{question}_{answer}"] for answer in answers]
        total = columns.get(f"{question}_total")
        if dataset.columns.count is not None:
            kinds.add("counted")
            told, asked = _counted(question, given, total, rows)
        elif total is not None:
            kinds.add("fractions")
            told, asked = _rebuilt(question, given, total, rows)
        else:
            kinds.add("assumed")
            told = _nearest(_shares(given, rows), dataset.columns.assumed_votes)
            asked = told.sum(axis=0)
        names = [f"{question}_{answer}" for answer in (*answers, "total")]
        votes |= zip(names, np.vstack([told, asked]).astype(np.int32), strict=True)
    return {"votes_from": _all(min(kinds), len(rows.numbers)), **votes}


def _all(word: str, count: int):
    return pd.Series(word, range(count), dtype=str).array


def _votes_of_classes(
    dataset: DatasetSpec, label: Column, rows: Rows
) -> dict[str, np.ndarray | list]:
    """One vote for the answer whose list holds the class, none at all for other classes, which are told."""
    ((question, answers),) = dataset.questions.items()
    answer_of = {}
    for answer, classes in dataset.classes.items():
        if answer not in answers:
            raise ValueError(
                f"dataset.classes has {answer!r}; {question} has the answers {', '.join(answers)}"
            )
        for value in classes:
            if answer_of.setdefault(_value(value), answer) != answer:
                raise ValueError(
                    f"dataset.classes gives class {value!r} to {answer_of[_value(value)]} and to {answer}; choose one"
                )
    votes = {
        f"{question}_{answer}": _among(label.values, dataset.classes.get(answer, ())).to_numpy()
        for answer in answers
    }
    total = np.sum(list(votes.values()), axis=0, dtype=np.int32)
    if not total.any():
        there = sorted(pc.unique(label.values).to_pylist())
        raise ValueError(
            f"no galaxy has a class of dataset.classes; the column {label.name} holds {_some(there)}. "
            "Correct one of them"
        )
    _say_left_out(dataset, label, total == 0, rows)
    votes = {name: of.astype(np.int32) for name, of in votes.items()}
    return {"votes_from": _all("class", len(total)), **votes, f"{question}_total": total}


def _say_left_out(dataset: DatasetSpec, label: Column, left: np.ndarray, rows: Rows) -> None:
    """Say which classes none of dataset.classes is, and how many galaxies of each are `left` out for that."""
    known = [value for classes in dataset.classes.values() for value in classes]
    _say_absent("dataset.classes", known, label)
    counts = pd.Series(label.values.filter(pa.array(left)).to_pandas()).value_counts()
    lower = {value.lower(): value for value in known}
    told = []
    for value, count in counts[:SHOWN].items():
        near = difflib.get_close_matches(value.lower(), lower, n=1)
        hint = f" (the nearest is {lower[near[0]]!r})" if near else ""
        told.append(f"{value or '(empty)'!r} {count:,}{hint}")
    more = f" and {len(counts) - SHOWN} other classes" if len(counts) > SHOWN else ""
    if told:
        say(
            f"left out {left.sum():,} of {len(left):,} galaxies of {rows.path}, whose {label.name} is no class of "
            f"dataset.classes: {', '.join(told)}{more}"
        )


def _counted(question: str, given: list[Column], total: Column | None, rows: Rows):
    """The votes (answer, galaxy) and their total (galaxy,), whole numbers, from columns of counts."""
    told = np.stack([_numbers(column.values) for column in given])
    asked = None if total is None else _numbers(total.values)
    nobody = np.isnan(told).all(axis=0)
    if asked is not None:
        nobody &= np.isnan(asked) | (asked == 0)
        asked = np.where(nobody, 0, asked)
        _check_whole(total, asked, rows)
    told[:, nobody] = 0
    for column, counts in zip(given, told, strict=True):
        _check_whole(column, counts, rows)
    answered = told.sum(axis=0)
    asked = answered if asked is None else asked
    for i in np.flatnonzero((answered > asked) | (asked > MOST))[:1]:
        raise ValueError(
            f"{rows.galaxy(i)} has {answered[i]:.0f} answers to {question} out of {asked[i]:.0f} votes; the answers "
            f"may not exceed the votes, nor these {MOST:,}. Correct the table, or set "
            "dataset.columns.total=null to count the answers"
        )
    return told, asked


def _check_whole(column: Column, counts: np.ndarray, rows: Rows) -> None:
    whole = (counts >= 0) & (counts <= MOST) & (counts == np.floor(counts))
    for i in np.flatnonzero(~whole)[:1]:
        raise ValueError(
            f"{rows.galaxy(i)} has {_told(column, i)}; votes are whole numbers from 0 to {MOST:,}. Correct it (0 "
            "where nobody was asked), or remove the row"
        )


def _rebuilt(question: str, given: list[Column], total: Column, rows: Rows):
    """The votes (answer, galaxy), round(share x total), and their total (galaxy,), as published.

    A missing share is 0. Published shares are rounded, to three digits in most tables, which is exact below 1,000
    votes. Where the votes come to more than the total all the same, they are dealt out again so that they are
    exactly as many: each answer gets the whole part of its due, and those left over go to the largest remainders
    (Hamilton's method). Where they come to less, the total stays: some volunteers gave no answer that is known.
    """
    shares, asked = _shares(given, rows), _numbers(total.values)
    nobody = np.isnan(shares).all(axis=0)
    asked = np.where(nobody & np.isnan(asked), 0, asked)
    _check_whole(total, asked, rows)
    for i in np.flatnonzero(nobody & (asked > 0))[:1]:
        raise ValueError(
            f"{rows.galaxy(i)} has {asked[i]:.0f} votes on {question}, but no share of any answer; correct it (0 votes "
            "where nobody was asked), or remove the row"
        )
    sums = np.nansum(shares, axis=0)
    for i in np.flatnonzero((sums > 1 + ROUNDED * len(given)) & (asked > 0))[:1]:
        raise ValueError(
            f"{rows.galaxy(i)} has shares of {question} that add up to {sums[i]:.3g}; they may not exceed 1. Correct "
            "the table, or leave the question out of dataset.questions"
        )
    votes = _nearest(shares, asked)
    many = votes.sum(axis=0) > asked
    votes[:, many] = _dealt_out(np.nan_to_num(shares[:, many]), asked[many])
    return votes, asked


def _shares(given: list[Column], rows: Rows) -> np.ndarray:
    """Shares of votes (answer, galaxy); NaN where there is none."""
    shares = np.stack([_numbers(column.values) for column in given])
    for column, values in zip(given, shares, strict=True):
        for i in np.flatnonzero((values < -CLOSE) | (values > 1 + CLOSE))[:1]:
            raise ValueError(
                f"{rows.galaxy(i)} has {_told(column, i)}; a share of the votes is from 0 to 1, or empty. Correct it, "
                "or name the columns of shares in dataset.columns.fraction"
            )
    return np.clip(shares, 0, 1)


def _nearest(shares: np.ndarray, asked: np.ndarray | int) -> np.ndarray:
    return np.rint(np.nan_to_num(shares) * asked)


def _dealt_out(shares: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """As many votes (answer, galaxy) as were `asked` for (galaxy,), in proportion to `shares` (answer, galaxy)."""
    due = shares * (asked / shares.sum(axis=0))
    votes = np.floor(due)
    left = asked - votes.sum(axis=0)
    rank = np.argsort(np.argsort(votes - due, axis=0, kind="stable"), axis=0)
    return votes + (rank < left)
