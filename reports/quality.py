"""How good the runs are, how honest, and how fast: means over seeds and over nothing else."""

from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from reports.charts import Line, chart
from reports.html import details, figure, table, tag
from reports.numbers import Measure, measure, number
from reports.runs import Record, RecordSet, beside, command, gathered, versions

METRICS = {
    "RMSE": ("rmse", ".4f"),
    "MAE": ("mae", ".4f"),
    "NLL (nats)": ("log_score", ".3f"),
    "AUC": ("auc", ".4f"),
    "accuracy": ("accuracy", ".4f"),
}
FEW = 2.0  # votes a galaxy, below which intervals of votes hold whatever comes
LIKELY = 2.6  # standard errors within which a share is the one that was said
CLOSE = 0.03  # and how far off it may be in any case
TOLD = 0.85  # the predicted coverage whose nearest is told
SHOWN = 6  # pictures that are open
LINES = 3  # of a backend, in a picture


def good(record_set: RecordSet) -> list[Markup | None]:
    """Error on test galaxies, for every group of fits; the losses and the trees behind."""
    fits = [record for record in record_set.of("fit") if record.at("results.test")]
    if not fits:
        return []
    rows = []
    for records in gathered(fits, attrgetter("group")).values():
        row = {"run": _link(record_set, records), "seeds": len(records)}
        row["test galaxies"] = records[0].at("results.test.galaxies")
        of = {
            title: measured(records, f"results.test.{key}") for title, (key, _) in METRICS.items()
        }
        rows.append(row | of)
    words = tag(
        "p",
        "Of the mean posterior vote share against the volunteers' vote share, on test galaxies that were never "
        "trained on: a mean over seeds ± the standard deviation between them. AUC and accuracy ask which side the "
        "majority took; of the others less is better.",
    )
    forms = {title: form for title, (_, form) in METRICS.items()}
    main = table("Error on test galaxies", rows, forms, "run")
    more = [_tree(record_set, records) for records in gathered(fits, attrgetter("group")).values()]
    return [words, main, *more, _losses(record_set, fits)]


def measured(records: list[Record], path: str) -> Measure | None:
    """The mean and spread over `records` of the number at `path`."""
    return measure(record.at(path) for record in records)


def _link(record_set: RecordSet, records: list[Record]) -> Markup:
    return tag("a", record_set.name(records[0]), href=f"#run-{records[0].group}")


# Honesty


class Share(NamedTuple):
    """What share of galaxies an interval was said to hold, what share it held, of how many."""

    said: float
    held: float
    galaxies: int

    @property
    def words(self) -> str:
        """What it means, in a sentence."""
        noise = LIKELY * (self.said * (1 - self.said) / max(self.galaxies, 1)) ** 0.5
        gap = self.held - self.said
        start = f"It says {100 * self.said:.0f} % and is right in {100 * self.held:.0f} %: "
        if abs(gap) <= max(CLOSE, noise):
            return (
                start
                + "its intervals can be used"
                + ("." if noise < 0.1 else f", as far as {self.galaxies:,} galaxies tell.")
            )
        if gap < 0:
            return start + "too sure, do not use these intervals."
        return start + "too unsure, its intervals are wider than they need be."


def told(records: list[Record]) -> Share | None:
    """The share that is told of `records`, pooled: of 90 % intervals, else of the width that was said to hold most
    nearly TOLD; None where there is too little to tell by.
    """
    found = [share for record in records if (share := _told(record))]
    if not found or len(found) < len(records):
        return None
    said, held = (float(np.mean([share[place] for share in found])) for place in (0, 1))
    return Share(said, held, sum(share.galaxies for share in found))


def _told(record: Record) -> Share | None:
    of = {"honesty": record.at("results.honesty.90"), "test": covered(record)}
    if not votes_tell(record):
        return None
    if isinstance(of["honesty"], dict):
        one = of["honesty"]
        return Share(one["expected"], one["observed"], one["galaxies"])
    shares = of["test"]
    if not shares:
        return None
    said, held = min(shares, key=lambda share: abs(share[0] - TOLD))
    return Share(said, held, int(record.at("results.test.galaxies")))


def votes_tell(record: Record) -> bool:
    """Whether galaxies have so many votes that an interval of them can fail to hold."""
    galaxies, votes = (record.at(f"results.test.{name}") for name in ("galaxies", "votes"))
    if not number(galaxies) or not number(votes) or not galaxies:
        return record.at("results.test") is None
    return votes / galaxies >= FEW


def covered(record: Record) -> list[tuple[float, float]]:
    """The share of test galaxies said to lie within each width, and the share that does; nothing of too few votes."""
    galaxies = record.at("results.test.galaxies")
    if not number(galaxies) or not galaxies or not votes_tell(record):
        return []
    return [
        (said / galaxies, held / galaxies)
        for _, said, held, *_ in record.at("results.test.coverage") or []
        if number(said) and number(held)
    ]


def honest(record_set: RecordSet) -> list[Markup | None]:
    """Coverage of fits and the PIT of calibrations as pictures, each with the sentence that says what it means."""
    figures = []
    for records in gathered(record_set.of("fit"), lambda r: (r.setting, r.group)).values():
        share = told(records)
        if share:
            figures.append(_coverage(record_set.name(records[0]), records, share))
    for records in gathered(record_set.of("calibrate"), attrgetter("group")).values():
        figures += _calibrations(record_set.name(records[0]), records)
    if not figures:
        return []
    words = tag(
        "p",
        "Coverage: how many galaxies have votes as near to the expected number as was said, for every width; on the "
        "dashed line it is as said, below it too sure. PIT: where votes fall in their predicted distribution; level "
        "is honest, high at the ends is too sure.",
    )
    rest = tag("div", *figures[SHOWN:], class_="pictures") if figures[SHOWN:] else None
    first = tag("div", *figures[:SHOWN], class_="pictures")
    return [words, first, details(f"{len(figures) - SHOWN} more pictures", rest)]


def _coverage(name: str, records: list[Record], share: Share) -> Markup:
    lines = []
    for record in few(records):
        points = covered(record)
        x, y = ([100 * point[side] for point in points] for side in (0, 1))
        lines.append(Line(record.backend, x, y, marked=True))
    drawn = chart(f"Coverage, {name}", lines, ("said (% of galaxies)", "held (%)"), equal=True)
    return _picture(drawn, name, "Coverage. ", share.words)


def _picture(drawn: Markup, name: str, what: str, words: str) -> Markup:
    made = figure(drawn, escape_words(name, what, words))
    return tag("div", made, class_="item")


def escape_words(name: str, what: str, words: str) -> Markup:
    """A picture's caption: the sentence first."""
    return tag("strong", words) + tag("span", f" {what}{name}")


def _calibrations(name: str, records: list[Record]) -> list[Markup]:
    question = records[0].text("run.question")
    figures = []
    for paths in (
        {
            "as fitted": f"coverage.as_fitted.{question}",
            "recalibrated": f"coverage.recalibrated.{question}",
        },
        {"trained with": "trained", "best on validation": "chosen"},
    ):
        lines, said = [], None
        for record in records:
            for (what, path), dashes in zip(paths.items(), ("-", ":"), strict=True):
                told_ = record.at(f"results.{path}") or {}
                histogram = (told_.get("pit") or {}).get("histogram")
                if not histogram or not votes_tell(record):
                    continue
                lines.append(Line(record.backend, *outline(histogram), None, dashes, what))
                if dashes == "-" and isinstance(told_.get("votes"), list):
                    nearest = min(told_["votes"], key=lambda row: abs(row[0] - 0.9))
                    said = Share(nearest[0], nearest[1], int(told_["galaxies"]))
                elif dashes == "-" and number((told_.get("pit") or {}).get("p_value")):
                    chance = told_["pit"]["p_value"]
                    said = f"A perfect posterior is as uneven with a chance of {chance:.2g}."
        if lines:
            even = Line("", [0, 100], [100 / len(lines[0].x) * 2] * 2, None, "--", "honest")
            drawn = chart(f"PIT, {name}", [even, *lines], ("PIT (%)", "galaxies (%)"))
            words = said.words if isinstance(said, Share) else said or ""
            figures.append(_picture(drawn, name, "PIT. ", words))
    return figures


def outline(histogram: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """The steps of a `histogram` as points: x from 0 to 100 %, y in per cent of all."""
    edges = np.linspace(0, 100, len(histogram) + 1)
    shares = 100 * np.asarray(histogram) / max(1, sum(histogram))
    return np.repeat(edges, 2)[1:-1], np.repeat(shares, 2)


# Behind


def _tree(record_set: RecordSet, records: list[Record]) -> Markup | None:
    """Every question of a whole tree."""
    trees = [record.at("results.test.tree.questions") for record in records]
    if not all(trees) or len(trees[0]) < 2:
        return None
    rows = []
    for question in trees[0]:
        of = [tree[question] for tree in trees if question in tree]
        row = {"question": question, "galaxies": of[0].get("galaxies")}
        for title, path in TREE.items():
            row[title] = measure(_at(one, path) for one in of)
        for title, side in {"votes in 90 % (%)": "observed", "said (%)": "expected"}.items():
            row[title] = measure(
                100 * answer["votes_coverage"][side]
                for one in of
                for answer in (one.get("answers") or {}).values()
                if number(answer["votes_coverage"][side])
            )
            row[title] = row[title] and row[title].mean
        rows.append(row)
    name = record_set.name(records[0])
    forms = {"votes in 90 % (%)": ".1f", "said (%)": ".1f"}
    return details(
        f"Each of {len(rows)} questions, {name}", table(f"Questions, {name}", rows, forms)
    )


TREE = {
    "accuracy where half were asked": "accuracy.all.accuracy",
    "MAE": "mae",
    "volunteers' MAE": "volunteers_mae",
    "worth volunteers": "equal_volunteers.volunteers",
    "NLL (nats)": "nll",
}


def _at(found: dict, path: str):
    for name in path.split("."):
        found = (found or {}).get(name)
    return found


def _losses(record_set: RecordSet, fits: list[Record]) -> Markup | None:
    """Loss against step, a picture per question and dataset."""
    pictures = []
    for about, some in gathered(fits, attrgetter("about")).items():
        lines = [line for record in few(some) for line in _loss_lines(record)]
        if lines:
            drawn = chart(f"Loss, {about}", lines, ("step", "loss (nats)"))
            pictures.append(tag("div", figure(drawn, about), class_="item"))
    grid = tag("div", *pictures, class_="pictures")
    return details("Loss against steps", grid) if pictures else None


def _loss_lines(record: Record) -> Iterable[Line]:
    losses = beside(record, "losses.parquet")
    if losses is not None:
        window, every = max(1, len(losses) // 50), max(1, -(-len(losses) // 150))
        smooth = losses["loss"].rolling(window, min_periods=1).mean().to_numpy()[::every]
        steps, known = losses["step"].to_numpy()[::every], losses.dropna(subset=["validation_loss"])
        yield Line(record.backend, steps, smooth, None, "-", "training")
        if len(known):
            points = known["step"].to_numpy(), known["validation_loss"].to_numpy()
            yield Line(record.backend, *points, None, ":", "validation", True)


def few(records: list[Record]) -> list[Record]:
    """The first of `records`, so many of each backend as can be told apart in a picture."""
    return [
        one for some in gathered(records, attrgetter("backend")).values() for one in some[:LINES]
    ]


def fast(record_set: RecordSet) -> list[Markup | None]:
    """How fast every group of fits was on each machine."""
    fits = [record for record in record_set.of("fit") if record.at("results.images_per_second")]
    rows = []
    for records in gathered(fits, lambda r: (r.group, r.computer)).values():
        rows.append(
            {
                "run": _link(record_set, records),
                "machine": records[0].computer,
                "seeds": len(records),
                "training (images/s)": measured(records, "results.images_per_second"),
                "posteriors (galaxies/s)": measure(map(sampling_speed, records)),
                "whole run (s)": measured(records, "seconds"),
                "peak memory (GB)": measure(
                    (record.at("results.peak_memory_bytes") or 0) / 1e9 or None
                    for record in records
                ),
            }
        )
    return [table("Speed", rows, {"whole run (s)": ",.0f"}, "run")] if rows else []


def sampling_speed(record: Record) -> float | None:
    """Galaxies a second whose posterior was sampled; None if that took no time."""
    galaxies, seconds = (
        record.at(f"results.{name}") for name in ("sampled_galaxies", "sample_seconds")
    )
    return galaxies / seconds if number(galaxies) and number(seconds) and seconds else None


def records(record_set: RecordSet) -> Iterable[Markup]:
    """Every group of records: where they lie, what made them, how to do it again; and what was left out."""
    rows = []
    for some in gathered(record_set.records, attrgetter("group")).values():
        first, places = some[0], [record.place for record in some]
        rows.append(
            {
                "run": tag("span", record_set.name(first), id=f"run-{first.group}"),
                "task": first.task,
                "seeds": ", ".join(record.text("run.seed") for record in some),
                "folder": tag(
                    "code", places[0] + (f" and {len(some) - 1} more" if some[1:] else "")
                ),
                "machine": joined(record.computer for record in some),
                "versions": joined(versions(record.at("where") or {}) for record in some),
                "commit": joined(record.text("host.commit") for record in some),
                "started": first.at("started"),
                "time (s)": measured(some, "seconds"),
                "command": tag("code", command(first)),
            }
        )
    count = len(record_set.records)
    words = tag(
        "p", "Each record, with its numbers and its own command, is in runs.csv beside this page."
    )
    kept = table("Records, with the command of the first seed", rows)
    yield details(f"{count:,} record{'s' if count > 1 else ''}", words, kept)
    left = [{"file": name, "why": why} for name, why in record_set.left_out.items()]
    if left:
        yield details(f"{len(left)} files left out", table("Left out", left), opened=True)


def joined(texts: Iterable[str]) -> str:
    """Each of `texts` once."""
    return "; ".join(dict.fromkeys(text for text in texts if text))
