"""What makes synthetic galaxies like a survey's: how rare artifacts are, what volunteers say, and how far their votes
lie from what can be told from an image.

The numbers are fitted to the surveys' published votes by `python -m benchmarks.population`, which says how well they
match; docs/surveys.md has the derivation.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit

# Of the Dirichlet of a galaxy's own crowd. W+20's stored posterior leaves so much of the votes unexplained as two
# volunteers whose answers about a galaxy have a correlation of .027 to .041; .027 is 1 / (1 + 36)
CONCENTRATION = 36.0
STEEPNESS = 1.25  # of the share that says featured, on the logits of its plain chance
ANYWAY = 0.127  # the share that says featured whatever there is to see
CERTAIN = 0.96  # the share that says artifact where nothing else can be seen
PLAIN_ARTIFACT = (0.01, 0.96)  # the same of `synthetic.chances`, of no artifact and of the worst


class Population(NamedTuple):
    """Galaxies and volunteers of one survey, where they are others than `synthetic` draws by itself."""

    discs: float  # the share of galaxies with a disc
    artifacts: float  # the share of images that a star or a trail spoils
    clicked: float  # the share of volunteers who say artifact of an image without one
    readiness: float  # to say featured: what is added to the logit
    concentration: float = CONCENTRATION

    def expected(self, chances: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The shares of the answers (galaxy, answer) that an image lets expect, of the plain `chances` of it.

        On the first question volunteers are this survey's; on the others they are as they were.
        """
        smooth, featured, artifact = chances["smooth-or-featured"].T
        ready = self.readiness + STEEPNESS * logit(featured / (smooth + featured))
        featured = ANYWAY + (1 - ANYWAY) * expit(ready)
        least, most = PLAIN_ARTIFACT
        spoilt = (artifact - least) / (most - least)
        artifact = self.clicked + (CERTAIN - self.clicked) * spoilt
        rest = 1 - artifact
        first = np.stack([rest * (1 - featured), rest * featured, artifact], -1)
        return chances | {"smooth-or-featured": first}

    def crowd(
        self, rng: np.random.Generator, expected: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The shares (answer,) of all volunteers there could be of one galaxy, about those that are `expected`."""
        return {
            question: rng.dirichlet(self.concentration * shares)
            for question, shares in expected.items()
        }


POPULATIONS = {
    "decals": Population(discs=0.7, artifacts=0.007, clicked=0.119, readiness=-1.45),
    "stripe82": Population(discs=0.45, artifacts=0.007, clicked=0.076, readiness=-2.17),
}
