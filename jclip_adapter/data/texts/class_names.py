"""Class names in words: from the user's file or WordNet; finds names without meaning for CLIP."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from jclip_adapter.core.errors import UsageError, suggest
from jclip_adapter.core.strict_yaml import read_yaml_mapping
from jclip_adapter.data.sets import ImageSet
from jclip_adapter.data.sets.names import canonical
from jclip_adapter.data.sets.typed import TYPED

from .imagenet import wordnet_name
from .prompt_file import read_spellings
from .prompts import PromptSet

FILE = "class_names.yaml"
"""The file in a data folder with one line "class: words" per class."""

_SHOWN = 5
_CHINESE = re.compile("[\u4e00-\u9fff]")
_SYNSET = re.compile(r"n\d{8}")
_CODE = re.compile(r"(?:class|cls|label|category|id|obj|item|kind|group|species|type)s?[ _-]*\d+", re.IGNORECASE)


def name_classes(prompts: PromptSet, images: ImageSet, given: str = "") -> tuple[PromptSet, list[str]]:
    """Put a data set's classes into words.

    In order of precedence: the user's file, the prompt set's spellings, WordNet's words for a name that is an ImageNet
    class's number, the rule of `prompts.read_by_rule`. Prompt sets with raw names keep the numbers.

    Args:
        prompts: The prompt set.
        images: The data set.
        given: The user's file; empty for class_names.yaml in the data folder, if there is one.

    Returns:
        The prompt set with these words, and at most one warning each for lines of the file without a class and for
        names without meaning for CLIP; for prompts that are not in Latin letters, names in any letters have meaning.

    Raises:
        UsageError: the file is missing or malformed, or no line names a class.
    """
    path = Path(given) if given else images.root / FILE
    warnings = []
    words: dict[str, str] = {}
    if given or path.is_file():
        written = {canonical(name): text for name, text in read_spellings(path, read_yaml_mapping(path)).items()}
        words = {name: written[name] for name in images.class_names if name in written}
        strangers = sorted(set(written) - set(words))
        if strangers and not words:
            hint = suggest(strangers[0], images.class_names)
            raise UsageError(f"{path}: no line names a class of {images.source}.", hint)
        if strangers:
            near = suggest(strangers[0], images.class_names)
            warnings.append(f"{path}: there is no class {_some(strangers)}; these lines are ignored. {near}")
    named = prompts.respelled({**_by_wordnet(prompts, images), **words})
    latin = _mostly_latin(prompts.templates["default"][0])
    unclear = [
        name
        for name, domain in zip(images.class_names, images.domains, strict=True)
        if is_meaningless(named.class_name(name, domain), latin=latin)
    ]
    if unclear:
        chinese = any(_CHINESE.search(name) for name in unclear)
        lines = f"'class: English words' lines to {images.root / FILE}"
        warnings.append(
            f"{len(unclear)} of {len(images.classes)} class names have no meaning for CLIP: {_some(unclear)}; "
            f"write {'other names' if images.layout == TYPED else lines}, or give --class-names FILE"
            + (", or --prompts zh with a model that reads Chinese (list models)" if chinese else "")
        )
    return named, warnings


def words_of(prompts: PromptSet, images: ImageSet) -> dict[str, str]:
    """Each class in words, by its full name."""
    pairs = zip(images.class_names, images.domains, strict=True)
    return {name: prompts.class_name(name, domain) for name, domain in pairs}


def _by_wordnet(prompts: PromptSet, images: ImageSet) -> Mapping[str, str]:
    if prompts.names == "raw":
        return {}
    found = {}
    for name, domain in zip(images.class_names, images.domains, strict=True):
        plain = name.removeprefix(f"{domain}_") if domain else name
        words = wordnet_name(plain) if _SYNSET.fullmatch(plain) else ""
        if words and name not in prompts.spellings:
            found[name] = words
    return found


def is_meaningless(words: str, *, latin: bool = True) -> bool:
    """Whether a class's words have no meaning for a CLIP.

    These are numbers, codes, single Latin letters, WordNet's numbers, and words of mostly non-Latin letters, which
    CLIP's tokenizer splits into bytes.

    Args:
        words: The class in words.
        latin: Whether the CLIP was trained on English captions.

    >>> [is_meaningless(words) for words in ("12", "B", "n02123045", "class 7", "猫", "Müller's cat", "T-shirt")]
    [True, True, True, True, True, False, False]
    >>> is_meaningless("猫", latin=False)
    False
    """
    plain = unicodedata.normalize("NFKC", words).strip()
    letters = [letter for letter in plain if letter.isalpha()]
    if not letters or _SYNSET.fullmatch(plain) or _CODE.fullmatch(plain):
        return True
    if len(letters) == 1 and _is_latin(letters[0]):
        return True
    return latin and not _mostly_latin(plain)


def _mostly_latin(text: str) -> bool:
    letters = [letter for letter in text if letter.isalpha()]
    return 2 * sum(_is_latin(letter) for letter in letters) >= len(letters)


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
