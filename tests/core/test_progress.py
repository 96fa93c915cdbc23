"""Progress is silent when short, sparse in logs and a bar on terminals."""

from __future__ import annotations

import io

import pytest

from vultus.core.progress import Progress, format_duration, track


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    fake = _Clock()
    monkeypatch.setattr("vultus.core.progress.time.monotonic", fake)
    return fake


def _redirect(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> io.StringIO:
    monkeypatch.setattr("sys.stderr", stream)
    return stream


@pytest.mark.parametrize("kind", [io.StringIO, _Terminal])
def test_work_below_two_seconds_prints_nothing(
    kind: type[io.StringIO], clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = _redirect(monkeypatch, kind())
    with Progress("render", 10, "img") as progress:
        for _ in range(10):
            clock.now += 0.19
            progress.advance()
    assert stream.getvalue() == ""


def test_a_log_gets_a_line_after_two_seconds_then_every_ten_and_one_at_the_end(
    clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = _redirect(monkeypatch, io.StringIO())
    with Progress("train", 50, "step") as progress:
        for step in range(50):
            clock.now += 0.5
            progress.advance(note=f"loss {50 - step}")
    assert stream.getvalue().splitlines() == [
        "train: 4/50 step (2 step/s, 23s left, loss 47)",
        "train: 24/50 step (2 step/s, 13s left, loss 27)",
        "train: 44/50 step (2 step/s, 3s left, loss 7)",
        "train: 50/50 step (2 step/s, 25s, loss 1)",
    ]


def test_slow_work_is_told_in_seconds_per_item_and_unknown_totals_are_left_out(
    clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = _redirect(monkeypatch, io.StringIO())
    with Progress("", None, "frame") as progress:
        clock.now += 4
        progress.advance()
    assert stream.getvalue().splitlines()[-1] == "1 frame (4 s each, 4s)"


def test_a_terminal_gets_a_bar_with_the_rate(
    clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = _redirect(monkeypatch, _Terminal())
    with Progress("render", 8, "img") as progress:
        for _ in range(8):
            clock.now += 1
            progress.advance()
    assert "render" in stream.getvalue()
    assert "8/8" in stream.getvalue()
    assert "1 img/s" in stream.getvalue()


def test_tracking_yields_every_item_and_takes_the_length_as_total(
    clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    for item in track([1, 2, 3], label="read", unit="file"):
        clock.now += 1
        seen.append(item)
    assert seen == [1, 2, 3]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == "read: 3/3 file (1 file/s, 3s)"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.6, "1m00s"), (185.0, "3m05s"), (7620.0, "2h07m")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
