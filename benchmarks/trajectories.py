"""How fast float32 training in two frameworks comes apart, against one framework and itself after a rounding error.

    python -m benchmarks.trajectories backend=torch record=DIR/torch.json seeds=5
    python -m benchmarks.trajectories compare=DIR record=trajectories.json

The first, once per framework, trains W+20's network four times per seed: as it is (plain), from first weights of which
each is moved by one unit in the last place, up or down at random (ulp), with the rows of every batch in another order,
which changes nothing but the order of sums (permuted), and, for a few steps, with the other form of Adam's epsilon
(control): another algorithm, which must be told apart from rounding. Weights after COUNTS steps go into a .npz beside
the record. All other words are those of `trizoo`. The second reads what the first wrote in DIR.

Divergence is rms(a - b) / rms(change), where the change is that of the weights since the first ones, its square
averaged over a and b. Not rms(weights): most of a weight is still its first value, which all runs share, and would
hide what training made of it. 0 says that both learned the same, sqrt(2) that they moved as far in unrelated
directions.

Adam divides a gradient by its own size, so a rounding error that turns the sign of one near zero moves its weight by
a whole step, and every later gradient changes. So in float32 no trajectory is "the" trajectory, and two
frameworks are alike if they are not much further apart than either is from itself after an error of one rounding:
their divergence is divided by the larger of their own two, where a framework's own is the larger of ulp and permuted,
all of them medians over seeds.

FACTOR, the most that this ratio may be, is 3, as was aimed at before anything was measured. It is not tight: the
largest of the ratios measured over 5 seeds is 1.4, but medians of so few, of numbers that a single unit on the other
side of its kink raises a hundredfold, scatter by as much as 3 (the smallest is 0.3). Nor is it idle: the control is
100 to 900 times a framework's own divergence after 1 and 3 steps, and 4 to 16 times after 10. After 30 it is 2, and
later everything nears the most that there can be: ratios after 100 and 300 steps could hardly exceed FACTOR whatever a
framework did, and only say that there is nothing left to tell. What is wrong in the long run is for float64 to find,
and for the final losses (benchmarks.equivalence). Permuted alone is no measure of another framework in the first
steps: it changes how a batch is summed but hardly an image's own activations, while another framework rounds each of
them otherwise, as ulp does. The ratio to it is in the record too.
"""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from conf.compose import compose
from shared.data.cutouts import SIZE
from shared.method.batches import Cutouts, Labelled, Plan, draw_plan
from shared.method.views import Views, reduction
from shared.network.weights import Weights, first_checkpoint
from shared.run import keys
from shared.run.config import differences
from shared.run.errors import complain
from shared.run.launch import child_environment
from shared.run.records import host, read_json, write_json
from shared.run.spec import RunSpec, from_config

COUNTS = (1, 3, 10, 30, 100, 300)  # steps after which weights are kept
GALAXIES = 256
KINDS = ("plain", "ulp", "permuted", "control")
OWN = ("ulp", "permuted")  # the kinds that differ from plain by rounding alone
CONTROL_STEPS = 30
MOVED, MIXED = 1, 2  # first words of counters; those of shared.run.keys' purposes have 0
FACTOR = 3  # see above
SMALL = ("model.image_size=32", "training.batch_size=16")
HERE = "TRIZOO_TRAJECTORIES_HERE"  # set in the process that trains


def main(words: list[str]) -> int:
    """Train, or compare what was trained; 1 if two frameworks are further apart than FACTOR allows, 2 if refused."""
    given = dict(word.split("=", 1) for word in words)
    if "compare" in given:
        try:
            found = compare(Path(given["compare"]))
        except (ValueError, OSError) as error:
            return complain(error)
        print(table(found))
        if "record" in given:
            write_json(Path(given["record"]), found)
        return 0 if found["largest_ratio"] <= FACTOR else 1
    record, seeds = Path(given.pop("record")), int(given.pop("seeds", 5))
    config = compose([*SMALL, *(f"{key}={value}" for key, value in given.items())])
    if HERE in os.environ:
        train(config, seeds, record)
        return 0
    python = config["backend"]["python"] or sys.executable
    environment = {**child_environment(config["backend"]), HERE: "1"}
    return subprocess.call([python, "-m", "benchmarks.trajectories", *words], env=environment)


# Training


def train(config: dict, seeds: int, record: Path) -> None:
    """All runs of `config`'s framework, in this process; `record` says which, the .npz beside it holds
    their weights.
    """
    from shared.method.backend import open_backend

    begun, arrays, losses = time.perf_counter(), {}, {}
    backend = open_backend(from_config(RunSpec, config).backend)
    for seed in range(seeds):
        plain = from_config(RunSpec, {**config, "seed": seed})
        images, labelled = drawn(plain)
        for kind in KINDS:
            run = other_epsilon(plain) if kind == "control" else plain
            state, losses[f"{seed}/{kind}"] = backend.init(run, beginning(run, kind)), []
            for step in range(kept(kind)[-1]):
                plan = draw_plan(run, labelled, images.size, 0, step, 1)
                plan = permuted(plan, seed) if kind == "permuted" else plan
                state, some = backend.train_steps(state, images, plan)
                losses[f"{seed}/{kind}"] += some.tolist()
                if step + 1 in COUNTS:
                    arrays[f"{seed}/{kind}/{step + 1}"] = vector(backend.export_weights(state))
            print(f"seed {seed}, {kind}: {time.perf_counter() - begun:.0f} s", flush=True)
    record.parent.mkdir(parents=True, exist_ok=True)
    np.savez(record.with_suffix(".npz"), **arrays)
    found = {"run": config, "seeds": seeds, "losses": losses, "where": backend.describe()}
    write_json(record, {**found, "host": host(), "seconds": time.perf_counter() - begun})


def drawn(run: RunSpec) -> tuple[Cutouts, Labelled]:
    """Galaxies of the run's own seed, with their votes."""
    from shared.data.synthetic import draw_galaxies, render
    from shared.run.keys import galaxy_hash

    galaxies = draw_galaxies(GALAXIES, run.seed)
    images = np.stack([render(row) for row in galaxies.to_dict("records")])
    yes = sum(galaxies[f"{run.question}_{answer}"].to_numpy(np.int64) for answer in run.positive)
    total = galaxies[f"{run.question}_total"].to_numpy(np.int64)
    hashes = galaxy_hash(galaxies["id"])
    labelled = Labelled.yes_or_no(np.arange(GALAXIES), hashes, yes, total)
    return Cutouts(images, reduction(run, SIZE)), labelled


def other_epsilon(run: RunSpec) -> RunSpec:
    """`run` with the other form of Adam's epsilon, which is the least of what two optimisers may differ in."""
    form = "textbook" if run.training.epsilon_form == "hat" else "hat"
    return replace(run, training=replace(run.training, epsilon_form=form))


def beginning(run: RunSpec, kind: str):
    """Where a run of one of KINDS starts."""
    start = first_checkpoint(run.model, run.seed)
    return start._replace(weights=nudged(start.weights, run.seed)) if kind == "ulp" else start


def nudged(weights: Weights, seed: int) -> Weights:
    """Float32 weights, each moved to the next number above or below it by a random bit."""
    moved = {}
    for number, (name, array) in enumerate(weights.items()):
        bits = keys.bits(_key(seed, MOVED), number, array.size).reshape(array.shape) & 1
        towards = np.where(bits == 1, np.inf, -np.inf).astype(np.float32)
        moved[name] = np.nextafter(array, towards)
    return moved


def permuted(plan: Plan, seed: int) -> Plan:
    """The plan with the galaxies of every batch in another order, a random one of each step."""
    words = keys.bits(_key(seed, MIXED), plan.steps, plan.rows.shape[1])
    order = np.argsort(words, axis=1, kind="stable")

    def mixed(array: np.ndarray) -> np.ndarray:
        return np.take_along_axis(
            array, order.reshape(*order.shape, *[1] * (array.ndim - order.ndim)), 1
        )

    return plan._replace(
        rows=mixed(plan.rows),
        votes=mixed(plan.votes),
        views=Views(*(mixed(array) for array in plan.views)),
        keys=mixed(plan.keys),
    )


def _key(seed: int, purpose: int) -> np.ndarray:
    return keys.threefry2x32(keys.words(seed), np.array([purpose, 0], np.uint32))


def vector(weights: Weights) -> np.ndarray:
    """Every weight, float32, one after the other."""
    return np.concatenate([array.ravel() for array in weights.values()]).astype(np.float32)


# Comparison


def divergence(one: np.ndarray, other: np.ndarray, first: np.ndarray) -> float:
    """How far two vectors of weights are apart, of what they have changed since the `first` ones."""
    one, other, first = (array.astype(np.float64) for array in (one, other, first))
    change = (np.mean((one - first) ** 2) + np.mean((other - first) ** 2)) / 2
    return float(np.sqrt(np.mean((one - other) ** 2) / change))


def compare(folder: Path) -> dict:
    """The divergence of every two frameworks whose records are in `folder`, and of each from itself.

    Raises ValueError if there are fewer than two, or if they were not trained alike.
    """
    shape = {"run": {"backend": {"name": str}}, "seeds": int, "host": dict, "where": dict}
    records = {
        path: read_json(path, shape, "remove it, or train again")
        for path in sorted(folder.glob("*.json"))
    }
    check(records)
    run = from_config(RunSpec, next(iter(records.values()))["run"])
    seeds = next(iter(records.values()))["seeds"]
    firsts = [vector(first_checkpoint(run.model, seed).weights) for seed in range(seeds)]
    files = {
        record["run"]["backend"]["name"]: np.load(path.with_suffix(".npz"))
        for path, record in records.items()
    }
    ends = [((name, "plain"), (name, kind)) for name in files for kind in KINDS[1:]]
    ends += [((one, "plain"), (other, "plain")) for one, other in itertools.combinations(files, 2)]
    relative_errors = {
        label(one, other): {
            count: [
                divergence(
                    *(files[name][f"{seed}/{kind}/{count}"] for name, kind in (one, other)), first
                )
                for seed, first in enumerate(firsts)
            ]
            for count in kept(other[1])
        }
        for one, other in ends
    }
    median = {
        name: {count: float(np.median(values)) for count, values in found.items()}
        for name, found in relative_errors.items()
    }
    crossed = [name for name in relative_errors if "-" in name]
    ratios = {name: over_own(median, name, name.split("-"), OWN) for name in crossed}
    return {
        "steps": COUNTS,
        "divergence": relative_errors,
        "median": median,
        "ratio": ratios,
        "ratio_to_permuted": {
            name: over_own(median, name, name.split("-"), ["permuted"]) for name in crossed
        },
        "control_ratio": {name: over_own(median, f"{name} control", [name], OWN) for name in files},
        "largest_ratio": max(max(found.values()) for found in ratios.values()),
        "factor": FACTOR,
        "final_loss": {name: last_losses(record) for name, record in _named(records)},
        "run": {key: records[min(records)]["run"][key] for key in ("model", "training")},
        "seeds": seeds,
        "where": {name: record["where"] for name, record in _named(records)},
        "hosts": {name: record["host"] for name, record in _named(records)},
        "seconds": {name: record["seconds"] for name, record in _named(records)},
        "host": host(),
    }


def check(records: dict[Path, dict]) -> None:
    """Raise ValueError unless `records` are of two frameworks or more that were trained alike."""
    if len(records) < 2:
        raise ValueError(f"{len(records)} records; two frameworks or more can be compared")
    names = [record["run"]["backend"]["name"] for record in records.values()]
    if len(set(names)) < len(names):
        raise ValueError(f"records of {', '.join(names)}; keep one record of each framework")
    first, *others = records
    for path in others:
        where = differences(_alike(records[first]), _alike(records[path]))
        if where:
            raise ValueError(f"{path} differs from {first} in {', '.join(where)}; train both alike")


def _alike(record: dict) -> dict:
    backend = record["run"]["backend"]
    same = {key: value for key, value in record["run"].items() if key != "backend"}
    return {**same, "precision": backend["precision"], "seeds": record["seeds"]}


def _named(records: dict[Path, dict]) -> Iterable[tuple[str, dict]]:
    return [(record["run"]["backend"]["name"], record) for record in records.values()]


def label(one: tuple[str, str], other: tuple[str, str]) -> str:
    """What a comparison of two ends, each a framework and one of KINDS, is called: jax-tf, or tf ulp."""
    return f"{one[0]} {other[1]}" if one[0] == other[0] else f"{one[0]}-{other[0]}"


def kept(kind: str) -> tuple[int, ...]:
    """The counts of steps after which the weights of one of KINDS are there."""
    last = CONTROL_STEPS if kind == "control" else COUNTS[-1]
    return tuple(count for count in COUNTS if count <= last)


def over_own(
    median: dict[str, dict[int, float]], what: str, names: Iterable[str], kinds: Iterable[str]
) -> dict[int, float]:
    """After each count of steps: the median divergence called `what` over the largest of `names`' own, of `kinds`."""
    own = list(itertools.product(names, kinds))
    return {
        count: value / max(median[f"{name} {kind}"][count] for name, kind in own)
        for count, value in median[what].items()
    }


def last_losses(record: dict) -> dict[str, float]:
    """The mean loss of the last 30 steps in nats, mean over seeds, of the KINDS that went all the way."""
    return {
        kind: float(
            np.mean([record["losses"][f"{seed}/{kind}"][-30:] for seed in range(record["seeds"])])
        )
        for kind in ("plain", *OWN)
    }


def table(found: dict) -> str:
    """The medians over seeds and the ratios, as text."""
    lines = [f"{'steps':14}" + "".join(f"{count:>10}" for count in found["steps"])]
    for title, part, form in (
        ("divergence", "median", "10.1e"),
        ("over own", "ratio", "10.2f"),
        ("over permuted", "ratio_to_permuted", "10.2f"),
        ("control over own", "control_ratio", "10.2f"),
    ):
        lines.append(title)
        for name, values in found[part].items():
            lines.append(f"  {name:12}" + "".join(f"{value:{form}}" for value in values.values()))
    return "\n".join([*lines, f"largest ratio {found['largest_ratio']:.2f}, allowed {FACTOR:g}"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
