"""The three implementations are one program in three dialects; no framework is needed to see it."""

import ast
import difflib
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["impl_tf", "impl_torch", "impl_jax"]
FILES = sorted(path.name for path in (ROOT / PACKAGES[0]).glob("*.py"))


def parameters(node):
    names = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    defaults = [*node.args.defaults, *node.args.kw_defaults]
    return [name.arg for name in names], [ast.unparse(default) for default in defaults if default]


def outline(body):
    """Every definition: its name, parameters, first docstring line, and what is defined in a class."""
    found = []
    for node in body:
        if isinstance(node, ast.FunctionDef):
            name = "forward" if node.name in ("__call__", "call") else node.name
            first = (ast.get_docstring(node) or "").split("\n")[0]
            if not name.startswith("_"):  # what only one of them needs
                found.append((name, *parameters(node), first))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            fields = [
                ast.unparse(part.target) for part in node.body if isinstance(part, ast.AnnAssign)
            ]
            found.append((node.name, ast.get_docstring(node), fields, outline(node.body)))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_files(package):
    assert sorted(path.name for path in (ROOT / package).glob("*.py")) == FILES


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("package", PACKAGES[1:])
def test_definitions(package, file):
    ours, theirs = (ast.parse((ROOT / one / file).read_text()) for one in (package, PACKAGES[0]))
    assert outline(ours.body) == outline(theirs.body)
    if file != "__init__.py":
        assert ast.get_docstring(ours) == ast.get_docstring(theirs)


def differing(left, right):
    """The share of both packages' lines that `diff` marks."""
    marked = total = 0
    for file in FILES:
        if file == "module.py":  # made of the framework's own layers, in its own way
            continue
        lines = [(ROOT / package / file).read_text().splitlines() for package in (left, right)]
        total += sum(map(len, lines))
        marked += sum(
            line[:1] in "+-" and line[:3] not in ("+++", "---")
            for line in difflib.unified_diff(*lines, n=0)
        )
    return marked / total


@pytest.mark.parametrize(("left", "right"), list(combinations(PACKAGES, 2)))
def test_likeness(left, right):
    """They differ by their frameworks' words and by little else."""
    assert differing(left, right) < 0.35
