"""One row of the table of a whole tree, for a page to explain: `python -m reports.row RUN reports/records/trees`.

It is the galaxy that the network was not trained on whose volunteers are most likely to be asked whether it has a bar.
Beside its columns are kept what its volunteers said, and the true vote fractions, which synthetic galaxies have. Beside
row.json lies the record of its fit, by `python -m reports.publish`; `kept` is the folder of both.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from reports.numbers import number
from reports.runs import Record, read_runs
from shared.data.store import open_store
from shared.output.posterior import column_prefix, read_posterior
from shared.run.records import write_json

NAME = "row.json"
EXPLAINED = ("smooth-or-featured", "bar", "how-rounded")  # the questions that are shown of it
LASTS = ("mean", "std", "p05", "p50", "p95", "votes_low", "votes_high")

# Walmsley et al. 2022 (MNRAS 509, 3966), table 1: accuracy on all of their test galaxies that it is of, and on those
# where the volunteers are confident; before them, how many answers the question has.
PUBLISHED = {
    "smooth-or-featured": (3, 0.9352, 0.9997),
    "disk-edge-on": (2, 0.9871, 0.9980),
    "has-spiral-arms": (2, 0.9349, 0.9921),
    "bar": (3, 0.8185, 0.9945),
    "bulge-size": (5, 0.8419, 1.0),
    "how-rounded": (3, 0.9314, 0.9968),
    "edge-on-bulge": (3, 0.9111, 0.9961),
    "spiral-winding": (3, 0.7832, 0.9906),
    "spiral-arm-count": (6, 0.7742, 0.9863),
    "merging": (4, 0.8798, 0.9987),
}


def chosen(run: Path) -> dict:
    """The row of the fit in the folder `run`."""
    (record,) = read_runs(run)
    table = read_posterior(run / "posterior.parquet")
    unseen = table[~table["in_training"].astype(bool)]
    found = unseen.sort_values(["bar_asked", "id"], ascending=[False, True]).iloc[0]
    galaxies = open_store(Path(record.text("results.store"))).galaxies.set_index("id")
    galaxy, votes, truth = galaxies.loc[found["id"]], {}, {}
    for question, answers in _questions(record).items():
        for name in (f"{question}_{answer}" for answer in answers):
            votes[name], truth[name] = int(galaxy[name]), float(galaxy[f"true_{name}"])
    columns = {name: _plain(found[name]) for name in found.index}
    return {"columns": columns, "votes": votes, "truth": truth}


def read(kept: Path) -> tuple[dict, dict, dict]:
    """The columns of the row, what the galaxy's volunteers said, and the true fractions."""
    found = json.loads((kept / NAME).read_text())
    return found["columns"], found["votes"], found["truth"]


def of_questions(kept: Path) -> list[list[str]]:
    """What the row says of each question, and how many of the galaxy's volunteers were asked it."""
    columns, votes, _ = read(kept)
    totals = {
        name: sum(votes[f"{name}_{answer}"] for answer in answers)
        for name, answers in _questions(fit(kept)).items()
    }
    rows = [["columns of", "`_asked`", "`_information`", "of its volunteers, were asked"]]
    for name in EXPLAINED:
        prefix = name.replace("-", "_")
        cells = [f"{columns[f'{prefix}_{last}']:.3f}" for last in ("asked", "information")]
        rows.append([f"`{prefix}`", *cells, f"{totals[name]} of {totals[EXPLAINED[0]]}"])
    return rows


def of_answers(kept: Path) -> list[list[str]]:
    """What the row says of each answer, beside what volunteers said and the truth."""
    columns, votes, truth = read(kept)
    rows = [["columns of", *(f"`_{last}`" for last in LASTS), "volunteers", "true fraction"]]
    for question in EXPLAINED:
        answers = _questions(fit(kept))[question]
        total = sum(votes[f"{question}_{answer}"] for answer in answers)
        for answer in answers:
            prefix, name = column_prefix(question, (answer,)), f"{question}_{answer}"
            values = (columns[f"{prefix}_{last}"] for last in LASTS)
            cells = [str(v) if isinstance(v, int) else f"{v:.3f}" for v in values]
            rows.append([f"`{prefix}`", *cells, f"{votes[name]} of {total}", f"{truth[name]:.3f}"])
    return rows


def in_words(kept: Path) -> str:
    """The row, column by column."""
    columns, *_ = read(kept)
    run, name = fit(kept), "smooth_or_featured_featured_or_disk"
    mean, low, high, fewest, most = (
        columns[f"{name}_{last}"] for last in ("mean", "p05", "p95", "votes_low", "votes_high")
    )
    bar, rounded, walk = (
        columns[name] for name in ("bar_asked", "how_rounded_asked", "walk_information")
    )
    product = mean * columns["disk_edge_on_no_mean"]
    each = sum(
        columns[f"{prefix}_asked"] * columns[f"{prefix}_information"]
        for prefix in (question.replace("-", "_") for question in _questions(run))
    )
    lines = (
        f"`id` is {columns['id']}. `in_training` is {str(columns['in_training']).lower()}: the network was not trained "
        "on this galaxy's votes, so the row is a prediction. (`ra` and `dec` follow where they are known.)",
        f"`{name}_mean`, {mean:.2f}: of the volunteers who are asked the first question, {100 * mean:.0f} % are "
        "expected to answer featured or disk.",
        f"`{name}_p05` to `_p95`, {low:.2f} to {high:.2f}: with a probability of 90 % the galaxy's vote fraction, as "
        "of very many volunteers, lies between. `_p50` is its median, `_std` its standard deviation.",
        f"`{name}_votes_low` to `_votes_high`, {fewest} to {most}: if {run.at('run.posterior.expected_votes')} "
        "volunteers answered (`posterior.expected_votes`), so many would say featured or disk, with a probability of "
        "90 %, or a little more, since votes are whole numbers.",
        f"`bar_asked`, {bar:.2f}: the share of volunteers who are expected to be asked about a bar, because they "
        "answered featured and not edge-on. It is the mean over posterior samples of the product of the two fractions, "
        f"{bar:.4f}, and not the product of their means, {product:.4f}.",
        f"`how_rounded_asked`, {rounded:.2f}: few answer smooth, so few are asked how round the galaxy is. The columns "
        "of `how_rounded` say what those few would answer. They are filled in like all others.",
        f"`bar_information`, {columns['bar_information']:.3f} nats: what one volunteer's answer, if asked, tells about "
        "the network. It is 0 where all posterior samples agree, whatever they say, and at most ln 3 = 1.10 for three "
        "answers.",
        f"`walk_information`, {walk:.3f} nats: what all answers of one volunteer tell together. The sum over questions "
        f"of `_asked` x `_information` is {each:.3f}: it counts twice what two answers tell alike.",
    )
    return "\n".join(f"- {line}" for line in lines)


def honesty(kept: Path) -> str:
    """What the fit was, and whether its intervals are honest."""
    run = fit(kept)
    size, steps, galaxies = (
        run.at(f"run.{key}") for key in ("model.image_size", "training.steps", "dataset.galaxies")
    )
    questions = run.at("results.test.tree.questions")
    each = [inside(found) for found in questions.values()]
    votes, predicted, truth = np.mean(each, axis=0)
    verdict = "too wide" if truth > 92 else "too narrow" if truth < 88 else "as they should"
    right = questions[EXPLAINED[0]]["accuracy"]["all"]["accuracy"]
    _, published, _ = PUBLISHED[EXPLAINED[0]]
    return (
        f"The command took {run.at('seconds') / 60:.0f} minutes, on two cores that had other work, too. It is a toy: "
        f"{size} pixels, {galaxies:,} galaxies, {steps:,} steps, {100 * right:.0f} % accuracy on the first question "
        f"(W+22, on real galaxies: {100 * published:.0f} %). On test galaxies its 90 % intervals of votes hold "
        f"{votes:.1f} % of the votes ({predicted:.1f} % are predicted), and those of fractions {truth:.1f} % of the "
        f"true fractions: {verdict}."
    )


def inside(found: dict) -> tuple[float | None, ...]:
    """Of one question, in per cent: votes in their 90 % intervals, those said to be, and true fractions."""
    answers = [one["votes_coverage"] for one in (found.get("answers") or {}).values()]
    shares = [
        [one[side] for one in answers if number(one[side])] for side in ("observed", "expected")
    ]
    truth = (found.get("truth") or {}).get("observed")
    means = [100 * sum(some) / len(some) if some else None for some in shares]
    return (*means, 100 * truth if number(truth) else None)


def fit(kept: Path) -> Record:
    """The record of the fit that the row is of."""
    (run,) = read_runs(kept / "fit")
    return run


def _questions(run: Record) -> dict[str, list[str]]:
    return run.at("run.dataset.questions")


def _plain(value):
    value = value.item() if hasattr(value, "item") else value
    if pd.isna(value):
        return None
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    write_json(Path(sys.argv[2]) / NAME, chosen(Path(sys.argv[1])))
