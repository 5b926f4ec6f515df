"""Zoobot's training step around W+20's network: its tree module with our convolutions as the encoder.

Zoobot's loss is the Dirichlet-multinomial likelihood of the votes, not the binomial one: its API has no other for
counts. Its Lightning trainer is left out, and its data set too, which would read a file and transform it by the CPU
galaxy by galaxy: what is timed is the step alone, which favours Zoobot.
"""

from benchmarks.programs import vision  # noqa: F401  before all that imports torchvision

# isort: split
from importlib.metadata import version

import torch
from zoobot.pytorch.training.finetune import FinetuneableZoobotTree
from zoobot.shared.schemas import Schema

from benchmarks.programs import peers, plain_torch
from benchmarks.work import Work
from shared.run.spec import RunSpec

SCHEMA = Schema({"smooth": ["_no", "_yes"]}, {"smooth": None})


def work(run: RunSpec, task: str) -> Work:
    """The task called `task`, opened; raises ValueError for one that is not in TASKS, and for other precisions."""
    peers.check(run, task, TASKS)
    plain_torch.configure(run)
    torch.manual_seed(run.seed)
    return TASKS[task](run)


def train_plain(run: RunSpec) -> Work:
    """An epoch of backend.steps batches, through `training_step`, of images of the network's own size, as they are."""
    shuffled = plain_torch.loader(run, peers.galaxies(run).images)
    model, place = network(run).train(), plain_torch.device(run)
    optimiser = model.configure_optimizers()

    def call():
        losses = []
        for number, (images, votes) in enumerate(shuffled):
            counts = zip(SCHEMA.label_cols, votes.to(place).T, strict=True)
            batch = {"image": images.to(place), **dict(counts)}
            optimiser.zero_grad()
            with plain_torch.mixed(run):
                loss = model.training_step(batch, number)["loss"]
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        return torch.stack(losses).cpu().numpy()

    return Work(call, len(shuffled.dataset))


def predict(run: RunSpec) -> Work:
    """One deterministic pass: the mean rho (galaxy,) of each galaxy's Dirichlet distribution."""
    model, images = network(run).eval(), plain_torch.tensor(run, peers.galaxies(run).images)
    return Work(lambda: chance(run, model, images).cpu().numpy(), len(images))


def posterior(run: RunSpec) -> Work:
    """A pass of the network in train mode per sample: the same (galaxy, sample)."""
    model, images = network(run).train(), plain_torch.tensor(run, peers.galaxies(run).images)

    def call():
        passes = [chance(run, model, images) for _ in range(run.posterior.samples)]
        return torch.stack(passes, 1).cpu().numpy()

    return Work(call, len(images))


TASKS = {"train_plain": train_plain, "predict": predict, "posterior": posterior}


def network(run: RunSpec) -> FinetuneableZoobotTree:
    """Zoobot's tree module: our network up to its dense layer, then Zoobot's own head, on the device.

    Without weight decay, and with one rate for all layers, its AdamW is Adam.
    """
    encoder = plain_torch.network(run)[:-2]
    encoder.num_features = run.model.dense
    return FinetuneableZoobotTree(
        SCHEMA,
        encoder=encoder,
        learning_rate=run.training.learning_rate,
        layer_decay=None,
        weight_decay=0.0,
        head_dropout_prob=run.model.dropout,
    ).to(plain_torch.device(run))


def chance(run: RunSpec, model: FinetuneableZoobotTree, images):
    """The mean rho (galaxy,) of one pass."""
    with torch.inference_mode(), plain_torch.mixed(run):
        concentrations = model.predict_step({"image": images}, 0).float()
    return concentrations[:, 1] / concentrations.sum(1)


def describe(run: RunSpec) -> dict[str, str]:
    """What computes, and how."""
    return {
        **plain_torch.describe(run),
        "zoobot": version("zoobot"),
        "lightning": version("lightning"),
        "compiled": "eager",
        "views": "none",
        "loss": "Dirichlet-multinomial",
    }
