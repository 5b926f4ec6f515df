"""The likelihood of the volunteers' votes."""

from jax.nn import log_sigmoid


def votes_nll(logits, yes, total):
    """-ln of rho^k (1 - rho)^(N - k), per galaxy (W+20, equation 2, without the binomial coefficient)."""
    return -yes * log_sigmoid(logits) - (total - yes) * log_sigmoid(-logits)
