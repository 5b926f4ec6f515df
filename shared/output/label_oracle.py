"""The oracle of `active oracle=label`: people label the galaxies of each round on the page of `trizoo label`."""

from pathlib import Path

import pandas as pd

from shared.data.store import Store
from shared.method.batches import Labelled
from shared.output.label_server import check_installed, serving
from shared.output.labelling import Room, with_votes
from shared.output.labels import LABELS, Labels, labels_to_votes, schema_of
from shared.run.records import make_folder
from shared.run.spec import RunSpec
from shared.run.spreadsheet import from_cell, write_csv

VOTES = "votes.csv"
EVERY = 1.0  # seconds between looks at whether all have an answer


def labellers(
    store: Store, run: RunSpec, folder: Path, number: int, pool: Labelled, rows: list[int]
) -> Labelled | None:
    """Those of the `pool` that people have labelled once all `rows` of `store`, ask `number`, are or were skipped.

    The folder ask-NN then keeps their votes, so that labels which come later change no past round. None if nobody
    answered about any of `rows`.
    """
    ids, path = store.galaxies["id"], folder / f"ask-{number:02d}" / VOTES
    if not path.exists():
        check_installed()
        labels = Labels(folder / LABELS, ids, schema_of(run))
        try:
            serve(Room(run, labels, rows, "asked"), store, run, folder, number)
            table = labels_to_votes(labels, run.dataset.questions)
        finally:
            labels.close()
        table = table[table.index.isin(ids.iloc[pool.rows])]
        if not table.index.isin(ids.iloc[rows]).any():
            return None
        make_folder(path.parent)
        write_csv(path, table.reset_index())
    table = pd.read_csv(path, dtype={"id": str}, keep_default_na=False)
    table = table.assign(id=table["id"].map(from_cell)).set_index("id")
    return with_votes(run, pool, ids, table)


def serve(room: Room, store: Store, run: RunSpec, folder: Path, number: int) -> None:
    """Serve the page until every galaxy of `room` has an answer, or was skipped."""
    if room.settled():
        return
    with serving(room, store.images, run.label, folder) as link:
        print(f"ask {number}: {len(room.left())} galaxies to label at {link}", flush=True)
        while not room.settled():
            room.wait(len(room.labelled), EVERY)
