"""What the report makes of benchmarks: speeds and ratios as they were told, costs and fits as they are computed."""

import csv
import json
from pathlib import Path

import pytest

from reports.against import verdict
from reports.blocks import Measure, NumberText, Range, table
from reports.comparisons import Timing, comparisons, reference, title
from reports.costs import SURVEYS
from reports.memory import Fit, fitted
from reports.numbers import DIGITS, numbers_csv, tables_csv
from reports.report import sections, write_report
from reports.runs import index, read_runs
from tests.test_report import comparison, fit, keep, record, rounds
from tests.text_difference import different

RECORDS = Path(__file__).parent.parent / "reports" / "records"
MORE = {"tf": -3e7, "jax": 3e7}
TASKS = ("train", "predict", "posterior", "acquisition", "startup")


def bench(size=64, batch=128, turns=None, tasks=TASKS, changes=None, steps=4, **more) -> dict:
    results = comparison(tasks, size, batch, turns) | more
    for row in results["rows"]:
        row |= {"peak_memory_bytes": row["peak_memory_bytes"] + MORE.get(row["program"], 0)}
        row |= changes or {}
    config = {"model.image_size": size, "backend.steps": steps}
    return record(task="bench", config=config, **results)


def sections_of(folder: Path, *data: dict) -> dict:
    for place, entry in enumerate(data):
        keep(folder / f"{place:02}", entry)
    return {made.title: made for made in sections(index(read_runs(folder)))}


def tables(made, word: str) -> list:
    found = [b for b in made.blocks if b.kind == "table" and word in b.caption]
    assert found, f"no table of {word} among {[getattr(b, 'caption', '') for b in made.blocks]}"
    return found


def rows(made, word: str, key: str = "program") -> dict:
    (found,) = tables(made, word)
    return {row[key]: row for row in found.frame.to_dict("records")}


def answer(folder: Path, *data: dict) -> str:
    made = sections_of(folder, *data)["The answer in five lines"]
    return " ".join(line for block in made.blocks if block.kind == "prose" for line in block.lines)


# Speed


def test_a_speed_is_of_the_median_call_between_the_tenths(tmp_path):
    found = rows(sections_of(tmp_path, bench())["Speed"], "Training steps")
    assert found["PyTorch"]["images/s"] == pytest.approx((512 / 0.25, 512 / 0.3, 512 / 0.225))
    assert found["PyTorch"]["share of the floor (%)"] == 25
    assert list(found) == ["PyTorch, bfloat16", "TensorFlow", "PyTorch", "Keras on PyTorch", "JAX"]
    assert [row["whose"] for row in found.values()] == ["ours", "ours", "ours", "peer", "ours"]


def test_a_ratio_is_that_of_the_record_or_its_inverse(tmp_path):
    found = rows(sections_of(tmp_path, bench())["Speed"], "Training steps")
    assert found["TensorFlow"]["times PyTorch"] == pytest.approx((1.25, 1.1875, 1.3125))
    assert found["PyTorch"]["times TensorFlow"] == pytest.approx((0.8, 1 / 1.3125, 1 / 1.1875))
    assert found["PyTorch"]["times PyTorch"] is None


def test_programs_of_unequal_precision_have_no_ratio_and_say_their_precision(tmp_path):
    made = sections_of(tmp_path, bench())["Speed"]
    found = rows(made, "Training steps")["PyTorch, bfloat16"]
    assert found["precision"] == "bfloat16"
    assert [found[f"times {name}"] for name in ("TensorFlow", "PyTorch", "JAX")] == [None] * 3
    (matrix,) = [t for t in tables(made, "Each against each") if "training" in t.caption]
    assert "PyTorch, bfloat16" not in set(matrix.frame["program"])
    assert matrix.frame.set_index("program").loc["JAX", "times Keras on PyTorch"].middle == 0.6


def test_records_are_never_compared_with_each_other(tmp_path):
    alone = [bench(turns={name: 0.2}, ratios=[]) for name in ("tf", "torch")]
    made = sections_of(tmp_path, *alone)
    for found in tables(made["Speed"], "Training steps"):
        assert len(found.frame) == 1
        assert not [heading for heading in found.headings if heading.startswith("times")]
    (overview,) = tables(made["Speed"], "by task")
    assert list(overview.frame["train (images/s)"]) == pytest.approx([2560, 2560])
    assert "fastest" not in " ".join(made["The answer in five lines"].blocks[0].lines)


def test_ours_over_peers_says_who_is_faster_only_if_every_round_does(tmp_path):
    made = sections_of(tmp_path, bench())["Speed"]
    found = rows(made, "Ours over peers", "task")
    assert found["train"]["ours"] == "PyTorch"
    assert found["train"]["times as fast as the peer"] == pytest.approx((1.2, 1.14, 1.26))
    assert found["train"]["verdict"] == "ours faster"
    assert verdict(Range(1.01, 0.99, 1.03)) == "no difference shown"
    assert verdict(Range(0.9, 0.8, 0.99)) == "peer faster"


def test_ways_to_compile_stand_beside_the_framework_as_it_comes(tmp_path):
    turns = {"tf": 0.2, "tf-eager": 0.8, "tf-bf16": 0.1, "torch": 0.3}
    made = sections_of(tmp_path, bench(turns=turns, tasks=("train",)))["Speed"]
    found = rows(made, "Ways to compile")
    assert list(found) == ["TensorFlow", "TensorFlow, eager"]
    assert found["TensorFlow, eager"]["times as it comes"].middle == 0.25
    assert found["TensorFlow"]["times as it comes"] is None


def test_what_samples_cost_over_one_pass_is_told(tmp_path):
    cost = {"task": "posterior", "against_task": "predict", "program": "jax", "image_size": 64}
    cost |= {"batch_size": 128, "samples": 30, "precision": "float32"}
    data = bench(costs=[cost | {"median": 0.8, "low": 0.5, "high": 1.0}])
    found = rows(sections_of(tmp_path, data)["Speed"], "against another")["JAX"]
    assert found["takes, times as long"] == pytest.approx((1.25, 1.0, 2.0))
    assert (found["task"], found["against"], found["samples"]) == ("posterior", "predict", 30)


def test_what_was_not_timed_is_listed_with_the_reason(tmp_path):
    found = rows(sections_of(tmp_path, bench())["Speed"], "Not timed")["Zoobot"]
    assert found["reason"] == "zoobot cannot be imported"
    assert (found["task"], found["record"]) == ("train", 1)


def test_a_gpu_that_was_not_measured_is_an_empty_row_and_one_that_was_is_none(tmp_path):
    on_cpu = sections_of(tmp_path / "cpu", bench())
    for title_, word in (("Speed", "On a GPU"), ("Memory", "Peak"), ("Cost", "1,000 galaxies")):
        (found,) = tables(on_cpu[title_], word)
        empty = [row for row in found.rows if "not measured: no GPU record" in row]
        assert [row[found.headings.index("program")] for row in empty] == [
            "TensorFlow",
            "PyTorch",
            "JAX",
        ]
        expected = {"TensorFlow", "PyTorch", "JAX", "GPU", "not measured: no GPU record", "—"}
        assert {cell for row in empty for cell in row} <= expected
    on_gpu = bench(turns={"torch": 0.1, "jax": 0.2}, changes={"device": "cuda:0"})
    found = rows(sections_of(tmp_path / "gpu", bench(), on_gpu)["Speed"], "On a GPU")
    assert list(found) == ["TensorFlow"]


def test_rows_of_one_program_alone_are_read_by_the_record_s_backend(tmp_path):
    row = {"task": "train", "image_size": 128, "batch_size": 256, "median_seconds": 8.0}
    old = record("jax", task="bench", rows=[row | {"images_per_second": 32.0}])
    found = rows(sections_of(tmp_path, old)["Speed"], "Training steps")["JAX"]
    assert found["images/s"] == pytest.approx((32, 32, 32))
    assert (found["precision"], found["whose"]) == ("float32", "ours")
    assert found["first call (s)"] is None


def test_programs_have_names():
    assert title("tf") == "TensorFlow"
    assert title("jax-eager") == "JAX, eager"
    assert title("torch-bf16") == "PyTorch, bfloat16"
    assert title("keras-jax") == "Keras on JAX"
    assert title("plain-flax") == "plain Flax"
    assert title("something-else") == "something-else"


def test_the_reference_is_where_most_was_timed(tmp_path):
    data = (bench(64, 32), bench(64, 256), bench(128, 64, tasks=("train",)))
    for place, entry in enumerate(data):
        keep(tmp_path / str(place), entry)
    found = comparisons(index(read_runs(tmp_path)))
    assert reference(found)[1:] == (64, 256)
    assert reference([]) is None


def test_every_comparison_can_be_chosen_by_what_it_is(tmp_path):
    made = sections_of(tmp_path, bench(64, 32), bench(64, 128), bench(128, 128))["Speed"]
    assert made.controls["image size (px)"] == ["64", "128"]
    assert made.controls["batch"] == ["32", "128"]
    assert made.controls["precision"] == ["bfloat16", "float32"]
    assert made.chosen["image size (px)"] == "128"
    faceted = [b for b in made.blocks if getattr(b, "facets", {}).get("task") == "train"]
    assert len([b for b in faceted if b.kind == "figure"]) == 3


# Scaling and memory


def test_scaling_is_drawn_where_batch_or_size_alone_differs(tmp_path):
    made = sections_of(tmp_path / "no", bench(64, 32), bench(128, 64))["Scaling"]
    assert [block.kind for block in made.blocks] == ["prose"]
    found = sections_of(tmp_path / "yes", bench(64, 32), bench(64, 128), bench(128, 128))["Scaling"]
    captions = [b.caption for b in found.blocks if b.kind == "figure" and "Training" in b.caption]
    assert ["against batch" in text for text in captions] == [True, False]
    figure = next(b for b in found.blocks if b.kind == "figure")
    assert "<title>TensorFlow: 2,560 at 32</title>" in figure.svg
    assert figure.records == (1, 2)
    assert "bfloat16" not in figure.svg


def test_memory_is_fitted_by_a_line_through_two_batches_or_more(tmp_path):
    made = sections_of(tmp_path / "two", bench(64, 32), bench(64, 128))["Memory"]
    found = [
        row
        for row in tables(made, "linear fit")[0].frame.to_dict("records")
        if (row["task"], row["program"]) == ("train", "JAX")
    ]
    assert len(found) == 1
    assert found[0]["base (GB)"] == pytest.approx(0.53)
    assert found[0]["each galaxy of a batch (MB)"] == pytest.approx(1)
    assert [found[0][f"largest batch in {size} GB"] for size in (2, 6, 16)] == [1470, 5470, 15470]
    assert found[0]["batches measured"] == "32, 128"
    unlike = sections_of(tmp_path / "unlike", bench(64, 32, steps=4), bench(64, 128, steps=1))
    assert not [b for b in unlike["Memory"].blocks if "linear fit" in getattr(b, "caption", "")]
    assert [block.kind for block in unlike["Scaling"].blocks] == ["prose"]
    single = sections_of(tmp_path / "one", bench(64, 32))["Memory"]
    assert not [b for b in single.blocks if "linear fit" in getattr(b, "caption", "")]
    assert "at two batches" in single.blocks[-1].lines[0]


def test_memory_that_does_not_rise_foretells_no_batch():
    assert Fit(1e9, 0.0, (1, 2)).batch(2) is None
    assert Fit(1e9, -5.0, (1, 2)).batch(2) is None
    assert Fit(3e9, 1e6, (1, 2)).batch(2) == 0


def test_a_fit_is_by_least_squares(tmp_path):
    keep(tmp_path / "one", record(task="bench"))
    (of,) = read_runs(tmp_path)
    peaks = {10: 1.0e9, 20: 2.2e9, 30: 2.8e9}
    found = fitted({b: Timing(of, {"peak_memory_bytes": value}) for b, value in peaks.items()})
    assert found.each == pytest.approx(9e7)
    assert found.base == pytest.approx(2e8)


# Cost


def test_costs_are_seconds_at_the_price_of_the_record(tmp_path):
    data = bench(changes={"energy_joules": 25.6})
    found = tables(sections_of(tmp_path, data)["Cost"], "1,000 galaxies")[0].frame
    row = found.set_index(["task", "program"]).loc[("train", "JAX")]
    assert row["seconds"] == pytest.approx(1000 * 0.5 / 512)
    assert row["money"] == pytest.approx(row["seconds"] / 3600 * 0.36)
    assert row["record"] == 1
    assert row["joules"] == pytest.approx(1000 * 25.6 / 512)


def test_joules_and_money_that_were_not_told_are_empty(tmp_path):
    data = bench()
    del data["results"]["price_per_hour"]
    (found,) = tables(sections_of(tmp_path, data)["Cost"], "1,000 galaxies")
    assert {found.rows[0][found.headings.index(name)] for name in ("joules", "money")} == {"—"}


def test_a_survey_takes_its_galaxies_times_the_seconds_of_one(tmp_path):
    made = sections_of(tmp_path, bench())["Cost"]
    frame = tables(made, "posterior of every galaxy")[0].frame
    row = frame[frame["program"] == "PyTorch"].iloc[0]
    for survey in SURVEYS:
        hours = survey.galaxies * 0.25 / 512 / 3600
        assert row[f"{survey.name} (h)"] == pytest.approx(hours)
        assert row[f"{survey.name} (money)"] == pytest.approx(0.36 * hours)
    assert "steps from memory" in tables(made, "training epoch")[0].caption
    text = " ".join(line for b in made.blocks if b.kind == "prose" for line in b.lines)
    assert all(f"{survey.name} {survey.galaxies:,} galaxies" in text for survey in SURVEYS)


def test_an_epoch_is_told_from_an_epoch_where_one_was_timed(tmp_path):
    made = sections_of(tmp_path, bench(tasks=("train", "epoch")))["Cost"]
    assert "(from disk)" in tables(made, "training epoch")[0].caption


# The answer


def test_the_answer_names_the_fastest_with_its_ratios(tmp_path):
    text = answer(tmp_path, bench(), bench(64, 32, turns={"tf": 0.5, "torch": 0.2, "jax": 0.3}))
    start = "in training at 64 px, batch 128, TensorFlow is fastest, 1.25 (1.19 to 1.31) times"
    assert f"{start} PyTorch and 2.50 (2.37 to 2.62) times JAX" in text
    shown = "threads: 2); it is shown to be fastest in 1 of the 2 trainings timed there."
    assert shown in text
    for what in ("in prediction at 64 px, batch 128", "in start-up at 64 px, batch 128"):
        assert f"{what}, TensorFlow is fastest" in text
    assert "in posteriors at 64 px, batch 128, 30 samples, TensorFlow is fastest" in text
    least = "memory is least by TensorFlow 0.60 GB, against PyTorch 0.63 GB and JAX 0.66 GB"
    assert least in text


def test_the_answer_is_of_cpus_and_of_gpus_each(tmp_path):
    on_gpu = bench(turns={"tf": 0.02, "torch": 0.01, "jax": 0.005}, changes={"device": "A card"})
    text = answer(tmp_path, bench(), on_gpu)
    first, second = text.split("Speed: ")[1].split("Prediction")[0].split("(float32, ")[1:]
    assert first.startswith("cpu, A processor, threads: 2); in training at 64 px")
    assert "JAX is fastest, 4.00 (3.81 to 4.21) times TensorFlow and 2.00 (1.90 to 2.11)" in first
    assert second.startswith("A card, A processor")


def test_what_was_timed_in_no_float32_is_told_with_its_precision(tmp_path):
    changes = {"device": "A card", "precision": "bfloat16"}
    on_gpu = bench(turns={"tf": 0.02, "torch": 0.01, "jax": 0.005}, changes=changes)
    for ratio in on_gpu["results"]["ratios"]:
        ratio["precision"] = "bfloat16"
    text = answer(tmp_path, bench(), on_gpu)
    assert "in training at 64 px, batch 128, TensorFlow is fastest" in text
    expected = (
        "in training at 64 px, batch 128, bfloat16, JAX is fastest, 4.00 (3.81 to 4.21) times"
    )
    assert f"{expected} TensorFlow and 2.00 (1.90 to 2.11) times PyTorch (A card" in text


def test_a_comparison_without_all_of_ours_does_not_hide_one_that_has_them(tmp_path):
    halves = (bench(), bench(turns={"torch": 0.2, "keras-torch": 0.3}))
    assert "in training at 64 px, batch 128, TensorFlow is fastest" in answer(tmp_path, *halves)


def test_a_lead_within_the_spread_of_rounds_is_no_lead(tmp_path):
    text = answer(tmp_path / "one", bench(turns={"tf": 0.2, "torch": 0.204, "jax": 0.5}))
    expected = "TensorFlow is faster, 2.50 (2.37 to 2.62) times JAX, but is not shown to be at 1.02"
    assert f"{expected} (0.97 to 1.07) times PyTorch" in text
    text = answer(tmp_path / "none", bench(turns={"tf": 0.2, "torch": 0.204, "jax": 0.202}))
    assert "none is shown to be fastest: TensorFlow runs at 1.02 (0.97 to 1.07) times" in text
    level = bench(128, turns={"tf": 0.2, "torch": 0.204, "jax": 0.202})
    text = answer(tmp_path / "two", bench(), level)
    assert "it is shown to be fastest in 1 of the 2 trainings timed there" in text


def test_nothing_is_answered_without_records(tmp_path):
    assert answer(tmp_path, record(task="prepare", galaxies=40)) == (
        "No record holds a result to compare, so there is no answer yet."
    )


def test_the_answer_of_active_learning_counts_questions_by_the_last_error(tmp_path):
    runs = []
    for question, ends in (("easy", (0.10, 0.05)), ("hard", (0.10, 0.15)), ("open", None)):
        for seed in range(4):
            for name, place in (("random", 0), ("mutual_information", 1)):
                last = (0.1 + 0.03 * (-1) ** (seed + place)) if ends is None else ends[place]
                course = {
                    "problem": question,
                    "about": {"dataset": "d", "question": question, "backend": "jax"},
                    "acquisition": name,
                    "seed": seed,
                    "seconds": 1.0,
                    "labelled": [10, 20, 30],
                    "measures": {"rmse": [0.3, 0.2, last + 0.001 * seed]},
                    "coverage": None,
                    "pool": {},
                }
                runs.append(course)
    keep(tmp_path / "fit", fit())
    (tmp_path / "labels_saved.json").write_text(json.dumps({"runs": runs, "settings": {}}))
    made = {section.title: section for section in sections(index(read_runs(tmp_path)))}
    text = " ".join(made["The answer in five lines"].blocks[0].lines)
    assert "of 3 questions it saves labels for 1 (d, easy: 11 % (" in text
    assert "it ends worse for 1 (d, hard)" in text
    assert "nothing is shown either way for 1 (d, open)" in text
    blocks = made["Active learning"].blocks
    assert [b.files for b in blocks if b.kind != "prose"] == [("labels_saved.json",)] * 7
    (saved,) = [b for b in blocks if b.kind == "table"]
    easy = saved.frame[saved.frame["question"] == "easy"].iloc[0]
    assert easy["saved at 100% of the fall"].value == pytest.approx(100 * (1 - 80 / 90), rel=0.05)


# Numbers


def test_numbers_are_told_to_twelve_digits_and_their_tables_named(tmp_path):
    made = sections_of(tmp_path, bench(), fit(), fit(seed=1, test={"rmse": 0.123456789012345}))
    read = list(csv.DictReader(numbers_csv(made.values()).splitlines()))
    named = {row["table"]: row for row in csv.DictReader(tables_csv(made.values()).splitlines())}
    count = sum(b.kind == "table" for section in made.values() for b in section.blocks)
    assert len(named) == count
    assert {row["table"] for row in read} <= set(named)

    (of,) = [r for r in read if r["column"] == "RMSE" and named[r["table"]]["section"] == "Error"]
    assert float(of["value"]) == pytest.approx((0.1 + 0.123456789012345) / 2, rel=1e-11)
    assert len(of["value"].rstrip("0")) <= len("0.") + 1 + DIGITS
    assert float(of["spread"]) > 0
    assert named[of["table"]]["records"] == "2-3"
    assert of["key"] == "A; PyTorch; 0, 1"

    (of,) = [
        r
        for r in read
        if r["column"] == "images/s"
        and "; JAX" in f"; {r['key']}"
        and named[r["table"]]["caption"].startswith("Training steps")
    ]
    wanted = [512 / 0.5, 512 / (1.2 * 0.5), 512 / (0.9 * 0.5)]
    found = [float(of[end]) for end in ("value", "low", "high")]
    assert found == pytest.approx(wanted, rel=1e-11)
    assert of["unit"] == "images/s"


def test_a_number_in_words_is_a_number_too():
    made = table(
        "c", [{"a": NumberText("< 5 %", 5.25, None, 6.5), "b (s)": Measure(0.1, None)}], [1]
    )
    section = type("Section", (), {"title": "t", "blocks": (made,)})
    read = list(csv.DictReader(numbers_csv([section]).splitlines()))
    assert [(r["column"], r["value"], r["low"], r["high"], r["unit"]) for r in read] == [
        ("a", "5.25", "", "6.5", ""),
        ("b (s)", "0.1", "", "", "s"),
    ]


# Where it came from


def test_every_table_and_figure_has_its_records_files_commits_and_command(tmp_path):
    one, two = bench(), fit() | {"command": "trizoo fit seed=0"}
    two["host"] = two["host"] | {"commit": "def456"}
    keep(tmp_path / "a", one)
    keep(tmp_path / "b", two)
    agreement = {"pairs": [{"backends": ["tf", "jax"], "seed": 0, "galaxies": 5}], "commit": "feed"}
    agreement["pairs"][0] |= {"mean: median |difference|": 0.02, "same majority (%)": 99.0}
    (tmp_path / "agreement.json").write_text(json.dumps(agreement))
    made = {section.title: section for section in sections(index(read_runs(tmp_path)))}
    origins = rows(made["Where it came from"], "Tables and figures", "what")
    blocks = [b for s in made.values() for b in s.blocks if b.kind != "prose"]
    of_others = blocks[: -len([b for b in made["Where it came from"].blocks if b.kind != "prose"])]
    assert set(origins) == {block.caption for block in of_others}
    error = origins["Error on test galaxies, mean ± spread over seeds"]
    assert (error["records"], error["commits"], error["command"]) == (
        "2",
        "def456",
        "trizoo fit seed=0",
    )
    kept = next(row for what, row in origins.items() if "agreement.json" in what)
    assert (kept["files"], kept["commits"], kept["command"]) == (
        "agreement.json",
        "feed",
        "python -m reports.publish",
    )


def test_what_was_measured_apart_is_told(tmp_path):
    keep(tmp_path / "one", fit())
    (tmp_path / "kills").mkdir()
    kills = {"task": "fit", "backend": "jax", "kills": 10, "errors": 3, "cuts": 2}
    kills |= {"right": False, "seconds": 78.0}
    (tmp_path / "kills" / "kills.json").write_text(json.dumps({"runs": [kills]}))
    speeds = {"images_per_second": {"decode": 2846.8}, "prepare_against": {}, "images": 5535}
    (tmp_path / "stores.json").write_text(json.dumps(speeds))
    stats = {"median": 0.0015, "iqr": 0.0001, "rounds": 700}
    piece = {"name": "test_words_of_a_batch", "stats": stats}
    (tmp_path / "pieces.json").write_text(json.dumps({"benchmarks": [piece], "commit": "feed"}))
    made = {s.title: s for s in sections(index(read_runs(tmp_path)))}[
        "Kills, stores and small pieces"
    ]
    row = ["JAX", "fit", "10", "3", "2", "not the same", "78"]
    assert tables(made, "interrupted")[0].rows == [row]
    assert tables(made, "store")[0].rows == [["Pillow decodes, and no more", "2,847", "—"]]
    assert [block.files for block in made.blocks if block.kind == "table"] == [
        ("kills/kills.json",),
        ("stores.json",),
        ("pieces.json",),
    ]
    assert tables(made, "pieces")[0].rows == [["words of a batch", "1.500", "0.100", "700"]]


# Once and for all


def test_figures_of_an_earlier_report_are_gone_and_nothing_else(tmp_path):
    keep(tmp_path / "records", bench())
    page = write_report(tmp_path / "records", tmp_path / "report")
    folder, words = page.parent / "figures", page.with_name("report.md")
    made = {path.name for path in folder.iterdir()}
    for name in ("speed-of-old.svg", "galaxy-of-old.png", "notes.txt", "mine.svg"):
        (folder / name).write_text("old")
    shown = "![a](figures/speed-of-old.svg)\n![b](figures/galaxy-of-old.png)\n"
    words.write_text(words.read_text() + shown)
    write_report(tmp_path / "records", tmp_path / "report")
    assert {path.name for path in folder.iterdir()} == {*made, "notes.txt", "mine.svg"}


def test_a_thousand_records_make_a_report(tmp_path):
    kinds = ("fit", "active", "bench")
    for place in range(1000):
        kind = kinds[place % 3]
        backend = ("tf", "torch", "jax")[place // 3 % 3]
        seed, size = place // 9 % 20, (64, 96, 128)[place // 180 % 3]
        config = {"model.image_size": size, "training.steps": 100 + place // 540}
        if kind == "bench":
            data = bench(size, 32 * (1 + place // 9 % 20), tasks=("train",))
        elif kind == "active":
            data = record(backend, seed, "active", config, rounds=rounds([0.3, 0.2, 0.1]))
        else:
            data = fit(backend, seed, config)
        keep(tmp_path / "records" / f"{place:04}", data)
    page = write_report(tmp_path / "records", tmp_path / "report").read_text(encoding="utf-8")
    assert "0999" in page
    assert len(page) < 10e6  # characters; a browser opens it


def test_the_committed_report_is_that_of_the_committed_records(tmp_path):
    """`python -m reports.report reports/records reports/report` makes it anew."""
    kept = RECORDS.parent / "report"
    write_report(RECORDS, tmp_path)
    (tmp_path / "rosetta.html").unlink()  # of the source, not of records, and so not kept
    one, two = (
        {
            path.relative_to(top).as_posix(): path.read_text(encoding="utf-8")
            for path in top.rglob("*")
            if path.is_file() and path.suffix in (".html", ".md", ".csv", ".svg")
        }
        for top in (kept, tmp_path)
    )
    one.pop("rosetta.html", None)
    assert sorted(one) == sorted(two)
    assert not {name: pairs for name in one if (pairs := different(one[name], two[name]))}
    assert sum(map(len, one.values())) < 3.1e6


def test_texts_are_alike_but_for_a_rounding():
    text = "a 1,470 b 0.125 " + " ".join(map(str, range(300)))
    assert not different(text, text)
    assert not different(text, text.replace("1,470", "1,469"))  # a floor at a rounding
    assert not different("7 " * 200 + "3.0e-07", "7 " * 200 + "3.1e-07")
    for change in (("1,470", "1,468"), ("0.125", "0.127"), ("a ", "c "), ("0.125", "0.12 5")):
        assert different(text, text.replace(*change))
    assert different(text, text.replace("1", "2"))
