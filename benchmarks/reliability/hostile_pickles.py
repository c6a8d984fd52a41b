"""Hostile pickles: all refused without a single call, and all genuine weight files read.

`python -m benchmarks.reliability.hostile_pickles` writes each pickle of hostile_files.py as a plain `.pkl`, with
Jittor's trailer and as a PyTorch archive, and reads it with the reader of weights in this process, where an audit hook
notes every import, execution, process, connection and every file opened for writing. A failure is a file that is read,
any error other than WeightsError, an error that does not name the file, or anything that the hook noted; and a genuine
file of tests/golden/weights that is not read, or gives other numbers than PyTorch and Jittor put into it.
"""

from __future__ import annotations

import argparse
import codecs
import functools
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import ROOT
from jclip_adapter.core.errors import WeightsError
from jclip_adapter.models.weights import read_state_dict

from . import audit, hostile_files, outcome

GENUINE = ROOT / "tests" / "golden" / "weights"
_CALLS: tuple[str, ...] = (
    *("import", "exec", "compile", "marshal.", "pickle.", "os.", "shutil.", "subprocess.", "socket.", "ctypes."),
    *("urllib.", "http.client.", "ftplib.", "smtplib.", "webbrowser.", "code.__new__", "function.__new__", "sqlite3."),
    *("builtins.input", "tempfile.", "signal.", "pty.", "sys._getframe", "sys.setprofile", "sys.settrace"),
)
# Python imports its codecs when they are first used; after that an import is somebody else's doing.
_CODECS = ("cp437", "latin-1", "raw_unicode_escape", "unicode_escape")
# Looking at a folder or a file's permissions changes nothing; pathlib does so to find a path.
_HARMLESS = frozenset(["os.listdir", "os.scandir"])
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
Read = Callable[[Path], Any]


def _note(event: str, arguments: tuple[Any, ...]) -> str:
    if event == "open":
        _, mode, flags = arguments
        writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & _WRITING)
        return f"open {arguments[0]!r} for writing" if writes else ""
    return f"{event} {arguments!r}"[:200] if event.startswith(_CALLS) and event not in _HARMLESS else ""


@functools.cache
def warm_up() -> None:
    """Let the reader import what it imports late."""
    for codec in _CODECS:
        codecs.lookup(codec)
    read_state_dict(GENUINE / "zip.pt")


def watched() -> AbstractContextManager[list[str]]:
    """What of the calls happens within the block."""
    warm_up()
    return audit.watched(_note)


def hostile() -> dict[str, tuple[str, bytes]]:
    """The files: what each is → its ending and its bytes, all different."""
    files = {}
    for name, data in hostile_files.HOSTILE.items():
        files[name] = (".pkl", data)
        files[f"{name} (Jittor)"] = (".pkl", hostile_files.jittor(data))
        files[f"{name} (archive)"] = (".zip" if len(files) % 2 else ".pt", hostile_files.zipped(data))
    for name, data in hostile_files.archives().items():
        files[f"archive: {name}"] = (".pt", data)
    return files


def refuse(files: dict[str, tuple[str, bytes]], folder: Path, read: Read = read_state_dict) -> list[str]:
    """What went otherwise than wanted, one line per file.

    Args:
        files: As `hostile` gives them.
        folder: Where they are written, one after the other.
        read: The reader.
    """
    failures = []
    for name, (ending, data) in tqdm(files.items(), desc="hostile files", unit="file"):
        path = folder / f"weights{ending}"
        path.write_bytes(data)
        found = ""
        with watched() as noted:
            try:
                read(path)
                found = "was read"
            except WeightsError as error:
                if str(path) not in error.message or "\n" in str(error):
                    found = "was refused, but not by name and in one line"
            except Exception as error:  # noqa: BLE001  (whatever it is, it is what we count)
                found = f"raised {type(error).__name__}"
        if noted:
            found = f"{found} made calls: {noted[:3]}".strip()
        if found:
            failures.append(f"{name}: {found}")
    return failures


def expected() -> dict[str, dict[str, Any]]:
    """What was put into the genuine files: file → OpenAI's name → array, from the expected-*.npz beside them."""
    table: dict[str, dict[str, Any]] = {}
    for archive in sorted(GENUINE.glob("expected-*.npz")):
        with np.load(archive) as numbers:
            for key in numbers.files:
                files, _, name = key.partition("/")
                for file in files.split():
                    table.setdefault(file, {})[name] = numbers[key]
    return table


def genuine(read: Read = read_state_dict) -> tuple[int, list[str]]:
    """How many genuine files there are, and what went otherwise than wanted with them."""
    numbers, failures = expected(), []
    paths = [path for path in sorted(GENUINE.iterdir()) if path.suffix != ".npz"]
    for path in paths:
        with watched() as noted:
            try:
                state = read(path)
            except WeightsError as error:
                failures.append(f"{path.name}: {error}")
                continue
        wanted = numbers.get(path.name, {})
        same = state.keys() == wanted.keys() and all(np.array_equal(state[name], wanted[name]) for name in wanted)
        if not wanted or not same:
            failures.append(f"{path.name}: other numbers than were put into it")
        if noted:
            failures.append(f"{path.name}: made calls: {noted[:3]}")
    return len(paths), failures


def main(argv: list[str] | None = None) -> int:
    """Read them all and write the outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=0, help="only so many files, spread over all (0: every one)")
    parser.add_argument("--seed", type=int, default=0, help="without effect: nothing is random")
    arguments = parser.parse_args(argv)
    files = hostile()
    if arguments.trials:
        step = max(1, len(files) // arguments.trials)
        files = dict(list(files.items())[::step])
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        bad = refuse(files, Path(folder))
    kinds, wrong = genuine()
    different = len({data for _, data in files.values()})
    pickles = len(set(hostile_files.HOSTILE.values()))
    return outcome.write(
        outcome.Outcome(
            name="hostile-pickles",
            tried=f"{different} hostile files ({pickles} different pickles, each as .pkl, with Jittor's trailer and in "
            f"PyTorch's archive, and {len(hostile_files.archives())} archives hostile as such), and {kinds} genuine "
            "files of every format",
            wanted="all hostile ones refused without a single call (audit hook), all genuine ones read",
            reached=f"{len(files) - len(bad)} of {len(files)} refused, {len(bad)} otherwise; "
            f"{kinds - len(wrong)} of {kinds} genuine ones read",
            count=len(files) + kinds,
            failures=len(bad) + len(wrong),
            facts={
                "different_pickles": pickles,
                "endings": dict(Counter(ending for ending, _ in files.values())),
                "failures": (bad + wrong)[:20],
                "seconds": round(time.perf_counter() - started, 1),
            },
        )
    )


if __name__ == "__main__":
    sys.exit(main())
