"""A survey's files made into a store, once: later runs with the same files open what is there.

The store's folder is named by a digest of the dataset's specification and of its sources (the
tables' bytes; the names, sizes and times of the images, or the address they come from; the code
that draws synthetic ones), so what changes makes another store. It is built in a hidden folder
beside its place, which a killed process leaves behind and the next one takes up where it stopped,
and leaves that folder whole, by one renaming. The hidden folder holds a locked file: a second
process waits for the first.
"""

import hashlib
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from shared.data import cutouts
from shared.data.catalogue import fewer, list_catalogue, read_catalogue
from shared.data.sources.images import Source
from shared.data.sources.opening import open_source
from shared.data.store import FORMAT, MANIFEST, NAMED, Store, open_store, same_images, sha256
from shared.data.store_writer import StoreWriter
from shared.run.locks import file_lock
from shared.run.progress import in_order, say, track
from shared.run.records import make_folder, publish_folder
from shared.run.spec import DatasetSpec, digest, to_config

PARTIAL = ".partial"  # ends the name of a folder in which a store is being built
LOCK = ".lock"
GRANULARITY = 2 * 10**9  # nanoseconds, of times on the coarsest of file systems
KEPT = 7 * 24 * 3600  # seconds for which the unfinished folder of another store is kept
ELSEWHERE = ("stores", "crop", "skip_bad_images", "service")  # no part of what a store holds


def prepare(dataset: DatasetSpec) -> Store:
    """The store of `dataset` under dataset.stores, made now or found there.

    Raises ValueError or FileNotFoundError, naming the galaxy, its row and a fix, for anything
    in the table that cannot be meant, and for the first image that cannot be used unless
    dataset.skip_bad_images leaves such galaxies out. Then the store has fewer than
    dataset.galaxies.
    """
    dataset, source = open_dataset(dataset)
    sources = _sources(dataset, source)
    folder = _place(dataset, sources)
    with _sole_builder(folder) as beside:
        if beside is not None:
            _clear_leftovers(beside)
            build = _draw if source is None else partial(_read, source=source)
            whole = build(dataset, sources, beside)
            if _sources(dataset, source) != sources:
                shutil.rmtree(beside)
                raise ValueError(
                    f"the files of {dataset.name} changed while they were read; prepare again"
                )
            publish_folder(whole, folder)
    store = open_store(folder)
    if beside is None and source is not None:
        _check_images(dataset, store, source)
    if (skipped := store.source["skipped"]) and not dataset.skip_bad_images:
        raise ValueError(
            f"store {folder} leaves out {len(skipped)} galaxies whose images could not be used, "
            f"{skipped[0]['id']} for one ({skipped[0]['reason']}); allow that with "
            "dataset.skip_bad_images=true, or delete the store to try them again"
        )
    return store


def open_dataset(dataset: DatasetSpec) -> tuple[DatasetSpec, Source | None]:
    """Where the images of `dataset` come from, None if they are drawn; and `dataset` with the table that is there."""
    source = None if dataset.images is None else open_source(dataset)
    if source is not None and dataset.table is None:
        dataset = replace(dataset, table=source.table())
    return dataset, source


def store_folder(dataset: DatasetSpec, source: Source | None) -> Path:
    """Where the store of what `open_dataset` gave lies, or would: its name is of all that decides its contents."""
    return _place(dataset, _sources(dataset, source))


def _check_images(dataset: DatasetSpec, store: Store, source: Source) -> None:
    """Raise ValueError if an image is another than the store's, though its name, size and time are the same.

    The system notes when something was last done to a file, which no program can set back, but also notes what leaves
    the bytes alone: so those that were touched since the store was made, or last looked at here, are read again.
    """
    manifest, now = store.folder / MANIFEST, time.time_ns()
    touched = source.changed_since(manifest.stat().st_mtime_ns - GRANULARITY)
    known = store.galaxies.drop_duplicates("image").set_index("image")
    names = known.index.intersection(touched).tolist()

    def same(loaded: tuple[int, Callable[[], bytes]]) -> str | None:
        number, load = loaded
        entry = known.loc[names[number]]
        try:
            data = load()
            if hashlib.sha256(data).hexdigest() == entry["image_sha256"]:
                return None
            pixels = cutouts.cutout(data, dataset.channels, dataset.stretch, dataset.hdu)
            same = zlib.crc32(pixels.tobytes()) == entry["pixels_crc32"]
        except (ValueError, FileNotFoundError):
            same = False
        return None if same else names[number]

    with closing(source.load(names)) as loads, closing(in_order(same, loads)) as found:
        other = [name for name in track(found, "looking at images again", len(names)) if name]
    if other:
        more = f" and {len(other) - 1} more" if len(other) > 1 else ""
        raise ValueError(
            f"image {min(other)}{more} of {dataset.images} is another than the one that store {store.folder} was made "
            "of, with the same size and time; give it the time of its change (touch), or delete the store"
        )
    if names:
        with suppress(OSError):  # a store that may not be written to
            os.utime(manifest, ns=(now, now))


def _place(dataset: DatasetSpec, sources: dict) -> Path:
    name = f"{dataset.name}-{digest([FORMAT, _identity(dataset), sources])}"
    return Path(dataset.stores) / name


def _identity(dataset: DatasetSpec) -> dict:
    """What a store depends on: not where it is kept, nor how much of it a network sees."""
    config = to_config(dataset)
    newer = (
        "hdu",
        "overdispersion",
        "seeing",
        "depth",
        "population",
    )  # than stores that are there: of no account where they are null
    left_out = (*ELSEWHERE, *(key for key in newer if config[key] is None))
    if config["columns"]["place_unit"] is None:  # likewise
        del config["columns"]["place_unit"]
    return {key: value for key, value in config.items() if key not in left_out}


def _sources(dataset: DatasetSpec, source: Source | None) -> dict:
    if source is None:
        if dataset.table is not None:
            raise ValueError(
                f"dataset.images is null, but dataset.table is {dataset.table}; "
                "say where the images are"
            )
        from shared.data import drawing, population, synthetic, synthetic_tree, synthetic_votes

        modules = [drawing, synthetic]
        if dataset.overdispersion is not None:
            modules += [synthetic_tree, synthetic_votes]
        if dataset.population is not None:
            modules.append(population)
        return {module.__name__: sha256(Path(module.__file__)) for module in modules}
    tables = [dataset.table, *(join.table for join in dataset.joins.values())]
    return {
        "tables": {table: _table_sum(table) for table in tables if table is not None},
        "images": digest(source.identity(), 64),
        "scale": to_config(dataset.service.scale),
    }


def _table_sum(table: str) -> str:
    path = Path(table)
    files = [path] if path.is_file() else sorted(path.parent.glob(path.name))
    if not files:
        raise FileNotFoundError(
            f"{table} is not a file; name a CSV, Parquet or FITS table in dataset.table or "
            "dataset.joins"
        )
    return digest([sha256(file) for file in files], 64) if len(files) > 1 else sha256(files[0])


class Image(NamedTuple):
    """What a thread made of one image."""

    row: int
    facts: dict  # what stands in its line of galaxies.parquet
    problem: Exception | None


def _draw(dataset: DatasetSpec, sources: dict, beside: Path) -> Path:
    """Draw the synthetic galaxies of `dataset`; gives the finished store's folder."""
    galaxies, render = synthetic_galaxies(dataset)
    values = galaxies.to_dict("records")
    with StoreWriter(beside, len(galaxies), dataset.channels) as draft:

        def draw(row: int) -> Image:
            pixels = render(values[row])
            return Image(row, {"pixels_crc32": draft.put(row, pixels)}, None)

        todo = [row for row in range(len(galaxies)) if row not in draft.done]
        with closing(in_order(draw, todo)) as images:
            for image in track(images, "drawing galaxies", len(todo)):
                draft.note(image.row, image.facts)
        return draft.finish(galaxies, _manifest(dataset, sources, {"kind": "synthetic"}, []))


def synthetic_galaxies(dataset: DatasetSpec) -> tuple[pd.DataFrame, Callable[[dict], np.ndarray]]:
    """The synthetic galaxies of `dataset` with their votes, and what draws the image of one."""
    from shared.data import population, synthetic, synthetic_tree

    telescope = synthetic.Telescope(dataset.seeing or 1.0, dataset.depth or 1.0)
    nowhere = {"ra": np.nan, "dec": np.nan}
    if dataset.overdispersion is not None:
        asked = (dataset.questions, dataset.leads, dataset.overdispersion, telescope)
        galaxies = synthetic_tree.draw_galaxies(dataset.galaxies, dataset.seed, *asked)
        return galaxies.assign(**nowhere), synthetic_tree.render
    for question, answers in dataset.questions.items():
        if tuple(answers) != tuple(synthetic.QUESTIONS.get(question, ())):
            raise ValueError(
                f"dataset.questions asks {question}: {', '.join(answers)}; synthetic galaxies know "
                + "; ".join(f"{q}: {', '.join(a)}" for q, a in synthetic.QUESTIONS.items())
                + ". Those of dataset.overdispersion=0 vote on any questions"
            )
    sky = (telescope, population.POPULATIONS.get(dataset.population))
    galaxies = synthetic.draw_galaxies(dataset.galaxies, dataset.seed, *sky)
    return galaxies.assign(**nowhere), synthetic.render


def _read(dataset: DatasetSpec, sources: dict, beside: Path, source: Source) -> Path:
    """Read the images of `dataset` from `source`; gives the finished store's folder."""
    galaxies, names, problems = find_images(dataset, source)
    about = source.about() | _met(source, names)
    with StoreWriter(beside, len(galaxies), dataset.channels) as draft:
        todo = [row for row, name in enumerate(names) if name is not None and row not in draft.done]
        if draft.done:
            say(f"{dataset.name}: {len(draft.done):,} images are here already, {len(todo):,} to go")
        wanted = [names[row] for row in todo]

        def read(loaded: tuple[int, Callable[[], bytes]]) -> Image:
            number, load = loaded
            row = todo[number]
            try:
                data = load()
                pixels = cutouts.cutout(data, dataset.channels, dataset.stretch, dataset.hdu)
            except (ValueError, FileNotFoundError) as problem:
                return Image(row, {}, type(problem)(f"image {wanted[number]}: {problem}"))
            facts = {
                "image": wanted[number],
                "image_sha256": hashlib.sha256(data).hexdigest(),
                "pixels_crc32": draft.put(row, pixels),
            }
            return Image(row, facts, None)

        with closing(source.load(wanted)) as loads, closing(in_order(read, loads)) as images:
            for image in track(images, "reading images", len(todo)):
                if image.problem is None:
                    draft.note(image.row, image.facts)
                elif dataset.skip_bad_images:
                    problems[image.row] = image.problem
                else:
                    text = bad_image(dataset, galaxies, image.row, image.problem)
                    raise type(image.problem)(text) from image.problem
        skipped = _left_out(dataset, galaxies, names, problems)
        same = _same_image(dataset, galaxies, draft)
        galaxies = galaxies.drop(columns=["file", "scale"], errors="ignore")
        manifest = _manifest(dataset, sources, about, skipped) | {"same_image": same}
        return draft.finish(galaxies, manifest)


def find_images(
    dataset: DatasetSpec, source: Source
) -> tuple[pd.DataFrame, list[str | None], dict[int, Exception]]:
    """The galaxies of `dataset`, what `source` calls the image of each, and what is wrong with those that have none.

    Raises FileNotFoundError for the first that has none, unless dataset.skip_bad_images leaves such galaxies out.
    """
    listed = dataset.table is None
    galaxies = (
        fewer(list_catalogue(source.names()), dataset.galaxies)
        if listed
        else read_catalogue(dataset)
    )
    names = source.find(galaxies)
    problems: dict[int, Exception] = {
        row: FileNotFoundError(f"there is no image {file} in {dataset.images}")
        for row, (name, file) in enumerate(zip(names, galaxies["file"], strict=True))
        if name is None
    }
    if problems and not dataset.skip_bad_images:
        row, problem = next(iter(problems.items()))
        others = f" ({len(problems)} of {len(names)} galaxies have none)"
        others = others if len(problems) > 1 else ""
        raise FileNotFoundError(bad_image(dataset, galaxies, row, f"{problem}{others}"))
    return galaxies, names, problems


def _met(source: Source, names: list[str | None]) -> dict:
    """How the table's rows and the images correspond; says so where they do not."""
    found = {name for name in names if name is not None}
    try:
        there = len(source.names())
    except ValueError:  # a service has no list
        return {"rows": len(names), "rows_with_image": len(names) - names.count(None)}
    if names.count(None) or there > len(found):
        say(
            f"{len(names) - names.count(None):,} of {len(names):,} galaxies have an image; "
            f"{there - len(found):,} of {there:,} images belong to no galaxy that is wanted"
        )
    return {
        "rows": len(names),
        "rows_with_image": len(names) - names.count(None),
        "images": there,
        "images_without_row": there - len(found),
    }


def _left_out(
    dataset: DatasetSpec,
    galaxies: pd.DataFrame,
    names: list[str | None],
    problems: dict[int, Exception],
) -> list:
    """Every galaxy left out, for the manifest; the first of them are named."""
    skipped = [
        {
            "id": galaxies["id"].iloc[row],
            "file": names[row] or galaxies["file"].iloc[row],
            "reason": str(problems[row]),
        }
        for row in sorted(problems)
    ]
    if len(skipped) == len(galaxies):
        raise ValueError(
            f"none of the {len(galaxies)} images can be used ({skipped[0]['reason']}); "
            "check dataset.images"
        )
    if skipped:
        named = "".join(f"\n  {skip['id']}: {skip['reason']}" for skip in skipped[:NAMED])
        more = f"\n  ... all are listed in {MANIFEST}" if len(skipped) > NAMED else ""
        say(f"left out {len(skipped)} of {len(galaxies)} galaxies of {dataset.name}:{named}{more}")
    return skipped


def _same_image(
    dataset: DatasetSpec, galaxies: pd.DataFrame, draft: StoreWriter
) -> list[list[str]]:
    """The ids of the galaxies that have one image, for the manifest; the first of them are named."""
    rows = sorted(draft.done)
    facts = pd.DataFrame([draft.done[row] for row in rows])
    groups = same_images(facts, lambda place: draft.pixels(rows[place]))
    same = [[galaxies["id"].iloc[rows[place]] for place in group] for group in groups]
    if same:
        named = "".join(f"\n  {', '.join(ids[:NAMED])}" for ids in same[:NAMED])
        more = f"\n  ... all are listed in {MANIFEST}" if len(same) > NAMED else ""
        say(
            f"{sum(map(len, same))} galaxies of {dataset.name} share {len(same)} images, and those of one image are "
            f"on one side of the split; if they are different galaxies, correct the table:{named}{more}"
        )
    return same


def _manifest(dataset: DatasetSpec, sources: dict, about: dict, skipped: list) -> dict:
    return {
        "dataset": _identity(dataset),
        "questions": dataset.questions,
        "leads": dataset.leads,
        "licence": dataset.licence,
        "source": about,
        "skipped": skipped,
        "sources": sources,
    }


def bad_image(dataset: DatasetSpec, galaxies: pd.DataFrame, row: int, problem: object) -> str:
    where = "" if dataset.table is None else f" (row {galaxies.index[row]} of {dataset.table})"
    return (
        f"galaxy {galaxies['id'].iloc[row]}{where}: {problem}. "
        "Or leave such galaxies out with dataset.skip_bad_images=true"
    )


@contextmanager
def _sole_builder(folder: Path) -> Iterator[Path | None]:
    """The hidden folder where this process alone builds `folder`; None if `folder` is there."""
    beside = folder.with_name(f".{folder.name}{PARTIAL}")
    while not folder.exists():
        make_folder(beside)
        with ExitStack() as stack:
            try:
                stack.enter_context(file_lock(beside / LOCK, partial(_say_waiting, folder)))
            except FileNotFoundError:  # another process was done, and has removed it
                continue
            if not folder.exists():
                try:
                    yield beside
                finally:
                    if folder.exists() or not _begun(beside):
                        shutil.rmtree(beside, ignore_errors=True)
                return
            shutil.rmtree(beside, ignore_errors=True)
    if beside.exists():  # its maker was killed between the renaming and the end
        _remove_dead(beside)
    yield None


def _begun(beside: Path) -> bool:
    return any(path.stat().st_size for path in beside.glob("journal*"))


def _clear_leftovers(mine: Path) -> None:
    """Remove the hidden folders next to `mine` that nobody has worked in for a week."""
    for lock in mine.parent.glob(f".*{PARTIAL}/{LOCK}"):  # which a user's own folder has not
        beside = lock.parent
        if beside == mine:
            continue
        ages = [time.time() - path.stat().st_mtime for path in beside.glob("*") if path.exists()]
        if min(ages, default=KEPT + 1) > KEPT:
            _remove_dead(beside)


def _remove_dead(beside: Path) -> None:
    with suppress(OSError), file_lock(beside / LOCK) as held:
        if held is not None:
            shutil.rmtree(beside, ignore_errors=True)


def _say_waiting(folder: Path) -> None:
    say(f"another process is preparing {folder.name}; waiting for it")
