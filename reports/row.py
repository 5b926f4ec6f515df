"""One row of a catalogue of a whole tree, for a page to explain: `python -m reports.row RUN reports/records/NAME.json`.

It is the galaxy that the network was not trained on whose volunteers are most likely to be asked whether it has a bar.
Beside its columns are kept what its volunteers said, and the true vote fractions, which synthetic galaxies have.
"""

import sys
from pathlib import Path

import pandas as pd

from reports.runs import read_runs
from shared.data.store import open_store
from shared.output.posterior import read_posterior
from shared.run.records import write_json

ASKED = "bar_asked"


def row(run: Path) -> dict:
    """The row of the fit in the folder `run`."""
    (record,) = read_runs(run)
    table = read_posterior(run / "posterior.parquet")
    unseen = table[~table["in_training"].astype(bool)]
    found = unseen.sort_values([ASKED, "id"], ascending=[False, True]).iloc[0]
    galaxies = open_store(Path(record.text("results.store"))).galaxies.set_index("id")
    galaxy, votes, truth = galaxies.loc[found["id"]], {}, {}
    for question, answers in record.at("run.dataset.questions").items():
        for answer in answers:
            votes[f"{question}_{answer}"] = int(galaxy[f"{question}_{answer}"])
            truth[f"{question}_{answer}"] = float(galaxy[f"true_{question}_{answer}"])
    return {
        "columns": {name: _plain(found[name]) for name in found.index},
        "votes": votes,
        "truth": truth,
    }


def _plain(value):
    value = value.item() if hasattr(value, "item") else value
    if pd.isna(value):
        return None
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), row(Path(sys.argv[1])))
