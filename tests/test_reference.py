"""The specification itself: against finite differences, scipy and sums done by hand."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.signal import correlate2d
from scipy.stats import binom

from shared.method.likelihood import YES_OR_NO
from shared.method.views import Views
from shared.network.operations import Conv
from shared.network.weights import init_weights
from shared.proof import operations, reference
from shared.proof.operations import Given
from tests.models import w20_model

SPEC = w20_model(16, ((3, 3), (4,), (4,), (5,)), 8)


def test_gradient_is_the_slope():
    random = np.random.default_rng(0)
    weights = {name: array.astype(np.float64) for name, array in init_weights(SPEC, 3).items()}
    batch = (
        random.random((3, 16, 16, 1)),
        {"dropout": random.random((3, 8)) < 0.5},
        np.array([[2, 1], [0, 0], [0, 5.0]]),
    )
    gradients = reference.gradients(SPEC, weights, *batch).gradients
    for name, gradient in gradients.items():
        direction = random.standard_normal(gradient.shape)
        forth, back = (
            reference.loss(SPEC, {**weights, name: weights[name] + step * direction}, *batch)
            for step in (1e-6, -1e-6)
        )
        assert np.isclose((gradient * direction).sum(), (forth - back) / 2e-6, rtol=1e-5, atol=1e-9)


def test_convolution_is_cross_correlation_with_zeros_around():
    random = np.random.default_rng(0)
    x, kernel = random.random((2, 5, 7, 3)), random.random((3, 3, 3, 4))
    layer = Conv(4, 3, padding=1, bias=False)
    got, _ = operations.conv(layer, {"kernel": kernel}, Given(), x)
    for galaxy in range(2):
        for out in range(4):
            planes = [correlate2d(x[galaxy, ..., c], kernel[..., c, out], "same") for c in range(3)]
            np.testing.assert_allclose(got[galaxy, ..., out], sum(planes))


@pytest.mark.parametrize(("border", "mode"), [("edge", "nearest"), ("zero", "grid-constant")])
def test_warp_is_bilinear_sampling(border, mode):
    random = np.random.default_rng(0)
    images, affine = random.random((4, 9, 9)), random.normal(0, 1, (4, 2, 3)).astype(np.float32)
    affine[..., 2] += 4
    views = Views(affine, np.tile(np.int32([0, 0, 6]), (4, 1)), np.zeros((4, 2)))
    pixel = np.stack(np.meshgrid(np.arange(6), np.arange(6), indexing="ij"))
    for image, one, got in zip(
        images, affine, reference.warp(images, views, 6, border), strict=True
    ):
        places = np.einsum("ij,jyx->iyx", one[:, :2].astype(float), pixel) + one[:, 2, None, None]
        np.testing.assert_allclose(
            got, map_coordinates(image, places, order=1, mode=mode), atol=1e-6
        )


def test_nearest_window_takes_whole_pixels():
    images = np.arange(64.0).reshape(1, 8, 8)
    identity = np.float32([[[1, 0, 0], [0, 1, 0]]])
    views = Views(identity, np.int32([[1, 2, 6]]), np.zeros((1, 2)))
    got = reference.warp(images, views, 4, "edge")[0]
    np.testing.assert_array_equal(got, images[0][np.ix_([1, 2, 4, 5], [2, 3, 5, 6])])


def test_relight():
    x = np.array([[[0.0, 2.0], [4.0, 6.0]]])
    np.testing.assert_allclose(
        reference.adjust_contrast(x, np.array([[0.5, 2.0]])), [[[-2.5, 1.5], [5.5, 9.5]]]
    )


def test_votes_nll_is_the_binomials_less_its_coefficient():
    logits, total = np.array([[3.0, 0], [0.1, 0.3], [0, 2.5]]), np.array([40, 7, 1])
    yes = np.array([3, 7, 0])
    rho = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    ways = binom.logpmf(yes, total, 0.5) + total * np.log(2)
    nll = reference.votes_nll(YES_OR_NO, logits, np.stack([total - yes, yes], -1))
    np.testing.assert_allclose(nll, ways - binom.logpmf(yes, total, rho), rtol=1e-12)


def test_nobody_asked_tells_nothing():
    logits = np.array([[0, -800.0], [0, 0], [0, 800]])
    assert (reference.votes_nll(YES_OR_NO, logits, np.zeros((3, 2))) == 0).all()


def test_log_votes_are_scipys():
    samples = np.array([[0.0, 0.3, 1.0]])
    got = reference.log_votes(samples, 12)[0]
    for rho, one in zip(samples[0], got, strict=True):
        np.testing.assert_allclose(one, binom.logpmf(np.arange(13), 12, rho), rtol=1e-12)


def test_information_is_the_difference_of_entropies():
    samples = np.random.default_rng(0).random((5, 6))
    each = binom.pmf(np.arange(10), 9, samples[..., None])
    mixed = each.mean(1)
    entropy = lambda p: -(p * np.log(p)).sum(-1)  # noqa: E731
    np.testing.assert_allclose(reference.entropy(samples, 9), entropy(mixed), rtol=1e-12)
    difference = entropy(mixed) - entropy(each).mean(1)
    np.testing.assert_allclose(reference.mutual_information(samples, 9), difference, rtol=1e-10)
