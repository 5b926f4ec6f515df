"""Every file of conf/ composes into a run, and says what it should."""

import re
import shlex
from pathlib import Path

import pytest

import trizoo
from shared.data.synthetic import QUESTIONS, draw_galaxies
from shared.run.config import USES, at, check_used, differences
from shared.run.spec import RunSpec, from_config
from trizoo import key_of

GROUPS = ["task", "backend", "dataset", "model", "augmentation", "training"]
GROUPS += ["likelihood", "posterior", "acquisition", "oracle", "bench", "match", "conform", "mode"]
GROUPS += ["start", "engine"]
CHOICES = [
    f"{group}={file.stem}"
    for group in (*GROUPS, "experiment")
    for file in sorted((trizoo.CONF / group).glob("*.yaml"))
]


COMPLETE = (
    *(f"dataset={file.stem}" for file in (trizoo.CONF / "dataset").glob("synthetic*.yaml")),
    "dataset=sdss_gz1",
)  # others may want to be told where the images are


def composed(*overrides: str) -> RunSpec:
    """The run that `overrides` spell out; a folder of images is given where one must be."""
    own = any(word.startswith("dataset=") and word not in COMPLETE for word in overrides)
    images = ["dataset.images=photos"] if own else []
    if any(word.startswith("posterior=") and word.endswith("laplace") for word in overrides):
        images.append("likelihood=dirichlet_multinomial")
    if any(word.startswith("posterior=ensemble") for word in overrides):
        images.append("training.members=5")
    return from_config(RunSpec, trizoo.compose([*overrides, *images]))


def used_by_their_task(words: list[str]) -> None:
    """Raise ValueError if a command of `words` names a key that its task does not use."""
    (task,) = (word.removeprefix("task=") for word in words if word.startswith("task="))
    check_used(task, map(key_of, words))


def test_every_folder_of_conf_is_composed_here():
    folders = {path.name for path in trizoo.CONF.iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == {*GROUPS, "experiment", "hydra", "cloud"}
    assert len(CHOICES) >= 58


@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_composes_into_a_run(choice):
    run = composed(choice)
    group, name = choice.split("=")
    if group in ("task", "backend", "acquisition"):
        assert getattr(run, group).name == name


def test_every_task_but_the_demo_has_a_file():
    files = {path.stem for path in (trizoo.CONF / "task").iterdir()}
    assert files == set(trizoo.TASKS)


@pytest.mark.parametrize(
    "file", sorted((trizoo.CONF / "experiment").iterdir()), ids=lambda file: file.stem
)
def test_every_experiment_opens_with_its_command_and_cost(file):
    opening = [line for line in file.read_text().splitlines() if line.startswith("# ")]
    commands = [line.split("trizoo ")[1].split("  ")[0] for line in opening if " trizoo " in line]
    assert any(f"experiment={file.stem}" in command for command in commands)
    assert re.search(r"minute|hour|day|Cost as", " ".join(opening))
    for command in commands:
        words = trizoo.hydra_words([word for word in shlex.split(command) if word != "-m"])
        used_by_their_task(words)
        composed(*(re.sub(r"=([^\[,]+),.*", r"=\1", word) for word in words))


def test_corrected_is_the_network_and_schedule_of_the_paper():
    run = composed("mode=corrected")
    assert (run.likelihood.name, run.posterior.method) == ("binomial", "dropout")
    assert run.model.blocks == ((32, 32), (64, 64), (128,), (128,))
    assert (run.model.image_size, run.model.dense, run.model.dropout) == (128, 128, 0.5)
    assert (run.training.batch_size, run.training.learning_rate) == (256, 1e-3)
    asked = run.acquisition
    assert (asked.initial, asked.per_round, asked.rounds, asked.samples) == (256, 128, 25, 120)
    assert (asked.first_steps, asked.round_steps) == (125 * 15, 50 * 15)
    learnable = run.dataset.galaxies * (1 - run.split.validation - run.split.test)
    assert learnable > asked.initial + asked.per_round * asked.rounds


FAITHFUL = {
    "augmentation.zoom_per": "call",
    "augmentation.at_prediction": True,
    "augmentation.rotation": "half",
    "augmentation.border": "zero",
    "augmentation.resampling": "nearest",
    "model.scale": "raw",
    "acquisition.shards": 4,
    "training.epsilon_form": "hat",
}


def test_faithful_switches_these_departures_and_no_more():
    corrected, faithful = trizoo.compose(["mode=corrected"]), trizoo.compose(["mode=faithful"])
    assert set(differences(corrected, faithful)) == set(FAITHFUL)
    for key, value in FAITHFUL.items():
        group, name = key.split(".")
        assert faithful[group][name] == value


@pytest.mark.parametrize("key", FAITHFUL)
def test_each_departure_can_be_undone_by_itself(key):
    group, name = key.split(".")
    today = trizoo.compose([])[group][name]
    undone = trizoo.compose(["mode=faithful", f"{key}={today}"])
    assert undone[group][name] == today
    assert len(differences(undone, trizoo.compose(["mode=faithful"]))) == 1


def test_an_experiment_may_choose_the_mode_and_the_command_line_another():
    assert composed("experiment=w20").model.scale == "raw"
    assert composed("experiment=w20", "mode=corrected").model.scale == "unit"
    assert composed("experiment=w20_bar").augmentation.zoom == (2.0, 2.2)
    assert composed("experiment=w20_bar").augmentation.rotation == "half"


@pytest.mark.parametrize(
    ("experiment", "times"),
    [("w20", 1), ("w20_bar", 1), ("w20_pairs", 10), ("w20_pairs_small", 10)],
)
def test_the_papers_schedule_has_galaxies_enough(experiment, times):
    run = composed(f"experiment={experiment}")
    votes = draw_galaxies(1000, run.dataset.seed)[f"{run.question}_total"]
    learnable = 1 - run.split.validation - run.split.test
    asked = run.acquisition.initial + run.acquisition.rounds * run.acquisition.per_round
    assert run.dataset.galaxies * (votes >= run.minimum_votes).mean() * learnable > times * asked


SAVED = sorted(file.stem for file in (trizoo.CONF / "experiment").glob("labels_saved*.yaml"))


def test_labels_are_saved_on_five_questions_and_on_a_tree():
    asked = {composed(f"experiment={name}").question for name in SAVED}
    assert asked == {"smooth-or-featured", "bar", "disk-edge-on", "face-on-spiral"}
    assert len(SAVED) == 6
    assert composed("experiment=labels_saved_tree").questions == ("all",)


@pytest.mark.parametrize("experiment", SAVED)
def test_labels_saved_is_a_sweep_of_pairs_with_equal_schedules(experiment, monkeypatch):
    """What the sweep of the file alone comes to: its acquisitions with 8 seeds each, alike in all else."""
    from hydra import compose, initialize_config_dir

    monkeypatch.setenv("TRIZOO_REAL_DATA", "somewhere")
    with initialize_config_dir(str(trizoo.CONF), version_base="1.3"):
        config = compose("config", [f"experiment={experiment}"], return_hydra_config=True)
    params = config.hydra.sweeper.params
    names = ["mutual_information", "random"]
    if experiment == "labels_saved_tree":
        names.insert(0, "walk_information")
    assert params == {"acquisition": ",".join(names), "seed": "range(0,8)"}
    one, *others = (
        trizoo.compose(["task=active", f"acquisition={name}", f"experiment={experiment}"])
        for name in names
    )
    for other in others:
        assert differences(one, other) == ["acquisition.name"]
    asked = composed(f"experiment={experiment}").acquisition
    assert 32 <= asked.initial <= 64
    assert 16 <= asked.per_round <= 32
    assert asked.start == "warm"


def test_answers_named_yes_and_no_stay_words():
    questions = composed().dataset.questions
    assert questions["disk-edge-on"] == ("yes", "no")
    assert questions["bar"] == ("strong", "weak", "no")
    added = composed("dataset=folder", "+dataset.questions.merging=[yes,no]")
    assert added.dataset.questions["merging"] == ("yes", "no")


def test_synthetic_questions_are_those_that_are_drawn():
    drawn = {question: tuple(answers) for question, answers in QUESTIONS.items()}
    assert composed("dataset=synthetic").dataset.questions == drawn


def test_unknown_keys_fail_both_ways():
    with pytest.raises(ValueError, match="learning_rat"):
        trizoo.compose(["training.learning_rat=1"])
    config = trizoo.compose(["+training.learning_rat=1"])
    with pytest.raises(ValueError, match=r"no key training\.learning_rat"):
        from_config(RunSpec, config)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "training.learning_rate=inf",
            r"training\.learning_rate is inf; it must be a finite number",
        ),
        ("training.learning_rate=nan", r"training\.learning_rate is nan"),
        ("training.epsilon=-inf", r"training\.epsilon is -inf"),
        ("dataset.service.per_second=inf", r"dataset\.service\.per_second is inf"),
        ("bench.patience=.inf", r"bench\.patience is '\.inf'"),
        ("acquisition.coldness=nan", r"acquisition\.coldness is nan"),
        ("augmentation.zoom=[1.0,inf]", r"augmentation\.zoom\[1\] is inf"),
        ("+dataset.service.scale.columns.r90=nan", r"scale\.columns\.r90 is nan"),
        (f"match.radius={'9' * 400}", r"match\.radius is inf"),
    ],
)
def test_a_number_that_is_none_is_named(word, message):
    with pytest.raises(ValueError, match=message):
        composed(word)


def test_every_task_says_what_it_uses():
    assert set(USES) == set(trizoo.TASKS)
    config = trizoo.compose([]) | {"mode": None, "start": None}
    for names in USES.values():
        assert all(at(config, name.removeprefix("~"), ...) is not ... for name in names)


@pytest.mark.parametrize(
    ("task", "key"),
    [
        ("predict", "model.encoder"),
        ("export", "model.encoder"),
        ("conform", "model.encoder"),
        ("bench", "model.encoder"),
        ("fit", "match.store"),
        ("fit", "acquisition.rounds"),
        ("fit", "acquisition"),
        ("fit", "oracle"),
        ("fit", "conform.kit"),
        ("fit", "bench.rounds"),
        ("prepare", "posterior.samples"),
        ("prepare", "seed"),
        ("prepare", "backend"),
        ("prepare", "mode"),
        ("show", "question"),
        ("match", "split.test"),
        ("report", "dataset"),
        ("kit", "model.image_size"),
        ("predict", "mode"),
        ("predict", "minimum_votes"),
        ("predict", "training.steps"),
        ("predict", "posterior.galaxies"),
        ("calibrate", "posterior.expected_votes"),
        ("export", "backend"),
        ("export", "dataset.images"),
        ("active", "training.steps"),
        ("active", "weights"),
        ("active", "posterior.calibration"),
        ("bench", "dataset.galaxies"),
        ("bench", "training.batch_size"),
        ("conform", "posterior"),
        ("fit", "nonsense"),
    ],
)
def test_a_key_that_a_task_does_not_use_is_refused(task, key):
    with pytest.raises(ValueError, match=rf"^{task} does not use {key}; .*: {task} uses "):
        check_used(task, ["outputs", key])


def test_every_task_may_be_put_anywhere_and_have_a_process_of_its_own():
    words = [
        "task",
        "outputs",
        "folder",
        "again",
        "experiment",
        "hydra/launcher",
        "hydra.sweeper.params",
    ]
    for task in USES:
        check_used(task, [*words, "backend.threads", "backend.python", "backend.environment.MARK"])


def test_a_key_without_its_value_is_named():
    with pytest.raises(ValueError, match=r"dataset\.images has no value; give one"):
        trizoo.compose(["dataset=folder"])


@pytest.mark.parametrize("question", ["edge_on", "spiral"])
def test_the_other_questions_of_real_galaxies_replace_the_first(question):
    run = composed(f"experiment=labels_saved_sdss_{question}")
    ((question, answers),) = run.dataset.questions.items()
    assert question == run.question
    assert sorted(value for values in run.dataset.classes.values() for value in values) == [*"0123"]
    assert tuple(run.dataset.classes) == answers
    assert run.dataset.crop == composed("dataset=sdss_gz1").dataset.crop


def test_stores_and_real_data_are_found_where_they_are_said_to_be(monkeypatch):
    assert composed("outputs=elsewhere").dataset.stores == "elsewhere/stores"
    monkeypatch.setenv("TRIZOO_REAL_DATA", "/somewhere")
    assert composed("dataset=sdss_gz1").dataset.table == "/somewhere/sdss_gz1/classes.csv"
    monkeypatch.delenv("TRIZOO_REAL_DATA")
    assert "TRIZOO_REAL_DATA-is-not-set" in composed("dataset=sdss_gz1").dataset.images


def test_yaml_names_no_import_path():
    for file in Path(trizoo.CONF).rglob("*.yaml"):
        assert "_target_" not in file.read_text(), file


@pytest.mark.parametrize("word", ["dataset.seeing=20", "dataset.depth=0"])
def test_a_telescope_of_no_sense_is_refused(word):
    with pytest.raises(ValueError, match=r"of synthetic galaxies alone, and from 0\.1 to 10"):
        composed(word)
    with pytest.raises(ValueError, match="of synthetic galaxies alone"):
        composed("dataset=folder", "dataset.images=photos", "dataset.seeing=1")
