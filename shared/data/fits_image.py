"""The one image of a FITS file that shows a galaxy, as its numbers; what it would take is looked at first.

A file may hold weights, masks and errors beside the image, and its headers may promise more than fits the memory, so
headers are read one by one, and no data before the header says how many there are.
"""

import io
import math
import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

BLOCK, CARD = 2880, 80  # bytes; a FITS file is blocks, a header is cards
MOST_UNITS = 100  # headers looked at in one file
LONGEST_HEADERS = 4 << 20  # bytes, of all of them together
MOST_DATA = 256 << 20  # bytes of one image, unpacked
MOST_TILES = 1 << 16  # of one packed image; a row each is the usual number
MOST_BANDS = 4
BRIGHTEST = 1e30  # beyond that, float32 has no room to work in
NO_COVERAGE = (
    0.2  # the share of exact zeros above which a floating-point band counts as not observed
)
MOST_FIELDS = 999  # columns of a table, by the standard; astropy counts to whatever a header says
# How an image may be packed: damage in one by HCOMPRESS_1 ends the process, for astropy's decoder writes beyond its
# memory; PLIO_1 is for masks.
PACKED = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "NOCOMPRESS")
PARAMETERS = {"BYTEPIX": (1, 2, 4), "BLOCKSIZE": (16, 32)}  # of RICE_1; the decoder believes others
# What extensions are called, by the words in EXTNAME: what shows the sky, and what only belongs to it.
SCIENCE = frozenset("SCI SCIENCE IMAGE DATA FLUX".split())  # noqa: SIM905
BESIDE = frozenset(
    """
    WHT WGT WEIGHT WEIGHTS WEIGHTMAP WMAP COVERAGE COV CTX CON CONTEXT NEXP NOBS EXP EXPMAP EXPTIME EXPOSURE TIME
    ERR ERROR ERRORS ERRMAP RMS NOISE SIGMA STD STDEV STDDEV UNC UNCERT UNCERTAINTY VAR VARIANCE IVAR INVVAR IVM
    MASK MSK BITMASK MASKBITS BADPIX BPM FLAG FLAGS DQ QUALITY SEG SEGM SEGMAP SEGMENTATION
    PSF KERNEL SKY ALLSKY BKG BACKGROUND MODEL RESID RESIDUAL RESIDUALS
    """.split()  # noqa: SIM905
)


def read_image(data: bytes, hdu: str | None, smallest: int, largest: int) -> np.ndarray:
    """The finite pixels (band, y, x) of the image in the bytes of a FITS file, in its own units.

    `hdu` is its number (0: the first) or EXTNAME; None: the only one, or the only one that its EXTNAME calls the
    science image (or nothing else, such as a weight map). BSCALE, BZERO and BLANK are applied.

    Raises ValueError if the file is damaged, holds no image or several that could be meant, has sides outside of
    `smallest` to `largest` pixels, or values that are missing, not finite or stand for missing ones.
    """
    from astropy.io import fits  # slow to import, and only FITS needs it

    if len(data) % BLOCK:
        raise ValueError(f"damaged ({len(data)} bytes are no whole FITS file); fetch it again")
    try:
        _header_length(data, 0, LONGEST_HEADERS)
        with fits.open(
            io.BytesIO(data), memmap=False, do_not_scale_image_data=True, lazy_load_hdus=True
        ) as units:
            unit = _chosen([*_images(units, data)], hdu)
            check_size(unit.shape[::-1], smallest, largest)
            _check_unpacking(unit, data)
            planes = _scaled(unit)
    except Refused as problem:
        raise ValueError(str(problem)) from None
    except Exception as problem:  # the decoders have errors of their own
        raise ValueError(f"damaged ({problem}); fetch it again") from problem
    planes = _bands_first(planes)
    _check_observed(planes)
    return planes


class Refused(Exception):
    """What is wrong with a whole file, told as it is."""


def check_size(sides: Sequence[int], smallest: int, largest: int) -> None:
    """Raise Refused unless an image of `sides` (x, y, ...) or (band, x, y) can be used: `_bands_first` says which."""
    shape = tuple(sides[::-1])
    if len(shape) not in (2, 3) or (len(shape) == 3 and min(shape[0], shape[2]) > MOST_BANDS):
        raise Refused(
            f"its axes are {shape}; write (y, x), (band, y, x) or (y, x, band), 4 bands at most"
        )
    height, width = shape if len(shape) == 2 else shape[1:] if shape[0] <= MOST_BANDS else shape[:2]
    problem = wrong_size(width, height, smallest, largest)
    if problem:
        raise Refused(problem)


def wrong_size(width: int, height: int, smallest: int, largest: int) -> str | None:
    """What is wrong with an image of `width` x `height` pixels, if anything is."""
    if min(width, height) < smallest:
        return (
            f"{width} x {height} pixels, and none is ever enlarged; fetch it at {smallest} x {smallest} or "
            "more"
        )
    if max(width, height) > largest:
        return f"{width} x {height} pixels; cut it to at most {largest} on a side"
    return None


def _images(units, data: bytes) -> Iterator:
    """The (number, unit) of every image of the file, headers read one after the other."""
    start, headers = 0, 0
    for number in range(MOST_UNITS + 1):
        if start >= len(data) or (start and data[start : start + 8] != b"XTENSION"):
            return
        if number == MOST_UNITS:
            raise Refused(
                f"it has more than {MOST_UNITS} extensions; write the galaxy's image to a file of its own"
            )
        length = _header_length(data, start, LONGEST_HEADERS - headers)
        headers += length
        fields = re.search(rb"TFIELDS = *(\d+)", data[start : start + length])
        if fields and int(fields[1]) > MOST_FIELDS:
            raise OSError(f"it tells of {int(fields[1])} columns; FITS has {MOST_FIELDS} at most")
        unit = units[number]
        place = unit.fileinfo()
        start = place["datLoc"] + place["datSpan"]
        if start > len(data):
            raise OSError("its end is missing")
        if unit.is_image and len(unit.shape) >= 2:
            yield number, unit


def _header_length(data: bytes, start: int, most: int) -> int:
    """How long the header is that begins at `start`; raises Refused if that is more than `most` bytes."""
    for end in range(start, min(start + most, len(data)), CARD):
        if data[end : end + 8] == b"END     ":
            return end - start
    raise Refused(
        f"its headers are damaged, or longer than {LONGEST_HEADERS} bytes; fetch it again, or write the galaxy's "
        "image to a file of its own"
    )


def _chosen(images: list, hdu: str | None):
    """The one of `images` (number, unit) that is meant."""
    if not images:
        raise Refused("it holds no image; a table belongs in dataset.table")
    listed = ", ".join(
        f"{number} {unit.name or '(no name)'} {' x '.join(map(str, unit.shape[::-1]))}"
        for number, unit in images
    )
    if hdu is not None:
        meant = [
            unit for n, unit in images if hdu == str(n) or hdu.strip().upper() == unit.name.upper()
        ]
        if len(meant) != 1:
            raise Refused(
                f"{len(meant) or 'none'} of its images is dataset.hdu={hdu}; it has {listed}: give a number"
            )
        return meant[0]
    able = [unit for _, unit in images if not _words(unit) & BESIDE]
    named = [unit for unit in able if _words(unit) & SCIENCE]
    meant = named or able
    if len(meant) != 1:
        raise Refused(
            f"it is not plain which of its images is the galaxy: {listed}. Name one in dataset.hdu, by its number or "
            "its EXTNAME"
        )
    return meant[0]


def _words(unit) -> set[str]:
    return set(re.findall("[A-Z]+", unit.name.upper()))


def _check_unpacking(unit, data: bytes) -> None:
    """Raise Refused if the data of `unit` would take too much memory or time to unpack, before any is."""
    size = math.prod(unit.shape) * abs(unit.header["BITPIX"]) // 8
    if size > MOST_DATA:
        raise Refused(
            f"its image has {size} bytes, and may have {MOST_DATA}; write fewer bands, or as 32-bit numbers"
        )
    tile = getattr(unit, "tile_shape", None)
    if tile is None:
        return
    if len(tile) != len(unit.shape) or not all(side > 0 for side in tile):
        raise OSError(f"tiles of {tile} in an image of {unit.shape}")
    tiles = math.prod(-(-side // part) for side, part in zip(unit.shape, tile, strict=True))
    if tiles > MOST_TILES:
        raise Refused(f"it is packed in {tiles} tiles, and may be in {MOST_TILES}; pack it by rows")
    most = 8 * math.prod(min(sides) for sides in zip(unit.shape, tile, strict=True))
    _check_tiles(data, unit, most)


def _check_tiles(data: bytes, unit, most: int) -> None:
    """Raise unless astropy unpacks each tile within its memory, and each that gzip packed to `most` bytes or less."""
    from astropy.io import fits

    number = unit.fileinfo()["hdrLoc"]
    with fits.open(
        io.BytesIO(data), memmap=False, disable_image_compression=True, lazy_load_hdus=True
    ) as units:
        table = next(
            unit
            for unit in map(units.__getitem__, range(MOST_UNITS))
            if unit.fileinfo()["hdrLoc"] == number
        )
        kind = str(table.header.get("ZCMPTYPE"))
        if kind not in PACKED:
            raise Refused(f"it is packed by {kind}; pack it by RICE_1 or GZIP_2, or not at all")
        for card in table.header["ZNAME*"].cards:
            value = table.header.get(card.keyword.replace("NAME", "VAL"))
            if value not in PARAMETERS.get(str(card.value).strip(), (value,)):
                raise OSError(f"{card.value} of its packing is {value}")
        packed = ["GZIP_COMPRESSED_DATA"]
        packed += ["COMPRESSED_DATA"] if "GZIP" in kind else []
        for name in set(packed) & set(table.columns.names):
            for tile in table.data[name]:
                unpacker = zlib.decompressobj(31)
                if len(unpacker.decompress(tile.tobytes(), most + 1)) > most:
                    raise Refused(
                        "a tile of it unpacks to more than its header says; fetch it again"
                    )


def _scaled(unit) -> np.ndarray:
    """The data as BSCALE and BZERO say, NaN where they are BLANK: astropy passes over a BLANK of 0, or of uint16."""
    header = unit.header
    scale, zero = header.get("BSCALE", 1), header.get("BZERO", 0)
    blank = header.get("BLANK", header.get("ZBLANK"))
    values = unit.data
    if values is None:
        raise OSError("its data are missing")
    if values.dtype.kind == "f":
        blank = None
    elif (scale, zero, blank) == (1, 0, None):
        return values
    exact = np.float32 if values.dtype.itemsize <= 2 else np.float64
    planes = values.astype(exact if values.dtype.kind != "f" else values.dtype.newbyteorder("="))
    if scale != 1:
        planes *= scale
    if zero != 0:
        planes += zero
    if blank is not None:
        planes[values == blank] = np.nan
    return planes


def _bands_first(planes: np.ndarray) -> np.ndarray:
    if planes.ndim == 2:
        return planes[None]
    return planes if planes.shape[0] <= MOST_BANDS else np.moveaxis(planes, 2, 0)


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
    for band, plane in enumerate(planes, 1):
        values = plane.ravel().astype(np.float64)
        if values.min() == values.max() and len(planes) > 1:
            raise ValueError(
                f"band {band} of it is {values[0]:g} everywhere, so was not observed; leave it out"
            )
        if found := stand_ins(values):
            counts = ", ".join(f"{count} are {value:g}" for value, count in found.items())
            raise ValueError(
                f"of {planes[0].size} values {counts}, far from all others, so they stand for missing ones; fill them "
                "in or leave it out"
            )


def stand_ins(values: np.ndarray) -> dict[float, int]:
    """Those of `values` (pixel,) that stand for missing ones, such as -99 or 1e20, and how often each is there.

    That is the least value, if several pixels have exactly that one, and if it lies further below the next value
    than this below the median of the others, and 5 times their noise below it; or the greatest, if it lies ten times
    as far above the next one (a star's core, cut off where the detector is full, has its wings just below). Then the
    same again without it.
    """
    found = {}
    for sign, times in ((1, 1), (-1, 10)):
        rest = sign * values
        while True:
            extreme = rest.min()
            others = rest[rest > extreme]
            if (
                not 2 <= len(rest) - len(others) <= len(others)
            ):  # most of a galaxy's image may be sky
                break
            middle, nearest = np.median(others), others.min()
            noise = 1.4826 * np.median(np.abs(others - middle))
            if not nearest - extreme > max(times * (middle - nearest), 5 * noise):
                break
            found[float(sign * extreme)] = len(rest) - len(others)
            rest = others
    return found
