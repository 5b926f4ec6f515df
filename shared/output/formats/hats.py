"""HATS: Parquet files by place on the sky, each a HEALPix cell, which LSDB opens without reading the rest.

A cell that holds more than ROWS galaxies is cut in four, again and again. What is written is the format's least
(github.com/astronomy-commons/hats): galaxies sorted by their cell of order 29, `partition_info.csv`, the files'
common and joint metadata, and properties. HEALPix numbers are those of cdshealpix, an extra.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from shared.output.columns import Column
from shared.output.formats.parquet import described_schema, longest_texts
from shared.run.progress import say
from shared.run.records import make_folder, unfinished, write_folder

ROWS = 1_000_000  # in a file, at most
FINEST = 29  # the order of HEALPix whose cells number all places
CELL = "_healpix_29"
ABOUT_CELL = Column(
    "", "pos.healpix", "HEALPix cell, order 29, nested, ICRS, in whose order the rows are"
)
EXTRA = "pip install 'trizoo[hats]'"


class Part(NamedTuple):
    """The galaxies of one file, in cell `pixel` of `order`: rows (start, stop) of each sorted table."""

    order: int
    pixel: int
    rows: list[tuple[int, int]]


def check(galaxies: pd.DataFrame) -> None:
    """Raise ValueError without cdshealpix, or if no galaxy has a place on the sky."""
    healpix()
    some = galaxies.reindex(columns=["ra", "dec"])
    places(pa.Table.from_pandas(some, preserve_index=False), "hats")


def healpix():
    """cdshealpix's functions of nested cells; ValueError if it is not installed."""
    try:
        from cdshealpix import nested
    except ImportError as error:
        raise ValueError(
            f"posterior.format has hats, but cdshealpix cannot be imported ({error}); {EXTRA}"
        ) from error
    return nested


def placed(table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of `table` with a place on the sky, and their right ascensions and declinations in degrees."""
    there = {"ra", "dec"} <= set(table.column_names)
    ra, dec = (
        np.asarray(table[place].to_pandas(), np.float64) if there else np.empty(0)
        for place in ("ra", "dec")
    )
    rows = np.flatnonzero(np.isfinite(ra) & (np.abs(dec) <= 90))
    return rows, ra[rows], dec[rows]


def places(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`placed` of `table`; ValueError, with the `name` of the format, if no galaxy has a place on the sky."""
    rows, ra, dec = placed(table)
    if table.num_rows and not len(rows):
        raise ValueError(
            f"posterior.format has {name}, but no galaxy has a place on the sky; prepare the dataset with "
            "dataset.columns.ra and dataset.columns.dec, or leave it out"
        )
    return rows, ra, dec


def write(path: Path, table: pa.Table, columns: dict[str, Column], facts: dict) -> None:
    """`table` as a HATS catalogue in the folder `path`, without the galaxies that have no place on the sky."""
    places(table, "hats")
    if left_out := write_tables(path, [table], columns, facts):
        say(f"{path.name} leaves out {left_out} galaxies that have no place on the sky")


def write_tables(
    path: Path, tables: Iterable[pa.Table], columns: dict[str, Column], facts: dict
) -> int:
    """All `tables` as one HATS catalogue in the folder `path`; how many galaxies have no place on the sky, and are left
    out.

    Each table is sorted by cells and kept on the disk beside `path` before the next is asked for; each file is then
    made of its rows of all of them. So no more than one table, or one file, need be in memory.
    """
    make_folder(path.parent)
    with TemporaryDirectory(prefix=".sorted-", dir=path.parent) as beside:
        sorted_tables, left_out, longest = [], 0, Counter()
        for number, table in enumerate(tables):
            by_cell = sort_by_cell(table)
            left_out += table.num_rows - by_cell.num_rows
            longest |= Counter(longest_texts(by_cell))
            file = Path(beside, f"{number}.arrow")
            with (
                pa.OSFile(str(file), "wb") as sink,
                pa.ipc.new_file(sink, by_cell.schema) as writer,
            ):
                writer.write_table(by_cell)
            sorted_tables.append(pa.ipc.open_file(pa.memory_map(str(file))).read_all())
        cells = [np.asarray(table[CELL]) for table in sorted_tables]
        schema = described_schema(
            sorted_tables[0].schema, {CELL: ABOUT_CELL, **columns}, facts, dict(longest)
        )
        if path.exists():  # of an attempt that ended before its record was written
            old = unfinished(path)
            path.rename(old)
            shutil.rmtree(old)
        found = list(parts(cells))
        write_folder(path, lambda beside: _fill(beside, sorted_tables, found, schema, facts))
    return left_out


def sort_by_cell(table: pa.Table) -> pa.Table:
    """The galaxies of `table` that have a place on the sky, in the order of their cells, which are the first column."""
    from astropy.coordinates import Latitude, Longitude

    rows, ra, dec = placed(table)
    cells = np.empty(0, np.int64)
    if len(rows):
        place = Longitude(ra, "deg"), Latitude(dec, "deg")
        cells = healpix().lonlat_to_healpix(*place, FINEST).astype(np.int64)
    order = np.argsort(cells, kind="stable")
    table = table.replace_schema_metadata(None).take(rows[order])
    return table.add_column(0, CELL, pa.array(cells[order])).combine_chunks()


def parts(tables: list[np.ndarray], order: int = 0, pixel: int | None = None) -> Iterator[Part]:
    """The files of `tables`, of each the sorted cells (row,) of order 29: one cell each, of at most ROWS galaxies."""
    for one in range(12) if pixel is None else range(4 * pixel, 4 * pixel + 4):
        width = 4 ** (FINEST - order)
        edges = [one * width, (one + 1) * width]
        rows = [tuple(np.searchsorted(cells, edges).tolist()) for cells in tables]
        count = sum(stop - start for start, stop in rows)
        if count > ROWS and order < FINEST:
            yield from parts(tables, order + 1, one)
        elif count:
            yield Part(order, one, rows)


def _fill(
    folder: Path, tables: list[pa.Table], found: list[Part], schema: pa.Schema, facts: dict
) -> None:
    dataset, joint = folder / "dataset", []
    dataset.mkdir()
    for part in found:
        name = f"Norder={part.order}/Dir={part.pixel // 10000 * 10000}/Npix={part.pixel}.parquet"
        (dataset / name).parent.mkdir(parents=True, exist_ok=True)
        some = pa.concat_tables(
            [
                table.slice(start, stop - start)
                for table, (start, stop) in zip(tables, part.rows, strict=True)
            ]
        )
        order = np.argsort(np.asarray(some[CELL]), kind="stable")
        some = some.take(order).cast(schema)
        pq.write_table(some, dataset / name, compression="zstd", metadata_collector=joint)
        joint[-1].set_file_path(name)
    pq.write_metadata(schema, dataset / "_common_metadata")
    pq.write_metadata(schema, dataset / "_metadata", metadata_collector=joint)
    lines = ["Norder,Npix", *(f"{part.order},{part.pixel}" for part in found)]
    (folder / "partition_info.csv").write_text("\n".join(lines) + "\n")
    rows = sum(stop - start for part in found for start, stop in part.rows)
    text = properties(rows, found, facts)
    for name in ("hats.properties", "properties"):
        (folder / name).write_text(text, "ascii")


def properties(rows: int, found: list[Part], facts: dict) -> str:
    """What the catalogue is, as HATS has it."""
    area = sum(1 / (12 * 4**part.order) for part in found)
    values = {
        "obs_collection": facts.get("survey", "trizoo"),
        "dataproduct_type": "object",
        "hats_nrows": rows,
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": CELL,
        "hats_col_healpix_order": FINEST,
        "hats_order": max((part.order for part in found), default=0),
        "hats_npix_suffix": ".parquet",
        "hats_max_rows": ROWS,
        "hats_version": "v1.0",
        "hats_builder": f"trizoo {facts.get('trizoo', '')}".strip(),
        "moc_sky_fraction": f"{area:.6f}",
        "bib_reference": facts.get("doi") or "",
        "obs_copyright": facts.get("licence") or "",
    }
    spelt = {
        key: json.dumps(str(value))[1:-1] for key, value in values.items()
    }  # as Java spells it
    return "".join(f"{key}={value}\n" for key, value in spelt.items() if value)
