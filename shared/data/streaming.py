"""A dataset whose images are read, or drawn, when they are wanted, and kept nowhere: for looking at each galaxy once.

Its pixels are those of a store of the same files, so that what is made of them is the same.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from shared.data import cutouts
from shared.data.cutouts import SIZE
from shared.data.prepare import (
    bad_image,
    find_images,
    open_dataset,
    store_folder,
    synthetic_galaxies,
)
from shared.data.sources.images import Source
from shared.data.store import Store
from shared.run.progress import in_order
from shared.run.spec import DatasetSpec

AT_ONCE = 256  # images that are read together, by as many threads as there are cores
Pixels = tuple[
    int, np.ndarray | Exception
]  # the place of a galaxy among those wanted, and its image


class StreamedImages:
    """Images as one read-only array, uint8 (galaxy, y, x, channel): `images[rows]` reads those, each time anew.

    Those that cannot be used are black, and `left_out` says why, by their row.
    """

    dtype, at_once = np.dtype(np.uint8), AT_ONCE

    def __init__(self, count: int, channels: int, load: Callable[[list[int]], Iterator[Pixels]]):
        self.shape, self.load = (count, SIZE, SIZE, channels), load
        self.left_out: dict[int, str] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows) -> np.ndarray:
        wanted = np.arange(len(self))[rows]
        found = np.zeros((*wanted.shape, *self.shape[1:]), np.uint8)
        flat, places = found.reshape(-1, *self.shape[1:]), np.ravel(wanted).tolist()
        for place, pixels in self.load(places):
            if isinstance(pixels, Exception):
                self.left_out[places[place]] = str(pixels)
            else:
                flat[place] = pixels
        return found


@dataclass(frozen=True)
class Stream(Store):
    """An open dataset without a store; its `folder` is where a store of it would lie, and `source` says what it is."""

    table: pd.DataFrame

    @property
    def galaxies(self) -> pd.DataFrame:
        return self.table


def stream(dataset: DatasetSpec) -> Stream:
    """The galaxies of `dataset`, but for those without an image, which dataset.skip_bad_images leaves out.

    Raises what `prepare` does, but for images only when they are read, and ValueError for those of a packed tar.
    """
    dataset, source = open_dataset(dataset)
    if source is None:
        galaxies, render = synthetic_galaxies(dataset)
        about: dict = {"kind": "synthetic"}
        load = partial(_draw, galaxies, render)
    else:
        if getattr(source, "packed", False):
            raise ValueError(
                f"{dataset.images} is packed as a whole, so that every image would be sought from its start; unpack it "
                "to a .tar, or make a store of it: stream=false"
            )
        galaxies, names, problems = find_images(dataset, source)
        about = source.about() | {"without_image": len(problems)}
        there = [row for row, name in enumerate(names) if name is not None]
        galaxies, names = galaxies.iloc[there], [names[row] for row in there]
        load = partial(_read, dataset, source, galaxies, names)
        galaxies = galaxies.drop(columns=["file", "scale"], errors="ignore").reset_index(drop=True)
    images = StreamedImages(len(galaxies), dataset.channels, load)
    questions = {question: tuple(answers) for question, answers in dataset.questions.items()}
    return Stream(images, questions, store_folder(dataset, source), about, galaxies)


def _draw(
    galaxies: pd.DataFrame, render: Callable[[dict], np.ndarray], rows: list[int]
) -> Iterator[Pixels]:
    with closing(in_order(render, galaxies.iloc[rows].to_dict("records"))) as drawn:
        yield from enumerate(drawn)


def _read(
    dataset: DatasetSpec,
    source: Source,
    galaxies: pd.DataFrame,
    names: Sequence[str],
    rows: list[int],
) -> Iterator[Pixels]:
    wanted = [names[row] for row in rows]

    def read(loaded: tuple[int, Callable[[], bytes]]) -> Pixels:
        number, load = loaded
        try:
            return number, cutouts.cutout(load(), dataset.channels, dataset.stretch, dataset.hdu)
        except (ValueError, FileNotFoundError) as problem:
            return number, type(problem)(f"image {wanted[number]}: {problem}")

    with closing(source.load(wanted)) as loads, closing(in_order(read, loads)) as images:
        for number, found in images:
            if isinstance(found, Exception) and not dataset.skip_bad_images:
                raise type(found)(bad_image(dataset, galaxies, rows[number], found))
            yield number, found
