"""A part of the odd sounds in each run; the whole is benchmarks/reliability/odd_sounds.py."""

from __future__ import annotations

import pytest

from benchmarks.reliability import odd_sounds


def test_a_part_of_the_sounds() -> None:
    found = odd_sounds.run(4, ("16-bit.flac", "mpeg.mp3"))
    assert found.failures == 0, found.facts
    assert found.count == 2 * (50 + 4) + 2 + 4 + 6
    assert "refused, 0 otherwise" in found.reached


_ANSWER = '{"found": "samples (3,)", "seconds": 0, "megabytes": 0}'


@pytest.mark.parametrize(
    ("instead", "fault"), [("os.abort()", "the process ended"), (f"print({_ANSWER!r}, flush=True)", "samples (3,)")]
)
def test_what_goes_otherwise_is_counted(instead: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(odd_sounds, "_CHILD", f"import os, sys\nfor line in sys.stdin:\n    {instead}")
    found = odd_sounds.run(0, ())
    assert found.failures == found.count == 12
    assert fault in found.facts["faults"][0]
