"""The answer in a few lines and one small table, all computed from the records."""

from reports.agreement import compared
from reports.blocks import Section, bare, measure, prose, significant, table
from reports.errors import covered, measured
from reports.learning import acquisition, labels_share
from reports.runs import Book, Record, gathered, group, setting
from reports.timings import SPEEDS, alike

LEVEL = 80  # the predicted coverage, in per cent, at which coverage is told


def answer(book: Book) -> Section:
    """One line per finding that the records allow, and the numbers behind most of them."""
    findings = (_error(book), _agreement(book), _labels(book), _speed(book))
    lines = [line for line in findings if line]
    rows = [_row(book, records) for records in alike(book.of("fit"))]
    if not rows and not lines:
        return bare("In short", "No record holds a result to compare, so there is no answer yet.")
    blocks = [prose(*lines)] if lines else []
    if rows:
        numbers = [record.number for record in book.of("fit")]
        formats = {"RMSE": ".4f", "predicted (%)": ".0f", "observed (%)": ".0f", SPEEDS[0]: ",.0f"}
        caption = (
            "Error on test galaxies; how often their votes were predicted to lie within the "
            f"interval nearest to {LEVEL}%, and how often they did; speed"
        )
        blocks.append(table(caption, rows, numbers, formats))
    return Section("In short", tuple(blocks))


def _row(book: Book, records: list[Record]) -> dict:
    first = records[0]
    shares = [share for record in records for share in _nearest(record)]
    return {
        "setting": book.setting(first),
        "dataset": first.at("run.dataset.name"),
        "question": first.at("run.question"),
        "image size (px)": first.at("run.model.image_size"),
        "backend": book.label(first),
        "RMSE": measured(records, "results.test.rmse"),
        "predicted (%)": measure(said for said, *_ in shares),
        "observed (%)": measure(seen for _, seen, _ in shares),
        SPEEDS[0]: measured(records, "results.images_per_second"),
    }


def _nearest(record: Record) -> list[tuple[float, float, float | None]]:
    shares = covered(record).values()
    return [min(shares, key=lambda share: abs(share[0] - LEVEL))] if shares else []


def _error(book: Book) -> str | None:
    closer, further = [], []
    for fits in gathered(book.of("fit"), setting).values():
        found = [
            measured(records, "results.test.rmse") for records in gathered(fits, group).values()
        ]
        found = [error for error in found if error]
        spreads = [error.spread for error in found if error.spread is not None]
        if len(found) < 2 or not spreads:
            continue
        means = [error.mean for error in found]
        verdict = closer if max(means) - min(means) < max(spreads) else further
        verdict.append(book.setting(fits[0]))
    if not closer and not further:
        return None
    told = [
        f"{where} than the seeds of one backend in {_settings(names)}"
        for where, names in (("closer together", closer), ("further apart", further))
        if names
    ]
    return (
        f"The backends' mean RMSE on test galaxies lie {', '.join(told)} (their range, against the "
        "largest standard deviation between seeds)."
    )


def _settings(names: list[str]) -> str:
    return f"setting{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _agreement(book: Book) -> str | None:
    found = [differences for _, _, differences in compared(book)]
    if not found:
        return None
    median = max(entry["mean: median |difference|"] for entry in found)
    same = min(entry["same majority (%)"] for entry in found)
    return (
        "With the same setting and seed, the posterior means of two backends differ by a median of "
        f"{significant(median)} at most, and at least {same:.1f}% of galaxies have the same "
        f"majority answer (pairs compared: {len(found)})."
    )


def _labels(book: Book) -> str | None:
    runs = [record for record in book.of("active") if record.at("results.rounds")]
    told = []
    for records in gathered(runs, group).values():
        first, needed = records[0], labels_share(runs, records)
        if needed is not None:
            told.append(
                f"{needed:.0f}% ({acquisition(first)}, {book.label(first)}, "
                f"{_settings([book.setting(first)])})"
            )
    if not told:
        return None
    return f"To match the last RMSE of random acquisition took, of its labels, {', '.join(told)}."


def _speed(book: Book) -> str | None:
    told = []
    machines = gathered(
        book.of("fit"), lambda r: (setting(r), r.machine, r.at("run.backend.threads"))
    )
    for fits in machines.values():
        found = [
            (speed.mean, book.label(records[0]))
            for records in alike(fits)
            if (speed := measured(records, "results.images_per_second"))
        ]
        if len(found) > 1 and min(found)[0] > 0:
            times = max(found)[0] / min(found)[0]
            told.append(
                f"{max(found)[1]} in {_settings([book.setting(fits[0])])} "
                f"({times:.1f} times as fast as {min(found)[1]})"
            )
    return f"Fastest in training: {', '.join(told)}." if told else None
