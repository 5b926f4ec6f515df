"""What a task's keys mean, for `trizoo TASK --help`: from the comments in `shared.run.spec`, which alone say so."""

import ast
import io
import json
import shutil
import textwrap
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from inspect import getsource
from typing import get_type_hints

from shared.run import spec
from shared.run.config import at, uses
from shared.run.spec import RunSpec

# Groups of keys, the most used first; those of no group stand at the beginning, those of every task at the end.
ORDER = (
    "dataset",
    "split",
    "training",
    "model",
    "likelihood",
    "posterior",
    "acquisition",
    "oracle",
)
ORDER += ("match", "conform", "bench", "augmentation", "backend")
GENERAL = ("seed", "outputs", "folder", "again")
KEY, LONGEST = 30, 44  # letters of a key's column, and of a default that is shown whole


def meanings() -> dict[str, str]:
    """What each key of a run means, by its full name; keys whose name says it have an empty text."""
    text = getsource(spec)
    comments = {
        token.start[0]: (token.string.lstrip("# "), token.line.lstrip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    of_class: dict[str, dict[str, str]] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            of_class[node.name] = {
                field.target.id: _comment(field, comments)
                for field in node.body
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            }
    return dict(_by_name(RunSpec, "", of_class))


def _comment(field: ast.AnnAssign, comments: Mapping[int, tuple[str, bool]]) -> str:
    """The comment on a field: the lines of it alone that stand above, then what stands behind."""
    first = field.lineno
    while comments.get(first - 1, ("", False))[1]:
        first -= 1
    lines = range(first, (field.end_lineno or field.lineno) + 1)
    return " ".join(comments[line][0] for line in lines if line in comments)


def _by_name(kind: type, prefix: str, of_class: dict) -> Iterator[tuple[str, str]]:
    for name, inner in get_type_hints(kind).items():
        yield prefix + name, of_class[kind.__name__].get(name, "")
        if is_dataclass(inner):
            yield from _by_name(inner, f"{prefix}{name}.", of_class)


def keys_of(task: str, prefix: str = "", kind: type = RunSpec) -> Iterator[str]:
    """The full names of the keys that `task` reads, without those that are groups."""
    for name, inner in get_type_hints(kind).items():
        key = prefix + name
        if is_dataclass(inner):
            yield from keys_of(task, f"{key}.", inner)
        elif uses(task, key) and key != "task.name":
            yield key


def explained(
    task: str, config: Mapping, choices: Mapping[str, list[str]], short: Mapping[str, str]
) -> str:
    """The keys of `task` with their meanings and their defaults, those of `config`.

    `choices` are the files of each group of conf/, `short` the short names of keys.
    """
    width = max(60, min(shutil.get_terminal_size().columns, 110))
    meant, groups = meanings(), {}
    for key in keys_of(task):
        group = key.partition(".")[0] if "." in key else ("every run" if key in GENERAL else "")
        groups.setdefault(group, []).append(key)
    known = ["", *(group for group in ORDER if group in groups)]
    rest = [group for group in groups if group not in (*known, "every run", "task")]
    lines = []
    shorter = {key: name for name, key in short.items() if "." not in name}
    for group in [*known, *rest, "every run"]:
        if not (keys := groups.get(group)):
            continue
        lines.append("")
        if group in choices and uses(task, group):
            lines += _wrapped(f"{group}=", f"one of {', '.join(choices[group])}", width)
        elif group:
            lines.append(group)
        for key in keys:
            words = [f"[{_shown(at(config, key))}]", meant[key]]
            words += [f"(short: {shorter[key]}=)"] if key in shorter else []
            lines += _wrapped(f"  {key}", " ".join(filter(None, words)), width)
    more = [group for group in ("experiment", "mode", "start") if uses(task, group)]
    lines.append("")
    for group in more:
        lines += _wrapped(f"{group}=", f"one of {', '.join(choices[group])}", width)
    return "\n".join(lines).lstrip("\n") + "\n"


def _wrapped(key: str, text: str, width: int) -> list[str]:
    indent = " " * (KEY + 2)
    lines = textwrap.wrap(text, width - len(indent), break_on_hyphens=False) or [""]
    if len(key) > KEY:
        return [key, *(indent + line for line in lines)]
    return [f"{key:{KEY}}  {lines[0]}", *(indent + line for line in lines[1:])]


def _shown(value) -> str:
    """A value as the command line takes it, the middle of a long one left out."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."
