"""A survey's files made into a store, once: later runs with the same files open what is there.

The store's folder is named by a digest of the dataset's specification and of its sources (the
table's bytes; the names, sizes and times of the images; the code that draws synthetic ones), so
what changes makes another store. It is built in a hidden folder beside its place and renamed when
it is whole. That folder holds a locked file: a second process waits for the first, and what a dead
process left is cleared away by the next.
"""

import fcntl
import io
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from shared import cutouts
from shared.catalogue import list_images, read_catalogue
from shared.progress import say, track
from shared.records import write_json
from shared.spec import DatasetSpec, digest, to_config
from shared.store import FORMAT, GALAXIES, IMAGES, MANIFEST, Store, open_store, sha256

PARTIAL = ".partial"  # ends the name of a folder in which a store is being built
LOCK = ".lock"
NAMED = 20  # galaxies named in a message


def prepare(dataset: DatasetSpec) -> Store:
    """The store of DATASET under dataset.stores, made now or found there.

    Raises ValueError or FileNotFoundError, naming the galaxy, its row and a way out, for anything
    in the table that cannot be meant, and for the first image that cannot be used unless
    dataset.skip_bad_images leaves such galaxies out. Then the store has fewer than
    dataset.galaxies.
    """
    sources = _sources(dataset)
    name = f"{dataset.name}-{digest([FORMAT, _identity(dataset), sources])}"
    folder = Path(dataset.stores) / name
    with _sole_builder(folder) as beside:
        if beside is not None:
            _clear_leftovers(beside)
            _build(dataset, sources, beside)
            if _sources(dataset) != sources:
                raise ValueError(
                    f"the files of {dataset.name} changed while they were read; prepare again"
                )
            beside.rename(folder)
            (folder / LOCK).unlink()
    return open_store(folder)


def _identity(dataset: DatasetSpec) -> dict:
    """What a store depends on: not where it is kept, nor how much of it a network sees."""
    config = to_config(dataset)
    return {key: value for key, value in config.items() if key not in ("stores", "crop")}


def _sources(dataset: DatasetSpec) -> dict[str, str | None]:
    if dataset.images is None:
        if dataset.table is not None:
            raise ValueError(
                f"dataset.images is null, but dataset.table is {dataset.table}; "
                "name the folder of images"
            )
        from shared import synthetic

        return {"table": None, "images": None, "synthetic": sha256(Path(synthetic.__file__))}
    if dataset.table is not None and not Path(dataset.table).is_file():
        raise FileNotFoundError(
            f"dataset.table is {dataset.table}, which is not a file; "
            "name a CSV, Parquet or FITS table"
        )
    listing = [
        [name, stat.st_size, stat.st_mtime_ns] for name, stat in list_images(dataset.images).items()
    ]
    return {
        "table": None if dataset.table is None else sha256(Path(dataset.table)),
        "images": digest(listing, 64),
        "synthetic": None,
    }


def _build(dataset: DatasetSpec, sources: dict, beside: Path) -> None:
    if dataset.images is None:
        galaxies, skipped = _write_synthetic(dataset, beside / IMAGES)
    else:
        galaxies, skipped = _write_cutouts(dataset, beside / IMAGES)
    galaxies.to_parquet(beside / GALAXIES, index=False)
    manifest = {
        "format": FORMAT,
        "dataset": _identity(dataset),
        "questions": dataset.questions,
        "galaxies": len(galaxies),
        "sha256": {name: sha256(beside / name) for name in (IMAGES, GALAXIES)},
        "skipped": skipped,
        "sources": sources,
    }
    write_json(beside / MANIFEST, manifest)


def _write_synthetic(dataset: DatasetSpec, path: Path) -> tuple[pd.DataFrame, list]:
    from shared import synthetic

    for question, answers in dataset.questions.items():
        if tuple(answers) != tuple(synthetic.QUESTIONS.get(question, ())):
            raise ValueError(
                f"dataset.questions asks {question}: {', '.join(answers)}; synthetic galaxies know "
                + "; ".join(f"{q}: {', '.join(a)}" for q, a in synthetic.QUESTIONS.items())
            )
    galaxies = synthetic.draw_galaxies(dataset.galaxies, dataset.seed)
    for place in ("ra", "dec"):
        if place not in galaxies:
            galaxies[place] = np.nan
    rows = (
        dict(zip(galaxies.columns, row, strict=True))
        for row in galaxies.itertuples(index=False, name=None)
    )
    images = in_order(synthetic.render, rows)
    _write_images(path, track(images, "drawing galaxies", len(galaxies)), len(galaxies))
    return galaxies, []


def _write_cutouts(dataset: DatasetSpec, path: Path) -> tuple[pd.DataFrame, list]:
    galaxies = read_catalogue(dataset)
    rows = list(zip(galaxies["id"], galaxies["file"], galaxies.index, strict=True))
    if not dataset.skip_bad_images:
        _check_images_are_there(dataset, rows)
    whole, skipped = np.ones(len(rows), bool), []

    def good():
        images = in_order(_read_or_problem, galaxies["file"])
        for number, image in enumerate(track(images, "reading images", len(rows))):
            if isinstance(image, np.ndarray):
                yield image
            elif dataset.skip_bad_images:
                whole[number] = False
                name, file, _ = rows[number]
                skipped.append({"id": name, "file": file, "reason": str(image)})
            else:
                raise type(image)(_bad_image(dataset, rows[number], image)) from image

    _write_images(path, good(), len(rows))
    if not whole.any():
        raise ValueError(
            f"none of the {len(rows)} images can be used ({skipped[0]['reason']}); "
            "check dataset.images"
        )
    if skipped:
        named = "".join(f"\n  {skip['id']}: {skip['reason']}" for skip in skipped[:NAMED])
        more = f"\n  ... all are listed in {MANIFEST}" if len(skipped) > NAMED else ""
        say(f"left out {len(skipped)} of {len(rows)} galaxies of {dataset.name}:{named}{more}")
    return galaxies[whole].drop(columns="file"), skipped


def _read_or_problem(file: str) -> np.ndarray | Exception:
    try:
        return cutouts.read_cutout(file)
    except (ValueError, FileNotFoundError) as problem:
        return problem


def _check_images_are_there(dataset: DatasetSpec, rows: list) -> None:
    missing = [row for row in rows if not Path(row[1]).is_file()]
    if missing:
        problem = f"there is no image {missing[0][1]}"
        others = f" ({len(missing)} of {len(rows)} galaxies have none)" if len(missing) > 1 else ""
        raise FileNotFoundError(_bad_image(dataset, missing[0], problem + others))


def _bad_image(dataset: DatasetSpec, row: tuple[str, str, int], problem: object) -> str:
    name, _, number = row
    where = "" if dataset.table is None else f" (row {number} of {dataset.table})"
    return (
        f"galaxy {name}{where}: {problem}. "
        "Or leave such galaxies out with dataset.skip_bad_images=true"
    )


def in_order(function: Callable, things: Iterable) -> Iterator:
    """FUNCTION of each of THINGS in turn, from threads that keep a little ahead of the reader.

    Threads and no processes, so that it works beside any framework: Pillow and numpy let go of the
    interpreter.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    waiting: deque = deque()
    with ThreadPoolExecutor(cores) as pool:
        try:
            for thing in things:
                waiting.append(pool.submit(function, thing))
                if len(waiting) > 8 * cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _write_images(path: Path, images: Iterable[np.ndarray], most: int) -> None:
    """Append IMAGES, at most MOST, to one .npy file that is never whole in memory."""
    count = 0
    with path.open("wb") as file:
        file.write(_npy_header(most))
        for image in images:
            file.write(image.tobytes())
            count += 1
        file.seek(0)
        file.write(_npy_header(count))


def _npy_header(galaxies: int) -> bytes:
    """The start of a .npy file, of one length: numpy leaves room for the first axis to grow."""
    head = {
        "descr": "|u1",
        "fortran_order": False,
        "shape": (galaxies, cutouts.SIZE, cutouts.SIZE, 1),
    }
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, head)
    return file.getvalue()


@contextmanager
def _sole_builder(folder: Path) -> Iterator[Path | None]:
    """The empty hidden folder where this process alone builds FOLDER; None if FOLDER is there."""
    beside = folder.with_name(f".{folder.name}{PARTIAL}")
    while not folder.exists():
        beside.mkdir(parents=True, exist_ok=True)
        with _lock(beside / LOCK, _wait) as held:
            if held and not folder.exists():
                for path in beside.iterdir():
                    if path.name != LOCK:
                        path.unlink()
                try:
                    yield beside
                except BaseException:
                    shutil.rmtree(beside, ignore_errors=True)
                    raise
                return
            if held:  # made after the folder was looked for
                shutil.rmtree(beside, ignore_errors=True)
    yield None


def _clear_leftovers(mine: Path) -> None:
    """Remove the hidden folders next to MINE in which no living process is building."""
    for beside in set(mine.parent.glob(f".*{PARTIAL}")) - {mine}:
        with _lock(beside / LOCK, _do_not_wait) as held:
            if held:
                shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _lock(path: Path, how: Callable[[int, Path], bool]) -> Iterator[bool]:
    """Whether this process holds the lock on the file at PATH, and the file is still there."""
    try:
        file = path.open("w")
    except OSError:  # the folder is gone
        yield False
        return
    with file:
        yield (
            how(file.fileno(), path)
            and path.exists()
            and os.path.samestat(os.fstat(file.fileno()), path.stat())
        )


def _do_not_wait(file: int, path: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(file: int, path: Path) -> bool:
    if not _do_not_wait(file, path):
        name = path.parent.name.removesuffix(PARTIAL)[1:]
        say(f"another process is preparing {name}; waiting for it")
        fcntl.flock(file, fcntl.LOCK_EX)
    return True
