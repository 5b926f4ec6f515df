"""The report in a real browser: the first screen, controls, links to a state, narrow and wide, and without a script.

Skipped where there is no Chromium; TRIZOO_CHROMIUM names one that is not on the PATH.
"""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reports.report import write_report
from tests.test_report import RECORDS, everything

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FOUND = os.environ.get("TRIZOO_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(FOUND is None, reason="no Chromium (TRIZOO_CHROMIUM names one)")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")
START = """import os, sys
from fcntl import F_DUPFD, fcntl
for place, end in zip((3, 4), [fcntl(int(end), F_DUPFD, 10) for end in sys.argv[1:3]]):
    os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])"""
WRONG = ("Runtime.exceptionThrown", "Log.entryAdded", "Network.requestWillBeSent")


class Browser:
    """DevTools' protocol over descriptors 3 (commands) and 4 (answers and events): JSON, each ended by a zero byte."""

    def __init__(self, profile: Path):
        commands, self.pen = os.pipe()
        answers, there = os.pipe()
        program = [FOUND, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(commands), str(there), *program],
            pass_fds=(commands, there),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(there)
        self.ear, self.heard = os.fdopen(answers, "rb", buffering=0), b""
        self.numbers, self.events, self.session = itertools.count(1), [], None

    def send(self, method: str, **params) -> dict:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session and not method.startswith("Browser"):
            message["sessionId"] = self.session
        os.write(self.pen, json.dumps(message).encode() + b"\0")
        while (answer := self.hear()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def hear(self) -> dict:
        while b"\0" not in self.heard:
            more = self.ear.read(1 << 16)
            assert more, "the browser has gone"
            self.heard += more
        message, self.heard = self.heard.split(b"\0", 1)
        return json.loads(message)

    def open(self, page: Path, width=1280, scheme="light", media="", scripts=True) -> None:
        self.session, self.events = None, []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        found = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self.session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=media, features=features)
        self.send("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.send("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self.hear())

    def __call__(self, code: str):
        found = self.send("Runtime.evaluate", expression=code, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        codes = {"Enter": 13, "ArrowRight": 39, "ArrowLeft": 37}
        keys = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **keys, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **keys)

    def close(self) -> None:
        self.session = None
        with contextlib.suppress(AssertionError, OSError):
            self.send("Browser.close")
        self.process.wait(30)
        os.close(self.pen)
        self.ear.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    records = everything(tmp_path_factory.mktemp("records"))
    return write_report(records, records.parent / "report")


@pytest.fixture(scope="module")
def frameworks(tmp_path_factory) -> Path:
    """Of the committed records."""
    page = write_report(RECORDS, tmp_path_factory.mktemp("committed"))
    return page.with_name("comparison.html")


def bottom(browser, selector: str) -> float:
    return browser(f"document.querySelector('{selector}').getBoundingClientRect().bottom")


def type_in(browser, words: str) -> None:
    browser(
        f"words.value = '{words}'; words.dispatchEvent(new Event('input', {{bubbles: true}})); 0"
    )


def test_the_answer_is_on_the_first_screen(browser, frameworks):
    browser.open(frameworks)
    assert 0 < bottom(browser, "#answer") < bottom(browser, "#findings") <= 800
    assert browser("document.querySelectorAll('#findings li').length") == 3


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_are_short_and_never_scroll_sideways(browser, page, frameworks, width):
    for one in (
        page,
        page.with_name("rosetta.html"),
        frameworks,
        frameworks.with_name("report.html"),
    ):
        browser.open(one, width)
        assert browser("document.documentElement.scrollWidth") <= width
        if width == 1280 and one.name != "rosetta.html":
            assert browser("document.documentElement.scrollHeight") <= 8 * 800
        here = one.as_uri()
        wrong = [e for e in browser.events if e["method"] in WRONG and here not in json.dumps(e)]
        assert wrong == []


def test_words_choose_rows_and_the_address_keeps_them(browser, page):
    rows = "[...document.querySelectorAll('#how-good tbody tr')].filter(r => !r.hidden).length"
    browser.open(page)
    assert browser(rows) == 4
    type_in(browser, "jax")
    assert browser(rows) == 1
    assert browser("document.getElementById('galaxies').hidden") is True
    link = browser("location.href")
    assert link.endswith("#show=jax")
    browser("location.hash = ''; restore(); 0")
    assert browser(rows) == 4
    browser(f"location.href = '{link}'; restore(); 0")
    assert browser(rows) == 1


def test_numbers_are_compared_with_those_of_a_run(browser, page, frameworks):
    browser.open(page)
    browser("base.selectedIndex = 1; form.dispatchEvent(new Event('input')); 0")
    first, second = browser(
        "[...document.querySelectorAll('#how-good tbody tr')].slice(0, 2).map(r => r.cells[3].textContent)"
    )
    assert "%" not in first
    assert second.endswith("+0.95 %")
    browser.open(frameworks)
    browser("base.value = 'PyTorch'; compare(); 0")
    notes = browser("[...document.querySelectorAll('#answer .vs')].map(n => n.textContent)")
    assert len(notes) == 9
    assert all(note.startswith("× ") for note in notes)


def test_headings_sort_by_mouse_and_keyboard(browser, page):
    column = "[...document.querySelectorAll('#how-good tbody tr')].map(r => parseFloat(r.cells[3].textContent))"
    browser.open(page)
    browser("document.querySelectorAll('#how-good th button')[3].click()")
    assert browser(column) == sorted(browser(column))
    browser("document.querySelectorAll('#how-good th button')[3].focus()")
    browser.press("Enter")
    assert browser(column) == sorted(browser(column), reverse=True)


def test_a_chart_tells_its_points_to_the_keyboard(browser, page):
    browser.open(page)
    browser("document.querySelector('#how-honest svg.chart').focus()")
    browser.press("ArrowRight")
    assert " at " in browser("tip.textContent")
    browser("document.querySelector('#how-honest svg.chart').blur()")
    assert browser("tip.hidden") is True


def test_plain_programs_are_switched_on(browser, page):
    browser.open(page.with_name("rosetta.html"))
    there = "document.querySelector('.column.plain_torch').offsetParent !== null"
    assert browser(there) is False
    browser("document.getElementById('show-plain_torch').click()")
    assert browser(there) is True


def test_without_a_script_everything_is_there(browser, page):
    browser.open(page, scripts=False)
    document = browser.send("DOM.getDocument", depth=0)["root"]["nodeId"]

    def count(selector: str) -> int:
        found = browser.send("DOM.querySelectorAll", nodeId=document, selector=selector)
        return len(found["nodeIds"])

    assert count("#controls[hidden]") == 1
    assert count("svg.chart .mark > title") > 50
    assert count("th button") == 0
