"""Commands in a pseudo-terminal, as a person sees them: a session of their own, Ctrl-C to the whole process group."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests import ROOT

# A test that is started in the background inherits "SIGINT ignored"; a terminal's shell gives its programs the default.
DEFAULT_SIGINT = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


@dataclass
class Terminal:
    """A command on a pseudo-terminal.

    Attributes:
        process: The command.
        master: The terminal's other end.
        output: What it has shown so far.
        gaps: Seconds between two outputs.
    """

    process: subprocess.Popen[bytes]
    master: int
    output: bytes = b""
    gaps: list[float] = field(default_factory=list)
    last: float = field(default_factory=time.monotonic)

    def read(self, seconds: float) -> bool:
        """Take what is shown within some seconds; whether the command may go on."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.master], [], [], min(left, 0.05))[0]:
                if self.process.poll() is not None:
                    return False
                continue
            try:
                data = os.read(self.master, 65536)
            except OSError:  # nobody has the terminal open any more
                return False
            if not data:
                return False
            now = time.monotonic()
            self.gaps.append(now - self.last)
            self.last = now
            self.output += data
        return self.process.poll() is None

    def wait_for(self, text: str, seconds: float = 120) -> None:
        """Wait until something is shown."""
        end = time.monotonic() + seconds
        while text.encode() not in self.output:
            alive = self.read(0.1)
            assert alive or text.encode() in self.output, self.output.decode(errors="replace")
            assert time.monotonic() < end, self.output.decode(errors="replace")

    def end(self, seconds: float = 240) -> int:
        """Wait for the command's end; its exit status."""
        end = time.monotonic() + seconds
        while self.read(0.5):
            assert time.monotonic() < end, self.output.decode(errors="replace")
        return self.process.wait(10)

    def press_ctrl_c(self) -> float:
        """Send SIGINT to the process group; seconds until the command has ended and nobody holds its terminal."""
        os.killpg(self.process.pid, signal.SIGINT)
        start = time.monotonic()
        while self.process.poll() is None and time.monotonic() - start < 20:
            self.read(0.05)
        taken = time.monotonic() - start
        self.read(0.3)
        return taken

    def close(self) -> None:
        """End whatever is left of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.master)


def start(command: Sequence[str], folder: Path, **environment: str) -> Terminal:
    """Start Python with arguments on a terminal of its own."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", DEFAULT_SIGINT, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    return Terminal(process, master)
