"""Names of classes and folders: normal forms, and names of splits, folds, sessions and containers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Container, Iterable, Mapping
from types import MappingProxyType

from jclip_adapter.core.problems import Problems

_WORD = re.compile(r"[\W_\d]+")
_KIND_SUFFIX = re.compile(
    r"(?:set|sets|data|dataset|images?|imgs?|photos?|files|split|folder|集|数据|數據|资料|資料|样本|樣本|图片|圖片|图像|照片)$"
)
_SPLITS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("train", "training", "trn", "训练", "訓練"), "train"),
        **dict.fromkeys(("test", "testing", "tests", "tst", "测试", "測試"), "test"),
        **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "devel", "验证", "驗證"), "val"),
    }
)
# Words that mean splits only in pairs: a gallery alone may be a class of rooms.
_PAIRS: tuple[Mapping[str, str], ...] = (
    MappingProxyType({"support": "train", "query": "test"}),
    MappingProxyType({"gallery": "train", "query": "test"}),
)
_PARTED = re.compile(r"[\s_\-.]+|(?<=[a-z])(?=[A-Z])")
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
    """A name in Unicode's composed form (NFC), as macOS uses the decomposed one.

    >>> canonical("Cafe\u0301") == "Caf\u00e9"
    True
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def split_of(name: str) -> str:
    """The split that a folder's name or a CSV's cell means, in any case.

    Returns:
        "train", "test" or "val"; empty for other words.

    >>> [split_of(name) for name in ("Training", "test_set", "VALID", "val2017", "训练集", "trainer", "test tube")]
    ['train', 'test', 'val', 'val', 'train', '', '']
    """
    return _meaning(name, _SPLITS)


def _meaning(name: str, words: Mapping[str, str]) -> str:
    word = _WORD.sub("", name.casefold())
    while word not in words:
        shorter = _KIND_SUFFIX.sub("", word)
        if shorter == word:
            return ""
        word = shorter
    return words[word]


def parts_of(names: Collection[str], nested: Container[str] | None = None) -> dict[str, str]:
    """The splits that several names mean together.

    Besides those of `split_of`, these are names with an addition, such as my_train and my_test (but not "bullet_train"
    alone): if another split has the same addition, or if another split has its plain name and the folder has folders.
    Support and query, or gallery and query, are train and test.

    Args:
        names: Names of the folders in one folder, or the words in one column.
        nested: The folders that contain folders; None for words.

    Returns:
        "train", "test" or "val" by name, in the order of the names, without other names.

    >>> parts_of(["seg_pred", "seg_test", "seg_train"])
    {'seg_test': 'test', 'seg_train': 'train'}
    >>> parts_of(["bullet_train", "car", "gallery"]), parts_of(["gallery", "query"])
    ({}, {'gallery': 'train', 'query': 'test'})
    """
    plain = {name: split_of(name) for name in names if split_of(name)}
    for pair in _PAIRS:
        found = {name: _meaning(name, pair) for name in names if _meaning(name, pair)}
        if len(set(found.values())) == len(pair):
            plain |= found
    added = {name: meaning for name in names if name not in plain and (meaning := _with_addition(name))}

    def is_part(name: str) -> bool:
        part, addition = added[name]
        if any(rest == addition and other != part for other, rest in added.values()):
            return True
        others = [other for other, of_other in plain.items() if of_other != part]
        if nested is None or name in nested:
            return bool(others)
        return part != "train" and any(other in nested for other in others)

    return {
        name: plain.get(name) or added[name][0] for name in names if name in plain or (name in added and is_part(name))
    }


def _with_addition(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The split that exactly one of a name's words means, and the other words; None otherwise."""
    words = [word for word in _PARTED.split(name) if word]
    found = [number for number, word in enumerate(words) if split_of(word)]
    if len(found) != 1 or len(words) == 1:
        return None
    (at,) = found
    rest = [word.casefold() for word in words]
    return split_of(words[at]), (*rest[:at], "", *rest[at + 1 :])


def is_fold(name: str) -> bool:
    """Whether a folder's name is that of a cross-validation fold.

    >>> is_fold("fold_0"), is_fold("Fold3"), is_fold("scaffold_1")
    (True, True, False)
    """
    return bool(_FOLD.fullmatch(name))


def is_session(name: str) -> bool:
    """Whether a folder's name is about when or how its photos were taken, not about their content.

    >>> [is_session(name) for name in ("day1", "2021-03-04", "images", "beagle", "7")]
    [True, True, True, False, False]
    """
    return bool(_SESSION.fullmatch(name)) or is_fold(name)


def is_container(name: str) -> bool:
    """Whether a folder's name is that of a container of photos, not of a class.

    >>> is_container("images"), is_container("my_dataset"), is_container("cat")
    (True, True, False)
    """
    return bool(_CONTAINER.fullmatch(name))


def loose(name: str) -> str:
    """A name without case, width and kind of separator.

    >>> loose("Golden_Retriever") == loose("golden retriever")
    True
    """
    return re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", name)).casefold().strip()


def note_clashes(names: Iterable[str], problems: Problems) -> None:
    """Add a fault for each pair of class names that differ only in case, width or separators."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(loose(name), name)
        if other != name:
            problems.add(
                "class names spelled in two ways",
                f"'{other}' and '{name}' differ only in spelling",
                "Give the class one spelling in all folders and lists.",
            )
