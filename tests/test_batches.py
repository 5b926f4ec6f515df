"""Batches and views: the same for every backend, a function of galaxy and step."""

import threading
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest

from shared.method.batches import (
    Cutouts,
    Labelled,
    adam_scales,
    batch_size,
    chunks,
    draw_plan,
    epoch_order,
    learning_rates,
    systematic,
    with_steps,
)
from shared.method.lure import lure_weights
from shared.method.views import Views, draw_views, reduction, still_views
from shared.proof import reference
from shared.run.keys import galaxy_hash, galaxy_keys
from shared.run.spec import RunSpec, from_config
from trizoo import compose


def run_of(*overrides):
    return from_config(
        RunSpec,
        compose(["mode=corrected", "model.image_size=32", "training.batch_size=8", *overrides]),
    )


def labelled(count):
    hashes = galaxy_hash([f"g{number}" for number in range(count)])
    return Labelled.yes_or_no(np.arange(count), hashes, np.arange(count) % 5, np.full(count, 5))


def test_an_epoch_has_every_galaxy_once_and_the_rest_waits():
    plan = draw_plan(run_of(), labelled(27), 64, 0, 0, 6)
    for epoch in (plan.rows[:3], plan.rows[3:]):
        assert len(np.unique(epoch)) == 24
    assert not np.array_equal(plan.rows[:3], plan.rows[3:])


def test_a_plan_does_not_depend_on_where_it_begins():
    run, galaxies = run_of(), labelled(27)
    whole, later = (draw_plan(run, galaxies, 64, 5, first, 12 - first) for first in (5, 9))
    for one, other in zip(
        whole[:3] + whole.views + whole[4:], later[:3] + later.views + later[4:], strict=True
    ):
        np.testing.assert_array_equal(one[4:], other)


def test_a_plan_does_not_depend_on_the_order_of_the_table():
    run, galaxies = run_of(), labelled(27)
    mixed = galaxies.take(np.random.default_rng(0).permutation(27))
    one, other = draw_plan(run, galaxies, 64, 0, 0, 4), draw_plan(run, mixed, 64, 0, 0, 4)
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.views.affine, other.views.affine)


def test_few_galaxies_make_small_batches():
    assert draw_plan(run_of(), labelled(3), 64, 0, 0, 2).rows.shape == (2, 3)


def test_orders_of_epochs_differ():
    hashes = labelled(50).hashes
    assert not np.array_equal(epoch_order(0, hashes, 0), epoch_order(0, hashes, 6))
    assert not np.array_equal(epoch_order(0, hashes, 0), epoch_order(1, hashes, 0))


@pytest.mark.parametrize("factor", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("colours", [1, 3])
def test_cutouts_average_squares_and_colours(factor, colours):
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, colours), np.uint8)
    images[0], images[1] = 0, 255  # the largest sums must fit
    rows = np.array([[1, 2, 19], [0, 7, 7], [5, 4, 3], [12, 13, 14]])
    got = Cutouts(images, factor)[rows]
    width = 32 // factor
    squares = images[rows].reshape(4, 3, width, factor, width, factor, colours)
    exact = squares.sum((3, 5, 6), dtype=np.int64)
    count = factor * factor * colours
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got[..., 0], (2 * exact + count) // (2 * count))  # halves up


def test_cutouts_are_had_by_number_slice_and_mask():
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    cutouts = Cutouts(images, 2)
    every = cutouts[np.arange(20)]
    for rows in (3, slice(4, 17, 3), np.arange(20) % 3 == 1, np.array([-1]), np.array([], int)):
        np.testing.assert_array_equal(cutouts[rows], every[rows])
    with pytest.raises(IndexError):
        cutouts[np.array([20])]


@pytest.mark.parametrize(
    ("size", "crop", "factor"),
    [(128, 1.0, 1), (64, 1.0, 2), (32, 1.0, 4), (64, 0.5, 1), (256, 1.0, 1)],
)
def test_reduction_never_skips_a_pixel(size, crop, factor):
    run = run_of(f"model.image_size={size}", f"dataset.crop={crop}")
    assert reduction(run, 256) == factor
    assert (
        reduction(replace(run, augmentation=replace(run.augmentation, resampling="nearest")), 256)
        == 1
    )


def test_the_still_view_is_the_middle():
    """Straight, upright, centred: a ramp stays a ramp, its slope the stride."""
    run = run_of()
    ramp = np.broadcast_to(np.arange(64.0)[:, None], (64, 64))[None]
    seen = reference.warp(ramp, still_views(run, 64, 1), 32, "edge")[0]
    stride = 64 / 1.2 / 32
    np.testing.assert_allclose(seen[:, 7], 31.5 + (np.arange(32) - 15.5) * stride, atol=1e-5)
    np.testing.assert_allclose(seen.T[0], seen[:, 0])


def drawn(run, count=4000, size=256):
    hashes = galaxy_hash(map(str, range(count)))
    index = np.zeros(count, int)
    return draw_views(run, size, galaxy_keys(0, "view", hashes), index, index)


def test_random_views_have_their_law():
    run = run_of("model.image_size=128")
    views = drawn(run)
    matrix = views.affine[..., :2].astype(np.float64)
    stride = np.sqrt(np.abs(np.linalg.det(matrix)))
    zoom = 256 / 128 / stride
    assert 1.1 <= zoom.min() < 1.11
    assert 1.29 < zoom.max() < 1.3 + 1e-6
    assert abs(np.mean(np.linalg.det(matrix) < 0) - 0.5) < 0.03  # mirrored or not
    turned = np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0])
    assert all(np.histogram(turned, 8, (-np.pi, np.pi))[0] > 400)
    brightness, contrast = views.contrast.T
    assert -0.05 <= brightness.min() < -0.049
    assert 0.98 <= contrast.min() < contrast.max() <= 1.02


@pytest.mark.parametrize("mode", ["corrected", "faithful"])
def test_the_window_stays_in_the_image(mode):
    """Unturned corners of the window lie within the image, and reach everywhere in it."""
    run = run_of("model.image_size=128", f"mode={mode}", "augmentation.rotation=none")
    views = drawn(run)
    corners = np.array([[0, 0], [127, 127]])
    q = views.crop[:, None, :2] + corners * views.crop[:, None, 2:] // 128
    places = np.einsum("gij,gcj->gci", views.affine[..., :2], q) + views.affine[:, None, :, 2]
    assert -0.5 <= places.min() < 3
    assert 252 < places.max() <= 255.5


def test_centred_views_are_centred():
    run = run_of("augmentation=bar")
    views = drawn(run, 200, 64)
    centre = views.affine[..., :2].sum(-1) * 15.5 + views.affine[..., 2]
    np.testing.assert_allclose(centre, 31.5, atol=1e-4)


def test_faithful_zoom_is_one_per_15_steps():
    run = run_of("mode=faithful")
    plan = draw_plan(run, labelled(64), 256, 0, 0, 32)
    widths = plan.views.crop[..., 2]
    assert [len(np.unique(widths[part])) for part in (slice(0, 15), slice(15, 30))] == [1, 1]
    assert len(np.unique(widths)) > 1


def test_chunks_are_alike_and_lose_nobody():
    views, galaxy_keys_ = (
        still_views(run_of(), 64, 10),
        np.arange(20, dtype=np.uint32).reshape(10, 2),
    )
    images = np.arange(10).reshape(10, 1, 1, 1)
    parts = list(chunks(images, views, galaxy_keys_, 4))
    assert [len(part.images) for part in parts] == [4, 4, 4]
    np.testing.assert_array_equal(
        np.concatenate([part.keys[: part.count] for part in parts]), galaxy_keys_
    )
    assert all(len(array) == 4 for part in parts for array in Views(*part.views))


def test_the_rate_of_a_cosine_is_whole_at_first_and_then_falls_to_nothing():
    spec = replace(run_of().training, schedule="cosine", steps=60, learning_rate=0.4)
    np.testing.assert_allclose(
        learning_rates(spec, np.array([0, 20, 30, 40, 60])), [0.4, 0.3, 0.2, 0.1, 0], atol=1e-15
    )
    flat = learning_rates(replace(spec, schedule="constant"), np.array([0, 30, 60]))
    np.testing.assert_array_equal(flat, 0.4)


def test_a_cosine_begins_anew_where_training_does():
    """Its wave is that of a round of active; Adam's moments are as old as the network."""
    spec = replace(run_of().training, schedule="cosine", steps=60, learning_rate=0.4)
    at_once, later = (adam_scales(spec, np.arange(60) + origin, origin).T for origin in (0, 300))
    np.testing.assert_array_equal(at_once[2], later[2])
    np.testing.assert_array_equal(later[1], 1 / np.sqrt(1 - spec.beta2 ** np.arange(301, 361)))


@pytest.mark.parametrize(
    ("galaxies", "batch", "steps"),
    [(1, 1, 4500), (32, 32, 800), (1000, 64, 2224), (50_000, 64, 15_723)],
)
def test_a_run_trains_as_long_as_its_number_of_galaxies_asks_for(galaxies, batch, steps):
    spec = run_of("training.batch_size=64", "training.steps=null").training
    assert batch_size(spec, galaxies) == batch
    assert with_steps(spec, galaxies).steps == steps
    assert with_steps(replace(spec, steps=7), galaxies).steps == 7


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_both_forms_of_epsilon_by_hand(schedule):
    training = replace(run_of().training, schedule=schedule, steps=5)
    for form in ("textbook", "hat"):
        spec = replace(training, epsilon_form=form, epsilon=0.1)
        (a, b, _), gradient = adam_scales(spec, np.array([2]))[0], 0.3
        weight, first, second = 1.0, 0.2, 0.05
        after, m, v = reference.adam(spec, 2, weight, first, second, gradient)
        np.testing.assert_allclose(weight - a * m / (b * np.sqrt(v) + 0.1), after, rtol=1e-14)


def test_expected_rows_are_read_once_by_a_thread_and_given_as_they_are():
    asked = []

    class Noted:
        shape = (8, 4, 4, 1)

        def __len__(self):
            return 8

        def __getitem__(self, rows):
            asked.append((rows.tolist(), threading.current_thread()))
            return np.arange(8 * 16, dtype=np.uint8).reshape(self.shape)[rows]

    images = Cutouts(Noted(), 2)
    one, other = np.array([[3, 1], [0, 3]]), np.array([[2, 2], [7, 5]])
    images.prefetch(one)
    images.prefetch(other)
    found = images[one], images[other], images[one]
    np.testing.assert_array_equal(found[0], found[2])
    assert found[1].shape == (2, 2, 2, 2, 1)
    assert sorted(rows for rows, _ in asked[:2]) == [[2, 2, 7, 5], [3, 1, 0, 3]]
    assert asked[2][0] == [3, 1, 0, 3]
    assert asked[-1][1] is threading.current_thread()
    assert threading.current_thread() not in (asked[0][1], asked[1][1])
    assert len(asked) == 3


def test_what_is_equal_but_not_expected_is_read_anew():
    images = Cutouts(np.arange(8 * 16, dtype=np.uint8).reshape(8, 4, 4, 1), 1)
    images.prefetch(np.array([9]))  # beyond the last
    np.testing.assert_array_equal(images[np.array([2])], images.images[[2]])


def test_an_error_of_the_reading_thread_reaches_whoever_asks():
    images, rows = Cutouts(np.zeros((8, 4, 4, 1), np.uint8), 1), np.array([9])
    images.prefetch(rows)
    with pytest.raises(IndexError):
        images[rows]


def test_a_device_is_given_all_images_once_unless_they_are_too_many(monkeypatch):
    pixels = np.arange(8 * 16, dtype=np.uint8).reshape(8, 4, 4, 1)
    images, plain = Cutouts(pixels, 2), Cutouts(pixels, 2)
    monkeypatch.setattr("shared.method.batches.AT_ONCE", 3)
    parts = list(images.parts())
    assert [len(part) for part in parts] == [3, 3, 2]
    whole = np.concatenate(parts)
    images.held = lambda rows: whole[rows]
    assert images.parts() is None
    rows = np.array([[3, 1], [0, 7]])
    images.prefetch(rows)
    assert images.expected == []
    np.testing.assert_array_equal(images.on_device(rows), plain[rows])
    some = images.subset(rows[0])
    np.testing.assert_array_equal(some[np.array([1, 1, 0])], plain[np.array([1, 1, 3])])
    assert len(some) == 2
    np.testing.assert_array_equal(plain.subset(rows[0]), plain[rows[0]])
    monkeypatch.setattr("shared.method.batches.HELD", 8 * 4 - 1)
    assert plain.parts() is None
    monkeypatch.setattr("shared.method.batches.HELD", 8 * 4)
    assert plain.parts() is not None


def offsets(weights):
    """Every way that `systematic` picks, and its chance: it changes where an edge passes a whole number."""
    ends = np.unique(np.concatenate([[0, 1], len(weights) * np.cumsum(weights) / sum(weights) % 1]))
    return [(systematic(weights, a / 2 + b / 2), b - a) for a, b in pairwise(ends) if b - a > 1e-12]


@pytest.mark.parametrize("weights", [[1, 1, 1], [3, 1, 0.5, 0.2], [0.1, 7, 0.1, 0.3, 2]])
def test_galaxies_are_picked_as_often_as_their_weights_say(weights):
    weights = np.array(weights, float)
    ways = offsets(weights)
    np.testing.assert_allclose(sum(chance for _, chance in ways), 1)
    mean = sum(often * chance for often, chance in ways)
    shares = len(weights) * weights / weights.sum()
    np.testing.assert_allclose(mean, shares, rtol=1e-9)
    for often, _ in ways:
        assert often.sum() == len(weights)
        assert (np.abs(often - shares) < 1).all()


def test_batches_of_drawn_galaxies_have_the_mean_loss_of_all_without_bias():
    """Every order of drawing three of five galaxies, and every way of picking them by LURE's weights: in the mean the
    loss of an epoch is that of all five, but for the sum of weights, which is three in the mean.
    """
    losses, preferred = np.array([3.0, -1.0, 0.5, 7.0, 2.0]), np.array([5, 1, 3, 0.5, 2])
    weighted = plain = total = 0.0
    for order in permutations(range(5), 3):
        order, left, chances = [*order], preferred.sum(), []
        for place in order:
            chances.append(preferred[place] / left)
            left -= preferred[place]
        weights = lure_weights(chances, 5)
        for often, chance in offsets(weights):
            mean = losses[order] @ often / 3 * weights.sum() / 3
            weighted += np.prod(chances) * chance * mean
        plain += np.prod(chances) * losses[order].mean()
        total += np.prod(chances) * weights.sum()
    np.testing.assert_allclose(weighted, losses.mean(), rtol=1e-9)
    np.testing.assert_allclose(total, 3, rtol=1e-12)
    assert abs(plain - losses.mean()) > 0.2


def test_a_plan_by_weights_has_whole_batches_in_which_galaxies_come_by_them():
    run, weights = (
        run_of("training.batch_size=4"),
        np.array([0.2, 0.3, 0.5, 1, 1, 1, 1.5, 2.5, 3, 1]),
    )
    some = labelled(10)
    plans = [draw_plan(run, some, 16, 0, first, 2, weights) for first in range(0, 800, 2)]
    shares = weights / weights.sum()
    for batch in (0, 1):  # of an epoch's ten picks two are left over
        often = np.mean([np.bincount(plan.rows[batch], minlength=10) for plan in plans], 0)
        np.testing.assert_allclose(often, 4 * shares, atol=0.15)
    for plan in plans[:20]:
        count = np.bincount(plan.rows.ravel(), minlength=10)
        assert (count <= np.ceil(10 * shares)).all()
    assert len({tuple(plan.rows.ravel()) for plan in plans[:20]}) == 20
    assert sorted(epoch_order(0, some.hashes, 5, np.ones(10))) == list(range(10))
