"""The version, which run folders and `--version` name."""

__version__ = "0.2.0"
