"""A process that answers each line it is told with a line of JSON, and waits in between."""

import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, NamedTuple

from shared.run.records import parse_json

LAST_WORDS = 1500  # characters of what it said, where it ended before it should


class Missing(ValueError):
    """Why a process cannot do what it was asked."""


class Child(NamedTuple):
    """A process at the other end of two pipes."""

    process: subprocess.Popen
    stderr: IO[str]  # what it writes to standard error
    begun: float  # time.monotonic() when it was asked for
    patience: float | None  # seconds in which it has to answer; None: any

    def read(self) -> dict:
        """Its next line. Raises Missing if that says why it cannot, or if it has ended, with its last words.

        It is ended, and is Missing too, if its patience runs out.
        """
        if not select.select([self.process.stdout], [], [], self.patience)[0]:
            self.process.kill()
            raise Missing(
                f"it had not answered after {self.patience:g} s; raise bench.patience, or ask less of it"
            )
        line = self.process.stdout.readline()
        if not line:
            self.stderr.seek(0)
            words = " ".join(self.stderr.read()[-LAST_WORDS:].split())
            raise Missing(f"its process ended with status {self.process.wait()}: {words}")
        try:
            answer = parse_json(line, {"missing?": str}, "its answer", "see what else it wrote")
        except ValueError as problem:
            self.process.kill()
            raise Missing(str(problem)) from problem
        if reason := answer.get("missing"):
            raise Missing(reason)
        return answer

    def ask(self, words: str) -> dict:
        """What it answers to `words`; raises Missing as `told` does."""
        with suppress(BrokenPipeError):
            self.process.stdin.write(words + "\n")
            self.process.stdin.flush()
        return self.read()


@contextmanager
def child(
    words: list[str], environment: dict[str, str], patience: float | None = None
) -> Iterator[Child]:
    """The process that `words` start; it ends as its input does, at the end of the context at the latest."""
    with tempfile.TemporaryFile("w+") as stderr:
        begun = time.monotonic()
        process = subprocess.Popen(
            words,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        try:
            yield Child(process, stderr, begun, patience)
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):
                    pipe.close()
