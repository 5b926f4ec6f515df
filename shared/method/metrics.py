"""How good a posterior is, measured on votes it has not seen.

Everywhere: samples (galaxy, sample) of rho, the chance that a volunteer says yes; yes (galaxy,) of
k and total (galaxy,) of N, the votes counted. A galaxy without votes (N = 0) tells
nothing and is left out of every measure; a measure of no galaxies at all is NaN. The posterior of
the votes is Walmsley et al. 2020's mixture, p(k | N) = mean over samples of Binomial(k | N, rho); where
`concentrations` (galaxy, sample) are given, of beta-binomials, whose rho scatters about the sample's by them.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.special import logsumexp, xlog1py, xlogy
from scipy.stats import rankdata

from shared.method.beta import log_rising, log_ways, parameters

ELEMENTS = 2**21  # numbers in one piece of work: 16 MB
EPSILON = 1e-8  # inside the logarithms of W+20's loss
WIDEST = 1000  # votes, of the intervals whose coverage is told
DEVIATIONS = (0.05, 0.1, 0.2, 0.4)  # of the vote fraction from the expected one
BELOW = -1e6  # stands for ln 0: e^BELOW is 0, yet 0 times BELOW is 0 and not NaN


def evaluate(
    samples: np.ndarray,
    yes: np.ndarray,
    total: np.ndarray,
    mutual_information: np.ndarray | None = None,
    concentrations: np.ndarray | None = None,
) -> dict:
    """Every measure of this module, as a record keeps them.

    `mutual_information` (galaxy,) in nats is averaged over the same galaxies; without it its mean is
    None. `concentrations` (galaxy, sample) matter to log score and coverage. Raises ValueError for
    arrays that do not belong together or cannot be chances and votes.
    """
    _check(samples, yes, total)
    asked = np.asarray(total) > 0
    samples, yes, total = (
        np.asarray(samples)[asked],
        np.asarray(yes)[asked],
        np.asarray(total)[asked],
    )
    own = None if concentrations is None else np.asarray(concentrations)[asked]
    information = (
        None if mutual_information is None else mean(np.asarray(mutual_information)[asked])
    )
    return {
        "galaxies": len(total),
        "votes": int(total.sum()),
        "rmse": rmse(samples, yes, total),
        "mae": mae(samples, yes, total),
        "log_score": log_score(samples, yes, total, own),
        "loss": loss(samples, yes, total),
        "auc": auc(samples, yes, total),
        "accuracy": accuracy(samples, yes, total),
        "confusion": confusion(samples, yes, total),
        "coverage": coverage(samples, yes, total, own),
        "fraction_coverage": fraction_coverage(samples, yes, total, own),
        "mean_mutual_information": information,
    }


def rmse(samples: np.ndarray, yes: np.ndarray, total: np.ndarray) -> float:
    """The root mean square difference between the mean rho and the vote fraction k / N."""
    return mean(_differences(samples, yes, total) ** 2) ** 0.5


def mae(samples: np.ndarray, yes: np.ndarray, total: np.ndarray) -> float:
    """The mean absolute difference between the mean rho and the vote fraction k / N."""
    return mean(np.abs(_differences(samples, yes, total)))


def truth_rmse(samples: np.ndarray, true_rho: np.ndarray) -> float:
    """The root mean square difference between the mean rho and the `true_rho` (galaxy,).

    Only synthetic galaxies have one; no chance of the draw of the votes is left in it.
    """
    return mean((mean_rho(samples) - np.asarray(true_rho, np.float64)) ** 2) ** 0.5


def log_score(
    samples: np.ndarray,
    yes: np.ndarray,
    total: np.ndarray,
    concentrations: np.ndarray | None = None,
) -> float:
    """The mean of -ln p(k | N), in nats, with the binomial coefficient; less is better.

    It is infinite if a galaxy's votes are impossible under every sample.
    """
    return mean(log_scores(samples, yes, total, concentrations)[np.asarray(total) > 0])


def log_scores(
    samples: np.ndarray,
    yes: np.ndarray,
    total: np.ndarray,
    concentrations: np.ndarray | None = None,
) -> np.ndarray:
    """-ln p(k | N) of each galaxy, float64 (galaxy,), in nats; 0 where there are no votes."""
    k, n = np.asarray(yes, np.float64), np.asarray(total, np.float64)
    scores = np.empty(len(n))
    for piece in pieces(len(n), np.shape(samples)[1]):
        rho = np.asarray(samples)[piece].astype(np.float64)
        if concentrations is None:
            logs = xlogy(k[piece, None], rho) + xlog1py((n - k)[piece, None], -rho)
        else:
            own = np.asarray(concentrations)[piece]
            logs = _log_chances(rho, own, n[piece, None], k[piece, None])
        scores[piece] = np.log(rho.shape[1]) - logsumexp(logs, axis=1)
    return scores - log_ways(n, k)


def loss(samples: np.ndarray, yes: np.ndarray, total: np.ndarray) -> float:
    """W+20's loss of the mean rho: the mean of -[k ln(rho + 1e-8) + (N - k) ln(1 - rho + 1e-8)]."""
    asked = np.asarray(total) > 0
    rho = mean_rho(samples)[asked]
    k, n = np.asarray(yes, np.float64)[asked], np.asarray(total, np.float64)[asked]
    return mean(-(k * np.log(rho + EPSILON) + (n - k) * np.log(1 - rho + EPSILON)))


def auc(samples: np.ndarray, yes: np.ndarray, total: np.ndarray) -> float | None:
    """The chance that of two galaxies, one with most votes yes and one with most votes no, the
    first has the larger mean rho; equal means count half.

    Galaxies with as many votes yes as no are left out. None if either kind is missing.
    """
    true, rho = _decided(samples, yes, total)
    positives, negatives = int(true.sum()), int((~true).sum())
    if not positives or not negatives:
        return None
    above = rankdata(rho)[true].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def accuracy(samples: np.ndarray, yes: np.ndarray, total: np.ndarray) -> float:
    """The share of galaxies whose mean rho is on the volunteers' side of 1/2 (exactly 1/2 says no).

    Galaxies with as many votes yes as no are left out.
    """
    true, rho = _decided(samples, yes, total)
    return mean((rho > 0.5) == true)


def confusion(samples: np.ndarray, yes: np.ndarray, total: np.ndarray) -> list[list[int]]:
    """Numbers of the galaxies of `accuracy`: [[no, said no; no, said yes], [yes, said no; yes, said
    yes]], where volunteers decide what is true.
    """
    true, rho = _decided(samples, yes, total)
    return np.bincount(2 * true + (rho > 0.5), minlength=4).reshape(2, 2).tolist()


def coverage(
    samples: np.ndarray,
    yes: np.ndarray,
    total: np.ndarray,
    concentrations: np.ndarray | None = None,
) -> list[list[float]]:
    """How often the votes fall as near the expected count as the posterior says they will.

    A table of [width, predicted, observed, relative error], for widths of 0 votes to the most that
    any galaxy has, or to WIDEST. With k_hat = floor(E[k]), predicted sums over galaxies the posterior chance of
    |k - k_hat| <= width, and observed counts the galaxies where it is so; the relative error,
    |predicted - observed| / observed, is NaN where nothing was observed (W+20, section 4.3).
    """
    most = np.max(total, initial=-1, where=np.asarray(total) > 0)
    widths = np.arange(min(most, WIDEST) + 1)
    names = widths.tolist()
    return _near(samples, yes, total, concentrations, names, lambda n: widths + 0 * n[:, None])


def fraction_coverage(
    samples: np.ndarray,
    yes: np.ndarray,
    total: np.ndarray,
    concentrations: np.ndarray | None = None,
) -> list[list[float]]:
    """How often the vote fraction falls as near the expected one as the posterior says it will.

    As `coverage`, but of DEVIATIONS of the fraction: at each galaxy's own number of votes the width is the votes in
    that deviation, up to WIDEST.
    """

    def widths(n: np.ndarray) -> np.ndarray:
        return np.minimum(np.floor(np.array(DEVIATIONS) * n[:, None] + 1e-9), WIDEST).astype(int)

    return _near(samples, yes, total, concentrations, DEVIATIONS, widths)


def _near(
    samples: np.ndarray,
    yes: np.ndarray,
    total: np.ndarray,
    concentrations: np.ndarray | None,
    names: Sequence[float],
    widths: Callable[[np.ndarray], np.ndarray],
) -> list[list[float]]:
    """The table of `coverage` whose rows are called `names`, for `widths` (galaxy, row) of total votes (galaxy,)."""
    asked = np.asarray(total) > 0
    samples, k, n = np.asarray(samples)[asked], np.asarray(yes)[asked], np.asarray(total)[asked]
    own = None if concentrations is None else np.asarray(concentrations)[asked]
    k_hat = np.floor(n * mean_rho(samples) + 1e-9).astype(np.int64)  # 1e-9: 19.999... means 20
    most = n.max(initial=-1)
    counts = np.arange(min(most + 1, 2 * WIDEST) + 1)  # of votes that are within the widest
    predicted, observed = np.zeros(len(names)), np.zeros(len(names), np.int64)
    for piece in pieces(len(n), samples.shape[1] * len(counts)):
        centre, width = k_hat[piece, None], widths(n[piece])
        start = np.maximum(centre - WIDEST, 0)
        each = None if own is None else own[piece]
        chances = vote_chances(samples[piece], n[piece], start + counts, each)
        below = np.pad(chances.cumsum(1), ((0, 0), (1, 0)))  # (galaxy, count): the chance of fewer
        low, high = np.maximum(centre - width, 0), np.minimum(centre + width, n[piece, None])
        predicted += (
            np.take_along_axis(below, high + 1 - start, 1)
            - np.take_along_axis(below, low - start, 1)
        ).sum(0)
        observed += (np.abs(k[piece, None] - centre) <= width).sum(0)
    return [
        [name, float(p), int(o), abs(float(p) - int(o)) / int(o) if o else float("nan")]
        for name, p, o in zip(names, predicted, observed, strict=True)
    ]


def vote_chances(
    samples: np.ndarray,
    total: np.ndarray,
    k: np.ndarray,
    concentrations: np.ndarray | None = None,
) -> np.ndarray:
    """The posterior chance p(k | N), float64 (galaxy, k), of `k` votes, int (k,) or (galaxy, k), out
    of `total` (galaxy,); 0 where k > N.

    In blocks of `k`, so that (galaxy, sample, k) fits in memory where `pieces` sees to a galaxy's.
    """
    rho = np.asarray(samples, np.float64)[:, :, None]
    n = np.asarray(total, np.int64)[:, None]
    k = np.broadcast_to(k, (len(n), np.shape(k)[-1]))
    with np.errstate(divide="ignore"):
        log_yes, log_no = np.maximum(np.log(rho), BELOW), np.maximum(np.log1p(-rho), BELOW)
    chances = np.empty(k.shape)
    for block in pieces(k.shape[1], rho.size):
        ways = np.where(k[:, block] <= n, log_ways(n, np.minimum(k[:, block], n)), BELOW)
        yes, no = k[:, None, block], np.maximum(n - k[:, block], 0)[:, None]
        if concentrations is None:
            logs = ways[:, None] + yes * log_yes + no * log_no
        else:
            own = np.asarray(concentrations)[:, :, None]
            least = np.minimum(yes, n[:, None])
            logs = ways[:, None] + _log_chances(rho, own, n[:, None], least)
        chances[:, block] = np.exp(logs).mean(1)
    return chances


def mean_rho(samples: np.ndarray) -> np.ndarray:
    """The mean over samples, float64 (galaxy,)."""
    return np.asarray(samples).mean(1, dtype=np.float64)


def mean(values: np.ndarray) -> float:
    """The mean of `values`; NaN, and no warning, if there are none."""
    return float(np.mean(values)) if len(values) else float("nan")


def pieces(galaxies: int, width: int, elements: int | None = None) -> Iterator[slice]:
    """Slices of so many `galaxies`, of about `elements` numbers (or ELEMENTS) if a galaxy takes `width` of them."""
    size = max(1, (elements or ELEMENTS) // max(1, width))
    return (slice(start, start + size) for start in range(0, galaxies, size))


def _differences(samples: np.ndarray, yes: np.ndarray, total: np.ndarray) -> np.ndarray:
    asked = np.asarray(total) > 0
    return mean_rho(samples)[asked] - np.asarray(yes)[asked] / np.asarray(total)[asked]


def _decided(samples: np.ndarray, yes: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, ...]:
    """Whether most said yes, and the mean rho, of the galaxies where the votes are not even."""
    margin = 2 * np.asarray(yes, np.int64) - np.asarray(total, np.int64)
    decided = margin != 0
    return margin[decided] > 0, mean_rho(samples)[decided]


def _log_chances(
    rho: np.ndarray, concentrations: np.ndarray, n: np.ndarray, k: np.ndarray
) -> np.ndarray:
    """ln of a beta-binomial's chance of `k` given votes of `n`, in a given order."""
    a, b = parameters(rho, concentrations)
    return log_rising(a, k) + log_rising(b, n - k) - log_rising(a + b, n)


def _check(samples: np.ndarray, yes: np.ndarray, total: np.ndarray) -> None:
    samples, yes, total = np.asarray(samples), np.asarray(yes), np.asarray(total)
    if samples.ndim != 2 or not samples.shape[1]:
        raise ValueError(f"samples are {samples.shape}; they must be (galaxy, sample), one or more")
    if not yes.shape == total.shape == samples.shape[:1]:
        raise ValueError(
            f"yes is {yes.shape} and total {total.shape}; both must be ({len(samples)},), one per "
            "galaxy of the samples"
        )
    for galaxy in np.flatnonzero(~((yes >= 0) & (yes <= total)))[:1]:
        raise ValueError(
            f"galaxy {galaxy} has {yes[galaxy]} votes yes of {total[galaxy]}; 0 <= yes <= total"
        )
    for galaxy in np.flatnonzero(~((samples >= 0) & (samples <= 1)).all(1))[:1]:
        raise ValueError(
            f"the samples of galaxy {galaxy} are not all between 0 and 1, so no chances"
        )
