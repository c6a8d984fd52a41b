"""The tests, in rooms like the package's; what several of them share lies at the top."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
