"""The programs that measure speed compute what they say, on a tiny CLIP; their report says what they found."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import speed, speed_ours, speed_report, speed_world
from benchmarks.turns import Runner, stopped
from jclip_adapter.core.errors import DataError
from tests.random_weights import write_safe
from tests.tiny_contest import picture

TINY_COUNTS = {
    "lite": (5, 4),
    "encode": (5, 4),
    "end_to_end": (6, 4),
    "text": (2, 8),
    "adapter": (6, 2),
    "product": (1, 0),
}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_safe(tmp_path / "weights.safetensors")
    for number in range(6):
        picture(number, 60, 40).save(tmp_path / f"{number}.jpg")
    (tmp_path / "photos.txt").write_text("".join(f"{tmp_path / str(number)}.jpg\n" for number in range(6)))
    return tmp_path


def test_jclips_way_gives_the_same_features(world: Path) -> None:
    ours, theirs = speed_ours.Ours("float32", world, "cpu"), speed_ours.Jclip(world, "cpu")
    for a, b in zip(ours.features(), theirs.features(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(a).max())
    path = str(world / "0.jpg")
    pixels = theirs.model.photo(path)
    assert pixels.shape == (1, 3, theirs.model.side, theirs.model.side)
    found = ours.encoder(4)
    from jclip_adapter.data.photos.decode import read_square
    from jclip_adapter.data.photos.preprocess import normalise_pixels

    np.testing.assert_allclose(pixels, normalise_pixels(read_square(path, found.image_size)[1][None]), atol=1e-5)


@pytest.mark.parametrize("task", TINY_COUNTS)
def test_every_task_is_done(task: str, world: Path) -> None:
    count, batch = TINY_COUNTS[task]
    ways = [speed_ours.Ours("float32", world, "cpu"), speed_ours.Jclip(world, "cpu")]
    done = [getattr(way, task)(count, batch)() for way in ways if hasattr(way, task)]
    wanted = {"text": 24, "adapter": 10, "product": 17}.get(task, count)
    assert done == [wanted] * (1 if task in ("adapter", "product", "lite") else 2)


def test_memory_is_watched_over_many_photos(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_ours, "EARLY", 10)
    found = speed_ours.Ours("float32", world, "cpu").long(40)
    assert found["count"] == 40
    assert 0 < found["early_mb"] < found["late_mb"] + 200


def test_what_computes_something_else_is_refused(tmp_path: Path) -> None:
    def says(rows: list[list[float]]) -> Runner:
        answer = json.dumps({"images": rows, "texts": rows})
        return Runner(str(rows), [sys.executable, "-c", f"input(); print({answer!r}, flush=True)"])

    same, other = [says([[1.0, 2.0]]), says([[2.0, 4.0]])], says([[1.0, -2.0]])
    with stopped([*same, other]):
        assert min(speed.check(same, {runner.what: "float32" for runner in same}).values()) == pytest.approx(1)
    again = says([[1.0, 2.0]])
    with stopped([same[0], other, again]), pytest.raises(DataError, match="encodes otherwise"):
        speed.check([again, other], {again.what: "float32", other.what: "float32"})


def test_medians_are_told() -> None:
    answer = "json.dumps({'seconds': s, 'count': 4, 'peak_mb': 7})"
    code = f"import json\nfor s, _ in zip([9, 1, 5, 2], open(0)): print({answer}, flush=True)"
    runner = Runner("ours, float32", [sys.executable, "-c", code])
    with stopped([runner]):
        row = speed.take_turns([(runner, speed.Question("encode", 4, 0))], 3, "encode")[0]
    assert (row["seconds"], row["per_second"], row["peak_mb"], row["rounds"]) == (2, 2.0, 7, 3)
    assert row["each"] == [4.0, 0.8, 2.0]


def test_the_report(tmp_path: Path) -> None:
    facts = {"batch": 0, "count": 64, "unit": "photos", "seconds": 1.0, "peak_mb": 900, "rounds": 3}
    rows = [
        {"task": "encode", "way": "ours, float32", "per_second": 20.0, "each": [10.0, 20.0, 40.0], **facts},
        {"task": "encode", "way": "JCLIP's way", "per_second": 10.0, "each": [4.0, 10.0, 30.0], **facts, "batch": 32},
        {"task": "end_to_end", "way": "ours, float32", "per_second": 18.0, "each": [9.0, 18.0, 20.0], **facts},
        {"task": "product", "way": "ours, float32", "per_second": 200.0, "each": [50.0, 200.0, 800.0], **facts},
        {"task": "start: --help", "way": "ours, float32", "per_second": 4.0, **facts},
    ]
    found = {"processor": "a processor", "device": "cpu", "cores": 2, "rows": rows, "cosines": {"x": 0.99999}}
    long = {"count": 9, "seconds": 3.0, "early_mb": 5.0, "late_mb": 6.0, "way": "ours, float32"}
    text = speed_report.report({**found, "long": long})
    assert re.search(r"\| JCLIP's way +\| +32 +\| 10.0 +\| 0.50 +\| +900 \|", text)
    assert re.search(r"\| ours, float32 +\| own choice \| 18.0 +\| 1.00 +\| 0.90 +\| +900 \|", text)
    share = 20 * speed_report.OURS / 1e9 / 200
    assert f"{share:.0%}" in text
    assert "9 photos in one run" in text
    assert Image.open(io.BytesIO(speed_report.picture(found))).width > 300
    assert 8.7e9 < speed_report.WHOLE < 8.9e9
    assert 0.9 < speed_report.OURS / speed_report.WHOLE < 0.95


def test_photos_are_distinct_and_can_be_read(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(5)]
    for number, path in enumerate(paths):
        picture(number // 2, 30, 20).save(path)
    paths[4].write_bytes(b"no photo")
    assert speed_world.distinct(paths, 2) == [paths[0], paths[2]]
    with pytest.raises(DataError, match="2 different photos, 3 are needed"):
        speed_world.distinct(paths, 3)
