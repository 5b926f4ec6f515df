"""Volunteers who agree with others too seldom, as Galaxy Zoo 2 found them (Willett et al. 2013, MNRAS 435, 2835, 3.2).

A vote's consistency is the mean over the K answers of its question of f for the answer that was given and 1 - f for the
others, where f is an answer's share of the votes on that galaxy: (K - 2 + 2 f) / K of the given one. A volunteer's is
the mean over their votes, and their weight min(1, (consistency / 0.6)^8.5); with these weights shares are counted anew,
three times in all. Galaxy Zoo 2 then summed weights. Votes here stay whole numbers: who has less than half a vote is
left out, and everybody else counts fully. Those with few votes are not judged.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

FULL, STEEPNESS, TIMES = 0.6, 8.5, 3
LEAST = 0.5  # of a weight
FEW = 10  # votes of a volunteer, below which nobody is judged


def outliers(votes: pd.DataFrame, questions: Mapping[str, Sequence[str]]) -> set[str]:
    """Those to leave out of the "person"s in `votes`, a row for each: person, galaxy, question, answer."""
    if votes.empty:
        return set()
    person, persons = pd.factorize(votes["person"])
    asked = votes.groupby(["galaxy", "question"], sort=False).ngroup().to_numpy()
    given = votes.groupby(["galaxy", "question", "answer"], sort=False).ngroup().to_numpy()
    answers = votes["question"].map({name: len(some) for name, some in questions.items()})
    answers, counts = answers.to_numpy(np.float64), np.bincount(person)
    weights = np.ones(len(persons))
    for _ in range(TIMES):
        own = weights[person]
        shares = np.bincount(given, own)[given] / np.bincount(asked, own)[asked]
        consistency = np.bincount(person, (answers - 2 + 2 * shares) / answers) / counts
        weights = np.minimum(1, (consistency / FULL) ** STEEPNESS)
    return set(persons[(weights < LEAST) & (counts >= FEW)])
