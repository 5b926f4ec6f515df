"""What a program is given to do in a benchmark: one span of work, and how much work that is."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Work(NamedTuple):
    """A span of work, opened and ready; see benchmarks/METHOD.md."""

    call: Callable[[], Any]  # does it once, and returns only when its result is there
    images: int  # galaxies that one call deals with
    flops: float = (
        0.0  # of one call, a multiplication and an addition counted apart; 0: not counted
    )
    bytes: float = 0.0  # that one call has to move to and from memory at least; 0: not counted
    before: Callable[[], Any] = lambda: None  # done before every call, and not timed
