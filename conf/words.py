"""From Python's keyword arguments and objects to the words of a command line that mean the same."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from conf.compose import CONF, SHORT_NAMES, all_keys, kind_of, nearest, takes_text
from shared.run.config import uses
from shared.run.errors import short
from shared.run.spec import RunSpec

PLAIN = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)  # a text that Hydra takes for one as it stands
MEANT_OTHERWISE = ("null", "true", "false", "nan", "inf")  # but these, in any case
FIRST = (
    "dataset.",
    "model.",
    "training.",
)  # groups whose keys are meant before others of that name
DOTTED = re.compile(r"[A-Za-z_$][\w$-]*|0|[1-9]\d*", re.ASCII)  # a name that a key may hold


def words_of(task: str, given: Iterable[str | Mapping], keys: Mapping[str, Any]) -> list[str]:
    """The words for `keys` of a run of `task`; `given` are words as they are typed, or more such keys.

    A key is named in full (dataset.images) or by its last part (`full_name`), or is a group with a choice
    (backend="jax") or a dict of keys within. Raises ValueError for a name that could mean two keys, for one that means
    none, for a key given twice, and for a value that no word can say.
    """
    words = []
    for one in given:
        words += [one] if isinstance(one, str) else _words(task, one)
    words += _words(task, keys)
    named = [word.partition("=")[0] for word in words if "=" in word]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise ValueError(f"{twice} is given twice; leave one out")
    return words


def full_name(task: str, name: str) -> str:
    """The whole name of the key, or of the group, that `name` is short for in a run of `task`.

    That is the one key that the task uses whose last part it is: of those in groups FIRST, or if there is none of all.
    """
    if name in SHORT_NAMES:
        return SHORT_NAMES[name]
    top = get_type_hints(RunSpec)
    groups = {place.name for place in CONF.iterdir() if place.is_dir()}
    own = re.search(r"[./@]", name) or name in {*top, *groups}
    if own and (uses(task, name) or not re.fullmatch(r"\w+", name)):
        return name
    inside = [key for key in all_keys() if key.count(".") == 1 and not key.startswith("task.")]
    meant = [key for key in inside if key.endswith(f".{name}")]
    used = [key for key in meant if uses(task, key)]
    if own and not used:  # that the task does not use it is said later
        return name
    meant = used or meant
    meant = [key for key in meant if key.startswith(FIRST)] or meant
    if len(meant) == 1:
        return meant[0]
    if not meant:
        short = {key.partition(".")[2] for key in inside}
        raise ValueError(f"no key {name}; {nearest(name, sorted({*top, *groups, *short}))}")
    group, _, _ = meant[0].partition(".")
    raise ValueError(
        f"{name} could be {' or '.join(meant)}; name it in full: {group}={{{name!r}: ...}} or "
        f"**{{{meant[0]!r}: ...}}"
    )


def value_text(value: Any) -> str:
    """What stands for `value` after the = of a word; ValueError for what has no word: a function, a date."""
    from hydra.core.override_parser.types import Quote, QuotedString

    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return (int if isinstance(value, int) else float).__repr__(value)
    if isinstance(value, os.PathLike):
        value = os.fsdecode(value)
    if isinstance(value, str):
        if PLAIN.fullmatch(value) and value.lower() not in MEANT_OTHERWISE:
            return str(value)
        # ${ begins what refers to another key, unless a backslash stands before it; those before that one are doubled
        literal = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", value)
        return QuotedString(literal, Quote.double).with_quotes()
    if isinstance(value, Mapping):
        inside = (f"{_dict_key(name)}: {value_text(one)}" for name, one in value.items())
        return f"{{{', '.join(inside)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays, a column of pandas
        return value_text(value.tolist())
    raise ValueError(
        f"{short(repr(value))} is a {type(value).__name__}; give a text, a path, a number, True, False, None, or a "
        "list or a dict of these"
    )


def _words(task: str, keys: Mapping[str, Any]) -> list[str]:
    found = []
    for name, value in keys.items():
        key = full_name(task, name)
        try:
            found += [f"{key}={text}" for key, text in _flat(key, value, kind_of(key.lstrip("+~")))]
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    return found


def _flat(key: str, value: Any, kind: Any) -> Iterator[tuple[str, str]]:
    """Each key that `value` of `key`, of the `kind` that RunSpec has there, gives a value, with its text."""
    if isinstance(value, Mapping) and value and all(map(_dotted, value)):
        entries = get_args(kind)[1] if get_origin(kind) is dict else None
        added = (
            "++" if entries is not None and key[0] != "+" else ""
        )  # else Hydra knows no such key
        for name, one in value.items():
            inner = entries or (get_type_hints(kind).get(name) if is_dataclass(kind) else None)
            yield from _flat(f"{added}{key}.{name}", one, _wanted(inner))
        return
    if isinstance(value, str | os.PathLike) and takes_text(key.lstrip("+")):
        value = os.path.expanduser(os.fsdecode(value))  # noqa: PTH111, Path's cannot leave it where there is no home
    if isinstance(value, Mapping) and get_origin(kind) is dict and key[0] != "+":
        key = f"++{key}"
    yield key, value_text(value)


def _wanted(kind: Any) -> Any:
    """`kind`, or what it is when it is not None."""
    return get_args(kind)[0] if type(None) in get_args(kind) else kind


def _dotted(name: Any) -> bool:
    return isinstance(name, str) and DOTTED.fullmatch(name) is not None


def _dict_key(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is the name of an entry; it must be a text")
    return re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", name)
