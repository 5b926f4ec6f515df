"""The Rosetta page shows every function of the three implementations, as it is in their source."""

import ast
import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reports.reasons import FILES, LESSON, REASONS, SAME
from reports.rosetta import PAGE, PLAIN, ROOT, TITLES, code, in_all, mirrored, parts, write_rosetta

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


@pytest.mark.parametrize("name", TITLES)
def test_no_line_is_lost_or_invented(name):
    """A column, with the signature where all share it, is the file without docstrings."""
    shown: dict[str, list[str]] = {}
    for entry in mirrored(ROOT).values():
        part = entry.parts[name]
        lines = code(part, bool(entry.signature)) + (entry.signature.splitlines() if part else [])
        shown.setdefault(entry.file, []).extend(lines)
    for file, lines in shown.items():
        there = own_lines((ROOT / f"impl_{name}" / f"{file}.py").read_text())
        assert sorted(line.strip() for line in lines if line.strip()) == there


def test_every_row_says_why_the_three_differ():
    found = mirrored(ROOT)
    assert {path.stem for path in (ROOT / "impl_jax").glob("*.py")} == {*FILES, "__init__"}
    assert all(entry.why for entry in found.values())
    assert any(entry.why == SAME for entry in found.values())
    assert set(REASONS) <= set(found)
    assert set(LESSON) <= set(found)


def test_the_page_begins_with_the_model_and_the_step_and_plain_programs_beside(tmp_path):
    text = page_of(tmp_path)
    names = re.findall(r'<article id="lesson-([\w-]+)"', text)
    assert names[0] == "network-py-encode"
    assert "train-py-step" in names
    assert len(names) == len(LESSON)
    for name in PLAIN:
        there = parts((ROOT / "benchmarks" / "programs" / f"{name}.py").read_text())
        assert all(one in there for row in LESSON.values() for one in row.get(name, ()))
        assert f'class="column {name}"' in text
    plain = html.unescape(re.sub("<[^>]+>", "", text))
    assert "optimiser.update(net, gradients)" in plain
    assert "loss.backward()" in plain


def page_of(folder: Path) -> str:
    write_rosetta(folder / PAGE)
    return (folder / PAGE).read_text(encoding="utf-8")


def test_lines_in_all_are_in_order_and_equal_but_for_indentation():
    assert in_all([["a", "b", "c"], ["b", "  c"], ["x", "b", "y", "c"]]) == [(1, 0, 1), (2, 1, 3)]


def test_what_one_lacks_is_said_and_source_stays_text(root):
    path = root / "impl_jax" / "sums.py"
    path.write_text(path.read_text().replace("def total", "def all_of"))
    text = page(root)
    assert text.count("not here") == 3
    assert "&lt;b&gt;" in text
    assert "hidden = 1" not in html.unescape(re.sub("<[^>]+>", "", text))
    assert page(root) == text


def test_no_framework_is_imported():
    code = "import sys; from reports.rosetta import ROOT, mirrored; mirrored(ROOT); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not {"tensorflow", "torch", "jax"} & set(done.stdout.split())
