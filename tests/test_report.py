"""The report says what the records say: no more, no less, and the same on both pages."""

import copy
import io
import json
import re
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reports.agreement import compare
from reports.blocks import Measure, Table, cell, ranges
from reports.errors import covered
from reports.learning import error_curve, labels_needed, labels_share, overlap, training_points
from reports.pictures import png
from reports.report import report, sections, usable, write_report
from reports.runs import (
    Record,
    command,
    find_runs,
    group,
    index,
    named_settings,
    pairs,
    read_runs,
    setting,
)
from reports.timings import sampling_speed
from shared.data.store_writer import StoreWriter

QUESTION, ANSWERS = "smooth-or-featured", ("smooth", "featured-or-disk", "artifact")
YES, NO = "smooth_or_featured_smooth", "smooth_or_featured_featured_or_disk_or_artifact"
CONFIG = {
    "task": {"name": "fit"},
    "seed": 0,
    "question": QUESTION,
    "positive": ["smooth"],
    "outputs": "outputs",
    "folder": None,
    "again": False,
    "backend": {
        "name": "torch",
        "device": "cpu",
        "precision": "float32",
        "threads": 2,
        "chunk": 64,
    },
    "dataset": {
        "name": "synthetic",
        "stores": "stores",
        "questions": {QUESTION: list(ANSWERS)},
        "crop": 1.0,
    },
    "model": {"image_size": 64},
    "training": {"steps": 100, "batch_size": 32},
    "posterior": {"samples": 15},
    "acquisition": {"name": "mutual_information", "samples": 15, "rounds": 2},
}
METRICS = {
    "galaxies": 100,
    "votes": 4000,
    "rmse": 0.1,
    "mae": 0.08,
    "log_score": 3.0,
    "loss": 19.5,
    "auc": 0.95,
    "accuracy": 0.9,
    "confusion": [[30, 10], [5, 55]],
    "coverage": [[0, 12.0, 10.0, 0.2], [1, 36.0, 30.0, 0.2], [5, 80.0, 75.0, 5 / 75]],
    "mean_mutual_information": 0.03,
}


def record(backend="torch", seed=0, task="fit", config=None, **results) -> dict:
    run = copy.deepcopy(CONFIG) | {"task": {"name": task}, "seed": seed}
    run["backend"]["name"] = backend
    for name, value in (config or {}).items():
        *groups, key = name.split(".")
        inner = run
        for part in groups:
            inner = inner[part]
        inner[key] = value
    return {
        "run": run,
        "host": {"processor": "A processor", "cores": 2, "commit": "abc123"},
        "where": {backend: "1.2.3", "device": "cpu", "precision": "float32", "threads": 2},
        "started": "2020-01-01T00:00:00+00:00",
        "seconds": 12.0,
        "results": results,
    }


def fit(backend="torch", seed=0, config=None, store=None, test=None, **results) -> dict:
    timed = {
        "images_per_second": 200.0,
        "first_call_seconds": 3.0,
        "train_seconds": 16.0,
        "sampled_galaxies": 50,
        "sample_seconds": 2.0,
        "peak_memory_bytes": 2**30,
    }
    test = METRICS | (test or {})
    return record(backend, seed, "fit", config, store=store, test=test, **(timed | results))


def keep(folder: Path, data: dict, losses=None, posterior=None) -> Path:
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(data))
    if losses is not None:
        losses.to_parquet(folder / "losses.parquet")
    if posterior is not None:
        posterior.to_parquet(folder / "posterior.parquet")
    return folder


def posterior(count=40, shift=0.0, seed=0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    mean = np.clip(draw.uniform(0.05, 0.95, count) + shift, 0, 1)
    std = draw.uniform(0.01, 0.1, count)
    table = {"id": [f"g{n}" for n in range(count)], "in_training": np.arange(count) % 2 == 0}
    for prefix, middle in ((YES, mean), (NO, 1 - mean)):
        table |= {f"{prefix}_mean": middle, f"{prefix}_std": std}
    return pd.DataFrame(table | {"mutual_information": draw.uniform(0, 1, count)})


def losses(steps=100) -> pd.DataFrame:
    step = np.arange(1, steps + 1)
    checked = np.where(step % 25 == 0, 20 + 5 / step, np.nan)
    return pd.DataFrame({"step": step, "loss": 19 + 10 / step, "validation_loss": checked})


def store(folder: Path, count=40) -> Path:
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    sizes = np.linspace(0.05, 0.5, count)[:, None, None]
    images = (230 * np.exp(-(x**2 + y**2) / sizes)).astype(np.uint8)[..., None]
    names = [f"{QUESTION}_{answer}" for answer in ANSWERS]
    votes = pd.DataFrame(
        {name: np.arange(count, dtype=np.int32) + n for n, name in enumerate(names)}
    )
    votes[f"{QUESTION}_total"] = votes[names].sum(axis=1).astype(np.int32)
    votes.insert(0, "id", [f"g{n}" for n in range(count)])
    beside = folder.with_name("draft")
    beside.mkdir(parents=True)
    with StoreWriter(beside, count, 1) as draft:
        for row, image in enumerate(images):
            draft.note(row, {"pixels_crc32": draft.put(row, image)})
        facts = {"questions": {QUESTION: ANSWERS}, "skipped": [], "source": {}}
        draft.finish(votes, facts).rename(folder)
    return folder


def rounds(errors, acquired=(("a", "b"), ("c", "d"))) -> list[dict]:
    lists = [*acquired, []][: len(errors)]
    return [
        {
            "labelled": 100 * (n + 1),
            "acquired": list(ids),
            "seconds": 1.0,
            "test": METRICS | {"rmse": error},
        }
        for n, (error, ids) in enumerate(zip(errors, lists, strict=True))
    ]


TURNS = {"tf": 0.2, "torch": 0.25, "jax": 0.5, "torch-bf16": 0.1, "keras-torch": 0.3}


def comparison(
    tasks=("train", "predict", "posterior"), size=64, batch=128, turns=None, **more
) -> dict:
    """The results of a benchmark in which programs take turns: program -> seconds of its median call."""
    turns, rows = TURNS if turns is None else turns, []
    for task in tasks:
        for program, seconds in turns.items():
            rows.append(
                {
                    "program": program,
                    "backend": next(
                        (name for name in ("tf", "jax") if name in program.replace("flax", "jax")),
                        "torch",
                    ),
                    "peer": program.startswith(("keras", "plain", "zoobot", "baal")),
                    "task": task,
                    "image_size": size,
                    "batch_size": batch,
                    "samples": 30 if task == "posterior" else None,
                    "precision": "bfloat16" if program.endswith("bf16") else "float32",
                    "compiled": "jit",
                    "device": "cpu",
                    "threads": "2",
                    "images": 512,
                    "import_seconds": 3.0,
                    "first_seconds": 2.0,
                    "steady": True,
                    "seconds": [[seconds] * 3] * 5,
                    "median_seconds": seconds,
                    "p10_seconds": 0.9 * seconds,
                    "p90_seconds": 1.2 * seconds,
                    "images_per_second": 512 / seconds,
                    "floor_seconds": seconds / 4,
                    "floor_share": 0.25,
                    "peak_memory_bytes": 5e8 + 1e6 * batch,
                    "energy_joules": None,
                    "disturbed": 0,
                }
            )
    plain = [name for name in turns if not name.endswith("bf16")]
    ratios = [
        {
            "task": task,
            "image_size": size,
            "batch_size": batch,
            "samples": 30 if task == "posterior" else None,
            "precision": "float32",
            "program": one,
            "against": other,
            "median": turns[other] / turns[one],
            "low": 0.95 * turns[other] / turns[one],
            "high": 1.05 * turns[other] / turns[one],
        }
        for task in tasks
        for one, other in combinations(plain, 2)
    ]
    missing = [{"program": "zoobot", "task": "train", "reason": "zoobot cannot be imported"}]
    ceilings = {"matmul_flops": 4e11, "copy_bytes": 2e10, "how": "numpy", "rounds": [[4e11, 2e10]]}
    machine = {"clock_mhz": [2500, 2600], "celsius": None, "other_cores": 0.05}
    return {
        "rows": rows,
        "ratios": ratios,
        "missing": missing,
        "ceilings": ceilings,
        "machine": machine,
        "price_per_hour": 0.36,
    } | more


def everything(folder: Path) -> Path:
    """Records of every kind: three backends, two seeds, two image sizes, rounds, a benchmark."""
    records, galaxies = folder / "outputs", str(store(folder / "stores" / "synthetic-1"))
    for place, backend in enumerate(("tf", "torch", "jax")):
        for seed in (0, 1):
            test = {"rmse": 0.1 + 0.001 * place + 0.01 * seed}
            keep(
                records / "fit" / f"{backend}-{seed}",
                fit(backend, seed, store=galaxies, test=test),
                losses(),
                posterior(shift=0.001 * place, seed=seed),
            )
            for name, last in (("mutual_information", 0.1), ("random", 0.15)):
                data = record(
                    backend,
                    seed,
                    "active",
                    {"acquisition.name": name},
                    rounds=rounds([0.3, 0.2, last]),
                )
                keep(records / "active" / f"{name}-{backend}-{seed}", data)
    keep(
        records / "fit" / "torch-128",
        fit("torch", config={"model.image_size": 128}, test={"rmse": 0.05}),
    )
    keep(records / "bench" / "many", record(task="bench", **comparison()))
    keep(records / "prepare", record("torch", task="prepare", store=galaxies, galaxies=40))
    return records


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    return everything(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def page(records) -> Path:
    return write_report(records, records.parent / "report")


@pytest.fixture(scope="module")
def made(records) -> dict:
    return {section.title: section.blocks for section in sections(index(read_runs(records)))}


def runs_of(tmp_path: Path, *data: dict) -> list[Record]:
    for number, entry in enumerate(data):
        keep(tmp_path / "runs" / f"{number:02}", entry)
    return read_runs(tmp_path / "runs")


def tables_of(records: Path, title: str) -> list[Table]:
    (section,) = [s for s in sections(index(read_runs(records))) if s.title == title]
    return [block for block in section.blocks if block.kind == "table"]


class HtmlTables(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tables, self.tags, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, text):
        if self.inside:
            self.tables[-1][-1][-1] += text


def markdown_tables(text: str) -> list[list[list[str]]]:
    tables, previous = [], False
    for line in text.splitlines():
        row = line.startswith("|")
        if row and not previous:
            tables.append([])
        if row and not re.fullmatch(r"[|\s:-]+", line):
            plain = re.sub(r"\\(.)", r"\1", line).replace("<code>", "").replace("</code>", "")
            cells = [text.strip() for text in plain.strip("|").split("|")]
            for entity, letter in (("&lt;", "<"), ("&gt;", ">"), ("&#124;", "|"), ("&amp;", "&")):
                cells = [text.replace(entity, letter) for text in cells]
            tables[-1].append(cells)
        previous = row
    return tables


def test_error_table_holds_the_mean_and_spread_over_seeds(records):
    (table,) = tables_of(records, "Error")
    row = table.frame.set_index(["setting", "backend"]).loc[("A", "PyTorch")]
    assert row["RMSE"].mean == pytest.approx((0.101 + 0.111) / 2)
    assert row["RMSE"].spread == pytest.approx(0.01 / np.sqrt(2))
    assert row["seeds"] == "0, 1"
    assert table.rows[1][:5] == ["A", "PyTorch", "0, 1", "100", "0.1060 ± 0.0071"]


def test_runs_of_different_configuration_are_never_averaged(records):
    (table,) = tables_of(records, "Error")
    assert list(table.frame["setting"]) == ["A", "A", "A", "C"]
    assert table.frame["RMSE"].iloc[3] == Measure(0.05, None)


@pytest.mark.parametrize(
    "config",
    [
        {"model.image_size": 128},
        {"backend.threads": 1},
        {"training.steps": 7},
        {"backend.precision": "tf32"},
    ],
)
def test_a_group_differs_in_the_seed_alone(tmp_path, config):
    one, seed, other, kept = runs_of(
        tmp_path,
        fit(),
        fit(seed=1),
        fit(seed=1, config=config),
        fit(config={"folder": "x", "outputs": "y"}),
    )
    assert group(one) == group(seed) == group(kept)
    assert group(one) != group(other)


def test_device_and_precision_as_they_were_tell_groups_apart(tmp_path):
    plain, moved, reduced = fit(), fit(seed=1), fit(seed=1)
    moved["where"]["device"] = "cuda:0"
    reduced["where"]["precision"] = "tf32"
    assert len({group(entry) for entry in runs_of(tmp_path, plain, moved, reduced)}) == 3


def test_pairs_have_one_setting_and_seed_and_two_backends(tmp_path):
    found = runs_of(
        tmp_path,
        fit("tf"),
        fit("torch"),
        fit("torch", seed=1),
        fit("jax", config={"training.steps": 7}),
        fit("torch", config={"backend.threads": 1}),
    )
    assert {(a.number, b.number) for a, b in pairs(found)} == {(1, 2), (1, 5)}
    assert setting(found[1]) == setting(found[2]) != setting(found[3])


def test_two_rows_of_one_backend_say_how_they_differ(tmp_path):
    keep(tmp_path / "one", fit())
    keep(tmp_path / "two", fit(config={"backend.threads": 1}))
    (table,) = tables_of(tmp_path, "Error")
    assert set(table.frame["backend"]) == {
        "PyTorch (backend.threads=2)",
        "PyTorch (backend.threads=1)",
    }


def test_a_mean_is_of_every_seed_or_not_told(tmp_path):
    for seed, score in enumerate((3.0, None, 4.0)):
        keep(tmp_path / str(seed), fit(seed=seed, test={"log_score": score}))
    (table,) = tables_of(tmp_path, "Error")
    assert table.frame["NLL (nats)"].iloc[0] is None
    assert table.frame["RMSE"].iloc[0].mean == pytest.approx(0.1)


def test_settings_are_named_in_order(tmp_path):
    found = runs_of(tmp_path, *(fit(config={"training.steps": n}) for n in range(1, 29)))
    assert sorted(named_settings(found).values(), key=lambda n: (len(n), n))[-3:] == [
        "Z",
        "AA",
        "AB",
    ]


def test_coverage_is_in_per_cent_of_galaxies(records):
    first, second = tables_of(records, "Coverage")
    row = first.frame.set_index("votes to either side").loc[1]
    assert row["JAX predicted (%)"].mean == pytest.approx(36)
    assert row["JAX observed (%)"].mean == pytest.approx(30)
    assert row["JAX relative error (%)"].mean == pytest.approx(20)
    assert [cells[0] for cells in first.rows] == ["0", "1", "5"]
    assert [heading.split()[0] for heading in second.headings] == ["votes", *["PyTorch"] * 3]


def test_confusion_adds_seeds(records):
    (table,) = tables_of(records, "Confusion")
    row = table.frame.iloc[0]
    assert [row["no, said no"], row["no, said yes"], row["yes, said no"], row["yes, said yes"]] == [
        60,
        20,
        10,
        110,
    ]
    assert row["no found (%)"] == pytest.approx(75)
    assert row["yes found (%)"] == pytest.approx(100 * 110 / 120)


def test_timings_are_not_averaged_over_machines(tmp_path):
    elsewhere = fit(seed=1, images_per_second=1000.0)
    elsewhere["host"]["processor"] = "Another"
    keep(tmp_path / "one", fit())
    keep(tmp_path / "two", elsewhere)
    (table,) = tables_of(tmp_path, "Timings of fits")
    assert [row.mean for row in table.frame["training (images/s)"]] == [200, 1000]
    assert [row.mean for row in table.frame["sampling (galaxies/s)"]] == [25, 25]
    assert [row.mean for row in table.frame["peak memory (MiB)"]] == [1024, 1024]


def test_sampling_speed_of_no_time_is_unknown(tmp_path):
    (found,) = runs_of(tmp_path, fit(sample_seconds=0.0))
    assert sampling_speed(found) is None


def test_agreement_compares_held_out_galaxies_by_id(tmp_path):
    left, right = posterior(), posterior(shift=0.0)
    right[f"{YES}_mean"] += np.where(right["in_training"], 0.5, 0.001 * np.arange(40))
    right[f"{NO}_mean"] = 1 - right[f"{YES}_mean"]
    right[f"{YES}_std"] -= 0.002
    keep(tmp_path / "left", fit("tf"), posterior=left)
    keep(tmp_path / "right", fit("jax"), posterior=right.sample(frac=1, random_state=1))
    found = compare(*read_runs(tmp_path))
    one, other = (t.loc[~t["in_training"], f"{YES}_mean"].to_numpy() for t in (left, right))
    assert found["galaxies"] == 20
    assert found["mean: median |difference|"] == pytest.approx(0.020)
    assert found["mean: largest |difference|"] == pytest.approx(0.039)
    assert found["spread: median |difference|"] == pytest.approx(0.002)
    ranks = [pd.Series(values).rank() for values in (one, other)]
    assert found["rank correlation"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert found["same majority (%)"] == pytest.approx(100 * np.mean((one > 0.5) == (other > 0.5)))


def test_posteriors_of_other_galaxies_are_not_compared(tmp_path):
    keep(tmp_path / "left", fit("tf"), posterior=posterior())
    keep(
        tmp_path / "right",
        fit("jax"),
        posterior=posterior().assign(id=[f"h{n}" for n in range(40)]),
    )
    assert compare(*read_runs(tmp_path)) == {}


def test_labels_needed_is_linear_between_rounds():
    curve = pd.DataFrame({"labelled": [100, 200, 300], "mean": [0.3, 0.2, 0.1]})
    assert labels_needed(curve, 0.15) == pytest.approx(250)
    assert labels_needed(curve, 0.4) == 100
    assert labels_needed(curve, 0.05) is None


def test_labels_share_is_against_random_of_the_same_backend_and_simulation(tmp_path):
    def run(name, errors, backend="jax", **config):
        keys = {f"acquisition.{key}": value for key, value in ({"name": name} | config).items()}
        return record(backend, task="active", config=keys, rounds=rounds(errors))

    found = runs_of(
        tmp_path,
        run("mutual_information", [0.3, 0.2, 0.1]),
        run("random", [0.3, 0.25, 0.2], samples=2),
        run("random", [0.3, 0.2, 0.01], rounds=9),
        run("random", [0.3, 0.2, 0.01], backend="tf"),
    )
    assert labels_share(found, found[:1]) == pytest.approx(100 * 200 / 300)
    assert labels_share(found, found[1:2]) is None


def test_error_curve_drops_counts_that_not_every_run_reached(tmp_path):
    found = runs_of(
        tmp_path,
        *(record(task="active", seed=n, rounds=rounds([0.3, 0.2, 0.1][: 3 - n])) for n in (0, 1)),
    )
    assert list(error_curve(found)["labelled"]) == [100, 200]
    row = tables_of(tmp_path / "runs", "Active learning")[0].frame.iloc[0]
    assert row["last labels"] == 200
    assert row["last RMSE"] == Measure(0.2, 0.0)


def test_overlap_of_acquired_galaxies(tmp_path):
    assert overlap({"a", "b", "c", "d"}, {"a", "x"}) == 25
    assert overlap(set(), set()) is None
    for backend, lists in (("tf", (("a", "b"), ("c", "d"))), ("jax", (("a", "x"), ("b", "y")))):
        keep(
            tmp_path / backend,
            record(backend, task="active", rounds=rounds([0.3, 0.2, 0.1], lists)),
        )
    row = tables_of(tmp_path, "Active learning")[1].frame.iloc[0]
    assert [
        row["first round (%)"],
        row["last round (%)"],
        row["all rounds (%)"],
        row["rounds"],
    ] == [50, 0, 50, 2]


def test_training_curve_is_a_running_mean():
    table = pd.DataFrame({"step": np.arange(200), "loss": np.arange(200.0)})
    step, smooth = training_points(table)
    assert smooth[10] == pytest.approx(np.mean([7, 8, 9, 10]))
    assert list(step[:3]) == [0, 1, 2]


def test_both_pages_have_the_same_tables(page):
    html = HtmlTables(page.read_text()).tables
    text = page.with_suffix(".md").read_text()
    assert len(html) > 8
    assert html == markdown_tables(text)


def test_the_same_records_give_the_same_bytes(records, page, tmp_path):
    write_report(records, tmp_path)
    one, two = (
        {path.relative_to(top): path.read_bytes() for path in top.rglob("*") if path.is_file()}
        for top in (page.parent, tmp_path)
    )
    assert one == two
    assert len(one) > 10


def test_the_page_needs_no_other_file(page):
    parsed = HtmlTables(page.read_text())
    links = [
        attrs[key]
        for _, attrs in parsed.tags
        for key in ("src", "href", "xlink:href")
        if key in attrs
    ]
    assert links
    beside = [link for link in links if not link.startswith(("#", "data:image/png;base64,"))]
    known = {"data:,", "rosetta.html", "report.md", "numbers.csv", "tables.csv"}
    assert {link.partition("#")[0] for link in beside} == known
    assert all((page.parent / name).is_file() for name in known - {"data:,"})
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert not {tag for tag, _ in parsed.tags} & {"iframe", "object", "embed", "base"}
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_markdown_finds_its_figures(page):
    named = re.findall(r'figures/[^)"]+', page.with_suffix(".md").read_text())
    assert {Path(name).suffix for name in named} == {".svg", ".png"}
    assert all((page.parent / name).is_file() for name in named)


def test_hostile_names_stay_text(tmp_path):
    name = '<script>alert("$x$")</script> | & `b` _c_ $\\frac{'
    config = {"dataset.name": name, "question": name, "dataset.questions": {name: [name]}}
    for device in ("$^$", "cpu"):
        data = fit(config=config | {"positive": [name], "backend.device": device})
        data["host"]["processor"] = name
        keep(tmp_path / "runs" / device, data, losses())
    page = write_report(tmp_path / "runs", tmp_path / "report")
    html, text = page.read_text(), page.with_suffix(".md").read_text()
    assert html.count("<script") == 1
    assert html.index("<script") > html.index("</main>")
    assert "<script" not in text
    assert name in {cell for table in HtmlTables(html).tables for row in table for cell in row}
    assert HtmlTables(html).tables == markdown_tables(text)


def test_galaxies_are_held_out_and_ranked(made):
    blocks = made["Galaxies"]
    smooth, other, least, most = [block for block in blocks if block.kind == "gallery"]
    table = posterior(seed=0).query("not in_training").sort_values(f"{YES}_mean", ascending=False)
    assert [picture.id for picture in smooth.pictures] == list(table["id"][:6])
    assert [picture.id for picture in other.pictures] == list(table["id"][::-1][:6])
    table = table.sort_values("mutual_information")
    assert [picture.id for picture in most.pictures] == list(table["id"][:6])
    assert [picture.id for picture in least.pictures] == list(table["id"][::-1][:6])
    first = table.set_index("id").loc[smooth.pictures[0].id]
    votes = int(smooth.pictures[0].id[1:])
    assert smooth.pictures[0].lines == (
        f"{first[f'{YES}_mean']:.2f} ± {first[f'{YES}_std']:.2f}",
        f"{votes} of {3 * votes + 3} votes",
    )
    assert other.caption.endswith("featured-or-disk or artifact")
    assert "TensorFlow" in blocks[0].lines[0]


def test_a_picture_is_the_middle_of_the_image():
    image = np.zeros((256, 256, 1), np.uint8)
    image[64:192, 64:192] = 200
    assert np.asarray(Image.open(io.BytesIO(png(image, 0.5)))).min() == 200
    assert np.asarray(Image.open(io.BytesIO(png(image, 1.0)))).min() == 0


def test_a_store_that_is_gone_is_told(tmp_path):
    keep(tmp_path / "runs" / "one", fit(store=str(tmp_path / "nowhere")), posterior=posterior())
    page = write_report(tmp_path / "runs", tmp_path / "report").read_text()
    assert "there is no store" in page
    assert str(tmp_path / "nowhere") in page


@pytest.mark.parametrize(
    "results", [{}, {"test": None}, {"test": {}}, {"test": dict.fromkeys(METRICS)}]
)
def test_missing_metrics_are_blanks(tmp_path, results):
    keep(tmp_path / "runs" / "fit", record(**results))
    keep(
        tmp_path / "runs" / "active", record(task="active", rounds=[{"labelled": 10, "test": None}])
    )
    keep(tmp_path / "runs" / "bench", record(task="bench", rows=[{"task": "train_step"}]))
    keep(tmp_path / "runs" / "bench2", record(task="bench", rows=[{"task": "train"}, None, {}]))
    keep(tmp_path / "runs" / "bare", {"run": {"task": {"name": "fit"}}})
    page = write_report(tmp_path / "runs", tmp_path / "report")
    assert "—" in page.read_text()
    assert not re.search(r"\b(nan|None)\b", page.with_suffix(".md").read_text())


@pytest.mark.parametrize(
    "text", ['{"run": ', "[1]", "{}", '{"run": {"task": "fit"}}', "\ud800", ""]
)
def test_a_broken_record_is_left_out_and_named(tmp_path, text, capsys):
    keep(tmp_path / "a" / "broken", {})
    keep(tmp_path / "good", fit())
    (tmp_path / "a" / "broken" / "record.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"broken.record\.json"):
        read_runs(tmp_path)
    page = write_report(tmp_path, tmp_path / "report")
    assert "left out: a/broken/record.json" in capsys.readouterr().err
    assert "a/broken/record.json" in page.read_text()
    assert "1 record" not in page.with_suffix(".md").read_text().split("Left out")[0]
    (tmp_path / "good" / "record.json").unlink()
    with pytest.raises(ValueError, match=r"no record.json below .*broken.record\.json"):
        write_report(tmp_path, tmp_path / "report")


STRAY = {
    "x/record.json": "",  # a folder
    "y/record.json": json.dumps(fit() | {"results": []}),
    "z/record.json": json.dumps(record(task="bench", rows=7)),
    "u/record.json": json.dumps(record(task="conform", checks=[{"check": "seen"}])),
    "v/record.json": json.dumps(record(task="active", rounds=["a"])),
    "stores.json": "[]",
    "deep/pieces.json": '{"benchmarks": [{"name": "x"}]}',
    "mutants.json": '[{"mutant": 1}]',
    "equivalence.json": '{"margin": 1, "pairs": {"a-b": {"mean": 0, "interval": [1], "equivalent": true}}}',
    "trajectories.json": "[" * 100_000,
    "labels_saved.json": '{"runs": [{"problem": "a"}]}',
    "agreement.json": "\x00" * 100,
    "kills.json": '{"someone": "else"}',
    "w/losses.parquet": "no table",
}


def test_what_cannot_be_used_never_ends_the_report(tmp_path, capsys):
    for place, seed in (("good", 0), ("better", 1), ("w", 2)):
        keep(tmp_path / place, fit(seed=seed))
    for name, text in STRAY.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if text:
            (tmp_path / name).write_text(text)
        else:
            (tmp_path / name).mkdir()
    (tmp_path / "strange.json").write_text("{")  # which is nobody's
    page = write_report(tmp_path, tmp_path / "report")
    output = capsys.readouterr().err
    for name in STRAY:
        name = name.replace("losses.parquet", "record.json")
        assert f"left out: {name} " in output
        assert name in page.read_text()
        assert name in page.with_suffix(".md").read_text().replace("\\", "")
    assert output.count("left out: ") == len(STRAY)
    (first, second) = read_runs_left(tmp_path)
    assert (first.place, second.place) == ("better", "good")
    assert "losses.parquet" in output
    assert "strange" not in output


def read_runs_left(folder):
    """The records that the page is of."""
    return usable(index(*find_runs(folder)))[0].records


def test_no_records_says_what_to_do(tmp_path):
    keep(tmp_path / "report", record(task="report"))
    with pytest.raises(ValueError, match="trizoo fit"):
        write_report(tmp_path, tmp_path / "report")


def test_command_is_the_record_s_own_or_made_from_its_configuration(tmp_path):
    with_command = fit() | {"command": ["trizoo", "fit", "dataset.name=a b"]}
    own, made = runs_of(tmp_path, with_command, fit("jax", seed=3))
    assert command(own) == "trizoo fit 'dataset.name=a b'"
    assert command(made).startswith(
        "trizoo fit backend=jax dataset=synthetic seed=3 question=smooth-or-featured"
    )
    assert "'positive=[smooth]'" in command(made)


def test_every_table_and_figure_names_records_that_exist(records, made):
    numbers = {record.number for record in read_runs(records)}
    shown = [block for blocks in made.values() for block in blocks if block.kind != "prose"]
    assert all(block.records and set(block.records) <= numbers for block in shown)
    of_figures = [row for row in made["Where it came from"][1].frame.to_dict("records")]
    assert len(of_figures) == len(shown) - 2  # but those of where it came from
    assert {row["commits"] for row in of_figures} == {"abc123"}


def test_the_answer_is_computed(made):
    prose, table = made["The answer in five lines"]
    text = " ".join(prose.lines)
    assert "83% (mutual information, JAX, setting A)" in text
    times = "1.25 (1.19 to 1.31) times PyTorch and 2.50 (2.37 to 2.62) times JAX"
    assert f"in training at 64 px, batch 128, TensorFlow is fastest, {times} (float32, cpu" in text
    assert "(pairs compared: 6)" in text
    assert table.rows[2][4:] == ["JAX", "0.1070 ± 0.0071", "80 ± 0", "75 ± 0", "200 ± 0"]


def test_the_task_gives_the_page_and_the_number_of_records(tmp_path, capsys):
    keep(tmp_path / "one", fit())
    keep(tmp_path / "report", record(task="report", report="an earlier one"))
    found = report(SimpleNamespace(outputs=str(tmp_path)), tmp_path / "report")
    page = str(tmp_path / "report" / "report.html")
    assert found == {"where": {}, "results": {"report": page, "records": 1, "left_out": {}}}
    assert capsys.readouterr().out == f"{page}\n"


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (None, None, "—"),
        (float("nan"), ".2f", "—"),
        ("", None, "—"),
        (1234, None, "1,234"),
        (1234.5, None, "1,234"),
        (0.012345, None, "0.0123"),
        (0.0, None, "0"),
        (3.2e-7, None, "3.2e-07"),
        (Measure(0.12345, 0.0012), ".4f", "0.1235 ± 0.0012"),
        (Measure(0.5, None), ".2f", "0.50"),
    ],
)
def test_numbers_are_written_to_sensible_digits(value, form, text):
    assert cell(value, form) == text


def test_ranges():
    assert ranges([3, 1, 2, 7, 9, 10]) == "1-3, 7, 9-10"


def test_coverage_without_galaxies_is_none(tmp_path):
    (found,) = runs_of(tmp_path, fit(test={"galaxies": 0}))
    assert covered(found) == {}
