"""What a network's outputs say about volunteers' votes: which answers they are of, and the fractions they expect.

A network has one output for each answer that is learned, all questions in a row; they are called logits (..., answer).
Votes are (galaxy, answer) on the same axis. The likelihoods themselves are in `impl_*/likelihood.py`, and in
`shared.proof.likelihood` as their specification.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, log_softmax

from shared.data.schema import slices
from shared.run.questions import Leads, Questions
from shared.run.spec import RunSpec

MOST = 100.0  # a concentration of W+22's sigmoid is between 1 and 1 + MOST
LEAST = 1e-30  # of a concentration that float32 would make 0


class Likelihood(NamedTuple):
    """How votes are drawn, and what each output counts."""

    name: str  # binomial | multinomial | dirichlet_multinomial
    concentrations: str  # exp | sigmoid, of a dirichlet_multinomial
    questions: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]  # and the answers of each output

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where on the axis of answers those of each question are."""
        return tuple(slices(dict(self.questions)).values())


YES_OR_NO = Likelihood("binomial", "exp", (("", (("no",), ("yes",))),))


def likelihood_of(run: RunSpec) -> Likelihood:
    """That of a run."""
    return Likelihood(run.likelihood.name, run.likelihood.concentrations, run.asked)


def learned_questions(run: RunSpec) -> tuple[Questions, Leads]:
    """The questions that the run learns, with the answers that its outputs count, and what leads to them.

    Where what leads to a question is not learned with it, it is taken as asked of everybody.
    """
    questions = {
        question: tuple("_or_".join(answers) for answers in outputs)
        for question, outputs in run.asked
    }
    if run.questions is None:
        return questions, {}
    leads = run.dataset.leads
    return questions, {
        name: leads[name] for name in leads if {name, *leads[name]} <= set(questions)
    }


def fractions(likelihood: Likelihood, logits: np.ndarray) -> np.ndarray:
    """The vote fractions that are expected, float64 (..., answer), of logits (..., answer): 1 for each question."""
    logits = np.asarray(logits, np.float64)
    if likelihood.name != "dirichlet_multinomial" or likelihood.concentrations == "exp":
        return np.concatenate(
            [np.exp(log_softmax(logits[..., at], -1)) for at in likelihood.slices], -1
        )
    alpha = 1 + MOST * expit(logits)
    return np.concatenate(
        [alpha[..., at] / alpha[..., at].sum(-1, keepdims=True) for at in likelihood.slices], -1
    )


def concentrations(likelihood: Likelihood, logits: np.ndarray) -> np.ndarray | None:
    """The sum of each question's concentrations, float64 (..., question); None, for infinite, of independent votes."""
    if likelihood.name != "dirichlet_multinomial":
        return None
    logits = np.asarray(logits, np.float64)
    alpha = np.exp(logits) if likelihood.concentrations == "exp" else 1 + MOST * expit(logits)
    return np.stack([alpha[..., at].sum(-1) for at in likelihood.slices], -1)


def positive_fraction(run: RunSpec, logits: np.ndarray) -> np.ndarray:
    """rho float64 (...), the fraction of the run's positive answers to its question, of logits (..., answer).

    In float32 a logit of 17 would make it 1, by which a single other vote would be impossible.
    """
    likelihood, logits = likelihood_of(run), np.asarray(logits, np.float64)
    if likelihood.name == "binomial":
        return expit(logits[..., 1] - logits[..., 0])
    return positive_share(run, fractions(likelihood, logits))


def positive_share(run: RunSpec, shares: np.ndarray) -> np.ndarray:
    """float64 (...), what the run's positive answers to its question have of all its `shares` (..., answer).

    Of both sums, so that what is left to the others is right too where they are next to nothing.
    """
    outputs = [(question, answers) for question, outputs in run.asked for answers in outputs]
    own = np.array([question == run.question for question, _ in outputs])
    positive = np.array([set(answers) <= set(run.positive) for _, answers in outputs])
    yes, no = (
        np.asarray(shares)[..., own & counted].sum(-1, dtype=np.float64)
        for counted in (positive, ~positive)
    )
    return np.where(yes > no, 1 - no / (yes + no), yes / (yes + no))


def ranks(likelihood: Likelihood, votes: np.ndarray) -> np.ndarray:
    """float32 0, 1, ... to the most votes of an answer in `votes`, or beyond: a power of two of them, to change seldom.

    One is enough for a likelihood that does not need them.
    """
    most = (
        max(int(np.max(votes, initial=0)), 1) if likelihood.name == "dirichlet_multinomial" else 1
    )
    return np.arange(1 << (most - 1).bit_length(), dtype=np.float32)
