"""`trizoo calibrate`: say whether a fit's posterior is honest, and mend what can be mended without training anew."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.data.prepare import prepare as prepare_store
from shared.data.store import Store, sha256
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
from shared.method.coverage import coverage_of
from shared.method.ensemble import open_networks
from shared.method.honesty import honesty, sentence
from shared.method.laplace_sampling import load_layers, with_posterior
from shared.method.likelihood import likelihood_of
from shared.method.metrics import log_score, log_scores
from shared.method.recalibration import (
    FILE,
    Recalibration,
    fit_recalibration,
    plain,
    recalibrated,
    save_recalibration,
)
from shared.method.sampling import sample_galaxies
from shared.method.tree_metrics import pit_uniforms as tree_uniforms
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
    """The task: whether a fit's posterior is honest, by its test galaxies, and what validation galaxies mend of it.

    That is a scale of concentrations for each question and conformal intervals, for predict's posterior.calibration; of
    a binomial posterior by dropout, the best dropout rate at prediction too (as Guo et al. 2017 choose a temperature).
    Weights stay as they are. Raises ValueError if there are no such galaxies with votes.
    """
    path, start = fitted(run)
    store, likelihood = prepare_store(run.dataset), likelihood_of(run)
    hashes = galaxy_hash(store.galaxies["id"])
    learned = learned_from(path, hashes)
    validation, test = held_out(run, store, hashes, learned)
    networks, images = open_networks(run), cutouts(run, store)
    state = networks.init(run, start)
    backend = with_posterior(networks, run, state, load_layers(path, run))

    def samples_of(part: Labelled) -> Samples:
        of_part = (backend, run, state, images, part.rows, part.hashes, run.posterior.samples)
        if likelihood.name == "binomial":  # rounded as a fit rounds it
            rho = sample_galaxies(*of_part)
            return Samples(part.rows, np.stack([1 - rho, rho], -1), None)
        return together(list(sample(*of_part)))

    known, found = samples_of(validation), samples_of(test)
    mended = fit_recalibration(likelihood, known, validation)
    save_recalibration(folder / FILE, run, sha256(path), mended)
    after = recalibrated(likelihood, found, mended)
    honest = honesty(run, found, test, None)
    results = {
        "store": str(store.folder),
        "weights": str(path),
        "trained_with_known": learned is not None,
        "samples": run.posterior.samples,
        "honesty": honest,
        "recalibration": plain(mended),
        "coverage": {
            "as_fitted": measured(run, store, found, test, None),
            "recalibrated": measured(run, store, after, test, mended),
        },
    }
    words = [
        sentence(run, honest, "test"),
        recalibration_words(run, mended, results["coverage"]),
    ]
    if likelihood.name == "binomial" and run.posterior.method == "dropout":
        rho = (known.fractions[..., 1], found.fractions[..., 1])
        scan, said = by_rate(run, store, networks, start, images, validation, test, *rho, folder)
        results |= scan
        words.append(said)
    else:
        results["test"] = trees.measure(run, store, test, found)
    write_json(folder / "calibration.json", results)
    results |= {"peak_memory_bytes": backend.peak_memory(), "summary": "; ".join(words)}
    return {"where": where(backend), "results": results}


def measured(
    run: RunSpec, store: Store, samples: Samples, part: Labelled, mended: Recalibration | None
) -> dict[str, dict]:
    """By question, how often votes and truth of the galaxies of `part` lie where `samples` say."""
    return coverage_of(
        likelihood_of(run),
        samples,
        part,
        tree_uniforms(run.seed, part.hashes, part.votes.shape[1]),
        trees.true_fractions(run, store, part.rows),
        mended,
    )


def recalibration_words(run: RunSpec, mended: Recalibration, told: dict[str, dict]) -> str:
    """What is `mended` of the run's own question, and what that was `told` to change, in few words."""
    name = run.question
    before, after = (told[side][name] for side in ("as_fitted", "recalibrated"))
    scale = mended[name].scale
    if likelihood_of(run).name == "dirichlet_multinomial":
        scatter = f"concentrations x {scale:.3g}"
    elif scale is None:
        scatter = "votes scatter no more than independent ones"
    else:
        scatter = (
            f"votes scatter as with a concentration of {scale:.3g}, for which the likelihood has no term: use "
            "likelihood=dirichlet_multinomial"
        )
    if not before["galaxies"]:
        return f"recalibrated: {scatter}"
    held = f"conformal 90 % intervals hold {100 * after['conformal']:.0f} %"
    return f"recalibrated: {scatter}; NLL {before['nll']:.3f} -> {after['nll']:.3f} nats; {held}"


def by_rate(
    run: RunSpec,
    store: Store,
    backend: Backend,
    start: Checkpoint,
    images: Cutouts,
    validation: Labelled,
    test: Labelled,
    known: np.ndarray,
    found: np.ndarray,
    folder: Path,
) -> tuple[dict, str]:
    """The calibration of a binomial posterior with its dropout rate and with the best one, and a line that says it.

    rho (galaxy, sample) at the rate of training is `known` of validation galaxies and `found` of test galaxies.
    """
    trained = run.model.dropout

    def rho_at(rate: float, part: Labelled, own: np.ndarray) -> np.ndarray:
        return own if rate == trained else samples_at(rate, backend, run, start, images, part)

    rates = [
        {"rate": rate, "log_score": log_score(samples, validation.yes, validation.total)}
        for rate in sorted({*RATES, trained})
        for samples in [rho_at(rate, validation, known)]
    ]
    chosen = best_rate(rates, trained)

    drawn = pit_uniforms(run.seed, test.hashes)
    truth = true_chances(store, run)
    true_rho = None if truth is None else truth[test.rows]
    samples = {rate: rho_at(rate, test, found) for rate in {trained, chosen}}
    told: dict[str, dict] = {
        name: {"rate": rate} | calibration(samples[rate], test.yes, test.total, drawn, true_rho)
        for name, rate in (("trained", trained), ("chosen", chosen))
    }
    scores = [log_scores(samples[rate], test.yes, test.total) for rate in (trained, chosen)]
    told["gain"] = gain(*scores)
    write_csv(folder / "calibration.csv", pd.DataFrame(rates))
    scanned = {"galaxies": len(validation.rows), "rates": rates}
    return {"validation": scanned, **told}, summary_of(told)


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
