"""Keras 3 as its guides write it: layers in a Sequential, compile, fit, on whatever backend KERAS_BACKEND names."""

import os
from importlib import import_module

import keras
import numpy as np
from keras import layers
from scipy.special import expit

from benchmarks.programs import peers
from benchmarks.work import Work
from shared.network.weights import init_weights
from shared.run.spec import RunSpec

BACKEND = keras.backend.backend()
FIRST = BACKEND == "torch"  # channels: with PyTorch faster so, with the other two slower
COMPILED = {  # without jit_compile, and with it
    "tensorflow": ("tf.function", "tf.function, XLA"),
    "torch": ("eager", "torch.compile"),
    "jax": ("eager", "jax.jit"),
}


class StillDropping(layers.Dropout):
    """Dropout at prediction too."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=True)


class Augmented(keras.utils.PyDataset):
    """Batches of cutouts that Keras' layers turn and zoom before the model gets them, shuffled at every epoch."""

    def __init__(self, run: RunSpec, views: keras.Sequential, cutouts: np.ndarray, votes):
        super().__init__()
        self.views, self.cutouts, self.votes = views, cutouts, votes
        self.shape, self.random = (-1, run.bench.batch_size), np.random.default_rng(run.seed)
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        """A new order."""
        self.rows = self.random.permutation(len(self.votes)).reshape(self.shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int):
        rows = self.rows[number]
        return self.views(self.cutouts[rows], training=True), self.votes[rows]


def work(run: RunSpec, task: str) -> Work:
    """The task called `task`, opened.

    Raises ValueError for one that is not in TASKS, for other precisions, and for a device that Keras would not take.
    """
    peers.check(run, task, TASKS)
    configure(run)
    return TASKS[task](run)


def train(run: RunSpec) -> Work:
    """An epoch of backend.steps batches by fit: cutouts, augmented by Keras' layers."""
    cutouts, views = order(peers.galaxies(run).cutouts), augmentation(run)
    if BACKEND != "jax":
        return learning(run, keras.Sequential([views, network(run)]), cutouts)
    # JAX cannot compile these layers, and Keras then compiles nothing of the model that they are in.
    return learning(run, network(run), cutouts, lambda *arrays: Augmented(run, views, *arrays))


def train_plain(run: RunSpec) -> Work:
    """An epoch of backend.steps batches by fit, of images of the network's own size, as they are."""
    return learning(run, network(run), order(peers.galaxies(run).images))


def learning(run: RunSpec, model: keras.Model, images: np.ndarray, dataset=None) -> Work:
    """An epoch by fit, of arrays or of what `dataset` makes of them."""
    arrays = [peers.epoch(run, array) for array in (images, peers.galaxies(run).votes)]
    given = {"batch_size": run.bench.batch_size}
    if dataset is not None:
        arrays, given = [dataset(*arrays)], {}
    prepared = compiled(run, model)

    def call():
        return np.array(prepared.fit(*arrays, **given, verbose=0).history["loss"])

    return Work(call, run.backend.steps * run.bench.batch_size)


def predict(run: RunSpec) -> Work:
    """One deterministic pass by predict_on_batch, which spares a single batch what predict prepares: rho (galaxy,)."""
    model, images = compiled(run, network(run)), order(peers.galaxies(run).images)
    return Work(lambda: chance(model.predict_on_batch(images)), len(images))


def posterior(run: RunSpec) -> Work:
    """predict_on_batch once per sample, of a model whose dropout stays on: rho (galaxy, sample)."""
    model, images = compiled(run, network(run, StillDropping)), order(peers.galaxies(run).images)

    def call():
        samples = range(run.posterior.samples)
        return np.stack([chance(model.predict_on_batch(images)) for _ in samples], 1)

    return Work(call, len(images))


TASKS = {"train": train, "train_plain": train_plain, "predict": predict, "posterior": posterior}


def network(run: RunSpec, dropout: type = layers.Dropout) -> keras.Sequential:
    """W+20's network with a layer of the class `dropout`, its first weights ours."""
    spec = run.model
    model = keras.Sequential([keras.Input(shape(spec.image_size))])
    for block in spec.blocks:
        for filters in block:
            model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D(2))
    model.add(layers.Flatten())
    model.add(layers.Dense(spec.dense, activation="relu"))
    model.add(dropout(spec.dropout))
    model.add(layers.Dense(2, dtype="float32"))
    model.set_weights(list(init_weights(spec, run.seed).values()))
    return model


def augmentation(run: RunSpec) -> keras.Sequential:
    """The layers nearest to W+20's views, on images that are first reduced to the network's size.

    Keras zooms about the centre, so augmentation.shift plays no part. Reduced first, they cost Keras least.
    """
    spec = run.augmentation
    zooms = tuple(1 / zoom - 1 for zoom in spec.zoom)
    border = "nearest" if spec.border == "edge" else "constant"
    turn = {"full": 0.5, "half": 0.25, "none": 0.0}[spec.rotation]
    top = 1.0 if run.model.scale == "unit" else 255.0
    exact = {"dtype": "float32"}  # places in an image, which bfloat16 would round to pixels
    views = keras.Sequential(
        [
            layers.Resizing(run.model.image_size, run.model.image_size, **exact),
            layers.Rescaling(top / 255, **exact),
        ]
    )
    if spec.rotation != "none":
        views.add(layers.RandomFlip(**exact))
        views.add(layers.RandomRotation(turn, fill_mode=border, **exact))
    views.add(layers.RandomZoom(zooms, fill_mode=border, **exact))
    views.add(layers.RandomBrightness(spec.brightness, (0.0, top), **exact))
    views.add(layers.RandomContrast(spec.contrast[1] - 1, (0.0, top), **exact))
    return views


def compiled(run: RunSpec, model: keras.Model) -> keras.Model:
    """`model` with optimiser and loss, and compiled as Keras would by itself unless the run says how."""
    spec, how = run.training, run.backend.compiled
    adam = keras.optimizers.Adam(spec.learning_rate, spec.beta1, spec.beta2, spec.epsilon)
    jit = True if how == "full" else "auto"
    model.compile(adam, votes_nll, run_eagerly=how == "eager", jit_compile=jit)
    return model


def votes_nll(votes, logits):
    """The negative log likelihood (galaxy,) of votes (galaxy, answer)."""
    return -keras.ops.sum(votes * keras.ops.log_softmax(logits), -1)


def chance(logits: np.ndarray) -> np.ndarray:
    """rho (galaxy,) of logits (galaxy, answer)."""
    return expit(logits[:, 1] - logits[:, 0])


def shape(size: int, channels: int = 1) -> tuple[int, int, int]:
    """The axes of an image."""
    return (channels, size, size) if FIRST else (size, size, channels)


def order(images: np.ndarray) -> np.ndarray:
    """Images (galaxy, y, x, 1) in the order of axes that the backend computes in."""
    return images.reshape(len(images), *shape(images.shape[1]))


def configure(run: RunSpec) -> None:
    """The run's precision, threads and order of axes; ValueError if Keras takes another device than the run."""
    wanted = run.backend.device
    found = "cpu" if device() == "cpu" else "gpu"
    if wanted not in ("auto", found):
        fix = "set CUDA_VISIBLE_DEVICES to nothing" if found == "gpu" else "set it to auto"
        raise ValueError(f"backend.device is {wanted}, but Keras takes the {found}; {fix}")
    keras.utils.set_random_seed(run.seed)
    keras.config.set_image_data_format("channels_first" if FIRST else "channels_last")
    mixed = run.backend.precision == "bfloat16"
    keras.config.set_dtype_policy("mixed_bfloat16" if mixed else "float32")
    framework, exact = import_module(BACKEND), not mixed
    if BACKEND == "tensorflow":
        framework.config.threading.set_intra_op_parallelism_threads(peers.threads(run))
        framework.config.experimental.enable_tensor_float_32_execution(not exact)
    elif BACKEND == "torch":
        framework.set_num_threads(peers.threads(run))
        framework.backends.cuda.matmul.allow_tf32 = framework.backends.cudnn.allow_tf32 = not exact
    else:
        framework.config.update("jax_default_matmul_precision", "highest" if exact else "default")


def device() -> str:
    """What Keras computes on: cpu, or the GPU's name."""
    framework = import_module(BACKEND)
    if BACKEND == "tensorflow":
        cards = framework.config.list_physical_devices("GPU")
        named = framework.config.experimental.get_device_details
        return named(cards[0]).get("device_name", "GPU") if cards else "cpu"
    if BACKEND == "torch":
        return framework.cuda.get_device_name() if framework.cuda.is_available() else "cpu"
    first = framework.devices()[0]
    return "cpu" if first.platform == "cpu" else first.device_kind


def threads(run: RunSpec) -> int:
    """How many threads the backend computes with."""
    framework = import_module(BACKEND)
    if BACKEND == "tensorflow":
        return framework.config.threading.get_intra_op_parallelism_threads()
    if BACKEND == "torch":
        return framework.get_num_threads()
    return int(os.environ.get("PJRT_NPROC", peers.threads(run)))


def describe(run: RunSpec, model: keras.Model | None = None) -> dict[str, str]:
    """What computes, and how: the `model`, or W+20's network."""
    model = compiled(run, model or network(run))
    how = COMPILED[BACKEND][bool(model.jit_compile)] if not model.run_eagerly else "eager"
    before = "before the model" if BACKEND == "jax" else "in the model"
    return {
        "keras": keras.__version__,
        BACKEND: import_module(BACKEND).__version__,
        "device": device(),
        "precision": run.backend.precision,
        "threads": str(threads(run)),
        "compiled": how,
        "format": keras.config.image_data_format(),
        "views": "Resizing, RandomFlip, RandomRotation, RandomZoom, RandomBrightness, RandomContrast, "
        f"{before}; zoomed about the centre",
        "input": "fit, of arrays in memory",
    }
