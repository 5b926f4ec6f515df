"""PyTorch as its tutorials write it: a DataLoader, a network of nn's layers, an optimiser of torch.optim."""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.programs import peers
from benchmarks.work import Work
from shared.network.weights import Weights, init_weights
from shared.run.spec import ModelSpec, RunSpec


def work(run: RunSpec, task: str) -> Work:
    """The task called `task`, opened; raises ValueError for one that is not in TASKS, and for other precisions."""
    peers.check(run, task, TASKS)
    configure(run)
    return TASKS[task](run)


def train(run: RunSpec) -> Work:
    """An epoch of backend.steps batches: cutouts, augmented batch by batch on the device."""
    return learning(run, network(run), peers.galaxies(run).cutouts, augment)


def train_plain(run: RunSpec) -> Work:
    """An epoch of backend.steps batches of images of the network's own size, as they are."""
    return learning(run, network(run), peers.galaxies(run).images, lambda _, images: images)


def learning(run: RunSpec, net: nn.Module, images: np.ndarray, seen) -> Work:
    """An epoch of `net` by backend.steps batches of `images` (galaxy, y, x, 1), which `seen`(run, images) makes
    the network's.
    """
    torch.manual_seed(run.seed)
    shuffled = loader(run, images)
    spec, place = run.training, device(run)
    compute = compiled(run, lambda images: net(seen(run, images)))
    adam = torch.optim.Adam(
        net.parameters(), spec.learning_rate, (spec.beta1, spec.beta2), spec.epsilon
    )
    net.train()

    def call():
        losses = []
        for some, votes in shuffled:
            some, votes = some.to(place), votes.to(place)
            adam.zero_grad()
            with mixed(run):
                logits = compute(some)
            loss = votes_nll(logits.float(), votes)
            loss.backward()
            adam.step()
            losses.append(loss.detach())
        return torch.stack(losses).cpu().numpy()

    return Work(call, len(shuffled.dataset))


def predict(run: RunSpec) -> Work:
    """One deterministic pass: rho (galaxy,)."""
    net = network(run).eval()
    compute, images = compiled(run, net), tensor(run, peers.galaxies(run).images)
    return Work(lambda: chance(run, compute, images).cpu().numpy(), len(images))


def posterior(run: RunSpec) -> Work:
    """A pass of the network in train mode per sample: rho (galaxy, sample)."""
    torch.manual_seed(run.seed)
    net = network(run).train()
    compute, images = compiled(run, net), tensor(run, peers.galaxies(run).images)

    def call():
        passes = [chance(run, compute, images) for _ in range(run.posterior.samples)]
        return torch.stack(passes, 1).cpu().numpy()

    return Work(call, len(images))


TASKS = {"train": train, "train_plain": train_plain, "predict": predict, "posterior": posterior}


def network(run: RunSpec) -> nn.Sequential:
    """W+20's network, its first weights ours, in PyTorch's own order of axes, on the device."""
    spec, layers, channels, number = run.model, OrderedDict(), 1, 0
    for block in spec.blocks:
        for filters in block:
            layers[f"conv{number}"] = nn.Conv2d(channels, filters, 3, padding=1)
            layers[f"relu{number}"] = nn.ReLU()
            channels, number = filters, number + 1
        layers[f"pool{number}"] = nn.MaxPool2d(2)
    width = spec.image_size >> len(spec.blocks)
    layers["flat"] = nn.Flatten()
    layers["hidden"] = nn.Linear(channels * width * width, spec.dense)
    layers["relu"] = nn.ReLU()
    layers["dropout"] = nn.Dropout(spec.dropout)
    layers["answer"] = nn.Linear(spec.dense, 2)
    net = nn.Sequential(layers)
    net.load_state_dict(state(spec, init_weights(spec, run.seed)))
    return net.to(device(run))


def state(spec: ModelSpec, weights: Weights) -> dict[str, torch.Tensor]:
    """`weights` under the names and in the order of axes that `network` gives them."""
    found = {}
    for name, array in weights.items():
        layer, kind = name.split("/")
        if name == "hidden/kernel":  # an image is flattened channel by channel here
            width = spec.image_size >> len(spec.blocks)
            array = array.reshape(width, width, -1, spec.dense).transpose(2, 0, 1, 3)
            array = array.reshape(-1, spec.dense)
        axes = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[array.ndim]
        value = torch.from_numpy(array).permute(axes).contiguous()
        found[f"{layer}.{'weight' if kind == 'kernel' else 'bias'}"] = value
    return found


def augment(run: RunSpec, images):
    """Images (galaxy, 1, y, x) as W+20 turn, flip, zoom, shift and relight them, by affine_grid and grid_sample."""
    spec, count, place = run.augmentation, len(images), images.device
    images = images.float() / 255 if run.model.scale == "unit" else images.float()
    span = 1 / torch.empty(count, device=place).uniform_(*spec.zoom)
    turn = {"full": 2 * torch.pi, "half": torch.pi, "none": 0.0}[spec.rotation]
    angle = torch.rand(count, device=place) * turn
    flip = torch.randint(0, 2, (count, 2, 1), device=place) * 2 - 1
    flip = flip if spec.rotation != "none" else torch.ones_like(flip)
    free = spec.shift == "anywhere"
    shift = (2 * torch.rand(count, 2, 1, device=place) - 1) * (1 - span)[:, None, None] * free
    cos, sin = torch.cos(angle), torch.sin(angle)
    rotation = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1) * flip
    theta = torch.cat([rotation * span[:, None, None], rotation @ shift], 2)
    size = run.model.image_size
    grid = F.affine_grid(theta, [count, 1, size, size], align_corners=False)
    border = "border" if spec.border == "edge" else "zeros"
    images = F.grid_sample(images, grid, padding_mode=border, align_corners=False)
    contrast = torch.empty(count, 1, 1, 1, device=place).uniform_(*spec.contrast)
    light = torch.empty(count, 1, 1, 1, device=place).uniform_(-spec.brightness, spec.brightness)
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * contrast + mean + light


def votes_nll(logits, votes):
    """The mean negative log likelihood of votes (galaxy, answer)."""
    return -(votes * F.log_softmax(logits, 1)).sum(1).mean()


def chance(run: RunSpec, compute, images):
    """rho (galaxy,) of one pass."""
    with torch.inference_mode(), mixed(run):
        return F.softmax(compute(images).float(), 1)[:, 1]


def loader(run: RunSpec, images: np.ndarray) -> DataLoader:
    """Shuffled batches of `images` (galaxy, y, x, 1) and their votes, backend.steps of them."""
    arrays = (images.transpose(0, 3, 1, 2), peers.galaxies(run).votes)
    tensors = [torch.from_numpy(peers.epoch(run, array)) for array in arrays]
    return DataLoader(TensorDataset(*tensors), run.bench.batch_size, shuffle=True)


def tensor(run: RunSpec, images: np.ndarray):
    """Images (galaxy, y, x, 1) as (galaxy, 1, y, x), on the device."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device(run))


def mixed(run: RunSpec):
    """Where the network computes in bfloat16 as PyTorch does by itself, if the run wants that."""
    return torch.autocast(
        device(run).type, torch.bfloat16, enabled=run.backend.precision == "bfloat16"
    )


def compiled(run: RunSpec, compute):
    """`compute`, or torch.compile's of it where the run says full."""
    return torch.compile(compute) if run.backend.compiled == "full" else compute


def device(run: RunSpec) -> torch.device:
    """Where the run computes."""
    wanted = run.backend.device
    return torch.device(
        "cuda" if wanted == "gpu" or (wanted == "auto" and torch.cuda.is_available()) else "cpu"
    )


def configure(run: RunSpec) -> None:
    """The run's threads, and float32 that is float32."""
    torch.set_num_threads(peers.threads(run))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def describe(run: RunSpec) -> dict[str, str]:
    """What computes, and how."""
    gpu = device(run).type == "cuda"
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "cuda": torch.version.cuda if gpu else "none",
        "precision": run.backend.precision,
        "threads": str(torch.get_num_threads()),
        "compiled": "torch.compile" if run.backend.compiled == "full" else "eager",
        "format": "NCHW",
        "views": "affine_grid and grid_sample, a batch at a time: all that ours draw",
        "input": "TensorDataset in a DataLoader without workers",
    }
