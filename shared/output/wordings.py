"""Which task of a workflow asks which question, and which of its answers is which."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from shared.output.exports import NAMED, Classification, Pair
from shared.run.spec import OracleSpec

APOSTROPHES = "'\u2018\u2019\u02bc`\u00b4"
TELLING = "%#?"  # punctuation that tells answers apart, as symbols of mathematics (+, <, =) do
NO_LABEL = "unknown answer label"  # what Zooniverse writes for one that a workflow has no more
PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)")  # in Markdown, of which answers are made


def folded(text: str) -> str:
    """`text` without pictures, case and superfluous spaces."""
    text = unicodedata.normalize("NFC", PICTURE.sub(" ", text)).casefold()
    return " ".join(text.split())


def _letters(text: str) -> str:
    """The letters and digits of `text`, by which tasks are known."""
    return "".join(c for c in folded(text) if c.isalnum())


def _spaced(text: str) -> str:
    """`text` as `folded`, with spaces for the punctuation that does not tell answers apart."""
    text = re.sub(r"(?<!\w)-(?=\d)", "\u2212", folded(text))  # a minus, which is no hyphen
    kept = "".join(
        c if c.isalnum() or c in TELLING or unicodedata.category(c) == "Sm" else " "
        for c in text
        if c not in APOSTROPHES
    )
    return " ".join(kept.split())


def _bare(text: str) -> str:
    """`text` without the spaces and the punctuation that do not tell answers apart.

    4+, <4, -4 and 4? are not 4, and 1-2 is not 12; Can't tell. is cant-tell.
    """
    return re.sub(r"(?<!\d) | (?!\d)", "", _spaced(text))


def worded_questions(classifications: list[Classification]) -> dict[str, tuple[str, ...]]:
    """The questions and answers of tasks that take one answer, named as they are worded; answers nobody gave are not.

    Raises ValueError if two answers to a question have the same name.
    """
    texts, other = defaultdict(set), set()
    for one in classifications:
        for pair, some in one.answers:
            if some is None or len(some) > 1:
                other.add(pair)
            elif some and some[0] != NO_LABEL:
                texts[pair].add(folded(some[0]))
    questions = defaultdict(dict)
    for pair in sorted(texts.keys() - other):
        question = "-".join(re.findall(r"\w+", folded(pair[1]) or pair[0]))
        for text in sorted(texts[pair]):
            answer = _spaced(text).replace(" ", "-")
            if not answer or questions[question].setdefault(answer, text) != text:
                raise ValueError(
                    f"task {_named(pair)} was answered {text!r}, for which there is no name of its own; name all "
                    f"answers with oracle.questions, such as '+oracle.questions={{{question}: [yes,no]}}', and what "
                    "they are called there with oracle.answers"
                )
    return {question: tuple(found) for question, found in questions.items() if len(found) > 1}


def new_answers(classifications: list[Classification], tasks: dict[Pair, str]) -> Iterator[str]:
    """Lines about `tasks` of the same words that had other answers in an earlier version of the workflow.

    Where more arms than four could be said later on, four meant four or more before.
    """
    given = defaultdict(lambda: defaultdict(Counter))
    for one in classifications:
        for pair, some in one.answers:
            if pair in tasks and some and some != (NO_LABEL,):
                given[pair][major(one.version)].update(map(folded, some))
    for pair, versions in given.items():
        for before, after in pairwise(sorted(versions, key=_as_number)):
            if new := sorted(versions[after].keys() - versions[before].keys()):
                yield (
                    f"task {_named(pair)} was answered {', '.join(new[:NAMED])} in version {after} of the workflow, "
                    f"but never in version {before}; if that could not be answered before, count one version alone: "
                    f"oracle.version={after}"
                )


def major(version: str) -> str:
    """The part of a workflow's `version` that rises when its tasks are changed: 16 of 16.55."""
    return version.partition(".")[0]


def _as_number(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (-1, text)


def known_words(
    oracle: OracleSpec, questions: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, str]]:
    """Question -> text -> the answer that is meant; '': no vote."""
    return {
        question: {answer: answer for answer in some}
        | {text: ours for text, ours in oracle.answers.items() if not ours or ours in some}
        for question, some in questions.items()
    }


def _meanings(known: Mapping[str, str], texts: Iterable[str]) -> dict[str, str]:
    """What those of `texts` mean that are among the `known` ones.

    A text is known to the letter; else but for case and spaces; else but for punctuation, unless that makes two known
    ones, or two of `texts`, the same.
    """
    texts = set(texts)
    found = {text: known[text] for text in texts if text in known}
    for shorten in (folded, _bare):
        ours, theirs = defaultdict(set), defaultdict(set)
        for text, answer in known.items():
            ours[shorten(text)].add(answer)
        for text in texts:
            theirs[shorten(text)].add(folded(text))
        for text in texts - found.keys():
            short = shorten(text)
            if short and len(ours[short]) == len(theirs[short]) == 1:
                found[text] = next(iter(ours[short]))
    return found


def match_tasks(
    classifications: list[Classification],
    oracle: OracleSpec,
    questions: Mapping[str, Sequence[str]],
    known: dict[str, dict[str, str]],
) -> tuple[dict[Pair, str], list[str]]:
    """The question that each task asks, of those that ask one of `questions`, and lines that tell it.

    As oracle.tasks says, of tasks or of their words; where that is empty, by the task's words, else by all that was
    answered to it.
    """
    texts = defaultdict(set)
    for one in classifications:
        for pair, some in one.answers:
            texts[pair].update(some or ())
    if oracle.tasks:
        by_words = {_letters(words): question for words, question in oracle.tasks.items()}
        named = {
            pair: by_words[words] for pair in texts if (words := _letters(pair[1])) in by_words
        }
        tasks = {pair: oracle.tasks[pair[0]] for pair in texts if pair[0] in oracle.tasks}
        _check_wordings(
            {pair: tasks[pair] for pair in tasks.keys() - named.keys()}, classifications
        )
        tasks, messages = tasks | named, []
    else:
        names = Counter(map(_letters, questions))
        plain = {_letters(question): question for question in questions}
        tasks = {
            pair: plain[name]
            for pair in sorted(texts)
            for name in [_letters(pair[1]), _letters(pair[0])]
            if name and names[name] == 1
        }
        left = [pair for pair in sorted(texts) if pair not in tasks]
        free = [question for question in questions if question not in tasks.values()]
        tasks |= _by_answers({pair: texts[pair] - {NO_LABEL} for pair in left}, free, known)
        _check_wordings(tasks, classifications)
        messages = [f"task {_named(pair)} is taken for {tasks[pair]}" for pair in sorted(tasks)]
    messages += new_answers(classifications, tasks)
    if other := [_named(pair) for pair in sorted(texts) if pair not in tasks]:
        messages.append(f"tasks that ask none of the questions: {', '.join(other[:NAMED])}")
    if unasked := [question for question in questions if question not in tasks.values()]:
        messages += [f"no task asked {', '.join(unasked)}"] if classifications else []
    return tasks, messages


def _check_wordings(tasks: dict[Pair, str], classifications: list[Classification]) -> None:
    """Raise ValueError if one task is taken for a question in several wordings: the workflow was changed on the way."""
    wordings = defaultdict(dict)
    for (task, words), question in sorted(tasks.items()):
        if _letters(words):
            wordings[task, question].setdefault(_letters(words), words)
    for (task, question), found in wordings.items():
        if len(found) > 1:
            descriptions = [_wording(task, words, classifications) for words in found.values()]
            first = " ".join(re.sub(r"\W", " ", folded(next(iter(found.values())))).split())
            versions = {major(one.version) for one in classifications}
            latest = max(versions, key=_as_number)
            raise ValueError(
                f"task {task} is taken for {question}, but was asked in several wordings: {'; '.join(descriptions)}. "
                f"Say with oracle.tasks which of these ask {question}, all of them if they mean the same, by their "
                f"words: such as '+oracle.tasks={{{first}: {question}}}'; or count one version of the workflow alone, "
                f"such as oracle.version={latest}"
            )


def _wording(task: str, words: str, classifications: list[Classification]) -> str:
    versions = [
        one.version
        for one in classifications
        for pair, _ in one.answers
        if pair[0] == task and _letters(pair[1]) == _letters(words)
    ]
    named_versions = ", ".join(sorted(set(versions))[:NAMED])
    return f"{_named((task, words))} by {len(versions)} classifications of version {named_versions}"


def _by_answers(
    texts: dict[Pair, set[str]], questions: list[str], known: dict[str, dict[str, str]]
) -> dict[Pair, str]:
    """The one question of `questions` that each task's answers fit; raises ValueError where that is not plain."""
    found = {}
    for pair, some in texts.items():
        fits = {question: len(_meanings(known[question], some)) for question in questions}
        near = [question for question in questions if fits[question]]
        whole = [question for question in near if fits[question] == len(some)]
        if near and len(whole) != 1:
            raise ValueError(
                f"task {_named(pair)} was answered {', '.join(sorted(some)[:NAMED])}, which may be "
                f"{' or '.join(whole or near)}; {_say_tasks(pair[0], (whole or near)[0])}"
                + ("" if whole else ", and what its answers are called with oracle.answers")
            )
        if whole:
            found[pair] = whole[0]
    for question in questions:
        if len(names := sorted({pair[0] for pair in found if found[pair] == question})) > 1:
            raise ValueError(
                f"the tasks {', '.join(names)} all look like {question}; {_say_tasks(names[0], question)}"
            )
    return found


def _say_tasks(task: str, question: str) -> str:
    return (
        f"say which tasks ask what with oracle.tasks, such as '+oracle.tasks={{{task}: {question}}}': all others "
        "are then passed over"
    )


def _named(pair: Pair) -> str:
    return f"{pair[0]} ({' '.join(pair[1].split())[:60]})" if pair[1] else pair[0]


def match_answers(
    classifications: list[Classification],
    tasks: dict[Pair, str],
    known: dict[str, dict[str, str]],
    notes: Counter,
) -> Iterator[tuple[Classification, str, str]]:
    """Every (classification, question, answer), in the order in which they were given."""
    given = [
        (one, pair, tasks[pair], texts)
        for one in classifications
        for pair, texts in one.answers
        if pair in tasks and texts != ()
    ]
    spoken = defaultdict(set)
    for _, _, question, texts in given:
        spoken[question].update(texts or ())
    meant = {question: _meanings(known[question], spoken[question]) for question in known}
    for one, pair, question, texts in given:
        if texts is None or len(texts) > 1:
            raise ValueError(
                f"{one.where}: task {_named(pair)} was answered "
                f"{'without words' if texts is None else ' and '.join(texts)}, but {question} takes one answer; "
                "make it a question that allows one, or take the task out of oracle.tasks"
            )
        answer = meant[question].get(texts[0])
        if answer is None and texts[0] != NO_LABEL:
            ours = [text for text in known[question].values() if text]
            raise ValueError(
                f"{one.where}: task {_named(pair)} was answered {texts[0]!r}, which is none of {question}'s "
                f"{', '.join(dict.fromkeys(ours))}; say which is meant, or '' for no vote, with oracle.answers, "
                f"such as '+oracle.answers={{{texts[0]}: {ours[0]}}}'"
            )
        if answer:
            yield one, question, answer
        else:
            notes["{} answers mean no vote, by oracle.answers or as Zooniverse lost them"] += 1
