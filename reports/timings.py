"""How long fits took, never averaged over machines."""

from reports.blocks import Figure, Section, bare, measure, number, prose, table
from reports.errors import measured, seeds
from reports.figures import Row, bar_figure
from reports.runs import Record, RecordSet, gathered, group

TITLE = "Timings of fits"
SPEEDS = ("training (images/s)", "sampling (galaxies/s)")


def timings(record_set: RecordSet) -> Section:
    """Speed of training and sampling from fits."""
    fits = record_set.of("fit")
    if not fits:
        return bare(TITLE, "No fit is among the records; trizoo fit makes one.")
    words = prose(
        "What fits took, one after the other and perhaps beside other work: compare rows of the same device, processor "
        "and thread count only, and rather the benchmarks' ratios. The first call into a framework compiles or "
        "warms up; it is a number of its own and in no rate.",
    )
    rows = [_fit_row(record_set, records) for records in alike(fits)]
    formats = {SPEEDS[0]: ",.0f", SPEEDS[1]: ",.0f", "peak memory (MiB)": ",.0f"}
    numbers = [record.number for record in fits]
    made = table("Fits, mean ± spread over seeds", rows, numbers, formats)
    figures = [f for heading in SPEEDS for f in _speed_figures(record_set, fits, rows, heading)]
    return Section(TITLE, (words, made, *figures))


def _speed_figures(
    record_set: RecordSet, fits: list[Record], rows: list[dict], heading: str
) -> list[Figure]:
    """Bars of the speed called `heading`, one figure per machine."""
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
    """`fits` of the same group on the same machine."""
    return list(gathered(fits, lambda r: (group(r), r.machine)).values())


def sampling_speed(record: Record) -> float | None:
    """Galaxies whose posterior was sampled in a second."""
    galaxies, seconds = record.at("results.sampled_galaxies"), record.at("results.sample_seconds")
    return galaxies / seconds if number(galaxies) and number(seconds) and seconds > 0 else None


def _fit_row(record_set: RecordSet, records: list[Record]) -> dict:
    first = records[0]
    memory = [record.at("results.peak_memory_bytes") for record in records]
    return {
        "setting": record_set.setting(first),
        "backend": record_set.label(first),
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
