"""Whether the next batch of labels is worth its votes: told, never enforced.

The learning curve so far is fitted by NLL(n) = floor + drop n^-power, the law that learning curves follow over most of
their length (Hestness et al. 2017, arXiv:1712.00409). For each power of a grid the rest is linear: its least squares
and Student's t say how much NLL the next labels take away, and powers weigh as they are likely by the curve (their
marginal likelihood, with flat priors and Jeffreys' of the noise). Beside it stands what the network itself expects
still to be learned: the mean mutual information of the pool, votes against weights, which no number of labels exceeds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import t as student

FEWEST = 5  # points of a curve from which it is told: it has three unknowns and noise
LEVEL = 0.9  # of the interval
POWERS = np.geomspace(0.05, 2, 60)  # Hestness et al. found 0.07 to 0.35, theory says up to 1
ROUNDING = 1e-9  # of the NLL, below which a curve cannot be told from its fit
WORTH, NOT_WORTH, UNKNOWN = "worth", "not worth", "unknown"


class Gain(NamedTuple):
    """How much a batch is expected to lower the NLL, in nats per galaxy, and the ends of its interval."""

    mean: float
    low: float
    high: float


def next_gain(labels: Sequence[int], nlls: Sequence[float], batch: int) -> Gain | None:
    """What `batch` more labels gain, by the curve of `nlls` against `labels`; None of fewer than FEWEST points."""
    n, y = np.asarray(labels, np.float64), np.asarray(nlls, np.float64)
    if len(np.unique(n)) < FEWEST or not np.isfinite(y).all():
        return None
    freedom, fits = len(n) - 2, []
    for power in POWERS:
        falls = (n / n[-1]) ** -power
        centred = falls - falls.mean()
        spread = centred @ centred
        slope = centred @ (y - y.mean()) / spread
        rest = y - y.mean() - slope * centred
        variance = max(rest @ rest / freedom, (ROUNDING * max(np.abs(y).max(), 1)) ** 2)
        per_slope = 1 - ((n[-1] + batch) / n[-1]) ** -power
        # a prior that is flat in the fall from first to last, whatever the power
        evidence = np.log(np.ptp(falls)) - 0.5 * np.log(spread) - 0.5 * freedom * np.log(variance)
        fits.append((slope * per_slope, np.sqrt(variance / spread) * per_slope, evidence))
    means, errors, evidence = np.array(fits).T
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()

    def at(share: float) -> float:
        """The gain below which that share of the mixture lies."""
        ends = student.ppf(share, freedom, means, errors)
        return float(
            brentq(
                lambda gain: weights @ student.cdf(gain, freedom, means, errors) - share,
                ends.min() - 1e-12,
                ends.max() + 1e-12,
            )
        )

    return Gain(float(weights @ means), at((1 - LEVEL) / 2), at((1 + LEVEL) / 2))


def worth(
    labels: Sequence[int],
    nlls: Sequence[float | None],
    information: Sequence[float | None],
    batch: int,
    least: float,
) -> dict:
    """Whether `batch` more labels are worth their votes, as a record keeps it: after rounds with so many `labels`.

    `nlls` are of test galaxies (None: there are none), `information` what the pool's votes are expected to tell of the
    network (None: no score told it), both in nats per galaxy. A batch is worth its votes if it lowers the NLL by
    `least` or more: that the whole interval of its gain must say, or deny. Where it does neither, a batch is not worth
    them if all that the network expects still to learn is less.
    """
    known = [(n, nll) for n, nll in zip(labels, nlls, strict=True) if nll is not None]
    gain = next_gain(*zip(*known, strict=True), batch) if known else None
    left = information[-1] if information else None
    verdict = UNKNOWN
    if gain is not None and gain.low >= least:
        verdict = WORTH
    elif (gain is not None and gain.high < least) or (left is not None and left < least):
        verdict = NOT_WORTH
    return {
        "batch": batch,
        "gain": None if gain is None else gain._asdict(),
        "information": left,
        "rounds": len(known),
        "least": least,
        "verdict": verdict,
    }


def sentence(found: dict) -> str:
    """What `worth` has `found`, in one sentence."""
    batch, gain, left, least = (found[key] for key in ("batch", "gain", "information", "least"))
    judged = {
        WORTH: f"the next {batch} labels are worth their votes",
        NOT_WORTH: f"the next {batch} labels are not worth their votes",
        UNKNOWN: f"whether the next {batch} labels are worth their votes is not known yet",
    }[found["verdict"]]
    if gain is not None:
        reasons = [
            f"by the learning curve they lower the test NLL by {gain['mean']:.3f} nats "
            f"({LEVEL:.0%}: {gain['low']:.3f} to {gain['high']:.3f}), and {least:g} is asked for"
        ]
    elif found["rounds"]:
        reasons = [
            f"{found['rounds']} rounds are too few for a learning curve, which takes {FEWEST}"
        ]
    else:
        reasons = ["without test galaxies that have votes there is no learning curve"]
    if left is not None:
        reasons.append(f"a galaxy's votes are expected to tell {left:.3f} nats more of the network")
    return f"{judged}: {'; '.join(reasons)}"
