"""Images and votes on disk, read through a memory map: what runs read in place of survey files.

A store is a folder: images.npy, uint8 (galaxy, y, x, 1); galaxies.parquet, the same galaxies in the
same order; and store.json, which says what both were made from, their checksums, and which galaxies
had to be left out.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from shared.cutouts import SIZE

# Raise it when the layout changes, or when the same files would make other images or votes.
FORMAT = 1
IMAGES, GALAXIES, MANIFEST = "images.npy", "galaxies.parquet", "store.json"


class Store(NamedTuple):
    """An open store."""

    images: np.ndarray  # uint8 (galaxy, y, x, 1), a read-only memory map
    galaxies: pd.DataFrame  # (galaxy,): id, ra, dec, votes; of synthetic ones also their parameters
    questions: dict[str, tuple[str, ...]]  # each question's answers
    folder: Path
    source: dict  # store.json


def open_store(folder: Path | str) -> Store:
    """The store in FOLDER, after a look at its shape; `verify` looks at every byte.

    Raises FileNotFoundError if there is none, ValueError if it is incomplete or of another format.
    """
    folder = Path(folder)
    source = _manifest(folder)
    if source.get("format") != FORMAT:
        raise ValueError(f"store {folder} has format {source.get('format')}, not {FORMAT}; {_ANEW}")
    try:
        galaxies = pd.read_parquet(folder / GALAXIES)
        images = np.load(folder / IMAGES, mmap_mode="r")
    except (OSError, ValueError, EOFError, pa.ArrowException) as problem:
        raise ValueError(f"store {folder} is damaged ({problem}); {_ANEW}") from problem
    if images.shape != (len(galaxies), SIZE, SIZE, 1) or images.dtype != np.uint8:
        raise ValueError(
            f"store {folder} has {len(galaxies)} galaxies, but images {images.shape} of "
            f"{images.dtype}; {_ANEW}"
        )
    questions = {question: tuple(answers) for question, answers in source["questions"].items()}
    return Store(images, galaxies, questions, folder, source)


def verify(folder: Path | str) -> None:
    """Raise ValueError, naming the file, unless every byte of the store in FOLDER is as written."""
    folder = Path(folder)
    for name, expected in _manifest(folder)["sha256"].items():
        if not (folder / name).is_file() or sha256(folder / name) != expected:
            raise ValueError(f"{folder / name} is not what was written there; {_ANEW}")


def votes(store: Store, question: str, positive: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The votes for any of the POSITIVE answers and all votes on QUESTION, both int64 (galaxy,).

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
        raise ValueError(
            f"store {store.folder} was made without a table, so it has no votes; set dataset.table"
        )
    columns = [f"{question}_{answer}" for answer in dict.fromkeys(positive)]
    yes = store.galaxies[columns].to_numpy(np.int64).sum(1)
    return yes, store.galaxies[f"{question}_total"].to_numpy(np.int64)


def sha256(path: Path) -> str:
    """The SHA-256 checksum of the file at PATH, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_ANEW = "delete the folder and prepare it anew (trizoo prepare)"


def _manifest(folder: Path) -> dict:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no store {folder}; make it with trizoo prepare")
    missing = [name for name in (MANIFEST, GALAXIES, IMAGES) if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"store {folder} lacks {' and '.join(missing)}; {_ANEW}")
    try:
        return json.loads((folder / MANIFEST).read_text())
    except ValueError as problem:
        raise ValueError(f"{folder / MANIFEST} is damaged ({problem}); {_ANEW}") from problem
