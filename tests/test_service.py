"""Images from an address, fetched from a server that misbehaves on purpose."""

import dataclasses
import hashlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from contextlib import closing, contextmanager, suppress
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import server
import urllib3
from server import Sky, render

import trizoo
from shared.data import cutouts
from shared.data.sources import downloads, fetch
from shared.data.sources.service import open_service
from shared.run.records import unfinished
from shared.run.spec import DatasetSpec, RunSpec, from_config, to_config

ROOT = Path(__file__).parents[1]
WIDTH = 256
WHERE = "http://sky.invalid"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Back-off in hundredths of a second."""
    monkeypatch.setattr(fetch, "BACK_OFF", 0.01)
    monkeypatch.setattr(server, "SLOW", 0.05)


@pytest.fixture
def survey(tmp_path):
    """A dataset of PNG files at a server, in a hurry."""
    dataset = from_config(DatasetSpec, folder() | {"name": "test", "licence": "none"})
    hurry = {"downloads": str(tmp_path / "downloads"), "width": WIDTH, "per_second": 1000.0}
    hurry |= {"timeout": 10.0, "attempts": 4}
    return dataclasses.replace(dataset, service=dataclasses.replace(dataset.service, **hurry))


@cache
def folder():
    """The configuration that every dataset starts from."""
    return trizoo.compose(["dataset=folder", f"dataset.images={WHERE}"])["dataset"]


def at(survey, address, **changes):
    """`survey` with its images at `address`, positions in its table, and `changes` of its service."""
    columns = dataclasses.replace(survey.columns, ra="ra", dec="dec")
    changed = dataclasses.replace(survey.service, **changes)
    return dataclasses.replace(survey, images=address, columns=columns, service=changed)


def pngs(survey, sky, count=1, **changes):
    """The source of `sky`'s PNG files, and the addresses of `count` galaxies g0, g1, ..."""
    source = open_service(at(survey, sky.address + server.PNG, **changes))
    return source, source.find(table(count))


def table(count):
    """Galaxies g0, g1, ... here and there on the sky."""
    numbers = np.arange(count)
    ids = [f"g{n}" for n in numbers]
    places = {"ra": 180 + 0.123456789 * numbers, "dec": -1.5 * numbers / 7}
    return pd.DataFrame({"id": ids, "file": ids, **places, "scale": 0.1 + numbers / 300})


def loaded(source, names):
    """The image of each of `names`: its bytes, or the error."""
    found = {}
    with closing(source.load(names)) as images:
        for number, give in images:
            assert number not in found
            try:
                found[number] = give()
            except (FileNotFoundError, ValueError) as problem:
                found[number] = problem
    assert sorted(found) == list(range(len(names)))
    return [found[number] for number in range(len(names))]


def ended(call):
    """The result of `call`; fails if it goes on for ever."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(120)
    assert not thread.is_alive(), "it goes on for ever"
    return found[0]


def lines(source, name=downloads.MANIFEST):
    path = source.folder / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def images_in(folder):
    return {path for path in folder.rglob("*") if path.suffix in cutouts.SUFFIXES}


# Addresses


def test_an_address_has_digits_enough_and_ids_that_cannot_leave_it(survey):
    template = (
        f"{WHERE}/a?ra={{ra}}&dec={{dec}}&scale={{scale}}&w={{width}}&h={{width}}&{{id}}/{{file}}"
    )
    galaxies = pd.DataFrame(
        {
            "id": ["J1+2", "../x&y?z#", "a b"],
            "file": ["J000/a b.png", "b", "c"],
            "ra": [0.12345678901, 359.99999999, 123.0],
            "dec": [-0.00000001, -89.98765432, np.nan],
            "scale": [0.0123456789, 12.0, 1.0],
        }
    )
    assert open_service(at(survey, template)).find(galaxies) == [
        f"{WHERE}/a?ra=0.1234568&dec=0.0000000&scale=0.0123457&w=256&h=256&J1%2B2/J000/a%20b.png",
        f"{WHERE}/a?ra=360.0000000&dec=-89.9876543&scale=12&w=256&h=256&..%2Fx%26y%3Fz%23/b",
        None,
    ]


@pytest.mark.parametrize("unknown", ["ra", "dec", "scale"])
def test_what_the_address_needs_and_is_unknown_has_no_image(survey, unknown):
    galaxies = table(3)
    galaxies.loc[1, unknown] = np.nan
    found = open_service(at(survey, WHERE + server.LEGACY)).find(galaxies)
    assert [name is None for name in found] == [False, True, False]
    assert found[2] == WHERE + (
        "/viewer/jpeg-cutout?ra=180.2469136&dec=-0.4285714&size=256&layer=ls-dr9&pixscale=0.106667"
    )


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (WHERE + "/{id}/{radius}", "holds {radius}; an address may hold {id}, {file}, {ra}, {dec}"),
        (WHERE + "/{id}/{}", "holds {};"),
        (WHERE + "/{id.__class__}", "holds {id.__class__};"),
        (WHERE + "/{ra:.3f}/{dec}", "without a format"),
        (WHERE + "/{id!r}", "without a format"),
        (WHERE + "/{id", "expected '}'"),
        (WHERE + "/{ra}", "one image for all; it must hold {id}, {file}, or {ra} and {dec}"),
        ("https:///{id}", "starts with http:// or https:// and a host"),
        ("ftp://sky.invalid/{id}", "starts with http:// or https:// and a host"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(survey, address, message):
    with pytest.raises(ValueError, match=r"dataset\.images") as error:
        open_service(at(survey, address))
    assert message in str(error.value)


def test_positions_need_columns(survey):
    dataset = dataclasses.replace(survey, images=WHERE + "/{ra}/{dec}")
    with pytest.raises(ValueError, match=r"holds \{ra\}, but dataset.columns.ra is null; name the"):
        open_service(dataset)


def test_a_contact_is_one_line(survey):
    with pytest.raises(ValueError, match=r"contact is 'a\\nb'; it must be one line"):
        open_service(at(survey, WHERE + "/{id}", contact="a\nb"))


def test_a_service_has_no_names_and_is_what_its_address_and_width_are(survey):
    one = open_service(at(survey, WHERE + "/{id}"))
    with pytest.raises(ValueError, match=r"cannot list its images; name a table"):
        one.names()
    assert one.table() is None
    wider = open_service(at(survey, WHERE + "/{id}", width=300))
    faster = open_service(at(survey, WHERE + "/{id}", at_once=9, contact="me"))
    assert one.identity() == faster.identity() != wider.identity()
    assert one.folder == faster.folder != wider.folder
    about = {
        "kind": "service",
        "where": WHERE + "/{id}",
        "width": 256,
        "downloads": str(one.folder),
    }
    assert one.about() == about
    assert json.dumps(one.identity())


# What is fetched is kept


@pytest.mark.parametrize(
    ("address", "kind"), [(server.SDSS, "jpeg"), (server.LEGACY, "jpeg"), (server.FITS, "fits")]
)
def test_images_come_as_the_service_gave_them_and_once(survey, address, kind):
    with Sky() as sky:
        source = open_service(at(survey, sky.address + address, contact="me@sky.invalid"))
        names = source.find(table(5))
        images = loaded(source, names)
        asked = len(sky.log)
        assert asked == 5
        assert loaded(open_service(source.dataset), names) == images
        assert len(sky.log) == asked
        agents = {request.agent for request in sky.log}
    places = [
        f"{ra:.7f},{dec:.7f}" for ra, dec in zip(*table(5)[["ra", "dec"]].T.values, strict=True)
    ]
    places[0] = "180.0000000,0.0000000"  # not -0
    assert images == [render(place, kind, WIDTH) for place in places]
    assert len(agents) == 1
    (agent,) = agents
    assert agent.startswith("trizoo/")
    assert agent.endswith("me@sky.invalid)")
    for line, name in zip(
        sorted(lines(source), key=lambda line: names.index(line["address"])), names, strict=True
    ):
        data = (source.folder / line["file"]).read_bytes()
        assert line["address"] == name
        assert line["file"].endswith(".jpg" if kind == "jpeg" else ".fits")
        assert line["bytes"] == len(data)
        assert line["sha256"] == hashlib.sha256(data).hexdigest()
        assert line["attempts"] == 1
        assert line["time"].startswith("20")
    assert {source.folder / line["file"] for line in lines(source)} == images_in(source.folder)
    facts = json.loads((source.folder / "source.json").read_text())
    assert facts == {"where": source.dataset.images, "licence": "none", "user_agent": agent}
    assert lines(source, downloads.MISSING) == []


def test_those_that_are_there_come_first_while_the_others_are_fetched(survey):
    with Sky(script={f"g{n}": ["slow"] for n in range(4, 8)}) as sky:
        source, names = pngs(survey, sky, 8)
        loaded(source, names[:4])
        with closing(source.load(names[::-1])) as images:
            order = [number for number, _ in images]
    assert order[:4] == [4, 5, 6, 7]
    assert sorted(order[4:]) == [0, 1, 2, 3]


def test_fetching_goes_on_while_the_first_image_is_looked_at(survey):
    with Sky() as sky:
        source, names = pngs(survey, sky, 12)
        with closing(source.load(names)) as images:
            next(images)
            end = time.monotonic() + 60
            while len(lines(source)) < 12 and time.monotonic() < end:
                time.sleep(0.01)
            assert len(lines(source)) == 12


def test_galaxies_of_one_address_share_a_request(survey):
    with Sky() as sky:
        source, (one, two) = pngs(survey, sky, 2)
        images = loaded(source, [one, two, one])
        assert sky.asked() == {"g0": 1, "g1": 1}
    assert images[0] == images[2] != images[1]


def test_an_id_is_never_a_path(survey, tmp_path):
    with Sky() as sky:
        source = open_service(at(survey, sky.address + server.PNG))
        ids = ["../../up", "/etc/passwd", "..", "a\\b", "\u661f", "x" * 300]
        names = source.find(pd.DataFrame({"id": ids}))
        assert all(isinstance(image, bytes) for image in loaded(source, names))
        assert len(sky.asked()) == len(ids)
    files = {path.relative_to(source.folder) for path in tmp_path.rglob("*") if path.is_file()}
    notes = {Path(name) for name in (downloads.LOCK, downloads.MANIFEST, "source.json")}
    assert notes < files
    assert len(files - notes) == len(ids)
    for file in files - notes:
        assert re.fullmatch(r"([0-9a-f]{2})/\1[0-9a-f]{30}\.png", str(file))


def test_a_download_that_changed_is_named_and_fetched_again_once_deleted(survey):
    with Sky() as sky:
        source, names = pngs(survey, sky, 3)
        images = loaded(source, names)
        victim = source.folder / lines(source)[0]["file"]
        number = names.index(lines(source)[0]["address"])
        victim.write_bytes(victim.read_bytes()[:-1] + b"!")
        again = loaded(source, names)
        assert str(again[number]) == (
            f"{victim} has changed since it was fetched; delete it to fetch it again"
        )
        assert isinstance(again[number], ValueError)
        victim.unlink()
        assert loaded(source, names) == images
        assert sorted(sky.asked().values()) == [1, 1, 2]


def test_what_a_kill_left_is_put_right(survey):
    """A kept image without its line, a torn line, half-written files, and a lock that nobody holds."""
    with Sky() as sky:
        source, names = pngs(survey, sky, 4)
        images = loaded(source, names)
        manifest = source.folder / downloads.MANIFEST
        whole = manifest.read_text().splitlines()
        junk = ["[]", "7", '{"file": 3}', '{"sha256": "0"}', "\0" * 40]
        manifest.write_text("\n".join([*junk, *whole[:2], whole[2][:40]]))  # and a torn line
        half = unfinished(source.folder / "source.json")
        unfinished(images_in(source.folder).pop()).write_bytes(b"half")
        half.write_bytes(b"half")
        broken = source.folder / json.loads(whole[3])["file"]
        broken.write_bytes(broken.read_bytes()[:500])
        assert loaded(source, names) == images
        counts = sky.asked()
    assert counts.pop(f"g{names.index(json.loads(whole[3])['address'])}") == 2
    assert set(counts.values()) == {1}
    assert [path for path in source.folder.rglob(".*") if path.name != downloads.LOCK] == []
    good = [
        json.loads(line)
        for line in manifest.read_text().splitlines()[len(junk) :]
        if line != whole[2][:40]
    ]
    assert Counter(line["address"] for line in good) == Counter(names)
    adopted = next(line for line in good if line["address"] == json.loads(whole[2])["address"])
    assert adopted["attempts"] is None
    assert adopted["sha256"] == json.loads(whole[2])["sha256"]


def test_one_process_at_a_time_fetches_into_a_folder(survey):
    with Sky() as sky:
        source, names = pngs(survey, sky, 2)
        with closing(source.load(names)) as images:
            next(images)
            with pytest.raises(
                ValueError, match=r"another process is fetching into .*; wait until"
            ):
                loaded(open_service(source.dataset), names)
        assert len(loaded(source, names)) == 2


# Trouble


@pytest.mark.parametrize(
    "trouble",
    [
        "500",
        "502",
        "503",
        "504",
        "408",
        "cut",
        "short",
        "html",
        "size",
        "reset",
        "silent",
        "drip",
        "drip-status",
        "drip-header",
        "drip-continue",
        "continue",
        "headers",
        "long-header",
        "drip-chunk",
        "drip-trailer",
        "gzip",
        "429",
    ],
)
def test_what_may_pass_is_asked_for_again(survey, monkeypatch, trouble):
    monkeypatch.setattr(server, "PAUSE", 0)
    monkeypatch.setattr(fetch, "WHOLE_ANSWER", 2.0)
    waited = trouble == "silent" or trouble.startswith(("drip", "continue"))
    with Sky(script={"g1": [trouble]}) as sky:
        source, names = pngs(survey, sky, 3, timeout=0.5 if waited else 10.0)
        images = ended(partial(loaded, source, names))
        assert sky.asked() == {"g0": 1, "g1": 2, "g2": 1}
    assert images == [render(f"g{n}", "png", WIDTH) for n in range(3)]
    assert {line["address"]: line["attempts"] for line in lines(source)} == dict(
        zip(names, [1, 2, 1], strict=True)
    )
    assert lines(source, downloads.MISSING) == []


def test_a_body_that_never_ends_is_left(survey, monkeypatch):
    monkeypatch.setattr(cutouts, "LARGEST_FILE", 1 << 20)
    with Sky(script={"g0": ["endless"], "g1": ["huge"]}) as sky:
        source, names = pngs(survey, sky, 2, timeout=5.0)
        images = ended(partial(loaded, source, names))
        assert images == [render(f"g{n}", "png", WIDTH) for n in range(2)]
        assert sky.asked() == {"g0": 2, "g1": 2}


@pytest.mark.parametrize("how", ["close", "chunked"])
def test_a_body_without_a_length_is_taken(survey, how):
    with Sky(script={"g0": [how]}) as sky:
        assert loaded(*pngs(survey, sky)) == [render("g0", "png", WIDTH)]
        assert sky.asked() == {"g0": 1}


@pytest.mark.parametrize("status", ["404", "403", "401", "400", "410", "204"])
def test_what_will_not_pass_is_asked_for_once_and_listed(survey, status):
    with Sky(script={"g1": [status]}) as sky:
        source, names = pngs(survey, sky, 3)
        images = loaded(source, names)
        assert isinstance(images[1], FileNotFoundError)
        assert f"HTTP status {status}" in str(images[1])
        assert sky.asked() == {"g0": 1, "g1": 1, "g2": 1}
        (line,) = lines(source, downloads.MISSING)
        assert (line["address"], line["reason"]) == (names[1], str(images[1]))
        assert len(images_in(source.folder)) == 2
        assert loaded(source, names)[1] == render("g1", "png", WIDTH)
        assert sky.asked() == {"g0": 1, "g1": 2, "g2": 1}
    assert lines(source, downloads.MISSING) == []


@pytest.mark.parametrize(
    ("trouble", "asked", "message"),
    [
        ("500", 4, "HTTP status 500 Internal Server Error (the last of 4 attempts)"),
        ("html", 4, "no JPEG, PNG or FITS: it begins with b'<!DOCTYPE html>"),
        ("short", 4, "no whole answer"),
        ("reset", 4, "no whole answer"),
        ("cut", 2, "damaged"),
        ("size", 2, "264 x 264 pixels instead of 256 x 256; set dataset.service.width if that is"),
    ],
)
def test_attempts_have_an_end_and_missing_images_a_list(survey, trouble, asked, message):
    with Sky(script={"g1": [trouble] * 9}) as sky:
        source, names = pngs(survey, sky, 3)
        images = loaded(source, names)
        assert sky.asked() == {"g0": 1, "g1": asked, "g2": 1}
        assert message in str(images[1])
        elsewhere = pngs(survey, sky, 5)[1][4]
        missing = [line["address"] for line in lines(source, downloads.MISSING)]
        assert missing == [names[1]]
        loaded(source, [elsewhere])
    missing = [line["address"] for line in lines(source, downloads.MISSING)]
    assert missing == [names[1]]  # not asked for, so still missing
    assert isinstance(images[0], bytes)
    assert isinstance(images[2], bytes)


@pytest.mark.parametrize(("trouble", "pause"), [("429", 1.0), ("429date", 1.0)])
def test_everybody_rests_while_a_service_asks_to(survey, trouble, pause):
    with Sky(script={"g9": [trouble]}) as sky:
        source, names = pngs(survey, sky, 60, per_second=100.0)
        assert all(isinstance(image, bytes) for image in loaded(source, names))
        asked_to = next(request.time for request in sky.log if request.did == trouble)
        after = [when - asked_to for when in sky.times() if when > asked_to + 0.1]
    assert len(after) >= 40
    assert min(after) >= pause - 0.05


def test_longer_rests_are_told_and_a_day_is_too_long(survey, monkeypatch, capsys):
    monkeypatch.setattr(fetch, "SAID_PAUSE", 0.5)
    with Sky(script={"g1": ["429"], "g2": ["429day"]}) as sky:
        source, names = pngs(survey, sky, 3, at_once=1)
        loaded(source, names[:2])
        output = capsys.readouterr().err
        assert output == "127.0.0.1: HTTP status 429 Too Many Requests; pausing for 1 s\n"
        with pytest.raises(ConnectionError, match=r"for 86400 seconds; what was fetched is kept"):
            loaded(source, names)
    assert len(lines(source)) == 2
    assert lines(source, downloads.MISSING) == []


def test_a_service_that_is_not_there_ends_it_soon(survey):
    with Sky() as sky:
        source, names = pngs(survey, sky, 500)
    with pytest.raises(
        ConnectionError, match=r"127\.0\.0\.1:\d+ did not answer any of 2\d requests"
    ):
        loaded(source, names)
    assert len(lines(source, downloads.MISSING)) <= 5


def test_a_service_that_fails_on_the_way_ends_it_too(survey):
    script = {f"g{n}": ["500"] * 9 for n in range(30, 500)}
    with Sky(script=script) as sky:
        source, names = pngs(survey, sky, 500)
        with pytest.raises(
            ConnectionError, match=r"the last 20 images could not be had \(HTTP sta"
        ):
            loaded(source, names)
        assert sum(sky.asked("500").values()) <= 4 * 24
    assert len(lines(source)) == 30


def test_a_service_that_often_fails_is_asked_on(survey):
    script = {f"g{n}": ["500"] * 9 for n in range(60) if n % 10}
    with Sky(script=script) as sky:
        images = loaded(*pngs(survey, sky, 60, at_once=1, attempts=1))
    assert [isinstance(image, bytes) for image in images] == [n % 10 == 0 for n in range(60)]


def test_images_that_cannot_be_used_are_no_sign_of_a_service_that_fails(survey):
    with Sky(script={f"g{n}": ["cut"] * 2 for n in range(30)}) as sky:
        images = loaded(*pngs(survey, sky, 31))
    assert [isinstance(image, bytes) for image in images] == [False] * 30 + [True]


def test_redirections_are_followed_but_not_far_nor_anywhere(survey):
    with Sky(script={"g0": ["moved"], "g1": ["circle"] * 9, "g2": ["leave"] * 9}) as sky:
        source, names = pngs(survey, sky, 3)
        images = loaded(source, names)
        assert sky.asked() == {"g0": 1, "g0-moved": 1, "g1": 4, "g2": 1}
    assert images[0] == render("g0-moved", "png", WIDTH)
    assert "redirected more than 3 times" in str(images[1])
    assert "redirected to file:///etc/passwd, which is not http" in str(images[2])


NOWHERE = [
    "http://[::1",
    "http://[::1]x/",
    "http://[v1.x]/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:port/",
    "http://ho st/",
    "http://a\xe4..b/",
    f"http://{'a' * 300}.invalid/",
    "http://\xff\xfe/",
    "http://%zz/",
    "http://\u2100.invalid/".encode().decode("latin-1"),
    "http:///nowhere",
    "http://",
    "//",
    "http:",
    "gopher://127.0.0.1/",
    "javascript:alert(1)",
    "\x1b[31m:\x00",
    "http://me:word@127.0.0.1/images/g0.png",
    "http://" + "a/" * 20000,
]


@pytest.mark.parametrize("location", NOWHERE, ids=range(len(NOWHERE)))
def test_a_redirection_to_nowhere_loses_one_image(survey, location):
    with Sky(script={"g1": ["to " + location] * 9}) as sky:
        source, names = pngs(survey, sky, 3, attempts=1)
        images = ended(partial(loaded, source, names))
    assert isinstance(images[1], FileNotFoundError)
    assert str(images[1]).isprintable()
    assert len(str(images[1])) < 400
    assert "word" not in str(images[1])
    assert images[::2] == [render(f"g{n}", "png", WIDTH) for n in (0, 2)]
    assert [line["address"] for line in lines(source, downloads.MISSING)] == names[1:2]


# Random bytes where an answer should be


def test_whatever_comes_instead_of_an_answer_loses_one_image(survey):
    draw = random.Random(7)
    body = render("g0", "png", WIDTH)[:200]
    headers = b"Content-Length: 200\r\nLocation: http://127.0.0.1:9/a%20b\r\nRetry-After: 0\r\n\r\n"
    wholes = [b"HTTP/1.1 %d Fine\r\n%b%b" % (code, headers, body) for code in (200, 302, 429, 503)]
    wholes.append(server.CHUNKED + b"c8\r\n" + body + b"\r\n0\r\n\r\n")

    def answer():
        whole = bytearray(draw.choice(wholes))
        for _ in range(draw.randrange(1, 8)):
            at = draw.randrange(min(len(whole), 160))
            whole[at : at + draw.choice((0, 1, 1, 5))] = draw.randbytes(draw.choice((0, 1, 1, 5)))
        return bytes(whole)

    with raw(answer) as address:
        source = open_service(at(survey, address + "/{id}", attempts=1, timeout=1.0, at_once=2))
        images = []
        for first in range(0, 300, 15):  # fewer than end it all
            names = source.find(table(300))[first : first + 15]
            images += ended(partial(loaded, source, names))
    assert {type(image) for image in images} == {FileNotFoundError}
    assert all(str(image).isprintable() for image in images)


@contextmanager
def raw(answer):
    """The address of a server that says what `answer` gives to every connection, and closes it."""

    def serve():
        with suppress(OSError):
            while True:
                connection, _ = place.accept()
                with connection, suppress(OSError):
                    connection.recv(1 << 16)
                    connection.sendall(answer())

    with socket.create_server(("127.0.0.1", 0)) as place:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
        place.shutdown(socket.SHUT_RDWR)
        thread.join()


# Secrets


SECRET = "hunter2"
SECRETS = [
    f"https://me:{SECRET}@sky.invalid/{{id}}",
    f"https://{SECRET}@sky.invalid/{{id}}",
    f"https://me:{SECRET}/@sky.invalid/{{id}}",
    f"https://sky.invalid/{{id}}?layer=1&token={SECRET}",
    f"https://sky.invalid/{{id}}?api_key={SECRET}",
    f"https://sky.invalid/{{id}}?%41piKey={SECRET}",
    f"https://sky.invalid/{{id}}?X-Amz-Signature={SECRET}&a=b",
    f"HTTPS://me:{SECRET}@sky.invalid/{{id}}",
    f"hub:zoo/gz2?token={SECRET}",
]


@pytest.mark.parametrize("address", SECRETS, ids=range(len(SECRETS)))
@pytest.mark.parametrize("sweep", [False, True], ids=["one", "sweep"])
def test_a_secret_in_an_address_is_refused_before_anything_is_written(
    tmp_path, capfd, address, sweep
):
    words = ["prepare", "dataset=folder", f"dataset.images='{address}'", f"outputs={tmp_path}/out"]
    assert trizoo.main(words + (["seed=0,1", "-m"] if sweep else [])) == 2
    output = capfd.readouterr()
    assert SECRET not in output.out + output.err
    assert "dataset.images" in output.err
    assert "~/.netrc (machine HOST login NAME password WORD)" in output.err
    assert "TRIZOO_AUTHORIZATION" in output.err
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="leave it out") as error:
        from_config(DatasetSpec, folder() | {"images": address})
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        WHERE + "/{id}?key={id}&layer=ls-dr9&bands=grz&author=me",
        WHERE + ":8080/@me/{id}",
        "http://[::1]/{id}",
        "http://[::1]:80/{id}",
        "hub:zoo/gz2@main",
        "photos/me@home",
    ],
)
def test_an_address_without_a_secret_is_taken(address):
    assert from_config(DatasetSpec, folder() | {"images": address}).images == address


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY"])
def test_a_secret_is_no_part_of_a_runs_environment(name):
    config = trizoo.compose(["dataset=synthetic"])
    config["backend"]["environment"] = {name: SECRET}
    with pytest.raises(ValueError, match=rf"backend.environment sets {name}, a secret") as error:
        from_config(RunSpec, config)
    assert SECRET not in str(error.value)
    config["backend"]["environment"] = {"TOKENIZERS_PARALLELISM": "false"}
    from_config(RunSpec, config)


@pytest.mark.parametrize("by", ["variable", "netrc", "another's netrc", "damaged netrc"])
def test_who_asks_is_told_to_the_service_alone_and_kept_nowhere(
    survey, tmp_path, monkeypatch, capfd, by
):
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    host = "elsewhere.invalid" if by == "another's netrc" else "127.0.0.1"
    netrc.write_text(f"machine {host} login me password {SECRET}\n")
    if by == "variable":
        monkeypatch.setenv("TRIZOO_AUTHORIZATION", f"Bearer {SECRET}")
    if by == "damaged netrc":
        netrc.write_text(f"machine 127.0.0.1 login me {SECRET}\n")
    expected = {"variable": f"Bearer {SECRET}", "netrc": "Basic bWU6aHVudGVyMg=="}.get(by)
    with Sky() as other:
        moved = f"to {other.address}/images/g1.png"
        with Sky(script={"g1": [moved], "g2": ["401"]}) as sky:
            source, names = pngs(survey, sky, 3)
            images = loaded(source, names)
            assert {request.authorization for request in sky.log} == {expected}
        assert [request.authorization for request in other.log] == [None]
    assert [isinstance(image, bytes) for image in images] == [True, True, False]
    netrc.unlink()
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or not any(
            word in path.read_bytes() for word in (SECRET.encode(), b"bWU6", b"Bearer")
        )
    output = capfd.readouterr().err
    assert SECRET not in output
    assert ("~/.netrc is not used" in output) == (by == "damaged netrc")


def test_a_secret_that_is_no_line_is_refused_unseen(survey, monkeypatch):
    monkeypatch.setenv("TRIZOO_AUTHORIZATION", f"Bearer {SECRET}\nX-More: 1")
    with Sky() as sky:
        source, names = pngs(survey, sky)
        with pytest.raises(ValueError, match="TRIZOO_AUTHORIZATION is not one line") as error:
            loaded(source, names)
    assert SECRET not in str(error.value)


def test_a_signature_in_a_redirection_is_kept_nowhere(survey, capfd):
    signed = f"ftp://cdn.invalid/g0?layer=1&X-Amz-Signature={SECRET}"
    with Sky(script={"g0": [f"to {signed}"]}) as sky:
        source, names = pngs(survey, sky, 2)
        images = loaded(source, names)
    assert "redirected to ftp://cdn.invalid/g0?layer=1&X-Amz-Signature=... wh" in str(images[0])
    assert SECRET not in (source.folder / downloads.MISSING).read_text()
    assert SECRET not in capfd.readouterr().err


# What is in the folder


@pytest.mark.parametrize("file", ["../../x.png", "/etc/x.png", "ab/../../../x.png", 7, None, ["x"]])
def test_a_manifest_of_somebody_else_leads_nowhere(survey, tmp_path, file):
    outside = tmp_path / "x.png"
    outside.write_bytes(b"mine")
    with Sky() as sky:
        source, names = pngs(survey, sky, 2)
        images = loaded(source, names)
        manifest = source.folder / downloads.MANIFEST
        entry = json.loads(manifest.read_text().splitlines()[0])
        more = [entry | {"file": file}, entry | {"sha256": 7}, {"file": entry["file"]}, {}]
        others = ["[]", "7", "null", '"x"', "[" * 5000, "{"]
        text = manifest.read_text() + "\n".join([*map(json.dumps, more), *others]) + "\n"
        manifest.write_text(text)
        (source.folder / downloads.MISSING).write_text("[]\n{}\n" + json.dumps({"address": file}))
        assert loaded(source, names) == images
        assert sky.asked() == {"g0": 1, "g1": 1}
    assert outside.read_bytes() == b"mine"


def test_a_manifest_cannot_put_another_file_in_an_images_place(survey):
    with Sky() as sky:
        source, names = pngs(survey, sky)
        images = loaded(source, names)
        (image,) = images_in(source.folder)
        other = source.folder.parent / image.name
        other.write_bytes(render("g7", "png", WIDTH))
        sha256 = hashlib.sha256(other.read_bytes()).hexdigest()
        entry = {"file": f"../{image.name}", "sha256": sha256}
        image.unlink()
        (source.folder / downloads.MANIFEST).write_text(json.dumps(entry) + "\n")
        assert loaded(source, names) == images
        assert sky.asked() == {"g0": 2}


def test_only_what_was_half_written_here_is_removed(survey, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with Sky() as sky:
        source, names = pngs(survey, sky)
        images = loaded(source, names)
        (image,) = images_in(source.folder)
        half = [unfinished(image), unfinished(source.folder / downloads.MANIFEST)]
        (source.folder / "zz").mkdir()
        mine = [image.parent / ".nfs01", source.folder / ".mine.txt", source.folder / "zz" / ".a.b"]
        mine.append(unfinished(elsewhere / image.name))
        for path in half + mine:
            path.write_bytes(b"x")
        (source.folder / ".d.d").mkdir()
        link = "00" if image.parent.name != "00" else "11"
        (source.folder / link).symlink_to(elsewhere)
        assert loaded(source, names) == images
    assert [path.exists() for path in half + mine] == [False] * 2 + [True] * 4


def test_a_redirection_does_not_leave_https(survey, monkeypatch):
    class Pool:
        def request(self, method, url, **settings):
            assert url.startswith("https:")
            return urllib3.HTTPResponse(status=302, headers={"Location": "http://sky.invalid/g0"})

        def clear(self):
            pass

    monkeypatch.setattr(fetch, "_pool", lambda *settings: Pool())
    source = open_service(at(survey, "https://sky.invalid/{id}"))
    (image,) = loaded(source, source.find(table(1)))
    assert str(image) == "it is redirected to http://sky.invalid/g0, which is not https"


def test_no_more_are_under_way_than_allowed(survey):
    with Sky(script={"*": ["slow"]}) as sky:
        loaded(*pngs(survey, sky, 30, at_once=3))
        assert sky.peak == 3


def test_the_rate_is_kept(survey):
    with Sky(script={"g20": ["500"] * 3}) as sky:  # what is asked for again counts too
        source, names = pngs(survey, sky, 57, per_second=40.0, at_once=8)
        start = time.monotonic()
        loaded(source, names)
        assert len(sky.log) >= 60  # more where a busy machine let one wait too long
        assert time.monotonic() - start >= (len(sky.log) - 1) / 40


def test_a_proxy_that_the_environment_names_is_used(survey, monkeypatch):
    with Sky() as sky:
        monkeypatch.setenv("http_proxy", sky.address)
        monkeypatch.delenv("no_proxy", raising=False)
        source = open_service(at(survey, WHERE + server.PNG))
        assert loaded(source, source.find(table(1))) == [render("g0", "png", WIDTH)]


@pytest.mark.parametrize("trouble", [None, "silent", "drip", "500", "429"])
def test_a_load_that_is_left_ends_at_once(survey, monkeypatch, trouble):
    monkeypatch.setattr(server, "PAUSE", 60)
    monkeypatch.setattr(fetch, "BACK_OFF", 60.0)
    monkeypatch.setattr(fetch, "JOINING", 0.3)
    script = {} if trouble is None else {f"g{n}": [trouble] * 9 for n in range(5, 300)}
    with Sky(script=script) as sky:
        source, names = pngs(survey, sky, 300, timeout=1.0, per_second=30.0)
        images = source.load(names)
        for _ in range(5):
            next(images)
        ended(images.close)
        kept, asked = len(lines(source)), len(sky.log)
        time.sleep(0.2)
        assert len(lines(source)) == kept
        assert len(sky.log) <= asked + 4 < 150  # those under way
        assert kept <= len(images_in(source.folder)) <= kept + 4
        assert isinstance(loaded(source, names[:1])[0], bytes)  # nobody holds the lock
        end = time.monotonic() + 60
        while fetching() and time.monotonic() < end:
            time.sleep(0.02)
        assert not fetching()


def fetching():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fetch")]


def test_a_full_disk_is_no_missing_image(survey, monkeypatch):
    def full(path, write):
        raise OSError(28, "No space left on device")

    with Sky() as sky:
        source, names = pngs(survey, sky, 4)
        loaded(source, names[:1])
        monkeypatch.setattr(fetch, "write_whole", full)
        with pytest.raises(OSError, match="No space left"):
            loaded(source, names)
    assert lines(source, downloads.MISSING) == []


# Kills

# One process imports everything and begins a load in a fork of itself at each line it reads.
NURSERY = """
import json, os, sys
from contextlib import suppress
from shared.data.sources import fetch, service
from shared.run.spec import DatasetSpec, from_config
fetch.BACK_OFF = 0.01
config, names = json.loads(sys.stdin.readline())
source = service.open_service(from_config(DatasetSpec, config))
while sys.stdin.readline():
    child = os.fork()
    if child == 0:
        try:
            for number, give in source.load(names):
                with suppress(FileNotFoundError):
                    give()
        finally:
            os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_ten_kills_lose_nothing_and_fetch_nothing_twice(survey):
    count, at_once, kills, draw = 300, 4, 10, random.Random(5)
    trouble = dict.fromkeys(["500", "cut", "short", "html", "size", "reset", "slow"], 0.08)
    script = {"g7": ["404"] * 99, "g250": ["404"] * 99}
    kept, before = set(), Counter()
    with Troubled(trouble, seed=2, most=1, script=script) as sky, nursery() as children:
        source, names = pngs(survey, sky, count, at_once=at_once, per_second=400.0, attempts=5)
        say = partial(print, file=children.stdin, flush=True)
        say(json.dumps([to_config(source.dataset), names]))
        for _ in range(kills):
            asked, end = len(sky.log) + draw.randrange(1, 30), time.monotonic() + 30
            say()
            child = int(children.stdout.readline())
            while len(sky.log) < asked and time.monotonic() < end:
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.01))
            os.kill(child, signal.SIGKILL)
            assert int(children.stdout.readline()) == -signal.SIGKILL
            time.sleep(0.1)  # the server ends what it was sending
            assert asked_again(sky, before) & galaxies_of(kept, names) == set()
            there = {path for path in images_in(source.folder) if path.name[0] != "."}
            assert kept <= there
            kept, before = there, Counter(sky.asked())
        assert 20 < len(kept) < count - 20  # it was killed on the way
        images = loaded(source, names)
        assert asked_again(sky, before) & galaxies_of(kept, names) == set()
        served = sky.asked("ok", "slow")
    good = [number for number in range(count) if number not in (7, 250)]
    assert [images[n] for n in good] == [render(f"g{n}", "png", WIDTH) for n in good]
    missing = {line["address"] for line in lines(source, downloads.MISSING)}
    assert missing == {names[7], names[250]}
    assert sum(served.values()) - len(good) <= kills * at_once  # no more than was under way
    whole = [line for line in read_lines(source) if line.endswith("}")]  # a kill can tear one
    noted = [json.loads(line) for line in whole]
    assert Counter(line["address"] for line in noted) == Counter(names[n] for n in good)
    assert {source.folder / line["file"] for line in noted} == images_in(source.folder)


@contextmanager
def nursery():
    command = [sys.executable, "-c", NURSERY]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as children:
        yield children
        children.stdin.close()


def read_lines(source):
    return (source.folder / downloads.MANIFEST).read_text().splitlines()


def asked_again(sky, before):
    return {galaxy for galaxy, times in sky.asked().items() if times > before[galaxy]}


def galaxies_of(kept, names):
    """The galaxies whose images are the files `kept`."""
    stems = {
        hashlib.sha256(name.encode()).hexdigest()[:32]: f"g{n}" for n, name in enumerate(names)
    }
    return {stems[path.stem] for path in kept}


class Troubled(Sky):
    """A sky where some galaxies have a script and the others the trouble of chance."""

    def decide(self, galaxy, before):
        if galaxy in self.script:
            return super().decide(galaxy, before)
        script, self.script = self.script, {}
        did = super().decide(galaxy, before)
        self.script = script
        return did


def test_the_server_is_a_program_too(survey):
    command = [
        sys.executable,
        "tests/server.py",
        "--seed",
        "4",
        "--trouble",
        "500=1.0",
        "--most",
        "2",
    ]
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=environment) as child:
        address = child.stdout.readline().decode().strip()
        source = open_service(at(survey, address + server.PNG))
        assert loaded(source, source.find(table(2))) == [
            render(f"g{n}", "png", WIDTH) for n in (0, 1)
        ]
        with urllib.request.urlopen(address + "/log") as answer:
            log = json.load(answer)
        child.terminate()
    assert Counter(request["did"] for request in log) == {"500": 4, "ok": 2}
