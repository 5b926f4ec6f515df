"""Calibration on real votes: W+20's own posteriors, and 500 galaxies of Galaxy Zoo 2 with about 41 votes each.

    python -m benchmarks.calibration data=../shared/data record=reports/records/calibration.json

`data` is the folder that holds w20_posteriors (samples of the smooth question, and W+20's table of how many galaxies'
votes fell within 0, 1, 2 ... of what was expected) and gz2_votes_32px (images.npz, labels.csv); one that is not there
is left out. `record` is the file for the JSON, `seeds` how often the second is done (3); `runs` names finished runs of
calibrate, comma-separated, whose coverage is kept too. All other words are those of `trizoo`, for the network.

**W+20's posteriors.** The votes of each galaxy are not published, only their table of deviations of all 2,500. A
prediction of that table needs every galaxy's samples, and a number of votes, VOTES, with which W+20's own predictions
are met within 0.4 %. The deviations are dealt into FOLDS; the four others give one concentration, as of a
beta-binomial about each sample, that makes them likeliest, and a conformal width, which is tried on the fifth.

**Galaxy Zoo 2.** FOLDS networks, each tried on a fifth of the galaxies; an eighth of the others validates. Beside
them a constant that never looks at an image, the Dirichlet-multinomial of the training votes.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from conf.compose import compose
from shared.method.backend import Backend
from shared.method.batches import Cutouts, Labelled
from shared.method.calibration import gain
from shared.method.ensemble import open_networks
from shared.method.honesty import nlls
from shared.method.laplace_sampling import last_layers, with_posterior
from shared.method.likelihood import likelihood_of
from shared.method.metrics import mean_rho
from shared.method.mixture import count_chances
from shared.method.recalibration import chances_by_total, fit_recalibration, recalibrated
from shared.method.training import fit
from shared.method.tree_metrics import central, held
from shared.method.trees import Samples, sample, together
from shared.method.views import reduction
from shared.run.keys import galaxy_hash
from shared.run.records import host, read_record, write_json
from shared.run.spec import RunSpec, from_config

VOTES, FOLDS, LEVEL = 44, 5, 0.9
NEAR = 8  # votes: 0.2 of the fraction of VOTES, within which W+20 tell their coverage error
NETWORK = (
    *("model.image_size=16", "dataset.crop=0.5", "model.blocks=[[16],[32],[32]]", "model.dense=64"),
    *("training.steps=600", "training.batch_size=32", "training.schedule=cosine"),
    *("training.validate_every=0", "training.checkpoint_every=0", "posterior=laplace"),
    *("likelihood=dirichlet_multinomial", "backend.steps=30"),
)


def main(words: list[str]) -> int:
    """Measure both, as `words` say, and print what was found."""
    named = ("data=", "record=", "seeds=", "runs=")
    given = dict(word.split("=", 1) for word in words if word.startswith(named))
    data = Path(given.get("data", "../shared/data"))
    others = [word for word in words if not word.startswith(named)]
    found = {"command": f"python -m benchmarks.calibration {' '.join(words)}", "host": host()}
    parts: dict[str, Callable[[Path], dict]] = {
        "w20_posteriors": w20,
        "gz2_votes_32px": lambda folder: gz2(folder, int(given.get("seeds", 3)), others),
    }
    for name, measure in parts.items():
        if (data / name).is_dir():
            found[name] = measure(data / name)
        else:
            print(f"{data / name} is not there: left out", file=sys.stderr)
    if "runs" in given:
        found["runs"] = {Path(name).name: of_run(Path(name)) for name in given["runs"].split(",")}
    if "record" in given:
        write_json(Path(given["record"]), found)
    print(json.dumps({name: found.get(name) for name in parts}, indent=1))
    return 0


def of_run(folder: Path) -> dict:
    """What a run of calibrate measured of its question, before recalibration and after it."""
    record = read_record(folder)
    run, results = record["run"], record["results"]
    return {
        "likelihood": run["likelihood"]["name"],
        "method": run["posterior"]["method"],
        "dataset": run["dataset"]["name"],
        "galaxies": run["dataset"]["galaxies"],
        "split": run["split"],
        "samples": run["posterior"]["samples"],
        "recalibration": results["recalibration"][run["question"]],
        **{side: told[run["question"]] for side, told in results["coverage"].items()},
    }


# W+20's posteriors


def w20(folder: Path) -> dict:
    """How often votes fall near what W+20's posteriors expect, as they are and recalibrated."""
    samples = np.load(folder / "smooth.npz")["samples"].astype(np.float64)
    table = np.loadtxt(folder / "smooth_coverage.csv", delimiter=",", skiprows=1)
    observed = np.diff(table[:, 2], prepend=0)[: VOTES + 1].astype(
        int
    )  # galaxies at each deviation
    deviations = np.repeat(np.arange(VOTES + 1), observed)
    folds = np.random.default_rng(0).permutation(len(deviations)) % FOLDS
    before = predicted(samples, None)
    after, scales, widths, inside = np.zeros(VOTES + 1), [], [], []
    for fold in range(FOLDS):
        known, tried = (
            deviations[folds == fold] if same else deviations[folds != fold]
            for same in (False, True)
        )
        scales.append(best_concentration(samples, known))
        after += predicted(samples, scales[-1]) * len(tried) / len(deviations)
        rank = int(np.ceil((len(known) + 1) * LEVEL))
        widths.append(int(np.sort(known)[rank - 1]))
        inside.append(float((tried <= widths[-1]).mean()))
    seen = np.bincount(deviations, minlength=VOTES + 1) / len(deviations)
    return {
        "galaxies": len(samples),
        "samples": samples.shape[1],
        "votes": VOTES,
        "concentrations": scales,
        "as_stored": near(before, seen),
        "recalibrated": near(after, seen),
        "conformal": {"level": LEVEL, "widths": widths, "observed": float(np.mean(inside))},
        "their_predictions": float(
            np.abs(before.cumsum()[:20] * len(samples) / table[:20, 1] - 1).max()
        ),
    }


def predicted(samples: np.ndarray, concentration: float | None) -> np.ndarray:
    """The chance (deviation,) that votes are so many from what is expected, the mean over galaxies."""
    own = None if concentration is None else np.full(samples.shape, concentration)
    chances = count_chances(samples, VOTES, own)
    middle = np.floor(VOTES * mean_rho(samples) + 1e-9).astype(int)
    away = np.abs(np.arange(VOTES + 1) - middle[:, None])
    return np.bincount(away.ravel(), chances.ravel(), minlength=VOTES + 1) / len(samples)


def best_concentration(samples: np.ndarray, deviations: np.ndarray) -> float:
    """The one that makes `deviations` (galaxy,) likeliest."""
    counts = np.bincount(deviations, minlength=VOTES + 1)

    def nll(log: float) -> float:
        return float(
            -(counts * np.log(np.maximum(predicted(samples[:, ::10], np.exp(log)), 1e-300))).sum()
        )

    return float(
        np.exp(minimize_scalar(nll, bounds=(0, 9), method="bounded", options={"xatol": 0.02}).x)
    )


def near(chances: np.ndarray, seen: np.ndarray) -> dict:
    """Coverage by deviations up to twice NEAR: of `chances` and `seen` shares (deviation,)."""
    told, found = chances.cumsum(), seen.cumsum()
    errors = np.abs(told - found) / found
    width = int((told < LEVEL).sum())  # the narrowest that is predicted to hold LEVEL
    return {
        "predicted": told[: 2 * NEAR + 1].tolist(),
        "observed": found[: 2 * NEAR + 1].tolist(),
        "error": float(errors[: NEAR + 1].mean()),
        "error_within": float(errors[NEAR]),
        "interval": {
            "width": width,
            "predicted": float(told[width]),
            "observed": float(found[width]),
        },
    }


# Galaxy Zoo 2


def gz2(folder: Path, seeds: int, words: list[str]) -> dict:
    """NLL and coverage of networks that are each tried on galaxies they were not trained with."""
    images, part = galaxies(folder)
    found = [of_seed(images, part, seed, words) for seed in range(seeds)]
    return {
        "galaxies": len(part.rows),
        "votes": float(part.total.mean()),
        "settings": [*NETWORK, *words],
        "seeds": [
            {
                name: {
                    "nll": float(some[0].mean()),
                    "votes_in_90": float(some[1].mean()),
                    "counts_in_90": float(some[2].mean()),
                    "expected_counts": float(some[3].mean()),
                    "gain": gain(scores["constant"][0], some[0]),
                }
                for name, some in scores.items()
            }
            for scores in found
        ],
    }


def of_seed(
    images: np.ndarray, part: Labelled, seed: int, words: list[str]
) -> dict[str, np.ndarray]:
    """Of each posterior, and a constant, what all galaxies score (see `scored`), by the networks of a seed."""
    run = from_config(RunSpec, compose(["task=fit", f"seed={seed}", *NETWORK, *words]))
    cutouts = Cutouts(images, reduction(run, images.shape[1]))
    backend, scores = open_networks(run), {}
    order = np.random.default_rng(seed).permutation(len(part.rows))
    with tempfile.TemporaryDirectory() as place:
        for fold in range(FOLDS):
            test = np.sort(order[fold::FOLDS])
            rest = order[~np.isin(order, test)]
            cut = len(rest) // 8
            parts = [part.take(np.sort(some)) for some in (rest[cut:], rest[:cut], test)]
            told = of_fold(backend, run, cutouts, parts, Path(place, str(fold)))
            for name, score in told.items():
                scores.setdefault(name, []).append(score)
    return {name: np.concatenate(some, 1) for name, some in scores.items()}


def galaxies(folder: Path) -> tuple[np.ndarray, Labelled]:
    """The images uint8 (galaxy, y, x, 1) and votes, no and yes (smooth)."""
    table = pd.read_csv(folder / "labels.csv", dtype={"dr7objid": str})
    images = np.load(folder / "images.npz")["images"]
    grey = np.round(images.mean(-1, keepdims=True)).astype(np.uint8)
    columns = ("smooth-or-featured_smooth", "smooth-or-featured_featured-or-disk")
    yes, no = (np.round(table[name].to_numpy()).astype(np.int64) for name in columns)
    rows = np.arange(len(table))
    return grey, Labelled.yes_or_no(rows, galaxy_hash(table["dr7objid"]), yes, yes + no)


def of_fold(
    backend: Backend, run: RunSpec, images: Cutouts, parts: list[Labelled], folder: Path
) -> dict[str, np.ndarray]:
    """Of each posterior, and a constant, what the test galaxies of `parts` score: see `scored`."""
    train, validation, test = parts
    folder.mkdir()
    state, _ = fit(backend, run, images, train, lambda _: None, folder)
    likelihood = likelihood_of(run)
    layers = last_layers(backend, run, state, images, train, validation, run.posterior.samples)
    dropping = replace(run, posterior=replace(run.posterior, method="dropout"))

    def samples_of(run: RunSpec, layers, part: Labelled) -> Samples:
        sampler = with_posterior(backend, run, state, layers)
        of_part = (part.rows, part.hashes, run.posterior.samples)
        return together(list(sample(sampler, run, state, images, *of_part)))

    found = {"dropout": samples_of(dropping, None, test), "laplace": samples_of(run, layers, test)}
    known = samples_of(dropping, None, validation)
    mended = fit_recalibration(likelihood, known, validation)
    found["dropout, recalibrated"] = recalibrated(likelihood, found["dropout"], mended)
    alpha = nlls(likelihood, found["laplace"], test.votes, train.votes)[0]
    nothing = np.full((3, len(alpha)), np.nan)
    return {"constant": np.vstack([alpha, nothing])} | {
        name: scored(likelihood, samples, test, train) for name, samples in found.items()
    }


def scored(likelihood, samples: Samples, test: Labelled, train: Labelled) -> np.ndarray:
    """(4, galaxy): NLL; the share of the count's step in the interval of LEVEL; whether it is in the whole interval;
    that interval's own chance.
    """
    nll = nlls(likelihood, samples, test.votes, train.votes)[1]
    rows = np.zeros((3, len(nll)))
    own = None if samples.concentrations is None else samples.concentrations[..., 0]
    for some, answer, chances in chances_by_total(samples.fractions, own, test.total):
        if answer == 1:
            rows[0, some] = held(chances, test.yes[some], LEVEL)
            rows[1:, some] = central(chances, test.yes[some], LEVEL)
    return np.vstack([nll, rows])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
