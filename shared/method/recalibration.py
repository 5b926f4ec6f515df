"""What validation galaxies mend of a posterior afterwards: how far votes scatter, and intervals that keep their word.

One half of the galaxies gives each question a scale of its concentrations (`shared.method.concentration_scale`), the
other half, which that was not fitted to, each answer a threshold of conformal intervals (`shared.method.conformal`) of
LEVEL. `calibrate` fits them and leaves them in a file of its folder; `predict` applies them to other galaxies.

The guarantee of the intervals, that they hold the votes of at least LEVEL of all galaxies alike, is of galaxies that
nothing else was fitted to. Validation galaxies that chose when training ended, or the last layers of a Laplace
approximation, were: a few numbers by many galaxies, of which little is to be feared, but for these the guarantee is no
theorem. Test galaxies tell.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shared.method import conformal
from shared.method.batches import Labelled
from shared.method.beta import LARGEST
from shared.method.concentration_scale import best_scale
from shared.method.likelihood import Likelihood, likelihood_of
from shared.method.mixture import count_chances
from shared.method.tree_metrics import alike
from shared.method.trees import Samples
from shared.run.records import read_json, write_json
from shared.run.spec import RunSpec

FILE = "recalibration.json"
LEVEL = 0.9  # of conformal intervals
ENOUGH = 20  # galaxies with votes on a question, without which it keeps its scale
MIDDLE = 0.5  # of a count's step: intervals without chance
SHAPE = {
    "weights_sha256": str,
    "method": str,
    "likelihood": [str],
    "level": float,
    "questions": {
        str: {
            "scale": (float, None),
            "scaled_by": int,
            "thresholds": [float],
            "galaxies": int,
        }
    },
}


class Question(NamedTuple):
    """What is mended of one question."""

    scale: float | None  # of its concentrations; None: votes stay independent
    scaled_by: int  # galaxies
    thresholds: tuple[float, ...]  # of each answer's conformal intervals
    galaxies: int  # that gave these


Recalibration = dict[str, Question]  # by the names of questions


def fit_recalibration(likelihood: Likelihood, samples: Samples, part: Labelled) -> Recalibration:
    """What the validation galaxies of `part` mend of a posterior, of which `samples` are."""
    order = np.argsort(part.hashes)
    halves = (np.sort(order[::2]), np.sort(order[1::2]))
    found = {}
    for number, ((name, _), at) in enumerate(
        zip(likelihood.questions, likelihood.slices, strict=True)
    ):
        own = None if samples.concentrations is None else samples.concentrations[..., number]
        first, second = (
            rows[part.votes[rows, at].sum(1) > 0] for rows in halves
        )  # of those with votes on it
        scale = 1.0 if own is not None else None
        if len(first) >= ENOUGH:
            before = None if own is None else own[first]
            best = best_scale(samples.fractions[first][..., at], before, part.votes[first, at])
            scale = best if np.isfinite(best) else None
        mended = scaled(samples.fractions, own, scale)
        each = count_scores(
            samples.fractions[second][..., at],
            None if mended is None else mended[second],
            part.votes[second, at],
        )
        thresholds = tuple(conformal.threshold(column, LEVEL) for column in each.T)
        found[name] = Question(scale, len(first), thresholds, len(second))
    return found


def recalibrated(likelihood: Likelihood, samples: Samples, mended: Recalibration) -> Samples:
    """`samples` with the scales of `mended`; of independent votes they get concentrations where any has a scale."""
    scales = [mended[name].scale for name, _ in likelihood.questions]
    if samples.concentrations is None and not any(scales):
        return samples
    own = [
        scaled(
            samples.fractions,
            None if samples.concentrations is None else samples.concentrations[..., number],
            scale,
        )
        for number, scale in enumerate(scales)
    ]
    endless = np.full(samples.fractions.shape[:2], LARGEST)
    parts = [endless if one is None else one for one in own]
    return samples._replace(concentrations=np.stack(parts, -1).astype(np.float32))


def scaled(
    fractions: np.ndarray, concentrations: np.ndarray | None, scale: float | None
) -> np.ndarray | None:
    """The concentrations (galaxy, sample) of votes with a `scale`; of independent ones it is their concentration."""
    if concentrations is not None:
        return np.asarray(concentrations) * scale
    return None if scale is None else np.full(np.shape(fractions)[:2], float(scale))


def count_scores(
    fractions: np.ndarray, concentrations: np.ndarray | None, votes: np.ndarray
) -> np.ndarray:
    """The conformal scores (galaxy, answer) of `votes` (galaxy, answer) on one question, all of them with votes."""
    found = np.empty(votes.shape)
    for rows, answer, chances in chances_by_total(fractions, concentrations, votes.sum(1)):
        found[rows, answer] = conformal.scores(chances, votes[rows, answer], MIDDLE)
    return found


def chances_by_total(
    fractions: np.ndarray, concentrations: np.ndarray | None, total: np.ndarray
) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
    """Of galaxies of as many votes in `total`, their rows, an answer and its counts' chances (galaxy, count)."""
    for rows in alike(total, fractions.shape[1]):
        own = None if concentrations is None else concentrations[rows]
        for answer in range(fractions.shape[-1]):
            yield (
                rows,
                answer,
                count_chances(fractions[rows][..., answer], int(total[rows[0]]), own),
            )


def conformal_intervals(
    likelihood: Likelihood, samples: Samples, mended: Recalibration, total: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last count of the conformal intervals of every answer, both int32 (galaxy, answer).

    Out of `total` (galaxy, question) votes; `samples` are recalibrated already. Of a question without votes 0 to 0.
    """
    low, high = np.zeros((2, len(samples.rows), likelihood.slices[-1].stop), np.int32)
    for number, ((name, _), at) in enumerate(
        zip(likelihood.questions, likelihood.slices, strict=True)
    ):
        own = None if samples.concentrations is None else samples.concentrations[..., number]
        votes, least = total[:, number], mended[name].thresholds
        for rows, answer, chances in chances_by_total(samples.fractions[..., at], own, votes):
            ends = conformal.intervals(chances, votes[rows], MIDDLE, least[answer])
            low[rows, at.start + answer], high[rows, at.start + answer] = ends
    return low, high


def plain(mended: Recalibration) -> dict[str, dict]:
    """`mended` as plain data, as a file and a record keep it."""
    return {
        name: one._asdict() | {"thresholds": list(one.thresholds)} for name, one in mended.items()
    }


def save_recalibration(path: Path, run: RunSpec, weights: str, mended: Recalibration) -> None:
    """Write what is `mended` of the posterior of `run`, whose weights have the SHA-256 `weights`, at `path`."""
    about = {"weights_sha256": weights, "level": LEVEL, "questions": plain(mended)}
    write_json(path, about | _of(run))


def load_recalibration(run: RunSpec, weights: str) -> Recalibration | None:
    """What posterior.calibration names, a run folder of calibrate or its file; None where it names nothing.

    Raises ValueError or FileNotFoundError if there is none, or of another posterior than that of `run`, whose weights
    have the SHA-256 `weights`.
    """
    if run.posterior.calibration is None:
        return None
    path = Path(run.posterior.calibration)
    path = path / FILE if path.is_dir() else path
    fix = "give a finished run folder of calibrate"
    about = read_json(path, SHAPE, fix)
    again = f"run trizoo calibrate weights={run.weights}, or set posterior.calibration=null"
    if about["weights_sha256"] != weights:
        raise ValueError(f"{path} was made of other weights than {run.weights}; {again}")
    for key, wanted in _of(run).items():
        if about[key] != wanted:
            raise ValueError(f"{path} is of the {key} {about[key]}, not {wanted}; {again}")
    likelihood, held = likelihood_of(run), about["questions"]
    for (name, _), at in zip(likelihood.questions, likelihood.slices, strict=True):
        if len(held.get(name, {"thresholds": ()})["thresholds"]) != at.stop - at.start:
            raise ValueError(f"{path} holds no thresholds for all answers to {name}; {again}")
    return {
        name: Question(**one | {"thresholds": tuple(one["thresholds"])})
        for name, one in held.items()
    }


def _of(run: RunSpec) -> dict:
    """Which posterior it is of, beside the weights."""
    return {"method": run.posterior.method, "likelihood": list(likelihood_of(run)[:2])}
