"""Crash recovery: runs are interrupted and started again until done, and must leave the files of one that was not.

    python -m benchmarks.kills kills=200 errors=60 cuts=40 record=reports/records/kills/kills.json

A kill is a SIGKILL at a random moment of a run's whole life, to the command and its process, or to one of them alone:
at a random time, or as a file is changed. An error is a disk that fails at some change of a file: ENOSPC or EIO once,
EIO from then on, or room for no more. A cut is power lost at a change, and once at the end: what was not synced is not
there afterwards. Errors and cuts, and kills at a change, need Linux and a C compiler (benchmarks/faults.py); without
them kills are timed.

Each time no process may be left, nothing may print a traceback, and a disk's error is told in one line, without litter.
In the end all files must be those of an uninterrupted run, byte for byte, and no other file there. Only seconds,
which checkpoints and records keep too, may differ, what is made from them, and the memory. Words: `kills`, `errors` and
`cuts`, how many in all; `only=fit,active-jax`, parts of cases' names; `workers`, runs at once; `record`, a file.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import safe_open

from benchmarks.faults import Disk, library
from shared.method.training import CHECKPOINT
from shared.run.records import host, write_json
from shared.tasks import ROUNDS

ROOT = Path(__file__).parent.parent
RECORD = "record.json"
GALAXIES = 60  # photographs
GRACE = 30.0  # seconds in which a process whose parent is gone must end
PATIENCE = 600.0  # seconds after which a run is taken to hang
PHOTOS = ("dataset=folder", "dataset.images=photos", "dataset.table=votes.csv")
NETWORK = (
    *PHOTOS,
    "model.image_size=16",
    "model.blocks=[[3],[4]]",
    "model.dense=8",
    "training.batch_size=8",
    "posterior.samples=5",
    "backend.steps=2",
    "backend.threads=1",
)
FIT = (*NETWORK, "training.steps=24", "training.checkpoint_every=4", "training.validate_every=8")
BASE = ("fit", "backend=torch", *FIT, "folder=outputs/base")
GIVEN = ("weights=outputs/base", "backend.threads=1")
MORE = ("dataset=synthetic", "dataset.galaxies=40", "posterior.samples=5")
ASKING = (
    *NETWORK,
    "acquisition.initial=8",
    "acquisition.per_round=4",
    "acquisition.rounds=3",
    "acquisition.first_steps=4",
    "acquisition.round_steps=4",
)
OF_THE_DAY = (  # what is another the next time, even if nothing stops the run
    "seconds",
    "train_seconds",
    "first_call_seconds",
    "sample_seconds",
    "images_per_second",
    "peak_memory_bytes",
    "memory",
    "laplace",
    "summary",
)
KILLS = ("both", "parent", "child", "kill", "cut")  # in turn; the last two at a change of a file
ERRORS = ("ENOSPC", "full", "EIO", "broken", "short")


class Case(NamedTuple):
    """A command that is interrupted."""

    words: tuple[str, ...]
    share: int  # of all interruptions
    backend: str | None = None
    fitted: bool = False  # needs the fit of BASE


CASES = {
    "prepare": Case(("prepare", *PHOTOS), 16),
    "prepare-drawn": Case(("prepare", *MORE[:2]), 8),
    "fit-torch": Case(("fit", "backend=torch", *FIT), 16, "torch"),
    "fit-jax": Case(("fit", "backend=jax", *FIT), 8, "jax"),
    "fit-tf": Case(("fit", "backend=tf", *FIT), 6, "tf"),
    "predict-torch": Case(("predict", "backend=torch", *GIVEN, *MORE), 10, "torch", True),
    "predict-jax": Case(("predict", "backend=jax", *GIVEN, *MORE), 5, "jax", True),
    "predict-tf": Case(("predict", "backend=tf", *GIVEN, *MORE), 4, "tf", True),
    "active-torch": Case(("active", "backend=torch", *ASKING), 10, "torch"),
    "active-jax": Case(("active", "backend=jax", *ASKING), 5, "jax"),
    "active-tf": Case(("active", "backend=tf", *ASKING), 4, "tf"),
    "calibrate-torch": Case(("calibrate", "backend=torch", *GIVEN), 6, "torch", True),
    "export": Case(("export", *GIVEN), 8, None, True),
    "report": Case(("report",), 6, None, True),
}


class Place(NamedTuple):
    """Where a campaign works."""

    folder: Path
    faults: Path | None  # the library of benchmarks.faults


class Interruption(NamedTuple):
    """What is to happen to a run."""

    kind: str  # kill, error or cut
    how: str  # of KILLS, or as benchmarks.faults says
    when: float  # as a share of the run's life, or of its changes of files


class Whole(NamedTuple):
    """An uninterrupted run."""

    files: dict[str, object]
    seconds: float
    changes: int  # of files
    lost: list[str]  # what is missing or other where the power is cut once it has ended


class Ended(NamedTuple):
    """What became of a process."""

    status: int | None
    printed: str  # what it printed, errors last
    left: list[str]  # the processes that it left behind


def main(words: list[str]) -> int:
    """Interrupt runs as `words` ask for and print what became of them; 0 if all ended as uninterrupted ones."""
    given = dict(word.split("=", 1) for word in words)
    counts = {
        kind: int(given.pop(f"{kind}s", few))
        for kind, few in (("kill", 200), ("error", 60), ("cut", 40))
    }
    wanted = given.pop("only", "").split(",")
    workers, record, seed = (
        int(given.pop("workers", 2)),
        given.pop("record", None),
        given.pop("seed", None),
    )
    if given:
        raise SystemExit(f"no such word: {', '.join(given)}; see python -m pydoc benchmarks.kills")
    begun = time.perf_counter()
    cases = {name: case for name, case in CASES.items() if any(part in name for part in wanted)}
    with tempfile.TemporaryDirectory() as folder:
        place = ready(Path(folder), fitted=any(case.fitted for case in cases.values()))
        shares = {
            kind: shared_out(count, [case.share for case in cases.values()])
            for kind, count in counts.items()
        }

        def interrupted(number: int) -> dict:
            name = list(cases)[number]
            random = np.random.default_rng(None if seed is None else [int(seed), number])
            plan = planned({kind: share[number] for kind, share in shares.items()}, random)
            found = campaign(place, name, cases[name], plan)
            print(json.dumps(found | {"interruptions": len(found["interruptions"])}), flush=True)
            return found

        with ThreadPoolExecutor(workers) as pool:
            found = list(pool.map(interrupted, range(len(cases))))
    if record:
        seconds = time.perf_counter() - begun
        write_json(Path(record), {"host": host(), "seconds": seconds, "runs": found})
    sums = {f"{kind}s": sum(one[f"{kind}s"] for one in found) for kind in counts}
    wrong = [one["case"] for one in found if not one["right"]]
    print(json.dumps(sums | {"wrong": wrong}))
    return 1 if wrong else 0


def ready(folder: Path, fitted: bool) -> Place:
    """`folder` with what all cases begin from: photographs of galaxies, their votes and, if `fitted`, a fit of them."""
    from PIL import Image

    from shared.data.synthetic import draw_galaxies, render
    from shared.run.spreadsheet import write_csv

    photos = folder / "base" / "photos"
    photos.mkdir(parents=True)
    (folder / "temporary").mkdir()
    drawn = draw_galaxies(GALAXIES, 1)
    for number, galaxy in enumerate(drawn.to_dict("records")):
        Image.fromarray(render(galaxy)[..., 0]).save(photos / f"g{number}.png", compress_level=1)
    votes = drawn[[column for column in drawn if column.startswith("smooth-or-featured_")]]
    votes = votes.drop(columns="smooth-or-featured_total")
    votes.insert(0, "id", [f"g{number}" for number in range(GALAXIES)])
    write_csv(folder / "base" / "votes.csv", votes)
    place = Place(folder, library(folder))
    if fitted:
        shutil.copytree(folder / "base", folder / "fitted")
        ended = finish(place, Case(BASE, 0), folder / "fitted")
        if ended.status:
            raise RuntimeError(f"the fit that others need failed:\n{ended.printed[-2000:]}")
    return place


def shared_out(count: int, shares: list[int]) -> list[int]:
    """`count` as whole numbers in the ratios of `shares`."""
    ends = np.rint(np.cumsum([0, *shares]) / sum(shares) * count).astype(int)
    return np.diff(ends).tolist()


def planned(counts: dict[str, int], random: np.random.Generator) -> list[Interruption]:
    """So many interruptions of each kind, in a random order, at random moments."""
    hows = {"kill": KILLS, "error": ERRORS, "cut": ("cut",)}
    plan = []
    for kind, count in counts.items():
        first = int(random.integers(len(hows[kind])))
        turns = [hows[kind][(first + number) % len(hows[kind])] for number in range(count)]
        plan += [Interruption(kind, how, random.uniform()) for how in turns]
    return [plan[number] for number in random.permutation(len(plan))]


def campaign(place: Place, name: str, case: Case, plan: list[Interruption]) -> dict:
    """Interrupt runs of `case` as `plan` says, each until it is done: what was done, and in what they differ."""
    begun = time.perf_counter()
    whole, differing, done_so_far = uninterrupted(place, name, case), set(), []
    problems = [f"lost where power is cut at the end: {path}" for path in whole.lost]
    left, number = list(plan), 0
    while left:
        folder, number, done = fresh(place, f"{name}-{number}", case), number + 1, False
        while left and not done:
            event = left.pop(0)
            in_time, done, wrongs = interrupt(place, case, whole, folder, event)
            problems += [f"{event}: {problem}" for problem in wrongs]
            if in_time:
                done_so_far.append(event)
            else:
                left.append(event)  # it was done before; another time
        if not done:
            ended = finish(place, case, folder)
            if ended.status or "Traceback" in ended.printed:
                problems.append(f"cannot go on after {done_so_far[-1]}: {ended.printed[-600:]}")
        differing |= set(differences(whole.files, contents(folder)))
        if not (differing or problems):
            shutil.rmtree(folder)
    counts = {
        f"{kind}s": sum(event.kind == kind for event in done_so_far)
        for kind in ("kill", "error", "cut")
    }
    return {
        "case": name,
        "task": case.words[0],
        "backend": case.backend,
        **counts,
        "interruptions": [event._asdict() for event in done_so_far],
        "right": not (differing or problems),
        "differing": sorted(differing),
        "problems": problems,
        "seconds": time.perf_counter() - begun,
    }


def fresh(place: Place, name: str, case: Case) -> Path:
    """A folder called `name` to run in, which holds what `case` begins from."""
    folder = place.folder / name
    shutil.copytree(place.folder / ("fitted" if case.fitted else "base"), folder)
    return folder


def uninterrupted(place: Place, name: str, case: Case) -> Whole:
    """An uninterrupted run of `case`; RuntimeError, with its last words, if it cannot end."""
    folder = fresh(place, f"{name}-whole", case)
    own = place.folder / f"{name}-disk"
    disk = Disk(place.faults, folder, own, forgets=True) if place.faults else None
    begun = time.perf_counter()
    ended = finish(place, case, folder, disk)
    seconds = time.perf_counter() - begun
    if ended.status or ended.left:
        raise RuntimeError(
            f"{name} ended with status {ended.status}:\n{ended.printed[-2000:]}{ended.left}"
        )
    files, lost = contents(folder), []
    if disk:
        disk.after_power_cut(own / "after")
        lost = [path for path in differences(files, contents(own / "after")) if path in files]
        shutil.rmtree(own)
    shutil.rmtree(folder)
    return Whole(files, seconds, disk.changes if disk else 0, lost)


def interrupt(
    place: Place, case: Case, whole: Whole, folder: Path, event: Interruption
) -> tuple[bool, bool, list[str]]:
    """Start the run in `folder` and interrupt it: whether that was in time, whether the run is done, what is wrong."""
    at_change = place.faults and (event.kind != "kill" or event.how in ("kill", "cut"))
    if not at_change:
        return kill_in_time(place, case, whole, folder, event)
    with tempfile.TemporaryDirectory(dir=place.folder) as own:
        disk = Disk(place.faults, folder, Path(own), forgets=event.kind == "cut")
        disk.arm(event.how, 1 + int(event.when * whole.changes))
        ended = finish(place, case, folder, disk)
        problems = wrong(ended)
        if not disk.struck:
            return False, ended.status == 0, problems
        if event.kind == "error":
            problems += [
                f"{problem} ({disk.struck})" for problem in wrong_after_error(ended, folder, event)
            ]
            return True, ended.status == 0, problems
        if event.how == "kill" and ended.status not in (
            -signal.SIGKILL,
            128 + signal.SIGKILL,
        ):
            problems.append(f"status {ended.status} after SIGKILL: {ended.printed[-300:]}")
        if event.kind == "cut":
            after = Path(own) / "after"
            disk.after_power_cut(after)
            shutil.rmtree(folder)
            shutil.move(after, folder)
        return True, False, problems


def kill_in_time(
    place: Place, case: Case, whole: Whole, folder: Path, event: Interruption
) -> tuple[bool, bool, list[str]]:
    """Kill the run in `folder` at a random time: the command, the process that it started, or both; as `interrupt`."""
    child, log = start(place, case, folder)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(event.when * whole.seconds)
    if child.poll() is not None:
        ended = Ended(child.returncode, log.read_text(), left_behind(child.pid))
        return False, ended.status == 0, wrong(ended)
    victims = [child.pid]
    if event.how == "child":
        victims = [pid for pid, parent, _ in group(child.pid) if parent == child.pid] or victims
    if event.how in ("both", "kill", "cut"):
        os.killpg(child.pid, signal.SIGKILL)
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    ended = wait(child, log)
    return ended.status != 0, ended.status == 0, wrong(ended)


def start(
    place: Place, case: Case, folder: Path, disk: Disk | None = None
) -> tuple[subprocess.Popen, Path]:
    """The process of `case` in `folder`, the first of a group of its own, and the file to which it prints."""
    environment = os.environ | {
        "TMPDIR": str(place.folder / "temporary"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment |= disk.environment if disk else {}
    log = folder.with_suffix(".log")
    with log.open("w") as file:
        words = [sys.executable, str(ROOT / "trizoo.py"), *case.words]
        how = {
            "cwd": folder,
            "env": environment,
            "stdin": subprocess.DEVNULL,
            "start_new_session": True,
        }
        return subprocess.Popen(words, stdout=file, stderr=file, **how), log


def finish(place: Place, case: Case, folder: Path, disk: Disk | None = None) -> Ended:
    """Let the run of `case` in `folder` end."""
    return wait(*start(place, case, folder, disk))


def wait(child: subprocess.Popen, log: Path) -> Ended:
    """What becomes of `child` and its group; what does not end is killed."""
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return Ended(None, log.read_text(), [f"hung for {PATIENCE} seconds"])
    return Ended(child.returncode, log.read_text(), left_behind(child.pid))


def left_behind(leader: int) -> list[str]:
    """What still runs of the group of `leader` after GRACE, and is killed now."""
    end = time.monotonic() + GRACE
    while (left := group(leader)) and time.monotonic() < end:
        time.sleep(0.05)
    if left:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)
    return [words for _, _, words in left]


def group(leader: int) -> list[tuple[int, int, str]]:
    """The living processes in the group of `leader`: number, parent, words."""
    words = ["ps", "-A", "-o", "pid=,ppid=,pgid=,stat=,args="]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 4) for line in listed.splitlines()]
    return [
        (int(pid), int(parent), words)
        for pid, parent, leads, state, words in lines
        if int(leads) == leader and not state.startswith("Z")
    ]


def wrong(ended: Ended) -> list[str]:
    """What must never be, however a run ended."""
    problems = [f"left behind: {one}" for one in ended.left]
    if "Traceback" in ended.printed or "Fatal Python error" in ended.printed:
        problems.append(f"traceback: {ended.printed[-1500:]}")
    return problems


def wrong_after_error(ended: Ended, folder: Path, event: Interruption) -> list[str]:
    """What must not be after an error of the disk, unless the run could do without what failed."""
    if ended.status == 0:
        return []
    problems = []
    lines = [line for line in ended.printed.splitlines() if line.startswith("trizoo: ")]
    if len(lines) != 1:
        problems.append(f"not one line of what is wrong: {ended.printed[-600:]}")
    if event.how in ("ENOSPC", "full", "short") and (litter := unfinished(folder)):
        problems.append(f"litter: {litter}")
    return problems


def unfinished(folder: Path) -> list[str]:
    """Files that are on their way to another name; a store in the making is meant to be gone on with."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob(".*")
        if path.is_file() and not any(part.endswith(".partial") for part in path.parts)
    ]


def contents(folder: Path) -> dict[str, object]:
    """All that is in `folder` by its path, without what is another the next time."""
    read: dict[str, Callable[[Path], object]] = {
        RECORD: numbers,
        ROUNDS: lambda path: untimed(json.loads(path.read_text())),
        CHECKPOINT: arrays,
    }
    return {
        str(path.relative_to(folder)): read.get(path.name, Path.read_bytes)(path)
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


def differences(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """The paths at which two folders' `contents` differ."""
    return sorted(
        path for path in one.keys() | other.keys() if one.get(path, "") != other.get(path, "")
    )


def numbers(path: Path) -> str:
    """The results in the record at `path` as JSON, but for OF_THE_DAY."""
    try:
        results = json.loads(path.read_text())["results"]
    except (ValueError, KeyError, TypeError) as problem:
        return f"no record: {problem}"
    return json.dumps(untimed(results), sort_keys=True)


def arrays(path: Path) -> tuple[dict, dict]:
    """The arrays in a checkpoint, as bytes, and its facts but the seconds."""
    with safe_open(path, "numpy") as file:
        found = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
        return found, untimed(json.loads(file.metadata()["about"]))


def untimed(value):
    """Nested plain data without what is OF_THE_DAY."""
    if isinstance(value, dict):
        return {key: untimed(entry) for key, entry in value.items() if key not in OF_THE_DAY}
    return [untimed(entry) for entry in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
