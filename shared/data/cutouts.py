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

from shared.data.fits_image import read_image, wrong_size

SIZE = 256  # pixels on a side of every stored image
LARGEST = 4096  # pixels; a longer side is refused before it fills the memory
LARGEST_FILE = 64 << 20  # bytes
SUFFIXES = (".jpg", ".jpeg", ".png", ".fits")
# Of 5,833 real images (SDSS, DECaLS, HST) two at the edge of a survey are constant in 0.34 of them; one is in 0.68, and
# is a galaxy on a black sky; what is in 0.77 is a server's error message. Half of an image without its galaxy is 0.5.
CONSTANT = 0.42
BLOCK = 8  # stored pixels on a side of the blocks in which constancy is looked for
BLACK = 8  # values by which a black sky may be brighter than the darkest pixel
ALONG_SIDES = 0.2  # of each side at least is black where a black sky is all around
ALIKE = 2  # how far apart the values of a constant part may be, as JPEG leaves them
DARK = 64  # a 16-bit image with nothing brighter, of 256 grey levels, has room for two bits more
PNG_DEPTH = 24  # the byte of a PNG that says how many bits a value has
MOST_PARTS = 1 << 16  # chunks of a PNG, segments of a JPEG
MOST_SCANS = 100  # of a progressive JPEG, each of which is as much work as the whole image
# GZ DECaLS' colours (Walmsley et al. 2022, section 2; the numbers from the campaign's code): the
# flux in nanomaggies that is 1 in red (z), green (r) and blue (g), and the black and white points.
GRZ = np.array([0.019, 0.014, 0.008])
GRZ_LIMITS = np.arcsinh([-0.5, 300.0])


def cutout(
    data: bytes, channels: int = 1, stretch: str = "noise", hdu: str | None = None
) -> np.ndarray:
    """The galaxy in a JPEG, PNG or FITS file's bytes as uint8 (y, x, channel) of 256 x 256.

    One channel is the mean of the colours, three are red, green and blue. JPEG and PNG keep their
    brightness (16-bit grey is divided by 257). FITS planes are brightened as `stretch` says: noise,
    see `noise_stretch`, or grz, see `grz_colours`; `hdu` says which image of a FITS file, by its
    number or EXTNAME. Row 0 is the file's first row: a FITS image is not turned upside down.

    Raises ValueError if it is damaged, of another kind, smaller than 256 pixels, longer than 4096,
    over 64 MiB, transparent, too dark for its 16 bits, not finite or not observed.
    """
    if len(data) > LARGEST_FILE:
        raise ValueError(f"{len(data)} bytes; an image file may have {LARGEST_FILE} at most")
    if data.startswith(b"SIMPLE"):
        planes = _fits_planes(read_image(data, hdu, SIZE, LARGEST), channels, stretch)
    else:
        planes = _picture_planes(data, channels)
    planes = np.broadcast_to(planes, (channels, SIZE, SIZE))
    pixels = np.clip(np.rint(np.moveaxis(planes, 0, -1)), 0, 255).astype(np.uint8)
    check_observed(pixels)
    return pixels


def check_observed(pixels: np.ndarray) -> None:
    """Raise ValueError if `pixels` uint8 (y, x, channel) are constant where a galaxy or its sky should be.

    That is so if one value, not white, fills the middle; or if blocks of one value make up more
    than 0.42 of them, unless these are a black sky: they are the darkest, are found along every
    side, leave the middle, and do not end in a straight cut.
    """
    count = SIZE // BLOCK
    blocks = pixels.reshape(count, BLOCK, count, BLOCK, -1)
    low, high = blocks.min((1, 3)), blocks.max((1, 3))
    flat = (high - low <= ALIKE).all(-1)
    middle = slice(3 * count // 8, 5 * count // 8)
    if flat.mean() <= CONSTANT and not flat[middle, middle].all():
        return
    value = np.array([np.bincount(values).argmax() for values in low[flat].T])
    far = np.abs(pixels.astype(np.int16) - value).max(-1)
    lit = far > ALIKE
    constant = ~lit.reshape(count, BLOCK, count, BLOCK).any((1, 3)) & flat
    share, centre = constant.mean(), constant[middle, middle].mean()
    sides = (constant[0], constant[-1], constant[:, 0], constant[:, -1])
    if (centre == 1 and value.min() < 255 - ALIKE) or (
        share > CONSTANT
        and (
            (pixels.min((0, 1)) + BLACK < value).any()
            or min(side.mean() for side in sides) < ALONG_SIDES
            or centre == 1
            or any(_cut(np.rot90(far * lit, turns)) for turns in range(4))
        )
    ):
        shown = ", ".join(map(str, value))
        raise ValueError(
            f"{share:.0%} of it is constant ({shown} of 255), so was not observed; leave it out"
        )


def _cut(light: np.ndarray) -> bool:
    """Whether what is lit of `light` (y, x), of much less width, begins at once in all its brightness.

    A galaxy on a black sky begins faint: in drawn ones a sixth of the way in has at most 0.8 of the median light.
    """
    columns = np.flatnonzero(light.any(0))
    width = np.ptp(columns) + 1
    if not 2 * BLOCK <= width < (1 - CONSTANT) * SIZE:
        return False
    edge = slice(columns[0], columns[0] + min(BLOCK, width // 6))  # JPEG blurs a cut
    begun, brightness = light[:, edge].any(1), light.sum(0)
    relative = brightness[edge].max() / np.median(brightness[columns])
    galaxy = (
        relative >= 1 and begun[light.any(1)].mean() > 0.6
    )  # of its rows: beside it may be a star
    sky = relative > 0.8 and begun.mean() > 0.9
    return bool(galaxy or sky)


def noise_stretch(flux: np.ndarray) -> np.ndarray:
    """`flux` (band, y, x), in any linear unit, as brightness (band, y, x) from 0 to 255.

    With m the median of the mean of the bands and s its noise (1.4826 times the median distance
    from m): m - 2s is black, the 99.9th percentile is white, and between them brightness rises as
    asinh((flux - black) / 3s): linear in the noise, logarithmic in the galaxy. It depends on the
    cutout alone, so brightness cannot be compared between two FITS galaxies.

    Raises ValueError if nothing in `flux` is brighter than its sky.
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


def _picture_planes(data: bytes, channels: int) -> np.ndarray:
    """The planes (channel, y, x) from 0 to 255, not yet rounded, of a JPEG or PNG file's bytes."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ValueError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, so damage would go unseen; set it to False"
        )
    _check_parts(data)
    with _decoding(data):
        picture = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    with picture:
        _check_size(*picture.size)
        with _decoding(data):
            _check_whole(data, picture.format)
            picture.load()
        planes = _planes(picture, channels)
    if picture.format == "PNG" and data[PNG_DEPTH] == 16 and max(map(np.max, planes)) < DARK:
        brightest = max(map(np.max, planes)) / 255
        raise ValueError(
            f"its 16 bits are used to {brightest:.1%}, as if they held 12 or 14, so few of 256 grey levels would "
            "be left; multiply its values (12 bits by 16), or save it as FITS"
        )
    return np.stack([reduced(plane) for plane in planes])


def _check_parts(data: bytes) -> None:
    """Raise ValueError if a PNG has more chunks, or a JPEG more segments or scans, than any real one."""
    parts = 0
    if data.startswith(b"\x89PNG"):
        at = 8
        while at + 8 <= len(data) and parts <= MOST_PARTS:
            at += 12 + int.from_bytes(data[at : at + 4])
            parts += 1
    elif data.startswith(b"\xff\xd8"):
        if (scans := data.count(b"\xff\xda")) > MOST_SCANS:
            raise ValueError(f"it has {scans} scans; save it anew, not progressive")
        at = 2
        while at + 4 <= len(data) and data[at : at + 2] != b"\xff\xda" and parts <= MOST_PARTS:
            marked = data[at] == 255 and data[at + 1] not in (0, 255)
            at += 2 + int.from_bytes(data[at + 2 : at + 4]) if marked else 1
            parts += 1
    if parts > MOST_PARTS:
        raise ValueError(f"it has more than {MOST_PARTS} parts; save it anew")


@contextmanager
def _decoding(data: bytes) -> Iterator[None]:
    """Whatever Pillow raises, as ValueError with a fix."""
    try:
        yield
    except UnidentifiedImageError:
        raise ValueError(
            f"not a JPEG or PNG: it begins with {data[:16]!r}; fetch it again"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"its sides are longer than {LARGEST} pixels; cut it smaller") from None
    except (
        OSError,
        SyntaxError,
        EOFError,
        LookupError,
        ValueError,
        Warning,
        struct.error,
    ) as problem:
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


def _fits_planes(planes: np.ndarray, channels: int, stretch: str) -> np.ndarray:
    """The planes (channel, y, x) from 0 to 255, not yet rounded, of a FITS image (band, y, x)."""
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


def _check_size(width: int, height: int) -> None:
    if problem := wrong_size(width, height, SIZE, LARGEST):
        raise ValueError(problem)


def reduced(plane: np.ndarray) -> np.ndarray:
    """The central square of `plane` float32 (y, x), reduced to 256 x 256 by Lanczos resampling.

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
    """The weights float32 (pixel of 256, pixel of `side`) that reduce a line of `side` pixels to 256.

    Lanczos' windowed sinc of three lobes, stretched by the reduction so that it averages over what
    it leaves out, and normalised to 1 at each pixel, also at the borders.
    """
    step = side / SIZE
    centres = (np.arange(SIZE)[:, None] + 0.5) * step
    distance = (np.arange(side) + 0.5 - centres) / step
    weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    return csr_array((weights / weights.sum(1, keepdims=True)).astype(np.float32))
