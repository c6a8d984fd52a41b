"""Declaration of an option: type, default, range, and the commands that use it.

`settings.Settings` is the table of all options; the parser, `--help`, YAML files and all checks are derived from it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jclip_adapter.core.errors import UsageError, suggest

TRAIN, EVALUATE, PREDICT, CLASSIFY = "--train", "--evaluate", "--predict", "--predict --images"
BENCHMARK, BENCHMARK_FILES, EXTRACT = "--benchmark", "--benchmark --features", "--extract"
EXTRACT_PARTS, SEARCH, DUPLICATES = "--extract DIR", "--search", "--duplicates"
INSPECT, SERVE, CHECK = "--inspect", "--serve", "--check"
CONVERT, LIST, DOCTOR = "--convert", "--list", "--doctor"

ON_RUNS = (TRAIN, EVALUATE, PREDICT, CLASSIFY)  # write or read a run folder
ON_SHOTS = (*ON_RUNS, BENCHMARK, EXTRACT)  # encode shots
ON_PHOTOS = (*ON_SHOTS, INSPECT, SERVE)  # encode photos
ON_DATA = (*ON_PHOTOS, CHECK)  # read a data set
WITH_NETWORK = (*ON_PHOTOS, EXTRACT_PARTS, SEARCH)
BENCHMARKS = (BENCHMARK, BENCHMARK_FILES)
WITH_METHODS = (*ON_RUNS, *BENCHMARKS)
EVERY = (*ON_DATA, BENCHMARK_FILES, EXTRACT_PARTS, SEARCH, DUPLICATES, CONVERT, LIST, DOCTOR)

Kind = Literal["text", "texts", "whole", "number", "counts", "numbers", "switch", "assignments", "other"]
_EXPECTED = {
    "text": "text",
    "texts": "a list of texts",
    "whole": "a whole number",
    "number": "a number",
    "counts": "a whole number, or a list of them",
    "numbers": "a number, or a list of them",
    "switch": "true or false",
    "assignments": "a mapping",
    "other": "text",
}


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: Key in a YAML file; the flag has hyphens.
        default: Default value.
        help: Description for `--help`.
        commands: The commands that use it.
        kind: Type of its value.
        metavar: Placeholder of its value in `--help`.
        choices: Allowed values; empty for all.
        low: Smallest value; None for no limit.
        high: Largest value; None for no limit.
        shown: The default in `--help`; empty for the default itself.
        several: Commands that take a list of values, stored in the setting `list_name`.
        list_name: Name of that setting.
        words: Whole numbers by word, for the kind "counts".
        parse: Parses the text of the kind "other".
        group: Heading in `--help`.
    """

    name: str
    default: Any
    help: str
    commands: tuple[str, ...]
    kind: Kind = "text"
    metavar: str = ""
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    shown: str = ""
    several: tuple[str, ...] = ()
    list_name: str = ""
    words: Mapping[str, int] = dataclasses.field(default_factory=dict)
    parse: Callable[[str], Any] | None = None
    group: str = "what to work on"

    @property
    def flag(self) -> str:
        """The flag."""
        return f"--{self.name.replace('_', '-')}"

    def read(self, text: str) -> Any:
        """Parse the option's text.

        Raises:
            UsageError: the value is empty, malformed or out of range.
        """
        if not text:
            raise UsageError(f"{self.flag}: expected a value, got an empty one.", f"Leave {self.flag} out.")
        if self.kind == "whole":
            return self.check(_number(self.flag, text, int))
        if self.kind == "number":
            return self.check(_number(self.flag, text, float))
        if self.kind == "numbers":
            return self.check(
                [_number(self.flag, part, float, " or a list such as 0.2,0.5") for part in text.split(",")]
            )
        if self.kind == "counts":
            more = "".join(f", {word}" for word in self.words) + _OR_LIST.format(
                " or ".join({name.split()[0]: None for name in self.several})
            )
            return self.check(
                [
                    self.words[part] if part in self.words else _number(self.flag, part, int, more)
                    for part in text.split(",")
                ]
            )
        return self.check(text)

    def check(self, value: Any, where: str = "") -> Any:
        """Check a value's type, range and choices.

        Args:
            value: From `read` or YAML.
            where: Name for errors; empty for the flag.

        Returns:
            The value; a tuple for the kinds "counts", "numbers" and "texts".

        Raises:
            UsageError: the value is malformed.
        """
        name = where or self.flag
        if isinstance(value, str) and value in self.words:
            value = self.words[value]
        if not self._fits(value):
            shown = f"Its default is {self.default!r}."
            raise UsageError(f"{name}: expected {_EXPECTED[self.kind]}, got {value!r:.60}.", shown)
        if self.parse is not None:
            return self.parse(value)
        if self.choices and value not in self.choices:
            raise UsageError(f"{name}: unknown value {value!r:.60}.", suggest(str(value), self.choices))
        if self.kind == "texts":
            return (value,) if isinstance(value, str) else tuple(value)
        if self.kind in ("counts", "numbers"):
            return self._check_each(name, (value,) if isinstance(value, int | float) else tuple(value))
        if self.kind in ("whole", "number"):
            self._check_range(name, value)
        return value

    def _check_each(self, name: str, values: tuple[float, ...]) -> tuple[float, ...]:
        for value in values:
            self._check_range(name, value)
        repeated = next((value for value in values if values.count(value) > 1), None)
        if repeated is not None:
            raise UsageError(f"{name}: {repeated} is given twice.", "Give each value once.")
        return values

    def _fits(self, value: Any) -> bool:
        if self.kind in ("text", "other"):
            return isinstance(value, str)
        if self.kind == "texts":
            return isinstance(value, str) or (_is_list(value) and all(isinstance(item, str) for item in value))
        if self.kind in ("counts", "numbers"):
            fits = _is_whole if self.kind == "counts" else _is_number
            return fits(value) or (_is_list(value) and bool(value) and all(map(fits, value)))
        if self.kind == "whole":
            return _is_whole(value) or value is self.default
        if self.kind == "number":
            return _is_number(value)
        return isinstance(value, Mapping if self.kind == "assignments" else bool)

    def _check_range(self, name: str, value: float | None) -> None:
        if value is not None and self.low is not None and value < self.low:
            raise UsageError(f"{name}: expected at least {self.low}, got {value}.")
        if value is not None and self.high is not None and value > self.high:
            raise UsageError(f"{name}: expected at most {self.high}, got {value}.")


_OR_LIST = " or, with {}, a list such as 1,2,4"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_whole(value) or isinstance(value, float)) and math.isfinite(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _number(flag: str, text: str, kind: type[int] | type[float], more: str = "") -> Any:
    try:
        return kind(text)
    except ValueError:
        expected = _EXPECTED["whole" if kind is int else "number"]
        raise UsageError(f"{flag}: expected {expected}{more}, got '{text:.60}'.") from None


def option(default: Any, help: str, commands: tuple[str, ...], **more: Any) -> Any:
    """A dataclass field that declares an option; arguments as for `Option`."""
    metadata = {"default": default, "help": help, "commands": commands, **more}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def options_of(table: type[Any]) -> dict[str, Option]:
    """The options of a dataclass that `option` declares, by name."""
    return {
        item.name: Option(item.name, **item.metadata) for item in dataclasses.fields(table) if "help" in item.metadata
    }


def refuse_without_effect(item: Option, commands: Collection[str]) -> None:
    """Refuse an option that none of the commands uses.

    Raises:
        UsageError: no command uses it.
    """
    if not has_effect(item, commands):
        given = " and ".join(commands)
        flags = {command.split()[0] for command in commands}
        owners = [owner for owner in item.commands if owner.split()[0] not in flags]  # extract writes two things
        add = f"Add {'one of ' if len(owners) > 1 else ''}{', '.join(owners)}, or leave" if owners else "Leave"
        raise UsageError(f"{item.flag} has no effect with {given}.", f"{add} {item.flag} out.")


def has_effect(item: Option, commands: Collection[str]) -> bool:
    """Whether one of the commands uses an option."""
    return not set(item.commands).isdisjoint(commands)
