"""The observers of benchmarks/reliability/no_network.py, and a prediction under them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.reliability import no_network
from tests.random_weights import write_safe
from tests.tiny_contest import write_contest

CONNECT = "import socket; socket.socket().connect_ex(('127.0.0.1', 9))"
INDIRECT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CONNECT!r}])"
LOOK_UP = "import socket; socket.getaddrinfo('localhost', 80)"
SEND = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))"


@pytest.mark.parametrize("code", [CONNECT, INDIRECT, LOOK_UP, SEND])
def test_what_reaches_for_the_network_is_seen(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert no_network.watch([sys.executable, "-c", code], tmp_path).calls
    monkeypatch.setattr(no_network, "tracer", list)
    seen = no_network.watch([sys.executable, "-c", code], tmp_path)
    assert seen.calls
    assert seen.processes == 1 + (code == INDIRECT)


def test_other_programs_are_seen_where_there_is_strace(tmp_path: Path) -> None:
    seen = no_network.watch(["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9"], tmp_path)
    assert bool(seen.calls) == bool(no_network.tracer())


def test_files_and_pipes_are_no_network(tmp_path: Path) -> None:
    code = "import socket; a, b = socket.socketpair(); a.send(b'x'); b.recv(1)"
    seen = no_network.watch([sys.executable, "-c", code], tmp_path)
    assert (seen.status, seen.calls, seen.processes) == (0, (), 1)


def test_a_prediction(tmp_path: Path) -> None:
    write_contest(tmp_path / "Dataset", per_class=1, tests=40)  # so many are decoded in child processes
    weights = write_safe(tmp_path / "tiny.safetensors")
    arguments = f"--predict result.txt --weights {weights} --method zero-shot --workers 2".split()
    command = [sys.executable, str(no_network.ROOT / "runner.py"), *arguments]
    seen = no_network.watch(command, tmp_path)
    assert (seen.status, seen.calls) == (0, ()), seen.messages
    assert seen.processes >= 3  # this one, two that decode, and those of Jittor's import


def test_a_command_that_fails_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = [no_network.Command("broken", ("-c", "raise SystemExit(3)")), no_network.Command("loud", ("-c", CONNECT))]
    monkeypatch.setattr(no_network, "commands", lambda *_, **__: table)
    found = no_network.run()
    assert (found.count, found.failures) == (2, 2)
    assert "exit status 3" in found.facts["faults"][0]
    assert "127.0.0.1" in found.facts["faults"][1]
