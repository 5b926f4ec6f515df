"""Samples of the posterior by last layers that are drawn once, after training, and kept beside the weights.

Each question has a Gaussian of its weights, by `shared.method.laplace`, about those that training left or about their
mode (`shared.method.last_layer`), and a scale of its concentrations (`shared.method.concentration_scale`): whichever of
these has the lower NLL of validation galaxies. A scale s of concentrations exp(logit) is ln s more in the answers'
biases, where it is kept, so that whatever looks at samples sees it; other concentrations are left as they are.

What is kept are the draws themselves: another machine, whose factors would be rounded otherwise, has the same samples.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from shared.data.store import sha256
from shared.method.backend import Backend
from shared.method.batches import Cutouts, Labelled
from shared.method.concentration_scale import best_scale, scaled
from shared.method.ensemble import SampledOtherwise, without_dropout
from shared.method.laplace import draw, laplace, sample
from shared.method.last_layer import refit
from shared.method.likelihood import Likelihood, concentrations, fractions, likelihood_of
from shared.method.sampling import embed_galaxies
from shared.method.tree_metrics import question_nll
from shared.network.model import model_of
from shared.network.weights import load_arrays, member, merge_members, save_weights
from shared.run.progress import say
from shared.run.spec import RunSpec

LAPLACE = "laplace.safetensors"  # beside the weights
FEW = 2500  # validation galaxies, at most, that choose
ENOUGH = 20  # validation galaxies with votes on a question, without which nothing is chosen by them
FACTS = {"weights_sha256": str, "samples": int, "questions": {str: {"refit": bool, "scale": float}}}


class Question(NamedTuple):
    """The last layers of one question, and how they came about."""

    drawn: tuple[np.ndarray, ...]  # of each member (sample, unit + 1, answer), the bias last
    refit: bool  # about the mode, or else about the trained weights
    scale: float  # of concentrations, which the biases hold
    priors: tuple[float, ...]  # of each member


class LastLayers(NamedTuple):
    """The last layers of a posterior's samples."""

    drawn: tuple[
        np.ndarray, ...
    ]  # of each member float32 (sample, unit + 1, answer), the bias last
    about: dict[str, dict]  # question -> "refit", "scale" and "priors"

    def logits(self, units: np.ndarray, first: int, samples: int) -> np.ndarray:
        """Logits float32 (galaxy, sample, answer) of samples `first` to `first` + `samples` of the members' `units`
        side by side; sample t is of member t mod M's layer t div M.
        """
        members, end = len(self.drawn), first + samples
        own = -(-end // members)
        parts = [
            sample(layers[:own], part)
            for layers, part in zip(self.drawn, np.split(units, members, 1), strict=True)
        ]
        turns = np.stack(parts, 2)  # (galaxy, layer, member, answer)
        return turns.reshape(len(units), own * members, -1)[:, first:end]


class WithLaplace(SampledOtherwise):
    """Networks whose samples are of drawn last layers; `how` is these, LastLayers."""

    def sample(self, state, images, views, keys, first: int, samples: int) -> np.ndarray:
        """Logits (galaxy, sample, answer); all galaxies meet the same samples, whatever their `keys`."""
        return self.how.logits(self.backend.embed(state, images, views), first, samples)


def with_posterior(
    backend: Backend, run: RunSpec, state: Any, layers: LastLayers | None
) -> Backend:
    """`backend`, sampling the networks of `state` as posterior.method says: by Laplace, of the last `layers`."""
    if layers is not None:
        return cast(Backend, WithLaplace(backend, layers))
    if run.posterior.method == "ensemble":
        return without_dropout(backend, run, state)
    return backend


def last_layers(
    backend: Backend,
    run: RunSpec,
    state: Any,
    images: Cutouts,
    train: Labelled,
    validation: Labelled,
    samples: int,
) -> LastLayers:
    """The last layers of `samples` samples, of the network `state` and the galaxies that it was trained with.

    `validation` galaxies, at most FEW of them, choose weights and scale; there may be none.
    """
    likelihood, members = likelihood_of(run), run.training.members
    validation = validation.some(FEW, "laplace")
    weights = backend.export_weights(state)
    networks = [member(weights, number) if members > 1 else weights for number in range(members)]
    known, held_out = (
        np.split(embed_galaxies(backend, run, state, images, part.rows), members, 1)
        if len(part.rows)
        else None
        for part in (train, validation)
    )
    found = {}
    for question, at in zip(likelihood.questions, likelihood.slices, strict=True):
        found[question[0]] = question_layers(
            likelihood._replace(questions=(question,)),
            known,
            train.votes[:, at],
            held_out,
            validation.votes[:, at],
            [(one["answer/kernel"][:, at], one["answer/bias"][at]) for one in networks],
            samples // members,
            run.seed,
        )
    drawn = zip(*(one.drawn for one in found.values()), strict=True)
    return LastLayers(
        tuple(np.concatenate(parts, 2).astype(np.float32) for parts in drawn),
        {
            name: {"refit": one.refit, "scale": one.scale, "priors": list(one.priors)}
            for name, one in found.items()
        },
    )


def question_layers(
    likelihood: Likelihood,
    features: Sequence[np.ndarray],
    votes: np.ndarray,
    held_out: Sequence[np.ndarray] | None,
    held_out_votes: np.ndarray,
    trained: Sequence[tuple[np.ndarray, np.ndarray]],
    samples: int,
    seed: int,
) -> Question:
    """The last layers of a `likelihood` of one question, by its `votes` (galaxy, answer) and those `held_out`.

    `features` (galaxy, unit) and the `trained` kernel and bias are each member's. Without ENOUGH galaxies held out
    there is no scale, and weights are at their mode where there are more galaxies than weights.
    """
    asked = votes.sum(1) > 0
    some, given = [part[asked] for part in features], votes[asked].astype(np.float64)
    judges = held_out_votes.sum(1) > 0
    judged = held_out is not None and judges.sum() >= ENOUGH
    weights = (some[0].shape[1] + 1) * votes.shape[1]
    choices = [_drawn(likelihood, some, given, trained, samples, seed, False)]
    if judged or len(given) > weights:
        try:
            choices.append(_drawn(likelihood, some, given, trained, samples, seed, True))
        except ValueError as error:
            say(f"the last layer of {likelihood.questions[0][0]} is left as trained: {error}")
    if not judged:
        return choices[-1]
    units = [part[judges] for part in held_out or ()]
    scored = [_scaled(likelihood, one, units, held_out_votes[judges]) for one in choices]
    return min(scored, key=lambda pair: pair[1])[0]


def _drawn(
    likelihood: Likelihood,
    features: Sequence[np.ndarray],
    votes: np.ndarray,
    trained: Sequence[tuple[np.ndarray, np.ndarray]],
    samples: int,
    seed: int,
    at_mode: bool,
) -> Question:
    """Last layers about the `trained` weights, or about the mode that is reached from them."""
    drawn, priors = [], []
    for number, (units, (kernel, bias)) in enumerate(zip(features, trained, strict=True)):
        own = None
        if at_mode:
            kernel, bias, own = refit(likelihood, units, votes, kernel, bias)
        found = laplace(likelihood, units, votes, kernel, bias, own)
        drawn.append(draw(found, samples, seed + number))
        priors.append(float(found.questions[0].prior))
    return Question(tuple(drawn), at_mode, 1.0, tuple(priors))


def _scaled(
    likelihood: Likelihood, question: Question, units: Sequence[np.ndarray], votes: np.ndarray
) -> tuple[Question, float]:
    """`question` with the best scale of concentrations for `votes` (galaxy, answer), and their mean NLL with it."""
    logits = np.concatenate(
        [sample(drawn, part) for drawn, part in zip(question.drawn, units, strict=True)], 1
    )
    expected, own = fractions(likelihood, logits), concentrations(likelihood, logits)
    own, scale = None if own is None else own[..., 0], 1.0
    if own is not None and likelihood.concentrations == "exp":
        scale = best_scale(expected, own, votes)
        own = scaled(expected, own, scale)
    drawn = tuple(layers.copy() for layers in question.drawn)
    for layers in drawn:
        layers[:, -1] += np.log(scale)
    score = float(question_nll(expected, own, votes).mean())
    return question._replace(drawn=drawn, scale=scale), score


def save_layers(weights: Path, layers: LastLayers) -> None:
    """Write `layers` beside the file of the `weights` that they are of."""
    arrays = merge_members([{"drawn": drawn} for drawn in layers.drawn])
    about = {
        "weights_sha256": sha256(weights),
        "samples": len(layers.drawn) * len(layers.drawn[0]),
        "questions": layers.about,
    }
    save_weights(weights.parent / LAPLACE, arrays, about)


def load_layers(weights: Path, run: RunSpec) -> LastLayers | None:
    """Those that `save_layers` wrote beside `weights`; None where posterior.method is not of last layers.

    Raises ValueError if there are none, or too few of them, or of other weights.
    """
    if not run.posterior.by_laplace:
        return None
    path, members, method = weights.parent / LAPLACE, run.training.members, run.posterior.method
    again = f"give the folder of a fit with posterior={method}, or posterior=dropout"
    if not path.is_file():
        raise ValueError(f"posterior.method is {method}, but there is no {path}; {again}")
    arrays, about = load_arrays(path, FACTS)
    if about["weights_sha256"] != sha256(weights):
        raise ValueError(f"{path} was made of other weights than {weights}; {again}")
    if run.posterior.samples > about["samples"]:
        raise ValueError(
            f"posterior.samples is {run.posterior.samples}, but {path} holds {about['samples']}; ask for so many at "
            "most, or fit with more"
        )
    wanted = (about["samples"] // members, model_of(run.model).units + 1, run.model.answers)
    names = merge_members([{"drawn": np.zeros(0)}] * members)
    drawn = tuple(arrays[name] for name in names if name in arrays)
    if arrays.keys() != names.keys() or any(layers.shape != wanted for layers in drawn):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{path} holds {shapes}, but {members} of {wanted} are needed; {again}")
    if not all(np.isfinite(layers).all() for layers in drawn):
        raise ValueError(f"{path} holds values that are not finite; {again}")
    return LastLayers(drawn, about["questions"])
