"""Classes that the user types, without any photo of them."""

from __future__ import annotations

import os
from pathlib import Path

from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.problems import Problems
from jclip_adapter.storage import read_lines

from .model import ClassInfo, ImageSet
from .names import canonical, note_clashes

TYPED = "typed"
_ROOT = Path(os.devnull)  # no folder: nothing can be in it


def typed_classes(text: str) -> ImageSet:
    """The data set of some class names.

    Args:
        text: The names, separated by commas; or the path of a text file with a name per line.

    Returns:
        The classes in the order given, without photos.

    Raises:
        UsageError: there are fewer than two.
        DataError: names are repeated, or differ only in spelling.
    """
    path = Path(text)
    listed = "\n" not in text and "," not in text and path.is_file()
    parts = read_lines(path) if listed else text.replace("\n", ",").split(",")
    names = [canonical(" ".join(part.split())) for part in parts if part.strip()]
    source = path if listed else Path("--classes")
    if len(names) < 2:
        raise UsageError(
            f"--classes: expected two names or more, got {text!r:.60}.",
            'Separate them by commas, as in --classes "cat, dog", or name a text file with a name per line.',
        )
    problems = Problems(source)
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.add("repeated class names", f"'{name}' is given more than once")
    note_clashes(names, problems)
    problems.raise_if_any("Give each class one name.")
    classes = tuple(ClassInfo(number, name, "", "") for number, name in enumerate(names))
    return ImageSet(source.name, _ROOT, TYPED, classes, (), (), source=source)
