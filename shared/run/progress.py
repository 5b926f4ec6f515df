"""Long work: done by threads in order, and how far it has come, on standard error: a bar at a terminal, else lines."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

EVERY = 10.0  # seconds between plain lines
SHORT = 2.0  # seconds; work that is done sooner gets no plain line


def printable(text: str) -> str:
    """`text` with every character that a terminal would not show, or would obey, as an escape: \\x1b; lines stay lines.

    What is printed can hold names and reasons that come from elsewhere: a server, an archive, a table.
    """
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1]
        for letter in text
    )


def say(text: str) -> None:
    """One line for whoever watches, kept out of what a program would read."""
    print(printable(text), file=sys.stderr, flush=True)


def track(
    things: Iterable,
    what: str,
    total: int | None = None,
    unit: str = "galaxies",
    weight: Callable[..., int] | None = None,
) -> Iterator:
    """Each of `things` in turn, while showing how many are done, how fast, and the time left.

    A thing counts `weight`(thing), or 1, once the caller is done with it. `total` is found from `things`
    where they know their length.
    """
    weigh = weight or (lambda thing: 1)
    if total is None and hasattr(things, "__len__"):
        total = sum(weigh(thing) for thing in things) if weight else len(things)
    show = _with_bar if sys.stderr.isatty() else _with_lines
    return show(things, what, total, unit, weigh)


def in_order(function: Callable, things: Iterable) -> Iterator:
    """`function` of each of `things` in turn, from threads that keep a little ahead of the reader.

    Threads and no processes, so that it works beside any framework: Pillow and numpy let go of the
    interpreter.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    waiting: deque = deque()
    with ThreadPoolExecutor(cores) as pool:
        try:
            for thing in things:
                waiting.append(pool.submit(function, thing))
                if len(waiting) > 8 * cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _with_bar(things, what, total, unit, weigh):
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(printable(what), total=total)
        for thing in things:
            yield thing
            progress.advance(task, weigh(thing))


class _Rate(ProgressColumn):
    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.4g} {self.unit}/s")


def _with_lines(things, what, total, unit, weigh):
    start = last = time.monotonic()
    done = 0
    for thing in things:
        yield thing
        done += weigh(thing)
        now = time.monotonic()
        if now - last >= EVERY:
            last = now
            say(_line(what, done, total, unit, now - start))
    seconds = time.monotonic() - start
    if seconds >= SHORT:
        say(f"{what}: {done:,} {unit} in {_span(seconds)}, {done / seconds:,.4g} {unit}/s")


def _line(what: str, done: int, total: int | None, unit: str, seconds: float) -> str:
    of_total = "" if total is None else f" of {total:,}"
    left = "" if total is None or not done else f", {_span(seconds * (total - done) / done)} left"
    return f"{what}: {done:,}{of_total} {unit}, {done / seconds:,.4g} {unit}/s{left}"


def _span(seconds: float) -> str:
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )
