"""Features of frozen encoders: made once for each galaxy of a store, and kept beside it for every run after.

A file of them is named by a digest of all that decides them: the encoder's weights and moments, the view of a galaxy,
the store's images, and the program that computes them, as its rounding is its own. Galaxies come in chunks of the
store's rows, always the same, so that what a file holds does not depend on who asked for what, when. A line in a
journal says that a chunk is there, with its checksum, and is written after the features have reached the disk: what has
no such line, or another checksum, is computed anew.
"""

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shared.data.store_writer import COMMIT, journal_lines, npy_header, write_at
from shared.method.backend import Backend
from shared.method.batches import Cutouts
from shared.method.ensemble import Ensemble, alone, member_start
from shared.method.features import Features, MemberFeatures
from shared.method.fine_tuning import frozen
from shared.method.sampling import finite
from shared.method.views import still_views
from shared.network.model import model_of
from shared.network.network import moment_shapes, to_json, weight_shapes
from shared.network.weights import Checkpoint
from shared.run.locks import file_lock
from shared.run.progress import say, track
from shared.run.records import flush, make_folder, sync
from shared.run.spec import RunSpec, digest

FOLDER = "features"  # in a store's own
FORMAT = 1  # raise it when the same settings would make other features
LINE = {
    "chunk": int,
    "crc32": int,
}  # of the journal, after a first one that says what the features are of
LEARNED_FROM = "one view of each galaxy, that of prediction: no augmentation"


class FeatureFile:
    """The features of all galaxies of a store under one encoder, of which any chunks may be there."""

    def __init__(self, folder: Path, about: dict):
        name = digest(about, 16)
        self.path, self.journal = folder / f"{name}.npy", folder / f"{name}.jsonl"
        self.lock = folder / f".{name}.lock"
        self.told = False  # whether a damage was
        self.shape, self.kind = (about["galaxies"], about["units"]), np.dtype(about["type"])
        self.chunk, self.first = about["chunk"], json.dumps(about, sort_keys=True).encode() + b"\n"

    @property
    def header(self) -> bytes:
        """The start of the .npy file."""
        return npy_header(self.kind.str, self.shape)

    def rows(self, chunk: int) -> np.ndarray:
        """The store's rows of a chunk."""
        return np.arange(self.shape[0])[chunk * self.chunk : (chunk + 1) * self.chunk]

    def array(self) -> np.ndarray:
        """All features (galaxy, unit), read through a memory map."""
        return np.asarray(np.memmap(self.path, self.kind, "r", len(self.header), self.shape))

    def there(self) -> np.ndarray:
        """Whether each chunk is there, as it was written: bool (chunk,)."""
        found = np.zeros(-(-self.shape[0] // self.chunk), bool)
        sums, _ = self._noted()
        if sums and self._has_room():
            units = self.array()
            for chunk, crc32 in sums.items():
                found[chunk] = zlib.crc32(units[self.rows(chunk)]) == crc32
            if damaged := int((~found[[*sums]]).sum()):
                self._tell(f"{damaged} of its {len(sums)} chunks are not as they were written")
        elif sums:
            self._tell("it is not as it was written")
        return found

    @contextmanager
    def writing(self) -> Iterator[Callable[[int, np.ndarray], None]]:
        """Put features (galaxy, unit) of a chunk in their place, one call after the other, to outlive this process."""
        self.path.touch()
        length = self._noted()[1] if self._has_room() else 0
        with self.path.open("r+b", buffering=0) as file, self.journal.open("ab") as journal:
            if not length:
                file.truncate(0)
                write_at(file, self.header, 0)
                file.truncate(self._bytes())
            journal.truncate(length)
            waiting = [] if length else [self.first]
            last = time.monotonic()

            def commit() -> None:
                flush(file.fileno())
                journal.write(b"".join(waiting))
                journal.flush()
                flush(journal.fileno())
                waiting.clear()

            def put(chunk: int, units: np.ndarray) -> None:
                nonlocal last
                data = units.tobytes()
                start = chunk * self.chunk * self.shape[1] * self.kind.itemsize
                write_at(file, data, len(self.header) + start)
                waiting.append(
                    json.dumps({"chunk": chunk, "crc32": zlib.crc32(data)}).encode() + b"\n"
                )
                if time.monotonic() - last > COMMIT:
                    commit()
                    last = time.monotonic()

            sync(self.path.parent)  # the names of both files, before the journal says anything
            try:
                yield put
            finally:
                commit()

    def _tell(self, what: str) -> None:
        if not self.told:
            say(f"features in {self.path} are damaged: {what}, and are not used")
        self.told = True

    def _bytes(self) -> int:
        return len(self.header) + self.shape[0] * self.shape[1] * self.kind.itemsize

    def _has_room(self) -> bool:
        try:
            with self.path.open("rb") as file:
                begins = file.read(len(self.header)) == self.header
            return begins and self.path.stat().st_size == self._bytes()
        except FileNotFoundError:
            return False

    def _noted(self) -> tuple[dict[int, int], int]:
        """The checksum of each chunk in the journal, and the length of its whole lines in bytes.

        Nothing is believed from the first line on that is damaged.
        """
        data = self.journal.read_bytes() if self.journal.exists() else b""
        if not data.startswith(self.first):
            return {}, 0
        sums, length, chunks = {}, len(self.first), -(-self.shape[0] // self.chunk)
        for facts, size in journal_lines(self.journal, data[length:], LINE):
            if not 0 <= facts["chunk"] < chunks:
                break
            sums[facts["chunk"]], length = facts["crc32"], length + size
        return sums, length


class Embedder(NamedTuple):
    """A network whose encoder computes features, and the file that they are kept in."""

    backend: Backend
    run: RunSpec
    start: Checkpoint
    file: FeatureFile


def encoded_once(run: RunSpec) -> bool:
    """Whether `run` trains, and samples, on features alone, which are then computed once."""
    return frozen(run.model, run.training) and not run.augmentation.at_prediction


def frozen_features(
    backend: Backend,
    run: RunSpec,
    start: Checkpoint,
    images: Cutouts,
    store: Path,
    rows: np.ndarray,
) -> tuple[Features | MemberFeatures, dict]:
    """The features of the galaxies in `rows` of the store whose folder is `store`, in place of its `images`.

    They are those of the encoder at `start`, from beside the store or else computed and kept there. Also what a record
    says of them.
    """
    begun, computed = time.perf_counter(), 0
    embedders = _embedders(backend, run, start, images, store)
    for one in {embedder.file.path: embedder for embedder in embedders}.values():
        computed += _complete(one, images, rows)
    say(f"the encoder is frozen: training goes by {LEARNED_FROM}")
    about = {
        "files": [str(embedder.file.path) for embedder in embedders],
        "galaxies": len(rows),
        "computed": computed,
        "seconds": time.perf_counter() - begun,
        "training": LEARNED_FROM,
    }
    return _opened(embedders, images), about


def known_features(
    backend: Backend,
    run: RunSpec,
    start: Checkpoint,
    images: Cutouts,
    store: Path,
    rows: np.ndarray,
) -> Features | MemberFeatures | None:
    """The features as of `frozen_features`, if an earlier run has left those of all `rows`; None otherwise."""
    if run.augmentation.at_prediction or not (store / FOLDER).is_dir():
        return None
    embedders = _embedders(backend, run, start, images, store)
    for one in {embedder.file.path: embedder.file for embedder in embedders}.values():
        if len(_missing(one, rows)):
            return None
        say(f"features of {len(rows):,} galaxies: from {one.path}")
    return _opened(embedders, images)


def _embedders(backend, run: RunSpec, start: Checkpoint, images: Cutouts, store: Path) -> list:
    """One for each member of the run's networks."""
    single = backend.backend if isinstance(backend, Ensemble) else backend
    found = []
    for number in range(run.training.members):
        own, begin = alone(run, number), member_start(start, number, run.training.members)
        file = FeatureFile(store / FOLDER, made_from(single, own, begin, images))
        found.append(Embedder(single, own, begin, file))
    return found


def made_from(backend: Backend, run: RunSpec, start: Checkpoint, images: Cutouts) -> dict:
    """All that decides the features of a store's images, as plain data."""
    model, view = model_of(run.model), still_views(run, images.size, 1)
    arrays = {
        **{name: start.weights[name] for name in weight_shapes(model.encoder, model.image)},
        **{name: start.moments[name] for name in moment_shapes(model.encoder, model.image)},
    }
    sums = [
        hashlib.sha256(np.asarray(array, "<f8").tobytes()).hexdigest() for array in arrays.values()
    ]
    program = {key: value for key, value in backend.describe().items() if key != "threads"}
    return {
        "format": FORMAT,
        "encoder": digest([to_json(model.encoder), [*arrays], sums], 64),
        "view": {
            "affine": view.affine[0].tolist(),
            "crop": view.crop[0].tolist(),
            "border": run.augmentation.border,
            "averaged": images.factor,
            "image_size": run.model.image_size,
            "channels": run.model.channels,
            "scale": run.model.scale,
        },
        "images": images.contents,
        "galaxies": len(images),
        "units": model.units,
        "type": "<f8" if run.backend.precision == "float64" else "<f4",
        "chunk": run.backend.chunk,
        "program": program,
    }


def _missing(file: FeatureFile, rows: np.ndarray) -> np.ndarray:
    """The chunks that `rows` are in and that are not there."""
    chunks = np.unique(rows // file.chunk)
    return chunks[~file.there()[chunks]]


def _complete(embedder: Embedder, images: Cutouts, rows: np.ndarray) -> int:
    """Have the features of `rows` in their file; gives of how many galaxies they were computed."""
    file = embedder.file
    if not len(_missing(file, rows)):
        say(f"features of {len(rows):,} galaxies: from {file.path}")
        return 0
    make_folder(file.path.parent)
    waiting = lambda: say(f"another run computes {file.path}: waiting for it")  # noqa: E731
    with file_lock(file.lock, waiting):
        missing = _missing(file, rows)
        _embed(embedder, images, [file.rows(chunk) for chunk in missing])
        file.lock.unlink(missing_ok=True)
    say(f"features of {len(rows):,} galaxies: kept in {file.path}")
    return sum(len(file.rows(chunk)) for chunk in missing)


def _embed(embedder: Embedder, images: Cutouts, parts: list[np.ndarray]) -> None:
    """Compute the features of each of `parts`, the rows of one chunk."""
    backend, run, start, file = embedder
    state, total = backend.init(run, start), sum(map(len, parts))
    with file.writing() as put:
        for number, rows in enumerate(track(parts, "features", total, weight=len)):
            units = images[rows]
            if number + 1 < len(parts):
                images.prefetch(parts[number + 1])
            units = backend.embed(state, units, still_views(run, images.size, len(rows)))
            put(int(rows[0]) // file.chunk, finite(units, "feature").astype(file.kind))


def _opened(embedders: list[Embedder], images: Cutouts) -> Features | MemberFeatures:
    opened: dict[Path, Features] = {}
    for one in embedders:
        there = np.repeat(one.file.there(), one.file.chunk)[: len(images)]
        contents = None if images.contents is None else f"{images.contents}, features"
        opened.setdefault(one.file.path, Features(one.file.array(), there, images.size, contents))
    members = [opened[one.file.path] for one in embedders]
    return members[0] if len(opened) == 1 else MemberFeatures(members)
