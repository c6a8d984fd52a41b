"""Paths that lead elsewhere: in lists, CSV files, archives and manifests all are refused, and nothing there is read.

`python -m benchmarks.reliability.paths` makes a small data set beside a folder that is none of its business, names
files of that folder in every kind of file that names files, and lets the program load the data set, check it and read
all that it then takes for photos; or check a submission, open a run or read weights. An audit hook notes every file
that is opened and every folder that is listed. A failure is a name that is not refused by one of the program's own
errors, or anything opened outside the data set's folder, the file itself, Python and this repository.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from benchmarks import ROOT
from jclip_adapter.core.errors import AdapterError
from jclip_adapter.data.photos.decode import read_file
from jclip_adapter.data.sets import load_dataset, load_labels, read_support, remaining
from jclip_adapter.data.submission import check_submission
from jclip_adapter.models.weights import read_state_dict
from jclip_adapter.storage import ANY, check_manifest, write_checked_json, write_manifest

from . import audit, hostile_files, outcome

_PHOTOS = 4
_SYMLINK = (stat.S_IFLNK | 0o777) << 16
# {out} stands for the folder's absolute path. What stands there is a photo that could be read.
NAMES = {
    "one folder up": "../outside/secret.jpg",
    "up from a folder": "TrainSet/../../outside/secret.jpg",
    "up from a class": "TrainSet/Animal/Bear/../../../../outside/secret.jpg",
    "up through a photo": "TrainSet/Animal/Bear/1.jpg/../../../../../outside/secret.jpg",
    "up behind a dot": "./../outside/secret.jpg",
    "up behind two slashes": "TrainSet//../../outside/secret.jpg",
    "up and back again": "../Dataset/TrainSet/Animal/Bear/1.jpg",
    "far up": "../" * 40 + "{out}/secret.jpg",
    "the folder above": "..",
    "the class's folder above": "TrainSet/Animal/Bear/..",
    "absolute": "{out}/secret.jpg",
    "absolute, two slashes": "/{out}/secret.jpg",
    "absolute and up": "{out}/../outside/secret.jpg",
    "the root": "/",
    "a system file": "/etc/passwd",
    "a device": "/dev/zero",
    "standard input": "/dev/stdin",
    "a file of the process": "/proc/self/environ",
    "a drive letter": "C:/outside/secret.jpg",
    "a drive letter without slash": "C:secret.jpg",
    "a small drive letter": "c:\\outside\\secret.jpg",
    "a share": "\\\\server\\share\\secret.jpg",
    "a long path of Windows": "\\\\?\\C:\\outside\\secret.jpg",
    "backslashes": "..\\outside\\secret.jpg",
    "backslashes in between": "TrainSet\\..\\..\\outside\\secret.jpg",
    "both slashes": "TrainSet/..\\../outside/secret.jpg",
    "encoded dots": "%2e%2e/outside/secret.jpg",
    "encoded dots in capitals": "%2E%2E/outside/secret.jpg",
    "an encoded slash": "..%2foutside%2fsecret.jpg",
    "encoded twice": "%252e%252e/outside/secret.jpg",
    "encoded backslashes": "..%5coutside%5csecret.jpg",
    "overlong dots": "%c0%ae%c0%ae/outside/secret.jpg",
    "wide dots": "．．/outside/secret.jpg",
    "a leader of two dots": "‥/outside/secret.jpg",
    "a slash that is none": "..∕outside∕secret.jpg",
    "dots and a semicolon": "..;/outside/secret.jpg",
    "four dots": "..../outside/secret.jpg",
    "dots and a blank": ".. /outside/secret.jpg",
    "the home folder": "~/secret.jpg",
    "somebody's home folder": "~root/secret.jpg",
    "a variable": "$HOME/secret.jpg",
    "an address": "file://{out}/secret.jpg",
    "a NUL before the end": "../outside/secret.jpg\0.jpg",
    "a NUL behind a photo": "TrainSet/Animal/Bear/1.jpg\0/../../../../outside/secret.jpg",
    "a NUL alone": "TrainSet/Animal/Bear/\0.jpg",
    "a control character": "TrainSet/Animal/Bear/1\x1b[2J.jpg",
    "a pipe": "|cat {out}/secret.jpg",
    "a link to a photo": "TrainSet/Animal/Bear/link.jpg",
    "an absolute link": "TrainSet/Animal/Bear/absolute.jpg",
    "a link to a link": "TrainSet/Animal/Bear/twice.jpg",
    "a link to a folder": "TrainSet/Animal/Linked/secret.jpg",
    "up behind a link to a folder": "TrainSet/Animal/Linked/../outside/secret.jpg",
    "a link to a device": "TrainSet/Animal/Bear/device.jpg",
    "a link to itself": "TrainSet/Animal/Bear/loop.jpg",
    "a link to nothing outside": "TrainSet/Animal/Bear/dangling.jpg",
}


@dataclass(frozen=True)
class Case:
    """One name in one kind of file.

    Attributes:
        where: The kind of file.
        name: What is odd about the name.
        attempt: Makes the file and lets the program read it; the work folder and the data set are given.
    """

    where: str
    name: str
    attempt: Callable[[Path], object]


# --- the files


def prepare(folder: Path) -> Path:
    """Make a data set with links out of it, and the folder outside.

    Returns:
        The data set's folder, whose lists are sound.
    """
    outside, data = folder / "outside", folder / "Dataset"
    for name in ("TrainSet/Animal/Bear", "TrainSet/Animal/Fox", "TestSetA"):
        (data / name).mkdir(parents=True)
        for number in range(1, _PHOTOS + 1):
            Image.new("RGB", (8, 8)).save(data / name / f"{'image_' if 'Test' in name else ''}{number}.jpg")
    outside.mkdir()
    Image.new("RGB", (8, 8)).save(outside / "secret.jpg")
    (data / "classes.txt").write_text("Animal_Bear 0\nAnimal_Fox 1\nAnimal_Linked 2\n")
    bear = data / "TrainSet/Animal/Bear"
    (bear / "link.jpg").symlink_to("../../../../outside/secret.jpg")
    (bear / "absolute.jpg").symlink_to(outside / "secret.jpg")
    (bear / "twice.jpg").symlink_to("link.jpg")
    (bear / "device.jpg").symlink_to("/dev/zero")
    (bear / "loop.jpg").symlink_to("loop.jpg")
    (bear / "dangling.jpg").symlink_to(outside / "none.jpg")
    (data / "TrainSet/Animal/Linked").symlink_to(outside, target_is_directory=True)
    write_list(data / "train.txt", sound_lines())
    return data


def sound_lines() -> list[str]:
    """The lines of a sound train.txt."""
    pairs = (("Bear", 0), ("Fox", 1))
    return [f"TrainSet/Animal/{name}/{number}.jpg {label}" for name, label in pairs for number in range(1, _PHOTOS + 1)]


def write_list(path: Path, lines: list[str]) -> None:
    """Write a list as whoever means harm does."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _use_data(path: Path) -> None:
    """Load a data set, check it, and read all that passes for a photo."""
    images = load_dataset(path)
    for photo in remaining(images, ()):
        read_file(photo.path)


def _in_train(name: str, data: Path) -> None:
    label = 2 if "Linked" in name else 0
    write_list(data / "train.txt", [*sound_lines(), f"{name} {label}"])
    _use_data(data)


def _in_table(name: str, data: Path) -> None:
    quoted = name.replace('"', '""')
    rows = [f"TrainSet/Animal/{kind}/{number}.jpg,{kind}" for kind in ("Bear", "Fox") for number in (1, 2)]
    write_list(data / "photos.csv", ["path,label", *rows, f'"{quoted}",Bear'])
    _use_data(data / "photos.csv")


def _in_support(name: str, data: Path) -> None:
    write_list(data / "support.txt", [sound_lines()[0], f"{name} 0"])
    for photo in read_support(data / "support.txt", load_dataset(data)):
        read_file(photo.path)


def _in_labels(name: str, data: Path) -> None:
    write_list(data / "labels.txt", ["image_1.jpg 0", f"{name} 0"])
    load_labels(data / "labels.txt", load_dataset(data))


def _in_result(name: str, data: Path) -> None:
    write_list(data / "result.txt", [f"image_{number}.jpg 0 1 2" for number in range(1, _PHOTOS)] + [f"{name} 0 1 2"])
    (data / "result.zip").unlink(missing_ok=True)
    check_submission(data / "result.txt", load_dataset(data))


def _in_zip(name: str, data: Path, attributes: int = 0, content: str = "") -> None:
    write_list(data / "result.txt", [f"image_{number}.jpg 0 1 2" for number in range(1, _PHOTOS + 1)])
    entry = zipfile.ZipInfo("x" * len(name.encode()))
    entry.external_attr = attributes
    with zipfile.ZipFile(data / "result.zip", "w") as archive:
        archive.writestr(entry, content or (data / "result.txt").read_bytes())
    packed = (data / "result.zip").read_bytes()
    # ZipInfo would cut a name at its NUL.
    (data / "result.zip").write_bytes(packed.replace(entry.filename.encode(), name.encode()))
    check_submission(data / "result.txt", load_dataset(data))


def _in_manifest(name: str, data: Path) -> None:
    run = data / "run"
    run.mkdir(exist_ok=True)
    (run / "a").write_bytes(b"a")
    write_manifest(run, ["a"])
    target = run / name.replace("\0", "")
    target = target if target.is_file() and target.stat().st_size else data.parent / "outside/secret.jpg"
    listed = {"files": {name: {"bytes": target.stat().st_size, "sha256": "0" * 64}}}
    write_checked_json(run / "manifest.json", listed, ANY)
    check_manifest(run)


def _in_archive(name: str, data: Path) -> None:
    tensor = hostile_files.tensor(hostile_files.storage(key=name))
    (data / "weights.pt").write_bytes(hostile_files.zipped(hostile_files.entry(tensor)))
    read_state_dict(data / "weights.pt")


def cases(folder: Path) -> list[Case]:
    """Every name in every kind of file."""
    out = str(folder / "outside")
    names = {what: name.replace("{out}", out) for what, name in NAMES.items()}
    kinds: dict[str, Callable[[str, Path], None]] = {
        "train.txt": _in_train,
        "CSV": _in_table,
        "--support list": _in_support,
        "--labels list": _in_labels,
        "result.txt": _in_result,
        "submission zip": _in_zip,
        "run manifest": _in_manifest,
        "weight archive": _in_archive,
    }
    found = [
        Case(where, what, partial(attempt, name)) for where, attempt in kinds.items() for what, name in names.items()
    ]
    target = f"{out}/secret.jpg"
    found.append(Case("submission zip", "a link", lambda data: _in_zip("result.txt", data, _SYMLINK, target)))
    return found


# --- what is opened


def watched(*places: Path) -> AbstractContextManager[list[str]]:
    """What is opened or listed within the block outside these places, Python and this repository."""
    python = (sys.prefix, sys.base_prefix, *(path for path in sys.path if path))
    allowed = tuple(os.path.realpath(str(place)) for place in (*places, *python, ROOT))

    def note(event: str, arguments: tuple[Any, ...]) -> str:
        if event not in ("open", "os.listdir", "os.scandir") or not arguments or isinstance(arguments[0], int):
            return ""  # a number is a file that is open already
        path = os.path.realpath(os.fsdecode(arguments[0]).split("\0")[0])
        inside = any(path == place or path.startswith(place + os.sep) for place in allowed)
        return "" if inside else f"{event} {path}"

    return audit.watched(note)


def attempt(case: Case, data: Path) -> str:
    """Let the program meet a case; what went otherwise than wanted, or nothing."""
    found = ""
    with watched(data) as opened:
        try:
            case.attempt(data)
            found = "was taken"
        except AdapterError:
            pass
        except Exception as error:  # noqa: BLE001  (a fault of ours, which is what we count)
            found = f"raised {type(error).__name__}: {str(error)[:100]}"
    for name in ("photos.csv", "support.txt", "labels.txt", "result.txt", "result.zip"):
        (data / name).unlink(missing_ok=True)
    write_list(data / "train.txt", sound_lines())
    if opened:
        found = f"{found} opened {opened[:3]}".strip()
    return f"{case.where}, {case.name}: {found}" if found else ""


def main(argv: list[str] | None = None) -> int:
    """Try every case and write the outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=0, help="only so many cases, spread over all (0: every one)")
    parser.add_argument("--seed", type=int, default=0, help="without effect: nothing is random")
    arguments = parser.parse_args(argv)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        data = prepare(folder)
        _use_data(data)  # sound as it is; and imports what is imported late
        _in_table("TrainSet/Animal/Bear/3.jpg", data)
        tried = cases(folder)
        if arguments.trials:
            tried = tried[:: max(1, len(tried) // arguments.trials)]
        failures = [found for case in tqdm(tried, desc="paths", unit="case") if (found := attempt(case, data))]
    counts = Counter(case.where for case in tried)
    return outcome.write(
        outcome.Outcome(
            name="paths",
            tried=f"{len({case.name for case in tried})} names that lead elsewhere (upwards, absolute, drive letters, "
            f"links, NUL, encoded dots) in {len(counts)} kinds of files: {', '.join(counts)}",
            wanted="all refused, nothing outside the data folder opened (audit hook)",
            reached=f"{len(tried) - len(failures)} of {len(tried)} refused with nothing else opened",
            count=len(tried),
            failures=len(failures),
            facts={
                "by_file": dict(counts),
                "failures": failures[:20],
                "not_covered": "links in a folder of photos that no list names are followed: whoever put them there "
                "means them; hard links cannot be told from files",
                "seconds": round(time.perf_counter() - started, 1),
            },
        )
    )


if __name__ == "__main__":
    sys.exit(main())
