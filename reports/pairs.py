"""Whether choosing galaxies pays, as docs/labels_saved.md declares it: of the record that benchmarks/pairs.py leaves.

Of a seed what counts is the area between the acquisition's curve and that of random galaxies over log2(labels), in nats
of NLL, divided by its length (trapezoids). Over seeds it is a paired t test; p values are Holm's (1979), over the
questions; and that a difference is too small to matter is shown by two one-sided tests (Schuirmann 1987).

    python -m reports.pairs reports/records/pairs.json SCRATCH

prints the tables of the page, and, with the record SCRATCH that `python -m reports.label_curves` leaves of
experiment=pairs_scratch, that of an encoder from elsewhere beside ten times the labels.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import t, ttest_1samp, ttest_ind

from reports.label_curves import SHAPE, interval_text, point
from reports.savings import (
    BASELINE,
    Course,
    Pair,
    courses_in,
    difference_text,
    falling,
    needed,
    paired,
    resampled,
    tail_of,
    words,
)
from shared.run.records import read_json

PRIMARY, ENDPOINT = "laplace_power", "log_score"
MARGIN, LEVEL = 0.02, 0.05  # nats, and the chance of either error
RECORD = {
    "runs": [
        {
            "problem": str,
            "about": {str: str},
            "acquisition": str,
            "seed": int,
            "labelled": [int],
            "measures": {str: [float]},
            "asked": {str: [(float, None)]},
        }
    ]
}
TITLES = {
    "smooth": "synthetic: smooth",
    "bar": "synthetic: bar",
    "strong_bar": "synthetic: strong bar",
    "sdss_edge_on": "SDSS: edge-on",
    "sdss_spiral": "SDSS: face-on spiral",
}


class Found(NamedTuple):
    """What is found of an arm on a question."""

    seeds: int
    differences: np.ndarray  # (seed,), nats
    p: float  # of no difference
    corrected: float  # by Holm, over the questions
    equivalent: float  # p of a difference of MARGIN or more

    @property
    def verdict(self) -> str:
        """In one word, or two."""
        same = self.equivalent < LEVEL
        if not self.corrected < LEVEL:
            return "no difference" if same else "open"
        return ("pays" if self.differences.mean() < 0 else "costs") + ", little" * same


class Saved(NamedTuple):
    """Labels saved, a share; the ends of the interval are infinite where they are not known."""

    share: float
    low: float
    high: float
    bound: str  # "<" or ">" where the share is only that, else ""


# The arithmetic


def areas(pair: Pair) -> np.ndarray:
    """The mean over log2(labels) of the other's error less random acquisition's, of each seed (seed,)."""
    places, between = np.log2(pair.labels), pair.other - pair.random
    strips = (between[:, 1:] + between[:, :-1]) / 2 * np.diff(places)
    return strips.sum(1) / (places[-1] - places[0])


def holm(p_values: Sequence[float]) -> list[float]:
    """Each of the `p_values` corrected for there being so many (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    counts = len(order) - np.arange(len(order))
    raised = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * counts), 1)
    found = np.empty(len(order))
    found[order] = raised
    return found.tolist()


def tost(values: np.ndarray, margin: float) -> float:
    """The p value of a mean of `values` that is `margin` or more away from 0: the larger of two one-sided tests'."""
    count = len(values)
    error = np.std(values, ddof=1) / math.sqrt(count)
    return float(t.sf((margin - abs(np.mean(values))) / error, count - 1))


def saved(pair: Pair) -> Saved:
    """The labels saved at the error that random acquisition has with the last of them."""
    places, last = np.log2(pair.labels), pair.labels[-1]

    def labels(weights: np.ndarray) -> np.ndarray:
        random, other = falling(weights @ pair.random), falling(weights @ pair.other)
        return 2 ** needed(places, other, random[:, -1:])[:, 0]

    return _saved(len(pair.random), lambda weights: 1 - labels(weights) / last, -math.inf, 0.0)


def worth(pair: Pair, labels: np.ndarray, random: np.ndarray) -> Saved:
    """The same the other way round: what random acquisition, whose errors are `random` (seed, round) at `labels`,
    needs for the other's last error.
    """
    places, last = np.log2(labels), pair.labels[-1]

    def share(weights: np.ndarray) -> np.ndarray:
        other = falling(weights @ pair.other)[:, -1:]
        return 1 - last / 2 ** needed(places, falling(weights @ random), other)[:, 0]

    return _saved(len(random), share, 1 - last / labels[-1], math.inf)


def _saved(seeds: int, share, least: float, most: float) -> Saved:
    """The `share` that weights of seeds give, with its interval over seeds drawn with replacement.

    Where it is not reached it is known to be below `most`, if that is finite, or above `least`.
    """
    censored = -math.inf if math.isinf(least) else 1.0  # what needing infinitely many labels gives
    middle = float(share(np.ones((1, seeds)) / seeds)[0])
    bound = "" if middle != censored else "<" if math.isfinite(most) else ">"
    low = high = math.nan
    if seeds > 1:
        drawn, tail = share(resampled(seeds)), tail_of(seeds)
        out = drawn == censored
        low = float(np.quantile(np.where(out, least, drawn), tail, method="lower"))
        high = float(np.quantile(np.where(out, most, drawn), 1 - tail, method="higher"))
    return Saved((most if bound == "<" else least) if bound else middle, low, high, bound)


# From the record


def questions(path: Path) -> dict[str, dict[str, list[Course]]]:
    """The runs of each question of the record at `path`, by arm."""
    held = read_json(path, RECORD, "publish it anew (python -m benchmarks.pairs)")
    found = {some[BASELINE][0].problem: some for some in courses_in(held)}
    return {name: found[name] for name in [*TITLES, *found] if name in found}


def compared(runs: dict[str, dict[str, list[Course]]], arm: str) -> dict[str, Found]:
    """What is found of an `arm` on each question that has it."""
    pairs = {
        name: paired(arms[BASELINE], arms[arm], ENDPOINT)
        for name, arms in runs.items()
        if arm in arms
    }
    between = {name: areas(pair) for name, pair in pairs.items() if pair is not None}
    chances = [float(ttest_1samp(values, 0).pvalue) for values in between.values()]
    return {
        name: Found(len(values), values, p, corrected, tost(values, MARGIN))
        for (name, values), p, corrected in zip(
            between.items(), chances, holm(chances), strict=True
        )
    }


def primary(path: Path) -> list[list[str]]:
    """The table of the primary endpoint, a row for each question."""
    heads = [
        "question",
        "seeds",
        "random galaxies, NLL first to last",
        "drawn by information, less",
    ]
    heads += ["p", "Holm", f"p of {MARGIN} or more", "it", "labels saved", "the other way round"]
    rows, runs = [heads], questions(path)
    for name, found in compared(runs, PRIMARY).items():
        pair = paired(runs[name][BASELINE], runs[name][PRIMARY], ENDPOINT)
        seeds = {run.seed for run in runs[name][PRIMARY]}
        random = [run for run in runs[name][BASELINE] if run.seed in seeds]
        full = paired(random, random, ENDPOINT)
        rows.append(
            [
                TITLES.get(name, name),
                str(found.seeds),
                f"{pair.random[:, 0].mean():.3f} to {pair.random[:, -1].mean():.3f}",
                difference_text(found.differences, 4),
                chance(found.p),
                chance(found.corrected),
                chance(found.equivalent),
                found.verdict,
                saved_text(saved(pair)),
                saved_text(worth(pair, full.labels, full.random)),
            ]
        )
    return rows


def arms(path: Path) -> list[list[str]]:
    """The same endpoint of every arm, a row for each; p values are corrected within the arm."""
    runs = questions(path)
    rows = [["arm", *(TITLES.get(name, name) for name in runs)]]
    for arm in dict.fromkeys(arm for some in runs.values() for arm in some):
        if arm != BASELINE:
            found = compared(runs, arm)
            rows.append([words(arm), *(cell(found.get(name)) for name in runs)])
    return rows


def cell(found: Found | None) -> str:
    """A difference, its interval and its verdict."""
    return "" if found is None else f"{difference_text(found.differences, 3)}: {found.verdict}"


def savings_of_arms(path: Path) -> list[list[str]]:
    """Labels saved at random acquisition's last error, a row for each arm."""
    runs = questions(path)
    rows = [["arm", *(TITLES.get(name, name) for name in runs)]]
    for arm in dict.fromkeys(arm for some in runs.values() for arm in some):
        if arm != BASELINE:
            cells = []
            for some in runs.values():
                pair = paired(some[BASELINE], some[arm], ENDPOINT) if arm in some else None
                cells.append("" if pair is None else saved_text(saved(pair)))
            rows.append([words(arm), *cells])
    return rows


def asked(path: Path) -> list[list[str]]:
    """What each arm asked about, over all its rounds and seeds."""
    held = read_json(path, RECORD, "publish it anew (python -m benchmarks.pairs)")
    heads = ["question", "arm", "mean fraction", "artifacts", "near-duplicates"]
    rows = [[*heads, "rank correlation of score and loss"]]
    order = [*TITLES]
    kinds = dict.fromkeys((run["problem"], run["acquisition"]) for run in held["runs"])
    for kind in sorted(kinds, key=lambda kind: order.index(kind[0]) if kind[0] in order else 99):
        some = [r["asked"] for r in held["runs"] if (r["problem"], r["acquisition"]) == kind]
        count = [many for one in some for many in one["galaxies"]]
        fraction = np.average([v for one in some for v in one["fraction"]], weights=count)
        shares = [share(some, name, sum(count)) for name in ("artifacts", "near_duplicates")]
        told = [v for one in some for v in one["foretold"] if v is not None]
        correlation = signed(np.mean(told), 2) if told else ""
        title = TITLES.get(kind[0], kind[0])
        rows.append([title, words(kind[1]), f"{fraction:.3f}", *shares, correlation])
    return rows


def beside_scratch(path: Path, fits: Path) -> list[list[str]]:
    """The last layer of random galaxies on the encoder, beside whole networks from scratch, whose record is at `fits`.

    Differences are of the means of other seeds, with Welch's interval.
    """
    held = read_json(fits, SHAPE, "publish the runs of experiment=pairs_scratch anew")
    learner = questions(path)["smooth"][BASELINE]
    scratch: dict[int, list[float]] = {}
    for run in held["runs"]:
        scratch.setdefault(run["labels"], []).append(run["measures"]["log_score"])
    rows = [
        ["labels", "seeds", "NLL (nats)", *(f"less than with {n:,} from scratch" for n in scratch)]
    ]
    for place, labels in enumerate(learner[0].labelled):
        values = [run.measures[ENDPOINT][place] for run in learner]
        cells = []
        for others in scratch.values():
            test = ttest_ind(values, others, equal_var=False)
            ends = test.confidence_interval(1 - 2 * LEVEL)
            middle = np.mean(values) - np.mean(others)
            cells.append(f"{signed(middle)} ({signed(ends.low)} to {signed(ends.high)})")
        mean = interval_text(point(values), ".3f")
        rows.append([f"{labels:,}, on the encoder", str(len(values)), mean, *cells])
    for labels, values in scratch.items():
        mean = interval_text(point(values), ".3f")
        rows.append([f"{labels:,}, from scratch", str(len(values)), mean, *[""] * len(scratch)])
    return rows


def signed(value: float, digits: int = 3) -> str:
    """With a real minus."""
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def share(some: list[dict], name: str, count: float) -> str:
    """How many of so many galaxies are of a kind, in per cent; nothing where it is not known."""
    values = [value for one in some for value in one[name]]
    return "" if None in values else f"{100 * sum(values) / count:.1f} %"


def saved_text(one: Saved) -> str:
    """In per cent, with its interval."""
    ends = "" if math.isnan(one.high) else f" ({_percent(one.low)} to {_percent(one.high)})"
    return f"{one.bound} {_percent(one.share)} %{ends}".strip()


def chance(p: float) -> str:
    """A p value."""
    return "< .0001" if p < 0.0001 else f"{p:.4f}".lstrip("0") if p < 1 else "1"


def _percent(value: float) -> str:
    return "?" if math.isinf(value) else f"{100 * value:.0f}".replace("-", "\N{MINUS SIGN}")


if __name__ == "__main__":
    record, *more = map(Path, sys.argv[1:])
    tables = [make(record) for make in (primary, arms, savings_of_arms, asked)]
    for table in [*tables, *(beside_scratch(record, fits) for fits in more)]:
        print(*("  ".join(row) for row in table), "", sep="\n")
