"""The likelihood of the volunteers' votes."""

from torch.nn.functional import logsigmoid


def votes_nll(logits, yes, total):
    """-ln of rho^k (1 - rho)^(N - k), per galaxy (W+20, equation 2, without the binomial coefficient)."""
    return -yes * logsigmoid(logits) - (total - yes) * logsigmoid(-logits)
