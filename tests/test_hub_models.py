"""A model of a hub, from a local server that speaks a hub's language: fetched once, checked, named by its commit."""

import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

import trizoo
from shared.data.sources import hub_models
from shared.data.sources.hub_models import fetch_model
from shared.method.start import pinned
from tests.test_hub import COMMIT, OTHER, Standin, needs_library, oid

ROOT = Path(__file__).parents[1]
FILES = {
    "README.md": b"# an encoder",
    "config.json": b'{"architecture": "resnet18"}',
    "model.safetensors": 1000 * b"weights ",
    "pytorch_model.bin": b"a pickle",
}


class Models(Standin):
    """The hub, of one model."""

    def answer(self):
        path = self.path.partition("?")[0]
        self.server.log.append((self.command, path))
        files = self.server.files
        revisions = ("main", "v1", COMMIT)
        if path in (
            "/api/models/zoo/enc",
            *(f"/api/models/zoo/enc/revision/{r}" for r in revisions),
        ):
            siblings = [
                {"rfilename": name, "size": len(data)}
                | {
                    "lfs": {
                        "size": len(data),
                        "sha256": self.server.lie or oid(data),
                        "pointerSize": 134,
                    }
                }
                for name, data in files.items()
            ]
            about = {"id": "zoo/enc", "modelId": "zoo/enc", "sha": COMMIT, "siblings": siblings}
            return self.send(json.dumps(about).encode())
        start = f"/zoo/enc/resolve/{COMMIT}/"
        if path.startswith(start) and path.removeprefix(start) in files:
            data = files[path.removeprefix(start)]
            headers = {"ETag": f'"{oid(data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            return self.send(data, 200, headers)
        code = "RevisionNotFound" if path.startswith("/api/models/zoo/enc/") else "RepoNotFound"
        return self.send(b"{}", 404, {"X-Error-Code": code, "X-Error-Message": "not here"})


@contextmanager
def standin(files, lie=None):
    with ThreadingHTTPServer(("127.0.0.1", 0), Models) as server:
        server.daemon_threads, server.files, server.log, server.lie = True, files, [], lie
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


CHILD = """
import json, sys
from shared.data.sources import hub
from shared.data.sources.hub_models import fetch_model
hub.WHOLE_ANSWER = 2.0
try:
    found = fetch_model(sys.argv[1], 5.0)
    beside = sorted(path.name for path in found.file.parent.iterdir())
    print(json.dumps([found.name, str(found.file), beside]))
except (ValueError, OSError) as problem:
    print(json.dumps([type(problem).__name__, str(problem)]))
"""


def asked(named, server, home):
    """What a process of its own gets, for the library reads its environment once."""
    place = f"http://127.0.0.1:{server.server_address[1]}" if server else "http://127.0.0.1:9"
    of_hub = {"HF_ENDPOINT": place, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, named],
        cwd=ROOT,
        env=dict(os.environ) | of_hub | quiet,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs_library
def test_a_model_is_fetched_once_and_then_read_without_a_network(tmp_path):
    commit = f"hub:zoo/enc@{COMMIT}"
    with standin(FILES) as server:
        name, file, beside = asked("hub:zoo/enc@v1", server, tmp_path)
        assert name == commit
        assert Path(file).read_bytes() == FILES["model.safetensors"]
        assert beside == ["config.json", "model.safetensors"]
        got = [path for command, path in server.log if command == "GET" and "resolve" in path]
        assert len(got) == 2
        server.log.clear()
        assert asked("hub:zoo/enc", server, tmp_path) == [name, file, beside]
        assert [
            path for command, path in server.log if "resolve" in path and command == "GET"
        ] == []
        server.log.clear()
        assert asked(commit, server, tmp_path) == [name, file, beside]
        assert server.log == []
    assert asked(commit, None, tmp_path) == [name, file, beside]
    for other in ("hub:zoo/enc", f"hub:zoo/enc@{OTHER}"):
        kind, message = asked(other, None, tmp_path)
        assert kind == "ConnectionError"
        assert message.endswith(f"name a commit that is there already: {commit}")
    kind, message = asked(commit, None, tmp_path / "elsewhere")
    assert kind == "ConnectionError"
    assert message.endswith("name a commit that is there already: (none is)")


@needs_library
def test_an_older_model_is_a_pickle(tmp_path):
    files = {name: data for name, data in FILES.items() if name != "model.safetensors"}
    with standin(files) as server:
        _, file, beside = asked("hub:zoo/enc", server, tmp_path)
    assert beside == ["config.json", "pytorch_model.bin"]
    assert Path(file).name == "pytorch_model.bin"


@needs_library
def test_a_file_that_is_not_what_the_hub_says_is_removed(tmp_path):
    with standin(FILES, lie=64 * "0") as server:
        kind, message = asked("hub:zoo/enc", server, tmp_path)
    assert kind == "ValueError"
    assert (
        "config.json of zoo/enc came with another checksum than the hub gives; it was rem"
        in message
    )
    assert not [path for path in tmp_path.rglob("*") if path.name in FILES]


@needs_library
@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("hub:zoo/none", "there is no model zoo/none on the hub, or only for those it knows"),
        (f"hub:zoo/enc@{OTHER}", f"zoo/enc has no revision {OTHER}; check model.encoder"),
    ],
)
def test_what_is_not_on_the_hub_is_told(tmp_path, named, message):
    with standin(FILES) as server:
        kind, text = asked(named, server, tmp_path)
    assert kind == "ValueError"
    assert message in text


@needs_library
def test_a_model_without_weights_is_refused(tmp_path):
    with standin({"README.md": b"# soon"}) as server:
        kind, text = asked("hub:zoo/enc", server, tmp_path)
    assert (kind, text[:24]) == ("ValueError", "zoo/enc has no weights.s")


@pytest.mark.parametrize(
    "named", ["hub:enc", "hub:", "hub:a/b@", "hub:a/b/c", "hub:a//b", "hub:a/b@c d"]
)
def test_another_form_is_refused(named):
    with pytest.raises(
        ValueError, match=r"model.encoder is hub:.*; write hub:OWNER/NAME or hub:OWN"
    ):
        fetch_model(named, 5.0)


def test_without_the_package_its_name_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        ValueError,
        match=r"model.encoder begins with hub:, which .*: pip install huggingface_hub\. Or fetch",
    ):
        fetch_model("hub:zoo/enc", 5.0)


class Fake:
    """Stands in for the package: a hub of `files`, and its cache in `folder`."""

    def __init__(self, folder, files):
        self.folder, self.files, self.fetched = folder, files, []
        self.errors = SimpleNamespace(
            RevisionNotFoundError=KeyError, RepositoryNotFoundError=KeyError
        )
        self.constants = SimpleNamespace(HF_HUB_CACHE=str(folder))

    def HfApi(self, library_name):
        return self

    def model_info(self, repository, **settings):
        if self.files is None:
            raise OSError("no route for https://me:hunter2@hub.invalid/x")
        lfs = {name: SimpleNamespace(sha256=oid(data)) for name, data in self.files.items()}
        files = [SimpleNamespace(rfilename=name, lfs=lfs[name]) for name in self.files]
        return SimpleNamespace(siblings=files, sha=COMMIT)

    def try_to_load_from_cache(self, repository, name, revision):
        path = self._place(repository, revision) / name
        return str(path) if path.exists() else None

    def hf_hub_download(self, repository, name, revision, **settings):
        self.fetched.append(name)
        path = self._place(repository, revision) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.files[name])
        return str(path)

    def _place(self, repository, revision):
        return self.folder / f"models--{repository.replace('/', '--')}" / "snapshots" / revision


@pytest.fixture
def library(tmp_path, monkeypatch):
    library = Fake(tmp_path / "cache", FILES)
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    return library


def test_a_run_names_the_commit_that_it_starts_from(library):
    config = trizoo.compose(["model.encoder=hub:zoo/enc"])
    assert pinned(config)["model"]["encoder"] == f"hub:zoo/enc@{COMMIT}"
    assert config["model"]["encoder"] == "hub:zoo/enc"
    assert library.fetched == ["config.json", "model.safetensors"]
    again = pinned(pinned(config))
    assert again["model"]["encoder"] == f"hub:zoo/enc@{COMMIT}"
    predict = trizoo.compose(["task=predict", "model.encoder=hub:zoo/none"])
    assert pinned(predict) == predict  # whose weights are a fit's


def test_weights_without_what_timm_keeps_beside_them_are_fetched_anew(library):
    fetch_model("hub:zoo/enc", 5.0)
    (library._place("zoo/enc", COMMIT) / "config.json").unlink()
    library.fetched.clear()
    fetch_model(f"hub:zoo/enc@{COMMIT}", 5.0)
    assert library.fetched == ["config.json", "model.safetensors"]


def test_an_address_with_a_password_is_not_told(library):
    fetch_model("hub:zoo/enc", 5.0)
    library.files = None
    with pytest.raises(
        ConnectionError, match=rf"the hub did not say .*hub:zoo/enc@{COMMIT}$"
    ) as error:
        fetch_model("hub:zoo/enc", 5.0)
    assert "hunter2" not in str(error.value)
    shutil.rmtree(library.folder)
    with pytest.raises(ConnectionError, match=r"\(none is\)$"):
        fetch_model(f"hub:zoo/enc@{COMMIT}", 5.0)
    assert hub_models.COMMIT.fullmatch(COMMIT)
