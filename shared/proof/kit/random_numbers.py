"""Check 1: random bits, keys, masks, first weights, batches and views."""

from dataclasses import replace

import numpy as np

from shared.method.batches import draw_plan, epoch_order
from shared.method.views import Views, still_views
from shared.network.model import model_of
from shared.network.weights import init_weights
from shared.proof.kit.arrays import (
    ONE,
    Arrays,
    by_weight,
    close,
    exact,
    given,
    given_pools,
    given_size,
)
from shared.proof.kit.fixtures import (
    ADAM,
    BILINEAR,
    GALAXIES,
    NARROW,
    NEAREST,
    REDUCED,
    WIDE,
    Fixtures,
    RunSettings,
)
from shared.run import keys
from shared.run.keys import galaxy_hash

UNITS = 128  # of the masks
IDS = ("588848901537202306", "x", "", "NGC 1300", "galaxie-é", "a" * 200)


def random_numbers(fixtures: Fixtures) -> Arrays:
    """Everything that is drawn or hashed."""
    return {
        **_words(fixtures),
        **_galaxies(fixtures),
        **_first_weights(fixtures),
        **_batches(fixtures),
    }


def _words(fixtures: Fixtures) -> Arrays:
    key, counter = fixtures.random(10).integers(0, 2**32, (2, 1000, 2), np.uint32)
    key[:2], counter[:2] = [[0, 0], [2**32 - 1] * 2], [[0, 0], [2**32 - 1] * 2]
    seeds = np.array([fixtures.seed, 12345, 2**63 + 9, 2**64 - 1], np.uint64)
    return {
        "in/key": given(key, "case, word", "keys"),
        "in/counter": given(counter, "case, word", "counters"),
        "out/words": exact(keys.threefry2x32(key, counter), "case, word", "Threefry's words"),
        "in/seeds": given(seeds, "seed", "seeds"),
        "out/purpose_keys": exact(
            [[keys.purpose_key(int(one), name) for name in keys.PURPOSES] for one in seeds],
            "seed, purpose, word",
            "the keys of the purposes",
        ),
    }


def _galaxies(fixtures: Fixtures) -> Arrays:
    ids = [*fixtures.ids, *IDS]
    parts = [name.encode() for name in ids]
    galaxy_keys = np.stack(
        [keys.galaxy_keys(fixtures.seed, purpose, ids) for purpose in keys.PURPOSES]
    )
    dropout_keys = galaxy_keys[keys.PURPOSES.index("dropout")]
    index, rates = np.array([0, 7, 2**31 + 5], np.uint32), np.array([0, 0.2, 0.5])
    each = np.broadcast_to(index[:, None], (len(index), len(ids)))
    kept = [keys.keep(dropout_keys, each, UNITS, rate) for rate in rates]
    return {
        "in/ids": given(
            np.frombuffer(b"".join(parts), np.uint8), "byte", "the ids, UTF-8, end to end"
        ),
        "in/id_ends": given(np.cumsum([len(part) for part in parts]), "id", "where each id ends"),
        "out/hashes": exact(galaxy_hash(ids), "id", "the hashes of the ids"),
        "in/seed": given(np.array([fixtures.seed], np.uint64), ONE, "the seed of all that follows"),
        "out/galaxy_keys": exact(galaxy_keys, "purpose, id, word", "the keys of the galaxies"),
        "in/index": given(index, "index", "steps or samples"),
        "out/bits": exact(keys.bits(dropout_keys, each, 9), "index, id, word", "words for dropout"),
        "out/uniforms": exact(
            keys.uniforms(dropout_keys, each, 9), "index, id, number", "uniform numbers for dropout"
        ),
        "in/rates": given(rates, "rate", "dropout rates"),
        "out/keep": exact(
            np.array(kept, np.uint8), "rate, index, id, unit", "masks, 1: the unit is kept"
        ),
    }


def _first_weights(fixtures: Fixtures) -> Arrays:
    filters = [filters for block in NARROW.blocks for filters in block]
    first = init_weights(NARROW, fixtures.seed)
    return {
        "in/filters": given(filters, "convolution", "filters"),
        "in/pooled": given_pools(model_of(NARROW)),
        "in/dense": given([NARROW.dense], ONE, "units of the dense layer"),
        **by_weight("out/first", first, "a first weight", exact),
    }


def _batches(fixtures: Fixtures) -> Arrays:
    each = "step, galaxy"
    origin, first, count, batch = 3, 12, 6, 10
    training = replace(ADAM, batch_size=batch)
    bilinear, nearest = (
        draw_plan(
            RunSettings(fixtures.seed, WIDE, augmentation, training),
            fixtures.labelled,
            REDUCED,
            origin,
            first,
            count,
        )
        for augmentation in (BILINEAR, NEAREST)
    )
    still = still_views(RunSettings(fixtures.seed, WIDE, BILINEAR), REDUCED, 1)
    return {
        "in/galaxies": given([GALAXIES], ONE, "how many of the ids are trained on: the first"),
        "in/epoch": given([7], ONE, "the step at which an epoch begins"),
        "out/order": exact(
            epoch_order(fixtures.seed, fixtures.hashes, 7),
            "place",
            "the galaxies in that epoch's order",
        ),
        "in/batch_size": given([batch], ONE, "galaxies in a batch"),
        "in/origin": given([origin], ONE, "the step at which the first epoch begins"),
        "in/steps": given(bilinear.steps, "step", "steps"),
        "out/rows": exact(bilinear.rows, each, "the galaxies of each batch"),
        "in/image_size": given([REDUCED], ONE, "S, pixels across the stored image"),
        "in/network_size": given_size(WIDE),
        "in/crop": given([1.0], ONE, "the share of the stored image that zoom 1 shows"),
        "in/zoom": given(BILINEAR.zoom, "least, most", "bounds of the zoom"),
        "in/brightness": given([BILINEAR.brightness], ONE, "most brightness, up and down"),
        "in/contrast": given(BILINEAR.contrast, "least, most", "bounds of the contrast"),
        **_drawn("bilinear", bilinear.views, each),
        **_drawn("nearest", nearest.views, each),
        **_drawn("still", still, "galaxy"),
    }


def _drawn(name: str, views: Views, axes: str) -> Arrays:
    return {
        f"out/{name}/turn": close(
            views.affine, f"{axes}, to row and column, of row and column and 1", "turns", 1e-6, 1e-6
        ),
        f"out/{name}/window": exact(views.crop, f"{axes}, top and left and width", "windows"),
        f"out/{name}/light": close(
            views.contrast, f"{axes}, brightness and contrast", "light", 1e-6, 1e-6
        ),
    }
