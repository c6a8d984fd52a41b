"""Prompt sets: templates for CLIP's text encoder, and class names in words.

A prompt set is one YAML file, in `prompts/` or the user's, with templates per domain and the spelling of class names
such as "Thu-dog_Shiba_Dog". prompts/seed.yaml documents the keys, prompts/class_names.yaml has the spellings without a
rule, prompts/README.md describes how to add both.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from jclip_adapter.core.errors import DataError, SetupError, UsageError, suggest
from jclip_adapter.core.resources import shipped
from jclip_adapter.core.strict_yaml import read_yaml_mapping

from .prompt_file import Naming, read_naming, read_spellings, read_templates

_FOLDER = shipped("prompts")
_SPELLINGS_FILE = "class_names.yaml"
_KEYS = ("base", "names", "templates", "spellings")
_RULE_VERSION = 1  # part of the fingerprint: raise it when read_by_rule changes
_ALIKE = 0.75  # difflib's ratio above which a domain's name counts as mistyped

_NUMBERING = re.compile(r"^(?:\d+-n\d+-|n\d{8}[-_ ]|\d+\.\s*)(?=.*[^\W\d_])")
_GLUED = re.compile(r"(?:[A-Z][a-z]{2,}){2,}")
_YEAR_LAST = re.compile(r"(.+) ((?:19|20)\d\d)")

_K = TypeVar("_K")
_V = TypeVar("_V")


def _frozen(mapping: Mapping[_K, _V]) -> Mapping[_K, _V]:
    return MappingProxyType(dict(mapping))


@dataclass(frozen=True)
class PromptSet:
    """The templates and spellings that turn class names into texts; domains may have different numbers of templates.

    Args:
        name: The set's name, or the file name of a user's set.
        templates: Domain → sentences with one `{}` each, in the file's order; "default" for all other domains.
        names: "spelled", or "raw" for the name after its domain unchanged.
        spellings: Full class name → English words; empty if names are raw.
        own_spellings: The keys of `spellings` from a user's file, not from this program's.

    >>> prompts = load_prompts("seed")
    >>> prompts.texts("Thu-dog_Shiba_Dog")
    ['a photo of Shiba Inu, a category of a dog']
    """

    name: str
    templates: Mapping[str, tuple[str, ...]] = field(hash=False)
    names: Naming = "spelled"
    spellings: Mapping[str, str] = field(default_factory=lambda: _frozen({}), hash=False)
    own_spellings: frozenset[str] = frozenset()

    def class_name(self, full_name: str, domain: str | None = None) -> str:
        """The class in words.

        Args:
            full_name: The name in the class list, e.g. "Caltech-101_car_side".
            domain: The class's domain in the data set, "" for none; None for the part before the first "_".

        Returns:
            Text with at least one letter or digit, without double spaces, and without "_" unless names are raw.

        Raises:
            DataError: the name has no letter or digit after its domain.
        """
        if full_name in self.spellings:
            return self.spellings[full_name]
        rest = _without_domain(full_name, domain)
        words = rest.split(" ")[0] if self.names == "raw" else read_by_rule(rest)
        if not any(letter.isalnum() for letter in words):
            if rest == full_name:
                text = f"class name '{full_name}' has no letter or digit."
                raise DataError(text, "Name it in words, or give --class-names FILE.")
            raise DataError(
                f"class name '{full_name}' has no letter or digit after its domain.",
                "Name it <Domain>_<Class_name> in the class list.",
            )
        return words

    def texts(self, full_name: str, domain: str | None = None) -> list[str]:
        """The class name in every template of its domain.

        Args:
            full_name: The name in the class list.
            domain: As for `class_name`.

        Returns:
            One text per template of its domain, in the file's order.

        Raises:
            DataError: as `class_name`.
        """
        words = self.class_name(full_name, domain)
        own = domain_of(full_name) if domain is None else domain
        return [template.replace("{}", words) for template in self.templates.get(own, self.templates["default"])]

    def respelled(self, words: Mapping[str, str]) -> PromptSet:
        """The set with further spellings (full class name → English words), which take precedence."""
        return dataclasses.replace(self, spellings=_frozen({**self.spellings, **words}))

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of everything that determines the texts."""
        facts = {
            "rule": _RULE_VERSION,
            "names": self.names,
            "templates": {domain: list(texts) for domain, texts in self.templates.items()},
            "spellings": dict(self.spellings),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def check_domains(self, domains: Iterable[str]) -> list[str]:
        """Find templates for mistyped domains.

        Args:
            domains: The domains of the class list.

        Returns:
            One line per domain that uses the default templates although an unused entry has a similar name.
        """
        used = set(domains)
        unused = sorted(set(self.templates) - used - {"default"})
        warnings = []
        for domain in sorted(used - set(self.templates) - {""}):
            near = _nearest(domain, unused)
            if near:
                warnings.append(
                    f"prompts '{self.name}': no class has the domain '{near}', and '{domain}' uses the default "
                    f"templates; rename the entry if '{domain}' is meant (letters and case must match)."
                )
        return warnings

    def check_names(self, full_names: Sequence[str], domains: Sequence[str] | None = None) -> list[str]:
        """Find spellings of a user's set without a class, and classes with equal texts.

        Args:
            full_names: The names of the class list.
            domains: The classes' domains, in the same order; None for the part before each name's first "_".

        Returns:
            One line per such spelling (where the data has its domain) and per such pair of classes.
        """
        known = sorted(set(full_names))
        heads = {domain_of(name) for name in known}
        warnings = [
            f"prompts '{self.name}': there is no class '{key}', its spelling has no effect. {suggest(key, known)}"
            for key in sorted(self.own_spellings - set(known))
            if domain_of(key) in heads
        ]
        first: dict[str, str] = {}
        for name, domain in zip(full_names, domains or map(domain_of, full_names), strict=True):
            text = self.texts(name, domain)[0].lower()  # as CLIP's tokenizer does
            if first.setdefault(text, name) != name:
                warnings.append(
                    f"prompts '{self.name}': '{first[text]}' and '{name}' have the same text; respell one of them."
                )
        return warnings


def domain_of(full_name: str) -> str:
    """The part before the first "_" of a class name; "" without a "_".

    >>> domain_of("Caltech-101_car_side"), domain_of("tench")
    ('Caltech-101', '')
    """
    head, underscore, _ = full_name.partition("_")
    return head if underscore else ""


def read_by_rule(name: str) -> str:
    """Put a class name without its domain into words by rules.

    Underscores become spaces; numbering (CUB's "001.", ImageNet's "n02085936-", Tsinghua Dogs' "200-n000008-") is
    removed; a CamelCase word is split; a year at the end is moved to the front, as in captions of cars.

    >>> read_by_rule("Audi_TTS_Coupe_2012"), read_by_rule("AnnualCrop"), read_by_rule("001.Laysan_Albatross")
    ('2012 Audi TTS Coupe', 'Annual Crop', 'Laysan Albatross')
    """
    words = " ".join(_NUMBERING.sub("", name.strip()).replace("_", " ").split())
    if _GLUED.fullmatch(words):
        words = " ".join(re.findall("[A-Z][a-z]+", words))
    return _YEAR_LAST.sub(r"\2 \1", words) if _YEAR_LAST.fullmatch(words) else words


def available_prompts() -> list[str]:
    """The names of the sets in the project's prompts/ folder, sorted.

    Raises:
        SetupError: the folder is missing.
    """
    if not (_FOLDER / _SPELLINGS_FILE).is_file():
        raise SetupError(
            f"the prompts folder is missing or incomplete ({_FOLDER / _SPELLINGS_FILE}).",
            "Run the program from a complete copy of the repository.",
        )
    return sorted(path.stem for path in _FOLDER.glob("*.yaml") if path.name != _SPELLINGS_FILE)


def load_prompts(name_or_path: str | Path) -> PromptSet:
    """Load a prompt set.

    Args:
        name_or_path: A name in `available_prompts()`, or the path of a YAML file (a string is a path if it contains "/"
            or ends in .yaml or .yml).

    Returns:
        The prompt set.

    Raises:
        UsageError: an unknown set, or a malformed file; the message has the file and the key.
        SetupError: the program's prompts are missing.
    """
    known = available_prompts()
    if isinstance(name_or_path, str) and name_or_path in known:
        return _load(_FOLDER / f"{name_or_path}.yaml", name_or_path)
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and "/" not in name_or_path and path.suffix not in {".yaml", ".yml"}:
        raise UsageError(f"unknown prompt set {name_or_path!r:.60}.", suggest(name_or_path, known))
    return _load(path, path.name)


def _load(path: Path, name: str) -> PromptSet:
    raw = read_yaml_mapping(path)
    for key in raw:
        if key not in _KEYS:
            raise UsageError(f"{path}: unknown key {key!r:.60}.", suggest(str(key), _KEYS))
    base = _load_base(path, raw["base"]) if "base" in raw else None
    names = read_naming(path, raw["names"]) if "names" in raw else (base.names if base else "spelled")
    templates = {**(base.templates if base else {}), **read_templates(path, raw.get("templates", {}))}
    if "default" not in templates:
        raise UsageError(
            f"{path}: 'templates' has no 'default' for domains without an entry.",
            "Add it, or extend a set with 'base: seed'.",
        )
    own = read_spellings(path, raw["spellings"]) if "spellings" in raw else {}
    if names == "raw" and own:
        raise UsageError(
            f"{path}: 'spellings' have no effect if names are raw.", "Remove them, or write 'names: spelled'."
        )
    common = {} if names == "raw" else _common_spellings(_FOLDER / _SPELLINGS_FILE)
    inherited = base.spellings if base and names != "raw" else {}
    mine = frozenset(own) if path.parent != _FOLDER else frozenset()
    return PromptSet(name, _frozen(templates), names, _frozen({**common, **inherited, **own}), mine)


def _load_base(path: Path, base: Any) -> PromptSet:
    known = available_prompts()
    if base not in known:
        raise UsageError(f"{path}: 'base' is not a set in the prompts folder: {base!r:.60}.", suggest(str(base), known))
    file = _FOLDER / f"{base}.yaml"
    if "base" in read_yaml_mapping(file):  # only one level, so no cycles
        raise UsageError(f"{path}: its base '{base}' has a base itself.", "Use one without a base, such as seed.")
    return _load(file, base)


@functools.cache
def _common_spellings(file: Path) -> dict[str, str]:
    return read_spellings(file, read_yaml_mapping(file))


def _without_domain(full_name: str, domain: str | None) -> str:
    own = domain_of(full_name) if domain is None else domain
    if domain is None or (own and full_name.startswith(f"{own}_")):
        return full_name.removeprefix(f"{own}_")
    return full_name


def _nearest(domain: str, entries: list[str]) -> str:
    """The entry most similar to a domain's name; "" if there is none."""
    plain = {re.sub(r"[\W_]", "", entry).casefold(): entry for entry in entries}
    near = difflib.get_close_matches(re.sub(r"[\W_]", "", domain).casefold(), list(plain), n=1, cutoff=_ALIKE)
    return plain[near[0]] if near else ""
