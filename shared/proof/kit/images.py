"""Check 2: images as the network is shown them, sampled in both ways."""

from dataclasses import replace

import numpy as np

from shared.method.views import draw_views
from shared.proof import reference
from shared.proof.kit.arrays import Arrays, close, given_images, given_size, given_views
from shared.proof.kit.fixtures import BILINEAR, NEAREST, REDUCED, WIDE, Fixtures, RunSettings
from shared.run import keys

COUNT = 6


def viewed_images(fixtures: Fixtures) -> Arrays:
    """A few galaxies, each in a view of its own; the first lies far out of its image."""
    images, index = fixtures.images[:COUNT], np.arange(COUNT)
    result = {"in/images": given_images(images), "in/size": given_size(WIDE)}
    view_keys = keys.galaxy_keys(fixtures.seed, "view", fixtures.hashes[:COUNT])
    for name, augmentation, scale in (("bilinear", BILINEAR, "unit"), ("nearest", NEAREST, "raw")):
        run = RunSettings(fixtures.seed, replace(WIDE, scale=scale), augmentation)
        views = draw_views(run, REDUCED, view_keys, index, index)
        views.affine[0, :, 2] += (-10.25, 3.5)
        result |= {f"in/{name}/{part}": array for part, array in given_views(views).items()}
        viewed = reference.apply_views(run, images, views)[..., 0]
        what = f"images, warped ({name}) and relit"
        result[f"out/{name}"] = close(viewed, "galaxy, y, x", what)
    return result
