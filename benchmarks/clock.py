"""Timing of work that waits for its own result: the first call apart, then calls until it is steady, then turns."""

import time

from benchmarks.work import Work

LAST = 3  # calls by which it is told whether work is steady
STEADY = 1.1  # the slowest of these, over the fastest, at most


def seconds(work: Work) -> float:
    """How long one call takes; what comes before it is not counted."""
    work.before()
    begun = time.perf_counter()
    work.call()
    return time.perf_counter() - begun


def warm_up(work: Work, most: int) -> tuple[int, bool]:
    """Call until the last LAST calls are within STEADY of each other, `most` times at most: how often,
    and whether so.
    """
    spent: list[float] = []
    while len(spent) < most and not steady(spent):
        spent.append(seconds(work))
    return len(spent), steady(spent)


def steady(spent: list[float]) -> bool:
    """Whether calls that took `spent` seconds each have come to take about the same time."""
    last = spent[-LAST:]
    return len(last) == LAST and max(last) <= STEADY * min(last)
