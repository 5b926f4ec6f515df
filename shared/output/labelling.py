"""Who labels which galaxy next, and how far the labelling has come. Nothing here waits for what is learned."""

import threading
import time
from collections.abc import Sequence

import numpy as np

from shared.method.label_learning import Fit, agreement
from shared.output.labels import KINDS, Labels
from shared.run.spec import RunSpec

AHEAD = 3  # galaxies that a person holds: the one on the screen, and those whose images are fetched already
LEASE = 600.0  # seconds without a word, after which what a person holds may go to others
RECENT = 12.0  # seconds; a page asks every five
LEAST_CHANCE = 1e-6  # of an answer, in a log loss


class Room:
    """People who label, and the galaxies that they are handed. Any thread may call it.

    The rows of `order` are handed out as they stand; once there is a `Fit`, all but the share label.random by its
    ranking. `kind` is what those of `order` are: random, or asked, all of them wanted by a run that waits for them.
    """

    def __init__(self, run: RunSpec, labels: Labels, order: Sequence[int], kind: str = "random"):
        self.run, self.labels, self.order, self.kind = run, labels, list(order), kind
        self.of_order = frozenset(self.order)
        self.lock = threading.Condition()
        self.fit: Fit | None = None
        self.first_information: float | None = None
        self.held: dict[str, list[int]] = {}  # who -> rows
        self.handed: dict[int, set[str]] = {}  # row -> to whom
        self.open: dict[int, None] = {}  # rows that were handed out and have too few labels
        self.labelled: dict[tuple[str, int], list[tuple[float, bool]]] = {}  # labels, see `_weigh`
        self.seen_at: dict[str, float] = {}
        self.told: set[str] = set()  # who knows that it is over
        self.finished = False
        self.next_random = self.next_chosen = 0
        for who, row in labels.shown:
            self._note(who, row)
        for who, row in [*labels.shown, *labels.standing]:
            self._weigh(who, row)
        for who in {who for who, _ in labels.shown}:
            rows = [row for person, row in labels.shown if person == who and row in self.of_order]
            self.held[who] = [row for row in rows if not labels.of(who, row).done]
            self.seen_at[who] = time.monotonic()

    def arrive(self, who: str) -> dict:
        """What the page of `who` begins with."""
        with self.lock:
            schema, ids = self.labels.schema, self.labels.ids
            history = self.labels.history(who, 20)
            return {
                "questions": [
                    {"name": name, "answers": list(some)} for name, some in schema.questions.items()
                ],
                "leads": schema.leads,
                "artifact": schema.artifact,
                "learns": self.kind == "random",
                "history": [{**one, "id": ids[one["row"]]} for one in history],
                **self.state(who),
            }

    def state(self, who: str) -> dict:
        """The galaxies that `who` holds, filled up, and how far the labelling has come."""
        with self.lock:
            self.seen_at[who] = time.monotonic()
            self._hand_out(who)
            if self.finished:
                self.told.add(who)
            galaxies = [
                {
                    "row": row,
                    "id": self.labels.ids[row],
                    "answers": self.labels.of(who, row).answers,
                }
                for row in self.held[who]
            ]
            return {"galaxies": galaxies, "progress": self.progress(), "finished": self.finished}

    def enter(self, who: str, row: int, event: dict) -> dict:
        """Write what `who` said of the galaxy in `row`, once, and give `state`; of a galaxy that is done also what the
        network had expected.

        Raises ValueError for what is no event of this run, OSError if it cannot be written.
        """
        with self.lock:
            if event.get("event") not in KINDS or not 0 <= row < len(self.labels.ids):
                raise ValueError(f"there is no galaxy {row}, or nobody can say that of it")
            event = {**event, "who": who, "galaxy": self.labels.ids[row]}
            if event["key"] not in self.labels.keys:
                self.labels.check(event)
                self.labels.add(event)
                if event["event"] == "undo" and row not in self.held.setdefault(who, []):
                    self.held[who].insert(0, row)
                self._note(who, row)
                self._weigh(who, row)
                target = self.run.label.target if self.kind == "random" else None
                self.finished |= target is not None and len(self.labelled) >= target
                self.lock.notify_all()
            return self.state(who) | {"expected": self._expected(who, row)}

    def finish(self) -> None:
        """Hand out no more."""
        with self.lock:
            self.finished = True
            self.lock.notify_all()

    def wait(self, more_than: int, seconds: float) -> bool:
        """Wait for more labels than so many, or the end, at most so many seconds; whether either came."""
        with self.lock:
            return self.lock.wait_for(
                lambda: self.finished or len(self.labelled) > more_than, seconds
            )

    def use(self, fit: Fit) -> None:
        """Go on by a new `fit`."""
        with self.lock:
            self.fit, self.next_chosen = fit, 0
            if self.first_information is None:
                self.first_information = fit.information

    def progress(self) -> dict:
        """How many labels there are, how they agree with the network's expectation, and what is left to be learned."""
        with self.lock:
            answers = [one for some in self.labelled.values() for one in some]
            return {
                "labels": len(self.labelled),
                "target": self.run.label.target if self.kind == "random" else len(self.order),
                "people": len({who for who, _ in self.labelled}),
                "agreement": agreement(answers),
                "information": None
                if self.fit is None
                else [self.fit.information, self.first_information],
            }

    def left(self) -> list[int]:
        """The rows that nobody was handed."""
        with self.lock:
            return [row for row in self.order if row not in self.handed]

    def settled(self) -> bool:
        """Whether nothing of `order` is left, and nobody is about to label a galaxy of it."""
        with self.lock:
            undone = (row for row in self.open if any(row in held for held in self.held.values()))
            return not self.left() and next(undone, None) is None

    def everybody_knows(self) -> bool:
        """Whether all whose page was heard of lately have been told that it is over."""
        with self.lock:
            now = time.monotonic()
            return {who for who, at in self.seen_at.items() if now - at < RECENT} <= self.told

    def _hand_out(self, who: str) -> None:
        held = self.held.setdefault(who, [])
        held[:] = [row for row in held if not self.labels.of(who, row).done]
        while len(held) < AHEAD and not self.finished and (found := self._next(who)):
            row, chosen = found
            expected = None
            if self.fit is not None and row not in self.fit.rows:
                expected = [round(float(share), 6) for share in self.fit.expected[row]]
            event = {"event": "shown", "who": who, "galaxy": self.labels.ids[row]}
            self.labels.add({**event, "chosen": chosen, "expected": expected})
            held.append(row)
            self._note(who, row)
            self._weigh(who, row)

    def _next(self, who: str) -> tuple[int, str] | None:
        """The row that `who` is handed next, and how it was chosen; None if there is none."""
        for row in self.open:
            if who not in self.handed[row] and self._wanted(row):
                return row, "again"
        if self.fit is not None and not self._random_turn():
            while self.next_chosen < len(self.fit.ranking):
                row = self.fit.ranking[self.next_chosen]
                if row not in self.handed:
                    return row, self.run.acquisition.name
                self.next_chosen += 1
        while self.next_random < len(self.order):
            row = self.order[self.next_random]
            if row not in self.handed:
                return row, self.kind
            self.next_random += 1
        return None

    def _random_turn(self) -> bool:
        share, turn = self.run.label.random, len(self.handed)
        return int((turn + 1) * share) > int(turn * share)

    def _wanted(self, row: int) -> bool:
        """Whether a galaxy that was handed out has too few labels, and too few people who are about to give one."""
        now, coming = time.monotonic(), 0
        for who in self.handed[row]:
            here = row in self.held.get(who, ()) and now - self.seen_at.get(who, -LEASE) < LEASE
            coming += (who, row) in self.labelled or here
        return coming < self.run.label.per_galaxy

    def _note(self, who: str, row: int) -> None:
        self.handed.setdefault(row, set()).add(who)

    def _weigh(self, who: str, row: int) -> None:
        """Count the label of `who`, if it is one, with the log loss of each answer and whether it was the likeliest.

        Only of galaxies that came at random, where something was expected: these alone stand for all.
        """
        self.labelled.pop((who, row), None)
        given, shown = self.labels.of(who, row), self.labels.shown.get((who, row), {})
        if given.counts:
            honest = shown.get("chosen") == "random" and given.ended is None
            found = self._compared(given.answers, shown.get("expected")) if honest else []
            self.labelled[who, row] = [(one["loss"], one["agrees"]) for one in found]
        labels = sum((person, row) in self.labelled for person in self.handed.get(row, ()))
        if labels < self.run.label.per_galaxy and row in self.of_order:
            self.open[row] = None
        else:
            self.open.pop(row, None)

    def _compared(self, answers: dict[str, str], expected: list[float] | None) -> list[dict]:
        """Each of `answers` beside the shares that were `expected` of its question's."""
        found, end = [], 0
        for question, outputs in self.run.asked:
            start, end = end, end + len(outputs)
            if expected is None or question not in answers:
                continue
            shares = expected[start:end]
            given = next(i for i, some in enumerate(outputs) if answers[question] in some)
            likeliest = int(np.argmax(shares))
            found.append(
                {
                    "question": question,
                    "likeliest": called(outputs, likeliest),
                    "share": shares[likeliest],
                    "loss": -float(np.log(max(shares[given], LEAST_CHANCE))),
                    "agrees": given == likeliest,
                }
            )
        return found

    def _expected(self, who: str, row: int) -> list[dict]:
        given, shown = self.labels.of(who, row), self.labels.shown.get((who, row), {})
        return self._compared(given.answers, shown.get("expected")) if given.done else []


def called(outputs: Sequence[Sequence[str]], number: int) -> str:
    """What the answers of an output are called: the other one's denied, where these are many and that is one."""
    own, *others = outputs[number], *(some for i, some in enumerate(outputs) if i != number)
    return (
        f"not {others[0][0]}"
        if len(own) > 1 and list(map(len, others)) == [1]
        else " or ".join(own)
    )
