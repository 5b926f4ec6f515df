"""How long it took: what fits and benchmarks measured, never averaged over machines."""

from reports.blocks import Figure, Section, measure, number, prose, table
from reports.errors import measured, seeds
from reports.figures import Row, bar_figure
from reports.runs import Book, Record, gathered, group

SPEEDS = ("training (images/s)", "sampling (galaxies/s)")


def timings(book: Book) -> Section:
    """Speed of training and sampling from fits, and every row of the benchmarks."""
    blocks = [
        prose(
            "Compare rows of the same device, processor and thread count only. The first call "
            "into a framework compiles or "
            "warms up; it is a number of its own and in no rate.",
        )
    ]
    fits = book.of("fit")
    if fits:
        rows = [_fit_row(book, records) for records in alike(fits)]
        formats = {SPEEDS[0]: ",.0f", SPEEDS[1]: ",.0f", "peak memory (MiB)": ",.0f"}
        numbers = [record.number for record in fits]
        blocks.append(table("Fits, mean ± spread over seeds", rows, numbers, formats))
        blocks += [
            figure for heading in SPEEDS for figure in _speed_figures(book, fits, rows, heading)
        ]
    benches = [record for record in book.of("bench") if record.at("results.rows")]
    if benches:
        rows = [
            _bench_row(book, record, entry)
            for record in benches
            for entry in record.at("results.rows")
        ]
        blocks.append(table("Benchmarks, as measured", rows, [record.number for record in benches]))
    else:
        blocks.append(
            prose(
                "No benchmark is among the records; trizoo bench makes one.",
            )
        )
    return Section("Timings", tuple(blocks))


def _speed_figures(book: Book, fits: list[Record], rows: list[dict], heading: str) -> list[Figure]:
    """Bars of the speed called HEADING, one figure per machine."""
    firsts = [records[0] for records in alike(fits)]
    figures = []
    for place, machine in enumerate(dict.fromkeys(first.machine for first in firsts), 1):
        bars = [
            Row(f"{row['setting']}  {row['backend']}", first.backend, [row[heading].mean])
            for first, row in zip(firsts, rows, strict=True)
            if first.machine == machine and row[heading]
        ]
        if bars:
            kind = heading.split()[0]
            caption = (
                f"Speed of {kind} on {', '.join(machine)}, by setting and backend, mean over seeds"
            )
            numbers = [record.number for record in fits if record.machine == machine]
            figures.append(bar_figure(f"speed-{kind}-{place}", caption, bars, heading, numbers))
    return figures


def alike(fits: list[Record]) -> list[list[Record]]:
    """FITS of the same group on the same machine."""
    return list(gathered(fits, lambda r: (group(r), r.machine)).values())


def sampling_speed(record: Record) -> float | None:
    """Galaxies whose posterior was sampled in a second."""
    galaxies, seconds = record.at("results.sampled_galaxies"), record.at("results.sample_seconds")
    return galaxies / seconds if number(galaxies) and number(seconds) and seconds > 0 else None


def _fit_row(book: Book, records: list[Record]) -> dict:
    first = records[0]
    memory = [record.at("results.peak_memory_bytes") for record in records]
    return {
        "setting": book.setting(first),
        "backend": book.label(first),
        "seeds": seeds(records),
        SPEEDS[0]: measured(records, "results.images_per_second"),
        "first call (s)": measured(records, "results.first_call_seconds"),
        "training (s)": measured(records, "results.train_seconds"),
        SPEEDS[1]: measure(map(sampling_speed, records)),
        "samples per galaxy": first.at("run.posterior.samples"),
        "peak memory (MiB)": measure(value / 2**20 if number(value) else None for value in memory),
        "device": first.machine[0],
        "threads": first.at("where.threads"),
        "processor": first.machine[1],
    }


def _bench_row(book: Book, record: Record, entry: dict) -> dict:
    return {
        "setting": book.setting(record),
        "backend": book.label(record),
        "task": str(entry.get("task")),
        "image size (px)": entry.get("image_size"),
        "batch": entry.get("batch_size"),
        "first call (s)": entry.get("first_seconds"),
        "median (s)": entry.get("median_seconds"),
        "10th percentile (s)": entry.get("p10_seconds"),
        "90th percentile (s)": entry.get("p90_seconds"),
        "images/s": entry.get("images_per_second"),
        "device": record.machine[0],
        "threads": record.at("where.threads"),
        "processor": record.machine[1],
        "record": record.number,
    }
