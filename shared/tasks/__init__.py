"""One file per task: what `trizoo TASK` does, in a process of its own. Here: what the command line knows of each."""

from typing import NamedTuple

from shared.run.spec import COMPANION, TABLE_COLUMNS, TABLE_FORMATS


class Task(NamedTuple):
    """A task of the command line."""

    help: str
    module: str  # which has a function of the task's name: (run, folder) -> what its record keeps
    leaves: tuple[
        str, ...
    ] = ()  # its files in the run's folder, which again=true removes; a user's have other names
    needs_fit: bool = False  # its network, view of a galaxy and question are those of the weights that it is given
    inherits: tuple[
        str, ...
    ] = ()  # what else it takes from there, unless the command line names it
    draws: str = ""  # a module whose draw(folder, settings, results) adds pictures to what is left
    writes: bool = True  # into a folder of its own; the others only print
    cached: bool = True  # not done twice; the others are quick where nothing changed, and their sources may have


POSTERIOR_FILES = tuple(  # the posterior table in each format
    f"{stem}{ending}"
    for stem in TABLE_COLUMNS.values()
    for ending in (*TABLE_FORMATS.values(), COMPANION)
)
NETWORK_FILES = (  # of a network whose training has ended
    "weights.safetensors",
    "laplace.safetensors",
    "split.parquet",
    *POSTERIOR_FILES,
)
VOTES_FILE = "votes.parquet"  # the votes that active learning has learned from
ROUNDS = "rounds.json"  # of active: the rounds so far
TASKS = {
    "inspect": Task(
        "say what images and a table hold, and the command to go on with",
        "shared.tasks.inspect",
        writes=False,
        cached=False,
    ),
    "prepare": Task("read images and votes into a store", "shared.tasks.prepare", cached=False),
    "fit": Task(
        "train the network, then write every galaxy's posterior",
        "shared.tasks.fit",
        (
            "checkpoint.safetensors",
            "best.safetensors",
            "losses.parquet",
            *NETWORK_FILES,
        ),
    ),
    "predict": Task(
        "write the posterior of other galaxies with the weights of a fit",
        "shared.tasks.predict",
        POSTERIOR_FILES,
        needs_fit=True,
        inherits=("posterior.method", "posterior.samples"),
    ),
    "gather": Task(
        "make one catalogue of the parts of a prediction",
        "shared.tasks.gather",
        ("posterior.parquet", "posterior_hats"),
    ),
    "catalogue": Task(
        "write the table of a finished fit or predict in other formats",
        "shared.tasks.catalogue",
        POSTERIOR_FILES,
    ),
    "calibrate": Task(
        "say whether a fit's posterior is honest, and mend what can be mended afterwards",
        "shared.tasks.calibrate",
        (
            *("calibration.json", "calibration.csv", "recalibration.json"),
            *("pit.svg", "coverage.svg", "fractions.svg", "reliability.svg"),
        ),
        needs_fit=True,
        inherits=("dataset", "split", "minimum_votes", "training", "posterior", "seed"),
        draws="reports.calibration_pictures",
    ),
    "active": Task(
        "train, label the galaxies that teach most, repeat",
        "shared.tasks.active",
        ("checkpoint.safetensors", ROUNDS, "ask_next.csv", *NETWORK_FILES, VOTES_FILE),
    ),
    "votes": Task(
        "count what volunteers said, in a run or any Zooniverse export: a table of votes",
        "shared.tasks.votes",
        ("votes.csv",),
        cached=False,
    ),
    "label": Task(
        "serve a page on which people label the galaxies that teach most",
        "shared.tasks.label",
        (
            *("votes.csv", "weights.safetensors", "laplace.safetensors"),
            *POSTERIOR_FILES,
        ),
        cached=False,
    ),
    "bench": Task("time training, prediction and posterior sampling", "benchmarks.bench"),
    "conform": Task(
        "check a framework, or another program's answers, against the specification",
        "shared.tasks.conform",
    ),
    "kit": Task(
        "write the conformance kit: what a port in any language must give", "shared.tasks.kit"
    ),
    "export": Task(
        "write the network of a fit as ONNX, or as its framework's own file, or its encoder for timm",
        "shared.tasks.export",
        (
            *("rho.onnx", "features.onnx", "head.onnx"),
            *("network.pt2", "network.keras", "network.jaxexp", "encoder_timm"),
        ),
        needs_fit=True,
        inherits=("dataset",),
    ),
    "match": Task(
        "find the same galaxies in two stores, by position",
        "shared.tasks.match",
        ("matches.parquet", "matches.csv"),
        cached=False,
    ),
    "show": Task(
        "draw a dataset's questions, and which answers lead to which",
        "shared.tasks.show",
        ("schema.svg", "schema.mmd"),
        cached=False,
    ),
    "report": Task("make the report of all runs under outputs", "reports.report", cached=False),
}
