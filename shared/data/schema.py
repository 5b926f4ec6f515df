"""What volunteers are asked: questions, their answers, and the answers that lead to a question. A graph.

QUESTIONS holds each question's answers, in order; LEADS, for each question that not everybody is asked, the earlier
questions that decide and those of their answers after which it is asked. Several may lead to one question, and a
volunteer is taken to give at most one of them, as in every survey of conf/dataset. The axis of answers is all
questions' answers, one question after the other.
"""

from collections.abc import Sequence
from html import escape

import numpy as np

from shared.run.questions import Leads, Questions, known, layers

# A drawing's lengths, in pixels of a monospaced type of 12
LETTER, LINE, PAD, GAP, BETWEEN, TOP = 7.5, 18, 10, 26, 90, 52
STYLE = """\
text { font: 12px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #24292f }
.question { font-weight: bold }
.title { font-size: 16px; font-weight: bold }
rect { fill: #f6f8fa; stroke: #57606a }
path { fill: none; stroke: #0969da; stroke-width: 1.4; opacity: 0.75 }
circle { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } rect { fill: #161b22; stroke: #8b949e } path { stroke: #58a6ff } circle { fill: #58a6ff }
}"""


def answers(questions: Questions) -> list[tuple[str, str]]:
    """The axis of answers: every (question, answer)."""
    return [(question, answer) for question, some in questions.items() for answer in some]


def columns(questions: Questions) -> list[str]:
    """A catalogue's columns of votes, in the order of the axis of answers."""
    return [f"{question}_{answer}" for question, answer in answers(questions)]


def slices(questions: Questions) -> dict[str, slice]:
    """Where on the axis of answers each question's are."""
    ends = np.cumsum([len(some) for some in questions.values()]).tolist()
    return {q: slice(end - len(questions[q]), end) for q, end in zip(questions, ends, strict=True)}


def chance_asked(questions: Questions, leads: Leads, fractions: np.ndarray) -> np.ndarray:
    """The chance that a volunteer is asked each question, (galaxy, question), of `fractions` (galaxy, answer), each the
    share of an answer among those who were asked its question.

    It is the product along a path, summed over the paths: the sum, over the answers that lead to a question, of the
    chance of the earlier question x the answer's fraction. Where a question's chance is 0, its fractions may be
    anything, NaN too, and add 0; elsewhere a NaN, as of a question that was asked but never answered, makes NaN of
    what follows from it. The sum is cut at 1, which rounding may pass (and the paths of a schema that one volunteer
    could take two of).
    """
    fractions = np.asarray(fractions, np.float64)
    axis = {pair: number for number, pair in enumerate(answers(questions))}
    place = {question: number for number, question in enumerate(questions)}
    chance = np.ones((len(fractions), len(questions)))
    depth = layers(questions, leads)
    for question in sorted(leads, key=depth.__getitem__):
        total = np.zeros(len(fractions))
        for earlier, some in leads[question].items():
            asked = chance[:, place[earlier]]
            share = fractions[:, [axis[earlier, answer] for answer in some]].sum(1)
            total += np.where(asked == 0, 0.0, asked * share)
        chance[:, place[question]] = np.minimum(total, 1.0)
    return chance


def relevant(questions: Questions, leads: Leads, question: str) -> list[tuple[str, str]]:
    """Every (question, answer) on a path that leads to `question`, in the order of the axis; none:
    everybody is asked.
    """
    known(f"there is no question {question!r}", question, questions)
    found, waiting = set(), [question]
    while waiting:
        for earlier, some in leads.get(waiting.pop(), {}).items():
            waiting += [earlier] if (earlier, some[0]) not in found else []
            found |= {(earlier, answer) for answer in some}
    return [pair for pair in answers(questions) if pair in found]


def mermaid(questions: Questions, leads: Leads) -> str:
    """The schema as a Mermaid flowchart, which GitHub and others draw."""
    number = {question: f"q{i}" for i, question in enumerate(questions)}
    lines = ["flowchart LR"]
    for question, some in questions.items():
        lines.append(
            f'  {number[question]}["{_entities(question)}<br>{_entities(", ".join(some))}"]'
        )
    for question, froms in leads.items():
        for earlier, some in froms.items():
            label = _entities(" or ".join(some))
            lines.append(f'  {number[earlier]} -->|"{label}"| {number[question]}')
    return "\n".join(lines) + "\n"


def svg(questions: Questions, leads: Leads, title: str) -> str:
    """The schema as a drawing: a box for each question, and a curve from each answer that leads to one."""
    boxes, via, (width, height) = _layout(questions, leads)
    width = max(width, 2 * PAD + LETTER * 4 / 3 * len(title))
    shapes = []
    for question, froms in leads.items():
        x, y, *_ = boxes[question]
        for earlier, some in froms.items():
            left, top, wide, _ = boxes[earlier]
            stops = [*via.get((earlier, question), []), (x, x, y + LINE / 2)]
            for answer in some:
                row = top + LINE * (questions[earlier].index(answer) + 1.5)
                shapes.append(_curve(left + wide, row, stops))
    for question, some in questions.items():
        x, y, wide, high = boxes[question]
        shapes.append(f'<rect x="{x:g}" y="{y:g}" width="{wide:g}" height="{high:g}" rx="5"/>')
        for row, word in enumerate([question, *some]):
            kind = "" if row else ' class="question"'
            inset = PAD * (2 if row else 1)
            shapes.append(
                f'<text{kind} x="{x + inset:g}" y="{y + LINE * row + 14:g}">{escape(word)}</text>'
            )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
        f' height="{height:g}" role="img">\n<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n'
        f'<text class="title" x="{PAD}" y="26">{escape(title)}</text>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


def _entities(text: str) -> str:
    """`text` for the inside of Mermaid's quotes."""
    return "".join(f"#{ord(c)};" if c in '#&<>"`;' else c for c in text)


def _layout(questions: Questions, leads: Leads):
    """Boxes, question -> (x, y, width, height), a column for each layer, near what leads to them; for each (earlier,
    question) with columns between them, where its curves pass those, (left, right, y); and the whole's (width, height).
    """
    depth = layers(questions, leads)
    pairs = [(earlier, question) for question, froms in leads.items() for earlier in froms]
    boxes, via, x, bottom = {}, {}, float(PAD), 0.0

    def level(item: str | tuple[str, str]) -> float:
        """The mean height of what leads to a question, or of where a pair's curves come from."""
        if item in via:
            return via[item][-1][2]
        rows = [
            boxes[earlier][1] + LINE * (questions[earlier].index(answer) + 1.5)
            for earlier, question in ([item] if isinstance(item, tuple) else pairs)
            if question == item or isinstance(item, tuple)
            for answer in leads[question][earlier]
        ]
        return sum(rows) / len(rows) if rows else 0.0

    for layer in range(max(depth.values()) + 1):
        here = [question for question in questions if depth[question] == layer]
        passing = [pair for pair in pairs if depth[pair[0]] < layer < depth[pair[1]]]
        wide = 3 * PAD + LETTER * max(len(word) for q in here for word in (q, *questions[q]))
        y = float(TOP)
        for item in sorted([*here, *passing], key=level):
            boxed = item in questions
            high = LINE * (len(questions[item]) + 1) + PAD / 2 if boxed else LINE / 2
            y = max(y, level(item) - high / 2)
            if boxed:
                boxes[item] = (x, y, wide, high)
            else:
                via.setdefault(item, []).append((x, x + wide, y + high / 2))
            y += high + GAP
        bottom, x = max(bottom, y), x + wide + BETWEEN
    return boxes, via, (x - BETWEEN + PAD, bottom - GAP + PAD)


def _curve(x: float, y: float, stops: Sequence[tuple[float, float, float]]) -> str:
    path = f"M{x:g} {y:g}"
    for left, right, level in stops:
        half = (left - x) / 2
        path += f"C{x + half:g} {y:g} {left - half:g} {level:g} {left:g} {level:g}H{right:g}"
        x, y = right, level
    return f'<path d="{path}"/><circle cx="{x:g}" cy="{y:g}" r="3"/>'
