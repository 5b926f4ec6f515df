"""The numbers in README.md and docs/, from the committed records: `python -m reports.readme` writes them.

A table stands between <!-- table NAME --> and <!-- end -->, with the machine and the records it comes from below it; a
text, which is a sentence or some code, between <!-- text NAME --> and <!-- end -->. A test holds every page equal to
what is made here.
"""

import ast
import json
import os
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import ttest_1samp

from reports import comparisons, pairs, row
from reports import conclusions as timed
from reports.charts import in_file
from reports.examples import PICTURE, picture
from reports.label_curves import curve_rows, mean_and_interval
from reports.pairs import holm
from reports.posteriors import HEADS, by_kind, cells
from reports.runs import TITLES, read_runs
from reports.savings import (
    BASELINE,
    MEASURES,
    Course,
    difference,
    difference_text,
    errors_text,
    paired,
    published,
    saving_text,
    savings,
    savings_figure,
    words,
)
from shared.run.spec import BACKENDS, TABLE_FORMATS

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "reports" / "records"
TRANSFER = RECORDS / "transfer.json"
TRANSFER_QUESTIONS = RECORDS / "transfer_questions.json"
PAIRS = RECORDS / "pairs.json"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def real() -> list[list[str]]:
    """How well each framework tells smooth from featured on real galaxies it has not seen."""
    rows = [
        ["", "seeds", "area under the ROC curve", "NLL (nats)", "accuracy", "training images/s"]
    ]
    for name in BACKENDS:
        runs = [run for run in read_runs(RECORDS / "sdss_gz1") if run.backend == name]
        tests = [run.at("results.test") for run in runs]
        measures = [
            mean_and_interval([test[key] for test in tests])
            for key in ("auc", "log_score", "accuracy")
        ]
        speed = np.median([run.at("results.images_per_second") for run in runs])
        rows.append([TITLES[name], str(len(runs)), *measures, f"{speed:.0f}"])
    return rows


def agreement() -> list[list[str]]:
    """How far apart the posteriors of two frameworks are, trained separately from the same seed."""
    pairs = json.loads((RECORDS / "sdss_gz1" / "agreement.json").read_text())["pairs"]
    rows = [["", "median difference", "largest", "rank correlation", "same majority"]]
    for names in sorted({tuple(pair["backends"]) for pair in pairs}):
        some = [pair for pair in pairs if tuple(pair["backends"]) == names]
        rows.append(
            [
                " and ".join(TITLES[name] for name in names),
                f"{np.mean([pair['mean: median |difference|'] for pair in some]):.3f}",
                f"{np.max([pair['mean: largest |difference|'] for pair in some]):.2f}",
                f"{np.mean([pair['rank correlation'] for pair in some]):.3f}",
                f"{np.mean([pair['same majority (%)'] for pair in some]):.1f} %",
            ]
        )
    return rows


LABELS = {  # each check of the conformance suite, by its name in records: its name in words, and what it compares
    "random_bits": ("random bits", "Threefry's output for one key and for many"),
    "masks": ("dropout masks", "those of training and of posterior samples, at three rates"),
    "batches": ("batches", "which galaxies, votes and augmentations, read back from the device"),
    "augmented_images": (
        "augmented images",
        "what the network sees, after one bilinear resampling",
    ),
    "augmented_images_as_w20": (
        "augmented images, as W+20",
        "the same with two resamplings and black corners",
    ),
    "layers": ("layers", "the activation of every layer; the worst layer"),
    "features": ("features", "the output of the dense layer"),
    "probabilities": ("probabilities", "vote fractions from given features under given masks"),
    "likelihood": ("log-likelihood", "of ordinary and extreme votes and logits"),
    "multinomial": ("multinomial", "log-likelihood of votes on whole questions"),
    "dirichlet_multinomial": ("Dirichlet-multinomial", "the same, concentrations exp(logits)"),
    "dirichlet_multinomial_sigmoid": (
        "Dirichlet-multinomial, sigmoid",
        "the same, concentrations 1 + 100 sigmoid(logits)",
    ),
    "gradient_of_votes": ("gradient of votes", "of these three by every logit"),
    "loss": ("loss", "the mean over a few batches, before training"),
    "gradient": ("gradient", "of the loss by every weight; the worst array"),
    "tied_gradient": ("gradient at ties", "the same, where max-pools have ties"),
    "training": ("training", "weights and moments after 4 steps of Adam, in one shard and in two"),
    "fine_tuning": (
        "fine-tuning",
        "the same of AdamW: last blocks, rates by layer, warm-up, clipped gradients",
    ),
    "long_training": ("long training", "the same after 200 steps"),
    "samples": ("posterior samples", "of several chunks of galaxies, from given weights"),
    "batch_invariance": (
        "other galaxies beside",
        "a galaxy's samples beside some and beside other galaxies",
    ),
    "place_invariance": (
        "place in a chunk",
        "the same at other places of a chunk, and in chunks of other sizes",
    ),
    "mutual_information": (
        "mutual information",
        "of votes and network, for one number of votes and for many",
    ),
    "entropy": ("predictive entropy", "of the votes"),
    "batch_mutual_information": ("BatchBALD", "what votes tell once others have come in"),
    "epig": ("EPIG", "what votes tell about other galaxies' votes"),
    "dirichlet_information": (
        "information, 3 answers",
        "mutual information of votes on a question of three answers",
    ),
    "walk_information": (
        "information, a walk",
        "mutual information of a volunteer's answers to a whole tree of questions",
    ),
    "nearest": ("nearest centre", "distances, for k-centre"),
    "top_galaxies": ("top 128", "the galaxies of highest mutual information"),
}


def conformance() -> list[list[str]]:
    """The error of each check in each framework and precision, against the specification."""
    found = suites()
    rows = [["check", *(f"{TITLES[name]}, {precision}" for name, precision in found)]]
    for name in dict.fromkeys(check for suite in found.values() for check in suite):
        title, _ = LABELS.get(name, (name.replace("_", " "), ""))
        rows.append([title, *(shown(name, suite.get(name)) for suite in found.values())])
    return rows


def checks() -> str:
    """What each check compares."""
    return markdown([["check", "compares"], *map(list, LABELS.values())])


def conforms() -> str:
    """What the conformance suite found, in one sentence."""
    entries: dict[str, list[dict]] = {}
    for (_, precision), suite in suites().items():
        entries.setdefault(precision, []).extend(suite.values())
    passed, worst = {}, {"training": 0.0, "other": 0.0}
    for precision, some in entries.items():
        held = [
            one for one in some if one["tolerance"] is not None
        ]  # float32 training has no tolerance
        passed[precision] = f"{sum(one['verdict'] == 'ok' for one in held)} of {len(held)}"
    for one in entries["float64"]:
        if one["tolerance"] != 0:
            kind = "training" if "tuning" in one["check"] or "training" in one["check"] else "other"
            worst[kind] = max(worst[kind], one["error"])
    return (
        f"Each framework is compared with a specification in float64 numpy: {passed['float64']} checks pass in "
        f"float64 (largest relative error {worst['other']:.0e}; after up to 200 steps of training "
        f"{worst['training']:.0e}) and {passed['float32']} in float32, on {machines('conformance/conform')[0]}. "
        "[Every check](docs/conformance.md)."
    )


def speeds() -> str:
    """How fast the three train, on a CPU and on a GPU, in one sentence."""
    cpu = timed.newest(RECORDS / "speed")[0]
    here = ", ".join(
        f"{TITLES[name]} {cpu.row('train', 64, name)['images_per_second']:.0f}" for name in BACKENDS
    )
    heads, *rows = timed.gpu(RECORDS / "speed")
    there = [dict(zip(heads, row, strict=True)) for row in rows]
    card = ", ".join(
        f"{row['']} {row['training'].split()[0]}"
        for row in there
        if row["precision"] == "tf32" and row["training"] and row[""] in TITLES.values()
    )
    return (
        f"Training images a second, W+20's network, batches of 128: {here} at 64 pixels in float32 on "
        f"{machines('speed/fourth')[0]}; {card} at 128 pixels in TF32 on one {there[0]['device']} (TensorFlow was not "
        "run there). [Benchmarks](docs/benchmarks.md), [on a GPU](docs/gpu.md)."
    )


def suites() -> dict[tuple[str, str], dict[str, dict]]:
    """The entries of the conformance suite by (backend, precision), float64 first, and by check."""
    found = {
        (run.backend, run.at("run.backend.precision")): {
            entry["check"]: entry for entry in run.at("results.checks")
        }
        for run in read_runs(RECORDS / "conformance")
    }
    order = [(name, p) for p in ("float64", "float32") for name in BACKENDS if (name, p) in found]
    return {key: found[key] for key in order}


SHOWN = ("multinomial",)  # functions of impl_*/likelihood.py


def likelihoods() -> str:
    """A likelihood in each framework, from its source without docstrings, as ruff formats it."""
    parts = []
    for name in BACKENDS:
        tree = ast.parse((ROOT / f"impl_{name}" / "likelihood.py").read_text())
        functions = [
            node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in SHOWN
        ]
        for function in functions:
            function.body = [line for line in function.body if not docstring(line)]
        used = {
            node.id for one in functions for node in ast.walk(one) if isinstance(node, ast.Name)
        }
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in imports:
            node.names = [one for one in node.names if (one.asname or one.name) in used]
        heads = "\n".join(ast.unparse(node) for node in imports if node.names)
        code = "\n\n\n".join([heads, *map(ast.unparse, functions)])
        parts.append(f"# {TITLES[name]}: impl_{name}/likelihood.py\n{code}")
    return "```python\n" + "\n\n\n".join(parts) + "\n```"


def docstring(node: ast.stmt) -> bool:
    """Whether a statement is a text and nothing else."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def row_of_questions() -> list[list[str]]:
    """What one row of a tree's table says of each question."""
    return row.of_questions(RECORDS / "trees")


def row_of_answers() -> list[list[str]]:
    """What it says of each answer, beside what volunteers said and the truth."""
    return row.of_answers(RECORDS / "trees")


def row_in_words() -> str:
    """The row, column by column."""
    return row.in_words(RECORDS / "trees")


def tree_honesty() -> str:
    """What the fit of that row was, and whether its intervals are honest."""
    return row.honesty(RECORDS / "trees")


def tree_questions() -> list[list[str]]:
    """How well, and how honestly, `experiment=tree` predicts each question: `trizoo fit experiment=tree`."""
    (run,) = read_runs(RECORDS / "trees_full" / "fit")
    rows = [
        [
            "question",
            "galaxies",
            "accuracy where half were asked",
            "mean error of fractions",
            "of as many volunteers",
            "worth volunteers",
            "90 % intervals hold",
        ]
    ]
    for question, one in run.at("results.test.tree.questions").items():
        sure, worth = one["accuracy"]["all"], one["equal_volunteers"]
        rows.append(
            [
                f"`{question}`",
                f"{one['galaxies']:,}",
                f"{100 * sure['accuracy']:.0f} %" if sure["galaxies"] else "",
                f"{one['mae']:.3f}",
                f"{one['volunteers_mae']:.3f}",
                f"{worth['volunteers']:.1f}" if worth else "",
                f"{100 * one['truth']['observed']:.1f} %",
            ]
        )
    return rows


def tree_savings() -> list[list[str]]:
    """Acquisition functions beside random galaxies, on a whole tree: `experiment=labels_saved_tree`, last rounds."""
    (named,) = published(RECORDS / "trees_saved" / "labels_saved.json")
    random = {one.seed: one for one in named[BASELINE]}
    heads = (
        "NLL of all questions (nats)",
        "less than with random galaxies",
        "RMSE of the first",
        "less",
    )
    rows = [["`acquisition=`", "seeds", "labelled", *heads]]
    for name, runs in named.items():
        cells = []
        for measure, digits in (("tree_nll", 2), ("rmse", 3)):
            last = [one.measures[measure][-1] for one in runs]
            less = [
                random[one.seed].measures[measure][-1] - at
                for one, at in zip(runs, last, strict=True)
            ]
            middle, low, high = difference(less)
            interval = f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
            cells += [f"{sum(last) / len(last):.{digits}f}", "" if name == BASELINE else interval]
        rows.append([f"`{name}`", str(len(runs)), str(runs[0].labelled[-1]), *cells])
    return rows


def ports() -> list[list[str]]:
    """How the port in C did with the kit: the worst error of each group of arrays, and its tolerance."""
    rows = [["check", "arrays", "largest error", "tolerance"]]
    (run,) = read_runs(RECORDS / "kit" / "conform")
    by_check: dict[str, list[dict]] = {}
    for array in run.at("results.arrays"):
        by_check.setdefault(array["check"], []).append(array)
    for check, arrays in by_check.items():
        good = [array for array in arrays if array["verdict"] == "ok"]
        worst = max(good, key=lambda array: array["error"])
        cell = "equal" if worst["tolerance"] == 0 or not worst["error"] else f"{worst['error']:.0e}"
        tolerance = "equal" if worst["tolerance"] == 0 else f"{worst['tolerance']:.0e}"
        name = check.partition("_")[2]
        rows.append([name, f"{len(good)} of {len(arrays)}", cell, tolerance])
    return rows


def divergence() -> list[list[str]]:
    """How fast float32 trainings diverge: two frameworks, and one from itself; medians over seeds."""
    found = json.loads((RECORDS / "conformance" / "trajectories.json").read_text())
    steps = [str(step) for step in found["steps"]]
    rows = [["after steps", *steps]]
    for name, values in found["median"].items():
        if "control" not in name:
            one, _, kind = name.partition(" ")
            pair = " and ".join(TITLES[part] for part in one.split("-"))
            kinds = {
                "ulp": ", first weights moved by 1 ulp",
                "permuted": ", rows of batches permuted",
            }
            rows.append([pair + kinds.get(kind, ""), *(f"{values[step]:.0e}" for step in steps)])
    return rows


def equivalence() -> list[list[str]]:
    """Whether training in float32 gives equally good networks: the paired test of benchmarks.equivalence."""
    found = json.loads((RECORDS / "conformance" / "equivalence.json").read_text())
    rows = [["", "mean difference (nats)", "90 % interval", "within the margin"]]
    for name, pair in found["pairs"].items():
        low, high = pair["interval"]
        rows.append(
            [
                " and ".join(TITLES[part] for part in name.split("-")),
                f"{pair['mean']:+.3f}",
                f"{low:+.3f} to {high:+.3f}",
                "yes" if pair["equivalent"] else "not shown",
            ]
        )
    return rows


def shown(name: str, entry: dict | None) -> str:
    """The cell of a check; empty where it was not run."""
    if entry is None:
        return ""
    if entry["tolerance"] == 0:
        return "equal" if entry["error"] == 0 else f"{entry['error']:.0f} differ"
    return f"{entry['error']:.0e}" if entry["error"] else "0"


def training() -> list[list[str]]:
    """How fast every program trains."""
    return timed.training(RECORDS / "speed")


def parts() -> list[list[str]]:
    """How fast the parts of a run are."""
    return timed.parts(RECORDS / "speed")


def conclusions() -> list[list[str]]:
    """What is concluded from the timings."""
    return timed.conclusions(RECORDS / "speed")


def samples() -> list[list[str]]:
    """How fast posteriors of few and of many samples are."""
    return timed.samples(RECORDS / "speed")


def ways() -> list[list[str]]:
    """What compiling changes in speed, first call and memory."""
    return timed.ways(RECORDS / "speed")


def gpu() -> list[list[str]]:
    """How fast programs are on a GPU."""
    return timed.gpu(RECORDS / "speed")


def kills() -> list[list[str]]:
    """Whether interrupted runs end with the same files: `python -m benchmarks.kills`."""
    rows = [["task", "framework", "kills", "disk errors", "power cuts", "final files"]]
    found = json.loads((RECORDS / "kills" / "kills.json").read_text())["runs"]
    sums = {}
    for one in found:
        key = one["task"], TITLES.get(one["backend"], "")
        sums.setdefault(key, []).append(one)
    for (task, title), some in sums.items():
        counts = [str(sum(one[kind] for one in some)) for kind in ("kills", "errors", "cuts")]
        right = all(one["right"] for one in some)
        rows.append([task, title, *counts, "identical" if right else "different"])
    return rows


POSTERIORS, OTHERS = (RECORDS / name for name in ("posteriors.json", "posteriors_other.json"))


def posteriors() -> list[list[str]]:
    """Posteriors side by side, on test galaxies: `experiment=posteriors`."""
    rows = []
    for (labels, members, method), some in by_kind(POSTERIORS, "labels", "members", "method"):
        costs = [[run[f"{part}_seconds"] for run in some] for part in ("train", "sample")]
        name = f"`{method}`" + (f", {members} members" if members > 1 else "")
        rows.append(
            [f"{labels:,}", name, *cells(some), *(f"{np.median(cost):.0f}" for cost in costs)]
        )
    return [["labels", "posterior", *HEADS, "training (s)", "prediction (s)"], *rows]


def posteriors_other() -> list[list[str]]:
    """The same with 512 labels in other frameworks, of another question, and with other concentrations."""
    keys = ("question", "backend", "concentrations", "rate", "method")
    rows = [
        [question, TITLES[backend], f"`{form}`", f"{rate:g}", f"`{method}`", *cells(some)]
        for (question, backend, form, rate, method), some in by_kind(OTHERS, *keys)
    ]
    return [["question", "framework", "concentrations", "rate", "posterior", *HEADS], *rows]


def honest() -> str:
    """How often intervals hold what they say, of the default and of W+20's method, in a few sentences."""
    found = json.loads((RECORDS / "calibration.json").read_text())
    (few, many), real = held_by_default(), found["gz2_votes_32px"]["seeds"]
    theirs = found["runs"]["binomial"]["as_fitted"]
    truth = next(share for level, _, share in theirs["truth"]["levels"] if level == 0.9)
    on_real = 100 * np.mean([seed["laplace"]["votes_in_90"] for seed in real])
    return (
        f"On synthetic galaxies its 90 % intervals hold {few} of the true vote fractions after 64 labels and {many} "
        f"after 4,096; on 500 real galaxies they hold {on_real:.0f} % of the votes. Those of W+20's own method, "
        f"binomial votes and dropout, hold {100 * truth:.0f} % of the fractions. [More](docs/calibration.md)."
    )


def held_by_default() -> list[str]:
    """The true fractions in 90 % intervals of the default posterior, with 64 labels and with 4,096."""
    found = dict(by_kind(POSTERIORS, "labels", "members", "method"))
    shares = [[run["truth"] for run in found[labels, 1, "laplace"]] for labels in (64, 4096)]
    return [f"{100 * np.mean(some):.0f} %" for some in shares]


def real_today() -> str:
    """How well today's defaults do on real galaxies, in a sentence."""
    ((_, runs),) = by_kind(RECORDS / "sdss_today.json")
    auc, nll = (mean_and_interval([run[key] for run in runs]) for key in ("auc", "nll"))
    return (
        f"This is W+20's method; today's defaults, at 32 pixels, reach an area of {auc} and an NLL of {nll} "
        f"({len(runs)} seeds, PyTorch, `experiment=sdss_today`)."
    )


def posterior_cost() -> str:
    """What last layers cost, in a sentence."""
    (runs,) = by_kind(POSTERIORS)
    shares = [
        run["laplace_seconds"] / run["train_seconds"] for run in runs[1] if run["laplace_seconds"]
    ]
    return f"Last layers took {100 * max(shares):.0f} % of the time of training at most."


def w20_recalibrated() -> list[list[str]]:
    """W+20's own posteriors of smooth galaxies, as stored and recalibrated: `python -m benchmarks.calibration`."""
    found = json.loads((RECORDS / "calibration.json").read_text())["w20_posteriors"]
    least, most = min(found["concentrations"]), max(found["concentrations"])
    rows = [["posterior", "coverage error to 0.2", "at 0.2", "intervals said to hold 90 %", "hold"]]
    for side, name in (
        ("as_stored", "as stored"),
        ("recalibrated", f"with a concentration of {least:.0f} to {most:.0f}"),
    ):
        one = found[side]
        ends = one["interval"]
        rows.append(
            [
                name,
                f"{100 * one['error']:.1f} %",
                f"{100 * one['error_within']:.1f} %",
                f"± {ends['width']} votes, {100 * ends['predicted']:.1f} % predicted",
                f"{100 * ends['observed']:.1f} %",
            ]
        )
    one = found["conformal"]
    widths = " or ".join(map(str, sorted(set(one["widths"]))))
    rows.append(["conformal", "", "", f"± {widths} votes", f"{100 * one['observed']:.1f} %"])
    return rows


def gz2_real() -> list[list[str]]:
    """NLL and coverage on 500 galaxies of Galaxy Zoo 2, each tried by networks that never saw it."""
    seeds = json.loads((RECORDS / "calibration.json").read_text())["gz2_votes_32px"]["seeds"]
    rows = [["posterior", "NLL", "below the constant", "votes in 90 % intervals"]]
    for name in seeds[0]:
        some = [seed[name] for seed in seeds]
        told = name != "constant"
        rows.append(
            [
                f"`{name}`" if told else "a constant that never looks at an image",
                mean_and_interval([one["nll"] for one in some]),
                mean_and_interval([one["gain"]["mean"] for one in some]) if told else "",
                f"{100 * np.mean([one['votes_in_90'] for one in some]):.1f} %" if told else "",
            ]
        )
    return rows


def coverage_by_thirds() -> list[list[str]]:
    """How often 90 % intervals of votes hold, by the true fraction, of runs of calibrate."""
    runs = json.loads((RECORDS / "calibration.json").read_text())["runs"]
    rows = [["posterior", "intervals", "all", "true fraction below 1/3", "between", "above 2/3"]]
    for run in runs.values():
        name = f"`{run['likelihood']}`, `{run['method']}`"
        scale = run["recalibration"]["scale"]
        after = f"recalibrated ({scale:.2g})"
        told = (
            ("as fitted", run["as_fitted"], 3),
            (after, run["recalibrated"], 3),
            (f"{after}, conformal", run["recalibrated"], 4),
        )
        for intervals, one, place in told:
            whole = one["conformal"] if place == 4 else dict(one["votes"])[0.9]
            shares = [whole, *(third[place] for third in one["truth"]["thirds"])]
            rows.append([name, intervals, *(f"{100 * share:.1f} %" for share in shares)])
    return rows


def survey_cost() -> list[list[str]]:
    """What scoring a survey costs, against plain Python and against the network: `python -m benchmarks.acquisition`."""
    found = json.loads((RECORDS / "acquisition.json").read_text())
    heads = ("plain Python takes", "sampling takes", "memory", "a step of BatchBALD", "of EPIG")
    heads += ("walks, 15 samples", "walks, 100")
    rows = [["", "scoring", *heads]]
    for name in BACKENDS:
        one = found["frameworks"][name]
        network = [
            f"{1 / share:.0f} x at {size} px"
            for size, share in one["acquisition_over_network"].items()
        ]
        rows.append(
            [
                TITLES[name],
                f"{one['acquisition_seconds']:.2f} s",
                f"{one['direct_over_acquisition']:.0f} x",
                ", ".join(network),
                f"{one['memory_bytes'] / 2**20:.0f} MB",
                f"{one['batch_seconds']:.2f} s",
                f"{one['epig_seconds']:.2f} s",
                *(f"{spent:.1f} s" for spent in one["walks_seconds"].values()),
            ]
        )
    return rows


def networks() -> list[list[str]]:
    """How fast networks train, beside other libraries' modules of the same: `python -m benchmarks.networks`."""
    found = json.loads((RECORDS / "networks" / "networks.json").read_text())["networks"]
    rows = {name: {row["program"]: row for row in part["rows"]} for name, part in found.items()}
    lines = [["", *(f"`{name}`" for name in found)]]
    for program in dict.fromkeys(name for some in rows.values() for name in some):
        lines.append(
            [
                comparisons.title(program),
                *(images_a_second(some, program) for some in rows.values()),
            ]
        )
    over = [[row["times"].get("jax", 0) for row in some.values()] for some in rows.values()]
    if any("jax" in some for some in rows.values()):
        cells = (f"{max(1, *times):.2f}" if any(times) else "" for times in over)
        lines.append(["the fastest over JAX", *cells])
    return lines


def frozen_features() -> list[list[str]]:
    """What a head on frozen features costs, beside training on images: `python -m benchmarks.features`."""
    found = json.loads((RECORDS / "features" / "features.json").read_text())
    galaxies, steps = f"{found['galaxies']:,} galaxies", f"{found['steps']:,} steps"
    named = {
        "features": f"features of {galaxies}, once",
        "head on features": f"{steps} of the head, on them",
        "head on images": f"{steps} of the head, the encoder run at every step",
        "all on images": f"{steps} of the whole network",
    }
    rows = [[what, _duration(found["seconds"][name]["processor"])] for name, what in named.items()]
    return [["", "one core"], *rows]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def images_a_second(rows: dict[str, dict], program: str) -> str:
    """The cell of a program: images a second and, of a peer, how many times as fast ours of its framework is."""
    row = rows.get(program)
    if row is None:
        return ""
    ours = rows.get(row["backend"]) if row["peer"] else None
    times = f" ({ours['times'][program]:.2f})" if ours else ""
    return f"{row['images_per_second']:.1f}{times}"


# What is published, from the surveys' papers and tables: rows, the size and kind of the images, where from, licence.
SURVEYS = {
    "gz2": ("Galaxy Zoo 2, Hart et al. 2016", 239_695, "424 px JPEG in a zip file", "not stated"),
    "gz2_sdss": ("the same, new cutouts", 239_695, "424 px JPEG, SDSS service", "not stated"),
    "gz2_hub": ("the same, from a dataset hub", None, "in Parquet files", "CC BY-NC-SA 4.0"),
    "gz2_kaggle": ("Kaggle challenge of 2014", 61_578, "424 px JPEG", "the challenge's rules"),
    "gz_hubble": ("Galaxy Zoo Hubble, Willett et al. 2017", 119_849, "424 px JPEG", "not stated"),
    "gz_candels": ("Galaxy Zoo CANDELS, Simmons et al. 2017", 49_555, "424 px JPEG", "not stated"),
    "gz_decals12": ("GZ DECaLS 1 and 2, Walmsley et al. 2022", None, "424 px PNG", "CC BY 4.0"),
    "gz_decals5": ("GZ DECaLS 5", None, "424 px PNG in four zip files", "CC BY 4.0"),
    "gz_decals5_legacy": ("the same, new cutouts", None, "grz FITS, Legacy Surveys", "not stated"),
    "gz_decals_auto": ("every galaxy of GZ DECaLS, no votes", 314_000, "424 px PNG", "CC BY 4.0"),
    "gz1": ("Galaxy Zoo 1, Lintott et al. 2011", 893_212, "your own", "not stated"),
    "sdss_gz1": ("SDSS galaxies with Galaxy Zoo 1 classes", 5_674, "423 px JPEG", "not stated"),
}


def surveys() -> list[list[str]]:
    """The surveys that have a configuration: how large each is, and what of it was tested."""
    real = {run.at("run.dataset.name"): run for run in read_runs(RECORDS / "surveys")}
    speed = stores_record()["images_per_second"]["prepare"]
    rows = [["`dataset=`", "survey", "rows", "images", "licence", "store", "minutes", "tested on"]]
    for name, (title, count, images, licence) in SURVEYS.items():
        size = "" if count is None else f"{count * 65536 / 1e9:.1f} GB"
        minutes = (count or 0) / speed / 60
        time = (
            ""
            if count is None or "service" in images
            else f"{minutes:.0f}"
            if minutes >= 1
            else "< 1"
        )
        run = real.get(name)
        here = f"{run.at('results.galaxies'):,} real galaxies" if run else "made-up rows"
        shown = "" if count is None else f"{count:,}"
        rows.append([f"`{name}`", title, shown, images, licence, size, time, here])
    return rows


def stores() -> list[list[str]]:
    """How fast images become a store."""
    found = stores_record()
    per_second = found["images_per_second"]
    names = {
        "decode": "Pillow: decoding only",
        "decode_and_reduce": "Pillow decodes and resizes, numpy averages the colours",
        "prepare": "`trizoo prepare`: reads the table, decodes, resizes, hashes, writes",
    }
    rows = [["", "images/s", "`prepare` takes, relative to it"]]
    for way, title in names.items():
        ratio = found["prepare_against"].get(way)
        rows.append([title, f"{per_second[way]:.0f}", "" if ratio is None else f"{ratio:.2f} x"])
    return rows


def stores_record() -> dict:
    """The record of `python -m benchmarks.stores`."""
    return json.loads((RECORDS / "stores.json").read_text())


POPULATIONS = {"plain": "`null`", "decals": "`decals`", "stripe82": "`stripe82`"}
SURVEYED = {"decals": "GZ DECaLS", "stripe82": "GZ2, Stripe 82"}


def populations() -> list[list[str]]:
    """The votes on smooth-or-featured of each population of synthetic galaxies, beside those of its survey."""
    found = population_record()
    places = ("0.05", "0.25", "0.5", "0.75", "0.95")
    head = [
        "galaxies",
        "votes",
        "artifacts",
        "answer",
        "mean",
        "std",
        *(f"{100 * float(place):.0f} %" for place in places),
    ]
    rows = [["`dataset.population`", *head]]
    for name, title in POPULATIONS.items():
        for own, kind in ((title, "synthetic"), (SURVEYED.get(name), "surveys")):
            one = found[kind].get(name)
            for answer, short in (
                ("smooth", "smooth"),
                ("featured-or-disk", "featured"),
                ("artifact", "artifact"),
            ):
                if one is None:
                    continue
                about = ["", "", "", ""]
                if answer == "smooth":
                    number, votes = one["galaxies"]["with enough votes"], one["votes"]
                    spread = f"{votes['mean']:.1f} ± {votes['std']:.1f}"
                    about = [own, f"{number:,}", spread, f"{100 * one['artifacts']:.1f} %"]
                shares = one[answer]
                numbers = (
                    shares["mean"],
                    shares["std"],
                    *(shares["quantiles"][place] for place in places),
                )
                rows.append([*about, short, *(f"{number:.2f}" for number in numbers)])
    return rows


def population_baselines() -> list[list[str]]:
    """What NLL is reached on each population without looking at images, and by whoever knows what they tell."""
    found = population_record()
    rows = [["`dataset.population`", "question", "galaxies", "uniform", "constant", "oracle"]]
    for name, title in POPULATIONS.items():
        for question, asked in (("smooth-or-featured", "smooth"), ("bar", "bar, 10 votes or more")):
            one = found["baselines"][name][question]
            numbers = (f"{one[key]:.2f}" for key in ("uniform", "constant", "oracle"))
            rows.append([title, asked, f"{one['galaxies']:,}", *numbers])
    return rows


def population_match() -> str:
    """How near the fractions are to the surveys', in a sentence."""
    found = population_record()["rms_of_quantiles"]
    return (
        "Over all three answers and all quantiles from 2 to 98 % they differ from the survey's by "
        f"{found['decals']:.3f} (GZ DECaLS) and {found['stripe82']:.3f} (Stripe 82), root mean square."
    )


def population_scatter() -> str:
    """Where the concentration of crowds comes from, in a few sentences."""
    found = population_record()["scatter"]
    w20, twins = found["w20"], found["twins"]
    return (
        "Two crowds who were shown the same image differ as independent volunteers do: of the "
        f"{twins['pairs']} galaxies that GZ DECaLS showed twice, two volunteers' answers have a correlation of "
        f"{twins['correlation']:.3f} ± {twins['standard_error']:.3f} beyond the galaxy's own fraction. What scatters "
        "is what a network cannot tell from the image. W+20's own posterior expects a mean square error of the vote "
        f"fraction of {w20['predicted']:.4f}, and has {w20['mean_square_error']:.4f}. If the variance of its samples "
        f"is right and the rest scatter, two volunteers' answers have the correlation {w20['least']:.3f}; if all is "
        f"scatter, {w20['most']:.3f}. Of a Dirichlet it is 1 / (1 + concentration): the concentration is "
        f"{1 / w20['least'] - 1:.0f} to {1 / w20['most'] - 1:.0f}."
    )


def population_others() -> str:
    """What is not matched, in a sentence."""
    found = population_record()["others"]
    names = {"bar": "bars", "disk-edge-on": "edge-on discs", "has-spiral-arms": "spiral arms"}
    words = [
        f"{name} {found[key]['synthetic']:.2f} (survey {found[key]['survey']:.2f})"
        for key, name in names.items()
    ]
    return f"On Stripe 82's other questions mean fractions of 10 votes or more are: {', '.join(words)}."


def population_record() -> dict:
    """The record of `python -m benchmarks.population`."""
    return json.loads((RECORDS / "population.json").read_text())


def formats() -> list[list[str]]:
    """What the formats of a posterior table cost, of as many galaxies as the record of benchmarks.files has."""
    found = json.loads((RECORDS / "files.json").read_text())
    size = f"{found['rows']:,} galaxies, {found['columns']} columns"
    rows = [["`posterior.format`", "file", "for", size, "written", "read"]]
    for name, (programs, reader) in OPENED_BY.items():
        cost = found["formats"][name]
        spent = {way: f"{cost[way]['processor_seconds']:.1f} s" for way in cost if way != "bytes"}
        read = f"{spent['read']}, {reader}" if "read" in spent else ""
        file, size = f"`posterior{TABLE_FORMATS[name]}`", f"{cost['bytes'] / 1e6:.0f} MB"
        rows.append([f"`{name}`", file, programs, size, spent["write"], read])
    return rows


OPENED_BY = {  # a format -> what opens it, and what read it in the record
    "parquet": ("pandas, Polars, DuckDB, recent TOPCAT", "pandas"),
    "fits": ("TOPCAT, STILTS, astropy, nearly everything", "astropy"),
    "votable": ("TOPCAT, Aladin, services of the Virtual Observatory", "astropy"),
    "csv": ("spreadsheets", "pandas"),
    "hats": ("LSDB: catalogues too large for memory, and matching them", "pyarrow"),
    "moc": ("Aladin: where on the sky the galaxies are", ""),
}
QUESTIONS = {  # what was asked, in words, in the order of the page
    ("synthetic", "smooth-or-featured"): "synthetic: smooth",
    ("synthetic", "bar"): "synthetic: bar",
    ("sdss_gz1", "smooth-or-featured"): "SDSS: smooth",
    ("sdss_gz1_edge_on", "disk-edge-on"): "SDSS: edge-on",
    ("sdss_gz1_spiral", "face-on-spiral"): "SDSS: face-on spiral",
}
SAVINGS, FIGURE = RECORDS / "labels_saved.json", ROOT / "reports" / "labels_saved.svg"


def labels_saved() -> list[list[str]]:
    """Labels that each acquisition saved against random acquisition, at errors along the latter's fall."""
    heads = ("question", "labels", "measure", "random acquisition, first to last")
    ends = ("labels saved half-way", "at 3/4", "at its last error", "difference at the end")
    rows = [[*heads, *ends]]
    for title, named in questions().items():
        for name, runs in named.items():
            for measure, what in MEASURES.items() if name != BASELINE else ():
                pair = paired(named[BASELINE], runs, measure)
                if pair is None:
                    continue
                labels = f"{pair.labels[0]:.0f} to {pair.labels[-1]:.0f}"
                cells = [saving_text(saving) for saving in savings(pair, (0.5, 0.75, 1))]
                last = difference_text(pair.other[:, -1] - pair.random[:, -1], 3)
                asked = title if len(named) == 2 else f"{title}, {words(name)}"
                rows.append(
                    [
                        asked,
                        labels,
                        what,
                        errors_text(pair.random),
                        *(cells or ["no fall"] * 3),
                        last,
                    ]
                )
    return rows


def labels_saved_tested() -> str:
    """Whether the question on which most is saved stands out of all of them, in a sentence."""
    chances: dict[str, dict[str, float]] = {"log_score": {}, "rmse": {}}
    gain = {}
    for title, named in questions().items():
        for measure, found in chances.items():
            pair = paired(named[BASELINE], named["mutual_information"], measure)
            last = pair.other[:, -1] - pair.random[:, -1]
            found[title], gain[title] = float(ttest_1samp(last, 0).pvalue), float(last.mean())
    best = min((title for title in gain if gain[title] < 0), key=chances["log_score"].get)
    corrected = {
        measure: dict(zip(found, holm([*found.values()]), strict=True))[best]
        for measure, found in chances.items()
    }
    return (
        f"No primary endpoint had been declared. Corrected for {len(chances['rmse'])} questions (Holm 1979), the "
        f"difference at the end on {best} has p = {corrected['log_score']:.3f} in NLL and "
        f"p = {corrected['rmse']:.3f} in RMSE."
    )


def equivalence_corrected() -> str:
    """What three tests with one margin leave of the last, in a sentence."""
    found = json.loads((RECORDS / "conformance" / "equivalence.json").read_text())
    largest = max(pair["p"] for pair in found["pairs"].values())
    return f"Times three, for three tests, the largest p value of a pair is {3 * largest:.3f}."


def pool_estimates() -> list[list[str]]:
    """How well the galaxies that mutual information chose stand for the pool: mean NLL of both."""
    rows = [["question", "galaxies chosen", "whole pool"]]
    for title, named in questions().items():
        pools = [run.pool for run in named.get("mutual_information", ()) if "all" in run.pool]
        if pools:
            means = [np.mean([pool[key] for pool in pools]) for key in ("plain", "all")]
            rows.append([title, *(f"{mean:.2f}" for mean in means)])
    return rows


def questions() -> dict[str, dict[str, list[Course]]]:
    """The published runs of each question, those of the backend that has most; the runs of each acquisition."""
    found = {}
    for named in published(SAVINGS):
        about = named[BASELINE][0].about
        key = (about["dataset"], about["question"])
        found[key] = max(found.get(key, {}), named, key=lambda some: len(some.get(BASELINE, ())))
    return {title: found[key] for key, title in QUESTIONS.items() if key in found}


def acquired() -> list[list[str]]:
    """Whether two frameworks, learning actively on their own from the same seed, choose the same galaxies (float64)."""
    rows = [
        [
            "",
            "seeds",
            "rounds",
            "galaxies",
            "same, in the same order",
            "largest difference of scores",
        ]
    ]
    runs = read_runs(RECORDS / "acquired")
    seeds = sorted({run.at("run.seed") for run in runs})
    asked = {(run.backend, run.at("run.seed")): run.at("results.rounds") for run in runs}
    for one, other in combinations(BACKENDS, 2):
        both = [
            pair
            for seed in seeds
            for pair in zip(asked[one, seed], asked[other, seed], strict=True)
        ]
        ids = [[name for pair in both for name in pair[side]["acquired"]] for side in (0, 1)]
        scores = [np.concatenate([pair[side]["scores"] for pair in both]) for side in (0, 1)]
        same = sum(left == right for left, right in zip(*ids, strict=True))
        rows.append(
            [
                f"{TITLES[one]} and {TITLES[other]}",
                str(len(seeds)),
                str(len(both) // len(seeds)),
                str(len(ids[0])),
                str(same),
                f"{np.max(np.abs(scores[0] - scores[1])):.0e}",
            ]
        )
    return rows


def figure() -> str:
    """The figure of labels saved, as SVG."""
    caption = "Error against labels, and labels saved at equal error, with 90 % intervals over paired seeds"
    return in_file(savings_figure(caption, questions())) + "\n"


def markdown(rows: list[list[str]]) -> str:
    """A table whose first row is its heading; numbers do not break before % or ±."""
    unbroken = [[re.sub(r" (?=[%±])|(?<=±) ", "\u00a0", cell) for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in unbroken]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def transfer_smooth() -> list[list[str]]:
    """NLL after so many labels of a new survey, by where training started."""
    return curve_rows(TRANSFER, "synthetic: smooth-or-featured", "log_score")


def transfer_sdss() -> list[list[str]]:
    """AUC after so many labels of real galaxies, by where training started."""
    return curve_rows(TRANSFER, "sdss_gz1: smooth-or-featured", "auc")


def transfer_questions() -> list[list[str]]:
    """What an encoder of other questions of the same survey saves, by the NLL."""
    return curve_rows(TRANSFER_QUESTIONS, "synthetic: smooth-or-featured", "log_score")


def pairs_primary() -> list[list[str]]:
    """The primary endpoint of the experiment on labels saved, question by question."""
    return pairs.primary(PAIRS)


def pairs_arms() -> list[list[str]]:
    """The same endpoint of every arm."""
    return pairs.arms(PAIRS)


def pairs_saved() -> list[list[str]]:
    """Labels that each arm saved at the error random acquisition ends at."""
    return pairs.savings_of_arms(PAIRS)


def pairs_asked() -> list[list[str]]:
    """What each arm asked about."""
    return pairs.asked(PAIRS)


class Made(NamedTuple):
    """A part of a page: how it is made, and the records it comes from, below reports/records."""

    make: Callable[[], list[list[str]] | str]
    records: tuple[str, ...] = ()


TABLES = {
    made.make.__name__: made
    for made in (
        Made(real, ("sdss_gz1",)),
        Made(agreement, ("sdss_gz1",)),
        Made(conformance, ("conformance/conform",)),
        Made(ports, ("kit",)),
        Made(divergence, ("conformance/trajectories.json",)),
        Made(equivalence, ("conformance/equivalence.json",)),
        Made(training, ("speed/fourth", "speed/once")),
        Made(parts, ("speed/fourth", "speed/once")),
        Made(conclusions, ("speed/first", "speed/second", "speed/third", "speed/fourth")),
        Made(samples, ("speed/fourth", "speed/once")),
        Made(ways, ("speed/once",)),
        Made(gpu, ("speed/gpu",)),
        Made(networks, ("networks/networks.json",)),
        Made(frozen_features, ("features/features.json",)),
        Made(kills, ("kills/kills.json",)),
        Made(posteriors, ("posteriors.json",)),
        Made(posteriors_other, ("posteriors_other.json",)),
        Made(coverage_by_thirds, ("calibration.json",)),
        Made(w20_recalibrated, ("calibration.json",)),
        Made(gz2_real, ("calibration.json",)),
        Made(survey_cost, ("acquisition.json",)),
        Made(acquired, ("acquired",)),
        Made(surveys, ("surveys", "stores.json")),
        Made(stores, ("stores.json",)),
        Made(populations, ("population.json",)),
        Made(population_baselines, ("population.json",)),
        Made(formats, ("files.json",)),
        Made(labels_saved, ("labels_saved.json",)),
        Made(transfer_smooth, ("transfer.json",)),
        Made(transfer_sdss, ("transfer.json",)),
        Made(transfer_questions, ("transfer_questions.json",)),
        Made(pairs_primary, ("pairs.json",)),
        Made(pairs_arms, ("pairs.json",)),
        Made(pairs_saved, ("pairs.json",)),
        Made(pairs_asked, ("pairs.json",)),
        Made(pool_estimates, ("labels_saved.json",)),
        Made(row_of_questions, ("trees/row.json", "trees/fit")),
        Made(row_of_answers, ("trees/row.json", "trees/fit")),
        Made(tree_questions, ("trees_full/fit",)),
        Made(tree_savings, ("trees_saved/labels_saved.json",)),
    )
}
TEXTS = {
    made.make.__name__: made
    for made in map(
        Made,
        (
            *(checks, conforms, likelihoods, speeds, row_in_words, tree_honesty, posterior_cost),
            *(
                honest,
                real_today,
                labels_saved_tested,
                equivalence_corrected,
                population_match,
                population_scatter,
                population_others,
            ),
        ),
    )
}


def machines(*places: str) -> list[str]:
    """The machines that the records below `places` were made on, each once, in words."""
    found = set()
    for place in places:
        path = RECORDS / place
        for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
            record = json.loads(file.read_text())
            for one in (record, *record.get("settings", {}).values()):
                if host := one.get("host"):
                    found.add(machine(host, one.get("where", {}).get("device", "cpu")))
    return sorted(found)


def machine(host: dict, device: str) -> str:
    """One machine in words: its accelerator if it was used, its processor and number of cores."""
    processor = host["processor"].replace("(R)", "").replace(" Processor", "")
    cores = "1 core" if host["cores"] == 1 else f"{host['cores']} cores"
    return ("" if device == "cpu" else f"{device}, ") + f"{processor}, {cores}"


def caption(made: Made, page: Path) -> str:
    """Where the numbers of a table come from: machines, and links to the records from `page`."""
    links = [
        f"[{name}]({os.path.relpath(RECORDS / name, page.parent)})".replace(os.sep, "/")
        for name in made.records
    ]
    return f"<sub>{'; '.join(machines(*made.records))}. Records: {', '.join(links)}.</sub>"


def filled(text: str, page: Path) -> str:
    """The `text` of `page` with every table and text as the records have it."""

    def table(match: re.Match) -> str:
        kind, name = match[2], match[3]
        made = TABLES[name] if kind == "table" else TEXTS[name]
        content = made.make()
        if kind == "table":
            content = f"{markdown(content)}\n\n{caption(made, page)}"
        return f"{match[1]}\n{content}\n{match[4]}"

    found = r"(<!-- (table|text) (\w+) -->)\n.*?(<!-- end -->)"
    return re.sub(found, table, text, flags=re.DOTALL)


if __name__ == "__main__":
    for file in PAGES:
        file.write_text(filled(file.read_text(encoding="utf-8"), file), encoding="utf-8")
    FIGURE.write_text(figure(), encoding="utf-8")
    PICTURE.write_bytes(picture())
