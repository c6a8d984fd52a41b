"""Strict reading of YAML files.

PyYAML's safe loader executes nothing, but silently uses the last of two equal keys, expands aliases to more text than
memory holds, and raises foreign exceptions for some scalars.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .errors import UsageError

_MOST_BYTES = 1_000_000
_MOST_DEPTH = 8


class _RefusedError(Exception):
    """A refusal of the strict loader: message, line from 0, hint."""


class _Loader(yaml.SafeLoader):
    """The safe loader without duplicate keys, anchors, tags and deep nesting."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line
        if event.anchor is not None or getattr(event, "tag", None) is not None:
            raise _RefusedError("anchors, aliases and tags (& * !) are not supported", line, "Write the text out.")
        nested = isinstance(event, yaml.CollectionStartEvent)
        self._depth += nested
        if self._depth > _MOST_DEPTH:
            raise _RefusedError(f"nested more than {_MOST_DEPTH} levels deep", line, "Flatten it.")
        node = super().compose_node(parent, index)
        self._depth -= nested
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value == "<<":
                raise _RefusedError("merge keys (<<) are not supported", key.start_mark.line, "Write the entries out.")
            if key.value in seen:
                raise _RefusedError(f"duplicate key {key.value!r:.60}", key.start_mark.line, "Remove one.")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml_mapping(path: str | Path) -> dict[Any, Any]:
    """Read a YAML file with a mapping at the top level.

    Args:
        path: The file: UTF-8, at most 1 MB, no anchors, aliases, tags or merge keys, at most 8 levels deep.

    Returns:
        The mapping of plain YAML values; callers check their types.

    Raises:
        UsageError: the file is missing, unreadable, too large, malformed, or has a duplicate key.
    """
    file = Path(path)
    try:
        value = yaml.load(_read_text(file), _Loader)  # noqa: S506  (a safe loader)
    except UsageError:
        raise
    except _RefusedError as error:
        problem, line, hint = error.args
        raise UsageError(f"{file}, line {line + 1}: {problem}.", hint) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise UsageError(f"{file}{where}: not valid YAML ({problem}).", "Quote texts that hold : or { or #.") from error
    except (ValueError, OverflowError) as error:  # a scalar such as 2012-13-45, read as a date
        message = " ".join(str(error).split())
        raise UsageError(f"{file}: a value cannot be read ({message:.100}).", "Put it in quotes.") from error
    if not isinstance(value, dict):
        raise UsageError(f"{file}: expected a mapping at the top level.", "Write 'key: value' lines.")
    return value


def _read_text(file: Path) -> str:
    try:
        if not file.is_file():
            raise UsageError(f"there is no file {file}.", "Check the path.")
        with file.open("rb") as handle:
            data = handle.read(_MOST_BYTES + 1)
    except UsageError:
        raise
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {file}: {error}.", "Check the path and its permissions.") from error
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{file} is larger than 1 MB.", "It is probably not the file that you mean.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text (byte {error.start}).", "Save it as UTF-8.") from error
