"""A network's layers, one after the other; weights and moments have shared names, and this framework's layout."""

from functools import partial

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from shared.network import interpreter
from shared.network.network import Model, Network
from shared.network.operations import BatchNorm, Conv, function

from . import layers
from .device import compute_type, number_type, on_gpu
from .keys import keep
from .layers import Given


def encode(model: Model, parts: tuple, weights: dict, x, moments: dict | None, kept: dict):
    """The units (galaxy, unit) of what the network is shown, and the moments that batch norms found, by name.

    Units that it is given in place of that are what they are. With `parts` of the encoder, the backward pass computes
    each one's activations anew, instead of keeping them.
    """
    if len(x.shape) == 2:
        return x, {}
    call, parts = (again, parts) if parts else (forward, (model.encoder,))
    x = x.astype(compute_type())
    units, found = interpreter.in_parts(call, parts, weights, x, moments, kept)
    return units.astype(number_type()), found


def answer_logits(model: Model, weights: dict, units, kept: dict):
    """The network's outputs (..., answer) of units (..., unit)."""
    return forward(model.head, weights, units, None, kept)[0]


def masks(model: Model, network: Network, keys, index) -> dict:
    """What each layer of the model, or of a part of it, keeps, by name, for keys (..., 2) at each index (...)."""
    return interpreter.masks(keep, model, network, keys, index)


def forward(network: Network, weights: dict, x, moments: dict | None, kept: dict):
    """The last layer's activation, and the moments that batch norms found in this batch, by name."""
    return interpreter.forward(compute, network, weights, x, moments, kept)


def again(part: Network, weights: dict, x, moments: dict | None, kept: dict):
    """`forward` of a part of a network, whose activations the backward pass computes anew instead of keeping them."""
    return _once(part, weights, x, moments, kept)


def activations(network: Network, weights: dict, x, moments: dict | None, kept: dict) -> dict:
    """Every layer's activation, by name, of what `forward` is given."""
    return interpreter.activations(compute, network, weights, x, moments, kept)


def encoder_activations(model: Model, weights: dict, x, moments: dict | None, kept: dict) -> dict:
    """Every activation of the encoder, by name, of what `encode` is given."""
    return activations(model.encoder, weights, x.astype(compute_type()), moments, kept)


def compute(step: Network, weights: dict, moments: dict | None, kept, *arrays):
    """The output of a layer, or of several in one, for its inputs `arrays`, and the moments it found."""
    operation, given = step[0].operation, Given(moments, kept)
    if len(step) > 1:
        pool = step[2].operation if len(step) > 2 else None
        return layers.conv_relu_pool(operation, pool, weights, *arrays), {}
    return _layer(operation, weights, given, arrays)


def _layer(operation, weights, given, arrays):
    # Left to itself on a CPU, XLA makes one program of all layers, and in it every activation anew for each of its
    # uses; so a layer is a call of its own, forwards and backwards, compiled once for all layers that are alike.
    # Convolutions are no part of anything anyway, and the gradients of those in calls are computed number by number.
    whole = isinstance(operation, Conv) and operation.groups == 1 and operation.kernel > 1
    compute = _directly if whole or on_gpu() else _apart
    return compute(operation, weights, given, arrays)


def _directly(operation, weights, given, arrays):
    result = getattr(layers, function(operation))(operation, weights, given, *arrays)
    return result if isinstance(operation, BatchNorm) else (result, {})


def _backwards(operation, saved, d):
    weights, given, arrays = saved
    _, pullback, _ = jax.vjp(
        lambda weights, arrays: _directly(operation, weights, given, arrays),
        weights,
        arrays,
        has_aux=True,
    )
    return pullback(d)


def _called(call):
    """`call` as a function that XLA compiles by itself."""

    def inside(*arguments):
        with set_xla_metadata(inlineable=None):  # what is called in there may well be part of it
            return call(*arguments)

    compiled = jax.jit(inside, static_argnums=0)

    def outside(operation, *arguments):
        with set_xla_metadata(inlineable="false"):
            return compiled(operation, *arguments)

    return outside


_layer_called, _backwards_called = _called(_directly), _called(_backwards)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _apart(operation, weights, given, arrays):
    return _layer_called(operation, weights, given, arrays)


def _apart_forward(operation, *saved):
    return _layer_called(operation, *saved), saved


def _apart_backward(operation, saved, gradients):
    for_weights, for_arrays = _backwards_called(operation, saved, gradients[0])
    return for_weights, None, for_arrays


_apart.defvjp(_apart_forward, _apart_backward)


_once = jax.custom_vjp(forward, nondiff_argnums=(0,))


def _once_forward(part, *saved):
    return forward(part, *saved), saved


def _once_backward(part, saved, gradients):
    # not by jax.checkpoint, in which layers are no calls of their own; barred, or it would be computed early and kept
    (weights, x, moments, kept), d = jax.lax.optimization_barrier((saved, gradients[0]))
    _, pullback = jax.vjp(
        lambda weights, x: forward(part, weights, x, moments, kept)[0], weights, x
    )
    return *pullback(d), None, None


_once.defvjp(_once_forward, _once_backward)
