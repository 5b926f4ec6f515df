"""The task `bench`: time each of bench.tasks in this process, with this run's framework."""

from importlib import import_module
from pathlib import Path

from benchmarks.clock import measure
from shared.backend import open_backend
from shared.spec import RunSpec, one_of
from shared.tasks import where


def bench(run: RunSpec, folder: Path) -> dict:
    """Time what the run asks for; ValueError for a task that benchmarks/tasks has not."""
    known = tuple(sorted(path.stem for path in (Path(__file__).parent / "tasks").glob("[!_]*.py")))
    for name in run.bench.tasks:
        one_of("bench.tasks", name, known)
    backend, rows = open_backend(run.backend), []
    for name in run.bench.tasks:
        call, images = import_module(f"benchmarks.tasks.{name}").work(backend, run)
        timing = measure(call, run.bench.warmup, run.bench.repeats, f"{run.backend.name} {name}")
        rows.append(
            {
                "task": name,
                "image_size": run.model.image_size,
                "batch_size": run.bench.batch_size,
                **timing._asdict(),
                "images_per_second": images / timing.median_seconds,
            }
        )
    told = ", ".join(f"{row['task']} {row['images_per_second']:.0f}/s" for row in rows)
    results = {"rows": rows, "peak_memory_bytes": backend.peak_memory(), "summary": told}
    return {"where": where(backend), "results": results}
