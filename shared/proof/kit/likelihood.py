"""Check 4: the likelihoods of votes."""

import numpy as np

from shared.method.likelihood import YES_OR_NO, Likelihood
from shared.proof.kit.arrays import Array, Arrays, close, given
from shared.proof.kit.fixtures import Fixtures
from shared.proof.likelihood import FORMS, TWO, votes_nll, votes_nll_gradient

DRAWN, CASES = 2000, 60  # of which those that rounding does not decide are kept, so many of them
APART = 0.25  # a gradient is the difference of two terms: its least share of the first
LEAST = 0.05  # nats per vote
EXTREME = (-12, -5, -1, 0, 2, 4, 6)
LIFTS = (0, 0, 8)  # of all logits: with the last, single precision has no use for lgamma


def likelihood(fixtures: Fixtures) -> Arrays:
    """-ln L before any reduction: of the binomial, then of two questions, with gradients."""
    return {**_binomial(), **_two_questions(fixtures)}


def _binomial() -> Arrays:
    """Ordinary and extreme votes and logits."""
    votes = np.array([(0, 0), (0, 40), (40, 40), (1, 40), (13, 40), (1, 1)], np.float64)
    logits = np.array([-700, -50, -20, -1, 0, 1e-6, 0.7, 20, 50, 700])
    logit, (yes, total) = np.repeat(logits, len(votes)), np.tile(votes.T, len(logits))
    nll = votes_nll(
        YES_OR_NO, np.stack([np.zeros_like(logit), logit], -1), np.stack([total - yes, yes], -1)
    )
    return {
        "in/logits": given(logit, "case", "logits"),
        "in/yes": given(yes, "case", "k, yes votes"),
        "in/total": given(total, "case", "N, votes"),
        "out/nll": _close(nll, "case", "-ln L in nats"),
    }


def _two_questions(fixtures: Fixtures) -> Arrays:
    logits, votes = _cases(fixtures.random(4))
    question = np.repeat(np.arange(len(TWO.slices)), [at.stop - at.start for at in TWO.slices])
    result = {
        "in/tree/logits": given(logits, "case, answer", "logits"),
        "in/tree/votes": given(votes, "case, answer", "k, votes for each answer"),
        "in/tree/question": given(question, "answer", "the question that it answers"),
    }
    for name, form in FORMS.items():
        nll, slope = _expected(form, logits, votes)
        result[f"out/{name}/nll"] = _close(nll, "case", "-ln L in nats, of both questions")
        result[f"out/{name}/slope"] = _close(slope, "case, answer", "its gradient, by each logit")
    return result


def _close(values: np.ndarray, axes: str, what: str) -> Array:
    return close(values, axes, what)._replace(rule="each")


def _expected(form: Likelihood, logits: np.ndarray, votes: np.ndarray) -> tuple[np.ndarray, ...]:
    """-ln L (case,) and its gradient (case, answer)."""
    logits, votes = logits.astype(np.float64), votes.astype(np.float64)
    return votes_nll(form, logits, votes), votes_nll_gradient(form, logits, votes)


def _cases(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 and votes (case, answer), usual and extreme; some questions were not asked, in case 0 none was."""
    shape = (DRAWN, TWO.slices[-1].stop)
    usual = random.random((DRAWN, 1)) < 0.5
    logits = np.where(usual, random.normal(0, 1.5, shape), random.choice(EXTREME, shape))
    logits = (logits + random.choice(LIFTS, (DRAWN, 1))).astype(np.float32)
    votes = np.concatenate([_votes(random, at.stop - at.start) for at in TWO.slices], -1)
    votes[0] = 0
    kept = np.all([_decided(form, logits, votes) for form in FORMS.values()], 0)
    return logits[kept][:CASES], votes[kept][:CASES]


def _votes(random: np.random.Generator, answers: int) -> np.ndarray:
    """Votes (case, answer) of one question, which one galaxy in five was not asked."""
    total = np.where(random.random(DRAWN) < 0.2, 0, random.integers(1, 41, DRAWN))
    return random.multinomial(total, random.dirichlet(np.ones(answers), DRAWN))


def _decided(form: Likelihood, logits: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """In which cases -ln L, and every number of its gradient, keeps its digits (case,).

    A number of the gradient is the expected pull less that of the answer's own votes: the first is the gradient where
    those votes are another answer's.
    """
    nll, slope = _expected(form, logits, votes)
    decided = nll >= LEAST * votes.sum(-1)
    for at in form.slices:
        for answer in range(at.start, at.stop):
            other = votes.copy()
            other[:, answer + 1 if answer + 1 < at.stop else at.start] += other[:, answer]
            other[:, answer] = 0
            expected = _expected(form, logits, other)[1][:, answer]
            decided &= np.abs(slope[:, answer]) >= APART * expected
    return decided
