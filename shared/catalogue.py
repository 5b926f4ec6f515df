"""A survey's table and folder of images: a row per galaxy, with its id, image, place and votes.

Everything is read as text or as Arrow integers, so an 18-digit id never passes through a floating-
point column, which would change its last digits. Rows are counted from 1, the header not counted.
"""

import difflib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from shared.cutouts import SUFFIXES
from shared.spec import DatasetSpec
from shared.split import galaxy_hash

SHOWN = 30  # columns named in an error


def read_catalogue(dataset: DatasetSpec) -> pd.DataFrame:
    """The galaxies of DATASET, indexed by their row in its table.

    Columns: id, file (the whole path of the image, which need not be there), ra and dec in degrees
    (NaN: unknown), and the int32 votes QUESTION_ANSWER and QUESTION_total of every question.
    Without a table there are no votes, and the galaxies are the images under the folder, in the
    order of their paths, each named by its file less the suffix. dataset.galaxies keeps those of
    the smallest hash of their id, in the order of the table.

    Raises FileNotFoundError if the table or the folder is not there, and ValueError, naming the row
    and a way out, for anything in them that cannot be meant.
    """
    if dataset.images is None:
        raise ValueError(
            f"dataset.images is null, but dataset.table is {dataset.table}; "
            "name the folder of images"
        )
    folder = Path(dataset.images)
    galaxies = _from_folder(folder) if dataset.table is None else _from_table(dataset, folder)
    if dataset.galaxies is None:
        return galaxies
    chosen = np.argsort(galaxy_hash(galaxies["id"]), kind="stable")[: dataset.galaxies]
    return galaxies.iloc[np.sort(chosen)]


def list_images(folder: Path | str) -> dict[str, os.stat_result]:
    """The images in FOLDER and the folders in it, by their path from there (with /), sorted.

    Hidden files, of which some systems leave one beside every image, are not seen. Raises
    FileNotFoundError if there is no such folder, ValueError if there is no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"dataset.images is {folder}, which is not a folder; name the one that holds the images"
        )
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith(".") and path.is_file():
                found[path.relative_to(folder).as_posix()] = path.stat()
    if not found:
        raise ValueError(
            f"no image is in {folder}; put files there that end in {', '.join(SUFFIXES)}"
        )
    return dict(sorted(found.items()))


def _from_folder(folder: Path) -> pd.DataFrame:
    named = {}
    for name in list_images(folder):
        other = named.setdefault(PurePosixPath(name).stem, name)
        if other != name:
            raise ValueError(f"{other} and {name} in {folder} would be one galaxy; rename one")
    files = [str(folder.absolute() / name) for name in named.values()]
    galaxies = pd.DataFrame({"id": list(named), "file": files}, index=range(1, len(named) + 1))
    return galaxies.assign(ra=np.nan, dec=np.nan)


def _from_table(dataset: DatasetSpec, folder: Path) -> pd.DataFrame:
    path, columns = Path(dataset.table), dataset.columns
    names, read = _open_table(path)
    votes = _vote_columns(dataset, names)
    wanted = {"id": columns.id, "file": columns.file, "ra": columns.ra, "dec": columns.dec, **votes}
    wanted = {key: name for key, name in wanted.items() if name is not None}
    _check_columns(path, names, wanted)
    with _reading(path):
        table = read(sorted(set(wanted.values())))
    if not table.num_rows:
        raise ValueError(f"{path} has no rows, so there is no galaxy; check dataset.table")
    ids = _ids(table[columns.id], path)
    galaxies = pd.DataFrame({"id": ids}, index=range(1, len(ids) + 1))
    _check_ids(galaxies["id"], path)
    files = ids if columns.file is None else _texts(table[columns.file])
    galaxies["file"] = _image_paths(folder, files)
    for place, least, most in (("ra", -180, 360), ("dec", -90, 90)):
        name = getattr(columns, place)
        galaxies[place] = np.nan
        if name is not None:
            galaxies[place] = _degrees(table[name], name, least, most, ids, path)
    if columns.label is not None:
        return _label_votes(dataset, galaxies, _texts(table[columns.label]))
    return _count_votes(dataset, galaxies, table, votes, path)


def _vote_columns(dataset: DatasetSpec, names: Sequence[str]) -> dict[str, str]:
    """The table's column behind every column of votes, by the name that the catalogue gives it."""
    columns, questions = dataset.columns, dataset.questions
    asked = [(q, a) for q, answers in questions.items() for a in answers]
    ours = [f"{q}_{a}" for q, a in asked] + [f"{q}_total" for q in questions]
    for name in ours:
        if ours.count(name) > 1:
            raise ValueError(
                f"dataset.questions gives the column {name} two meanings; rename an answer"
            )
    if (columns.label is None) != (dataset.classes is None):
        raise ValueError(
            "dataset.columns.label and dataset.classes belong together; give both or neither"
        )
    if columns.label is not None:
        return {"label": columns.label}
    votes = {f"{q}_{a}": _fill(columns.count, "count", question=q, answer=a) for q, a in asked}
    if columns.total is not None:
        totals = {f"{q}_total": _fill(columns.total, "total", question=q) for q in questions}
        votes |= {ours: name for ours, name in totals.items() if name in names}
    return votes


def _fill(pattern: str, key: str, **values: str) -> str:
    try:
        return pattern.format(**values)
    except (KeyError, IndexError, ValueError):
        braces = " and ".join(f"{{{name}}}" for name in values)
        raise ValueError(
            f"dataset.columns.{key} is {pattern!r}; it may hold {braces} and no other braces"
        ) from None


# Reading: each kind of table gives its columns' names, and a function that reads chosen columns.


def _open_table(path: Path) -> tuple[list[str], Callable[[list[str]], pa.Table]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"dataset.table is {path}, which is not a file; name a CSV, Parquet or FITS table"
        )
    for suffix, kind in _KINDS.items():
        if path.name.lower().endswith(suffix):
            with _reading(path):
                names, read = kind(path)
            return names, read
    raise ValueError(f"dataset.table is {path}; its name must end in one of {', '.join(_KINDS)}")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as problem:
        raise ValueError(
            f"{path} cannot be read ({problem}); mend it or fetch it again"
        ) from problem


def _open_csv(path: Path):
    with pyarrow.csv.open_csv(path) as reader:
        names = reader.schema.names

    def read(wanted):
        as_text = dict.fromkeys(wanted, pa.string())
        options = pyarrow.csv.ConvertOptions(include_columns=wanted, column_types=as_text)
        return pyarrow.csv.read_csv(path, convert_options=options)

    return names, read


def _open_parquet(path: Path):
    file = pyarrow.parquet.ParquetFile(path)
    return file.schema_arrow.names, lambda wanted: file.read(columns=wanted)


def _open_fits(path: Path):
    from astropy.io import fits  # slow to import, and only FITS needs it
    from astropy.table import Table

    with fits.open(path) as units:
        tables = [i for i, unit in enumerate(units) if hasattr(unit, "columns")]
        if not tables:
            raise ValueError("it holds no table")
        number, names = tables[0], units[tables[0]].columns.names

    def read(wanted):
        table = Table.read(path, hdu=number, character_as_bytes=False, mask_invalid=False)
        return pa.table({name: _arrow(name, table[name]) for name in wanted})

    return names, read


def _arrow(name: str, column) -> pa.Array:
    if column.ndim != 1:
        raise ValueError(f"column {name!r} holds {column.shape[1:]} values in each row, not one")
    values = np.asarray(column)
    if values.dtype.kind in "US":
        values = np.char.strip(values).astype(object)
    else:
        values = values.astype(values.dtype.newbyteorder("="))
    return pa.array(values, mask=np.ma.getmaskarray(column))


_KINDS = {".csv": _open_csv, ".csv.gz": _open_csv, ".parquet": _open_parquet, ".fits": _open_fits}


def _check_columns(path: Path, names: Sequence[str], wanted: dict[str, str]) -> None:
    """Raise ValueError unless every wanted column is in the table, once."""
    missing = [name for name in wanted.values() if name not in names]
    if missing:
        lower = {name.lower(): name for name in names}
        hints = []
        for name in missing:
            near = difflib.get_close_matches(name.lower(), lower, n=1)
            hints.append(f"{name!r}" + (f" (the nearest is {lower[near[0]]!r})" if near else ""))
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        there = ", ".join(map(repr, names[:SHOWN]))
        raise ValueError(
            f"{path} has no column {', '.join(hints)}; it has {there}{more}. "
            "Say what it calls them in dataset.columns, or correct dataset.questions"
        )
    for name in wanted.values():
        if list(names).count(name) > 1:
            raise ValueError(
                f"{path} has {list(names).count(name)} columns called {name!r}; rename all but one"
            )


# Values: from an Arrow column to the text, places and votes of every galaxy.


def _texts(column: pa.ChunkedArray) -> list[str]:
    """Every value as text, stripped; a missing one is empty, and a 4.0 that was a number is 4."""
    return [(text or "").strip() for text in column.cast(pa.string()).to_pylist()]


def _ids(column: pa.ChunkedArray, path: Path) -> list[str]:
    if pa.types.is_floating(column.type):
        raise ValueError(
            f"the ids of {path} are floating-point numbers, which cannot hold 18 digits; "
            "write that column as text or 64-bit integers, from the original table"
        )
    return _texts(column)


def _check_ids(ids: pd.Series, path: Path | str) -> None:
    for row in ids.index[ids == ""][:1]:
        raise ValueError(f"row {row} of {path} has no id; give it one or remove the row")
    for row in ids.index[ids.str.fullmatch(r"\d[.,]\d+[eE]\+\d+")][:1]:
        raise ValueError(
            f"row {row} of {path} has the id {ids[row]}, which has lost digits, perhaps in a "
            "spreadsheet; use the original table"
        )
    for row in ids.index[ids.duplicated()][:1]:
        first = ids.index[ids == ids[row]][0]
        raise ValueError(
            f"galaxy {ids[row]} is in {path} twice, as row {first} and row {row}; keep one of them"
        )


def _image_paths(folder: Path, files: list[str]) -> list[str]:
    """The image of each galaxy: the file in FOLDER of that name, or of that name and a suffix."""
    found = list_images(folder)
    by_stem = {}
    for name in found:
        by_stem.setdefault(str(PurePosixPath(name).with_suffix("")), name)
    root = folder.absolute()
    return [str(root / (file if file in found else by_stem.get(file, file))) for file in files]


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Every value as float64; NaN where there is none or it is no number."""
    values = column.to_pandas()
    if not pd.api.types.is_numeric_dtype(values):
        values = pd.to_numeric(pd.Series(_texts(column), dtype=object), errors="coerce")
    return values.to_numpy(np.float64, na_value=np.nan)


def _degrees(
    column, name: str, least: float, most: float, ids: list[str], path: Path
) -> np.ndarray:
    degrees, texts = _numbers(column), _texts(column)
    unknown = np.array([text.lower() in ("", "nan") for text in texts])
    for i in np.flatnonzero(~unknown & ~((degrees >= least) & (degrees <= most)))[:1]:
        raise ValueError(
            f"galaxy {ids[i]} (row {i + 1} of {path}) has {name} = {texts[i]}; "
            f"it must be in degrees, from {least} to {most}, or empty"
        )
    return degrees


def _label_votes(dataset: DatasetSpec, galaxies: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """One vote for the answer whose list holds the class; other galaxies are left out."""
    ((question, answers),) = dataset.questions.items()
    answer_of = {}
    for answer, classes in dataset.classes.items():
        if answer not in answers:
            raise ValueError(
                f"dataset.classes has {answer!r}; {question} has the answers {', '.join(answers)}"
            )
        for value in classes:
            if answer_of.setdefault(value, answer) != answer:
                raise ValueError(
                    f"dataset.classes gives class {value!r} to {answer_of[value]} and to {answer}; "
                    "choose one"
                )
    given = np.array([answer_of.get(label, "") for label in labels], dtype=object)
    if not (given != "").any():
        seen = ", ".join(map(repr, sorted(set(labels))[:SHOWN]))
        raise ValueError(
            f"no galaxy has a class of dataset.classes; the column {dataset.columns.label} holds "
            f"{seen}. Correct one of them"
        )
    for answer in answers:
        galaxies[f"{question}_{answer}"] = (given == answer).astype(np.int32)
    galaxies[f"{question}_total"] = np.int32(1)
    return galaxies[given != ""]


def _count_votes(
    dataset: DatasetSpec, galaxies: pd.DataFrame, table: pa.Table, votes: dict, path: Path
) -> pd.DataFrame:
    ids = galaxies["id"].to_numpy()
    counts = {ours: _counts(table[name], name, ids, path) for ours, name in votes.items()}
    for question, answers in dataset.questions.items():
        told = np.sum([counts[f"{question}_{answer}"] for answer in answers], axis=0)
        total = counts.setdefault(f"{question}_total", told)
        for i in np.flatnonzero((told > total) | (total > np.iinfo(np.int32).max))[:1]:
            raise ValueError(
                f"galaxy {ids[i]} (row {i + 1} of {path}) has {told[i]} answers to {question} out "
                f"of {total[i]} votes; the answers may not exceed the votes, nor these 2^31. "
                "Correct the table, or set dataset.columns.total=null to count the answers"
            )
        for name in [*(f"{question}_{answer}" for answer in answers), f"{question}_total"]:
            galaxies[name] = counts[name].astype(np.int32)
    return galaxies


def _counts(column: pa.ChunkedArray, name: str, ids: np.ndarray, path: Path) -> np.ndarray:
    """Every value as int64; they may be written as whole floating-point numbers."""
    values = _numbers(column)
    for i in np.flatnonzero(~((values >= 0) & (values < 2**31) & (values == np.floor(values))))[:1]:
        raise ValueError(
            f"galaxy {ids[i]} (row {i + 1} of {path}) has {name} = {column[int(i)].as_py()!r}; "
            "votes are whole numbers from 0, below 2^31. Correct it (0 where nobody was asked), or "
            "remove the row"
        )
    return values.astype(np.int64)
