"""The comparison of an index with exact search, on small folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import search_speed
from benchmarks.search_speed import Real, largest_error, measure_all, recall, synthetic, table
from jclip_adapter.core.task import normalise
from jclip_adapter.features.parts.search import Hit

pytest.importorskip("faiss")


@pytest.fixture
def real() -> Real:
    rng = np.random.default_rng(0)
    photos, texts = (normalise(rng.standard_normal((count, 16)).astype(np.float32)) for count in (300, 30))
    return Real(photos, texts)


def test_recall_is_the_share_of_exact_hits() -> None:
    def hits(*keys: str) -> list[Hit]:
        return [Hit(0.5 + int(key) / 100, key, None) for key in keys]

    assert recall([hits("1", "2"), hits("3", "4")], [hits("2", "1"), hits("3", "5")]) == 75
    off = [Hit(hit.score + 0.25, hit.key, None) for hit in hits("1", "9")]
    assert largest_error([off, []], [hits("1"), hits("2")]) == pytest.approx(0.25)


def test_one_row_in_many_is_nearly_a_copy(real: Real) -> None:
    made: set[tuple[int, int]] = set()
    rows = np.concatenate(list(synthetic(real.photos, 5000, made)))
    assert rows.shape == (5000, 16)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    assert len(made) == (5000 - search_speed.PART_PHOTOS) // search_speed.COPIES
    assert all((rows[one] * rows[other]).sum() > search_speed.THRESHOLD for one, other in made)
    again = np.concatenate(list(synthetic(real.photos, 5000, set())))
    assert (rows == again).all()


def test_everything_is_measured(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_speed, "MOST_COMPARED", 1000)
    values = list(measure_all(real, [3000]))
    found = {(each.data, each.what, each.by): each.value for each in values}
    for data in ("real", "synthetic"):
        assert found[data, "recall of photos", "index"] > 90
        assert found[data, "recall of class names", "index"] > 90
        assert found[data, "largest error of a cosine, photos", "index"] < 2e-3
    assert found["real", "pairs", "exact"] == 0
    assert found["synthetic", "pairs", "made"] == 1000 // search_speed.COPIES
    assert found["synthetic", "recall of pairs", "index"] == 100
    assert ("synthetic", "near duplicates", "exact") not in found
    rows = [each._asdict() for each in values]
    lines = table(rows).splitlines()
    assert "real, 300 rows" in lines[0]
    assert "synthetic, 3,000 rows" in lines[0]
    assert len(lines) == 2 + len({(each.what, each.by) for each in values})


@pytest.mark.parametrize("words", [["x.npz", "--rows", "many"], ["x.npz", "--rows", "0"]])
def test_numbers_of_rows_are_checked(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert search_speed.main(words) == 2
    assert "--rows" in capsys.readouterr().err


def test_class_names_and_photos_come_from_files(tmp_path: Path) -> None:
    from tests.tiny_features import write_features

    file = write_features(tmp_path / "tiny.npz", shots=(4,))
    found = search_speed.read_real([file, file])
    assert len(found.photos) == len(np.unique(found.photos, axis=0)) > len(found.texts) > 1
