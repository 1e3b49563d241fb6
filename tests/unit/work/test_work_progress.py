"""How far a piece of work is, on a terminal and in a file."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from neural_sparse.work.progress import Lines, progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_have_speed_and_the_time_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    lines = Lines(4000, "teacher", "texts", every=15, clock=clock)
    clock.now = 14
    lines.advance(900)
    assert caplog.messages == []
    clock.now = 20
    lines.advance(100)
    clock.now = 21
    lines.advance(1)  # too soon for another line
    assert caplog.messages == ["teacher: 1,000 of 4,000 texts, 50 texts/s, 01:00 left"]
    clock.now = 80
    lines.advance(2999)  # the last ones: how long it took is told instead
    lines.end()
    assert caplog.messages[1:] == ["teacher: 4,000 texts in 01:20, 50 texts/s"]


def test_short_work_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with progress(10, "short", "texts") as advance:
        advance(10)
    assert caplog.messages == []


def test_slow_work_has_digits_behind_the_point(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    lines = Lines(10, "slow", "texts", every=1, clock=clock)
    lines.advance(0)
    clock.now = 4
    lines.advance(1)
    assert caplog.messages == ["slow: 1 of 10 texts, 0.25 texts/s, 00:36 left"]
    clock.now = 5
    lines.done = 0  # nothing at all after a while
    lines.advance(0)
    assert caplog.messages[1] == "slow: 0 of 10 texts, 0 texts/s, ? left"


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    caplog.set_level(logging.INFO)
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with progress(10, "encode a teacher", "texts", delay=0) as advance:
        advance(10)
    assert "encode a teacher: 100%" in shown.getvalue()
    assert "10/10" in shown.getvalue()
    assert caplog.messages == []


def test_nothing_is_shown_where_it_is_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(10, "quiet", "texts", show=False, every=0) as advance:
        advance(5)
    assert capsys.readouterr().err == ""


def test_what_fails_has_no_last_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    def fail() -> None:
        with progress(10, "failing", "texts", every=0) as advance:
            advance(5)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert len(caplog.messages) == 1
