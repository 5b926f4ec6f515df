"""Check 8: posterior samples."""

from shared.method.likelihood import YES_OR_NO, fractions
from shared.method.views import still_views
from shared.network.model import model_of
from shared.proof import reference
from shared.proof.kit.arrays import (
    ONE,
    Arrays,
    close,
    given,
    given_images,
    given_pools,
    given_rate,
    given_size,
    given_views,
)
from shared.proof.kit.fixtures import BILINEAR, REDUCED, WIDE, Fixtures, RunSettings, double
from shared.run import keys

COUNT = 6
FIRST, SAMPLES = 5, 7


def posterior(fixtures: Fixtures) -> Arrays:
    """Seven samples, from the sixth on."""
    run, images = RunSettings(fixtures.seed, WIDE, BILINEAR), fixtures.images[:COUNT]
    views = still_views(run, REDUCED, COUNT)
    galaxy_keys = keys.galaxy_keys(fixtures.seed, "posterior", fixtures.hashes[:COUNT])
    weights = double(fixtures.wide)
    logits = reference.sample(run, weights, images, views, galaxy_keys, FIRST, SAMPLES)
    rho = fractions(YES_OR_NO, logits)[..., 1]
    return {
        "in/images": given_images(images),
        "in/size": given_size(WIDE),
        **{f"in/{name}": array for name, array in given_views(views).items()},
        "in/keys": given(galaxy_keys, "galaxy, word", "keys of the posterior"),
        "in/first": given([FIRST], ONE, "the number of the first sample"),
        "in/samples": given([SAMPLES], ONE, "how many samples"),
        "in/pooled": given_pools(model_of(WIDE)),
        "in/rate": given_rate(WIDE),
        "out/rho": close(rho, "galaxy, sample", "posterior samples of rho"),
    }
