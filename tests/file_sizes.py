"""`python -m tests.file_sizes`: refuse files over 500 kB that git tracks, outside the places meant for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIMIT = 500_000
MEANT_FOR_IT = ("tests/golden/", "data/sample/")


def too_large(root: Path) -> list[str]:
    """Tracked files over the limit, with their sizes."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True)
    names = [name for name in listed.stdout.decode().split("\0") if name and not name.startswith(MEANT_FOR_IT)]
    sizes = {name: (root / name).stat().st_size for name in names if (root / name).is_file()}
    return [f"{name}: {size} bytes" for name, size in sizes.items() if size > LIMIT]


if __name__ == "__main__":
    faults = too_large(Path(__file__).resolve().parent.parent)
    sys.stdout.write("".join(f"over {LIMIT} bytes: {fault}\n" for fault in faults))
    sys.exit(bool(faults))
