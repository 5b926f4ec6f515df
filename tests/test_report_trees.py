"""The report's part about whole trees of questions, and galleries of their galaxies."""

import copy

import pandas as pd
import pytest
from test_report import CONFIG, QUESTION, YES, fit, keep, posterior, store

from reports.agreement import answers
from reports.readme import RECORDS
from reports.report import sections
from reports.runs import index, read_runs
from reports.trees import PUBLISHED, inside


def measures(observed=0.93, expected=0.95, truth=0.9) -> dict:
    """What a fit's record says of a question of two answers."""
    answer = {
        "mae": 0.1,
        "volunteers_mae": 0.05,
        "pit": {"histogram": [1] * 10, "statistic": 0.1, "p_value": 0.5},
        "votes_coverage": {"expected": expected, "observed": observed},
    }
    return {
        "galaxies": 90,
        "votes": 900,
        "nll": 2.0,
        "accuracy": {
            "all": {"galaxies": 40, "accuracy": 0.75},
            "confident": {"galaxies": 0, "accuracy": None},
        },
        "mae": 0.1,
        "volunteers_mae": 0.05,
        "equal_volunteers": None,
        "answers": {"yes": answer, "no": answer | {"pit": {"statistic": 0.2}}},
        "asked": {"predicted": 0.3, "observed": 0.31},
        "truth": None if truth is None else {"expected": 0.9, "observed": truth},
    }


def tree(**questions) -> dict:
    return {"galaxies": 100, "votes": 4000, "nll": 4.0, "questions": questions}


def section(folder):
    (found,) = [s for s in sections(index(read_runs(folder))) if s.title == "Whole trees"]
    return found.blocks


def test_a_tree_has_a_row_for_each_question_beside_what_was_published(tmp_path):
    edge_on, bar = (
        measures(),
        measures(observed=0.91, truth=None),
    )  # a bar of two answers is not theirs
    found = tree(**{"disk-edge-on": edge_on, "bar": bar})
    keep(tmp_path / "one", fit(test={"tree": found}))
    words, verdict, table = section(tmp_path)
    frame = table.frame.set_index("question")
    assert list(frame.index) == ["disk-edge-on", "bar"]
    assert frame.loc["disk-edge-on", "accuracy"] == 0.75
    assert frame.loc["disk-edge-on", "W+22: accuracy"] == PUBLISHED["disk-edge-on"][1]
    assert pd.isna(frame.loc["bar", "W+22: accuracy"])
    assert frame.loc["disk-edge-on", "PIT: distance"] == 0.2
    assert frame.loc["disk-edge-on", "votes in 90 % (%)"] == pytest.approx(93)
    assert frame.loc["disk-edge-on", "asked: votes"] == 0.31
    assert frame.loc["disk-edge-on", ["confident", "equal volunteers"]].isna().all()
    assert "intervals of votes hold 92.0 % of them, where 95.0 % are predicted" in verdict.lines[0]
    assert "fractions hold 90.0 % of the true ones" in verdict.lines[0]
    assert "other" in " ".join(words.lines)


def test_without_a_tree_the_section_is_empty_and_says_how_to_get_one(tmp_path):
    keep(tmp_path / "one", fit())
    (words,) = section(tmp_path)
    assert "questions=all" in words.lines[0]


def test_questions_that_nobody_answered_are_blank(tmp_path):
    nobody = measures(observed=None, expected=None, truth=None)
    for answer in nobody["answers"].values():
        answer["pit"] = {"statistic": None}
    keep(tmp_path / "one", fit(test={"tree": tree(bar=nobody)}))
    _, verdict, table = section(tmp_path)
    assert inside(nobody) == (None, None, None, None)
    assert "no votes" in verdict.lines[0]
    assert table.rows[0][-1] == "—"


def test_galaxies_of_a_tree_are_ranked_by_what_a_walk_tells(tmp_path):
    galaxies = str(store(tmp_path / "stores" / "one"))
    table = posterior().rename(columns={"mutual_information": "walk_information"})
    keep(tmp_path / "runs" / "one", fit(store=galaxies, test={"tree": tree()}), None, table)
    (found,) = [s for s in sections(index(read_runs(tmp_path / "runs"))) if s.title == "Galaxies"]
    least = [block for block in found.blocks if block.kind == "gallery"][-2]
    assert "walk information" in least.caption
    unseen = table[~table["in_training"]].sort_values("walk_information", ascending=False)
    assert [picture.id for picture in least.pictures] == list(unseen["id"][:6])


def test_answers_of_a_question_whose_name_begins_another(tmp_path):
    config = copy.deepcopy(CONFIG["dataset"])
    config["questions"] |= {f"{QUESTION}-again": ["yes", "no"]}
    keep(tmp_path / "one", fit(config={"dataset": config}))
    (record,) = read_runs(tmp_path)
    names = (f"{YES}_mean", f"{QUESTION.replace('-', '_')}_again_yes_mean")
    assert answers(pd.DataFrame(columns=list(names)), record) == [YES]


def test_the_published_fit_of_a_tree_is_in_the_report():
    _, verdict, table = section(RECORDS / "trees")
    assert len(table.rows) == 10
    assert table.frame["W+22: accuracy"].notna().all()  # it is their tree
    assert "90 % intervals of votes hold" in verdict.lines[0]
