"""From the columns of a table to places on the sky in degrees, and to the scale of cutouts."""

import numpy as np
import pandas as pd

from shared.data.columns import has_scale
from shared.data.rows import Column, Rows, as_numbers, cell_text
from shared.data.tables import as_text
from shared.run.progress import say
from shared.run.spec import DatasetSpec

# Degrees in a unit, by its first letters; of a right ascension, hours are angles, too.
ANGLES = {"deg": 1, "°": 1, "d:m:s": 1, "rad": 180 / np.pi, "arcmin": 1 / 60, "arcsec": 1 / 3600}
SEVERAL = 20  # places by which a unit may be told
HOURS = {"h": 15, "hr": 15, "hour": 15, "hours": 15, "hourangle": 15, "h:m:s": 15, "hms": 15}
HOURS |= {"15deg": 15, "15 deg": 15}  # as astropy writes them into VOTables


def as_degrees(column: Column | None, least: float, most: float, rows: Rows) -> np.ndarray:
    """Degrees (galaxy,) of a declination or, of `most` 360, a right ascension: from numbers in the column's unit, or
    from text as 08:26:17.42 (of a right ascension: hours), -54:12:16.5, 8h26m17s or 187.5d.
    """
    if column is None:
        return np.full(len(rows.numbers), np.nan)
    unit = (column.unit or "deg").strip("\"' []()").lower()
    angles = [size for start, size in ANGLES.items() if unit.startswith(start)]
    angles += [HOURS[unit]] if most == 360 and unit in HOURS else []
    numbers = as_numbers(column.values)
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
            f"{rows.galaxy(i)} has {cell_text(column, i)}; it must be in degrees, from {least} to {most}, or empty"
        )
    return degrees


def say_units(columns: dict[str, Column], ra: np.ndarray, dec: np.ndarray, rows: Rows) -> None:
    """Say so where a table gives no unit, and its places fill all hours of the sky, or all its radians."""
    known = np.isfinite(ra) & np.isfinite(dec)
    if "ra" not in columns or columns["ra"].unit is not None or known.sum() < SEVERAL:
        return
    ra, dec = ra[known], dec[known]
    unit = None
    if ra.min() >= 0 and ra.max() <= 2 * np.pi and np.ptp(ra) > np.pi and np.abs(dec).max() < 1.6:
        unit = ("rad", "in radians")
    elif ra.min() >= 0 and ra.max() <= 24 and np.ptp(ra) > 12 and np.ptp(dec) > 24:
        unit = ("h", "of ra in hours")
    if unit:
        say(
            f"the places of {rows.path} are read in degrees, and all right ascensions lie from {ra.min():.3g} to "
            f"{ra.max():.3g}; if they are {unit[1]}, set dataset.columns.place_unit={unit[0]}"
        )


def _sexagesimal(column: Column, hours: bool) -> np.ndarray:
    """The degrees that text means: A:B:C (in `hours`, or degrees), AhBmCs, AdBmCs or Ad; infinity where
    it means none. By hand, since astropy's Angle reads one text at a time: 75 s for a million, of which this takes 5.
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


def scale_of(dataset: DatasetSpec, columns: dict[str, Column], rows: Rows) -> dict[str, np.ndarray]:
    """The column of arcseconds per pixel, if it is needed; NaN where a size is missing or not above 0."""
    scale = dataset.service.scale
    if not has_scale(dataset):
        return {}
    if scale.fixed is not None:
        return {"scale": np.full(len(rows.numbers), scale.fixed)}
    if not scale.columns:
        raise ValueError(
            "dataset.images asks for a {scale}; set dataset.service.scale.fixed, or name a column of galaxies' "
            "sizes in dataset.service.scale.columns"
        )
    sizes = [
        factor * as_numbers(columns[f"scale {name}"].values)
        for name, factor in scale.columns.items()
    ]
    smallest = np.min(sizes, axis=0)
    good = (smallest > 0) & np.isfinite(sizes).all(axis=0)
    return {"scale": np.where(good, np.maximum(smallest, scale.least), np.nan)}


def check_scale(dataset: DatasetSpec, galaxies: pd.DataFrame) -> None:
    """Raise ValueError if a galaxy has no scale that its cutout needs."""
    if "scale" in galaxies:
        for row in galaxies.index[galaxies["scale"].isna()][:1]:
            raise ValueError(
                f"galaxy {galaxies['id'][row]} (row {row} of {dataset.table}) has no size above 0 in "
                f"{', '.join(dataset.service.scale.columns)}, so the scale of its cutout is unknown; correct it, "
                "remove the row, or set dataset.service.scale.fixed"
            )
