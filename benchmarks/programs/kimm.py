"""The networks of kimm, which are timm's written in Keras, by Keras's own `fit`."""

from importlib.metadata import version

from kimm import models

from benchmarks.programs import keras, peers
from benchmarks.work import Work
from shared.run.spec import RunSpec

NETWORKS = {
    "resnet18": models.ResNet18,
    "resnet50": models.ResNet50,
    "efficientnet_b0": models.EfficientNetB0,
    "convnext_atto": models.ConvNeXtAtto,
    "convnext_femto": models.ConvNeXtFemto,
    "convnext_pico": models.ConvNeXtPico,
    "convnext_nano": models.ConvNeXtNano,
    "convnext_tiny": models.ConvNeXtTiny,
    "convnext_small": models.ConvNeXtSmall,
}


def work(run: RunSpec, task: str) -> Work:
    """The task called `task`, opened; ValueError for another than train_plain, and for networks that are not here."""
    peers.check(run, task, ("train_plain",), NETWORKS)
    keras.configure(run)
    return keras.learning(run, network(run), keras.order(peers.galaxies(run).images))


def network(run: RunSpec):
    """The network, of two answers."""
    spec = run.model
    return NETWORKS[spec.name](
        weights=None,
        input_shape=keras.shape(spec.image_size, spec.channels),
        include_preprocessing=False,
        classes=2,
        classifier_activation=None,
        dropout_rate=spec.dropout,
    )


def describe(run: RunSpec) -> dict[str, str]:
    """What computes, and how."""
    return {"kimm": version("kimm"), **keras.describe(run, network(run))}
