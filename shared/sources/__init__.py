"""Where images come from: each kind of place gives the bytes of wanted images, in the order that is quickest.

A place is opened once; nothing in it is ever unpacked, moved or changed.
"""

import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pandas as pd

from shared.cutouts import LARGEST_FILE, SUFFIXES
from shared.spec import DatasetSpec

Loaded = tuple[int, Callable[[], bytes]]
Place = TypeVar("Place")  # where an image is, as its kind of file says it

# What a file of images is, by the end of its name. A tar may be packed: its first bytes say how.
KINDS = {
    ".zip": "zip",
    ".tar": "tar",
    ".tar.gz": "tar",
    ".tgz": "tar",
    ".tar.bz2": "tar",
    ".tar.xz": "tar",
    ".parquet": "parquet",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
}


class Source(Protocol):
    """One kind of place; a module of this package each."""

    def identity(self) -> Any:
        """Plain data that changes when the images do: names, sizes, times of files; not their bytes."""

    def changed_since(self, moment: int) -> list[str]:
        """The names of images whose files something was done to since MOMENT, nanoseconds, whatever their times say.

        Of what is fetched none: its checksum is looked at where it is read.
        """

    def about(self) -> dict[str, Any]:
        """For the store's manifest: {"kind": ..., "where": ..., and what else is worth keeping}."""

    def table(self) -> str | None:
        """The pattern of the tables that came with the images; None: there are none."""

    def names(self) -> list[str]:
        """The source's own name of every image in it, sorted; ValueError where they cannot be listed."""

    def find(self, galaxies: pd.DataFrame) -> list[str | None]:
        """The source's name of the image of each of GALAXIES (id, file, ...), in their order; None: it has none.

        Raises ValueError, naming the galaxy, where two images could be meant.
        """

    def load(self, names: Sequence[str]) -> Iterator[Loaded]:
        """For each of NAMES its number among them, and a function that gives its bytes, in any order.

        The functions are called from several threads; each raises FileNotFoundError or ValueError, saying what to
        do, for an image that cannot be had. Only a few are alive at a time, so memory is bounded.
        """


def open_source(dataset: DatasetSpec) -> Source:
    """The place that dataset.images names; raises FileNotFoundError or ValueError where there is none such."""
    images = dataset.images
    if images.startswith(("http://", "https://")):
        from shared.sources.service import open_service

        return open_service(dataset)
    if images.startswith("hub:"):
        from shared.sources.hub import open_hub

        return open_hub(dataset)
    if Path(images).is_dir():
        from shared.sources.folder import Folder

        return Folder(Path(images))
    paths = files(images)
    kind = _kind(images, paths)
    if kind == "parquet":
        from shared.sources.table import Tables

        return Tables(images, paths, dataset.columns.id)
    if kind == "tfrecord":
        from shared.sources.tfrecord import TFRecords

        return TFRecords(images, paths, dataset.columns.id)
    from shared.sources.archive import Archives

    return Archives(kind, images, paths)


def files(pattern: str) -> list[Path]:
    """The file PATTERN, or, where it holds a *, the files that it matches, sorted.

    Raises FileNotFoundError if there is none.
    """
    if "*" in pattern and not Path(pattern).is_file():
        path = Path(glob.escape(pattern).replace("[*]", "*"))  # only * has a meaning
        found = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        found = [path for path in found if path.is_file() and not path.name.startswith(".")]
    else:
        found = [path for path in [Path(pattern)] if path.is_file()]
    if not found:
        raise FileNotFoundError(
            f"there is no folder or file {pattern}; name a folder of images, or one or several (*) "
            f"files of {', '.join(KINDS)}, in dataset.images"
        )
    return found


def _kind(images: str, paths: Sequence[Path]) -> str:
    """The one kind of every file."""
    kinds = {}
    for path in paths:
        name = path.name.lower()
        ends = [kind for suffix, kind in KINDS.items() if name.endswith(suffix)]
        if not ends:
            raise ValueError(
                f"dataset.images names the file {path}, whose kind is not known; it may be a folder "
                f"of images, or files of {', '.join(KINDS)}"
            )
        kinds.setdefault(ends[0], path)
    if len(kinds) > 1:
        one, two, *_ = kinds.values()
        raise ValueError(
            f"dataset.images is {images}, which matches {one} and {two}; name files of one kind"
        )
    return next(iter(kinds))


# What every kind of place needs.


def stamps(paths: Sequence[Path]) -> list[list]:
    """Name, size in bytes and time of change in nanoseconds of each file."""
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]


def any_changed(paths: Sequence[Path], moment: int) -> bool:
    """Whether the system noted a change of any of the files, or of what is known of it, since MOMENT in nanoseconds."""
    return any(path.stat().st_ctime_ns >= moment for path in paths)


def inventory(kind: str, where: str, paths: Sequence[Path], images: int) -> dict[str, Any]:
    """What a store's manifest keeps of the IMAGES in the files at PATHS, which WHERE named."""
    return {"kind": kind, "where": where, "files": len(paths), "images": images}


def one_each(
    found: Iterable[tuple[str, Place]], told: Callable[[Place, Place], str], none: str
) -> dict[str, Place]:
    """Where the image of each galaxy is, by its id, sorted, of the ids and places FOUND.

    Raises ValueError for a galaxy in two places, as TOLD, and, beginning with NONE, if nothing was found.
    """
    places: dict[str, Place] = {}
    for name, place in found:
        other = places.setdefault(name, place)
        if other != place:
            raise ValueError(f"galaxy {name} is {told(other, place)}; keep one of them")
    if not places:
        raise ValueError(f"{none}, so there is no image; check dataset.images")
    return dict(sorted(places.items()))


def check_length(what: object, length: int) -> None:
    """Raise ValueError if LENGTH bytes are more than an image file may have."""
    if length > LARGEST_FILE:
        raise ValueError(
            f"{what} has {length} bytes, and an image may have {LARGEST_FILE}; cut it smaller or leave it out"
        )


def is_image(name: str) -> bool:
    """Whether NAME, a path with /, ends as an image does, and no part of it is hidden (.NAME, __MACOSX)."""
    parts = name.split("/")
    return _bare(name) != name and not any(
        part.startswith(".") or part == "__MACOSX" for part in parts
    )


def is_text(name: str) -> bool:
    """Whether NAME can be written; one of bytes that are not UTF-8 cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def match(names: Sequence[str], galaxies: pd.DataFrame) -> list[str | None]:
    """The one of NAMES that the `file` of each of GALAXIES means; None: none, or `file` is empty.

    What comes first of: the name itself; the name less its suffix; the last part of the name, after any /, whatever
    comes before it in `file`; that last part less its suffix, be it on either side. So dr5/J081/x.png finds
    part1/J081/x.png, and 100008 finds images/100008.jpg.

    Raises ValueError, naming the galaxy, if two of NAMES could be meant.
    """
    texts = galaxies["file"].tolist()
    meant: list[str | None] = [None] * len(texts)
    left = [i for i, text in enumerate(texts) if text]
    for of_name, of_file in _LOOSER_AND_LOOSER:
        if not left:
            break
        keys = [of_name(name) for name in names]
        one = dict(zip(keys, names, strict=True))
        other = {key: name for key, name in zip(keys, names, strict=True) if one[key] != name}
        for i in left:
            key = of_file(texts[i])
            meant[i] = one.get(key)
            if key in other:
                raise ValueError(
                    f"the image of galaxy {galaxies['id'].iloc[i]}, {texts[i]}, could be {one[key]} or "
                    f"{other[key]}; write its whole name in the table, or remove one of them"
                )
        left = [i for i in left if meant[i] is None]
    return meant


def _whole(name: str) -> str:
    return name


def _bare(name: str) -> str:
    """NAME less the suffix of an image; any other full stop belongs to the name."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot + suffix.lower() in SUFFIXES else name


def _last(name: str) -> str:
    return name[name.rfind("/") + 1 :]


def _last_bare(name: str) -> str:
    return _bare(_last(name))


_LOOSER_AND_LOOSER = ((_whole, _whole), (_bare, _whole), (_last, _last), (_last_bare, _last_bare))
