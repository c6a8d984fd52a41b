"""Matches a data set's classes with ImageNet's 1,000 classes by name.

An ImageNet network can predict such classes without shots. prompts/imagenet.csv has the 1,000 classes,
prompts/imagenet_matches.csv matches made by hand (see prompts/README.md); other names are looked up in WordNet's words.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

from jclip_adapter.core.errors import DataError
from jclip_adapter.core.resources import shipped
from jclip_adapter.storage import read_lines

from .prompts import read_by_rule

_FOLDER = shipped("prompts")
_CLASSES_FILE, _CLASSES_HEADER = "imagenet.csv", ["id", "wordnet", "names"]
_MATCHES_FILE, _MATCHES_HEADER = "imagenet_matches.csv", ["class", "match", "imagenet"]
_CLASSES = 1000
_MATCHES = 418  # least number of rows, to detect a truncated file
_WHOLE = "Run the program from a complete copy of the repository."

_SYNSET = re.compile(r"n\d{8}")
_SYNSET_FIRST = re.compile(r"(n\d{8})(?:$|[-_ ])")

Kind = Literal["exact", "near", "none"]


@dataclass(frozen=True)
class Match:
    """The ImageNet classes of a class.

    Args:
        kind: "exact": together they are the class; "near": most of its photos would be predicted as one of them;
            "none": there are none.
        ids: Their ImageNet indices, ascending.
    """

    kind: Kind
    ids: tuple[int, ...]


_NONE = Match("none", ())


class _Row(NamedTuple):
    domain: str
    match: Match


class _Tables(NamedTuple):
    names: tuple[str, ...]  # the first word of each class
    synonyms: tuple[tuple[str, ...], ...]  # all words of each class
    synsets: Mapping[str, int]  # WordNet's number → id
    words: Mapping[str, tuple[int, ...]]  # key of a word → all classes that it names
    full: Mapping[str, Match]  # key of a row's full name → match
    plain: Mapping[str, tuple[_Row, ...]]  # key of a row's name behind its domain → all such rows


def match_names(names: Sequence[str], domains: Sequence[str] = ()) -> tuple[Match, ...]:
    """Find the ImageNet classes of a data set's classes.

    A row of the table matches a class by its full name, or by its name without domain, ignoring case, "_", "-" and
    blanks. Other names match exactly if they begin with an ImageNet class's WordNet number ("n02085620-Chihuahua"), or
    are one of its words, with or without a final "s". A word of several ImageNet classes ("crane") does not match.

    Args:
        names: The class names, e.g. "Thu-dog_Chihuahua", "golden retriever" or "Golden_Retriever".
        domains: The classes' domains, in the same order, "" for none; empty if names have no domains.

    Returns:
        One match per name.

    Raises:
        DataError: a table of the prompts folder is missing or damaged.

    >>> match_names(["Thu-dog_Chihuahua", "crane", "Birds_Brambling"], ["Thu-dog", "", "Birds"])
    (Match(kind='exact', ids=(151,)), Match(kind='none', ids=()), Match(kind='exact', ids=(10,)))
    """
    tables = _load(_FOLDER)
    return tuple(_match(tables, name, own) for name, own in zip(names, domains or [""] * len(names), strict=True))


def wordnet_name(number: str) -> str:
    """An ImageNet class in words, by its WordNet number.

    It is WordNet's first word, a longer form of it ("tabby cat" for "tabby"), or the next word if another class has the
    same first one ("tank suit" for one of two classes "maillot").

    Args:
        number: Such as "n02123045".

    Returns:
        The words; empty if it is not one of ImageNet's 1,000 classes.

    Raises:
        DataError: a table of the prompts folder is missing or damaged.

    >>> wordnet_name("n02123045"), wordnet_name("n03710721"), wordnet_name("n99999999")
    ('tabby cat', 'tank suit', '')
    """
    tables = _load(_FOLDER)
    index = tables.synsets.get(number)
    if index is None:
        return ""
    first, *others = tables.synonyms[index]
    if others and tables.names.count(first) > 1:
        return others[0]
    return next((word for word in others if word.casefold().startswith(f"{first.casefold()} ")), first)


def _match(tables: _Tables, name: str, domain: str) -> Match:
    full = _key(name)
    if full in tables.full:
        return tables.full[full]
    plain = name.removeprefix(f"{domain}_") if domain else name
    synset = _SYNSET_FIRST.match(plain)
    if synset and synset[1] in tables.synsets:
        return Match("exact", (tables.synsets[synset[1]],))
    key = _key(plain)
    found = _by_row(tables, key, domain)
    return found if found is not None else _by_words(tables.words, key)


def _by_row(tables: _Tables, key: str, domain: str) -> Match | None:
    """The match of the row with this name; rows of the same domain take precedence."""
    rows = tables.plain.get(key, ())
    own = [row.match for row in rows if row.domain == domain]
    matches = set(own or [row.match for row in rows])
    if len(matches) != 1:
        return None
    match = matches.pop()
    # In another domain the name may have another meaning (the table's Cardigan is a dog, its teddy a poodle); if
    # WordNet has one, the row is not used.
    other = bool(domain) and not own
    return None if other and not set(tables.words.get(key, ())) <= set(match.ids) else match


def _by_words(words: Mapping[str, tuple[int, ...]], key: str) -> Match:
    ids = words.get(key) or words.get(key.removesuffix("s"), ())
    return Match("exact", ids) if len(ids) == 1 else _NONE


def _key(name: str) -> str:
    """The name without numbering, case, blanks and punctuation."""
    return re.sub(r"[\W_]", "", read_by_rule(name)).casefold()


@lru_cache(maxsize=2)
def _load(folder: Path) -> _Tables:
    synonyms, synsets, words = _read_classes(folder / _CLASSES_FILE)
    full: dict[str, Match] = {}
    plain: defaultdict[str, list[_Row]] = defaultdict(list)
    for name, match in _read_matches(folder / _MATCHES_FILE).items():
        domain, _, rest = name.partition("_")
        full[_key(name)] = match
        plain[_key(rest)].append(_Row(domain, match))
    names = tuple(each[0] for each in synonyms)
    return _Tables(names, synonyms, synsets, words, full, {key: tuple(rows) for key, rows in plain.items()})


def _read_classes(path: Path) -> tuple[tuple[tuple[str, ...], ...], dict[str, int], dict[str, tuple[int, ...]]]:
    classes: list[tuple[str, ...]] = []
    synsets: dict[str, int] = {}
    words: defaultdict[str, set[int]] = defaultdict(set)
    for number, (index, synset, names) in _rows(path, _CLASSES_HEADER):
        synonyms = names.split("; ")
        if index != str(len(classes)) or not _SYNSET.fullmatch(synset) or synset in synsets or not all(synonyms):
            raise _damaged(path, f"line {number} is not class {len(classes)} with its WordNet number and names")
        synsets[synset] = len(classes)
        for word in synonyms:
            words[_key(word)].add(len(classes))
        classes.append(tuple(synonyms))
    if len(classes) != _CLASSES:
        raise _damaged(path, f"it has {len(classes)} classes, not {_CLASSES}")
    return tuple(classes), synsets, {key: tuple(sorted(ids)) for key, ids in words.items()}


def _read_matches(path: Path) -> dict[str, Match]:
    matches: dict[str, Match] = {}
    for number, (name, kind, listed) in _rows(path, _MATCHES_HEADER):
        ids = [int(word) for word in listed.split(" ") if re.fullmatch("[0-9]{1,3}", word)]
        whole = " ".join(map(str, ids)) == listed and ids == sorted(set(ids))
        if "_" not in name or kind not in get_args(Kind) or not whole or bool(ids) == (kind == "none"):
            raise _damaged(path, f"line {number} is not <Domain>_<Name>, a kind of match and its ImageNet ids")
        if name in matches:
            raise _damaged(path, f"line {number} has '{name:.60}' again")
        matches[name] = Match(cast(Kind, kind), tuple(ids))
    if len(matches) < _MATCHES:
        raise _damaged(path, f"it has {len(matches)} rows, of {_MATCHES} or more")
    return matches


def _rows(path: Path, header: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line below the header."""
    try:
        lines = read_lines(path)
    except DataError as error:
        raise DataError(error.message, _WHOLE) from error
    if not lines or lines[0].split(",") != header:
        raise _damaged(path, f"its first line is not {','.join(header)}")
    # Line by line, as an unclosed quote would swallow the following lines.
    for number, line in enumerate(lines[1:], 2):
        cells = next(csv.reader([line]), [])
        if len(cells) != len(header):
            raise _damaged(path, f"line {number} has {len(cells)} cells, not {len(header)}")
        yield number, cells


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is damaged: {reason}.", _WHOLE)
