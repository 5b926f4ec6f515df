"""How many votes to ask for, galaxy by galaxy, within a budget."""

from collections.abc import Sequence

import numpy as np


def vote_plan(information: np.ndarray, choices: Sequence[int], budget: int) -> np.ndarray:
    """How many votes int64 (galaxy,) to ask for, 0 or one of `choices` (rising), within a `budget` of votes in all.

    `information` (galaxy, choice) is what so many votes tell, in nats, 0 votes telling nothing. Votes go where each
    tells most: along every galaxy's least concave curve above its information, the steepest steps first. That is the
    most information that any plan has, up to the first step that the budget is too small for; then come the steepest of
    those that it still allows. Of equal steps the earlier galaxy's comes first.
    """
    votes = np.concatenate([[0], choices])
    nats = np.pad(np.asarray(information, np.float64), ((0, 0), (1, 0)))
    galaxy, before, after, slope = _steps(votes, nats)
    order = np.argsort(-slope, kind="stable")
    galaxy, before, after = galaxy[order], before[order], after[order]
    spent = np.cumsum(after - before)
    whole = np.searchsorted(spent, budget, "right")
    plan = np.zeros(len(nats), np.int64)
    np.maximum.at(plan, galaxy[:whole], after[:whole])
    left, cost = budget - plan.sum(), after - before
    for step in whole + np.flatnonzero(cost[whole:] <= left):
        if cost[step] <= left and plan[galaxy[step]] == before[step]:
            plan[galaxy[step]], left = after[step], left - cost[step]
    return plan


def _steps(votes: np.ndarray, nats: np.ndarray) -> tuple[np.ndarray, ...]:
    """Every galaxy's least concave curve above `nats` (galaxy, choice), as far as it rises, in steps (step,).

    A step has its galaxy, the votes before and after it, and its slope. A galaxy's steps come in their order, and no
    slope is larger than the one before it.
    """
    galaxy, at = np.arange(len(nats)), np.zeros(len(nats), np.int64)
    steepest, found = np.full(len(nats), np.inf), []
    while True:
        later = votes > votes[at][:, None]
        rise = nats[galaxy] - nats[galaxy, at][:, None]
        slopes = np.where(later, rise / np.where(later, votes - votes[at][:, None], 1), 0)
        to = slopes.argmax(1)
        slope = np.minimum(slopes.max(1), steepest)
        goes = slope > 0
        found.append((galaxy[goes], votes[at][goes], votes[to][goes], slope[goes]))
        if not goes.any():
            return tuple(np.concatenate(column) for column in zip(*found, strict=True))
        galaxy, at, steepest = galaxy[goes], to[goes], slope[goes]
