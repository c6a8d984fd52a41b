"""Photos that are both learnt from and scored on: what counts as one, and from where on."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import near_duplicates
from jclip_adapter.data.sets import Photo
from jclip_adapter.features.encoding import PhotoFeatures, photo_keys
from jclip_adapter.features.overlap import NEAR, find_overlap, in_two_classes
from jclip_adapter.features.shots import Shots

_ENCODER = SimpleNamespace(kind="photo")

ROWS = list(csv.DictReader(near_duplicates.RESULTS.with_suffix(".csv").open(encoding="utf-8")))


def share(row: dict[str, str]) -> float:
    return float(row["above"].removesuffix(" %"))


def test_thresholds_are_those_that_were_measured() -> None:
    """Hardly any different photo lies above it; re-encoded and cut copies do."""
    for row in ROWS:
        network = row["network"] if row["network"] in NEAR else "clip"
        assert float(row["threshold"]) == NEAR[network]
        if row["what"] == near_duplicates.DIFFERENT:
            assert share(row) <= 1
        elif "halved" not in row["what"]:
            assert share(row) >= 95
    assert {row["network"] for row in ROWS} >= set(NEAR) - {"clip"}


def shots_in(folder: Path, count: int, classes: int) -> Shots:
    """Shots whose bytes are their numbers."""
    for number in range(count):
        (folder / f"{number}").write_bytes(bytes([number]))
    return Shots(tuple(Photo(folder, f"{number}", number % classes) for number in range(count)))


def photos_of(names: str, labels: tuple[int | None, ...]) -> list[Photo]:
    return [Photo(Path("d"), name, label) for name, label in zip(names, labels, strict=True)]


def features_of(rows: np.ndarray, keys: list[bytes]) -> PhotoFeatures:
    return PhotoFeatures(
        np.asarray(rows, np.float32), {}, 0, tuple(Path(str(n)) for n in range(len(rows))), tuple(keys)
    )


def turned(row: np.ndarray, cosine: float, rng: np.random.Generator) -> np.ndarray:
    """A row that has this cosine with a unit row."""
    other = rng.standard_normal(len(row))
    other -= (other @ row) * row
    return cosine * row + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other)


@pytest.mark.parametrize(("cosine", "found"), [(0.995, True), (0.985, False)])
def test_near_duplicates_are_told_by_the_cosine(cosine: float, found: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shots = rng.standard_normal((4, 64))
    shots /= np.linalg.norm(shots, axis=1, keepdims=True)
    support, scored = shots_in(tmp_path, 4, 2), photos_of("xyz", (None, None, None))
    stage: Any = SimpleNamespace(encoder=_ENCODER, photos=lambda _: features_of(shots, list(support.keys)))
    rows = np.stack([shots[0], turned(shots[2], cosine, rng), rng.standard_normal(64)])
    overlap = find_overlap(
        stage, support, scored, features_of(rows, [support.keys[0], b"y", b"z"]), np.array([0, 1, 1])
    )
    assert overlap.identical.tolist() == [True, False, False]
    assert overlap.near.tolist() == [False, found, False]
    assert overlap.pairs == ((("x", "0"), ("y", "2")) if found else (("x", "0"),))
    assert overlap.two_classes == ()
    assert overlap.stale == ()


def test_what_was_learnt_from_is_compared_and_not_what_lies_there_now(tmp_path: Path) -> None:
    """Shot 0 is another photo by now, and shot 1 is gone; both are known by what they were."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3, 64))
    then = shots_in(tmp_path, 4, 2)
    learnt = then.keys
    (tmp_path / "0").write_bytes(b"other")
    (tmp_path / "1").unlink()
    shots = Shots(then.photos, learnt)
    assert [photo.relative for photo in shots.same] == ["2", "3"]
    stage: Any = SimpleNamespace(encoder=_ENCODER, photos=lambda _: features_of(rows[:2], list(learnt[2:])))
    new = photo_keys([tmp_path / "0"])[0][0]
    overlap = find_overlap(stage, shots, photos_of("xyz", (None,) * 3), features_of(rows, [learnt[0], learnt[1], new]))
    assert overlap.identical.tolist() == [True, True, False]
    assert overlap.pairs == (("x", "0"), ("y", "1"))
    assert len(overlap.stale) == 2
    assert "1 of 4 shots are not in this data or can no longer be read: 1" in overlap.stale[0]
    assert "1 of 4 shots have changed since training: 0" in overlap.stale[1]


def test_a_network_that_tells_nothing_apart_finds_no_near_duplicates(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one = np.ones(16) / 4
    shots = np.stack([turned(one, 0.9999, rng) for _ in range(40)])
    support = shots_in(tmp_path, 40, 4)
    stage: Any = SimpleNamespace(encoder=_ENCODER, photos=lambda _: features_of(shots, list(support.keys)))
    rows = np.stack([turned(one, 0.999, rng) for _ in range(20)])
    scored = photos_of("abcdefghijklmnopqrst", (None,) * 20)
    overlap = find_overlap(stage, support, scored, features_of(rows, [bytes([200 + n]) for n in range(20)]))
    assert not overlap.near.any()


def test_unreadable_photos_are_not_alike() -> None:
    """Their keys are empty, which is no equality."""
    assert in_two_classes(photos_of("ab", (0, 1)), [b"", b""], [0, 1]) == ()
    assert in_two_classes(photos_of("abc", (0, 1, 0)), [b"k", b"k", b"k"], [0, 1, 0]) == (("a", "b"),)
