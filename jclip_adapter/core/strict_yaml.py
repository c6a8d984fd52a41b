"""YAML files that people write, read strictly.

PyYAML's safe loader executes nothing, but it takes the last of two equal keys without a word, lets aliases stand
for more text than memory holds, and dies in other exceptions than its own on some scalars. A look at the event
stream, before anything is built, keeps these out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .errors import UsageError

_MOST_BYTES = 1_000_000
_MOST_DEPTH = 8


def read_yaml_mapping(path: str | Path) -> dict[Any, Any]:
    """Read a YAML file whose top is a mapping.

    Args:
        path: The file: UTF-8, at most 1 MB, no anchors, aliases, tags or merge keys, at most 8 levels deep.

    Returns:
        The mapping, of plain YAML values (a text that looks like a number is one: callers check types).

    Raises:
        UsageError: the file is missing, unreadable, too large, no such YAML, or holds a key twice.
    """
    file = Path(path)
    text = _read_text(file)
    try:
        _check_events(file, text)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise UsageError(f"{file}{line}: not valid YAML ({problem}).", "Quote texts that hold : or { or #.") from error
    except (ValueError, OverflowError) as error:  # a scalar such as 2012-13-45, taken for a date
        message = " ".join(str(error).split())
        raise UsageError(f"{file}: a value cannot be read ({message:.100}).", "Put it in quotes.") from error
    if not isinstance(value, dict):
        raise UsageError(f"{file}: the file's top is no mapping.", "Write 'key: value' lines.")
    return value


def _read_text(file: Path) -> str:
    try:
        if not file.is_file():
            raise UsageError(f"there is no file {file}.", "Check the path.")
        with file.open("rb") as handle:
            data = handle.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {file}: {error}.", "Check the path and its permissions.") from error
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{file} is larger than 1 MB.", "It is probably not the file that you mean.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text (byte {error.start}).", "Save it as UTF-8.") from error


def _check_events(file: Path, text: str) -> None:
    """Refuse what the loader would take silently or choke on."""
    open_nodes: list[_Node] = []
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = f"{file}, line {event.start_mark.line + 1}"
        if isinstance(event, yaml.CollectionEndEvent):
            open_nodes.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        if event.anchor is not None or getattr(event, "tag", None) is not None:
            raise UsageError(f"{line}: anchors, aliases and tags (& * !) are not taken here.", "Write the text out.")
        key = open_nodes[-1].take(event) if open_nodes else None
        if key == "<<":
            raise UsageError(f"{line}: merge keys (<<) are not taken here.", "Write the entries out.")
        if key is not None and open_nodes[-1].seen_before(key):
            raise UsageError(f"{line}: the key {key!r:.60} stands there twice.", "Remove one.")
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append(_Node(isinstance(event, yaml.MappingStartEvent)))
        if len(open_nodes) > _MOST_DEPTH:
            raise UsageError(f"{line}: nested more than {_MOST_DEPTH} levels deep.", "Flatten it.")


class _Node:
    """A sequence or mapping whose end has not come yet."""

    def __init__(self, is_mapping: bool) -> None:
        self._is_mapping = is_mapping
        self._at_key = True
        self._keys: set[str] = set()

    def take(self, event: yaml.NodeEvent) -> str | None:
        """Note one child; return its text where it is a scalar key of a mapping."""
        is_key = self._is_mapping and self._at_key
        self._at_key = not self._at_key
        return event.value if is_key and isinstance(event, yaml.ScalarEvent) else None

    def seen_before(self, key: str) -> bool:
        """Whether the key came before; notes it."""
        known = key in self._keys
        self._keys.add(key)
        return known
