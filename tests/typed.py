"""The packages, and an ensemble, satisfy the Protocol as they are: for pyright, which sees names and types."""

import impl_jax
import impl_tf
import impl_torch
from shared.method.backend import Backend
from shared.method.ensemble import Ensemble

BACKENDS: list[Backend] = [impl_tf, impl_torch, impl_jax]
ENSEMBLE: Backend = Ensemble(BACKENDS[0], 2)
