"""Runs on a disk that fails at every change of a file in turn: quick, since each is a fork of one process.

That process has imported everything, with the library of benchmarks.faults, and is told by lines of JSON what to do.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import trizoo
from benchmarks.faults import ERRORS, Disk
from benchmarks.kills import contents, differences, unfinished
from shared.run.records import sweep

ROOT = Path(__file__).parents[1]
LOOP = """
import json, os, sys
from importlib import import_module
from pathlib import Path
for name in json.loads(sys.argv[1]):
    import_module(name)
import trizoo
print("ready", flush=True)
for line in sys.stdin:
    place, log = json.loads(line)
    child = os.fork()
    if not child:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.chdir(place)
        try:
            status = trizoo.run_here(Path("run"), "")
        except BaseException:
            import traceback
            traceback.print_exc()
            status = 70
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Runs:
    """Runs of `config`, each in a copy of the folder `base` below `place`, by a process that knows `modules`."""

    def __init__(self, library: Path, place: Path, base: Path, config: dict, modules: list[str]):
        self.place, self.base, self.here = place, base, place / "here"
        self.log, self.config = place / "log", config
        self.here.mkdir(parents=True)
        self.disk = Disk(library, self.here, place / "disk")
        environment = trizoo.child_environment(self.config["backend"]) | self.disk.environment
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOOP, json.dumps(modules)],
            env=environment | {"TMPDIR": str(place), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self) -> "Runs":
        self.fresh()
        status = self.run()
        if status:
            self.__exit__()
        assert status == 0, self.output()
        self.whole, self.changes = contents(self.here), self.disk.changes
        return self

    def __exit__(self, *_) -> None:
        self.process.communicate()

    def fresh(self) -> None:
        """Begin with a copy of the base, and the run's settings."""
        for path in list(self.here.iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.base, self.here, dirs_exist_ok=True)
        (self.here / "run").mkdir()
        (self.here / "run" / "run.json").write_text(json.dumps(self.config))

    def run(self, how: str = "none", at: int = 0) -> int:
        """The exit status of the run, whose change of files numbered `at` goes wrong `how`."""
        self.disk.arm(how, at)
        self.process.stdin.write(json.dumps([str(self.here), str(self.log)]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def output(self) -> str:
        """What the last run printed."""
        return self.log.read_text()

    def interrupted(self, how: str, at: int) -> list[str]:
        """What is wrong with a run that is interrupted so, or with its second start."""
        self.fresh()
        status, problems = self.run(how, at), []
        struck, output = self.disk.struck, self.output()
        lines = [line for line in output.splitlines() if line.startswith("trizoo: ")]
        if how in ERRORS and (status not in (0, 2) or len(lines) != (status == 2)):
            problems.append(f"status {status}: {output[-900:]}")
        if how in ("ENOSPC", "full", "short") and (litter := unfinished(self.here)):
            problems.append(f"left {litter}")
        sweep(self.here / "run")  # as `trizoo` does
        if again := self.run():
            problems.append(f"then status {again}: {self.output()[-900:]}")
        if differing := differences(self.whole, contents(self.here)):
            problems.append(f"then other bytes or litter: {differing}")
        return [f"{how} at {at} ({struck}): {problem}" for problem in problems]


def spread(changes: int, count: int) -> list[int]:
    """`count` numbers of changes from 1 to `changes`, or all of them, evenly spread; one alone is the middle."""
    if count == 1:
        return [(changes + 1) // 2]
    if changes <= count:
        return list(range(1, changes + 1))
    return sorted({1 + round(number * (changes - 1) / (count - 1)) for number in range(count)})
