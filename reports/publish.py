"""Records worth keeping, into the repository: `python -m reports.publish OUTPUTS reports/records[/NAME]`.

A record lies in a folder named by what it measures, with the machine and the day, and no file that is there changes. It
is copied without the galaxies that lie beside it; how far apart two backends' posteriors are is worked out first, since
it cannot be from the records alone.
"""

import re
import sys
from pathlib import Path

from reports.agreement import apart
from reports.html import slug
from reports.runs import Record, index, read_runs
from shared.run.records import write_json

# of a machine's name, what does not tell it from others
COMMON = (
    r"\((?:R|TM)\)|\b(?:amd|intel|nvidia|apple|processor|cpu|gpu|core|with|graphics)\b|@.*|\d+-core"
)


def publish(outputs: Path, target: Path) -> int:
    """Copy every record below `outputs` to a folder of its own in `target`; gives how many there are."""
    runs = read_runs(outputs)
    for run in runs:
        record = {key: value for key, value in run.data.items() if key != "folder"}
        write_json(free(target / name(run)) / "record.json", record)
    pairs = apart(index(runs)._replace(unindexed={}))
    if pairs:
        own = "-".join(["agreement", slug(runs[0].about), machine(runs[0]), day(runs[0])])
        write_json(free(target / own) / "agreement.json", {"pairs": pairs})
    return len(runs)


def name(run: Record) -> str:
    """What `run` measures, on what and when: train-64px-float32-epyc-2026-11-27."""
    size = run.at("run.model.image_size")
    timed = run.task == "bench"
    parts = [
        *(
            run.at("run.bench.tasks") or ["bench"]
            if timed
            else [run.task, run.at("run.dataset.name")]
        ),
        *([] if timed else [run.at("run.question"), run.backend, f"seed{run.text('run.seed')}"]),
        f"{size}px" if size else None,
        run.precision,
        machine(run),
        day(run),
    ]
    return slug("-".join(str(part) for part in parts if part and str(part) != "—").replace(".", ""))


def machine(run: Record) -> str:
    """The GPU's or the processor's name, in a word or two."""
    device = run.text("where.device")
    told = run.text("host.processor") if device.startswith(("cpu", "—", "auto")) else device
    return "-".join(slug(re.sub(COMMON, " ", told, flags=re.IGNORECASE)).split("-")[:2]) or "cpu"


def day(run: Record) -> str:
    """When `run` started."""
    return str(run.at("started") or "")[:10]


def free(folder: Path) -> Path:
    """`folder`, or, where there is one of that name, the same with a number."""
    place, count = folder, 1
    while place.exists():
        count += 1
        place = folder.with_name(f"{folder.name}-{count}")
    return place


if __name__ == "__main__":
    print(publish(Path(sys.argv[1]), Path(sys.argv[2])), "records")
