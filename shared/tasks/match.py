"""`trizoo match`: find the same galaxies in two stores, by position."""

from pathlib import Path

from shared.data.crossmatch import MATCHES, cross_match, has_place, shared_questions, side_by_side
from shared.data.prepare import prepare
from shared.data.store import open_store
from shared.run.records import write_whole
from shared.run.spec import RunSpec
from shared.run.spreadsheet import write_csv


def match(run: RunSpec, folder: Path) -> dict:
    """Find the galaxies of a dataset that are in another store, too, and write both stores' votes side by side."""
    if run.match.store is None:
        raise ValueError(
            "match.store is null; name the folder of the other store, as trizoo prepare printed it"
        )
    other, this = open_store(run.match.store), prepare(run.dataset)
    for store in (this, other):
        if not has_place(store.galaxies).any():
            raise ValueError(
                f"no galaxy of {store.folder} has a place on the sky; prepare it anew with dataset.columns.ra and "
                "dataset.columns.dec"
            )
    pairs = cross_match(this.galaxies, other.galaxies, run.match.radius)
    table = side_by_side(this, other, pairs)
    write_whole(folder / f"{MATCHES}.parquet", lambda path: table.to_parquet(path, index=False))
    write_csv(folder / f"{MATCHES}.csv", table)
    middle = float(pairs["separation"].median()) if len(pairs) else None
    distance = "" if middle is None else f", the middle one {middle:.2f} arcsec apart"
    results = {
        "stores": [str(this.folder), str(other.folder)],
        "galaxies": [len(this.galaxies), len(other.galaxies)],
        "without_place": [int((~has_place(store.galaxies)).sum()) for store in (this, other)],
        "radius": run.match.radius,
        "matches": len(pairs),
        "median_separation": middle,
        "questions": shared_questions(this, other),
        "summary": f"{len(pairs)} of {len(this.galaxies)} galaxies are among the {len(other.galaxies)} of "
        f"{other.folder}{distance}: {folder / f'{MATCHES}.csv'}",
    }
    return {"where": {}, "results": results}
