"""The Rosetta page shows every function of the three implementations, as it is in their source."""

import ast
import html
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reports.rosetta import (
    BEFORE,
    ORDER,
    PAGE,
    ROOT,
    TITLES,
    equal_lines,
    mirrored,
    missing,
    rosetta,
    write_rosetta,
)

EMPTY = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta"}
SOURCES = {
    "tf": '''"""Sums."""

import framework_tf as tf

LIMIT = 3


def total(x):
    """The sum of x."""
    # in one go
    y = tf.plus(x)
    return y


class Net(tf.Model):
    """A net."""

    depth: int = 2

    @property
    def width(self):
        """How wide it is < 5 & more."""
        return "<b>" if self.depth else 1
''',
}
SOURCES["torch"] = SOURCES["tf"].replace("framework_tf as tf", "torch").replace("tf.", "torch.")
SOURCES["jax"] = SOURCES["tf"].replace("framework_tf as tf", "jax").replace("tf.", "jax.")


class Strict(HTMLParser):
    """Fails on a tag that is not closed in its turn; keeps links, ids and text by the article they are in."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.articles = [], [], {}
        self.article = self.column = None
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag not in EMPTY:
            self.open.append(tag)
        if tag == "article":
            self.article = self.articles.setdefault(attrs["id"], {})
        classes = (attrs.get("class") or "").split()
        if "column" in classes:
            self.column = self.article.setdefault(classes[1], [])
        if self.column is not None and tag == "span":
            self.column.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "article":
            self.article = self.column = None

    def handle_data(self, data):
        if self.column and self.open[-1] in ("span", "i"):
            self.column[-1] += data


@pytest.fixture
def root(tmp_path) -> Path:
    for name, text in SOURCES.items():
        (tmp_path / f"impl_{name}").mkdir()
        (tmp_path / f"impl_{name}" / "sums.py").write_text(text)
        (tmp_path / f"impl_{name}" / "__init__.py").write_text("hidden = 1\n")
    return tmp_path


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / PAGE
    write_rosetta(path)
    return path.read_text(encoding="utf-8")


def page(root: Path) -> str:
    write_rosetta(root / PAGE, root)
    return (root / PAGE).read_text(encoding="utf-8")


def defined(path: Path) -> list[str]:
    found = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (part for part in node.body if isinstance(part, ast.FunctionDef))
            found += [f"{node.name}.{method.name}" for method in methods]
    return found


def own_lines(text: str) -> list[str]:
    """The lines of a file that are neither blank nor of a docstring, without their indentation."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(
            node
        ):
            for number in range(node.body[0].lineno - 1, node.body[0].end_lineno):
                lines[number] = ""
    return sorted(line.strip() for line in lines if line.strip())


def test_every_function_is_there_three_times(real):
    found = Strict(real).articles
    for file in ORDER:
        for name in TITLES:
            for definition in defined(ROOT / f"impl_{name}" / f"{file}.py"):
                article = found[f"{file}.py-{definition}"]
                assert article.keys() == TITLES.keys() or definition.startswith("_")
        assert len(re.findall(f'<article id="{file}.py-{BEFORE.replace(" ", "-")}"', real)) == 1
    alone = {
        (file, definition)
        for file in ORDER
        for name in TITLES
        for definition in defined(ROOT / f"impl_{name}" / f"{file}.py")
        if definition.startswith("_")
    }
    assert 0 < real.count("not here") <= 2 * len(alone)  # what only one of them needs
    assert "Not mirrored" not in real
    files = mirrored(ROOT)
    assert missing(files) == []
    assert {len(entry.columns) for file in files for entry in file.entries} == {3}
    assert equal_lines(files) > 150


def test_every_file_is_there_in_order(real):
    assert re.findall(r'<section id="(\w+)\.py">', real) == list(ORDER)
    assert {path.stem for path in (ROOT / "impl_jax").glob("*.py")} == {*ORDER, "__init__"}


@pytest.mark.parametrize("name", TITLES)
def test_no_line_is_lost_or_invented(name):
    """A column, with the signature where all share it, is the file without docstrings."""
    for file in mirrored(ROOT):
        place = list(TITLES).index(name)
        parts = []
        for entry in file.entries:
            parts += [line for _, line in entry.signature]
            parts += [line for chunk in entry.columns[place].chunks for _, line in chunk.lines]
        shown = sorted(
            text for line in parts if (text := html.unescape(re.sub("<[^>]+>", "", line)))
        )
        assert shown == own_lines((ROOT / f"impl_{name}" / file.name).read_text())
        assert sum(entry.lines[place] for entry in file.entries) == len(shown)


def test_dim_lines_are_equal_in_all_three():
    for file in mirrored(ROOT):
        for entry in file.entries:
            same = [
                [[text for _, text in chunk.lines] for chunk in column.chunks if chunk.same]
                for column in entry.columns
            ]
            kinds = [[chunk.same for chunk in column.chunks] for column in entry.columns]
            assert kinds[0] == kinds[1] == kinds[2]
            plain = [
                [[re.sub("<[^>]+>", "", line) for line in lines] for lines in column]
                for column in same
            ]
            assert plain[0] == plain[1] == plain[2]
            count = sum(bool(line) for lines in plain[0] for line in lines) + len(entry.signature)
            assert entry.equal == count <= min(entry.lines)


def test_counts_of_three_small_files(root):
    (file,) = mirrored(root)
    assert (file.name, file.docstring) == ("sums.py", "Sums.")
    assert {entry.name: (entry.equal, *entry.lines) for entry in file.entries} == {
        BEFORE: (1, 2, 2, 2),
        "total": (3, 4, 4, 4),
        "Net": (1, 2, 2, 2),
        "Net.width": (3, 3, 3, 3),
    }
    total = next(entry for entry in file.entries if entry.name == "total")
    assert total.docstring == "The sum of x."
    assert [
        [(chunk.same, len(chunk.lines)) for chunk in column.chunks] for column in total.columns
    ] == [[(False, 0), (True, 1), (False, 1), (True, 1), (False, 0)]] * 3
    assert "y = torch.plus(x)" in page(root)


def test_a_function_that_one_lacks_is_seen(root):
    path = root / "impl_torch" / "sums.py"
    path.write_text(path.read_text().replace("def total", "def sum_of"))
    found = missing(mirrored(root))
    assert set(found) == {
        "sums.py: total is not in PyTorch",
        "sums.py: sum_of is not in TensorFlow",
        "sums.py: sum_of is not in JAX",
    }
    text = page(root)
    assert all(words in text for words in found)
    assert text.count("not here") == 3
    (file,) = mirrored(root)
    assert next(entry for entry in file.entries if entry.name == "total").lines == (4, 0, 4)


def test_a_file_that_one_lacks_is_seen(root):
    (root / "impl_jax" / "sums.py").unlink()
    assert page(root).count("is not in JAX") == 4


def test_a_docstring_that_differs_stands_in_its_column(root):
    path = root / "impl_jax" / "sums.py"
    path.write_text(path.read_text().replace("The sum of x.", "Another sum."))
    entry = next(entry for entry in mirrored(root)[0].entries if entry.name == "total")
    assert entry.docstring == ""
    assert [column.docstring for column in entry.columns] == [
        "The sum of x.",
        "The sum of x.",
        "Another sum.",
    ]
    assert page(root).count("Another sum.") == 1


def test_a_signature_that_differs_stands_above_its_body(root):
    path = root / "impl_jax" / "sums.py"
    path.write_text(path.read_text().replace("def total(x)", "# of all\n@jit\ndef total(x, axis)"))
    entry = next(entry for entry in mirrored(root)[0].entries if entry.name == "total")
    assert entry.signature == ()
    lines = [line for chunk in entry.columns[2].chunks for line in chunk.lines]
    assert [deep for deep, _ in lines] == [0, 0, 0, 4, 4, 4]
    assert [re.sub("<[^>]+>", "", text) for _, text in lines][:3] == [
        "# of all",
        "@jit",
        "def total(x, axis):",
    ]
    assert (entry.equal, *entry.lines) == (2, 4, 4, 6)


def test_source_stays_text(root):
    text = page(root)
    assert "<b>&quot;" not in text
    assert "&lt;b&gt;" in text
    assert "How wide it is &lt; 5 &amp; more." in text
    Strict(text)


def test_the_page_is_whole_and_needs_no_other_file(real):
    parsed = Strict(real)
    assert real.startswith('<!doctype html>\n<html lang="en-GB">\n<head>\n<meta charset="utf-8">\n')
    assert "<title>trizoo: one program in three dialects</title>" in real
    links = [
        attrs[key] for _, attrs in parsed.tags for key in ("src", "href", "srcset") if key in attrs
    ]
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(links) > 100
    assert all(link.startswith("#") for link in links)
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links} == set(ids)
    assert not {tag for tag, _ in parsed.tags} & {"script", "link", "iframe", "img"}
    style = real.split("<style>")[1].split("</style>")[0]
    assert not re.search(r"@import|url\(", style)
    assert "prefers-color-scheme: dark" in style


def test_the_same_source_gives_the_same_bytes(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in TITLES:
        shutil.copytree(root / f"impl_{name}", elsewhere / f"impl_{name}")
    assert page(root) == page(elsewhere)


def test_no_framework_is_imported():
    code = "import sys; from reports.rosetta import ROOT, mirrored; mirrored(ROOT); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "reports.rosetta" in done.stdout.split()
    assert not {"tensorflow", "torch", "jax", "impl_tf", "impl_torch", "impl_jax"} & {
        *done.stdout.split()
    }


def test_the_report_s_section_counts_what_the_page_shows(real):
    (words,) = rosetta(None).blocks
    assert words.page == PAGE
    functions = len({*re.findall(r'<article id="([^"]+)"', real)}) - real.count(
        f">{BEFORE}</a><span"
    )
    assert f"{functions} functions and classes in {len(ORDER)} files" in words.lines[0]
