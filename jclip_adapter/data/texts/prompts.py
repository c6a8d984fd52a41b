"""Prompts: the sentences that CLIP's text tower reads for each class.

A prompt set is one YAML file of `prompts/` (or a user's own): templates per domain, and how a class name such as
"Thu-dog_Shiba_Dog" is put into words. prompts/seed.yaml documents the keys, prompts/class_names.yaml holds the
spellings that no rule finds, prompts/README.md tells how to add both.
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
_RULE_VERSION = 1  # raise it when read_by_rule changes: stored text features must not outlive the old rule
_ALIKE = 0.75  # difflib's ratio, above which two domain names are taken for the same one mistyped

_NUMBERING = re.compile(r"^(?:\d+-n\d+-|n\d{8}[-_ ]|\d+\.\s*)(?=.*[^\W\d_])")
_GLUED = re.compile(r"(?:[A-Z][a-z]{2,}){2,}")
_YEAR_LAST = re.compile(r"(.+) ((?:19|20)\d\d)")

_K = TypeVar("_K")
_V = TypeVar("_V")


def _frozen(mapping: Mapping[_K, _V]) -> Mapping[_K, _V]:
    return MappingProxyType(dict(mapping))


@dataclass(frozen=True)
class PromptSet:
    """The templates and spellings that turn class names into texts.

    Domains may have different numbers of templates. In the sets of this project's prompts/ folder all have the same.

    Args:
        name: The set's name, or the file name of a user's own set.
        templates: Domain → sentences with one `{}` each, in the file's order; "default" serves all other domains.
        names: "spelled" or "raw" (the name as it stands behind its domain).
        spellings: Full class name → what an English caption would say; empty where names are raw.
        own_spellings: The keys of `spellings` that the set itself brings, not class_names.yaml.

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
            full_name: The name as the class list has it, e.g. "Caltech-101_car_side".
            domain: The class's domain as the data set knows it; None takes what precedes the first "_". It matters
                for domains that hold a "_", and for layouts whose names carry no domain: "" cuts nothing off
                "golden_retriever".

        Returns:
            Text without doubled spaces, at least one letter or digit long; without "_" unless names are raw.

        Raises:
            DataError: nothing is left of the name behind its domain.
        """
        if full_name in self.spellings:
            return self.spellings[full_name]
        rest = _without_domain(full_name, domain)
        words = rest.split(" ")[0] if self.names == "raw" else read_by_rule(rest)
        if not any(letter.isalnum() for letter in words):
            raise DataError(
                f"class name '{full_name}' says nothing behind its domain.",
                "Name it <Domain>_<Class_name> in the class list.",
            )
        return words

    def texts(self, full_name: str, domain: str | None = None) -> list[str]:
        """The class name in every template of its domain.

        Args:
            full_name: The name as the class list has it.
            domain: As for `class_name`.

        Returns:
            One text per template, in the file's order: row t of a class's `text_views` is template t of its domain,
            which is another sentence than template t of another domain. Their number may differ between domains.

        Raises:
            DataError: nothing is left of the name behind its domain.
        """
        words = self.class_name(full_name, domain)
        own = domain_of(full_name) if domain is None else domain
        return [template.replace("{}", words) for template in self.templates.get(own, self.templates["default"])]

    def respelled(self, words: Mapping[str, str]) -> PromptSet:
        """The set with further spellings, which go before its own.

        Args:
            words: Full class name → what an English caption would say.
        """
        return dataclasses.replace(self, spellings=_frozen({**self.spellings, **words}))

    def fingerprint(self) -> str:
        """The SHA-256, in hexadecimal, of all that determines the texts: equal prints give equal texts."""
        facts = {
            "rule": _RULE_VERSION,
            "names": self.names,
            "templates": {domain: list(texts) for domain, texts in self.templates.items()},
            "spellings": dict(self.spellings),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def check_domains(self, domains: Iterable[str]) -> list[str]:
        """Find templates that were probably meant for a domain of the data, but miss its name.

        Args:
            domains: The domains of the class list.

        Returns:
            One line per domain that takes the default templates though an unused entry nearly has its name.
        """
        used = set(domains)
        unused = sorted(set(self.templates) - used - {"default"})
        warnings = []
        for domain in sorted(used - set(self.templates) - {""}):
            near = _nearest(domain, unused)
            if near:
                warnings.append(
                    f"prompts '{self.name}': no class is of the domain '{near}', and '{domain}' takes the default "
                    f"templates; rename the entry if '{domain}' is meant (letters and case must match)."
                )
        return warnings

    def check_names(self, full_names: Sequence[str], domains: Sequence[str] | None = None) -> list[str]:
        """Find spellings of a user's set that no class takes, and classes that no text can tell apart.

        Args:
            full_names: The names of the class list.
            domains: The classes' domains, in the same order; None takes what precedes each name's first "_".

        Returns:
            One line per such spelling (where the data has its domain) and per such pair of classes.
        """
        known = sorted(set(full_names))
        heads = {domain_of(name) for name in known}
        warnings = [
            f"prompts '{self.name}': no class is called '{key}', its spelling has no effect. {suggest(key, known)}"
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
    """What precedes the first "_" of a class name; "" where there is none.

    >>> domain_of("Caltech-101_car_side"), domain_of("tench")
    ('Caltech-101', '')
    """
    head, underscore, _ = full_name.partition("_")
    return head if underscore else ""


def read_by_rule(name: str) -> str:
    """Put a class name without its domain into words, as far as a rule can.

    Underscores become spaces; a number that only numbers (CUB's "001.", ImageNet's "n02085936-", Tsinghua Dogs'
    "200-n000008-") goes; a single word of glued capitalised ones is parted; a year at the end comes first, as
    captions of cars have it.

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
            f"the project's folder of prompts is missing or incomplete ({_FOLDER / _SPELLINGS_FILE}).",
            "Run the program from a complete copy of the repository.",
        )
    return sorted(path.stem for path in _FOLDER.glob("*.yaml") if path.name != _SPELLINGS_FILE)


def load_prompts(name_or_path: str | Path) -> PromptSet:
    """Load a prompt set.

    Args:
        name_or_path: A name of `available_prompts()` (which wins over a file of the same name), or the path of a
            YAML file (a string is a path if it holds a "/" or ends in .yaml or .yml).

    Returns:
        The set, checked.

    Raises:
        UsageError: no such set, or its file breaks a rule; the message names the file and the key.
        SetupError: the project's own prompts are missing.
    """
    known = available_prompts()
    if isinstance(name_or_path, str) and name_or_path in known:
        return _load(_FOLDER / f"{name_or_path}.yaml", name_or_path)
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and "/" not in name_or_path and path.suffix not in {".yaml", ".yml"}:
        raise UsageError(f"there is no prompt set {name_or_path!r:.60}.", suggest(name_or_path, known))
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
            f"{path}: 'templates' has no 'default', which serves the domains without an entry.",
            "Add it, or complete a set with 'base: seed'.",
        )
    own = read_spellings(path, raw["spellings"]) if "spellings" in raw else {}
    if names == "raw" and own:
        raise UsageError(
            f"{path}: 'spellings' have no effect where names are raw.", "Drop them, or write 'names: spelled'."
        )
    common = {} if names == "raw" else _common_spellings(_FOLDER / _SPELLINGS_FILE)
    return PromptSet(name, _frozen(templates), names, _frozen({**common, **own}), frozenset(own))


def _load_base(path: Path, base: Any) -> PromptSet:
    known = available_prompts()
    if base not in known:
        raise UsageError(f"{path}: 'base' names no set of the prompts folder: {base!r:.60}.", suggest(str(base), known))
    file = _FOLDER / f"{base}.yaml"
    if "base" in read_yaml_mapping(file):  # one level only, so that no chain can bite its tail
        raise UsageError(f"{path}: its base '{base}' has a base itself.", "Take one that stands alone, such as seed.")
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
    """The entry that is this domain but for case, hyphens and a slip; "" if there is none."""
    plain = {re.sub(r"[\W_]", "", entry).casefold(): entry for entry in entries}
    near = difflib.get_close_matches(re.sub(r"[\W_]", "", domain).casefold(), list(plain), n=1, cutoff=_ALIKE)
    return plain[near[0]] if near else ""
