import dataclasses
import gzip
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from astropy.io import fits
from astropy.table import Table

import trizoo
from shared.data import tables
from shared.data.catalogue import list_catalogue, read_catalogue
from shared.data.split import split
from shared.run.keys import galaxy_hash
from shared.run.spec import DatasetSpec, JoinSpec, RunSpec, ScaleSpec, from_config
from shared.tasks.table import with_places

IDS = ["587722984435351614", "587722984435351615", "587722984435351613"]  # alike as floats
QUESTION = {"bar": ("yes", "no")}


def composed(*overrides):
    return from_config(RunSpec, trizoo.compose([*overrides]))


FOLDER = composed("dataset=folder", "dataset.images=photos").dataset
PLAIN = dataclasses.replace(FOLDER.columns, total="{question}_total-votes")
SHARES = dataclasses.replace(
    PLAIN, count=None, fraction="{question}_{answer}_fraction", total="{question}_n"
)


def dataset(tmp_path, table="t.csv", **changes):
    changes = {"columns": PLAIN, "questions": QUESTION} | changes
    return dataclasses.replace(FOLDER, table=str(tmp_path / table), **changes)


def columns(**changes):
    return dataclasses.replace(PLAIN, **changes)


def csv(tmp_path, *lines, name="t.csv"):
    (tmp_path / name).write_text("\n".join(lines) + "\n")


def refuses(spec, *parts, error=ValueError):
    """Whether reading fails and tells all `parts`, in that order."""
    with pytest.raises(error, match="(?s)" + ".*".join(map(re.escape, parts))):
        read_catalogue(spec)


# Counts


def test_counts_of_every_question_are_read(tmp_path):
    csv(
        tmp_path,
        "junk,odd_a,odd_b,odd_c,ra,id,bar_yes,bar_no,dec",
        f"x,1,2,3,10.5,{IDS[0]},35.0,5,-89.5",
        f"y,0,0,0,,{IDS[1]}, 0 ,1e1,",
    )
    questions = {"bar": ("yes", "no"), "odd": ("c", "a")}
    found = read_catalogue(
        dataset(tmp_path, columns=columns(ra="ra", dec="dec"), questions=questions)
    )
    assert found.columns.tolist() == [
        *("id", "file", "ra", "dec", "votes_from", "bar_yes", "bar_no", "bar_total"),
        *("odd_c", "odd_a", "odd_total"),
    ]
    assert found["id"].tolist() == found["file"].tolist() == IDS[:2]
    assert found.index.tolist() == [1, 2]
    assert found["votes_from"].tolist() == ["counted"] * 2
    assert found["bar_yes"].tolist() == [35, 0]
    assert found["bar_total"].tolist() == [40, 10]
    assert found["odd_c"].tolist() == [3, 0]
    assert found["odd_total"].tolist() == [4, 0]
    assert set(found.dtypes[5:]) == {np.dtype(np.int32)}
    np.testing.assert_array_equal(found["ra"], [10.5, np.nan])
    np.testing.assert_array_equal(found["dec"], [-89.5, np.nan])


def write_parquet(path, table):
    table.to_parquet(path)


def write_fits(path, table):
    columns = {name: table[name].to_numpy() for name in table}
    if table["id"].dtype != np.int64:
        columns["id"] = np.array(table["id"].tolist(), "S30")
    Table(columns).write(path)


def write_csv_gz(path, table):
    path.write_bytes(gzip.compress(table.to_csv(index=False).encode()))


def write_votable(path, table):
    columns = {name: table[name].to_numpy() for name in table}
    if table["id"].dtype != np.int64:
        columns["id"] = np.array(table["id"].tolist())
    Table(columns).write(path, format="votable", overwrite=True)


def write_workbook(path, table):
    pytest.importorskip("openpyxl")
    table.to_excel(path, index=False)


WRITE = {"csv.gz": write_csv_gz, "parquet": write_parquet}
WRITE |= {"fits": write_fits, "fits.gz": write_fits}
WRITE |= {"votable": write_votable, "xlsx": write_workbook}


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize("ids", [IDS, [int(name) for name in IDS], ["J1.5-2", "007", "a b"]])
def test_every_kind_of_table_keeps_ids_to_the_last_digit(tmp_path, kind, ids):
    table = pd.DataFrame(
        {"id": ids, "bar_yes": np.float32([1, 2, 3]), "bar_no": np.int16([3, 2, 1])}
    )
    WRITE[kind](tmp_path / f"t.{kind}", table)
    if kind == "xlsx" and table["id"].dtype == np.int64:  # a spreadsheet keeps 15 digits
        refuses(dataset(tmp_path, f"t.{kind}"), "E+17, a floating-point number, which has lost")
        return
    found = read_catalogue(dataset(tmp_path, f"t.{kind}"))
    assert found["id"].tolist() == [str(name) for name in ids]
    assert found["bar_yes"].tolist() == [1, 2, 3]
    assert found["bar_total"].tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.uint64(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=str,
)
def test_parquet_ids_of_every_type_are_text(tmp_path, kind):
    ids = [int(name) for name in IDS] if kind == pa.uint64() else IDS
    votes = pa.array([1, None, 2], pa.int32())
    table = pa.table({"id": pa.array(ids, kind), "bar_yes": votes, "bar_no": votes})
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    found = read_catalogue(dataset(tmp_path, "t.parquet"))
    assert found["id"].tolist() == IDS
    assert found["bar_total"].tolist() == [2, 0, 4]


def test_a_gap_among_integer_ids_does_not_make_them_floats(tmp_path):
    ids = pd.array([int(IDS[0]), None, int(IDS[1])], dtype="Int64")
    pd.DataFrame({"id": ids, "bar_yes": 1, "bar_no": 1}).to_parquet(tmp_path / "t.parquet")
    refuses(dataset(tmp_path, "t.parquet"), "row 2 of", "t.parquet has no id; give it one")


@pytest.mark.parametrize("kind", ["parquet", "fits"])
def test_floating_point_ids_are_refused(tmp_path, kind):
    table = pd.DataFrame({"id": [float(IDS[0])], "bar_yes": [1], "bar_no": [1]})
    if kind == "parquet":
        table.to_parquet(tmp_path / "t.parquet")
    else:
        Table({name: table[name].to_numpy() for name in table}).write(tmp_path / "t.fits")
    refuses(dataset(tmp_path, f"t.{kind}"), f"t.{kind} are floating-point", "64-bit integers")


def test_ids_that_a_spreadsheet_rounded_are_refused(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no", "1,1,1", "5.87723E+17,1,1")
    refuses(dataset(tmp_path), "row 2 of", "5.87723E+17", "use the original table")


def test_what_fits_says_is_nothing_is_no_vote(tmp_path):
    ids = fits.Column("id", "20A", array=IDS[:2])
    some = fits.Column("bar_yes", "J", null=-99, array=[5, -99])
    for name, rest in (("t.fits", [1, 1]), ("u.fits", [1, -99])):
        rest = fits.Column("bar_no", "J", null=-99, array=rest)
        fits.BinTableHDU.from_columns([ids, some, rest]).writeto(tmp_path / name)
    refuses(dataset(tmp_path, "t.fits"), f"galaxy {IDS[1]} (row 2 of", "bar_yes = (empty)")
    assert read_catalogue(dataset(tmp_path, "u.fits"))["bar_total"].tolist() == [6, 0]


def test_a_fits_column_of_several_values_is_refused(tmp_path):
    Table({"id": ["a"], "bar_yes": [[1, 2]], "bar_no": [1]}).write(tmp_path / "t.fits")
    refuses(dataset(tmp_path, "t.fits"), "'bar_yes' holds (2,) values in each row, not one")


def test_parquet_columns_of_other_kinds(tmp_path):
    table = {"id": pa.array([b"a"]), "bar_yes": pa.array([3], pa.decimal128(5, 1)), "bar_no": [1]}
    pa.parquet.write_table(pa.table(table), tmp_path / "t.parquet")
    assert read_catalogue(dataset(tmp_path, "t.parquet"))["bar_total"].tolist() == [4]
    for values, message in (
        ([[1, 2]], "t.parquet cannot be read (column 'bar_no' holds list<"),
        (np.array(["2026-01-01"], "datetime64[s]"), "galaxy a (row 1 of"),
    ):
        pa.parquet.write_table(pa.table(table | {"bar_no": values}), tmp_path / "t.parquet")
        refuses(dataset(tmp_path, "t.parquet"), message)


def test_a_total_is_believed_if_the_table_has_it(tmp_path):
    questions = {"bar": ("yes", "no"), "odd": ("a", "b")}
    csv(tmp_path, "id,bar_yes,bar_no,bar_total-votes,odd_a,odd_b", "1,3,4,9.0,1,1")
    found = read_catalogue(dataset(tmp_path, questions=questions))
    assert (found["bar_total"][1], found["odd_total"][1]) == (9, 2)


def test_more_answers_than_votes_are_refused(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no,bar_total-votes", "1,3,4,7", "two,3,5,7")
    refuses(dataset(tmp_path), "galaxy two (row 2 of", "8 answers to bar", "7", "total=null")
    found = read_catalogue(dataset(tmp_path, columns=columns(total=None)))
    assert found["bar_total"].tolist() == [7, 8]


def test_a_question_left_empty_was_asked_of_nobody(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no,bar_total-votes", "a,,,", "b,nan,NA,0", "c,2,3,5")
    found = read_catalogue(dataset(tmp_path))
    assert found[["bar_yes", "bar_no", "bar_total"]].to_numpy().tolist() == [
        *([0, 0, 0], [0, 0, 0], [2, 3, 5])
    ]
    csv(tmp_path, "id,bar_yes,bar_no,bar_total-votes", "a,,,4")
    refuses(dataset(tmp_path), "galaxy a (row 1 of", "bar_yes = (empty)", "0 where nobody")
    csv(tmp_path, "id,bar_yes,bar_no,bar_total-votes", "a,1,1,")
    refuses(dataset(tmp_path), "galaxy a (row 1 of", "bar_total-votes = (empty)")


@pytest.mark.parametrize(
    "vote", ["-1", "0.5", "nan", "", "many", "inf", "1e300", "4294967296", "2147483647", "1000001"]
)
def test_votes_that_are_none_are_refused(tmp_path, vote):
    csv(tmp_path, "id,bar_yes,bar_no", "1,3,4", f"two,3,{vote}")
    shown = {"nan": "(empty)", "": "(empty)", "1e300": "1e+300"}.get(vote, vote)
    refuses(dataset(tmp_path), "galaxy two (row 2 of", f"bar_no = {shown}", "orrect")


@pytest.mark.parametrize("kind", ["parquet", "fits"])
@pytest.mark.parametrize("vote", [np.nan, -2.0, 1.5, np.inf])
def test_binary_votes_that_are_none_are_refused(tmp_path, kind, vote):
    table = pd.DataFrame({"id": ["one", "two"], "bar_yes": [1.0, vote], "bar_no": [1, 1]})
    WRITE[kind](tmp_path / f"t.{kind}", table)
    refuses(dataset(tmp_path, f"t.{kind}"), "galaxy two (row 2 of", "bar_yes", "Correct it")


def test_a_galaxy_has_a_million_votes_at_most(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no", "a,1000000,0", "b,600000,600000")
    refuses(dataset(tmp_path), "galaxy b (row 2 of", "1200000 answers", "nor these 1,000,000")
    csv(tmp_path, "id,bar_yes,bar_no", "a,1000000,0")
    assert read_catalogue(dataset(tmp_path))["bar_total"].tolist() == [1_000_000]
    refuses(shares(tmp_path, "a,1,0,1000001"), "galaxy a (row 1", "bar_n = 1000001", "1,000,000")
    with pytest.raises(ValueError, match=r"assumed_votes is 1000001; it must be from 1 to"):
        columns(assumed_votes=1_000_001)


def test_a_word_among_votes_is_not_nobody(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no", "1,3,4", "two,many,many")
    refuses(dataset(tmp_path), "galaxy two (row 2 of", "bar_yes = many")


# Columns


def test_a_missing_column_is_named_with_its_nearest(tmp_path):
    csv(tmp_path, "ID,bar_yes,bar-no", "1,3,4")
    refuses(
        dataset(tmp_path),
        *("no column", "'id' (the nearest is 'ID')", "'bar_no' (the nearest is 'bar-no')"),
        *("it has 'ID', 'bar_yes', 'bar-no'", "dataset.columns"),
    )
    csv(tmp_path, "objid,bar_yes,bar_no", "1,3,4")
    refuses(dataset(tmp_path, columns=columns(id="OBJID")), "'OBJID' (the nearest is 'objid')")


def test_a_wide_table_is_not_told_whole(tmp_path):
    csv(tmp_path, ",".join(f"c{i}" for i in range(231)), ",".join(["1"] * 231))
    refuses(dataset(tmp_path), "'c29' and 201 more")
    questions = {f"q{i}": ("x", "y") for i in range(5)}
    refuses(dataset(tmp_path, questions=questions), "'q1_y' and 6 others")


def test_whichever_alternative_is_there_is_read_the_first_preferred(tmp_path):
    count = "{question}-gz2_{answer}|{question}_{answer}"
    spec = dataset(tmp_path, columns=columns(id="dr7objid|objid", ra="RA|ra", count=count))
    csv(tmp_path, "objid,ra,bar_yes,bar-gz2_no,bar_no", "a,5,1,2,9")
    found = read_catalogue(spec)
    assert found.loc[1, ["id", "ra", "bar_yes", "bar_no"]].tolist() == ["a", 5, 1, 2]
    csv(tmp_path, "objid,dr7objid,RA,ra,bar_yes,bar_no", "a,b,6,5,1,2")
    found = read_catalogue(spec)
    assert found.loc[1, ["id", "ra"]].tolist() == ["b", 6]
    csv(tmp_path, "OBJID,ra,bar_yes", "a,5,1")
    refuses(
        spec,
        "no column 'dr7objid' or 'objid' (the nearest is 'OBJID')",
        "'bar-gz2_no' or 'bar_no'",
    )


def test_names_say_what_the_table_calls_a_question_and_its_answers(tmp_path):
    names = {"bar": ("t03_bar", "a06_bar", "a07_no_bar|a07_none")}
    spec = dataset(tmp_path, columns=columns(count="{question}_{answer}_count", names=names))
    csv(tmp_path, "id,t03_bar_a06_bar_count,t03_bar_a07_none_count,t03_bar_total-votes", "a,1,2,4")
    found = read_catalogue(spec)
    assert found.loc[1, ["bar_yes", "bar_no", "bar_total"]].tolist() == [1, 2, 4]

    def named(**names):
        return dataset(tmp_path, columns=columns(names=names))

    refuses(named(bar=("t03_bar", "a06_bar")), "names.bar is ['t03_bar', 'a06_bar']", "yes, no")
    refuses(named(bars=("a", "b", "c")), "names has 'bars'", "asks bar")
    csv(tmp_path, "id,bar_yes,bar_no", "a,1,2")
    refuses(named(bar=("bar", "yes", "yes")), "bar_yes and bar_no would both", "'bar_yes'")


def test_the_votes_of_all_questions_are_no_questions_total(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no,odd_a,odd_b,total_votes", "1,3,4,1,1,9")
    questions = {"bar": ("yes", "no"), "odd": ("a", "b")}
    spec = dataset(tmp_path, columns=columns(total="total_votes"), questions=questions)
    refuses(spec, "bar_total and odd_total would both be the column 'total_votes'")


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no,bar_yes", "1,3,4,5")
    refuses(dataset(tmp_path), "2 columns called 'bar_yes'; rename")


def test_names_that_would_collide_are_refused(tmp_path):
    csv(tmp_path, "id,a_b_c,a_b", "1,1,1")
    refuses(dataset(tmp_path, questions={"a": ("total", "b")}), "a_total", "rename")
    questions = {"a": ("b_c", "b"), "a_b": ("c", "d")}
    refuses(dataset(tmp_path, questions=questions), "a_b_c", "rename")


@pytest.mark.parametrize("pattern", ["{quest}_{answer}", "{question}_{", "{}", "{question[0}"])
def test_patterns_that_cannot_be_filled_are_refused(tmp_path, pattern):
    csv(tmp_path, "id,bar_yes,bar_no", "1,1,1")
    spec = dataset(tmp_path, columns=columns(count=pattern))
    refuses(spec, "dataset.columns.count is", pattern, "{question} and {answer}")


def test_a_table_of_no_votes_has_none(tmp_path):
    csv(tmp_path, "id,where", "a,x/a.png", "b,")
    spec = dataset(tmp_path, columns=columns(count=None, file="where"))
    found = read_catalogue(spec)
    assert found.columns.tolist() == ["id", "file", "ra", "dec"]
    assert found["file"].tolist() == ["x/a.png", ""]


# Galaxies


def test_a_galaxy_that_is_there_twice_is_refused(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no", "a,3,4", "b,3,4", "a,0,1")
    refuses(dataset(tmp_path), "galaxy a", "twice, as row 1 and row 3; keep one")


def test_a_selection_keeps_rows_of_these_values(tmp_path):
    csv(
        tmp_path,
        *("id,sample,dr,bar_yes,bar_no", "a,original,1,1,0", "b,extra,1,2,0", "a,stripe82,1,3,0"),
        *("c,original,2,4,0", "d,original,1,5,0"),
    )
    found = read_catalogue(dataset(tmp_path, select={"sample": ("original", "extra")}))
    assert found["id"].tolist() == ["a", "b", "c", "d"]
    assert found.index.tolist() == [1, 2, 4, 5]
    select = {"SAMPLE|sample": ("original",), "dr": ("1",)}
    assert read_catalogue(dataset(tmp_path, select=select))["bar_yes"].tolist() == [1, 5]
    assert len(read_catalogue(dataset(tmp_path, select=select, galaxies=1))) == 1
    spec = dataset(tmp_path, select={"sample": ("origin",)})
    refuses(spec, "select.sample is ['origin']", "no galaxy", "'extra', 'original', 'stripe82'")
    refuses(dataset(tmp_path, select={"smaple": ("a",)}), "'smaple' (the nearest is 'sample')")
    refuses(dataset(tmp_path), "galaxy a", "as row 1 and row 3")


@pytest.mark.parametrize("kind", ["csv.gz", "parquet", "fits"])
def test_a_selection_by_truth_is_spelled_alike_in_every_kind(tmp_path, kind):
    table = pd.DataFrame({"id": ["a", "b"], "ok": [True, False], "bar_yes": [1, 2], "bar_no": 1})
    WRITE[kind](tmp_path / f"t.{kind}", table)
    found = read_catalogue(dataset(tmp_path, f"t.{kind}", select={"ok": ("False",)}))
    assert found["id"].tolist() == ["b"]


NAMES = [f"g{i}" for i in range(10_000)]


def limited(tmp_path, count, order=NAMES):
    csv(tmp_path, "id,bar_yes,bar_no", *(f"{name},1,1" for name in order))
    return read_catalogue(dataset(tmp_path, galaxies=count))


def test_fewer_galaxies_are_the_same_whatever_the_order_and_some_of_more(tmp_path):
    found = limited(tmp_path, 700)
    there = set(found["id"])
    assert found["id"].tolist() == [name for name in NAMES if name in there]
    assert [NAMES[row - 1] for row in found.index] == found["id"].tolist()
    assert limited(tmp_path, 700, NAMES[::-1])["id"].tolist() == found["id"].tolist()[::-1]
    assert there < set(limited(tmp_path, 3000)["id"])
    assert len(limited(tmp_path, 20_000)) == len(NAMES)


@pytest.mark.parametrize("count", [100, 1000, 2000, 3000, 9000])
def test_fewer_galaxies_are_trained_and_tested_with_in_the_shares_asked_for(tmp_path, count):
    spec = composed("dataset=synthetic").split
    parts = split(limited(tmp_path, count)["id"], spec)
    for name, share in (("test", spec.test), ("validation", spec.validation)):
        spread = (count * share * (1 - share)) ** 0.5
        assert abs((parts == name).sum() - count * share) < 4 * spread


def test_the_split_is_by_the_hash_that_it_was_always_by():
    spec = dataclasses.replace(composed("dataset=synthetic").split, test=0.2, validation=0.1)
    assert galaxy_hash(["g0"])[0] == 8276862461557392695
    parts = "train test train train train train train test"
    assert split(NAMES[:8], spec).tolist() == parts.split()


@pytest.mark.parametrize(
    ("ra", "dec", "message"), [("361", "0", "ra = 361"), ("1", "-91", "dec = -91")]
)
def test_places_off_the_sky_are_refused(tmp_path, ra, dec, message):
    csv(tmp_path, "id,ra,dec,bar_yes,bar_no", "1,1,1,1,1", f"two,{ra},{dec},1,1")
    spec = dataset(tmp_path, columns=columns(ra="ra", dec="dec"))
    refuses(spec, "galaxy two (row 2 of", message, "degrees")
    csv(tmp_path, "id,ra,dec,bar_yes,bar_no", "two,08:66:17.42,+54:12:16.5,1,1")
    refuses(spec, "galaxy two (row 1 of", "ra = 08:66:17.42", "degrees")


def test_places_may_be_hours_and_degrees_with_minutes_and_seconds(tmp_path):
    rows = ("a,08:26:17.42,+54:12:16.5,1,1", "b,23:59:59,-00:30:00,1,1", "c,,,1,1")
    csv(tmp_path, "id,ra,dec,bar_yes,bar_no", *rows)
    found = read_catalogue(dataset(tmp_path, columns=columns(ra="ra", dec="dec")))
    hours, degrees = (8 + 26 / 60 + 17.42 / 3600), 54 + 12 / 60 + 16.5 / 3600
    np.testing.assert_allclose(found["ra"][:2], [15 * hours, 15 * (24 - 1 / 3600)], rtol=1e-13)
    np.testing.assert_allclose(found["dec"][:2], [degrees, -0.5], rtol=1e-13)
    assert found[["ra", "dec"]].iloc[2].isna().all()


def test_without_a_table_the_galaxies_are_the_images():
    found = list_catalogue(["a.PNG", "b/J1.5.fits"])
    assert found["id"].tolist() == ["a", "J1.5"]
    assert found["file"].tolist() == ["a.PNG", "b/J1.5.fits"]
    assert found.index.tolist() == [1, 2]
    assert found.columns.tolist() == ["id", "file", "ra", "dec"]
    assert found[["ra", "dec"]].isna().all(axis=None)
    with pytest.raises(ValueError, match=r"a\.PNG and b/a\.jpg would be one galaxy; rename one"):
        list_catalogue(["a.PNG", "b/a.jpg"])


# Files


def test_empty_and_broken_tables_are_refused(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no")
    refuses(dataset(tmp_path), "t.csv has no rows", "check dataset.table")
    for text in (b"id,bar_yes,bar_no\n1,2\n", b"id,bar_yes,bar_no\n1,2,3,4\n"):
        (tmp_path / "t.csv").write_bytes(text)
        refuses(
            dataset(tmp_path),
            "t.csv cannot be read (a row has ",
            "where 3 columns are named: '1,2",
            "if it is damaged or cut short, fetch it again",
        )
    for text in (b"", b"id,bar_yes,bar_no"):
        (tmp_path / "t.csv").write_bytes(text)
        refuses(dataset(tmp_path), "t.csv cannot be read (it holds no rows)")
    (tmp_path / "t.csv").write_bytes(b"id,bar_yes,bar_no\n\x81\xfe,2,3\n")
    refuses(dataset(tmp_path), "t.csv cannot be read")
    for name in ("t.parquet", "t.fits", "t.csv.gz"):
        (tmp_path / name).write_bytes(b"nonsense" * 720)
        refuses(dataset(tmp_path, name), f"{name} cannot be read", "fetch it again")
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "u.fits")
    refuses(dataset(tmp_path, "u.fits"), "u.fits cannot be read (it holds no table)")


@pytest.mark.parametrize("kind", ["csv", *WRITE])
def test_damaged_tables_are_read_or_refused_with_a_message(tmp_path, kind):
    names = [str(int(IDS[0]) + i) for i in range(200)]
    table = pd.DataFrame({"id": names, "ra": 1.5, "bar_yes": 3, "bar_no": range(200)})
    path = tmp_path / f"t.{kind}"
    WRITE.get(kind, lambda path, table: table.to_csv(path, index=False))(path, table)
    whole, rng = path.read_bytes(), np.random.default_rng(3)
    taken = refused = 0
    for _ in range(40):
        data = bytearray(whole)
        begin, end = np.sort(rng.integers(0, len(data), 2))
        how = rng.integers(3)
        if how == 0:
            for place in rng.integers(0, len(data), 10):
                data[place] ^= 1 << rng.integers(8)
        elif how == 1:
            del data[begin:]
        else:
            data[begin:end] = rng.bytes(end - begin)
        path.write_bytes(data)
        try:
            found = read_catalogue(dataset(tmp_path, path.name, columns=columns(ra="ra")))
        except ValueError as problem:
            refused += str(path) in str(problem)
        else:
            taken += (found["bar_total"] >= found["bar_no"]).all()
    assert refused + taken == 40
    assert refused >= 10


def test_byte_order_marks_and_spaces_are_no_part_of_names(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfid,bar_yes,bar_no\r\n 007 ,2,3\r\n")
    assert read_catalogue(dataset(tmp_path))["id"].tolist() == ["007"]


def test_missing_files_and_other_kinds_are_refused(tmp_path):
    refuses(dataset(tmp_path), "dataset.table is", "t.csv", "name a", error=FileNotFoundError)
    pattern = dataset(tmp_path, "t*.csv")
    refuses(pattern, "dataset.table is", "t*.csv", "name a", error=FileNotFoundError)
    (tmp_path / "t.xls").touch()
    refuses(dataset(tmp_path, "t.xls"), "t.xls; its name must end in one of .csv, .csv.gz")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_several_files_are_one_table_in_the_order_of_their_names(tmp_path, kind):
    for part, names in (("train-00001", ["d"]), ("train-00000", ["c", "a"]), ("test-0", ["b"])):
        votes = np.arange(len(names)) + (0.0 if part == "test-0" else 1)
        table = pd.DataFrame({"id": names, "bar_yes": votes.astype(int), "bar_no": votes})
        getattr(table, f"to_{kind}")(tmp_path / f"{part}.{kind}", index=False)
    spec = dataset(tmp_path, f"*.{kind}")
    found = read_catalogue(spec)
    assert found["id"].tolist() == ["b", "c", "a", "d"]
    assert found.index.tolist() == [1, 2, 3, 4]
    assert found["bar_total"].tolist() == [0, 2, 4, 2]
    table = pd.DataFrame({"id": ["e"], "bar_yes": [1], "bar_na": [2]})
    getattr(table, f"to_{kind}")(tmp_path / f"u.{kind}", index=False)
    refuses(spec, f"u.{kind} has no column 'bar_no', unlike", f"test-0.{kind}")


def test_parts_whose_types_differ_are_one_table(tmp_path):
    for name, ids in (("1", [int(IDS[0])]), ("2", IDS[1:2])):
        table = pd.DataFrame({"id": ids, "bar_yes": [1 if name == "1" else 2.0], "bar_no": [1]})
        table.to_parquet(tmp_path / f"{name}.parquet")
    found = read_catalogue(dataset(tmp_path, "*.parquet"))
    assert found["id"].tolist() == IDS[:2]
    assert found["bar_yes"].tolist() == [1, 2]
    csv(tmp_path, "id,bar_yes,bar_no", "a,1,2", name="1.csv")
    csv(tmp_path, "id,bar_yes,bar_no", "b,1,two", name="2.csv")
    refuses(dataset(tmp_path, "*.csv"), "galaxy b (row 2 of", "bar_no = two")


def test_images_in_a_table_are_never_read(tmp_path):
    path = tmp_path / "t.parquet"
    image = pa.array([{"bytes": os.urandom(50_000), "path": "a.jpg"}] * 3)
    table = {"image": image, "id": pa.array(IDS), "bar.yes": [1, 2, 3], "bar.no": [0, 0, 1]}
    pa.parquet.write_table(pa.table(table), path, use_dictionary=False)
    with pa.parquet.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
        chunk = next(
            group.column(i)
            for i in range(group.num_columns)
            if group.column(i).path_in_schema == "image.bytes"
        )
    data = bytearray(path.read_bytes())
    span = slice(chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size)
    data[span] = bytes(span.stop - span.start)
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"."):
        pa.parquet.read_table(path)
    spec = dataset(tmp_path, "t.parquet", columns=columns(count="{question}.{answer}"))
    assert read_catalogue(spec)["bar_total"].tolist() == [1, 2, 4]


def test_of_a_wide_table_only_the_wanted_columns_are_read_and_once(tmp_path, monkeypatch):
    answers = [f"a{i}" for i in range(37)]
    names = ["id", *(f"q_{a}{end}" for a in answers for end in ("", "_weight", "_flag"))]
    csv(tmp_path, ",".join(names), *(",".join(map(str, range(row, row + 112))) for row in range(9)))
    calls, read_csv = [], pa.csv.read_csv

    def counted(*args, **options):
        calls.append(read_csv(*args, **options))
        return calls[-1]

    monkeypatch.setattr(pa.csv, "read_csv", counted)
    spec = dataset(tmp_path, columns=columns(total=None), questions={"q": tuple(answers)})
    assert len(read_catalogue(spec)) == 9
    assert [table.column_names for table in calls] == [["id", *(f"q_{a}" for a in answers)]]


# How CSV files are written


BARS = [("id", "bar_yes", "bar_no"), ("a", "3", "4"), ("b", "5", "6")]


@pytest.mark.parametrize(
    ("separator", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars"), (",", "")]
)
def test_columns_may_be_separated_by_other_things_than_commas(tmp_path, capsys, separator, name):
    csv(tmp_path, *(separator.join(line) for line in BARS))
    assert read_catalogue(dataset(tmp_path))["bar_total"].tolist() == [7, 11]
    output = capsys.readouterr().err
    assert (f"t.csv has {name} between its columns" in output) == bool(name)
    assert bool(output) == bool(name)


def test_commas_stay_separators_where_they_can_be(tmp_path):
    csv(tmp_path, "id,also;known;as,bar_yes,bar_no", "a,x;y;z,3,4")
    assert read_catalogue(dataset(tmp_path))["bar_total"].tolist() == [7]
    csv(tmp_path, "id;bar_yes;bar_no;mag", "a;3;4;17,5", "b;3;1,5;17,5")
    refuses(dataset(tmp_path), "galaxy b (row 2", "bar_no = 1.5; votes are whole numbers")


@pytest.mark.parametrize(
    "above",
    ["#Table1", "#Table1\r", "# made by hand", "# a, b\n# c", "\n#Table1\n", "\ufeff#Table1"],
)
def test_lines_above_the_names_are_passed_over(tmp_path, capsys, above):
    lines = [above, *(",".join(line) for line in BARS)]
    csv(tmp_path, *lines)
    assert read_catalogue(dataset(tmp_path))["bar_total"].tolist() == [7, 11]
    assert "t.csv begins with '#" in capsys.readouterr().err


def test_names_behind_a_hash_are_names(tmp_path):
    csv(tmp_path, "#id,bar_yes,bar_no", "a,3,4")
    spec = dataset(tmp_path, columns=columns(id="#id"))
    assert read_catalogue(spec)["id"].tolist() == ["a"]
    refuses(dataset(tmp_path), "no column 'id' (the nearest is '#id')")
    csv(tmp_path, "#id", "a")
    assert read_catalogue(dataset(tmp_path, columns=columns(id="#id", count=None)))["id"][1] == "a"


def test_an_index_and_names_that_are_there_twice_but_not_wanted_do_not_matter(tmp_path):
    csv(tmp_path, ",id,x,x,bar_yes,bar_no", "0,a,1,2,3,4")
    assert read_catalogue(dataset(tmp_path))["bar_total"].tolist() == [7]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "latin-1"])
def test_text_in_other_encodings_is_read_or_said_to_be_one(tmp_path, encoding):
    text = "id,bar_yes,bar_no,é\r\ngalaxy é,3,4,1\r\n"
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    if encoding != "utf-16-le":
        assert read_catalogue(dataset(tmp_path))["id"].tolist() == ["galaxy é"]
    else:
        refuses(dataset(tmp_path), "t.csv cannot be read", "UTF-8", "save it as CSV in UTF-8")


@pytest.mark.parametrize("name", ["t.ecsv", "t.csv", "t.parquet", "t.fits", "t.vot", "t.xml"])
@pytest.mark.parametrize("delimiter", [" ", ","])
def test_what_astropy_writes_is_read_with_its_units(tmp_path, name, delimiter):
    table = Table({"id": IDS[:2], "ra": [12.0, 1.0], "bar_yes": [3, 5], "bar_no": [4, 6]})
    table["ra"].unit = "h" if name == "t.fits" else "hourangle"
    how = {"format": "ascii.ecsv", "delimiter": delimiter} if "csv" in name else {}
    if name in ("t.vot", "t.xml"):
        how = {
            "format": "votable",
            "tabledata_format": "binary2" if delimiter == " " else "tabledata",
        }
    table.write(tmp_path / name, **how)
    found = read_catalogue(dataset(tmp_path, name, columns=columns(ra="ra")))
    assert found["id"].tolist() == IDS[:2]
    assert found["ra"].tolist() == [180, 15]
    assert found["bar_total"].tolist() == [7, 11]


@pytest.mark.parametrize("vote", ["1,000", "1.000,5", "1 000,5", "1,000,000"])
def test_commas_in_numbers_are_told(tmp_path, vote):
    csv(tmp_path, "id,bar_yes,bar_no", f'a,"{vote}",2')
    message = "a number is written with a point, and nothing between its thousands"
    refuses(dataset(tmp_path), "galaxy a (row 1 of", f"bar_yes = {vote} ({message})")


def test_commas_before_decimals_are_read_and_told(tmp_path, capsys):
    csv(tmp_path, "id;bar_yes_fraction;bar_no_fraction;bar_n", "a;0,125;0,875;8", "b;0;1,0;4")
    assert votes_of(dataset(tmp_path, columns=SHARES)) == [[1, 7, 8], [0, 4, 4]]
    assert "commas before the decimals of bar_yes_fraction: 0,125" in capsys.readouterr().err
    csv(tmp_path, "id;ra;dec;bar_yes;bar_no", "a;187,25;-1,5;3;4")
    found = read_catalogue(dataset(tmp_path, columns=columns(ra="ra", dec="dec")))
    assert found[["ra", "dec"]].to_numpy().tolist() == [[187.25, -1.5]]
    csv(tmp_path, "id;bar_yes;bar_no", "a;1,000;4", "b;2;3")
    refuses(dataset(tmp_path), "bar_yes = 1,000 (a number is written with a point")


ROWS = "id,bar_yes,bar_no,note\na,3,4,x\nb,5,6,y\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ROWS.replace("\nb", "\r\nb"), ""),
        (ROWS.replace("\n", "\r"), ""),
        (ROWS + "\n\n\n", ""),
        (ROWS + ",,,\n,,,\n", "passed over 2 empty rows at the end"),
        (ROWS + "   \n", "passed over 1 lines"),
        (ROWS.replace("\nb", "\n# by hand\nb"), "passed over 1 lines of"),
        ("sep=;\n" + ROWS.replace(",", ";"), "has semicolons"),
        ("\ufeff" + ROWS.replace(",", ";"), "has semicolons"),
        (ROWS.replace("\n", ",\n"), ""),
        (ROWS.replace("x\n", "x,\n").replace("y\n", "y,\n"), "rows of"),
        (ROWS.replace(",", " , "), ""),
        (ROWS.replace("note", '"a ""note"""'), ""),
        (ROWS.replace("note", "id2,id2").replace("x\n", "x,x\n").replace("y\n", "y,x\n"), ""),
        (ROWS.replace("x", '"two\nlines, ""quoted"""'), ""),
        (ROWS.replace("x", 'a 5" dish'), ""),
    ],
)
def test_tables_as_spreadsheets_and_people_write_them(tmp_path, capsys, text, told):
    (tmp_path / "t.csv").write_bytes(text.encode())
    spec = dataset(tmp_path)
    assert votes_of(spec) == [[3, 4, 7], [5, 6, 11]]
    assert read_catalogue(spec)["id"].tolist() == ["a", "b"]
    output = capsys.readouterr().err
    assert told in output
    assert bool(told) == bool(output)


def test_letters_of_windows_are_read_and_told(tmp_path, capsys):
    lines = ["id,bar_yes,bar_no", *("a" * 9 + f"{i},1,2" for i in range(120_000)), "Müller –,3,4"]
    (tmp_path / "t.csv").write_bytes("\r\n".join(lines).encode("cp1252"))
    assert read_catalogue(dataset(tmp_path))["id"].iloc[-1] == "Müller –"
    assert "t.csv is not in UTF-8: it is read as in Windows' letters" in capsys.readouterr().err


def test_lines_within_cells_are_read_however_long_the_file_is(tmp_path):
    rows = [f'g{i:06},1,2,"a\nb,\n# {i}"' for i in range(150_000)]
    csv(tmp_path, "id,bar_yes,bar_no,note", *rows)
    assert (tmp_path / "t.csv").stat().st_size > 3 * tables.HEAD
    found = read_catalogue(dataset(tmp_path))
    assert len(found) == 150_000
    assert set(found["bar_total"]) == {3}


@pytest.mark.parametrize("value", ["-99", "-999", "-9.0"])
def test_a_placeholder_is_said_to_be_one(tmp_path, value):
    csv(tmp_path, "id,bar_yes,bar_no", f"a,{value},4")
    refuses(
        dataset(tmp_path), f"bar_yes = {float(value)} (where it stands for a missing value, leave"
    )


# VOTables and workbooks


VOTABLE = """<?xml version="1.0"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE>
<TABLE name="other"><FIELD name="key" datatype="int"/><DATA><TABLEDATA/></DATA></TABLE>
<TABLE name="votes" nrows="2">
<FIELD name="id" datatype="char" arraysize="*"/>
<FIELD name="spectrum" datatype="float" arraysize="3"/>
<FIELD name="ra" datatype="double" unit="h"/>
<FIELD name="bar_yes" datatype="short"><VALUES null="-9"/></FIELD>
<FIELD name="bar_no" datatype="short"><VALUES null="-9"/></FIELD>
<DATA><TABLEDATA>
<TR><TD>a</TD><TD>1 2 3</TD><TD>12</TD><TD>3</TD><TD>4</TD></TR>
<TR><TD>b</TD><TD>1 2 3</TD><TD></TD><TD>-9</TD><TD>-9</TD></TR>
</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>
"""


def votable(tmp_path, old="", new=""):
    (tmp_path / "t.vot").write_text(VOTABLE.replace(old, new))
    return dataset(tmp_path, "t.vot", columns=columns(ra="ra"), table_hdu="votes")


def test_a_votable_gives_values_units_and_what_is_missing(tmp_path):
    found = read_catalogue(votable(tmp_path))
    assert found["id"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(found["ra"], [180, np.nan])
    assert found["bar_total"].tolist() == [7, 0]
    spec = dataset(tmp_path, "t.vot")
    refuses(spec, "no column 'id'", "names another table: table 1 (other), table 2 (votes)")
    refuses(dataclasses.replace(spec, table_hdu="3"), "its tables are table 1 (other), table 2")
    names = {"bar": ("bar", "yes|spectrum", "no")}
    of_three = dataclasses.replace(
        spec, table_hdu="2", columns=columns(count="{answer}", names=names)
    )
    refuses(of_three, "'no'", "has 'id', 'spectrum'")
    of_three = dataclasses.replace(of_three, columns=columns(id="spectrum"))
    refuses(of_three, "column 'spectrum' holds 3 values in each row, not one value")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('nrows="2"', 'nrows="2000000000000"', "tells of 2000000000000 rows, which are not there"),
        ('arraysize="3"', 'arraysize="3000000000"', "unpack to more than a table of that size"),
        (
            "<TABLEDATA>\n",
            '<BINARY2><STREAM href="http://x.org/y"/></BINARY2><TABLEDATA>',
            "elsewhere",
        ),
        ("<VOTABLE", '<!DOCTYPE a [<!ENTITY b "c">]><VOTABLE', "declares entities"),
        ("</TABLEDATA></DATA>", "", "mismatched tag"),
        ("TABLEDATA", "FITS", "its rows are written as FITS; save it"),
    ],
)
def test_what_a_votable_claims_is_not_believed(tmp_path, old, new, message):
    refuses(votable(tmp_path, old, new), "t.vot cannot be read", *message.split("; "))


def workbook(tmp_path, *rows, more=()):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "notes" if more else "votes"
    for row in more or rows:
        book.active.append(row)
    if more:
        second = book.create_sheet("votes")
        for row in rows:
            second.append(row)
    book.save(tmp_path / "t.xlsx")
    return dataset(tmp_path, "t.xlsx")


def test_a_sheet_of_a_workbook_is_a_table(tmp_path, capsys):
    rows = [("id ", "bar_yes", None, "bar_no"), ("a", 3, "x", 4.0), (7, 5, None, 6), (None,) * 4]
    spec = workbook(tmp_path, (), *rows)
    assert read_catalogue(spec)["id"].tolist() == ["a", "7"]
    assert read_catalogue(spec)["bar_total"].tolist() == [7, 11]
    spec = workbook(tmp_path, *rows, more=[("made by", "hand")])
    capsys.readouterr()
    refuses(spec, "no column 'id'", "another table: sheet 1 (notes), sheet 2 (votes)")
    assert "has tables in sheet 1 (notes), sheet 2 (votes): the first" in capsys.readouterr().err
    for sheet in ("votes", "2"):
        found = read_catalogue(dataclasses.replace(spec, table_hdu=sheet))
        assert found["bar_total"].tolist() == [7, 11]


def test_what_a_spreadsheet_has_damaged_is_refused(tmp_path):
    head = ("id", "bar_yes", "bar_no")
    spec = workbook(tmp_path, head, (float(IDS[0]), 1, 2))
    refuses(spec, "the id 5.87722984435352E+17, a floating-point number, which has lost digits")
    refuses(workbook(tmp_path, head, ("#REF!", 1, 2)), "the id #REF!, which names no galaxy")
    refuses(workbook(tmp_path, head, ("a", "two", 2)), "bar_yes = two")


def test_a_workbook_that_unpacks_to_much_is_refused(tmp_path, monkeypatch):
    spec = workbook(tmp_path, ("id", "bar_yes", "bar_no"), ("a", 1, 2), *[()] * 50, ("b", 1, 2))
    assert read_catalogue(spec)["bar_total"].tolist() == [3, 3]
    monkeypatch.setattr("shared.data.workbook.most_bytes", lambda path: 20 * 64)
    refuses(spec, "unpack to more than a table of that size may")


# Ids


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "name",
    [
        *("5.8772298173612E17", "5.877229817365791e17", "5E17", "5e+17", "5,87723E+17"),
        *("58772.29E13", ".5E18", "+5E17", "587722981741363294.0", "587722981741363294.", "12.0"),
    ],
)
def test_ids_that_have_lost_digits_are_refused(tmp_path, kind, name):
    table = pd.DataFrame({"id": ["a", name], "bar_yes": 1, "bar_no": 1})
    getattr(table, f"to_{kind}")(tmp_path / f"t.{kind}", index=False)
    refuses(dataset(tmp_path, f"t.{kind}"), "row 2 of", name, "lost digits", "original table")


@pytest.mark.parametrize(
    "name",
    [
        *("nan", "NaN", "NULL", "null", "None", "N/A", "NA", "#N/A", "#REF!", "#NAME?", "#DIV/0!"),
        *("-99", "-1", "-587722981741363294", "-9999.0", "<NA>", "NaT", "-", "--", "inf", "?"),
    ],
)
def test_ids_that_name_no_galaxy_are_refused(tmp_path, name):
    csv(tmp_path, "id,bar_yes,bar_no", "a,1,1", f"{name},1,1")
    refuses(dataset(tmp_path), "row 2 of", name, "names no galaxy", "remove the row")


def test_ids_that_only_look_like_numbers_are_names(tmp_path):
    names = ["1.0", "1.1", "J1.5-2", "0012", "1E0657-56", "5249e123abc", "3C 273", "nancy", "-a"]
    csv(tmp_path, "id,bar_yes,bar_no", *(f"{name},1,1" for name in names))
    assert read_catalogue(dataset(tmp_path))["id"].tolist() == names


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_integers_that_have_been_floats_are_told(tmp_path, capsys, kind):
    table = pd.DataFrame({"id": [int(name) for name in IDS], "bar_yes": 1, "bar_no": 1})
    table["id"] += 2**20 * np.arange(3)
    for lost in (False, True):
        table["id"] = table["id"].astype(float if lost else int).astype(int)
        getattr(table, f"to_{kind}")(tmp_path / f"t.{kind}", index=False)
        assert len(read_catalogue(dataset(tmp_path, f"t.{kind}"))) == 3
        output = capsys.readouterr().err
        assert ("all such as a floating-point column can hold" in output) == lost
        assert bool(output) == lost


def test_a_join_by_ids_that_have_lost_digits_is_refused(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no", f"{IDS[0]},1,1")
    spec = joined(tmp_path, "objid,asset_id", "5.8E17,1", columns=columns(file="asset_id"))
    refuses(spec, "row 1 of", "m.csv", "5.8E17", "lost digits")
    spec = joined(tmp_path, "objid,asset_id", "nan,1", columns=columns(file="asset_id"))
    assert read_catalogue(spec)["file"].tolist() == [""]


# FITS


def write_units(tmp_path, *tables, name="t.fits"):
    units = [fits.PrimaryHDU(), *(fits.BinTableHDU.from_columns(some) for some in tables)]
    fits.HDUList(units).writeto(tmp_path / name, overwrite=True)


def fits_columns(**extra):
    votes = {
        "id": ("2A", ["a", "b"], {}),
        "bar_yes": ("J", [3, 5], {}),
        "bar_no": ("J", [4, 6], {}),
    }
    return [
        fits.Column(name, kind, array=np.asarray(values), **more)
        for name, (kind, values, more) in (votes | extra).items()
    ]


@pytest.mark.parametrize(("kind", "zero"), [("I", 2**15), ("J", 2**31), ("I", 0), ("B", -128)])
@pytest.mark.parametrize("null", [5, 0])
def test_what_fits_says_is_nothing_is_compared_before_it_is_scaled(tmp_path, kind, zero, null):
    stored = {"I": np.int16, "J": np.int32, "B": np.uint8}[kind]
    unit = fits.BinTableHDU.from_columns(
        fits_columns(x=(kind, np.array([null, null + 2], stored), {}))
    )
    for key, value in (("TZERO4", zero), ("TNULL4", null)):
        unit.header[key] = value
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(tmp_path / "t.fits")
    with fits.open(tmp_path / "t.fits") as units:
        assert units[1].header["TZERO4"] == zero
    spec = dataset(tmp_path, "t.fits", columns=columns(ra="x"))
    if not -180 <= zero + null + 2 <= 360:
        refuses(spec, "galaxy b (row 2 of", f"x = {zero + null + 2}")
        spec = dataclasses.replace(spec, select={"id": ("a",)})
    assert np.isnan(read_catalogue(spec)["ra"][1])


def test_blank_numbers_of_a_table_in_text_are_missing(tmp_path):
    kinds = {"id": "A1", "bar_yes": "I4", "bar_no": "I4", "ra": "F6.1"}
    values = {"id": ["a", "b"], "bar_yes": [3, 7777], "bar_no": [4, 7777], "ra": [1.5, 77.5]}
    some = [fits.Column(n, kinds[n], array=np.array(values[n]), ascii=True) for n in kinds]
    fits.HDUList([fits.PrimaryHDU(), fits.TableHDU.from_columns(some)]).writeto(tmp_path / "t.fits")
    data = (tmp_path / "t.fits").read_bytes()
    (tmp_path / "t.fits").write_bytes(data.replace(b"7777", b"    ").replace(b"77.5", b"    "))
    found = read_catalogue(dataset(tmp_path, "t.fits", columns=columns(ra="ra")))
    assert found["bar_total"].tolist() == [7, 0]
    np.testing.assert_array_equal(found["ra"], [1.5, np.nan])
    (tmp_path / "t.fits").write_bytes(data.replace(b"77777777", b"    7777"))
    refuses(dataset(tmp_path, "t.fits"), "galaxy b (row 2 of", "bar_yes = (empty)")


def test_a_truth_value_and_a_text_may_be_missing_in_fits(tmp_path):
    extra = {"ok": ("L", [True, False], {}), "where": ("3A", ["N/A", "x"], {})}
    unit = fits.BinTableHDU.from_columns(fits_columns(**extra))
    unit.header["TNULL5"] = "N/A"
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(tmp_path / "t.fits")
    data = (tmp_path / "t.fits").read_bytes()
    spec = dataset(tmp_path, "t.fits", columns=columns(file="where"))
    assert read_catalogue(spec)["file"].tolist() == ["", "x"]
    spec = dataset(tmp_path, "t.fits", select={"ok": ("False",)})
    assert read_catalogue(spec)["id"].tolist() == ["b"]
    (tmp_path / "t.fits").write_bytes(data.replace(b"FxXX"[:2], b"\0x"))
    refuses(spec, "select.ok is ['False'], which keeps no galaxy", "holds '', 'True'")


@pytest.mark.parametrize("kind", ["PJ()", "QJ()", "2J", "4X", "C", "2A(1,2)"])
def test_columns_of_several_values_matter_only_where_they_are_wanted(tmp_path, kind):
    values = {"P": [[1, 2], [3]], "Q": [[1], [3, 4]], "C": [1j, 2]}.get(kind[0])
    more = {}
    if kind[0] in "PQ":
        values = np.array([np.array(some, np.int32) for some in values], object)
    if kind == "2A(1,2)":
        kind, values, more = "2A", [["a", "b"], ["c", "d"]], {"dim": "(1,2)"}
    values = {"2J": [[1, 2], [3, 4]], "4X": np.ones((2, 4), bool)}.get(kind, values)
    write_units(tmp_path, fits_columns(x=(kind, values, more)))
    assert read_catalogue(dataset(tmp_path, "t.fits"))["bar_total"].tolist() == [7, 11]
    for wanted in ({"id": "x"}, {"ra": "x"}, {"file": "x"}):
        spec = dataset(tmp_path, "t.fits", columns=columns(**wanted))
        refuses(spec, "t.fits cannot be read (column 'x' holds", "not one value", "dataset.columns")


@pytest.mark.parametrize("name", ["t.fits", "t.fits.gz"])
def test_a_table_in_a_later_hdu_is_named_by_a_key(tmp_path, capsys, name):
    write_units(tmp_path, [fits.Column("key", "2A", array=["x"])], fits_columns(), name=name)
    refuses(dataset(tmp_path, name), "no column 'id'", "dataset.table_hdu", "HDU 1, HDU 2")
    assert "has tables in HDU 1, HDU 2" in capsys.readouterr().err
    assert read_catalogue(dataset(tmp_path, name, table_hdu="2"))["bar_total"].tolist() == [7, 11]
    assert not capsys.readouterr().err
    refuses(
        dataset(tmp_path, name, table_hdu="3"),
        "dataset.table_hdu is 3, but its tables are HDU 1, HDU 2",
    )
    with fits.open(tmp_path / name, "append" if name == "t.fits" else "readonly") as units:
        units[2].name = "VOTES"
        units.writeto(tmp_path / f"u{name}")
    spec = dataset(tmp_path, f"u{name}", table_hdu="votes")
    assert read_catalogue(spec)["bar_total"].tolist() == [7, 11]
    csv(tmp_path, *(",".join(line) for line in BARS))
    refuses(
        dataset(tmp_path, table_hdu="1"),
        "dataset.table_hdu is 1, but a file of this kind holds one",
    )


def test_the_hdu_may_be_given_as_a_number():
    run = composed("dataset=folder", "dataset.images=photos", "dataset.table_hdu=2")
    assert run.dataset.table_hdu == "2"


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("h", 15), ("hourangle", 15), ("rad", 180 / np.pi), ("deg", 1), ("Degrees", 1), (None, 1)],
)
def test_places_are_read_in_the_unit_that_fits_gives(tmp_path, unit, factor):
    places = {"ra": ("D", [1.0, 0.5], {"unit": unit}), "dec": ("D", [-1.0, 0.5], {"unit": unit})}
    write_units(tmp_path, fits_columns(**places))
    found = read_catalogue(dataset(tmp_path, "t.fits", columns=columns(ra="ra")))
    np.testing.assert_allclose(found["ra"], factor * np.array([1, 0.5]), rtol=1e-12)
    spec = dataset(tmp_path, "t.fits", columns=columns(dec="dec"))
    if factor == 15:  # of a declination that is no angle
        refuses(spec, "t.fits gives the column dec the unit", unit, "degrees")
    else:
        np.testing.assert_allclose(read_catalogue(spec)["dec"], factor * np.array([-1, 0.5]))


def test_a_place_in_a_unit_that_is_no_angle_is_refused(tmp_path):
    write_units(tmp_path, fits_columns(ra=("D", [1.0, 2.0], {"unit": "pix"})))
    spec = dataset(tmp_path, "t.fits", columns=columns(ra="ra"))
    refuses(spec, "t.fits gives the column ra the unit 'pix'", "write it in degrees")


@pytest.mark.parametrize(
    ("ra", "dec", "degrees"),
    [
        ("8h30m00s", "-54d30m00.0s", (127.5, -54.5)),
        ("08 30 00", "+54 30 00", (127.5, 54.5)),
        ("127d30m0s", "-0:30:00", (127.5, -0.5)),
        ("127.5d", "-0.5°", (127.5, -0.5)),
        ("127.5 deg", "-0.5 deg", (127.5, -0.5)),
        ("127.5", "8h30m00s", None),
        ("8:30", "1", None),
    ],
)
def test_places_may_be_text(tmp_path, ra, dec, degrees):
    csv(tmp_path, "id,ra,dec,bar_yes,bar_no", f"a,{ra},{dec},1,1")
    spec = dataset(tmp_path, columns=columns(ra="ra", dec="dec"))
    if degrees is None:
        refuses(spec, "galaxy a (row 1 of", "it must be in degrees")
    else:
        found = read_catalogue(spec).loc[1, ["ra", "dec"]].astype(float)
        np.testing.assert_allclose(found, degrees, rtol=1e-13)


# Files that ask for more than they are


def zeros(count, kind=np.int8):
    return pa.array(np.zeros(count, kind))


def test_a_small_parquet_file_that_asks_for_much_is_refused(tmp_path):
    count = 20_000_000
    votes = {"bar_yes": zeros(count), "bar_no": zeros(count)}
    table = pa.table({"id": zeros(count, np.int64), **votes})
    pa.parquet.write_table(table, tmp_path / "t.parquet", row_group_size=count)
    refuses(dataset(tmp_path, "t.parquet"), "t.parquet cannot be read", "unpack to more", "rows")


def test_a_text_that_is_there_often_is_not_read_into_memory(tmp_path):
    count = 100_000
    ids = pa.DictionaryArray.from_arrays(zeros(count, np.int32), pa.array(["x" * 2000]))
    table = pa.table({"id": ids, "bar_yes": zeros(count), "bar_no": zeros(count)})
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 40_000
    refuses(dataset(tmp_path, "t.parquet"), "t.parquet cannot be read", "unpack to more", "rows")


@pytest.mark.parametrize("name", ["t.csv.gz", "t.fits.gz", "t.fits"])
def test_a_small_packed_file_that_unpacks_to_much_is_refused(tmp_path, name):
    rows = 7_000_000
    if name == "t.csv.gz":
        data = b"id,bar_yes,bar_no\n" + b"1,1,1\n" * rows
    else:
        write_units(tmp_path, fits_columns(), name="u.fits")
        head = (tmp_path / "u.fits").read_bytes()
        place = head.index(b"NAXIS2") + 10
        data = head[:place] + b"%20d" % rows + head[place + 20 :] + bytes(10 * rows)
    (tmp_path / name).write_bytes(gzip.compress(data))
    refuses(dataset(tmp_path, name), f"{name} cannot be read (its", "unpack to more", "not packed")


def test_rows_that_a_fits_file_does_not_have_are_refused(tmp_path):
    write_units(tmp_path, fits_columns())
    data = (tmp_path / "t.fits").read_bytes()
    place = data.index(b"NAXIS2") + 10
    (tmp_path / "t.fits").write_bytes(data[:place] + b"%20d" % 10**9 + data[place + 20 :])
    refuses(
        dataset(tmp_path, "t.fits"), "t.fits cannot be read (its header tells of 1000000000 rows"
    )


def test_of_a_fits_file_of_many_hdus_only_some_are_looked_at(tmp_path, monkeypatch):
    write_units(tmp_path, *(fits_columns() for _ in range(9)))
    monkeypatch.setattr(tables, "MOST_UNITS", 4)
    refuses(dataset(tmp_path, "t.fits", table_hdu="5"), "its tables are HDU 1, HDU 2, HDU 3)")


# Classes


CLASSES = {"yes": ("4", "big"), "no": ("5",)}


def labelled(tmp_path, table="t.csv", classes=CLASSES, **changes):
    return dataset(tmp_path, table, columns=columns(label="class"), classes=classes, **changes)


def test_a_class_gives_one_vote_and_others_are_left_out(tmp_path):
    csv(tmp_path, "id,class", "a,4", "b,6", "c,5", "d,big", "e,")
    found = read_catalogue(labelled(tmp_path))
    assert found["id"].tolist() == ["a", "c", "d"]
    assert found.index.tolist() == [1, 3, 4]
    assert found["bar_yes"].tolist() == [1, 0, 1]
    assert found["bar_no"].tolist() == [0, 1, 0]
    assert found["bar_total"].tolist() == [1, 1, 1]
    assert found["votes_from"].tolist() == ["class"] * 3
    assert found["bar_total"].dtype == found["bar_no"].dtype == np.int32


def test_classes_that_match_nothing_are_told_with_their_counts(tmp_path, capsys):
    csv(tmp_path, "id,class", "a,4", "b,Big", "c,BIG", "d,Big", "e,", "f,5 ", "g,bigg")
    assert read_catalogue(labelled(tmp_path))["id"].tolist() == ["a", "f"]
    output = capsys.readouterr().err
    assert "no row has 'big' in the column class, which dataset.classes names" in output
    assert "left out 5 of 7 galaxies of" in output
    assert "'Big' 2 (the nearest is 'big')" in output
    assert "'BIG' 1 (the nearest is 'big')" in output
    assert "'(empty)' 1" in output
    assert "'bigg' 1 (the nearest is 'big')" in output
    csv(tmp_path, "id,class", "a,4", "b,big", "c,5")
    assert len(read_catalogue(labelled(tmp_path))) == 3
    assert not capsys.readouterr().err


def test_numbers_are_compared_as_numbers(tmp_path, capsys):
    csv(tmp_path, "id,class,dr", "a,4.0,7", "b,4,7.0", "c,05,7.00", "d,5e0,8", "e,x,7e0", "f,big,7")
    spec = labelled(tmp_path, select={"dr": ("7",)})
    assert read_catalogue(spec)["id"].tolist() == ["a", "b", "c", "f"]
    assert read_catalogue(labelled(tmp_path))["bar_no"].tolist() == [0, 0, 1, 1, 0]
    refuses(labelled(tmp_path, classes={"yes": ("4.0",), "no": ("4",)}), "'4' to yes and to no")
    near = [str(int(IDS[0]) + 1), IDS[0]]  # alike as floats
    csv(tmp_path, "id,dr,bar_yes,bar_no", *(f"{name},{name},1,1" for name in near))
    found = read_catalogue(dataset(tmp_path, select={"dr": (IDS[0],)}))
    assert found["id"].tolist() == [IDS[0]]
    capsys.readouterr()
    read_catalogue(dataset(tmp_path, select={"dr": (IDS[0], "9")}))
    output = capsys.readouterr().err
    assert "no row has '9' in the column dr, which dataset.select.dr names" in output


def test_classes_with_gaps_are_numbers_all_the_same(tmp_path):
    table = pd.DataFrame({"id": ["a", "b", "c"], "class": [4.0, np.nan, 5.0]})
    table.to_parquet(tmp_path / "t.parquet")
    assert read_catalogue(labelled(tmp_path, "t.parquet"))["bar_yes"].tolist() == [1, 0]


def test_classes_that_cannot_be_meant_are_refused(tmp_path):
    csv(tmp_path, "id,class", "a,7", "b,8")
    refuses(labelled(tmp_path), "no galaxy has a class", "'7', '8'", "Correct one")
    twice = {"yes": ("7",), "no": ("7",)}
    refuses(labelled(tmp_path, classes=twice), "class '7' to yes and to no; choose one")
    refuses(labelled(tmp_path, classes={"maybe": ("7",)}), "has 'maybe'", "answers yes, no")
    refuses(labelled(tmp_path, classes=None), "dataset.columns.label and dataset.classes belong")
    refuses(dataset(tmp_path, classes=CLASSES), "belong together; give both or neither")


def inferred(tmp_path, *lines, words=(), name="t.csv"):
    csv(tmp_path, *lines, name=name)
    own = ["fit", f"images={tmp_path}", f"table={tmp_path / name}", "label=class", *words]
    return composed(*trizoo.hydra_words(own))


def test_a_label_alone_makes_its_classes_the_answers(tmp_path, capsys):
    lines = ["id,class", "a,spiral", "b,round", "c,", "d,edge on ", "e,round", "f,N/A", "g,-99"]
    run = inferred(tmp_path, *lines)
    said = (
        "classes of class in {}: 'edge on' 1, 'round' 2, 'spiral' 1; 3 galaxies have none and are"
    )
    assert said.format(tmp_path / "t.csv") in capsys.readouterr().err
    assert run.dataset.questions == {"class": ("edge on", "round", "spiral")}
    assert (run.question, run.positive, run.questions) == ("class", ("edge on",), ("class",))
    assert run.model.answers == 3
    found = read_catalogue(run.dataset)
    assert found["id"].tolist() == ["a", "b", "d", "e"]
    assert found["class_round"].tolist() == [0, 1, 0, 1]
    run = inferred(tmp_path, *lines, words=["positive=[round]", "question=class"])
    assert (run.positive, run.questions, run.model.answers) == (("round",), None, 2)
    words = ["+dataset.questions.shape=[spiral,round]"]
    run = inferred(tmp_path, *lines, words=words)
    assert run.dataset.questions == {"shape": ("spiral", "round")}
    assert read_catalogue(run.dataset)["id"].tolist() == ["a", "b", "e"]
    assert "'edge on' 1" in capsys.readouterr().err


def test_classes_that_are_numbers_compare_as_numbers(tmp_path):
    run = inferred(tmp_path, "id,class", "a,0.0", "b,0", "c,1.0", "d,1", "e,10")
    assert run.dataset.classes == {"0": ("0", "0.0"), "1": ("1", "1.0"), "10": ("10",)}
    assert read_catalogue(run.dataset)["class_0"].tolist() == [1, 1, 0, 0, 0]


def test_classes_that_may_be_one_are_for_the_user_to_say(tmp_path):
    lines = ["id,class", "a,Smooth", "b,smooth", "c,SB", "d,Sb", "e,edge-on", "f,edge_on"]
    with pytest.raises(ValueError, match="differ in case, spaces or hyphens alone") as refused:
        inferred(tmp_path, *lines)
    assert "'Smooth' 1, 'smooth' 1; 'SB' 1, 'Sb' 1; 'edge-on' 1, 'edge_on' 1" in str(refused.value)
    words = ["dataset.classes={smooth:[Smooth,smooth],SB:[SB],Sb:[Sb],edge-on:[edge-on,edge_on]}"]
    run = inferred(tmp_path, *lines, words=words)
    assert run.dataset.questions == {"class": ("smooth", "SB", "Sb", "edge-on")}
    assert read_catalogue(run.dataset)["class_edge-on"].tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["id,type", "a,x"], "has no column 'class', which dataset.columns.label names"),
        (["id,class", "a,x", "b,x"], "has one class ('x'); there is nothing to tell apart"),
        (["id,class", "a,", "b,nan"], "has no classes"),
        (
            ["id,class", *(f"a,{i}" for i in range(41))],
            "has 41 different values, '0', '1', '2' for",
        ),
    ],
)
def test_what_is_no_column_of_classes_is_refused(tmp_path, lines, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        inferred(tmp_path, *lines)


# Places without votes


def positions(tmp_path, capsys, head, **changes):
    csv(tmp_path, head, *(f"g{i}{',1' * head.count(',')}" for i in range(3)))
    config = trizoo.compose(["task=predict", "dataset=folder", "dataset.images=photos"])
    config["dataset"]["table"] = str(tmp_path / "t.csv")
    made = with_places(config)["dataset"]
    return from_config(DatasetSpec, made), capsys.readouterr().err


def test_predict_takes_a_table_of_places_alone(tmp_path, capsys):
    spec, told = positions(tmp_path, capsys, "id,RAJ2000,DEJ2000")
    assert "is taken for ids, places from RAJ2000 and DEJ2000, no votes, since" in told
    assert read_catalogue(spec).columns.tolist() == ["id", "file", "ra", "dec"]
    votes = ",".join(f"smooth-or-featured_{a}" for a in ("smooth", "featured-or-disk", "artifact"))
    spec, told = positions(tmp_path, capsys, f"id,{votes}")
    assert not told
    assert read_catalogue(spec)["smooth-or-featured_total"].tolist() == [3] * 3
    spec, told = positions(tmp_path, capsys, "id,smooth-or-featured_smooth")
    refuses(spec, "no column 'smooth-or-featured_featured-or-disk'")


@pytest.mark.parametrize(("unit", "ra", "dec"), [("h", 15, 1), ("rad", 57.29578, 57.29578)])
def test_the_unit_of_places_can_be_said(tmp_path, unit, ra, dec):
    csv(tmp_path, "id,ra,dec,bar_yes,bar_no", "a,1,1,3,4")
    spec = dataset(tmp_path, columns=columns(ra="ra", dec="dec", place_unit=unit))
    np.testing.assert_allclose(read_catalogue(spec)[["ra", "dec"]], [[ra, dec]], rtol=1e-6)
    table = Table({"id": ["a"], "ra": [90.0], "dec": [1.0], "bar_yes": [3], "bar_no": [4]})
    table["ra"].unit = table["dec"].unit = "deg"
    table.write(tmp_path / "t.fits")
    assert read_catalogue(dataclasses.replace(spec, table=str(tmp_path / "t.fits")))["ra"][1] == 90


@pytest.mark.parametrize(("most", "unit"), [(24, "h"), (2 * np.pi, "rad"), (360, None)])
def test_places_that_may_be_in_another_unit_are_told(tmp_path, capsys, most, unit):
    share = np.linspace(0, 1, 40)
    dec = share - 0.5 if unit == "rad" else 100 * share - 50
    rows = [f"g{i},{most * share[i]},{dec[i]},1,2" for i in range(40)]
    csv(tmp_path, "id,ra,dec,bar_yes,bar_no", *rows)
    read_catalogue(dataset(tmp_path, columns=columns(ra="ra", dec="dec")))
    told = capsys.readouterr().err
    assert (f"set dataset.columns.place_unit={unit}" in told) == (unit is not None)
    assert bool(told) == (unit is not None)


# Shares


def shares(tmp_path, *lines, answers=("yes", "no"), **changes):
    head = ",".join(["id", *(f"bar_{answer}_fraction" for answer in answers), "bar_n"])
    csv(tmp_path, head, *lines)
    columns = dataclasses.replace(SHARES, **changes)
    return dataset(tmp_path, columns=columns, questions={"bar": tuple(answers)})


def votes_of(spec):
    found = read_catalogue(spec)
    return found.filter(like="bar_").to_numpy().tolist()


def test_votes_are_rebuilt_from_shares(tmp_path):
    spec = shares(tmp_path, "a,0.35,0.65,40", "b,0.333,0.5,12.0", "c,1.0000001,-1e-7,7", "d,1,,3")
    assert votes_of(spec) == [[14, 26, 40], [4, 6, 12], [7, 0, 7], [3, 0, 3]]
    assert read_catalogue(spec)["votes_from"].tolist() == ["fractions"] * 4


def test_nobody_asked_is_no_votes(tmp_path):
    spec = shares(tmp_path, "a,,,0", "b,nan,nan,", "c,0.5,0.5,0", "d,0,0,0")
    assert votes_of(spec) == [[0, 0, 0]] * 4


def test_every_count_below_a_thousand_comes_back_from_three_digits(tmp_path):
    rng = np.random.default_rng(1)
    counts = rng.multinomial(rng.integers(0, 1000, 3000), rng.dirichlet([0.5] * 6, 3000))
    total = counts.sum(1)
    fractions = np.round(counts / np.maximum(total, 1)[:, None], 3).astype(np.float32)
    answers = tuple("abcdef")
    table = pd.DataFrame(fractions, columns=[f"bar_{a}_fraction" for a in answers])
    table.assign(id=[f"g{i}" for i in range(3000)], bar_n=total).to_parquet(tmp_path / "t.parquet")
    spec = dataset(tmp_path, "t.parquet", columns=SHARES, questions={"bar": answers})
    np.testing.assert_array_equal(votes_of(spec), np.column_stack([counts, total]))


def test_rounding_never_makes_more_votes_than_were_given(tmp_path):
    spec = shares(
        tmp_path,
        "a,0.375,0.375,0.25,4",  # 1.5, 1.5 and 1: rounded to even, 2 + 2 + 1
        "b,0.167,0.167,0.667,9",  # 1.503, 1.503 and 6.003: 2 + 2 + 6
        "c,0.3,0.3,0.3,4",  # 1.2 three times: 3, and one answer unknown
        "d,0.51,0.245,0.245,1000",
        answers=("x", "y", "z"),
    )
    assert votes_of(spec) == [[2, 1, 1, 4], [2, 1, 6, 9], [1, 1, 1, 4], [510, 245, 245, 1000]]
    spec = shares(tmp_path, "a,0.502,0.502,1000")  # shares themselves rounded up
    assert votes_of(spec) == [[500, 500, 1000]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("two,1.2,0,5", "bar_yes_fraction = 1.2; a share of the votes is from 0 to 1"),
        ("two,0.2,-0.1,5", "bar_no_fraction = -0.1; a share"),
        ("two,0.2,inf,5", "bar_no_fraction = inf; a share"),
        ("two,0.2,some,5", "bar_no_fraction = some; a share"),
        ("two,0.2,0.8,4.5", "bar_n = 4.5; votes are whole numbers"),
        ("two,0.2,0.8,", "bar_n = (empty); votes are whole numbers"),
        ("two,,,5", "5 votes on bar, but no share of any answer"),
        ("two,0.6,0.6,5", "shares of bar that add up to 1.2; they may not exceed 1"),
    ],
)
def test_shares_that_cannot_be_meant_are_refused(tmp_path, line, message):
    refuses(shares(tmp_path, "one,0.5,0.5,2", line), "galaxy two (row 2 of", message)


def test_shares_without_votes_need_an_assumption(tmp_path):
    lines = ["a,0.25,0.7,1", "b,,,1", "c,0.5,,1"]
    spec = shares(tmp_path, *lines, total=None, assumed_votes=40)
    assert votes_of(spec) == [[10, 28, 38], [0, 0, 0], [20, 0, 20]]
    assert read_catalogue(spec)["votes_from"].tolist() == ["assumed"] * 3
    spec = shares(tmp_path, *lines, total="{question}_votes", assumed_votes=40)
    assert votes_of(spec)[0] == [10, 28, 38]
    spec = shares(tmp_path, "a,0.25,0.75,4", assumed_votes=40)
    assert votes_of(spec)[0] == [1, 3, 4]
    assert read_catalogue(spec)["votes_from"].tolist() == ["fractions"]
    refuses(shares(tmp_path, *lines, total=None), "say nothing without the number", "assumed_votes")
    spec = shares(tmp_path, *lines, total="{question}_votes")
    refuses(spec, "'bar_votes'", "in dataset.columns.total, or set dataset.columns.assumed_votes")


@pytest.mark.parametrize("name", ["bar_total", "bar_total-votes", "bar_votes", "total", "N"])
def test_one_key_is_enough_for_shares(tmp_path, capsys, name):
    csv(tmp_path, f"id,bar_yes_fraction,bar_no_fraction,{name}", "a,0.25,0.75,8")
    chosen = dataclasses.replace(FOLDER.columns, fraction="{question}_{answer}_fraction")
    assert votes_of(dataset(tmp_path, columns=chosen)) == [[2, 6, 8]]
    assert f"the votes on each question are taken from '{name}'" in capsys.readouterr().err


# Joins


def joined(tmp_path, *lines, key="objid", table="m.csv", **changes):
    if lines:
        csv(tmp_path, *lines, name="m.csv")
    joins = {"mapping": JoinSpec(None if table is None else str(tmp_path / table), key)}
    return dataset(tmp_path, joins=joins, **changes)


def test_columns_are_found_in_joined_tables(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no", *(f"{name},{i},1" for i, name in enumerate(IDS)))
    spec = joined(
        tmp_path,
        *("asset_id,objid,bar_yes,ra", f"007,{IDS[2]},9,1.5", "5,99,9,2", f" 8 ,{IDS[0]},9,3"),
        columns=columns(file="asset_id", ra="ra"),
    )
    found = read_catalogue(spec)
    assert found["id"].tolist() == IDS
    assert found["file"].tolist() == ["8", "", "007"]
    assert found["bar_yes"].tolist() == [0, 1, 2]  # its own, not the other table's
    np.testing.assert_array_equal(found["ra"], [3, np.nan, 1.5])


@pytest.mark.parametrize("kind", ["parquet", "fits"])
def test_a_join_of_integers_meets_text_to_the_last_digit(tmp_path, kind):
    csv(tmp_path, "id,bar_yes,bar_no", *(f"{name},1,1" for name in IDS[:2]))
    table = pd.DataFrame({"id": [int(IDS[2]), int(IDS[1])], "asset": [3, 2]})
    WRITE[kind](tmp_path / f"m.{kind}", table)
    spec = joined(tmp_path, table=f"m.{kind}", key="OBJID|id", columns=columns(file="asset"))
    assert read_catalogue(spec)["file"].tolist() == ["", "2"]
    table.astype({"id": float}).to_parquet(tmp_path / "f.parquet")
    spec = joined(tmp_path, table="f.parquet", key="id", columns=columns(file="asset"))
    refuses(spec, "ids of", "f.parquet are floating-point")


def test_a_galaxy_twice_in_a_join_must_say_the_same(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no", "a,1,1", "b,1,1")
    lines = ["objid,asset_id,junk", "x,1,0", "x,2,0", "b,5,0", "a,3,0", "b,5,1"]
    spec = joined(tmp_path, *lines, columns=columns(file="asset_id"))
    assert read_catalogue(spec)["file"].tolist() == ["3", "5"]  # x, which differs, is not asked for
    spec = joined(tmp_path, *lines, "a,4,0", columns=columns(file="asset_id"))
    refuses(spec, "galaxy a is in", "m.csv twice, as row 4 and row 6", "keep one")


def test_rows_can_be_selected_by_a_joined_column(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no", "a,1,1", "b,1,1", "c,1,1")
    spec = joined(tmp_path, "objid,sample", "b,original", "a,extra", select={"sample": ("extra",)})
    found = read_catalogue(spec)
    assert (found["id"].tolist(), found.index.tolist()) == (["a"], [1])


def test_a_column_that_a_join_could_bring_is_said_to(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no", "a,1,1")
    spec = joined(tmp_path, table=None, columns=columns(file="asset_id"))
    refuses(spec, "no column 'asset_id'", "dataset.joins.mapping.table is not given")
    spec = joined(tmp_path, "objid,assetid", "a,1", columns=columns(file="asset_id"))
    refuses(spec, "'asset_id' (the nearest is 'assetid')", "m.csv has 'objid', 'assetid'")
    spec = joined(tmp_path, "obj,asset_id", "a,1", columns=columns(file="asset_id"))
    refuses(spec, "m.csv has no column 'objid'", "'obj'", "dataset.joins.mapping.key")
    spec = joined(tmp_path, table="none.csv", columns=columns(file="asset_id"))
    refuses(spec, "dataset.joins.mapping.table is", "none.csv", error=FileNotFoundError)
    spec = joined(tmp_path, "objid,asset_id", "a,1", columns=columns(file="asset_id", id="objid"))
    refuses(spec, "no column 'objid'")  # the table's own ids, and no other's


# Scales


def scaled(tmp_path, *lines, images="https://cutouts.example/?s={scale}", **changes):
    csv(tmp_path, "id,th50,th90,bar_yes,bar_no", *lines)
    scale = ScaleSpec(
        **({"columns": {"th50": 0.04, "R90|th90": 0.02}, "least": 0.1, "fixed": None} | changes)
    )
    service = dataclasses.replace(FOLDER.service, scale=scale)
    return dataclasses.replace(dataset(tmp_path), images=images, service=service)


def test_the_scale_of_a_cutout_follows_the_galaxys_size(tmp_path):
    lines = ["a,10,30,1,1", "b,20,30,1,1", "c,1,1,1,1"]
    found = read_catalogue(scaled(tmp_path, *lines))
    assert found.columns.tolist()[:6] == ["id", "file", "ra", "dec", "scale", "votes_from"]
    np.testing.assert_allclose(found["scale"], [0.4, 0.6, 0.1], rtol=1e-15)
    found = read_catalogue(scaled(tmp_path, *lines, fixed=0.396))
    assert found["scale"].tolist() == [0.396] * 3
    for images in ("photos", "https://cutouts.example/?ra={ra}"):
        assert "scale" not in read_catalogue(scaled(tmp_path, *lines, images=images))


@pytest.mark.parametrize("size", ["", "-9999", "0", "nan", "inf", "large"])
def test_a_galaxy_of_unknown_size_is_refused(tmp_path, size):
    lines = ["a,10,30,1,1", f"two,{size},30,1,1"]
    refuses(scaled(tmp_path, *lines), "galaxy two (row 2 of", "no size above 0", "scale.fixed")
    assert len(read_catalogue(scaled(tmp_path, *lines, fixed=1.0))) == 2
    wanted = dataclasses.replace(scaled(tmp_path, *lines), select={"id": ("a",)})
    assert read_catalogue(wanted)["id"].tolist() == ["a"]


def test_sizes_that_are_not_there_have_two_fixes(tmp_path):
    spec = scaled(tmp_path, "a,1,1,1,1", columns={"PETROR90_R|petroR90_r": 0.02})
    spec = dataclasses.replace(spec, joins={"sizes": JoinSpec(None, "OBJID")})
    refuses(
        spec,
        "'PETROR90_R' or 'petroR90_r'",
        "dataset.joins.sizes.table is not given",
        "dataset.service.scale.fixed",
    )
    refuses(scaled(tmp_path, "a,1,1,1,1", columns={}), "asks for a {scale}", "scale.fixed")


# Real tables, each against a plain reading of its own


REAL = Path(os.environ.get("TRIZOO_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
TRUE = REAL / "true_format_samples"
HART = TRUE / "galaxy_zoo_2" / "gz2_hart16.csv"
MAPPING = TRUE / "galaxy_zoo_2" / "gz2_filename_mapping.csv"
STRIPE82 = REAL / "gz2_stripe82" / "table5_first8000.csv.gz"
needs_real_data = pytest.mark.skipif(
    not REAL.is_dir(), reason="no real data: set TRIZOO_REAL_DATA to their folder"
)


def survey(name, table, *overrides):
    return composed(
        f"dataset={name}", "dataset.images=photos", f"dataset.table={table}", *overrides
    )


def real(table, **changes):
    return dataclasses.replace(FOLDER, table=str(REAL / table), **changes)


def plainly(table):
    return pd.read_csv(table, dtype=str, keep_default_na=False)


def same_votes(found, table, names, totals=None):
    """Whether the votes `found` are those that `told` has under `names`: question -> answer -> column."""
    for question, answers in names.items():
        counts = table[[*answers.values()]].astype(float).to_numpy()
        theirs = found[[f"{question}_{answer}" for answer in answers]].to_numpy()
        np.testing.assert_array_equal(theirs, counts)
        total = counts.sum(1) if totals is None else table[totals.format(question)].astype(float)
        np.testing.assert_array_equal(found[f"{question}_total"], total)
    count = sum(len(answers) + 1 for answers in names.values())
    assert len(found.filter(regex="_").columns) == count + 1  # and votes_from


def gz2_names(spec, table):
    """The counts of Galaxy Zoo 2 in the order of its 37 answers, which is that of conf/dataset/gz2.yaml."""
    counts = iter(name for name in table if name.endswith("_count"))
    return {q: {a: next(counts) for a in answers} for q, answers in spec.questions.items()}


@needs_real_data
def test_the_true_rows_of_hart16_are_read_with_their_images():
    spec = survey("gz2", HART, f"dataset.joins.mapping.table={MAPPING}").dataset
    found, wanted = read_catalogue(spec), plainly(HART)
    same_votes(found, wanted, gz2_names(spec, wanted))
    assert found["smooth-or-featured_total"].tolist() == [37, 44, 34]
    assert found["odd-feature_merger"].tolist() == [0, 19, 1]
    assert found["spiral-arm-count_cant-tell"].tolist() == [3, 1, 0]
    assert found["file"].tolist() == ["106587", "16126", "91609"]
    assert all((HART.parent / "images" / f"{file}.jpg").is_file() for file in found["file"])
    assert found["id"].tolist() == wanted["dr7objid"].tolist()
    np.testing.assert_array_equal(found["ra"], wanted["ra"].astype(float))
    np.testing.assert_array_equal(found["dec"], wanted["dec"].astype(float))


@needs_real_data
def test_the_real_rows_of_stripe_82_are_read():
    spec = survey("gz2", STRIPE82, "dataset.columns.file=null").dataset
    found, wanted = read_catalogue(spec), plainly(STRIPE82)
    assert len(found) == 8000
    assert found["id"].tolist() == wanted["objid"].tolist()
    assert found["id"].str.fullmatch(r"\d{19}").all()
    same_votes(found, wanted, gz2_names(spec, wanted))
    votes = found.filter(like="_total").sum(axis=1)
    np.testing.assert_array_equal(votes, wanted["total_votes"].astype(int))
    np.testing.assert_array_equal(found["ra"], wanted["ra"].astype(float))


@needs_real_data
def test_counts_of_stripe_82_come_back_from_three_digits_and_totals(tmp_path):
    spec = survey("gz2", STRIPE82, "dataset.columns.file=null").dataset
    wanted = plainly(STRIPE82)
    table = {"id": wanted["objid"].to_numpy()}
    for question, answers in gz2_names(spec, wanted).items():
        counts = wanted[[*answers.values()]].astype(int)
        table[f"{question}_n"] = total = counts.sum(axis=1).to_numpy()
        for answer, name in answers.items():
            share = np.where(total > 0, counts[name] / np.maximum(total, 1), np.nan)
            table[f"{question}_{answer}_fraction"] = np.round(share, 3)
    pd.DataFrame(table).to_csv(tmp_path / "t.csv", index=False)
    rebuilt = read_catalogue(dataset(tmp_path, columns=SHARES, questions=spec.questions))
    same_votes(rebuilt, wanted, gz2_names(spec, wanted))


@needs_real_data
def test_the_galaxies_of_w20_are_selections(tmp_path):
    stripe82, hart = plainly(STRIPE82), plainly(HART)
    rows = stripe82.head(400).assign(dr7objid=stripe82["objid"])
    pd.concat([rows, hart])[hart.columns].to_csv(tmp_path / "t.csv", index=False)
    words = ["gz2", tmp_path / "t.csv", "dataset.columns.file=null"]
    run = survey(*words, "+dataset.select.sample=[original]", "minimum_votes=37")
    found = read_catalogue(run.dataset)
    assert found["id"].tolist() == hart["dr7objid"].tolist()
    assert (found[f"{run.question}_total"] >= run.minimum_votes).tolist() == [True, True, False]
    run = survey(*words, "question=bar", "positive=[yes]", "minimum_votes=11")
    found = read_catalogue(run.dataset)
    enough = (found["bar_total"] >= run.minimum_votes).to_numpy()
    bars = ["t03_bar_a06_bar_count", "t03_bar_a07_no_bar_count"]
    counts = pd.concat([rows, hart])[bars].astype(int).sum(axis=1).to_numpy()
    np.testing.assert_array_equal(enough, counts > 10)
    assert 20 < enough[:400].sum() < 380
    assert enough[400:].tolist() == [True, False, False]


@needs_real_data
def test_the_true_rows_of_the_kaggle_challenge_are_read():
    table = TRUE / "galaxy_zoo_challenge" / "training_solutions_rev1.csv"
    spec = survey("gz2_kaggle", table).dataset
    found, wanted = read_catalogue(spec), plainly(table)
    classes = iter(wanted.columns[1:])
    for question, answers in spec.questions.items():
        votes = [np.round(40 * wanted[next(classes)].astype(float)) for _ in answers]
        theirs = found[[f"{question}_{answer}" for answer in answers]].to_numpy()
        np.testing.assert_array_equal(theirs, np.column_stack(votes))
        np.testing.assert_array_equal(found[f"{question}_total"], np.sum(votes, axis=0))
    assert next(classes, None) is None
    assert found["bar_total"].tolist() == [25, 26, 7]  # of those 40, who saw a disc face on
    assert found["votes_from"].tolist() == ["assumed"] * 3
    assert found["id"].tolist() == ["100008", "100023", "100053"]


DECALS = TRUE / "galaxy_zoo_decals"


@needs_real_data
@pytest.mark.parametrize("name", ["gz_decals12", "gz_decals5"])
def test_the_true_rows_of_decals_are_read(name):
    kind = {"gz_decals12": "1_and_2", "gz_decals5": "5"}[name]
    table = DECALS / f"gz_decals_volunteers_{kind}.csv"
    spec = survey(name, table).dataset
    found, wanted = read_catalogue(spec), plainly(table)
    names = {q: {a: f"{q}_{a}" for a in answers} for q, answers in spec.questions.items()}
    if name == "gz_decals12":
        names["how-rounded"]["round"] = "how-rounded_completely"
    same_votes(found, wanted, names)
    assert found["id"].tolist() == wanted["iauname"].tolist()
    where = "iauname" if name == "gz_decals12" else "png_loc"
    assert found["file"].tolist() == wanted[where].tolist()
    np.testing.assert_array_equal(found["dec"], wanted["dec"].astype(float))
    assert found["smooth-or-featured_total"].min() > 0


@needs_real_data
def test_the_sizes_of_decals_scale_its_cutouts():
    table = DECALS / "gz_decals_volunteers_5.csv"
    wanted = plainly(table)
    spec = survey("gz_decals5", table).dataset
    images = "https://cutouts.example/?ra={ra}&dec={dec}&scale={scale}"
    found = read_catalogue(dataclasses.replace(spec, images=images))
    small, large = wanted["petro_th50"].astype(float), wanted["petro_th90"].astype(float)
    np.testing.assert_allclose(
        found["scale"], np.maximum(np.minimum(0.04 * small, 0.02 * large), 0.1), rtol=1e-15
    )


@needs_real_data
def test_predictions_of_decals_are_no_votes():
    table = DECALS / "gz_decals_auto_posteriors.csv"
    found, wanted = read_catalogue(survey("gz_decals_auto", table).dataset), plainly(table)
    assert found.columns.tolist() == ["id", "file", "ra", "dec"]
    assert found["id"].tolist() == wanted["iauname"].tolist()
    assert found["file"].tolist() == wanted["file_loc"].tolist()
    np.testing.assert_array_equal(found["ra"], wanted["ra"].astype(float))


SMOOTH = {"smooth-or-featured": ("smooth", "featured-or-disk", "artifact")}


@needs_real_data
@pytest.mark.parametrize(
    ("table", "name", "answers", "rows"),
    [
        ("gz_decals/panoptes_reduction.csv", "id_str", 3, 4000),
        ("gz_decals/image_votes.csv", "id_str", 3, 46),
        ("gz2_votes_32px/labels.csv", "dr7objid", 2, 500),
        ("gz2_votes_32px/original/labelled_catalog.csv", "id_str", 2, 500),
        ("gz2_votes_32px/original/train_shards/train_df.csv", "id_str", 2, 50),
        ("gz2_votes_32px/original/val_shards/val_df.csv", "id_str", 2, 50),
        ("gz2_votes_32px/original/test_shards/test_df.csv", "id_str", 2, 400),
    ],
)
def test_real_tables_of_counts_written_as_floats_are_read(table, name, answers, rows):
    questions = {q: some[:answers] for q, some in SMOOTH.items()}
    found = read_catalogue(real(table, columns=columns(id=name), questions=questions))
    wanted = plainly(REAL / table)
    names = {q: {a: f"{q}_{a}" for a in some} for q, some in questions.items()}
    totals = "{}_total-votes" if answers == 3 else None
    same_votes(found, wanted, names, totals)
    assert len(found) == rows
    assert found["id"].tolist() == wanted[name].tolist()


@needs_real_data
def test_a_real_table_of_all_questions_is_read():
    table = REAL / "gz_decals" / "all_questions_counts.csv"
    spec = survey("gz_decals5", table, "dataset.columns.id=subject_id").dataset
    plain = dataclasses.replace(spec.columns, file=None, ra=None, dec=None)
    found, wanted = read_catalogue(dataclasses.replace(spec, columns=plain)), plainly(table)
    names = {q: {a: f"{q}_{a}" for a in answers} for q, answers in spec.questions.items()}
    same_votes(found, wanted, names)
    assert len(found) == 2585


@needs_real_data
def test_real_shares_without_totals_are_votes_by_assumption():
    table = "gz_hubble/ferengi_answer_fractions_first2000.csv.gz"
    names = {
        "smooth-or-featured": ("0_Shape", "0_smooth", "1_features_or_disk", "2_star_or_artifact")
    }
    names |= {"bar": ("11_Bar", "0_bar", "1_no_bar")}
    spec = real(
        table,
        columns=columns(
            id="subject_id",
            count=None,
            total=None,
            assumed_votes=40,
            fraction="ferengi-{question}_a-{answer}",
            names=names,
        ),
        questions={**SMOOTH, "bar": ("yes", "no")},
    )
    found, wanted = read_catalogue(spec), plainly(REAL / table)
    for question, (theirs, *answers) in names.items():
        given = [wanted[f"ferengi-{theirs}_a-{answer}"].replace("", "0") for answer in answers]
        votes = np.round(40 * np.column_stack(given).astype(float))
        ours = found[[f"{question}_{a}" for a in spec.questions[question]]].to_numpy()
        np.testing.assert_array_equal(ours, votes)
        np.testing.assert_array_equal(found[f"{question}_total"], votes.sum(1))
    assert (len(found), found["id"][1]) == (1999, "5249ce0c3ae74072a30040bf")
    assert (found["bar_total"] == 0).sum() > 100  # nobody was asked


@needs_real_data
def test_a_real_table_of_images_without_votes_is_read():
    spec = real(
        "gz_hubble/labels.csv", columns=columns(id="UID_MOSAIC", file="filename", count=None)
    )
    found, wanted = read_catalogue(spec), plainly(spec.table)
    assert found["id"].tolist() == wanted["UID_MOSAIC"].tolist()
    assert found["file"].tolist() == wanted["filename"].tolist()
    assert len(found) == 86


@needs_real_data
def test_a_real_table_of_classes_is_read():
    table = REAL / "sdss_gz1" / "classes.csv"
    found = read_catalogue(survey("sdss_gz1", table).dataset)
    wanted = plainly(table)
    wanted = wanted[wanted["class"].isin(list("0123"))]
    assert found["id"].tolist() == wanted["dr7objid"].tolist()
    assert found["file"].tolist() == wanted["filename"].tolist()
    assert found.index.tolist() == (wanted.index + 1).tolist()
    assert (len(found), found["smooth-or-featured_featured"].sum()) == (5535, 1592)
    np.testing.assert_array_equal(found["smooth-or-featured_smooth"], wanted["class"] == "0")
    assert set(found["smooth-or-featured_total"]) == {1}
