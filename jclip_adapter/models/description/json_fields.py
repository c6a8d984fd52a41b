"""Typed access to the values of JSON configuration files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jclip_adapter.core.errors import WeightsError


def read_table(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        WeightsError: the file is not a JSON object.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not JSON ({error}).", "Download it again.") from error
    if not isinstance(table, dict):
        raise WeightsError(f"{path} does not hold a JSON object.", "Give a model's configuration.")
    return table


class Fields:
    """One table of a configuration file.

    Args:
        table: The table.
        where: The file and the table's name, for errors.
    """

    def __init__(self, table: Mapping[str, Any], where: str) -> None:
        self.table = table
        self.where = where

    def __contains__(self, name: str) -> bool:
        return self.table.get(name) is not None

    def fault(self, name: str, expected: str) -> WeightsError:
        """An error for a value that is not as expected."""
        return WeightsError(
            f"{self.where}: {name} is {str(self.table.get(name))[:80]!r}, expected {expected}.",
            "Correct the configuration, or give another one with --model-config.",
        )

    def unsupported(self, name: str) -> WeightsError:
        """An error for an unsupported option."""
        return WeightsError(
            f"{self.where}: {name} = {str(self.table.get(name))[:80]!r} is not supported yet.",
            "Give a CLIP without this option.",
        )

    def table_of(self, name: str) -> Fields:
        """A table inside this one; empty if missing."""
        value = self.table.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.fault(name, "a table")
        return Fields(value, f"{self.where}, {name}")

    def whole(self, name: str, default: int) -> int:
        """A positive whole number."""
        value = self.table.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 10_000_000:
            raise self.fault(name, "a positive whole number")
        return value

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        value = self.table.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
            raise self.fault(name, "a number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """A truth value; null is the default."""
        value = self.table.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fault(name, "true or false")
        return value

    def one_of(self, name: str, default: str, choices: Mapping[str, str]) -> str:
        """The value of one of several words in `choices`."""
        value = self.table.get(name, default)
        if not isinstance(value, str) or value not in choices:
            raise self.fault(name, f"one of {', '.join(choices)}")
        return choices[value]

    def three(self, name: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
        """Three numbers; one number is used for all three."""
        value = self.table.get(name)
        if value is None:
            return default
        values = [value] * 3 if isinstance(value, int | float) else value
        numbers = [part for part in values if type(part) in (int, float)] if isinstance(values, list) else []
        if len(numbers) != 3 or numbers != values:
            raise self.fault(name, "three numbers")
        red, green, blue = map(float, values)
        return red, green, blue
