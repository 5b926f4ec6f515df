"""How long a posterior table takes to be written and read in each format, and how large its file is.

    python -m benchmarks.files record=files.json rows=1000000 rounds=1

`record` is the file for the JSON, `rows` the number of galaxies, `rounds` how often each is timed. The table has
random numbers in full precision, which no format can compress. Read by pandas (Parquet, CSV), astropy (FITS, VOTable)
and pyarrow (HATS), all columns into memory. A format whose library is not installed is left out.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Table

from shared.output.columns import describe_columns
from shared.output.formats import check_formats, module
from shared.run.records import host, write_json
from shared.run.spec import TABLE_FORMATS

ANSWERS = 5
READ: dict[str, Callable[[Path], object]] = {
    "parquet": pd.read_parquet,
    "fits": lambda path: Table.read(path, memmap=False),
    "votable": Table.read,
    "csv": lambda path: pd.read_csv(path, dtype={"id": str}),
    "hats": lambda path: pq.read_table(path / "dataset", partitioning=None),
}


def main(words: list[str]) -> int:
    """Time each format as `words` say and print what was found."""
    given = dict(word.split("=", 1) for word in words)
    found = measure(int(given.get("rows", 1_000_000)), int(given.get("rounds", 1)))
    if "record" in given:
        write_json(Path(given["record"]), found)
    print(json.dumps(found, indent=1))
    return 0


def measure(rows: int, rounds: int) -> dict:
    """The median seconds to write and to read each format, and its bytes, for a table of `rows` galaxies."""
    table = galaxies(rows)
    columns, found = describe_columns(table.column_names), {}
    places = table.select(["id", "ra", "dec"]).slice(0, 1).to_pandas()
    for name in TABLE_FORMATS:
        try:
            check_formats((name,), places)
        except ValueError:  # its library is not installed
            continue
        spent = {"write": [], "read": []}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"posterior{TABLE_FORMATS[name]}")
            for _ in range(rounds):
                spent["write"].append(
                    timed(lambda name=name, path=path: module(name).write(path, table, columns, {}))
                )
                if name in READ:
                    spent["read"].append(timed(lambda name=name, path=path: READ[name](path)))
            files = [file for file in Path(folder).rglob("*") if file.is_file()]
            found[name] = {
                "bytes": sum(file.stat().st_size for file in files),
                **{way: median(some) for way, some in spent.items() if some},
            }
    return {
        "rows": rows,
        "columns": table.num_columns,
        "rounds": rounds,
        "formats": found,
        "host": host(),
    }


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock, and of all processors together, that `work` takes."""
    begun, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - used


def median(spent: list[tuple[float, float]]) -> dict[str, float]:
    """The medians of several `timed`."""
    seconds, processor = (statistics.median(some) for some in zip(*spent, strict=True))
    return {"seconds": seconds, "processor_seconds": processor}


def galaxies(rows: int) -> pa.Table:
    """A posterior table of `rows` galaxies all over the sky."""
    random = np.random.default_rng(0)
    columns = {
        "id": pa.array([f"J{number:09d}" for number in range(rows)]),
        "ra": random.uniform(0, 360, rows),
        "dec": np.degrees(np.arcsin(random.uniform(-1, 1, rows))),
        "in_training": random.random(rows) < 0.5,
        "mutual_information": random.random(rows),
    }
    for answer in range(ANSWERS):
        for part in ("mean", "std", "p05", "p50", "p95"):
            columns[f"question_{answer}_{part}"] = random.random(rows)
        for part in ("votes_low", "votes_high"):
            columns[f"question_{answer}_{part}"] = random.integers(0, 41, rows, np.int32)
    return pa.table(columns)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
