"""Mistakes that a port could make, planted in the specification (two in a port itself): each check must see its own.

`python tests/mutants.py FOLDER`, where FOLDER/run.json is of PyTorch, prints each one's check and error as JSON.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from scipy.special import gammaln, psi

import impl_torch
import impl_torch.predict
import impl_torch.train
from shared.method.walks import information_bound
from shared.proof import conformance, operations, reference
from shared.proof import likelihood as formulas
from shared.run import keys
from shared.run.spec import RunSpec, from_config


def transposed_kernel(operation, weights, given, x, real=operations.conv):
    kernel = weights["kernel"].transpose(1, 0, 2, 3)
    return real(operation, {**weights, "kernel": kernel}, given, x)


def shifted_padding(operation, weights, given, x, real=operations.conv):
    return real(operation, weights, given, np.roll(x, 1, axis=1))


def pool_of_means(operation, weights, given, x, real=operations.max_pool):
    n, y, x_, c = x.shape
    means = x.reshape(n, y // 2, 2, x_ // 2, 2, c).mean((2, 4))
    return means, real(operation, weights, given, x)[1]


def ties_to_the_last(operation, weights, given, x, real=operations.max_pool):
    """The image turned by half a circle has its last pixels first."""
    affine = lambda array: array[:, ::-1, ::-1]  # noqa: E731
    kinks = None if given.kinks is None else affine(given.kinks)
    y, pullback = real(operation, weights, given._replace(kinks=kinks), affine(x))
    return affine(y), lambda d: ((affine(pullback(affine(d))[0][0]),), {})


def half_a_pixel(images, views, size, border, real=reference.warp):
    affine = views.affine + np.float32([[0, 0, 0.5], [0, 0, 0.5]])
    return real(images, views._replace(affine=affine), size, border)


def rows_for_columns(images, views, size, border, real=reference.warp):
    return real(images.transpose(0, 2, 1), views, size, border)


def other_border(images, views, size, border, real=reference.warp):
    return real(images, views, size, "edge" if border == "zero" else "zero")


def no_relight(x, contrast):
    return x


def channels_first_flatten(operation, weights, given, x):
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1), None


def no_scaling(operation, weights, given, x, real=operations.dropout):
    return x if given.kept is None else np.where(given.kept, x, 0), None


def dropped_for_kept(operation, weights, given, x, real=operations.dropout):
    return real(operation, weights, given._replace(kept=~given.kept), x)


def yes_for_no(spec, weights, units, kept, real=reference.logits):
    return -real(spec, weights, units, kept)


def no_for_yes_votes(likelihood, logits, votes, real=formulas.binomial):
    return real(likelihood, logits, votes[:, ::-1])


def fractions_for_votes(likelihood, logits, votes, real=formulas.binomial):
    return real(likelihood, logits, votes / np.maximum(votes.sum(-1, keepdims=True), 1))


def first_question_alone(likelihood, logits, votes, real=formulas.votes_nll):
    return real(likelihood._replace(questions=likelihood.questions[:1]), logits, votes)


def one_question_of_all(likelihood, logits, votes, real=formulas.votes_nll):
    whole = (("all", sum((answers for _, answers in likelihood.questions), ())),)
    return real(likelihood._replace(questions=whole), logits, votes)


def independent_votes(likelihood, logits, votes):
    return formulas.multinomial(likelihood, formulas.log_concentrations(likelihood, logits), votes)


def with_coefficient(likelihood, logits, votes, real=formulas.dirichlet_multinomial):
    ways = gammaln(votes.sum(-1) + 1) - gammaln(votes + 1).sum(-1)
    return real(likelihood, logits, votes) - ways


def exp_for_sigmoid(likelihood, logits):
    return logits


def hundred_in_all(likelihood, logits):
    return np.log(1 + 99 / (1 + np.exp(-logits)))


def digamma_of_the_sum_left_out(likelihood, logits, votes):
    alpha = np.exp(formulas.log_concentrations(likelihood, logits))
    return alpha * (psi(alpha) - psi(alpha + votes))


def votes_for_all_answers_alike(likelihood, logits, votes, real=formulas.multinomial_gradient):
    return real(likelihood, logits, np.broadcast_to(votes.mean(-1, keepdims=True), votes.shape))


def sum_for_mean(*arguments, real=reference.gradients):
    found = real(*arguments)
    count = len(arguments[2])
    return found._replace(
        gradients={name: gradient * count for name, gradient in found.gradients.items()}
    )


def epsilon_inside(spec, step, weight, first, second, gradient, *_):
    first = spec.beta1 * first + (1 - spec.beta1) * gradient
    second = spec.beta2 * second + (1 - spec.beta2) * gradient**2
    bias1, bias2 = 1 - spec.beta1 ** (step + 1), 1 - spec.beta2 ** (step + 1)
    root = np.sqrt(second / bias2 + spec.epsilon**2)
    return weight - spec.learning_rate * first / bias1 / root, first, second


def no_bias_correction(spec, step, *rest, real=reference.adam):
    return real(spec, step + 10**6, *rest)


def decay_in_the_gradient(
    spec, step, weight, first, second, gradient, share, decay, real=reference.adam
):
    return real(spec, step, weight, first, second, gradient + decay * weight, share)


def one_rate_for_all(
    spec, step, weight, first, second, gradient, share, decay, real=reference.adam
):
    return real(spec, step, weight, first, second, gradient, 1.0, decay)


def no_warm_up(spec, *rest, real=reference.adam):
    return real(replace(spec, warmup=0), *rest)


def clipped_one_by_one(spec, gradients, real=reference.clipped):
    each = [real(spec, {name: gradient}) for name, gradient in gradients.items()]
    return {name: gradient for one in each for name, gradient in one.items()}


def biases_shrink(model, spec, real=reference.tuning_of):
    tuning = real(model, spec)
    return tuning._replace(decays=dict.fromkeys(tuning.rates, spec.weight_decay))


def first_layers_for_last(model, spec, real=reference.tuning_of):
    tuning, whole = real(model, spec), real(model, replace(spec, trainable="all"))
    first = [*whole.rates][: len(tuning.rates)]
    return tuning._replace(rates=dict(zip(first, tuning.rates.values(), strict=True)))


def last_shard_alone(*arguments, real=reference.step_gradients):
    run, weights, x, kept, votes = arguments[:5]
    half = len(votes) // reference.shard_count(run.training, len(votes)) - len(votes)
    kept = {name: mask[half:] for name, mask in kept.items()}
    return real(run, weights, x[half:], kept, votes[half:], *arguments[5:])


def ignored_sample(galaxy_keys, index, units, rate, layer=0, real=keys.keep):
    return real(galaxy_keys, np.zeros_like(index), units, rate, layer)


def ignored_key(galaxy_keys, index, units, rate, layer=0, real=keys.keep):
    return real(np.zeros_like(galaxy_keys), index, units, rate, layer)


def ignored_layer(galaxy_keys, index, units, rate, layer=0, real=keys.keep):
    return real(galaxy_keys, index, units, rate)


def thirteen_rounds(key, counter, real=keys.threefry2x32):
    return real(key, counter) ^ np.uint32(1)


def dropped_ways(samples, votes, real=reference.log_votes):
    k = np.arange(votes + 1)
    ways = (
        reference.gammaln(votes + 1) - reference.gammaln(k + 1) - reference.gammaln(votes - k + 1)
    )
    return real(samples, votes) - ways


def one_vote_more(samples, votes, real=reference.log_votes):
    return real(samples, votes + 1)


def entropy_for_information(samples, votes):
    return reference.entropy(samples, votes)


def states_alike(samples, votes, states, real=None):
    alike = np.full(len(states.probabilities), 1 / len(states.probabilities))
    return real(samples, votes, states._replace(probabilities=alike))


def states_alike_in_batches(*arguments, real=reference.batch_mutual_information):
    return states_alike(*arguments, real=real)


def states_alike_in_epig(*arguments, real=reference.epig):
    return states_alike(*arguments, real=real)


def information_about_the_network(samples, votes, states):
    return reference.mutual_information(samples, votes)


def order_of_votes_known(concentrations, votes, real=reference.dirichlet_information):
    return votes * real(concentrations, 1)


def asked_of_everybody(questions, leads, fractions, real=reference.walk_information):
    return real(questions, {}, fractions)


def one_parent(questions, leads, fractions, real=reference.walk_information):
    return real(questions, {q: dict([*froms.items()][:1]) for q, froms in leads.items()}, fractions)


def question_by_question(questions, leads, fractions):
    return information_bound(questions, leads, fractions)


def mixture_of_walks(questions, leads, fractions):
    each = np.stack(reference.walk_probabilities(questions, leads, fractions), 2)
    return reference.entr(each.mean(1)).sum(1)


def farthest(units, centres):
    return np.sqrt(((units[:, None] - centres) ** 2).sum(-1)).max(1)


def squared_distance(units, centres, real=reference.nearest):
    return real(units, centres) ** 2


def sum_of_losses(*arguments, real=reference.loss):
    return real(*arguments) * len(arguments[2])


def rows_reversed(images, plan, real=impl_torch.train.put_plan):
    return real(images, plan._replace(rows=plan.rows[:, ::-1]))


def other_galaxies(state, images, *rest, real=impl_torch.predict.sample):
    return real(state, images, *rest) * (1 + 1e-9 * images.mean())


def other_galaxies_of_the_chunk(*before, real=impl_torch.train.sample_chunk):
    return real(*before) * (1 + 1e-9 * before[4].double().mean())


def place_in_the_chunk(*before, real=impl_torch.train.sample_chunk):
    logits = real(*before)
    return logits * (1 + 1e-6 * torch.arange(len(logits))[:, None, None])


def size_of_the_chunk(*before, real=impl_torch.train.sample_chunk):
    return real(*before) * (1 + 1e-6 * len(before[4]))


def samples_together(state, *rest, real=impl_torch.predict.sample):
    return real(state, *rest) * (1 + 1e-6 * rest[-1])


def no_relu(operation, weights, given, x):
    return x, None


MUTANTS = [  # mutant, module, name that it takes the place of, check that must see it
    (thirteen_rounds, keys, "threefry2x32", "random_bits"),
    (ignored_sample, keys, "keep", "masks"),
    (ignored_key, keys, "keep", "masks"),
    (ignored_layer, keys, "keep", "masks"),
    (rows_reversed, impl_torch.train, "put_plan", "batches"),
    (half_a_pixel, reference, "warp", "augmented_images"),
    (rows_for_columns, reference, "warp", "augmented_images"),
    (no_relight, reference, "adjust_contrast", "augmented_images"),
    (other_border, reference, "warp", "augmented_images_as_w20"),
    (no_relu, operations, "relu", "layers"),
    (transposed_kernel, operations, "conv", "layers"),
    (shifted_padding, operations, "conv", "features"),
    (pool_of_means, operations, "max_pool", "features"),
    (channels_first_flatten, operations, "flatten", "features"),
    (no_scaling, operations, "dropout", "probabilities"),
    (dropped_for_kept, operations, "dropout", "probabilities"),
    (yes_for_no, reference, "logits", "probabilities"),
    (no_for_yes_votes, formulas, "binomial", "likelihood"),
    (fractions_for_votes, formulas, "binomial", "likelihood"),
    (first_question_alone, formulas, "votes_nll", "multinomial"),
    (one_question_of_all, formulas, "votes_nll", "multinomial"),
    (independent_votes, formulas, "dirichlet_multinomial", "dirichlet_multinomial"),
    (with_coefficient, formulas, "dirichlet_multinomial", "dirichlet_multinomial"),
    (one_question_of_all, formulas, "votes_nll", "dirichlet_multinomial"),
    (exp_for_sigmoid, formulas, "log_concentrations", "dirichlet_multinomial_sigmoid"),
    (hundred_in_all, formulas, "log_concentrations", "dirichlet_multinomial_sigmoid"),
    (digamma_of_the_sum_left_out, formulas, "dirichlet_multinomial_gradient", "gradient_of_votes"),
    (votes_for_all_answers_alike, formulas, "multinomial_gradient", "gradient_of_votes"),
    (sum_of_losses, reference, "loss", "loss"),
    (sum_for_mean, reference, "gradients", "gradient"),
    (ties_to_the_last, operations, "max_pool", "tied_gradient"),
    (epsilon_inside, reference, "adam", "training"),
    (no_bias_correction, reference, "adam", "training"),
    (last_shard_alone, reference, "step_gradients", "training"),
    (decay_in_the_gradient, reference, "adam", "fine_tuning"),
    (one_rate_for_all, reference, "adam", "fine_tuning"),
    (no_warm_up, reference, "adam", "fine_tuning"),
    (clipped_one_by_one, reference, "clipped", "fine_tuning"),
    (biases_shrink, reference, "tuning_of", "fine_tuning"),
    (first_layers_for_last, reference, "tuning_of", "fine_tuning"),
    (epsilon_inside, reference, "adam", "long_training"),
    (ignored_sample, keys, "keep", "samples"),
    (other_galaxies, impl_torch, "sample", "batch_invariance"),
    (other_galaxies_of_the_chunk, impl_torch.train, "sample_chunk", "batch_invariance"),
    (place_in_the_chunk, impl_torch.train, "sample_chunk", "place_invariance"),
    (size_of_the_chunk, impl_torch.train, "sample_chunk", "place_invariance"),
    (samples_together, impl_torch, "sample", "place_invariance"),
    (dropped_ways, reference, "log_votes", "mutual_information"),
    (entropy_for_information, reference, "mutual_information", "mutual_information"),
    (one_vote_more, reference, "log_votes", "entropy"),
    (states_alike_in_batches, reference, "batch_mutual_information", "batch_mutual_information"),
    (
        information_about_the_network,
        reference,
        "batch_mutual_information",
        "batch_mutual_information",
    ),
    (states_alike_in_epig, reference, "epig", "epig"),
    (information_about_the_network, reference, "epig", "epig"),
    (order_of_votes_known, reference, "dirichlet_information", "dirichlet_information"),
    (asked_of_everybody, reference, "walk_information", "walk_information"),
    (one_parent, reference, "walk_information", "walk_information"),
    (question_by_question, reference, "walk_information", "walk_information"),
    (mixture_of_walks, reference, "walk_information", "walk_information"),
    (farthest, reference, "nearest", "nearest"),
    (squared_distance, reference, "nearest", "nearest"),
    (entropy_for_information, reference, "mutual_information", "top_galaxies"),
]


def main(folder: Path) -> None:
    case = conformance.Case(from_config(RunSpec, json.loads((folder / "run.json").read_text())))
    case.batch(0)  # the plan and its galaxies are drawn before anything is mutated
    found = []
    for mutant, module, name, check in MUTANTS:
        with mock.patch.object(module, name, mutant):
            error = conformance.CHECKS[check](case)
        size = float(error) if np.isfinite(error) else None  # which JSON can say
        found.append({"mutant": mutant.__name__.replace("_", " "), "check": check, "error": size})
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
