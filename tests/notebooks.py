"""Runs the code cells of a notebook as Jupyter would, without Jupyter: `python tests/notebooks.py NOTEBOOK`."""

import ast
import json
import sys
from pathlib import Path


def code_cells(path: Path) -> list[str]:
    """The text of each code cell, in order."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run_cell(text: str, names: dict) -> object:
    """Run a cell among `names`; gives the value of its last line, if that is an expression."""
    body = ast.parse(text).body
    last = ast.Expression(body.pop().value) if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    return eval(compile(last, "cell", "eval"), names) if last else None


def display(value: object) -> str:
    """What a notebook shows of `value`."""
    html = getattr(value, "_repr_html_", None)
    return html() if html else "" if value is None else repr(value)


if __name__ == "__main__":
    names = {"__name__": "__main__"}
    for text in code_cells(Path(sys.argv[1])):
        print(display(run_cell(text, names)), flush=True)
