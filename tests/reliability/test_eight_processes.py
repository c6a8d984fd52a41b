"""A few trials of eight processes at once; the whole is benchmarks/reliability/eight_processes.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.reliability import eight_processes
from tests.tiny_contest import picture


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        picture(number, 20, 20).save(folder / f"{number}.png")
    return folder


def test_whole_stores(photos: Path) -> None:
    found = list(eight_processes.trial_faults("stand-in", photos, 3, np.random.default_rng(0)))
    assert [fault for fault, _ in found] == ["", "", ""]
    assert all(shards >= 2 for _, shards in found)


def test_shards_written_in_place_are_noticed(photos: Path) -> None:
    found = list(eight_processes.trial_faults("stand-in", photos, 3, np.random.default_rng(0), "torn"))
    assert any("damaged" in fault for fault, _ in found)


def test_a_store_is_examined(tmp_path: Path) -> None:
    facts = {"key": "0" * 32, "width": 4}
    store = eight_processes.FeatureStore(tmp_path / f"images-{'0' * 32}", 4)
    keys = [bytes([number]) * 32 for number in range(3)]
    rows = np.arange(12, dtype=np.float32).reshape((3, 4))
    store.add(keys, rows)
    wanted = {key: row.tobytes() for key, row in zip(keys, rows, strict=True)}
    assert eight_processes.examine(tmp_path, facts, wanted) == ""
    assert "1 of 4 features" in eight_processes.examine(tmp_path, facts, {**wanted, bytes(32)[:31] + b"x": b""})
    assert "1 of 3 features" in eight_processes.examine(tmp_path, facts, {**wanted, keys[0]: b"other"})
    stray = store.folder / ".x.npz.0123456789ab.partial"
    stray.touch()
    assert "stray" in eight_processes.examine(tmp_path, facts, wanted)
    stray.unlink()
    shard = next(store.folder.glob("*.npz"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert "damaged shard" in eight_processes.examine(tmp_path, facts, wanted)
