"""Whether a posterior knows what it does not know, and the dropout rate at prediction with which it knows best.

Everywhere, as in `shared/method/metrics.py`: samples (galaxy, sample) of rho, yes (galaxy,) of k and total (galaxy,) of
N; the posterior of the votes is W+20's mixture, p(k | N) = mean over samples of Binomial(k | N, rho).

Every p value is the chance that a perfect posterior is found so far off or farther: refuse below 0.05, and one perfect
posterior in twenty is refused. A mixture of T samples is a little too narrow even where each sample is perfect, for its
centre is uncertain by 1/T of the variance: that shows where there are many galaxies and few samples (at T = 15 a
distance of 0.01, which 5,000 galaxies would tell from 0). Ranks, as of the true rho, have no such flaw.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr
from scipy.stats import kstest, kstwo

from shared.method.metrics import coverage, log_score, mean, rmse
from shared.run.keys import galaxy_keys, uniforms

LEVELS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
RATES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
BINS = 10  # of the histogram of the PIT
FEW = 2500  # validation galaxies, at most, that rates are tried on


class Misfit(NamedTuple):
    """How far from what a perfect posterior gives, and its chance to be as far or farther."""

    statistic: float
    p_value: float


def pit(
    samples: np.ndarray, yes: np.ndarray, total: np.ndarray, uniforms: np.ndarray
) -> np.ndarray:
    """The randomised probability integral transform F(k - 1) + u p(k), float64 (galaxy,), of those with votes.

    F and p are of the mixture, u are `uniforms` (galaxy,) in [0, 1). Under a perfect posterior it is uniform from 0 to
    1, as counts by themselves are not (Czado, Gneiting and Held 2009, Biometrics 65, 1254, section 2).
    """
    asked = np.asarray(total) > 0
    rho = np.asarray(samples, np.float64)[asked]
    k, n = (np.asarray(votes, np.int64)[asked, None] for votes in (yes, total))
    below = np.where(k > 0, bdtr(np.maximum(k - 1, 0), n, rho), 0).mean(1)
    return below + np.asarray(uniforms)[asked] * (bdtr(k, n, rho).mean(1) - below)


def pit_uniforms(seed: int, hashes: np.ndarray) -> np.ndarray:
    """The numbers (galaxy,) in [0, 1) that `pit` is given, for ids of `hashes`: a function of seed and galaxy alone."""
    return uniforms(galaxy_keys(seed, "calibration", hashes), 0, 1)[..., 0]


def pit_test(values: np.ndarray) -> Misfit:
    """The largest distance of the distribution of `values` (galaxy,) from the uniform, by Kolmogorov and Smirnov."""
    if not len(values):
        return Misfit(float("nan"), float("nan"))
    found = kstest(values, "uniform")
    return Misfit(float(found.statistic), float(found.pvalue))


def truth_coverage(
    samples: np.ndarray, true_rho: np.ndarray, levels: Sequence[float] = LEVELS
) -> list[list[float]]:
    """How often `true_rho` (galaxy,), which only synthetic galaxies have, lies in the central interval of each level.

    A table of [level, expected, observed, noise], shares of galaxies. Among T samples of a perfect posterior the rank
    of the truth is uniform on 0 ... T (Talts et al. 2018, theorem 1), so the interval that leaves `a` samples out at
    each end holds it with the chance (T + 1 - 2a) / (T + 1) exactly: expected is that of the interval nearest to the
    level (of two as near, the wider), noise the standard deviation of what is observed. A truth that is equal to
    samples has each of the ranks between them in part. With one sample the shares are 0 and 1, which tell nothing.
    """
    galaxies, table = len(samples), []
    for level in levels:
        inside, expected = between_samples(samples, true_rho, level)
        noise = (expected * (1 - expected) / galaxies) ** 0.5 if galaxies else float("nan")
        table.append([level, expected, mean(inside), noise])
    return table


def between_samples(
    samples: np.ndarray, true_rho: np.ndarray, level: float
) -> tuple[np.ndarray, float]:
    """Whether, or for equals in what part, each `true_rho` lies in the interval of `truth_coverage`, float64 (galaxy,);
    and the chance expected of it.
    """
    samples, true = np.asarray(samples), np.asarray(true_rho, np.float64)[:, None]
    count = samples.shape[1]
    low = (samples < true).sum(1)
    high = low + (samples == true).sum(1)
    out = int(np.ceil((1 - level) * (count + 1) / 2 - 0.5 - 1e-9))
    inside = np.minimum(high, count - out) - np.maximum(low, out) + 1
    return np.maximum(inside, 0) / (high - low + 1), (count + 1 - 2 * out) / (count + 1)


def coverage_error(table: list[list[float]]) -> float:
    """The expected coverage error of a `truth_coverage`: the mean over levels of |observed - expected|.

    Kuleshov, Fenner and Ermon (2018, equation 9) square the differences.
    """
    return mean(np.array([abs(row[2] - row[1]) for row in table]))


def coverage_test(expected: Sequence[float], observed: Sequence[float], galaxies: int) -> Misfit:
    """The largest |observed - expected| share of so many `galaxies` over all intervals of a coverage.

    The p value is that of Kolmogorov's law, an upper bound here: intervals are steps, and galaxies differ.
    """
    if not galaxies:
        return Misfit(float("nan"), float("nan"))
    gap = float(np.max(np.abs(np.subtract(observed, expected))))
    return Misfit(gap, float(kstwo.sf(gap, galaxies)))


def calibration(
    samples: np.ndarray,
    yes: np.ndarray,
    total: np.ndarray,
    uniforms: np.ndarray,
    true_rho: np.ndarray | None,
) -> dict:
    """Every measure of this module, as a record keeps them; without `true_rho` (galaxy,) that of the truth is None."""
    values = pit(samples, yes, total, uniforms)
    galaxies = len(values)
    counted = coverage(samples, yes, total)
    shares = [[row[side] / galaxies for row in counted] for side in (1, 2)]
    measured = {
        "galaxies": galaxies,
        "rmse": rmse(samples, yes, total),
        "log_score": log_score(samples, yes, total),
        "pit": {
            "histogram": np.histogram(values, BINS, (0, 1))[0].tolist(),
            **pit_test(values)._asdict(),
        },
        "coverage": {"table": counted, **coverage_test(*shares, galaxies)._asdict()},
        "truth": None,
    }
    if true_rho is not None:
        table = truth_coverage(samples, true_rho)
        _, expected, observed, _ = zip(*table, strict=True)
        off = coverage_test(expected, observed, len(true_rho))
        measured["truth"] = {"table": table, "error": coverage_error(table), **off._asdict()}
    return measured


def best_rate(rates: list[dict], trained: float) -> float:
    """The rate of the lowest NLL; of several, the nearest to that `trained` with."""
    return min(rates, key=lambda row: (row["log_score"], abs(row["rate"] - trained)))["rate"]


def gain(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """By how much the NLL of each galaxy (galaxy,) falls from `before` to `after`: the mean, and its standard error."""
    with np.errstate(invalid="ignore"):  # votes that are impossible under both
        fallen = before - after
        return {"mean": mean(fallen), "error": float(fallen.std() / len(fallen) ** 0.5)}


def summary_of(measured: dict) -> str:
    """What was `measured`, in a line."""
    before, after, fallen = (measured[name] for name in ("trained", "chosen", "gain"))
    edge = ""
    if after["rate"] in (RATES[0], RATES[-1]):
        edge = " (where the scan ends, so that it says little: dropout is not what is wrong)"
    p_values = f"PIT p {before['pit']['p_value']:.2g} -> {after['pit']['p_value']:.2g}"
    by = f"{fallen['mean']:.4f} ± {fallen['error']:.4f}"
    return (
        f"dropout {after['rate']}{edge} at prediction, trained with {before['rate']}: on {after['galaxies']} test "
        f"galaxies the NLL falls by {by} to {after['log_score']:.3f} nats, {p_values}"
    )
