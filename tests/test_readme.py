"""README.md and docs/ tell the truth: numbers are the records', commands compose, links and folders are there."""

import re
import shlex

import pytest
from PIL import Image

from conf.compose import compose, compose_cloud, hydra_words, key_of
from reports.examples import PICTURE, fingerprint
from reports.readme import PAGES, ROOT, TABLES, TEXTS, filled
from shared.run.channel import split_address
from shared.run.cloud import CloudSpec
from shared.run.config import check_used
from shared.run.spec import RunSpec, from_config
from shared.tasks import POSTERIOR_FILES, TASKS

README = PAGES[0]
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}
NAMES = {page: str(page.relative_to(ROOT)) for page in PAGES}
WORDS = 1500  # of README.md, at most


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def prose(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL).replace("\n", " ")


def lines(text: str) -> list[str]:
    return [
        line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()
    ]


def commands() -> list[str]:
    """Every command of trizoo on the pages, in blocks and within sentences."""
    found = []
    for text in TEXT.values():
        spans = re.findall(r"`([^`]+)`", prose(text))
        found += [span for span in spans if "trizoo" in span.split()[:2] and span != "trizoo"]
        found += [line for line in lines(text) if "trizoo" in line]
    return [
        line
        for line in dict.fromkeys(found)
        if "help" not in line and "..." not in line and not line.startswith("import ")
    ]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=NAMES.values())
def test_numbers_are_those_of_the_records(page):
    assert filled(TEXT[page], page) == TEXT[page]


def test_every_table_is_on_one_page():
    found = re.findall(r"<!-- (?:table|text) (\w+) -->", "".join(TEXT.values()))
    assert sorted(found) == sorted([*TABLES, *TEXTS])


def test_the_readme_is_short():
    assert len(re.sub(r"<!--.*?-->", "", TEXT[README], flags=re.DOTALL).split()) <= WORDS


def test_the_picture_is_of_its_record():
    with Image.open(PICTURE) as picture:
        assert picture.text["Source"] == fingerprint()


@pytest.mark.parametrize("line", commands())
def test_commands_compose(line, monkeypatch):
    monkeypatch.setenv("TRIZOO_REAL_DATA", "somewhere")
    words = [
        word
        for word in shlex.split(line, comments=True)
        if not word.startswith("TRIZOO_REAL_DATA=")
    ]
    assert words[0] == "trizoo"
    if words[1] == "--worker":
        split_address(words[2])
        return
    if words[1] == "cloud":
        from_config(
            CloudSpec, compose_cloud([word for word in words if word.startswith("cloud")][1:])
        )
        words = [word.removeprefix("task=") for word in words if not word.startswith("cloud")]
    classes = [word for word in words if word.startswith("label=")]  # which the table would tell
    overrides = [
        word
        for word in hydra_words([word for word in words[1:] if word not in classes])
        if word != "-m"
    ]
    if "task=demo" in overrides:
        return
    check_used(overrides[0].removeprefix("task="), map(key_of, overrides))
    if (
        len(overrides) == 1
        and "-m" not in words
        and overrides[0] not in ("task=report", "task=bench")
    ):
        overrides += ["dataset=synthetic"]
    if "-m" in words:
        overrides = [re.sub(r"=([^\[,]+),.*", r"=\1", word) for word in overrides]
    from_config(RunSpec, compose(overrides))


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    found = {
        page: [line.split()[1] for line in lines(text) if line.startswith("make ")]
        for page, text in TEXT.items()
    }
    assert found[README] == ["demo", "test"]
    for target in (target for targets in found.values() for target in targets):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_tasks_are_those_there_are():
    table = TEXT[README].split("## Tasks")[1].split("##")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {*TASKS, "demo"}


def test_the_tree_has_every_folder():
    tree = TEXT[README].split("## Where things are")[1].split("```")[1]
    named = re.findall(r"^( *)(\S+/)(?:  (\S+/)  (\S+/))?", tree, re.MULTILINE)
    top = {name.rstrip("/") for indent, *names in named if not indent for name in names if name}
    rooms = {name.rstrip("/") for indent, name, *_ in named if indent}
    assert {path.parent.name for path in (ROOT / "shared").glob("*/__init__.py")} == rooms
    assert all((ROOT / name).is_dir() for name in top)
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} <= top


@pytest.mark.parametrize("page", PAGES, ids=NAMES.values())
def test_links_lead_somewhere(page):
    text = TEXT[page].replace("\n", " ")
    links = re.findall(r"\]\((?!http)([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert ROOT in (target, *target.parents), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_the_index_leads_to_every_page():
    index = TEXT[ROOT / "docs" / "index.md"]
    for page in PAGES[1:]:
        assert page.name == "index.md" or f"({page.name})" in index


@pytest.mark.parametrize("page", PAGES[1:], ids=list(NAMES.values())[1:])
def test_pages_open_with_what_they_are_for(page):
    title, _, opening, *_ = TEXT[page].splitlines()
    assert title.startswith("# ")
    assert page.name == "index.md" or opening.startswith("This page is for ")


def test_settings_that_are_named_exist():
    config = compose(["dataset=gz2", "dataset.images=zip"])  # it has joins, which others have not
    groups = "|".join(key for key, value in config.items() if isinstance(value, dict))
    for name in set(re.findall(rf"`((?:{groups})\.[\w.]+)", "".join(TEXT.values()))):
        if name in POSTERIOR_FILES:
            continue
        place = config
        for key in name.split("."):
            assert key in place, name
            place = place[key]
