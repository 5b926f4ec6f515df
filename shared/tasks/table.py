"""What the table of a run settles where its settings leave it open: classes, and that it has places but no votes."""

import copy
from collections.abc import Mapping, Sequence

from shared.run.config import at, put, uses
from shared.run.progress import say


def with_classes(config: dict, named: Sequence[str]) -> dict:
    """`config` with a question for the classes in dataset.columns.label: the column's name, each class an answer.

    Only where dataset.classes leaves them open, or is among the keys `named` on the command line with classes that the
    question of the dataset has not. Questions named there are kept: they say which classes are answers.
    """
    dataset, task = config["dataset"], config["task"]["name"]
    open_here = at(dataset, "columns.label") is not None and uses(task, "dataset.columns")
    if not open_here or task == "inspect":  # which says itself what it finds
        return config
    questions, classes = dataset["questions"], dataset["classes"]
    chosen = [key.split(".", 2)[2] for key in named if key.startswith("dataset.questions.")]
    if classes is None:
        if dataset["table"] is None:
            raise ValueError(
                f"dataset.columns.label is {dataset['columns']['label']}, but dataset.table is null; name it"
            )
        from shared.data.classes import (
            classes_of,
        )  # slow to import, and only tables of classes need it

        column, classes = classes_of(dataset)
    elif "dataset.classes" in named and not chosen and len(questions) == 1:
        column = dataset["columns"]["label"].split("|")[0]
        if classes.keys() <= {*next(iter(questions.values()))}:
            return config
    else:
        return config
    made = copy.deepcopy(config)
    asked = {column: list(classes)}
    if chosen:
        asked = {name: questions[name] for name in chosen}
        column = chosen[0]
        classes = {name: ways for name, ways in classes.items() if name in asked[column]}
    for key, value in (("questions", asked), ("leads", {}), ("classes", classes)):
        put(made, f"dataset.{key}", value)
    settle_question(made, column, named)
    return made


def settle_question(made: dict, question: str, named: Sequence[str]) -> None:
    """Ask `question` in `made`, with all its answers, unless keys `named` on the command line say what is asked."""
    answers = made["dataset"]["questions"][question]
    if "question" not in named:
        made["question"] = question
    if "positive" not in named:
        made["positive"] = list(answers[:1])
    whole = made["questions"] is None and not {"questions", "question", "positive"} & {*named}
    if whole and at(made, "likelihood.name") != "binomial":
        made["questions"] = [question]
        made["model"]["answers"] = None  # as many as the questions have


def with_places(config: dict) -> dict:
    """`config` of a run that needs no votes, whose table need have none: places alone, found by their usual names."""
    dataset = config["dataset"]
    if config["task"]["name"] != "predict" or dataset["table"] is None or dataset["images"] is None:
        return config
    from shared.data.columns import has_votes, usual_places  # likewise
    from shared.data.tables import open_table
    from shared.run.spec import DatasetSpec, from_config

    made, told = copy.deepcopy(config), []
    columns: Mapping = made["dataset"]["columns"]
    try:
        table = open_table(dataset["table"], "dataset.table", dataset["table_hdu"])
    except FileNotFoundError:  # which is said when it is to be read
        return config
    if columns["ra"] is None and columns["dec"] is None and (found := usual_places(table.names)):
        told.append("places from " + " and ".join(found.values()))
        for key, name in found.items():
            put(made, f"dataset.columns.{key}", name)
    voted = any(columns[key] is not None for key in ("label", "count", "fraction"))
    if voted and not has_votes(from_config(DatasetSpec, made["dataset"])):
        told.append("no votes, since it has none of these columns")
        for key in ("label", "count", "fraction", "total"):
            put(made, f"dataset.columns.{key}", None)
        put(made, "dataset.classes", None)
    if told:
        say(f"{table.path} is taken for ids, {', '.join(told)}")
    return made
