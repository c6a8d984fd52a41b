"""Damaged and hostile sound files: each is read as far as it goes or refused, and none ends the process.

    python -m benchmarks.reliability.odd_sounds [--flips 400]

A sound of every format is cut off at many lengths, and single bytes of it are changed, half of them near its header,
where sizes, rates and channels are. Some files are hostile by themselves: an hour in half a megabyte, a header that
promises 2³⁶ samples, 1,024 channels. Child processes decode them, so that a crash of libsndfile is counted.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tqdm import tqdm

from benchmarks.turns import Runner, stopped
from jclip_adapter.core.errors import DataError
from jclip_adapter.data.sounds import RATE
from tests.generated_sounds import sound

from . import outcome

SECONDS, MEGABYTES = 2.0, 400.0  # most of one file
FORMATS = {  # by suffix and name
    "8-bit.wav": ("WAV", "PCM_U8"),
    "16-bit.wav": ("WAV", "PCM_16"),
    "24-bit.wav": ("WAV", "PCM_24"),
    "float.wav": ("WAV", "FLOAT"),
    "16-bit.flac": ("FLAC", "PCM_16"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "opus.opus": ("OGG", "OPUS"),
    "mpeg.mp3": ("MP3", "MPEG_LAYER_III"),
    "16-bit.aiff": ("AIFF", "PCM_16"),
}
_HEADER = 200  # bytes
_CUTS = 50
_CHILD = """
import json, sys, time, logging
from pathlib import Path
import numpy as np
from jclip_adapter.core.errors import SoundError
from jclip_adapter.data.sounds import SAMPLES, read_sound
logging.disable()
for line in sys.stdin:
    started = time.process_time()
    try:
        wave = read_sound(json.loads(line))
        found = "read" if wave.shape == (SAMPLES,) and np.isfinite(wave).all() else f"samples {wave.shape}"
    except SoundError:
        found = "refused"
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps({"found": found, "seconds": time.process_time() - started, "megabytes": peak}), flush=True)
"""


def originals(folder: Path) -> dict[str, bytes]:
    """A sound of each format, as bytes by name."""
    found = {}
    for name, (kind, subtype) in FORMATS.items():
        wave = sound(2, 0, 1.0)
        soundfile.write(folder / name, wave, 48_000 if subtype == "OPUS" else RATE, format=kind, subtype=subtype)
        found[name] = (folder / name).read_bytes()
    return found


def damaged(data: bytes, flips: int, rng: np.random.Generator) -> Iterator[bytes]:
    """A file cut at many lengths, then with one byte changed each."""
    for length in np.linspace(0, len(data) - 1, _CUTS).astype(int):
        yield data[:length]
    for number in range(flips):
        place = int(rng.integers(min(_HEADER, len(data)) if number % 2 else len(data)))
        changed = bytearray(data)
        changed[place] ^= int(rng.integers(1, 256))
        yield bytes(changed)


def hostile(folder: Path) -> dict[str, bytes]:
    """Files that are hostile by themselves, by name."""
    with soundfile.SoundFile(folder / "hour.flac", "w", RATE, 1, subtype="PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros(60 * RATE, np.int16))
    promising = bytearray((folder / "16-bit.flac").read_bytes())
    promising[21:26] = bytes([promising[21] | 0x0F, 0xFF, 0xFF, 0xFF, 0xFF])  # 36 bits of STREAMINFO: the samples

    def wav(channels: int, rate: int) -> bytes:
        form = struct.pack("<HHIIHH", 1, channels, rate, 0, 2 * channels % 65536, 16)
        return (
            struct.pack("<4sI8sI", b"RIFF", 4100, b"WAVEfmt ", 16) + form + b"data" + bytes([0, 16, 0, 0]) + bytes(4096)
        )

    files = {"hour.flac": (folder / "hour.flac").read_bytes(), "promising.flac": bytes(promising)}
    files |= {f"{channels}-channels.wav": wav(channels, RATE) for channels in (0, 9, 1024, 65535)}
    return files | {f"{rate}-hertz.wav": wav(1, rate) for rate in (0, 1, 999, 384_001, 2**31, 2**32 - 1)}


def run(flips: int, names: Sequence[str] = tuple(FORMATS)) -> outcome.Outcome:
    """Decode all files.

    Args:
        flips: Changed bytes per format.
        names: Of the formats.
    """
    rng = np.random.default_rng(0)
    counts: dict[str, int] = {"read": 0, "refused": 0}
    faults: list[str] = []
    most = {"seconds": 0.0, "megabytes": 0.0}
    children: list[Runner] = []
    with tempfile.TemporaryDirectory() as name, stopped(children):
        folder = Path(name)
        whole = originals(folder)
        jobs = [(each, data) for each in names for data in damaged(whole[each], flips, rng)]
        jobs += list(hostile(folder).items())
        for number, (each, data) in enumerate(tqdm(jobs, desc="odd sounds", unit="file")):
            path = folder / f"odd-{each}"
            path.write_bytes(data)
            if not children or children[-1].what == "dead":
                children.append(_child())
            answer = _ask(children[-1], path)
            most = {key: max(value, answer[key]) for key, value in most.items()}
            found = str(answer["found"])
            if found in counts and answer["seconds"] <= SECONDS and answer["megabytes"] <= MEGABYTES:
                counts[found] += 1
            else:
                faults.append(f"{each}, number {number}: {found}, {answer}")
    return outcome.Outcome(
        name="odd-sounds",
        tried=(
            f"{len(jobs):,} damaged or hostile sounds: {len(names)} formats cut at {_CUTS} lengths and {flips} single "
            "bytes of each changed; an hour in half a megabyte, 2³⁶ promised samples, odd channels and rates"
        ),
        wanted=f"five seconds of finite samples, or refused by name; at most {SECONDS:.0f} s and {MEGABYTES:.0f} MB",
        reached=(
            f"{counts['read']:,} read as far as they go, {counts['refused']:,} refused, {len(faults)} otherwise; "
            f"at most {most['seconds']:.1f} s and {most['megabytes']:.0f} MB"
        ),
        count=len(jobs),
        failures=len(faults),
        facts={"faults": faults[:20], **{key: round(value, 2) for key, value in most.items()}},
    )


def _child() -> Runner:
    code = f"import os, sys; sys.path[:] = {sys.path!r}; os.dup2(os.open(os.devnull, os.O_WRONLY), 2)\n{_CHILD}"
    return Runner("decoder", [sys.executable, "-c", code])


def _ask(child: Runner, path: Path) -> dict[str, Any]:
    """The child's answer; a crash is one too."""
    try:
        return child.ask(str(path))
    except DataError as error:
        child.what = "dead"
        return {"found": str(error), "seconds": 0.0, "megabytes": 0.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Run and keep the outcome."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability.odd_sounds")
    parser.add_argument("--flips", type=int, default=400, help="changed bytes per format (400)")
    started = time.perf_counter()
    found = run(parser.parse_args(argv).flips)
    sys.stderr.write(f"{time.perf_counter() - started:.0f} s\n")
    return outcome.write(found)


if __name__ == "__main__":
    sys.exit(main())
