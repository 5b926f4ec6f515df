"""What every source of images is, and what each kind needs: file names, their times, and which image is whose."""

import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pandas as pd

from shared.data.cutouts import LARGEST_FILE, SUFFIXES
from shared.run.progress import say

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
        """The names of images whose files something was done to since `moment`, nanoseconds, whatever their times say.

        Of what is fetched none: its checksum is looked at where it is read.
        """

    def about(self) -> dict[str, Any]:
        """For the store's manifest: {"kind": ..., "where": ..., and what else is worth keeping}."""

    def table(self) -> str | None:
        """The pattern of the tables that came with the images; None: there are none."""

    def names(self) -> list[str]:
        """The source's own name of every image in it, sorted; ValueError where they cannot be listed."""

    def find(self, galaxies: pd.DataFrame) -> list[str | None]:
        """The source's name of the image of each of `galaxies` (id, file, ...), in their order; None: it has none.

        Raises ValueError, naming the galaxy, where two images could be meant.
        """

    def load(self, names: Sequence[str]) -> Iterator[Loaded]:
        """For each of `names` its number among them, and a function that gives its bytes, in any order.

        The functions are called from several threads; each raises FileNotFoundError or ValueError, saying what to
        do, for an image that cannot be had. Only a few are alive at a time, so memory is bounded.
        """


def files(pattern: str) -> list[Path]:
    """The file `pattern`, or, where it holds a *, the files that it matches, sorted.

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


def kind_of(images: str, paths: Sequence[Path]) -> str:
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
    """Whether the system noted a change of any of the files, or of what is known of it, since `moment`
    in nanoseconds.
    """
    return any(path.stat().st_ctime_ns >= moment for path in paths)


def inventory(kind: str, where: str, paths: Sequence[Path], images: int) -> dict[str, Any]:
    """What a store's manifest keeps of the `images` in the files at `paths`, which `where` named."""
    return {"kind": kind, "where": where, "files": len(paths), "images": images}


def one_each(
    found: Iterable[tuple[str, Place]], describe: Callable[[Place, Place], str], none: str
) -> dict[str, Place]:
    """Where the image of each galaxy is, by its id, sorted, of the ids and places `found`.

    Raises ValueError for a galaxy in two places, as `told`, and, beginning with `none`, if nothing was found.
    """
    places: dict[str, Place] = {}
    for name, place in found:
        other = places.setdefault(name, place)
        if other != place:
            raise ValueError(f"galaxy {name} is {describe(other, place)}; keep one of them")
    if not places:
        raise ValueError(f"{none}, so there is no image; check dataset.images")
    return dict(sorted(places.items()))


def check_length(what: object, length: int) -> None:
    """Raise ValueError if `length` bytes are more than an image file may have."""
    if length > LARGEST_FILE:
        raise ValueError(
            f"{what} has {length} bytes, and an image may have {LARGEST_FILE}; cut it smaller or leave it out"
        )


def is_image(name: str) -> bool:
    """Whether `name`, a path with /, ends as an image does, and no part of it is hidden (.NAME, __MACOSX)."""
    parts = name.split("/")
    return _bare(name) != name and not any(
        part.startswith(".") or part == "__MACOSX" for part in parts
    )


def is_text(name: str) -> bool:
    """Whether `name` can be written; one of bytes that are not UTF-8 cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def match(names: Sequence[str], galaxies: pd.DataFrame) -> list[str | None]:
    """The one of `names` that the `file` of each of `galaxies` means; None: none, or `file` is empty.

    Folders count, from the innermost outwards, as long as the table and the images have one of the same name there;
    those further out are where the images once lay. So dr5/J081/x.png finds part1/J081/x.png, and 100008 finds
    images/100008.jpg, but field2/x.png does not find field1/x.png if there is any field2, or if the table has field1.
    What comes first of: the name itself; the name less its suffix; the name from the folders that count; that less
    its suffix, be it on either side.

    Raises ValueError, naming the galaxies, if two of `names` could be meant, or one of `names` by two different files.
    """
    texts = galaxies["file"].tolist()
    meant: list[str | None] = [None] * len(texts)
    left = [i for i, text in enumerate(texts) if text]
    parts = _folders_that_count(names, [texts[i] for i in left]) + 1
    for of_name, of_file in _looser_and_looser(parts):
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
    _check_one_file_each(galaxies, meant)
    _tell_other_folders(texts, meant)
    return meant


def _folders_that_count(names: Sequence[str], texts: Sequence[str]) -> int:
    """How many folders above a file, from the innermost, have a name that is both among `names` and among `texts`."""
    there, in_table = ([_parts(path)[-2::-1] for path in set(paths)] for paths in (names, texts))
    for count in range(max(map(len, there), default=0) + 1):
        inside, wanted = (
            {path[count] for path in paths if len(path) > count} for paths in (there, in_table)
        )
        if not inside & wanted:
            return count
    raise AssertionError("unreachable: no path is that deep")


def _tell_other_folders(texts: Sequence[str], meant: Sequence[str | None]) -> None:
    """Say so where images lie in other folders than the table names."""
    moved = [
        (text, name)
        for text, name in zip(texts, meant, strict=True)
        if name is not None and len({*_parts(text)[-2:-1], *_parts(name)[-2:-1]}) > 1
    ]
    if moved:
        say(
            f"{len(moved):,} images lie in other folders than the table says, and were found by their names alone: "
            f"{moved[0][1]} for {moved[0][0]}, for one"
        )


def _check_one_file_each(galaxies: pd.DataFrame, meant: list[str | None]) -> None:
    """Raise ValueError if two galaxies whose files differ in more than a missing suffix would have one image."""
    first: dict[str, int] = {}
    texts = galaxies["file"].tolist()
    for i, name in enumerate(meant):
        if name is None:
            continue
        one, two = texts[first.setdefault(name, i)], texts[i]
        if one != two and one != _bare(two) and _bare(one) != two:
            ids = galaxies["id"]
            raise ValueError(
                f"the images of galaxies {ids.iloc[first[name]]}, {one}, and {ids.iloc[i]}, {two}, would both be "
                f"{name}; put the images into folders as the table names them, or correct the table"
            )


def _whole(name: str) -> str:
    return name


def _bare(name: str) -> str:
    """`name` less the suffix of an image; any other full stop belongs to the name."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot + suffix.lower() in SUFFIXES else name


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _looser_and_looser(parts: int) -> Iterable[tuple[Callable[[str], str], Callable[[str], str]]]:
    """What is compared of an image's name and of a table's file, one after the other, `parts` of a path at least."""

    def last(path: str) -> str:
        return "/".join(_parts(path)[-parts:])

    def last_bare(path: str) -> str:
        return _bare(last(path))

    return (_whole, _whole), (_bare, _whole), (last, last), (last_bare, last_bare)
