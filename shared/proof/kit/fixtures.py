"""What the kit's checks are about: two networks, two kinds of augmentation, and a few rendered galaxies."""

from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from shared.data.synthetic import draw_galaxies, render
from shared.method.batches import Cutouts, Labelled
from shared.method.likelihood import YES_OR_NO
from shared.method.views import draw_views
from shared.network.weights import Weights, init_weights
from shared.proof import reference
from shared.run import keys
from shared.run.keys import galaxy_hash
from shared.run.spec import AugmentationSpec, LikelihoodSpec, ModelSpec, TrainingSpec

WIDE = ModelSpec(
    name="w20",
    image_size=32,
    channels=1,
    blocks=((32, 32), (64, 64), (128,), (128,)),
    dense=128,
    widths=None,
    depths=None,
    stochastic_depth=0.0,
    dropout=0.5,
    answers=2,
    scale="unit",
)
NARROW = replace(WIDE, blocks=((8, 8), (16, 16), (32,), (32,)), dense=32)  # for what is long
NETWORKS = {"wide": WIDE, "narrow": NARROW}
BILINEAR = AugmentationSpec(
    zoom=(1.1, 1.3),
    shift="anywhere",
    rotation="full",
    border="edge",
    resampling="bilinear",
    zoom_per="image",
    brightness=0.05,
    contrast=(0.98, 1.02),
    at_prediction=False,
)
NEAREST = replace(BILINEAR, rotation="half", border="zero", resampling="nearest", zoom_per="call")
ADAM = TrainingSpec(
    batch_size=8,
    steps=200,
    learning_rate=1e-3,
    schedule="constant",
    warmup=0,
    weight_decay=0.0,
    layer_decay=1.0,
    clip=None,
    trainable="all",
    shards=1,
    patience=None,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    epsilon_form="textbook",
    moments="batch",
    validate_every=0,
    checkpoint_every=0,
    members=1,
)

GALAXIES = 48
STORED, REDUCED = 256, 64  # pixels: as rendered, and as the network's views sample them


class DatasetSettings(NamedTuple):
    """The part of a dataset's settings that views need."""

    crop: float


class RunSettings(NamedTuple):
    """The part of a run's settings that the specification needs."""

    seed: int
    model: ModelSpec
    augmentation: AugmentationSpec
    training: TrainingSpec = ADAM
    dataset: DatasetSettings = DatasetSettings(1.0)
    likelihood: LikelihoodSpec = LikelihoodSpec(YES_OR_NO.name, YES_OR_NO.concentrations)
    questions: tuple[str, ...] | None = None
    asked: tuple = YES_OR_NO.questions


class Fixtures:
    """The galaxies of a kit, their votes, and the weights of the wide network."""

    def __init__(self, seed: int):
        self.seed = seed
        drawn = draw_galaxies(GALAXIES, seed)
        images = np.stack([render(row._asdict()) for row in drawn.itertuples(index=False)])
        self.images = Cutouts(images, STORED // REDUCED)[np.arange(GALAXIES)]
        self.ids = drawn["id"].tolist()
        self.hashes = galaxy_hash(self.ids)
        total = self.random(1).integers(0, 41, GALAXIES)
        yes = self.random(2).integers(0, total + 1)
        self.labelled = Labelled.yes_or_no(np.arange(GALAXIES), self.hashes, yes, total)
        self.wide = self.with_biases(init_weights(WIDE, seed))

    def random(self, number: int) -> np.random.Generator:
        """Numbers whose law does not matter, another stream for each use."""
        return np.random.default_rng([self.seed, number])

    def with_biases(self, weights: Weights) -> Weights:
        """`weights` with random biases in place of 0, so that a port that forgets them fails."""
        random = self.random(3)
        return {
            name: array
            if name.endswith("kernel")
            else random.normal(0, 0.05, array.shape).astype(np.float32)
            for name, array in weights.items()
        }

    def masks(self, units: int, count: int) -> np.ndarray:
        """Dropout's masks bool (galaxy, unit) of the first `count` galaxies at step 7."""
        return keys.keep(
            keys.galaxy_keys(self.seed, "dropout", self.hashes[:count]),
            np.full(count, 7),
            units,
            WIDE.dropout,
        )

    @cached_property
    def viewed(self) -> np.ndarray:
        """Every galaxy in a drawn view, float32 (galaxy, y, x, 1), so that both precisions start from the same."""
        run = RunSettings(self.seed, WIDE, BILINEAR)
        view_keys = keys.galaxy_keys(self.seed, "view", self.hashes)
        index = np.zeros(GALAXIES, int)
        views = draw_views(run, REDUCED, view_keys, index, index)
        return reference.apply_views(run, self.images, views).astype(np.float32)


def double(weights: Weights) -> Weights:
    """Weights in float64."""
    return {name: array.astype(np.float64) for name, array in weights.items()}
