"""docs/trees.md: what it says of walks is so, and its row is that of a fit anybody can repeat."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from test_walks import WALKS

from reports import row
from reports.readme import RECORDS, ROOT
from shared.data.schema import answers
from shared.method.walks import MOST_WALKS
from shared.output.columns import describe_columns

KEPT = RECORDS / "trees"
TEXT = (ROOT / "docs" / "trees.md").read_text(encoding="utf-8").replace("\n", " ")


def test_walks_through_each_survey_are_as_many_as_the_page_says():
    found = re.search(
        r"There are ([\d,]+) walks through the tree of GZ DECaLS' third campaign, ([\d,]+) through that of the first "
        r"two, ([\d,]+) through Galaxy Zoo 2's, ([\d,]+) through Hubble's and ([\d,]+) through CANDELS'",
        TEXT,
    )
    names = ("gz_decals5", "gz_decals12", "gz2", "gz_hubble", "gz_candels")
    assert [int(text.replace(",", "")) for text in found.groups()] == [WALKS[n] for n in names]
    assert f"More than {MOST_WALKS:,} walks are refused" in TEXT


def test_the_row_has_every_column_of_its_tree():
    columns, votes, truth = row.read(KEPT)
    questions = row.fit(KEPT).at("run.dataset.questions")
    axis = answers(questions)
    assert set(row.EXPLAINED) <= set(questions)
    assert len(votes) == len(truth) == len(axis)
    assert "Tables have [seven columns for each answer]" in TEXT
    wanted = {f"{q}_{a}_{end}".replace("-", "_") for q, a in axis for end in row.LASTS}
    wanted |= {
        f"{q}_{end}".replace("-", "_") for q in questions for end in ("asked", "information")
    }
    assert set(columns) == {"id", "in_training", "walk_information"} | wanted
    assert describe_columns(columns)
    for name in questions:
        assert sum(truth[f"{name}_{answer}"] for answer in questions[name]) == pytest.approx(1)


def test_the_row_s_fit_is_that_of_the_command_on_the_page():
    command = row.fit(KEPT).at("command")
    assert command in TEXT.replace("\\     ", "")


def test_the_row_that_is_kept_is_the_unseen_one_most_likely_asked_about_bars(tmp_path, monkeypatch):
    questions = {"bar": ["strong", "no"]}
    table = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d"],
            "in_training": pd.array([False, True, False, False], "boolean"),
            "bar_asked": np.float32([0.1, 0.9, 0.8, 0.8]),
            "bar_strong_votes_low": np.int32([1, 2, 3, 4]),
            "ra": [1.0, 2.0, np.nan, 4.0],
        }
    )
    galaxies = pd.DataFrame({"id": table["id"], "bar_strong": [1, 2, 3, 4], "bar_no": [5, 6, 7, 8]})
    galaxies = galaxies.assign(true_bar_strong=0.25, true_bar_no=0.75)
    record = {
        "run": {"task": {"name": "fit"}, "dataset": {"questions": questions}},
        "results": {"store": "somewhere"},
    }
    (tmp_path / "record.json").write_text(json.dumps(record))
    table.to_parquet(tmp_path / "posterior.parquet")
    monkeypatch.setattr(row, "open_store", lambda path: SimpleNamespace(galaxies=galaxies))
    found = row.chosen(tmp_path)
    assert found["columns"] == {
        "id": "c",
        "in_training": False,
        "bar_asked": 0.8,
        "bar_strong_votes_low": 3,
        "ra": None,
    }
    assert found["votes"] == {"bar_strong": 3, "bar_no": 7}
    assert found["truth"] == {"bar_strong": 0.25, "bar_no": 0.75}
