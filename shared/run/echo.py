"""What a run's process prints, passed on to the standard output of the program that started it: a notebook's cell."""

import codecs
import os
import re
import sys
from contextlib import suppress
from threading import Thread
from typing import IO

COMPLAINT = "trizoo: "  # what a line begins with that says why a run has failed


class Echo(Thread):
    """Passes on what comes out of `source` as it comes, lines that are not ended and returns of the carriage as well.

    A line that begins with `COMPLAINT` is kept back as long as nothing follows it: as the last one it becomes an error.
    """

    def __init__(self, source: IO[bytes]):
        super().__init__(daemon=True)
        self.source = source
        self.complaint: str | None = None  # the last one, without its beginning
        self._begun = ""  # of a line that may become a complaint
        self._kept = ""  # a complaint that nothing has followed yet
        self._inside = False  # whether the last line passed on is not ended
        self.start()

    def run(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with self.source:
            while data := os.read(self.source.fileno(), 1 << 16):
                self._take(decoder.decode(data))
        self._take(decoder.decode(b"", final=True))
        _print(self._begun)

    def ended(self, failed: bool) -> str | None:
        """Why the run has `failed`, if it did and said so; to be called when its process has ended."""
        self.join(10)  # whoever else holds the other end may outlive it
        if failed:
            return self.complaint
        _print(self._kept)
        return None

    def _take(self, text: str) -> None:
        text, self._begun, out = self._begun + text, "", ""
        for line in re.findall(r"[^\n]*\n|[^\n]+", text):
            whole = line.endswith("\n")
            if self._inside or not (line.startswith(COMPLAINT) or COMPLAINT.startswith(line)):
                out += self._kept + line
                self._kept, self._inside = "", not whole
            elif whole:
                out += self._kept
                self._kept, self.complaint = line, line.removeprefix(COMPLAINT).strip()
            else:
                self._begun = line
        _print(out)


def _print(text: str) -> None:
    with suppress(OSError, ValueError):  # nobody reads it; the run goes on all the same
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
