"""Images that a framework keeps on its device are the ones it would be given; on a CPU, which keeps none by itself."""

import pytest
from own_process import FIT, run_script

SCRIPT = """
import json, sys
from importlib import import_module
import numpy as np
from shared.method.views import still_views
from shared.method.backend import open_backend
from shared.method.batches import Cutouts, Labelled, draw_plan
from shared.run.keys import galaxy_keys
from shared.run.spec import RunSpec, from_config
from shared.run.keys import galaxy_hash
from shared.network.weights import first_checkpoint

run = from_config(RunSpec, json.loads(sys.argv[1]))
backend = open_backend(run.backend)
cache_images = import_module(f"impl_{run.backend.name}.device").cache_images
random = np.random.default_rng(0)
pixels = random.integers(0, 256, (20, 64, 64, 3), np.uint8)
hashes = galaxy_hash(range(20))
labelled = Labelled.yes_or_no(np.arange(20), hashes, random.integers(0, 9, 20), np.full(20, 9))

def all_of(images):
    state = backend.init(run, first_checkpoint(run.model, run.seed))
    plan = draw_plan(run, labelled, images.size, 0, 0, 3)
    images.prefetch(plan.rows)
    state, losses = backend.train_steps(state, images, plan)
    rows = np.array([19, 3, 3, 0, 11, 7, 2])
    views, keys = still_views(run, images.size, 7), galaxy_keys(0, "posterior", hashes[rows])
    shown = images.subset(rows)
    return losses, backend.sample(state, shown, views, keys, 0, 3), backend.embed(state, shown, views)

read, kept = Cutouts(pixels, 2), Cutouts(pixels, 2)
cache_images(kept)
reads, own = [], kept._read
kept._read = lambda rows: reads.append(rows) or own(rows)
pairs = zip(all_of(read), all_of(kept), strict=True)
print(json.dumps([[bool((one == other).all()) for one, other in pairs], len(reads), read.held is None]))
"""


@pytest.mark.parametrize("name", ["tf", "torch", "jax"])
def test_what_a_device_keeps_is_what_it_would_be_given(name):
    same, reads, untouched = run_script(SCRIPT, [*FIT, f"backend={name}"])
    assert same == [True, True, True]
    assert reads == 0
    assert untouched
