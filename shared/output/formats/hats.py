"""HATS: Parquet files by place on the sky, each a HEALPix cell, which LSDB opens without reading the rest.

A cell that holds more than ROWS galaxies is cut in four, again and again. What is written is the format's least
(github.com/astronomy-commons/hats): galaxies sorted by their cell of order 29, `partition_info.csv`, the files'
common and joint metadata, and properties. HEALPix numbers are those of cdshealpix, an extra.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from shared.output.columns import Column
from shared.output.formats.parquet import described
from shared.run.progress import say
from shared.run.records import unfinished, write_folder

ROWS = 1_000_000  # in a file, at most
FINEST = 29  # the order of HEALPix whose cells number all places
CELL = "_healpix_29"
ABOUT_CELL = Column(
    "", "pos.healpix", "HEALPix cell, order 29, nested, ICRS, in whose order the rows are"
)
EXTRA = "pip install 'trizoo[hats]'"


class Part(NamedTuple):
    """The galaxies of one file: rows `start` to `stop` of the sorted table, in cell `pixel` of `order`."""

    order: int
    pixel: int
    start: int
    stop: int


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


def places(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of `table` with a place on the sky, and their right ascensions and declinations in degrees.

    Raises ValueError, with the `name` of the format, if there is none.
    """
    there = {"ra", "dec"} <= set(table.column_names)
    ra, dec = (
        np.asarray(table[place].to_pandas(), np.float64) if there else np.empty(0)
        for place in ("ra", "dec")
    )
    rows = np.flatnonzero(np.isfinite(ra) & (np.abs(dec) <= 90))
    if table.num_rows and not len(rows):
        raise ValueError(
            f"posterior.format has {name}, but no galaxy has a place on the sky; prepare the dataset with "
            "dataset.columns.ra and dataset.columns.dec, or leave it out"
        )
    return rows, ra[rows], dec[rows]


def write(path: Path, table: pa.Table, columns: dict[str, Column], facts: dict) -> None:
    """`table` as a HATS catalogue in the folder `path`, without the galaxies that have no place on the sky."""
    from astropy.coordinates import Latitude, Longitude

    rows, ra, dec = places(table, "hats")
    if left := table.num_rows - len(rows):
        say(f"{path.name} leaves out {left} galaxies that have no place on the sky")
    cells = (
        healpix().lonlat_to_healpix(Longitude(ra, "deg"), Latitude(dec, "deg"), FINEST)
        if len(rows)
        else np.empty(0)
    )
    cells = cells.astype(np.int64)
    order = np.argsort(cells, kind="stable")
    table, cells = table.take(rows[order]), cells[order]
    table = table.add_column(0, CELL, pa.array(cells))
    table = described(table, {CELL: ABOUT_CELL, **columns}, facts)
    if path.exists():  # of an attempt that ended before its record was written
        old = unfinished(path)
        path.rename(old)
        shutil.rmtree(old)
    write_folder(path, lambda beside: _fill(beside, table, list(parts(cells)), facts))


def parts(
    cells: np.ndarray, order: int = 0, pixel: int | None = None, start: int = 0
) -> Iterator[Part]:
    """The files that the sorted `cells` (row,) of order 29 are cut into, each cell with at most ROWS galaxies."""
    for one in range(12) if pixel is None else range(4 * pixel, 4 * pixel + 4):
        width = 4 ** (FINEST - order)
        first, last = np.searchsorted(cells, [one * width, (one + 1) * width])
        inside = cells[first:last]
        if len(inside) > ROWS and order < FINEST:
            yield from parts(inside, order + 1, one, start + first)
        elif len(inside):
            yield Part(order, one, start + int(first), start + int(last))


def _fill(folder: Path, table: pa.Table, found: list[Part], facts: dict) -> None:
    dataset, joint = folder / "dataset", []
    dataset.mkdir()
    for part in found:
        name = f"Norder={part.order}/Dir={part.pixel // 10000 * 10000}/Npix={part.pixel}.parquet"
        (dataset / name).parent.mkdir(parents=True, exist_ok=True)
        some = table.slice(part.start, part.stop - part.start)
        pq.write_table(some, dataset / name, compression="zstd", metadata_collector=joint)
        joint[-1].set_file_path(name)
    pq.write_metadata(table.schema, dataset / "_common_metadata")
    pq.write_metadata(table.schema, dataset / "_metadata", metadata_collector=joint)
    lines = ["Norder,Npix", *(f"{part.order},{part.pixel}" for part in found)]
    (folder / "partition_info.csv").write_text("\n".join(lines) + "\n")
    text = properties(table.num_rows, found, facts)
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
