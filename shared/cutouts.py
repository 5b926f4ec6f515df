"""One image file of a galaxy as every store keeps it: 256 x 256 pixels of 8 bits, grey or in colour.

An oblong image is cut to its central square, and the square is reduced by Lanczos resampling (as
Walmsley et al. 2020 reduced theirs), in floating point; only then is it rounded. Grey is the mean
of the colours. Nothing is ever enlarged.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from scipy.sparse import csr_array

SIZE = 256  # pixels on a side of every stored image
LARGEST = 4096  # pixels; a longer side is refused before it fills the memory
LARGEST_FILE = 64 << 20  # bytes
SUFFIXES = (".jpg", ".jpeg", ".png", ".fits")
NO_COVERAGE = (
    0.2  # the share of exact zeros above which a floating-point band counts as not observed
)
BRIGHTEST = 1e30  # beyond that, float32 has no room to work in
FITS_PROBLEMS = (OSError, ArithmeticError, LookupError, TypeError, ValueError, Warning)
# GZ DECaLS' colours (Walmsley et al. 2022, section 2; the numbers from the campaign's code): the
# flux in nanomaggies that is 1 in red (z), green (r) and blue (g), and the black and white points.
GRZ = np.array([0.019, 0.014, 0.008])
GRZ_LIMITS = np.arcsinh([-0.5, 300.0])


def cutout(data: bytes, channels: int = 1, stretch: str = "noise") -> np.ndarray:
    """The galaxy in a JPEG, PNG or FITS file's bytes as uint8 (y, x, channel) of 256 x 256.

    One channel is the mean of the colours, three are red, green and blue. JPEG and PNG keep their
    brightness (16-bit grey is divided by 257). FITS planes are brightened as STRETCH says: noise,
    see `noise_stretch`, or grz, see `grz_colours`. Row 0 is the file's first row: a FITS image is
    not turned upside down.

    Raises ValueError if it is damaged, of another kind, smaller than 256 pixels, longer than 4096,
    over 64 MiB, transparent, not finite or not observed.
    """
    if len(data) > LARGEST_FILE:
        raise ValueError(f"{len(data)} bytes; an image file may have {LARGEST_FILE} at most")
    read = _fits_planes if data.startswith(b"SIMPLE") else _picture_planes
    planes = read(data, channels, stretch)
    planes = np.broadcast_to(planes, (channels, SIZE, SIZE))
    return np.clip(np.rint(np.moveaxis(planes, 0, -1)), 0, 255).astype(np.uint8)


def noise_stretch(flux: np.ndarray) -> np.ndarray:
    """FLUX (band, y, x), in any linear unit, as brightness (band, y, x) from 0 to 255.

    With m the median of the mean of the bands and s its noise (1.4826 times the median distance
    from m): m - 2s is black, the 99.9th percentile is white, and between them brightness rises as
    asinh((flux - black) / 3s): linear in the noise, logarithmic in the galaxy. It depends on the
    cutout alone, so brightness cannot be compared between two FITS galaxies.

    Raises ValueError if nothing in FLUX is brighter than its sky.
    """
    mean = flux.mean(0)
    sky = np.median(mean)
    noise = 1.4826 * np.median(np.abs(mean - sky))
    black, white = sky - 2 * noise, np.percentile(mean, 99.9)
    softening = max(3 * noise, (white - black) / 1000)
    if not white - sky > 1e-6 * np.abs(mean).max():  # less is rounding
        raise ValueError("nothing is brighter than the sky; leave it out")
    return 255 * np.clip(
        np.arcsinh((flux - black) / softening) / np.arcsinh((white - black) / softening), 0, 1
    )


def grz_colours(flux: np.ndarray) -> np.ndarray:
    """Nanomaggies (g r z, y, x) as red, green and blue (3, y, x) from 0 to 255, as GZ DECaLS drew them.

    Lupton et al. 2004: the mean of the scaled bands is mapped by arcsinh, and the colours keep their
    ratio to it. The campaign also took colour out of pixels that one band rules; that is not done.
    """
    colours = flux[::-1] / GRZ[:, None, None]
    mean = colours.mean(0)
    flat = np.abs(mean) < 1e-6
    colours = colours * np.where(flat, 1, np.arcsinh(mean) / np.where(flat, 1, mean))
    black, white = GRZ_LIMITS
    return 255 * np.clip((colours - black) / (white - black), 0, 1)


def _picture_planes(data: bytes, channels: int, stretch: str) -> np.ndarray:
    """The planes (channel, y, x) from 0 to 255, not yet rounded, of a JPEG or PNG file's bytes."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ValueError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, so damage would go unseen; set it to False"
        )
    with _decoding(data):
        picture = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    with picture:
        _check_size(*picture.size)
        with _decoding(data):
            _check_whole(data, picture.format)
            picture.load()
        planes = _planes(picture, channels)
    return np.stack([reduced(plane) for plane in planes])


@contextmanager
def _decoding(data: bytes) -> Iterator[None]:
    """Whatever Pillow raises, as ValueError with a way out."""
    try:
        yield
    except UnidentifiedImageError:
        raise ValueError(
            f"not a JPEG or PNG: it begins with {data[:16]!r}; fetch it again"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"its sides are longer than {LARGEST} pixels; cut it smaller") from None
    except (OSError, SyntaxError, EOFError, LookupError, ValueError, struct.error) as problem:
        raise ValueError(f"damaged ({problem}); fetch it again") from problem


def _check_whole(data: bytes, kind: str | None) -> None:
    """Raise unless the file has its end, where Pillow might do without, and a PNG its checksums."""
    if kind == "PNG":
        whole = data.rfind(b"IEND\xaeB`\x82") >= 0
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            picture.verify()
    else:  # the last end of image must follow the last start of a scan
        whole = data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    if not whole:
        raise OSError("its end is missing")


def _planes(picture: Image.Image, channels: int) -> list[np.ndarray]:
    """The float32 planes (y, x): one, or three if they are wanted and the picture has colours."""
    if picture.mode in ("I", "I;16", "I;16B"):
        return [np.asarray(picture, np.float32) / 257]
    if picture.mode == "CMYK":
        raise ValueError("its colours are CMYK; save it as RGB or grey")
    if picture.mode in ("LA", "RGBA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if picture.getextrema()[3][0] < 255:
            raise ValueError("some of its pixels are transparent; save it without an alpha channel")
    if picture.mode in ("1", "L"):
        return [np.asarray(picture.convert("L"), np.float32)]
    colours = np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    red, green, blue = (colours[..., channel] for channel in range(3))
    if channels == 3:
        return [plane.astype(np.float32) for plane in (red, green, blue)]
    total = np.add(red, green, dtype=np.uint16)
    total += blue
    return [total.astype(np.float32) / 3]


def _fits_planes(data: bytes, channels: int, stretch: str) -> np.ndarray:
    """The planes (channel, y, x) from 0 to 255, not yet rounded, of a FITS file's first image."""
    planes = _fits_image(data)
    if stretch == "grz":
        if len(planes) != 3:
            raise ValueError(
                f"it has {len(planes)} bands, not g, r and z; set dataset.stretch=noise"
            )
        colours = grz_colours(planes)
        return np.stack([reduced(plane) for plane in _grey_or_not(colours, channels)])
    if channels == 3 and len(planes) not in (1, 3):
        raise ValueError(f"it has {len(planes)} bands, not 1 or 3; set dataset.channels=1")
    bands = [reduced(plane) for plane in _grey_or_not(planes, channels)]
    return noise_stretch(np.stack(bands).astype(np.float64))


def _grey_or_not(planes: np.ndarray, channels: int) -> np.ndarray:
    planes = planes if channels == 3 else planes.mean(0, dtype=np.float64, keepdims=True)
    return planes.astype(np.float32)


def _fits_image(data: bytes) -> np.ndarray:
    """The finite pixels (band, y, x) of a FITS file's first image."""
    from astropy.io import fits  # slow to import, and only FITS needs it

    if len(data) % 2880:
        raise ValueError(f"damaged ({len(data)} bytes are no whole FITS file); fetch it again")
    try:
        with fits.open(io.BytesIO(data), memmap=False) as units:
            unit = next((unit for unit in units if _is_image(unit)), None)
            if unit is not None and sum(map(unit.fileinfo().get, ("datLoc", "datSpan"))) > len(
                data
            ):
                raise OSError("its end is missing")
            planes = None if unit is None else unit.data
    except (*FITS_PROBLEMS, fits.VerifyError) as problem:
        raise ValueError(f"damaged ({problem}); fetch it again") from problem
    if planes is None:
        raise ValueError("it holds no image; a table belongs in dataset.table")
    planes = _planes_first(planes)
    _check_size(planes.shape[2], planes.shape[1])
    _check_observed(planes)
    return planes


def _is_image(unit) -> bool:
    return unit.is_image and unit.header.get("NAXIS", 0) > 0


def _planes_first(planes: np.ndarray) -> np.ndarray:
    if planes.ndim == 2:
        return planes[None]
    if planes.ndim == 3 and planes.shape[0] <= 4:
        return planes
    if planes.ndim == 3 and planes.shape[2] <= 4:
        return np.moveaxis(planes, 2, 0)
    raise ValueError(
        f"its axes are {planes.shape}; write (y, x), (band, y, x) or (y, x, band), 4 bands at most"
    )


def _check_observed(planes: np.ndarray) -> None:
    blind = np.count_nonzero(~(np.abs(planes) < BRIGHTEST))
    if blind:
        raise ValueError(
            f"{blind} of {planes.size} values are not finite; fill them in or leave it out"
        )
    if planes.dtype.kind == "f" and np.mean(planes == 0, axis=(1, 2)).max() > NO_COVERAGE:
        raise ValueError(
            f"over {NO_COVERAGE:.0%} of a band is exactly 0, so was not observed; leave it out"
        )


def _check_size(width: int, height: int) -> None:
    if min(width, height) < SIZE:
        raise ValueError(
            f"{width} x {height} pixels, and none is ever enlarged; fetch it at {SIZE} x {SIZE} or "
            "more"
        )
    if max(width, height) > LARGEST:
        raise ValueError(f"{width} x {height} pixels; cut it to at most {LARGEST} on a side")


def reduced(plane: np.ndarray) -> np.ndarray:
    """The central square of PLANE float32 (y, x), reduced to 256 x 256 by Lanczos resampling.

    Equal to Pillow's own but for rounding, and several times faster: two products with a matrix
    that is nearly all zeros.
    """
    height, width = plane.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = plane[top : top + side, left : left + side]
    if side == SIZE:
        return square
    weights = lanczos(side)
    columns = weights @ np.ascontiguousarray(square)
    return (weights @ np.ascontiguousarray(columns.T)).T


@lru_cache(maxsize=64)
def lanczos(side: int) -> csr_array:
    """The weights float32 (pixel of 256, pixel of SIDE) that reduce a line of SIDE pixels to 256.

    Lanczos' windowed sinc of three lobes, stretched by the reduction so that it averages over what
    it leaves out, and normalised to 1 at each pixel, also at the borders.
    """
    step = side / SIZE
    centres = (np.arange(SIZE)[:, None] + 0.5) * step
    distance = (np.arange(side) + 0.5 - centres) / step
    weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    return csr_array((weights / weights.sum(1, keepdims=True)).astype(np.float32))
