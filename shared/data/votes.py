"""The votes of every galaxy on every question: as counted, from classes, or rebuilt from published shares."""

import difflib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from shared.data.rows import (
    SHOWN,
    Column,
    Rows,
    as_numbers,
    as_value,
    cell_text,
    few_of,
    is_among,
    say_absent,
)
from shared.run.progress import say
from shared.run.spec import DatasetSpec

# Votes of a galaxy on a question: surveys ask about 40 volunteers, and of a galaxy that serves as an example some
# thousands. What is computed of a galaxy takes longer the more votes it has.
MOST = 1_000_000
ROUNDED = 0.005  # how far from the truth a published share may be: two decimals
CLOSE = 1e-6  # how far outside 0 to 1 a share may be, as a 32-bit number is


def votes_of(
    dataset: DatasetSpec, columns: dict[str, Column], rows: Rows
) -> dict[str, np.ndarray | list]:
    """The column votes_from, and the int32 votes of every question; nothing if the table has no votes."""
    if "label" in columns:
        return _votes_of_classes(dataset, columns["label"], rows)
    if dataset.columns.count is None and dataset.columns.fraction is None:
        return {}
    votes, kinds = {}, set()
    for question, answers in dataset.questions.items():
        given = [columns[f"{question}_{answer}"] for answer in answers]
        total = columns.get(f"{question}_total")
        if dataset.columns.fraction is None:
            kinds.add("counted")
            counts, asked = _counted(question, given, total, rows)
        elif total is not None:
            kinds.add("fractions")
            counts, asked = _rebuilt(question, given, total, rows)
        else:
            kinds.add("assumed")
            counts = _nearest(_shares(given, rows), dataset.columns.assumed_votes)
            asked = counts.sum(axis=0)
        names = [f"{question}_{answer}" for answer in (*answers, "total")]
        votes |= zip(names, np.vstack([counts, asked]).astype(np.int32), strict=True)
    return {"votes_from": _all(min(kinds), len(rows.numbers)), **votes}


def _all(word: str, count: int):
    return pd.Series(word, range(count), dtype=str).array


def _votes_of_classes(
    dataset: DatasetSpec, label: Column, rows: Rows
) -> dict[str, np.ndarray | list]:
    """One vote for the answer whose list holds the class, none at all for other classes, which are told."""
    ((question, answers),) = dataset.questions.items()
    answer_of = {}
    for answer, classes in dataset.classes.items():
        if answer not in answers:
            raise ValueError(
                f"dataset.classes has {answer!r}; {question} has the answers {', '.join(answers)}"
            )
        for value in classes:
            if answer_of.setdefault(as_value(value), answer) != answer:
                raise ValueError(
                    f"dataset.classes gives class {value!r} to {answer_of[as_value(value)]} and to {answer}; choose one"
                )
    votes = {
        f"{question}_{answer}": is_among(label.values, dataset.classes.get(answer, ())).to_numpy()
        for answer in answers
    }
    total = np.sum(list(votes.values()), axis=0, dtype=np.int32)
    if not total.any():
        there = sorted(pc.unique(label.values).to_pylist())
        raise ValueError(
            f"no galaxy has a class of dataset.classes; the column {label.name} holds {few_of(there)}. "
            "Correct one of them"
        )
    _say_left_out(dataset, label, total == 0, rows)
    votes = {name: of.astype(np.int32) for name, of in votes.items()}
    return {"votes_from": _all("class", len(total)), **votes, f"{question}_total": total}


def _say_left_out(dataset: DatasetSpec, label: Column, left: np.ndarray, rows: Rows) -> None:
    """Say which classes none of dataset.classes is, and how many galaxies of each are `left` out for that."""
    known = [value for classes in dataset.classes.values() for value in classes]
    say_absent("dataset.classes", known, label)
    counts = pd.Series(label.values.filter(pa.array(left)).to_pandas()).value_counts()
    lower = {value.lower(): value for value in known}
    classes_left = []
    for value, count in counts[:SHOWN].items():
        near = difflib.get_close_matches(value.lower(), lower, n=1)
        hint = f" (the nearest is {lower[near[0]]!r})" if near else ""
        classes_left.append(f"{value or '(empty)'!r} {count:,}{hint}")
    more = f" and {len(counts) - SHOWN} other classes" if len(counts) > SHOWN else ""
    if classes_left:
        say(
            f"left out {left.sum():,} of {len(left):,} galaxies of {rows.path}, whose {label.name} is no class of "
            f"dataset.classes: {', '.join(classes_left)}{more}"
        )


def _counted(question: str, given: list[Column], total: Column | None, rows: Rows):
    """The votes (answer, galaxy) and their total (galaxy,), whole numbers, from columns of counts."""
    counted = np.stack([as_numbers(column.values) for column in given])
    asked = None if total is None else as_numbers(total.values)
    unlabelled = np.isnan(counted).all(axis=0)
    if asked is not None:
        unlabelled &= np.isnan(asked) | (asked == 0)
        asked = np.where(unlabelled, 0, asked)
        _check_whole(total, asked, rows)
    counted[:, unlabelled] = 0
    for column, counts in zip(given, counted, strict=True):
        _check_whole(column, counts, rows)
    answered = counted.sum(axis=0)
    asked = answered if asked is None else asked
    for i in np.flatnonzero((answered > asked) | (asked > MOST))[:1]:
        raise ValueError(
            f"{rows.galaxy(i)} has {answered[i]:.0f} answers to {question} out of {asked[i]:.0f} votes; the answers "
            f"may not exceed the votes, nor these {MOST:,}. Correct the table, or set "
            "dataset.columns.total=null to count the answers"
        )
    return counted, asked


def _check_whole(column: Column, counts: np.ndarray, rows: Rows) -> None:
    whole = (counts >= 0) & (counts <= MOST) & (counts == np.floor(counts))
    for i in np.flatnonzero(~whole)[:1]:
        raise ValueError(
            f"{rows.galaxy(i)} has {cell_text(column, i)}; votes are whole numbers from 0 to {MOST:,}. Correct it (0 "
            "where nobody was asked), or remove the row"
        )


def _rebuilt(question: str, given: list[Column], total: Column, rows: Rows):
    """The votes (answer, galaxy), round(share x total), and their total (galaxy,), as published.

    A missing share is 0. Published shares are rounded, to three digits in most tables, which is exact below 1,000
    votes. Where the votes come to more than the total all the same, they are dealt out again so that they are
    exactly as many: each answer gets the whole part of its due, and those left over go to the largest remainders
    (Hamilton's method). Where they come to less, the total stays: some volunteers gave no answer that is known.
    """
    shares, asked = _shares(given, rows), as_numbers(total.values)
    unlabelled = np.isnan(shares).all(axis=0)
    asked = np.where(unlabelled & np.isnan(asked), 0, asked)
    _check_whole(total, asked, rows)
    for i in np.flatnonzero(unlabelled & (asked > 0))[:1]:
        raise ValueError(
            f"{rows.galaxy(i)} has {asked[i]:.0f} votes on {question}, but no share of any answer; correct it (0 votes "
            "where nobody was asked), or remove the row"
        )
    sums = np.nansum(shares, axis=0)
    for i in np.flatnonzero((sums > 1 + ROUNDED * len(given)) & (asked > 0))[:1]:
        raise ValueError(
            f"{rows.galaxy(i)} has shares of {question} that add up to {sums[i]:.3g}; they may not exceed 1. Correct "
            "the table, or leave the question out of dataset.questions"
        )
    votes = _nearest(shares, asked)
    many = votes.sum(axis=0) > asked
    votes[:, many] = _dealt_out(np.nan_to_num(shares[:, many]), asked[many])
    return votes, asked


def _shares(given: list[Column], rows: Rows) -> np.ndarray:
    """Shares of votes (answer, galaxy); NaN where there is none."""
    shares = np.stack([as_numbers(column.values) for column in given])
    for column, values in zip(given, shares, strict=True):
        for i in np.flatnonzero((values < -CLOSE) | (values > 1 + CLOSE))[:1]:
            raise ValueError(
                f"{rows.galaxy(i)} has {cell_text(column, i)}; a share of the votes is from 0 to 1, or empty. Correct "
                "it, or name the columns of shares in dataset.columns.fraction"
            )
    return np.clip(shares, 0, 1)


def _nearest(shares: np.ndarray, asked: np.ndarray | int) -> np.ndarray:
    return np.rint(np.nan_to_num(shares) * asked)


def _dealt_out(shares: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Whole votes (answer, galaxy) in proportion to `shares` (answer, galaxy), that add up to `asked` (galaxy,)."""
    due = shares * (asked / shares.sum(axis=0))
    votes = np.floor(due)
    left = asked - votes.sum(axis=0)
    rank = np.argsort(np.argsort(votes - due, axis=0, kind="stable"), axis=0)
    return votes + (rank < left)
