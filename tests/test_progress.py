import sys

import pytest

from shared.run import progress
from shared.run.progress import printable, say, track


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def run(clock, seconds, things, **how):
    passed = []
    for thing in track(things, "reading", **how):
        passed.append(thing)
        clock.now += seconds
    return passed


def test_short_work_says_nothing(clock, capsys):
    assert run(clock, 0.19, range(10)) == list(range(10))
    assert capsys.readouterr() == ("", "")


def test_long_work_says_a_line_now_and_then_and_at_the_end(clock, capsys):
    run(clock, 4, range(5), unit="images")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "reading: 3 of 5 images, 0.25 images/s, 8 s left",
        "reading: 5 images in 20 s, 0.25 images/s",
    ]


def test_a_notebook_gets_one_line_that_changes_and_goes(clock, capsys, monkeypatch):
    monkeypatch.setenv(progress.IN_PLACE, "1")
    run(clock, 0.5, range(4), unit="images")
    shown = "reading: 2 of 4 images, 2 images/s, 1 s left"
    last = "reading: 4 of 4 images, 2 images/s, 0 s left"
    wiped = f"\r{' ' * len(shown)}\r"
    told = "reading: 4 images in 2 s, 2 images/s\n"
    assert capsys.readouterr().err == f"\r{shown}\r{last}{wiped}{told}"


def test_things_count_by_their_weight(clock, capsys):
    run(clock, 11, [1000, 3000], weight=lambda thing: thing)
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "reading: 1,000 of 4,000 galaxies, 90.91 galaxies/s, 33 s left"


def test_an_unknown_total_has_no_time_left(clock, capsys):
    run(clock, 11, iter([1, 2]))
    assert capsys.readouterr().err.splitlines()[0] == "reading: 1 galaxies, 0.09091 galaxies/s"


def test_long_times_are_told_in_minutes_and_hours(clock, capsys):
    run(clock, 400, iter([1, 2]), total=100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("11 h 0 min left")
    assert "in 13 min 20 s" in lines[-1]


def test_what_takes_longer_than_half_a_minute_is_planned_once(clock, capsys):
    run(clock, 3, range(20), unit="images", how=" in 4 steps")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "plan: reading: 20 images in 4 steps, about 1 min 0 s in all"
    assert "plan" not in "".join(lines[1:])
    run(clock, 2, range(14))
    assert "plan" not in capsys.readouterr().err


def test_a_terminal_sees_a_line_that_changes_even_within_another(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for _ in track(range(2), "outer"):
        assert list(track("abc", "inner", unit="letters")) == ["a", "b", "c"]
    out, err = capsys.readouterr()
    assert out == ""
    assert "outer" in err
    assert "2 of 2" in err
    assert "galaxies/s" in err


def test_work_that_stops_early_can_be_followed_by_more(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for thing in track(range(5), "first"):
        if thing == 2:
            break
    with pytest.raises(ZeroDivisionError):
        [1 / (thing - 1) for thing in track(range(5), "second")]
    assert list(track(range(3), "third")) == [0, 1, 2]


EVIL = "a\x1b]0;evil\x07\r\u202eb\x9b1m\ud800"
SHOWN = r"a\x1b]0;evil\x07\r\u202eb\x9b1m\ud800"


def test_what_is_printed_cannot_steer_the_terminal(capsys):
    say(EVIL)
    assert capsys.readouterr().err == f"{SHOWN}\n"
    assert printable("näive\n\tГЖ 星系") == "näive\n\tГЖ 星系"


def test_nor_can_the_name_of_long_work(monkeypatch, clock, capsys):
    for _ in track(range(2), f"[/red]{EVIL}"):
        clock.now += 11
    assert f"[/red]{SHOWN}: 1 of 2" in capsys.readouterr().err


def test_nor_can_it_at_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(track(range(2), f"[/red]{EVIL}")) == [0, 1]
    error = capsys.readouterr().err
    assert "[/red]a" in error
    assert "\x07" not in error
