"""Names of classes and folders: which are equal, and which differ only in how they are written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from jclip_adapter.problems import Problems

_WORD = re.compile(r"[\W_\d]+")
_KIND_SUFFIX = re.compile(r"(?:set|sets|data|dataset|images?|imgs?|photos?|files|split|folder)$")
_SPLITS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tests", "tst"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "devel"), "val"),
}
_FOLD = re.compile(r"(?:cv|k|x)?[-_ ]?fold[-_ ]?(?:\d+|[a-z])", re.IGNORECASE)
_SESSION = re.compile(
    r"""(?:day|session|sess|shoot|set|part|batch|seq|sequence|vid|video|clip|scene|take|trip|visit|cam|camera|view
    |angle|burst|group|folder|dir|sub|subfolder|subset|chunk|shard|lot|roll|album|week|month|year|round|run|trial
    |patient|subject|person|case|sample|split|img|image|dsc|dcim)s?[-_ ]?\d+\w?
    |\d{2,4}[-_.]\d{1,2}[-_.]\d{1,4}(?:[-_ T.]\d+)*|(?:19|20)\d{6}(?:[-_ T]?\d+)?
    |images?|imgs?|photos?|pics?|pictures?|jpe?gs?|pngs?|raw|frames|crops""",
    re.IGNORECASE | re.VERBOSE,
)
_CONTAINER = re.compile(
    r"(?:data|datasets?|images?|imgs?|photos?|pics|pictures?|jpe?gs?|pngs?|raw|all|classes|files|samples|"
    r"(?:\w*[-_ ])?(?:dataset|images|photos))(?:[-_ ]?\d+)?",
    re.IGNORECASE,
)


def canonical(name: str) -> str:
    """A name in Unicode's composed form (NFC), in which macOS's names and everyone else's are equal.

    >>> canonical("Cafe\u0301") == "Caf\u00e9"
    True
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def split_of(name: str) -> str:
    """Which part of a data set a folder's or a CSV's word means.

    Args:
        name: As it stands, in any case.

    Returns:
        "train", "test" or "val"; empty for another word.

    >>> [split_of(name) for name in ("Training", "test_set", "VALID", "val2017", "trainer", "test tube")]
    ['train', 'test', 'val', 'val', '', '']
    """
    word = _WORD.sub("", name.casefold())
    while word not in _SPLITS:
        shorter = _KIND_SUFFIX.sub("", word)
        if shorter == word:
            return ""
        word = shorter
    return _SPLITS[word]


def is_fold(name: str) -> bool:
    """Whether a folder is one part of a cross-validation, by its name.

    >>> is_fold("fold_0"), is_fold("Fold3"), is_fold("scaffold_1")
    (True, True, False)
    """
    return bool(_FOLD.fullmatch(name))


def is_session(name: str) -> bool:
    """Whether a folder's name tells when or how its photos were taken, and not what they show.

    >>> [is_session(name) for name in ("day1", "2021-03-04", "images", "beagle", "7")]
    [True, True, True, False, False]
    """
    return bool(_SESSION.fullmatch(name)) or is_fold(name)


def is_container(name: str) -> bool:
    """Whether a folder is called like a place for photos, which no class is.

    >>> is_container("images"), is_container("my_dataset"), is_container("cat")
    (True, True, False)
    """
    return bool(_CONTAINER.fullmatch(name))


def loose(name: str) -> str:
    """What two spellings of one name have in common: no case, no width, any separator.

    >>> loose("Golden_Retriever") == loose("golden retriever")
    True
    """
    return re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", name)).casefold().strip()


def note_clashes(names: Iterable[str], problems: Problems) -> None:
    """Note each pair of class names that differ only in case, width or separators, with both spellings."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(loose(name), name)
        if other != name:
            problems.add(
                "class names spelled in two ways",
                f"'{other}' and '{name}' differ only in spelling",
                "Give the class one spelling in all folders and lists.",
            )
