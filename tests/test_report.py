"""The report says what the records say: no more, no less, and what was not tested is never said to be right."""

import copy
import json
import re
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from reports import frameworks, galaxies, labels, publish, quality
from reports.comparisons import comparisons, pooled, reference
from reports.report import pages, report, usable, write_report
from reports.runs import command, find_runs, index, read_runs
from shared.data.store_writer import StoreWriter

RECORDS = Path(__file__).parent.parent / "reports" / "records"

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


@pytest.fixture(autouse=True)
def no_rosetta(monkeypatch):
    """The page of the source takes longer than all else, and has tests of its own."""
    monkeypatch.setattr("reports.report.write_rosetta", lambda path: None)


@pytest.fixture(scope="module")
def page(records) -> Path:
    return write_report(records, records.parent / "report")


class Page(HTMLParser):
    """The tags of a page, its text, and its tables by their captions."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.words, self.tables, self.open = [], [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag == "table":
            self.rows, self.caption = [], ""
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data):
        if "style" in self.open or "script" in self.open:
            return
        self.words.append(data)
        if "caption" in self.open:
            self.caption += data
        elif "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


def shown(blocks) -> Page:
    return Page("".join(map(str, blocks)))


def set_of(tmp_path: Path, *data: dict):
    for number, entry in enumerate(data):
        keep(tmp_path / "runs" / f"{number:02}", entry)
    return index(read_runs(tmp_path / "runs"))


def rows(blocks, caption: str) -> list[dict]:
    (found,) = [rows for name, rows in shown(blocks).tables.items() if name.startswith(caption)]
    return [dict(zip(found[0], row, strict=True)) for row in found[1:]]


# Who is averaged and compared, and what it is called


@pytest.mark.parametrize(
    "config",
    [
        {"training.steps": 200},
        {"backend.threads": 1},
        {"backend.precision": "float64"},
        {"dataset.crop": 0.5},
    ],
)
def test_a_group_differs_in_the_seed_alone(tmp_path, config):
    one, seed, other = set_of(tmp_path, fit(), fit(seed=1), fit(config=config)).records
    assert one.group == seed.group != other.group


def test_device_and_precision_as_they_were_tell_groups_apart(tmp_path):
    gpu, half = fit(), fit()
    gpu["where"]["device"], half["where"]["precision"] = "NVIDIA H200", "bfloat16"
    assert len({record.group for record in set_of(tmp_path, fit(), gpu, half).records}) == 3


def test_runs_are_named_by_what_was_asked_and_by_what_tells_them_apart(tmp_path):
    own = fit("jax")
    own["run"]["folder"] = "here/my_best"
    data = [fit(), fit(seed=1), fit(config={"training.steps": 7}), own]
    made = set_of(tmp_path, *data)
    names = [made.name(record) for record in made.records]
    base = "synthetic, smooth-or-featured, 64 px, PyTorch"
    assert names == [f"{base} (training.steps=100)"] * 2 + [f"{base} (training.steps=7)", "my_best"]


def test_a_mean_is_of_every_seed_or_not_told(tmp_path):
    tests = [{"rmse": 0.1}, {"rmse": 0.2, "mae": None}, {"rmse": 0.3}]
    data = [fit(seed=seed, test=test) for seed, test in enumerate(tests)]
    (found,) = rows(quality.good(set_of(tmp_path, *data)), "Error")
    assert found["RMSE"] == "0.2000 ± 0.1000"
    assert found["seeds"] == "3"
    assert "MAE" not in found


def test_a_record_s_command_is_its_own_or_made_from_its_configuration(tmp_path):
    with_command = fit() | {"command": ["trizoo", "fit", "dataset.name=a b"]}
    own, made = set_of(tmp_path, with_command, fit("jax", seed=3)).records
    assert command(own) == "trizoo fit 'dataset.name=a b'"
    assert command(made).startswith(
        "trizoo fit backend=jax dataset=synthetic seed=3 question=smooth-or-featured"
    )


# Honesty


def coverage(said: float, held: float) -> dict:
    return {
        "galaxies": 1000,
        "votes": 40_000,
        "coverage": [[0, 1.0, 1.0, 0.0], [9, said, held, 0.0]],
    }


@pytest.mark.parametrize(
    ("said", "held", "words"),
    [
        (830, 410, "It says 83 % and is right in 41 %: too sure, do not use these intervals."),
        (830, 820, "It says 83 % and is right in 82 %: its intervals can be used."),
        (
            830,
            970,
            "It says 83 % and is right in 97 %: too unsure, its intervals are wider than they need be.",
        ),
    ],
)
def test_intervals_are_told_in_a_sentence(tmp_path, said, held, words):
    made = set_of(tmp_path, fit(test=coverage(said, held)))
    assert words in shown(quality.honest(made)).words


def test_a_verdict_of_the_run_comes_before_the_nearest_width(tmp_path):
    own = {"90": {"expected": 0.9, "observed": 0.5, "galaxies": 400}}
    (record,) = set_of(tmp_path, fit(test=coverage(830, 820), honesty=own)).records
    assert quality.told([record]) == quality.Share(0.9, 0.5, 400)


def test_one_vote_a_galaxy_tells_nothing_of_intervals(tmp_path):
    made = set_of(tmp_path, fit(test=coverage(830, 820) | {"votes": 1000}))
    assert quality.honest(made) == []


def test_calibrations_are_drawn_with_what_they_mean(tmp_path):
    told = {"galaxies": 500, "pit": {"histogram": [1, 3]}, "votes": [[0.5, 0.6], [0.9, 0.7]]}
    results = {"coverage": {side: {QUESTION: told} for side in ("as_fitted", "recalibrated")}}
    made = shown(quality.honest(set_of(tmp_path, record(task="calibrate", **results))))
    assert any(
        words.startswith("It says 90 % and is right in 70 %: too sure") for words in made.words
    )
    x, y = quality.outline([1, 3])
    assert x.tolist() == [0, 50, 50, 100]
    assert y.tolist() == [25, 25, 75, 75]


def test_a_tree_has_a_row_for_each_question():
    made = shown(quality.good(index(read_runs(RECORDS / "trees_full"))))
    (found,) = [rows for name, rows in made.tables.items() if name.startswith("Questions")]
    assert len(found) == 11
    assert found[0][:2] == ["question", "galaxies"]


# Galaxies and labels


def test_galaxies_are_held_out_surest_and_least_sure_of_each_answer(records):
    made = index(read_runs(records))
    table = posterior(seed=0)
    unseen = table[~table["in_training"]]
    said = unseen[unseen[f"{YES}_mean"] > unseen[f"{NO}_mean"]]
    surest = galaxies.surest(said, YES)
    low = said[f"{YES}_mean"] - galaxies.NINETY * said[f"{YES}_std"]
    assert surest["id"].iloc[0] == said["id"][low.idxmax()]
    assert galaxies.unsure(said, YES)[f"{YES}_std"].is_monotonic_decreasing
    page = shown(galaxies.galaxies(made))
    names = [attrs["alt"] for tag, attrs in page.tags if tag == "img"]
    assert len(names) == 16
    assert all(int(name.removeprefix("galaxy g")) % 2 for name in names)
    assert any(re.fullmatch(r"\d+ of \d+ votes", words) for words in page.words)


def test_galaxies_whose_store_is_gone_are_no_section(tmp_path):
    keep(tmp_path / "one", fit(store=str(tmp_path / "gone")), posterior=posterior())
    assert galaxies.galaxies(index(read_runs(tmp_path))) == []


def test_labels_saved_are_told_in_a_sentence(records, tmp_path):
    page = shown(labels.labels(index(read_runs(records))))
    assert any(words.startswith("Mutual information pays: it saves ") for words in page.words)
    one = record(task="active", rounds=rounds([0.3, 0.2, 0.1]))
    assert not shown(labels.labels(set_of(tmp_path, one))).tables.keys() & {"Labels saved"}


# Frameworks


def bench(turns=None, changes=None, **more) -> dict:
    results = comparison(turns=turns, **more)
    for row in results["rows"]:
        row |= changes or {}
    return record(task="bench", config={"model.image_size": more.get("size", 64)}, **results)


def findings(tmp_path, *data: dict) -> str:
    text = "".join(shown(frameworks.comparison(set_of(tmp_path, *data))).words)
    return text[: text.index("Every timing")]


def test_the_first_screen_answers_in_three_sentences(tmp_path):
    page = shown(frameworks.comparison(set_of(tmp_path, bench(), bench())))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert ids[:2] == ["answer", "findings"]
    assert [tag for tag, _ in page.tags].count("li") == 3
    text = "".join(page.words)
    assert (
        "TensorFlow is fastest, 1.25 (1.19 to 1.31) times PyTorch and 2.50 (2.37 to 2.62) times JAX"
        in text
    )
    assert "training takes, in GB, JAX 0.63, TensorFlow 0.63, PyTorch 0.63" in text
    assert "batch 128, float32, 2 runs" in text


def test_a_lead_within_the_spread_is_no_lead(tmp_path):
    assert "TensorFlow and PyTorch cannot be told apart" in findings(
        tmp_path, bench({"tf": 0.2, "torch": 0.201, "jax": 0.5})
    )


def test_repeats_are_pooled_and_other_machines_are_not(tmp_path):
    data = [bench({"tf": 0.2, "torch": t}) for t in (0.25, 0.3, 0.35)]
    other = bench({"tf": 0.2, "torch": 0.1})
    other["host"]["processor"] = "Another"
    found = pooled(comparisons(set_of(tmp_path, *data, other)))
    assert len(found) == 6
    best = reference(found)["train"]
    assert len(best.repeats) == 3
    assert best.ratios["tf", "torch"] == pytest.approx((1.5, 1.25, 1.75))
    assert best.measured("torch", "float32").middle == pytest.approx(512 / 0.3)
    assert best.leader[0] == "tf"


def test_unequal_precisions_have_no_ratio_and_records_of_two_times_neither(tmp_path):
    one, other = bench({"tf": 0.2, "torch-bf16": 0.1}), bench({"jax": 0.1})
    (train, *_) = pooled(comparisons(set_of(tmp_path, one, other)))
    assert len(train.repeats) == 2
    assert train.ratios == {}
    assert train.leader is None


def test_what_was_not_timed_is_said(tmp_path):
    gpu = bench({"torch": 0.1, "jax": 0.2}, {"device": "NVIDIA H200"})
    page = shown(frameworks.comparison(set_of(tmp_path, bench(), gpu)))
    answer = next(
        rows for name, rows in page.tables.items() if name.startswith("Galaxies a second")
    )
    assert answer[6][0] == "TensorFlow"
    assert answer[6][1:] == ["not timed"] * 3
    assert ["Zoobot", "train", "64", "zoobot cannot be imported"] in page.tables["Not timed"]


def test_fits_answer_where_nothing_took_turns(tmp_path):
    slow = fit("jax", images_per_second=100.0)
    text = findings(tmp_path, fit(), slow)
    assert frameworks.FITS in text
    assert "fastest" not in text
    assert frameworks.comparison(set_of(tmp_path / "one", fit())) == []


# Pages


def test_every_page_needs_no_other_file_and_is_small(page):
    for path in page.parent.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert len(text.encode()) < 1e6
        found = Page(text)
        assert not {tag for tag, _ in found.tags} & {"link", "iframe", "object", "embed"}
        for tag, attrs in found.tags:
            assert not attrs.get("src", "").startswith(("http", "//")), tag
            assert not attrs.get("href", "").startswith(("http", "//")), tag
        assert "default-src &#39;none&#39;" in text
        ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        links = [a["href"][1:] for t, a in found.tags if t == "a" and a["href"].startswith("#")]
        assert set(links) <= set(ids)


def test_the_same_records_give_the_same_bytes(records, page, tmp_path):
    write_report(records, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["comparison.html", "report.html", "runs.csv", "timings.csv"]
    assert all(
        (tmp_path / name).read_bytes() == (page.parent / name).read_bytes() for name in names
    )


def test_galaxies_come_first_and_empty_sections_do_not_come(records, tmp_path):
    def heads(made) -> list[str]:
        return re.findall(r"<h2>(.*?)</h2>", "".join(map(str, made)))

    assert heads(pages(index(read_runs(records)))[0]) == [
        *("Galaxies", "How good", "How honest", "What labels are worth", "How fast", "Records")
    ]
    runs, found = pages(set_of(tmp_path, record(task="prepare")))
    assert heads(runs) == ["Records"]
    assert found == []


def test_hostile_names_stay_text(tmp_path):
    bad = "<script>alert(1)</script>\"'&"
    config = {"dataset.name": bad, "question": bad, "backend.name": bad, "positive": [bad]}
    keep(tmp_path / "runs" / "a", fit(config=config))
    keep(tmp_path / "runs" / "b", record(task="active", config=config, rounds=rounds([0.2, 0.1])))
    text = write_report(tmp_path / "runs", tmp_path / "report").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_a_thousand_records_make_a_small_page(tmp_path):
    for place in range(1000):
        backend, seed = ("tf", "torch", "jax")[place % 3], place // 9 % 20
        config = {
            "model.image_size": (64, 96, 128)[place // 180 % 3],
            "training.steps": 100 + place // 540,
        }
        data = [
            bench(size=64, batch=32 * (1 + place // 9 % 20), tasks=("train",)),
            record(backend, seed, "active", config, rounds=rounds([0.3, 0.2, 0.1])),
            fit(backend, seed, config),
        ][place // 3 % 3]
        keep(tmp_path / "records" / f"{place:04}", data)
    for made in pages(index(read_runs(tmp_path / "records"))):
        assert 10_000 < sum(map(len, made)) < 1e6


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
    (tmp_path / "good" / "record.json").unlink()
    with pytest.raises(ValueError, match=r"no record.json below .*broken.record\.json"):
        write_report(tmp_path, tmp_path / "report")


STRAY = {
    "x/record.json": "",  # a folder
    "y/record.json": json.dumps(fit() | {"results": []}),
    "z/record.json": json.dumps(record(task="bench", rows=7)),
    "u/record.json": json.dumps(record(task="conform", checks=[{"check": "seen"}])),
    "v/record.json": json.dumps(record(task="active", rounds=["a"])),
    "mutants.json": '[{"mutant": 1}]',
    "equivalence.json": '{"margin": 1, "pairs": {"a-b": {"mean": 0, "interval": [1], "equivalent": true}}}',
    "trajectories.json": "[" * 100_000,
    "labels_saved.json": '{"runs": [{"problem": "a"}]}',
    "agreement.json": "\x00" * 100,
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


def test_the_task_gives_the_page_and_the_number_of_records(tmp_path, capsys):
    keep(tmp_path / "one", fit())
    keep(tmp_path / "report", record(task="report", report="an earlier one"))
    found = report(SimpleNamespace(outputs=str(tmp_path)), tmp_path / "report")
    page = str(tmp_path / "report" / "report.html")
    assert found == {"where": {}, "results": {"report": page, "records": 1, "left_out": {}}}
    assert capsys.readouterr().out == f"{page}\n"


def test_a_published_record_is_named_by_what_it_measures_and_changes_no_other_file(tmp_path):
    timed = bench(tasks=("train",))
    timed["run"]["bench"] = {"tasks": ["train"]}
    timed["host"]["processor"] = "AMD EPYC 7763 64-Core Processor"
    made = set_of(tmp_path, timed, fit(), fit("jax"))
    assert [publish.name(record) for record in made.records] == [
        "train-64px-float32-epyc-7763-2020-01-01",
        "fit-synthetic-smooth-or-featured-torch-seed0-64px-float32-a-2020-01-01",
        "fit-synthetic-smooth-or-featured-jax-seed0-64px-float32-a-2020-01-01",
    ]
    assert publish.publish(tmp_path / "runs", tmp_path / "kept") == 3
    before = {path: path.read_bytes() for path in (tmp_path / "kept").rglob("*.json")}
    assert publish.publish(tmp_path / "runs", tmp_path / "kept") == 3
    assert len(read_runs(tmp_path / "kept")) == 6
    assert all(path.read_bytes() == text for path, text in before.items())
