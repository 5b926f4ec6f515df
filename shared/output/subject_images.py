"""What volunteers see of galaxies: drawn from the image files, these files themselves, or the stored pixels."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
from PIL import Image

from shared.data.cutouts import cutout
from shared.data.sources.opening import open_source
from shared.data.store import Store
from shared.run.spec import DatasetSpec, ShowSpec

QUALITY = 95  # of JPEG; 512 x 512 pixels of noise have 0.8 MB, and Zooniverse takes 1 MB
STORE = ShowSpec(image="store")


def subject_images(
    store: Store, rows: Sequence[int] | np.ndarray, dataset: DatasetSpec | None, show: ShowSpec
) -> Iterator[tuple[int, bytes]]:
    """The place in `rows` of `store` of each galaxy, in any order, and a JPEG or PNG of it as `show` says.

    Galaxies that came from no file (synthetic ones) are as they are stored. Raises ValueError, saying what to do, for a
    file that is not there any more, that is another than the store was made of, or that no browser shows.
    """
    if dataset is None or dataset.images is None or show.image == "store":
        for place, row in enumerate(rows):
            yield place, as_jpeg(np.asarray(store.images[int(row)]))
        return
    galaxies = store.galaxies.iloc[list(map(int, rows))]
    names, sums, ids = (galaxies[name].tolist() for name in ("image", "image_sha256", "id"))
    with closing(open_source(dataset).load(names)) as loads:
        for place, load in loads:
            try:
                data = load()
                if hashlib.sha256(data).hexdigest() != sums[place]:
                    raise ValueError(
                        f"image {names[place]} has changed since {store.folder} was made"
                    )
                yield (
                    place,
                    original(data) if show.image == "original" else drawn(data, dataset, show),
                )
            except (OSError, ValueError) as problem:
                raise ValueError(
                    f"what volunteers see of galaxy {ids[place]} cannot be made: {problem}. Or show them the stored "
                    "pixels: oracle.show.image=store"
                ) from problem


def original(data: bytes) -> bytes:
    """The file `data` itself; ValueError for FITS, which no browser shows."""
    if data.startswith(b"SIMPLE"):
        raise ValueError("it is FITS, which no browser shows; oracle.show.image=source draws it")
    return data


def drawn(data: bytes, dataset: DatasetSpec, show: ShowSpec) -> bytes:
    """A JPEG of the JPEG, PNG or FITS file `data`: a FITS image as a store would have it, in colour if it has bands for
    that, any other whole, and smaller where it is wider than `show` wants.
    """
    if data.startswith(b"SIMPLE"):
        return as_jpeg(_fits(data, dataset, show.colour), show.width)
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
        if picture.mode in ("I", "I;16", "I;16B"):
            return as_jpeg(
                np.rint(np.asarray(picture, np.float64) / 257).astype(np.uint8), show.width
            )
        grey = picture.mode in ("1", "L", "LA")
        pixels = np.asarray(picture.convert("L" if grey else "RGB"))
    if pixels.ndim == 3 and not show.colour:
        pixels = np.rint(pixels.mean(-1)).astype(np.uint8)
    return as_jpeg(pixels, show.width)


def _fits(data: bytes, dataset: DatasetSpec, colour: bool) -> np.ndarray:
    """The pixels (y, x, channel) of a FITS file; of bands that make no colours, their mean."""
    if colour:
        try:
            return cutout(data, 3, dataset.stretch, dataset.hdu)
        except ValueError:
            pass
    return cutout(data, 1, dataset.stretch, dataset.hdu)


def as_jpeg(pixels: np.ndarray, width: int | None = None) -> bytes:
    """A JPEG of `pixels` uint8 (y, x) or (y, x, channel), at most so many on a side; grey if all colours are alike."""
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    picture, file = Image.fromarray(pixels), io.BytesIO()
    if width is not None:
        picture.thumbnail((width, width), Image.Resampling.LANCZOS)
    picture.save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()
