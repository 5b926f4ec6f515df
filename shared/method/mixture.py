"""What a mixture of posterior samples says of a galaxy: its vote fractions, the votes to expect, what is asked.

A galaxy's posterior is the equal mixture of its samples. In one sample the fractions of a question's votes are
Dirichlet, of concentrations fraction x concentration, so that the fraction of one answer is a Beta and its votes are
beta-binomial; where there are no concentrations the fractions are the sample's own and the votes binomial. Everything
here is of the mixture: a quantile is where the mean of the samples' distribution functions passes the level, not the
middle of the samples' quantiles, which would not show where samples disagree.

Everywhere: `fractions` (row, sample) of one answer, `concentrations` (row, sample) of its question or None; a row is
an answer of a galaxy. Arrays of all answers are (galaxy, sample, answer) and (galaxy, sample, question).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import betainc, betaln, ndtr, xlogy

from shared.data.schema import chance_asked, slices
from shared.method.beta import TINY, log_rising, parameters
from shared.method.metrics import pieces, vote_chances
from shared.run.questions import Leads, Questions

LEVELS = (0.05, 0.5, 0.95)  # of the quantiles that a catalogue gives
NORMAL = 1e4  # both parameters above: Edgeworth's series is right to 5e-8, and betainc slow
CELLS = 40  # of the grid that quantiles are first looked up on
REACH = 4.5  # standard deviations that the grid goes beyond every sample's mean
CLOSE = (
    1e-9  # a quantile is found when a step is expected to bring its chance so near to the level ...
)
NARROW = 1e-13  # ... or when it is known to lie in so short an interval
SMALLEST = -600.0  # ln of the least chance that others are multiplied up from
LEAST = 1e-100  # nearest to 0 that is looked at: densities there are still finite
STEPS = 120  # at most; every third one halves the interval
CACHED = 2**19  # numbers that are worked on at once


class Fractions(NamedTuple):
    """The posterior of vote fractions, each float64 (galaxy, answer)."""

    mean: np.ndarray
    std: np.ndarray
    p05: np.ndarray
    p50: np.ndarray
    p95: np.ndarray


def summarise_fractions(
    questions: Questions, fractions: np.ndarray, concentrations: np.ndarray | None
) -> Fractions:
    """Mean, standard deviation and quantiles of every answer's vote fraction, in pieces of bounded memory."""
    galaxies, _, answers = np.shape(fractions)
    found = Fractions(*np.empty((5, galaxies, answers)))
    for piece, rows, own in _rows(questions, fractions, concentrations):
        mean, std = moments(rows, own)
        values = (mean, std, *quantiles(rows, own).T)
        for whole, part in zip(found, values, strict=True):
            whole[piece] = part.reshape(-1, answers)
    return found


def summarise_votes(
    questions: Questions,
    fractions: np.ndarray,
    concentrations: np.ndarray | None,
    expected_votes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """`votes_interval` of every answer at `expected_votes` answers to its question, two int32 (galaxy, answer)."""
    galaxies, _, answers = np.shape(fractions)
    low, high = np.empty((2, galaxies, answers), np.int32)
    for piece, rows, own in _rows(questions, fractions, concentrations):
        ends = votes_interval(rows, expected_votes, own)
        low[piece], high[piece] = (end.reshape(-1, answers) for end in ends)
    return low, high


def mean_asked(questions: Questions, leads: Leads, fractions: np.ndarray) -> np.ndarray:
    """The posterior chance that a volunteer is asked each question, float64 (galaxy, question).

    It is the mean over samples of each sample's `chance_asked`. The product of mean fractions is something else: the
    samples in which a galaxy is featured may be those in which it is not edge-on.
    """
    galaxies, samples, answers = np.shape(fractions)
    asked = np.empty((galaxies, len(questions)))
    for piece in pieces(galaxies, samples * answers, CACHED):
        some = np.asarray(fractions[piece], np.float64)
        each = chance_asked(questions, leads, some.reshape(-1, answers))
        asked[piece] = each.reshape(len(some), samples, -1).mean(1)
    return asked


def information(questions: Questions, fractions: np.ndarray) -> np.ndarray:
    """What one volunteer's answer to each question tells about the network, float64 (galaxy, question), in nats.

    It is the mutual information of the answer and the sample: the entropy of the mean fractions less the mean over
    samples of each one's entropy, at least 0 and at most ln(answers). It is of a volunteer who is asked; times
    `mean_asked` it is an approximation for one who may not be. Concentrations do not matter to a single vote.
    """
    galaxies, samples, answers = np.shape(fractions)
    starts = [place.start for place in slices(questions).values()]
    found = np.empty((galaxies, len(questions)))
    for piece in pieces(galaxies, samples * answers, CACHED):
        some = np.asarray(fractions[piece], np.float64)
        middle = some.mean(1)
        terms = xlogy(some, some).mean(1) - xlogy(middle, middle)
        found[piece] = np.maximum(np.add.reduceat(terms, starts, axis=1), 0)
    return found


def moments(
    fractions: np.ndarray, concentrations: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The mixture's mean and standard deviation, each (row,): the variance is that of the samples' means, and the mean
    of the samples' own, f (1 - f) / (concentration + 1).
    """
    f = np.asarray(fractions, np.float64)
    variance = f.var(1)
    if concentrations is not None:
        variance += (f * (1 - f) / (np.asarray(concentrations, np.float64) + 1)).mean(1)
    return f.mean(1), np.sqrt(variance)


def quantiles(
    fractions: np.ndarray,
    concentrations: np.ndarray | None,
    levels: Sequence[float] = LEVELS,
    close: float = CLOSE,
) -> np.ndarray:
    """The least fractions up to which the mixture has the chances `levels`, float64 (row, level).

    The chance there is right to about `close` (with that of CLOSE, to 1e-7), or the fraction to NARROW where the chance
    leaps; where both of a Beta's parameters are above NORMAL its own chance is right to 5e-8. Without concentrations
    they are the samples' quantiles, interpolated linearly.
    """
    f = np.asarray(fractions, np.float64)
    if concentrations is None:
        return np.quantile(f, levels, axis=1).T
    found = np.empty((len(f), len(levels)))
    for piece in pieces(len(f), f.shape[1] * CELLS // 4, CACHED):
        mixture = _mixture(f[piece], concentrations[piece])
        found[piece] = _inverted(mixture, f[piece], np.asarray(levels, np.float64), close)
    return found


def distribution(fractions: np.ndarray, concentrations: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The mixture's chance of a fraction of at most `at` (row,), float64 (row,)."""
    at = np.asarray(at, np.float64)
    mixture = _mixture(fractions, concentrations)
    inside = np.clip(at, TINY, 1)
    return np.where(at < 0, 0, _beta(mixture, inside)[0])


def votes_interval(
    fractions: np.ndarray, expected_votes: int, concentrations: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The 5 % and the 95 % quantile, both int32 (row,), of the number of `expected_votes` that an answer gets.

    A quantile is the least count whose chance of not being exceeded reaches it, so at most 5 % lie beyond either end.
    """
    fractions = np.asarray(fractions)
    low, high = np.empty((2, len(fractions)), np.int32)
    for piece in pieces(len(fractions), fractions.shape[1] * 4, CACHED):
        own = None if concentrations is None else concentrations[piece]
        reached = count_chances(fractions[piece], expected_votes, own).cumsum(1)
        low[piece], high[piece] = (reached < 0.05).sum(1), (reached < 0.95).sum(1)
    return low, high


def count_chances(
    fractions: np.ndarray, total: int, concentrations: np.ndarray | None
) -> np.ndarray:
    """The mixture's chance of each number of votes, 0 ... `total`, float64 (row, count).

    Beta-binomials go from each p(k) to p(k + 1), which is many times faster than `vote_chances`, which has any counts
    of any totals; by their logarithms where p(0) is too small a number to begin with.
    """
    if concentrations is None:
        return vote_chances(fractions, np.full(len(fractions), total), np.arange(total + 1))
    a, b = parameters(fractions, concentrations)
    first = log_rising(b, total) - log_rising(a + b, total)  # ln p(0)
    chances = np.empty((total + 1, len(a)))
    plain = (first > SMALLEST).all(1)
    for rows, walk in ((plain, _walked), (~plain, _walked_by_logs)):
        if rows.any():
            chances[:, rows] = walk(a[rows], b[rows], first[rows], total)
    return chances.T


def _walked(a: np.ndarray, b: np.ndarray, first: np.ndarray, total: int) -> np.ndarray:
    """The mean over samples of beta-binomials' chances, (count, row), of ln p(0) `first`."""
    chances = np.empty((total + 1, len(a)))
    each, yes, no = np.exp(first), a.copy(), b + (total - 1)
    for k in range(total + 1):
        each.mean(1, out=chances[k])
        each *= yes
        each *= (total - k) / (k + 1)
        each /= no
        yes += 1
        no -= 1
    return chances


def _walked_by_logs(a: np.ndarray, b: np.ndarray, first: np.ndarray, total: int) -> np.ndarray:
    """As `_walked`, in blocks of counts."""
    chances = np.empty((total + 1, len(a)))
    chances[0] = np.exp(first).mean(1)
    size = max(1, 2**21 // a.size)
    for start in range(1, total + 1, size):
        k = np.arange(start, min(start + size, total + 1))[:, None, None]
        logs = np.log((a + (k - 1)) * ((total + 1 - k) / k) / (b + (total - k))).cumsum(0)
        logs += first
        first = logs[-1].copy()
        chances[k[:, 0, 0]] = np.exp(logs, out=logs).mean(2)
    return chances


class _Mixture(NamedTuple):
    """Betas (row, sample), and what their densities need."""

    a: np.ndarray
    b: np.ndarray
    norm: np.ndarray  # ln of the Beta function
    spread: np.ndarray  # the standard deviation
    large: np.ndarray  # where Edgeworth's series is taken

    def of(self, rows: np.ndarray) -> "_Mixture":
        return _Mixture(*(part[rows] for part in self))


def _mixture(fractions: np.ndarray, concentrations: np.ndarray) -> _Mixture:
    a, b = parameters(fractions, concentrations)
    total = a + b
    spread = np.sqrt(a / total * (b / total) / (total + 1))
    return _Mixture(a, b, betaln(a, b), spread, np.minimum(a, b) > NORMAL)


def _beta(mixture: _Mixture, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mixture's distribution function, its density and the density's slope at `x` (row,), inside 0 and 1."""
    a, b, norm, _, large = mixture
    x = x[:, None]
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        density = np.exp((a - 1) * np.log(x) + (b - 1) * np.log1p(-x) - norm)
        slope = density * ((a - 1) / x - (b - 1) / (1 - x))
    if large.any():
        below = np.empty(a.shape)
        below[~large] = betainc(a[~large], b[~large], np.broadcast_to(x, a.shape)[~large])
        at = np.broadcast_to(x, a.shape)[large]
        below[large], density[large], slope[large] = _edgeworth(a[large], b[large], at)
    else:
        below = betainc(a, b, x)
    return below.mean(1), density.mean(1), slope.mean(1)


def _edgeworth(
    a: np.ndarray, b: np.ndarray, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edgeworth's series of a Beta, by its skewness and excess kurtosis: the distribution function; and roughly its
    density and that's slope, which steps are taken by.
    """
    n = a + b
    mean, spread = a / n, np.sqrt(a / n * (b / n) / (n + 1))
    z = (x - mean) / spread
    skew = 2 * (b - a) * np.sqrt(n + 1) / ((n + 2) * np.sqrt(a) * np.sqrt(b))
    excess = 6 * ((a - b) / a * ((a - b) / b) * (n + 1) - (n + 2)) / ((n + 2) * (n + 3))
    square, normal = z * z, np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    terms = skew / 6 * (square - 1) + excess / 24 * z * (square - 3)
    terms += skew**2 / 72 * z * (square * (square - 10) + 15)
    density = normal / spread * (1 + skew / 6 * z * (square - 3))
    return ndtr(z) - normal * terms, density, -z * density / spread


def _inverted(
    mixture: _Mixture, fractions: np.ndarray, levels: np.ndarray, close: float
) -> np.ndarray:
    """The quantiles (row, level), by Newton's steps that never leave an interval known to hold them."""
    count = len(levels)
    x = _looked_up(mixture, fractions, levels).ravel()
    level, row = np.tile(levels, len(fractions)), np.repeat(np.arange(len(fractions)), count)
    low, high = np.zeros(len(x)), np.ones(len(x))
    none = np.mean(fractions == 0, 1)[row] >= level
    all_of = np.mean(fractions == 1, 1)[row] > 1 - level + NARROW
    x[none], x[all_of] = 0, 1
    scale = mixture.spread.min(1)[row]
    left = np.flatnonzero(~none & ~all_of)
    for step in range(STEPS):
        if not len(left):
            break
        at, wanted = x[left], level[left]
        below, density, slope = _beta(mixture.of(row[left]), at)
        off = below - wanted
        low[left] = np.where(off < 0, at, low[left])
        high[left] = np.where(off < 0, high[left], at)
        new, rest = _step(at, wanted, below, density, slope, scale[left])
        inside = (new > low[left]) & (new < high[left])
        if step > 3 and step % 3 == 0:
            inside[:] = False
        done = np.abs(off) < close
        short = high[left] - low[left] < NARROW
        new = np.maximum(np.where(inside, new, (low[left] + high[left]) / 2), LEAST)
        x[left] = np.where(done, at, np.where(short, high[left], new))
        left = left[~(done | short | (inside & (rest < close)))]
    return x.reshape(-1, count)


def _step(at, wanted, below, density, slope, scale) -> tuple[np.ndarray, np.ndarray]:
    """Where the quantile `wanted` is by what is known `at` a place, and how far in the chance that may be off.

    By Halley's step; or, where the distribution is nearly a power of the distance to an end, by Newton's between their
    logarithms. `scale` is the standard deviation of the narrowest Beta.
    """
    with np.errstate(all="ignore"):
        off = below - wanted
        move = off / density
        move /= np.maximum(1 - move * slope / density / 2, 0.5)
        near = np.minimum(scale, np.minimum(at, 1 - at))
        new, rest = at - move, np.abs(off) * (move / near) ** 2
        for power, end, chance, goal in (
            (at * density / below, 0, below, wanted),
            ((1 - at) * density / (1 - below), 1, 1 - below, 1 - wanted),
        ):
            logs = np.log(goal / chance) / power
            away = np.abs(at - end) * np.exp(logs)
            there = power < 1.5
            new = np.where(there, np.abs(end - away), new)
            rest = np.where(there, logs**2 * goal, rest)
    return new, rest


def _looked_up(mixture: _Mixture, fractions: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Where the quantiles (row, level) are by a grid of CELLS, to some 1e-4 where samples' Betas are wider than a cell.

    The grid is even in the angle whose sine's square is the fraction: a Beta is about as wide everywhere there. In the
    first and the last cell it may be without bound; there it is taken for a power of the distance to the end.
    """
    a, b, norm, *_ = mixture
    angle = np.arcsin(np.sqrt(np.clip(fractions, 0, 1)))
    reach = REACH * 0.5 / np.sqrt(a + b + 1)
    start = np.maximum((angle - reach).min(1), 0)
    stop = np.minimum((angle + reach).max(1), np.pi / 2)
    width = (stop - start) / CELLS
    middles = start[:, None] + width[:, None] * (np.arange(CELLS) + 0.5)
    basis = np.stack([np.log(np.sin(middles)), np.log(np.cos(middles)), np.ones_like(middles)], 1)
    with np.errstate(all="ignore"):
        logs = np.stack([2 * a - 1, 2 * b - 1, np.log(2) - norm], 2) @ basis
        density = np.exp(logs.astype(np.float32)).mean(1).astype(np.float64)
        bends = _bends(density)
        mass = (density + bends / 24 - 17 / 5760 * _bends(bends)) * width[:, None]
        edge = np.sin(np.minimum(start + width, np.pi / 2)) ** 2
        first, rise = _first_cell(a, b, norm, edge)
        mass[:, 0] = np.where(start == 0, first, mass[:, 0])
        edge_last = np.cos(np.maximum(stop - width, 0)) ** 2
        last, fall = _first_cell(b, a, norm, edge_last)
        mass[:, -1] = np.where(stop == np.pi / 2, last, mass[:, -1])
        edges = np.pad(np.maximum(mass, 0).cumsum(1), ((0, 0), (1, 0)))
        whole = edges[:, -1:]
        padded = np.pad(density - bends / 8, ((0, 0), (1, 1)), mode="edge")
        sides = (padded[:, :-1] + padded[:, 1:]) / 2  # the density between cells
        rows = np.arange(len(fractions))[:, None]
        wanted = levels * whole
        cell = np.minimum((edges[:, None, 1:] < wanted[..., None]).sum(-1), CELLS - 1)
        own = mass[rows, cell]
        share = (wanted - edges[rows, cell]) / own
        left, right = (sides[rows, cell + side] * width[:, None] / own for side in (0, 1))
        place = _place_in_cell(share, left, right)
        found = np.sin(start[:, None] + width[:, None] * (cell + place)) ** 2
        low = edge[:, None] * share ** (1 / rise[:, None])
        high = 1 - edge_last[:, None] * (1 - share) ** (1 / fall[:, None])
        found = np.where((cell == 0) & (start == 0)[:, None], low, found)
        found = np.where((cell == CELLS - 1) & (stop == np.pi / 2)[:, None], high, found)
    fair = (np.abs(whole - 1) < 0.05) & (found > NARROW) & (found < 1 - NARROW)
    unfair = np.flatnonzero(~fair.all(1))
    if len(unfair):
        own = np.quantile(fractions[unfair], levels, axis=1).T
        found[unfair] = np.where(fair[unfair], found[unfair], np.clip(own, NARROW, 1 - NARROW))
    return found


def _bends(values: np.ndarray) -> np.ndarray:
    """The second differences (row, cell), 0 at the ends."""
    return np.pad(np.diff(values, 2, axis=1), ((0, 0), (1, 1)))


def _place_in_cell(share: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Where in a cell, from 0 to 1, its distribution reaches `share`, by its relative density `left` and `right`: as if
    that were straight, and then a step of Newton's by the parabola through both whose integral is 1.
    """
    tilt = (right - left) / (right + left)
    root = np.sqrt(np.maximum((1 - tilt) ** 2 + 4 * tilt * share, 0))
    u = np.clip(2 * share / (1 - tilt + root), 0, 1)
    bend, rise = 1 - (left + right) / 2, right - left
    below = u * (left + u * (rise / 2 + bend * (3 - 2 * u)))
    return np.clip(u - (below - share) / (left + u * (rise + 6 * bend * (1 - u))), 0, 1)


def _first_cell(a, b, norm, edge) -> tuple[np.ndarray, np.ndarray]:
    """The mixture's chance (row,) of a fraction below a small `edge` (row,), and the power of it that it goes by."""
    x = edge[:, None]
    series = 1 + (a + b) / (a + 1) * x * (1 + (a + b + 1) / (a + 2) * x)
    each = np.exp(a * np.log(x) + b * np.log1p(-x) - norm) / a * series
    whole = each.mean(1)
    return whole, (a * each).mean(1) / whole


def _rows(
    questions: Questions, fractions: np.ndarray, concentrations: np.ndarray | None
) -> Iterator[tuple[slice, np.ndarray, np.ndarray | None]]:
    """Slices of galaxies with their answers as rows: fractions (row, sample), and concentrations likewise or None."""
    galaxies, samples, answers = np.shape(fractions)
    counts = [len(some) for some in questions.values()]
    for piece in pieces(galaxies, samples * answers, CACHED):
        some = np.asarray(fractions[piece], np.float64).transpose(0, 2, 1)
        own = None
        if concentrations is not None:
            own = np.asarray(concentrations[piece], np.float64).transpose(0, 2, 1)
            own = np.repeat(own, counts, axis=1).reshape(-1, samples)
        yield piece, some.reshape(-1, samples), own
