"""Two thousand damaged tables, archives, images and exports: each is read, or refused in words, in little memory.

All are read by one child process, so that a crash is seen too. It says what became of each; the draws are fixed.
"""

import bz2
import csv as csv_module
import gzip
import io
import json
import lzma
import os
import random
import struct
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from fuzzing import MEMORY, child, tried, unclear
from PIL import Image

import trizoo
from shared.data.catalogue import read_catalogue
from shared.data.cutouts import SIZE, cutout
from shared.data.sources import tfrecord
from shared.data.sources.opening import open_source
from shared.output.subject_sets import MANIFEST
from shared.output.volunteers import EXPORTS, count_votes
from shared.run.spec import DatasetSpec, OracleSpec, RunSpec, from_config

CASES, CASES_FILE = 2000, "cases.json"
HTML = b"<!DOCTYPE html><html><body><h1>503 Service Unavailable</h1></body></html>" * 40
TABLES = ("t.csv", "t.csv.gz", "t.parquet", "t.fits")
ARCHIVES = ("a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz")
HOLDERS = (*ARCHIVES, "images.parquet", "images.tfrecord")  # the rest are images
ZEROS = 2**31  # in a bomb
EXPORT = f"run/{EXPORTS}/export.csv"  # of classifications

Made = tuple[str, str, bytes]  # what is wrong, the file's name, its bytes


# Whole files. No time or chance goes into any, so every run has the same ones.


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def saved(kind, array, **how):
    made = io.BytesIO()
    Image.fromarray(array).save(made, kind, **how)
    return made.getvalue()


def fits_image(array):
    made = io.BytesIO()
    fits.PrimaryHDU(array).writeto(made)
    return made.getvalue()


@cache
def images() -> dict[str, bytes]:
    y, x = np.mgrid[:280, :280] - 140
    sky = np.random.default_rng(1).normal(0, 1, (3, 280, 280))
    galaxy = (sky + 300 * np.exp(-np.hypot(x, y) / 15)).astype(np.float32)
    smooth = (128 + 100 * np.sin(x / 20) * np.cos(y / 30)).astype(np.uint8)
    colours = np.stack([smooth, smooth // 2, 255 - smooth], -1)
    return {
        "rgb.jpg": saved("JPEG", colours),
        "grey.jpg": saved("JPEG", smooth, progressive=True),
        "rgb.png": saved("PNG", colours, compress_level=1),
        "deep.png": saved("PNG", smooth.astype(np.uint16) * 257, compress_level=1),
        "grz.fits": fits_image(galaxy),
        "whole.fits": fits_image((galaxy[0] * 50).astype(np.int16)),
    }


def galaxies(count=60) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(2)
    return {
        "id": 587722981741363294 + np.arange(count),
        "ra": draw.uniform(0, 360, count),
        "dec": draw.uniform(-90, 90, count),
        "bar_strong": draw.integers(0, 20, count),
        "bar_weak": draw.integers(0, 20, count),
    }


def csv(table: dict) -> bytes:
    rows = zip(*table.values(), strict=True)
    return "\n".join([",".join(table), *(",".join(map(str, row)) for row in rows), ""]).encode()


def parquet(table: dict, **how) -> bytes:
    made = io.BytesIO()
    pq.write_table(pa.table(table), made, **how)
    return made.getvalue()


def fits_table(table: dict) -> bytes:
    forms = {"i": "K", "f": "D"}
    columns = [fits.Column(name, forms[v.dtype.kind], array=v) for name, v in table.items()]
    made = io.BytesIO()
    fits.BinTableHDU.from_columns(columns).writeto(made)
    return made.getvalue()


def tables(table: dict) -> dict[str, bytes]:
    text = csv(table)
    made = (
        text,
        gzip.compress(text, mtime=0),
        parquet(table, row_group_size=25),
        fits_table(table),
    )
    return dict(zip(TABLES, made, strict=True))


def zipped(members: dict[str, bytes], mode=0o100644) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, mode << 16
            archive.writestr(info, data)
    return made.getvalue()


def tarred(members: dict[str, bytes], kind=tarfile.REGTYPE, target="") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            info.size = len(data) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def masked(data: bytes) -> bytes:
    checksum = google_crc32c.value(data)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) % 2**32)


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def example(name: str, matrix: bytes, *shape: int) -> bytes:
    made = tfrecord.EXAMPLE()
    for key, value in {"id": name.encode(), "matrix": matrix}.items():
        made.features.feature.add(key=key).value.bytes_list.value.append(value)
    for key, side in zip(("height", "width", "channels"), shape, strict=True):
        made.features.feature.add(key=key).value.int64_list.value.append(side)
    return made.SerializeToString(deterministic=True)


def hub(cells: list[bytes | None], **how) -> bytes:
    image = pa.array([{"bytes": cell, "path": "x.jpg"} for cell in cells])
    return parquet({"id": [f"g{n}" for n in range(len(cells))], "image": image}, **how)


@cache
def whole() -> dict[str, bytes]:
    few = {f"deep/{name}": images()[name] for name in ("rgb.jpg", "grey.jpg", "grz.fits")}
    tar = tarred(few)
    packed = (
        zipped(few),
        tar,
        gzip.compress(tar, 1, mtime=0),
        bz2.compress(tar),
        lzma.compress(tar, preset=1),
    )
    records = [
        example(f"g{channels}", pixels(SIZE, SIZE, channels).tobytes(), SIZE, SIZE, channels)
        for channels in (1, 3)
    ]
    return {
        **tables(galaxies()),
        **dict(zip(ARCHIVES, packed, strict=True)),
        "images.parquet": hub(list(few.values()), row_group_size=2),
        "images.tfrecord": b"".join(map(record, records)),
        **images(),
    }


# What damages them, as DRAW says.


def flip(data: bytearray, draw: random.Random) -> bytes:
    for _ in range(draw.choice((1, 1, 3, 30))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return data


def flip_near_an_end(data: bytearray, draw: random.Random) -> bytes:
    """Where headers and directories are."""
    place = draw.randrange(min(600, len(data)))
    data[draw.choice((place, -1 - place))] ^= 1 << draw.randrange(8)
    return data


def truncate(data: bytearray, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def exaggerate(data: bytearray, draw: random.Random) -> bytes:
    """A number that is absurd, where a length may be."""
    width = draw.choice((2, 4, 8))
    value = draw.choice(
        (0, 1, 2 ** (8 * width - 1) - 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1)
    )
    place = draw.choice((draw.randrange(len(data)), draw.randrange(min(400, len(data)))))
    data[place : place + width] = value.to_bytes(width, draw.choice(("little", "big")))
    return data


def cut_out(data: bytearray, draw: random.Random) -> bytes:
    start = draw.randrange(len(data))
    del data[start : start + draw.choice((1, 512, 4000))]
    return data


def repeat(data: bytearray, draw: random.Random) -> bytes:
    start = draw.randrange(len(data))
    data[start:start] = data[start : start + draw.choice((1, 512, 4000))]
    return data


def overwrite(data: bytearray, draw: random.Random) -> bytes:
    start = draw.randrange(len(data))
    part = min(len(data) - start, draw.choice((16, 300)))
    data[start : start + part] = draw.randbytes(part)
    return data


def change_digits(data: bytearray, draw: random.Random) -> bytes:
    """Where numbers are written out, as in CSV and in the headers of FITS and tar."""
    places = [i for i, byte in enumerate(data[:4000]) if 48 <= byte <= 57] or [0]
    for _ in range(draw.choice((1, 5))):
        data[draw.choice(places)] = draw.choice(b"0189-e. ")
    return data


DAMAGES = (
    flip,
    flip_near_an_end,
    truncate,
    exaggerate,
    cut_out,
    repeat,
    overwrite,
    change_digits,
)


def damaged(count: int) -> Iterator[Made]:
    """`count` files, each whole but for one thing."""
    names = list(whole())
    for number in range(count):
        name = names[number % len(names)]
        damage = DAMAGES[number // len(names) % len(DAMAGES)]
        data = damage(bytearray(whole()[name]), random.Random(number))
        yield f"{damage.__name__} {number}", name, data


def replaced() -> Iterator[Made]:
    """Nothing, a page of HTML, or a file of another kind."""
    names = list(whole())
    for number, name in enumerate(names):
        yield "empty", name, b""
        yield "HTML", name, HTML
        yield "other", name, whole()[names[(number + 6) % len(names)]]


def odd_tables() -> Iterator[Made]:
    names = list(galaxies())
    for first, second in [(a, b) for a in range(len(names)) for b in range(a)]:
        order = list(names)
        order[first], order[second] = order[second], order[first]
        swapped = dict(zip(order, galaxies().values(), strict=True))
        for name, data in tables(swapped).items():
            yield f"{names[first]} for {names[second]}", name, data
    absurd = ("1e300", "-1", "nan", "inf", "9" * 40, "1" * 10**6, "x\0y", "\N{SNOWMAN}", "\udcff")
    for value in absurd:
        for number, column in enumerate(names):
            lines = csv(galaxies()).decode().split("\n")
            row = lines[7].split(",")
            lines[7] = ",".join([*row[:number], value, *row[number + 1 :]])
            text = "\n".join(lines).encode(errors="surrogateescape")
            yield f"{column} {value[:9]!a} of {len(value)}", "t.csv", text
    head, *rows = csv(galaxies()).splitlines()
    wide = b"\n".join([head + b",x" * 20_000, *(row + b",1" * 20_000 for row in rows[:9])])
    yield "wide", "t.csv", wide
    yield "bomb", "t.csv.gz", gzip_bomb(csv(galaxies()))
    big = {"NAXIS1": 10**12, "NAXIS2": 10**15, "TFIELDS": 10**9, "PCOUNT": 2**62, "BITPIX": -640}
    for key, value in big.items():
        data = fits_table(galaxies())
        place = data.index(f"{key:8}=".encode(), data.index(b"XTENSION"))
        card = f"{key:8}= {value:>20}".encode()
        yield f"{key} {value}", "t.fits", data[:place] + card + data[place + 30 :]


@cache
def zeros(size: int = ZEROS) -> bytes:
    """`size` zeros, deflated, in a thousandth of the space: one block, again and again."""
    packing = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packing.compress(bytes(2**24)) + packing.flush(zlib.Z_FULL_FLUSH)
    return block * (size >> 24) + b"\3\0"


def zlib_zeros(size: int = ZEROS) -> bytes:
    return b"\x78\xda" + zeros(size) + struct.pack(">I", size % 65521 << 16 | 1)


def gzip_bomb(start: bytes, size: int = ZEROS) -> bytes:
    """`start`, and then `size` zeros, without an end."""
    return gzip.compress(start, mtime=0) + b"\x1f\x8b\x08" + bytes(7) + zeros(size)


def zip_bomb(length: int) -> bytes:
    """A zip of zeros that says they are `length`."""
    name, data = b"a.jpg", zeros()
    about = struct.pack("<5H3L2H", 20, 0, 8, 0, 33, 0, len(data), length, len(name), 0)
    local = b"PK\3\4" + about + name + data
    more = struct.pack("<3H2L", 0, 0, 0, 0o100644 << 16, 0)
    central = b"PK\1\2" + struct.pack("<H", 20) + about + more + name
    sizes = struct.pack("<4H2LH", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + b"PK\5\6" + sizes


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IEND", b"")


def fits_header(bits: int, *sides: int) -> bytes:
    cards = {"SIMPLE": "T", "BITPIX": bits, "NAXIS": len(sides)}
    cards |= {f"NAXIS{i}": side for i, side in enumerate(sides, 1)}
    text = "".join(f"{key:8}= {value:>20}".ljust(80) for key, value in cards.items())
    return (text + "END").ljust(2880).encode() + bytes(2880)


def odd_images() -> Iterator[Made]:
    jpeg, bomb = images()["rgb.jpg"], chunk(b"IDAT", zlib_zeros())
    frame = jpeg.index(b"\xff\xc0") + 5  # where its height and width are
    sized = {
        f"{side} x {side}": jpeg[:frame] + struct.pack(">HH", side, side) + jpeg[frame + 4 :]
        for side in (0, 4096, 65535)
    }
    for what, data in sized.items():
        yield what, "a.jpg", data
    yield "twice", "a.jpg", jpeg[:-2] + jpeg
    yield "many ends", "a.jpg", jpeg[:20] + b"\xff\xd9" * 10_000
    scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"
    yield "many scans", "a.jpg", jpeg[:-2] + scan * 10_000 + b"\xff\xd9"
    for side in (16, 300, 4096, 65535, 2**31 - 1):
        yield f"bomb of {side} x {side}", "a.png", png(side, side, bomb)
    yield "bomb of 2^31 x 1", "a.png", png(2**31 - 1, 1, bomb)
    for kind, start in {b"zTXt": b"a\0\0", b"iCCP": b"a\0\0", b"iTXt": b"a\0\1\0\0\0"}.items():
        part = chunk(kind, start + zlib_zeros())
        yield f"bomb in {kind.decode()}", "a.png", png(300, 300, part, bomb)
    yield "many texts", "a.png", png(300, 300, *[chunk(b"tEXt", b"a\0b")] * 50_000, bomb)
    yield "huge chunk", "a.png", png(300, 300)[:33] + b"\xff\xff\xff\xffIDAT" + bomb[:99]
    yield "no pixels", "a.png", png(300, 300)
    for kind in ("GIF", "TIFF", "BMP", "WEBP", "PPM"):
        yield kind, "a.jpg", saved(kind, pixels(300, 300))
    yield "SVG", "a.png", b"<svg xmlns='http://www.w3.org/2000/svg' width='300' height='300'/>"
    yield "PostScript", "a.jpg", b"%!PS-Adobe-3.0\n(/etc/passwd) run\n"
    yield "gzip", "a.fits", gzip.compress(images()["grz.fits"], mtime=0)
    arrays = {
        "nothing": None,
        "NaN": np.full((300, 300), np.nan),
        "inf": np.full((300, 300), np.inf, np.float32),
        "1e300": np.full((300, 300), 1e300),
        "some 1e300": np.where(np.arange(300) % 9, np.ones((300, 300)), 1e300),
        "zeros": np.zeros((300, 300)),
        "9 axes": np.zeros((1,) * 7 + (300, 300), np.uint8),
        "5000 bands": np.zeros((5000, 4, 4), np.uint8),
        "one row": np.zeros((1, 10**6), np.uint8),
    }
    for what, array in arrays.items():
        yield what, "a.fits", fits_image(array)
    for sides in (
        (10**9, 10**9, 3),
        (4096, 4096, 4),
        (-300, 300, 3),
        (10**20, 1, 1),
        (0, 0, 0),
        (),
    ):
        yield f"says {sides}", "a.fits", fits_header(-64, *sides)


def odd_archives() -> Iterator[Made]:
    image = images()["rgb.jpg"]
    names = [
        "../up.jpg",
        "../" * 9 + "tmp/up.jpg",
        "/tmp/absolute.jpg",
        "a/../../up.jpg",
        "//a.jpg",
    ]
    names += ["..\\up.jpg", "C:\\up.jpg", "a\0b.jpg", "x" * 5000 + ".jpg", "a/" * 2000 + "b.jpg"]
    for name in [*names, "nul.jpg", "\udcff.jpg"]:
        yield f"name {name[:20]!a}", "a.tar", tarred({name: image})
        if name.isascii():
            yield f"name {name[:20]!a}", "a.zip", zipped({name: image})
    kinds = {b"symbolic": tarfile.SYMTYPE, b"hard": tarfile.LNKTYPE, b"device": tarfile.CHRTYPE}
    kinds |= {b"fifo": tarfile.FIFOTYPE, b"folder": tarfile.DIRTYPE}
    for target in ("/etc/passwd", "../../x.jpg", "link.jpg", "/dev/zero"):
        yield f"link to {target}", "a.zip", zipped({"link.jpg": target.encode()}, 0o120777)
        for what, kind in kinds.items():
            yield (
                f"{what.decode()} link to {target}",
                "a.tar",
                tarred({"link.jpg": b""}, kind, target),
            )
    for length in (100, 10**6, ZEROS):
        yield f"bomb that says {length}", "a.zip", zip_bomb(length)
    yield "bomb", "a.tar.gz", gzip_bomb(b"")
    head = tarfile.TarInfo("a.jpg")
    for head.size in (2**28, 2**40, 2**62):
        start = head.tobuf(tarfile.GNU_FORMAT)
        yield f"member of {head.size}", "a.tar", start + bytes(2048)
        yield f"member of {head.size}", "a.tar.gz", gzip_bomb(start, 2**28)
    head.size = 2**33
    for head.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE):
        start = head.tobuf(tarfile.GNU_FORMAT)
        yield f"header {head.type.decode()} of {head.size}", "a.tar.gz", gzip_bomb(start)
    for size in ("-512", "9" * 30, "1e9"):
        head = tarfile.TarInfo("a.jpg")
        head.pax_headers = {"size": size}
        yield f"size {size}", "a.tar", head.tobuf(tarfile.PAX_FORMAT) + tarred({"b.jpg": image})


def odd_holders() -> Iterator[Made]:
    few = {"nothing": [None, images()["rgb.jpg"], None], "small": [b"", b"x", HTML], "none": []}
    for what, cells in few.items():
        yield what, "images.parquet", hub(cells)
    same = pa.DictionaryArray.from_arrays(pa.array([0] * 64, pa.int8()), pa.array([bytes(2**25)]))
    table = {"id": [f"g{n}" for n in range(64)], "image": same}
    how = {"compression": "zstd", "store_schema": False, "dictionary_pagesize_limit": 2**28}
    yield "one image often", "images.parquet", parquet(table, **how)
    huge = pa.Array.from_buffers(
        pa.binary(),
        1,
        [None, pa.py_buffer(struct.pack("<ii", 0, 2**28 + 1)), pa.py_buffer(bytes(2**28 + 1))],
    )
    table = {"id": ["g"], "image": huge}
    yield "bomb", "images.parquet", parquet(table, compression="zstd", use_dictionary=False)
    for shape in ((2**31, 2**31, 3), (-1, 1, 3), (300, 300, 3), (0, 0, 1), (1, 1, 2**40)):
        yield f"shape {shape}", "images.tfrecord", record(example("g", b"123", *shape))
    for length in (2**20, 2**32, 2**63, 2**64 - 1):
        head = struct.pack("<Q", length)
        yield f"length {length}", "images.tfrecord", head + masked(head) + bytes(1000)


# Kinds that real files of people have shown


def dialects() -> Iterator[Made]:
    """Tables as other programs write them, and nearly so."""
    text = csv(galaxies(20)).decode()
    lines = text.splitlines()
    for separator in (",", ";", "\t", "|", " ", "  ", ",,", ", "):
        for end in ("\n", "\r\n", "\r", "\n\n"):
            for encoding in ("utf-8", "utf-8-sig", "utf-16"):
                data = end.join(lines).replace(",", separator).encode(encoding)
                yield f"{separator!a} {end!a} {encoding}", "t.csv", data
    starts = (
        "#Table1",
        "# comment",
        "",
        ",,,,",
        "%ECSV 1.0",
        "sep=,",
        '"a',
        "id",
        "\0",
        "\\N",
        "1,2,3,4,5",
    )
    ecsv = "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: id, datatype: int64}\n# schema: astropy-2.0"
    for start in (*starts, ecsv):
        yield f"begins {start[:9]!a}", "t.csv", f"{start}\n{text}".encode()
    cells = (
        "1,234",
        "1.234,5",
        "1 234",
        "5e2",
        "5.",
        "+5",
        "0x10",
        "1_000",
        "--",
        "null",
        '""',
        '"5"',
        "'5'",
        "5%",
    )
    for cell in cells:
        for place in (0, 3, 9):
            row = lines[4].split(",")
            row[place % 5] = cell
            yield (
                f"{cell} in {place}",
                "t.csv",
                "\n".join([*lines[:4], ",".join(row), *lines[5:]]).encode(),
            )
    odd = {
        "header alone": lines[0],
        "no header": "\n".join(lines[1:]),
        "header twice": "\n".join([lines[0], *lines]),
        "names twice": text.replace("bar_weak", "bar_strong", 1),
        "no names": text.replace(lines[0], ",,,,", 1),
        "open quote": text.replace("\n", '\n"', 3),
        "quoted lines": text.replace(",", ',"\n",', 3),
        "short rows": "\n".join(line[: len(line) // 2] for line in lines),
        "last row cut": text[:-7],
        "commas more": text.replace("\n", ",\n"),
        "one line": " ".join(lines),
        "zeros": "\0" * 5000,
        "spaces": " " * 5000,
        "commas": "," * 200_000,
        "quotes": '"' * 100_001,
        "latin": text.replace("bar", "b\xe4r"),
    }
    for what, data in odd.items():
        yield what, "t.csv", data.encode("latin-1")


def rich_table() -> bytes:
    """A FITS table with all that columns may be."""
    count, draw = 12, np.random.default_rng(3)
    votes = [draw.integers(0, 30, count) for _ in range(2)]
    lists = np.array([np.arange(n % 4) for n in range(count)], object)
    columns = [
        fits.Column("id", "20A", array=[f"J{n:09d}" for n in range(count)]),
        fits.Column("ra", "D", unit="deg", array=draw.uniform(0, 360, count)),
        fits.Column("dec", "E", array=draw.uniform(-90, 90, count)),
        fits.Column("bar_strong", "J", null=-99, array=votes[0]),
        fits.Column("bar_weak", "I", bscale=1, bzero=32768, array=votes[1].astype(np.uint16)),
        fits.Column("lists", "PJ()", array=lists),
        fits.Column("three", "3E", array=draw.uniform(0, 1, (count, 3))),
    ]
    unit = fits.BinTableHDU.from_columns(columns)
    for _ in range(40):
        unit.header["COMMENT"] = "room for a card"
    made = io.BytesIO()
    unit.writeto(made)
    return made.getvalue()


def carded(data: bytes, key: str, value: str) -> bytes:
    """`data`, a FITS file, whose first extension says `key` = `value`; a comment makes room where it did not."""
    start = data.index(b"XTENSION")
    place = data.find(f"{key:8}=".encode(), start)
    place = data.index(b"COMMENT ", start) if place < 0 else place
    return data[:place] + f"{key:8}= {value:>20}".ljust(80).encode()[:80] + data[place + 80 :]


def fits_tables() -> Iterator[Made]:
    """Tables whose headers say what is not so."""
    whole = rich_table()
    yield "rich", "t.fits", whole
    forms = "'1K' '0J' '999999999K' 'PJ(3)' 'QJ' '1PA(20)' '1X' '9999999X' 'C' 'M' '20A' '1A' 'L' 'B' '' 'Z' '-1J' 3"
    numbers = (
        "0 -1 1 32767 32768 -99 1.5 1E308 9223372036854775808 99999999999999999999 NaN T 'x' ''"
    )
    texts = "'' 'id' 'ra' 'h' 'rad' 'deg' 'hourangle' 'arcsec' 'mag' '(1,1)' '(99999,99999)' '(0)' 'x' 5"
    keys = {
        "TFORM": forms,
        "TNULL": numbers,
        "TSCAL": numbers,
        "TZERO": numbers,
        "TTYPE": texts,
        "TUNIT": texts,
        "TDIM": texts,
    }
    for name, values in keys.items():
        for number, value in enumerate(values.split()):
            for column in (1 + number % 7, 1 + (number + 3) % 7):
                yield f"{name}{column} {value}", "t.fits", carded(whole, f"{name}{column}", value)
    sizes = "0 1 -1 7 100000 2147483647 9999999999999 9223372036854775807 'x' 1.5 T"
    for key in ("NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "TFIELDS", "THEAP", "BITPIX"):
        for value in sizes.split():
            yield f"{key} {value}", "t.fits", carded(whole, key, value)
    for kind in ("'TABLE   '", "'IMAGE   '", "'FOREIGN '", "''", "T"):
        yield f"XTENSION {kind}", "t.fits", carded(whole, "XTENSION", kind)
    heap = len(whole) - 2880 + 12 * (20 + 8 + 4 + 4 + 2 + 8 + 12) % 2880
    for number in range(20):
        data, draw = bytearray(whole), random.Random(number)
        place = draw.randrange(data.index(b"J000000000"), heap)
        data[place : place + 4] = draw.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4)))
        yield f"rows {number}", "t.fits", bytes(data)
    ascii_columns = [
        fits.Column("id", "A20", array=[f"J{n}" for n in range(9)]),
        fits.Column("bar_strong", "I6", array=np.arange(9)),
        fits.Column("bar_weak", "I6", null="---", array=np.arange(9)),
    ]
    made = io.BytesIO()
    fits.TableHDU.from_columns(ascii_columns).writeto(made)
    place = made.getvalue().index(b"J0 ")
    for what in (b"      ", b"   ---", b"  1E40", b"  0x10", b"999999", b"\xff" * 6, b"    -1"):
        data = bytearray(made.getvalue())
        data[place + 21 : place + 27] = what
        yield f"ASCII {what!a}", "t.fits", bytes(data)
    empty = fits.BinTableHDU.from_columns([fits.Column("id", "K", array=[])])
    for what, units in {
        "second": [empty, fits.open(io.BytesIO(whole))[1]],
        "none": [fits.ImageHDU()],
    }.items():
        made = io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(), *units]).writeto(made)
        yield f"table {what}", "t.fits", made.getvalue()


def parquets() -> Iterator[Made]:
    """Files whose footers or pages were changed, and one column of very many equal values."""
    table = {**galaxies(), "id": [f"g{n}" for n in range(60)], "list": [[n] for n in range(60)]}
    for number, how in enumerate(
        ({}, {"compression": "zstd"}, {"use_dictionary": False, "compression": "none"})
    ):
        whole = parquet(table, **how)
        footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
        for seed in range(40):
            data, draw = bytearray(whole), random.Random(seed)
            low, high = (footer, len(whole)) if seed % 4 else (4, footer)
            for _ in range(draw.choice((1, 1, 2, 8))):
                data[draw.randrange(low, high)] = draw.choice(
                    (0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256))
                )
            yield f"footer {number} {seed}", "t.parquet", bytes(data)
    equal = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2**26, np.int8)), pa.array(["x" * 30]))
    for name in ("id", "bar_strong"):
        few = {key: pa.nulls(2**26, pa.null()) for key in galaxies()} | {name: equal}
        yield (
            f"{name} of 2^26 equal",
            "t.parquet",
            parquet(few, compression="zstd", store_schema=False),
        )


def tiled(kind: str, array: np.ndarray) -> bytes:
    """A tile-compressed image in FITS, with room for cards."""
    unit = fits.CompImageHDU(array, compression_type=kind)
    for _ in range(40):
        unit.header["COMMENT"] = "room for a card"
    made = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(made)
    return made.getvalue()


def tile_bomb(side: int) -> bytes:
    """A tile-compressed image of `side` x `side`, all of whose tiles are the same few bytes."""
    tile = gzip.compress(bytes(side), mtime=0)
    cards = {"XTENSION": "'BINTABLE'", "BITPIX": 8, "NAXIS": 2, "NAXIS1": 8, "NAXIS2": side}
    cards |= {"PCOUNT": len(tile), "GCOUNT": 1, "TFIELDS": 1, "TTYPE1": "'COMPRESSED_DATA'"}
    cards |= {
        "TFORM1": f"'1PB({len(tile)})'",
        "ZIMAGE": "T",
        "ZBITPIX": 8,
        "ZNAXIS": 2,
        "ZNAXIS1": side,
    }
    cards |= {"ZNAXIS2": side, "ZTILE1": side, "ZTILE2": 1, "ZCMPTYPE": "'GZIP_1  '"}
    text = "".join(f"{key:8}= {value:>20}".ljust(80) for key, value in cards.items()) + "END"
    text = text.ljust(-(-len(text) // 2880) * 2880).encode()
    data = struct.pack(">II", len(tile), 0) * side + tile
    return fits_header(8)[:2880] + text + data.ljust(-(-len(data) // 2880) * 2880, b"\0")


def fits_images() -> Iterator[Made]:
    """Images in tiles, in many extensions, and with weights before them."""
    y, x = np.mgrid[:280, :280] - 140
    sky = np.random.default_rng(4).normal(100, 3, (280, 280)) + 900 * np.exp(-np.hypot(x, y) / 15)
    kinds = ("RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1")
    wholes = {kind: tiled(kind, sky.astype(np.int16)) for kind in kinds} | {
        "real": tiled("RICE_1", sky)
    }
    values = [
        "0",
        "-1",
        "1",
        "7",
        "300",
        "100000",
        "2147483647",
        "9223372036854775807",
        "1.5",
        "'x'",
        "''",
    ]
    keys = [
        "ZNAXIS",
        "ZNAXIS1",
        "ZNAXIS2",
        "ZTILE1",
        "ZTILE2",
        "ZBITPIX",
        "ZVAL1",
        "ZVAL2",
        "NAXIS1",
        "NAXIS2",
        "PCOUNT",
        "TFIELDS",
        "ZSCALE",
        "ZBLANK",
    ]
    for number, (kind, whole) in enumerate(wholes.items()):
        yield f"tiles {kind}", "a.fits", whole
        for place, key in enumerate(keys):
            for turn in range(2):
                value = values[(place + number + 5 * turn) % len(values)]
                yield f"{kind} {key} {value}", "a.fits", carded(whole, key, value)
        for word in ("'RICE_1'", "'NOCOMPRESS'", "'x'", "5"):
            yield f"{kind} as {word}", "a.fits", carded(whole, "ZCMPTYPE", word)
        for seed in range(4):
            data, draw = bytearray(whole), random.Random(seed)
            for _ in range(20):
                data[draw.randrange(8640, len(data))] = draw.randrange(256)
            yield f"{kind} data {seed}", "a.fits", bytes(data)
    for side in (3000, 40_000, 200_000):
        yield f"{side} x {side} in tiles", "a.fits", tile_bomb(side)
    small, weight = (
        fits.ImageHDU(sky.astype(np.float32)),
        fits.ImageHDU(np.ones((280, 280), np.float32), name="WHT"),
    )
    empty = io.BytesIO()
    fits.ImageHDU().writeto(empty)
    extension = empty.getvalue()[2880:]
    for what, units in {
        "weights first": [weight, small],
        "weights": [weight],
        "two": [small, small],
    }.items():
        made = io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(), *units]).writeto(made)
        yield what, "a.fits", made.getvalue()
        yield (
            f"{what} after 2,000 empty",
            "a.fits",
            made.getvalue()[:2880] + extension * 2000 + made.getvalue()[2880:],
        )
    yield "5,000 empty", "a.fits", empty.getvalue()[:2880] + extension * 5000
    for bits in (8, 16, 32, 64, -32, -64):
        for sides in (
            (300, 300, 0),
            (300, 300, 1, 1),
            (300, 300, 2),
            (1, 300, 300),
            (20_000, 20_000),
        ):
            yield f"{bits} bits {sides}", "a.fits", fits_header(bits, *sides)


def pictures() -> Iterator[Made]:
    """PNG and JPEG whose parts were changed one by one, with right checksums."""
    whole = saved("PNG", pixels(280, 280, 3), compress_level=1)
    head = whole[16:29]
    for place in range(8, 13):  # depth, colours, compression, filter, interlace
        for value in (0, 1, 3, 5, 16, 255):
            other = bytearray(head)
            other[place] = value
            yield (
                f"IHDR {place} {value}",
                "a.png",
                whole[:8] + chunk(b"IHDR", bytes(other)) + whole[33:],
            )
    for kind in (
        b"PLTE",
        b"tRNS",
        b"gAMA",
        b"eXIf",
        b"acTL",
        b"fdAT",
        b"IDAT",
        b"IEND",
        b"xxxx",
        b"\xff\xff\xff\xff",
    ):
        for data in (b"", b"\0" * 7, b"\xff" * 3000):
            yield f"{kind!a} of {len(data)}", "a.png", whole[:33] + chunk(kind, data) + whole[33:]
    jpeg = images()["rgb.jpg"]
    for marker in (0xC0, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xE2, 0xEE, 0xFE):
        for data in (b"", b"\0" * 9, b"\xff" * 65533):
            segment = bytes([255, marker]) + struct.pack(">H", len(data) + 2) + data
            yield f"segment {marker:x} of {len(data)}", "a.jpg", jpeg[:2] + segment + jpeg[2:]


def classifications() -> Iterator[Made]:
    """Exports of classifications in which one thing is wrong."""
    names = "classification_id,user_name,user_id,user_ip,workflow_id,workflow_name,workflow_version,created_at"
    names = f"{names},gold_standard,expert,metadata,annotations,subject_data,subject_ids".split(",")
    rows = [
        {
            **dict.fromkeys(names, ""),
            "classification_id": str(100 + number),
            "user_name": f"someone {number}",
            "user_id": str(number),
            "workflow_id": "1",
            "workflow_version": "12.34",
            "created_at": f"2026-01-0{1 + number} 10:00:00 UTC",
            "metadata": json.dumps({"started_at": "2026-01-01T10:00:00.000Z"}),
            "annotations": json.dumps(
                [{"task": "T0", "task_label": "bar", "value": ("strong", "weak")[number % 2]}]
            ),
            "subject_data": json.dumps({"7": {"retired": None, "!galaxy": "g0", "image": "a.jpg"}}),
            "subject_ids": "7",
        }
        for number in range(3)
    ]

    def export(rows: list[dict]) -> bytes:
        made = io.StringIO()
        writer = csv_module.DictWriter(made, names)
        writer.writeheader()
        writer.writerows(rows)
        return made.getvalue().encode(errors="surrogateescape")

    whole = export(rows)
    yield "whole", EXPORT, whole
    cells = (
        "",
        "x",
        "-1",
        "nan",
        "2.7E+06",
        "1e999",
        "9" * 400,
        "null",
        "[]",
        "{}",
        "3",
        '"x"',
        "true",
        "[[]]",
        "\0",
    )
    cells += (
        '{"7": null}',
        '{"7": [1]}',
        '{"7": {}, "8": {}}',
        '[{"task": null}]',
        '[{"task": {"a": 1}}]',
        "[null]",
    )
    cells += (
        '[{"task": "T0", "value": {"a": [1]}}]',
        '[{"task": "T0", "value": [["strong"]]}]',
        "[" * 5000,
        "\udcff",
    )
    cells += (
        '[{"value": [{"task": "T0", "value": "strong"}]}]',
        '[{"task": ["T0"], "value": 3}]',
        "NaN",
        "x" * 200_000,
    )
    for name in names:
        for cell in cells if name in ("annotations", "subject_data") else cells[:9]:
            yield (
                f"{name} {cell[:20]!a}",
                EXPORT,
                export([rows[0], rows[1] | {name: cell}, rows[2]]),
            )
    for name in names:
        yield f"without {name}", EXPORT, whole.replace(name.encode(), b"x", 1)
    for damage in (truncate, cut_out, overwrite, flip):
        for seed in range(6):
            yield f"{damage.__name__} {seed}", EXPORT, damage(bytearray(whole), random.Random(seed))
    for encoding in ("utf-16", "utf-8-sig", "cp500"):
        yield encoding, EXPORT, whole.decode().encode(encoding)
    yield "semicolons", EXPORT, whole.replace(b",", b";")
    yield "nothing", EXPORT, b""


def lay_out(folder: Path) -> None:
    """Write every case into `folder`, and a list of what each is and its path."""
    cases = []
    fixed = [*odd_tables(), *odd_images(), *odd_archives(), *odd_holders(), *replaced()]
    fixed += [
        *dialects(),
        *fits_tables(),
        *parquets(),
        *fits_images(),
        *pictures(),
        *classifications(),
    ]
    links = [
        "/etc/passwd",
        "/dev/zero",
        "/proc/self/mem",
        ".",
        "..",
        "/",
        "a.jpg",
        "nothing",
        "real",
    ]
    rest = CASES - len(whole()) - len(fixed) - len(links)
    files = [("whole", name, data) for name, data in whole().items()]
    for number, (what, name, data) in enumerate([*files, *fixed, *damaged(rest)]):
        path = folder / "cases" / str(number) / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        if name == EXPORT:
            asked = path.parents[1] / "ask-01"
            asked.mkdir()
            (asked / MANIFEST).write_text("image,!galaxy\nimages/a.jpg,g0\n")
        cases.append((f"{name}: {what}", str(path)))
    for number, target in enumerate(links):
        place = folder / "cases" / f"links {number}"
        (place / "real").mkdir(parents=True)
        (place / "real" / "b.jpg").write_bytes(images()["rgb.jpg"])
        for name in ("a.jpg", "a"):
            (place / name).symlink_to(target)
        os.mkfifo(place / "fifo.jpg")
        cases.append((f"folder with a link to {target}", str(place)))
    (folder / CASES_FILE).write_text(json.dumps(cases))


# The child, which reads them


def survey() -> tuple[DatasetSpec, OracleSpec]:
    words = ["dataset=folder", "dataset.images=photos", "oracle=volunteers"]
    run = from_config(RunSpec, trizoo.compose(words))
    dataset = run.dataset
    columns = replace(dataset.columns, ra="ra", dec="dec")
    bar = replace(dataset, columns=columns, questions={"bar": ("strong", "weak")}, leads={})
    return bar, run.oracle


def read(dataset: DatasetSpec, oracle: OracleSpec, path: Path) -> None:
    if path.name == Path(EXPORT).name:
        count_votes(path.parents[1], oracle, dataset.questions)
    elif path.name in TABLES:
        table = read_catalogue(replace(dataset, table=str(path)))
        assert table["id"].is_unique
        assert (table["bar_total"] >= table["bar_strong"]).all()
    elif path.name in HOLDERS or path.is_dir():
        source = open_source(replace(dataset, images=str(path)))
        source.about()
        for _, data in source.load(source.names()[:20]):
            decode(data())
    elif path.name == "grz.fits":
        decode(path.read_bytes(), 3, "grz")
    else:
        decode(path.read_bytes())


def decode(data: bytes, *how) -> None:
    pixels = cutout(data, *how)
    assert pixels.shape == (SIZE, SIZE, 3 if how else 1)
    assert pixels.dtype == np.uint8


CHANGES = {
    "mkdir",
    "rename",
    "remove",
    "rmdir",
    "link",
    "symlink",
    "truncate",
    "chmod",
    "system",
    "exec",
    "fork",
}
CHANGES = {f"os.{change}" for change in CHANGES} | {
    "subprocess.Popen",
    "os.posix_spawn",
    "socket.connect",
}


def work(folder: Path) -> None:
    """Read every case in `folder`, and say of each what it is, what became of it, and what it told, held
    and changed.
    """
    changed = []

    def watch(event, args):
        """Note whatever Python is asked to change, to open for writing, or to start."""
        writes = event == "open" and isinstance(args[2], int)
        if event in CHANGES or (writes and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            changed.append(f"{event} {args}")

    sys.addaudithook(watch)
    dataset, oracle = survey()
    files = json.loads((folder / CASES_FILE).read_text())
    cases = ((what, partial(read, dataset, oracle, Path(path))) for what, path in files)

    def changes() -> list[str]:
        """What was changed since it was asked last."""
        names = list(changed)
        changed.clear()
        return names

    tried(cases, changed=changes)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """What became of each case."""
    folder = tmp_path_factory.mktemp("fuzz")
    child(__file__, folder, "lay_out")
    before = sorted(folder.rglob("*"))
    tried = child(__file__, folder, "work")
    assert sorted(folder.rglob("*")) == before
    return tried


def test_damaged_inputs_are_read_or_refused_in_words(done):
    assert len(done) == CASES
    assert unclear(done) == []


def test_whole_inputs_are_read_and_most_damage_is_noticed(done):
    whole_ones = [case for case in done if case["case"].endswith(": whole")]
    assert len(whole_ones) == len(whole()) + 1  # and an export of Zooniverse
    assert [case for case in whole_ones if case["outcome"] != "read"] == []
    outcomes = Counter(case["outcome"] for case in done)
    assert outcomes["read"] > 100
    assert outcomes["ValueError"] > 500


def test_no_damaged_input_takes_much_memory(done):
    first = next((case for case in done if case["memory"] > MEMORY), None)
    assert first is None


def test_no_damaged_input_writes_or_starts_anything(done):
    assert [case for case in done if case["changed"]] == []


if __name__ == "__main__":
    {"lay_out": lay_out, "work": work}[sys.argv[1]](Path(sys.argv[2]))
