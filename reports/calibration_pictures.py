"""The pictures that `trizoo calibrate` leaves in its folder: PIT, coverage by level, vote fractions, reliability."""

from collections.abc import Iterator
from pathlib import Path

from reports.charts import Line, chart, in_file
from reports.quality import outline
from shared.run.records import write_whole

PERFECT = "perfect"
SIDES = {"as_fitted": ("as fitted", "-", "--"), "recalibrated": ("recalibrated", ":", "-.")}
PER_CENT = 100


def draw(folder: Path, config: dict, results: dict) -> None:
    """Draw into `folder` what `results` of calibrate measured of the question of its run, whose settings are `config`.

    Other questions of a whole tree are in calibration.json.
    """
    question, backend = config["question"], config["backend"]["name"]
    told = {side: of[question] for side, of in results["coverage"].items()}
    if not told["as_fitted"]["galaxies"]:
        return
    for name, caption, lines, axes, equal in pictures(told, question, backend):
        svg = in_file(chart(caption, lines, axes, equal=equal)) + "\n"
        write_whole(folder / f"{name}.svg", lambda beside, svg=svg: beside.write_text(svg))


def pictures(told: dict[str, dict], question: str, backend: str) -> Iterator[tuple]:
    """Of each picture its name, caption, lines, titles of the axes, and whether it has a line where both are equal.

    `told` is what `shared.method.coverage` measured, as fitted and recalibrated.
    """
    after = told["recalibrated"]
    yield (
        "pit",
        f"{question}: PIT of the votes; {PERFECT}: even",
        [
            Line(
                "", [0, PER_CENT], [PER_CENT / len(after["pit"]["histogram"])] * 2, meaning=PERFECT
            ),
            *(
                Line(
                    backend, *outline(one["pit"]["histogram"]), None, SIDES[side][1], SIDES[side][0]
                )
                for side, one in told.items()
            ),
        ],
        ("PIT (%)", "galaxies (%)"),
        False,
    )
    yield (
        "coverage",
        f"{question}: coverage by level; dashed grey, as it should be",
        [line for side, one in told.items() for line in _levels(one, side, backend)],
        ("level of the interval (%)", "galaxies in it (%)"),
        True,
    )
    yield (
        "fractions",
        f"{question}: vote fractions near the expected one, at each galaxy's own number of votes",
        [
            Line(backend, *_table(after["fractions"], 0, 2), None, "-", "observed", True),
            *(
                Line(
                    backend,
                    *_table(one["fractions"], 0, 1),
                    None,
                    SIDES[side][2],
                    f"predicted, {SIDES[side][0]}",
                )
                for side, one in told.items()
            ),
        ],
        ("deviation from the expected fraction (%)", "galaxies within it (%)"),
        False,
    )
    yield (
        "reliability",
        f"{question}: reliability of the expected fraction",
        [
            Line(
                backend,
                *_table(after["reliability"], 0, 1),
                None,
                "-",
                "tenths of the galaxies' expected fractions",
                True,
            )
        ],
        ("expected fraction (%)", "observed fraction (%)"),
        True,
    )


def _levels(one: dict, side: str, backend: str) -> Iterator[Line]:
    name, dashes, others = SIDES[side]
    yield Line(
        backend, *_table(one["votes"], 0, 1), None, dashes, f"votes, {name}", side == "as_fitted"
    )
    if one["truth"]:
        table = _table(one["truth"]["levels"], 1, 2)
        yield Line(backend, *table, None, others, f"true fractions, {name}")


def _table(rows: list[list[float]], x: int, y: int) -> tuple[list[float], list[float]]:
    """Two columns of `rows`, in per cent."""
    return [PER_CENT * row[x] for row in rows], [PER_CENT * row[y] for row in rows]
