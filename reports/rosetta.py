"""The Rosetta page: every function of the three implementations side by side, read from their source.

It begins with the model and the training step, where the plain program of each framework, as its tutorials write it,
can be switched on beside ours. Every row says why the three differ. No framework is imported. A signature and a
docstring that all three share stand above the columns, once; lines that all three share are dim.
"""

import ast
import textwrap
from difflib import SequenceMatcher
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup
from pygments.lexers.python import PythonLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, String

from reports.html import details, slug, tag, write_page
from reports.reasons import FILES, LESSON, REASONS, SAME
from reports.runs import TITLES

ROOT = Path(__file__).resolve().parent.parent
PAGE = "rosetta.html"
BEFORE = "imports and names"
PLAIN = {"keras": "plain Keras", "plain_torch": "plain PyTorch", "plain_flax": "plain Flax"}
KINDS = {  # classes of the style sheet
    "c": (Comment,),
    "k": (Keyword, Operator.Word),
    "s": (String,),
    "n": (Number,),
    "d": (Name.Decorator, Name.Function, Name.Class),
}

LEXER = PythonLexer(stripnl=False, ensurenl=False)
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Part(NamedTuple):
    """A definition in one dialect: its signature, docstring and the lines of its body."""

    signature: str
    docstring: str
    body: str


class Entry(NamedTuple):
    """One definition as it is in each dialect; None where it is not there."""

    file: str
    name: str
    parts: dict[str, Part | None]

    @property
    def anchor(self) -> str:
        """Its name in a link."""
        return f"{self.file}.py-{self.name}".replace(" ", "-")

    @property
    def signature(self) -> str:
        """What all dialects share."""
        return common([part.signature if part else "" for part in self.parts.values()])

    @property
    def docstring(self) -> str:
        """What all dialects that have it share."""
        return common([part.docstring for part in self.parts.values() if part])

    @property
    def codes(self) -> dict[str, list[str]]:
        """The lines of each column: the body, below its own signature where that is not shared."""
        shared = bool(self.signature)
        return {name: code(part, shared) for name, part in self.parts.items()}

    @property
    def why(self) -> str:
        """Why the dialects differ."""
        codes = list(self.codes.values())
        if all(lines == codes[0] for lines in codes):
            return SAME
        return REASONS.get(f"{self.file}.{self.name}") or FILES.get(self.file, "")


def write_rosetta(path: Path, root: Path = ROOT) -> None:
    """The page of the implementations below `root`, at `path`; the same source gives the same bytes."""
    found = mirrored(root)
    plain = {name: _plain(root, name) for name in PLAIN}
    keys = [key for key in LESSON if key in found]
    first = [
        _row(found[key], [(n, o) for n in PLAIN for o in LESSON[key].get(n, ())], plain)
        for key in keys
    ]
    files = {}
    for entry in found.values():
        files.setdefault(entry.file, []).append(_row(entry, [], {}))
    rest = [
        tag("div", details(f"{name}.py: {FILES.get(name, '')}", *rows), id=f"{name}.py")
        for name, rows in files.items()
    ]
    boxes = [
        tag(
            "label",
            tag("input", type="checkbox", id=f"show-{name}", checked=name in TITLES),
            f" {title} ",
        )
        for name, title in (TITLES | PLAIN).items()
    ]
    top = tag(
        "header",
        tag("h1", "One program in three dialects"),
        tag("nav", tag("a", "Your runs", href="report.html")),
    )
    words = tag(
        "p",
        f"{len(found)} functions and classes, as the source was when this page was made. Lines ",
        tag("span", "equal in all three", class_="same"),
        ", indentation aside, are dim. The plain programs are what each framework's tutorials teach; ours differ where "
        "the three must give the same numbers, or be faster.",
    )
    choice = tag("form", *boxes, id="columns", aria_label="Columns")
    lesson = [tag("h2", "The model and the training step"), *first] if first else []
    body = tag("main", words, choice, *lesson, tag("h2", "Everything, file by file"), *rest)
    title = "trizoo: one program in three dialects"
    write_page(path, title, top, body, styles=("report.css", "rosetta.css"))


def mirrored(root: Path) -> dict[str, Entry]:
    """Every definition of the implementations below `root` by file.name, in the order of FILES."""
    there = {path.stem for name in TITLES for path in (root / f"impl_{name}").glob("*.py")}
    order = list(FILES)
    found = {}
    for file in sorted(
        there - {"__init__"}, key=lambda n: (order.index(n) if n in order else 99, n)
    ):
        paths = {name: root / f"impl_{name}" / f"{file}.py" for name in TITLES}
        each = {
            n: parts(p.read_text(encoding="utf-8")) if p.is_file() else {} for n, p in paths.items()
        }
        for key in dict.fromkeys(key for one in each.values() for key in one):
            found[f"{file}.{key}"] = Entry(file, key, {n: one.get(key) for n, one in each.items()})
    return found


def _plain(root: Path, name: str) -> dict[str, Part]:
    path = root / "benchmarks" / "programs" / f"{name}.py"
    return parts(path.read_text(encoding="utf-8")) if path.is_file() else {}


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


def _row(entry: Entry, others: list[tuple[str, str]], plain: dict[str, dict[str, Part]]) -> Markup:
    """A definition in three columns, and what the plain programs have in its place."""
    codes = entry.codes
    same = in_all(list(codes.values()))
    columns = []
    for place, (name, lines) in enumerate(codes.items()):
        part = entry.parts[name]
        own = part.docstring if part and not entry.docstring else ""
        shown = coloured(lines, {row[place] for row in same})
        inside = (
            [tag("p", own, class_="own"), _code(shown)]
            if part
            else [tag("p", "not here", class_="none")]
        )
        columns.append(_column(name, TITLES[name], inside))
    for name, some in groupby(others, lambda pair: pair[0]):
        found = [plain[name][other] for _, other in some if other in plain.get(name, {})]
        texts = [f"{one.signature}\n{textwrap.indent(one.body, '    ')}" for one in found]
        shown = coloured("\n\n".join(texts).splitlines(), set())
        columns.append(_column(name, PLAIN[name], [_code(shown)]))
    head = [
        tag("h3", entry.name, tag("small", f" {entry.file}.py")),
        tag("p", entry.why, class_="why"),
    ]
    if entry.signature:
        head.append(_code(coloured(entry.signature.splitlines(), set())))
    if entry.docstring:
        head.append(tag("p", entry.docstring, class_="doc"))
    lesson = "lesson-" if plain else ""
    body = tag("div", *columns, class_="columns")
    return tag(
        "article", *head, body, id=f"{lesson}{slug(entry.anchor) if lesson else entry.anchor}"
    )


def _column(name: str, title: str, inside: list[Markup]) -> Markup:
    return tag("div", tag("h4", title), *inside, class_=f"column {name}")


def _code(lines: list[Markup]) -> Markup:
    return tag("pre", tag("code", Markup("\n").join(lines)), tabindex="0")


def common(texts: list[str]) -> str:
    """What all `texts` say, or nothing."""
    return texts[0] if len(set(texts)) == 1 else ""


def code(part: Part | None, shared: bool) -> list[str]:
    """The lines of a column; `shared`: its signature stands above all columns."""
    if part is None:
        return []
    if shared or not part.signature:
        return part.body.splitlines()
    return [*part.signature.splitlines(), *textwrap.indent(part.body, "    ").splitlines()]


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


def coloured(lines: list[str], same: set[int]) -> list[Markup]:
    """`lines` with their tokens in spans of the classes of KINDS; those at the places in `same` are dim."""
    pieces: list[list[tuple[str, str]]] = [[]]
    for token, value in LEXER.get_tokens("\n".join(lines)):
        kind = next((name for name, ones in KINDS.items() if any(token in one for one in ones)), "")
        for number, piece in enumerate(value.split("\n")):
            pieces += [[]] if number else []
            pieces[-1].append((kind, piece))
    made = []
    for place, some in zip(range(len(lines)), pieces, strict=False):
        merged = groupby(some, lambda one: one[0])
        texts = [(kind, "".join(text for _, text in group)) for kind, group in merged]
        line = Markup("").join(
            tag("i", text, class_=kind) if kind and text else text for kind, text in texts
        )
        made.append(tag("span", line, class_="same") if place in same else line)
    return made
