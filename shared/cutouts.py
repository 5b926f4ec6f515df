"""One image file of a galaxy as every store keeps it: 256 x 256 grey pixels of 8 bits.

The channels are averaged in floating point, an oblong image is cut to its central square, and the
square is reduced by Lanczos resampling (as Walmsley et al. 2020 reduced theirs); only then is it
rounded. Nothing is ever enlarged.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

SIZE = 256  # pixels on a side of every stored image
LARGEST = 4096  # pixels; a longer side is refused before it fills the memory
SUFFIXES = (".jpg", ".jpeg", ".png", ".fits")
NO_COVERAGE = (
    0.2  # the share of exact zeros above which a floating-point band counts as not observed
)


def read_cutout(path: Path | str) -> np.ndarray:
    """The galaxy in the JPEG, PNG or FITS file at PATH as uint8 (y, x, 1) of 256 x 256.

    JPEG and PNG keep their brightness (16-bit grey is divided by 257). FITS planes, of any unit,
    are stretched as `stretch` says. Row 0 is the file's first row: a FITS image is not turned
    upside down.

    Raises FileNotFoundError if there is no such file, and ValueError, naming it, if it is damaged,
    of another kind, smaller than 256 pixels or longer than 4096, transparent, not finite or not
    observed.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        pixels = _fits_pixels(data) if path.suffix.lower() == ".fits" else _picture_pixels(data)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no image {path}") from None
    except Exception as problem:
        raise ValueError(f"image {path}: {problem}") from problem
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)[..., None]


def stretch(flux: np.ndarray) -> np.ndarray:
    """FLUX (y, x), in any linear unit, as brightness (y, x) from 0 to 255.

    With m the median and s the noise (1.4826 times the median distance from it): m - 2s is black,
    the 99.9th percentile is white, and between them brightness rises as asinh((flux - black) / 3s):
    linear in the noise, logarithmic in the galaxy. It depends on the cutout alone, so brightness
    cannot be compared between two FITS galaxies.

    Raises ValueError if nothing in FLUX is brighter than its sky.
    """
    sky = np.median(flux)
    noise = 1.4826 * np.median(np.abs(flux - sky))
    black, white = sky - 2 * noise, np.percentile(flux, 99.9)
    softening = max(3 * noise, (white - black) / 1000)
    if not white > sky:
        raise ValueError("nothing is brighter than the sky; leave it out")
    return 255 * np.clip(
        np.arcsinh((flux - black) / softening) / np.arcsinh((white - black) / softening), 0, 1
    )


def _picture_pixels(data: bytes) -> np.ndarray:
    """The grey pixels (y, x) from 0 to 255, not yet rounded, of a JPEG or PNG file's bytes."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
            _check_size(*picture.size)
            _check_whole(data, picture.format)
            picture.load()
            return _reduced(_grey(picture))
    except UnidentifiedImageError:
        raise ValueError(
            f"not a JPEG or PNG: it begins with {data[:16]!r}; fetch it again"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"its sides are longer than {LARGEST} pixels; cut it smaller") from None
    except (OSError, SyntaxError, EOFError) as problem:
        raise ValueError(f"damaged ({problem}); fetch it again") from problem


def _check_whole(data: bytes, kind: str | None) -> None:
    """Raise unless the file has its end, where Pillow might do without, and a PNG its checksums."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ValueError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, so damage would go unseen; set it to False"
        )
    if kind == "PNG":
        whole = data.rfind(b"IEND\xaeB`\x82") >= 0
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            picture.verify()
    else:  # the last end of image must follow the last start of a scan
        whole = data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    if not whole:
        raise OSError("its end is missing")


def _grey(picture: Image.Image) -> np.ndarray:
    if picture.mode in ("I", "I;16", "I;16B"):
        return np.asarray(picture, np.float32) / 257
    if picture.mode == "CMYK":
        raise ValueError("its colours are CMYK; save it as RGB or grey")
    if picture.mode in ("LA", "RGBA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if picture.getextrema()[3][0] < 255:
            raise ValueError("some of its pixels are transparent; save it without an alpha channel")
    if picture.mode in ("1", "L"):
        return np.asarray(picture.convert("L"), np.float32)
    colours = np.asarray(picture.convert("RGB"))
    return (colours[..., 0].astype(np.float32) + colours[..., 1] + colours[..., 2]) / 3


def _fits_pixels(data: bytes) -> np.ndarray:
    """The grey pixels (y, x) from 0 to 255, not yet rounded, of a FITS file's first image."""
    from astropy.io import fits  # slow to import, and only FITS needs it

    if len(data) % 2880 or not data.startswith(b"SIMPLE"):
        raise ValueError(f"damaged ({len(data)} bytes are no whole FITS file); fetch it again")
    try:
        with fits.open(io.BytesIO(data), memmap=False) as units:
            planes = next(
                (unit.data for unit in units if unit.is_image and unit.data is not None), None
            )
    except (OSError, TypeError, fits.VerifyError) as problem:
        raise ValueError(f"damaged ({problem}); fetch it again") from problem
    if planes is None:
        raise ValueError("it holds no image; a table belongs in dataset.table")
    planes = _planes_first(planes)
    _check_size(planes.shape[2], planes.shape[1])
    _check_observed(planes)
    return stretch(_reduced(planes.mean(0, dtype=np.float64).astype(np.float32)))


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
    blind = np.count_nonzero(~np.isfinite(planes))
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


def _reduced(grey: np.ndarray) -> np.ndarray:
    """The central square of GREY float32 (y, x), reduced to 256 x 256 by Lanczos resampling."""
    height, width = grey.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(
        np.ascontiguousarray(grey[top : top + side, left : left + side], np.float32)
    )
    return np.asarray(square.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
