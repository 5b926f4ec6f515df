"""The conformance kit: what a port to another language must reproduce, as files that need no Python to be read.

`write_kit` has the specification (`shared.proof.reference`, `shared.run.keys`, `shared.method.views` and
`shared.method.batches`) compute every check at 32 pixels: a safetensors file per check with what goes in and what must
come out, index.json, which says of each array what it is and how near an answer must be, and README.md with every
formula (from kit_readme.md). `check_kit` compares what a port wrote, and `ladder` prints it. The kit depends on nothing
but its seed.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from shared.data.synthetic import draw_galaxies, render
from shared.method.batches import Cutouts, Labelled, Plan, draw_plan, epoch_order
from shared.method.views import Views, draw_views, still_views
from shared.network.weights import Weights, init_weights
from shared.proof import reference
from shared.run import keys
from shared.run.keys import galaxy_hash
from shared.run.records import read_json, write_json, write_whole
from shared.run.spec import AugmentationSpec, ModelSpec, TrainingSpec

FORMAT = "trizoo conformance kit 1"
WEIGHTS = "weights.safetensors"
TEMPLATE = Path(__file__).with_name("kit_readme.md")

WIDE = ModelSpec(32, ((32, 32), (64, 64), (128,), (128,)), 128, 0.5, "unit")
NARROW = ModelSpec(32, ((8, 8), (16, 16), (32,), (32,)), 32, 0.5, "unit")  # for what is long
BILINEAR = AugmentationSpec(
    zoom=(1.1, 1.3),
    shift="anywhere",
    rotation="full",
    border="edge",
    resampling="bilinear",
    zoom_per="image",
    brightness=0.05,
    contrast=(0.98, 1.02),
    at_prediction=False,
)
NEAREST = replace(BILINEAR, rotation="half", border="zero", resampling="nearest", zoom_per="call")
ADAM = TrainingSpec(8, 200, 1e-3, "constant", 0.9, 0.999, 1e-8, "textbook", 0, 0, 1)

GALAXIES = 48
STORED, REDUCED = 256, 64  # pixels: as rendered, and as the network's views sample them
UNITS = 128  # of the masks of rung 1
POOL, WANTED = 400, 128  # galaxies scored, and chosen
APART = 1e-4  # nats between the last that is chosen and the first that is not
IDS = ("588848901537202306", "x", "", "NGC 1300", "galaxie-é", "a" * 200)


class Field(NamedTuple):
    """As much of a dataset as views ask for."""

    crop: float


class Setting(NamedTuple):
    """As much of a run as the specification asks for."""

    seed: int
    model: ModelSpec
    augmentation: AugmentationSpec
    training: TrainingSpec = ADAM
    dataset: Field = Field(1.0)


class Array(NamedTuple):
    """An array of the kit; RULE is how an answer is compared (exact, largest, each), None where it is given."""

    values: np.ndarray
    axes: str
    what: str
    rule: str | None
    budgets: dict[str, float]


class Verdict(NamedTuple):
    """How one array of an answer compares; ERROR is infinite where nothing can be measured."""

    rung: str
    array: str
    error: float
    budget: float
    verdict: str  # ok | over | missing | wrong shape (or kind of number)


Arrays = dict[str, Array]


def given(values, axes: str, what: str) -> Array:
    """An array that a port reads."""
    return Array(np.asarray(values), axes, what, None, {})


def exact(values, axes: str, what: str) -> Array:
    """An array that a port must write with the same numbers."""
    return Array(np.asarray(values), axes, what, "exact", {})


def close(values, axes: str, what: str, double: float = 1e-12, single: float = 1e-5) -> Array:
    """An array whose largest difference may be this share of its largest number."""
    return Array(np.asarray(values), axes, what, "largest", {"float64": double, "float32": single})


class Sky:
    """The galaxies of a kit, and what more than one rung makes of them."""

    def __init__(self, seed: int):
        self.seed = seed
        drawn = draw_galaxies(GALAXIES, seed)
        images = np.stack([render(row._asdict()) for row in drawn.itertuples(index=False)])
        self.images = Cutouts(images, STORED // REDUCED)[np.arange(GALAXIES)]
        self.ids = drawn["id"].tolist()
        self.hashes = galaxy_hash(self.ids)
        total = self.random(1).integers(0, 41, GALAXIES)
        yes = self.random(2).integers(0, total + 1)
        self.labelled = Labelled(np.arange(GALAXIES), self.hashes, yes, total)
        self.wide = self.with_biases(init_weights(WIDE, seed))

    def random(self, number: int) -> np.random.Generator:
        """Numbers whose law does not matter, another stream for each use."""
        return np.random.default_rng([self.seed, number])

    def with_biases(self, weights: Weights) -> Weights:
        """WEIGHTS whose biases are not 0, so that one who forgets them is found out."""
        random = self.random(3)
        return {
            name: array
            if name.endswith("kernel")
            else random.normal(0, 0.05, array.shape).astype(np.float32)
            for name, array in weights.items()
        }

    def keep(self, units: int, count: int) -> np.ndarray:
        """Masks bool (galaxy, unit) of the first COUNT galaxies at step 7."""
        return keys.keep(
            keys.galaxy_keys(self.seed, "dropout", self.hashes[:count]),
            np.full(count, 7),
            units,
            WIDE.dropout,
        )

    @cached_property
    def seen(self) -> np.ndarray:
        """Every galaxy in a drawn view, float32 (galaxy, y, x, 1), so that both precisions start from the same."""
        run = Setting(self.seed, WIDE, BILINEAR)
        view_keys = keys.galaxy_keys(self.seed, "view", self.hashes)
        index = np.zeros(GALAXIES, int)
        views = draw_views(run, REDUCED, view_keys, index, index)
        return reference.see(run, self.images, views).astype(np.float32)


def write_kit(folder: Path, seed: int = 0) -> None:
    """Write the kit of SEED into FOLDER: index.json, README.md, the weights and a safetensors file per rung."""
    folder = Path(folder)
    sky, rungs = Sky(seed), {}
    weights = {
        name: given(array, _axes(name), "a weight of the wide network")
        for name, array in sky.wide.items()
    }
    _write(folder / WEIGHTS, weights)
    for name, (title, rung) in RUNGS.items():
        arrays = rung(sky)
        _write(folder / f"{name}.safetensors", arrays)
        rungs[name] = {"section": title, "file": f"{name}.safetensors", "arrays": _facts(arrays)}
    index = {
        "format": FORMAT,
        "seed": seed,
        "weights": {"file": WEIGHTS, "arrays": _facts(weights)},
        "rungs": rungs,
    }
    text = TEMPLATE.read_text(encoding="utf-8") + _tables(index)
    write_whole(
        folder / "README.md", lambda beside: beside.write_text(text, encoding="utf-8", newline="\n")
    )
    write_json(folder / "index.json", index)


def random_numbers(sky: Sky) -> Arrays:
    """Words, keys, masks, first weights, batches and views."""
    seed, random = sky.seed, sky.random(10)
    key, counter = random.integers(0, 2**32, (2, 1000, 2), np.uint32)
    key[:2], counter[:2] = [[0, 0], [2**32 - 1] * 2], [[0, 0], [2**32 - 1] * 2]
    seeds = np.array([seed, 12345, 2**63 + 9, 2**64 - 1], np.uint64)
    ids = [*sky.ids, *IDS]
    parts = [name.encode() for name in ids]
    galaxy_keys = np.stack([keys.galaxy_keys(seed, purpose, ids) for purpose in keys.PURPOSES])
    dropout_keys = galaxy_keys[keys.PURPOSES.index("dropout")]
    index, rates = np.array([0, 7, 2**31 + 5], np.uint32), np.array([0, 0.2, 0.5])
    each = np.broadcast_to(index[:, None], (len(index), len(ids)))
    kept = [keys.keep(dropout_keys, each, UNITS, rate) for rate in rates]
    first = {
        f"out/first/{name}": exact(array, _axes(name), "a first weight")
        for name, array in init_weights(NARROW, seed).items()
    }
    number = "one number"
    return {
        "in/key": given(key, "case, word", "keys"),
        "in/counter": given(counter, "case, word", "counters"),
        "out/words": exact(keys.threefry2x32(key, counter), "case, word", "Threefry's words"),
        "in/seeds": given(seeds, "seed", "seeds"),
        "out/purpose_keys": exact(
            [[keys.purpose_key(int(one), name) for name in keys.PURPOSES] for one in seeds],
            "seed, purpose, word",
            "the keys of the purposes",
        ),
        "in/ids": given(
            np.frombuffer(b"".join(parts), np.uint8), "byte", "the ids, UTF-8, end to end"
        ),
        "in/id_ends": given(np.cumsum([len(part) for part in parts]), "id", "where each id ends"),
        "out/hashes": exact(galaxy_hash(ids), "id", "the hashes of the ids"),
        "in/seed": given(np.array([seed], np.uint64), number, "the seed of all that follows"),
        "out/galaxy_keys": exact(galaxy_keys, "purpose, id, word", "the keys of the galaxies"),
        "in/index": given(index, "index", "steps or samples"),
        "out/bits": exact(keys.bits(dropout_keys, each, 9), "index, id, word", "words for dropout"),
        "out/uniforms": exact(
            keys.uniforms(dropout_keys, each, 9), "index, id, number", "uniform numbers for dropout"
        ),
        "in/rates": given(rates, "rate", "dropout rates"),
        "out/keep": exact(
            np.array(kept, np.uint8), "rate, index, id, unit", "masks, 1: the unit is kept"
        ),
        "in/filters": given([f for b in NARROW.blocks for f in b], "convolution", "filters"),
        "in/pooled": _pooled(NARROW),
        "in/dense": given([NARROW.dense], number, "units of the dense layer"),
        **first,
        **_batches(sky),
    }


def _batches(sky: Sky) -> Arrays:
    number, each = "one number", "step, galaxy"
    origin, first, count, batch = 3, 12, 6, 10
    training = replace(ADAM, batch_size=batch)
    plan = draw_plan(
        Setting(sky.seed, WIDE, BILINEAR, training), sky.labelled, REDUCED, origin, first, count
    )
    old = draw_plan(
        Setting(sky.seed, WIDE, NEAREST, training), sky.labelled, REDUCED, origin, first, count
    )
    still = still_views(Setting(sky.seed, WIDE, BILINEAR), REDUCED, 1)
    looks = BILINEAR
    return {
        "in/galaxies": given([GALAXIES], number, "how many of the ids are trained on: the first"),
        "in/epoch": given([7], number, "the step at which an epoch begins"),
        "out/order": exact(
            epoch_order(sky.seed, sky.hashes, 7), "place", "the galaxies in that epoch's order"
        ),
        "in/batch_size": given([batch], number, "galaxies in a batch"),
        "in/origin": given([origin], number, "the step at which the first epoch begins"),
        "in/steps": given(plan.steps, "step", "steps"),
        "out/rows": exact(plan.rows, each, "the galaxies of each batch"),
        "in/image_size": given([REDUCED], number, "S, pixels across the stored image"),
        "in/network_size": _size(),
        "in/crop": given([1.0], number, "the share of the stored image that zoom 1 shows"),
        "in/zoom": given(looks.zoom, "least, most", "bounds of the zoom"),
        "in/brightness": given([looks.brightness], number, "most brightness, up and down"),
        "in/contrast": given(looks.contrast, "least, most", "bounds of the contrast"),
        **_drawn("bilinear", plan.views, each),
        **_drawn("nearest", old.views, each),
        **_drawn("still", still, "galaxy"),
    }


def _drawn(name: str, views: Views, axes: str) -> Arrays:
    return {
        f"out/{name}/turn": close(
            views.turn, f"{axes}, to row and column, of row and column and 1", "turns", 1e-6, 1e-6
        ),
        f"out/{name}/window": exact(views.window, f"{axes}, top and left and width", "windows"),
        f"out/{name}/light": close(
            views.light, f"{axes}, brightness and contrast", "light", 1e-6, 1e-6
        ),
    }


def warped_images(sky: Sky) -> Arrays:
    """What the network is shown, both ways of sampling."""
    count = 6
    result = {"in/images": _images(sky.images[:count]), "in/size": _size()}
    index = np.arange(count)
    view_keys = keys.galaxy_keys(sky.seed, "view", sky.hashes[:count])
    for name, looks, scale in (("bilinear", BILINEAR, "unit"), ("nearest", NEAREST, "raw")):
        run = Setting(sky.seed, replace(WIDE, scale=scale), looks)
        views = draw_views(run, REDUCED, view_keys, index, index)
        views.turn[0, :, 2] += (-10.25, 3.5)  # far out of the image
        result |= {f"in/{name}/{part}": array for part, array in _views(views).items()}
        seen = reference.see(run, sky.images[:count], views)[..., 0]
        result[f"out/{name}"] = close(seen, "galaxy, y, x", f"images, warped ({name}) and relit")
    return result


def layers(sky: Sky) -> Arrays:
    """Every layer's activation, then dropout and the answer."""
    x, kept = sky.seen[:3], sky.keep(WIDE.dense, 3)
    weights, trace = _double(sky.wide), []
    units = reference.features(WIDE, weights, x.astype(np.float64), trace)
    result = {
        "in/x": given(x, "galaxy, y, x, channel", "images as shown"),
        "in/pooled": _pooled(WIDE),
        "in/keep": _keep(kept),
        "in/rate": _rate(),
    }
    image, pools = "galaxy, y, x, channel", 0
    for kind, number, before, after in trace:
        if kind == "conv":
            result[f"out/conv{number}"] = close(after, image, "a convolution, before its ReLU")
        elif kind == "pool":
            result[f"out/pool{pools}"] = close(reference.max_pool(before), image, "a max-pool")
            pools += 1
        elif kind == "hidden":
            result["out/hidden"] = close(after, "galaxy, unit", "the dense layer, before its ReLU")
    result["out/units"] = close(units, "galaxy, unit", "the dense layer, after its ReLU")
    logits = reference.answers(weights, reference.dropout(units, kept, WIDE.dropout))
    result["out/logits"] = close(logits, "galaxy", "logits, after dropout")
    return result


def likelihood(sky: Sky) -> Arrays:
    """-ln L before any reduction, of ordinary and extreme votes and logits."""
    votes = np.array([(0, 0), (0, 40), (40, 40), (1, 40), (13, 40), (1, 1)], np.float64)
    logits = np.array([-700, -50, -20, -1, 0, 1e-6, 0.7, 20, 50, 700])
    logit, (yes, total) = np.repeat(logits, len(votes)), np.tile(votes.T, len(logits))
    nll = reference.votes_nll(logit, yes, total)
    return {
        "in/logits": given(logit, "case", "logits"),
        "in/yes": given(yes, "case", "k, yes votes"),
        "in/total": given(total, "case", "N, votes"),
        "out/nll": close(nll, "case", "-ln L in nats")._replace(rule="each"),
    }


def gradient(sky: Sky) -> Arrays:
    """The slope of the loss with respect to every weight, without ties and with."""
    away = np.concatenate(
        [_from_kinks(WIDE, sky.wide, part) for part in np.array_split(sky.seen, 4)]
    )
    clear = np.sort(np.argsort(-away)[:8])
    part, weights = sky.labelled.take(clear), _double(sky.wide)
    yes, total = part.yes.astype(np.float64), part.total.astype(np.float64)
    x, kept = sky.seen[clear], sky.keep(WIDE.dense, 8)
    loss, slopes = reference.gradients(WIDE, weights, x.astype(np.float64), kept, yes, total)

    tied = sky.with_biases(init_weights(NARROW, sky.seed))
    tied["conv1/kernel"] = np.zeros_like(tied["conv1/kernel"])
    tied["conv1/bias"] = np.abs(tied["conv1/bias"]) + np.float32(0.25)
    few = sky.keep(NARROW.dense, 8)
    _, tied_slopes = reference.gradients(
        NARROW, _double(tied), x.astype(np.float64), few, yes, total
    )
    return {
        "in/x": given(x, "galaxy, y, x, channel", "images as shown"),
        "in/pooled": _pooled(WIDE),
        "in/keep": _keep(kept),
        "in/rate": _rate(),
        "in/yes": given(yes, "galaxy", "k, yes votes"),
        "in/total": given(total, "galaxy", "N, votes"),
        "out/loss": close([loss], "one number", "the mean loss"),
        **_named("out/slope", slopes, "a slope", close),
        **_named("in/tied/weights", tied, "a weight of the narrow network", given),
        "in/tied/keep": _keep(few),
        **_named("out/tied", tied_slopes, "a slope, every square of the first pool tied", close),
    }


def adam(sky: Sky) -> Arrays:
    """One step of Adam in both forms; then 200 of training, dropout and augmentation included."""
    random, number = sky.random(20), "one number"
    steps, size = np.array([0, 41], np.int64), (2, 500)
    weight, slope = random.normal(0, 0.05, size), random.normal(0, 1e-2, size)
    first, second = random.normal(0, 1e-2, size), random.uniform(0, 1e-3, size)
    first[0], second[0] = 0, 0
    slope[:, :9] = [0, 1e-8, -1e-8, 1e-12, 1e-30, 1, -1, 1e3, 0]
    axes = "case, weight"
    result = {
        name: given([value], number, f"Adam's {name[3:].replace('_', ' ')}")
        for name, value in (
            ("in/learning_rate", ADAM.learning_rate),
            ("in/beta1", ADAM.beta1),
            ("in/beta2", ADAM.beta2),
            ("in/epsilon", ADAM.epsilon),
        )
    }
    result |= {
        "in/one/step": given(steps, "case", "the step, counted from 0"),
        "in/one/weight": given(weight, axes, "weights before"),
        "in/one/first": given(first, axes, "first moments before"),
        "in/one/second": given(second, axes, "second moments before"),
        "in/one/slope": given(slope, axes, "slopes"),
    }
    for form in ("textbook", "hat"):
        spec = replace(ADAM, epsilon_form=form)
        after = [
            reference.adam(spec, int(step), *arrays)
            for step, *arrays in zip(steps, weight, first, second, slope, strict=True)
        ]
        for name, values in zip(
            ("weight", "first", "second"), zip(*after, strict=True), strict=True
        ):
            result[f"out/one/{form}/{name}"] = close(values, axes, f"{name} after ({form})")
    return result | _many(sky)


def _many(sky: Sky) -> Arrays:
    run = Setting(sky.seed, NARROW, BILINEAR)
    start = init_weights(NARROW, sky.seed)
    plan = draw_plan(run, sky.labelled, REDUCED, 0, 0, ADAM.steps)
    losses, weights, first, second = trained(run, sky.images, start, plan)
    each = "step, galaxy"
    given_views = {
        f"in/many/{name}": array._replace(axes=f"step, {array.axes}")
        for name, array in _views(plan.views).items()
    }
    return {
        "in/many/images": _images(sky.images),
        "in/many/size": _size(),
        "in/many/rows": given(plan.rows, each, "the galaxies of each batch"),
        "in/many/yes": given(plan.yes, each, "k, yes votes"),
        "in/many/total": given(plan.total, each, "N, votes"),
        **given_views,
        "in/many/keys": given(plan.keys, f"{each}, word", "keys of dropout"),
        "in/many/steps": given(plan.steps, "step", "steps: dropout's index, and Adam's"),
        "in/many/pooled": _pooled(NARROW),
        "in/many/rate": _rate(),
        **_named("in/many/weights", start, "a weight of the narrow network, before", given),
        "out/many/losses": _long(losses, "step", "mean losses"),
        **_named("out/many/weight", weights, "a weight after 200 steps (textbook)", _long),
        **_named("out/many/first", first, "first moments after 200 steps", _long),
        **_named("out/many/second", second, "second moments after 200 steps", _long),
    }


def trained(run: Setting, images: np.ndarray, weights: Weights, plan: Plan):
    """Losses (step,), weights and moments after the steps of PLAN on images uint8 (galaxy, y, x, 1), in float64."""
    weights, losses = _double(weights), []
    first, second = ({name: np.zeros_like(w) for name, w in weights.items()} for _ in range(2))
    for number, step in enumerate(plan.steps):
        views = Views(*(array[number] for array in plan.views))
        x = reference.see(run, images[plan.rows[number]], views)
        kept = keys.keep(plan.keys[number], step, run.model.dense, run.model.dropout)
        loss, slopes = reference.gradients(
            run.model, weights, x, kept, *(a[number].astype(float) for a in (plan.yes, plan.total))
        )
        losses.append(loss)
        for name, slope in slopes.items():
            weights[name], first[name], second[name] = reference.adam(
                run.training, int(step), weights[name], first[name], second[name], slope
            )
    return np.array(losses), weights, first, second


def posterior(sky: Sky) -> Arrays:
    """Posterior samples, from the sixth on."""
    count, begin, samples = 6, 5, 7
    run, images = Setting(sky.seed, WIDE, BILINEAR), sky.images[:count]
    views = still_views(run, REDUCED, count)
    galaxy_keys = keys.galaxy_keys(sky.seed, "posterior", sky.hashes[:count])
    rho = reference.sample(run, _double(sky.wide), images, views, galaxy_keys, begin, samples)
    return {
        "in/images": _images(images),
        "in/size": _size(),
        **{f"in/{name}": array for name, array in _views(views).items()},
        "in/keys": given(galaxy_keys, "galaxy, word", "keys of the posterior"),
        "in/first": given([begin], "one number", "the number of the first sample"),
        "in/samples": given([samples], "one number", "how many samples"),
        "in/pooled": _pooled(WIDE),
        "in/rate": _rate(),
        "out/rho": close(rho, "galaxy, sample", "posterior samples of rho"),
    }


def acquisition(sky: Sky) -> Arrays:
    """Scores, and the 128 galaxies of the largest."""
    votes, index = 40, 3
    rho, stream = _rho(sky.random(30)), 30
    while _gap(rho, votes) < APART:  # else rounding could choose
        stream += 1
        rho = _rho(sky.random(stream))
    each = sky.random(9).integers(0, 41, POOL)
    information = [
        reference.mutual_information(one[None], int(n))[0] for one, n in zip(rho, each, strict=True)
    ]
    galaxy_keys = keys.galaxy_keys(sky.seed, "acquisition", [f"pool-{n}" for n in range(POOL)])
    scores = {
        "mutual_information": close(
            reference.mutual_information(rho, votes), "galaxy", "mutual information in nats"
        ),
        "entropy": close(reference.entropy(rho, votes), "galaxy", "entropy in nats"),
        "random": exact(
            keys.uniforms(galaxy_keys, np.full(POOL, index), 1)[:, 0], "galaxy", "random scores"
        ),
    }
    return {
        "in/rho": given(rho, "galaxy, sample", "samples of rho"),
        "in/votes": given([votes], "one number", "N, the votes expected of every galaxy"),
        "in/votes_each": given(each, "galaxy", "N, the votes expected of each"),
        "in/keys": given(galaxy_keys, "galaxy, word", "keys of the acquisition"),
        "in/index": given(np.array([index], np.uint32), "one number", "the round"),
        "in/wanted": given([WANTED], "one number", "how many are chosen"),
        **{f"out/{name}": array for name, array in scores.items()},
        "out/mutual_information_each": close(
            information, "galaxy", "mutual information in nats, with an N for each"
        ),
        **{
            f"out/top_{name}": exact(_top(array.values), "place", f"the largest {name}, rising")
            for name, array in scores.items()
        },
    }


RUNGS: dict[str, tuple[str, Callable[[Sky], Arrays]]] = {
    "1_keys": ("1. Keys, masks, batches, views", random_numbers),
    "2_warp": ("2. What the network is shown", warped_images),
    "3_layers": ("3. The network", layers),
    "4_likelihood": ("4. The likelihood", likelihood),
    "5_gradient": ("5. Gradients", gradient),
    "6_adam": ("6. Adam", adam),
    "8_posterior": ("8. Posterior samples", posterior),
    "9_acquisition": ("9. Acquisition", acquisition),
}


# What rungs share


WEIGHT_AXES = {
    "conv/kernel": "row, column, input, output",
    "conv/bias": "output",
    "hidden/kernel": "input, output",
    "hidden/bias": "output",
    "answer/kernel": "input, output",
    "answer/bias": "output",
}


def _axes(name: str) -> str:
    layer, part = name.split("/")
    return WEIGHT_AXES[f"{layer.rstrip('0123456789')}/{part}"]


def _named(prefix: str, weights: Weights, what: str, kind) -> Arrays:
    return {f"{prefix}/{name}": kind(w, _axes(name), what) for name, w in weights.items()}


def _long(values, axes: str, what: str) -> Array:
    """After many steps of Adam only double precision can be compared."""
    return Array(np.asarray(values), axes, what, "largest", {"float64": 1e-10})


def _images(images: np.ndarray) -> Array:
    return given(images[..., 0], "galaxy, y, x", "images as stored")


def _views(views: Views) -> Arrays:
    return {
        "turn": given(views.turn, "galaxy, to row and column, of row and column and 1", "turns"),
        "window": given(views.window, "galaxy, top and left and width", "windows"),
        "light": given(views.light, "galaxy, brightness and contrast", "light"),
    }


def _keep(kept: np.ndarray) -> Array:
    return given(kept.astype(np.uint8), "galaxy, unit", "masks, 1: the unit is kept")


def _size() -> Array:
    return given([WIDE.image_size], "one number", "n, pixels across the network's image")


def _rate() -> Array:
    return given([WIDE.dropout], "one number", "the dropout rate")


def _pooled(spec: ModelSpec) -> Array:
    last = [number == len(block) - 1 for block in spec.blocks for number in range(len(block))]
    return given(np.array(last, np.uint8), "convolution", "1: a max-pool comes after it")


def _double(weights: Weights) -> Weights:
    return {name: array.astype(np.float64) for name, array in weights.items()}


def _from_kinks(spec: ModelSpec, weights: Weights, x: np.ndarray) -> np.ndarray:
    """How far each galaxy is from where ReLU and max-pool bend, as a share of the layer's largest value."""
    trace: list = []
    reference.features(spec, _double(weights), x.astype(np.float64), trace)
    distance = np.full(len(x), np.inf)
    for kind, _, before, after in trace:
        if kind == "flat":
            continue
        if kind == "pool":
            ordered = np.sort(reference.squares(before), -1)
            after = np.where(ordered[..., -1] > 0, ordered[..., -1] - ordered[..., -2], np.inf)
        gap = np.abs(after).reshape(len(x), -1).min(1) / np.abs(before).max()
        distance = np.minimum(distance, gap)
    return distance


def _rho(random: np.random.Generator) -> np.ndarray:
    """Samples float32 (galaxy, sample) of every kind, 0 and 1 among them."""
    centre, width = random.random((POOL, 1)), random.uniform(0, 0.2, (POOL, 1))
    rho = np.clip(centre + width * random.normal(0, 1, (POOL, 16)), 0, 1)
    rho[0], rho[1], rho[2] = 0, 1, [0, 1] * 8
    return rho.astype(np.float32)


def _gap(rho: np.ndarray, votes: int) -> float:
    ranked = [
        np.sort(score(rho, votes))[::-1]
        for score in (reference.mutual_information, reference.entropy)
    ]
    return min(scores[WANTED - 1] - scores[WANTED] for scores in ranked)


def _top(scores: np.ndarray) -> np.ndarray:
    return np.sort(np.argsort(-scores, kind="stable")[:WANTED])


# The files


def _write(path: Path, arrays: Arrays) -> None:
    values = {name: np.ascontiguousarray(array.values) for name, array in arrays.items()}
    data = save(values)
    write_whole(path, lambda beside: beside.write_bytes(data))


def _facts(arrays: Arrays) -> dict:
    """What index.json says of each array."""
    facts = {}
    for name, array in arrays.items():
        facts[name] = {
            "dtype": str(array.values.dtype),
            "shape": list(array.values.shape),
            "axes": array.axes,
            "what": array.what,
        }
        if array.rule:
            facts[name] |= {"rule": array.rule}
        if array.budgets:
            facts[name] |= {"budget": array.budgets}
    return facts


def _tables(index: dict) -> str:
    """The arrays of every file, as the last part of the README."""
    parts = [(index["weights"]["file"], index["weights"]["arrays"])]
    parts += [(rung["file"], rung["arrays"]) for rung in index["rungs"].values()]
    lines = []
    for file, arrays in parts:
        lines += ["", f"### {file}", "", "| array | dtype | shape | axes | what | budget |"]
        lines += ["|---|---|---|---|---|---|"]
        for name, fact in arrays.items():
            shape = " x ".join(map(str, fact["shape"]))
            cells = (f"`{name}`", fact["dtype"], shape, fact["axes"], fact["what"], _told(fact))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _told(fact: dict) -> str:
    budgets = ", ".join(f"{value:g} in {dtype}" for dtype, value in fact.get("budget", {}).items())
    return {None: "given", "exact": "exact"}.get(fact.get("rule"), f"{fact.get('rule')}: {budgets}")


# The checker


def check_kit(kit: Path, answers: Path) -> list[Verdict]:
    """A verdict on every array that the port which wrote the folder ANSWERS should have written.

    Raises ValueError for a kit or an answer that is not whole, and for a folder that is not there.
    """
    kit, answers = Path(kit), Path(answers)
    if answers.resolve() == kit.resolve():
        raise ValueError(f"{answers} is the kit itself; name the folder that the port wrote into")
    if not answers.is_dir():
        raise ValueError(f"there is no folder {answers}; name the one that the port wrote into")
    verdicts = []
    for rung, entry in _index(kit)["rungs"].items():
        oracle = _read(kit / entry["file"], "write the kit again")
        path = answers / f"{rung}.safetensors"
        got = _read(path, "have the port write it again") if path.exists() else {}
        for name, fact in entry["arrays"].items():
            if not (
                name in oracle
                and list(oracle[name].shape) == fact["shape"]
                and str(oracle[name].dtype) == fact["dtype"]
            ):
                raise ValueError(
                    f"{kit / entry['file']} has no {name} as index.json has it; write the kit again"
                )
            if "rule" in fact:
                verdicts.append(_verdict(rung, name, fact, oracle[name], got.get(name)))
    return verdicts


def ladder(verdicts: list[Verdict]) -> str:
    """The verdicts as a table: a line per rung, with its worst array, then what is missing and what is wrong."""
    lines = [f"{'rung':16} {'ok':>7}  {'error':>8} {'budget':>8}  worst array"]
    for rung in dict.fromkeys(one.rung for one in verdicts):
        some = [one for one in verdicts if one.rung == rung]
        worst = max(some, key=_badness)
        passed = f"{sum(one.verdict == 'ok' for one in some)}/{len(some)}"
        lines.append(
            f"{rung:16} {passed:>7}  {worst.error:8.1e} {worst.budget:8.0e}  {worst.array}"
        )
    missing = [one for one in verdicts if one.verdict == "missing"]
    for rung in dict.fromkeys(one.rung for one in missing):
        names = [one.array for one in missing if one.rung == rung]
        lines.append(f"missing: {len(names)} of {rung}, {names[0]} the first")
    wrong = [one for one in verdicts if one.verdict not in ("ok", "missing")]
    lines += [
        f"{one.verdict}: {one.rung} {one.array}, error {one.error:.2g}, budget {one.budget:.0e}"
        for one in wrong
    ]
    failed = len(missing) + len(wrong)
    return "\n".join(
        [*lines, f"{failed} of {len(verdicts)} arrays are not ok" if failed else "all is ok"]
    )


def _badness(one: Verdict) -> float:
    return one.error / one.budget if one.budget else one.error * np.inf if one.error else 0


def _verdict(rung: str, name: str, fact: dict, oracle: np.ndarray, got) -> Verdict:
    precision = "float64" if got is None else str(got.dtype)
    budgets = fact.get("budget", {"float64": 0.0, "float32": 0.0})
    budget = budgets.get(precision, budgets["float64"])
    if got is None or (precision == "float32" and precision not in budgets):
        return Verdict(rung, name, np.inf, budget, "missing")
    real = oracle.dtype.kind == "f"
    right = precision in ("float32", "float64") if real else got.dtype.kind in "uib"
    if got.shape != oracle.shape or not right:
        return Verdict(rung, name, np.inf, budget, "wrong shape")
    error = RULES[fact["rule"]](got, oracle)
    return Verdict(rung, name, error, budget, "ok" if error <= budget else "over")


def _unequal(got: np.ndarray, oracle: np.ndarray) -> float:
    """How many numbers differ."""
    return float((got != oracle).sum())


def _of_largest(got: np.ndarray, oracle: np.ndarray) -> float:
    """max |difference| / max |oracle|."""
    return _largest(np.abs(got.astype(np.float64) - oracle) / (np.abs(oracle).max() or 1))


def _of_each(got: np.ndarray, oracle: np.ndarray) -> float:
    """The largest |difference| / |oracle|, which counts as 1e-30 where it is smaller."""
    return _largest(np.abs(got.astype(np.float64) - oracle) / np.maximum(np.abs(oracle), 1e-30))


def _largest(errors: np.ndarray) -> float:
    return float(errors.max()) if np.isfinite(errors).all() else float("inf")


RULES = {"exact": _unequal, "largest": _of_largest, "each": _of_each}


def _index(kit: Path) -> dict:
    path = kit / "index.json"
    fix = "write the kit again (trizoo kit)"
    try:
        index = read_json(path, {"format?": object}, fix)
    except FileNotFoundError as error:
        raise ValueError(str(error)) from None
    if index.get("format") != FORMAT:
        raise ValueError(f"{path} does not say that its format is {FORMAT!r}; {fix}")
    array = {
        "dtype": str,
        "shape": [int],
        "axes": str,
        "what": str,
        "rule?": str,
        "budget?": {str: float},
    }
    index = read_json(path, {"rungs": {str: {"file": str, "arrays": {str: array}}}}, fix)
    arrays = [fact for entry in index["rungs"].values() for fact in entry["arrays"].values()]
    if strange := {fact.get("rule", "exact") for fact in arrays} - RULES.keys():
        raise ValueError(f"{path} names the rule {min(strange)}, which is none; {fix}")
    if index["rungs"].keys() != RUNGS.keys():
        raise ValueError(f"{path} does not have the rungs {', '.join(RUNGS)}; write the kit again")
    return index


def _read(path: Path, remedy: str) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, "numpy") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            strange = [
                kind for kind in kinds.values() if kind.startswith(("BF", "F8_", "F6_", "F4"))
            ]
            arrays = {} if strange else {name: file.get_tensor(name) for name in kinds}
    except Exception as error:  # the library has no error class of its own for every kind of damage
        raise ValueError(f"{path} is not a whole safetensors file ({error}); {remedy}") from error
    if strange:
        raise ValueError(
            f"{path} holds numbers of the type {strange[0]}; write them as float32 or float64"
        )
    return arrays
