"""A part that a kill interrupts is told from one that is encoded again without a kill."""

import pytest

from benchmarks.kill_extraction import Event, Kill, check, lost_parts, make_shards
from jclip_adapter.core.errors import DataError
from jclip_adapter.data.parts import read_manifest
from jclip_adapter.features.parts.engine import extract_parts
from jclip_adapter.storage import ANY, write_checked_json
from tests.features.encoders import MeanColour
from tests.tiny_contest import write_photo

FOUND = [
    Event(7, 1, 0, "begun"),
    Event(8, 2, 1, "begun"),
    Event(7, 1, 0, "done"),
    Event(7, 1, 2, "begun"),  # here process 7 is killed
    Event(8, 2, 1, "done"),
    Event(9, 1, 2, "begun"),
    Event(9, 1, 2, "done"),
]


def kill(*processes):
    return Kill(1.0, "worker", 4, frozenset(processes), "")


def test_what_a_killed_process_had_begun_is_lost():
    assert lost_parts(kill(7), FOUND) == {2}
    assert lost_parts(kill(8), FOUND) == {1}
    assert lost_parts(kill(7, 8), FOUND) == {1, 2}
    assert lost_parts(kill(8), [*FOUND, Event(8, 2, 3, "begun")]) == {1, 3}, "it may live for a moment"


@pytest.fixture
def extracted(tmp_path):
    """Three parts of two photos, twice."""
    (tmp_path / "photos").mkdir()
    for number in range(3):
        write_photo(tmp_path / "photos" / f"{number}.jpg", number)
    make_shards(tmp_path / "photos", tmp_path / "shards", 6, 2)
    for name in ("here", "there"):
        extract_parts("local", MeanColour, tmp_path / name, f"{tmp_path}/shards/*.tar", size=1, dtype="float32")
    return tmp_path / "here", tmp_path / "there"


def faults(extracted, kills, found=FOUND):
    return [what for what, value, expected in check(kills, found, *extracted, 6) if value != expected]


def test_repeated_photos_are_different_rows_and_the_lost_part_may_be_repeated(extracted):
    assert not faults(extracted, [kill(7)])


def test_a_part_that_no_kill_had_interrupted_is_a_fault(extracted):
    assert faults(extracted, []) == ["parts encoded again that no kill had interrupted"]
    again = [*FOUND, Event(9, 1, 2, "begun"), Event(9, 1, 0, "begun")]
    assert faults(extracted, [kill(7)], again) == ["parts encoded again that no kill had interrupted"]


def test_other_bytes_are_a_fault(extracted):
    (extracted[1] / "manifest.json").write_bytes(b"{}")
    with pytest.raises(DataError):
        check([kill(7)], FOUND, *extracted, 6)
    (extracted[1] / "manifest.json").write_bytes((extracted[0] / "manifest.json").read_bytes())
    manifest = {**read_manifest(extracted[1]), "source": "elsewhere"}
    write_checked_json(extracted[1] / "manifest.json", manifest, ANY)
    assert faults(extracted, [kill(7)]) == ["files with the bytes that the local engine writes"]


def test_photos_are_needed(tmp_path):
    with pytest.raises(DataError, match=r"has no \.jpg"):
        make_shards(tmp_path, tmp_path / "shards", 6, 2)
