import ctypes
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jclip_adapter import runtime
from jclip_adapter.runtime import kernels

SOURCES = Path(str(importlib.util.find_spec("jittor").origin)).parent / "src"


def fake(cc_path="/usr/bin/g++", cc_flags="-O1 -fPIC -shared -lstdc++", python_path="python"):
    """What of Jittor is read and changed; its headers are empty here."""
    return SimpleNamespace(
        __version__="1", flags=SimpleNamespace(cc_path=cc_path, cc_flags=cc_flags, python_path=python_path)
    )


def shell(command):
    """What a command prints; as Jittor, which gives its commands to the shell."""
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "_HEADER", "#define PARSED 7\n")
    return shutil.which("g++")


def test_the_header_is_parsed_once_and_then_used(tmp_path, compiler):
    jittor = fake(compiler)
    assert kernels.shorten_compilation(jittor, tmp_path, "g++ 1")
    header = next(tmp_path.glob("kernels_*.h"))
    assert jittor.flags.cc_flags.endswith(f" -include {header} ")
    parsed = header.with_suffix(".h.gch")
    before = parsed.stat().st_mtime_ns
    assert kernels.shorten_compilation(fake(compiler), tmp_path, "g++ 1")
    assert parsed.stat().st_mtime_ns == before
    assert kernels.shorten_compilation(fake(compiler), tmp_path, "g++ 2")
    assert len(list(tmp_path.glob("*.gch"))) == 2
    # Without the plain header only the parsed one can have told the compiler.
    header.unlink()
    (tmp_path / "kernel.cc").write_text('extern "C" int number() { return PARSED; }\n')
    command = f"{compiler} {tmp_path}/kernel.cc {jittor.flags.cc_flags} -o {tmp_path}/kernel.so"
    shell(command)


def test_kernels_are_compiled_directly_and_other_scripts_by_python(tmp_path, compiler):
    jittor = fake(compiler)
    assert kernels.shorten_compilation(jittor, tmp_path, "g++ 1")
    (tmp_path / "kernel.cc").write_text('extern "C" int number() { return 7; }\n')
    # As Jittor writes it; the script does not exist, so only the compiler can have made the library.
    shell(
        f'{jittor.flags.python_path} /nowhere/utils/asm_tuner.py --cc_path="{compiler}" "{tmp_path}/kernel.cc" '
        f'-fPIC -shared -o "{tmp_path}/kernel.so"'
    )
    assert ctypes.CDLL(str(tmp_path / "kernel.so")).number() == 7
    (tmp_path / "other.py").write_text("import sys; print(sys.argv[1:], sys.executable)\n")
    done = shell(f'{jittor.flags.python_path} {tmp_path}/other.py "one word"')
    assert done == f"['one word'] {sys.executable}\n"


@pytest.mark.parametrize("cc_path", ["/usr/bin/clang++", "/usr/bin/icc"])
def test_other_compilers_stay_as_they_are(tmp_path, cc_path):
    jittor = fake(cc_path)
    assert not kernels.shorten_compilation(jittor, tmp_path, "clang")
    assert vars(jittor.flags) == vars(fake(cc_path).flags)


def test_a_folder_with_a_space_stays_as_it_is(tmp_path, compiler):
    assert not kernels.shorten_compilation(fake(compiler), tmp_path / "a b", "g++ 1")


def test_a_compiler_that_fails_leaves_nothing(tmp_path, compiler):
    jittor = fake(compiler, cc_flags="-no-such-flag-at-all=1")
    assert not kernels.shorten_compilation(jittor, tmp_path, "g++ 1")
    assert vars(jittor.flags) == vars(fake(compiler, cc_flags="-no-such-flag-at-all=1").flags)
    assert [path.suffix for path in tmp_path.iterdir()] == [".h"]


def test_it_is_so_where_jittor_runs():
    jittor = runtime.start()
    shortened = runtime.current_device() == "cpu" and Path(jittor.flags.cc_path).name.startswith("g++")
    assert ("kernels_" in jittor.flags.cc_flags) == shortened
    assert ("compile_" in jittor.flags.python_path) == shortened


def test_the_core_gets_a_precompiled_header_that_its_kernels_do_not(tmp_path, compiler, monkeypatch):
    flags = kernels.core_flags(tmp_path, compiler, "g++ 1", SOURCES)
    header = next(tmp_path.glob("core_*.h"))
    assert flags == f"{kernels.CORE_LEVEL} -include {header}"
    parsed = header.with_suffix(".h.gch")
    before = parsed.stat().st_mtime_ns
    assert kernels.core_flags(tmp_path, compiler, "g++ 1", SOURCES) == flags
    assert parsed.stat().st_mtime_ns == before
    # Compiled as Jittor compiles its core; without the plain header only the parsed one can have told the compiler.
    text = header.read_text()
    header.unlink()
    (tmp_path / "core.cc").write_text("std::string core() { return std::to_string(7); }\n")
    shell(f"{compiler} {tmp_path}/core.cc -Wall -std=c++14 -fPIC -march=native {flags} -c -o {tmp_path}/core.o")
    header.write_text(text)
    jittor = fake(compiler, cc_flags=f"-fPIC {flags} -Ofast -shared")
    assert kernels.shorten_compilation(jittor, tmp_path, "g++ 1")
    assert jittor.flags.cc_flags.count("-include") == 1
    assert "kernels_" in jittor.flags.cc_flags
    assert kernels.core_flags(tmp_path, "/usr/bin/clang++", "clang 1", SOURCES) == ""
    monkeypatch.setattr(kernels, "_CORE_HEADER", "no header\n")
    assert kernels.core_flags(tmp_path, compiler, "g++ 1", SOURCES) == kernels.CORE_LEVEL


def test_the_running_jittor_was_compiled_so():
    """Its core at -O1 with the header; its kernels at -Ofast."""
    jittor = runtime.start("cpu")
    assert "/core_" not in jittor.flags.cc_flags
    assert jittor.flags.cc_flags.index(kernels.CORE_LEVEL) < jittor.flags.cc_flags.index("-Ofast")
    records = list(Path(jittor.flags.cache_path).glob("obj_files/var.cc.o.key"))
    assert records and all("/core_" in path.read_text() for path in records)


@pytest.mark.skipif(runtime.current_device() == "cuda", reason="it is the CPU's memory")
def test_memory_begins_where_cache_lines_do():
    runtime.start("cpu")
    from jclip_adapter.runtime import jt

    kept = [jt.ones(size) + 1 for size in (1, 7, 1000, 3_000, 10_000, 300_000, 700_001, 3_000_000)]
    assert [each.data.ctypes.data % 64 for each in kept] == [0] * len(kept)
