"""Flax as its tutorials write it: an nnx module, optax's Adam, a step under nnx.jit."""

import os
from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.scipy.ndimage import map_coordinates

from benchmarks.programs import peers
from benchmarks.work import Work
from shared.network.weights import Weights, init_weights, model_shapes
from shared.run.spec import AugmentationSpec, ModelSpec, RunSpec


class Network(nnx.Module):
    """W+20's network: the logits (galaxy, answer) of images (galaxy, y, x, 1)."""

    def __init__(self, spec: ModelSpec, kind, rngs: nnx.Rngs):
        shapes = model_shapes(spec)
        self.blocks = spec.blocks
        self.convs = nnx.List(
            nnx.Conv(*shapes[f"conv{number}/kernel"][2:], (3, 3), dtype=kind, rngs=rngs)
            for number in range(sum(map(len, spec.blocks)))
        )
        self.hidden = nnx.Linear(*shapes["hidden/kernel"], dtype=kind, rngs=rngs)
        self.dropout = nnx.Dropout(spec.dropout, rngs=rngs)
        self.answer = nnx.Linear(*shapes["answer/kernel"], dtype=jnp.float32, rngs=rngs)

    def __call__(self, x):
        convs = iter(self.convs)
        for block in self.blocks:
            for _ in block:
                x = nnx.relu(next(convs)(x))
            x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        x = nnx.relu(self.hidden(x.reshape(len(x), -1)))
        return self.answer(self.dropout(x))


def work(run: RunSpec, task: str) -> Work:
    """The task called `task`, opened; raises ValueError for one that is not in TASKS, and for other precisions."""
    peers.check(run, task, TASKS)
    configure(run)
    return TASKS[task](run)


def train(run: RunSpec) -> Work:
    """An epoch of backend.steps batches: cutouts, augmented within the step."""
    spec, size, scale = run.augmentation, run.model.image_size, run.model.scale
    return learning(
        run, network(run), peers.galaxies(run).cutouts, partial(augment, spec, size, scale)
    )


def train_plain(run: RunSpec) -> Work:
    """An epoch of backend.steps batches of images of the network's own size, as they are."""
    return learning(run, network(run), peers.galaxies(run).images, lambda _, images: images)


def learning(run: RunSpec, net: nnx.Module, images: np.ndarray, seen) -> Work:
    """An epoch of `net` by backend.steps batches of `images` (galaxy, y, x, 1), which `seen`(key, images) makes
    the network's.
    """
    spec, shuffle = run.training, np.random.default_rng(run.seed)
    net.train()
    adam = optax.adam(spec.learning_rate, spec.beta1, spec.beta2, spec.epsilon)
    optimiser, rngs = nnx.Optimizer(net, adam, wrt=nnx.Param), nnx.Rngs(run.seed)
    everything = [peers.epoch(run, array) for array in (images, peers.galaxies(run).votes)]

    @compiled(run)
    def step(net, optimiser, rngs, some, votes):
        shown = seen(rngs(), some)
        loss, gradients = nnx.value_and_grad(lambda net: votes_nll(net(shown), votes))(net)
        optimiser.update(net, gradients)
        return loss

    def call():
        order = shuffle.permutation(len(everything[0])).reshape(-1, run.bench.batch_size)
        losses = [
            step(net, optimiser, rngs, *(array[rows] for array in everything)) for rows in order
        ]
        return np.array(jax.device_get(losses))

    return Work(call, len(everything[0]))


def predict(run: RunSpec) -> Work:
    """One deterministic pass: rho (galaxy,)."""
    net, images = network(run), jnp.array(peers.galaxies(run).images)
    net.eval()
    one = compiled(run)(chance)
    return Work(lambda: np.asarray(one(net, images)), len(images))


def posterior(run: RunSpec) -> Work:
    """A pass of the network in train mode per sample: rho (galaxy, sample)."""
    net, images = network(run), jnp.array(peers.galaxies(run).images)
    net.train()
    one = compiled(run)(chance)

    def call():
        passes = [one(net, images) for _ in range(run.posterior.samples)]
        return np.asarray(jnp.stack(passes, 1))

    return Work(call, len(images))


TASKS = {"train": train, "train_plain": train_plain, "predict": predict, "posterior": posterior}


def network(run: RunSpec) -> Network:
    """The network, its first weights ours."""
    kind = jnp.bfloat16 if run.backend.precision == "bfloat16" else jnp.float32
    net = Network(run.model, kind, nnx.Rngs(run.seed))
    put_weights(net, init_weights(run.model, run.seed))
    return net


def put_weights(net: Network, weights: Weights) -> None:
    """Set the network's weights from arrays under shared names, whose axes stand as Flax's."""
    layers = {f"conv{number}": conv for number, conv in enumerate(net.convs)}
    layers |= {"hidden": net.hidden, "answer": net.answer}
    for name, array in weights.items():
        layer, part = name.split("/")
        getattr(layers[layer], part)[...] = jnp.array(array)


def augment(spec: AugmentationSpec, size: int, scale: str, key, images):
    """Images (galaxy, y, x, 1) as W+20 turn, flip, zoom, shift and relight them, by map_coordinates."""

    def one(key, image):
        keys = jax.random.split(key, 6)
        span = len(image) / jax.random.uniform(keys[0], minval=spec.zoom[0], maxval=spec.zoom[1])
        angle = jax.random.uniform(keys[1]) * {"full": 2, "half": 1, "none": 0}[spec.rotation]
        cos, sin = jnp.cos(jnp.pi * angle), jnp.sin(jnp.pi * angle)
        flip = jax.random.rademacher(keys[2], (2,), image.dtype)
        flip = flip if spec.rotation != "none" else jnp.ones_like(flip)
        free = (len(image) - span) / 2 * (spec.shift == "anywhere")
        start = jax.random.uniform(keys[3], (2,), minval=-free, maxval=free)
        pixel = ((jnp.arange(size) + 0.5) / size - 0.5) * span
        y, x = flip[0] * (pixel + start[0])[:, None], flip[1] * (pixel + start[1])[None, :]
        centre = (len(image) - 1) / 2
        places = [cos * y - sin * x + centre, sin * y + cos * x + centre]
        border = "nearest" if spec.border == "edge" else "constant"
        image = map_coordinates(image, places, order=1, mode=border)
        contrast = jax.random.uniform(keys[4], minval=spec.contrast[0], maxval=spec.contrast[1])
        light = jax.random.uniform(keys[5], minval=-spec.brightness, maxval=spec.brightness)
        return (image - image.mean()) * contrast + image.mean() + light

    images = images[..., 0] / (255.0 if scale == "unit" else 1.0)
    return jax.vmap(one)(jax.random.split(key, len(images)), images)[..., None]


def votes_nll(logits, votes):
    """The mean negative log likelihood of votes (galaxy, answer)."""
    return -(votes * nnx.log_softmax(logits)).sum(1).mean()


def chance(net: Network, images):
    """rho (galaxy,) of one pass."""
    return nnx.softmax(net(images))[:, 1]


def compiled(run: RunSpec):
    """What compiles a function: nnx.jit, or nothing where the run says eager."""
    return (lambda function: function) if run.backend.compiled == "eager" else nnx.jit


def configure(run: RunSpec) -> None:
    """The run's device, and float32 that is float32."""
    wanted = run.backend.device
    kind = jax.default_backend() if wanted == "auto" else wanted
    jax.config.update("jax_default_device", jax.devices(kind)[0])
    fast = run.backend.precision == "bfloat16"
    jax.config.update("jax_default_matmul_precision", "default" if fast else "highest")


def describe(run: RunSpec) -> dict[str, str]:
    """What computes, and how."""
    device = jnp.zeros(()).device
    return {
        "jax": jax.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
        "device": "cpu" if device.platform == "cpu" else device.device_kind,
        "precision": run.backend.precision,
        "threads": os.environ.get("PJRT_NPROC", str(peers.threads(run))),
        "compiled": "eager" if run.backend.compiled == "eager" else "nnx.jit",
        "format": "NHWC",
        "views": "map_coordinates, within the step: all that ours draw",
        "input": "rows of arrays in memory, in a random order",
    }
