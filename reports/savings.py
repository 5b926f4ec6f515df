"""How many labels an acquisition saves: labels needed for an error, against random acquisition, over paired seeds.

Runs of one seed are a pair: they begin with the same galaxies, at the same first weights, and train as long. What is
compared is the mean over seeds after each round. Chance makes it rise here and there, so it is replaced by the nearest
curve that never rises (least squares); an error is reached where that curve, straight between rounds, first falls to
it. Errors are taken along the fall of random acquisition, from its first round (0) to its last (1), and

    saving = 1 - labels needed / labels that random acquisition needed

where the labels of the start count on both sides. An interval is of CONFIDENCE, from all of this done again on seeds
drawn with replacement, a pair staying a pair. Percentiles of so few seeds are too narrow, so they are taken farther
out, as Student's t is wider than the normal law (Hesterberg 2015, "What teachers should know about the bootstrap",
the expanded percentile interval). An error that the acquisition had not come down to in its last round is censored: all
that is known is that it needs more labels than it was given, so its saving is below 1 - labels given / labels that
random acquisition needed. Such a draw counts as the worst there may be at the interval's lower end, and as this bound
at its upper end; where that leaves no lower end, none is given.
"""

import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from scipy.stats import norm, t

from reports.charts import Line, chart, grid
from reports.numbers import number
from reports.runs import SHAPES, Record, gathered, read_runs
from shared.run import keys
from shared.run.records import read_json, write_json

BASELINE = "random"
SAVED = "labels_saved.json"
CONFIDENCE = 0.9
REPLICATES = 4000
FALLS = (0.25, 0.5, 0.75, 1.0)
DEVIATION = 0.2  # of the vote fraction, within which W+20 tell their coverage (section 4.3)
MEASURES = {
    "rmse": "RMSE of the vote fraction",
    "log_score": "NLL (nats)",
    "truth_rmse": "RMSE of the true probability",
    "tree_nll": "NLL of all questions (nats)",
}


class Course(NamedTuple):
    """What one run came to: each measure after each round."""

    problem: str  # a name of what is compared within: the simulation and the backend
    about: dict  # dataset, question, backend
    acquisition: str
    seed: int
    seconds: float | None
    labelled: list[int]
    measures: dict[str, list[float]]  # only those that every round has
    coverage: float | None  # relative error within DEVIATION, after the last round
    pool: dict[str, float]  # mean over rounds of plain, lure and all, where there are any


class Pair(NamedTuple):
    """An acquisition beside random acquisition: errors (seed, round) of the same seeds, at the same labels (round,)."""

    labels: np.ndarray
    random: np.ndarray
    other: np.ndarray


class Saving(NamedTuple):
    """The labels saved at one error. `labels` is infinite where it was never reached; `saving` then is only a bound
    above.

    `low` and `high` are the interval; `low` is -infinity where it is not known, both are NaN of a single seed.
    """

    fall: float
    error: float
    random: float
    labels: float
    saving: float
    low: float
    high: float


# The arithmetic


def falling(curves: np.ndarray) -> np.ndarray:
    """The nearest curves (..., round) that never rise, by least squares (isotonic regression).

    By the min-max formula (Barlow et al. 1972, section 1.2): min over a <= i of max over b >= i of the mean of a..b.
    """
    curves = np.asarray(curves, np.float64)
    count = curves.shape[-1]
    sums = np.concatenate([np.zeros((*curves.shape[:-1], 1)), np.cumsum(curves, -1)], -1)
    first, last = np.arange(count)[:, None], np.arange(count)
    lengths = np.maximum(last - first + 1, 1)
    means = (sums[..., None, 1:] - sums[..., :-1, None]) / lengths
    means = np.where(first == last, curves[..., None, :], means)  # as it was, not but for rounding
    means = np.where(first <= last, means, -np.inf)
    best = np.maximum.accumulate(means[..., ::-1], -1)[..., ::-1]
    return np.where(first <= last, best, np.inf).min(-2)


def needed(labels: np.ndarray, curves: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """The labels (..., error) at which `curves` (..., round), which never rise, first come down to `errors` (...,
    error).

    Straight between rounds; infinite where a curve does not come so far.
    """
    labels, curves = np.asarray(labels, np.float64), np.asarray(curves, np.float64)
    there = curves[..., None, :] <= np.asarray(errors, np.float64)[..., :, None]
    here = there.argmax(-1)
    before = np.maximum(here - 1, 0)
    high, low = (np.take_along_axis(curves, place, -1) for place in (before, here))
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(here > 0, (high - errors) / (high - low), 0.0)
    found = labels[before] + part * (labels[here] - labels[before])
    return np.where(there.any(-1), found, np.inf)


def savings(pair: Pair, falls: Iterable[float] = FALLS) -> list[Saving]:
    """The labels saved where random acquisition's error has fallen by each of `falls`; none if it never fell."""
    falls, seeds = np.asarray(list(falls), np.float64), len(pair.random)
    fitted = falling(pair.random.mean(0))
    if not fitted[0] - fitted[-1] > 1e-9 * abs(fitted[0]):  # no more than rounding
        return []
    random, other = _needed_labels(pair, falls, np.ones((1, seeds)) / seeds)
    low, high = np.full((2, len(falls)), np.nan)
    if seeds > 1:
        tail = tail_of(seeds)
        again = _needed_labels(pair, falls, resampled(seeds))
        low = np.quantile(_saved(*again, np.inf), tail, axis=0, method="lower")
        high = np.quantile(_saved(*again, pair.labels[-1]), 1 - tail, axis=0, method="higher")
    saved = _saved(random, other, pair.labels[-1])
    errors = (1 - falls) * fitted[0] + falls * fitted[-1]
    columns = (falls, errors, random[0], other[0], saved[0], low, high)
    return [Saving(*map(float, row)) for row in zip(*columns, strict=True)]


def _needed_labels(pair: Pair, falls: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """Labels (replicate, fall) that random acquisition and the other needed, for `weights` (replicate,
    seed) of seeds.
    """
    random, other = (falling(weights @ errors) for errors in (pair.random, pair.other))
    errors = (1 - falls) * random[:, :1] + falls * random[:, -1:]
    return needed(pair.labels, random, errors), needed(pair.labels, other, errors)


def _saved(random: np.ndarray, other: np.ndarray, censored: float) -> np.ndarray:
    """1 - `other` / `random`, where `censored` stands for labels that are not known."""
    return 1 - np.where(np.isfinite(other), other, censored) / random


def tail_of(seeds: int) -> float:
    """The share of draws beyond each end of an interval of CONFIDENCE: farther out where there are few seeds."""
    return float(norm.sf(math.sqrt(seeds / (seeds - 1)) * t.isf((1 - CONFIDENCE) / 2, seeds - 1)))


def resampled(seeds: int) -> np.ndarray:
    """The weight (replicate, seed) of each seed in seeds drawn with replacement; the same draws every time."""
    drawn = keys.uniforms(keys.words(seeds), np.arange(REPLICATES), seeds)
    places = (drawn * seeds).astype(int)
    return (places[..., None] == np.arange(seeds)).mean(1)


def difference(values: Iterable[float]) -> tuple[float, float, float]:
    """The mean of paired differences, and its interval by Student's t; NaN bounds of a single one."""
    values = np.asarray(list(values), np.float64)
    middle = float(values.mean())
    if len(values) < 2:
        return middle, math.nan, math.nan
    half = t.isf((1 - CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return middle, float(middle - half), float(middle + half)


# From records to pairs


def problem(record: Record) -> str:
    """What acquisitions are compared within: a simulation in one backend."""
    return f"{record.simulation}-{record.backend}"


def course(record: Record) -> Course:
    """What `record`, of active learning, came to."""
    rounds = record.at("results.rounds")
    tests = [entry.get("test") or {} for entry in rounds]
    columns = {name: [test.get(name) for test in tests] for name in MEASURES}
    pools = [entry.get("pool") or {} for entry in rounds]
    values_by_name = {
        name: [pool[name] for pool in pools if number(pool.get(name))]
        for name in ("plain", "lure", "all")
    }
    names = {"dataset": "dataset.name", "question": "question", "backend": "backend.name"}
    return Course(
        problem(record),
        {key: record.text(f"run.{path}") for key, path in names.items()},
        record.text("run.acquisition.name"),
        record.at("run.seed"),
        record.at("seconds"),
        [entry.get("labelled") for entry in rounds],
        {name: values for name, values in columns.items() if all(map(number, values))},
        within(tests[-1]) if tests else None,
        {name: float(np.mean(values)) for name, values in values_by_name.items() if values},
    )


def within(test: dict) -> float | None:
    """The relative error of coverage within DEVIATION of the vote fraction, at each galaxy's own number of votes.

    Records of older versions have one width in votes for all, of which that at the mean number of votes is taken.
    """
    if own := [row[3] for row in test.get("fraction_coverage") or [] if row[0] == DEVIATION]:
        return own[0] if number(own[0]) else None
    if not test.get("galaxies") or not test.get("coverage"):
        return None
    width = math.floor(DEVIATION * test["votes"] / test["galaxies"] + 1e-9)
    found = [row[3] for row in test["coverage"] if row[0] == width]
    return found[0] if found and number(found[0]) else None


def courses(records: Iterable[Record]) -> list[Course]:
    """Those of `records` that are of active learning with rounds."""
    runs = [record for record in records if record.task == "active"]
    return [course(record) for record in runs if record.at("results.rounds")]


def problems(runs: Iterable[Course]) -> list[dict[str, list[Course]]]:
    """`runs` that are compared with each other, by acquisition: those with random acquisition and another one."""
    found = []
    for alike in gathered(runs, lambda run: run.problem).values():
        named = gathered(alike, lambda run: run.acquisition)
        if BASELINE in named and len(named) > 1:
            found.append(named)
    return found


def paired(random: list[Course], other: list[Course], name: str) -> Pair | None:
    """Measure `name` of the seeds that both have, at the labels that all had; None if there is no such
    seed or label.
    """
    sides = [{run.seed: run for run in runs if name in run.measures} for runs in (random, other)]
    shared = sorted(set(sides[0]) & set(sides[1]))
    runs = [side[seed] for side in sides for seed in shared]
    labels = sorted(set.intersection(*(set(run.labelled) for run in runs))) if runs else []
    if not labels:
        return None

    errors = [
        [dict(zip(side[seed].labelled, side[seed].measures[name], strict=True)) for seed in shared]
        for side in sides
    ]
    tables = [np.array([[curve[count] for count in labels] for curve in some]) for some in errors]
    return Pair(np.array(labels, np.float64), *tables)


def paired_coverage(random: list[Course], other: list[Course]) -> list[tuple[float, float]]:
    """The coverage errors of both after the last round, of the seeds that both have."""
    sides = [
        {run.seed: run.coverage for run in runs if run.coverage is not None}
        for runs in (random, other)
    ]
    return [(sides[0][seed], sides[1][seed]) for seed in sorted(set(sides[0]) & set(sides[1]))]


# What is said of them


def saving_text(saving: Saving) -> str:
    """`saving` in per cent with its interval: "32 % (14 to 45)"; "< -8 %" where the error was never reached."""
    never = "< " if math.isinf(saving.labels) else ""
    middle = f"{never}{_percent(saving.saving)} %"
    if math.isnan(saving.high):
        return middle
    low = "?" if math.isinf(saving.low) else _percent(saving.low)
    return f"{middle} ({low} to {_percent(saving.high)})"


def difference_text(values: Iterable[float], digits: int) -> str:
    """The mean of paired differences with its interval: "-0.012 (-0.020 to -0.004)"; the mean alone of a single one."""
    middle, low, high = difference(values)
    if math.isnan(low):
        return _signed(middle, digits)
    return f"{_signed(middle, digits)} ({_signed(low, digits)} to {_signed(high, digits)})"


def errors_text(errors: np.ndarray) -> str:
    """The mean of `errors` (seed, round) after the first and the last round."""
    return f"{errors[:, 0].mean():.3f} to {errors[:, -1].mean():.3f}"


def words(name: str) -> str:
    """An acquisition's `name` in words."""
    return name.replace("_", " ")


def _percent(share: float) -> str:
    return _signed(100 * share, 0)


def _signed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


# What is published: `python -m reports.savings OUTPUTS FILE`


def publish(outputs: Path, file: Path) -> int:
    """Write what the runs of active learning below `outputs` came to into `file`, as JSON; gives how many there are.

    Their own records, which hold every galaxy of every round, are much larger.
    """
    records = [r for r in read_runs(outputs) if r.task == "active" and r.at("results.rounds")]
    first = {name: some[0] for name, some in gathered(records, problem).items()}
    settings = {
        name: {key: record.at(key) for key in ("run", "host", "where")}
        for name, record in first.items()
    }
    runs = [rounded(course(record)._asdict()) for record in records]
    write_json(file, {"runs": runs, "settings": settings})
    return len(records)


def published(file: Path) -> list[dict[str, list[Course]]]:
    """The problems that `publish` wrote into `file`, in the order of dataset and question."""
    return courses_in(read_json(file, SHAPES[SAVED], "publish it anew (python -m reports.savings)"))


def courses_in(record: dict) -> list[dict[str, list[Course]]]:
    """The problems in what such a file says, in the order of dataset and question."""
    found = problems(
        Course(**{name: run[name] for name in Course._fields}) for run in record["runs"]
    )
    return sorted(found, key=lambda named: tuple(named[BASELINE][0].about.values()))


def rounded(value: Any) -> Any:
    """`value`, nested plain data, with seven digits of each number."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


# The figure


PANEL = 250.0  # pixels, the width of one


def savings_figure(caption: str, titled: dict[str, dict[str, list[Course]]]) -> Markup:
    """A column for each problem; in it, for RMSE and NLL, the error against labels and the labels saved.

    Bands are intervals of CONFIDENCE, of the mean or of the saving; an end that is not known is at the frame.
    """
    rows = []
    for measure in ("rmse", "log_score"):
        for draw in (_errors, _saved_along):
            rows.append([(title, draw(title, named, measure)) for title, named in titled.items()])
    return grid(caption, rows)


def _errors(title: str, named: dict[str, list[Course]], measure: str) -> Markup:
    lines = []
    for name, runs in sorted(named.items(), key=lambda item: item[0] != BASELINE):
        pair = paired(named[BASELINE], runs, measure)
        if pair is not None:
            middle, low, high = np.array([difference(values) for values in pair.other.T]).T
            of, dashes = ("", "--") if name == BASELINE else (runs[0].about["backend"], "-")
            lines.append(Line(of, pair.labels, middle, (low, high), dashes, words(name)))
    return chart(title, lines, ("labelled galaxies", MEASURES[measure]), width=PANEL)


def _saved_along(title: str, named: dict[str, list[Course]], measure: str) -> Markup:
    lines = []
    for name, runs in named.items():
        pair = None if name == BASELINE else paired(named[BASELINE], runs, measure)
        if pair is not None:
            ends = [pair.labels[0], pair.labels[-1]]
            lines.append(Line("", ends, [0.0, 0.0], None, "--", BASELINE))
            found = [
                one for one in savings(pair, np.linspace(0.1, 1, 37)) if np.isfinite(one.labels)
            ]
            low, high = (
                np.clip([100 * getattr(one, end) for one in found], -75, 75)
                for end in ("low", "high")
            )
            y = np.clip([100 * one.saving for one in found], -75, 75)
            x = [one.random for one in found]
            lines.append(Line(runs[0].about["backend"], x, y, (low, high), "-", words(name)))
    return chart(
        title, lines, ("labels of random galaxies", "labels saved (%)"), top=75.0, width=PANEL
    )


if __name__ == "__main__":
    print(publish(Path(sys.argv[1]), Path(sys.argv[2])), "runs")
