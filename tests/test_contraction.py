"""Information by a posterior that contracts: it falls as labels come in, and is large where the network errs."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import spearmanr

from shared.method.acquisition import Context, Draws, Pool, select
from shared.method.laplace import draw, laplace, sample
from shared.method.laplace_sampling import LastLayers, WithLaplace
from shared.method.last_layer import refit
from shared.method.likelihood import Likelihood, concentrations, fractions
from shared.method.pool import Galaxies, choose
from shared.method.sampling import embed_galaxies
from shared.network.weights import first_checkpoint
from shared.run.keys import galaxy_hash
from tests.fake import Fake, galaxies, noise, run_of

BETA = Likelihood("dirichlet_multinomial", "exp", (("q", (("no",), ("yes",))),))
LABELS = (8, 64, 512)
TRUE = np.random.default_rng(5).normal(size=(5, 2)) * 0.5
EVEN = np.log(6)  # concentrations are about 6 each


def voted(count, seed):
    """Features, true rho, votes (galaxy, answer): beta-binomial, of logits that are linear in features."""
    random = np.random.default_rng(seed)
    units = random.normal(size=(count, 5)) * random.lognormal(0, 0.5, (count, 1))
    alpha = np.exp(units @ TRUE + EVEN)
    rho = alpha[:, 1] / alpha.sum(1)
    yes = random.binomial(40, random.beta(alpha[:, 1], alpha[:, 0]))
    return units, rho, np.stack([40 - yes, yes], 1).astype(float)


def posterior(labels, units, samples=40):
    """rho and concentrations (galaxy, sample) of `units`, by Laplace about the mode of so many labels."""
    known, _, votes = voted(labels, 1)
    kernel, bias, priors = refit(BETA, known, votes, np.zeros((5, 2)), np.full(2, EVEN))
    logits = sample(draw(laplace(BETA, known, votes, kernel, bias, priors), samples, 0), units)
    return fractions(BETA, logits)[..., 1], concentrations(BETA, logits)[..., 0]


def pool_of(labels, units):
    rho, own = posterior(labels, units)
    count = len(units)
    hashes = galaxy_hash([f"galaxy {number}" for number in range(count)])
    return Pool(rho, np.full(count, 10), hashes, None, None, own)


@pytest.mark.parametrize("name", ["mutual_information", "epig", "batch_mutual_information"])
def test_the_mean_information_of_a_pool_falls_as_labels_come_in(name):
    units, _, _ = voted(20, 2)
    spec, nobody = (
        run_of(f"acquisition={name}", "acquisition.targets=3").acquisition,
        Context(None, None, None),
    )
    means = [
        select(Fake(), spec, Draws(0, 0), pool_of(labels, units), nobody, 2).of_pool.mean()
        for labels in LABELS
    ]
    assert (np.diff(means) < 0).all()
    assert means[-1] < 0.4 * means[0]


def test_information_is_large_where_the_network_errs():
    units, true, _ = voted(300, 3)
    spec, nobody = run_of().acquisition, Context(None, None, None)
    for labels in LABELS:
        pool = pool_of(labels, units)
        told = select(Fake(), spec, Draws(0, 0), pool, nobody, 2).of_pool
        assert spearmanr(told, np.abs(pool.samples.mean(1) - true)).statistic > 0.2


@pytest.mark.parametrize("name", ["mutual_information", "epig", "batch_mutual_information"])
def test_a_sample_of_last_layers_is_one_network_for_all_galaxies(name):
    """Whatever the keys, so that joint scores, which give all galaxies the same, see the samples that others see."""
    words = (f"acquisition={name}", "likelihood=dirichlet_multinomial", "acquisition.samples=12")
    run, pool = run_of(*words, "acquisition.per_round=6", "acquisition.targets=4"), galaxies(0, 20)
    random, images = np.random.default_rng(0), noise(20)
    drawn = random.normal(size=(12, 4, 2)).astype(np.float32)
    state, backend = first_checkpoint(run.model, 0), WithLaplace(Fake(), LastLayers((drawn,), {}))
    empty = pool.take(np.arange(0))
    chosen = choose(backend, run, state, images, Galaxies(pool, pool, empty, empty), 0)
    units = embed_galaxies(Fake(), run, state, images, chosen.galaxies.rows)
    logits = np.einsum("gu,sua->gsa", units, drawn[:, :-1]) + drawn[:, -1]
    np.testing.assert_allclose(
        chosen.samples.rho, expit(logits[..., 1] - logits[..., 0]), rtol=1e-4
    )
    assert np.isfinite(chosen.choice.scores).all()
