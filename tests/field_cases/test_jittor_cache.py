"""Jittor's cache, damaged or used by another program: mended, or told in one line (E4, B3)."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jclip_adapter import runtime
from jclip_adapter.core.errors import SetupError
from jclip_adapter.runtime import build, compiled, planning
from tests import ROOT

# A module that behaves as Jittor's import does: it leaves as often as a file says, and then works.
FAKE = """
import os, pathlib, signal, sys
place = pathlib.Path(os.environ["FAKE_DIR"])
__version__ = "1.3.11.0"
if "BROKEN" in os.environ:
    for path in place.rglob("jit_utils_core*.so"):
        if path.read_bytes() == b"crashes":
            os.kill(os.getpid(), signal.SIGBUS)
    (place / "built.so").write_bytes(b"")
turns = place / ("child" if "-c" in sys.orig_argv and "prctl" in sys.orig_argv[-1] else "command")
left = int(turns.read_text()) if turns.exists() else 0
if left:
    turns.write_text(str(left - 1))
    print("jit_utils updated, please rerun your command.", file=sys.stderr)
    sys.exit(0)
class flags:
    use_cuda = 0
    cc_path = "none"
"""
FAKE_UTILS = """
import os
cache_path = os.environ["FAKE_DIR"]
pool_size = 0
def pool_initializer(): pass
def pool_cleanup(): pass
def try_import_jit_utils_core(silent=None): pass
"""
PROGRAM = """
import sys
from jclip_adapter import runtime
from jclip_adapter.cli import entry
from jclip_adapter.cli.commands import list as command
runtime.onednn.link = lambda home: True
from jclip_adapter.core.console import print_result
command.run = lambda *_: print_result(f"ran with {runtime.start('cpu').__name__}")
entry.run(["--list"])
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "jittor.py").write_text(FAKE)
    (tmp_path / "jittor_utils.py").write_text(FAKE_UTILS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.setenv("FAKE_DIR", str(tmp_path))
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path / "home"))
    return tmp_path


def command() -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("where", ["child", "command"])
def test_another_program_has_rebuilt_the_core(fake: Path, where: str) -> None:
    """B3: "Jittor does not start (0)"; the command starts anew by itself."""
    (fake / where).write_text("1")
    done = command()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ran with jittor\n"
    assert "error" not in done.stderr


def test_it_starts_anew_once_and_not_for_ever(fake: Path) -> None:
    """B3: a cache that is rebuilt each time is told in one line."""
    (fake / "command").write_text("9")
    done = command()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: Jittor does not start (it rebuilt its core).")
    assert (fake / "command").read_text() == "7"


def test_a_core_that_changed_is_tried_in_a_child_first(fake: Path) -> None:
    """B3: whether the core is the one that was tried shows in its size and time."""
    core = fake / "jittor_core.so"
    core.write_bytes(b"one")
    marker = fake / "mark_0123456789abcdef.ready"
    compiled.record(marker, str(fake))
    assert compiled.is_recorded(marker)
    os.utime(core, (1, 1))
    assert not compiled.is_recorded(marker)
    compiled.record(marker, str(fake))
    core.write_bytes(b"other")
    assert not compiled.is_recorded(marker)
    core.unlink()
    assert not compiled.is_recorded(marker)
    marker.write_text("cpu: asked for\n")  # as version 0.1.0 left it
    assert not compiled.is_recorded(marker)


def libraries() -> list[Path]:
    runtime.start("auto")
    folder = Path(__import__("jittor_utils").cache_path)
    return [next(iter(folder.glob(pattern))) for pattern in compiled.CORE] + sorted(folder.glob("jit/*.so"))[:3]


def test_every_library_that_jittor_compiled_is_whole() -> None:
    """E4: no false alarm on real files."""
    assert len(libraries()) >= 2
    assert all(map(compiled.is_whole, libraries()))


@pytest.mark.parametrize(
    "cut", [lambda size: 0, lambda size: 63, lambda size: 64, lambda size: size // 2, lambda size: size - 1]
)
def test_a_library_that_is_cut_short_is_seen(cut: Callable[[int], int], tmp_path: Path) -> None:
    """E4: `jit_utils_core*.so` cut short was a bare bus error, also in --doctor; the others likewise."""
    found = libraries()
    assert found
    for library in found:
        data = library.read_bytes()
        path = tmp_path / "deep" / library.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data[: cut(len(data))])
        (tmp_path / "whole.so").write_bytes(data)
        assert compiled.remove_broken(tmp_path) == [path]
        assert not path.exists()
        assert (tmp_path / "whole.so").read_bytes() == data


def test_a_library_of_zeros_is_seen(tmp_path: Path) -> None:
    """E4: what a power cut leaves of a file that was not flushed."""
    (tmp_path / "a.so").write_bytes(bytes(4096))
    (tmp_path / "b.so").write_bytes(b"\xcf\xfa\xed\xfe" + bytes(4092))  # macOS's kind is not told by its length
    assert [path.name for path in compiled.remove_broken(tmp_path)] == ["a.so"]


def test_a_cut_core_is_mended_with_a_message(fake: Path) -> None:
    """E4: it is removed, Jittor compiles it again in a child, and the command goes on."""
    folder = fake / "home/.cache/jittor/jt1.3.11/g++/default"
    folder.mkdir(parents=True)
    (folder / "jit_utils_core.so").write_bytes(b"\x7fELF\x02\x01" + bytes(34) + struct.pack("<Q", 9999) + bytes(100))
    done = command()
    assert done.returncode == 0, done.stderr
    assert "jit_utils_core.so was truncated; Jittor compiles it again" in done.stderr
    assert not (folder / "jit_utils_core.so").exists()


def test_a_core_that_crashes_is_mended(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E4: damage that its length does not show ends a child, not the command."""
    monkeypatch.setenv("BROKEN", "1")
    folder = fake / "home/.cache/jittor/jt1.3.11/g++/default"
    folder.mkdir(parents=True)
    (folder / "jit_utils_core.so").write_bytes(b"crashes")
    monkeypatch.setattr(compiled, "is_whole", lambda _: True)
    plan = planning.Plan("cpu", "test", {})
    assert build.compile_core(plan) == str(fake)
    assert not (folder / "jit_utils_core.so").exists()


def test_a_core_that_always_crashes_names_the_signal_and_the_cure(fake: Path) -> None:
    """E4: told in one line, and not tried for ever."""
    (fake / "jittor.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGBUS)")
    with pytest.raises(SetupError, match=rf"killed by {signal.SIGBUS.name}.*delete"):
        build.compile_core(planning.Plan("cpu", "test", {}))
