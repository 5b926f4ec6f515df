"""The door: records in, a report out, as a page to open and as Markdown to read anywhere."""

from pathlib import Path

from reports.agreement import agreement
from reports.answer import answer
from reports.blocks import Section
from reports.calibration import calibration
from reports.conformance import conformance
from reports.errors import confusion, coverage, errors
from reports.learning import active, curves
from reports.origins import origins, ran
from reports.pages import write_html, write_markdown
from reports.pictures import galaxies
from reports.rosetta import PAGE, rosetta, write_rosetta
from reports.runs import Book, bound, read_runs
from reports.timings import timings
from shared.spec import RunSpec

TITLE = "trizoo: three backends, the same galaxies"
SECTIONS = (
    answer,
    ran,
    errors,
    coverage,
    calibration,
    curves,
    active,
    timings,
    agreement,
    confusion,
    galaxies,
    conformance,
    rosetta,
    origins,
)


def report(run: RunSpec, folder: Path) -> dict:
    """The task: a report in FOLDER of every record below the outputs of RUN."""
    outputs = Path(run.outputs)
    page = write_report(outputs, Path(folder))
    print(page)
    return {"where": {}, "results": {"report": str(page), "records": len(read_runs(outputs))}}


def write_report(records: Path, target: Path) -> Path:
    """TARGET/report.html, beside it report.md, figures/ and rosetta.html, from every record below RECORDS.

    The same records give the same bytes. Raises ValueError for a broken record, naming it, and
    if there is none.
    """
    made = sections(bound(read_runs(Path(records))))
    target = Path(target)
    write_markdown(made, TITLE, target / "report.md")
    write_html(made, TITLE, target / "report.html")
    write_rosetta(target / PAGE)
    return target / "report.html"


def sections(book: Book) -> list[Section]:
    """The report before it is a page."""
    return [section(book) for section in SECTIONS]
