"""A data set of a dataset hub, from a local server that speaks a hub's language."""

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from server import render

import trizoo
from shared.data.sources import hub
from shared.data.sources.hub import open_hub
from shared.run.spec import DatasetSpec, from_config, to_config

ROOT = Path(__file__).parents[1]
COMMIT, OTHER = "c0ffee" + 34 * "1", 40 * "a"
needs_library = pytest.mark.skipif(
    find_spec("huggingface_hub") is None, reason="huggingface_hub is not installed"
)


@cache
def folder():
    """The configuration that every dataset starts from."""
    return trizoo.compose(["dataset=folder", "dataset.images=hub:zoo/gz2"])["dataset"]


@pytest.fixture
def survey(tmp_path):
    dataset = from_config(DatasetSpec, folder() | {"name": "test"})
    columns = dataclasses.replace(dataset.columns, id="id_str")
    service = dataclasses.replace(dataset.service, downloads=str(tmp_path / "downloads"), timeout=5)
    return dataclasses.replace(dataset, columns=columns, service=service)


def parquet(*ids):
    """A file of a few galaxies as hubs keep them: images as {bytes, path} in a column."""
    images = [{"bytes": render(name, "png", 256), "path": f"{name}.png"} for name in ids]
    file = io.BytesIO()
    pq.write_table(
        pa.table({"id_str": list(ids), "image": images, "bar_yes": [1] * len(ids)}), file
    )
    return file.getvalue()


class Standin(BaseHTTPRequestHandler):
    """The hub: what is in a repository, and its files, whole or from a byte on."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format, *arguments):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        path = self.path.partition("?")[0]
        self.server.log.append((self.command, path, self.headers.get("Range")))
        files = self.server.files
        if self.server.drips and path.endswith(self.server.drips):
            return self.drip()
        if path in (
            "/api/datasets/zoo/gz2",
            *(f"/api/datasets/zoo/gz2/revision/{r}" for r in ("main", COMMIT)),
        ):
            info = {
                "id": "zoo/gz2",
                "sha": COMMIT,
                "cardData": {"license": "cc-by-nc-sa-4.0"},
                "siblings": [
                    {"rfilename": name, "size": len(data)} | lfs(self, data)
                    for name, data in files.items()
                ],
            }
            return self.send(json.dumps(info).encode())
        if path == f"/api/datasets/zoo/gz2/tree/{COMMIT}":
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": oid(data)}
                | tree_lfs(self, data)
                for name, data in files.items()
                if ".." not in name  # so the library itself sees none such
            ]
            return self.send(json.dumps(tree).encode())
        start = f"/datasets/zoo/gz2/resolve/{COMMIT}/"
        if path.startswith(start) and path.removeprefix(start) in files:
            data = files[path.removeprefix(start)]
            first = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
            part = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if first else {}
            headers = {"ETag": f'"{oid(data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            stop = (
                self.server.breaks.pop(path.removeprefix(start), None)
                if self.command == "GET"
                else None
            )
            return self.send(data[first:], 206 if first else 200, headers | part, stop)
        code = "RevisionNotFound" if path.startswith("/api/datasets/zoo/gz2/") else "RepoNotFound"
        return self.send(b"{}", 404, {"X-Error-Code": code, "X-Error-Message": "not here"})

    def drip(self):
        self.close_connection = True
        with suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Never-Ends: ")
            while not self.server.closing.wait(0.05):
                self.wfile.write(b"x")

    def send(self, body, status=200, headers=None, stop=None):
        self.send_response(status)
        plain = {"Content-Length": len(body), "Content-Type": "application/json"}
        for name, value in (plain | (headers or {})).items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:stop])
        self.close_connection = stop is not None


def oid(data):
    return hashlib.sha256(data).hexdigest()


def lfs(answer, data):
    return {
        "lfs": {"size": len(data), "sha256": answer.server.lie or oid(data), "pointerSize": 134}
    }


def tree_lfs(answer, data):
    return {"lfs": {"size": len(data), "oid": oid(data), "pointerSize": 134}}


@contextmanager
def standin(files, lie=None, breaks=None, drips=None):
    with ThreadingHTTPServer(("127.0.0.1", 0), Standin) as server:
        server.daemon_threads, server.files, server.log = True, files, []
        server.lie, server.breaks, server.drips = lie, dict(breaks or {}), drips
        server.closing = threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


CHILD = """
import hashlib, json, sys
import huggingface_hub.constants
import pandas as pd
from shared.data.sources import hub
from shared.data.sources.hub import open_hub
hub.WHOLE_ANSWER = 2.0
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 500  # it keeps whole chunks of a broken download
from shared.run.spec import DatasetSpec, from_config
source = open_hub(from_config(DatasetSpec, json.load(sys.stdin)))
try:
    names = source.names()
    found = source.find(pd.DataFrame({"id": ["g1", "none"], "file": ["g1", "none"]}))
    images = {names[n]: hashlib.sha256(give()).hexdigest() for n, give in source.load(names)}
    told = [source.identity(), source.about(), source.table(), names, found, images]
    print(json.dumps(told))
except (ValueError, OSError) as problem:
    print(json.dumps([type(problem).__name__, str(problem)]))
"""


def asked(dataset, server, tmp_path):
    """What a process of its own gets, for the library reads its environment once."""
    place = f"http://127.0.0.1:{server.server_address[1]}" if server else "http://127.0.0.1:9"
    of_hub = {"HF_ENDPOINT": place, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        cwd=ROOT,
        env=dict(os.environ) | of_hub | quiet,
        input=json.dumps(to_config(dataset)),
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def named(dataset, images):
    return dataclasses.replace(dataset, images=images)


FILES = {
    "README.md": b"# gz2",
    "data/train-00000.parquet": parquet("g1", "g2"),
    "data/test-00000.parquet": parquet("g3"),
    "tiny/train-00000.parquet": parquet("t1"),
}


@needs_library
def test_a_data_set_is_fetched_once_and_read(survey, tmp_path):
    with standin(FILES) as server:
        identity, about, table, names, found, images = asked(survey, server, tmp_path)
        assert identity == ["zoo/gz2", "", COMMIT]
        assert names == ["g1", "g2", "g3"]
        assert found == ["g1", None]
        assert images == {name: oid(render(name, "png", 256)) for name in names}
        folder = Path(about["downloads"])
        assert folder.parent == Path(survey.service.downloads)
        assert about == {
            "kind": "hub",
            "where": "hub:zoo/gz2",
            "commit": COMMIT,
            "licence": "cc-by-nc-sa-4.0",
            "files": 2,
            "downloads": str(folder),
        }
        assert table == str(folder / "data" / "*.parquet")
        kept = {str(path.relative_to(folder)) for path in folder.glob("*/*.parquet")}
        assert kept == {"data/train-00000.parquet", "data/test-00000.parquet"}
        assert all((folder / name).read_bytes() == FILES[name] for name in kept)
        got = [path for command, path, _ in server.log if command == "GET" and "resolve" in path]
        assert len(got) == 2
        server.log.clear()
        assert asked(survey, server, tmp_path)[3:] == [names, found, images]
        assert [path for _, path, _ in server.log] == ["/api/datasets/zoo/gz2"]
    pinned = named(survey, f"hub:zoo/gz2@{COMMIT}")
    assert asked(pinned, None, tmp_path)[3:] == [names, found, images]  # without any network
    kind, message = asked(survey, None, tmp_path)
    assert kind == "ConnectionError"
    assert "the hub did not say what is in zoo/gz2" in message
    assert "hub:OWNER/NAME@COMMIT" in message


@needs_library
def test_a_download_that_was_broken_off_goes_on(survey, tmp_path):
    name = "tiny/train-00000.parquet"
    dataset = named(survey, "hub:zoo/gz2/tiny@main")
    with standin(FILES, breaks={name: 1000}) as server:
        first = asked(dataset, server, tmp_path)
        if first[0] == "ConnectionError":  # the library may try again itself
            assert "the same command goes on" in first[1]
            assert list(Path(survey.service.downloads).rglob(hub.DONE)) == []
            first = asked(dataset, server, tmp_path)
        ranges = [
            span for command, path, span in server.log if command == "GET" and path.endswith(name)
        ]
    assert first[3] == ["t1"]
    assert first[5] == {"t1": oid(render("t1", "png", 256))}
    assert len(ranges) == 2
    assert ranges[1].startswith("bytes=1000-")


@needs_library
def test_a_file_that_is_not_what_the_hub_says_is_removed(survey, tmp_path):
    with standin(FILES, lie=64 * "0") as server:
        kind, message = asked(named(survey, "hub:zoo/gz2/tiny"), server, tmp_path)
    assert kind == "ValueError"
    assert (
        "train-00000.parquet came with another checksum than the hub gives; it was removed"
        in message
    )
    assert list(Path(survey.service.downloads).rglob("*.parquet")) == []
    assert list(Path(survey.service.downloads).rglob(hub.DONE)) == []


@needs_library
@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("hub:zoo/none", "there is no data set zoo/none on the hub, or only for those it knows"),
        (
            f"hub:zoo/gz2@{OTHER}",
            f"zoo/gz2 has no revision {OTHER}; check dataset.images",
        ),
        (
            "hub:zoo/gz2/big",
            "no Parquet files in big; write one of hub:zoo/gz2/data, hub:zoo/gz2/ti",
        ),
    ],
)
def test_what_is_not_on_the_hub_is_told(survey, tmp_path, images, message):
    with standin(FILES) as server:
        kind, text = asked(named(survey, images), server, tmp_path)
    assert kind == "ValueError"
    assert message in text


@pytest.mark.parametrize(
    "images", ["hub:gz2", "hub:", "hub:a/b@", "hub:a/b c", "hub:a//b", "hub:a/b/", "hub:a/b@c d"]
)
def test_another_form_is_refused(survey, images):
    with pytest.raises(
        ValueError, match=r"dataset.images is hub:.*; write hub:OWNER/NAME, hub:OWNER"
    ):
        open_hub(named(survey, images))


@pytest.mark.parametrize(
    ("images", "parts"),
    [
        ("hub:a/b", ("a/b", "", None)),
        ("hub:a/b@v1.0", ("a/b", "", "v1.0")),
        ("hub:a-1/b.2_c/tiny", ("a-1/b.2_c", "tiny", None)),
        ("hub:a/b/x/y@refs/convert/parquet", ("a/b", "x/y", "refs/convert/parquet")),
    ],
)
def test_a_name_has_an_owner_and_may_have_a_folder_and_a_revision(survey, images, parts):
    found = open_hub(named(survey, images))
    assert (found.repository, found.below, found.revision) == parts


@pytest.mark.parametrize(
    ("below", "names", "chosen"),
    [
        ("", ["a.parquet", "b.parquet"], ["a.parquet", "b.parquet"]),
        ("", ["x/a.parquet"], ["x/a.parquet"]),
        ("", ["data/a.parquet", "tiny/a.parquet"], ["data/a.parquet"]),
        ("tiny", ["data/a.parquet", "tiny/a.parquet"], ["tiny/a.parquet"]),
    ],
)
def test_which_files_are_meant(below, names, chosen):
    assert hub._chosen("a/b", below, names) == chosen


@pytest.mark.parametrize(
    ("below", "names", "message"),
    [
        ("", [], "a/b has no Parquet files; name another data set"),
        (
            "",
            ["x/a.parquet", "y/a.parquet"],
            "in its top folder; write one of hub:a/b/x, hub:a/b/y",
        ),
        ("z", ["a.parquet", "y/a.parquet"], "in z; write one of hub:a/b, hub:a/b/y"),
    ],
)
def test_files_that_cannot_be_meant_are_refused(below, names, message):
    with pytest.raises(ValueError, match="has no Parquet files") as error:
        hub._chosen("a/b", below, names)
    assert message in str(error.value)


def test_without_the_package_its_name_is_told(survey, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"needs a package more: pip install huggingface_hub\. Or"):
        open_hub(survey).identity()


class Fake:
    """Stands in for the package: a hub of `files` that keeps a file wherever its name leads, as versions of it did."""

    def __init__(self, files, sizes=True):
        self.files, self.sizes, self.fetched = files, sizes, []
        self.errors = SimpleNamespace(
            RevisionNotFoundError=KeyError, RepositoryNotFoundError=KeyError
        )

    def HfApi(self, library_name):
        return self

    def dataset_info(self, repository, **settings):
        names = self.files.items()
        sizes = [(name, len(data) if self.sizes else None) for name, data in names]
        files = [SimpleNamespace(rfilename=name, size=size, lfs=None) for name, size in sizes]
        return SimpleNamespace(siblings=files, sha=COMMIT, card_data=None)

    def hf_hub_download(self, repository, filename, local_dir, **settings):
        self.fetched.append(filename)
        path = Path(os.path.join(local_dir, *filename.split("/")))  # noqa: PTH118 (as they do it)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.files[filename])


@pytest.fixture
def faked(monkeypatch):
    def fake(*arguments, **settings):
        library = Fake(*arguments, **settings)
        monkeypatch.setitem(sys.modules, "huggingface_hub", library)
        return library

    return fake


@pytest.mark.parametrize("sizes", [True, False])
def test_files_come_by_the_library(survey, faked, sizes):
    library = faked(FILES, sizes)
    source = open_hub(survey)
    assert source.names() == ["g1", "g2", "g3"]
    assert sorted(library.fetched) == ["data/test-00000.parquet", "data/train-00000.parquet"]
    assert open_hub(survey).names() == source.names()
    assert open_hub(named(survey, f"hub:zoo/gz2@{COMMIT}")).names() == source.names()
    assert len(library.fetched) == 2


LEAVING = [
    "../../x.parquet",
    "data/../../../x.parquet",
    "data/./x.parquet",
    "data//x.parquet",
    "/{outside}/x.parquet",
    "..\\..\\x.parquet",
    "C:x.parquet",
    "c:/x.parquet",
    "x\0.parquet",
    "x\x1b[2J.parquet",
    "x\n.parquet",
    "\u202ex.parquet",
    "\udcff.parquet",
    ".cache/huggingface/x.parquet",
    ".parquet",
    300 * "x" + ".parquet",
    300 * "x/" + "x.parquet",
]


@pytest.mark.parametrize("name", LEAVING, ids=range(len(LEAVING)))
def test_a_name_that_leads_out_is_refused_before_anything_is_touched(survey, tmp_path, faked, name):
    outside = tmp_path / "x.parquet"
    outside.write_bytes(b"mine")
    library = faked({name.format(outside=tmp_path): parquet("g1")})
    with pytest.raises(ValueError, match=r"the name of the file .* is refused: it") as error:
        open_hub(survey).names()
    assert str(error.value).isprintable()
    assert library.fetched == []
    assert outside.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [outside]


@pytest.mark.parametrize(
    ("one", "other"), [("a.parquet", "A.parquet"), ("\u00e9.parquet", "e\u0301.parquet")]
)
def test_names_that_are_one_file_somewhere_are_refused(survey, faked, one, other):
    library = faked({one: parquet("g1"), other: parquet("g2")})
    with pytest.raises(ValueError, match=r"is the same file as .* on some systems"):
        open_hub(survey).names()
    assert library.fetched == []


@pytest.mark.parametrize("link", ["data", "data/train-00000.parquet"])
def test_a_link_in_the_folder_is_not_written_through(survey, tmp_path, faked, link):
    library, outside = faked(FILES), tmp_path / "outside"
    source = open_hub(survey)
    outside.mkdir()
    path = source._place(COMMIT) / link
    path.parent.mkdir(parents=True)
    path.symlink_to(outside)
    with pytest.raises(ValueError, match="would be kept behind a link in"):
        source.names()
    assert library.fetched == []
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "{}",
        '{"commit": 1, "licence": 1, "files": []}',
        "[" * 9000,
        '{"commit": 1, "licence": 1, "files": {"../../x.parquet": 7}}',
    ],
)
def test_a_damaged_note_of_what_is_there_is_no_note(survey, faked, text):
    library = faked(FILES)
    dataset = named(survey, f"hub:zoo/gz2/tiny@{COMMIT}")
    assert open_hub(dataset).names() == ["t1"]
    (open_hub(dataset)._place(COMMIT) / hub.DONE).write_text(text)
    assert open_hub(dataset).names() == ["t1"]
    assert library.fetched == 2 * ["tiny/train-00000.parquet"]


def test_a_note_of_somebody_else_leads_nowhere(survey, tmp_path, faked):
    faked(FILES)
    source = open_hub(named(survey, f"hub:zoo/gz2/tiny@{COMMIT}"))
    source.names()
    outside = tmp_path / "x.parquet"
    outside.write_bytes(b"mine")
    facts = {"bytes": 3, "sha256": "0" * 64}
    files = {"../../x.parquet": facts}
    done = {"repository": "zoo/gz2", "commit": COMMIT, "licence": None, "files": files}
    (source._place(COMMIT) / hub.DONE).write_text(json.dumps(done))
    with pytest.raises(ValueError, match="leads out of the folder"):
        open_hub(source.dataset).names()
    assert outside.read_bytes() == b"mine"


@pytest.mark.parametrize("method", ["dataset_info", "hf_hub_download"])
def test_a_hub_that_drips_is_given_up(survey, faked, monkeypatch, method):
    monkeypatch.setattr(hub, "WHOLE_ANSWER", 0.1)  # of 5 seconds
    library, over = faked(FILES), threading.Event()
    monkeypatch.setattr(library, method, lambda *names, **settings: over.wait(60))
    with pytest.raises(ConnectionError, match=r"zoo/gz2 .*too little came in"):
        open_hub(survey).names()
    assert not over.is_set()
    over.set()
    assert list(Path(survey.service.downloads).rglob(hub.DONE)) == []


def test_a_slow_hub_is_waited_for(survey, faked, monkeypatch):
    monkeypatch.setattr(hub, "WHOLE_ANSWER", 0.2)  # of 5 seconds
    monkeypatch.setattr(hub, "LEAST", 1)
    library = faked(FILES)
    whole = library.hf_hub_download

    def slow(repository, filename, local_dir, **settings):
        local_dir.mkdir(parents=True, exist_ok=True)
        with (local_dir / "half").open("ab", buffering=0) as file:
            for _ in range(25):
                file.write(b"x")
                time.sleep(0.1)
        whole(repository, filename, local_dir)

    monkeypatch.setattr(library, "hf_hub_download", slow)
    assert open_hub(named(survey, "hub:zoo/gz2/tiny")).names() == ["t1"]


def test_a_signature_in_the_hubs_answer_is_not_told(survey, faked, monkeypatch):
    def refused(*names, **settings):
        raise OSError("403 for 'https://me:hunter2@cdn.invalid/x?a=1&X-Amz-Signature=hunter2'")

    monkeypatch.setattr(faked(FILES), "hf_hub_download", refused)
    with pytest.raises(ConnectionError, match=r"403 for 'https://cdn.invalid/x\?a=1&X-A") as error:
        open_hub(survey).names()
    assert "hunter2" not in str(error.value)


@needs_library
@pytest.mark.parametrize("what", ["/api/datasets/zoo/gz2", "tiny/train-00000.parquet"])
def test_the_library_itself_is_not_waited_for_for_ever(survey, tmp_path, what):
    with standin(FILES, drips=what) as server:
        kind, message = asked(named(survey, "hub:zoo/gz2/tiny"), server, tmp_path)
    assert kind == "ConnectionError"
    assert "too little came in" in message


@needs_library
def test_the_library_itself_gets_no_name_that_leads_out(survey, tmp_path):
    outside = tmp_path / "x.parquet"
    outside.write_bytes(b"mine")
    with standin({"../../x.parquet": parquet("g1")}) as server:
        kind, message = asked(survey, server, tmp_path)
    assert kind == "ValueError"
    assert "is refused: it leads out of the folder" in message
    assert outside.read_bytes() == b"mine"


def test_a_commit_that_is_there_needs_neither_package_nor_network(survey, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    source = open_hub(named(survey, f"hub:zoo/gz2/tiny@{COMMIT}"))
    name, data = "tiny/train-00000.parquet", FILES["tiny/train-00000.parquet"]
    folder = source._place(COMMIT)
    (folder / "tiny").mkdir(parents=True)
    (folder / name).write_bytes(data)
    files = {name: {"bytes": len(data), "sha256": oid(data)}}
    done = {"repository": "zoo/gz2", "commit": COMMIT, "licence": None, "files": files}
    for text in ("", "[]", json.dumps(done | {"files": [name]})):
        (folder / hub.DONE).write_text(text)
        with pytest.raises(ValueError, match="pip install huggingface_hub"):  # it asks again
            open_hub(source.dataset).identity()
    (folder / hub.DONE).write_text(json.dumps(done))
    assert source.identity() == ["zoo/gz2", "tiny", COMMIT]
    assert source.names() == ["t1"]
    assert source.find(pd.DataFrame({"id": ["t1"], "file": ["t1"]})) == ["t1"]
    assert [(n, give()) for n, give in source.load(["t1"])] == [(0, render("t1", "png", 256))]
    (folder / name).write_bytes(data[:-1])  # no longer whole, so it would be fetched
    with pytest.raises(ValueError, match="pip install huggingface_hub"):
        open_hub(source.dataset).names()
