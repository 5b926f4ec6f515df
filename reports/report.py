"""The task `report`: from records, a page of the user's runs, one of the frameworks, and one of their source.

python -m reports.report RECORDS TARGET    # `make report`: of the committed records
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from reports.comparisons import comparisons
from reports.frameworks import comparison
from reports.galaxies import galaxies
from reports.html import filter_box, section, slug, tag, write_page
from reports.labels import labels
from reports.quality import fast, good, honest, records
from reports.rosetta import PAGE, write_rosetta
from reports.runs import Record, RecordSet, command, find_runs, index, named
from shared.run.progress import printable, say
from shared.run.spec import RunSpec
from shared.run.spreadsheet import write_csv

SECTIONS = {  # of report.html
    "Galaxies": galaxies,
    "How good": good,
    "How honest": honest,
    "What labels are worth": labels,
    "How fast": fast,
    "Records": records,
}
OURS, FRAMEWORKS = "report.html", "comparison.html"


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


def write_report(source: Path, target: Path) -> Path:
    """`target`/report.html of every record below `source`; beside it the frameworks, their source, and two CSVs.

    The same records give the same bytes. A file that cannot be used is left out, and named on the page. Raises
    ValueError if there is no record.
    """
    return _written(Path(source), Path(target))[0]


def _written(source: Path, target: Path) -> tuple[Path, RecordSet]:
    record_set, (runs, frameworks) = usable(index(*find_runs(source)))
    for reason in record_set.left_out.values():
        say(f"left out: {reason}")
    write_page(target / OURS, "trizoo: your runs", *runs)
    if frameworks:
        write_page(target / FRAMEWORKS, "trizoo: which framework", *frameworks)
    else:
        (target / FRAMEWORKS).unlink(missing_ok=True)
    write_csv(target / "runs.csv", pd.DataFrame(_run_rows(record_set)))
    if rows := [row for found in comparisons(record_set) for row in found.plain()]:
        write_csv(target / "timings.csv", pd.DataFrame(rows))
    write_rosetta(target / PAGE)
    return target / OURS, record_set


def pages(record_set: RecordSet) -> tuple[list[Markup], list[Markup]]:
    """The bodies of the two pages; the second is empty where no frameworks were compared."""
    frameworks = comparison(record_set)
    made = {title: section(title, *make(record_set)) for title, make in SECTIONS.items()}
    links = [tag("a", title, href=f"#{slug(title)}") for title, one in made.items() if one]
    if frameworks:
        links.append(tag("a", "Which framework?", href=FRAMEWORKS))
    links.append(tag("a", "The source, side by side", href=PAGE))
    top = tag("header", tag("h1", "Your runs"), tag("nav", *links))
    names = [record_set.name(record) for record in record_set.of("fit")]
    return [top, tag("main", filter_box(names), *made.values())], frameworks


def _run_rows(record_set: RecordSet) -> list[dict]:
    """A row of plain numbers for each record."""
    rows = []
    for record in record_set.records:
        test = record.at("results.test") or {}
        numbers = {
            f"test.{key}": value for key, value in test.items() if isinstance(value, int | float)
        }
        results = record.at("results") or {}
        numbers |= {key: value for key, value in results.items() if isinstance(value, int | float)}
        about = {"name": record_set.name(record), "folder": record.place, "task": record.task}
        about |= {"backend": record.backend, "seed": record.at("run.seed")}
        about |= {"device": record.at("where.device"), "seconds": record.at("seconds")}
        told = {key: record.at(f"host.{key}") for key in ("processor", "commit")}
        told |= {"started": record.at("started"), "command": command(record)}
        rows.append(about | numbers | told)
    return rows


# What cannot be shown


def usable(whole: RecordSet) -> tuple[RecordSet, tuple[list[Markup], list[Markup]]]:
    """`whole` less the records and files that no page can be made with, if there are any; and the pages."""
    try:
        return whole, pages(whole)
    except Exception as error:
        found = _culprits(whole.records, lambda some: named(some, {}, {}))
        left = [record for record in whole.records if record not in [one for one, _ in found]]
        files = _culprits([*whole.unindexed], lambda some: _with_files(whole, left[:1], some))
        if not left or not (found or files):
            raise error
    reasons = {f"{record.place}/record.json": why for record, why in found} | dict(files)
    left_out = {
        name: f"{name} cannot be shown ({why}); do its run again, or remove it"
        for name, why in reasons.items()
    }
    kept = {name: content for name, content in whole.unindexed.items() if name not in reasons}
    smaller = named(left, kept, whole.left_out | left_out)
    return smaller, pages(smaller)


def _with_files(whole: RecordSet, some: list[Record], names: list[str]) -> RecordSet:
    return named(some, {name: whole.unindexed[name] for name in names}, {})


def _culprits(things: list, make_set: Callable[[list], RecordSet]) -> list[tuple[Any, str]]:
    """Those of `things` that alone let no page be made, and why."""
    if not things:
        return []
    try:
        pages(make_set(things))
        return []
    except Exception as error:
        if len(things) == 1:
            text = str(error) if isinstance(error, ValueError | OSError) else repr(error)
            return [(things[0], text)]
    half = len(things) // 2
    return [*_culprits(things[:half], make_set), *_culprits(things[half:], make_set)]


if __name__ == "__main__":
    print(write_report(Path(sys.argv[1]), Path(sys.argv[2])))
