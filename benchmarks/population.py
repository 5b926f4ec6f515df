"""How like a survey's the synthetic galaxies of a population are: their votes beside the published ones.

    python -m benchmarks.population record=population.json data=../shared/data galaxies=6000

`record` is the file for the JSON, `galaxies` how many are drawn of each population, `data` the folder that has
gz_decals/panoptes_reduction.csv, gz2_stripe82/table5_first8000.csv.gz and w20_posteriors; what is not there is left
out. For a survey at hand it also finds, anew, the numbers of `shared.data.population` that bring the quantiles of vote
fractions nearest to the survey's.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from shared.data.population import POPULATIONS
from shared.data.synthetic import QUESTIONS, draw_galaxies
from shared.method.baselines import baselines, constant_nll, uniform_nll
from shared.run.records import host, write_json

FIRST = "smooth-or-featured"
DECALS = [f"{FIRST}_{answer}" for answer in QUESTIONS[FIRST]]
STRIPE82 = [
    f"t01_smooth_or_features_{answer}_count"
    for answer in ("a01_smooth", "a02_features_or_disk", "a03_star_or_artifact")
]
TABLES = {  # of each survey, its file and its columns of the first question
    "decals": ("gz_decals/panoptes_reduction.csv", DECALS),
    "stripe82": ("gz2_stripe82/table5_first8000.csv.gz", STRIPE82),
}
OTHERS = {  # questions that are left as they are: what counts as yes, here and in Stripe 82's table
    "disk-edge-on": (("yes",), "t02_edgeon_a04_yes_count", "t02_edgeon_a05_no_count"),
    "bar": (("strong", "weak"), "t03_bar_a06_bar_count", "t03_bar_a07_no_bar_count"),
    "has-spiral-arms": (("yes",), "t04_spiral_a08_spiral_count", "t04_spiral_a09_no_spiral_count"),
}
ENOUGH = 20  # votes, of a galaxy whose fractions are compared
QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
FITTED = np.linspace(0.02, 0.98, 49)
BASELINES = {FIRST: (("smooth",), 1), "bar": (("strong", "weak"), 10)}  # positive, fewest votes
VOTES = 40  # of a galaxy, in W+20's posteriors


def main(words: list[str]) -> int:
    """Compare as `words` say and print what was found."""
    given = dict(word.split("=", 1) for word in words)
    beside = os.environ.get("TRIZOO_REAL_DATA", "../shared/data")
    found = measure(Path(given.get("data", beside)), int(given.get("galaxies", 6000)))
    if "record" in given:
        write_json(Path(given["record"]), found)
    print(json.dumps(found, indent=1))
    return 0


def measure(data: Path, galaxies: int, seed: int = 0) -> dict:
    """All that is compared, of so many `galaxies` of each population."""
    drawn = {
        name: draw_galaxies(galaxies, seed, population=POPULATIONS.get(name))
        for name in ("plain", *POPULATIONS)
    }
    surveys = {
        name: table[TABLES[name][1]].to_numpy(np.int64)
        for name in TABLES
        if (table := read(data, name)) is not None
    }
    return {
        "galaxies": galaxies,
        "seed": seed,
        "synthetic": {name: described(votes(table)) for name, table in drawn.items()},
        "surveys": {name: described(counts) for name, counts in surveys.items()},
        "rms_of_quantiles": {
            name: apart(fractions(votes(drawn[name])), fractions(counts)) ** 0.5
            for name, counts in surveys.items()
        },
        "fitted": {name: fitted(name, counts, galaxies, seed) for name, counts in surveys.items()},
        "others": others(drawn["stripe82"], read(data, "stripe82")),
        "scatter": {"w20": left_by_w20(data), "twins": between_twins(data)},
        "baselines": {
            name: {
                question: baselines(table, QUESTIONS, question, *asked)._asdict()
                for question, asked in BASELINES.items()
            }
            for name, table in drawn.items()
        },
        "host": host(),
    }


def read(data: Path, name: str) -> pd.DataFrame | None:
    """The galaxies of a survey that have votes; None where its file is not there."""
    file, columns = TABLES[name]
    if not (data / file).exists():
        return None
    table = pd.read_csv(data / file)
    return table[table[columns].sum(axis=1) > 0]


def votes(galaxies: pd.DataFrame) -> np.ndarray:
    """The votes (galaxy, answer) on the first question."""
    return galaxies[DECALS].to_numpy()


def fractions(counts: np.ndarray) -> np.ndarray:
    """The fractions (galaxy, answer) of votes (galaxy, answer), of galaxies with ENOUGH."""
    counts = counts[counts.sum(1) >= ENOUGH]
    return counts / counts.sum(1, keepdims=True)


def described(counts: np.ndarray) -> dict:
    """Votes (galaxy, answer) in numbers. An artifact is one by most volunteers' word."""
    total, shares = counts.sum(1), fractions(counts)
    smooth = np.stack([counts[:, 1:].sum(1), counts[:, 0]], -1)[total >= ENOUGH]
    return {
        "galaxies": {"all": len(counts), "with enough votes": len(shares)},
        "votes": {"mean": float(total.mean()), "std": float(total.std())},
        "artifacts": float((2 * counts[:, 2] > total).mean()),
        "smooth_nll": {"uniform": uniform_nll(smooth), "constant": constant_nll(smooth)},
        **{
            answer: {
                "mean": float(share.mean()),
                "std": float(share.std()),
                "quantiles": dict(
                    zip(map(str, QUANTILES), np.quantile(share, QUANTILES).tolist(), strict=True)
                ),
            }
            for answer, share in zip(QUESTIONS[FIRST], shares.T, strict=True)
        },
    }


def others(galaxies: pd.DataFrame, survey: pd.DataFrame | None) -> dict:
    """The mean fraction of each of OTHERS, of galaxies with 10 votes on it: of synthetic ones, and of the survey's."""

    def fraction(yes: pd.Series, total: pd.Series) -> float:
        return float((yes / total)[total >= 10].mean())

    found = {}
    for question, (positive, yes, no) in OTHERS.items():
        said = galaxies[[f"{question}_{answer}" for answer in positive]].sum(axis=1)
        found[question] = {"synthetic": fraction(said, galaxies[f"{question}_total"])}
        if survey is not None:
            found[question]["survey"] = fraction(survey[yes], survey[yes] + survey[no])
    return found


def apart(some: np.ndarray, others: np.ndarray) -> float:
    """The mean square difference of the quantiles of two sets of fractions (galaxy, answer), mean over answers."""
    own, other = (np.quantile(shares, FITTED, axis=0) for shares in (some, others))
    return float(np.square(own - other).mean())


def fitted(name: str, counts: np.ndarray, galaxies: int, seed: int) -> dict:
    """What brings the population nearest to the survey's `counts`: readiness and clicked, other numbers as they are."""
    population, wanted = POPULATIONS[name], fractions(counts)

    def loss(numbers: np.ndarray) -> float:
        trial = population._replace(readiness=numbers[0], clicked=abs(numbers[1]))
        return apart(fractions(votes(draw_galaxies(galaxies // 4, seed, population=trial))), wanted)

    start = [population.readiness, population.clicked]
    simplex = np.add(start, [[0, 0], [0.1, 0], [0, 0.01]])
    found = minimize(
        loss, start, method="Nelder-Mead", options={"maxfev": 30, "initial_simplex": simplex}
    )
    return {
        "readiness": float(found.x[0]),
        "clicked": float(found.x[1]),
        "rms_of_quantiles": found.fun**0.5,
    }


def left_by_w20(data: Path) -> dict | None:
    """The correlation of two volunteers' answers about one galaxy that explains the mean square error of W+20's stored
    posterior: at most, where all of it is scatter, and at least, where the variance of its samples is not.

    Of N votes a fraction has the variance rho (1 - rho) (1 / N + (1 - 1 / N) x correlation) about its expected value.
    """
    folder = data / "w20_posteriors"
    if not folder.exists():
        return None
    samples = np.load(folder / "smooth.npz")["samples"].astype(np.float64)
    error = json.loads((folder / "smooth_metrics.json").read_text())["mean square error"]
    middle, spread, count = samples.mean(1), samples.var(1), VOTES
    binomial = float((middle * (1 - middle) - spread).mean())

    def correlation(variance: float) -> float:
        return (variance / binomial - 1 / count) / (1 - 1 / count)

    return {
        "mean_square_error": error,
        "predicted": binomial / count + float(spread.mean()),
        "least": correlation(error - float(spread.mean())),
        "most": correlation(error),
    }


def between_twins(data: Path) -> dict | None:
    """The same correlation between two crowds who saw the same image: galaxies that DECaLS showed twice.

    The squared difference of two crowds' fractions has its binomial variance x (1 + (N - 1) x correlation).
    """
    table, columns = read(data, "decals"), TABLES["decals"][1]
    if table is None:
        return None
    twins = table[table["nsa_id"].duplicated(keep=False)].sort_values("nsa_id", kind="stable")
    counts = twins[columns].to_numpy(np.float64).reshape(-1, 2, len(columns))
    total = counts.sum(2, keepdims=True)
    pooled = counts.sum(1) / total.sum(1)
    variance = pooled * (1 - pooled) * (1 / total).sum(1)
    ratio = np.square(np.diff(counts / total, axis=1)[:, 0]) / variance
    smooth, pairs = ratio[:, 0], len(counts)
    return {
        "pairs": pairs,
        "correlation": float((smooth.mean() - 1) / (total.mean() - 1)),
        "standard_error": float((2 / pairs) ** 0.5 / (total.mean() - 1)),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
