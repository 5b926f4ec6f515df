"""However its calls are compiled, a framework agrees with the specification, says how, and tells its real threads."""

from dataclasses import replace

import pytest
from own_process import run_script

from shared.method.backend import DEFAULT, open_backend
from shared.proof.conformance import TOLERANCES

CHECKS = ("gradient", "training", "samples")
QUICK = CHECKS[:1]
SCRIPT = """
import json, os, sys
from shared.proof import conformance
from shared.run.spec import RunSpec, from_config
case = conformance.Case(from_config(RunSpec, json.loads(sys.argv[1])))
errors = {check: float(conformance.CHECKS[check](case)) for check in sys.argv[2:]}
def workers(name):
    tasks = [f"/proc/self/task/{task}/comm" for task in os.listdir("/proc/self/task")]
    return sum(open(task).read().strip() == name for task in tasks)
print(json.dumps([errors, case.backend.describe(), workers("tf_XLAEigen")]))
"""


def child(*words, checks=CHECKS):
    """The error of each check, what the backend says of itself, and how many threads work for XLA."""
    small = [
        "task=conform",
        "backend.precision=float64",
        "backend.threads=1",
        "model.image_size=16",
    ]
    network = ["training.batch_size=4", "model.blocks=[[3,3],[4]]", "model.dense=8"]
    return run_script(SCRIPT, [*small, *network, *words], *checks)


@pytest.mark.parametrize("checks", [QUICK, pytest.param(CHECKS, marks=pytest.mark.slow)], ids=len)
@pytest.mark.parametrize(
    ("name", "compiled", "used"),
    [
        ("tf", "auto", "tf.function"),
        ("tf", "eager", "eager"),
        ("tf", "full", "XLA"),
        ("torch", "auto", "eager"),
        ("torch", "eager", "eager"),
        ("torch", "full", "torch.compile"),
        ("jax", "auto", "jit"),
        ("jax", "eager", "eager"),
        ("jax", "full", "jit"),
    ],
)
def test_it_conforms_and_says_how(name, compiled, used, checks):
    words = (f"backend={name}", f"backend.compiled={compiled}")
    errors, facts, _ = child(*words, checks=checks)
    assert facts["compiled"] == used
    assert {
        check: error for check, error in errors.items() if error > TOLERANCES["float64"][check]
    } == {}


@pytest.mark.parametrize("name", ["tf", "torch", "jax"])
def test_bfloat16_is_as_exact_as_its_eight_bits(name):
    checks = ("layers", "features", "gradient", "samples")
    errors, facts, _ = child(f"backend={name}", "backend.precision=bfloat16", checks=checks)
    assert facts["precision"] == "bfloat16"
    assert 2**-12 < errors["layers"] < 2**-5
    assert all(1e-5 < errors[check] < 0.1 for check in checks)


@pytest.mark.parametrize("threads", [1, 2])
def test_jax_tells_the_threads_there_are(threads):
    _, facts, workers = child("backend=jax", f"backend.threads={threads}", checks=())
    assert (facts["threads"], workers) == (str(threads), threads)


@pytest.mark.parametrize("name", ["tf", "torch"])
def test_threads_that_were_asked_for_are_told(name):
    assert child(f"backend={name}", checks=())[1]["threads"] == "1"


def test_without_a_compiler_torch_compile_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=r"no-such-compiler; install one.*backend\.compiled=auto"):
        open_backend(replace(DEFAULT, name="torch", device="cpu", compiled="full"))


POOL = """
import json, sys
import torch
from impl_torch import layers
from shared.method.backend import open_backend
from shared.network.operations import Conv, MaxPool
from shared.run.spec import RunSpec, from_config
open_backend(from_config(RunSpec, json.loads(sys.argv[1])).backend)
torch.manual_seed(0)
conv, pool = Conv(8, 3, padding=1), MaxPool(2, 2)
kernel, bias = torch.randn(8, 3, 3, 3), torch.randn(8)
found = []
for kind in (torch.float32, torch.bfloat16):
    x = torch.randn(4, 16, 16, 3).to(kind)
    one, two = ({"kernel": kernel.clone().requires_grad_(), "bias": bias.clone().requires_grad_()} for _ in range(2))
    with torch.autocast("cpu", kind, enabled=kind == torch.bfloat16):
        fused = layers.conv_relu_pool(conv, pool, one, x)
        plain = layers.convolve(conv, two["kernel"], None, x) + two["bias"].to(kind)
        single = layers.max_pool(pool, {}, None, layers.relu(None, {}, None, plain))
    for chosen in (fused, single):
        chosen.square().sum().backward()
    gradients = [torch.allclose(one[part].grad, two[part].grad, rtol=1e-5, atol=0) for part in one]
    found.append([torch.equal(fused, single), *gradients])
print(json.dumps(found))
"""


def test_in_pytorch_the_pool_before_bias_and_relu_gives_what_the_pool_after_them_does():
    float32, bfloat16 = run_script(POOL, ["task=conform", "backend=torch"])
    assert all(float32)
    assert bfloat16[0]  # of two that round to the same, another may get the gradient
