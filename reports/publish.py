"""Records worth keeping, into the repository: `python -m reports.publish OUTPUTS reports/records/NAME`.

A record is copied without the galaxies that lie beside it; how far apart two backends' posteriors are is worked out
first, since it cannot be from the records alone.
"""

import sys
from pathlib import Path

from reports.agreement import compared
from reports.runs import index, read_runs
from shared.run.records import write_json


def publish(outputs: Path, target: Path) -> int:
    """Copy every record below `outputs` to `target`, and write `target`/agreement.json; gives how many there are."""
    runs = read_runs(outputs)
    for run in runs:
        record = {key: value for key, value in run.data.items() if key != "folder"}
        write_json(target / run.place / "record.json", record)
    pairs = [
        {"backends": [left.backend, right.backend], "seed": left.at("run.seed"), **differences}
        for left, right, differences in compared(index(runs))
    ]
    if pairs:
        write_json(target / "agreement.json", {"pairs": pairs})
    return len(runs)


if __name__ == "__main__":
    print(publish(Path(sys.argv[1]), Path(sys.argv[2])), "records")
