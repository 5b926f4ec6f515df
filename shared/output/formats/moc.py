"""A MOC (multi-order coverage map) of where the galaxies are: every HEALPix cell that holds one, in FITS.

Aladin and TOPCAT draw it; it finds out whether two catalogues overlap. mocpy, an extra, makes it.
"""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from shared.output.columns import Column
from shared.output.formats.hats import EXTRA, places
from shared.run.records import write_whole

ORDER = 10  # cells of 3.4 arcminutes


def check(galaxies: pd.DataFrame) -> None:
    """Raise ValueError without mocpy, or if no galaxy has a place on the sky."""
    _mocpy()
    some = galaxies.reindex(columns=["ra", "dec"])
    places(pa.Table.from_pandas(some, preserve_index=False), "moc")


def write(path: Path, table: pa.Table, columns: dict[str, Column], facts: dict) -> None:
    """The MOC of the galaxies of `table` that have a place on the sky."""
    from astropy.coordinates import Latitude, Longitude

    _, ra, dec = places(table, "moc")
    covered = _mocpy().from_lonlat(Longitude(ra, "deg"), Latitude(dec, "deg"), max_norder=ORDER)
    write_whole(path, lambda beside: covered.save(beside, format="fits", overwrite=True))


def _mocpy():
    try:
        from mocpy import MOC
    except ImportError as error:
        raise ValueError(
            f"posterior.format has moc, but mocpy cannot be imported ({error}); {EXTRA}"
        ) from error
    return MOC
