"""Images and votes on disk, read through a memory map: what runs read in place of survey files.

A store is a folder: images-00000.npy and so on, shards of uint8 (galaxy, y, x, channel);
galaxies.parquet, the same galaxies in the same order, each with where its image came from and the
checksums of the file and of the stored pixels; and store.json, which says what both were made from,
galaxies.parquet's own checksum, and which galaxies had to be left out.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from shared.data.cutouts import SIZE
from shared.run.progress import in_order, track
from shared.run.records import read_json

# Raise it when the layout changes, or when the same files would make other images or votes.
FORMAT = 3
SHARD = 4 << 30  # bytes of images in one file, at most
GALAXIES, MANIFEST = "galaxies.parquet", "store.json"
NAMED = 20  # galaxies named in a message
LOOKED_AT = 200  # galaxies whose pixels are checked whenever a store is opened
SHAPE = {  # of store.json
    "format": int,
    "galaxies": int,
    "channels": int,
    "shards": [str],
    "sha256": {GALAXIES: str},
    "questions": {str: [str]},
    "skipped": [{"id": str, "reason": str}],
    "source": dict,
}


class Images:
    """Every image of a store as one read-only array, uint8 (galaxy, y, x, channel), over its shards.

    `images[rows]` reads the rows asked for and no others; ROWS is a number, a slice or an array of
    numbers of any shape, whose shape the answer begins with.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, shards: Sequence[np.ndarray]):
        self.shards = list(shards)
        self.starts = np.cumsum([0, *(len(shard) for shard in self.shards)])
        self.shape = (int(self.starts[-1]), *self.shards[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows) -> np.ndarray:
        if len(self.shards) == 1:
            return self.shards[0][rows]
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        if rows.size and not -len(self) <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"row {rows.min()} or {rows.max()} of {len(self)} images")
        rows = np.where(rows < 0, rows + len(self), rows)
        found = np.empty((*rows.shape, *self.shape[1:]), np.uint8)
        holder = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(holder):
            here = holder == number
            found[here] = self.shards[number][rows[here] - self.starts[number]]
        return found

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype)


@dataclass(frozen=True)
class Store:
    """An open store."""

    images: Images  # uint8 (galaxy, y, x, channel)
    questions: dict[str, tuple[str, ...]]  # each question's answers
    folder: Path
    source: dict  # store.json

    @cached_property
    def galaxies(self) -> pd.DataFrame:
        """(galaxy,): id, ra, dec, votes, checksums; of synthetic ones also their parameters."""
        with _reading(self.folder):
            return pd.read_parquet(self.folder / GALAXIES)

    @cached_property
    def split_ids(self) -> pd.Series:
        """(galaxy,): by whose id each is split: its own, or of galaxies with one image the least."""
        ids = self.galaxies["id"].copy()
        for rows in same_images(self.galaxies, lambda row: self.images[row].tobytes()):
            ids.iloc[rows] = ids.iloc[rows].min()
        return ids


def same_images(galaxies: pd.DataFrame, pixels: Callable[[int], bytes]) -> list[list[int]]:
    """The rows of `galaxies` (pixels_crc32, image_sha256 if it came from a file) that have one image.

    `pixels` gives a row's bytes; it is asked where checksums of pixels agree and files do not.
    """
    twice = np.flatnonzero(galaxies["pixels_crc32"].duplicated(keep=False))
    groups = []
    for _, some in galaxies.iloc[twice].assign(row=twice).groupby("pixels_crc32", sort=False):
        files = some["image_sha256"] if "image_sha256" in some else some["row"]
        if files.nunique() > 1:
            files = some["row"].map(lambda row: hashlib.sha256(pixels(row)).digest())
        groups += [rows.tolist() for _, rows in some["row"].groupby(files) if len(rows) > 1]
    return sorted(groups)


def shard_name(number: int) -> str:
    """The file of a store's shard of that `number`."""
    return f"images-{number:05d}.npy"


def shard_rows(channels: int) -> int:
    """How many galaxies a shard holds."""
    return SHARD // (SIZE * SIZE * channels)


def open_store(folder: Path | str) -> Store:
    """The store in `folder`, whose table is checked, and the pixels of a sample; `verify` looks at every byte.

    Raises FileNotFoundError if there is none, ValueError if it is damaged, incomplete or of another format.
    """
    store = _opened(Path(folder))
    count = len(store.images)
    random = np.random.default_rng(int(store.source["sha256"][GALAXIES][:16], 16))
    _check_pixels(store, np.sort(random.choice(count, min(count, LOOKED_AT), replace=False)))
    return store


def verify(folder: Path | str) -> None:
    """Raise ValueError, naming the files and galaxies, unless every byte in `folder` is as written."""
    store = _opened(Path(folder))
    _check_pixels(store, np.arange(len(store.images)))


def _opened(folder: Path) -> Store:
    source = _manifest(folder)
    if sha256(folder / GALAXIES) != source["sha256"][GALAXIES]:
        raise ValueError(f"{folder / GALAXIES} is not what was written there; {_ANEW}")
    with _reading(folder):
        galaxies = pa.parquet.read_metadata(folder / GALAXIES).num_rows
        shards = [np.load(folder / name, mmap_mode="r") for name in source["shards"]]
        images = Images(shards)
    if images.shape != (galaxies, SIZE, SIZE, source["channels"]) or any(
        shard.dtype != np.uint8 or not shard.flags.c_contiguous for shard in shards
    ):
        raise ValueError(
            f"store {folder} has {galaxies} galaxies, but images {images.shape} of "
            f"{shards[0].dtype}; {_ANEW}"
        )
    questions = {question: tuple(answers) for question, answers in source["questions"].items()}
    return Store(images, questions, folder, source)


def _check_pixels(store: Store, rows: np.ndarray) -> None:
    """Raise ValueError, naming the galaxies, unless the pixels of all in `rows` are as written."""
    wanted = store.galaxies["pixels_crc32"].to_numpy()[rows]
    sums = in_order(lambda row: zlib.crc32(store.images[row]), rows)
    found = np.fromiter(track(sums, "checking the store", len(rows)), np.int64, len(rows))
    if bad := store.galaxies["id"].iloc[rows[found != wanted]].tolist():
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise ValueError(
            f"store {store.folder} is damaged: the images of {', '.join(bad[:NAMED])}{more} are "
            f"not what was written there; {_ANEW}"
        )


def votes(store: Store, question: str, positive: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The votes for any of the `positive` answers and all votes on `question`, both int64 (galaxy,).

    Raises ValueError if the store has no such question, answer or votes at all.
    """
    answers = store.questions.get(question)
    if answers is None:
        raise ValueError(
            f"no question {question!r} in {store.folder}; it has "
            f"{', '.join(store.questions) or 'none'}"
        )
    for answer in positive:
        if answer not in answers:
            raise ValueError(f"no answer {answer!r} to {question}; it has {', '.join(answers)}")
    if f"{question}_total" not in store.galaxies:
        raise ValueError(f"store {store.folder} was made without votes; set dataset.table")
    columns = [f"{question}_{answer}" for answer in dict.fromkeys(positive)]
    yes = store.galaxies[columns].to_numpy(np.int64).sum(1)
    return yes, store.galaxies[f"{question}_total"].to_numpy(np.int64)


def sha256(path: Path) -> str:
    """The SHA-256 checksum of the file at `path`, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_ANEW = "delete the folder and prepare it anew (trizoo prepare)"


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, EOFError, KeyError, pa.ArrowException) as problem:
        raise ValueError(f"store {folder} is damaged ({problem}); {_ANEW}") from problem


def _manifest(folder: Path) -> dict:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no store {folder}; make it with trizoo prepare")
    missing = [name for name in (MANIFEST, GALAXIES) if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"store {folder} lacks {' and '.join(missing)}; {_ANEW}")
    found = read_json(folder / MANIFEST, {"format?": object}, _ANEW).get("format")
    if found != FORMAT:
        raise ValueError(f"store {folder} has format {found}, not {FORMAT}; {_ANEW}")
    source = read_json(folder / MANIFEST, SHAPE, _ANEW)
    shards = [shard_name(number) for number in range(len(source["shards"]))]
    if source["shards"] != shards or not shards:
        raise ValueError(f"{folder / MANIFEST} names other files than shards of images; {_ANEW}")
    if missing := [name for name in shards if not (folder / name).is_file()]:
        raise ValueError(f"store {folder} lacks {' and '.join(missing)}; {_ANEW}")
    return source
