"""Odd and broken photos among the test photos: what `--predict` makes of each.

Every row of `odd_pictures.ODDITIES` is put beside three good photos and predicted under both policies; then all rows
that can stand together are predicted at once, decoded in this process and in child processes. A trial fails when a
photo has no line or one too many, a refused one is not named with its reason, a good photo's line changes, the exit
status is not the policy's, a picture that is read does not look like what was drawn, or a decoding takes more than 2 s
of processor time or 1 GB: a decoder that paints over damage, for one, makes the rows of damaged pictures fail.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jclip_adapter.data.photos.decode import Job, try_square
from jclip_adapter.data.photos.preprocess import square_pixels
from tests.random_weights import write_safe
from tests.tiny_contest import picture, write_contest

from . import outcome
from .odd_pictures import ODDITIES, PASSED, READ, REFUSED, Oddity

GOOD = 3
SECONDS, MEGABYTES = 2.0, 1000.0
POLICIES = ("stop", "fallback")
_SIDE = 32
_ALIKE = 6.0  # mean difference of greys out of 255; what another preprocessing of colours may make
_WAIT_S = 120
# Prints the processor time and the most memory of a decoding, each in a process of its own.
_MEASURE = """
import json, sys, time
from jclip_adapter.data.photos.decode import Job, try_square
started = time.process_time()
_, _, result = try_square(Job(0, sys.argv[1], 224))
taken = time.process_time() - started
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
print(json.dumps([taken, int(peak) / 1024, result if isinstance(result, str) else ""]))
"""


class Place:
    """A working directory with a tiny contest, tiny weights and the lines of its good photos.

    Args:
        root: The directory; it becomes the process's.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        os.chdir(root)
        self.photos = write_contest(root / "Dataset", per_class=1, tests=GOOD) / "TestSetA"
        write_safe(root / "tiny.safetensors")
        self.predict("fallback")
        self.good = self.lines()

    def predict(self, policy: str, workers: int = 0) -> tuple[int, str]:
        """Run --predict in this process; its exit status and messages."""
        from jclip_adapter.cli.app import main

        for name in ("result.txt", "result.zip", "result.rejects.txt"):
            Path(name).unlink(missing_ok=True)
        arguments = [
            "--predict",
            "result.txt",
            "--weights",
            "tiny.safetensors",
            "--method",
            "zero-shot",
            "--device",
            "cpu",
            "--follow-links",
        ]
        messages = io.StringIO()
        with contextlib.redirect_stderr(messages), contextlib.redirect_stdout(io.StringIO()):
            status = main([*arguments, "--workers", str(workers), "--on-bad-image", policy])
        return status, messages.getvalue()

    def lines(self) -> dict[str, str]:
        """The result's lines by photo; twice the same photo is an error."""
        pairs = [re.fullmatch(r"(.+?)((?: \d+)+)", line) for line in _lines(self.root / "result.txt")]
        found = {pair[1]: pair[2] for pair in pairs if pair}
        if len(found) != len(_lines(self.root / "result.txt")):
            raise ValueError("a line is malformed, or a photo has two")
        return found

    def rejects(self) -> dict[str, str]:
        """The reasons beside the result, by photo."""
        path = self.root / "result.rejects.txt"
        pairs = (line.partition("\t") for line in _lines(path)) if path.exists() else iter(())
        return {name: reason for name, _, reason in pairs if not name.startswith("#")}  # the last line is a checksum

    def clear(self) -> None:
        """Remove whatever is beside the good photos."""
        for path in self.photos.iterdir():
            if path.name in self.good:
                continue
            if not path.is_symlink() and path.is_dir():
                path.rmdir()
            else:
                path.unlink()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def judge(place: Place, oddity: Oddity, policy: str) -> str:
    """Predict one odd photo beside the good ones.

    Returns:
        What went otherwise than the table says; an empty string if nothing.
    """
    place.clear()
    oddity.make(place.photos / oddity.file)
    status, messages = place.predict(policy)
    if oddity.outcome == REFUSED and policy == "stop":
        if status != 2 or (place.root / "result.txt").exists():
            return f"exit status {status}, or a result in spite of it"
        return "" if _told(oddity, messages) else f"the message is: {messages[-300:]}"
    if status != 0:
        return f"exit status {status}: {messages[-300:]}"
    return _result_fault(place, oddity, messages)


def _result_fault(place: Place, oddity: Oddity, messages: str) -> str:
    """What is wrong with a result that has been written."""
    listed = set() if oddity.outcome == PASSED else {oddity.file}
    lines, rejects = place.lines(), place.rejects()
    if set(lines) != {*place.good, *listed}:
        return f"lines of {sorted(lines)}"
    if any(lines[name] != line for name, line in place.good.items()):
        return "a good photo's line has changed"
    if set(rejects) != (listed if oddity.outcome == REFUSED else set()):
        return f"rejects: {rejects}"
    if oddity.outcome == READ:
        return _unlike(place.photos / oddity.file) if oddity.alike else ""
    # The list of rejects names the photo in its first column.
    told = f"{rejects}" if oddity.outcome == REFUSED else messages
    return "" if _told(oddity, told) else f"the message is: {told[-300:]}"


def _told(oddity: Oddity, message: str) -> bool:
    """Whether a message names the photo and holds the table's words."""
    named = oddity.outcome == PASSED or oddity.file in message
    return named and re.search(oddity.words, message) is not None


def _unlike(path: Path) -> str:
    """Whether a photo comes out as another picture than the plain one."""
    result = try_square(Job(0, str(path), _SIDE))[2]
    if isinstance(result, str):
        return result
    weights = np.array([0.299, 0.587, 0.114])
    distance = float(np.abs((result.astype(float) - square_pixels(picture(0), _SIDE)) @ weights).mean())
    return "" if distance < _ALIKE else f"differs from the picture by {distance:.1f} of 255 on average"


def judge_together(place: Place, oddities: Sequence[Oddity], workers: int) -> list[str]:
    """Predict many odd photos at once; what went wrong, one line each.

    Each is in the folder under a name of its own; those whose oddity is their name or place are left to `judge`.
    """
    place.clear()
    wanted = {}
    for number, oddity in enumerate(oddities, 100):
        plain = oddity.file.startswith("image_9.") and oddity.outcome != PASSED
        if plain and "link" not in oddity.name:
            name = oddity.file.replace("_9.", f"_{number}.")
            oddity.make(place.photos / name)
            wanted[name] = oddity
    status, messages = place.predict("fallback", workers)
    if status != 0:
        return [f"all at once, {workers} processes: exit status {status}: {messages[-300:]}"]
    lines, rejects = place.lines(), place.rejects()
    faults = [f"all at once: {name} has no line" for name in {*wanted, *place.good} - set(lines)]
    for name, oddity in wanted.items():
        if (name in rejects) != (oddity.outcome == REFUSED) or not re.search(oddity.words, rejects.get(name, "")):
            faults.append(f"all at once, {workers} processes, {oddity.name}: {rejects.get(name, 'read')}")
    return faults


def cost(place: Place, oddity: Oddity) -> tuple[float, float]:
    """Processor seconds and MB of the most memory that decoding takes; infinite where it does not end."""
    place.clear()
    path = place.photos / oddity.file
    oddity.make(path)
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}{_MEASURE}", os.fspath(path)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_WAIT_S)
        seconds, megabytes, _ = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return float("inf"), float("inf")
    return float(seconds), float(megabytes)


def run(oddities: Sequence[Oddity], *, measured: bool = True) -> outcome.Outcome:
    """Judge rows of the table.

    Args:
        oddities: The rows.
        measured: Whether each is decoded once more in a process of its own, for time and memory.
    """
    faults: list[str] = []
    dearest = {"seconds": ("", 0.0), "megabytes": ("", 0.0)}
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        try:
            place = Place(Path(folder).resolve())
            for oddity, policy in tqdm(list(_trials(oddities)), desc="odd images", unit="prediction"):
                fault = judge(place, oddity, policy)
                faults += [f"{oddity.name}, {policy}: {fault}"] if fault else []
            for workers in (0, 2):
                faults += judge_together(place, [oddity for oddity in oddities if not oddity.heavy], workers)
            for oddity in tqdm(oddities if measured else (), desc="time and memory", unit="picture"):
                seconds, megabytes = cost(place, oddity)
                if seconds > SECONDS or megabytes > MEGABYTES:
                    faults.append(f"{oddity.name}: {seconds:.1f} s, {megabytes:.0f} MB")
                for key, value in (("seconds", seconds), ("megabytes", megabytes)):
                    dearest[key] = max(dearest[key], (oddity.name, value), key=lambda pair: pair[1])
            place.clear()
        finally:
            os.chdir(home)
    kinds = {kind: sum(oddity.outcome == kind for oddity in oddities) for kind in (READ, REFUSED, PASSED)}
    reached = (
        f"{kinds[READ]} kinds read, {kinds[REFUSED]} refused by name, {kinds[PASSED]} passed over, as the table says; "
        f"{len(faults)} otherwise; at most {dearest['seconds'][1]:.1f} s and "
        f"{dearest['megabytes'][1]:.0f} MB for one. Not noticed, as nothing in the file "
        "tells: zeroed parts of uncompressed BMP, PPM and TIFF, small holes of lossy WebP and packed TIFF, and random "
        "bytes inside a JPEG that still give a whole picture"
    )
    return outcome.Outcome(
        "odd-images",
        f"{len(oddities)} kinds of odd or broken photos, each with both policies, then together in child processes",
        "the outcome that the table states; a line per photo; at most 2 s and 1 GB each",
        reached,
        2 * len(oddities),
        len(faults),
        {
            "kinds": kinds,
            "faults": faults,
            "slowest": {"name": dearest["seconds"][0], "processor_seconds": round(dearest["seconds"][1], 2)},
            "largest": {"name": dearest["megabytes"][0], "megabytes": round(dearest["megabytes"][1])},
        },
    )


def _trials(oddities: Sequence[Oddity]) -> Iterator[tuple[Oddity, str]]:
    for oddity in oddities:
        for policy in POLICIES:
            yield oddity, policy


def main(argv: Sequence[str] | None = None) -> int:
    """Judge all rows, or the first few."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=len(ODDITIES), help="rows of the table")
    parser.add_argument("--seed", type=int, default=0, help="has no effect: the pictures are always the same")
    arguments = parser.parse_args(argv)
    return outcome.write(run(ODDITIES[: arguments.trials]))


if __name__ == "__main__":
    sys.exit(main())
