"""What each column of a posterior table means, in words, and in the words that astronomers' programs know (UCDs).

A UCD (unified content descriptor, IVOA's UCD1+) tells a program what a column holds: TOPCAT finds the coordinates by
`pos.eq.ra;meta.main`. Units are those of the VOUnit standard: a column without one is a pure number or text.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Column(NamedTuple):
    """What a column holds."""

    unit: str
    ucd: str
    description: str


FRACTION, VOTES = "src.morph.param;stat", "meta.number"
MEANINGS = {  # of a column by its last part
    "mean": Column("", f"{FRACTION}.mean", "posterior mean of the vote fraction"),
    "std": Column(
        "", "stat.stdev;src.morph.param", "posterior standard deviation of the vote fraction"
    ),
    "p05": Column(
        "", f"{FRACTION}.percentile", "5 % of the posterior of the vote fraction lies below"
    ),
    "p50": Column("", f"{FRACTION}.median", "posterior median of the vote fraction"),
    "p95": Column(
        "", f"{FRACTION}.percentile", "95 % of the posterior of the vote fraction lies below"
    ),
    "votes_low": Column(
        "", VOTES, "least of the central 90 % of votes, of as many as are expected"
    ),
    "votes_high": Column(
        "", VOTES, "most of the central 90 % of votes, of as many as are expected"
    ),
    "conformal_low": Column(
        "",
        VOTES,
        "least of the conformal interval of votes, of as many as are expected, which holds those of 90 % of galaxies",
    ),
    "conformal_high": Column(
        "",
        VOTES,
        "most of the conformal interval of votes, of as many as are expected, which holds those of 90 % of galaxies",
    ),
    "asked": Column(
        "", "stat.probability;src.morph", "probability that a volunteer is asked the question"
    ),
    "information": Column(
        "",
        "stat.value",
        "what one volunteer's answer to the question, if asked, tells about the network, in nats: the entropy of the "
        "answer less its mean over samples",
    ),
}
PLAIN = {
    "id": Column("", "meta.id;meta.main", "name of the galaxy"),
    "ra": Column("deg", "pos.eq.ra;meta.main", "right ascension"),
    "dec": Column("deg", "pos.eq.dec;meta.main", "declination"),
    "in_training": Column(
        "",
        "meta.code",
        "whether its votes were learned from, so that its row is no prediction; empty: not known",
    ),
    "mutual_information": Column(
        "",
        "stat.value",
        "what its votes are expected to tell about the network, in nats: the entropy of the votes less its mean over "
        "samples",
    ),
    "walk_information": Column(
        "",
        "stat.value",
        "what all answers of one volunteer, who goes from question to question, tell about the network, in nats",
    ),
}
FRIENDLY = ("mean", "p05", "p95", "asked")  # last parts of the friendly columns
IDENTIFY = ("id", "ra", "dec", "in_training")  # and these


def describe_columns(names: Iterable[str]) -> dict[str, Column]:
    """What each column of `names` means, of a posterior table; ValueError for a column that is none of one."""
    return {name: _describe(name) for name in names}


def friendly(names: Iterable[str]) -> list[str]:
    """Those of `names` that most need: of each answer the mean fraction and its 90 % interval, and who is asked."""
    last = tuple(f"_{part}" for part in FRIENDLY)
    return [name for name in names if name in IDENTIFY or name.endswith(last)]


def _describe(name: str) -> Column:
    if name in PLAIN:
        return PLAIN[name]
    for last, column in MEANINGS.items():
        if name.endswith(f"_{last}"):
            about = name.removesuffix(f"_{last}")
            return column._replace(description=f"{about}: {column.description}")
    raise ValueError(
        f"{name!r} is no column of a posterior; there are {', '.join(PLAIN)} and *_mean ..."
    )
