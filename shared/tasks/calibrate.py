"""`trizoo calibrate`: say whether a fit's posterior is honest, and find the best dropout rate of a binomial one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.data.prepare import prepare as prepare_store
from shared.data.store import Store
from shared.method.backend import Backend
from shared.method.batches import Cutouts, Labelled
from shared.method.calibration import (
    FEW,
    RATES,
    best_rate,
    calibration,
    gain,
    pit_uniforms,
    summary_of,
)
from shared.method.ensemble import open_networks
from shared.method.honesty import honesty, sentence
from shared.method.laplace_sampling import load_layers, with_posterior
from shared.method.likelihood import likelihood_of
from shared.method.metrics import log_score, log_scores
from shared.method.sampling import sample_galaxies
from shared.method.trees import Samples, sample, together
from shared.network.weights import Checkpoint, fitted
from shared.output.oracle import true_chances
from shared.run.keys import galaxy_hash
from shared.run.records import write_json
from shared.run.spec import RunSpec
from shared.run.spreadsheet import write_csv
from shared.tasks import trees
from shared.tasks.galaxies import cutouts, labelled_parts, learned_from
from shared.tasks.results import where


def calibrate(run: RunSpec, folder: Path) -> dict:
    """The task: whether a fit's posterior is honest, by its test galaxies; of a binomial one the best dropout rate too.

    The best rate at prediction, and only there, has the lowest NLL on validation galaxies (as Guo et al. 2017
    choose a temperature); weights stay as they are. Raises ValueError if there are no such galaxies with votes.
    """
    path, start = fitted(run)
    store = prepare_store(run.dataset)
    hashes = galaxy_hash(store.galaxies["id"])
    learned = learned_from(path, hashes)
    validation, test = held_out(run, store, hashes, learned)
    backend, images = open_networks(run), cutouts(run, store)
    about = {"store": str(store.folder), "weights": str(path)}
    about |= {"trained_with_known": learned is not None, "samples": run.posterior.samples}
    if likelihood_of(run).name == "binomial" and run.posterior.method == "dropout":
        measured, summary = by_rate(run, store, backend, start, images, validation, test, folder)
    else:
        of_test = (test.rows, test.hashes, run.posterior.samples)
        state = backend.init(run, start)
        backend = with_posterior(backend, run, state, load_layers(path, run))
        found = together(list(sample(backend, run, state, images, *of_test)))
        honest = honesty(run, found, test, None)
        measured = {"honesty": honest, "test": trees.measure(run, store, test, found)}
        summary = sentence(run, honest, "test")
    results = about | measured
    write_json(folder / "calibration.json", results)
    results |= {"peak_memory_bytes": backend.peak_memory(), "summary": summary}
    return {"where": where(backend), "results": results}


def by_rate(
    run: RunSpec,
    store: Store,
    backend: Backend,
    start: Checkpoint,
    images: Cutouts,
    validation: Labelled,
    test: Labelled,
    folder: Path,
) -> tuple[dict, str]:
    """The calibration of a binomial posterior with its dropout rate and with the best one, and a line that says it."""
    trained = run.model.dropout
    rates = [
        {"rate": rate, "log_score": log_score(samples, validation.yes, validation.total)}
        for rate in sorted({*RATES, trained})
        for samples in [samples_at(rate, backend, run, start, images, validation)]
    ]
    chosen = best_rate(rates, trained)

    drawn = pit_uniforms(run.seed, test.hashes)
    truth = true_chances(store, run)
    true_rho = None if truth is None else truth[test.rows]
    samples = {
        rate: samples_at(rate, backend, run, start, images, test) for rate in {trained, chosen}
    }
    measured: dict[str, dict] = {
        name: {"rate": rate} | calibration(samples[rate], test.yes, test.total, drawn, true_rho)
        for name, rate in (("trained", trained), ("chosen", chosen))
    }
    scores = [log_scores(samples[rate], test.yes, test.total) for rate in (trained, chosen)]
    measured["gain"] = gain(*scores)

    rho = samples[trained]
    found = Samples(test.rows, np.stack([1 - rho, rho], -1), None)
    honest = honesty(run, found, test, None)
    write_csv(folder / "calibration.csv", pd.DataFrame(rates))
    scanned = {"galaxies": len(validation.rows), "rates": rates}
    summary = f"{sentence(run, honest, 'test')}; {summary_of(measured)}"
    return {"honesty": honest, "validation": scanned, **measured}, summary


def held_out(
    run: RunSpec, store: Store, hashes: np.ndarray, learned: np.ndarray | None
) -> tuple[Labelled, Labelled]:
    """Validation galaxies, FEW at most, and test galaxies that were not `learned` from, as far as that is known."""
    parts = labelled_parts(run, store, hashes)
    seen = np.zeros(len(hashes), bool) if learned is None else learned
    found = {name: part.take(np.flatnonzero(~seen[part.rows])) for name, part in parts.items()}
    for name in ("validation", "test"):
        if not len(found[name].rows):
            raise ValueError(
                f"there is no {name} galaxy with votes that {run.weights} was not trained with; "
                f"raise split.{name} or lower minimum_votes"
            )
    validation = found["validation"]
    order = np.argsort(galaxy_hash(store.galaxies["id"].iloc[validation.rows], "few of valid"))
    return validation.take(np.sort(order[:FEW])), found["test"]


def samples_at(
    rate: float, backend: Backend, run: RunSpec, start: Checkpoint, images: Cutouts, part: Labelled
) -> np.ndarray:
    """rho (galaxy, sample) of `part` when the network of `start` drops units at another `rate`."""
    run = replace(run, model=replace(run.model, dropout=rate))
    state: Any = backend.init(run, start)
    count = run.posterior.samples
    return sample_galaxies(backend, run, state, images, part.rows, part.hashes, count)
