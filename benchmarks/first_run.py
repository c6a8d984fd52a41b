"""Time the way from `git clone` to the first result on an empty machine: results/first-run.csv and .md.

    python -m benchmarks.first_run --revision v1 --revision HEAD

Each revision is cloned, and gets an empty home folder and an environment of its own. pip's cache is empty too, so its
seconds are mostly the network's. Then the first result is made once more with an empty home, on a terminal: for how
long does it print nothing?
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import ROOT, reports_user_errors
from benchmarks.results import write_results
from jclip_adapter.core.errors import SetupError
from jclip_adapter.evaluation.report import markdown_table

RESULTS = ROOT / "results" / "first-run"
COLUMNS = ("revision", "step", "seconds")
DEMO = ("--train", "--evaluate", "--predict", "result.txt", "--data", "sample")
# Commands that find every feature stored the second time.
AGAIN = {
    "list": ("--list",),
    "train": ("--train", "--data", "sample"),
    "evaluate": ("--evaluate", "--data", "sample"),
    "predict": ("--predict", "result.txt", "--data", "sample"),
    "check": ("--check", "result.txt", "--data", "sample"),
    "inspect": ("--inspect", "--data", "sample"),
}
SILENCE = "longest silence on a terminal"
_STAGE = re.compile(r"^(?P<stage>[a-z][\w ]+): .*?(?P<seconds>[\d.]+) s$")


def steps(folder: Path, home: Path) -> Iterator[tuple[str, float]]:
    """The steps of a first run in a clone, and their seconds."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR", "PIP_INDEX_URL")}
    environment = {**kept, "HOME": str(home)}
    python = str(folder / ".venv" / "bin" / "python")

    def run(command: Sequence[str]) -> tuple[float, str]:
        started = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SetupError(f"{' '.join(command)} ended with {done.returncode}.", done.stdout[-800:])
        return time.perf_counter() - started, done.stdout

    yield "environment and packages", run(["make", ".venv/run.stamp"])[0]
    yield "Jittor's core", run([python, "-c", "from jclip_adapter import runtime; runtime.start('cpu')"])[0]
    seconds, printed = run([python, "runner.py", *DEMO])
    yield "train, evaluate, predict", seconds
    for line in printed.splitlines():
        found = _STAGE.match(line)
        if found:
            yield f"– {found['stage']}", float(found["seconds"])
    for name, arguments in AGAIN.items():
        yield f"second run: {name}", run([python, "runner.py", *arguments])[0]
    again = {**environment, "HOME": str(home / "terminal"), "TERM": "xterm"}
    yield SILENCE, silence([python, "runner.py", *DEMO], folder, again)


def silence(command: Sequence[str], folder: Path, environment: dict[str, str]) -> float:
    """The longest time in seconds for which a command prints nothing on a terminal.

    Raises:
        SetupError: the command fails.
    """
    ours, its = pty.openpty()
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=its, stdout=its, stderr=its) as child:
        os.close(its)
        printed, longest, last = b"", 0.0, time.perf_counter()
        with os.fdopen(ours, "rb", 0) as terminal, contextlib.suppress(OSError):  # which says that all have left
            while piece := terminal.read(65536):
                now = time.perf_counter()
                longest, last, printed = max(longest, now - last), now, printed + piece
        longest = max(longest, time.perf_counter() - last)
    if child.returncode:
        raise SetupError(f"{' '.join(command)} ended with {child.returncode}.", printed[-800:].decode(errors="replace"))
    return longest


def table(rows: Sequence[dict[str, Any]]) -> str:
    """In Markdown: a row per step and a column per revision."""
    revisions = list(dict.fromkeys(row["revision"] for row in rows))
    names = list(dict.fromkeys(row["step"] for row in rows))
    seconds = {(row["revision"], row["step"]): row["seconds"] for row in rows}
    cells = [[name, *(seconds.get((revision, name), "–") for revision in revisions)] for name in names]
    whole = ["environment and packages", "Jittor's core", "train, evaluate, predict"]
    for title, parts in (("until the first result", whole), ("the same without packages", whole[1:])):
        cells.append(
            [title, *(f"{sum(float(seconds[revision, part]) for part in parts):.1f}" for revision in revisions)]
        )
    return (
        "# First run\n\nSeconds on an empty machine of "
        f"{os.cpu_count()} cores. Lines that begin with – are parts of the line above.\n"
        f"`python -m benchmarks.first_run`\n\n{markdown_table(['step', *revisions], cells)}\n"
    )


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write.

    Args:
        argv: The arguments; the process's own by default.

    Returns:
        Exit status: 0 done, 2 a mistake of the user's.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_run", description="Time the first run of a fresh clone."
    )
    parser.add_argument("--revision", action="append", help="what is cloned; may be given several times")
    given = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    for revision in given.revision or ["HEAD"]:
        with tempfile.TemporaryDirectory() as place:
            clone, home = Path(place, "clone"), Path(place, "home")
            home.mkdir()
            git = ["git", "-c", "advice.detachedHead=false"]
            subprocess.run([*git, "clone", "--quiet", str(ROOT), str(clone)], check=True)
            subprocess.run([*git, "-C", str(clone), "checkout", "--quiet", revision], check=True)
            for step, seconds in steps(clone, home):
                rows.append({"revision": revision, "step": step, "seconds": f"{seconds:.1f}"})
                print(revision, step, f"{seconds:.1f}", file=sys.stderr)
    write_results(RESULTS, rows, COLUMNS, table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
