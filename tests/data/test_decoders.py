"""Decoding in threads and in other processes gives what decoding here gives, whatever surrounds it."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from jclip_adapter.core.errors import SetupError
from jclip_adapter.data.photos import decoders
from jclip_adapter.data.photos.decode import Job, try_square
from jclip_adapter.data.photos.decoders import decode
from tests import ROOT
from tests.tiny_contest import write_photo


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """Numbers with gaps, a broken photo, a missing one, and a name that is no UTF-8."""
    names = [*(f"{number}.jpg" for number in range(40)), "caf\udce9 \u2028.jpg"]
    for number, name in enumerate(names):
        write_photo(tmp_path / name, number)
    (tmp_path / "7.jpg").write_bytes(b"\xff\xd8 no photo")
    (tmp_path / "8.jpg").unlink()
    return [Job(3 * number, str(tmp_path / name), 32) for number, name in enumerate(names)]


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 50])
def test_the_same_as_without_either(workers: int, jobs: list[Job]) -> None:
    found = list(decode(jobs, workers, "cpu"))
    assert len(found) == len(jobs)
    for (number, digest, result), (own_number, own_digest, own) in zip(found, map(try_square, jobs), strict=True):
        assert (number, digest) == (own_number, own_digest)
        assert type(result) is type(own)
        np.testing.assert_array_equal(result, own)
    assert [number for number, _, result in found if isinstance(result, str)] == [21, 24]


def test_nothing_to_do() -> None:
    assert list(decode([], 2, "cpu")) == list(decode([], 0, "cpu")) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_left_early(workers: int, jobs: list[Job]) -> None:
    decoded = decode(jobs * 20, workers, "cpu")
    assert next(decoded)[0] == 0
    decoded.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


@pytest.mark.parametrize(
    ("photos", "device", "cores", "workers"),
    [(256, "cuda", 64, 0), (257, "cuda", 64, 8), (9999, "cuda", 2, 2), (9999, "cpu", 4, 0), (9999, "cpu", 6, 6)],
)
def test_children_where_they_pay(
    photos: int, device: str, cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "cores", lambda: cores)
    monkeypatch.setattr(decoders, "in_threads", lambda *_: iter([(0, b"", "threads")]))
    monkeypatch.setattr(decoders, "decode_in_children", lambda _, count: iter([(0, b"", f"{count} children")]))
    told = next(decode([Job(0, "", 1)] * photos, -1, device))[2]
    assert told == (f"{workers} children" if workers else "threads")


def test_threads_leave_warnings_as_they_were(jobs: list[Job]) -> None:
    before = list(warnings.filters)
    assert len(list(decode(jobs * 5, 0, "cpu"))) == 5 * len(jobs)
    assert warnings.filters == before


def test_no_process_to_be_had(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(SetupError, match="no decoding process can be started"):
        list(decode(jobs, 2, "cpu"))


def test_a_script_without_a_guard_in_a_folder_of_misleading_names(tmp_path: Path, jobs: list[Job]) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for name in ("numpy", "json", "PIL"):
        (work / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from jclip_adapter.data.photos.decode import Job\nfrom jclip_adapter.data.photos.decoders import decode\n"
        f"print(len(list(decode([Job(*job) for job in {[tuple(job[:3]) for job in jobs[:20]]!r}], 2, 'cpu'))))\n"
    )
    done = subprocess.run([sys.executable, script], cwd=work, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("20\n", "", 0)
