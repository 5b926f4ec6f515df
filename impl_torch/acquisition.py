"""Acquisition functions: scores of galaxies, the larger the sooner labelled; and distances."""

from functools import partial

import numpy as np
import torch

from shared.method.scoring import States, over_counts, over_pieces, to_centres

from . import device

MIN_LOG_SHARE = -46.0  # ln of a share that tells nothing: smaller ones are denormal, which is slow
LOG2_E = 1.4426950408889634


def acquire(name: str, samples, expected_votes, states: States | None = None) -> np.ndarray:
    """Scores (galaxy,) in nats of `samples` (galaxy, sample) of rho; `expected_votes` is a number, or one per galaxy.

    `name` is mutual_information or entropy, or batch_mutual_information or epig, which take the `states` that the votes
    of others can leave the posterior in. Raises ValueError for samples, votes or states that are not such.
    """
    return over_pieces(device, partial(score, name), samples, expected_votes, states)


def dirichlet_information(concentrations, expected_votes: int) -> np.ndarray:
    """What `expected_votes` on one question would tell about the network (galaxy,), in nats.

    `concentrations` (galaxy, sample, answer) are those of a Dirichlet-multinomial (Walmsley et al. 2022, equation 3);
    all ways in which the votes may fall are summed over. Raises ValueError if these are too many, or for
    concentrations that are not finite and above 0.
    """
    return over_counts(device, dirichlet_score, concentrations, expected_votes)


def nearest(units, centres) -> np.ndarray:
    """The Euclidean distance (galaxy,) of `units` (galaxy, unit) to the nearest of `centres` (centre, unit).

    Which is the nearest is found by a product of matrices, to within its rounding; the distance to it is exact.
    Raises ValueError for arrays of other shapes, or no centres.
    """
    return to_centres(device, distance, units, centres)


def score(name: str, samples, yes, no, ways, *states):
    """Scores (galaxy,) of one piece, whose arrays are those of `shared.method.scoring.Piece`.

    `states` are their probabilities (state,), their posterior (state, sample) and its mean over them (sample,).
    """
    each = log_votes(samples, yes, no)
    return {
        "mutual_information": mutual_information,
        "entropy": entropy,
        "batch_mutual_information": batch_mutual_information,
        "epig": epig,
    }[name](each, ways.T, *states)


def log_votes(samples, yes, no):
    """ln of rho^k (1 - rho)^(N - k): of k yes votes in a given order.

    Its axes are (sample, k, galaxy), unlike elsewhere: PyTorch is quickest with long rows, and sums over the
    first axis.
    """
    # -1e4 stands for ln 0: times 0 it is 0, and times 1 its exponential is 0 in every precision
    samples = samples.T.contiguous()
    log_yes = torch.clip(torch.log(samples), min=-1e4)[:, None]
    log_no = torch.clip(torch.log1p(-samples), min=-1e4)[:, None]
    return (no.T * log_no).addcmul_(yes.T, log_yes)


def mutual_information(each, ways):
    """What the votes would tell about the network (galaxy,), in nats.

    `each` (sample, k, galaxy) is ln of a probability in one order, `ways` (k, galaxy) that of how many orders.
    The mean divergence of each sample from the mixture: it is H[p(k)] - mean H[p(k | rho)] (W+20, equation 9), without
    its cancellation.
    """
    largest, logs, shares = shifted_exp(each)
    mixed = torch.mean(shares, 0)
    apiece = torch.mean(logs.mul_(shares), 0) - mixed * torch.log(mixed)
    return torch.sum(torch.exp(largest + ways) * apiece, 0)


def entropy(each, ways):
    """The entropy (galaxy,) of the predicted number of yes votes, in nats."""
    largest, _, shares = shifted_exp(each)
    mixed = largest + ways + torch.log(torch.mean(shares, 0))
    return -torch.sum(torch.exp(mixed) * mixed, 0)


def batch_mutual_information(each, ways, probabilities, posterior, mean):
    """What the votes would yet tell about the network (galaxy,), in nats, once those of others have come in.

    The mean over states of I(k; network | state), of which a batch's joint mutual information is the sum (BatchBALD,
    Kirsch et al. 2019, equation 8): I(k; network) less the I(k; state) that is known by then.
    """
    mixed, ratios = over_mixture(each, ways, mean)
    return mean_divergence(mixed, mean, ratios) - mean_divergence(
        mixed, probabilities, torch.tensordot(posterior, ratios, 1)
    )


def epig(each, ways, probabilities, posterior, mean):
    """What the votes would tell about the votes of others (galaxy,), in nats: I(k; state).

    Where the states are all counts of targets, it is the mean over these of I(k; k*) (Bickford Smith et al. 2023,
    equation 6).
    """
    mixed, ratios = over_mixture(each, ways, mean)
    return mean_divergence(mixed, probabilities, torch.tensordot(posterior, ratios, 1))


def shifted_exp(each):
    """The largest over samples of logs, the logs less it, and what these are logs of."""
    largest = torch.amax(each, 0)
    # in place: it is memory that is waited for; powers of 2: on a CPU those of e take twice as long
    logs = each.sub_(largest).clip_(min=MIN_LOG_SHARE)
    return largest, logs, torch.exp2(logs * LOG2_E)


def over_mixture(each, ways, weights):
    """Probabilities of the mixture of samples with `weights` (sample,), and each sample's over them."""
    largest, _, shares = shifted_exp(each)
    mixed = torch.tensordot(weights, shares, 1)
    return torch.exp(largest + ways) * mixed, shares / mixed


def mean_divergence(mixed, weights, ratios):
    """The mean divergence (galaxy,) of parts from their mixture, in nats.

    `mixed` (k, galaxy) are the probabilities of the mixture, `ratios` (part, k, galaxy) a part's over them, `weights`
    (part,) the probabilities of the parts. No summand r ln r - r + 1 is below 0, so that rounding cannot take away the
    whole.
    """
    each = torch.log(ratios).sub_(1).mul_(ratios).add_(1)  # in place, as above
    return torch.sum(mixed * torch.tensordot(weights, each, 1), 0)


def dirichlet_score(concentrations, steps, found, ways):
    """The information (galaxy,) of `found` counts (answer, k), of which there are `ways` (k,), for
    `steps` 0 ... N - 1.
    """
    whole = torch.sum(concentrations, 2)[..., None]
    # ln of rising factorials, each factor over the sum of concentrations: as good for huge ones as for small ones
    factors = torch.log((concentrations[..., None] + steps) / whole[..., None])
    rising = torch.nn.functional.pad(torch.cumsum(factors, 3), (1, 0))
    each = -torch.sum(torch.log1p(steps / whole), 2)[..., None]
    for answer in range(len(found)):
        each = each + rising[:, :, answer][..., found[answer]]
    return mutual_information(each.permute(1, 2, 0), ways[:, None])


def distance(units, centres):
    """The distance (galaxy,) to the nearest centre; of two as near, to the first."""
    squares = torch.sum(centres**2, 1) - 2 * units @ centres.T
    return torch.sqrt(torch.sum((units - centres[torch.argmin(squares, 1)]) ** 2, 1))
