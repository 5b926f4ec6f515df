"""How far native modules are from the specification; a process of its own for each framework.

`python -m tests.module_checks BACKEND` prints the errors, and what else is asked of a module, as JSON.
"""

import json
import sys
from importlib import import_module
from math import prod

import numpy as np

from shared.network.architectures.heads import dropout_head, maxout_head
from shared.network.network import Model, moment_shapes, momenta, shapes, weight_shapes
from shared.proof import network as proof
from shared.proof.case import by_layer, doubled, relative_error
from tests.network_checks import networks, random_moments, random_weights

GALAXIES = 4
USED = ("resnet18", "convnext")  # with batch norms, with stochastic depth


def without_dropout(title: str) -> Model:
    """A narrow network that drops nothing."""
    head = maxout_head(0.0, 4, units=5) if title == "dieleman" else dropout_head(0.0)
    return networks(0.0)[title]._replace(head=head)


class Torch:
    """What PyTorch's users do with a module."""

    def images(self, module, x):
        """Images as the module takes them."""
        import torch

        return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())

    def output(self, module, x, training: bool):
        """The module's output."""
        return module.train(training)(self.images(module, x)).detach().numpy()

    def gradients(self, module, x, d, training: bool):
        """The output, and the gradients of (output x d) in place of the weights."""
        import torch

        y = module.train(training)(self.images(module, x))
        (y * torch.from_numpy(d)).sum().backward()
        for parameter in module.parameters():
            parameter.data = parameter.grad
        return y.detach().numpy()

    def train(self, module, x, yes) -> list[float]:
        """A plain loop; its losses."""
        import torch

        optimiser, losses = torch.optim.Adam(module.parameters(), 1e-3), []
        for _ in range(20):
            logits = module.train()(self.images(module, x))
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(yes))
            optimiser.zero_grad(), loss.backward(), optimiser.step()
            losses.append(loss.item())
        return losses


class Tf:
    """What Keras' users do with a module."""

    def output(self, module, x, training: bool):
        """The module's output."""
        return module(x, training=training).numpy()

    def gradients(self, module, x, d, training: bool):
        """The output, and the gradients of (output x d) in place of the weights."""
        import tensorflow as tf

        @tf.function
        def pulled(x):
            with tf.GradientTape() as tape:
                y = module(x, training=training)
                scalar = tf.reduce_sum(y * d)
            return y, tape.gradient(scalar, [v.value for v in module.trainable_variables])

        y, gradients = pulled(x)
        for variable, gradient in zip(module.trainable_variables, gradients, strict=True):
            variable.assign(gradient)
        return y.numpy()

    def train(self, module, x, yes) -> list[float]:
        """Keras' own loop; its losses."""
        import keras

        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        module.compile(keras.optimizers.Adam(1e-3), loss)
        return module.fit(x, yes, batch_size=len(x), epochs=20, verbose=0).history["loss"]


class Jax:
    """What Flax' users do with a module."""

    def output(self, module, x, training: bool):
        """The module's output."""
        from flax import nnx

        (module.train if training else module.eval)()
        return np.array(nnx.jit(lambda module, x: module(x))(module, x))

    def gradients(self, module, x, d, training: bool):
        """The output, and the gradients of (output x d) in place of the weights."""
        from flax import nnx

        (module.train if training else module.eval)()

        def scalar(module, x):
            y = module(x)
            return (y * d).sum(), y

        pulled = nnx.jit(nnx.value_and_grad(scalar, has_aux=True))
        (_, y), gradients = pulled(module, x)
        nnx.update(module, gradients)
        return np.array(y)

    def train(self, module, x, yes) -> list[float]:
        """An optimiser of optax; its losses."""
        import optax
        from flax import nnx

        def loss(module):
            return optax.softmax_cross_entropy_with_integer_labels(module(x), yes).mean()

        @nnx.jit
        def step(module, optimiser):
            value, gradients = nnx.value_and_grad(loss)(module)
            optimiser.update(module, gradients)
            return value

        module.train()
        optimiser = nnx.Optimizer(module, optax.adam(1e-3), wrt=nnx.Param)
        return [float(step(module, optimiser)) for _ in range(20)]


def errors(backend: str, title: str, precision: str, training: bool) -> dict[str, float]:
    """How far output, gradients and running moments of a network's module are from the specification's."""
    native, user = import_module(f"impl_{backend}.module"), USERS[backend]()
    model, random = without_dropout(title), np.random.default_rng(4)
    weights = {name: w.astype(precision) for name, w in random_weights(model).items()}
    moments = random_moments(moment_shapes(model.whole, model.image))
    moments = {name: m.astype(precision) for name, m in moments.items()}
    x = random.random((GALAXIES, *model.image)).astype(precision)
    done = proof.forward(
        model.whole, doubled(weights), x.astype(float), None if training else doubled(moments)
    )
    d = random.normal(size=done.output.shape).astype(precision)
    oracle, _ = proof.gradients(model.whole, done, d.astype(float))
    module = native.as_module(model, weights, moments)
    back = native.weights_of(module)
    assert all((back[0][name] == weights[name]).all() for name in weights.keys() | back[0].keys())
    assert all((back[1][name] == moments[name]).all() for name in moments.keys() | back[1].keys())
    y = user.gradients(module, x, d, training)
    gradients, after = native.weights_of(module)
    found = {"output": relative_error(y, done.output), "gradients": by_layer(gradients, oracle)}
    if moments and training:
        wanted = moved(backend, model, moments, done.moments)
        found["moments"] = max(relative_error(after[name], wanted[name]) for name in wanted)
    return found


def moved(backend: str, model: Model, running: dict, batch: dict) -> dict:
    """Running moments after a step; Keras and Flax move variances towards that of the batch as a population's."""
    found = dict(batch)
    for name in batch:
        if backend != "torch" and name.endswith("variance"):
            count = GALAXIES * prod(shapes(model.whole, model.image)[name.rpartition("/")[0]][:2])
            found[name] = batch[name] * (count - 1) / count
    shares = momenta(model.whole, found)
    return {
        name: (1 - share) * running[name] + share * found[name] for name, share in shares.items()
    }


def use(backend: str, title: str) -> dict:
    """What becomes of a module, with dropout, in its framework's own hands."""
    native, user = import_module(f"impl_{backend}.module"), USERS[backend]()
    model, random = networks()[title], np.random.default_rng(5)
    moments = {
        name: np.full(shape, name.endswith("variance"), np.float32)
        for name, shape in moment_shapes(model.whole, model.image).items()
    }
    module = native.as_module(model, random_weights(model), moments)
    x = random.random((16, *model.image)).astype(np.float32)
    yes = (np.arange(16) % 2).astype(np.int64)
    x[yes == 1] *= 0.3
    twice = [user.output(module, x, training) for training in (True, True, False, False)]
    losses = user.train(module, x, yes)
    weights, moments = native.weights_of(module)
    again = native.as_module(model, weights, moments)
    exact = proof.forward(model.whole, doubled(weights), x.astype(float), doubled(moments)).output
    return {
        "shapes": {name: list(array.shape) for name, array in (weights | moments).items()}
        == {
            name: list(shape)
            for shapes_of in (weight_shapes, moment_shapes)
            for name, shape in shapes_of(model.whole, model.image).items()
        },
        "drops": bool((twice[0] != twice[1]).any() and (twice[2] == twice[3]).all()),
        "learns": float(np.mean(losses[-3:]) / np.mean(losses[:3])),
        "back": relative_error(user.output(again, x, False), exact),
        "still": relative_error(user.output(module, x, False), exact),
    }


USERS = {"torch": Torch, "tf": Tf, "jax": Jax}


def main() -> None:
    """Print what is found in one framework."""
    (backend,) = sys.argv[1:]
    if backend == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    found = {}
    for title in networks():
        model = without_dropout(title)
        modes = [("float64", bool(moment_shapes(model.whole, model.image)))]
        if title in ("w20", "efficientnet_b0"):
            modes += [("float32", False)]
        for precision, training in modes:
            case = f"{title}, {precision}, {'batch' if training else 'running'}"
            found[case] = errors(backend, title, precision, training)
    print(json.dumps({"errors": found, "use": {title: use(backend, title) for title in USED}}))


if __name__ == "__main__":
    main()
