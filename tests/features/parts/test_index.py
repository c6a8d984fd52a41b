from pathlib import Path

import numpy as np
import pytest

from jclip_adapter.core.errors import DataError, SetupError, UsageError
from jclip_adapter.core.task import normalise
from jclip_adapter.data.parts import part_paths, read_manifest
from jclip_adapter.features.parts import index as indexing
from jclip_adapter.features.parts.files import Plan, finish, write_part
from jclip_adapter.features.parts.index import FACTS, INDEX, Index, build_index, open_index
from jclip_adapter.features.parts.search import near_duplicates, search

pytest.importorskip("faiss")
WIDTH, PARTS, SIZE = 32, (300, 0, 250, 50), 600
BROKEN = {5, 599}


def write_parts(folder: Path, features: np.ndarray) -> None:
    """Parts of several sizes, one of them empty; photos 5 and 599 are broken."""
    plan = Plan(folder, WIDTH, "float32", {"weights_sha256": "0", "dtype": "float32"})
    first = 0
    for part, count in enumerate(PARTS):
        own = range(first, first + count)
        columns = {
            "key": [f"{number}.jpg" for number in own],
            "sha256": [bytes(32)] * count,
            "label": [None if number % 2 else "even" for number in own],
            "error": ["broken" if number in BROKEN else None for number in own],
        }
        write_part(plan, part, "unit", columns, features[first : first + count])
        first += count
    finish(plan, len(PARTS))


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """(600, 32) features around 40 centres, added 70 at a time; 41 is nearly 3, and 580 nearly 310."""
    monkeypatch.setattr(indexing, "_ROWS", 70)
    rng = np.random.default_rng(0)
    features = (
        rng.standard_normal((40, WIDTH))[rng.integers(0, 40, SIZE)] + 0.5 * rng.standard_normal((SIZE, WIDTH))
    ).astype(np.float32)
    features[41], features[580] = 3 * features[3] + 0.01, features[310] + 0.001
    features[list(BROKEN)] = 0
    write_parts(tmp_path, features)
    return tmp_path, normalise(features)


@pytest.mark.parametrize("top", [1, 10])
def test_the_nearest_are_found_with_their_keys_and_labels(top, rows):
    folder, _ = rows
    queries = normalise(np.random.default_rng(1).standard_normal((50, WIDTH)).astype(np.float32))
    build_index(folder)
    wanted, found = search(folder, queries, top), Index(folder).search(queries, top)
    for ours, exact in zip(found, wanted, strict=True):
        assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in exact], abs=2e-3)
        assert [hit.score for hit in ours] == sorted((hit.score for hit in ours), reverse=True)
        assert all(hit.label == ("" if int(hit.key[:-4]) % 2 else "even") for hit in ours)
    same = [
        len({hit.key for hit in ours} & {hit.key for hit in exact}) for ours, exact in zip(found, wanted, strict=True)
    ]
    assert np.mean(same) >= 0.99 * top


def test_broken_photos_are_never_found(rows):
    folder, features = rows
    build_index(folder)
    (found,) = Index(folder).search(features[:1], SIZE)
    assert len(found) == SIZE - len(BROKEN)
    assert not {hit.key for hit in found} & {f"{number}.jpg" for number in BROKEN}
    assert found[0].key == "0.jpg"


def test_no_queries_find_nothing(rows):
    folder, features = rows
    build_index(folder)
    assert Index(folder).search(features[:0], 3) == []


def test_near_duplicates_are_those_of_the_exact_search(rows):
    folder, _ = rows
    build_index(folder)
    for threshold in (0.99, 0.8):
        wanted = {(pair.first, pair.second): pair.score for pair in near_duplicates(folder, threshold)}
        pairs = list(Index(folder).near_duplicates(threshold))
        found = {(pair.first, pair.second): pair.score for pair in pairs}
        assert len(found) == len(pairs)
        missed = {pair for pair, score in wanted.items() if pair not in found and score > threshold + 2e-3}
        assert len(missed) <= 0.01 * len(wanted)
        for pair in found.keys() & wanted.keys():
            assert found[pair] == pytest.approx(wanted[pair], abs=2e-3)
        assert all(pair in wanted or score < threshold + 2e-3 for pair, score in found.items())
        later = [int(pair.second[:-4]) for pair in pairs]
        assert later == sorted(later)
        assert all(int(pair.first[:-4]) < int(pair.second[:-4]) for pair in pairs)
    assert set(wanted) >= {("3.jpg", "41.jpg"), ("310.jpg", "580.jpg")}


def test_of_few_lists_most_are_found(rows, monkeypatch):
    """As in a large index, where most lists are not looked through."""
    folder, features = rows
    build_index(folder)
    photos = features[[row for row in range(0, SIZE, 7) if row not in BROKEN]]
    wanted = search(folder, photos, 5)
    monkeypatch.setattr(indexing, "_PROBED", 2)
    monkeypatch.setattr(indexing, "_PROBED_FOR_PAIRS", 2)
    found = Index(folder).search(photos, 5)
    assert [own[0].key for own in found] == [own[0].key for own in wanted]  # the photo itself
    same = sum(len({hit.key for hit in one} & {hit.key for hit in two}) for one, two in zip(found, wanted, strict=True))
    assert 0.6 * 5 * len(photos) < same < 5 * len(photos)
    pairs = {(pair.first, pair.second) for pair in Index(folder).near_duplicates(0.99)}
    assert pairs == {(pair.first, pair.second) for pair in near_duplicates(folder, 0.99)}


def test_equal_parts_give_equal_bytes(rows):
    folder, _ = rows
    first = build_index(folder).read_bytes()
    assert build_index(folder).read_bytes() == first


@pytest.mark.parametrize("every", [1, 2, 7, 100, 1000])
def test_k_means_gets_every_nth_readable_row(every, rows):
    folder, features = rows
    fine = np.delete(features, list(BROKEN), axis=0)
    found = np.concatenate(list(indexing._sample(folder, every)))
    np.testing.assert_allclose(found, fine[::every], rtol=1e-6)


@pytest.mark.parametrize("count", [1, 9, 60])
def test_few_photos_are_indexed(count, tmp_path, rows):
    _, features = rows
    plan = Plan(tmp_path / "few", WIDTH, "float16", {"weights_sha256": "0", "dtype": "float16"})
    columns = {"key": [str(row) for row in range(count)], "sha256": [bytes(32)] * count}
    columns |= {"label": [None] * count, "error": [None] * count}
    write_part(plan, 0, "unit", columns, features[10 : 10 + count])
    finish(plan, 1)
    build_index(plan.folder)
    found = Index(plan.folder).search(features[10 : 10 + count], 1)
    assert [own[0].key for own in found] == [str(row) for row in range(count)]


def test_a_file_of_somebody_else_is_not_replaced(rows):
    folder, _ = rows
    (folder / INDEX).write_text("notes")
    with pytest.raises(UsageError, match="not replaced"):
        build_index(folder)
    assert (folder / INDEX).read_text() == "notes"


def test_a_folder_of_broken_photos_has_no_index(tmp_path):
    plan = Plan(tmp_path, WIDTH, "float32", {"weights_sha256": "0", "dtype": "float32"})
    columns = {"key": ["a"], "sha256": [bytes(32)], "label": [None], "error": ["broken"]}
    write_part(plan, 0, "unit", columns, np.zeros((1, WIDTH), dtype=np.float32))
    finish(plan, 1)
    with pytest.raises(DataError, match="no photo"):
        build_index(tmp_path)


def test_an_index_of_other_features_is_refused(rows):
    folder, features = rows
    build_index(folder)
    write_parts(folder, features[::-1].copy())
    with pytest.raises(DataError, match="of other features"):
        Index(folder)
    build_index(folder)
    assert Index(folder).search(features[7:8], 1)[0][0].key == f"{SIZE - 1 - 7}.jpg"


def test_equal_photos_are_pairs_at_a_cosine_of_one(rows):
    """Their cosine in float16 is a little less."""
    folder, features = rows
    features[41] = features[3]
    write_parts(folder, features)
    build_index(folder)
    assert ("3.jpg", "41.jpg") in [(pair.first, pair.second) for pair in Index(folder).near_duplicates(1.0)]


@pytest.mark.parametrize("top", [10**9, 10**20])
def test_more_than_all_photos_are_all(top, rows):
    folder, features = rows
    build_index(folder)
    assert len(Index(folder).search(features[:1], top)[0]) <= SIZE - len(BROKEN)


def test_a_missing_part_is_told(rows):
    folder, features = rows
    build_index(folder)
    part_paths(folder, 2)[0].unlink()
    with pytest.raises(DataError, match="Run its extraction again"):
        Index(folder).search(features[310:311], 5)


@pytest.mark.parametrize("lost", [INDEX, FACTS])
def test_a_missing_index_is_told(lost, rows):
    folder, features = rows
    with pytest.raises(DataError, match="no index"):
        Index(folder)
    build_index(folder)
    (folder / lost).unlink()
    with pytest.raises(DataError, match="no index"):
        Index(folder).search(features[:1], 1)


@pytest.mark.parametrize("place", [0, 1000, -1])
def test_a_damaged_index_is_refused(place, rows):
    """A graph with a wrong link would lead out of the file."""
    folder, _ = rows
    path = build_index(folder)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="is damaged"):
        Index(folder)


def test_a_build_that_fails_leaves_no_index(rows, monkeypatch):
    """Neither the old one, whose facts are gone first, nor half of the new one."""
    folder, _ = rows
    build_index(folder)

    def full(_: object, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("faiss.write_index", full)
        with pytest.raises(SetupError, match="No space left"):
            build_index(folder)
    assert [path.name for path in folder.glob(".*")] == []
    with pytest.raises(DataError, match="no index"):
        Index(folder)
    build_index(folder)
    Index(folder)


def test_an_index_that_cannot_be_used_is_built_again(rows):
    folder, features = rows
    wanted = open_index(folder).search(features[:5], 3)
    whole, parts = (folder / INDEX).read_bytes(), read_manifest(folder)["parts"]
    plan = Plan(folder, WIDTH, "float32", {"weights_sha256": "0", "dtype": "float32"})
    for break_it in (
        (folder / FACTS).unlink,
        lambda: (folder / INDEX).write_bytes(whole[:-1]),
        lambda: finish(plan, parts, "another source"),
    ):
        break_it()
        assert open_index(folder).search(features[:5], 3) == wanted
        assert (folder / INDEX).read_bytes() == whole
