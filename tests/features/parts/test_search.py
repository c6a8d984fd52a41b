import numpy as np
import pytest

from jclip_adapter.core.task import normalise
from jclip_adapter.features.parts import search as searching
from jclip_adapter.features.parts.files import Plan, finish, write_part
from jclip_adapter.features.parts.search import near_duplicates, search

WIDTH = 8


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """(60, 8) features in three parts, read 7 at a time; photo 5 is broken, 41 is nearly photo 3."""
    monkeypatch.setattr(searching, "_ROWS", 7)
    features = np.random.default_rng(0).standard_normal((60, WIDTH)).astype(np.float32)
    features[41] = 3 * features[3] + 0.01
    features[5] = 0
    plan = Plan(tmp_path, WIDTH, "float32", {"weights_sha256": "0", "dtype": "float32"}, {})
    for part in range(3):
        own = range(20 * part, 20 * part + 20)
        columns = {
            "key": [f"{number}.jpg" for number in own],
            "sha256": [bytes(32)] * 20,
            "label": [None if number % 2 else "even" for number in own],
            "error": ["broken" if number == 5 else None for number in own],
        }
        write_part(plan, part, "unit", columns, features[20 * part : 20 * part + 20])
    finish(plan, 3)
    return tmp_path, normalise(features)


@pytest.mark.parametrize("top", [1, 4, 59, 100])
def test_the_nearest_of_all_photos_are_found(top, rows):
    folder, features = rows
    queries = normalise(np.random.default_rng(1).standard_normal((3, WIDTH)).astype(np.float32))
    scores = features @ queries.T
    scores[5] = -np.inf
    for found, column in zip(search(folder, queries, top), scores.T, strict=True):
        wanted = np.argsort(-column, kind="stable")[: min(top, 59)]
        assert [hit.key for hit in found] == [f"{row}.jpg" for row in wanted]
        assert [hit.label for hit in found] == ["even" if int(hit.key[:-4]) % 2 == 0 else "" for hit in found]


def test_equal_photos_are_found_in_their_order(rows):
    folder, features = rows
    found = search(folder, features[3:4], 2)[0]
    assert [hit.key for hit in found] == ["3.jpg", "41.jpg"]
    assert found[0].score == pytest.approx(1)


def test_photos_that_are_nearly_the_same_are_paired_once(rows):
    folder, features = rows
    found = list(near_duplicates(folder, 0.99))
    assert [(pair.first, pair.second) for pair in found] == [("3.jpg", "41.jpg")]
    wanted = np.argwhere(np.tril(features @ features.T, -1) >= 0.6)
    assert len(list(near_duplicates(folder, 0.6))) == len(wanted)
