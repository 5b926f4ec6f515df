"""The oracle of `active oracle=label`: people label the galaxies of each round on the page of `trizoo label`."""

from pathlib import Path

from shared.data.store import Store
from shared.method.batches import Labelled
from shared.output.label_server import check_installed, serving
from shared.output.labelling import Room
from shared.output.labels import LABELS, Labels, labels_to_votes, schema_of
from shared.output.oracle import VOTES, read_votes, with_votes
from shared.run.records import make_folder
from shared.run.spec import RunSpec
from shared.run.spreadsheet import write_csv

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
    return with_votes(run, pool, ids, read_votes(path))


def serve(room: Room, store: Store, run: RunSpec, folder: Path, number: int) -> None:
    """Serve the page until every galaxy of `room` has an answer, or was skipped."""
    if room.settled():
        return
    count = len(room.left())  # before anybody is handed one
    with serving(room, store.images, run.label, folder) as link:
        print(f"ask {number}: {count} galaxies to label at {link}", flush=True)
        while not room.settled():
            room.wait(len(room.labelled), EVERY)
