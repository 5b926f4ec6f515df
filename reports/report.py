"""The door: records in; a page to open, Markdown to read anywhere and numbers to compute with out."""

import sys
from pathlib import Path

from reports.agreement import agreement
from reports.answer import answer
from reports.blocks import Prose, Section
from reports.calibration import calibration
from reports.conformance import conformance
from reports.costs import costs
from reports.errors import confusion, coverage, errors
from reports.learning import active, curves
from reports.memory import memory
from reports.origins import origins, ran
from reports.pages import clear_figures, write_html, write_markdown, write_numbers
from reports.pictures import galaxies
from reports.rosetta import PAGE, write_rosetta
from reports.runs import Book, Record, bound, read_runs
from reports.scaling import scaling
from reports.shelf import shelf
from reports.speed import speed
from reports.timings import timings
from shared.spec import RunSpec

TITLE = "trizoo: three backends, the same galaxies"


def side_by_side(_: Book) -> Section:
    """What the report says of the page beside it, which is of the source and not of records."""
    words = (
        "The three implementations are one program in three dialects. The page beside this one shows every function of "
        "theirs in three columns, as the source was when the report was made.",
    )
    return Section("The three side by side", (Prose(words, PAGE),))


SECTIONS = (
    answer,
    conformance,
    agreement,
    speed,
    scaling,
    memory,
    costs,
    timings,
    active,
    errors,
    calibration,
    coverage,
    confusion,
    curves,
    galaxies,
    shelf,
    side_by_side,
    ran,
)


def report(run: RunSpec, folder: Path) -> dict:
    """The task: a report in FOLDER of every record below the outputs of RUN."""
    runs = read_runs(Path(run.outputs))
    page = write_pages(runs, Path(folder))
    print(page)
    return {"where": {}, "results": {"report": str(page), "records": len(runs)}}


def write_report(records: Path, target: Path) -> Path:
    """TARGET/report.html of every record below RECORDS, and what lies beside it.

    Raises ValueError for a broken record, naming it, and if there is none.
    """
    return write_pages(read_runs(Path(records)), Path(target))


def write_pages(runs: list[Record], target: Path) -> Path:
    """TARGET/report.html of RUNS; beside it report.md, two CSVs, figures/ and rosetta.html.

    The same records give the same bytes; figures of an earlier report are gone.
    """
    made = sections(bound(runs))
    clear_figures(target / "figures")
    write_markdown(made, TITLE, target / "report.md")
    write_numbers(made, target / "numbers.csv")
    write_html(made, TITLE, target / "report.html")
    write_rosetta(target / PAGE)
    return target / "report.html"


def sections(book: Book) -> list[Section]:
    """The report before it is a page."""
    made = [section(book) for section in SECTIONS]
    return [*made, origins(book, made)]


if __name__ == "__main__":
    print(write_report(Path(sys.argv[1]), Path(sys.argv[2])))
