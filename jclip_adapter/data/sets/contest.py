"""The layout of the Jittor challenge: classes.txt, train.txt, TrainSet and TestSetA or TestSetB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.problems import Problems
from jclip_adapter.storage import read_lines

from .model import ClassInfo, ImageSet, Photo, split_name
from .names import canonical, note_clashes
from .paths import check_files, list_folder, unsafe, warn_ignored

_ID_DIGITS = 9  # longer numbers are not class ids


def load_contest(root: Path, split: str, problems: Problems) -> ImageSet:
    """Read the contest's lists.

    Args:
        root: The data folder.
        split: "A" or "B": TestSetA or TestSetB; "B" uses classes_b.txt if it exists.
        problems: Gets the faults; the caller raises them.

    Returns:
        The data set, incomplete if there are faults.
    """
    listing = root / "classes_b.txt" if split == "B" and (root / "classes_b.txt").is_file() else root / "classes.txt"
    classes = _read_classes(listing, problems)
    if not (root / "TrainSet").is_dir():
        problems.add("missing folders", "there is no folder TrainSet", "Unpack the contest's TrainSet.zip there.")
    folders, train = _read_train(root, listing.name, classes, problems)
    test = _list_test(root, split, problems)
    if problems and (root / "TrainSet").is_dir():
        check_files(train, problems)  # lists missing photos in the same error
    classes = _with_folders(classes, folders)
    note_clashes([info.name for info in classes], problems)
    reading = f"the contest's lists ({listing.name}, train.txt, TestSet{split})"
    return ImageSet(root.name, root, "contest", classes, train, test, split, root, reading)


def parse_line(line: str) -> tuple[str, int | None] | None:
    """Parse a line "name id"; the name may contain blanks.

    Returns:
        Name and id; None in place of the id where it is not a number; None for a line of one word.

    >>> parse_line("TrainSet/Animal/Bear/1.jpg 0")
    ('TrainSet/Animal/Bear/1.jpg', 0)
    """
    fields = line.rsplit(None, 1)
    if len(fields) != 2:
        return None
    digits = fields[1]
    valid = digits.isascii() and digits.isdigit() and len(digits) <= _ID_DIGITS
    return fields[0], int(digits) if valid else None


def numbered_pairs(path: Path, problems: Problems) -> Iterator[tuple[int, str, int]]:
    """Line number, name and id of each line of a list file, without blank and malformed lines."""
    for number, line in enumerate(_lines(path, problems), 1):
        pair = parse_line(line)
        if pair is not None and pair[1] is not None:
            yield number, pair[0], pair[1]
        elif line.strip():
            problems.add("malformed lines", f"{path.name} line {number}: {line.strip()[:80]!r} is not 'name id'")


def _lines(path: Path, problems: Problems) -> list[str]:
    try:
        return read_lines(path)
    except DataError as error:
        missing = not path.exists()
        text = f"there is no {path.name}" if missing else error.message.rstrip(".")
        problems.add("missing lists" if missing else "unreadable lists", text, error.hint)
        return []


def _read_classes(path: Path, problems: Problems) -> tuple[ClassInfo, ...]:
    before = len(problems)
    ids: dict[int, int] = {}
    names: dict[str, int] = {}
    classes = []
    for number, written, identity in numbered_pairs(path, problems):
        where, name = f"{path.name} line {number}", canonical(written)
        if identity in ids:
            problems.add("repeated ids", f"{where}: id {identity} is already on line {ids[identity]}")
        if name in names:
            problems.add("repeated class names", f"{where}: {name} is already on line {names[name]}")
        if identity not in ids and name not in names:
            classes.append(ClassInfo(identity, name, split_name(name)[0], ""))
        ids.setdefault(identity, number)
        names.setdefault(name, number)
    for gap in _gaps(sorted(ids)):
        problems.add("id gaps", f"{path.name} has no id {gap}")
    if not classes and len(problems) == before:
        problems.add("empty lists", f"{path.name} names no class")
    return tuple(sorted(classes, key=lambda info: info.id))


def _gaps(ids: list[int]) -> list[str]:
    gaps = []
    expected = 0
    for identity in ids:
        if identity > expected:
            gaps.append(f"{expected}" if identity == expected + 1 else f"{expected} to {identity - 1}")
        expected = identity + 1
    return gaps


def _read_train(
    root: Path, listing: str, classes: tuple[ClassInfo, ...], problems: Problems
) -> tuple[dict[int, str], tuple[Photo, ...]]:
    """Read train.txt, which has 181,729 lines in the contest; each pair of folder and id is checked once at the end."""
    path = root / "train.txt"
    before = len(problems)
    index_of = {str(info.id): index for index, info in enumerate(classes)}
    seen: dict[str, int] = {}
    pairs: dict[tuple[str, str], list[int]] = {}  # (folder, id) → its line numbers
    photos: list[Photo] = []
    for number, line in enumerate(_lines(path, problems), 1):
        fields = line.rsplit(None, 1)
        if len(fields) == 2 and fields[1] in index_of:
            relative, identity = fields
        else:
            parsed = _odd_line(path.name, number, line, problems)
            if parsed is None:
                continue
            relative, identity = parsed
        folder, _, name = relative.rpartition("/")
        if name in _NO_FILE:
            problems.add("malformed lines", f"{path.name} line {number}: {relative} is not a file name")
            continue
        pairs.setdefault((folder, identity), []).append(number)
        index = index_of.get(identity)
        if relative in seen:
            _note_repeat(path.name, number, (relative, index), seen[relative], photos, problems)
            continue
        seen[relative] = len(photos)
        photos.append(Photo(root, relative, index))
    if not photos and len(problems) == before:
        problems.add("empty lists", f"{path.name} names no photo", "Download the contest's train.txt again.")
    refused, folders = _check_pairs(pairs, classes, index_of, listing, problems)
    if refused:
        photos = [photo for photo in photos if photo.relative.rpartition("/")[0] not in refused]
    return folders, tuple(photo for photo in photos if photo.label is not None) if problems else tuple(photos)


_NO_FILE = frozenset({"", ".", ".."})


def _odd_line(file: str, number: int, line: str, problems: Problems) -> tuple[str, str] | None:
    """Path and canonical id of a line whose id is not found as written; None for a line to be skipped."""
    pair = parse_line(line)
    if pair is not None and pair[1] is not None:
        return pair[0], str(pair[1])
    if line.strip():
        problems.add("malformed lines", f"{file} line {number}: {line.strip()[:80]!r} is not 'path id'")
    return None


def _note_repeat(
    file: str, number: int, entry: tuple[str, int | None], first: int, photos: list[Photo], problems: Problems
) -> None:
    relative, index = entry
    if photos[first].label == index:
        problems.add("duplicate lines", f"{file} line {number}: {relative} is already listed")
    else:
        problems.add("photos with two labels", f"{file} line {number}: {relative} is already listed under another id")


def _check_pairs(
    pairs: dict[tuple[str, str], list[int]],
    classes: tuple[ClassInfo, ...],
    index_of: dict[str, int],
    listing: str,
    problems: Problems,
) -> tuple[set[str], dict[int, str]]:
    """Check each folder against its class in train.txt.

    Returns:
        The folders with unsafe paths, and the folder of each class index.
    """
    refused: set[str] = set()
    folders: dict[int, str] = {}
    for (folder, identity), numbers in pairs.items():
        where = f"train.txt line {numbers[0]}" + (f" and {len(numbers) - 1:,} more" if len(numbers) > 1 else "")
        objection = unsafe(f"{folder}/x" if folder else "x")
        index = index_of.get(identity)
        if objection:
            refused.add(folder)
            problems.add("paths that are refused", f"{where}: {folder or '/'} {objection}")
        elif index is None:
            problems.add("unknown ids", f"{where}: {folder or 'no folder'} has id {identity}, which {listing} lacks")
        elif not _fits(folder, classes[index].name) or folders.get(index, folder) != folder:
            named = f"id {identity}, which {listing} calls {classes[index].name}"
            text = f"{where}: {folder or 'no folder'} is listed under {named}"
            problems.add("class names that differ from folders", text)
        else:
            folders[index] = folder
    return refused, folders


def _fits(folder: str, name: str) -> bool:
    # Not split at the first underscore, as a domain may contain one.
    return folder.startswith("TrainSet/") and canonical(folder.removeprefix("TrainSet/").replace("/", "_")) == name


def _with_folders(classes: tuple[ClassInfo, ...], folders: dict[int, str]) -> tuple[ClassInfo, ...]:
    """Add folders and domains to the classes.

    A domain may contain an underscore, so it is taken from the folder; for a class without photos it is the longest
    domain of other classes that fits its name.
    """
    domains = {parts[1] for parts in (canonical(folder).split("/") for folder in folders.values()) if len(parts) > 2}
    by_length = sorted(domains, key=len, reverse=True)
    complete = []
    for index, info in enumerate(classes):
        parts = canonical(folders.get(index, "")).split("/")
        inherited = next((domain for domain in by_length if info.name.startswith(f"{domain}_")), info.domain)
        domain = parts[1] if len(parts) > 2 else inherited
        complete.append(replace(info, domain=domain, folder=folders.get(index, "")))
    return tuple(complete)


def _list_test(root: Path, split: str, problems: Problems) -> tuple[Photo, ...]:
    folder = root / f"TestSet{split}"
    if not folder.is_dir():
        other = "B" if split == "A" else "A"
        hint = f"There is TestSet{other}: use --split {other}." if (root / f"TestSet{other}").is_dir() else ""
        problems.add("missing folders", f"there is no folder {folder.name}", hint)
        return ()
    listing = list_folder(folder)
    warn_ignored(folder, listing.others)
    if not listing.photos:
        problems.add("empty folders", f"{folder.name} has no photo")
    return tuple(Photo(folder, name, None) for name in listing.photos)
