"""Classes that the user types, without any photo of them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.problems import Problems, one_line, why_unfit
from jclip_adapter.storage import read_lines

from .model import ClassInfo, ImageSet
from .names import canonical, note_clashes

TYPED = "typed"
_ROOT = Path(os.devnull)  # no folder: nothing can be in it
_BETWEEN = re.compile("[,，、\n]")  # with the commas of Chinese input methods


def typed_classes(text: str) -> ImageSet:
    """The data set of some class names.

    Args:
        text: The names, separated by commas, also Chinese ones; or the path of a text file with a name per line.

    Returns:
        The classes in the order given, without photos.

    Raises:
        UsageError: there are fewer than two.
        DataError: names are repeated, differ only in spelling, or hold control characters.
    """
    listed = not _BETWEEN.search(text) and os.path.isfile(text)  # noqa: PTH113  (False for any text; Path may raise)
    parts = read_lines(text) if listed else _BETWEEN.split(text)
    names = [canonical(" ".join(part.split())) for part in parts if part.strip()]
    source = Path(text if listed else "--classes")
    if len(names) < 2:
        found = f"{len(names)} in the file {text}" if listed else f"{text!r:.60}, which is no file either"
        raise UsageError(
            f"--classes: expected two names or more, got {found}.",
            'Separate them by commas, as in --classes "cat, dog", or name a text file with a name per line.',
        )
    problems = Problems(source)
    for name in filter(why_unfit, names):
        problems.add("class names that cannot be written", f"'{one_line(name)}' {why_unfit(name)}", "Remove them.")
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.add("repeated class names", f"'{name}' is given more than once")
    note_clashes(names, problems)
    problems.raise_if_any("Give each class one name.")
    return classes_alone([ClassInfo(number, name, "", "") for number, name in enumerate(names)], source)


def classes_alone(classes: Sequence[ClassInfo], source: Path) -> ImageSet:
    """The data set of some classes, without photos.

    Args:
        classes: The classes.
        source: Where they are from, for messages.
    """
    return ImageSet(source.name, _ROOT, TYPED, tuple(classes), (), (), source=source)
