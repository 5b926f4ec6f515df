"""How good the posteriors are: error, coverage, confusion; means over seeds and nothing else."""

from reports.blocks import Figure, Measure, Section, Table, bare, measure, number, prose, table
from reports.figures import Line, Row, dot_figure, line_figure
from reports.runs import Record, RecordSet, gathered, group, setting

METRICS = (
    ("RMSE", "rmse", ".4f"),
    ("MAE", "mae", ".4f"),
    ("NLL (nats)", "log_score", ".3f"),
    ("loss (nats)", "loss", ".3f"),
    ("AUC", "auc", ".4f"),
    ("accuracy", "accuracy", ".4f"),
)
WIDTHS = (0, 1, 2, 3, 5, 8, 12, 20, 30)
CELLS = (
    ("no, said no", 0, 0),
    ("no, said yes", 0, 1),
    ("yes, said no", 1, 0),
    ("yes, said yes", 1, 1),
)


def measured(records: list[Record], path: str) -> Measure | None:
    """The mean and spread over `records` of the number at `path`."""
    return measure(record.at(path) for record in records)


def seeds(records: list[Record]) -> str:
    """The seeds of `records` in words."""
    return ", ".join(record.text("run.seed") for record in records)


def errors(record_set: RecordSet) -> Section:
    """Error of the vote share on test galaxies, for every group of fits."""
    fits = record_set.of("fit")
    if not fits:
        return bare("Error", "No fit is among the records; trizoo fit makes one.")
    rows = []
    for records in gathered(fits, group).values():
        first = records[0]
        row = {
            "setting": record_set.setting(first),
            "backend": record_set.label(first),
            "seeds": seeds(records),
            "galaxies": first.at("results.test.galaxies"),
        }
        rows.append(
            row | {title: measured(records, f"results.test.{key}") for title, key, _ in METRICS}
        )
    numbers = [record.number for record in fits]
    words = prose(
        "Errors are of the mean posterior vote share against the volunteers' vote share, on "
        "test galaxies, which were never trained on. Each number is a mean over seeds ± the "
        "standard deviation between seeds. NLL and loss are per galaxy; for "
        "both, and for RMSE and MAE, lower is better. AUC and accuracy ask which side "
        "the majority of volunteers took.",
    )
    formats = {title: form for title, _, form in METRICS}
    blocks = [
        words,
        table("Error on test galaxies, mean ± spread over seeds", rows, numbers, formats),
    ]
    return Section("Error", (*blocks, *_error_figures(record_set, fits)))


def _error_figures(record_set: RecordSet, fits: list[Record]) -> list[Figure]:
    figures = []
    asked = gathered(
        fits, lambda record: (record.at("run.dataset.name"), record.at("run.question"))
    )
    for number_, ((dataset, question), alike) in enumerate(asked.items(), 1):
        found = {
            key: [r for r in records if number(r.at("results.test.rmse"))]
            for key, records in gathered(alike, group).items()
        }
        rows = [
            Row(
                f"{record_set.setting(r[0])}  {record_set.label(r[0])}",
                r[0].backend,
                [x.at("results.test.rmse") for x in r],
            )
            for r in found.values()
            if r
        ]
        if rows:
            caption = f"RMSE, {dataset}, {question}: a dot per seed, a stroke at their mean"
            numbers = [record.number for record in alike]
            figures.append(
                dot_figure(f"error-{number_}", caption, rows, "RMSE of the vote share", numbers)
            )
    return figures


def coverage(record_set: RecordSet) -> Section:
    """How often the volunteers' count fell where the posterior said it would."""
    fits = [record for record in record_set.of("fit") if covered(record)]
    if not fits:
        return bare("Coverage", "No record holds a coverage.")
    words = prose(
        "Around each galaxy's expected count of yes votes lies an interval of so many votes "
        "to either side. Predicted: the chance that the posterior gives the interval, "
        "averaged over test galaxies. Observed: the share of galaxies whose volunteers' count "
        "lies in it. A posterior that knows what it does not know has both equal; predicted "
        "above observed means overconfident.",
    )
    settings = list(gathered(fits, setting).values())
    figures = [_coverage_figure(record_set, alike) for alike in settings]
    tables = [_coverage_table(record_set, alike) for alike in settings]
    return Section("Coverage", (words, *figures, *tables))


def _coverage_figure(record_set: RecordSet, fits: list[Record]) -> Figure:
    lines = []
    for record in fits:
        predicted, observed, _ = zip(*covered(record).values(), strict=True)
        lines.append(Line(record.backend, predicted, observed, marked=True))
    caption = (
        f"Coverage on test galaxies, {record_set.about(fits[0])}: a line per seed; dashed, equal"
    )
    axes = ("predicted (% of galaxies)", "observed (%)")
    name = f"coverage-{record_set.setting(fits[0])}"
    return line_figure(name, caption, lines, axes, [record.number for record in fits], equal=True)


def _coverage_table(record_set: RecordSet, fits: list[Record]) -> Table:
    inside = {
        record_set.label(records[0]): [covered(record) for record in records]
        for records in gathered(fits, group).values()
    }
    all_shares = [shares for found in inside.values() for shares in found]
    rows = [
        {"votes to either side": width}
        | {
            f"{label} {name} (%)": measure(shares[width][side] for shares in found)
            for label, found in inside.items()
            for side, name in enumerate(("predicted", "observed", "relative error"))
        }
        for width in WIDTHS
        if all(width in shares for shares in all_shares)
    ]
    caption = f"Coverage on test galaxies, {record_set.about(fits[0])}, mean ± spread over seeds"
    formats = {heading: ".1f" for row in rows for heading in row if heading.endswith("(%)")}
    return table(caption, rows, [record.number for record in fits], formats)


def covered(record: Record) -> dict[int, tuple[float, float, float | None]]:
    """Width in votes -> per cent of test galaxies within it (predicted, observed, error).

    The error is that of what was predicted, in per cent of what was observed.
    """
    galaxies = record.at("results.test.galaxies")
    rows = record.at("results.test.coverage") or []
    if not number(galaxies) or not galaxies:
        return {}
    return {
        int(width): (
            100 * predicted / galaxies,
            100 * observed / galaxies,
            share(abs(predicted - observed), observed),
        )
        for width, predicted, observed, *_ in rows
        if number(predicted) and number(observed)
    }


def confusion(record_set: RecordSet) -> Section:
    """Who was taken for what, galaxies of all seeds added."""
    fits = [record for record in record_set.of("fit") if record.at("results.test.confusion")]
    if not fits:
        return bare("Confusion", "No record holds a confusion matrix.")
    words = prose(
        "Yes and no are the two sides of the question; what volunteers' majority took first, "
        "then what the posterior "
        "mean said. Test galaxies, those of all seeds added.",
    )
    blocks = [words]
    asked = gathered(fits, lambda r: (r.text("run.question"), tuple(r.at("run.positive") or ())))
    for (question, positive), alike in asked.items():
        rows = [_confusion_row(record_set, records) for records in gathered(alike, group).values()]
        caption = f"{question}: yes is {' or '.join(positive)}"
        formats = {"no found (%)": ".1f", "yes found (%)": ".1f"}
        blocks.append(table(caption, rows, [record.number for record in alike], formats))
    return Section("Confusion", tuple(blocks))


def _confusion_row(record_set: RecordSet, records: list[Record]) -> dict:
    matrices = [record.at("results.test.confusion") for record in records]
    counts = {title: sum(matrix[y][x] for matrix in matrices) for title, y, x in CELLS}
    right_no, wrong_no, wrong_yes, right_yes = counts.values()
    row = {
        "setting": record_set.setting(records[0]),
        "backend": record_set.label(records[0]),
        "seeds": seeds(records),
    }
    return (
        row
        | counts
        | {
            "no found (%)": share(right_no, right_no + wrong_no),
            "yes found (%)": share(right_yes, wrong_yes + right_yes),
        }
    )


def share(part: float, whole: float) -> float | None:
    """`part` of `whole` in per cent; None of nothing."""
    return 100 * part / whole if whole else None
