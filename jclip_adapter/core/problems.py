"""Collects the faults of a file into one error: all kinds of fault, but not 10,000 examples of one kind."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Sequence

from .errors import AdapterError, DataError

SHOWN = 10
"""Number of faults listed per kind; the others are counted."""


class Problems:
    """Collects faults and raises them as one error.

    Args:
        source: The path that was checked, which begins the error message.
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
        """Add one fault.

        Args:
            kind: The kind in the plural, such as "malformed lines"; faults are counted by it.
            text: The fault, with file and line.
            hint: What to do about this kind; used if it is the only kind.
        """
        self._counts[kind] = self._counts.get(kind, 0) + 1
        texts = self._texts.setdefault(kind, [])
        if len(texts) < SHOWN:
            texts.append(one_line(text))
        if hint:
            self._hints.setdefault(kind, hint)

    def summary(self) -> str:
        """One line: the only fault, or the number of faults of each kind."""
        if len(self) == 1:
            return f"{self.source}: {next(iter(self._texts.values()))[0]}."
        kinds = ", ".join(f"{kind} ({count:,})" for kind, count in self._counts.items())
        return f"{self.source}: {len(self):,} problems: {kinds}."

    def details(self) -> list[str]:
        """The faults, at most `SHOWN` of each kind, and the number of others."""
        lines = []
        for kind, texts in self._texts.items():
            lines += [f"{kind}: {text}" for text in texts]
            if self._counts[kind] > len(texts):
                lines.append(f"{kind}: … and {self._counts[kind] - len(texts):,} more")
        return lines

    def raise_if_any(self, hint: str = "") -> None:
        """Raise an error with all faults, if there are any.

        Args:
            hint: What to do about several kinds of fault, or one kind without a hint.

        Raises:
            AdapterError: of the class given to the constructor, with the faults in `details`.
        """
        if self._counts:
            own = next(iter(self._hints.values()), "")
            raise self.error(self.summary(), (own if len(self._counts) == 1 else "") or hint, self.details())


def counted(count: int, noun: str) -> str:
    """A number and its noun, in the plural unless the number is 1.

    >>> counted(1, "photo"), counted(1200, "class")
    ('1 photo', '1,200 classes')
    """
    plural = f"{noun}{'es' if noun.endswith('s') else 's'}"
    return f"{count:,} {noun if count == 1 else plural}"


def done_before(whole: int, of: int, noun: str, damaged: int, again: str) -> str:
    """What a continued command found, in words.

    >>> done_before(1, 3, "table", 1, "made")
    '1 table of 3 done before; damaged ones, made again: 1'
    """
    found = f"{counted(whole, noun)} of {of:,} done before"
    return f"{found}; damaged ones, {again} again: {damaged}" if damaged else found


def first_of(names: Sequence[str], most: int) -> str:
    """The first names, and an ellipsis if there are more.

    >>> first_of(["a", "b", "c"], 2), first_of(["a", "b"], 2)
    ('a, b, …', 'a, b')
    """
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def fits_a_line(name: str) -> bool:
    r"""Whether a name fits a text file of one name per line: no control characters, valid Unicode.

    >>> fits_a_line("my cat.jpg"), fits_a_line("my\ncat.jpg")
    (True, False)
    """
    # Cc: CR, LF, tab and others; Zl and Zp: Unicode's line separators; Cs: bytes that are not UTF-8.
    return (name.isascii() and name.isprintable()) or not any(unicodedata.category(c) in _UNFIT for c in name)


def why_unfit(name: str) -> str:
    r"""Why a name does not fit a text file; empty if it does.

    Undecodable bytes of a file name are lone surrogates: UTF-8 under a C locale, or another encoding such as GBK from a
    zip made on Windows.

    >>> why_unfit("cat.jpg"), why_unfit("my\ncat.jpg")
    ('', 'holds control characters')
    >>> why_unfit(b"\xc3\xa8.jpg\xff".decode("utf-8", "surrogateescape"))
    'holds bytes that are not UTF-8'
    """
    if fits_a_line(name):
        return ""
    if not any(unicodedata.category(letter) == "Cs" for letter in name):
        return "holds control characters"
    data = os.fsencode(name)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        guess = _as_gbk(data)
        return "holds bytes that are not UTF-8" + (f" (read as GBK it is {guess!r})" if guess else "")
    return f"cannot be read under this locale, whose encoding is {sys.getfilesystemencoding()} (set LC_ALL=C.UTF-8)"


def _as_gbk(data: bytes) -> str:
    """The text decoded as GB18030, if that gives Chinese; else empty."""
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError:
        return ""
    odd = [letter for letter in text if not letter.isascii()]
    return text if all("\u4e00" <= letter <= "\u9fff" for letter in odd) and text.isprintable() else ""


def one_line(text: str) -> str:
    r"""The text with characters that do not fit a line as escapes, so that an error stays one line.

    >>> print(one_line("a\nb"))
    a\nb
    """
    return text if fits_a_line(text) else "".join(c if fits_a_line(c) else repr(c)[1:-1] for c in text)


_UNFIT = frozenset({"Cc", "Cs", "Zl", "Zp"})
