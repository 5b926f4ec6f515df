"""What a schema of questions must be: its types, and the check of what leads to what.

`Questions` holds each question's answers, in order; `Leads`, for each question that not everybody is asked, the earlier
questions that decide and those of their answers after which it is asked. What is computed from them is in
`shared.data.schema`.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

Questions = Mapping[str, Sequence[str]]
Leads = Mapping[str, Mapping[str, Sequence[str]]]


def check(questions: Questions, leads: Leads) -> None:
    """Raise ValueError unless every question of `leads` can be reached, from answers that there are."""
    for question, froms in leads.items():
        known(f"dataset.leads names the question {question!r}", question, questions)
        if not froms:
            raise ValueError(
                f"dataset.leads.{question} is empty, so nobody would be asked; name the answers that lead to it, or "
                "leave it out: then everybody is asked"
            )
        for earlier, some in froms.items():
            name = f"dataset.leads.{question}.{earlier}"
            known(f"{name} is led from by {earlier!r}", earlier, questions)
            if not some or len(set(some)) != len(some):
                raise ValueError(
                    f"{name} is {list(some)}; it must hold one or more of the answers {', '.join(questions[earlier])}, "
                    "each once"
                )
            for answer in some:
                known(f"{name} has the answer {answer!r}", answer, questions[earlier])
    layers(questions, leads)


def layers(questions: Questions, leads: Leads) -> dict[str, int]:
    """The most questions that can come before each; 0 for those that everybody is asked.

    Raises ValueError, naming it, where questions lead to each other in a circle.
    """
    found: dict[str, int] = {}

    def layer(question: str, later: tuple[str, ...]) -> int:
        if question in later:
            circle = (*later[later.index(question) :], question)
            raise ValueError(
                f"dataset.leads goes in a circle, {' -> '.join(reversed(circle))}: nobody could be asked any of "
                "them; take one of these out"
            )
        if question not in found:
            before = [layer(earlier, (*later, question)) for earlier in leads.get(question, ())]
            found[question] = 1 + max(before, default=-1)
        return found[question]

    return {question: layer(question, ()) for question in questions}


def learned(asked: Sequence[str], questions: Questions) -> list[str]:
    """Which of `questions` are meant by `asked`, names of them or "all", in their own order."""
    return [name for name in questions if "all" in asked or name in asked]


def known(sentence: str, name: str, names: Sequence[str] | Mapping) -> None:
    """Raise ValueError, which begins with what was `said`, unless `name` is one of `names`."""
    if name not in names:
        near = get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" (the nearest is {near[0]!r})" if near else ""
        raise ValueError(f"{sentence}, which is none of {', '.join(names)}{hint}; correct it")
