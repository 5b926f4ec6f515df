"""The checks of a framework, from random bits up to posterior samples: each gives the error of one."""

from dataclasses import replace

import numpy as np

from shared.method.batches import Cutouts, Plan, draw_plan
from shared.method.likelihood import YES_OR_NO, Likelihood, fractions, ranks
from shared.method.views import Views, still_views
from shared.network.network import Network
from shared.network.operations import MaxPool
from shared.network.weights import PARTS, Checkpoint, Weights
from shared.proof import likelihood as formulas
from shared.proof import network, reference
from shared.proof.case import (
    GALAXIES,
    SAMPLES,
    STEPS,
    Case,
    by_layer,
    doubled,
    relative_error,
    unequal,
)
from shared.run import keys
from shared.run.spec import LikelihoodSpec, ModelSpec, RunSpec, TrainingSpec

LONG = 200  # steps of training


def random_bits(case: Case) -> int:
    """Threefry's words, under one key and under many."""
    counters = np.random.default_rng(0).integers(0, 2**32, (5000, 2), dtype=np.uint32)
    for key in (counters[0], counters):
        got = case.fetch(case.module("keys").threefry2x32(key, counters))
        wrong = unequal(got, keys.threefry2x32(key, counters))
        if wrong:
            return wrong
    return 0


def masks(case: Case) -> int:
    """Dropout's masks, of training (galaxy, unit) and of the posterior (galaxy, sample, unit), of three layers."""
    galaxy_keys, numbers, wrong = case.plan.keys[0], np.arange(30, dtype=np.uint32), 0
    for rate in (0.0, 0.2, 0.5):
        for some, index in ((galaxy_keys, np.uint32(7)), (galaxy_keys[:, None], numbers)):
            for layer in (0, 1, 200):
                got = case.module("keys").keep(
                    case.put(some), case.put(np.asarray(index)), 128, rate, layer
                )
                oracle_index = np.broadcast_to(index, (len(some), *np.shape(index)))
                wrong += unequal(case.fetch(got), keys.keep(some, oracle_index, 128, rate, layer))
    return wrong


def batches(case: Case) -> int:
    """Batches and warps, as read back from the device."""
    plan, cutouts = case.plan, case.cutouts
    arrays = (
        cutouts[plan.rows],
        plan.votes,
        plan.ranks,
        *plan.views,
        plan.keys,
        plan.steps,
        plan.scales,
    )
    back = case.module("train").put_plan(cutouts, plan)
    wrong = sum(
        unequal(case.fetch(got), array) for got, array in zip(back[:-1], arrays[:-1], strict=True)
    )
    return wrong + unequal(np.float32(case.fetch(back[-1])), np.float32(arrays[-1]))


def augmented_images(case: Case) -> float:
    """What the network is shown, in one bilinear sampling."""
    return _seen(case, case.run)


def augmented_images_as_w20(case: Case) -> float:
    """What the network is shown, in W+20's two resamplings, black corners, pixels of 0 to 255."""
    looks = replace(
        case.run.augmentation, resampling="nearest", border="zero", rotation="half", zoom_per="call"
    )
    return _seen(
        case, replace(case.run, augmentation=looks, model=replace(case.run.model, scale="raw"))
    )


def _seen(case: Case, run: RunSpec) -> float:
    plan = draw_plan(run, case.labelled, case.cutouts.size, 0, 0, 1)
    views, images = Views(*(array[0] for array in plan.views)), case.cutouts[plan.rows[0]]
    wanted = reference.apply_views(run, images, views)
    return relative_error(
        case.backend.seen(case.backend.init(run, case.start), images, views), wanted
    )


def features(case: Case) -> float:
    """The units of the dense layer."""
    views = still_views(case.run, case.cutouts.size, GALAXIES)
    images = case.cutouts[np.arange(GALAXIES)]
    got = case.fetch(case.backend.features(case.state, images, views))
    return relative_error(
        got,
        reference.features(
            case.run.model, case.weights, reference.apply_views(case.run, images, views)
        ),
    )


def layers(case: Case) -> float:
    """Every layer's activation in training; the worst layer."""
    x, kept, _ = case.batch(0)
    got = case.layers(case.start.weights, case.cutouts)
    moments = reference.fixed_moments(case.run, doubled(case.start.moments))
    oracle = network.forward(case.model.whole, case.weights, x, moments, kept).values
    return max(relative_error(got[layer.name], oracle[layer.name]) for layer in case.model.whole)


def probabilities(case: Case) -> float:
    """Vote fractions from given units under given masks."""
    run = case.run
    x, _, _ = case.batch(0)
    units = reference.features(run.model, case.weights, x)
    kept = reference.masks(case.model, case.model.head, case.plan.keys[0][:, None], np.arange(5))
    oracle = reference.logits(run.model, case.weights, units[:, None], kept)
    got = case.backend.logits(case.state, case.put(units), kept)
    return relative_error(fractions(case.likelihood, got), fractions(case.likelihood, oracle))


def likelihood(case: Case) -> float:
    """-ln L of ordinary and extreme votes and logits, relative to each; exactly 0 where nobody voted."""
    logit = np.array([-700.0, -50, -20, -1, 0, 1e-6, 1, 20, 50, 700]).repeat(6)
    yes, total = np.array([[0, 0], [0, 40], [40, 40], [1, 40], [20, 40], [1, 1]]).T
    votes = np.tile(np.stack([total - yes, yes], -1).astype(np.float64), (10, 1))
    logits = np.stack([np.zeros_like(logit), logit], -1)
    return _likelihood(case, YES_OR_NO, logits, votes)


def multinomial(case: Case) -> float:
    """The same of the multinomial, of two questions."""
    return _likelihood(case, formulas.FORMS["multinomial"], *on_two_questions())


def dirichlet_multinomial(case: Case) -> float:
    """The same of the Dirichlet-multinomial, whose concentrations are the exponentials of the logits."""
    return _likelihood(case, formulas.TWO, *on_two_questions())


def dirichlet_multinomial_sigmoid(case: Case) -> float:
    """The same with Walmsley et al. 2022's concentrations, between 1 and 101."""
    return _likelihood(case, formulas.FORMS["dirichlet_multinomial/sigmoid"], *on_two_questions())


def on_two_questions() -> tuple[np.ndarray, np.ndarray]:
    """Logits and votes (galaxy, answer) for two questions, usual and extreme ones; some galaxies were not asked."""
    random = np.random.default_rng(0)
    usual = random.normal(0, 2, (60, 5))
    extreme = random.choice([-30.0, -5, 0, 3, 15, 40, 80], (40, 5))
    votes = np.concatenate(
        [
            random.multinomial(random.integers(0, 81, 100), random.dirichlet(np.ones(size), 100))
            for size in (3, 2)
        ],
        -1,
    )
    votes[::10], votes[1::10, :3], votes[2::10, 3:] = 0, 0, 0
    return np.concatenate([usual, extreme]), votes.astype(np.float64)


def _likelihood(case: Case, likelihood: Likelihood, logits, votes) -> float:
    """The worst relative error of a galaxy's likelihood; infinite unless exactly 0 where nobody voted."""
    votes_nll, some = case.module("likelihood").votes_nll, ranks(likelihood, votes)
    logits = case.fetch(case.put(logits)).astype(np.float64)  # as rounded as the framework has them
    arrays = (case.put(array) for array in (logits, votes, some))
    got = np.asarray(case.fetch(votes_nll(likelihood, *arrays)), np.float64)
    oracle, asked = formulas.votes_nll(likelihood, logits, votes), votes.sum(1) > 0
    if (got[~asked] != 0).any() or not np.isfinite(got).all():
        return float("inf")
    return float((np.abs(got - oracle) / np.maximum(np.abs(oracle), 1e-30))[asked].max())


def gradient_of_votes(case: Case) -> float:
    """The gradient with respect to every weight of a narrow network, for the likelihoods of several questions.

    Those of the run's own questions are in `gradient`.
    """
    worst, channels = 0.0, case.run.model.channels
    model = ModelSpec("w20", 16, channels, ((4,), (4,)), 8, None, None, 0.0, 0.5, 5, "unit")
    dataset = replace(case.run.dataset, questions=formulas.QUESTIONS, leads={})
    for form in formulas.FORMS.values():
        run = replace(
            case.run,
            dataset=dataset,
            question="a",
            positive=("first",),
            questions=("all",),
            model=model,
            likelihood=LikelihoodSpec(form.name, form.concentrations),
        )
        worst = max(worst, gradient(Case(run)))
    return worst


def loss(case: Case) -> float:
    """The mean losses of a few batches, all of them before any training."""
    found, moments = [], reference.fixed_moments(case.run, doubled(case.start.moments))
    for step in range(STEPS):
        one = case.plan._replace(
            **{
                name: value[step : step + 1]
                for name, value in case.plan._asdict().items()
                if name != "views"
            },
            views=Views(*(array[step : step + 1] for array in case.plan.views)),
        )
        found.append(case.backend.gradients(case.state, case.cutouts, one)[0])
    oracle = [
        reference.loss(case.run.model, case.weights, *case.batch(step), case.likelihood, moments)
        for step in range(STEPS)
    ]
    return relative_error(found, oracle)


def gradient(case: Case) -> float:
    """The gradient of the loss with respect to every weight; the worst array."""
    return _gradient(case, case.cutouts)


def tied_gradient(case: Case) -> float:
    """The gradient where every max-pool is a tie: on flat sky, and where a kernel of zeros leaves only its bias.

    On flat sky it makes no difference which of four equals gets the gradient; with the kernel of zeros it does.
    """
    flat = Cutouts(np.full_like(case.images, 200), 2, channels=case.run.model.channels)
    worst = _gradient(case, flat)
    for name in convolutions_before_pools(case.model.encoder):
        weights = dict(case.start.weights)
        weights[f"{name}/kernel"] = np.zeros_like(weights[f"{name}/kernel"])
        weights[f"{name}/bias"] = np.full_like(weights[f"{name}/bias"], 0.25)
        worst = max(worst, _gradient(case, case.cutouts, weights))
    return worst


def convolutions_before_pools(encoder: Network) -> list[str]:
    """The convolutions with a bias that, after ReLU, a max-pool follows."""
    layers = {layer.name: layer for layer in encoder}
    pools = [layer for layer in encoder if isinstance(layer.operation, MaxPool)]
    before = [layers[layers[pool.inputs[0]].inputs[0]] for pool in pools]
    return [layer.name for layer in before if getattr(layer.operation, "bias", False)]


def _gradient(case: Case, images: Cutouts, weights: Weights | None = None) -> float:
    start = case.start if weights is None else case.start._replace(weights=weights)
    state, plan = case.backend.init(case.run, start), case.plan
    batch, kinks = case.batch(0, images), case.layers(start.weights, images)
    exact, moments = doubled(start.weights), doubled(start.moments)
    oracle = reference.step_gradients(
        case.run, exact, *batch, moments, kinks, case.likelihood
    ).gradients
    _, got = case.backend.gradients(state, images, plan)
    return by_layer(got, oracle)


def training(case: Case) -> float:
    """Weights and moments after a few steps of Adam, of both forms of epsilon, in one shard and in two."""
    one, two = case.run.training, replace(case.run.training, shards=2)
    return max(
        trained(case, replace(one, epsilon_form="textbook"), STEPS),
        trained(case, replace(two, epsilon_form="hat"), STEPS),
    )


def fine_tuning(case: Case) -> float:
    """Weights and moments after a few steps of AdamW: the last blocks, later ones faster, warmed up, clipped."""
    tuned = replace(
        case.run.training,
        trainable="last:2",
        weight_decay=0.1,
        layer_decay=0.5,
        warmup=2,
        schedule="cosine",
        steps=STEPS,
        clip=0.02,
    )
    return max(
        trained(case, tuned, STEPS),
        trained(case, replace(tuned, trainable="all", clip=None), STEPS),
    )


def long_training(case: Case) -> float:
    """Weights and moments after two hundred steps of Adam, of the run's own form."""
    return trained(case, case.run.training, LONG)


def trained(case: Case, spec: TrainingSpec, steps: int) -> float:
    """How far weights and moments are after so many steps of training as in `spec`."""
    run = replace(case.run, training=spec)
    plan = draw_plan(run, case.labelled, case.cutouts.size, 0, 0, steps)
    state, _ = case.backend.train_steps(case.backend.init(run, case.start), case.cutouts, plan)
    got, wanted = case.backend.export_checkpoint(state), trajectory(case, run, plan)
    worst = max(by_layer(getattr(got, part), getattr(wanted, part)) for part in PARTS)
    return worst if got.step == steps else float("inf")


def trajectory(case: Case, run: RunSpec, plan: Plan) -> Checkpoint:
    """Where a plan takes the oracle. Nothing in it is the framework's, so that it is the same for every one."""
    weights, moments = doubled(case.start.weights), doubled(case.start.moments)
    first, second = (
        {name: np.zeros_like(array) for name, array in weights.items()} for _ in range(2)
    )
    spec, tuning = run.training, reference.tuning_of(run.model, run.training)
    for step in range(len(plan.steps)):
        views = Views(*(array[step] for array in plan.views))
        x = reference.apply_views(run, case.cutouts[plan.rows[step]], views)
        told = case.told(step, plan)
        done = reference.step_gradients(run, weights, x, *told, moments, None, case.likelihood)
        moments = moments | network.blended(case.model.encoder, moments, done.moments)
        for name, gradient in reference.clipped(spec, done.gradients).items():
            how = (tuning.rates[name], tuning.decays.get(name, 0.0))
            weights[name], first[name], second[name] = reference.adam(
                spec, step, weights[name], first[name], second[name], gradient, *how
            )
    return Checkpoint(weights, first, second, len(plan.steps), moments)


def samples(case: Case) -> float:
    """Posterior samples, from the sixth on."""
    run, count = case.run, 10
    views, galaxy_keys = (
        still_views(run, case.cutouts.size, count),
        keys.galaxy_keys(run.seed, "posterior", case.ids[:count]),
    )
    images = case.cutouts[np.arange(count)]
    got = case.backend.sample(case.state, images, views, galaxy_keys, 5, 7)
    return relative_error(
        got, reference.sample(run, case.weights, images, views, galaxy_keys, 5, 7)
    )


def batch_invariance(case: Case) -> int:
    """How many samples differ when other galaxies are beside a galaxy: must be none, at every place of a chunk."""
    count = 2 * case.run.backend.chunk
    first = np.arange(count) % GALAXIES
    even = np.arange(count) % 2 == 0
    differ = 0
    for run in case.at_prediction_or_not:
        beside, others = (
            np.where(keep, first, first // 3)
            for keep in (even, ~even)  # other in sum, too
        )
        usual, one, other = (case.sampled(run, order) for order in (first, beside, others))
        differ += unequal(one[even], usual[even]) + unequal(other[~even], usual[~even])
    return differ


def place_invariance(case: Case) -> float:
    """Samples at other places of a chunk, in chunks of other sizes, and one at a time: kernels may round otherwise.

    Moved on by some places, galaxies stand at every place where others stood before.
    """
    every, worst, chunk = np.arange(GALAXIES), 0.0, case.run.backend.chunk
    for run in case.at_prediction_or_not:
        usual = case.sampled(run, every)
        for shift in {1, 2, chunk // 2, chunk - 1} - {0}:
            found = case.sampled(run, np.roll(every, shift))
            worst = max(worst, relative_error(np.roll(found, -shift, 0), usual))
        for other in (1, 7, GALAXIES):
            worst = max(worst, relative_error(case.sampled(run, every, other), usual))
    return max(worst, _one_at_a_time(case))


def _one_at_a_time(case: Case) -> float:
    """How far samples are that were asked for one at a time; with random views, all are."""
    run, rows = case.run, np.arange(GALAXIES)
    views = still_views(run, case.cutouts.size, GALAXIES)
    galaxy_keys = keys.galaxy_keys(run.seed, "posterior", case.hashes)

    def asked(first: int, samples: int) -> np.ndarray:
        images = case.cutouts[rows]
        return case.backend.sample(case.state, images, views, galaxy_keys, first, samples)

    singly = [asked(number, 1) for number in range(SAMPLES)]
    return relative_error(np.concatenate(singly, 1), asked(0, SAMPLES))
