import math

import pytest

from benchmarks import growth
from benchmarks.growth import exponent, main, table
from jclip_adapter.core.errors import OutOfMemoryError
from jclip_adapter.methods import proker, two_views


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "RESULTS", tmp_path / "growth")
    monkeypatch.setattr(growth, "CHUNK", 20)
    sizes = {
        "classes": [(5, 2, 20), (10, 2, 20)],
        "shots": [(5, 1, 20), (5, 3, 20)],
        "photos": [(5, 2, 20), (5, 2, 90)],
    }
    monkeypatch.setattr(growth, "AXES", sizes)
    return tmp_path


def test_every_axis_is_measured_once_and_gone_on_with(small, monkeypatch, capsys):
    assert main(["--method", "zero-shot,tip-adapter", "--axis", "shots"]) == 0
    assert main(["--method", "zero-shot,tip-adapter"]) == 0
    text = (small / "growth.csv").read_text()
    assert len(text.splitlines()) == 1 + 2 * 3 * 2
    assert text.count(",done") == 12
    assert (small / "growth.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(growth, "measured", None)  # nothing is missing
    assert main(["--method", "zero-shot,tip-adapter"]) == 0
    assert (small / "growth.csv").read_text() == text
    assert "tip-adapter" in capsys.readouterr().out


def test_a_size_that_takes_too_long_ends_its_axis(small):
    rows = list(growth.measured("tip-adapter-f", "classes", 0.0, 8))
    assert [row["outcome"] for row in rows] == ["over 0 s"]
    assert "5: over 0 s" not in table([*rows, {**rows[0], "axis": "shots"}])  # nothing was finished


@pytest.mark.parametrize(
    ("module", "name", "what"),
    [
        (proker, "proker", "kernel of 10 rows and 5 classes"),
        (two_views, "two-views", "two-views of 10 photos and 5 classes"),
    ],
)
def test_what_does_not_fit_is_refused(module, name, what, monkeypatch):
    def refuse(needed, what, hint):
        assert needed >= 8 * 10 * 5
        raise OutOfMemoryError(f"{what} needs it.", hint)

    monkeypatch.setattr(module, "require", refuse)
    with pytest.raises(OutOfMemoryError, match=what):
        growth.measure(name, (5, 2, 20))


def test_growth_is_the_slope_between_the_largest_sizes():
    rows = [
        {"classes": size, "fit_s": seconds, "outcome": "done"} for size, seconds in ((10, 0.01), (100, 1), (1000, 100))
    ]
    assert exponent(rows, "classes", "fit_s") == pytest.approx(2)
    assert math.isnan(exponent(rows[:2], "classes", "fit_s"))  # a hundredth of a second says nothing
