"""Each operation of a network as nodes of an ONNX graph, as at prediction; images are (galaxy, channel, y, x).

A function has the name of its operation, as in `shared.proof.operations`. It is given the layer, its weights and
running moments by part, the shape of its first input for one galaxy (y, x, channel) or (unit,), and the names of its
inputs. It gives the nodes and constants that make the layer's activation.
"""

from collections.abc import Callable

import numpy as np

from shared.network.network import Layer, Network, nested, shapes, source
from shared.network.operations import Shape, function
from shared.network.pixels import places, taps

Part = tuple[list, dict[str, np.ndarray]]  # nodes of a graph, and its constants by name


def graph(network: Network, weights: dict[str, np.ndarray], start: Shape, image: str) -> Part:
    """A whole network, whose input of the shape `start` for one galaxy is the activation called `image`."""
    own, found, parts = nested(weights), shapes(network, start), []
    for layer in network:
        inputs = [image if each == source(network) else each for each in layer.inputs]
        build: Callable[..., Part] = globals()[function(layer.operation)]
        parts.append(build(layer, own.get(layer.name, {}), found[layer.inputs[0]], *inputs))
    return joined(*parts)


def node(operation: str, inputs: str, output: str, **settings):
    """A node that makes `output`, whose name it takes, of `inputs`, names with spaces between them."""
    from onnx import helper

    return helper.make_node(operation, inputs.split(), [output], output, **settings)


def joined(*parts: Part) -> Part:
    """Parts of a graph as one."""
    nodes = [one for part, _ in parts for one in part]
    return nodes, {name: array for _, part in parts for name, array in part.items()}


def constants(layer: Layer, **arrays) -> dict[str, np.ndarray]:
    """Constants under the names of a layer's parts."""
    return {f"{layer.name}/{part}": np.asarray(array) for part, array in arrays.items()}


def affine(
    layer: Layer, shape: Shape, x: str, factor: np.ndarray, shift: np.ndarray | None
) -> Part:
    """Each channel times its factor, plus its shift unless that is None."""
    name, each = layer.name, (-1, 1, 1) if len(shape) == 3 else (-1,)
    if shift is None:
        nodes = [node("Mul", f"{x} {name}/factor", name)]
        return nodes, constants(layer, factor=factor.reshape(each))
    nodes = [
        node("Mul", f"{x} {name}/factor", f"{name}/scaled"),
        node("Add", f"{name}/scaled {name}/shift", name),
    ]
    return nodes, constants(layer, factor=factor.reshape(each), shift=shift.reshape(each))


def conv(layer: Layer, own, shape, x: str) -> Part:
    """A convolution."""
    operation, parts = layer.operation, {"kernel": own["kernel"].transpose(3, 2, 0, 1)}
    if operation.bias:
        parts["bias"] = own["bias"]
    settings = {
        "kernel_shape": [operation.kernel] * 2,
        "strides": [operation.stride] * 2,
        "pads": [operation.padding] * 4,
        "group": operation.groups,
    }
    inputs = " ".join([x, *(f"{layer.name}/{part}" for part in parts)])
    return [node("Conv", inputs, layer.name, **settings)], constants(layer, **parts)


def dense(layer: Layer, own, shape, x: str) -> Part:
    """The last axis times a matrix, plus a bias."""
    name = layer.name
    nodes = [
        node("MatMul", f"{x} {name}/kernel", f"{name}/sums"),
        node("Add", f"{name}/sums {name}/bias", name),
    ]
    return nodes, constants(layer, kernel=own["kernel"], bias=own["bias"])


def batch_norm(layer: Layer, own, shape, x: str) -> Part:
    """Each channel normalised by its running moments: one product and one sum."""
    exact = {part: array.astype(np.float64) for part, array in own.items()}
    factor = exact["scale"] / np.sqrt(exact["variance"] + layer.operation.epsilon)
    return affine(layer, shape, x, factor, exact["bias"] - exact["mean"] * factor)


def standardise(layer: Layer, own, shape, x: str) -> Part:
    """Each channel less its mean, over its standard deviation."""
    factor = 1 / np.sqrt(own["variance"].astype(np.float64))
    return affine(layer, shape, x, factor, -own["mean"] * factor)


def layer_norm(layer: Layer, own, shape, x: str) -> Part:
    """Each pixel's channels, or a galaxy's units, normalised by their own moments."""
    name = layer.name
    nodes = [
        node("ReduceMean", x, f"{name}/mean", axes=[1]),
        node("Sub", f"{x} {name}/mean", f"{name}/centred"),
        node("Mul", f"{name}/centred {name}/centred", f"{name}/squares"),
        node("ReduceMean", f"{name}/squares", f"{name}/variance", axes=[1]),
        node("Add", f"{name}/variance {name}/epsilon", f"{name}/raised"),
        node("Sqrt", f"{name}/raised", f"{name}/deviation"),
        node("Div", f"{name}/centred {name}/deviation", f"{name}/normal"),
    ]
    part = nodes, constants(layer, epsilon=np.float32(layer.operation.epsilon))
    return joined(part, affine(layer, shape, f"{name}/normal", own["scale"], own["bias"]))


def scale(layer: Layer, own, shape, x: str) -> Part:
    """Each channel times its factor."""
    return affine(layer, shape, x, own["scale"], None)


def relu(layer: Layer, own, shape, x: str) -> Part:
    """max(x, 0)."""
    return [node("Relu", x, layer.name)], {}


def gelu(layer: Layer, own, shape, x: str) -> Part:
    """x times the normal distribution function of x."""
    name = layer.name
    nodes = [
        node("Mul", f"{x} {name}/root", f"{name}/raised"),
        node("Erf", f"{name}/raised", f"{name}/erf"),
        node("Add", f"{name}/erf {name}/one", f"{name}/twice"),
        node("Mul", f"{x} {name}/half", f"{name}/halved"),
        node("Mul", f"{name}/halved {name}/twice", name),
    ]
    values = {"root": np.sqrt(0.5), "one": 1.0, "half": 0.5}
    return nodes, constants(layer, **{part: np.float32(value) for part, value in values.items()})


def silu(layer: Layer, own, shape, x: str) -> Part:
    """x times the logistic function of x."""
    name = layer.name
    return [node("Sigmoid", x, f"{name}/gate"), node("Mul", f"{x} {name}/gate", name)], {}


def sigmoid(layer: Layer, own, shape, x: str) -> Part:
    """The logistic function."""
    return [node("Sigmoid", x, layer.name)], {}


def max_pool(layer: Layer, own, shape, x: str) -> Part:
    """The largest of each square."""
    operation = layer.operation
    settings = {
        "kernel_shape": [operation.kernel] * 2,
        "strides": [operation.stride] * 2,
        "pads": [operation.padding] * 4,
    }
    return [node("MaxPool", x, layer.name, **settings)], {}


def mean(layer: Layer, own, shape, x: str) -> Part:
    """The mean over pixels."""
    return [node("ReduceMean", x, layer.name, axes=[2, 3], keepdims=0)], {}


def add(layer: Layer, own, shape, x: str, other: str) -> Part:
    """The sum of two layers."""
    return [node("Add", f"{x} {other}", layer.name)], {}


def multiply(layer: Layer, own, shape, x: str, factor: str) -> Part:
    """Each channel of an image times its factor."""
    name = layer.name
    nodes = [
        node("Unsqueeze", f"{factor} {name}/axes", f"{name}/factor"),
        node("Mul", f"{x} {name}/factor", name),
    ]
    return nodes, constants(layer, axes=np.array([2, 3]))


def flatten(layer: Layer, own, shape, x: str) -> Part:
    """Pixels and channels as units."""
    name = layer.name
    nodes = [
        node("Transpose", x, f"{name}/rows_first", perm=[0, 2, 3, 1]),
        node("Flatten", f"{name}/rows_first", name, axis=1),
    ]
    return nodes, {}


def maxout(layer: Layer, own, shape, x: str) -> Part:
    """The largest of neighbouring units, of (galaxy, sample, unit)."""
    name, pieces = layer.name, layer.operation.pieces
    nodes = [
        node("Reshape", f"{x} {name}/shape", f"{name}/groups"),
        node("ReduceMax", f"{name}/groups", name, axes=[3], keepdims=0),
    ]
    return nodes, constants(layer, shape=np.array([0, 0, shape[0] // pieces, pieces]))


def dropout(layer: Layer, own, shape, x: str) -> Part:
    """What is kept, scaled up so that its mean stays; the others 0. The mask is an input called kept/NAME."""
    name = layer.name
    nodes = [
        node("Cast", f"kept/{name}", f"{name}/kept", to=9),
        node("Div", f"{x} {name}/share", f"{name}/raised"),
        node("Where", f"{name}/kept {name}/raised {name}/zero", name),
    ]
    share = np.float32(1 - layer.operation.rate)
    return nodes, constants(layer, share=share, zero=np.float32(0))


def stochastic_depth(layer: Layer, own, shape, x: str) -> Part:
    """All is kept at prediction."""
    return [node("Identity", x, layer.name)], {}


def turned(layer: Layer, own, shape, x: str) -> Part:
    """The image, and beside it the image turned."""
    name, (side, _, channels) = layer.name, shape
    index, share = taps(side, layer.operation.degrees)
    nodes = [
        node("Reshape", f"{x} {name}/flat", f"{name}/pixels"),
        node("Gather", f"{name}/pixels {name}/index", f"{name}/taps", axis=2),
        node("Mul", f"{name}/taps {name}/share", f"{name}/shares"),
        node("ReduceSum", f"{name}/shares {name}/axis", f"{name}/sum", keepdims=0),
        node("Reshape", f"{name}/sum {name}/image", f"{name}/other"),
        node("Concat", f"{x} {name}/other", name, axis=1),
    ]
    flat, image = np.array([0, channels, side * side]), np.array([0, channels, side, side])
    values = {"flat": flat, "image": image, "index": index, "share": share, "axis": np.array([2])}
    return nodes, constants(layer, **values)


def views(layer: Layer, own, shape, x: str) -> Part:
    """The 16 views, each of them a galaxy."""
    name, (side, _, channels), size = layer.name, shape, layer.operation.size
    nodes = [
        node("Reshape", f"{x} {name}/two", f"{name}/ways"),
        node("Transpose", f"{name}/ways", f"{name}/pairs", perm=[0, 2, 1, 3]),
        node("Reshape", f"{name}/pairs {name}/flat", f"{name}/pixels"),
        node("Gather", f"{name}/pixels {name}/index", f"{name}/squares", axis=2),
        node("Transpose", f"{name}/squares", f"{name}/each", perm=[0, 2, 1, 3, 4]),
        node("Reshape", f"{name}/each {name}/image", name),
    ]
    half = channels // 2
    values = {
        "two": [0, 2, half, side * side],
        "flat": [0, half, 2 * side * side],
        "index": places(side, size),
        "image": [-1, half, size, size],
    }
    return nodes, constants(layer, **values)


def gather(layer: Layer, own, shape, x: str) -> Part:
    """The units of a galaxy's views, one after the other."""
    name = layer.name
    nodes = [node("Reshape", f"{x} {name}/shape", name)]
    return nodes, constants(layer, shape=np.array([-1, layer.operation.views * shape[0]]))
