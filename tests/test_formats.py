"""Every format of a posterior table gives back its values, and says what each column means."""

import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from astropy.io import fits, votable
from astropy.io.votable.ucd import parse_ucd
from astropy.table import Table
from astropy.units import Unit

import trizoo
from reports.readme import ROOT
from shared.output import formats
from shared.output.columns import MEANINGS, PLAIN, describe_columns, friendly
from shared.output.formats import check_formats, convert, hats, module, rows
from shared.run import records
from shared.run.spec import TABLE_FORMATS, RunSpec, from_config
from shared.run.spreadsheet import from_cell
from shared.tasks import POSTERIOR_FILES
from shared.tasks.catalogue import catalogue
from shared.tasks.folder import clear

ANSWER = "smooth_or_featured_smooth"
STRANGE = ["=1+1", "a,b", "two\nlines", "Å😀", 'quo"ted', "1237648720693755918", "'", "a\rb"]
FACTS = {"trizoo": "0.1.0", "doi": "10.1/x", "licence": "CC BY, é", "survey": "gz", "seed": 2**63}
FACTS |= {"long": "it's " * 60, "positive": ["smooth"]}
PLAIN_FORMATS = ("parquet", "fits", "votable", "csv")
EXTRAS = {"hats": "cdshealpix", "moc": "mocpy"}


def table(ids=STRANGE, known=True):
    """A posterior of some galaxies, which has each kind of column and each kind of missing value."""
    count, random = len(ids), np.random.default_rng(0)
    some = [None if number == 1 else number % 2 == 0 for number in range(count)]
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "ra": pa.array(random.uniform(0, 360, count)),
            "dec": pa.array([None, *random.uniform(-90, 90, count)][:count], pa.float64()),
            "in_training": pa.array([bool(one) for one in some] if known else some, pa.bool_()),
            f"{ANSWER}_mean": pa.array(random.random(count).astype(np.float32)),
            f"{ANSWER}_p05": pa.array(random.random(count)),
            f"{ANSWER}_p95": pa.array(random.random(count)),
            f"{ANSWER}_votes_low": pa.array([None, *range(count)][:count], pa.int32()),
            f"{ANSWER}_votes_high": pa.array([2**62 + 1] * count, pa.int64()),
            "smooth_or_featured_asked": pa.array(np.ones(count)),
            "mutual_information": pa.array(random.random(count)),
        }
    )


def write(name, folder, whole):
    """The file of `whole` in the format `name`, or a skip where its library is not installed."""
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    path = folder / f"posterior{TABLE_FORMATS[name]}"
    module(name).write(path, whole, describe_columns(whole.column_names), FACTS)
    return path


def same(found: Table, whole: pa.Table) -> None:
    """Assert that `found`, as astropy read it, has the values of `whole`, and masks those that are missing."""
    assert found.colnames == whole.column_names
    assert [str(one) for one in found["id"]] == whole["id"].to_pylist()
    for name in whole.column_names[1:]:
        values, there = (
            whole[name].to_pylist(),
            [one is not None for one in whole[name].to_pylist()],
        )
        held = np.ma.masked_invalid(np.ma.asarray(found[name]))
        assert (~np.ma.getmaskarray(held)).tolist() == there, name
        assert held.compressed().tolist() == [one for one in values if one is not None], name


def described(found: Table) -> None:
    """Assert that `found` has units, descriptions and UCDs."""
    for name, column in describe_columns(found.colnames).items():
        assert (found[name].unit or Unit("")) == Unit(column.unit)
        assert found[name].description == column.description
        assert found[name].info.meta["ucd"] == column.ucd


def test_ucds_and_units_are_words_of_the_standards():
    for column in (*MEANINGS.values(), *PLAIN.values()):
        parse_ucd(column.ucd, check_controlled_vocabulary=True)
        for standard in ("vounit", "fits"):
            Unit(column.unit, format=standard)


def test_friendly_columns():
    names = table().column_names
    fewer = [f"{ANSWER}_mean", f"{ANSWER}_p05", f"{ANSWER}_p95", "smooth_or_featured_asked"]
    assert friendly(names) == ["id", "ra", "dec", "in_training", *fewer]


def test_votable_gives_back_values_and_meanings(tmp_path):
    whole = table(known=False)
    path = write("votable", tmp_path, whole)
    same(Table.read(path), whole)
    described(Table.read(path))
    file = votable.parse(path, verify="exception")
    infos = {info.name: info.value for info in file.resources[0].infos}
    assert infos["licence"] == "CC BY, é"
    assert json.loads(infos["positive"]) == ["smooth"]


def test_plain_ids_of_a_votable_are_plain_text(tmp_path):
    whole = table(["J1", "J23"])
    path = write("votable", tmp_path, whole)
    same(Table.read(path), whole)
    assert 'arraysize="3" datatype="char"' in path.read_text()


def test_fits_gives_back_values_and_meanings(tmp_path):
    whole = table()
    path = write("fits", tmp_path, whole)
    assert path.stat().st_size % 2880 == 0
    same(Table.read(path), whole)
    with fits.open(path) as file:
        file.verify("exception")
        header = file["POSTERIOR"].header
        for number, column in enumerate(describe_columns(whole.column_names).values(), 1):
            assert header.get(f"TUNIT{number}", "") == column.unit
            assert header[f"TUCD{number}"] == column.ucd
            assert header[f"TCOMM{number}"] == column.description
        assert json.loads(header["TRIZOO"]) == FACTS
        assert (header["CREATOR"], header["REFERENC"]) == ("trizoo 0.1.0", "doi:10.1/x")


def test_what_is_not_known_is_null_in_fits(tmp_path):
    path = write("fits", tmp_path, table(known=False))
    with fits.open(path, logical_as_bytes=True) as file:
        assert file[1].data["in_training"].tolist()[:4] == [b"T", b"", b"T", b"F"]


def test_fits_refuses_an_id_that_it_cannot_give_back():
    galaxies = pd.DataFrame({"id": ["fine", "blank "]})
    with pytest.raises(ValueError, match="the id 'blank ' ends in a blank"):
        check_formats(("csv", "fits"), galaxies)


def test_parquet_gives_back_values_and_meanings(tmp_path):
    whole = table()
    path = write("parquet", tmp_path, whole)
    assert pq.read_table(path).equals(whole)
    assert formats.parquet.facts_of(pq.read_schema(path)) == FACTS
    same(Table.read(path, format="parquet").to_pandas().pipe(masked), whole)
    described(Table.read(path, format="parquet.votable"))


def masked(frame: pd.DataFrame) -> Table:
    return Table(
        {
            name: np.ma.masked_invalid(values) if values.dtype.kind == "f" else values
            for name, values in frame.items()
        }
    )


def test_csv_gives_back_values_and_no_formula(tmp_path):
    whole = table(known=False)
    path = write("csv", tmp_path, whole)
    convert_ = pyarrow.csv.ConvertOptions(
        column_types=whole.schema, strings_can_be_null=False, null_values=[""]
    )
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    found = pyarrow.csv.read_csv(path, parse_options=parse, convert_options=convert_)
    cells = found["id"].to_pylist()
    assert [from_cell(cell) for cell in cells] == STRANGE
    assert not any(cell.startswith("=") for cell in cells)
    assert found.drop("id").equals(whole.drop("id"))
    about = json.loads((tmp_path / "posterior.csv-metadata.json").read_text())
    assert about["trizoo"] == FACTS
    assert about["tableSchema"]["columns"][1] == {
        **{"name": "ra", "datatype": "double", "dc:description": "right ascension"},
        **{"unit": "deg", "ucd": "pos.eq.ra;meta.main"},
    }


def test_hats_has_the_galaxies_by_place(tmp_path, monkeypatch):
    monkeypatch.setattr(hats, "ROWS", 20)
    whole = table([f"g{number}" for number in range(300)])
    path = write("hats", tmp_path, whole)
    partitions = pd.read_csv(path / "partition_info.csv")
    found = []
    for order, pixel in partitions.itertuples(index=False):
        place = f"dataset/Norder={order}/Dir={pixel // 10000 * 10000}/Npix={pixel}.parquet"
        some = pq.read_table(path / place, partitioning=None)
        cells = some["_healpix_29"].to_numpy()
        assert 0 < len(cells) <= 20
        assert (np.diff(cells) >= 0).all()
        assert (cells >> 2 * (29 - order) == pixel).all()
        found += some["id"].to_pylist()
    assert sorted(found) == sorted(whole["id"].to_pylist()[1:])  # the first has no declination
    joint = pq.read_metadata(path / "dataset" / "_metadata")
    assert (joint.num_rows, joint.num_row_groups) == (299, len(partitions))
    assert "hats_nrows=299\n" in (path / "hats.properties").read_text()
    assert r"obs_copyright=CC BY, \u00e9" in (path / "properties").read_text()
    write("hats", tmp_path, whole)  # in the place of the one before
    assert [one.name for one in tmp_path.iterdir()] == ["posterior_hats"]


def test_hats_of_several_tables_is_that_of_all(tmp_path, monkeypatch):
    pytest.importorskip("cdshealpix")
    monkeypatch.setattr(hats, "ROWS", 20)
    whole = table([f"g{number}" for number in range(300)])
    columns = describe_columns(whole.column_names)
    hats.write(tmp_path / "one", whole, columns, FACTS)
    pieces = [whole.slice(start, 70) for start in range(0, 300, 70)] + [whole.slice(0, 0)]
    assert hats.write_tables(tmp_path / "many", iter(pieces), columns, FACTS) == 1
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert files
    for file in files:
        if (tmp_path / "one" / file).is_file():
            assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "many" / file).read_bytes()


@pytest.mark.filterwarnings("ignore")  # of LSDB's own parts
def test_lsdb_finds_the_galaxies_of_a_cone(tmp_path):
    lsdb = pytest.importorskip("lsdb")
    whole = table([f"g{number}" for number in range(300)])
    catalogue = lsdb.open_catalog(write("hats", tmp_path, whole))
    near = catalogue.cone_search(ra=150, dec=20, radius_arcsec=30 * 3600).compute()
    ra, dec = (np.radians(whole[name].to_numpy()) for name in ("ra", "dec"))
    far = np.radians(150), np.radians(20)
    cosine = np.sin(dec) * np.sin(far[1]) + np.cos(dec) * np.cos(far[1]) * np.cos(ra - far[0])
    inside = np.flatnonzero(cosine > np.cos(np.radians(30)))
    assert sorted(near["id"]) == sorted(f"g{number}" for number in inside)


def test_moc_covers_the_galaxies(tmp_path):
    mocpy = pytest.importorskip("mocpy")
    from astropy import units

    whole = table([f"g{number}" for number in range(300)])
    footprint = mocpy.MOC.load(write("moc", tmp_path, whole), format="fits")
    ra, dec = (whole[name].to_numpy()[1:] * units.deg for name in ("ra", "dec"))
    assert footprint.contains_lonlat(ra, dec).all()
    assert 0 < footprint.sky_fraction < 1e-3


@pytest.mark.parametrize("name", TABLE_FORMATS)
def test_the_same_table_gives_the_same_bytes(name, tmp_path, monkeypatch):
    found = []
    for folder in ("one", "two"):
        write(name, tmp_path / folder, table())
        files = sorted(path for path in (tmp_path / folder).rglob("*") if path.is_file())
        found.append([path.read_bytes() for path in files])
    assert found[0] == found[1]
    if name in ("fits", "votable", "csv"):
        monkeypatch.setattr(rows, "ROWS", 3)  # nor do the bytes tell how the work was cut
        assert write(name, tmp_path / "cut", table()).read_bytes() == found[0][0]


@pytest.mark.parametrize("name", TABLE_FORMATS)
def test_an_interrupted_file_leaves_nothing(name, tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records, "sync", full)
    with pytest.raises(OSError, match="No space left"):
        write(name, tmp_path, table())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", TABLE_FORMATS)
def test_a_table_without_galaxies(name, tmp_path):
    path = write(name, tmp_path, table([]))
    if name in ("fits", "votable"):
        assert len(Table.read(path)) == 0
        assert Table.read(path).colnames == table().column_names
    if name == "csv":
        assert path.read_text().count("\n") == 1


@pytest.mark.parametrize("name", TABLE_FORMATS)
def test_questions_of_any_letters(name, tmp_path):
    whole = table(["g0", "g1"])
    names = [one.replace(ANSWER, 'Ist_sie_schön,\n"rund"?_ja') for one in whole.column_names]
    path = write(name, tmp_path, whole.rename_columns(names))
    if name == "parquet":
        assert pq.read_table(path).column_names == names
    if name == "votable":
        assert [field.name for field in votable.parse_single_table(path).fields][:4] == names[:4]
    if name == "fits":
        assert Table.read(path).colnames[4] == r'Ist_sie_sch\xf6n,\n"rund"?_ja_mean'


def test_a_column_that_no_format_has_is_refused(tmp_path):
    whole = table().append_column("kind_mean", pa.array([1] * len(STRANGE), pa.uint8()))
    for name in ("parquet", "fits", "votable"):
        with pytest.raises(ValueError, match="a column of uint8 cannot be written; there are bool"):
            write(name, tmp_path, whole)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PLAIN_FORMATS)
def test_galaxies_without_places(name, tmp_path):
    assert write(name, tmp_path, table().drop(["ra", "dec"])).exists()
    check_formats((name,), pd.DataFrame({"id": ["g0"]}))


@pytest.mark.parametrize("name", EXTRAS)
@pytest.mark.parametrize("galaxies", [{"id": ["g0"]}, {"id": ["g0"], "ra": [1.0], "dec": [np.nan]}])
def test_formats_of_the_sky_need_places(name, galaxies):
    pytest.importorskip(EXTRAS[name])
    with pytest.raises(ValueError, match=f"{name}, but no galaxy has a place on the sky; prepare"):
        check_formats((name,), pd.DataFrame(galaxies))


@pytest.mark.parametrize("name", EXTRAS)
def test_a_library_that_is_not_there_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, EXTRAS[name], None)
    with pytest.raises(ValueError, match=re.escape("pip install 'trizoo[hats]'")):
        check_formats((name,), pd.DataFrame({"id": ["g0"], "ra": [1.0], "dec": [1.0]}))


# The task


def here(tmp_path, *words):
    """The folder of what the task makes of a posterior.parquet, in this process."""
    source, folder = tmp_path / "fit", tmp_path / "made"
    write("parquet", source, table())
    config = trizoo.compose(["task=catalogue", f"run={source}", *words])
    catalogue(from_config(RunSpec, config), folder)
    return folder


def test_a_finished_table_is_converted(tmp_path, capfd):
    source, folder = tmp_path / "fit", tmp_path / "made"
    write("parquet", source, table())
    words = ["catalogue", f"run={source}", f"folder={folder}", "posterior.format=[fits,votable]"]
    assert trizoo.main(words) == 0
    made = {path.name for path in folder.iterdir()}
    assert made == {"run.json", "record.json", "posterior.fits", "posterior.vot"}
    same(Table.read(folder / "posterior.vot"), table())
    assert fits.getheader(folder / "posterior.fits", 1)["CREATOR"] == "trizoo 0.1.0"
    assert trizoo.main(words) == 0
    assert "already done" in capfd.readouterr().out
    write("parquet", source, table(["other"]))
    assert trizoo.main(words) == 2
    assert f"has changed: run ({source / 'posterior.parquet'})" in capfd.readouterr().err


def test_the_friendly_columns_are_files_of_their_own(tmp_path):
    folder = here(tmp_path, "posterior.format=[fits,csv]", "posterior.columns=friendly")
    made = {path.name for path in folder.iterdir()}
    assert made == {"friendly.fits", "friendly.csv", "friendly.csv-metadata.json"}
    assert made <= set(POSTERIOR_FILES)
    assert Table.read(folder / "friendly.fits").colnames == friendly(table().column_names)


def test_a_file_will_do_and_one_format_is_no_list(tmp_path):
    folder = here(tmp_path, f"run={tmp_path}/fit/posterior.parquet", "posterior.format=csv")
    assert (folder / "posterior.csv").exists()


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["run=null"], "run is null; name the folder of a finished fit"),
        (["run=nowhere"], "there is no nowhere; run needs the folder"),
        (["posterior.format=xls"], "posterior.format is 'xls'; choose one of parquet"),
        (["posterior.format=[]"], "posterior.format is empty"),
        (["posterior.columns=some"], "posterior.columns is 'some'; choose one of full"),
    ],
)
def test_what_cannot_be_converted_is_refused(words, wrong, tmp_path):
    with pytest.raises(ValueError, match=re.escape(wrong)):
        here(tmp_path, *words)
    assert not (tmp_path / "made").exists()


def test_what_a_hats_folder_held_is_gone_with_again(tmp_path):
    (tmp_path / "posterior_hats" / "dataset").mkdir(parents=True)
    (tmp_path / "mine_hats").mkdir()
    clear(tmp_path, "catalogue")
    assert [path.name for path in tmp_path.iterdir()] == ["mine_hats"]


# The page


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a table in every format whose library is installed."""
    folder = tmp_path_factory.mktemp("files")
    ids = [f"g{number}" for number in range(40)]
    facts = {"method": "m", "weights_sha256": "w", "cite": "c"}
    whole = table(ids, known=False)
    module("parquet").write(
        folder / "posterior.parquet", whole, describe_columns(whole.column_names), facts
    )
    there = [name for name in TABLE_FORMATS if find_spec(EXTRAS.get(name, "astropy"))]
    convert(folder / "posterior.parquet", folder, tuple(there), "full")
    return folder


PAGE = (ROOT / "docs" / "catalogues.md").read_text("utf-8")


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # LSDB's
@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_the_page_opens_the_files_in_python(block, files, monkeypatch, capsys):
    for name in ("lsdb", "mocpy"):
        if f"import {name}" in block or f"from {name}" in block:
            pytest.importorskip(name)
    monkeypatch.chdir(files)
    exec(block, {})
    if "removeprefix" in block or "print" in block:
        assert "None" not in capsys.readouterr().out


@pytest.mark.parametrize("line", re.findall(r"^stilts .*$", PAGE, re.MULTILINE))
def test_the_page_opens_the_files_in_stilts(line, files):
    if not shutil.which("stilts"):
        pytest.skip("stilts is not installed (apt-get install stilts)")
    done = subprocess.run(line, cwd=files, shell=True, capture_output=True, text=True, check=True)
    if "votlint" in line:
        assert not done.stdout.strip() + done.stderr.strip()
    if "meta" in line:
        assert "pos.eq.ra;meta.main" in done.stdout
        assert "right ascension" in done.stdout
