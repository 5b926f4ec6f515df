"""All checks of the kit. There is no 7: it would compare training in single precision, which cannot be equal."""

from collections.abc import Callable

from shared.proof.kit.acquisition import acquisition
from shared.proof.kit.adam import adam
from shared.proof.kit.arrays import Arrays
from shared.proof.kit.fixtures import Fixtures
from shared.proof.kit.gradients import gradients
from shared.proof.kit.images import viewed_images
from shared.proof.kit.layers import layers
from shared.proof.kit.likelihood import likelihood
from shared.proof.kit.posterior import posterior
from shared.proof.kit.random_numbers import random_numbers

# by the name of their file: the section of the README, and what computes their arrays
CHECKS: dict[str, tuple[str, Callable[[Fixtures], Arrays]]] = {
    "1_keys": ("1. Keys, masks, batches, views", random_numbers),
    "2_warp": ("2. What the network is shown", viewed_images),
    "3_layers": ("3. The network", layers),
    "4_likelihood": ("4. The likelihood", likelihood),
    "5_gradient": ("5. Gradients", gradients),
    "6_adam": ("6. Adam", adam),
    "8_posterior": ("8. Posterior samples", posterior),
    "9_acquisition": ("9. Acquisition", acquisition),
}
