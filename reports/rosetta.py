"""The Rosetta page: every function of the three implementations side by side, read from their source.

No framework is imported. A signature and a docstring that all three share stand above the columns, once; lines that
all three share are dim, so that what stands out is each framework's dialect.
"""

import ast
import textwrap
from collections.abc import Iterable
from difflib import SequenceMatcher
from html import escape
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from pygments.lexers.python import PythonLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, String

from reports.blocks import Prose, Section
from reports.pages import TEMPLATES, filled
from reports.runs import TITLES, RecordSet
from shared.run.records import write_whole

ROOT = Path(__file__).resolve().parent.parent
PAGE = "rosetta.html"
ORDER = (  # of the files: from the device to the results
    "device",
    "keys",
    "views",
    "layers",
    "network",
    "module",
    "likelihood",
    "train",
    "predict",
    "acquisition",
    "walks",
    "weights",
    "workers",
)
BEFORE = "imports and names"
KINDS = {  # classes of the style sheet
    "c": (Comment,),
    "k": (Keyword, Operator.Word),
    "s": (String,),
    "n": (Number,),
    "d": (Name.Decorator, Name.Function, Name.Class),
}

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Lines = tuple[tuple[int, str], ...]  # the indentation of each, and its HTML


class Part(NamedTuple):
    """A definition in one dialect: its signature, docstring and the lines of its body."""

    signature: str
    docstring: str
    body: str


class Chunk(NamedTuple):
    """Lines that follow each other; `same` if all three dialects have them."""

    same: bool
    lines: Lines


class Column(NamedTuple):
    """One dialect's side of an entry; no chunks if the definition is not there."""

    dialect: str
    title: str
    there: bool
    docstring: str  # only if the three differ
    chunks: tuple[Chunk, ...]

    @property
    def rows(self) -> int:
        """How many rows of the page it goes over: its title, what is said of it, and its chunks."""
        return 2 + len(self.chunks)


class Entry(NamedTuple):
    """One definition in three dialects, what they share, and how many lines all have and each has."""

    name: str
    anchor: str
    signature: Lines
    docstring: str
    columns: tuple[Column, ...]
    equal: int
    lines: tuple[int, ...]


class File(NamedTuple):
    """One file in three dialects."""

    name: str
    docstring: str
    entries: tuple[Entry, ...]

    @property
    def equal(self) -> int:
        """How many lines all three share."""
        return sum(entry.equal for entry in self.entries)

    @property
    def lines(self) -> tuple[int, ...]:
        """How many lines each dialect has."""
        return tuple(map(sum, zip(*(entry.lines for entry in self.entries), strict=True)))


def rosetta(_: RecordSet) -> Section:
    """The report's section that links to this page."""
    files = mirrored(ROOT)
    shares = ", ".join(
        f"{100 * equal_lines(files) / count:.0f} % of {title}'s {count:,}"
        for title, count in zip(TITLES.values(), all_lines(files), strict=True)
    )
    count = sum(entry.name != BEFORE for file in files for entry in file.entries)
    words = (
        f"The three implementations are one program in three dialects: {count} functions and classes in "
        f"{len(files)} files. {equal_lines(files):,} lines of code are equal in all three, indentation aside: "
        f"{shares}. The page beside this one shows each of them in three columns.",
    )
    return Section("The three side by side", (Prose(words, PAGE),))


def write_rosetta(path: Path, root: Path = ROOT) -> None:
    """The page of the implementations below `root`, at `path`; the same source gives the same bytes."""
    files = mirrored(root)
    style = "".join((TEMPLATES / name).read_text() for name in ("report.css", "rosetta.css"))
    text = filled(
        PAGE,
        title="trizoo: one program in three dialects",
        files=files,
        titles=list(TITLES.values()),
        equal=equal_lines(files),
        lines=all_lines(files),
        missing=missing(files),
        style=style,
    )
    write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def equal_lines(files: Iterable[File]) -> int:
    """How many lines of code all three dialects share."""
    return sum(file.equal for file in files)


def all_lines(files: Iterable[File]) -> tuple[int, ...]:
    """How many lines of code each dialect has."""
    return tuple(map(sum, zip(*(file.lines for file in files), strict=True)))


def missing(files: Iterable[File]) -> list[str]:
    """What not every dialect has, in words."""
    return [
        f"{file.name}: {entry.name} is not in {column.title}"
        for file in files
        for entry in file.entries
        for column in entry.columns
        if not column.there and not entry.name.startswith("_")  # what only one of them needs
    ]


def mirrored(root: Path) -> tuple[File, ...]:
    """Every file of the implementations below `root`, __init__.py left out."""
    there = {path.stem for name in TITLES for path in (root / f"impl_{name}").glob("*.py")}
    names = sorted(
        there - {"__init__"}, key=lambda name: (ORDER.index(name) if name in ORDER else 99, name)
    )
    return tuple(file(root, name) for name in names)


def file(root: Path, name: str) -> File:
    """The file `name` of all three dialects."""
    texts = {}
    for dialect in TITLES:
        path = root / f"impl_{dialect}" / f"{name}.py"
        texts[dialect] = path.read_text(encoding="utf-8") if path.is_file() else ""
    docstrings = (ast.get_docstring(ast.parse(text)) for text in texts.values())
    docstring = next((first for first in docstrings if first), "")
    found = [parts(text) for text in texts.values()]
    keys = dict.fromkeys(key for one in found for key in one)
    entries = tuple(entry(f"{name}.py", key, [one.get(key) for one in found]) for key in keys)
    return File(f"{name}.py", docstring.split("\n")[0], entries)


def parts(text: str) -> dict[str, Part]:
    """Every definition of a file by its dotted name, methods too, after what is there besides."""
    lines, body = text.splitlines(), ast.parse(text).body
    besides = outside_definitions(lines, body)
    found = {BEFORE: Part("", "", besides)} if besides else {}
    for node in body:
        if isinstance(node, Definition):
            found |= definitions(lines, node, "")
    return found


def definitions(lines: list[str], node: Definition, within: str) -> dict[str, Part]:
    """`node` by its dotted name, and, if it is a class, its methods after it."""
    name = within + node.name
    inner = first_line(lines, node.body[0]) - 1  # how many lines are before its body
    if inner < node.lineno:  # def f(): return 1
        return {name: Part("", "", segment(lines, node))}
    signature = dedented(lines[first_line(lines, node) - 1 : inner])
    docstring = ast.get_docstring(node) or ""
    if not isinstance(node, ast.ClassDef):
        begin = node.body[0].end_lineno if docstring else inner
        return {name: Part(signature, docstring, dedented(lines[begin : node.end_lineno]))}
    found = {name: Part(signature, docstring, outside_definitions(lines, node.body))}
    for method in node.body:
        if isinstance(method, Definition):
            found |= definitions(lines, method, f"{name}.")
    return found


def outside_definitions(lines: list[str], body: list[ast.stmt]) -> str:
    """The statements of a `body` that are neither definitions nor a docstring."""
    others = [node for node in body if not isinstance(node, Definition) and not says(node)]
    return "\n".join(segment(lines, node) for node in others)


def says(node: ast.stmt) -> bool:
    """Whether `node` is a string on its own, which is a docstring if it is the first."""
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def segment(lines: list[str], node: ast.stmt) -> str:
    """The lines of a statement and of the comment above it."""
    return dedented(lines[first_line(lines, node) - 1 : node.end_lineno])


def first_line(lines: list[str], node: ast.stmt) -> int:
    """The line on which `node` begins, with its decorators and the comment above it."""
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
    while first > 1 and lines[first - 2].lstrip().startswith("#"):
        first -= 1
    return first


def dedented(lines: list[str]) -> str:
    """`lines` without the indentation that all have and without blank lines at the ends."""
    return textwrap.dedent("\n".join(lines)).strip("\n")


# Side by side


def entry(file_name: str, name: str, found: list[Part | None]) -> Entry:
    """A definition as `found` in the dialects; None where it is not."""
    there = [part for part in found if part]
    signature = common([part.signature if part else "" for part in found])
    docstring = common([part.docstring for part in there])
    codes = [code(part, signature) for part in found]
    cuts = cut(codes)
    columns = tuple(
        Column(
            dialect,
            title,
            part is not None,
            part.docstring if part and not docstring else "",
            tuple(Chunk(same, lines[spans[place]]) for same, spans in cuts),
        )
        for place, ((dialect, title), part) in enumerate(zip(TITLES.items(), found, strict=True))
        for lines in [coloured(codes[place])]
    )
    above = written(signature.splitlines())
    equal = sum(written(codes[0][spans[0]]) for same, spans in cuts if same)
    counts = tuple(
        (above if part else 0) + written(lines) for part, lines in zip(found, codes, strict=True)
    )
    anchor = f"{file_name}-{name}".replace(" ", "-")
    return Entry(
        name, anchor, coloured(signature.splitlines()), docstring, columns, above + equal, counts
    )


def common(texts: list[str]) -> str:
    """What all `texts` say, or nothing."""
    return texts[0] if len(set(texts)) == 1 else ""


def code(part: Part | None, signature: str) -> list[str]:
    """The lines of a column: the body, below its own signature if it does not share `signature`."""
    if part is None:
        return []
    if signature or not part.signature:
        return part.body.splitlines()
    return [*part.signature.splitlines(), *textwrap.indent(part.body, "    ").splitlines()]


def written(lines: list[str]) -> int:
    """How many of `lines` are not blank."""
    return sum(bool(line.strip()) for line in lines)


def cut(codes: list[list[str]]) -> list[tuple[bool, list[slice]]]:
    """`codes` cut alike, by turns into lines that not all have and lines that all have: the slices of each."""
    cuts, ends = [], (0,) * len(codes)
    for run in runs(in_all(codes)):
        begins, last = run[0], tuple(place + 1 for place in run[-1])
        cuts += [(False, slices(ends, begins)), (True, slices(begins, last))]
        ends = last
    return [*cuts, (False, slices(ends, tuple(map(len, codes))))]


def runs(places: list[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """`places` in groups of those that follow each other everywhere."""
    found: list[list[tuple[int, ...]]] = []
    for one in places:
        if found and one == tuple(place + 1 for place in found[-1][-1]):
            found[-1].append(one)
        else:
            found.append([one])
    return found


def slices(begins: tuple[int, ...], ends: tuple[int, ...]) -> list[slice]:
    """From each of `begins` up to each of `ends`."""
    return [slice(*pair) for pair in zip(begins, ends, strict=True)]


def in_all(codes: list[list[str]]) -> list[tuple[int, ...]]:
    """The lines that all `codes` have in one order, indentation aside, as their places in each."""
    first, *others = ([line.strip() for line in lines] for lines in codes)
    maps = [
        {
            block.a + shift: block.b + shift
            for block in SequenceMatcher(None, first, other, autojunk=False).get_matching_blocks()
            for shift in range(block.size)
        }
        for other in others
    ]
    return [
        (place, *(found[place] for found in maps))
        for place in range(len(first))
        if all(place in found for found in maps)
    ]


def coloured(lines: list[str]) -> Lines:
    """`lines` as HTML, their tokens in spans of the classes of KINDS."""
    pieces = [[]]
    for token, value in PythonLexer(stripnl=False, ensurenl=False).get_tokens("\n".join(lines)):
        kind = next((name for name, ones in KINDS.items() if any(token in one for one in ones)), "")
        for number, piece in enumerate(value.split("\n")):
            pieces += [[]] if number else []
            pieces[-1].append((kind, piece))
    depths = [len(line) - len(line.lstrip()) for line in lines]
    return tuple((deep, html(some, deep)) for deep, some in zip(depths, pieces, strict=False))


def html(pieces: list[tuple[str, str]], deep: int) -> str:
    """The `pieces` of a line, each with its class, as HTML without the first `deep` spaces."""
    merged = [
        [kind, "".join(text for _, text in some)]
        for kind, some in groupby(pieces, lambda one: one[0])
    ]
    for one in merged:
        one[1], deep = one[1][deep:], max(0, deep - len(one[1]))
    return "".join(
        f'<i class="{kind}">{escape(text)}</i>' if kind and text else escape(text)
        for kind, text in merged
    )
