"""Processes that compute on request, so that several take turns on the same machine.

Such a process reads a line of JSON for each thing that it is to do, and answers it with one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from benchmarks import ROOT
from jclip_adapter.core.errors import DataError


@dataclass
class Runner:
    """A process that does something whenever it is asked.

    Attributes:
        what: What it computes, for the table.
        command: How to start it.
        method: Whose step this is.
        answers: Its answer each time.
    """

    what: str
    command: list[str]
    method: str = ""
    answers: list[dict[str, Any]] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None

    def ask(self, question: Any = "step") -> dict[str, Any]:
        """Let it do something, and start it before the first.

        Raises:
            DataError: it ended instead of answering.
        """
        if self._process is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._process = subprocess.Popen(self.command, cwd=ROOT, text=True, **pipes)  # type: ignore[call-overload]
        assert self._process is not None  # noqa: S101  (for the type checker)
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise DataError(f"{self.what}: the process ended ({self._process.wait()}).", "Its message stands above.")
        self.answers.append(json.loads(line))
        return self.answers[-1]

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()


@contextlib.contextmanager
def stopped(runners: Sequence[Runner]) -> Iterator[None]:
    """End all processes, come what may."""
    try:
        yield
    finally:
        for runner in runners:
            runner.stop()


def peak_mb() -> float:
    """The most memory that this process has had, in MB; `ru_maxrss` begins with that of the one that started it."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def answers_to() -> TextIO:
    """Where a process answers: its standard output, which nothing else can write to from now on."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return out


def has_module(python: str, name: str) -> bool:
    """Whether an interpreter can import a module."""
    if python == sys.executable:
        return importlib.util.find_spec(name) is not None
    return subprocess.run([python, "-c", f"import {name}"], check=False, capture_output=True).returncode == 0


def has_torch(python: str) -> bool:
    """Whether an interpreter can import PyTorch."""
    return has_module(python, "torch")
