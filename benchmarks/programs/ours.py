"""Our three frameworks, each through the interface that the rest of trizoo uses."""

from importlib import import_module
from pathlib import Path

from benchmarks.work import Work
from shared.method.backend import open_backend
from shared.run.spec import RunSpec

TASKS = tuple(sorted(path.stem for path in (Path(__file__).parents[1] / "tasks").glob("[!_]*.py")))


def work(run: RunSpec, task: str) -> Work:
    """The task called `task`, opened; raises ValueError if there is no file of that name in benchmarks/tasks."""
    if task not in TASKS:
        raise ValueError(f"no task {task}; there are {', '.join(TASKS)}")
    return import_module(f"benchmarks.tasks.{task}").work(open_backend(run.backend), run)


def describe(run: RunSpec) -> dict[str, str]:
    """The framework's description of itself."""
    return open_backend(run.backend).describe()
