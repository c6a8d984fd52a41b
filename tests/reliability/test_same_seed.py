"""Same seed, same bytes; and another byte is noticed."""

from __future__ import annotations

from pathlib import Path

from benchmarks.reliability import same_seed
from jclip_adapter.storage import ANY, write_checked_json


def test_two_processes_leave_the_same_bytes() -> None:
    found = same_seed.campaign(["tip-adapter-f", "clap"], threads=False)
    assert {"result.txt", "result.zip", "features.npz", "results/cells.png"} <= set(found[0])
    assert sum(name.startswith("methods/") for name in found[0]) == 4
    assert same_seed.different(*found) == []


def test_a_difference_is_noticed(tmp_path: Path) -> None:
    digests = []
    for text in ("a", "b"):
        (tmp_path / "result.txt").write_text(text)
        (tmp_path / "other").write_text("same")
        digests.append(same_seed.digests(tmp_path))
    assert same_seed.different(*digests) == ["result.txt"]
    assert same_seed.different(digests[0], {}) == ["other", "result.txt"]
    found = same_seed.conclude(digests)
    assert (found.count, found.failures) == (2, 1)


def test_seconds_do_not_count(tmp_path: Path) -> None:
    digests = []
    for seconds, top1 in ((1, 50), (2, 50), (2, 51)):
        write_checked_json(tmp_path / "results/cells/a.json", {"top1": top1, "fit_seconds": seconds}, ANY)
        (tmp_path / "results/t.csv").write_text(f"top1,fit_seconds\n{top1},{seconds}\n")
        digests.append(same_seed.digests(tmp_path))
    assert same_seed.different(digests[0], digests[1]) == []
    assert same_seed.different(digests[1], digests[2]) == ["results/cells/a.json", "results/t.csv"]
