"""The oldest or the newest versions that pyproject.toml allows, as a list for pip.

`make test-oldest` and `make test-newest` install these lists, each into an environment of its own, and run the tests
there. The tests' own tools are the pinned ones of requirements-dev.txt in both.

    python -m tools.dependency_bounds oldest > oldest.txt
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
TEST_TOOLS = {"pytest", "pytest-xdist", "hypothesis", "html5lib", "httpx", "playwright", "build", "hatchling"}


def allowed(root: Path = ROOT) -> list[Requirement]:
    """The ranges of pyproject.toml: what the program needs, and its extras."""
    lines = [*_project(root)["dependencies"], *(line for lines in extras(root).values() for line in lines)]
    return [Requirement(line) for line in lines]


def extras(root: Path = ROOT) -> dict[str, list[str]]:
    """The requirements of each extra of pyproject.toml."""
    found: dict[str, list[str]] = _project(root)["optional-dependencies"]
    return found


def _project(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def pinned(file: Path) -> list[Requirement]:
    """The requirements of one file, without those of the files that it includes and without comments."""
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-r")]


def oldest(requirement: Requirement) -> Requirement:
    """The same package at the lowest version of its range.

    Raises:
        ValueError: The range has no lowest version.

    >>> print(oldest(Requirement("numpy>=1.26.0,<2")))
    numpy==1.26.0
    """
    lowest = [item.version for item in requirement.specifier if item.operator in (">=", "==")]
    if len(lowest) != 1:
        raise ValueError(f"{requirement}: expected one lowest version (>= or ==), found {len(lowest)}")
    marker = f"; {requirement.marker}" if requirement.marker else ""
    return Requirement(f"{requirement.name}=={lowest[0]}{marker}")


def requirements(which: str, root: Path = ROOT) -> Iterable[Requirement]:
    """All lines of one list.

    Args:
        which: "oldest", or "newest": pip itself takes the newest version of a range.
        root: The folder of pyproject.toml.
    """
    for requirement in allowed(root):
        yield oldest(requirement) if which == "oldest" else requirement
    yield from (tool for tool in pinned(root / "requirements-dev.txt") if tool.name in TEST_TOOLS)


def main(arguments: list[str] | None = None) -> None:
    """Print one list."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("which", choices=("oldest", "newest"))
    for requirement in requirements(parser.parse_args(arguments).which):
        print(requirement)


if __name__ == "__main__":
    main()
