"""What tests of damaged inputs share: cases tried one after the other in a child process, each with a bound.

A case that ends the process, hangs or takes more addresses than there may be is seen: it was begun and did not end.
"""

import faulthandler
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
MEMORY = 2**30  # bytes that the process may ever hold beyond those that whole files took
BEYOND = 8 * 2**30  # bytes of addresses: past that it is the machine that would suffer
LONGEST = int(
    os.environ.get("LONGEST", "60")
)  # seconds of work, after which a case is taken to hang
FIXES = (
    "fetch name cut leave check mend save write put remove correct make say fill belong must keep set use "
    "choose delete begin give export do copy run fit raise lower prepare wait which pack"
)


class Hung(BaseException):
    """A case that does not end, and that no handler of exceptions may keep."""


def give_up(*_) -> None:
    raise Hung(f"not done after {LONGEST} seconds of work")


def peak_memory() -> int:
    """The most bytes that this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # where ru_maxrss begins with the parent's
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def tried(cases: Iterable[tuple[str, Callable[[], object]]], **more: Callable[[], object]) -> None:
    """Call each of `cases`, and print what it is, what became of it, and what it told, held and `more`."""
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (BEYOND, BEYOND))
    signal.signal(signal.SIGPROF, give_up)
    before = None
    for what, case in cases:
        if not what.endswith("whole") and before is None:
            before = peak_memory()
        print(json.dumps({"begun": what}), flush=True)
        outcome, message = "read", ""
        faulthandler.dump_traceback_later(
            10 * LONGEST, exit=True
        )  # a library that does not come back
        signal.setitimer(
            signal.ITIMER_PROF, LONGEST
        )  # of work: other processes may keep the machine
        try:
            case()
        except (Exception, Hung) as problem:
            outcome, message = type(problem).__name__, str(problem)
        signal.setitimer(signal.ITIMER_PROF, 0)
        held = 0 if before is None else peak_memory() - before
        about = {"case": what, "outcome": outcome, "message": message, "memory": held}
        print(json.dumps(about | {name: ask() for name, ask in more.items()}), flush=True)


def child(script: str, folder: Path, *words: str) -> list[dict]:
    """What a process of `script`, which is given `words` and `folder`, says became of its cases."""
    for name in ("here", "temporary"):
        (folder / name).mkdir(exist_ok=True)
    environment = {
        "TMPDIR": str(folder / "temporary"),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-W", "error", script, *words, str(folder)]
    where = {"cwd": folder / "here", "env": os.environ | environment}
    done = subprocess.run(
        command, **where, capture_output=True, text=True, errors="replace", timeout=1200
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, f"after {lines[-1:]}: {done.stderr[-2000:]}"
    return [line for line in lines if "case" in line]


def unclear(done: Iterable[dict]) -> list[tuple[str, str, str]]:
    """The cases of `done` that were neither read nor refused in words that say what to do."""
    wrong = []
    for case in done:
        message = case["message"].lower()
        helps = len(message) > 20 and any(word in message for word in FIXES.split())
        refused = case["outcome"] in ("ValueError", "FileNotFoundError", "OSError") and helps
        if case["outcome"] != "read" and not refused:
            wrong.append((case["case"], case["outcome"], message[:300]))
    return wrong
