"""What README concludes from the timings: the right ratios, the right way round, and whether runs agree."""

import pytest

from reports import conclusions
from reports.conclusions import Spread
from shared.records import write_json


def entry(task, size, program, precision="float32", **more):
    about = {"task": task, "image_size": size, "program": program, "precision": precision}
    return about | {"batch_size": 128, "samples": None} | more


def ratio(task, size, one, other, *spread, **more):
    ends = dict(zip(("median", "low", "high"), spread, strict=True))
    return entry(task, size, one, against=other, **ends, **more)


def cost(task, size, program, *spread):
    ends = dict(zip(("median", "low", "high"), spread, strict=True))
    return entry(task, size, program, against_task="other", **ends)


def row(task, size, program, speed=100.4, share=0.254, seconds=2.04, **more):
    numbers = {"images_per_second": speed, "floor_share": share, "median_seconds": seconds}
    return entry(task, size, program, **numbers, **more)


FIRST = {
    "rows": [
        row("train", 64, "tf"),
        row("train", 64, "tf", speed=900, precision="bfloat16"),
        row("train", 128, "tf", speed=30, share=None),
        row("train_plain", 64, "keras-tf", speed=90),
        row("startup", 64, "tf"),
        row("acquisition", 64, "tf", speed=512345.6),
    ],
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
    "rows": [],
    "ratios": [
        ratio("train", 64, "tf", "keras-tf", 0.9, 0.8, 1.05),
        ratio("train", 64, "tf", "torch", 1.05, 1.0, 1.1),
    ],
    "costs": [cost("posterior", 64, "tf", 0.9, 0.9, 1.0)],
}


@pytest.fixture
def records(tmp_path):
    for name, results in (("first", FIRST), ("second", SECOND)):
        run = {"task": {"name": "bench"}, "backend": {"name": "torch"}, "seed": 0}
        write_json(
            tmp_path / name / "bench" / "one" / "record.json", {"run": run, "results": results}
        )
    return tmp_path


def test_conclusions_rest_on_ratios_the_right_way_round(records):
    heading, *rows = conclusions.conclusions(records)
    assert heading == ["", "px", "asked", "first run", "second run", "met", "runs agree"]
    assert {row[0]: row[1:] for row in rows} == {
        "training: TensorFlow over Keras on TensorFlow": [
            "64", "at least 1.0", "1.20 (1.10 to 1.30)", "0.90 (0.80 to 1.05)", "1 of 2", "no"
        ],
        "training: PyTorch over TensorFlow": [
            "64", "within 1.1", "0.80 (0.50 to 1.00)", "0.95 (0.91 to 1.00)", "1 of 2", "yes"
        ],
        "training: the fastest over JAX": ["64", "at most 1.5", "1.60 (1.50 to 1.70)", "", "no", ""],
        "time of 30 samples over one pass: TensorFlow": [
            "64", "at most 1.15", "1.25 (1.00 to 2.00)", "1.11 (1.00 to 1.11)", "1 of 2", "yes"
        ],
        "time of an epoch from disk over one from memory: TensorFlow": [
            "64", "at most 1.05", "1.00 (1.00 to 1.25)", "", "yes", ""
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
    assert conclusions.gpu(tmp_path) == [
        ["", "device", "precision", "px", "training", "one pass", "30 samples"],
        ["PyTorch", "Card", "bfloat16", "128", "", "100", ""],
        ["JAX", "Card", "bfloat16", "128", "", "", "50 (25 %)"],
        ["PyTorch", "Card", "tf32", "128", "12000 (12 %)", "", ""],
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
    told = dict(zip(heading, rows[0], strict=True))
    assert (told[""], told["px"]) == ("TensorFlow", "64")
    assert told["start-up (s)"] == "2.0"
    assert told["acquisition alone (/s)"] == "512,346"
    assert "30 samples (/s)" not in told  # which nobody was timed at
