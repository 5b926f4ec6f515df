"""The likelihood of volunteers' votes, given a network's logits, one for each answer."""

import tensorflow as tf
from tensorflow.math import log_sigmoid
from tensorflow.nn import log_softmax, relu

from shared.method.likelihood import MOST, Likelihood

LARGE = 60.0  # ln of a concentration beside which a vote is nothing
TINY = 1e-37  # stands for a concentration that is too small for float32


def votes_nll(likelihood: Likelihood, logits, votes, ranks):
    """Minus the log-likelihood of votes (galaxy, answer) in nats (galaxy,), summed over questions.

    `logits` are (galaxy, answer), `ranks` (rank,) 0, 1, ... up to the most votes of an answer, or beyond. Multinomial
    coefficients are left out: they do not depend on the network. A galaxy that was not asked adds exactly 0.
    """
    total = 0.0
    for at in likelihood.slices:
        if likelihood.name == "binomial":
            total += binomial(logits[:, at], votes[:, at])
        elif likelihood.name == "multinomial":
            total += multinomial(logits[:, at], votes[:, at])
        else:
            logs = log_concentrations(likelihood, logits[:, at])
            total += dirichlet_multinomial(logs, votes[:, at], ranks)
    return total


def binomial(logits, votes):
    """-ln of rho^k (1 - rho)^(N - k), per galaxy (W+20, equation 2, without the binomial coefficient)."""
    logit = logits[:, 1] - logits[:, 0]
    return -votes[:, 1] * log_sigmoid(logit) - votes[:, 0] * log_sigmoid(-logit)


def multinomial(logits, votes):
    """-ln of the product of p^k over the answers of a question, per galaxy; p is the softmax of the logits."""
    return -tf.reduce_sum(votes * log_softmax(logits, -1), -1)


def log_concentrations(likelihood: Likelihood, logits):
    """ln of the concentrations (galaxy, answer): of exp(logits), or of W+22's 1 + 100 sigmoid(logits)."""
    return (
        logits if likelihood.concentrations == "exp" else tf.math.log1p(MOST * tf.sigmoid(logits))
    )


def dirichlet_multinomial(logs, votes, ranks):
    """-ln of the Dirichlet-multinomial probability of a question's votes, per galaxy (W+22, equation 3).

    `logs` (galaxy, answer) are ln of the concentrations a, whose sum is A. Votes are drawn one after the other, as from
    Polya's urn, answer by answer: the vote of rank j for an answer, b votes having gone to the answers before it, has
    the probability (a + j) / (A + b + j). Such ratios keep their digits in float32, where lgamma does not. Large
    concentrations are scaled down, and the votes with them: the ratios stay as they are.
    """
    shift = tf.stop_gradient(relu(tf.reduce_max(logs, -1, keepdims=True) - LARGE))
    vote = tf.exp(-shift)
    alpha = tf.exp(logs - shift)
    before = vote * (tf.cumsum(votes, -1) - votes)
    whole = tf.maximum(tf.reduce_sum(alpha, -1, keepdims=True) + before, TINY)
    first = (
        logs - shift - tf.math.log(whole)
    )  # of rank 0: exact where alpha is too small for a number
    drawn = vote[..., None] * ranks
    later = tf.math.log((tf.maximum(alpha[..., None], TINY) + drawn) / (whole[..., None] + drawn))
    each = tf.where(ranks == 0, first[..., None], later)
    return -tf.reduce_sum(tf.where(ranks < votes[..., None], each, tf.zeros_like(each)), (-2, -1))
