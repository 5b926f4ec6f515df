"""How good the posteriors of whole trees of questions are, question by question."""

from reports.blocks import Prose, Section, Table, bare, number, prose, table
from reports.runs import Record, RecordSet

TITLE = "Whole trees"
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
THEIRS = ("theirs", "theirs, confident")
MEASURES = {  # heading -> where it is in a question's measures, or which of PUBLISHED; and its format
    "answered": ("galaxies", None),
    "accuracy": ("accuracy.all.accuracy", ".3f"),
    "of galaxies": ("accuracy.all.galaxies", None),
    "W+22: accuracy": (THEIRS[0], ".3f"),
    "confident": ("accuracy.confident.accuracy", ".3f"),
    "of so many": ("accuracy.confident.galaxies", None),
    "W+22: confident": (THEIRS[1], ".3f"),
    "MAE": ("mae", ".3f"),
    "volunteers' MAE": ("volunteers_mae", ".3f"),
    "equal volunteers": ("equal_volunteers.volunteers", ".1f"),
    "NLL (nats)": ("nll", ".3f"),
    "asked: predicted": ("asked.predicted", ".3f"),
    "asked: votes": ("asked.observed", ".3f"),
}
SHARES = ("PIT: distance", "votes in 90 % (%)", "predicted (%)", "truth in 90 % (%)")
FORMATS = {heading: form for heading, (_, form) in MEASURES.items() if form}
FORMATS |= {SHARES[0]: ".3f"} | dict.fromkeys(SHARES[1:], ".1f")


def whole_trees(record_set: RecordSet) -> Section:
    """The measures of every question of every fit that learned several, and whether its intervals are honest."""
    fits = [record for record in record_set.of("fit") if record.at("results.test.tree.questions")]
    if not fits:
        return bare(
            TITLE, "No fit of several questions is among the records; questions=all is one."
        )
    words = prose(
        "Of test galaxies, each question's are those with an answer to it. Accuracy: how often the answer of the "
        "largest mean fraction is the one most volunteers gave, where 34 or more answered the first question and half "
        "of them this one; confident, where more than 80 % of them agreed.",
        "W+22: accuracies that Walmsley et al. 2022 published (table 1) for their network on their galaxies. These "
        "galaxies are others: the columns say how hard each question is, not which network is better.",
        "MAE: of vote fractions, mean over answers; of volunteers, between two groups of as many as voted. Equal "
        "volunteers: how many have fractions as good as the network's (of galaxies with 40 answers or more).",
        "PIT: its largest distance from that of a perfect posterior, of the worst answer. Votes in 90 %: how often an "
        "answer's votes lie in the central 90 % interval, mean over answers; predicted is that interval's chance, "
        "which is more than 90 %, since votes are whole numbers. Truth: the same of true fractions, which synthetic "
        "galaxies have.",
    )
    blocks: list[Prose | Table] = [words]
    for record in fits:
        blocks += [prose(verdict(record_set, record)), _table(record_set, record)]
    return Section(TITLE, tuple(blocks))


def verdict(record_set: RecordSet, record: Record) -> str:
    """Whether the intervals of votes, and of true fractions where they are known, hold what they should."""
    measured = [inside(found) for found in _questions(record).values()]
    observed, predicted, truth = (
        _mean(values) for values in zip(*(row[1:] for row in measured), strict=True)
    )
    name = f"{record_set.label(record)}, record {record.number}, {record_set.about(record)}"
    if observed is None or predicted is None:
        return f"{name}: no votes were measured."
    words = f"90 % intervals of votes hold {observed:.1f} % of them, where {predicted:.1f} % are predicted"
    if truth is not None:
        words += f"; 90 % intervals of fractions hold {truth:.1f} % of the true ones"
    return f"{name}: {words} (means over questions)."


def inside(found: dict) -> tuple[float | None, ...]:
    """SHARES of one question's measures."""
    answers = [*(found.get("answers") or {}).values()]
    distances = [one["pit"]["statistic"] for one in answers if number(one["pit"]["statistic"])]
    votes = [[one["votes_coverage"][side] for one in answers] for side in ("observed", "expected")]
    truth = (found.get("truth") or {}).get("observed")
    return (
        max(distances, default=None),
        *(_percent(_mean(values)) for values in votes),
        _percent(truth if number(truth) else None),
    )


def _table(record_set: RecordSet, record: Record) -> Table:
    rows = []
    for question, found in _questions(record).items():
        answers, *accuracies = PUBLISHED.get(question, (0,))
        same = answers == len(found["answers"])  # else it is another question of that name
        published = dict(zip(THEIRS, accuracies if same else (None, None), strict=True))
        row: dict = {"question": question}
        for heading, (path, _) in MEASURES.items():
            row[heading] = published[path] if path in THEIRS else _at(found, path)
        rows.append(row | dict(zip(SHARES, inside(found), strict=True)))
    caption = f"Each question, {record_set.label(record)}, {record_set.about(record)}"
    return table(caption, rows, [record.number], FORMATS)


def _questions(record: Record) -> dict[str, dict]:
    return record.at("results.test.tree.questions")


def _at(found: dict, path: str):
    for name in path.split("."):
        found = (found or {}).get(name)
    return found


def _mean(values) -> float | None:
    numbers = [value for value in values if number(value)]
    return sum(numbers) / len(numbers) if numbers else None


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
