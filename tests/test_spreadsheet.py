"""Cells that a spreadsheet would execute, and how they read back."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shared.run.spreadsheet import from_cell, to_cell, write_csv

FORMULAS = [
    "=1+1",
    '=HYPERLINK("http://a.b";"c")',
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "-x",
    "--1",
]
FORMULAS += [
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "\uff1d1",
    "\uff0b1",
    "\uff0d1",
    "\uff201",
    "'=1",
    "'",
    "-1,5",
    "-1-2",
]
HARMLESS = [
    "",
    "g 1",
    "a=b",
    "J1234-56",
    "5+",
    "1",
    "-1",
    "+1.5",
    "-.5",
    "-1e-3",
    "-inf",
    "nan",
    "\u22121",
]


@pytest.mark.parametrize("text", [*FORMULAS, *HARMLESS])
def test_text_is_text_and_reads_back(text):
    assert to_cell(text) == ("'" + text if text in FORMULAS else text)
    assert from_cell(to_cell(text)) == text
    assert from_cell(to_cell(to_cell(text))) == to_cell(text)


def test_a_table_keeps_its_numbers_and_marks_its_text(tmp_path):
    ids = [*FORMULAS, *HARMLESS]
    numbers = np.linspace(-90, 90, len(ids))
    table = pd.DataFrame({"id": ids, "dec": numbers, "votes": -1, "in": True, "none": None})
    for kind in (object, "string", "category"):
        write_csv(tmp_path / "a.csv", table.astype({"id": kind}))
        found = pd.read_csv(tmp_path / "a.csv", dtype={"id": str}, keep_default_na=False)
        assert found["id"].map(from_cell).tolist() == ids
        assert found["dec"].tolist() == numbers.tolist()
        assert found["votes"].eq(-1).all()


def test_numbers_are_written_as_pandas_does(tmp_path):
    table = pd.DataFrame({"rate": [0.1, 1 / 3], "count": [1, -2]})
    write_csv(tmp_path / "a.csv", table)
    assert (tmp_path / "a.csv").read_text() == table.to_csv(index=False)


def test_nothing_writes_csv_in_any_other_way():
    root = Path(__file__).parent.parent
    files = [
        path for name in ("shared", "reports", "benchmarks") for path in (root / name).rglob("*.py")
    ]
    found = {
        str(path.relative_to(root))
        for path in [*files, root / "trizoo.py"]
        if re.search(r"\bto_csv\(|csv\.writer\(|DictWriter\(", path.read_text())
    }
    assert found == {"shared/run/spreadsheet.py"}
