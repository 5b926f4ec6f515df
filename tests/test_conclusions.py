"""The conclusions from the timings: the right ratios, the right way round, and whether runs agree."""

import pytest

from reports import conclusions
from reports.conclusions import Spread
from shared.run.records import write_json


def entry(task, size, program, precision="float32", **more):
    about = {"task": task, "image_size": size, "program": program, "precision": precision}
    return about | {"batch_size": 128, "samples": None} | more


def ratio(task, size, one, other, *spread, **more):
    ends = dict(zip(("median", "low", "high"), spread, strict=True))
    return entry(task, size, one, against=other, **ends, **more)


def cost(task, size, program, *spread):
    ends = dict(zip(("median", "low", "high"), spread, strict=True))
    samples = 30 if task == "posterior" else None
    return entry(task, size, program, against_task="other", samples=samples, **ends)


def row(task, size, program, speed=100.4, share=0.254, seconds=2.04, **more):
    numbers = {"images_per_second": speed, "floor_share": share, "median_seconds": seconds}
    return entry(task, size, program, **numbers, **more)


FIRST = {
    "rows": [row("train", 64, "tf", speed=55)],
    "ratios": [
        ratio("train", 64, "tf", "keras-tf", 1.2, 1.1, 1.3),
        ratio("train", 64, "tf", "torch", 1.25, 1.0, 2.0),
        ratio("train", 64, "tf", "jax", 1.6, 1.5, 1.7),
        ratio("train", 64, "torch", "jax", 1.4, 1.3, 1.5),
        ratio("train", 64, "jax", "keras-jax", 9, 9, 9, precision="bfloat16"),
    ],
    "costs": [cost("posterior", 64, "tf", 0.8, 0.5, 1.0), cost("epoch", 64, "tf", 1.0, 0.8, 1.0)],
}
SECOND = {
    "rows": [
        row("train", 64, "tf"),
        row("train", 64, "tf", speed=900, precision="bfloat16"),
        row("train", 128, "tf", speed=30, share=None),
        row("train_plain", 64, "keras-tf", speed=90),
        row("posterior", 64, "tf", speed=400, samples=30),
    ],
    "ratios": [
        ratio("train", 64, "tf", "keras-tf", 0.9, 0.8, 1.05),
        ratio("train", 64, "tf", "torch", 1.05, 1.0, 1.1),
    ],
    "costs": [cost("posterior", 64, "tf", 0.9, 0.9, 1.0)],
}
ONCE = {
    "rows": [
        row("startup", 64, "tf"),
        row("acquisition", 64, "tf", speed=512345.6),
        row("posterior", 64, "tf", speed=460, samples=30, batch_size=32),
    ],
    "costs": [cost("posterior", 64, "tf", 0.5, 0.4, 0.8) | {"samples": 5}],
}
MODES = {
    "rows": [
        row("train", 64, "tf", compiled="tf.function", first_seconds=4.44, peak_memory_bytes=2**30),
        row("predict", 64, "tf", speed=1400, compiled="tf.function", peak_memory_bytes=2**21),
        row("train", 64, "tf-bf16", speed=80, precision="bfloat16", compiled="tf.function")
        | {"first_seconds": 5, "peak_memory_bytes": 2**20},
        row("predict", 64, "tf-full", speed=9, compiled="XLA", peak_memory_bytes=2**22),
    ],
    "missing": [{"program": "tf-full", "task": "train", "reason": "no answer"}],
}


@pytest.fixture
def records(tmp_path):
    for name, results in (
        ("first", FIRST),
        ("second", SECOND),
        ("once/a", ONCE),
        ("once/b", MODES),
    ):
        run = {"task": {"name": "bench"}, "backend": {"name": "torch"}, "seed": 0}
        write_json(
            tmp_path / name / "bench" / "one" / "record.json", {"run": run, "results": results}
        )
    return tmp_path


def test_conclusions_rest_on_ratios_the_right_way_round(records):
    heading, *rows = conclusions.conclusions(records)
    assert heading[3:] == ["first run", "second run", "median of runs", "met", "runs agree"]
    assert {row[0]: row[1:] for row in rows} == {
        "training: TensorFlow over Keras on TensorFlow": [
            "64", "at least 1.0", "1.20 (1.10 to 1.30)", "0.90 (0.80 to 1.05)", "1.05", "yes (1 of 2)", "no"
        ],
        "training: PyTorch over TensorFlow": [
            "64", "within 1.1", "0.80 (0.50 to 1.00)", "0.95 (0.91 to 1.00)", "0.88", "no (1 of 2)", "yes"
        ],
        "training: the fastest over JAX": [
            "64", "at most 1.5", "1.60 (1.50 to 1.70)", "", "1.60", "no", ""
        ],
        "time of 30 samples over one pass: TensorFlow": [
            "64", "at most 1.15", "1.25 (1.00 to 2.00)", "1.11 (1.00 to 1.11)", "1.18", "no (1 of 2)", "yes"
        ],
        "time of an epoch from disk over one from memory: TensorFlow": [
            "64", "at most 1.05", "1.00 (1.00 to 1.25)", "", "1.00", "yes", ""
        ],
    }  # fmt: skip


def test_runs_agree_where_their_ranges_meet():
    one = Spread(1.0, 0.9, 1.1)
    assert conclusions.agree([one, Spread(1.15, 1.1, 1.2)]) == "yes"
    assert conclusions.agree([Spread(1.15, 1.11, 1.2), one]) == "no"
    assert conclusions.agree([one, None]) == conclusions.agree([one]) == ""
    assert conclusions.agree([one, None, Spread(1.15, 1.1, 1.2)]) == "yes"
    assert conclusions.agree([one, Spread(1, 0.8, 1.0), Spread(1.05, 1.02, 1.2)]) == "no"


def test_what_a_gpu_said_stands_by_device_precision_and_size(tmp_path):
    rows = [
        row("train", 128, "torch", precision="tf32", device="Card", speed=12000.4, share=0.123),
        row("predict", 128, "torch", precision="bfloat16", device="Card", share=None),
        row("posterior", 128, "jax", precision="bfloat16", device="Card", speed=50),
    ]
    run = {"task": {"name": "bench"}, "backend": {"name": "torch"}, "seed": 0}
    write_json(tmp_path / "gpu" / "one" / "record.json", {"run": run, "results": {"rows": rows}})
    tasks = ["training", "an epoch from disk", "one pass", "30 samples"]
    assert conclusions.gpu(tmp_path) == [
        ["", "device", "precision", "px", *tasks],
        ["PyTorch", "Card", "bfloat16", "128", "", "", "100", ""],
        ["JAX", "Card", "bfloat16", "128", "", "", "", "50 (25 %)"],
        ["PyTorch", "Card", "tf32", "128", "12,000 (12 %)", "", "", ""],
    ]


def test_speeds_stand_with_their_share_of_the_floor_and_other_precisions_apart(records):
    heading, *rows = conclusions.training(records)
    assert heading[1:] == [
        "training, 64 px",
        "training without views, 64 px",
        "training, 128 px",
        "training without views, 128 px",
    ]
    assert rows == [
        ["TensorFlow", "100 (25 %)", "", "30", ""],
        ["Keras on TensorFlow", "", "90 (25 %)", "", ""],
    ]


def test_parts_are_in_galaxies_a_second_or_seconds(records):
    heading, *rows = conclusions.parts(records)
    row = dict(zip(heading, rows[0], strict=True))
    assert (row[""], row["px"]) == ("TensorFlow", "64")
    assert row["start-up (s)"] == "2.0"
    assert row["acquisition alone (/s)"] == "512,346"
    assert row["30 samples (/s)"] == "400"
    assert "views alone (/s)" not in row  # which nobody was timed at


def test_samples_and_ways_to_compile_are_of_what_was_timed_once(records):
    heading, *rows = conclusions.samples(records)
    assert heading == ["", "5 samples", "30 samples"]
    assert rows[0] == ["TensorFlow", "2.00 (1.25 to 2.50)", "1.11 (1.00 to 1.11)"]
    heading, *rows = conclusions.ways(records)
    assert rows == [
        ["TensorFlow", "tf.function", "100", "4.4", "1,400", "1,024"],
        ["TensorFlow, bfloat16", "tf.function", "80", "5.0", "", "1"],
        ["TensorFlow, fully compiled", "XLA", "not timed", "", "9", "4"],
    ]
