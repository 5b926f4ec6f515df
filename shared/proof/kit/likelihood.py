"""Check 4: the likelihood of votes."""

import numpy as np

from shared.method.likelihood import YES_OR_NO
from shared.proof.kit.arrays import Arrays, close, given
from shared.proof.kit.fixtures import Fixtures
from shared.proof.likelihood import votes_nll


def likelihood(_: Fixtures) -> Arrays:
    """-ln L before any reduction, of ordinary and extreme votes and logits."""
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
        "out/nll": close(nll, "case", "-ln L in nats")._replace(rule="each"),
    }
