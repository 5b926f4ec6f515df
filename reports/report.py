"""The task `report`: from records, a page to open, Markdown to read anywhere and numbers to compute with."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reports.agreement import agreement
from reports.blocks import Prose, Section
from reports.calibration import calibration
from reports.conformance import conformance
from reports.costs import costs
from reports.errors import confusion, coverage, errors
from reports.extras import extras
from reports.learning import active, curves
from reports.memory import memory
from reports.pages import clear_figures, write_html, write_markdown, write_numbers
from reports.pictures import galaxies
from reports.provenance import provenance, ran
from reports.rosetta import PAGE, write_rosetta
from reports.runs import Record, RecordSet, find_runs, index, named
from reports.scaling import scaling
from reports.speed import speed
from reports.summary import summary
from reports.timings import timings
from reports.trees import whole_trees
from shared.run.progress import printable, say
from shared.run.spec import RunSpec

TITLE = "trizoo: three backends, the same galaxies"


def side_by_side(_: RecordSet) -> Section:
    """The link to the page beside it, which is about the source and not about records."""
    words = (
        "The three implementations are one program in three dialects. The page beside this one shows every function of "
        "theirs in three columns, as the source was when the report was made.",
    )
    return Section("The three side by side", (Prose(words, PAGE),))


SECTIONS = (
    summary,
    conformance,
    agreement,
    speed,
    scaling,
    memory,
    costs,
    timings,
    active,
    errors,
    whole_trees,
    calibration,
    coverage,
    confusion,
    curves,
    galaxies,
    extras,
    side_by_side,
    ran,
)


def report(run: RunSpec, folder: Path) -> dict:
    """The task: a report in `folder` of every record below the outputs of `run`."""
    page, record_set = _written(Path(run.outputs), Path(folder))
    print(printable(str(page)))
    results = {
        "report": str(page),
        "records": len(record_set.records),
        "left_out": record_set.left_out,
    }
    return {"where": {}, "results": results}


def write_report(records: Path, target: Path) -> Path:
    """`target`/report.html of every record below `records`; beside it report.md, two CSVs, figures/ and rosetta.html.

    The same records give the same bytes; figures of an earlier report are gone. A file that cannot be used is left
    out, and named on the page. Raises ValueError if there is no record.
    """
    return _written(Path(records), Path(target))[0]


def _written(records: Path, target: Path) -> tuple[Path, RecordSet]:
    record_set, made = usable(index(*find_runs(records)))
    for reason in record_set.left_out.values():
        say(f"left out: {reason}")
    clear_figures(target / "report.md")
    write_markdown(made, TITLE, target / "report.md")
    write_numbers(made, target / "numbers.csv")
    write_html(made, TITLE, target / "report.html")
    write_rosetta(target / PAGE)
    return target / "report.html", record_set


def usable(whole: RecordSet) -> tuple[RecordSet, list[Section]]:
    """`whole` less the records and files that no section can be made with, if there are any; and the sections."""
    try:
        return whole, sections(whole)
    except Exception as error:
        records = _culprits(whole.records, lambda some: named(some, {}, {}))
        left = [record for record in whole.records if record not in [one for one, _ in records]]
        files = _culprits([*whole.unindexed], lambda some: _with_files(whole, left[:1], some))
        if not left or not (records or files):
            raise error
    reasons = {f"{record.place}/record.json": why for record, why in records} | dict(files)
    left_out = {
        name: f"{name} cannot be shown ({why}); do its run again, or remove it"
        for name, why in reasons.items()
    }
    kept = {name: content for name, content in whole.unindexed.items() if name not in reasons}
    smaller = named(left, kept, whole.left_out | left_out)
    return smaller, sections(smaller)


def _with_files(whole: RecordSet, records: list[Record], names: list[str]) -> RecordSet:
    return named(records, {name: whole.unindexed[name] for name in names}, {})


def _culprits(things: list, make_set: Callable[[list], RecordSet]) -> list[tuple[Any, str]]:
    """Those of `things` that alone let no report be made, and why."""
    if not things:
        return []
    try:
        sections(make_set(things))
        return []
    except Exception as error:
        if len(things) == 1:
            text = str(error) if isinstance(error, ValueError | OSError) else repr(error)
            return [(things[0], text)]
    half = len(things) // 2
    return [*_culprits(things[:half], make_set), *_culprits(things[half:], make_set)]


def sections(record_set: RecordSet) -> list[Section]:
    """The report before it is a page."""
    made = [section(record_set) for section in SECTIONS]
    return [*made, provenance(record_set, made)]


if __name__ == "__main__":
    print(write_report(Path(sys.argv[1]), Path(sys.argv[2])))
