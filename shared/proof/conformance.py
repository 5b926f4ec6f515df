"""How far a framework is from the specification: one error per rung, from random words up to posterior samples.

Every framework is compared with `shared.proof.reference`, alone in its process, never with another framework. An error
is max |difference| / max |oracle|, or, for what must be bit-identical, how many numbers differ.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from typing import NamedTuple

import numpy as np

from shared.data.synthetic import draw_galaxies, render
from shared.method.acquisition import States
from shared.method.backend import open_backend
from shared.method.batches import Cutouts, Labelled, Plan, draw_plan
from shared.method.sampling import sample_galaxies
from shared.method.views import Views, still_views
from shared.network.model import model_of
from shared.network.network import Network, nested
from shared.network.operations import MaxPool
from shared.network.weights import PARTS, Checkpoint, Weights, first_checkpoint
from shared.proof import network, reference
from shared.run import keys
from shared.run.keys import galaxy_hash
from shared.run.spec import RunSpec

GALAXIES = 64
STEPS, LONG = 4, 200  # of training
SAMPLES = 5  # of the posterior, where galaxies are asked for in many ways


class Case:
    """One run's backend, weights and galaxies."""

    def __init__(self, run: RunSpec):
        self.run, self.backend = run, open_backend(run.backend)
        self.start = unlike_any(first_checkpoint(run.model, run.seed), run.seed)
        self.model = model_of(run.model)
        self.weights = doubled(self.start.weights | self.start.moments)
        self.galaxies = draw_galaxies(GALAXIES, run.seed)
        grey = np.stack([render(row._asdict()) for row in self.galaxies.itertuples(index=False)])
        colours = [np.roll(grey, shift, 1) for shift in range(run.model.channels)]
        self.images = np.concatenate(colours, -1)
        self.cutouts = Cutouts(self.images, 2, channels=run.model.channels)
        self.ids = self.galaxies["id"].tolist()
        self.hashes = galaxy_hash(self.ids)

    def module(self, name: str):
        """A module of the backend's package."""
        return import_module(f"impl_{self.run.backend.name}.{name}")

    def put(self, array):
        """An array on the device."""
        return self.module("device").put(array)

    def fetch(self, array) -> np.ndarray:
        """An array of the device."""
        return self.module("device").fetch(array)

    @cached_property
    def labelled(self) -> Labelled:
        """The galaxies that are trained on, with votes of every kind."""
        random = np.random.default_rng(self.run.seed)
        total = random.integers(0, 41, GALAXIES)
        yes = random.integers(0, total + 1)
        return Labelled(np.arange(GALAXIES), self.hashes, yes, total)

    @cached_property
    def plan(self):
        """A few steps of training."""
        return draw_plan(self.run, self.labelled, self.cutouts.size, 0, 0, STEPS)

    @cached_property
    def state(self):
        """The backend's state with the first weights, for all that leaves it as it is."""
        return self.backend.init(self.run, self.start)

    def shown(self, images: np.ndarray, views: Views) -> np.ndarray:
        """What the framework itself makes of images: `seen` tells how well; later rungs start from it.

        A warp is right to a millionth in float32, which is enough to carry a unit across a kink. It is the compiled
        one, as in training: the same lines run one by one round otherwise.
        """
        return self.backend.seen(self.state, images, views).astype(np.float64)

    def batch(self, step: int, images: Cutouts | None = None, plan: Plan | None = None):
        """What the oracle needs of a step: images as shown, what each layer keeps, votes."""
        plan = plan or self.plan
        views = Views(*(array[step] for array in plan.views))
        x = self.shown((images or self.cutouts)[plan.rows[step]], views)
        kept = {}
        for part in (self.model.encoder, self.model.head):
            kept |= reference.masks(self.model, part, plan.keys[step], plan.steps[step])
        return x, kept, plan.yes[step].astype(np.float64), plan.total[step].astype(np.float64)

    def layers(self, weights: Weights, images: Cutouts) -> Weights:
        """The framework's activation of every layer, for the first batch of training."""
        state = self.backend.init(self.run, self.start._replace(weights=weights))
        return doubled(self.module("train").layers(state, images, self.plan))

    @property
    def at_prediction_or_not(self) -> list[RunSpec]:
        """The run with every galaxy seen as it is at prediction, and with each sample seen in a random way."""
        return [
            replace(self.run, augmentation=replace(self.run.augmentation, at_prediction=random))
            for random in (False, True)
        ]

    def sampled(self, run: RunSpec, rows: np.ndarray, chunk: int | None = None) -> np.ndarray:
        """The posterior samples (galaxy, sample) of the galaxies in `rows`, in this order.

        In chunks of the run's own size, or of `chunk`.
        """
        self.backend.configure(replace(run.backend, chunk=chunk or run.backend.chunk))
        hashes = self.hashes[rows]
        found = sample_galaxies(self.backend, run, self.state, self.cutouts, rows, hashes, SAMPLES)
        self.backend.configure(run.backend)
        return found

    def rho(self, count: int, samples: int) -> np.ndarray:
        """Samples (galaxy, sample) of vote fractions of every kind, 0 and 1 among them."""
        random = np.random.default_rng(self.run.seed)
        centre = random.random((count, 1))
        rho = np.clip(centre + random.normal(0, 0.1, (count, samples)), 0, 1)
        rho[0], rho[1], rho[2] = 0, 1, [0, 1] * (samples // 2)
        return rho.astype(np.float32)


def doubled(named: Weights) -> Weights:
    """Arrays in float64."""
    return {name: array.astype(np.float64) for name, array in named.items()}


def unlike_any(start: Checkpoint, seed: int) -> Checkpoint:
    """A checkpoint of first weights, but with scales that are not all 0, 1 or a millionth, and moments of no batch."""
    random, weights, moments = np.random.default_rng(seed), dict(start.weights), {}
    for name, array in start.weights.items():
        if name.endswith("/scale"):
            weights[name] = random.uniform(0.5, 1, array.shape).astype(np.float32)
    for name, array in start.moments.items():
        least, most = (0.5, 1.5) if name.endswith("/variance") else (-0.2, 0.2)
        moments[name] = random.uniform(least, most, array.shape).astype(np.float32)
    return start._replace(weights=weights, moments=moments)


def apart(got, oracle) -> float:
    """max |difference| / max |oracle|; infinite for another shape or for what is no number."""
    got, oracle = np.asarray(got, np.float64), np.asarray(oracle, np.float64)
    if got.shape != oracle.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - oracle).max() / (np.abs(oracle).max() or 1))


def unequal(got, oracle) -> int:
    """How many numbers differ; all of them for another shape or kind."""
    got, oracle = np.asarray(got), np.asarray(oracle)
    if got.shape != oracle.shape or got.dtype.kind != oracle.dtype.kind:
        return max(oracle.size, 1)
    return int((got != oracle).sum())


def words(case: Case) -> int:
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
        plan.yes,
        plan.total,
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


def seen(case: Case) -> float:
    """What the network is shown, in one bilinear sampling."""
    return _seen(case, case.run)


def seen_faithfully(case: Case) -> float:
    """The same in W+20's two resamplings, black corners, pixels of 0 to 255."""
    looks = replace(
        case.run.augmentation, resampling="nearest", border="zero", rotation="half", zoom_per="call"
    )
    return _seen(
        case, replace(case.run, augmentation=looks, model=replace(case.run.model, scale="raw"))
    )


def _seen(case: Case, run: RunSpec) -> float:
    plan = draw_plan(run, case.labelled, case.cutouts.size, 0, 0, 1)
    views, images = Views(*(array[0] for array in plan.views)), case.cutouts[plan.rows[0]]
    wanted = reference.see(run, images, views)
    return apart(case.backend.seen(case.backend.init(run, case.start), images, views), wanted)


def features(case: Case) -> float:
    """The units of the dense layer."""
    views = still_views(case.run, case.cutouts.size, GALAXIES)
    images = case.cutouts[np.arange(GALAXIES)]
    got = case.fetch(case.backend.features(case.state, images, views))
    return apart(
        got,
        reference.features(case.run.model, case.weights, reference.see(case.run, images, views)),
    )


def layers(case: Case) -> float:
    """Every layer's activation in training; the worst layer."""
    x, kept, _, _ = case.batch(0)
    got = case.layers(case.start.weights, case.cutouts)
    moments = case.weights if case.run.training.moments == "frozen" else None
    oracle = network.forward(case.model.whole, case.weights, x, moments, kept).values
    return max(apart(got[layer.name], oracle[layer.name]) for layer in case.model.whole)


def answers(case: Case) -> float:
    """rho from given units under given masks."""
    run = case.run
    x, _, _, _ = case.batch(0)
    units = reference.features(run.model, case.weights, x)
    kept = reference.masks(case.model, case.model.head, case.plan.keys[0][:, None], np.arange(5))
    oracle = reference.answers(run.model, case.weights, units[:, None], kept)
    return apart(case.backend.answers(case.state, case.put(units), kept), 1 / (1 + np.exp(-oracle)))


def likelihood(case: Case) -> float:
    """-ln L of ordinary and extreme votes and logits, relative to each; exactly 0 where nobody voted."""
    logits = np.array([-700.0, -50, -20, -1, 0, 1e-6, 1, 20, 50, 700]).repeat(6)
    yes, total = np.array([[0, 0], [0, 40], [40, 40], [1, 40], [20, 40], [1, 1]]).T
    yes, total = np.tile(yes, 10).astype(np.float64), np.tile(total, 10).astype(np.float64)
    votes_nll = case.module("likelihood").votes_nll
    got = np.asarray(
        case.fetch(votes_nll(case.put(logits), case.put(yes), case.put(total))), np.float64
    )
    oracle = reference.votes_nll(logits, yes, total)
    if (got[total == 0] != 0).any() or not np.isfinite(got).all():
        return float("inf")
    return float((np.abs(got - oracle) / np.maximum(np.abs(oracle), 1e-30))[total > 0].max())


def loss(case: Case) -> float:
    """The mean losses of a few batches, all of them before any training."""
    found = []
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
        reference.loss(case.run.model, case.weights, *case.batch(step)) for step in range(STEPS)
    ]
    return apart(found, oracle)


def gradient(case: Case) -> float:
    """The slope of the loss with respect to every weight; the worst array."""
    return _gradient(case, case.cutouts)


def tied_gradient(case: Case) -> float:
    """The same where every max-pool of a block is a tie: on flat sky, and where a kernel of zeros leaves only its bias.

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
    exact = doubled(start.weights)
    moments = case.weights if case.run.training.moments == "frozen" else None
    oracle = reference.gradients(case.run.model, exact, *batch, kinks, moments).slopes
    _, got = case.backend.gradients(state, images, plan)
    layers = nested(oracle)
    return max(by_layer(name, got, layers[name]) for name in layers)


def by_layer(layer: str, got: Weights, oracle: Weights) -> float:
    """max |difference| over a layer's arrays, by the largest value of any: a bias may nearly cancel."""
    sizes = {part: np.abs(array).max() for part, array in oracle.items()}
    worst = [
        apart(got[f"{layer}/{part}"], array) * (sizes[part] or 1) for part, array in oracle.items()
    ]
    return float(max(worst) / (max(sizes.values()) or 1))


def training(case: Case) -> float:
    """Weights and moments after a few steps of Adam, of both forms of epsilon."""
    return max(_training(case, form, STEPS) for form in ("textbook", "hat"))


def long_training(case: Case) -> float:
    """The same after two hundred steps, of the run's own form."""
    return _training(case, case.run.training.epsilon_form, LONG)


def _training(case: Case, form: str, steps: int) -> float:
    run = replace(case.run, training=replace(case.run.training, epsilon_form=form))
    plan = draw_plan(run, case.labelled, case.cutouts.size, 0, 0, steps)
    state, _ = case.backend.train_steps(case.backend.init(run, case.start), case.cutouts, plan)
    got = case.backend.export_checkpoint(state)
    weights, moments = doubled(case.start.weights), doubled(case.start.moments)
    first, second = (
        {name: np.zeros_like(array) for name, array in weights.items()} for _ in range(2)
    )
    for step in range(steps):
        running = moments if run.training.moments == "frozen" else None
        batch = case.batch(step, plan=plan)
        done = reference.gradients(run.model, weights, *batch, None, running)
        moments = moments | network.blended(case.model.encoder, moments, done.moments)
        for name, slope in done.slopes.items():
            after = reference.adam(
                run.training, step, weights[name], first[name], second[name], slope
            )
            weights[name], first[name], second[name] = after
    oracle = Checkpoint(weights, first, second, steps, moments)
    worst = max(
        apart(getattr(got, part)[name], array)
        for part in PARTS
        for name, array in getattr(oracle, part).items()
    )
    return worst if got.step == steps else float("inf")


def samples(case: Case) -> float:
    """Posterior samples, from the sixth on."""
    run, count = case.run, 10
    views, galaxy_keys = (
        still_views(run, case.cutouts.size, count),
        keys.galaxy_keys(run.seed, "posterior", case.ids[:count]),
    )
    images = case.cutouts[np.arange(count)]
    got = case.backend.sample(case.state, images, views, galaxy_keys, 5, 7)
    return apart(got, reference.sample(run, case.weights, images, views, galaxy_keys, 5, 7))


def batch_invariance(case: Case) -> int:
    """How many samples differ when other galaxies are beside a galaxy: must be none, at every place of a chunk."""
    count = 2 * case.run.backend.chunk
    first = np.arange(count) % GALAXIES
    even = np.arange(count) % 2 == 0
    differ = 0
    for run in case.at_prediction_or_not:
        beside, others = (
            np.where(keep, first, (first + GALAXIES // 2) % GALAXIES) for keep in (even, ~even)
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
            worst = max(worst, apart(np.roll(found, -shift, 0), usual))
        for other in (1, 7, GALAXIES):
            worst = max(worst, apart(case.sampled(run, every, other), usual))
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
    return apart(np.concatenate(singly, 1), asked(0, SAMPLES))


def mutual_information(case: Case) -> float:
    """Mutual information in nats, difference and not ratio: of one N for all, and of an N for each."""
    rho, random = case.rho(300, 16), np.random.default_rng(1)
    wrong = np.abs(
        case.backend.acquire("mutual_information", rho, 40) - reference.mutual_information(rho, 40)
    ).max()
    votes = random.integers(0, 41, len(rho))
    oracle = [
        reference.mutual_information(one[None], n)[0] for one, n in zip(rho, votes, strict=True)
    ]
    return float(
        max(wrong, np.abs(case.backend.acquire("mutual_information", rho, votes) - oracle).max())
    )


def entropy(case: Case) -> float:
    """Predictive entropy in nats, difference and not ratio."""
    rho = case.rho(300, 16)
    return float(
        np.abs(case.backend.acquire("entropy", rho, 40) - reference.entropy(rho, 40)).max()
    )


def scores(case: Case) -> float:
    """Variance and margin of rho, difference and not ratio; the worse of the two."""
    rho = case.rho(300, 16)
    return max(
        difference(case.backend.acquire(name, rho, 40), getattr(reference, name)(rho, 40))
        for name in ("variance", "margin")
    )


def batch_mutual_information(case: Case) -> float:
    """What votes would yet tell once others' have come in, in nats, difference and not ratio."""
    return _informed(case, "batch_mutual_information")


def epig(case: Case) -> float:
    """What votes would tell about others' votes, in nats, difference and not ratio."""
    return _informed(case, "epig")


def _informed(case: Case, name: str) -> float:
    rho, random = case.rho(300, 16), np.random.default_rng(2)
    states = States(random.dirichlet(np.ones(60)), random.dirichlet(np.full(16, 0.1), 60))
    got = case.backend.acquire(name, rho, 40, states=states)
    return difference(got, getattr(reference, name)(rho, 40, states))


def dirichlet_information(case: Case) -> float:
    """What votes on a question of three answers would tell, in nats, difference and not ratio."""
    concentrations = np.random.default_rng(3).gamma(1, 3, (400, 8, 3)).astype(np.float32)
    got = case.backend.dirichlet_information(concentrations, 12)
    return difference(got, reference.dirichlet_information(concentrations, 12))


def nearest(case: Case) -> float:
    """The distance to the nearest of many centres, and of one."""
    units = np.random.default_rng(4).gamma(1, 1, (200, 32)).astype(np.float32)
    exact = units.astype(np.float64)
    return max(
        apart(case.backend.nearest(units, units[:some]), reference.nearest(exact, exact[:some]))
        for some in (50, 1)
    )


def difference(got: np.ndarray, oracle: np.ndarray) -> float:
    """max |difference|."""
    return float(np.abs(got - oracle).max())


def most_wanted(case: Case) -> int:
    """How many of the 128 galaxies of the highest mutual information are others."""
    rho = case.rho(2000, 16)
    got, oracle = (
        set(np.argsort(-scores, kind="stable")[:128].tolist())
        for scores in (
            case.backend.acquire("mutual_information", rho, 40),
            reference.mutual_information(rho, 40),
        )
    )
    return len(oracle - got)


def random_scores(case: Case) -> int:
    """The scores of random acquisition."""
    galaxy_keys = keys.galaxy_keys(case.run.seed, "acquisition", case.hashes[:GALAXIES])
    got = case.backend.acquire("random", case.rho(GALAXIES, 2), 40, galaxy_keys, 3)
    return unequal(
        np.asarray(got, np.float64), keys.uniforms(galaxy_keys, np.full(GALAXIES, 3), 1)[:, 0]
    )


RUNGS: dict[str, Callable[[Case], float]] = {
    rung.__name__: rung
    for rung in (
        words,
        masks,
        batches,
        seen,
        seen_faithfully,
        layers,
        features,
        answers,
        likelihood,
        loss,
        gradient,
        tied_gradient,
        training,
        long_training,
        samples,
        batch_invariance,
        place_invariance,
        mutual_information,
        entropy,
        scores,
        batch_mutual_information,
        epig,
        dirichlet_information,
        nearest,
        most_wanted,
        random_scores,
    )
}


EXACT = frozenset({"words", "masks", "batches", "batch_invariance", "most_wanted", "random_scores"})
UNBOUNDED = float("inf")
BUDGETS = {  # max |difference| / max |oracle|; of EXACT rungs how many numbers may differ
    "float64": {rung: 0 if rung in EXACT else 1e-12 for rung in RUNGS}
    | {"training": 1e-10, "long_training": 1e-10},
    # Adam divides by the size of the slope itself, so in float32 a rounding error of a slope near zero moves its weight
    # by a whole step: float64 shows that the algorithm is the same, and float32 has no budget for training.
    "float32": {rung: 0 if rung in EXACT else 1e-5 for rung in RUNGS} | {"training": UNBOUNDED},
}
DOUBLE = frozenset({"long_training"})  # rungs that only float64 can climb


class Verdict(NamedTuple):
    """What became of one rung."""

    rung: str
    error: float
    budget: float
    verdict: str  # ok | over
    seconds: float


def climb(run: RunSpec) -> list[Verdict]:
    """The error of every rung that the run's precision can climb, against its budget."""
    case, found = Case(run), []
    budgets = BUDGETS["float64" if run.backend.precision == "float64" else "float32"]
    for name, rung in RUNGS.items():
        if name in DOUBLE and run.backend.precision != "float64":
            continue
        begun = time.perf_counter()
        error = float(rung(case))
        verdict = "ok" if error <= budgets[name] else "over"
        found.append(Verdict(name, error, budgets[name], verdict, time.perf_counter() - begun))
    return found


def ladder(verdicts: list[Verdict]) -> str:
    """The verdicts as a table of text."""
    lines = [f"{'rung':20} {'error':>9} {'budget':>9} {'':5} seconds"]
    for rung, error, budget, verdict, seconds in verdicts:
        lines.append(f"{rung:20} {error:9.1e} {budget:9.1e} {verdict:5} {seconds:7.1f}")
    return "\n".join(lines)
