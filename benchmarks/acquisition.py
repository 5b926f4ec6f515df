"""What scoring a survey costs: the acquisition against its formula in plain Python, and against the network.

    python -m benchmarks.acquisition record=acquisition.json backend=tf,torch,jax rounds=5

`record` is the file for the JSON, `backend` the frameworks, `rounds` how often each is timed; all other words are those
of `trizoo`. GALAXIES galaxies of SAMPLES samples each are scored by mutual information, N = VOTES, in each framework: a
process of its own, which waits while another works, so that they take turns, round after round, and none has the cores
for a better minute. At each turn it also evaluates the formula (W+20, equation 9) as one would write it down in plain
Python, in loops over galaxies, samples and counts, with a table of the binomial coefficients: for DIRECT galaxies, the
time for all being that, times how many more there are. Then, once per framework:

- the network, from images in memory to SAMPLES samples of rho, at each size of NETWORK, for as many galaxies as are
  named there, extrapolated likewise;
- one step of BatchBALD (POOL galaxies, STATES joint counts of those chosen before) and EPIG (POOL galaxies, all counts
  of TARGETS targets);
- what a volunteer's walk through the tree of TREE would tell (walk_information), of GALAXIES galaxies block by block,
  as the samples of a pool come, at each number of samples of WALKS: of as many galaxies as are named there,
  extrapolated likewise.

Times are medians over rounds. TIMES and SHARE are what was aimed at: plain Python takes at least TIMES as long as a
framework, and the acquisition at most SHARE of the network's time. Memory is the most that the process held while it
scored, over what it held before.
"""

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from conf.compose import compose
from shared.data.cutouts import SIZE
from shared.method.backend import open_backend
from shared.method.batches import Cutouts
from shared.method.sampling import sample_galaxies
from shared.method.scoring import States
from shared.method.views import reduction
from shared.method.walks import walks_of
from shared.network.weights import first_checkpoint
from shared.proof.reference import log_votes
from shared.run.errors import complain
from shared.run.keys import galaxy_hash
from shared.run.launch import ROOT, child_environment
from shared.run.records import host, parse_json, write_json
from shared.run.spec import RunSpec, from_config

GALAXIES, SAMPLES, VOTES = 300_000, 15, 40
DIRECT = 500  # galaxies scored in plain Python
NETWORK = {64: 2048, 128: 512}  # image size -> galaxies
POOL, STATES, TARGETS = 4096, 256, 256
TREE, WALKS, BLOCK = "gz_decals5", {15: GALAXIES, 100: 20_000}, 2_000  # samples -> galaxies
TIMES, SHARE = 100, 1 / 20
HERE = "TRIZOO_ACQUISITION_HERE"  # set in the process of one framework


def main(words: list[str]) -> int:
    """Time what `words` ask for and print it; 0 if every framework is as fast as was aimed at, 2 if it is refused."""
    given = dict(word.split("=", 1) for word in words)
    if HERE in os.environ:
        serve(json.loads(os.environ[HERE]))
        return 0
    record, rounds = given.pop("record", None), int(given.pop("rounds", 5))
    names = given.pop("backend", "tf,torch,jax").split(",")
    try:
        configs = {
            name: compose([f"backend={name}", *(f"{key}={given[key]}" for key in given)])
            for name in names
        }
        found = measure(configs, rounds)
    except ValueError as error:
        return complain(error)
    print(table(found))
    if record:
        write_json(Path(record), found)
    return 0 if met(found) else 1


def measure(configs: dict[str, dict], rounds: int) -> dict:
    """Seconds of everything for the frameworks of `configs`, taking turns for `rounds` rounds."""
    with waiting(configs) as ask:
        parts = {name: {"acquisition": ask(name, "first")} for name in configs}
        turns = {name: {"acquisition": [], "direct": []} for name in configs}
        for _ in range(rounds):
            for name in configs:
                for part, spent in turns[name].items():
                    spent.append(ask(name, part)["seconds"])
        for name in configs:
            for part in ("difference", "network", "batch", "epig", "walks", "about"):
                parts[name][part] = ask(name, part)
    return {
        "galaxies": GALAXIES,
        "samples": SAMPLES,
        "votes": VOTES,
        "direct_galaxies": DIRECT,
        "network_galaxies": NETWORK,
        "pool": POOL,
        "states": STATES,
        "targets": TARGETS,
        "tree": TREE,
        "times": TIMES,
        "share": SHARE,
        "frameworks": {name: summary(part, turns[name]) for name, part in parts.items()},
        "host": host(),
    }


def summary(part: dict, turns: dict[str, list[float]]) -> dict:
    """One framework's numbers: `part` holds what each answer said, `turns` the seconds of what was timed in turns."""
    seconds, direct = (statistics.median(turns[name]) for name in ("acquisition", "direct"))
    network = part["network"]
    return {
        "acquisition_seconds": seconds,
        "acquisition_turns": turns["acquisition"],
        "direct_turns": turns["direct"],
        "first_seconds": part["acquisition"]["seconds"],
        "memory_bytes": part["acquisition"]["bytes"],
        "direct_seconds": direct,
        "largest_difference": part["difference"]["nats"],
        "network_seconds": network,
        "direct_over_acquisition": direct / seconds,
        "acquisition_over_network": {size: seconds / spent for size, spent in network.items()},
        "batch_seconds": part["batch"]["seconds"],
        "epig_seconds": part["epig"]["seconds"],
        "walks_seconds": part["walks"]["seconds"],
        "walks_bytes": part["walks"]["bytes"],
        "walks_over_network": {
            size: part["walks"]["seconds"][str(SAMPLES)] / spent for size, spent in network.items()
        },
        **part["about"],
    }


def met(found: dict) -> bool:
    """Whether every framework is as fast as was aimed at."""
    return all(
        one["direct_over_acquisition"] >= TIMES
        and max(one["acquisition_over_network"].values()) <= SHARE
        for one in found["frameworks"].values()
    )


def table(found: dict) -> str:
    """What was found, as text: seconds, ratios and MB."""
    lines = [f"{found['galaxies']} galaxies x {found['samples']} samples, N = {found['votes']}"]
    for name, one in found["frameworks"].items():
        shares = ", ".join(
            f"1/{1 / share:.0f} of the network's at {size} px ({one['network_seconds'][size]:.0f} s)"
            for size, share in one["acquisition_over_network"].items()
        )
        lines += [
            f"{name:6} {one['acquisition_seconds']:.2f} s, {one['memory_bytes'] / 2**20:.0f} MB; plain Python "
            f"{one['direct_seconds']:.0f} s, {one['direct_over_acquisition']:.0f} times as long; {shares}",
            f"{'':6} of {found['pool']} galaxies: BatchBALD {one['batch_seconds']:.2f} s a step, "
            f"EPIG {one['epig_seconds']:.2f} s",
            f"{'':6} walks through {found['tree']}: "
            + ", ".join(
                f"{spent:.1f} s at {samples} samples"
                for samples, spent in one["walks_seconds"].items()
            )
            + f", {one['walks_bytes'] / 2**20:.0f} MB",
        ]
    aims = f"aimed at: {found['times']} times, 1/{1 / found['share']:.0f}"
    return "\n".join([*lines, f"{aims}: {'met' if met(found) else 'NOT met'}"])


# Processes that take turns


@contextmanager
def waiting(configs: dict[str, dict]) -> Iterator[Callable[[str, str], dict]]:
    """A process for each of `configs`, and what asks the one called NAME for a part; they end with the block."""
    there = {}
    try:
        for name, config in configs.items():
            there[name] = subprocess.Popen(
                [config["backend"]["python"] or sys.executable, "-m", "benchmarks.acquisition"],
                cwd=ROOT,
                env={**child_environment(config["backend"]), HERE: json.dumps(config)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )

        def ask(name: str, part: str) -> dict:
            process = there[name]
            with suppress(BrokenPipeError):
                process.stdin.write(part + "\n")
                process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                raise ValueError(f"{name} ended before it had timed {part}; see what it said above")
            return parse_json(answer, dict, f"the answer of {name}", "see what it said above")

        yield ask
    finally:
        for process in there.values():
            process.communicate()  # closes its input, at which it ends


def serve(config: dict) -> None:
    """Time each part that standard input names and answer with a line of JSON."""
    run = from_config(RunSpec, config)
    backend = open_backend(run.backend)
    rho = np.random.default_rng(run.seed).random((GALAXIES, SAMPLES), np.float32)
    parts = {
        "first": lambda: first(backend, rho),
        "acquisition": lambda: {"seconds": seconds(lambda: score(backend, rho))},
        "direct": lambda: direct(rho),
        "difference": lambda: difference(backend, rho),
        "network": lambda: network(backend, run),
        "batch": lambda: batch(backend, rho[:POOL]),
        "epig": lambda: epig(backend, rho),
        "walks": lambda: walks(backend),
        "about": lambda: {"where": backend.describe()},
    }
    for line in sys.stdin:
        print(json.dumps(parts[line.strip()]()), flush=True)


# What is timed


def seconds(call: Callable[[], object]) -> float:
    """How long `call` takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def most() -> int:
    """The most bytes that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def score(backend, rho: np.ndarray) -> np.ndarray:
    """What is timed before all."""
    return backend.acquire("mutual_information", rho, VOTES)


def first(backend, rho: np.ndarray) -> dict:
    """The first call, compilation included, and the memory that it takes."""
    before = most()
    return {"seconds": seconds(lambda: score(backend, rho)), "bytes": most() - before}


def direct(rho: np.ndarray) -> dict:
    """Seconds of plain Python for all galaxies of `rho` (galaxy, sample), from the first ones."""
    rows = rho[:DIRECT].tolist()
    return {"seconds": seconds(lambda: information(rows, VOTES)) * len(rho) / len(rows)}


def difference(backend, rho: np.ndarray) -> dict:
    """How far, at most, `backend` is from plain Python."""
    some = rho[:DIRECT].astype(np.float64)
    errors = np.array(information(some.tolist(), VOTES)) - score(backend, some)
    return {"nats": float(np.abs(errors).max())}


def information(rho: list[list[float]], votes: int) -> list[float]:
    """H[p(k)] - mean H[p(k | rho)] in nats of each galaxy's samples, as the formula says it (W+20, equation 9)."""
    ways = [math.comb(votes, k) for k in range(votes + 1)]
    found = []
    for samples in rho:
        mixed, within = [0.0] * (votes + 1), 0.0
        for yes in samples:
            for k in range(votes + 1):
                chance = ways[k] * yes**k * (1 - yes) ** (votes - k)
                mixed[k] += chance / len(samples)
                if chance > 0:
                    within -= chance * math.log(chance) / len(samples)
        whole = -sum(chance * math.log(chance) for chance in mixed if chance > 0)
        found.append(whole - within)
    return found


def network(backend, run: RunSpec) -> dict:
    """Seconds, by image size, that GALAXIES galaxies take from images to samples; the first call is not among them."""
    found, random = {}, np.random.default_rng(run.seed)
    for size, count in NETWORK.items():
        sized = replace(run, model=replace(run.model, image_size=size))
        pixels = random.integers(0, 256, (count, SIZE, SIZE, 1), np.uint8)
        images = Cutouts(pixels, reduction(sized, SIZE))
        state = backend.init(sized, first_checkpoint(sized.model, run.seed))
        hashes = galaxy_hash([f"noise-{number}" for number in range(count)])
        sample = partial(sample_galaxies, backend, sized, state, images)
        sample(np.arange(count)[: run.backend.chunk], hashes[: run.backend.chunk], SAMPLES)
        spent = seconds(partial(sample, np.arange(count), hashes, SAMPLES))
        found[size] = spent * GALAXIES / count
    return found


def batch(backend, rho: np.ndarray) -> dict:
    """One greedy step of BatchBALD for `rho` (galaxy, sample), once compiled."""
    random = np.random.default_rng(0)
    posterior = random.dirichlet(np.ones(rho.shape[1]), STATES)
    states = States(np.full(STATES, 1 / STATES), posterior)

    def step():
        return backend.acquire("batch_mutual_information", rho, VOTES, states=states)

    step()
    return {"seconds": seconds(step)}


def epig(backend, rho: np.ndarray) -> dict:
    """EPIG of the first POOL galaxies of `rho` (galaxy, sample) for all counts of the last TARGETS, once compiled."""
    states = target_states(rho[-TARGETS:])

    def step():
        return backend.acquire("epig", rho[:POOL], VOTES, states=states)

    backend.acquire("epig", rho[: POOL // 8], VOTES, states=states)
    return {"seconds": seconds(step)}


def walks(backend) -> dict:
    """Seconds, by number of samples, that walk_information of GALAXIES galaxies takes once compiled, and the memory."""
    dataset = from_config(RunSpec, compose([f"dataset={TREE}", "dataset.images=."])).dataset
    through, found, before = walks_of(dataset.questions, dataset.leads), {}, None
    for samples, count in WALKS.items():
        random = np.random.default_rng(0)
        parts = [
            random.dirichlet(np.ones(len(some)), (BLOCK, samples)).astype(np.float32)
            for some in dataset.questions.values()
        ]
        fractions = np.concatenate(parts, -1)
        backend.walk_information(fractions, through)
        before = most() if before is None else before
        spent = seconds(
            lambda block=fractions, times=count // BLOCK: [
                backend.walk_information(block, through) for _ in range(times)
            ]
        )
        found[str(samples)] = spent * GALAXIES / count
    return {"seconds": found, "bytes": most() - before}


def target_states(targets: np.ndarray) -> States:
    """What each count of each of `targets` (galaxy, sample) would say, by Bayes' theorem."""
    given = np.exp(log_votes(targets, VOTES)).transpose(0, 2, 1).reshape(-1, targets.shape[1])
    likely = given.mean(1)
    return States(likely / len(targets), given / (likely[:, None] * targets.shape[1]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
