"""A prediction in parts: runs of their own, which any processes may do, anywhere, in any order, and once each.

The part folders part-00000-of-00064 and so on lie in the folder that the whole has. A part is of galaxies that follow
one another in the table, in whole chunks: so its numbers are those of a prediction all at once. What a part's record
keeps lets `trizoo gather` find out whether all are there and belong together, without the galaxies or a framework.
"""

import copy
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from shared.data.inputs import changed_since, inputs
from shared.data.store import Store, sha256
from shared.run.locks import file_lock
from shared.run.progress import say, span
from shared.run.records import make_folder, sweep
from shared.run.spec import RunSpec, from_config, to_config
from shared.tasks.folder import LOCK, clear, finished, part_folder, write_config, write_record

PART = {  # what a part's record keeps of it
    "part": int,
    "parts": int,
    "rows": [int],  # from, to
    "of": int,  # galaxies, in all parts
    "dataset": str,  # the name of its store, which is of what decides its contents
    "sha256": str,  # of the part's posterior.parquet
}


def part_rows(run: RunSpec, galaxies: int) -> range:
    """The rows of the store, of so many `galaxies`, that the run's part has: whole chunks; all if it is no part."""
    if run.part is None or run.parts is None:
        return range(galaxies)
    chunks = -(-galaxies // run.backend.chunk)
    first, last = (
        min(galaxies, number * chunks // run.parts * run.backend.chunk)
        for number in (run.part, run.part + 1)
    )
    return range(first, last)


def about_part(run: RunSpec, store: Store, folder: Path) -> dict:
    """What the record of the run's part keeps of it; nothing if it is no part."""
    if run.part is None:
        return {}
    rows = part_rows(run, len(store.images))
    about = {
        "part": run.part,
        "parts": run.parts,
        "rows": [rows.start, rows.stop],
        "of": len(store.images),
        "dataset": store.folder.name,
        "sha256": sha256(folder / "posterior.parquet"),
    }
    return {"part": about}


def all_parts(run: RunSpec, folder: Path, predict: Callable[[RunSpec, Path], dict]) -> dict:
    """Every part of the run that is not done yet, one after the other in this process.

    Gives the outcome of the whole, without where it ran; one that waits if another process is at work on some parts.
    """
    assert run.parts is not None
    config, begun = to_config(run), time.perf_counter()
    made_of = inputs(config)
    done, galaxies, elsewhere = 0, 0, 0
    for part in range(run.parts):
        own, place = config | {"part": part}, part_folder(folder, part, run.parts)
        make_folder(place)
        with file_lock(place / LOCK) as lock:
            if lock is None:
                elsewhere += 1
                continue
            record = None if run.again else finished(place)
            if record is None or changed_since(record, own):
                done += 1
                record = _done(own, place, made_of, predict)
                left = (time.perf_counter() - begun) / done * (run.parts - part - 1)
                say(f"part {part + 1} of {run.parts} is done, {span(left)} left at most")
            galaxies += record["results"]["galaxies"]
            (place / LOCK).unlink(missing_ok=True)
    if elsewhere:
        return {
            "waiting": f"{elsewhere} of {run.parts} parts are in the hands of other processes; when these are done, "
            f"the same command says so, or trizoo gather run={folder}"
        }
    results = {
        "parts": run.parts,
        "done_here": done,
        "galaxies": galaxies,
        "summary": f"{galaxies} galaxies in {run.parts} parts, {done} of them done now; one catalogue of them: "
        f"trizoo gather run={folder}",
    }
    return {"results": results}


def _done(config: dict, place: Path, made_of: dict, predict: Callable) -> dict:
    """Do the part of `config` in its folder; its record."""
    started, begun = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    write_config(place, copy.deepcopy(config))
    sweep(place)
    clear(place, "predict")
    outcome = predict(from_config(RunSpec, config), place)
    command = f"trizoo --run {place}"
    return write_record(
        place, command, config, made_of, outcome, started, time.perf_counter() - begun
    )
