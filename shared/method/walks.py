"""One volunteer's walk through a schema of questions: every way from the first question to the last one asked.

A volunteer answers each question that is asked, so a walk is a set of (question, answer), and its probability, given a
sample of the posterior, is the product of their vote fractions. Each framework's `walk_information` computes what a
walk tells about the network, exactly, from the `Walks` made here; `information_bound` is cheap, and never less.
"""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np
from scipy.special import entr

from shared.data.schema import answers, chance_asked, slices
from shared.method.scoring import in_chunks, padded_chunks
from shared.run.questions import Leads, Questions, check

MOST_WALKS = 2**16  # through one schema, which are half a megabyte a galaxy
_TOO_MANY = (
    "there are {} ways or more through these {} questions, and "
    f"at most {MOST_WALKS} are summed over; leave out questions, or take the sum over questions, information_bound"
)


class Branch(NamedTuple):
    """Answers to one question, after any of which the same is asked."""

    answers: tuple[int, ...]  # their places on the axis of answers
    next: int  # the node where a volunteer is then


class Walks(NamedTuple):
    """Every walk through a schema, as a graph that is small where walks are many: these share what they have in common.

    A node is a question, and what else is to be asked yet; node 0 is the end of all walks. They begin at the last node,
    and a branch leads to a node before its own. Hashable, so that a framework compiles once for a schema.
    """

    nodes: tuple[tuple[Branch, ...], ...]
    cut: int  # walks are computed as their beginnings at nodes from here on, times their ends at those before
    count: int  # of walks
    products: int  # of a sample's beginnings and ends, all nodes together
    ends: tuple[int, ...]  # where on the axis of answers each question's end


def walks_of(questions: Questions, leads: Leads) -> Walks:
    """Every walk through the schema; ValueError for a schema that is wrong, or of more than MOST_WALKS walks.

    A question is asked if any answer that was given leads to it, and then once; one that no answer leads to is asked
    of everybody.
    """
    check(questions, leads)
    nodes = _nodes(questions, leads)
    count = _ends(nodes)[-1]
    if count > MOST_WALKS:
        raise ValueError(_TOO_MANY.format(count, len(questions)))
    products, cut = min((_products(nodes, cut), cut) for cut in range(1, len(nodes) + 1))
    return Walks(nodes, cut, count, products, tuple(s.stop for s in slices(questions).values()))


def _nodes(questions: Questions, leads: Leads) -> tuple[tuple[Branch, ...], ...]:
    """The nodes of `Walks`, those of questions that are asked late first."""
    places = {pair: place for place, pair in enumerate(answers(questions))}
    asked_after = {
        (earlier, answer): [
            question for question in leads if answer in leads[question].get(earlier, ())
        ]
        for earlier, answer in places
    }
    order = _order(questions, leads)
    # questions that are to be asked yet -> questions after an answer to the first of them -> such answers
    left: dict[tuple[str, ...], dict] = {(): {}}

    def walk(asked: tuple[str, ...]) -> None:
        if asked in left:
            return
        if len(left) > MOST_WALKS:  # then the walks are as many, at least
            raise ValueError(_TOO_MANY.format(len(left), len(questions)))
        left[asked] = {}
        for answer in questions[asked[0]]:
            after = {*asked[1:], *asked_after[asked[0], answer]}
            after = tuple(question for question in order if question in after)
            left[asked].setdefault(after, []).append(places[asked[0], answer])
            walk(after)

    walk(tuple(question for question in order if question not in leads))
    states = sorted(
        left, key=lambda asked: order.index(asked[0]) if asked else len(order), reverse=True
    )
    number = {asked: node for node, asked in enumerate(states)}
    return tuple(
        tuple(Branch(tuple(some), number[after]) for after, some in left[asked].items())
        for asked in states
    )


def _order(questions: Questions, leads: Leads) -> list[str]:
    """The questions, each after those that lead to it, and as soon as may be: then few nodes stand for all walks."""
    order: list[str] = []

    def visit(question: str) -> None:
        if question not in order and all(earlier in order for earlier in leads.get(question, ())):
            order.append(question)
            for later in leads:
                if question in leads[later]:
                    visit(later)

    for question in questions:
        if question not in leads:
            visit(question)
    return order


def _ends(nodes: tuple[tuple[Branch, ...], ...]) -> list[int]:
    """How many ways there are from each node to the end."""
    ends = [1]
    for branches in nodes[1:]:
        ends.append(sum(len(branch.answers) * ends[branch.next] for branch in branches))
    return ends


def _beginnings(nodes: tuple[tuple[Branch, ...], ...], cut: int) -> list[int]:
    """How many ways there are to each node from the last one, through nodes from `cut` on."""
    found = [0] * (len(nodes) - 1) + [1]
    for node in range(len(nodes) - 1, cut - 1, -1):
        for branch in nodes[node]:
            found[branch.next] += found[node] * len(branch.answers)
    return found


def _products(nodes: tuple[tuple[Branch, ...], ...], cut: int) -> int:
    """How many beginnings and ends are computed if walks are cut there."""
    return sum(_ends(nodes)[:cut]) + sum(_beginnings(nodes, cut))


def over_walks(device: Any, score: Callable, fractions: np.ndarray, walks: Walks) -> np.ndarray:
    """Scores (galaxy,) of `fractions` (galaxy, sample, answer), a few galaxies at a time.

    `score` computes those of a chunk on the `device`, a module with `to_device` and `to_numpy`, from fractions and
    `walks`. Raises ValueError for fractions that are not such.
    """
    fractions = np.asarray(fractions)
    check_fractions(fractions, walks)
    _, samples, answers = fractions.shape
    each = samples * (walks.products + 2 * answers) + walks.count
    return in_chunks(device, score, fractions, [walks], each)


def check_fractions(fractions: np.ndarray, walks: Walks) -> None:
    """Raise ValueError unless `fractions` are (galaxy, sample, answer), and each question's at least 0 and of sum 1."""
    if fractions.ndim != 3 or not fractions.shape[1] or fractions.shape[2] != walks.ends[-1]:
        raise ValueError(
            f"fractions have the shape {fractions.shape}; they must be (galaxy, sample, answer), with a sample or "
            f"more and the {walks.ends[-1]} answers of the questions"
        )
    question = np.searchsorted(walks.ends, np.arange(walks.ends[-1]), "right")
    sums = fractions @ np.eye(len(walks.ends), dtype=fractions.dtype)[question]
    wrong = ~((fractions.min((1, 2)) >= 0) & (np.abs(sums - 1) < 1e-3).all((1, 2)))
    if wrong.any():
        raise ValueError(
            f"the fractions of galaxy {wrong.argmax()} are not at least 0 with the sum 1 for each question; give vote "
            "fractions, the answers of one question after the other"
        )


def information_bound(questions: Questions, leads: Leads, fractions: np.ndarray) -> np.ndarray:
    """What one volunteer's walk can tell about the network at most (galaxy,), in nats, of vote `fractions` (galaxy,
    sample, answer).

    The sum over questions of the probability of being asked x what the answer tells then: H[mean p] - mean H[p], the
    means over samples weighted by their probability of asking, which is that of `shared.data.schema.chance_asked`.
    A walk tells the sum of what each answer tells beyond those given before. That is never more: the entropy of an
    answer given earlier ones is at most that given only that the question was asked, and given the network both are the
    same. The sum counts several times what several answers tell alike.

    With equal weights (the mean probability of being asked x what the answer would tell if everybody were asked) it is
    no bound: samples that ask a question may differ in it more than the others do.
    """
    parts = [np.zeros(0)]
    for rows, count in padded_chunks(len(fractions), 4 * prod(fractions.shape[1:])):
        parts.append(_sum_over_questions(questions, leads, fractions[rows])[:count])
    return np.concatenate(parts)


def _sum_over_questions(questions: Questions, leads: Leads, fractions: np.ndarray) -> np.ndarray:
    galaxies, samples, _ = fractions.shape
    fractions = fractions.astype(np.float64)
    asked = chance_asked(questions, leads, fractions.reshape(galaxies * samples, -1))
    asked = asked.reshape(galaxies, samples, -1)
    total = np.zeros(galaxies)
    for question, place in enumerate(slices(questions).values()):
        chance = asked[..., question].mean(1)
        weights = asked[..., question] / np.where(chance > 0, chance, 1)[:, None] / samples
        each = fractions[..., place]
        mixed = (weights[..., None] * each).sum(1)
        total += chance * (entr(mixed).sum(1) - (weights * entr(each).sum(2)).sum(1))
    return total
