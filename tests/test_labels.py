"""The file of labels: torn lines, repeats, undo, several people, and the votes that it comes to."""

import json
import os

import pytest

from shared.output.labels import Labels, Schema, labels_to_votes

QUESTIONS = {
    "smooth": ("smooth", "featured", "artifact"),
    "bar": ("yes", "no"),
    "arms": ("1", "2"),
}
LEADS = {"bar": {"smooth": ("featured",)}, "arms": {"bar": ("yes",)}}
TREE = Schema(QUESTIONS, LEADS)
IDS = ["a", "b b", "ç"]


def event(key, who="ann", galaxy="a", kind="vote", **more):
    return {"event": kind, "key": f"{key:016x}", "who": who, "galaxy": galaxy, **more}


def vote(key, question, answer, who="ann", galaxy="a"):
    return event(key, who, galaxy, question=question, answer=answer)


def undo(key, of, who="ann", galaxy="a"):
    return event(key, who, galaxy, "undo", of=f"{of:016x}")


@pytest.fixture
def open_labels(tmp_path):
    """Opens the file of labels anew, after what was open is closed."""
    opened = []

    def anew(schema=TREE, ids=IDS):
        if opened:
            opened.pop().close()
        opened.append(Labels(tmp_path / "labels.jsonl", ids, schema))
        return opened[0]

    yield anew
    if opened:
        opened.pop().close()


def counts(labels):
    """Votes by galaxy and column, those that are not 0."""
    table = labels_to_votes(labels, QUESTIONS)
    return {name: {c: int(n) for c, n in row.items() if n} for name, row in table.iterrows()}


SAID = [
    vote(1, "smooth", "featured"),
    vote(2, "bar", "yes"),
    vote(3, "arms", "2"),
    vote(4, "smooth", "smooth", galaxy="ç"),
    undo(5, 4, galaxy="ç"),
    vote(6, "smooth", "featured", galaxy="ç"),
    event(7, galaxy="ç", kind="skip"),
    vote(8, "smooth", "smooth", who="bob"),
]
COME_TO = {
    "a": {
        "smooth_smooth": 1,
        "smooth_featured": 1,
        "smooth_total": 2,
        "bar_yes": 1,
        "bar_total": 1,
        "arms_2": 1,
        "arms_total": 1,
    },
    "ç": {"smooth_featured": 1, "smooth_total": 1},
}


def test_votes_of_several_people_add_and_an_undone_one_is_none(open_labels):
    labels = open_labels()
    assert all(labels.add(one) for one in SAID)
    assert counts(labels) == COME_TO
    assert counts(open_labels()) == COME_TO
    table = labels_to_votes(labels, QUESTIONS)
    assert table.index.name == "id"
    assert list(table)[:4] == [
        "smooth_smooth",
        "smooth_featured",
        "smooth_artifact",
        "smooth_total",
    ]


def test_a_file_cut_at_any_byte_has_every_whole_line_and_takes_more(
    open_labels, capsys, monkeypatch
):
    monkeypatch.setattr(os, "fsync", lambda file: None)  # thousands of times
    labels = open_labels()
    ends = [0]
    for one in SAID:
        labels.add(one)
        ends.append(labels.path.stat().st_size)
    whole = labels.path.read_bytes()
    for cut in range(len(whole)):
        labels.path.write_bytes(whole[:cut])
        before = sum(end <= cut for end in ends[1:])
        labels = open_labels()
        assert len(labels.keys) == before
        torn = f"({cut - ends[before]} bytes)"
        assert (torn in capsys.readouterr().err) == (cut != ends[before])
        for one in SAID:  # a browser sends again what was not acknowledged
            assert labels.add(one) == (int(one["key"], 16) > before)
        assert counts(labels) == COME_TO
    assert counts(open_labels()) == COME_TO


def test_an_event_that_is_sent_twice_counts_once_also_after_its_undo(open_labels):
    labels = open_labels()
    for one in (vote(1, "smooth", "smooth"), undo(2, 1)):
        assert labels.add(one)
        assert not labels.add(one)
    assert not labels.add(vote(1, "smooth", "smooth"))
    assert counts(labels) == {}
    assert counts(open_labels()) == {}
    assert len(labels.path.read_text().splitlines()) == 2


def test_a_vote_given_again_replaces_the_first_and_takes_back_what_it_led_to(open_labels):
    labels = open_labels()
    for one in (
        vote(1, "smooth", "featured"),
        vote(2, "bar", "yes"),
        vote(3, "smooth", "artifact"),
    ):
        labels.add(one)
    assert counts(labels) == {"a": {"smooth_artifact": 1, "smooth_total": 1}}
    assert labels.of("ann", 0).counts
    labels.add(undo(4, 3))
    assert labels.of("ann", 0).answers == {"smooth": "featured", "bar": "yes"}
    assert labels.of("ann", 0).question == "arms"


def test_a_galaxy_that_anybody_flags_as_an_artifact_is_left_out(open_labels):
    labels = open_labels(Schema({"bar": QUESTIONS["bar"]}, {}))
    assert labels.schema.artifact is None
    labels.add(vote(1, "bar", "yes"))
    labels.add(vote(2, "bar", "yes", galaxy="b b"))
    labels.add(event(3, "bob", kind="artifact"))
    assert counts(labels) == {"b b": {"bar_yes": 1, "bar_total": 1}}
    labels.add(undo(4, 3, "bob"))
    assert list(counts(labels)) == ["a", "b b"]


def test_what_is_no_event_of_the_run_is_refused(open_labels):
    labels = open_labels()
    labels.add(vote(1, "smooth", "smooth"))
    for one in (
        vote(2, "smooth", "maybe"),
        vote(2, "colour", "smooth"),
        vote(2, "smooth", "smooth", galaxy="d"),
        event(2, kind="shout"),
        undo(2, 9),
        undo(2, 1, who="bob"),
        undo(2, 1, galaxy="ç"),
    ):
        with pytest.raises(ValueError, match="no galaxy, question, answer or earlier event"):
            labels.check(one)


def test_a_file_of_other_questions_or_damaged_inside_is_refused_by_its_line(open_labels):
    labels = open_labels()
    labels.add(vote(1, "smooth", "smooth"))
    labels.add(vote(2, "smooth", "smooth", galaxy="ç"))
    with pytest.raises(ValueError, match=r"line 2 of .* give the run a folder of its own"):
        open_labels(ids=["a"])
    labels = open_labels()
    labels.path.write_bytes(labels.path.read_bytes().replace(b'"key"', b'"kex"', 1))
    with pytest.raises(ValueError, match="line 1 of"):
        open_labels()


def test_a_write_that_fails_leaves_nothing_of_it(open_labels, monkeypatch):
    labels, write = open_labels(), os.write
    labels.add(vote(1, "smooth", "smooth"))

    def full(file, data):
        if len(data) < 40:
            raise OSError(28, "No space left on device")
        return write(file, data[: len(data) - 30])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        labels.add(vote(2, "bar", "no"))
    monkeypatch.undo()
    assert labels.add(vote(2, "bar", "no"))
    lines = labels.path.read_text().splitlines()
    assert [json.loads(line)["key"][-1] for line in lines] == ["1", "2"]


def test_a_label_is_on_the_disk_before_it_is_acknowledged(open_labels, monkeypatch):
    labels, synced = open_labels(), []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    labels.add(vote(1, "smooth", "smooth"))
    assert synced == [labels.path.stat().st_size]


def test_history_has_the_answers_before_each_event_that_stands(open_labels):
    labels = open_labels()
    for one in (vote(1, "smooth", "featured"), vote(2, "bar", "yes"), vote(3, "arms", "1")):
        labels.add(one)
    labels.add(undo(4, 3))
    assert [(int(one["key"], 16), one["answers"]) for one in labels.history("ann", 9)] == [
        (1, {}),
        (2, {"smooth": "featured"}),
    ]
    assert len(labels.history("ann", 1)) == 1
    assert labels.history("bob", 9) == []
