"""Every command on the sample, its weights given by path, with the network watched.

Two observers: an audit hook in every Python process (a `sitecustomize` on PYTHONPATH puts it there, so that decoding
processes and Jittor's compiling child have it too), and strace where it is to be had, which sees compilers as well. A
command fails when any process of it looks a host up or opens a connection to an internet address, loopback included, or
when its exit status is not 0, as a command that stops early proves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tqdm import tqdm

from benchmarks import ROOT
from jclip_adapter.data.sample import SAMPLE_WEIGHTS, read_sample_weights
from jclip_adapter.runtime.planning import jittor_home
from jclip_adapter.storage import ANY, write_safetensors, write_text

from . import outcome

SHORT_SUITE = ("tests/storage", "tests/data/test_decode.py", "tests/data/test_decoders.py", "tests/models/clip/weights")
_LOG = "JCLIP_NETWORK_LOG"
_HOOK = f"""
import os, socket, sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"):
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            if arguments[0].family not in (socket.AF_INET, socket.AF_INET6):
                return
            arguments = arguments[1:]
        handle = os.open(os.environ[{_LOG!r}], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{{event}} {{arguments!r:.200}}\\n".encode())
        os.close(handle)
if os.environ.get({_LOG!r}):
    sys.addaudithook(hook)
    handle = os.open(os.environ[{_LOG!r}], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, b"started\\n")
    os.close(handle)
"""
_CALLS = "connect,sendto,sendmsg,sendmmsg"
_INTERNET = re.compile(r"sa_family=AF_INET6?\b")


@dataclass(frozen=True)
class Watched:
    """What was seen of a command.

    Attributes:
        status: Its exit status.
        calls: What reached for the network, one line each.
        processes: Python processes that had the hook.
        messages: The end of what it wrote.
    """

    status: int
    calls: tuple[str, ...]
    processes: int
    messages: str


@dataclass(frozen=True)
class Command:
    """A command of the table.

    Attributes:
        name: What it does.
        arguments: Behind the interpreter.
        environment: Variables of its own.
    """

    name: str
    arguments: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)


@cache
def tracer() -> list[str]:
    """How to call strace; empty where it is missing or forbidden."""
    path = shutil.which("strace")
    options = ["-f", "-qq", "-e", f"trace={_CALLS}", "-o"]
    # With a filter in the kernel the other calls cost nothing; older ones lack it.
    for command in ([path, "--seccomp-bpf", *options], [path, *options]) if path else ():
        with tempfile.NamedTemporaryFile() as log:
            done = subprocess.run([*command, log.name, sys.executable, "-c", ""], capture_output=True, check=False)
        if done.returncode == 0:
            return command
    return []


def watch(command: Sequence[str], where: Path, environment: dict[str, str] | None = None) -> Watched:
    """Run a command under both observers.

    Args:
        command: Program and arguments.
        where: The working directory.
        environment: Variables of its own.
    """
    trace = tracer()
    with tempfile.TemporaryDirectory() as folder:
        log, calls = Path(folder) / "hook.log", Path(folder) / "strace.log"
        write_text(Path(folder) / "sitecustomize.py", _HOOK, ANY)
        places = [folder, str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        done = subprocess.run(
            [*trace, *([str(calls)] if trace else []), *command],
            cwd=where,
            env={**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join(places), _LOG: str(log)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        hooked = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        traced = calls.read_text(encoding="utf-8", errors="replace").splitlines() if calls.exists() else []
    found = [line for line in hooked if line != "started"] + [line for line in traced if _INTERNET.search(line)]
    return Watched(
        done.returncode, tuple(found), hooked.count("started"), done.stdout.decode("utf-8", "replace")[-300:]
    )


def commands(work: Path, *, suite: Sequence[str], cold: bool) -> list[Command]:
    """The table.

    Args:
        work: Where results go.
        suite: What pytest is given.
        cold: Whether Jittor is also compiled anew, in a home of its own.
    """
    runner = str(ROOT / "runner.py")
    weights = str(work / "clip.safetensors")
    write_safetensors(weights, read_sample_weights(SAMPLE_WEIGHTS), {})  # spelt out: its own file is a packed one
    sample = ("--data", "sample", "--weights", weights)
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "jclip_adapter").rglob("*.py"))
    ]
    script = (
        f"import importlib\nfor name in {modules!r}: importlib.import_module(name)\nfrom jclip_adapter import runtime"
    )
    pytest = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT))
    table = [
        Command("import of every module and of Jittor", ("-c", f"{script}\nruntime.jt.ones(2).numpy()")),
        Command("train", (runner, "--train", *sample)),
        Command("predict", (runner, "--predict", "result.txt", *sample, "--workers", "2")),
        Command("check", (runner, "--check", "result.txt", "--data", "sample")),
        Command("evaluate", (runner, "--evaluate", *sample)),
        Command("extract", (runner, "--extract", "toy.npz", *sample)),
        Command("benchmark", (runner, "--benchmark", "--features", "toy.npz", "--method", "gda,tip-adapter-f")),
        Command("convert", (runner, "--convert", weights, "copy.safetensors")),
        Command("list", (runner, "--list")),
        Command("doctor", (runner, "--doctor")),
        Command("tests but those of this folder", (*pytest, *suite)),
    ]
    if cold:
        home = work / "jittor"
        home.mkdir()
        table.append(
            Command("first import, compiling Jittor", ("-c", "from jclip_adapter.runtime import jt"), _home(home))
        )
    return table


def _home(folder: Path) -> dict[str, str]:
    return {"JITTOR_HOME": str(folder)}


def run(trials: int = 1000, *, suite: Sequence[str] = SHORT_SUITE, cold: bool = True) -> outcome.Outcome:
    """Watch every command of the table, or the first ones.

    Args:
        trials: How many commands.
        suite: What pytest is given.
        cold: As for `commands`.
    """
    faults, seen, processes = [], {}, 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        table = commands(work, suite=suite, cold=cold)[:trials]
        for command in tqdm(table, desc="no network", unit="command"):
            where = ROOT if "pytest" in command.arguments else work
            kept = {"JITTOR_HOME": str(jittor_home()), **command.environment}
            found = watch([sys.executable, *command.arguments], where, kept)
            seen[command.name] = {"calls": len(found.calls), "python_processes": found.processes}
            processes += found.processes
            if found.status != 0 or found.calls or not found.processes:
                reason = found.calls[:3] or found.messages
                faults.append(f"{command.name}: exit status {found.status}, {json.dumps(reason, ensure_ascii=False)}")
    observers = "an audit hook in every Python process" + (" and strace" if tracer() else "")
    calls = sum(each["calls"] for each in seen.values())
    return outcome.Outcome(
        "no-network",
        f"{', '.join(seen)} (weights given by path), watched by {observers}",
        "no connection, no look-up of a host",
        f"{calls} in {processes} Python processes of {len(seen)} commands"
        + (f"; {len(faults)} commands failed" if faults else ""),
        len(seen),
        len(faults),
        {"by_command": seen, "pytest": list(suite), "faults": faults},
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Watch every command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000, help="commands of the table at most")
    parser.add_argument("--seed", type=int, default=0, help="has no effect: nothing is random here")
    parser.add_argument("--short", action="store_true", help="a few test files, and Jittor as it is compiled already")
    arguments = parser.parse_args(argv)
    suite = SHORT_SUITE if arguments.short else ("-m", "not gpu", "--deselect", "tests/reliability")
    return outcome.write(run(arguments.trials, suite=suite, cold=not arguments.short))


if __name__ == "__main__":
    sys.exit(main())
