"""Memory: what is computed anew is the same to the last bit; what is asked for is kept to; what is missing is told."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fake import Fake, Stopped, galaxies, noise, run_of
from own_process import run_script
from quick import only
from train_networks import NARROW

from shared.method import memory
from shared.method.training import fit
from shared.network.memory import peak_of, plain_peak, recomputed_parts, segments
from shared.network.model import model_of
from shared.run.cards import check_precision
from shared.run.config import identity
from shared.run.spec import BACKENDS, RunSpec, from_config, parse_size, to_config
from trizoo import compose

NETWORKS = ("w20", "resnet18", "convnext_atto")
SCRIPT = """
import hashlib, json, sys
import numpy as np
from shared.method.backend import open_backend
from shared.method.batches import Cutouts, Labelled, draw_plan
from shared.network.weights import PARTS, first_checkpoint
from shared.run.keys import galaxy_hash
from shared.run.spec import RunSpec, from_config
from trizoo import compose

def trained(words):
    run = from_config(RunSpec, compose(words))
    size, channels = run.model.image_size, run.model.channels
    pixels = np.random.default_rng(0).integers(0, 256, (8, size, size, channels), np.uint8)
    hashes = galaxy_hash([f"n{i}" for i in range(8)])
    some = Labelled.yes_or_no(np.arange(8), hashes, np.arange(8) * 5, np.full(8, 40))
    state = backend.init(run, first_checkpoint(run.model, 0, 1))
    plan = draw_plan(run, some, size, 0, 0, 3)
    state, _ = backend.train_steps(state, Cutouts(pixels, 1, channels=channels), plan)
    kept = backend.export_checkpoint(state)
    arrays = [getattr(kept, part)[name] for part in PARTS for name in sorted(getattr(kept, part))]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()

first = json.loads(sys.argv[1])
backend = open_backend(from_config(RunSpec, first).backend)
words = json.loads(sys.argv[2])
print(json.dumps([trained([*words, f"backend.recompute={again}"]) for again in ("false", "true")]))
"""


CASES = [
    (name, precision, network)
    for name in BACKENDS
    for precision in ("float32", "float64")
    for network in NETWORKS
]
QUICK = [
    ("torch", "float32", "resnet18"),
    ("jax", "float32", "convnext_atto"),
    ("tf", "float32", "w20"),
]


@pytest.mark.parametrize(("name", "precision", "network"), only(QUICK, *CASES))
def test_what_is_computed_anew_is_the_same_to_the_last_bit(name, precision, network):
    words = ["task=fit", f"backend={name}", f"backend.precision={precision}", f"model={network}"]
    words += ["backend.threads=1", "training.batch_size=8", "training.shards=2"]
    words += ["model.image_size=32", *NARROW[network]]
    words += ["model.stochastic_depth=0.5"] if network.startswith("convnext") else []
    kept, anew = run_script(SCRIPT, words, json.dumps(words))
    assert kept == anew


@pytest.mark.parametrize("network", [*NETWORKS, "resnet50", "efficientnet_b0"])
def test_segments_are_the_network_and_take_no_more_than_all_of_it(network):
    run = run_of_network(network)
    model = model_of(run.model)
    parts = segments(model.encoder, model.image)
    assert sum(parts, ()) == model.encoder
    assert peak_of(model.encoder, model.image) <= plain_peak(model.encoder, model.image)
    assert recomputed_parts(run) == ()
    assert recomputed_parts(memory.with_backend(run, recompute=True)) == parts


def run_of_network(network: str, *words: str) -> RunSpec:
    return from_config(RunSpec, compose(["task=fit", f"model={network}", *words]))


@pytest.mark.parametrize(
    ("said", "size"), [("512MB", 512e6), ("1.5 GB", 1.5e9), ("2GiB", 2**31), ("64MiB", 2**26)]
)
def test_sizes(said, size):
    assert parse_size("backend.memory", said) == size


@pytest.mark.parametrize("said", ["512", "0MB", "-1GB", "2 gigabytes", "1e3MB"])
def test_sizes_that_are_none_are_refused(said):
    with pytest.raises(ValueError, match=r"backend\.memory is .* such as 512MB"):
        run_of(f"backend.memory='{said}'")


def test_memory_is_no_part_of_what_a_run_is():
    whole, less = (
        identity(to_config(run_of(*words)))
        for words in ((), ("backend.memory=1GB", "backend.recompute=true"))
    )
    assert whole == less


def test_less_and_less_is_chosen_and_then_refused_with_what_would_help():
    run = run_of_network("resnet50", "model.image_size=128")
    needs = [memory.training_need(lesser, 128) for lesser in memory._lessened(run)]
    chosen = [
        memory.within_memory(memory.with_backend(run, memory=f"{need // 10**6 + 1}MB"), 128).backend
        for need in (needs[0], min(needs))
    ]
    assert (chosen[0].recompute, chosen[0].steps) == (False, run.backend.steps)
    assert (chosen[1].recompute, chosen[1].steps) == (True, 1)
    with pytest.raises(
        ValueError, match=r"takes about \d+ MB .*training\.shards.*model\.image_size"
    ):
        memory.within_memory(memory.with_backend(run, memory="300MB"), 128)


def test_prediction_that_takes_too_much_names_the_chunk():
    run = run_of_network("w20", "model.image_size=128", "backend.memory=100MB")
    with pytest.raises(ValueError, match=r"prediction takes about .*backend\.chunk=32 or less"):
        memory.check_prediction(run, 30)
    memory.check_prediction(memory.with_backend(run, memory="4GB"), 30)


class Full(Fake):
    """A backend that finds no memory for more than `most` steps in one call, nor without recomputation."""

    def __init__(self, most: int):
        super().__init__()
        self.most, self.recompute = most, False

    def init(self, run, start):
        self.recompute = run.backend.recompute
        return super().init(run, start)

    def train_steps(self, state, images, plan):
        if not self.recompute or len(plan.steps) > self.most:
            state.weights["answer/bias"][:] = np.nan  # a call that failed leaves anything
            raise MemoryError
        return super().train_steps(state, images, plan)


WORDS = ("training.steps=20", "backend.steps=8", "training.batch_size=8")


def fitted(folder, backend):
    images = noise(40)
    images.contents = "a"
    return fit(backend, run_of(*WORDS), images, galaxies(0, 21), lambda _: 0.0, folder)


def test_out_of_memory_goes_on_with_less_to_the_same_result(tmp_path, capsys):
    whole, history = fitted(tmp_path / "whole", Fake())
    less, lessened = fitted(tmp_path / "less", Full(most=2))
    np.testing.assert_array_equal(less.weights["answer/bias"], whole.weights["answer/bias"])
    assert lessened.losses == history.losses
    assert lessened.validation == history.validation
    assert lessened.memory == [[0, True, 2]]
    assert "out of memory at step 0" in capsys.readouterr().err


def test_out_of_memory_with_nothing_left_to_lessen_is_one_error(tmp_path):
    with pytest.raises(ValueError, match=r"too little memory.*training\.shards.*last bits"):
        fitted(tmp_path, Full(most=0))


def test_other_errors_of_a_framework_are_not_taken_for_it(tmp_path):
    with pytest.raises(Stopped):
        fitted(tmp_path, Fake(stop=3))


ERRORS = {
    "torch": "import torch; e = torch.OutOfMemoryError('CUDA out of memory. Tried to allocate')",
    "jax": "import jax; e = jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory')",
    "tf": "import tensorflow as tf; e = tf.errors.ResourceExhaustedError(None, None, 'OOM when')",
}


@pytest.mark.parametrize("name", ERRORS)
def test_each_framework_knows_its_own_error(name):
    script = f"""
import json
{ERRORS[name]}
from impl_{name}.device import out_of_memory
print(json.dumps([out_of_memory(one) for one in (e, MemoryError(), RuntimeError("else"))]))
"""
    assert run_script(script, ["task=fit", f"backend={name}"]) == [True, True, False]


def test_no_shard_is_larger_where_less_memory_is_asked_for():
    run = run_of_network("w20", "training.batch_size=256", "model.image_size=128")
    less = memory.within_memory(memory.with_backend(run, memory="2GB"), 256)
    assert replace(less, backend=run.backend) == run


@pytest.mark.parametrize("precision", ["bfloat16", "tf32"])
def test_cards_without_the_units_refuse_a_precision(precision):
    with pytest.raises(ValueError, match=r"MX230 has compute capability 6\.1.*precision=float32"):
        check_precision(precision, "MX230", (6, 1))
    with pytest.raises(ValueError, match=r"capability 6\.1"):
        check_precision(precision, "MX230", "6.1")
    check_precision(precision, "A100", (8, 0))
    check_precision(precision, "a card that does not say", None)
    check_precision("float32", "MX230", (6, 1))
