"""The program that damages files notices what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.reliability.damage import Artefact, artefacts, damaged, spoil
from jclip_adapter.storage import read_json, sha256_file, write_json

pytestmark = pytest.mark.confined


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> list[Artefact]:
    return artefacts(tmp_path_factory.mktemp("artefacts"))


def test_all_damage_of_every_kind_is_noticed(kinds: list[Artefact]) -> None:
    assert len(kinds) == 23
    for artefact in kinds:
        facts, missed = spoil(artefact, 12, 60, 5)
        assert missed == []
        assert sum(facts["cuts"].values()) == 12
        assert sum(facts["flips"].values()) == 60


def test_the_files_have_room_for_the_full_size(kinds: list[Artefact]) -> None:
    small = {artefact.kind: artefact.path.stat().st_size for artefact in kinds}
    assert all(size > 500 for size in small.values())
    short = {kind for kind, size in small.items() if size < 1250 and not kind.startswith("weights:")}
    assert short == {"run folder: manifest.json"}  # all of its bits are flipped


def test_files_of_our_own_are_noticed_without_a_recorded_check_sum(kinds: list[Artefact]) -> None:
    for artefact in kinds:
        if not artefact.kind.startswith("weights:"):
            assert not artefact.sha256


def test_what_goes_unnoticed_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "cell.json"
    write_json(path, {"top1": 61.25, "name": "x" * 200})
    facts, missed = spoil(Artefact("bare", path, lambda: read_json(path)), 10, 100, 0)
    assert facts["flips"]["unnoticed"] > 10
    assert any("flipped" in line for line in missed)


def test_a_message_without_the_name_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {})

    def read() -> None:
        try:
            read_json(path)
        except Exception as error:
            raise type(error)("something is wrong") from error

    assert "x: cut to 0 bytes: unnoticed" in spoil(Artefact("x", path, read), 3, 8, 0)[1]


def test_another_error_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"1")
    missed = spoil(Artefact("x", path, lambda: int(path.read_bytes())), 1, 8, 0)[1]
    assert "x: cut to 0 bytes: raised ValueError" in missed


def test_the_recorded_check_sum_counts_as_such(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(b"0123456789")
    facts, missed = spoil(Artefact("w", path, lambda: None, sha256_file(path)), 5, 20, 0)
    assert facts["flips"] == {"sha256": 20}
    assert missed == []


def test_damage_is_of_single_bits_all_different() -> None:
    sound = bytes(range(40))
    found = list(damaged(sound, 10, 10_000, 0))
    cuts = [data for what, data in found if what.startswith("cut")]
    flips = {data for what, data in found if not what.startswith("cut")}
    assert [len(data) for data in cuts] == sorted({len(data) for data in cuts})
    assert (len(cuts[0]), len(cuts[-1]), len(cuts)) == (0, 39, 10)
    assert len(flips) == 320
    assert all(sum((a ^ b).bit_count() for a, b in zip(sound, data, strict=True)) == 1 for data in flips)
