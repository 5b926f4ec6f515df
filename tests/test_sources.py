"""Each kind of place gives the bytes of the images that galaxies name, and says what is wrong with it."""

import bz2
import gzip
import io
import lzma
import os
import struct
import sys
import tarfile
import types
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import google_crc32c
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import trizoo
from shared.data.cutouts import LARGEST_FILE
from shared.data.sources import archive, images, table, tfrecord
from shared.data.sources.folder import list_images
from shared.data.sources.images import is_image, match
from shared.data.sources.opening import open_source
from shared.run.spec import RunSpec, from_config

ROOT = Path(__file__).parents[1]
REAL = Path(os.environ.get("TRIZOO_REAL_DATA", ROOT.parent / "shared" / "data"))
SPEC = from_config(RunSpec, trizoo.compose(["dataset=folder", "dataset.images=photos"])).dataset
IMAGES = {f"part/J{n}.5.jpg": bytes([n]) * 100 * n for n in range(1, 6)}


def opened(images, id="id"):
    return open_source(replace(SPEC, images=str(images), columns=replace(SPEC.columns, id=id)))


def galaxies(*files):
    return pd.DataFrame({"id": [f"g{n}" for n in range(len(files))], "file": list(files)})


def loaded(source, names=None):
    """The bytes of each name, read by threads, with every function called after the last was given."""
    names = source.names() if names is None else names
    given = list(source.load(names))
    assert sorted(number for number, _ in given) == list(range(len(names)))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda load: (names[load[0]], load[1]()), given))
    return dict(found)


# Names


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a/x.png", "a/x.png"),
        ("a/x", "a/x.png"),
        ("dr5/b/y.jpg", "part1/b/y.jpg"),
        ("dr5/b/y.png", "part1/b/y.jpg"),  # another suffix
        ("/home/of/another/y.jpg", "part1/b/y.jpg"),
        ("y", "part1/b/y.jpg"),
        ("J081412.47+220853.0", "c/J081412.47+220853.0.PNG"),  # .0 is no suffix
        ("z/J081412.47+220853.0.png", "c/J081412.47+220853.0.PNG"),
        ("J081412.47+220853", None),
        ("", None),
        ("Y", None),
        ("x.png.png", None),
    ],
)
def test_a_file_means_the_image_of_its_name(file, name):
    names = ["a/x.png", "c/J081412.47+220853.0.PNG", "part1/b/y.jpg"]
    assert match(names, galaxies(file)) == [name]


def test_the_nearest_name_is_preferred():
    names = ["a.jpg", "b/a.jpg", "b/a.png", "c/d.jpg", "e/d.png"]
    files = ["a.jpg", "a", "b/a.png", "c/d.png"]
    assert match(names, galaxies(*files)) == ["a.jpg", "a.jpg", "b/a.png", "c/d.jpg"]


@pytest.mark.parametrize(
    ("names", "files", "found"),
    [
        # a folder that is among the images, or an image's that is in the table, is no other folder
        ("1/a 1/b 2/b", "1/a 1/b 2/a 2/b", "1/a 1/b - 2/b"),
        ("1/a 1/b 2/b", "2/a", "-"),
        ("1/a 1/b", "1/a 2/a 2/b", "1/a - -"),
        ("1/a 2/b", "s/1/a s/2/a t/2/b", "1/a - 2/b"),
        ("1/j/a 2/j/b", "1/j/a 2/j/a", "1/j/a -"),
        ("a 2/b", "2/a 2/b", "- 2/b"),
        ("1/a", "1/a b", "1/a -"),
        # the table's own folders, or those further out, are elsewhere
        ("p1/j1/a p2/j2/b", "dr5/j1/a dr5/j2/b dr5/j3/a", "p1/j1/a p2/j2/b -"),
        ("a b", "1/a 2/b", "a b"),
        ("1/a 2/b", "a b", "1/a 2/b"),
        ("1/a 2/b", "/x/y/a /x/y/b", "1/a 2/b"),
    ],
)
@pytest.mark.parametrize("suffixes", [(".png", ".png"), (".jpg", ""), (".jpg", ".png")])
def test_an_image_of_another_folder_is_another_galaxys(names, files, found, suffixes):
    of_name, of_file = suffixes
    there = [name + of_name for name in names.split()]
    expected = [None if name == "-" else name + of_name for name in found.split()]
    assert match(there, galaxies(*(file + of_file for file in files.split()))) == expected


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["a.png"], ["1/a.png", "2/a.png"]),
        (["a.png"], ["a.jpg", "a.png"]),
        (["a.png"], ["1/a", "a.png"]),
        (["3/a.png"], ["1/a.png", "2/a.png"]),
    ],
)
def test_two_files_that_would_be_one_image_are_refused(names, files):
    with pytest.raises(
        ValueError, match=rf"galaxies g0, {files[0]}, and g1, {files[1]}, would both be {names[0]}"
    ):
        match(names, galaxies(*files))
    assert match(names, galaxies(files[0], files[0])) == names * 2


def test_images_in_other_folders_than_the_table_says_are_told(capsys):
    match(["new/a.jpg", "new/b.jpg"], galaxies("old/a.jpg", "old/b.jpg"))
    assert "2 images lie in other folders than the table says" in capsys.readouterr().err
    match(["p/j/a.jpg"], galaxies("q/j/a.jpg"))
    match(["p/j/a.jpg"], galaxies("a"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("file", ["x", "x.jpg", "c/x.jpg"])
def test_two_images_that_could_be_meant_are_refused(file):
    names = ["a/x.jpg", "b/x.jpg", "y.jpg", "y.png"]
    with pytest.raises(ValueError, match=rf"galaxy g1, {file}, could be b/x\.jpg or a/x\.jpg"):
        match(names, galaxies("", file))
    assert match(names, galaxies("a/x", "y.png")) == ["a/x.jpg", "y.png"]
    with pytest.raises(ValueError, match=r"galaxy g0, y, could be y\.png or y\.jpg"):
        match(names, galaxies("y"))


def test_hidden_files_are_no_images():
    seen = ["a.jpg", "a/b.JPEG", "J1.5.fits"]
    names = [*seen, ".a.jpg", "a/._b.jpg", "__MACOSX/a.jpg", ".trash/a.jpg", "a.txt", "jpg"]
    assert [name for name in names if is_image(name)] == seen


# Which kind


def test_the_kind_of_place_is_told_by_its_name(tmp_path):
    for name in (
        "a.zip",
        "b.zip",
        ".c.zip",
        "[1]a.tar",
        "x.TGZ",
        "p.parquet",
        "t.tfrecords",
        "q.txt",
    ):
        (tmp_path / name).write_bytes(b"")
    kinds = {"a.zip": "zip", "*.zip": "zip", "[1]*.tar": "tar", "x.TGZ": "tar", "p.par*": None}
    for name, kind in (kinds | {"t.tfrecords": None, "": None}).items():
        assert getattr(opened(tmp_path / name), "kind", None) == kind
    assert [stamp[0] for stamp in opened(tmp_path / "*.zip").identity()] == ["a.zip", "b.zip"]
    assert type(opened(tmp_path / "p.parquet")).__name__ == "Tables"
    assert type(opened(tmp_path / "t.tfrecords")).__name__ == "TFRecords"
    assert type(opened(tmp_path)).__name__ == "Folder"
    for missing in ("nothing", "*.fits", "?.zip"):
        with pytest.raises(
            FileNotFoundError, match=r"no folder or file .* \.zip, \.tar, .*\.parquet"
        ):
            opened(tmp_path / missing)
    with pytest.raises(ValueError, match=r"q\.txt, whose kind is not known; .*\.tfrecord"):
        opened(tmp_path / "q.txt")
    with pytest.raises(ValueError, match=r"matches .*a\.tar and .*a\.zip; name files of one kind"):
        opened(tmp_path / "*a.*")


@pytest.mark.parametrize(
    ("images", "module", "name"),
    [
        ("http://a/{id}", "service", "open_service"),
        ("https://a/{id}", "service", "open_service"),
        ("hub:a/b", "hub", "open_hub"),
    ],
)
def test_addresses_are_handed_on(images, module, name, monkeypatch):
    fake = types.ModuleType(module)
    setattr(fake, name, lambda dataset: dataset.images)
    monkeypatch.setitem(sys.modules, f"shared.data.sources.{module}", fake)
    assert opened(images) == images


# Folders


def write(folder, images):
    for name, data in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def test_a_folder_gives_its_files(tmp_path):
    write(tmp_path, IMAGES | {"a.txt": b"", ".b.jpg": b"", ".c/d.jpg": b"", "__MACOSX/e.jpg": b""})
    source = opened(tmp_path)
    assert source.names() == sorted(IMAGES)
    assert loaded(source) == IMAGES
    assert source.table() is None
    assert source.about() == {"kind": "folder", "where": str(tmp_path), "images": 5}
    assert source.find(galaxies("J2.5", "x/J3.5.png", "")) == [
        "part/J2.5.jpg",
        "part/J3.5.jpg",
        None,
    ]
    before = source.identity()
    assert before[0][:2] == ["part/J1.5.jpg", 100]
    os.utime(tmp_path / "part/J1.5.jpg", ns=(1, 1))
    assert source.identity()[1:] == before[1:]
    assert source.identity()[0] == ["part/J1.5.jpg", 100, 1]


def test_links_are_followed_but_not_round_in_circles(tmp_path):
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    write(photos, {"a.jpg": b"a"})
    write(elsewhere, {"b.jpg": b"b", "deep/c.jpg": b"c"})
    write(tmp_path, {"beside.jpg": b"not in the folder"})
    (photos / "linked.jpg").symlink_to(elsewhere / "b.jpg")
    (photos / "broken.jpg").symlink_to(tmp_path / "nothing.jpg")
    (photos / "folder.jpg").mkdir()
    os.mkfifo(photos / "fifo.jpg")
    for name, target in {
        "other": elsewhere,
        "self": photos,
        "up": tmp_path,
        "twice": elsewhere,
    }.items():
        (photos / name).symlink_to(target)
    (elsewhere / "back").symlink_to(photos)
    assert list(list_images(photos)) == ["a.jpg", "linked.jpg", "other/b.jpg", "other/deep/c.jpg"]
    assert loaded(opened(photos))["other/deep/c.jpg"] == b"c"


def test_what_is_wrong_with_a_folder_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere, which is not a folder; name the one"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no image is in .*; put files there that end in \.jpg"):
        list_images(tmp_path)
    write(tmp_path, {"a.jpg": b"", "b.jpg": b"", "c.jpg": b""})
    source = opened(tmp_path)
    reads = dict(source.load(source.names()))
    os.truncate(tmp_path / "a.jpg", LARGEST_FILE + 1)
    (tmp_path / "b.jpg").unlink()
    (tmp_path / "c.jpg").unlink()
    (tmp_path / "c.jpg").mkdir()
    with pytest.raises(
        ValueError, match=rf"a\.jpg has {LARGEST_FILE + 1} bytes, .* cut it smaller"
    ):
        reads[0]()
    with pytest.raises(FileNotFoundError, match=r"there is no image .*b\.jpg"):
        reads[1]()
    with pytest.raises(ValueError, match=r"c\.jpg cannot be read .*mend or remove it"):
        reads[2]()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).write_bytes(b"")
    with pytest.raises(ValueError, match=r"'\\udcff\.jpg' in .* is not text in UTF-8; rename it"):
        list_images(tmp_path)


# Archives: each way to pack is a function that packs (name, bytes, kind of member) into a file.

LINK = "a link, not bytes"


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            if data is LINK:
                info.external_attr, data = 0o120777 << 16, b"/etc/passwd"
            packed.writestr(info, data)
    return path


def stored(path, members):
    return zipped(path, members, zipfile.ZIP_STORED)


def tarred(path, members, pack=lambda data: data):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as packed:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if data is LINK:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                packed.addfile(info)
            else:
                info.size = len(data)
                packed.addfile(info, io.BytesIO(data))
    path.write_bytes(pack(made.getvalue()))
    return path


WAYS = {
    "a.zip": zipped,
    "b.zip": stored,
    "a.tar": tarred,
    "a.tar.gz": lambda path, members: tarred(path, members, gzip.compress),
    "a.tgz": lambda path, members: tarred(path, members),  # unpacked on its way
    "a.tar.bz2": lambda path, members: tarred(path, members, bz2.compress),
    "a.tar.xz": lambda path, members: tarred(path, members, lzma.compress),
}
EVERY_WAY = pytest.mark.parametrize("way", WAYS)


def packed(tmp_path, way, members):
    members = list(members.items()) if isinstance(members, dict) else members
    return WAYS[way](tmp_path / way, members)


@EVERY_WAY
def test_an_archive_gives_its_members(tmp_path, way):
    path = packed(tmp_path, way, {"readme.txt": b"x", **dict(reversed(IMAGES.items()))})
    source = opened(path)
    assert source.names() == sorted(IMAGES)
    assert loaded(source) == IMAGES
    some = ["part/J5.5.jpg", "part/J1.5.jpg", "part/J5.5.jpg"]
    assert loaded(source, some) == {name: IMAGES[name] for name in some}
    assert source.find(galaxies("J2.5", "z/J3.5.jpg", "J9")) == [
        "part/J2.5.jpg",
        "part/J3.5.jpg",
        None,
    ]
    stat = path.stat()
    assert source.identity() == [[way, stat.st_size, stat.st_mtime_ns]]
    kind = "zip" if way.endswith("zip") else "tar"
    about = {"kind": kind, "where": str(path), "files": 1, "images": 5, "refused": 0}
    assert source.about() == about
    assert source.table() is None
    assert list(tmp_path.iterdir()) == [path]


@EVERY_WAY
def test_names_that_lead_out_and_links_are_left_out(tmp_path, way):
    bad = ["../up.jpg", "/etc/abs.jpg", "a/../../b.jpg", "a/.."]
    members = [*((name, b"bad") for name in bad), ("link.jpg", LINK), ("._a.jpg", b"hidden")]
    members += [("__MACOSX/a.jpg", b"hidden"), ("./here//a.jpg", b"good")]
    inner = tmp_path / "inner"
    inner.mkdir()
    source = opened(packed(inner, way, members))
    assert source.names() == ["here/a.jpg"]
    assert loaded(source) == {"here/a.jpg": b"good"}
    assert source.about()["refused"] == 4
    assert [path.name for path in tmp_path.rglob("*")] == ["inner", way]


@EVERY_WAY
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_later_of_two_members_counts(tmp_path, way):
    source = opened(
        packed(tmp_path, way, [("a.jpg", b"old"), ("b.jpg", b"b"), ("a.jpg", b"newer")])
    )
    assert loaded(source) == {"a.jpg": b"newer", "b.jpg": b"b"}


def test_several_archives_are_one_place(tmp_path):
    zipped(tmp_path / "1.zip", [("a.jpg", b"1a"), ("same.jpg", b"1")])
    zipped(tmp_path / "2.zip", [("b.jpg", b"2b"), ("same.jpg", b"2")])
    source = opened(tmp_path / "*.zip")
    one, two = (f"{(tmp_path / name).as_posix()}/same.jpg" for name in ("1.zip", "2.zip"))
    assert loaded(source) == {"a.jpg": b"1a", "b.jpg": b"2b", one: b"1", two: b"2"}
    assert source.about()["files"] == 2
    assert source.find(galaxies("x/b.jpg")) == ["b.jpg"]
    with pytest.raises(ValueError, match=r"galaxy g0, same\.jpg, could be .*1\.zip/same\.jpg"):
        source.find(galaxies("same.jpg"))


@EVERY_WAY
def test_an_archive_that_is_cut_short_is_refused(tmp_path, way):
    noise = np.random.default_rng(0).bytes(3000)
    path = packed(tmp_path, way, {"a.jpg": noise, "b.jpg": noise})
    whole = path.read_bytes()
    end = 2 * (512 + 3072) + 512 if whole[257:262] == b"ustar" else len(whole)
    for length in (0, 100, end // 3, end // 2, end - 600, end - 4):
        path.write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match=rf"{way} cannot be read \(.*damaged or cut short, fetch"
        ):
            opened(path).names()


@EVERY_WAY
def test_a_page_of_html_is_no_archive(tmp_path, way):
    path = tmp_path / way
    path.write_bytes(b"<html><body>Not Found</body></html>" * 50)
    with pytest.raises(ValueError, match=rf"{way} cannot be read"):
        opened(path).names()


@EVERY_WAY
def test_an_archive_without_images_is_refused(tmp_path, way):
    path = packed(tmp_path, way, [("a.txt", b"x"), ("a.jpg", LINK)])
    with pytest.raises(ValueError, match=rf"no image is in .*{way}, but 1 links .*end in \.jpg"):
        opened(path).names()


@EVERY_WAY
def test_a_member_that_is_too_large_is_refused_unread(tmp_path, way, monkeypatch):
    source = opened(packed(tmp_path, way, {"a.jpg": b"x" * 501, "b.jpg": b"y" * 500}))
    monkeypatch.setattr(images, "LARGEST_FILE", 500)
    monkeypatch.setattr(archive, "LARGEST_FILE", 500)
    reads = dict(source.load(["a.jpg", "b.jpg"]))
    with pytest.raises(
        ValueError, match=r"image a\.jpg in .* has 501 bytes, .* 500; cut it smaller"
    ):
        reads[0]()
    assert reads[1]() == b"y" * 500


def test_a_packed_tar_is_unpacked_as_it_is_read(tmp_path, monkeypatch):
    path = packed(tmp_path, "a.tar.gz", {f"{n}.jpg": bytes(1000) for n in range(100)})
    source, read = opened(path), []
    names = source.names()

    class Counted(gzip.GzipFile):
        def read(self, size=-1):
            read.append(size)
            return super().read(size)

    monkeypatch.setitem(archive.PACKED, b"\x1f\x8b", Counted)
    given = source.load([names[99], names[0], names[50]])
    assert [next(given)[0], read] == [1, [1000]]
    assert [number for number, _ in given] == [2, 0]
    assert read == [1000] * 3
    monkeypatch.setattr(archive, "LARGEST_FILE", 999)
    assert len(list(source.load(names))) == 100
    assert read == [1000] * 3


def broken(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def test_a_damaged_member_of_a_zip_is_refused(tmp_path):
    source = opened(stored(tmp_path / "a.zip", [("a.jpg", b"galaxies"), ("b.jpg", b"b")]))
    broken(tmp_path / "a.zip", b"galaxies", b"galaxiez")
    reads = dict(source.load(["a.jpg", "b.jpg"]))
    with pytest.raises(ValueError, match=r"image a\.jpg in .*a\.zip is damaged: .* checksum"):
        reads[0]()
    assert reads[1]() == b"b"
    broken(tmp_path / "a.zip", b"PK\3\4", b"PK\3\5")
    with pytest.raises(ValueError, match=r"b\.jpg in .* does not begin as its directory says"):
        reads[1]()
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.zip cannot be read"):
        reads[1]()


def test_encrypted_and_strangely_packed_members_are_refused(tmp_path):
    path = stored(tmp_path / "a.zip", [("a.jpg", b"x")])
    directory = path.read_bytes().index(b"PK\1\2")
    data = bytearray(path.read_bytes())
    data[directory + 8] |= 1
    path.write_bytes(data)
    ((_, read),) = opened(path).load(["a.jpg"])
    with pytest.raises(
        ValueError, match=r"a\.jpg in .* is encrypted; make a zip without a password"
    ):
        read()
    zipped(path, [("a.jpg", b"x" * 99)], zipfile.ZIP_LZMA)
    ((_, read),) = opened(path).load(["a.jpg"])
    with pytest.raises(
        ValueError, match=r"a\.jpg in .* is packed by the method 14, .*make the zip anew"
    ):
        read()


@pytest.mark.parametrize("length", [60_000_000, 1000])
def test_a_zip_that_lies_about_a_length_is_refused(tmp_path, length):
    path = zipped(tmp_path / "a.zip", [("a.jpg", bytes(30_000_000))])
    broken(path, struct.pack("<I", 30_000_000), struct.pack("<I", length))
    ((_, read),) = opened(path).load(["a.jpg"])
    with pytest.raises(ValueError, match=r"a\.jpg in .* is damaged: its length"):
        read()


def test_a_damaged_header_in_a_tar_is_not_taken_for_its_end(tmp_path):
    path = packed(tmp_path, "a.tar", {"a.jpg": b"a", "b.jpg": b"b", "c.jpg": b"c"})
    assert opened(path).names() == ["a.jpg", "b.jpg", "c.jpg"]
    broken(path, b"b.jpg", b"x.jpg")
    with pytest.raises(
        ValueError, match=r"a\.tar cannot be read \(a header or the end is missing: bad"
    ):
        opened(path).names()


@pytest.mark.parametrize("size", [2**33, -512])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_tar_header_that_claims_to_be_huge_is_not_believed(tmp_path, kind, size):
    head = tarfile.TarInfo("long")
    head.type, head.size = kind, size
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(head.tobuf(tarfile.GNU_FORMAT) + bytes(2**22))
    with pytest.raises(ValueError, match=rf"a header says that {size} bytes follow"):
        opened(path).names()


@pytest.mark.parametrize(
    ("form", "size", "more"),
    [(tarfile.GNU_FORMAT, -512, {}), (tarfile.PAX_FORMAT, 0, {"size": "-512"})],
)
def test_a_negative_length_in_a_tar_is_refused(tmp_path, form, size, more):
    head = tarfile.TarInfo("a.jpg")
    head.size, head.pax_headers = size, more
    (tmp_path / "a.tar").write_bytes(head.tobuf(form) + bytes(1024))
    with pytest.raises(ValueError, match=r"a\.tar cannot be read \(a header says that -512 bytes"):
        opened(tmp_path / "a.tar").names()


def test_a_packed_tar_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path, monkeypatch):
    many = [(f"{number}.jpg", b"") for number in range(2000)]
    path = packed(tmp_path, "a.tar.xz", many)
    assert len(opened(path).names()) == 2000
    monkeypatch.setattr(archive, "MEMBERS_FROM", 1000)
    with pytest.raises(ValueError, match=r"bytes hold \d+ members or more, as no images do"):
        opened(path).names()
    path = packed(tmp_path, "a.tar.gz", {"a.bin": bytes(200_000), "b.jpg": b"b"})
    assert opened(path).names() == ["b.jpg"]
    monkeypatch.setattr(archive, "PACKED_FROM", 100_000)
    with pytest.raises(ValueError, match=r"bytes unpack to 200512, as no images do"):
        opened(path).names()


def test_names_of_other_systems_are_understood(tmp_path):
    source = opened(zipped(tmp_path / "a.zip", [("a\\b.jpg", b"b"), ("..\\c.jpg", b"c")]))
    assert loaded(source) == {"a/b.jpg": b"b"}
    tarred(tmp_path / "a.tar", [("\udcff.jpg", b"no text"), ("\N{SNOWMAN}.jpg", b"s")])
    source = opened(tmp_path / "a.tar")
    assert loaded(source) == {"\N{SNOWMAN}.jpg": b"s"}
    assert source.about()["refused"] == 1


def test_a_tar_that_is_cut_short_after_it_was_listed_is_refused(tmp_path):
    path = packed(tmp_path, "a.tar", IMAGES)
    ((_, read),) = opened(path).load(["part/J5.5.jpg"])
    os.truncate(path, 4 * 1024 + 512 + 499)  # a byte of its 500 is missing
    with pytest.raises(ValueError, match=r"image part/J5\.5\.jpg in .*a\.tar is cut short; fetch"):
        read()


def test_a_packed_tar_is_checked_beyond_its_last_member(tmp_path):
    path = packed(tmp_path, "a.tar.gz", {"a.jpg": b"a"})
    data = bytearray(path.read_bytes())
    data[-8] ^= 1  # gzip's own checksum
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.tar\.gz cannot be read \(CRC check failed"):
        opened(path).names()


# Parquet

HUB = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def parquet(path, ids, images, kind=HUB, name="picture", **how):
    columns = {"dr7objid": pa.array(ids), "votes": [1] * len(ids), name: pa.array(images, kind)}
    pq.write_table(pa.table(columns), path, **how)
    return path


def numbered(first, count):
    return [bytes([n]) * n for n in range(first, first + count)]


@pytest.mark.parametrize("hub", [True, False])
def test_tables_give_the_images_in_them(tmp_path, hub):
    for file, first in (("a", 1), ("b", 101)):
        ids, images = (
            [587722981741363294 + n for n in range(first, first + 50)],
            numbered(first, 50),
        )
        if hub:
            cells = [{"bytes": image, "path": None} for image in images]
            parquet(tmp_path / f"{file}.parquet", ids, cells, row_group_size=20)
        else:
            parquet(
                tmp_path / f"{file}.parquet",
                ids,
                images,
                pa.large_binary(),
                "image",
                row_group_size=20,
            )
    source = opened(tmp_path / "*.parquet", "id_str|dr7objid")
    expected = {
        str(587722981741363294 + n): bytes([n]) * n for n in (*range(1, 51), *range(101, 151))
    }
    assert source.names() == sorted(expected)
    assert loaded(source) == expected
    some = [str(587722981741363294 + n) for n in (150, 21, 3, 3, 41)]
    assert loaded(source, some) == {name: expected[name] for name in some}
    assert source.find(galaxies(some[0], "x/" + some[1] + ".jpg", "1")) == [*some[:2], None]
    assert source.table() == str(tmp_path / "*.parquet")
    assert source.about() == {"kind": "parquet", "where": source.table(), "files": 2, "images": 100}


def test_only_groups_of_rows_with_wanted_images_are_read(tmp_path, monkeypatch):
    cells = [{"bytes": image, "path": None} for image in numbered(0, 200)]
    path = parquet(tmp_path / "a.parquet", [f"g{n}" for n in range(200)], cells, row_group_size=50)
    source, read = opened(path, "dr7objid"), []
    source.names()

    class Watched(pq.ParquetFile):
        def iter_batches(self, size, row_groups, columns):
            for batch in super().iter_batches(size, row_groups=row_groups, columns=columns):
                read.append((row_groups, columns, len(batch)))
                yield batch

    monkeypatch.setattr(table.pq, "ParquetFile", Watched)
    assert loaded(source, ["g160", "g70"]) == {"g70": bytes([70]) * 70, "g160": bytes([160]) * 160}
    assert read == [([1], ["picture"], 4)] * 6 + [([3], ["picture"], 4)] * 3


def test_what_is_wrong_with_a_table_of_images_is_told(tmp_path):
    path = tmp_path / "a.parquet"
    cells = [{"bytes": None, "path": "far/1.jpg"}, {"bytes": b"x", "path": None}, None]
    source = opened(parquet(path, ["1", "2", "3"], cells), "dr7objid")
    reads = dict(source.load(["1", "2", "3"]))
    with pytest.raises(
        FileNotFoundError, match=r"galaxy 1 in .* has no bytes, only the path 'far/1\.jpg'"
    ):
        reads[0]()
    assert reads[1]() == b"x"
    with pytest.raises(FileNotFoundError, match=r"galaxy 3 in .* has no bytes, only the path None"):
        reads[2]()
    with pytest.raises(
        ValueError, match=r"no column id; it has dr7objid, votes, picture\. .*columns\.id"
    ):
        opened(path).names()
    bad = {
        r"galaxy 1 is in .*a\.parquet and again in .*a\.parquet": ["1", "2", "1"],
        r"ids of .* are floating-point numbers, .*18 digits": [1.0, 2.0, 3.0],
        r"row 2 of row group 0 of .* has no id": ["1", None, "3"],
    }
    for message, ids in bad.items():
        with pytest.raises(ValueError, match=message):
            opened(parquet(path, ids, cells), "dr7objid").names()
    with pytest.raises(ValueError, match=r"has no rows, .*check dataset\.images"):
        opened(parquet(path, pa.array([], pa.string()), []), "dr7objid").names()
    for kind, name in ((pa.string(), "image"), (pa.binary(), "picture")):
        with pytest.raises(ValueError, match=r"no column of images, .* it has dr7objid, votes"):
            opened(parquet(path, ["1"], [None], kind, name), "dr7objid").names()
    path.write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read .*damaged or cut short"):
        opened(path, "dr7objid").names()


def test_an_image_in_a_table_may_not_be_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "LARGEST_FILE", 500)
    path = parquet(tmp_path / "a.parquet", ["1"], [b"x" * 501], pa.binary(), "image")
    ((_, read),) = opened(path, "dr7objid").load(["1"])
    with pytest.raises(ValueError, match=r"the image of galaxy 1 in .* has 501 bytes"):
        read()


def test_a_table_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "PACKED_FROM", 10_000)
    path = parquet(
        tmp_path / "a.parquet", ["1"], [bytes(100_000)], pa.binary(), "image", compression="zstd"
    )
    source = opened(path, "dr7objid")
    assert source.names() == ["1"]
    with pytest.raises(
        ValueError, match=r"bytes of image in .*a\.parquet unpack to 100\d+, and no images do"
    ):
        list(source.load(["1"]))


def test_a_table_of_more_rows_than_bytes_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "MOST_ROWS", 10_000)
    path = tmp_path / "a.parquet"
    ids = pa.array(["1"] * 200_000)
    pq.write_table(pa.table({"id": ids, "image": pa.nulls(200_000, pa.binary())}), path)
    with pytest.raises(
        ValueError, match=r"has 200000 rows in \d+ bytes, and none with images does"
    ):
        opened(path).names()


# TFRecords


def masked(data):
    checksum = google_crc32c.value(data)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) % 2**32)


def record(data):
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def example(**features):
    """A tf.train.Example: bytes, whole numbers, or floats."""
    kinds = {bytes: "bytes_list", int: "int64_list", float: "float_list"}
    made = tfrecord.EXAMPLE()
    for name, value in features.items():
        entry = made.features.feature.add(key=name)
        values = value if isinstance(value, list) else [value]
        if values:
            getattr(entry.value, kinds[type(values[0])]).value.extend(values)
    return made.SerializeToString()


def galaxy(id, pixels, **votes):
    height, width, channels = pixels.shape
    shape = {"height": height, "width": width, "channels": channels}
    return example(id_str=id, matrix=pixels.tobytes(), **shape, **votes)


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_a_file_that_tensorflow_wrote_is_read(tmp_path):
    written = (
        "410000000000000000a9c2ab0a3f0a120a0669645f73747212080a060a04353838300a120a06736d6f6f7468120812060a04"
        "00000c420a150a016e12101a0e0a0cffffffffffffffffff01ac0276a6e1da"
    )
    path = tmp_path / "a.tfrecord"
    path.write_bytes(bytes.fromhex(written) + record(example(f=[0.5, 2.0], none=[])))
    one, two = tfrecord.examples(path)
    assert one == {"id_str": [b"5880"], "smooth": [35.0], "n": [-1, 300]}
    assert two == {"f": [0.5, 2.0], "none": []}
    with pytest.raises(ValueError, match=r"record 1 of .* has 2 values of 'n'; it must have one"):
        tfrecord.read_examples(str(path))


def test_tfrecords_give_their_pixels(tmp_path):
    images = {f"58772298174136{n}": pixels(20 + n, 30, (1, 3)[n % 2], seed=n) for n in range(6)}
    for file in range(2):
        records = [
            galaxy(id.encode(), images[id], smooth=float(n))
            for n, id in enumerate(images)
            if n % 2 == file
        ]
        (tmp_path / f"{file}.tfrecord").write_bytes(b"".join(map(record, records)))
    source = opened(tmp_path / "*.tfrecord", "dr7objid|id_str")
    assert source.names() == sorted(images)
    for id, data in loaded(source).items():
        picture = Image.open(io.BytesIO(data))
        assert (picture.format, picture.size) == ("PNG", images[id].shape[1::-1])
        np.testing.assert_array_equal(np.asarray(picture).reshape(images[id].shape), images[id])
    assert source.table() is None
    assert source.find(galaxies("/x/587722981741363.png", "1")) == ["587722981741363", None]
    where = str(tmp_path / "*.tfrecord")
    assert source.about() == {"kind": "tfrecord", "where": where, "files": 2, "images": 6}
    votes = tfrecord.read_examples(where)
    assert sorted(votes.columns) == ["id_str", "smooth"]
    assert dict(zip(votes["id_str"], votes["smooth"], strict=True)) == {
        id: float(n) for n, id in enumerate(images)
    }


def test_damaged_tfrecords_are_refused(tmp_path):
    path = tmp_path / "a.tfrecord"
    first, second = (record(galaxy(id, pixels(9, 9, 3))) for id in (b"1", b"2"))
    whole = first + second
    for length in range(len(first) + 1, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match=rf"record 2 of .* \(from byte {len(first)}\) is cut short"
        ):
            opened(path, "id_str").names()
    for place in range(len(first), len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 16
        path.write_bytes(flipped)
        with pytest.raises(
            ValueError, match=rf"record 2 of .* \(from byte {len(first)}\) has a wrong"
        ):
            opened(path, "id_str").names()
    length = struct.pack("<Q", LARGEST_FILE + 1)
    path.write_bytes(first + length + masked(length) + b"x")
    with pytest.raises(
        ValueError, match=rf"record 2 of .* has {LARGEST_FILE + 1} bytes, and may have"
    ):
        opened(path, "id_str").names()
    path.write_bytes(record(b"\xff\xff"))
    with pytest.raises(
        ValueError, match=r"record 1 of .* \(from byte 0\) is no tf\.train\.Example"
    ):
        opened(path, "id_str").names()
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.tfrecord holds no record"):
        opened(path, "id_str").names()


def test_a_tfrecord_is_checked_when_its_image_is_read_too(tmp_path):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(record(galaxy(b"1", pixels(9, 9, 3))))
    ((_, read),) = opened(path, "id_str").load(["1"])
    path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)
    with pytest.raises(ValueError, match=r"record 1 of .* has a wrong checksum"):
        read()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({}, r"has no id_str; it has channels, height, matrix, width\. .*dataset\.columns\.id"),
        ({"id_str": 5.0}, r"has the id 5\.0; it must be text or a whole number"),
        ({"id_str": b" "}, r"has the id ' '; it must be text"),
        ({"id_str": [b"1", b"2"]}, r"has 2 values of 'id_str'; it must have one"),
        ({"id_str": b"\xff"}, r"has a 'id_str' that is not text in UTF-8"),
        ({"id_str": b"1", "z": [1] * 100_001}, r"has 100001 values of 'z', and may have 100000"),
    ],
)
def test_a_tfrecord_without_an_id_is_refused(tmp_path, features, message):
    shape = {"matrix": b"123", "height": 1, "width": 1, "channels": 3}
    path = tmp_path / "a.tfrecord"
    path.write_bytes(record(example(**shape, **features)))
    with pytest.raises(ValueError, match=r"record 1 of .*a\.tfrecord \(from byte 0\) " + message):
        opened(path, "id_str").names()


def test_one_galaxy_in_two_tfrecords_is_refused(tmp_path):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(record(example(id_str=7)) + record(example(id_str=b"7")))
    with pytest.raises(ValueError, match=r"galaxy 7 is record 1 of .* and record 2 of .*keep one"):
        opened(path, "id_str").names()


@pytest.mark.parametrize(
    "change",
    [
        {"matrix": b"12"},
        {"matrix": [b"123", b"123"]},
        {"matrix": 3},
        {"channels": 4, "matrix": b"1234"},
        {"width": []},
        {"height": -1, "width": -1},
        {"height": 2.0},
        {"height": 2**62},
    ],
)
def test_a_matrix_of_another_shape_is_refused(tmp_path, change):
    features = {"id_str": b"1", "matrix": b"123", "height": 1, "width": 1, "channels": 3}
    path = tmp_path / "a.tfrecord"
    path.write_bytes(record(example(**(features | change))))
    ((_, read),) = opened(path, "id_str").load(["1"])
    with pytest.raises(
        ValueError, match=r"record 1 of .* bytes of matrix, with height .* it must hold"
    ):
        read()


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data: set TRIZOO_REAL_DATA to their folder")
def test_the_tfrecords_of_walmsley_are_read():
    folder = REAL / "gz2_votes_32px"
    pattern = str(folder / "original" / "*_shards" / "*.tfrecord")
    known = np.load(folder / "images.npz", allow_pickle=True)
    expected = dict(zip(known["dr7objid"], known["images"], strict=True))
    source = opened(pattern, "dr7objid|id_str")
    found = loaded(source)
    assert len(found) == 500
    for id, data in found.items():
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), expected[id])
    labels = pd.read_csv(folder / "labels.csv", dtype={"dr7objid": str}).set_index("dr7objid")
    votes = tfrecord.read_examples(pattern).set_index("id_str")
    columns = [column for column in labels if column.startswith("smooth")]
    assert len(columns) == 2
    np.testing.assert_array_equal(votes.loc[labels.index, columns], labels[columns])
    assert source.find(galaxies(*labels.index)) == labels.index.tolist()


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data: set TRIZOO_REAL_DATA to their folder")
def test_published_tables_find_their_images():
    decals = REAL / "true_format_samples" / "galaxy_zoo_decals"
    source = opened(decals)
    for name, column in {"volunteers_5": "png_loc", "auto_posteriors": "file_loc"}.items():
        for files in ("iauname", column):
            rows = pd.read_csv(decals / f"gz_decals_{name}.csv")
            found = source.find(pd.DataFrame({"id": rows["iauname"], "file": rows[files]}))
            there = [name for name in found if name]
            assert len(there) == len(set(there)) > 0
            assert all(
                f"/{name}.png" in image
                for name, image in zip(rows["iauname"], found, strict=True)
                if image
            )
    source = opened(REAL / "true_format_samples" / "galaxy_zoo_challenge")
    assert source.find(galaxies("100008")) == ["images_training_rev1/100008.jpg"]
