"""`--doctor`: what of the machine matters, what was found, and what to do about each problem."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from . import onednn, python_headers, runtime
from .cuda import Cuda, find_cuda
from .errors import AdapterError
from .jittor_messages import reason

_GIGABYTE = 1 << 30
_NEEDED = 3 * _GIGABYTE  # Jittor's cache, its kernels and a CLIP


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What.
        state: "ok", "note" (works, but may surprise) or "problem".
        found: What was found.
        cure: What to do; empty where nothing needs to be done.
    """

    subject: str
    state: str
    found: str
    cure: str = ""


def examine(device: str = "auto", start: bool = True) -> list[Finding]:
    """Look at everything that a run needs.

    Args:
        device: The device that is wanted.
        start: Also start Jittor and compute something, which compiles it the first time.

    Returns:
        The findings, problems included; nothing is raised.
    """
    cuda = find_cuda()
    findings = [_python(), _compiler(), _packages(), _unrelated(), _onednn(), _home(), *_cuda(cuda)]
    try:
        plan = runtime.make_plan(device, cuda)
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
        return Finding("Python", "problem", f"{version}, without its headers", python_headers.CURE)
    return Finding("Python", "problem", version, "Use Python 3.10, 3.11 or 3.12.")


def _compiler() -> Finding:
    version = runtime.compiler()
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
    cure = "It is not uyzhang/JCLIP and not needed: `pip uninstall jclip`."
    return Finding("JCLIP", "note", f"PyPI's unrelated package jclip {version} is installed", cure)


def _onednn() -> Finding:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return Finding("oneDNN", "note", f"no package for {sys.platform} {platform.machine()}", "Jittor downloads it.")
    folders = onednn.folders()
    if folders is None:
        cure = "Run `pip install -r requirements.txt` (onednn-cpu-gomp, onednn-devel-cpu-gomp)."
        return Finding("oneDNN", "problem", "the PyPI packages are missing", cure)
    place = onednn.place(runtime.jittor_home())
    found = onednn.version(place / "include" if place.exists() else folders[1])
    half = "with" if onednn.has_bfloat16() else "without"
    words = f"{'.'.join(map(str, found))}, on a processor {half} products of bfloat16"
    if found < onednn.NEEDED:
        return Finding("oneDNN", "note", words, f"Delete {place}: encoding is slow with a version so old.")
    return Finding("oneDNN", "ok", words)


def _home() -> Finding:
    home = runtime.jittor_home()
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
        found = f"{cuda.reason}{f'; nvcc {cuda.nvcc} is left alone' if cuda.nvcc else ''}"
        return [Finding("CUDA", "note", found, f"The CPU is used. {cuda.cure}")]
    if cuda.obstacle:
        return [Finding("CUDA", "note", f"{cuda.reason}, but {cuda.obstacle}; the CPU is used", cuda.cure)]
    version = ".".join(map(str, cuda.version))
    cudnn = Finding("cuDNN", "ok", "version 8")
    if cuda.cudnn != 8:
        found = f"version {cuda.cudnn}, of which Jittor" if cuda.cudnn else "none; Jittor"
        cudnn = Finding("cuDNN", "note", f"{found} makes no use", "Only CLIP's ResNets are slower without version 8.")
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
        return Finding("Jittor", "problem", f"2·(1+2+3) came out as {total}", _broken_cache())
    return Finding("Jittor", "ok", f"computes on {runtime.current_device()}")


def _broken_cache() -> str:
    return f"Delete {runtime.jittor_home() / '.cache' / 'jittor'} and run the command again."
