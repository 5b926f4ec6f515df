"""The networks of keras.applications, by Keras's own `fit`."""

from keras import applications

from benchmarks.programs import keras, peers
from benchmarks.work import Work
from shared.run.spec import RunSpec

NETWORKS = {
    "resnet50": applications.ResNet50,
    "efficientnet_b0": applications.EfficientNetB0,
    "convnext_tiny": applications.ConvNeXtTiny,
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
        classes=2,
        classifier_activation=None,
    )


def describe(run: RunSpec) -> dict[str, str]:
    """What computes, and how."""
    return keras.describe(run, network(run))
