"""The report's conformance section and the Rosetta page, from the committed records and the real source."""

import ast
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reports.conformance import conformance
from reports.report import write_report
from reports.rosetta import BEFORE, equal_lines, mirrored, missing, write_rosetta
from reports.runs import bound, read_runs
from shared.conformance import RUNGS

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "reports" / "records" / "conformance"
PACKAGES = ("impl_tf", "impl_torch", "impl_jax")


class Page(HTMLParser):
    """What a page loads, and where its links lead."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.links, self.ids = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.loaded += [found["src"]] if "src" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.ids += [found["id"]] if "id" in found else []


def functions(package):
    """Every file and definition of a package, methods too."""
    for path in sorted((ROOT / package).glob("[!_]*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield path.name, node.name


@pytest.mark.parametrize("package", PACKAGES)
def test_every_definition_stands_in_three_columns(package):
    files = mirrored(ROOT)
    shown = {(file.name, entry.name) for file in files for entry in file.entries}
    assert set(functions(package)) <= shown
    assert missing(files) == []
    assert equal_lines(files) > 150
    assert all(len(entry.columns) == 3 for file in files for entry in file.entries)
    assert any(entry.name == BEFORE for file in files for entry in file.entries)


def test_a_function_that_one_dialect_lacks_is_told(tmp_path):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    file = tmp_path / "impl_jax" / "likelihood.py"
    file.write_text(file.read_text().replace("def votes_nll(", "def votes("))
    told = missing(mirrored(tmp_path))
    assert "likelihood.py: votes_nll is not in JAX" in told
    assert "likelihood.py: votes is not in TensorFlow" in told
    write_rosetta(tmp_path / "rosetta.html", tmp_path)
    assert "votes_nll is not in JAX" in (tmp_path / "rosetta.html").read_text()


def test_the_page_is_the_same_each_time_and_needs_nothing_else(tmp_path):
    for name in ("one", "other"):
        write_rosetta(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    page = Page((tmp_path / "one").read_text())
    assert page.loaded == []
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_the_committed_ladders_make_the_section():
    section = conformance(bound(read_runs(RECORDS)))
    (double, single) = (block for block in section.blocks if "ladder in" in str(block))
    for table, rungs in ((double, RUNGS), (single, RUNGS.keys() - {"long_training"})):
        text = str(table)
        assert all(rung.replace("_", " ") in text for rung in rungs)
        assert "over" not in [cell for row in table.rows for cell in row]
    assert "epsilon inside" in str(section)
    assert "first weights moved by one ulp" in str(section)


def test_what_was_not_run_is_left_empty(tmp_path):
    kept = next(path for path in RECORDS.rglob("record.json") if "float64" in path.read_text())
    (tmp_path / "runs").mkdir()
    shutil.copytree(kept.parent, tmp_path / "runs" / kept.parent.name)
    section = conformance(bound(read_runs(tmp_path / "runs")))
    assert "epsilon inside" not in str(section)
    tables = [block for block in section.blocks if "ladder in float" in str(block)]
    cells = [set(row[1:4]) for table in tables for row in table.rows]
    assert len(tables) == 2
    assert all("—" in row for row in cells)  # two frameworks of the one, all three of the other
    assert {"—"} in cells
    assert any(len(row) > 1 for row in cells)
    page = write_report(tmp_path / "runs", tmp_path / "report")
    assert (page.parent / "rosetta.html").is_file()
