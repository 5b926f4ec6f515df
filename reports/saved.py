"""Labels saved, as the report tells them: of runs among the records, and of those that were published in a file."""

import numpy as np

from reports.blocks import Figure, NumberText, Prose, Table, from_files, prose, table
from reports.charts import Line
from reports.figures import line_figure
from reports.runs import TITLES, RecordSet, files
from reports.savings import (
    BASELINE,
    CONFIDENCE,
    DEVIATION,
    FALLS,
    MEASURES,
    Course,
    Pair,
    courses_in,
    difference,
    difference_text,
    errors_text,
    paired,
    paired_coverage,
    saving_text,
    savings,
    words,
)

SAVED = (
    "Labels saved: 1 - labels needed / labels that random acquisition needed, where the mean over the seeds that "
    "both have, made to fall steadily, first comes down to an error. Errors lie along the fall of random "
    f"acquisition's, from its first to its last round. In brackets {CONFIDENCE:.0%} intervals over paired seeds. "
    "A saving after < is only a bound, since the acquisition had not come down to the error in its last round; a "
    "? stands for a lower end that is not known for that reason. Less is better in every measure."
)
DRAWN = ("rmse", "log_score")  # of the measures


def compared(random: list[Course], other: list[Course]) -> list[dict]:
    """A row for each measure: the labels that `other` saves against `random`."""
    pairs_of = {title: paired(random, other, name) for name, title in MEASURES.items()}
    rows = [_saved_row(title, pair) for title, pair in pairs_of.items() if pair]
    if rows and (coverages := paired_coverage(random, other)):
        before, after = np.array(coverages).T
        rows.append(
            dict.fromkeys(rows[0], "")
            | {
                "measure": f"coverage error within {DEVIATION} of the vote fraction",
                "seeds": len(coverages),
                "random": f"{before.mean():.3f}",
                "last difference": _apart(after - before),
            }
        )
    return [{"acquisition": words(other[0].acquisition)} | row for row in rows]


def _saved_row(title: str, pair: Pair) -> dict:
    headings = [f"saved at {fall:.0%} of the fall" for fall in FALLS]
    found = [
        NumberText(saving_text(one), *(100 * end for end in (one.saving, one.low, one.high)))
        for one in savings(pair)
    ]
    return {
        "measure": title,
        "seeds": len(pair.random),
        "labels": f"{pair.labels[0]:.0f} to {pair.labels[-1]:.0f}",
        "random": errors_text(pair.random),
        **(dict(zip(headings, found, strict=False)) or dict.fromkeys(headings, "no fall")),
        "last difference": _apart(pair.other[:, -1] - pair.random[:, -1]),
    }


def _apart(values: np.ndarray) -> NumberText:
    return NumberText(difference_text(values, 4), *difference(values))


def published_courses(record_set: RecordSet) -> dict[str, list[dict[str, list[Course]]]]:
    """File -> what was published of runs whose records are not here, of each question the backend with most runs."""
    courses = {}
    for origin, found in files(record_set, "labels_saved.json").items():
        best: dict[tuple, dict[str, list[Course]]] = {}
        for named in courses_in(found):
            about = named[BASELINE][0].about
            key = (about["dataset"], about["question"])
            best[key] = max(best.get(key, {}), named, key=lambda some: len(some.get(BASELINE, ())))
        courses[origin] = list(best.values())
    return courses


def published_savings(record_set: RecordSet) -> list[Prose | Table | Figure]:
    """A table and figures of each file of published runs."""
    blocks = []
    for origin, problems_ in published_courses(record_set).items():
        rows = [
            {key: named[BASELINE][0].about[key] for key in ("dataset", "question")}
            | {"backend": TITLES.get(named[BASELINE][0].about["backend"], "")}
            | row
            for named in problems_
            for name in named
            if name != BASELINE
            for row in compared(named[BASELINE], named[name])
        ]
        if not rows:
            continue
        caption = f"Labels saved at equal error, random against others ({origin})"
        figures = [
            figure
            for place, named in enumerate(problems_, 1)
            for figure in _figures(f"labels-saved-{place}", named)
        ]
        made = [table(caption, rows, []), *figures]
        blocks += [prose(SAVED), *(from_files(block, origin) for block in made)]
    return blocks


def _figures(name: str, named: dict[str, list[Course]]) -> list[Figure]:
    """RMSE and NLL against labels, and the labels saved along the fall of random acquisition's."""
    others = [other for other in named if other != BASELINE]
    figures = []
    for measure in DRAWN:
        pairs = {other: paired(named[BASELINE], named[other], measure) for other in others}
        pairs = {words(other): pair for other, pair in pairs.items() if pair is not None}
        if pairs:
            figures += _beside(
                f"{name}-{measure}", MEASURES[measure], named[BASELINE][0].about, pairs
            )
    return figures


def _beside(name: str, title: str, about: dict, pairs: dict[str, Pair]) -> list[Figure]:
    """The errors of `pairs`, by acquisition, and what they save."""
    backend, first = about["backend"], next(iter(pairs.values()))
    errors = [
        _error_line(BASELINE, first.labels, first.random, "--", ""),
        *(_error_line(backend, pair.labels, pair.other, "-", of) for of, pair in pairs.items()),
    ]
    saved = [_saved_line(backend, pair, of) for of, pair in pairs.items()]
    what = f"{about['dataset']}, {about['question']}, {TITLES.get(backend, backend)}"
    start = f"{title[:1].upper()}{title[1:]}, {what}"
    end = f"{CONFIDENCE:.0%} intervals over {len(first.random)} pairs"
    axes = (("labelled galaxies", title), ("labels that random acquisition needs", "saved (%)"))
    return [
        line_figure(f"{name}-error", f"{start}: {end}", errors, axes[0], []),
        line_figure(
            f"{name}-saved", f"{start}: labels saved at equal error, {end}", saved, axes[1], []
        ),
    ]


def _error_line(
    backend: str, labels: np.ndarray, errors: np.ndarray, dashes: str, meaning: str
) -> Line:
    middle, low, high = np.array([difference(values) for values in errors.T]).T
    return Line(backend, labels, middle, (low, high), dashes, meaning, True)


def _saved_line(backend: str, pair: Pair, meaning: str) -> Line:
    """The saving along the fall, up to the last error that was reached; an end that is not known is at -100 %."""
    found = [one for one in savings(pair, np.linspace(0.1, 1, 19)) if np.isfinite(one.labels)]
    low, high = (
        np.clip([100 * getattr(one, end) for one in found], -100, 100) for end in ("low", "high")
    )
    return Line(
        backend,
        [one.random for one in found],
        [100 * one.saving for one in found],
        (low, high),
        "-",
        meaning,
        True,
    )
