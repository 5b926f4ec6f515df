"""A thousand damaged tables, archives and images: each is read, or refused in words, in little memory, without a trace.

All are read by one child process, so that a crash is seen too. It says what became of each; the draws are fixed.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import resource
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from PIL import Image

import trizoo
from shared.catalogue import read_catalogue
from shared.cutouts import SIZE, cutout
from shared.sources import open_source, tfrecord
from shared.spec import DatasetSpec, RunSpec, from_config

ROOT = Path(__file__).parents[1]
CASES, CASES_FILE = 1000, "cases.json"
MEMORY = 2**30  # bytes that the process may ever hold beyond those that whole files took
BEYOND = 8 * 2**30  # bytes of addresses: past that it is the machine that would suffer
HTML = b"<!DOCTYPE html><html><body><h1>503 Service Unavailable</h1></body></html>" * 40
WAYS_OUT = "fetch name cut leave check mend save write put remove correct make say fill belong must keep set use"
TABLES = ("t.csv", "t.csv.gz", "t.parquet", "t.fits")
ARCHIVES = ("a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz")
HOLDERS = (*ARCHIVES, "images.parquet", "images.tfrecord")  # the rest are images
ZEROS = 2**31  # in a bomb

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
    """COUNT files, each whole but for one thing."""
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
    """SIZE zeros, deflated, in a thousandth of the space: one block, again and again."""
    packing = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packing.compress(bytes(2**24)) + packing.flush(zlib.Z_FULL_FLUSH)
    return block * (size >> 24) + b"\3\0"


def zlib_zeros(size: int = ZEROS) -> bytes:
    return b"\x78\xda" + zeros(size) + struct.pack(">I", size % 65521 << 16 | 1)


def gzip_bomb(start: bytes, size: int = ZEROS) -> bytes:
    """START, and then SIZE zeros, without an end."""
    return gzip.compress(start, mtime=0) + b"\x1f\x8b\x08" + bytes(7) + zeros(size)


def zip_bomb(length: int) -> bytes:
    """A zip of zeros that says they are LENGTH."""
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


def lay_out(folder: Path) -> None:
    """Write every case into FOLDER, and a list of what each is and its path."""
    cases = []
    fixed = [*odd_tables(), *odd_images(), *odd_archives(), *odd_holders(), *replaced()]
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


def survey() -> DatasetSpec:
    composed = trizoo.compose(["dataset=folder", "dataset.images=photos"])
    dataset = from_config(RunSpec, composed).dataset
    columns = replace(dataset.columns, ra="ra", dec="dec")
    return replace(dataset, columns=columns, questions={"bar": ("strong", "weak")}, leads={})


def read(dataset: DatasetSpec, path: Path) -> None:
    if path.name in TABLES:
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


def peak_memory() -> int:
    """The most bytes that this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # where ru_maxrss begins with the parent's
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def work(folder: Path) -> None:
    """Read every case in FOLDER, and say of each what it is, what became of it, and what it told, held and changed."""
    changed = []

    def watch(event, args):
        """Note whatever Python is asked to change, to open for writing, or to start."""
        writes = event == "open" and isinstance(args[2], int)
        if event in CHANGES or (writes and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            changed.append(f"{event} {args}")

    sys.addaudithook(watch)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (BEYOND, BEYOND))
    dataset, before = survey(), None
    for what, path in json.loads((folder / CASES_FILE).read_text()):
        if not what.endswith("whole") and before is None:
            before = peak_memory()
        print(json.dumps({"begun": what}), flush=True)
        outcome, told = "read", ""
        changed.clear()
        try:
            read(dataset, Path(path))
        except Exception as problem:
            outcome, told = type(problem).__name__, str(problem)
        case = {"case": what, "outcome": outcome, "told": told, "changed": changed}
        held = 0 if before is None else peak_memory() - before
        print(json.dumps(case | {"memory": held}), flush=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """What became of each case."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "here").mkdir()
    (folder / "temporary").mkdir()
    environment = {
        "TMPDIR": str(folder / "temporary"),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def child(job):
        command = [sys.executable, "-W", "error", __file__, job, str(folder)]
        where = {"cwd": folder / "here", "env": os.environ | environment}
        return subprocess.run(command, **where, capture_output=True, text=True, timeout=300)

    laid = child("lay_out")
    assert laid.returncode == 0, laid.stderr[-2000:]
    before = sorted(folder.rglob("*"))
    child = child("work")
    assert sorted(folder.rglob("*")) == before
    lines = [json.loads(line) for line in child.stdout.splitlines()]
    assert child.returncode == 0, f"after {lines[-1:]}: {child.stderr[-2000:]}"
    return [line for line in lines if "case" in line]


def test_a_thousand_damaged_inputs_are_read_or_refused_in_words(done):
    assert len(done) == CASES
    wrong = []
    for case in done:
        told = case["told"].lower()
        helps = len(told) > 20 and any(word in told for word in WAYS_OUT.split())
        refused = case["outcome"] in ("ValueError", "FileNotFoundError") and helps
        if case["outcome"] != "read" and not refused:
            wrong.append((case["case"], case["outcome"], told[:300]))
    assert wrong == []


def test_whole_inputs_are_read_and_most_damage_is_noticed(done):
    whole_ones = [case for case in done if case["case"].endswith(": whole")]
    assert len(whole_ones) == len(whole())
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
