"""Does choosing galaxies pay? Every acquisition beside random galaxies, on the features of a frozen encoder.

    python -m benchmarks.pairs outputs/pairs reports/records/pairs.json

does the experiment that docs/labels_saved.md declares: every arm on every question with every seed, all questions of a
seed before the next seed, in this process. Each leaves a file below the first folder and is not done again, so what was
stopped goes on; then all that is there is gathered into the second file. Part of it: questions=smooth,bar
arms=random,laplace_power seeds=4 (the first four) or seeds=0:8,1000:1004. Processes of other seeds may share the work.
A further acquisition is a file of shared/method/acquisition and a row of ARMS; a further question is a file of
conf/experiment and a row of QUESTIONS.

What is run is the product's own: how galaxies are chosen, last layers and their posterior, LURE's weights, scores. An
arm differs from random galaxies in nothing but what it labels: the network that is judged is fitted alike.
"""

import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from conf.compose import compose
from shared.data.prepare import prepare
from shared.data.store import Store
from shared.method.active import join
from shared.method.backend import Backend
from shared.method.batches import Labelled
from shared.method.composition import near_duplicates
from shared.method.ensemble import open_networks
from shared.method.feature_store import frozen_features
from shared.method.features import Features
from shared.method.laplace import draw, laplace
from shared.method.laplace_sampling import LastLayers, WithLaplace
from shared.method.last_layer import refit
from shared.method.likelihood import likelihood_of
from shared.method.lure import lure_weights
from shared.method.metrics import log_score, rmse, truth_rmse
from shared.method.pool import Chosen, Galaxies, asked_composition, choose
from shared.method.start import start_of
from shared.method.training import calls, fingerprint
from shared.method.trees import one_question, sample, together
from shared.network.weights import Checkpoint, first_checkpoint
from shared.run.errors import complain
from shared.run.progress import say, span
from shared.run.records import host, make_folder, read_json, write_json
from shared.run.spec import RunSpec, digest, from_config, to_config
from shared.tasks.active import partition
from shared.tasks.galaxies import cutouts
from shared.tasks.results import where

SEEDS = 32
SYNTHETIC = (64, 128, 256, 512, 1280)
REAL = (55, 110, 220, 440, 1100)
BASELINE = "random"


class Question(NamedTuple):
    """A question, and after how many labels the learner is judged; the last number is of random galaxies alone."""

    experiment: str  # a file of conf/experiment
    labels: tuple[int, ...]


class Arm(NamedTuple):
    """A way to choose galaxies."""

    words: tuple[str, ...]  # of the run that chooses, beside its question's
    own: bool = False  # a head of its own, trained by steps, chooses; else the learner
    weighted: bool = False  # galaxies count in the learner by their weights of LURE


QUESTIONS = {
    "smooth": Question("pairs", SYNTHETIC),
    "bar": Question("pairs_bar", SYNTHETIC),
    "strong_bar": Question("pairs_strong_bar", SYNTHETIC),
    "sdss_edge_on": Question("pairs_sdss_edge_on", REAL),
    "sdss_spiral": Question("pairs_sdss_spiral", REAL),
}
BINOMIAL_DROPOUT = (
    *("likelihood=binomial", "posterior=dropout", "model.dropout=0.5"),
    "acquisition.samples=15",
)
ARMS = {
    BASELINE: Arm(("acquisition=random",)),
    "published": Arm(("acquisition=mutual_information", *BINOMIAL_DROPOUT), own=True),
    "laplace_top": Arm(("acquisition=mutual_information",)),
    "laplace_power": Arm(("acquisition=power",)),
    "laplace_mixture": Arm(("acquisition=mixture",)),
    "laplace_power_lure": Arm(("acquisition=power",), weighted=True),
}
RUN = {
    "problem": str,
    "about": {str: str},
    "acquisition": str,
    "seed": int,
    "seconds": float,
    "labelled": [int],
    "measures": {str: [float]},
    "asked": {str: [(float, None)]},
}
ASKED = ("galaxies", "fraction", "artifacts", "near_duplicates", "foretold")  # of each round


class Place(NamedTuple):
    """Where the runs of a question happen; `runs` are of each arm, that which chooses."""

    question: str
    labels: tuple[int, ...]
    runs: dict[str, RunSpec]
    store: Store
    backend: Backend
    start: Checkpoint  # at the encoder's weights
    state: Any  # the network there, below whose units nothing is trained
    features: Features


class Seed(NamedTuple):
    """The galaxies of a seed, with the states and choices that its arms share."""

    number: int
    galaxies: Galaxies
    choices: dict[tuple, Chosen]  # by what chose, from whom
    layers: dict[
        str, Backend
    ]  # what samples the learner's posterior, by the galaxies that it was fitted to


def main(words: list[str]) -> int:
    """Do what `words` ask for; 2 if it is refused."""
    try:
        outputs, record = Path(words[0]), Path(words[1])
        given = dict(word.split("=", 1) for word in words[2:])
        questions = chosen_rows("questions", given, QUESTIONS)
        arms = chosen_rows("arms", given, ARMS)
        parts = given.pop("seeds", str(SEEDS)).split(",")
        seeds = [seed for part in parts for seed in range(*map(int, part.split(":")))]
        more = [f"{key}={value}" for key, value in given.items()]
        files, settings = everything(outputs, questions, arms, seeds, more)
        write_json(record, gathered(files, settings))
        print(len(files), "runs in", record)
    except (ValueError, OSError) as error:
        return complain(error)
    except IndexError:
        print(__doc__)
        return 2
    return 0


def chosen_rows(name: str, given: dict[str, str], rows: dict[str, Any]) -> list[str]:
    """The rows of a table that the word `name` asks for, or all; ValueError for one that it has not."""
    asked = given.pop(name, ",".join(rows)).split(",")
    if strange := [one for one in asked if one not in rows]:
        raise ValueError(f"{name} has {strange[0]!r}; choose from {', '.join(rows)}")
    return asked


def everything(
    outputs: Path, questions: list[str], arms: list[str], seeds: Iterable[int], more: list[str]
) -> tuple[list[Path], dict[str, dict]]:
    """The file of each of `arms` on each of `questions` with each of `seeds`, made unless it is there; and settings."""
    places: dict[str, Place] = {}
    found: list[Path] = []
    for seed in seeds:
        for question in questions:
            if question not in places:
                places[question] = open_place(question, arms, more)
            place, begun = places[question], time.perf_counter()
            files = {arm: file_of(outputs, place, arm, seed) for arm in arms}
            found += files.values()
            missing = [arm for arm, file in files.items() if not file.exists()]
            if not missing:
                continue
            galaxies = begin(place, seed)
            for arm in missing:
                make_folder(files[arm].parent)
                write_json(files[arm], course(place, arm, galaxies))
            say(f"seed {seed}, {question}: {span(time.perf_counter() - begun)}")
    settings = {
        question: {
            "run": to_config(place.runs[BASELINE]),
            "host": host(),
            "where": where(place.backend),
        }
        for question, place in places.items()
    }
    return found, settings


def gathered(files: list[Path], settings: dict[str, dict]) -> dict:
    """What all runs in `files` came to, as the record keeps it."""
    runs = [read_json(file, RUN, "remove it, and do it again") for file in files]
    return {"runs": [rounded(run) for run in runs], "settings": settings}


def open_place(question: str, arms: Iterable[str], more: list[str]) -> Place:
    """Where the runs of `question` happen; features are computed once, and kept beside the store."""
    experiment, labels = QUESTIONS[question]
    runs = {
        arm: from_config(
            RunSpec,
            compose(["task=active", f"experiment={experiment}", *ARMS[arm].words, *more]),
        )
        for arm in {BASELINE, *arms}
    }
    run = runs[BASELINE]
    store, backend, start = prepare(run.dataset), open_networks(run), start_of(run)
    images = cutouts(run, store)
    features, _ = frozen_features(backend, run, start, images, store.folder, np.arange(len(images)))
    state = backend.init(run, start)
    return Place(question, labels, runs, store, backend, start, state, features)


def file_of(outputs: Path, place: Place, arm: str, seed: int) -> Path:
    """The file of an arm's run with `seed`, named by all that decides it."""
    configs = [to_config(place.runs[name]) for name in (BASELINE, arm)]
    made_of = digest([configs, place.labels, ARMS[arm], place.features.contents], 8)
    return outputs / "pairs" / f"{place.question}-{arm}-{made_of}" / f"{seed}.json"


def begin(place: Place, seed: int) -> Seed:
    """The galaxies of `seed`, of which some random ones are labelled, so that every arm begins alike."""
    run = replace(place.runs[BASELINE], seed=seed)
    first, *_, last = place.labels
    schedule = replace(run.acquisition, initial=first, rounds=1, per_round=last - first)
    run = replace(run, acquisition=schedule)
    with tempfile.TemporaryDirectory() as folder:
        galaxies, _ = partition(run, place.store, Path(folder))
    return Seed(seed, galaxies, {}, {})


def course(place: Place, arm: str, seed: Seed) -> dict:
    """What an arm's run came to: the learner's measures after each number of labels, and what was asked about."""
    begun, galaxies = time.perf_counter(), seed.galaxies
    labels = place.labels if arm == BASELINE else place.labels[:-1]
    drawn = Drawn(
        galaxies.labelled.rows,
        1 / (len(galaxies.labelled.rows) + len(galaxies.pool.rows) - np.arange(labels[0])),
    )
    measures, asked = [], []
    for number, following in enumerate([*labels[1:], None]):
        importance = drawn.importance(galaxies) if ARMS[arm].weighted else None
        learner = learned(place, seed, galaxies.labelled, importance)
        measures.append(tested(place, seed, learner))
        if following is None:
            break
        chosen = chosen_by(place, arm, seed, galaxies, number, following)
        asked.append(told(place, arm, galaxies, chosen))
        drawn = drawn.and_then(chosen)
        left = ~np.isin(galaxies.pool.rows, chosen.galaxies.rows)
        galaxies = galaxies._replace(
            labelled=join(galaxies.labelled, chosen.galaxies), pool=galaxies.pool.take(left)
        )
    run = place.runs[BASELINE]
    return {
        "problem": place.question,
        "about": {
            "dataset": run.dataset.name,
            "question": place.question,
            "backend": run.backend.name,
        },
        "acquisition": arm,
        "seed": seed.number,
        "seconds": time.perf_counter() - begun,
        "labelled": list(labels),
        "measures": {name: [one[name] for one in measures] for name in measures[0]},
        "asked": {name: [one[name] for one in asked] for name in ASKED},
        "coverage": None,
        "pool": {},
    }


class Drawn(NamedTuple):
    """Galaxies in the order in which they were labelled, each with its chance of being drawn at its turn."""

    rows: np.ndarray
    probabilities: np.ndarray

    def and_then(self, chosen: Chosen) -> "Drawn":
        """With those of a round more."""
        more = chosen.galaxies.rows, chosen.choice.probabilities
        return Drawn(*map(np.concatenate, zip(self, more, strict=True)))

    def importance(self, galaxies: Galaxies) -> np.ndarray:
        """LURE's weights of the labelled `galaxies`, in their order."""
        everyone = len(galaxies.labelled.rows) + len(galaxies.pool.rows)
        weights = lure_weights(self.probabilities, everyone)
        return weights[np.argsort(self.rows)]


def learned(place: Place, seed: Seed, labelled: Labelled, importance: np.ndarray | None) -> Backend:
    """What samples the posterior of a last layer that is fitted to those `labelled`, which count by `importance`."""
    run = place.runs[BASELINE]
    name = digest([fingerprint(labelled), None if importance is None else importance.tolist()], 16)
    if name not in seed.layers:
        likelihood, units = likelihood_of(run), place.features[labelled.rows]
        first = first_checkpoint(run.model, seed.number).weights
        given = likelihood, units, labelled.votes
        mode = refit(*given, first["answer/kernel"], first["answer/bias"], importance=importance)
        posterior = laplace(*given, mode.kernel, mode.bias, mode.priors, importance)
        count = max(run.posterior.samples, run.acquisition.samples)
        drawn = draw(posterior, count, seed.number).astype(np.float32)
        seed.layers[name] = WithLaplace(place.backend, LastLayers((drawn,), {}))
    return seed.layers[name]


def tested(place: Place, seed: Seed, learner: Backend) -> dict[str, float]:
    """Measures of test galaxies under the `learner`."""
    run, test = place.runs[BASELINE], seed.galaxies.test
    given = (
        learner,
        run,
        place.state,
        place.features,
        test.rows,
        test.hashes,
        run.posterior.samples,
    )
    rho, own = one_question(run, together(list(sample(*given))))
    votes, truth = (test.yes, test.total), seed.galaxies.truth.fractions
    found = {
        "log_score": log_score(rho, *votes, own),
        "rmse": rmse(rho, *votes),
    }
    return found if truth is None else found | {"truth_rmse": truth_rmse(rho, truth[test.rows])}


def chosen_by(
    place: Place, arm: str, seed: Seed, galaxies: Galaxies, number: int, following: int
) -> Chosen:
    """What an arm labels next, for `following` labels in all. Arms that choose alike, from the same, choose once."""
    run = replace(place.runs[arm], seed=seed.number)
    many = following - len(galaxies.labelled.rows)
    run = replace(run, acquisition=replace(run.acquisition, per_round=many))
    name = (ARMS[arm].words, fingerprint(galaxies.labelled), many)
    if name not in seed.choices:
        if ARMS[arm].own:
            sampler, state = place.backend, trained(place, run, galaxies.labelled)
        else:
            sampler, state = learned(place, seed, galaxies.labelled, None), place.state
        seed.choices[name] = choose(sampler, run, state, place.features, galaxies, number)
    return seed.choices[name]


def trained(place: Place, run: RunSpec, labelled: Labelled) -> Any:
    """The state of a head that begins at the seed's own weights and is trained by the run's steps."""
    head = first_checkpoint(run.model, run.seed)
    own = {name: array for name, array in head.weights.items() if name.startswith("answer/")}
    start = place.start._replace(weights=place.start.weights | own)
    state = place.backend.init(run, start)
    for call in calls(
        place.backend, run, state, place.features, labelled, 0, 0, run.training.steps
    ):
        state = call.state
    return state


def told(place: Place, arm: str, galaxies: Galaxies, chosen: Chosen) -> dict:
    """What a record says of a round's galaxies, in few numbers."""
    rows, spec = chosen.galaxies.rows, place.runs[arm].acquisition
    duplicates = near_duplicates(place.features[rows], place.features[galaxies.labelled.rows])
    found = asked_composition(
        spec,
        galaxies.truth,
        chosen.galaxies,
        chosen.samples,
        chosen.choice.scores,
        duplicates,
        chosen.foretold,
    )
    return {
        "galaxies": found["galaxies"],
        "fraction": found["fractions"]["mean"],
        "artifacts": found["artifacts"],
        "near_duplicates": found["near_duplicates"],
        "foretold": found["foretold"] and found["foretold"]["spearman"]["log_score"],
    }


def rounded(value: Any) -> Any:
    """`value`, nested plain data, with six digits of each number."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
