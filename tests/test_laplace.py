"""The posterior of a last layer: against its definitions, on data drawn from the model, and with mistakes planted."""

import numpy as np
import pytest
from scipy.linalg import block_diag

from shared.method import laplace as module
from shared.method import last_layer
from shared.method.curvature import fisher, hessian, nll, slope
from shared.method.laplace import draw, information, laplace, likeliest_prior, sample
from shared.method.last_layer import refit
from shared.method.likelihood import YES_OR_NO, Likelihood
from shared.proof import laplace as oracle
from shared.proof.likelihood import FORMS, TWO, votes_nll, votes_nll_gradient

ALL = {"binomial": YES_OR_NO} | FORMS
EVERY = pytest.mark.parametrize("form", ALL.values(), ids=ALL)
BETA = YES_OR_NO._replace(name="dirichlet_multinomial")
PRIORS = (0.7, 2.5)


def drawn(form, galaxies=12, units=3, most=5, seed=0):
    """Features, votes, kernel and bias; some galaxies have no votes on a question."""
    random = np.random.default_rng(seed)
    answers = form.slices[-1].stop
    votes = np.zeros((galaxies, answers))
    for at in form.slices:
        shares = random.dirichlet(np.ones(at.stop - at.start), galaxies)
        votes[:, at] = random.multinomial(random.integers(0, most + 1, galaxies), shares)
    features = np.maximum(random.normal(0.3, 1, (galaxies, units)), 0)
    return features, votes, random.normal(0, 0.7, (units, answers)), random.normal(0, 1, answers)


def of_questions(form, *arrays):
    """Each question alone: a likelihood of it, and its columns of the arrays."""
    for question, at in zip(form.questions, form.slices, strict=True):
        yield Likelihood(*form[:2], (question,)), *(array[:, at] for array in arrays)


def flat(kernel, bias):
    """The weights as the oracle has them."""
    return np.concatenate([kernel, bias[None]]).ravel()


def check_precision(form):
    """That the factors are of the dense precision, and of nothing between questions."""
    features, votes, kernel, bias = drawn(form)
    priors = PRIORS[: len(form.slices)]
    found = laplace(form, features.astype(np.float32), votes, kernel, bias, priors)
    blocks = [root @ root.T for gaussian in found.questions for root in gaussian.roots]
    same = features.astype(np.float32).astype(float)
    wanted = oracle.precision(form, same, votes, flat(kernel, bias), priors)
    order = np.arange(len(wanted)).reshape(-1, len(bias)).T.ravel()
    np.testing.assert_allclose(block_diag(*blocks), wanted[order][:, order], rtol=1e-9, atol=1e-10)


def check_samples(form):
    """That mean and covariance of samples are those of the dense inverse, within the chance of 20,000."""
    features, votes, kernel, bias = drawn(form)
    priors, count = PRIORS[: len(form.slices)], 20_000
    samples = draw(laplace(form, features, votes, kernel, bias, priors), count, 3)
    samples = samples.reshape(count, -1)
    wanted = np.linalg.inv(oracle.precision(form, features, votes, flat(kernel, bias), priors))
    deviation = np.sqrt(wanted.diagonal())
    off = (samples.mean(0) - flat(kernel, bias)) / deviation * count**0.5
    assert np.abs(off).max() < 4.5
    spread = np.outer(deviation, deviation)
    error = np.sqrt((wanted**2 / spread**2 + 1) / count)
    assert (np.abs(np.cov(samples.T) - wanted) / spread < 4.5 * error).all()


def check_mode(form, start=1.0):
    """That no derivative of the log-posterior is left, neither by the gradient's formula nor by differences."""
    features, votes, kernel, bias = drawn(form, 60)
    priors = PRIORS[: len(form.slices)]
    kernel, bias, _ = last_layer.refit(form, features, votes, start * kernel, start * bias, priors)
    found = flat(kernel, bias)
    differences = oracle.gradient(form, features, votes, found, priors)
    np.testing.assert_allclose(differences, 0, atol=1e-6)
    each = votes_nll_gradient(form, features @ kernel + bias, votes)
    inputs = np.concatenate([features, np.ones((60, 1))], 1)
    rows = (inputs.T @ each).ravel() + oracle.spread(form, features, priors) * found
    np.testing.assert_allclose(rows, 0, atol=1e-8)


def check_prior(form):
    """That the evidence by its definition falls to both sides of the precisions that are chosen."""
    random = np.random.default_rng(0)
    features = random.normal(0, 1, (12, 3))
    _, votes, kernel, bias = drawn(form, 12, most=4)
    found = laplace(form, features, votes, kernel, bias).questions
    priors = np.array([one.prior for one in found])
    evidence = lambda own: oracle.log_evidence(form, features, votes, flat(kernel, bias), own)  # noqa: E731
    best = evidence(priors)
    for number in range(len(priors)):
        for factor in (0.97, 1.03):
            other = priors.copy()
            other[number] *= factor
            assert evidence(other) < best - 1e-5


def check_coverage():
    """That of data drawn from prior and model the logits' central 90 % hold the truth in 90 %.

    Of 2,400, alike in groups of 24, an honest posterior is further off once in some thousand times.
    """
    ranks = []
    for seed in range(50):
        random = np.random.default_rng(seed)
        features = np.maximum(random.normal(0, 1, (200, 4)), 0)
        layer = random.normal(0, 1, (5, 2))
        logits = features @ layer[:-1] + layer[-1]
        rho = random.beta(*np.exp(logits[:, ::-1].T))
        yes = random.binomial(30, rho)
        votes = np.stack([30 - yes, yes], 1).astype(float)
        mode = refit(BETA, features[:100], votes[:100], layer[:-1] * 0, layer[-1] * 0, [1.0])
        posterior = laplace(BETA, features[:100], votes[:100], *mode)
        found = sample(draw(posterior, 99, seed), features[100:112])
        ranks.append((found < logits[100:112, None]).mean(1))
    assert abs(np.mean(np.abs(np.array(ranks) - 0.5) < 0.45) - 0.9) < 0.035


@EVERY
def test_slopes_and_curvatures_are_those_of_the_definitions(form):
    features, votes, kernel, bias = drawn(form)
    for one, logits, given in of_questions(form, features @ kernel + bias, votes):
        np.testing.assert_allclose(
            nll(one, logits, given), votes_nll(one, logits, given), rtol=1e-12, atol=1e-12
        )
        wanted = votes_nll_gradient(one, logits, given)
        np.testing.assert_allclose(slope(one, logits, given), wanted, rtol=1e-11, atol=1e-12)
        for z, k, bent in zip(logits, given, hessian(one, logits, given), strict=True):
            np.testing.assert_allclose(bent, oracle.numerical_hessian(one, z, k), atol=1e-7)
        for z, n, bent in zip(logits, given.sum(1), fisher(one, logits, given.sum(1)), strict=True):
            np.testing.assert_allclose(bent, oracle.fisher(one, z, int(n)), rtol=1e-11, atol=1e-13)


@EVERY
def test_information_is_never_negative_whatever_the_logits(form):
    random = np.random.default_rng(1)
    logits = random.normal(0, 1, (300, form.slices[-1].stop)) * 10 ** random.uniform(
        -1, 3, (300, 1)
    )
    total = random.integers(0, 90, 300)
    for one, some in of_questions(form, logits):
        found = fisher(one, some, total)
        assert np.isfinite(found).all()
        assert (np.linalg.eigvalsh(found) >= -1e-9).all()  # of up to 90 votes


def test_the_hessian_is_negative_at_times():
    """Votes less even than expected: concentrations that are larger yet make them no less likely."""
    bent = hessian(BETA, np.array([[5.0, 5.0]]), np.array([[20.0, 0.0]]))
    assert np.linalg.eigvalsh(bent).min() < 0


def test_endless_concentrations_inform_as_independent_votes_do():
    random = np.random.default_rng(2)
    logits, total = random.normal(0, 1, (20, 2)), random.integers(1, 90, 20)
    np.testing.assert_allclose(
        fisher(BETA, logits + 40, total), fisher(YES_OR_NO, logits, total), rtol=1e-9, atol=1e-9
    )


def test_scattered_votes_inform_less():
    one, many = (fisher(BETA, np.zeros((1, 2)), np.array([n]))[0, 0, 0] for n in (1, 1000))
    assert many < 10 * one


@EVERY
def test_the_precision_is_that_of_the_definition(form):
    check_precision(form)


@EVERY
def test_samples_are_of_the_posterior(form):
    check_samples(form)


@EVERY
@pytest.mark.parametrize("start", [0.0, 1.0, 5.0])
def test_refitting_ends_at_the_mode(form, start):
    check_mode(form, start)


@pytest.mark.parametrize("seed", range(4))
def test_refitting_finds_its_way_where_votes_hardly_decide(seed):
    """Concentrations may then grow without end, and saddles are on the way."""
    random = np.random.default_rng(seed)
    features = np.maximum(random.normal(0, 1, (40, 12)), 0)
    yes = random.binomial(30, random.beta(0.5, 0.5, 40))
    votes, start = np.stack([30 - yes, yes], 1).astype(float), random.normal(0, 1, (13, 2))
    found = flat(*refit(BETA, features, votes, start[:-1], start[-1], [1e-3])[:2])
    np.testing.assert_allclose(oracle.gradient(BETA, features, votes, found, [1e-3]), 0, atol=1e-5)
    least = oracle.log_posterior(BETA, features, votes, found, [1e-3])
    for _ in range(20):
        near = found + random.normal(0, 0.03, found.shape)
        assert oracle.log_posterior(BETA, features, votes, near, [1e-3]) < least


@EVERY
def test_the_prior_is_that_of_the_largest_evidence(form):
    check_prior(form)


def test_the_posterior_is_honest_where_the_model_holds():
    check_coverage()


def without_prior(blocks, prior):
    return np.linalg.cholesky(blocks + 1e-9 * np.eye(blocks.shape[-1]))


def one_vote_each(likelihood, logits, total, real=fisher):
    return real(likelihood, logits, np.minimum(total, 1))


def transposed(root, b, trans, lower, real=module.solve_triangular):
    return real(root, b, lower=lower)


def no_scatter_of_volunteers(likelihood, logits, total, real=fisher):
    independent = likelihood._replace(name="multinomial")
    return real(independent, logits, total)


def no_bias(features, real=module.inputs_of):
    inputs = real(features)
    inputs[:, -1] = 0
    return inputs


def all_samples_alike(keys, index, count, real=module.uniforms):
    return real(keys, 0 * index, count)


def one_normal(keys, index, count, real=module.uniforms):
    return np.repeat(real(keys, index, 1), count, -1)


def steeper(likelihood, logits, votes, real=slope):
    return real(likelihood, logits, votes) * (1 + 1e-6)


@pytest.mark.parametrize(
    ("check", "place", "name", "mistake"),
    [
        (lambda: check_precision(TWO), module, "precision_roots", without_prior),
        (lambda: check_precision(TWO), module, "fisher", one_vote_each),
        (lambda: check_precision(TWO), module, "inputs_of", no_bias),
        (lambda: check_precision(TWO), module, "fisher", no_scatter_of_volunteers),
        (lambda: check_samples(TWO), module, "solve_triangular", transposed),
        (lambda: check_samples(TWO), module, "precision_roots", without_prior),
        (lambda: check_samples(TWO), module, "uniforms", all_samples_alike),
        (lambda: check_samples(TWO), module, "uniforms", one_normal),
        (lambda: check_prior(TWO), module, "fisher", one_vote_each),
        (lambda: check_mode(TWO), last_layer, "slope", steeper),
        (check_coverage, module, "fisher", one_vote_each),
    ],
    ids=lambda value: value.__name__ if callable(value) and value.__name__ != "<lambda>" else "",
)
def test_each_check_sees_a_mistake(check, place, name, mistake, monkeypatch):
    monkeypatch.setattr(place, name, mistake)
    with pytest.raises(AssertionError):
        check()


def test_questions_of_many_weights_have_a_gaussian_for_each_answer(monkeypatch):
    features, votes, kernel, bias = drawn(TWO, 60)
    arguments = (TWO, features, votes)
    whole = laplace(*arguments, kernel, bias, PRIORS)
    mode = refit(*arguments, kernel, bias, PRIORS)
    monkeypatch.setattr(module, "LARGEST", 11)
    parts = laplace(*arguments, kernel, bias, PRIORS)
    assert [len(one.roots) for one in parts.questions] == [3, 1]  # of 12 and of 8 weights
    for answer, root in enumerate(parts.questions[0].roots):
        at = slice(4 * answer, 4 * answer + 4)
        joint = whole.questions[0].roots[0]
        np.testing.assert_allclose(root @ root.T, (joint @ joint.T)[at, at], rtol=1e-12)
    np.testing.assert_array_equal(parts.questions[1].roots, whole.questions[1].roots)
    again = refit(*arguments, kernel, bias, PRIORS)
    np.testing.assert_allclose(again.kernel, mode.kernel, atol=1e-8)
    spread = [draw(one, 4000, 0)[..., :3].std(0) for one in (parts, whole)]
    assert (spread[0] < 1.05 * spread[1]).all()
    assert draw(parts, 7, 0).shape == (7, 4, 5)


def test_samples_depend_on_seed_question_and_number_alone():
    features, votes, kernel, bias = drawn(TWO)
    posterior = laplace(TWO, features, votes, kernel, bias, PRIORS)
    many, few = draw(posterior, 30, 1), draw(posterior, 4, 1)
    np.testing.assert_array_equal(many[:4], few)
    assert not np.isclose(draw(posterior, 4, 2), few).any()
    second = Likelihood(*TWO[:2], TWO.questions[1:])
    alone = laplace(second, features, votes[:, 3:], kernel[:, 3:], bias[3:], PRIORS[1:])
    np.testing.assert_allclose(draw(alone, 4, 1), few[..., 3:], rtol=1e-12)


def test_all_galaxies_meet_the_same_samples_however_they_are_cut():
    features, votes, kernel, bias = drawn(TWO, 40)
    drawn_layers = draw(laplace(TWO, features, votes, kernel, bias, PRIORS), 9, 1)
    found = sample(drawn_layers, features)
    assert found.shape == (40, 9, 5)
    assert found.dtype == np.float32
    for number, layer in enumerate(drawn_layers):
        wanted = features @ layer[:-1] + layer[-1]
        np.testing.assert_allclose(found[:, number], wanted, rtol=1e-5, atol=1e-6)
    parts = [sample(drawn_layers, features[some]) for some in (slice(0, 7), slice(7, 40))]
    np.testing.assert_allclose(np.concatenate(parts), found, rtol=1e-6, atol=1e-7)
    assert sample(drawn_layers, features[:0]).shape == (0, 9, 5)


def test_priors_stay_within_their_bounds():
    weights = np.full((2, 3), 0.5)
    assert likeliest_prior(np.zeros((1, 6, 6)), weights) == module.PRIORS[0]
    assert likeliest_prior(1e12 * np.eye(6)[None], 1e-9 * weights) == module.PRIORS[1]
    # all 6 weights are determined: the precision is 6 / |weights|^2
    assert likeliest_prior(1e12 * np.eye(6)[None], weights) == pytest.approx(4, rel=1e-9)


def test_a_question_without_votes_keeps_its_prior():
    features, votes, kernel, bias = drawn(TWO)
    votes[:, 3:] = 0
    mode = refit(TWO, features, votes, kernel, bias, PRIORS)
    np.testing.assert_allclose(mode.kernel[:, 3:], 0, atol=1e-9)
    root = laplace(TWO, features, votes, *mode).questions[1].roots[0]
    np.testing.assert_allclose(root, PRIORS[1] ** 0.5 * np.eye(8))
    assert np.isfinite(draw(laplace(TWO, features, votes, kernel, bias), 5, 0)).all()


def test_refitting_finds_prior_and_mode_together():
    """True weights of standard deviation 0.5 have the precision 4; 48 weights tell it to some 20 %."""
    random = np.random.default_rng(4)
    features, layer = random.normal(0, 1, (800, 15)), random.normal(0, 0.5, (16, 3))
    alpha = np.exp(features @ layer[:-1] + layer[-1])
    shares = np.array([random.dirichlet(one) for one in alpha])
    votes = random.multinomial(40, shares).astype(float)
    one = Likelihood(*TWO[:2], TWO.questions[:1])
    found = refit(one, features, votes, 0 * layer[:-1], 0 * layer[-1] + 1)
    assert 2.5 < found.priors[0] < 6.5
    blocks = information(
        one,
        module.inputs_of(features),
        votes.sum(1),
        module.weights_of(found.kernel, found.bias),
    )
    again = likeliest_prior(blocks, module.weights_of(found.kernel, found.bias))
    assert again == pytest.approx(found.priors[0], rel=0.05)
    assert np.abs(found.kernel - layer[:-1]).max() < 0.25


def test_arrays_that_do_not_belong_together_are_refused():
    features, votes, kernel, bias = drawn(TWO)
    with pytest.raises(ValueError, match=r"votes is \(12, 4\); it must be \(12, 5\)"):
        laplace(TWO, features, votes[:, :4], kernel, bias)
    with pytest.raises(ValueError, match=r"kernel is \(2, 5\); it must be \(3, 5\)"):
        refit(TWO, features, votes, kernel[:2], bias)
    features[3, 1] = np.nan
    with pytest.raises(ValueError, match="features hold numbers that are not finite"):
        laplace(TWO, features, votes, kernel, bias)
