"""The project folder of the page: every change of a label in a log that only grows, and labels.csv made of it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.natural import natural_key
from jclip_adapter.core.problems import counted, why_unfit
from jclip_adapter.data.sets.names import canonical, loose
from jclip_adapter.storage import AppendLog, Kind, link_folder, read_checked_json, sha256_file, write_files
from jclip_adapter.storage.checksums import json_bytes
from jclip_adapter.storage.kinds import unchanged_json

LOG, LABELS, DATA, UPLOADS = "changes.jsonl", "labels.csv", "data", "uploads"
LONGEST_NAME = 100
_FACTS = f"{LABELS}.json"
_SHA256 = "labels_sha256"


def _is_labels(path: Path) -> bool:
    """Whether the file beside labels.csv belongs to exactly this content, or to what replaces it."""
    return sha256_file(path) in read_checked_json(path.with_name(_FACTS))[_SHA256]


_LABELS = Kind("a project's labels", _is_labels, lambda path: f"{_FACTS} beside it belongs to another content")
_LABEL_FACTS = Kind("the facts of a project's labels", unchanged_json(_SHA256))


class Project:
    """The classes and labels of a project.

    The log holds one JSON object per line: "do" is "classes" with "names"; "remove" with "class"; "assign" with "class"
    and "photos"; "none" with "photos", which are of none of the classes; "clear" with "photos"; "folder" with "path";
    "train" with "method"; or "undo", which takes back the last change of a label or a class before it that was not
    taken back. The data set's labels are where the log begins; they are not written to it.

    Args:
        folder: The project folder, created if missing.
        data: The data folder, which the link `data` in the project folder leads to.
        classes: The data set's classes.
        labels: Class name by photo, for the data set's labelled photos: "data/Cat/1.jpg".

    Attributes:
        folder: The project folder.
        classes: Class names in natural order.
        labels: Class name by photo; "" for none of the classes.
        touched: The photos whose label was set here.
        folders: Photo folders added here.
        trained: The method that was trained last; empty for none.

    Raises:
        UsageError: the folder belongs to other data, or another process has it open.
        DataError: the log is damaged.
        SetupError: the folder cannot be written.
    """

    def __init__(
        self, folder: Path, data: Path, classes: Sequence[str] = (), labels: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._base = (tuple(classes), dict(labels or {}))
        self._log = AppendLog(folder / LOG)
        self.folders: list[Path] = []
        self.trained = ""
        self._changes: list[dict[str, Any]] = []
        try:
            link_folder(folder / DATA, data)
            for number, line in enumerate(self._log.lines(), 1):
                self._take(self._parsed(line, number))
            self._replay()
            self._gone = {photo for photo in self.touched if not (folder / photo).is_file()}
            self._write_labels()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another process open the project."""
        self._log.close()

    @property
    def labels_file(self) -> Path:
        """labels.csv, a data set for every command."""
        return self.folder / LABELS

    @property
    def last(self) -> str:
        """What `undo` would take back, in words; empty for nothing."""
        return in_words(self._changes[-1]) if self._changes else ""

    def add_classes(self, names: Iterable[str]) -> None:
        """Create classes.

        Raises:
            UsageError: a name is empty, too long, no name of a folder, or differs from another only in spelling.
        """
        fresh = [canonical(" ".join(name.split())) for name in names]
        if not fresh:
            raise UsageError("expected the name of a class.")
        known = {loose(name): name for name in self.classes}
        for name in fresh:
            objection = _unfit(name)
            if objection:
                raise UsageError(f"'{name[:LONGEST_NAME]}' cannot be a class name: it {objection}.")
            other = known.setdefault(loose(name), name)
            if other != name or name in self.classes:
                raise UsageError(f"there is a class '{other}' already.")
        self._change({"do": "classes", "names": list(dict.fromkeys(fresh))})

    def remove_class(self, name: str) -> None:
        """Remove a class; its photos have no label then.

        Raises:
            UsageError: there is no such class.
        """
        self._check(name)
        self._change({"do": "remove", "class": name})

    def assign(self, photos: Sequence[str], name: str) -> None:
        """Label photos.

        Raises:
            UsageError: there is no such class.
        """
        self._check(name)
        self._change({"do": "assign", "class": name, "photos": list(photos)})

    def none_of_these(self, photos: Sequence[str]) -> None:
        """Mark photos as being of none of the classes."""
        self._change({"do": "none", "photos": list(photos)})

    def clear(self, photos: Sequence[str]) -> None:
        """Take the labels of photos away."""
        self._change({"do": "clear", "photos": list(photos)})

    def undo(self) -> str:
        """Take back the last change.

        Returns:
            What was taken back, in words.

        Raises:
            UsageError: there is nothing to take back.
        """
        if not self._changes:
            raise UsageError("there is nothing to undo.")
        text = self.last
        self._change({"do": "undo"})
        return text

    def add_folder(self, path: Path) -> Path:
        """Add a folder of photos on this machine.

        Returns:
            Its link in the project folder.
        """
        place = self._linked(path.resolve())
        if path.resolve() not in self.folders:
            self._change({"do": "folder", "path": str(path.resolve())})
        return place

    def note_training(self, method: str) -> None:
        """Note which method is trained, so that a later session trains it again."""
        self._change({"do": "train", "method": method})

    def _linked(self, path: Path) -> Path:
        place = self.folder / f"folder-{hashlib.sha256(bytes(path)).hexdigest()[:8]}"
        link_folder(place, path)
        return place

    def _check(self, name: str) -> None:
        if name not in self.classes:
            raise UsageError(f"there is no class '{name[:LONGEST_NAME]}'.")

    def _change(self, change: dict[str, Any]) -> None:
        """Write a change to the log, then follow it."""
        self._log.append(json.dumps(change, ensure_ascii=True))
        self._take(change)
        if change["do"] == "undo":
            self._replay()
        else:
            self._follow(change)
        self._write_labels()

    def _take(self, change: dict[str, Any]) -> None:
        """Add a change to those in force."""
        if change["do"] == "undo":
            self._changes.pop()
        elif change["do"] == "folder":
            self.folders.append(Path(change["path"]))
        elif change["do"] == "train":
            self.trained = change["method"]
        else:
            self._changes.append(change)

    def _parsed(self, line: str, number: int) -> dict[str, Any]:
        """A line of the log; DataError if it is damaged."""
        try:
            change = json.loads(line)
            fields = _FIELDS[change["do"]]
            if change.keys() == {"do", *fields} and all(isinstance(change[key], fields[key]) for key in fields):
                if change["do"] == "undo" and not self._changes:
                    raise KeyError(line)
                return dict(change)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise DataError(f"{self.folder / LOG} is damaged in line {number}.", "Give another folder by --project.")

    def _replay(self) -> None:
        """Classes and labels from all changes."""
        self.classes: tuple[str, ...] = _sorted(self._base[0])
        self.labels: dict[str, str] = dict(self._base[1])
        self.touched: set[str] = set()
        for change in self._changes:
            self._follow(change)

    def _follow(self, change: dict[str, Any]) -> None:
        name = change["do"]
        if name == "classes":
            self.classes = _sorted((*self.classes, *change["names"]))
        elif name == "remove":
            self.classes = tuple(each for each in self.classes if each != change["class"])
            self.labels = {photo: label for photo, label in self.labels.items() if label != change["class"]}
        elif name == "clear":
            for photo in change["photos"]:
                self.labels.pop(photo, None)
        elif name in ("assign", "none"):
            if change.get("class", "") not in ("", *self.classes):  # of a folder that is no longer there
                self.classes = _sorted((*self.classes, change["class"]))
            self.labels.update(dict.fromkeys(change["photos"], change.get("class", "")))
            self.touched.update(change["photos"])

    def _write_labels(self) -> None:
        """Write labels.csv: a row per photo of a class."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("path", "label"))
        rows.writerows((photo, label) for photo, label in self.labels.items() if label and photo not in self._gone)
        data = text.getvalue().encode("utf-8")
        before = self.labels_file.read_bytes() if self.labels_file.is_file() else b""
        if before != data:
            # With both, as a kill may come when the facts are new and the table is not.
            facts = json_bytes({_SHA256: [hashlib.sha256(each).hexdigest() for each in (data, before)]})
            write_files([(self.folder / _FACTS, facts, _LABEL_FACTS), (self.labels_file, data, _LABELS)])


_FIELDS: Mapping[str, Mapping[str, type]] = {
    "classes": {"names": list},
    "remove": {"class": str},
    "assign": {"class": str, "photos": list},
    "none": {"photos": list},
    "clear": {"photos": list},
    "folder": {"path": str},
    "train": {"method": str},
    "undo": {},
}


def in_words(change: Mapping[str, Any]) -> str:
    """A change in words.

    >>> in_words({"do": "assign", "class": "cat", "photos": ["data/1.jpg"]})
    '1 photo as cat'
    """
    photos = counted(len(change.get("photos", ())), "photo")
    return {
        "classes": lambda: f"new: {', '.join(change['names'])[:LONGEST_NAME]}",
        "remove": lambda: f"removed: {change['class']}",
        "assign": lambda: f"{photos} as {change['class']}",
        "none": lambda: f"{photos} as none of these",
        "clear": lambda: f"{photos} without label",
    }[change["do"]]()


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in the order that a CSV file gives them."""
    return tuple(sorted(set(names), key=natural_key))


def _unfit(name: str) -> str:
    """Why a text cannot be a class name, which becomes a folder's name too; empty if it can."""
    if not name:
        return "is empty"
    if len(name) > LONGEST_NAME:
        return f"has more than {LONGEST_NAME} letters"
    if name.startswith(".") or set(name) & set('/\\:*?"<>|'):
        return "cannot be the name of a folder"
    return why_unfit(name)
