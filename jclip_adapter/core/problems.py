"""Many faults of one kind of file, told in one error.

Whoever mends a list of 180,000 lines wants to hear of all its faults at once, not of the first one, and not of
10,000 copies of the same one.
"""

from __future__ import annotations

import os
import sys
import unicodedata

from .errors import AdapterError, DataError

SHOWN = 10
"""How many faults of each kind are written out; the others are counted."""


class Problems:
    """Collects faults and raises them as one error.

    Args:
        source: What was examined, as it begins the error's line: a path.
        error: The class of the error.

    >>> problems = Problems("train.txt")
    >>> problems.add("malformed lines", "line 3 is 'x'")
    >>> problems.add("duplicate lines", "line 9 repeats line 8")
    >>> problems.raise_if_any()
    Traceback (most recent call last):
    ...
    jclip_adapter.core.errors.DataError: train.txt: 2 problems: malformed lines (1), duplicate lines (1).
    """

    def __init__(self, source: object, error: type[AdapterError] = DataError) -> None:
        self.source = one_line(str(source))
        self.error = error
        self._texts: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}
        self._hints: dict[str, str] = {}

    def __len__(self) -> int:
        return sum(self._counts.values())

    def add(self, kind: str, text: str, hint: str = "") -> None:
        """Note one fault.

        Args:
            kind: The kind in the plural, such as "malformed lines"; faults are counted by it.
            text: The fault, with file and line.
            hint: What to do about this kind; used where it is the only kind.
        """
        self._counts[kind] = self._counts.get(kind, 0) + 1
        texts = self._texts.setdefault(kind, [])
        if len(texts) < SHOWN:
            texts.append(one_line(text))
        if hint:
            self._hints.setdefault(kind, hint)

    def summary(self) -> str:
        """One line that names the only fault, or counts the faults of each kind."""
        if len(self) == 1:
            return f"{self.source}: {next(iter(self._texts.values()))[0]}."
        kinds = ", ".join(f"{kind} ({count:,})" for kind, count in self._counts.items())
        return f"{self.source}: {len(self):,} problems: {kinds}."

    def details(self) -> list[str]:
        """The faults, at most `SHOWN` of each kind, and how many more there are."""
        lines = []
        for kind, texts in self._texts.items():
            lines += [f"{kind}: {text}" for text in texts]
            if self._counts[kind] > len(texts):
                lines.append(f"{kind}: … and {self._counts[kind] - len(texts):,} more")
        return lines

    def raise_if_any(self, hint: str = "") -> None:
        """Raise what was collected, if anything was.

        Args:
            hint: What to do where there are several kinds of fault, or one kind that brought no hint.

        Raises:
            AdapterError: of the class given to the constructor, its `details` holding the faults.
        """
        if self._counts:
            own = next(iter(self._hints.values()), "")
            raise self.error(self.summary(), (own if len(self._counts) == 1 else "") or hint, self.details())


def fits_a_line(name: str) -> bool:
    r"""Whether a name can stand in a text file of one name per line: no control characters, valid Unicode.

    >>> fits_a_line("my cat.jpg"), fits_a_line("my\ncat.jpg")
    (True, False)
    """
    # Cc holds CR, LF and tab; Zl and Zp are Unicode's line separators; Cs marks bytes that are no UTF-8.
    return (name.isascii() and name.isprintable()) or not any(unicodedata.category(c) in _UNFIT for c in name)


def why_unfit(name: str) -> str:
    r"""Why a name cannot stand in a text file; empty where it can.

    Bytes of a file's name that the file system's encoding cannot read arrive as lone surrogates. They are either
    UTF-8 that a C locale hides, or another encoding's, such as GBK's from a zip made on Windows.

    >>> why_unfit("cat.jpg"), why_unfit("my\ncat.jpg")
    ('', 'holds control characters')
    >>> why_unfit(b"\xc3\xa8.jpg\xff".decode("utf-8", "surrogateescape"))
    'holds bytes that are not UTF-8'
    """
    if fits_a_line(name):
        return ""
    if not any(unicodedata.category(letter) == "Cs" for letter in name):
        return "holds control characters"
    try:
        data = os.fsencode(name)
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return "is not valid Unicode"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        guess = _as_gbk(data)
        return "holds bytes that are not UTF-8" + (f" (read as GBK it is {guess!r})" if guess else "")
    return f"cannot be read under this locale, whose encoding is {sys.getfilesystemencoding()} (set LC_ALL=C.UTF-8)"


def _as_gbk(data: bytes) -> str:
    """The text as GB18030, where that gives Chinese; else empty."""
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError:
        return ""
    odd = [letter for letter in text if not letter.isascii()]
    return text if all("\u4e00" <= letter <= "\u9fff" for letter in odd) and text.isprintable() else ""


def one_line(text: str) -> str:
    r"""The text with whatever `fits_a_line` objects to written as escapes, so that an error stays one line.

    >>> print(one_line("a\nb"))
    a\nb
    """
    return text if fits_a_line(text) else "".join(c if fits_a_line(c) else repr(c)[1:-1] for c in text)


_UNFIT = frozenset({"Cc", "Cs", "Zl", "Zp"})
