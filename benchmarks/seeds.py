"""The figures that the project's three sources publish, out of benchmarks/seeds.yaml."""

from __future__ import annotations

import functools
from typing import Any

from benchmarks import ROOT
from jclip_adapter.core.strict_yaml import read_yaml_mapping

SEEDS = ROOT / "benchmarks" / "seeds.yaml"


@functools.cache
def sections() -> dict[str, dict[str, dict[str, Any]]]:
    """The entries by source and name."""
    return read_yaml_mapping(SEEDS)


def theirs(name: str) -> list[str]:
    """The published figures of an entry, as the source prints them."""
    (entry,) = (entries[name] for entries in sections().values() if name in entries)
    return list(entry["theirs"])
