"""Long work: done by threads in order, and how far it has come, in lines on standard error."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

EVERY = 10.0  # seconds between lines, where no terminal shows the last one all the time
IN_PLACE = "TRIZOO_PROGRESS_IN_PLACE"  # set where what is printed goes to a notebook
SHORT = 2.0  # seconds; work that is done sooner gets no line
PLANNED = 30.0  # seconds; of longer work it is said as soon as it can be told how long it will take


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
    how: str = "",
) -> Iterator:
    """Each of `things` in turn, while showing how many are done, how fast, and the time left.

    A terminal or a notebook shows it in one line that changes in place; anything else gets a line every `EVERY`
    seconds. A thing counts `weight`(thing), or 1, once the caller is done with it. `total` is found from `things`
    where they know their length. What takes longer than `PLANNED` seconds is said to, with `how` it is done, once two
    things have shown how fast it goes: the first may have been compiled, too.
    """
    weigh = weight or (lambda thing: 1)
    if total is None and hasattr(things, "__len__"):
        total = sum(weigh(thing) for thing in things) if weight else len(things)
    return _tracked(things, printable(what), total, unit, weigh, how)


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


def _tracked(things, what, total, unit, weigh, how):
    start = last = time.monotonic()
    done, first, planned = 0, None, total is None
    with _display(what) as (show, every):
        for thing in things:
            yield thing
            done += weigh(thing)
            now = time.monotonic()
            if first is None:
                first = (done, now)
            elif not planned and now - start >= SHORT:
                planned = True
                needed = now - start + (total - done) * (now - first[1]) / max(done - first[0], 1)
                if needed >= PLANNED:
                    say(f"plan: {what}: {total:,} {unit}{how}, about {span(needed)} in all")
            if now - last >= every:
                last = now
                show(_line(what, done, total, unit, now - start))
    seconds = time.monotonic() - start
    if seconds >= SHORT:
        say(f"{what}: {done:,} {unit} in {span(seconds)}, {done / seconds:,.4g} {unit}/s")


@contextmanager
def _display(what: str) -> Iterator[tuple[Callable[[str], object], float]]:
    """What shows a line of progress to whoever watches, and every how many seconds it is to."""
    if sys.stderr.isatty():
        from rich.console import Console  # slow to import, and not needed elsewhere
        from rich.text import Text

        with Console(stderr=True).status(Text(what)) as status:
            yield lambda line: status.update(Text(line)), 0.0
    elif os.environ.get(IN_PLACE):
        width = 0

        def show(line: str) -> None:
            nonlocal width
            width = max(width, len(line))
            print(f"\r{line:{width}}", end="", file=sys.stderr, flush=True)

        try:
            yield show, 1.0
        finally:
            if width:
                show("")
                print("\r", end="", file=sys.stderr, flush=True)
    else:
        yield say, EVERY


def _line(what: str, done: int, total: int | None, unit: str, seconds: float) -> str:
    of_total = "" if total is None else f" of {total:,}"
    left = "" if total is None or not done else f", {span(seconds * (total - done) / done)} left"
    return f"{what}: {done:,}{of_total} {unit}, {done / max(seconds, 1e-9):,.4g} {unit}/s{left}"


def span(seconds: float) -> str:
    """So many seconds in hours, minutes and seconds."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )
