"""Baal's posterior: dropout that stays on, a pass of the network per sample, and Baal's own cache of layers.

The cache, which makes Baal several times faster, keeps what the convolutions and dense layers gave of the last input:
all before the dropout is computed once per call. It is begun anew in every call, since a pool's next batch is another.
"""

from benchmarks.programs import vision  # noqa: F401  before all that imports torchvision

# isort: split
from importlib.metadata import version

import torch
from baal.bayesian.caching_utils import MCCachingModule
from baal.bayesian.dropout import MCDropoutModule
from baal.modelwrapper import ModelWrapper, TrainingArgs

from benchmarks.programs import peers, plain_torch
from benchmarks.work import Work
from shared.run.spec import RunSpec


def work(run: RunSpec, task: str) -> Work:
    """The task called `task`, opened; raises ValueError for one that is not in TASKS, and for other precisions."""
    peers.check(run, task, TASKS)
    plain_torch.configure(run)
    torch.manual_seed(run.seed)
    return TASKS[task](run)


def predict(run: RunSpec) -> Work:
    """One deterministic pass through Baal's wrapper: rho (galaxy,)."""
    net, images = plain_torch.network(run).eval(), batch(run)
    return Work(lambda: probabilities(run, net, images, 1)[:, 0], len(images))


def posterior(run: RunSpec) -> Work:
    """Baal's iterations over a batch: rho (galaxy, sample)."""
    net, images = MCDropoutModule(plain_torch.network(run).eval()), batch(run)

    def call():
        with MCCachingModule(net) as model:
            return probabilities(run, model, images, run.posterior.samples)

    return Work(call, len(images))


TASKS = {"predict": predict, "posterior": posterior}


def batch(run: RunSpec):
    """The images (galaxy, 1, y, x) that are sampled."""
    return plain_torch.tensor(run, peers.galaxies(run).images)


def probabilities(run: RunSpec, model: torch.nn.Module, images, samples: int):
    """rho (galaxy, sample) of so many passes."""
    gpu = plain_torch.device(run).type == "cuda"
    wrapper = ModelWrapper(model, TrainingArgs(use_cuda=gpu, replicate_in_memory=False))
    with plain_torch.mixed(run):
        logits = wrapper.predict_on_batch(images, samples)
    return logits.float().softmax(1)[:, 1].cpu().numpy()


def describe(run: RunSpec) -> dict[str, str]:
    """What computes, and how."""
    return {
        **plain_torch.describe(run),
        "baal": version("baal"),
        "compiled": "eager",
        "views": "none",
    }
