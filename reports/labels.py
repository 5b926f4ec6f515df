"""What active learning saved: error against labels, drawn and told in a sentence."""

from operator import attrgetter

import numpy as np
from markupsafe import Markup

from reports.charts import Line, chart
from reports.html import details, figure, table, tag
from reports.numbers import measure
from reports.quality import SHOWN
from reports.runs import TITLES, RecordSet, files, gathered
from reports.savings import (
    BASELINE,
    CONFIDENCE,
    FALLS,
    MEASURES,
    Course,
    course,
    courses_in,
    difference,
    difference_text,
    paired,
    saving_text,
    savings,
    words,
)

DASHES = ("-", ":", "-.")


def labels(record_set: RecordSet) -> list[Markup | None]:
    """A picture for each simulation, the runs here and those that were published; every saving behind."""
    runs = [record for record in record_set.of("active") if record.at("results.rounds")]
    here = gathered(map(course, runs), attrgetter("problem")).values()
    found = [gathered(alike, lambda run: run.acquisition) for alike in here]
    found += [
        named
        for kept in files(record_set, "labels_saved.json").values()
        for named in courses_in(kept)
    ]
    found.sort(
        key=lambda named: BASELINE not in named or len(named) < 2
    )  # those that tell something first
    pictures = [_picture(named) for named in found]
    if not pictures:
        return []
    rows = [row for named in found for row in compared(named)]
    key = tag("p", f"Means over seeds; bands are {CONFIDENCE:.0%} intervals.")
    behind = tag("div", *pictures[SHOWN:], class_="pictures") if pictures[SHOWN:] else None
    return [
        key,
        tag("div", *pictures[:SHOWN], class_="pictures"),
        details(f"{len(pictures) - SHOWN} more pictures of labels", behind),
        details(f"{len(rows)} savings at equal error", table("Labels saved", rows))
        if rows
        else None,
        _rounds(record_set),
    ]


def _picture(named: dict[str, list[Course]]) -> Markup:
    about = next(iter(named.values()))[0].about
    lines, said = [], []
    order = sorted(named, key=lambda name: name != BASELINE)
    others = [name for name in order if name != BASELINE]
    for name, runs in ((name, named[name]) for name in order):
        pair = paired(runs, runs, "rmse")
        if pair is None:
            continue
        middle, low, high = np.array([difference(errors) for errors in pair.random.T]).T
        band = None if np.isnan(low).any() else (low, high)
        of = "" if name == BASELINE else about["backend"]
        dashes = "--" if name == BASELINE else DASHES[others.index(name) % len(DASHES)]
        lines.append(Line(of, pair.labels, middle, band, dashes, words(name), True))
        if name != BASELINE and BASELINE in named:
            said.append(sentence(named[BASELINE], runs))
    what = (
        f"{about['dataset']}, {about['question']}, {TITLES.get(about['backend'], about['backend'])}"
    )
    drawn = chart(f"Error against labels, {what}", lines, ("labelled galaxies", MEASURES["rmse"]))
    told = tag("strong", " ".join(filter(None, said)))
    return tag("div", figure(drawn, told + tag("span", f" {what}")), class_="item")


def sentence(random: list[Course], other: list[Course]) -> str:
    """Whether `other` saves labels, by the RMSE that random acquisition ended at."""
    pair = paired(random, other, "rmse")
    name = words(other[0].acquisition).capitalize()
    found = savings(pair, (1.0,)) if pair is not None else []
    if not found:
        return ""
    if len(pair.random) < 2:
        return f"{name}: {saving_text(found[0])} of the labels saved, by one seed; more would tell."
    _, low, high = difference(pair.other[:, -1] - pair.random[:, -1])
    text = f"{saving_text(found[0])} of the labels"
    if high < 0:
        return f"{name} pays: it saves {text}."
    if low > 0:
        return f"{name} costs: it ends worse than random galaxies ({text})."
    return f"{name} is not shown to save or to cost ({text})."


def compared(named: dict[str, list[Course]]) -> list[dict]:
    """A row for each acquisition and measure: the labels that it saves against random acquisition."""
    rows = []
    for name, runs in named.items():
        for measure_, title in MEASURES.items() if name != BASELINE and BASELINE in named else ():
            pair = paired(named[BASELINE], runs, measure_)
            if pair is not None:
                heads = [f"saved at {fall:.0%} of the fall" for fall in FALLS]
                saved = [saving_text(one) for one in savings(pair)] or ["no fall"] * len(FALLS)
                apart = difference_text(pair.other[:, -1] - pair.random[:, -1], 4)
                labelled = f"{pair.labels[0]:.0f} to {pair.labels[-1]:.0f}"
                first = {"dataset": runs[0].about["dataset"], "question": runs[0].about["question"]}
                more = {
                    "acquisition": words(name),
                    "backend": TITLES.get(runs[0].about["backend"], ""),
                }
                told = {"measure": title, "seeds": len(pair.random), "labels": labelled}
                ends = dict(zip(heads, saved, strict=True)) | {"last difference": apart}
                rows.append(first | more | told | ends)
    return rows


def _rounds(record_set: RecordSet) -> Markup | None:
    runs = [record for record in record_set.of("active") if record.at("results.rounds")]
    rows = []
    for records in gathered(runs, attrgetter("group")).values():
        lasts = [record.at("results.rounds")[-1] for record in records]
        rows.append(
            {
                "run": record_set.name(records[0]),
                "acquisition": words(records[0].text("run.acquisition.name")),
                "seeds": len(records),
                "rounds": max(len(record.at("results.rounds")) for record in records),
                "labels": max((last.get("labelled") or 0 for last in lasts), default=0),
                "last RMSE": measure((last.get("test") or {}).get("rmse") for last in lasts),
                "time (s)": measure(record.at("seconds") for record in records),
            }
        )
    return (
        details(
            f"{len(rows)} runs of active learning",
            table("Rounds", rows, {"last RMSE": ".4f"}, "run"),
        )
        if rows
        else None
    )
