import dataclasses
import gzip
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table

from shared.catalogue import list_images, read_catalogue
from shared.spec import ColumnsSpec, DatasetSpec
from shared.split import galaxy_hash

IDS = ["587722984435351614", "587722984435351615", "587722984435351613"]  # alike as floats
PLAIN = ColumnsSpec("id", None, None, None, None, "{question}_{answer}", "{question}_total-votes")
QUESTION = {"bar": ("yes", "no")}


def dataset(tmp_path, table="t.csv", **changes):
    (tmp_path / "images").mkdir(exist_ok=True)
    (tmp_path / "images" / f"{IDS[0]}.jpg").touch()
    changes = {"columns": PLAIN, "questions": QUESTION, "classes": None, "galaxies": None} | changes
    return DatasetSpec(
        name="test",
        stores=str(tmp_path / "stores"),
        images=str(tmp_path / "images"),
        table=None if table is None else str(tmp_path / table),
        seed=0,
        skip_bad_images=False,
        crop=1.0,
        **changes,
    )


def columns(**changes):
    return dataclasses.replace(PLAIN, **changes)


def csv(tmp_path, *lines):
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")


def refuses(spec, *parts, error=ValueError):
    """Whether reading fails and tells all PARTS, in that order."""
    with pytest.raises(error, match="(?s)" + ".*".join(map(re.escape, parts))):
        read_catalogue(spec)


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
        *("id", "file", "ra", "dec", "bar_yes", "bar_no", "bar_total"),
        *("odd_c", "odd_a", "odd_total"),
    ]
    assert found["id"].tolist() == IDS[:2]
    assert found.index.tolist() == [1, 2]
    assert found["file"][1] == str(tmp_path / "images" / f"{IDS[0]}.jpg")
    assert found["bar_yes"].tolist() == [35, 0]
    assert found["bar_total"].tolist() == [40, 10]
    assert found["odd_total"].tolist() == [4, 0]
    assert set(found.dtypes[4:]) == {np.dtype(np.int32)}
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


@pytest.mark.parametrize("kind", ["csv.gz", "parquet", "fits"])
@pytest.mark.parametrize("ids", [IDS, [int(name) for name in IDS], ["J1.5-2", "007", "a b"]])
def test_every_kind_of_table_keeps_ids_to_the_last_digit(tmp_path, kind, ids):
    write = {"csv.gz": write_csv_gz, "parquet": write_parquet, "fits": write_fits}[kind]
    table = pd.DataFrame(
        {"id": ids, "bar_yes": np.float32([1, 2, 3]), "bar_no": np.int16([3, 2, 1])}
    )
    write(tmp_path / f"t.{kind}", table)
    found = read_catalogue(dataset(tmp_path, f"t.{kind}"))
    assert found["id"].tolist() == [str(name) for name in ids]
    assert found["bar_yes"].tolist() == [1, 2, 3]
    assert found["bar_total"].tolist() == [4, 4, 4]


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


def test_masked_votes_in_fits_are_no_votes(tmp_path):
    counts = fits.Column("bar_yes", "J", null=-99, array=[5, -99])
    ids = fits.Column("id", "20A", array=IDS[:2])
    rest = fits.Column("bar_no", "J", array=[1, 1])
    fits.BinTableHDU.from_columns([ids, counts, rest]).writeto(tmp_path / "t.fits")
    refuses(dataset(tmp_path, "t.fits"), f"galaxy {IDS[1]} (row 2 of", "bar_yes = None")


def test_images_are_found_by_name_with_and_without_suffix(tmp_path):
    csv(
        tmp_path,
        "id,where,bar_yes,bar_no",
        "1,J12/J12.5-09.1,1,1",
        "2,J12/J12.5-09.2.png,1,1",
        "3,none.png,1,1",
        "4,a.jpg,1,1",
    )
    spec = dataset(tmp_path, columns=columns(file="where"))
    (tmp_path / "images" / "J12").mkdir()
    for name in ("J12.5-09.1.PNG", "J12.5-09.2.png", "J12.5-09.2.jpg"):
        (tmp_path / "images" / "J12" / name).touch()
    for name in ("a.jpg", "a.jpg.png"):
        (tmp_path / "images" / name).touch()
    names = [Path(file).relative_to(tmp_path / "images") for file in read_catalogue(spec)["file"]]
    assert [str(name) for name in names] == [
        *("J12/J12.5-09.1.PNG", "J12/J12.5-09.2.png", "none.png", "a.jpg")
    ]


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


@pytest.mark.parametrize("vote", ["-1", "0.5", "nan", "", "many", "inf", "1e300", "4294967296"])
def test_votes_that_are_none_are_refused(tmp_path, vote):
    csv(tmp_path, "id,bar_yes,bar_no", "1,3,4", f"two,3,{vote}")
    refuses(dataset(tmp_path), "galaxy two (row 2 of", vote, "orrect")


@pytest.mark.parametrize("kind", ["parquet", "fits"])
@pytest.mark.parametrize("vote", [np.nan, -2.0, 1.5, np.inf])
def test_binary_votes_that_are_none_are_refused(tmp_path, kind, vote):
    table = pd.DataFrame({"id": ["one", "two"], "bar_yes": [1.0, vote], "bar_no": [1, 1]})
    {"parquet": write_parquet, "fits": write_fits}[kind](tmp_path / f"t.{kind}", table)
    refuses(dataset(tmp_path, f"t.{kind}"), "galaxy two (row 2 of", "bar_yes", "Correct it")


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


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no,bar_yes", "1,3,4,5")
    refuses(dataset(tmp_path), "2 columns called 'bar_yes'; rename")


def test_a_galaxy_that_is_there_twice_is_refused(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no", "a,3,4", "b,3,4", "a,0,1")
    refuses(dataset(tmp_path), "galaxy a", "twice, as row 1 and row 3; keep one")


def test_empty_and_broken_tables_are_refused(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no")
    refuses(dataset(tmp_path), "t.csv has no rows", "check dataset.table")
    for text in (b"", b"id,bar_yes,bar_no\n1,2\n", b"id,bar_yes,bar_no\n1,2,3,4\n"):
        (tmp_path / "t.csv").write_bytes(text)
        refuses(dataset(tmp_path), "t.csv cannot be read", "mend it or fetch it again")
    (tmp_path / "t.csv").write_bytes(b"id,bar_yes,bar_no\n\xff\xfe,2,3\n")
    refuses(dataset(tmp_path), "t.csv cannot be read", "UTF8")
    for name in ("t.parquet", "t.fits"):
        (tmp_path / name).write_bytes(b"nonsense" * 720)
        refuses(dataset(tmp_path, name), f"{name} cannot be read", "fetch it again")
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "u.fits")
    refuses(dataset(tmp_path, "u.fits"), "u.fits cannot be read (it holds no table)")


def test_byte_order_marks_and_spaces_are_no_part_of_names(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfid,bar_yes,bar_no\r\n 007 ,2,3\r\n")
    assert read_catalogue(dataset(tmp_path))["id"].tolist() == ["007"]


def test_missing_files_and_other_kinds_are_refused(tmp_path):
    refuses(dataset(tmp_path), "dataset.table is", "t.csv", "name a", error=FileNotFoundError)
    (tmp_path / "t.xls").touch()
    refuses(dataset(tmp_path, "t.xls"), "t.xls; its name must end in one of .csv, .csv.gz")
    csv(tmp_path, "id,bar_yes,bar_no", "1,2,3")
    spec = dataclasses.replace(dataset(tmp_path), images=str(tmp_path / "nowhere"))
    refuses(spec, "dataset.images is", "nowhere", "name the one", error=FileNotFoundError)
    spec = dataclasses.replace(dataset(tmp_path), images=None, galaxies=5)
    refuses(spec, "dataset.images is null", "t.csv", "name the folder of images")


def test_a_table_without_images_is_refused(tmp_path):
    csv(tmp_path, "id,bar_yes,bar_no", "1,2,3")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    spec = dataclasses.replace(dataset(tmp_path), images=str(tmp_path / "empty"))
    refuses(spec, "no image is in", "empty", ".jpg, .jpeg, .png, .fits")


@pytest.mark.parametrize(
    ("ra", "dec", "told"), [("361", "0", "ra = 361"), ("1", "-91", "dec = -91")]
)
def test_places_off_the_sky_are_refused(tmp_path, ra, dec, told):
    csv(tmp_path, "id,ra,dec,bar_yes,bar_no", "1,1,1,1,1", f"two,{ra},{dec},1,1")
    spec = dataset(tmp_path, columns=columns(ra="ra", dec="dec"))
    refuses(spec, "galaxy two (row 2 of", told, "degrees")
    csv(tmp_path, "id,ra,dec,bar_yes,bar_no", "two,08:26:17.42,+54:12:16.5,1,1")
    refuses(spec, "galaxy two (row 1 of", "ra = 08:26:17.42", "degrees")


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
    assert found["bar_total"].dtype == found["bar_no"].dtype == np.int32


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


def test_without_a_table_the_galaxies_are_the_images(tmp_path):
    spec = dataset(tmp_path, None)
    folder = tmp_path / "images"
    (folder / "b").mkdir()
    for name in ("b/J1.5.fits", "a.PNG", ".hidden.png", "readme.txt"):
        (folder / name).touch()
    found = read_catalogue(spec)
    assert found["id"].tolist() == [IDS[0], "a", "J1.5"]
    assert found["file"].tolist()[2] == str(folder / "b" / "J1.5.fits")
    assert found.columns.tolist() == ["id", "file", "ra", "dec"]
    assert list(list_images(folder)) == [f"{IDS[0]}.jpg", "a.PNG", "b/J1.5.fits"]
    (folder / "b" / "a.jpg").touch()
    refuses(spec, "a.PNG and b/a.jpg", "would be one galaxy; rename one")


def test_a_limit_keeps_the_smallest_hashes_whatever_the_order(tmp_path):
    names = [f"g{i}" for i in range(50)]
    smallest = {names[i] for i in np.argsort(galaxy_hash(names))[:7]}
    for order in (names, names[::-1]):
        csv(tmp_path, "id,bar_yes,bar_no", *(f"{name},1,1" for name in order))
        found = read_catalogue(dataset(tmp_path, galaxies=7))
        assert found["id"].tolist() == [name for name in order if name in smallest]
        assert [order[row - 1] for row in found.index] == found["id"].tolist()
    assert len(read_catalogue(dataset(tmp_path, galaxies=500))) == 50


REAL = Path(os.environ.get("TRIZOO_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))


needs_real_data = pytest.mark.skipif(
    not REAL.is_dir(), reason="no real data: set TRIZOO_REAL_DATA to their folder"
)


@needs_real_data
def test_a_real_table_of_classes_is_read(tmp_path):
    folder = REAL / "sdss_gz1"
    spec = dataclasses.replace(
        dataset(tmp_path),
        images=str(folder / "images"),
        table=str(folder / "classes.csv"),
        columns=ColumnsSpec("dr7objid", "filename", None, None, "class", "", None),
        questions={"shape": ("smooth", "featured")},
        classes={"smooth": ("0",), "featured": ("1", "2", "3")},
    )
    found = read_catalogue(spec)
    assert len(found) == 5535
    assert found["shape_featured"].sum() == 1592
    assert found["id"].tolist() == [Path(file).stem for file in found["file"]]
    assert all(Path(file).is_file() for file in found["file"])


@needs_real_data
def test_a_real_table_of_counts_is_read(tmp_path):
    spec = dataclasses.replace(
        dataset(tmp_path),
        table=str(REAL / "gz2_stripe82" / "table5_first8000.csv.gz"),
        columns=ColumnsSpec("objid", None, "ra", "dec", None, "{question}_{answer}_count", None),
        questions={"t02_edgeon": ("a04_yes", "a05_no")},
    )
    found = read_catalogue(spec)
    assert len(found) == 8000
    assert found["id"].str.fullmatch(r"\d{19}").all()
    assert found["t02_edgeon_total"].between(0, 100).all()
    assert found["dec"].between(-1.3, 1.3).all()
