"""The README tells the truth: its numbers are the records', its commands compose, its tree is the tree."""

import re
import shlex
from pathlib import Path

import pytest

from reports.readme import TABLES, filled
from shared.run.config import check_used
from shared.run.spec import RunSpec, from_config
from trizoo import compose, hydra_words, key_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
LINES = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL).replace("\n", " ")
INLINE = [span for span in re.findall(r"`([^`]+)`", PROSE) if "trizoo" in span.split()[:2]]


def test_numbers_are_those_of_the_records():
    assert filled(README) == README
    assert set(re.findall(r"<!-- table (\w+) -->", README)) == set(TABLES)


@pytest.mark.parametrize(
    "line", [line for line in LINES + INLINE if "trizoo" in line and "help" not in line]
)
def test_commands_compose(line, monkeypatch):
    monkeypatch.setenv("TRIZOO_REAL_DATA", "somewhere")
    words = [
        word
        for word in shlex.split(line, comments=True)
        if not word.startswith("TRIZOO_REAL_DATA=")
    ]
    assert words[0] == "trizoo"
    overrides = [word for word in hydra_words(words[1:]) if word != "-m"]
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
    targets = [line.split()[1] for line in LINES if line.startswith("make ")]
    assert targets == ["demo", "test", "bench"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_the_tree_has_every_file():
    tree = README.split("## Where things are")[1].split("```")[1]
    named = set(re.findall(r"(\w+\.py)\b", tree))
    assert {path.name for path in (ROOT / "shared").glob("[!_]*.py")} <= named
    assert {path.name for path in (ROOT / "impl_jax").glob("[!_]*.py")} <= named
    assert all(
        (ROOT / place / name).exists() or any(ROOT.glob(f"*/{name}"))
        for name in named
        for place in (".",)
    )


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert links
    assert all((ROOT / link).exists() for link in links)


def test_settings_that_are_named_exist():
    config = compose(["dataset=gz2", "dataset.images=zip"])  # it has joins, which others have not
    for name in set(
        re.findall(r"`((?:backend|dataset|acquisition|model|posterior)\.[\w.]+)", README)
    ):
        if name == "posterior.parquet":
            continue
        place = config
        for key in name.split("."):
            assert key in place, name
            place = place[key]
