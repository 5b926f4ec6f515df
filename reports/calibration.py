"""Whether posteriors know what they do not know, and the dropout rate at prediction with which they know best."""

from pathlib import Path

import numpy as np

from reports.blocks import Figure, Section, Table, bare, prose, table
from reports.figures import Line, line_figure
from reports.runs import TITLES, Record, RecordSet, gathered

RATES = {"trained": "trained with", "chosen": "best on validation"}
DASHES = {"trained": "-", "chosen": ":"}
PERFECT = "perfect"
MEASURES = (
    ("NLL (nats)", "log_score", ".3f"),
    ("RMSE", "rmse", ".4f"),
    ("PIT: distance", "pit.statistic", ".3f"),
    ("PIT: p", "pit.p_value", None),
    ("votes: gap", "coverage.statistic", ".3f"),
    ("votes: p", "coverage.p_value", None),
    ("truth: error", "truth.error", ".3f"),
    ("truth: p", "truth.p_value", None),
)


def calibration(record_set: RecordSet) -> Section:
    """How honest each fit's posterior is on test galaxies, with its own dropout rate and with the best one."""
    measured = [r for r in record_set.of("calibrate") if r.at("results.trained.pit.histogram")]
    runs = sorted(measured, key=order)
    if not runs:
        return bare(
            "Calibration", "No run of calibrate is among the records; trizoo calibrate makes one."
        )
    words = prose(
        "The network stays as it was trained; the dropout rate at prediction is the one it was trained with, or that "
        "of the lowest NLL on validation galaxies. Every p is the chance that a perfect posterior does as badly.",
        "PIT: where the volunteers' count falls in its predicted distribution. Of a perfect posterior every tenth of "
        "the axis holds a tenth of the galaxies; of an overconfident one the ends hold more. Distance: the largest "
        "from that law.",
        "Votes: the largest gap between the shares of galaxies that were predicted and observed within so many votes "
        "of the expected count.",
        "Truth, of synthetic galaxies: how often the true vote chance lies in the central intervals of the samples. "
        "Error: the mean difference between the observed and the expected share.",
    )
    blocks = [words]
    for place, alike in enumerate(gathered(runs, asked).values(), 1):
        blocks += [_pit_figure(place, alike), *_truth_figures(place, alike), _rates_table(alike)]
    return Section("Calibration", (*blocks, _measures_table(runs)))


def asked(record: Record) -> tuple[str, ...]:
    """What is drawn in one figure: one dataset, question and image size."""
    names = ("dataset.name", "question", "positive", "model.image_size")
    return tuple(record.text(f"run.{name}") for name in names)


def order(record: Record) -> tuple:
    """Where `record` stands in a table: by what was asked, backend, seed; each has a setting of its own,
    its weights.
    """
    backend = {name: place for place, name in enumerate(TITLES)}.get(record.backend, len(TITLES))
    return (*asked(record), backend, record.at("run.seed") or 0, record.number)


def about(record: Record) -> str:
    """What `record` was asked, in words."""
    dataset, question, _, size = asked(record)
    return f"{dataset}, {question}, {size} px"


def drawn(runs: list[Record], path: str) -> list[tuple[Record, str, list]]:
    """(record, name of the rate, what is at `path` below it), a rate that was also trained with once."""
    return [
        (record, name, found)
        for record in runs
        for name in RATES
        if (found := record.at(f"results.{name}.{path}"))
        and (
            name == "trained"
            or record.at("results.chosen.rate") != record.at("results.trained.rate")
        )
    ]


def outline(histogram: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The steps of a `histogram` as points: x from 0 to 100 %, y in per cent of all."""
    edges = np.linspace(0, 100, len(histogram) + 1)
    shares = 100 * np.asarray(histogram) / max(1, sum(histogram))
    return np.repeat(edges, 2)[1:-1], np.repeat(shares, 2)


def _pit_figure(place: int, runs: list[Record]) -> Figure:
    found = drawn(runs, "pit.histogram")
    even = 100 / len(found[0][2])
    lines = [Line(PERFECT, [0, 100], [even, even])]
    for record, name, histogram in found:
        points = outline(histogram)
        lines.append(Line(record.backend, *points, dashes=DASHES[name], meaning=RATES[name]))
    caption = f"PIT of the votes, {about(runs[0])}: a line per run and dropout rate"
    axes = ("PIT (%)", "galaxies (%)")
    return line_figure(f"pit-{place}", caption, lines, axes, [record.number for record in runs])


def _truth_figures(place: int, runs: list[Record]) -> list[Figure]:
    found = drawn(runs, "truth.table")
    if not found:
        return []
    lines = []
    for record, name, rows in found:
        _, expected, observed, _ = (100 * np.array(side) for side in zip(*rows, strict=True))
        lines.append(
            Line(record.backend, expected, observed, None, DASHES[name], RATES[name], True)
        )
    caption = f"Coverage of the true vote chance, {about(runs[0])}: a line per run; dashed, equal"
    axes = ("expected (% of galaxies)", "observed (%)")
    numbers = [record.number for record, *_ in found]
    return [line_figure(f"truth-{place}", caption, lines, axes, numbers, equal=True)]


def _rates_table(runs: list[Record]) -> Table:
    scores = [
        {row["rate"]: row["log_score"] for row in record.at("results.validation.rates") or []}
        for record in runs
    ]
    rates = sorted({rate for score in scores for rate in score})
    rows = [
        _of(record)
        | {"galaxies": record.at("results.validation.galaxies")}
        | {str(rate): score.get(rate) for rate in rates}
        for record, score in zip(runs, scores, strict=True)
    ]
    caption = f"NLL (nats) on validation galaxies by dropout rate, {about(runs[0])}"
    formats = {str(rate): ".3f" for rate in rates}
    return table(caption, rows, [record.number for record in runs], formats)


def _measures_table(runs: list[Record]) -> Table:
    rows = [
        _of(record)
        | {
            "galaxies": record.at(f"results.{name}.galaxies"),
            "dropout": record.at(f"results.{name}.rate"),
            "rate": RATES[name],
        }
        | {title: record.at(f"results.{name}.{path}") for title, path, _ in MEASURES}
        for record in runs
        for name in RATES
    ]
    formats = {title: form for title, _, form in MEASURES if form} | {"dropout": "g"}
    caption = "Calibration on test galaxies, a run in each row"
    return table(caption, rows, [record.number for record in runs], formats)


def _of(record: Record) -> dict:
    weights = Path(record.at("results.weights") or "")
    return {
        "fit": weights.parent.name,
        "backend": record.title,
        "seed": record.at("run.seed"),
    }
