"""The README's numbers, from the committed records: `python -m reports.readme` writes them where they belong.

Each table stands between <!-- table NAME --> and <!-- end -->; a test sees to it that they are as made here.
"""

import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import t

from reports import conclusions as timed
from reports.figures import in_file
from reports.runs import TITLES, read_runs
from reports.savings import (
    BASELINE,
    MEASURES,
    Course,
    apart,
    fell,
    paired,
    published,
    savings,
    savings_figure,
    told,
    words,
)
from shared.proof.conformance import EXACT
from shared.run.spec import BACKENDS

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "reports" / "records"


def real() -> list[list[str]]:
    """How well each framework tells smooth from featured on real galaxies it has not seen."""
    rows = [
        ["", "seeds", "area under the ROC curve", "log loss (nat)", "accuracy", "training images/s"]
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
    """How far apart the posteriors of two frameworks are, trained apart from the same seed."""
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


def conformance() -> list[list[str]]:
    """Each rung's error in each framework and precision, against the specification."""
    found = {
        (run.backend, run.at("run.backend.precision")): {
            rung["rung"]: rung for rung in run.at("results.rungs")
        }
        for run in read_runs(RECORDS / "conformance")
    }
    columns = [(name, p) for p in ("float64", "float32") for name in BACKENDS if (name, p) in found]
    rows = [["", *(f"{TITLES[name]}, {precision}" for name, precision in columns)]]
    for rung in next(iter(found.values())) | found[columns[0]]:
        cells = [shown(rung, found[column].get(rung)) for column in columns]
        rows.append([rung.replace("_", " "), *cells])
    return rows


def ports() -> list[list[str]]:
    """How the fourth implementation, in C, did with the kit: rungs, arrays, worst error against its budget."""
    rows = [["rung", "arrays", "worst error", "budget"]]
    (run,) = read_runs(RECORDS / "kit" / "conform")
    by_rung: dict[str, list[dict]] = {}
    for array in run.at("results.arrays"):
        by_rung.setdefault(array["rung"], []).append(array)
    for rung, arrays in by_rung.items():
        good = [array for array in arrays if array["verdict"] == "ok"]
        worst = max(good, key=lambda array: array["error"])
        cell = "equal" if worst["budget"] == 0 or not worst["error"] else f"{worst['error']:.0e}"
        budget = "equal" if worst["budget"] == 0 else f"{worst['budget']:.0e}"
        name = rung.partition("_")[2]
        rows.append([name, f"{len(good)} of {len(arrays)}", cell, budget])
    return rows


def divergence() -> list[list[str]]:
    """How far float32 trainings come apart: two frameworks, and one of itself; medians over seeds."""
    found = json.loads((RECORDS / "conformance" / "trajectories.json").read_text())
    steps = [str(step) for step in found["steps"]]
    rows = [["after steps", *steps]]
    for name, values in found["median"].items():
        if "control" not in name:
            one, _, kind = name.partition(" ")
            pair = " and ".join(TITLES[part] for part in one.split("-"))
            kinds = {
                "ulp": ", first weights moved by one ulp",
                "permuted": ", rows of batches permuted",
            }
            rows.append([pair + kinds.get(kind, ""), *(f"{values[step]:.0e}" for step in steps)])
    return rows


def equivalence() -> list[list[str]]:
    """Whether training in float32 comes to equally good networks: the paired test of benchmarks.equivalence."""
    found = json.loads((RECORDS / "conformance" / "equivalence.json").read_text())
    rows = [["", "mean difference (nat)", "90 % interval", "within the margin"]]
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


def shown(rung: str, entry: dict | None) -> str:
    """What a rung's cell says; nothing where it was not climbed."""
    if entry is None:
        return ""
    if rung in EXACT:
        return "equal" if entry["error"] == 0 else f"{entry['error']:.0f} differ"
    return f"{entry['error']:.0e}"


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
    """What compiling does to speed, start and memory."""
    return timed.ways(RECORDS / "speed")


def gpu() -> list[list[str]]:
    """How fast programs are on a GPU."""
    return timed.gpu(RECORDS / "speed")


def kills() -> list[list[str]]:
    """What was left of runs that were hurt: `python -m benchmarks.kills`."""
    rows = [["task", "", "SIGKILLs", "disk errors", "power cuts", "in the end"]]
    found = json.loads((RECORDS / "kills" / "kills.json").read_text())["runs"]
    sums = {}
    for one in found:
        key = one["task"], TITLES.get(one["backend"], "")
        sums.setdefault(key, []).append(one)
    for (task, title), some in sums.items():
        counts = [str(sum(one[kind] for one in some)) for kind in ("kills", "errors", "cuts")]
        right = all(one["right"] for one in some)
        rows.append([task, title, *counts, "the same bytes" if right else "not the same"])
    return rows


def survey_cost() -> list[list[str]]:
    """What scoring a survey costs, against plain Python and against the network: `python -m benchmarks.acquisition`."""
    found = json.loads((RECORDS / "acquisition.json").read_text())
    rows = [["", "scores", "plain Python", "network", "memory", "BatchBALD", "EPIG"]]
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
            ]
        )
    return rows


# What is published, from the surveys' papers and tables: rows, the size and kind of the images, where from, licence.
SURVEYS = {
    "gz2": ("Galaxy Zoo 2, Hart et al. 2016", 239_695, "424 px JPEG in a zip file", "not stated"),
    "gz2_sdss": ("the same, cut out anew", 239_695, "424 px JPEG, SDSS service", "not stated"),
    "gz2_hub": ("the same, of a dataset hub", None, "in Parquet files", "CC BY-NC-SA 4.0"),
    "gz2_kaggle": ("Kaggle challenge of 2014", 61_578, "424 px JPEG", "the challenge's rules"),
    "gz_hubble": ("Galaxy Zoo Hubble, Willett et al. 2017", 119_849, "424 px JPEG", "not stated"),
    "gz_candels": ("Galaxy Zoo CANDELS, Simmons et al. 2017", 49_555, "424 px JPEG", "not stated"),
    "gz_decals12": ("GZ DECaLS 1 and 2, Walmsley et al. 2022", None, "424 px PNG", "CC BY 4.0"),
    "gz_decals5": ("GZ DECaLS 5", None, "424 px PNG in four zip files", "CC BY 4.0"),
    "gz_decals5_legacy": ("the same, cut out anew", None, "grz FITS, Legacy Surveys", "not stated"),
    "gz_decals_auto": ("every galaxy of GZ DECaLS, no votes", 314_000, "424 px PNG", "CC BY 4.0"),
    "gz1": ("Galaxy Zoo 1, Lintott et al. 2011", 893_212, "yours", "not stated"),
    "sdss_gz1": ("SDSS galaxies with Galaxy Zoo 1 classes", 5_674, "423 px JPEG", "not stated"),
}


def surveys() -> list[list[str]]:
    """The surveys that have a configuration: how large each is, and what of it was run here."""
    real = {run.at("run.dataset.name"): run for run in read_runs(RECORDS / "surveys")}
    speed = stores_record()["images_per_second"]["prepare"]
    rows = [["`dataset=`", "survey", "rows", "images", "licence", "store", "minutes", "run here"]]
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
        here = f"{run.at('results.galaxies'):,} real galaxies" if run else "a stand-in"
        shown = "" if count is None else f"{count:,}"
        rows.append([f"`{name}`", title, shown, images, licence, size, time, here])
    return rows


def stores() -> list[list[str]]:
    """How fast images become a store."""
    found = stores_record()
    per_second = found["images_per_second"]
    names = {
        "decode": "Pillow decodes, and no more",
        "decode_and_reduce": "Pillow decodes and reduces, numpy averages the colours",
        "prepare": "`trizoo prepare`: reads the table, decodes, reduces, hashes, writes, commits",
    }
    rows = [["", "images/s", "time of `prepare` against it"]]
    for way, title in names.items():
        ratio = found["prepare_against"].get(way)
        rows.append([title, f"{per_second[way]:.0f}", "" if ratio is None else f"{ratio:.2f} x"])
    return rows


def stores_record() -> dict:
    """What `python -m benchmarks.stores` found."""
    return json.loads((RECORDS / "stores.json").read_text())


QUESTIONS = {  # what was asked, in words, in the order of the README
    ("synthetic", "smooth-or-featured"): "synthetic: smooth",
    ("synthetic", "bar"): "synthetic: bar",
    ("sdss_gz1", "smooth-or-featured"): "SDSS: smooth",
    ("sdss_gz1_edge_on", "disk-edge-on"): "SDSS: edge-on",
    ("sdss_gz1_spiral", "face-on-spiral"): "SDSS: face-on spiral",
}
SAVINGS, FIGURE = RECORDS / "labels_saved.json", ROOT / "reports" / "labels_saved.svg"


def labels_saved() -> list[list[str]]:
    """Labels that each acquisition saved against random acquisition, at errors along the latter's fall."""
    heads = ("question", "labels", "measure", "random: first to last")
    ends = ("saved half-way", "at 3/4", "at random's last error", "difference at the end")
    rows = [[*heads, *ends]]
    for title, named in questions().items():
        for name, runs in named.items():
            for measure, what in MEASURES.items() if name != BASELINE else ():
                pair = paired(named[BASELINE], runs, measure)
                if pair is None:
                    continue
                labels = f"{pair.labels[0]:.0f} to {pair.labels[-1]:.0f}"
                cells = [told(saving) for saving in savings(pair, (0.5, 0.75, 1))]
                last = apart(pair.other[:, -1] - pair.random[:, -1], 3)
                asked = title if len(named) == 2 else f"{title}, {words(name)}"
                rows.append(
                    [asked, labels, what, fell(pair.random), *(cells or ["no fall"] * 3), last]
                )
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
    """Whether two frameworks, learning actively apart in float64 from the same seed, ask about the same galaxies."""
    rows = [["", "seeds", "rounds", "galaxies", "the same in the same order", "scores differ by"]]
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
    return in_file(savings_figure("labels-saved", caption, questions()).svg)


def mean_and_interval(values: list[float]) -> str:
    """The mean of VALUES and its 95 % interval (Student's t)."""
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.3f} ± {half:.3f}"


def markdown(rows: list[list[str]]) -> str:
    """A table whose first row is its heading."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


TABLES = {
    table.__name__: table
    for table in (
        real,
        agreement,
        conformance,
        ports,
        divergence,
        equivalence,
        training,
        parts,
        conclusions,
        samples,
        ways,
        gpu,
        kills,
        survey_cost,
        acquired,
        surveys,
        stores,
        labels_saved,
    )
}


def filled(text: str) -> str:
    """TEXT with every table as the records have it."""

    def table(match: re.Match) -> str:
        return f"{match[1]}\n{markdown(TABLES[match[2]]())}\n{match[3]}"

    return re.sub(r"(<!-- table (\w+) -->)\n.*?(<!-- end -->)", table, text, flags=re.DOTALL)


if __name__ == "__main__":
    file = ROOT / "README.md"
    file.write_text(filled(file.read_text()))
    FIGURE.write_text(figure(), encoding="utf-8")
