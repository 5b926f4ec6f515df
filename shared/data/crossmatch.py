"""Galaxies that two surveys share, matched by position on the sky, so that their votes can be compared."""

import numpy as np
import pandas as pd

from shared.data.store import Store

MATCHES = "matches"  # .parquet and .csv


def cross_match(one: pd.DataFrame, other: pd.DataFrame, radius: float) -> pd.DataFrame:
    """The pairs of galaxies of two tables (ra and dec in degrees) of which each is the other's nearest within `radius`.

    Columns: one_row and other_row, places in the tables from 0; separation, both in arcseconds as `radius` is. In the
    order of the first table. Galaxies whose place is unknown (NaN) have no partner.

    Raises ValueError if no galaxy of a table has a place.
    """
    from astropy import units  # slow to import, and only this needs it
    from astropy.coordinates import SkyCoord

    rows, places = [], []
    for name, galaxies in (("first", one), ("second", other)):
        known = np.flatnonzero(has_place(galaxies))
        if not len(known):
            raise ValueError(
                f"no galaxy of the {name} of two tables has a place on the sky; they are matched by ra and dec, which "
                "dataset.columns.ra and dataset.columns.dec name"
            )
        rows.append(known)
        ra, dec = (galaxies[place].to_numpy(np.float64)[known] for place in ("ra", "dec"))
        places.append(SkyCoord(ra, dec, unit=units.deg))
    partner, separation, _ = places[0].match_to_catalog_sky(places[1])
    back, _, _ = places[1].match_to_catalog_sky(places[0])
    separation = separation.to_value(units.arcsec)
    pair = (back[partner] == np.arange(len(partner))) & (separation <= radius)
    return pd.DataFrame(
        {
            "one_row": rows[0][pair],
            "other_row": rows[1][partner[pair]],
            "separation": separation[pair],
        }
    )


def has_place(galaxies: pd.DataFrame) -> np.ndarray:
    """Whether the place of each galaxy is known, bool (galaxy,)."""
    return galaxies[["ra", "dec"]].notna().all(axis=1).to_numpy()


def shared_questions(this: Store, other: Store) -> list[str]:
    """The questions that both stores have votes on."""
    return [
        question
        for question in this.questions
        if all(
            question in store.questions and f"{question}_total" in store.galaxies
            for store in (this, other)
        )
    ]


def side_by_side(this: Store, other: Store, pairs: pd.DataFrame) -> pd.DataFrame:
    """A row for each of `pairs`: id, other_id, separation in arcseconds, ra, dec, and both stores' votes.

    Votes on the questions that both have are this_QUESTION_ANSWER and other_QUESTION_ANSWER, and their totals, with
    underscores for hyphens.
    """
    mine = this.galaxies.iloc[pairs["one_row"]].reset_index(drop=True)
    theirs = other.galaxies.iloc[pairs["other_row"]].reset_index(drop=True)
    columns = {
        "id": mine["id"],
        "other_id": theirs["id"],
        "separation": pairs["separation"],
        "ra": mine["ra"],
        "dec": mine["dec"],
    }
    for question in shared_questions(this, other):
        for prefix, store, galaxies in (("this", this, mine), ("other", other, theirs)):
            for answer in (*store.questions[question], "total"):
                name = f"{prefix}_{question}_{answer}".replace("-", "_")
                columns[name] = galaxies[f"{question}_{answer}"]
    return pd.DataFrame(columns)
