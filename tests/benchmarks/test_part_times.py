"""What part_times measures is counted right; the seconds themselves are the machine's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import part_times
from benchmarks.part_times import Value
from jclip_adapter.core.errors import DataError
from tests.features.encoders import MeanColour


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(10):
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((20, 30, 3), number, dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def test_whole_parts_are_encoded_again_and_again(photos: Path) -> None:
    encoder = MeanColour()
    values = list(part_times.whole_parts(encoder, "mean", photos, 4, 5))
    kinds = [("encode a part", 4, "s"), ("encode a part, all cores", 4, "core-s")]
    assert [(each.what, each.photos, each.unit) for each in values] == 5 * kinds
    assert encoder.calls == 5  # of four photos each: the two left over make no part
    with pytest.raises(DataError, match="fewer than 40 photos"):
        list(part_times.whole_parts(encoder, "mean", photos, 20, 1))


def test_steps_are_per_photo(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_times, "CHUNK", 5)
    paths = sorted(photos.iterdir())
    values = list(part_times.photo_steps(MeanColour(), "mean", paths))
    steps = ["read a photo", "hash a photo", "decode a photo", "encode a photo", "bytes of a photo"]
    assert [each.what for each in values] == 2 * steps
    assert values[-1].value == np.mean([path.stat().st_size for path in paths[5:]])
    assert all(0 <= each.value < 1 for each in values if each.unit == "core-s")


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("float16", 2)])
def test_a_part_is_written_in_a_process_of_its_own(dtype: str, width: int) -> None:
    found = part_times.in_child("part", "3000", dtype)
    assert found["bytes of a row"][0] == pytest.approx(512 * width + 66, abs=20)
    assert 300 < found["bytes of a part's facts"][0] < 500
    assert found["memory of a part"][0] > 3000 * 512 * 4 / 1e6
    assert 0 < found["check a part"][0] < found["write a part"][0]


def test_the_driver_keeps_the_names_of_a_unit() -> None:
    *seconds, memory = part_times.driver_units(1000)
    assert len(seconds) == 3
    assert all(0 < each.value < 1e-3 for each in seconds)
    assert 0.06 < memory.value < 0.3  # a path has 29 characters


def test_the_report_has_medians_and_percentiles() -> None:
    values = [Value("write a part", "float32", 100, second / 1000, "s") for second in range(101)]
    (line,) = [line for line in part_times.report(values).splitlines() if "write" in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["write a part", "float32", "100", "101", "50 ms", "5 ms", "95 ms"]


def test_core_seconds_are_per_photo() -> None:
    parts = [
        Value("encode a part, all cores", part_times.NETWORK, 100, second, "core-s") for second in (8.0, 9.0, 30.0)
    ]
    other = Value("encode a part, all cores", "sample", 100, 1.0, "core-s")
    assert part_times.core_seconds([*parts, other]) == pytest.approx(0.09)
    assert "| 9000 core-ms |" in part_times.report(parts)


def test_missing_measurements_are_told() -> None:
    values = [Value("write a part", "float32", 100, 1.0, "s")]
    assert part_times.chosen(values, "write a part", "float32", 100) == [1.0]
    with pytest.raises(DataError, match=r"benchmarks\.part_times"):
        part_times.chosen(values, "write a part", "float16")
