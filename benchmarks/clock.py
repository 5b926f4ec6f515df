"""Timing of a call that waits for its own result: the first apart, a warm-up, then quantiles of many."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from shared.progress import track


class Timing(NamedTuple):
    """Seconds of one call."""

    first_seconds: float  # compilation included
    median_seconds: float
    p10_seconds: float
    p90_seconds: float


def measure(call: Callable[[], object], warmup: int, repeats: int, what: str) -> Timing:
    """Time CALL, which must return only when its result is there, REPEATS times after WARMUP further ones."""
    first = _seconds(call)
    for _ in range(warmup):
        call()
    later = [_seconds(call) for _ in track(range(repeats), what, unit="calls")]
    return Timing(first, *np.quantile(later, [0.5, 0.1, 0.9]).tolist())


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
