"""`trizoo gather`: one catalogue of all parts of a prediction, once it is sure that every galaxy is there once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shared.data.store import sha256
from shared.output.columns import describe_columns
from shared.output.formats import hats, parquet
from shared.run.config import differences, identity
from shared.run.keys import galaxy_hash
from shared.run.progress import track
from shared.run.records import RECORD as DONE
from shared.run.records import read_json
from shared.run.spec import RunSpec
from shared.tasks.folder import part_folder
from shared.tasks.parts import PART

TABLE = "posterior.parquet"
AT_ONCE = 50_000_000  # ids that are compared together, of 8 bytes each
RECORD = DONE | {
    "results": {"part": PART, "galaxies": int, "left_out": [{"id": str, "reason": str}]}
}
NAMED = 5  # parts or galaxies named in a message


def gather(run: RunSpec, folder: Path) -> dict:
    """Write the table of all parts of the prediction in run.run: as HATS, or as one Parquet file where galaxies have no
    place on the sky. No more than one part, or one file of HATS, is in memory.

    Raises ValueError, naming them, for parts that are missing, damaged or of another run, and for galaxies that are
    there twice.
    """
    if run.run is None:
        raise ValueError(
            "run is null; name the folder of a prediction in parts: run=outputs/predict/NAME"
        )
    records = read_parts(Path(run.run))
    files = [Path(run.run, record["folder"], TABLE) for record in records]
    check_once(files)
    schema = pq.read_schema(files[0])
    facts, columns = parquet.facts_of(schema), describe_columns(schema.names)
    galaxies = sum(record["results"]["galaxies"] for record in records)
    if {"ra", "dec"} <= set(schema.names):
        path = folder / "posterior_hats"
        tables = (pq.read_table(file) for file in track(files, "sorting", unit="parts"))
        left_out = hats.write_tables(path, tables, columns, facts)
    else:
        path, left_out = folder / TABLE, 0
        longest = max(map(_longest, files))
        parquet.write_blocks(path, _row_groups(files), facts, {"id": longest})
    lost = [one for record in records for one in record["results"]["left_out"]]
    without = (
        f", {left_out} of them without a place on the sky and so not there" if left_out else ""
    )
    without += f"; {len(lost)} were left out for their images" if lost else ""
    return {
        "where": {},
        "results": {
            "parts": len(records),
            "galaxies": galaxies,
            "without_place": left_out,
            "left_out": lost,
            "summary": f"{galaxies} galaxies of {len(records)} parts, each once{without}: {path}",
        },
    }


def read_parts(folder: Path) -> list[dict]:
    """The records of all parts of the prediction in `folder`, in order, each with the name of its "folder".

    Raises ValueError unless all are there, of one run and dataset, follow one another, and are as they were written.
    """
    records, end = [], 0
    for place in track(part_folders(folder), "checking parts", unit="parts"):
        record = read_json(place / "record.json", RECORD, f"remove {place}")
        if wrong := wrong_with(place, record, records[0] if records else record, end):
            raise ValueError(f"{place} {wrong}; remove it, and do it again")
        records.append(record | {"folder": place.name})
        end = record["results"]["part"]["rows"][1]
    return records


def part_folders(folder: Path) -> list[Path]:
    """The folders of all parts of the prediction in `folder`, in order; ValueError unless all are done."""
    places = sorted(folder.glob("part-*-of-*"))
    if not places:
        raise ValueError(
            f"there are no parts in {folder}; name the folder of trizoo predict parts=N, in which part-00000-of-N lies"
        )
    count = int(places[0].name.rpartition("-")[2])
    wanted = [part_folder(folder, part, count) for part in range(count)]
    if strange := [place.name for place in places if place not in wanted]:
        raise ValueError(
            f"{folder} holds parts of several numbers, {places[0].name} and {strange[0]}; remove those not meant"
        )
    missing = [place.name for place in wanted if not (place / "record.json").exists()]
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise ValueError(
            f"{len(missing)} of {count} parts in {folder} are not done: {', '.join(missing[:NAMED])}{more}; the "
            "command of the prediction does those that are missing"
        )
    return wanted


def wrong_with(place: Path, record: dict, first: dict, end: int) -> str:
    """What is wrong with the part in `place`, of that `record`, after the `first` one and those that `end` at a row."""
    own = record["results"]["part"]
    other = differences(_whole(first), _whole(record))
    if other:
        return f"is of another run than the first part (it differs in {other[0]})"
    start, stop = own["rows"]
    if start != end or (own["part"] + 1 == own["parts"] and stop != own["of"]):
        return f"has the rows {start} to {stop} of {own['of']}, and the parts before end at {end}"
    if sha256(place / TABLE) != own["sha256"]:
        return "has another posterior.parquet than was written there"
    rows, lost = pq.read_metadata(place / TABLE).num_rows, len(record["results"]["left_out"])
    if rows + lost != stop - start:
        return f"has {rows} galaxies, and {lost} that were left out, of {stop - start}"
    return ""


def check_once(files: list[Path]) -> None:
    """Raise ValueError, naming galaxies, if an id is in `files` twice; in as many passes as memory asks for."""
    count = sum(pq.read_metadata(file).num_rows for file in files)
    passes = max(1, -(-count // AT_ONCE))
    for number in range(passes):
        found = []
        for file in files:
            hashes = galaxy_hash(pq.read_table(file, columns=["id"])["id"].to_pandas())
            found.append(hashes[hashes % np.uint64(passes) == number])
        hashes = np.sort(np.concatenate(found))
        if len(twice := np.unique(hashes[1:][hashes[1:] == hashes[:-1]])):
            names = [name for file in files for name in _named(file, twice)]
            raise ValueError(
                f"galaxies are there twice, {', '.join(sorted(set(names))[:NAMED])} for some; their parts are not of "
                "one table, so predict again with another folder=..."
            )


def _named(file: Path, hashes: np.ndarray) -> list[str]:
    ids = pq.read_table(file, columns=["id"])["id"].to_pandas()
    return ids[np.isin(galaxy_hash(ids), hashes)].tolist()


def _whole(record: dict) -> dict:
    """What the parts of one prediction have in common."""
    part = record["results"]["part"]
    return identity(record["run"] | {"part": None}) | {key: part[key] for key in ("of", "dataset")}


def _longest(file: Path) -> int:
    return int((pq.read_schema(file).metadata or {}).get(b"table::len::id", b"1"))


def _row_groups(files: list[Path]) -> Iterator[pa.Table]:
    for path in track(files, "writing", unit="parts"):
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number)
