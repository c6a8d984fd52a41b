"""A part of the table of odd images in each run; the whole is benchmarks/reliability/odd_images.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.reliability import odd_images
from benchmarks.reliability.odd_pictures import ODDITIES, PASSED, READ, REFUSED
from jclip_adapter.data.photos import bit_depth, jpeg, jpeg_damage
from jclip_adapter.data.sets.paths import Listing

BY_NAME = {oddity.name: oddity for oddity in ODDITIES}
FEW = (
    "JPEG cut at 50%, end marker put on",
    "JPEG, 5% in the middle zeroed",
    "JPEG with restart markers, middle third zeroed",
    "lossless WebP, last half zeroed",
    "JPEG of one even mid-grey",
    "PNG of 16-bit grey",
    "PNG that says 60000×60000",
    "pipe",
    "link to /dev/zero",
    "link to itself",
    "Chinese name",
    "name with a line end",
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[odd_images.Place]:
    monkeypatch.chdir(tmp_path)  # and back, at the end
    made = odd_images.Place(tmp_path)
    yield made
    made.clear()


def test_the_table_is_long_and_its_names_differ() -> None:
    assert len(BY_NAME) == len(ODDITIES) >= 60
    assert {oddity.outcome for oddity in ODDITIES} == {READ, REFUSED, PASSED}
    assert all(oddity.words for oddity in ODDITIES if oddity.outcome == REFUSED)


def test_a_few_rows_of_the_table(place: odd_images.Place) -> None:
    rows = [BY_NAME[name] for name in FEW]
    faults = {
        (row.name, policy): odd_images.judge(place, row, policy) for row in rows for policy in ("stop", "fallback")
    }
    assert {key: fault for key, fault in faults.items() if fault} == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_all_light_rows_at_once(place: odd_images.Place, workers: int) -> None:
    assert odd_images.judge_together(place, [row for row in ODDITIES if not row.heavy], workers) == []


def test_a_decoder_that_paints_over_damage_is_noticed(place: odd_images.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "find_damage", lambda *_: "")
    row = BY_NAME["JPEG cut at 50%, end marker put on"]
    assert "a result in spite of it" in odd_images.judge(place, row, "stop")
    assert "rejects: {}" in odd_images.judge(place, row, "fallback")
    assert any(row.name in fault for fault in odd_images.judge_together(place, [row], 0))


def test_a_lost_line_and_another_picture_are_noticed(place: odd_images.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = Listing(sorted(place.good), [], 0)
    monkeypatch.setattr("jclip_adapter.data.sets.contest.list_folder", lambda folder: listing)
    assert "lines of" in odd_images.judge(place, BY_NAME["pipe"], "fallback")
    monkeypatch.undo()
    monkeypatch.chdir(place.root)
    monkeypatch.setattr(bit_depth.Samples, "white_level", lambda self, of_data_set: 255)
    assert "differs from the picture" in odd_images.judge(place, BY_NAME["PNG of 16-bit grey"], "fallback")


def test_time_and_memory_are_measured(place: odd_images.Place) -> None:
    seconds, megabytes = odd_images.cost(place, BY_NAME["CMYK JPEG"])
    assert 0 < seconds < odd_images.SECONDS
    assert 10 < megabytes < odd_images.MEGABYTES


def test_a_layout_that_leads_nowhere() -> None:
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff\xda\0\0", b"\xff\xd8\xff\xda\xff\xff\x09", b"\xff" * 99):
        assert jpeg_damage.read_layout(data).frame == 0
