"""The network of a run: its architecture in the sizes that `model` gives."""

from functools import cache

from shared.network.architectures.convnext import convnext
from shared.network.architectures.dieleman import dieleman
from shared.network.architectures.efficientnet import efficientnet
from shared.network.architectures.heads import dropout_head, maxout_head
from shared.network.architectures.resnet import resnet18, resnet50
from shared.network.architectures.w20 import w20
from shared.network.network import IMAGE, Layer, Model, Network, shapes
from shared.network.operations import Standardise
from shared.run.spec import ModelSpec

INPUT = "input"  # the layer that standardises images


@cache
def model_of(spec: ModelSpec) -> Model:
    """The network that `spec` names; ValueError if its images are too small for it."""
    image = (spec.image_size, spec.image_size, spec.channels)
    head = dropout_head(spec.dropout, spec.answers)
    if spec.name == "dieleman":
        head = maxout_head(spec.dropout, spec.answers, units=spec.dense)
    body = standardised(encoder(spec)) if spec.standardise else encoder(spec)
    model = Model(image, body, head)
    if small := [
        name for name, shape in shapes(model.encoder, image).items() if min(shape, default=1) < 1
    ]:
        raise ValueError(
            f"model.image_size is {spec.image_size}, of which {spec.name} leaves nothing at its layer {small[0]}; "
            "give larger images"
        )
    return model


def standardised(network: Network) -> Network:
    """A network whose image goes through `Standardise` first."""
    first = Layer(INPUT, Standardise(), (IMAGE,))
    renamed = (
        layer._replace(inputs=tuple(INPUT if each == IMAGE else each for each in layer.inputs))
        for layer in network
    )
    return (first, *renamed)


def encoder(spec: ModelSpec) -> Network:
    """The part of the network before the units."""
    sizes = {name: getattr(spec, name) for name in ("widths", "depths")}
    match spec.name:
        case "w20":
            return w20(spec.blocks, spec.dense)
        case "dieleman":
            if spec.image_size < 45:
                raise ValueError(
                    f"model.image_size is {spec.image_size}; dieleman's views are 45 pixels wide: give at least 45, "
                    "as they do 69"
                )
            return dieleman(spec.widths)
        case "resnet18":
            return resnet18(**sizes)
        case "resnet50":
            return resnet50(**sizes)
        case "efficientnet_b0":
            return efficientnet(**sizes, stochastic_depth=spec.stochastic_depth)
        case _:
            return convnext(**sizes, stochastic_depth=spec.stochastic_depth)
