"""The report in a real browser: controls, sorting, colours, narrow and wide, on paper, and without a script.

Skipped where there is no Chromium; TRIZOO_CHROMIUM names one that is not on the PATH.
"""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reports.report import write_report
from tests.test_report import comparison, everything, keep, record

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
    for size, batch in ((64, 32), (128, 128)):
        config = {"model.image_size": size}
        data = record(task="bench", config=config, **comparison(size=size, batch=batch))
        keep(records / "bench" / f"{size}-{batch}", data)
    return write_report(records, records.parent / "report")


SHOWN = """[...document.querySelectorAll('#speed .block')].filter(
    block => block.offsetParent !== null && block.dataset.task).map(
    block => [block.dataset.task, block.dataset.imageSizePx, block.dataset.batch].join(' '))"""
CHOOSE = """(() => {{ const select = document.querySelector('#speed select[data-facet="{0}"]');
    select.value = '{1}'; select.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"""


def test_nothing_is_complained_of_and_nothing_fetched(browser, page):
    browser.open(page)
    browser("document.querySelectorAll('button').forEach(button => button.click())")
    wrong = [event for event in browser.events if event["method"] in WRONG]
    asked = [event["params"].get("request", {}).get("url") for event in wrong]
    assert [url for url in asked if url and not url.startswith("data:")] == [page.as_uri()]
    assert not [event for event in wrong if event["method"] != "Network.requestWillBeSent"]


def test_only_the_page_s_own_script_may_run(browser, page, tmp_path):
    text = page.read_text().replace("</main>", "</main><script>document.title = 'no'</script>")
    (tmp_path / "report.html").write_text(text)
    browser.open(tmp_path / "report.html")
    assert browser("document.title") != "no"
    assert browser("document.querySelector('#speed form').hidden") is False


def test_controls_choose_what_is_shown(browser, page):
    browser.open(page)
    assert set(browser(SHOWN)) == {"train 128 128"}
    browser(CHOOSE.format("image-size-px", "64"))
    assert set(browser(SHOWN)) == {"train 64 128"}
    browser(CHOOSE.format("batch", "32"))
    browser(CHOOSE.format("task", "predict"))
    assert set(browser(SHOWN)) == {"predict 64 32"}
    browser(CHOOSE.format("image-size-px", "128"))
    assert browser(SHOWN) == []
    assert "Nothing was measured" in browser("document.querySelector('#speed .found').textContent")
    for facet in ("image-size-px", "batch", "task"):
        browser(CHOOSE.format(facet, ""))
    assert len(set(browser(SHOWN))) == 9
    assert browser("document.querySelector('#speed .found').textContent") == ""


def test_a_precision_leaves_its_rows_and_pales_other_marks(browser, page):
    browser.open(page)
    rows = """[...document.querySelectorAll('#speed .block[data-task] tbody tr')].filter(
        row => row.offsetParent !== null).map(row => row.textContent.match(/b?float\\d+/)[0])"""
    assert set(browser(rows)) >= {"float32", "bfloat16"}
    browser(CHOOSE.format("precision", "bfloat16"))
    assert set(browser(rows)) == {"bfloat16"}
    pale = """[...document.querySelectorAll('#speed figure:not(.off) g.mark')].map(
        mark => [mark.dataset.precision, getComputedStyle(mark).opacity])"""
    assert set(map(tuple, browser(pale))) == {("float32", "0.15"), ("bfloat16", "1")}


NAMED = """[...document.querySelectorAll('#speed .table:not(.off) table')].find(
    table => table.textContent.includes('Training steps'))"""


def test_headings_sort_by_mouse_and_keyboard(browser, page):
    browser.open(page)
    speeds = f"[...{NAMED}.tBodies[0].rows].map(row => parseFloat(row.cells[4].textContent.replace(',', '')))"
    heading = f"{NAMED}.querySelectorAll('th')[4]"
    begun = browser(speeds)
    assert begun == sorted(begun, reverse=True)
    browser(f"{heading}.firstElementChild.click()")
    assert browser(speeds) == sorted(begun)
    assert browser(f"{heading}.getAttribute('aria-sort')") == "ascending"
    browser(f"{heading}.firstElementChild.focus()")
    browser.press("Enter")
    assert browser(speeds) == sorted(begun, reverse=True)
    assert browser(f"{heading}.getAttribute('aria-sort')") == "descending"
    browser(f"{NAMED}.querySelectorAll('th')[0].firstElementChild.click()")
    names = browser(f"[...{NAMED}.tBodies[0].rows].map(row => row.cells[0].textContent)")
    assert names == sorted(names)
    assert browser(f"{heading}.getAttribute('aria-sort')") == "none"


def test_what_is_not_there_is_sorted_last_both_ways(browser, page):
    browser.open(page)
    heading = f"[...{NAMED}.querySelectorAll('th')].find(th => th.textContent === 'times JAX')"
    place = browser(f"[...{heading}.parentNode.children].indexOf({heading})")
    cells = f"[...{NAMED}.tBodies[0].rows].map(row => row.cells[{place}].textContent)"
    for _ in range(2):
        browser(f"{heading}.firstElementChild.click()")
        found = browser(cells)
        assert found[-2:] == ["—", "—"]
        assert "—" not in found[:-2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_the_system_s_or_the_reader_s(browser, page, scheme):
    browser.open(page, scheme=scheme)
    browser("try { localStorage.clear() } catch {}")
    browser.open(page, scheme=scheme)
    paper = "getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(253, 253, 252)", "rgb(20, 23, 26)"
    assert browser(paper) == (dark if scheme == "dark" else light)
    button = "document.getElementById('theme')"
    for expected in (light, dark):
        browser(f"{button}.click()")
        assert browser(paper) == expected
    ink = browser("getComputedStyle(document.querySelector('svg.chart text')).fill")
    assert ink == "rgb(228, 231, 234)"
    browser(f"{button}.click()")
    assert browser(f"{button}.textContent") == "theme: as the system"


@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_scrolls_sideways_but_tables_do_within(browser, page, width):
    browser.open(page, width)
    browser(
        "document.querySelectorAll('select').forEach(s => { s.value = ''; s.form.dispatchEvent(new Event('change')) })"
    )
    assert browser("document.documentElement.scrollWidth") <= width
    assert browser("innerWidth") == width
    wide = (
        "[...document.querySelectorAll('.table')].filter(t => t.scrollWidth > t.clientWidth).length"
    )
    assert browser(wide) > 0


def test_a_mark_tells_its_value_to_pointer_and_keyboard(browser, page):
    browser.open(page)
    chart = "document.querySelector('#speed figure:not(.off) svg.chart')"
    assert browser("document.getElementById('tip').hidden") is True
    browser(f"{chart}.focus()")
    tip = "document.getElementById('tip').textContent"
    assert browser(tip) == "PyTorch, bfloat16: 5,120 (4,267 to 5,689)"
    browser.press("ArrowRight")
    assert browser(tip).startswith("TensorFlow: 2,560 (")
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    assert browser(tip).startswith("JAX: 1,024 (")
    browser(f"{chart}.blur()")
    assert browser("document.getElementById('tip').hidden") is True
    browser(f"{chart}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    deadline = time.monotonic() + 120  # of a machine that is busy
    while not browser(tip).startswith("TensorFlow: ") and time.monotonic() < deadline:
        x, y = browser(  # a page that has just been scrolled may not be where it will be
            f"(() => {{ const box = {chart}.querySelectorAll('.mark rect')[1].getBoundingClientRect();"
            " return [box.x + 5, box.y + 5] })()"
        )
        browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert browser(tip).startswith("TensorFlow: 2,560 (")


def test_without_a_script_everything_is_there(browser, page):
    browser.open(page, scripts=False)
    document = browser.send("DOM.getDocument", depth=0)["root"]["nodeId"]

    def count(selector: str) -> int:
        return len(
            browser.send("DOM.querySelectorAll", nodeId=document, selector=selector)["nodeIds"]
        )

    assert count("#speed .block[data-task]") > 9
    assert count(".off") == 0
    assert count("form.controls:not([hidden])") == 0
    assert count("svg.chart .mark > title") > 50
    assert count("th button") == 0


def test_on_paper_there_are_no_controls_and_dark_on_white(browser, page):
    browser.open(page, scheme="dark", media="print")
    assert browser("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for selector in ("nav", "form.controls", "#theme"):
        style = f"getComputedStyle(document.querySelector('{selector}')).display"
        assert browser(style) == "none"
    overflow = "getComputedStyle(document.querySelector('.table')).overflowX"
    assert browser(overflow) == "visible"
    assert len(browser.send("Page.printToPDF")["data"]) > 50_000
