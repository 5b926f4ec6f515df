"""`trizoo label`: who is handed what, the page over HTTP and whom it refuses, and whole runs on a tiny network."""

import http.client
import io
import json
import re
import socket
import stat
import threading
import time
import uuid
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, HTTPRedirectHandler, Request, build_opener

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binomtest

import trizoo
from shared.method.label_learning import Fit, agreement, label_information
from shared.output.label_server import HEADERS, known_host, listen, serving
from shared.output.labelling import AHEAD, LEASE, Room
from shared.output.labels import LABELS, Labels, Schema
from shared.output.posterior import read_posterior
from shared.run.records import write_json
from shared.run.spec import LabelSpec, RunSpec, from_config
from shared.tasks import active as active_task
from shared.tasks import label as label_task

SCHEMA = Schema({"smooth": ("smooth", "featured", "artifact")}, {})
OUTPUTS = (("smooth", (("featured", "artifact"), ("smooth",))),)


def spec(**more) -> LabelSpec:
    usual = {
        "target": None,
        "random": 0.25,
        "first": 2,
        "every": 2,
        "per_galaxy": 1,
        "host": None,
        "port": 0,
    }
    return LabelSpec(**(usual | more))


@pytest.fixture
def make_room(tmp_path):
    """A room of twelve galaxies, as often as it is opened."""
    opened = []

    def make(kind="random", order=range(12), **more):
        while opened:
            opened.pop().close()
        labels = Labels(tmp_path / "labels.jsonl", [f"g{row}" for row in range(12)], SCHEMA)
        opened.append(labels)
        acquisition = SimpleNamespace(name="power")
        run = SimpleNamespace(label=spec(**more), acquisition=acquisition, asked=OUTPUTS)
        return Room(run, labels, order, kind)

    yield make
    while opened:
        opened.pop().close()


def say(room, who, row, answer="smooth", kind="vote", **more):
    event = {"event": kind, "key": uuid.uuid4().hex, **more}
    if kind == "vote":
        event |= {"question": "smooth", "answer": answer}
    return room.enter(who, row, event) | {"key": event["key"]}


def rows(state):
    return [one["row"] for one in state["galaxies"]]


def fit(ranking, known=(), expected=0.75):
    shares = np.tile([1 - expected, expected], (12, 1)).astype(np.float32)
    return Fit(None, frozenset(known), shares, 0.1, ranking)


def test_two_people_are_never_handed_the_same_galaxy(make_room):
    room = make_room()
    ann, bob = rows(room.state("ann")), rows(room.state("bob"))
    assert (ann, bob) == ([0, 1, 2], [3, 4, 5])
    assert rows(say(room, "ann", 0)) == [1, 2, 6]
    assert rows(room.state("bob")) == bob
    assert room.progress()["labels"] == 1


def test_as_many_people_label_a_galaxy_as_are_wanted_and_no_more(make_room):
    room = make_room(per_galaxy=2)
    assert rows(room.state("ann")) == rows(room.state("bob")) == [0, 1, 2]
    assert rows(room.state("cleo")) == [3, 4, 5]
    for who in ("ann", "bob"):
        say(room, who, 0)
    assert 0 not in rows(room.state("cleo"))
    assert room.progress()["people"] == 2


def test_what_somebody_holds_goes_to_others_after_a_while(make_room):
    room = make_room()
    held = rows(room.state("ann"))
    room.seen_at["ann"] -= LEASE + 1
    assert rows(room.state("bob")) == held
    events = [one["chosen"] for (who, _), one in room.labels.shown.items() if who == "bob"]
    assert events == ["again"] * AHEAD


def test_a_skipped_galaxy_goes_to_somebody_else_and_never_back(make_room):
    room = make_room()
    room.state("ann")
    assert 0 not in rows(say(room, "ann", 0, kind="skip"))
    assert room.progress()["labels"] == 0
    assert rows(room.state("bob"))[0] == 0


def test_undo_gives_the_galaxy_back_and_takes_the_label_away(make_room):
    room = make_room()
    room.state("ann")
    done = say(room, "ann", 0)
    assert done["progress"]["labels"] == 1
    back = say(room, "ann", 0, kind="undo", of=done["key"])
    assert back["galaxies"][0] == {"row": 0, "id": "g0", "answers": {}}
    assert back["progress"]["labels"] == 0


def test_a_process_that_ends_gives_everybody_back_what_they_held(make_room):
    room = make_room()
    ann, bob = rows(room.state("ann")), rows(room.state("bob"))
    say(room, "ann", ann[0])
    held = rows(room.state("ann"))
    room = make_room()
    assert rows(room.state("bob")) == bob
    assert rows(room.state("ann")) == held
    assert room.progress()["labels"] == 1


def test_after_a_fit_all_but_a_share_is_by_its_ranking(make_room):
    room = make_room(random=0.25)
    room.use(fit([11, 10, 9, 8, 7, 6, 5, 4]))
    handed = []
    for _ in range(8):
        row = rows(room.state("ann"))[0]
        handed.append((row, room.labels.shown["ann", row]["chosen"]))
        say(room, "ann", row)
    assert [row for row, how in handed if how == "random"] == [0, 1]
    assert [row for row, how in handed if how == "power"] == [11, 10, 9, 8, 7, 6]


def test_only_random_galaxies_foretold_before_their_labels_are_compared(make_room):
    room = make_room(random=0.5)
    room.state("ann")  # rows 0 to 2, before any fit: nothing was foretold
    room.use(fit([11, 10], known=[3]))
    answered = []
    while len(answered) < 8:
        row = rows(room.state("ann"))[0]
        answered.append(row)
        say(room, "ann", row, "smooth" if row % 2 else "featured")
    shown = {row: one for (_, row), one in room.labels.shown.items()}
    honest = [r for r in answered if shown[r]["chosen"] == "random" and shown[r]["expected"]]
    assert set(answered) >= {0, 1, 2, 3, 11}
    assert 3 not in honest
    assert honest == [4, 5] or honest == [4]
    found = room.progress()["agreement"]
    assert found["answers"] == len(honest)
    losses = [-np.log(0.75 if row % 2 else 0.25) for row in honest]
    assert found["loss"] == pytest.approx(np.mean(losses))


def test_the_target_ends_it_and_asks_wait_for_all(make_room):
    room = make_room(target=2)
    room.state("ann")
    assert not say(room, "ann", 0)["finished"]
    assert say(room, "ann", 1)["finished"]
    room = make_room("asked", [4, 7], target=1)
    assert rows(room.state("ann")) == [4, 7]
    assert not room.settled()
    say(room, "ann", 4)
    assert not room.settled()
    assert not say(room, "ann", 7, kind="skip")["finished"]
    assert room.settled()


def test_agreement_has_wilsons_interval():
    assert agreement([]) is None
    found = agreement([(0.1, True)] * 8 + [(1.1, False)] * 2)
    assert (found["answers"], found["share"]) == (10, 0.8)
    assert found["loss"] == pytest.approx(0.3)
    assert found["error"] == pytest.approx(np.std([0.1] * 8 + [1.1] * 2, ddof=1) / np.sqrt(10))
    interval = binomtest(8, 10).proportion_ci(0.9, "wilson")
    assert (found["low"], found["high"]) == pytest.approx(tuple(interval), abs=1e-4)


def test_information_of_a_label_is_that_of_one_vote():
    run = SimpleNamespace(
        questions=None,
        question="smooth",
        asked=OUTPUTS,
        likelihood=SimpleNamespace(name="dirichlet_multinomial", concentrations="exp"),
    )
    shares = np.array([[[0.0, 1.0], [1.0, 0.0]], [[0.3, 0.7], [0.3, 0.7]]])
    assert label_information(run, shares) == pytest.approx([np.log(2), 0])


# Over HTTP


class Person:
    """A browser, in as far as a server sees it."""

    def __init__(self, link, who="ann", origin=...):
        self.link, self.who = re.match(r"http://[^/]+", link)[0], who
        self.origin = self.link if origin is ... else origin
        self.opener = build_opener(HTTPCookieProcessor())

    def get(self, path, **headers):
        """The answer, which is read already."""
        with self.opener.open(
            Request(f"{self.link}/{path}", headers=headers), timeout=20
        ) as answer:
            return SimpleNamespace(body=answer.read(), headers=answer.headers, url=answer.url)

    def post(self, path, **body):
        headers = {"Content-Type": "application/json"}
        headers |= {"Origin": self.origin} if self.origin else {}
        data = json.dumps({"who": self.who, **body}).encode()
        request = Request(f"{self.link}/{path}", data, headers)
        with self.opener.open(request, timeout=20) as answer:
            return json.load(answer)

    def vote(self, row, answer, question="smooth", key=None, **more):
        key = key or uuid.uuid4().hex
        event = {"event": "vote", "question": question, "answer": answer}
        return self.post("label", row=row, key=key, **(event | more))


@pytest.fixture
def served(make_room, tmp_path):
    """A room that is served, and its images."""
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
    room = make_room()
    with serving(room, images, spec(), tmp_path) as link:
        yield SimpleNamespace(room=room, images=images, link=link, person=Person(link))


def status(call, *given, **more):
    with pytest.raises(HTTPError) as caught:
        call(*given, **more)
    caught.value.close()
    return caught.value.code


def test_the_page_its_files_and_images_come_with_strict_headers(served):
    for path in ("", "page.js", "page.css", "image/3"):
        answer = served.person.get(path)
        assert all(answer.headers[name] == value for name, value in HEADERS.items())
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    with Image.open(io.BytesIO(served.person.get("image/3").body)) as image:
        np.testing.assert_array_equal(np.asarray(image), served.images[3])


@pytest.mark.parametrize(
    "path",
    ["image/12", "image/-1", "image/../page.js", "page.html", "label_page/page.js", "%2e%2e/x"],
)
def test_nothing_but_numbers_and_known_files_is_served(served, path):
    assert status(served.person.get, path) == 404
    for method in ("PUT", "DELETE"):
        connection = http.client.HTTPConnection(served.link.split("/")[2], timeout=20)
        connection.request(method, "/label")
        answer = connection.getresponse()
        assert answer.status == 405
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        connection.close()


def test_a_vote_that_is_repeated_counts_once(served):
    begun = served.person.post("arrive")
    assert begun["questions"] == [{"name": "smooth", "answers": list(SCHEMA.questions["smooth"])}]
    key = uuid.uuid4().hex
    for _ in range(3):
        after = served.person.vote(0, "smooth", key=key)
    assert after["progress"]["labels"] == 1
    assert rows(after) == [1, 2, 3]
    assert after["expected"] == []
    again = served.person.post("arrive")
    assert [one["key"] for one in again["history"]] == [key]


def test_other_hosts_origins_types_and_sizes_are_refused(served):
    link, person = served.link, served.person
    assert status(person.get, "", Host="evil.example") == 421
    assert status(person.get, "", Host="127.0.0.1.evil.example:80") == 421
    for origin in (
        None,
        "http://evil.example",
        "null",
        link.replace("http:", "http://x@").rstrip("/"),
    ):
        assert status(Person(link, origin=origin).post, "arrive") == 403
        assert status(Person(link, origin=origin).vote, 0, "smooth") == 403
    request = Request(f"{link}arrive", b'{"who": "ann"}', {"Origin": person.origin})
    assert status(person.opener.open, request) == 415
    assert status(person.post, "arrive", pad="x" * 5000) == 400
    assert not served.room.labels.keys


@pytest.mark.parametrize(
    "wrong",
    [
        {"who": ""},
        {"who": "x" * 61},
        {"who": "a\nb"},
        {"who": 7},
        {"row": "0"},
        {"row": True},
        {"row": 12},
        {"row": -1},
        {"answer": "maybe"},
        {"answer": ["smooth"]},
        {"question": "bar"},
        {"key": "x" * 32},
        {"key": "0"},
        {"event": "shown"},
    ],
)
def test_what_is_no_label_is_refused_and_not_written(served, wrong):
    event = {"event": "vote", "key": "0" * 32, "row": 0, "question": "smooth", "answer": "smooth"}
    assert status(served.person.post, "label", **(event | wrong)) == 400
    assert not served.room.labels.keys


def test_a_body_that_is_no_object_is_refused(served):
    headers = {"Content-Type": "application/json", "Origin": served.person.origin}
    for data in (b"", b"[1]", b"{", b"[" * 4000, b"\xff"):
        request = Request(f"{served.link}label", data, headers, method="POST")
        assert status(served.person.opener.open, request) == 400


def test_a_label_that_cannot_be_written_is_not_acknowledged(served, monkeypatch):
    served.person.post("arrive")

    def full(event):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(served.room.labels, "add", full)
    assert status(served.person.vote, 0, "smooth") == 503


def test_with_a_host_only_the_link_with_its_token_opens(make_room, tmp_path):
    room, images = make_room(), np.zeros((12, 8, 8, 1), np.uint8)
    with serving(room, images, spec(host="127.0.0.1"), tmp_path) as link:
        address, token = link.split("/?token=")
        for path in ("", "page.js", "image/0", f"?token={token[:-1]}x", f"page.js?token={token}"):
            assert status(Person(link).get, path) == 401
        assert status(Person(link).post, "arrive") == 401
        person = Person(link)
        answer = person.get(f"?token={token}")
        assert answer.url == f"{address}/"
        assert rows(person.post("arrive")) == [0, 1, 2]

        class Stay(HTTPRedirectHandler):
            def redirect_request(self, *_):
                return None

        with pytest.raises(HTTPError) as caught:
            build_opener(Stay()).open(f"{address}/?token={token}", timeout=20)
        caught.value.close()
        cookie = caught.value.headers["Set-Cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
    kept = tmp_path / ".label-token"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with serving(room, images, spec(host="127.0.0.1"), tmp_path) as link:
        assert link.endswith(f"?token={token}")  # the same link after a restart


def test_names_of_this_machine_and_addresses_are_known_hosts():
    for name in (
        "localhost:8765",
        "127.0.0.1:1",
        "[::1]:80",
        "192.168.1.7:8765",
        socket.gethostname(),
    ):
        assert known_host(name, None)
    assert known_host("zoo.example:80", "zoo.example")
    for name in ("zoo.example:80", "", "localhost.evil.example", "127.0.0.1.nip.io", "[::1"):
        assert not known_host(name, None)


def test_a_port_that_is_taken_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match=r"give another label\.port"):
            listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ValueError, match=r"label.host is no\.such\.place\.invalid"):
        listen("no.such.place.invalid", 0)


# Whole runs

NETWORK = (
    *("backend=torch", "backend.threads=1", "backend.chunk=16", "model.image_size=16"),
    *("model.blocks=[[4],[4],[4],[4]]", "model.dense=8", "posterior.samples=10"),
)
QUESTIONS = "dataset.questions={smooth-or-featured: [smooth, featured-or-disk, artifact]}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Sixteen discs, round ones and long ones, and a network whose encoder learns something of them."""
    place = tmp_path_factory.mktemp("label")
    (place / "photos").mkdir()
    y, x = np.mgrid[:256, :256] - 127.5
    truth = {}
    for number in range(16):
        name, long = f"disc-{number:02d}", number % 2
        light = 230 * np.exp(-np.hypot(x, (1 + 3 * long) * y) / 36)
        Image.fromarray(light.astype(np.uint8)).save(place / "photos" / f"{name}.png")
        truth[name] = "featured-or-disk" if long else "smooth"
    (place / "truth.json").write_text(json.dumps(truth))
    words = [
        "dataset=synthetic",
        "dataset.galaxies=24",
        "training.steps=2",
        "training.batch_size=8",
    ]
    words += ["posterior.galaxies=test", f"folder={place / 'encoder'}", f"outputs={place}"]
    here(place, "fit", *words)
    return place


def here(place, task, *words):
    """A run in this process: its folder and outcome."""
    words = [f"task={task}", *NETWORK, *words]
    config = trizoo.compose(words)
    config = trizoo.with_fit(config, words) if task == "predict" else config
    folder = place / config["folder"]
    write_json(folder / "run.json", config)
    module = {"label": label_task, "active": active_task}.get(task)
    if module is None:
        module = __import__(f"shared.tasks.{task}", fromlist=[task])
    return folder, getattr(module, task)(from_config(RunSpec, config), folder)


def photos(place):
    own = ["dataset=folder", f"dataset.images={place / 'photos'}", f"outputs={place}"]
    return [*own, f"model.encoder={place / 'encoder'}", "label.port=0"]


def labelled_by(people, monkeypatch, module, answer):
    """Has `people` label whatever is served by `module`, each in a thread, by `answer`(id, question)."""
    problems = []

    def work(link, who):
        try:
            person = Person(link, who)
            now = begun = person.post("arrive")
            while now["galaxies"] and not now["finished"]:
                if (
                    now["progress"]["labels"] >= 4
                    and begun["learns"]
                    and not now["progress"]["information"]
                ):
                    time.sleep(
                        0.05
                    )  # nobody has to wait for the learner, but then it may never be seen
                    now = person.post("state")
                    continue
                one = now["galaxies"][0]
                given = dict(one["answers"])
                for question in begun["questions"]:
                    name = question["name"]
                    froms = begun["leads"].get(name)
                    if name in given or (
                        froms and not any(given.get(q) in some for q, some in froms.items())
                    ):
                        continue
                    given[name] = answer(one["id"], name)
                    now = person.vote(one["row"], given[name], name)
        except Exception as error:  # told by the test, not by a thread
            problems.append(error)

    serve = module.serving

    class Serving:
        def __init__(self, *given):
            self.server = serve(*given)

        def __enter__(self):
            link = self.server.__enter__()
            self.people = [threading.Thread(target=work, args=(link, who)) for who in people]
            for one in self.people:
                one.start()
            return link

        def __exit__(self, *error):
            for one in self.people:
                one.join(60)
            return self.server.__exit__(*error)

    monkeypatch.setattr(module, "serving", Serving)
    return problems


def test_labels_over_http_end_in_votes_weights_and_a_posterior(place, monkeypatch):
    truth = json.loads((place / "truth.json").read_text())
    problems = labelled_by(["ann", "bob"], monkeypatch, label_task, lambda name, _: truth[name])
    words = ["folder=" + str(place / "labelled"), "label.target=14", "label.first=4"]
    words += ["label.every=2", "acquisition=power", "posterior.format=[fits]"]
    folder, outcome = here(place, "label", *photos(place), *words)
    assert problems == []
    votes = pd.read_csv(folder / "votes.csv").set_index("id")
    assert 14 <= len(votes) <= 15  # two people may both give the last one
    assert (votes["smooth-or-featured_total"] == 1).all()
    for name, row in votes.iterrows():
        assert row[f"smooth-or-featured_{truth[name]}"] == 1
    results = outcome["results"]
    assert results["labels"] == len(votes)
    assert 1 <= results["people"] <= 2
    assert results["galaxies"] == {"all": 16, "train": len(votes)}
    table = read_posterior(folder / "posterior.parquet")
    assert len(table) == 16
    assert sorted(table[table["in_training"]]["id"]) == sorted(votes.index)
    assert (folder / "posterior.fits").exists()
    chosen = [json.loads(line) for line in (folder / LABELS).read_text().splitlines()]
    chosen = {one["chosen"] for one in chosen if one["event"] == "shown"}
    assert chosen == {"random", "power"}

    # the same weights predict the same of the same galaxies, and the votes are taken by fit
    words = [f"weights={folder}", f"folder={place / 'predicted'}"]
    predicted, _ = here(place, "predict", *photos(place)[:3], *words)
    again = read_posterior(predicted / "posterior.parquet")
    mean = "smooth_or_featured_smooth_mean"
    np.testing.assert_allclose(again[mean], table[mean], atol=1e-5)
    words = [f"dataset.table={folder / 'votes.csv'}", f"folder={place / 'fitted'}"]
    words += ["training.steps=2", "posterior.galaxies=test"]
    here(place, "fit", *photos(place)[:3], *words)

    # the same command goes on, and is over at once
    monkeypatch.undo()
    words = ["folder=" + str(place / "labelled"), "label.target=14", "acquisition=power"]
    _, more = here(place, "label", *photos(place), *words)
    assert more["results"]["labels"] == len(votes)


def test_what_a_label_run_needs_is_told(place):
    words = [word for word in photos(place) if "encoder" not in word]
    with pytest.raises(ValueError, match=r"model.encoder is null; name a fit .* or hub:"):
        here(place, "label", *words, f"folder={place / 'none'}")
    with pytest.raises(ValueError, match="give posterior=laplace"):
        here(place, "label", *photos(place), f"folder={place / 'none'}", "posterior=dropout")


def test_people_are_an_oracle_of_active_learning(place, monkeypatch, capsys):
    from shared.output import label_oracle

    truth = json.loads((place / "truth.json").read_text())
    problems = labelled_by(["ann", "bob"], monkeypatch, label_oracle, lambda name, _: truth[name])
    words = [*photos(place), "oracle=label", "training.trainable=head", "split.test=0"]
    words += ["acquisition=random", "acquisition.initial=4", "acquisition.per_round=3"]
    words += ["acquisition.rounds=2", "acquisition.first_steps=2", "acquisition.round_steps=2"]
    words += ["acquisition.samples=10", f"folder={place / 'asked'}", "split.validation=0"]
    folder, outcome = here(place, "active", *words)
    assert problems == []
    assert [one["labelled"] for one in outcome["results"]["rounds"]] == [4, 7, 10]
    votes = pd.read_csv(folder / "ask-02" / "votes.csv").set_index("id")
    for name, row in votes.iterrows():
        assert row[f"smooth-or-featured_{truth[name]}"] == row["smooth-or-featured_total"] == 1
    assert "ask 0: 4 galaxies to label at http" in capsys.readouterr().out
    (folder / "checkpoint.safetensors").unlink()
    monkeypatch.undo()  # nobody is asked again
    _, again = here(place, "active", *words)
    assert (
        again["results"]["rounds"][-1]["acquired"] == outcome["results"]["rounds"][-1]["acquired"]
    )
