"""Progress where stderr is no terminal: one line per stage."""

import io

import pytest

from jclip_adapter.core import console


def test_a_stage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in console.progress(range(72), desc="encoding photos", unit="photo"):
        assert capsys.readouterr().err == ""
    line = capsys.readouterr().err
    assert line.startswith("encoding photos: 72 photos, ")
    assert line.endswith(" s\n")
    assert line.count("\n") == 1


def test_a_stage_that_stops_says_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        console.progress(total=3_000_000, desc="downloading", unit="B", unit_scale=True) as bar,
    ):
        bar.update(1_000_000)
        raise KeyboardInterrupt
    assert capsys.readouterr().err.startswith("downloading: 1.00M of 3.00MB, ")


def test_one_is_singular_and_nothing_or_a_short_wait_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    list(console.progress([1], desc="reading", unit="file"))
    assert capsys.readouterr().err.startswith("reading: 1 file, ")
    list(console.progress([], desc="reading", unit="file"))
    list(console.progress([1], desc="reading", unit="file", delay=60))
    assert capsys.readouterr().err == ""


def test_long_work_says_how_far_it_is_every_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An hour of work left nothing in a log until its end."""
    monkeypatch.setattr(console, "_MINUTE_S", 0)
    with console.progress(total=3, desc="encoding photos", unit="photo") as bar:
        for _ in range(3):
            bar.update()
    lines = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["encoding photos: 1 of 3 photos", "encoding photos: 2 of 3 photos", "encoding photos: 3 photos"]


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    list(console.progress(range(3), desc="encoding photos", unit="photo"))
    assert "3/3" in stream.getvalue()
    assert "\r" in stream.getvalue()


def test_quiet_has_neither(capsys: pytest.CaptureFixture[str]) -> None:
    with console.streams():
        console.be_quiet()
        list(console.progress(range(3), desc="encoding photos", unit="photo"))
    assert capsys.readouterr().err == ""
