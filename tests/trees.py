"""A tree with a join, and galaxies whose posterior is right: their votes are of the very mixture that is told."""

import numpy as np

from shared.data.schema import slices
from shared.run.questions import layers

QUESTIONS = {
    "smooth-or-featured": ("smooth", "featured", "artifact"),
    "edge-on": ("yes", "no"),
    "bar": ("strong", "weak", "no"),
    "round": ("round", "cigar"),
    "merging": ("none", "tail", "major", "merger"),
}
LEADS = {
    "edge-on": {"smooth-or-featured": ("featured",)},
    "bar": {"edge-on": ("no",)},
    "round": {"smooth-or-featured": ("smooth",), "edge-on": ("yes",)},
    "merging": {"smooth-or-featured": ("smooth", "featured")},
}
PLACES = slices(QUESTIONS)
ANSWERS = sum(map(len, QUESTIONS.values()))


def drawn_samples(galaxies, samples, seed, spread=0.4):
    """Fractions (galaxy, sample, answer) that samples differ on, and concentrations (galaxy, sample, question)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (galaxies, 1, ANSWERS)) + rng.normal(
        0, spread, (galaxies, samples, ANSWERS)
    )
    fractions = np.exp(logits)
    for place in PLACES.values():
        fractions[..., place] /= fractions[..., place].sum(2, keepdims=True)
    return fractions, np.exp(rng.uniform(1, 5, (galaxies, samples, len(QUESTIONS))))


def drawn_truth(fractions, concentrations, seed):
    """True fractions (galaxy, answer), of one sample of each galaxy's; Dirichlet ones, if there are concentrations."""
    rng = np.random.default_rng(seed)
    galaxies, samples, _ = fractions.shape
    chosen = rng.integers(samples, size=galaxies)
    true = fractions[np.arange(galaxies), chosen]
    if concentrations is not None:
        for number, place in enumerate(PLACES.values()):
            own = concentrations[np.arange(galaxies), chosen, number]
            gammas = rng.gamma(true[:, place] * own[:, None])
            true[:, place] = gammas / gammas.sum(1, keepdims=True)
    return true


def drawn_votes(true, volunteers, seed):
    """Votes int64 (galaxy, answer) of so many `volunteers` a galaxy, who go from question to question."""
    rng = np.random.default_rng(seed)
    votes = np.zeros(true.shape, np.int64)
    depth = layers(QUESTIONS, LEADS)
    for question in sorted(QUESTIONS, key=depth.__getitem__):
        total = np.zeros(len(true), np.int64)
        if question not in LEADS:
            total[:] = volunteers
        for earlier, some in LEADS.get(question, {}).items():
            for answer in some:
                total += votes[:, PLACES[earlier]][:, QUESTIONS[earlier].index(answer)]
        votes[:, PLACES[question]] = rng.multinomial(total, true[:, PLACES[question]])
    return votes
