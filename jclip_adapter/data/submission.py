"""The contest's result file: one line "image_1.jpg 371 332 350 358 360" per test photo, best class first."""

from __future__ import annotations

import io
import logging
import re
import struct
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jclip_adapter import storage
from jclip_adapter.core.errors import SubmissionError, UsageError
from jclip_adapter.core.natural import natural_key
from jclip_adapter.core.problems import Problems, counted, fits_a_line
from jclip_adapter.storage.checksums import LIST_MARK
from jclip_adapter.storage.kinds import unchanged_text

from .sets.model import PHOTO_SUFFIXES, ImageSet

_log = logging.getLogger(__name__)
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold; a real time would make equal results differ
_ID = re.compile(r"0|[1-9][0-9]{0,8}")
_ZIP_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    ValueError,  # a place before the file's beginning
    RuntimeError,  # an encrypted entry
    NotImplementedError,
    EOFError,
)
_AGAIN = "Write it again with --predict."


def _is_result(path: Path) -> bool:
    """Whether the zip beside a text is this program's and contains exactly this text.

    Tried twice, as another process (--shard) may be replacing one after the other.
    """
    if _matches_zip(path):
        return True
    time.sleep(_BETWEEN_S)
    return _matches_zip(path)


def _matches_zip(path: Path) -> bool:
    """Whether a zip of this program, beside a text or its link target, contains exactly this text."""
    for place in {path, path.resolve()}:
        packed = archive_path(place)
        if packed.is_file() and _is_archive(packed):
            with zipfile.ZipFile(packed) as archive:
                if archive.namelist() == [place.name] and archive.read(place.name) == path.read_bytes():
                    return True
    return False


def _is_archive(path: Path) -> bool:
    """Whether a zip has the entry, time and permissions that `_zip_bytes` writes."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) != 1 or archive.comment or entries[0].file_size > _MOST_UNPACKED:
            return False
        entry, wanted = entries[0], _entry(entries[0].filename)
        same = all(getattr(entry, name) == getattr(wanted, name) for name in _FIXED)
        return same and archive_path(path.with_name(entry.filename)) == path and archive.testzip() is None


def _no_zip(path: Path) -> str:
    """Why a text is not recognised."""
    return f"{archive_path(path).name} beside it, which would show that, is missing or holds another text"


_MOST_UNPACKED = 1 << 28
_BETWEEN_S = 0.1  # longer than two renames
_FIXED = ("date_time", "compress_type", "create_system", "external_attr", "extra", "comment")
RESULT = storage.Kind("a result file", _is_result, _no_zip)
ARCHIVE = storage.Kind("a result's zip", _is_archive)
REJECTS = storage.Kind("a list of unreadable photos", unchanged_text(LIST_MARK))


def archive_path(path: Path) -> Path:
    """The zip beside a result file: result.zip for result.txt, and pred.1.zip for pred.1.

    >>> archive_path(Path("result.txt")).name, archive_path(Path("pred.1")).name
    ('result.zip', 'pred.1.zip')
    """
    return _beside(path, ".zip")


def rejects_path(path: Path) -> Path:
    """The list of photos that could not be read, beside a result file."""
    return _beside(path, ".rejects.txt")


def _beside(path: Path, ending: str) -> Path:
    return path.with_suffix(ending) if path.suffix == ".txt" else path.with_name(path.name + ending)


def check_target(path: Path) -> None:
    """Refuse a result path that cannot be written, before the long computation.

    Raises:
        UsageError: its folder is missing, it is a folder, a photo or a zip, or it or a file beside it exists and was
            not written by this program.
        SetupError: its folder cannot be written.
    """
    _check_name(path)
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} for {path.name}.", "Create it, or give another path.")
    for file, kind in _parts(path):
        storage.check_place(file, kind)


def _parts(path: Path) -> tuple[tuple[Path, storage.Kind], ...]:
    """The files of a result and their kinds."""
    return (path, RESULT), (archive_path(path), ARCHIVE), (rejects_path(path), REJECTS)


def _check_name(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder.", f"Give a file, such as {path / 'result.txt'}.")
    if path.suffix.lower() == ".zip":
        raise UsageError(f"{path} is the zip's name.", "Give the text file; the zip is written beside it.")
    if path.suffix.lower() in PHOTO_SUFFIXES:
        raise UsageError(
            f"{path} is a photo's name, and --predict FILE writes a text file.",
            f"Did you mean --predict --images {path}?",
        )


@dataclass(frozen=True)
class Report:
    """Content of a valid result file.

    Args:
        path: The file.
        lines: Number of photos.
        top: Ids per line.
        zip_checked: Whether there is a zip beside it, which is then valid too.
        first_choices: Number of photos by predicted class (full name), in the order of the classes.
        per_domain: Number of photos by predicted domain; empty without domains.
    """

    path: Path
    lines: int
    top: int
    zip_checked: bool
    first_choices: dict[str, int] = field(repr=False)
    per_domain: dict[str, int]


def format_lines(file_names: Sequence[str], class_ids: npt.ArrayLike) -> str:
    r"""Format the lines of a result file.

    Args:
        file_names: M different names of test photos.
        class_ids: (M, k) class ids, best first, different within a row.

    Returns:
        M lines in the given order, each ending in LF.

    Raises:
        SubmissionError: the numbers of names and rows differ, or a name or an id is invalid.

    >>> format_lines(["image_1.jpg"], [[371, 332]])
    'image_1.jpg 371 332\n'
    """
    ids = np.asarray(class_ids)
    if ids.ndim != 2 or ids.shape[0] != len(file_names) or ids.shape[1] < 1:
        raise SubmissionError(f"expected ids of shape ({len(file_names)}, k), got {ids.shape}.")
    if not np.issubdtype(ids.dtype, np.integer) or (ids < 0).any():
        raise SubmissionError("expected class ids that are whole numbers of at least 0.")
    if len(set(file_names)) != len(file_names):
        raise SubmissionError("duplicate photo among the results.")
    odd = next((name for name in file_names if not name or not fits_a_line(name)), None)
    if odd is not None:
        raise SubmissionError(f"the file name {odd!r} cannot be written to a result file.", "Rename the photo.")
    in_order = np.sort(ids, axis=1)
    repeats = np.flatnonzero((in_order[:, 1:] == in_order[:, :-1]).any(axis=1))
    if len(repeats):
        raise SubmissionError(f"{file_names[repeats[0]]} has the same id twice.")
    rows: list[list[int]] = ids.tolist()
    return "".join(f"{name} {' '.join(map(str, row))}\n" for name, row in zip(file_names, rows, strict=True))


def write_submission(path: str | Path, names: Sequence[str], ids: npt.ArrayLike) -> tuple[Path, Path]:
    """Write a result file and, beside it, the zip for the contest; equal results give equal bytes.

    Args:
        path: The text file; the zip is at `archive_path`. Its folder is created if missing.
        names: M names of test photos; lines are written in their natural order.
        ids: (M, k) class ids, best first.

    Returns:
        The paths of the text file and the zip.

    Raises:
        SubmissionError: as `format_lines`.
        UsageError: the path is refused (`check_target`).
        SetupError: the files cannot be written.
    """
    target = Path(path)
    _check_name(target)
    for file, kind in _parts(target):
        kind.check(file)
    rows = np.asarray(ids)
    if len(rows.shape) == 2 and len(rows) == len(names):  # else format_lines raises
        order = sorted(range(len(names)), key=lambda at: natural_key(names[at]))
        names, rows = [names[at] for at in order], rows[order]
    data = format_lines(names, rows).encode("utf-8")
    packed = archive_path(target)
    # The text is replaced last: if it is new, so is the zip, even after a power failure.
    storage.write_files([(packed, _zip_bytes(target.name, data), ARCHIVE), (target, data, RESULT)])
    return target, packed


def _entry(name: str) -> zipfile.ZipInfo:
    """The header of a result in its zip."""
    entry = zipfile.ZipInfo(name, _ZIP_TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, whatever wrote it
    entry.external_attr = 0o644 << 16
    return entry


def _zip_bytes(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(_entry(name), data)
    return buffer.getvalue()


def check_submission(path: str | Path, image_set: ImageSet, *, top: int = 5) -> Report:
    """Check a result file by the contest's rules, and the zip beside it if there is one.

    Every test photo needs exactly one line, in natural order, with `top` different known ids (all ids if there are
    fewer classes); single blanks, LF, nothing after the last id. A zip with the right text that was packed by another
    program is valid, and logged.

    Args:
        path: The text file.
        image_set: The data set with the test photos.
        top: Ids per line: 5, or 1 for the one-id form.

    Returns:
        The file's content.

    Raises:
        SubmissionError: the file is invalid; `details` lists the faults with line numbers.
        UsageError: `top` is less than 1.
    """
    if top < 1:
        raise UsageError(f"top is {top}, expected at least 1.")
    path = Path(path)
    if not image_set.test:
        raise SubmissionError(f"{image_set.source} has no test photos to check {path} against.", "Check --data.")
    problems = Problems(path, SubmissionError)
    data = _read(path)
    top = min(top, len(image_set.classes))
    firsts: dict[str, int] = {}  # photo → class index of its first id, in the order of the lines
    for number, line in enumerate(_text_lines(data, problems), 1):
        name, ids = _take_apart(line, number, top, problems)
        if name in firsts:
            problems.add("repeated photos", f"line {number}: {name} already has a line")
        elif name:
            firsts[name] = _check_ids(ids, number, image_set, problems)
    _check_names(list(firsts), image_set, problems)
    packed = archive_path(path)
    zip_there = packed.exists()
    if zip_there:
        _check_zip(packed, path.name, data, problems)
    problems.raise_if_any(_AGAIN)
    infos = [image_set.classes[index] for index in sorted(firsts.values())]
    choices, domains = Counter(info.name for info in infos), Counter(info.domain for info in infos if info.domain)
    return Report(path, len(firsts), top, zip_there, dict(choices), dict(domains))


def _read(path: Path) -> bytes:
    if path.suffix.lower() == ".zip":
        raise SubmissionError(f"{path} is the zip.", "Give the text file; the zip beside it is checked with it.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise SubmissionError(f"cannot read {path}: {error.strerror or error}.", _AGAIN) from error


def _text_lines(data: bytes, problems: Problems) -> list[str]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        problems.add("undecodable text", f"byte {error.start} is not UTF-8")
        return []
    if text.startswith("\ufeff"):
        problems.add("byte-order marks", "the file begins with a byte-order mark")
        text = text[1:]
    if not text:
        problems.add("empty files", "there are no lines")
        return []
    return text.removesuffix("\n").split("\n")


def _take_apart(line: str, number: int, top: int, problems: Problems) -> tuple[str, list[str]]:
    """The name and the ids of a line; an empty name for a malformed line."""
    if "\r" in line:
        problems.add("line ends", f"line {number} ends in CR LF", "Lines must end in LF alone.")
        line = line.replace("\r", "")
    if line != line.rstrip():
        problems.add("trailing blanks", f"line {number} ends in a blank")
        line = line.rstrip()
    if not line:
        problems.add("blank lines", f"line {number} is blank")
        return "", []
    words = line.split(" ")
    # Ids are parsed from the right, as a name may contain blanks; its last word ends in .jpg or similar.
    start = len(words)
    while start > 1 and _ID.fullmatch(words[start - 1]):
        start -= 1
    name, ids = " ".join(words[:start]), words[start:]
    if ids and name == name.strip() and len(ids) != top:
        hint = "For the one-id form pass --top 1." if len(ids) == 1 else ""
        problems.add("wrong numbers of ids", f"line {number} has {counted(len(ids), 'id')} instead of {top}", hint)
        return name, []
    if not ids or name != name.strip():
        problems.add(
            "malformed lines", f"line {number}: {line[:80]!r} is not a name and {top} ids, single blanks between"
        )
        return "", []
    return name, ids


def _check_ids(ids: list[str], number: int, image_set: ImageSet, problems: Problems) -> int:
    """Note unknown and repeated ids; return the index of the first, 0 where it is unknown."""
    indices = [image_set.index_of_id.get(int(word)) for word in ids]
    unknown = [word for word, index in zip(ids, indices, strict=True) if index is None]
    if unknown:
        problems.add("unknown ids", f"line {number}: no class has id {', '.join(unknown)}")
    if len(set(ids)) != len(ids):
        problems.add("repeated ids", f"line {number}: duplicate id")
    return (indices[0] if indices else None) or 0


def _check_names(names: list[str], image_set: ImageSet, problems: Problems) -> None:
    known = {name: position for position, name in enumerate(image_set.test_names)}
    stems = {_stem(name): name for name in known}
    given = set(names)
    for name in known:
        if name not in given:
            problems.add("missing photos", f"{name} has no line")
    for name in names:
        if name not in known:
            same = stems.get(_stem(name))  # only the suffix differs: the most common mistake
            near = f", but {same} is" if same else ""
            problems.add("unknown photos", f"{name} is not among the test photos{near}")
    mine = [name for name in names if name in known]
    late = next((b for a, b in pairwise(mine) if known[a] > known[b]), None)
    if late is not None:
        problems.add("order", f"the lines are not in natural order: {late} comes too late")


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _check_zip(path: Path, name: str, data: bytes, problems: Problems) -> None:
    try:
        packed = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            entries = archive.infolist()
            if [entry.filename for entry in entries] != [name]:
                held = ", ".join(entry.filename for entry in entries[:3]) or "nothing"
                problems.add("zip contents", f"{path.name}: expected only {name}, got {held}")
            # The size is compared first, so that a zip bomb is not unpacked.
            elif entries[0].file_size != len(data) or archive.read(entries[0]) != data:
                problems.add("zip contents", f"{name} inside {path.name} differs from the one beside it")
            elif packed != _zip_bytes(name, data):
                _log.warning(
                    "%s has the right text, but was packed by another program, or is damaged outside the text", path
                )
    except _ZIP_FAULTS as error:
        problems.add("zip contents", f"{path.name} cannot be read ({error})")
