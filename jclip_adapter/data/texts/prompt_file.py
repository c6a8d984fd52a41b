"""Validates the values of a prompt set's file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from jclip_adapter.core.errors import UsageError, suggest

Naming = Literal["spelled", "raw"]


def read_naming(path: Path, value: Any) -> Naming:
    """Check the value of 'names'.

    Args:
        path: The file that it comes from, for messages.
        value: What YAML made of it.

    Raises:
        UsageError: it is another word than the two known ones.
    """
    if value == "spelled":
        return "spelled"
    if value == "raw":
        return "raw"
    raise UsageError(f"{path}: 'names' is {value!r:.60}.", suggest(str(value), ["spelled", "raw"]))


def read_templates(path: Path, value: Any) -> dict[str, tuple[str, ...]]:
    """Check a mapping from domains to lists of sentences.

    Args:
        path: The file that it comes from, for messages.
        value: What YAML made of it.

    Returns:
        Domain → its sentences in the file's order, white space collapsed.

    Raises:
        UsageError: it is not such a mapping, a list is empty or has a duplicate, or a sentence has not exactly
            one `{}`.
    """
    if not isinstance(value, dict):
        raise UsageError(f"{path}: 'templates' is not a mapping.", "Write one line per domain and its templates below.")
    result = {}
    for domain, texts in value.items():
        if not isinstance(domain, str) or not domain or domain != domain.strip():
            raise UsageError(
                f"{path}: {domain!r:.60} cannot be a domain.",
                "Write it as in the class list; quote it if it looks like a number, a date, yes or no.",
            )
        where = f"{path}: templates of {domain!r:.60}"
        if not isinstance(texts, list) or not texts:
            raise UsageError(f"{where} are not a list.", 'Give at least one: - "a photo of {}".')
        result[domain] = tuple(_read_template(where, text) for text in texts)
        _refuse_doubles(where, result[domain])
    return result


def _read_template(where: str, text: Any) -> str:
    if not isinstance(text, str):
        raise UsageError(f"{where} hold {text!r:.60}, which is not text.", "Put it in quotes.")
    sentence = " ".join(text.split())
    if sentence.count("{}") != 1 or re.search(r"[{}]", sentence.replace("{}", "")):
        raise UsageError(f"{where}: {text!r:.100} needs exactly one {{}}.", "The class name is put there.")
    return sentence


def _refuse_doubles(where: str, texts: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for text in texts:
        if text.lower() in seen:  # CLIP's tokenizer lowers everything: such twins give the same feature
            raise UsageError(f"{where} contain {text!r:.100} twice.", "Remove one.")
        seen.add(text.lower())


def read_spellings(path: Path, value: Any) -> dict[str, str]:
    """Check a mapping from full class names to words.

    Args:
        path: The file that it comes from, for messages.
        value: What YAML made of it.

    Returns:
        The mapping, white space in the words collapsed.

    Raises:
        UsageError: it is not a mapping of texts, or a text has no letter or digit.
    """
    if not isinstance(value, dict):
        raise UsageError(f"{path}: spellings are not a mapping.", "Write one line per class: Full_Name: better words.")
    result = {}
    for key, words in value.items():
        if not isinstance(key, str) or not isinstance(words, str):
            raise UsageError(f"{path}: spelling {key!r:.60}: {words!r:.60} is not text.", "Put both in quotes.")
        if not any(letter.isalnum() for letter in words):
            raise UsageError(
                f"{path}: the spelling of {key!r:.60} has no letter or digit.", "Give words, or remove the line."
            )
        result[key] = " ".join(words.split())
    return result
