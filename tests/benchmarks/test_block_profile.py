"""The profile's steps are a block's; the seconds themselves are the machine's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import block_profile
from jclip_adapter import runtime

pytestmark = pytest.mark.skipif(not runtime.has_fast_matmul(), reason="the steps are oneDNN's")


def test_the_steps_are_those_of_a_block(tmp_path: Path) -> None:
    own = block_profile.steps("float32", 2)
    rows, width = 2 * 50, 768
    gflop = sum(times * each for times, each, _ in own.values())
    assert gflop == pytest.approx(2e-9 * rows * (12 * width**2 + 2 * 50 * width))
    shapes = {name: tuple(do().shape) for name, (_, _, do) in own.items()}
    assert shapes.pop("queries, keys and values") == (rows, 3 * width)
    assert shapes.pop("MLP's first product, activation") == (rows, 4 * width)
    assert shapes.pop("MLP's first product alone") == (rows, 4 * width)
    assert set(shapes.values()) == {(rows, width)}
    assert all(np.isfinite(do().numpy()).all() for _, _, do in own.values())


def test_shares_are_of_the_steps_that_a_block_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_profile.onednn, "has_bfloat16", lambda: False)
    assert block_profile.main(["--photos", "1", "--rounds", "1", "--out", str(tmp_path / "profile")]) == 0
    text = (tmp_path / "profile.md").read_text()
    shares = [line.split("|")[4].strip() for line in text.splitlines() if line.startswith("| ")][1:]
    assert shares.count("–") == 3
    assert sum(int(share.removesuffix("%")) for share in shares if share != "–") == pytest.approx(100, abs=4)
    assert len((tmp_path / "profile.csv").read_text().splitlines()) == 1 + len(shares)
