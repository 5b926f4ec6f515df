"""The three packages satisfy the Protocol as they are: for pyright, which sees names, parameters and types."""

import impl_jax
import impl_tf
import impl_torch
from shared.backend import Backend

BACKENDS: list[Backend] = [impl_tf, impl_torch, impl_jax]
