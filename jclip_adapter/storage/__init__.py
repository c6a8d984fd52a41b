"""The only writer of files.

All writes go through `atomic_write`: a reader sees the old file or the new one, never a part, even after a power
failure or a kill. A group of files is complete when a manifest, written last, lists each with size and SHA-256;
`write_together` replaces them all at once. Files that only this program reads contain a checksum (checksums.py).

An existing file is replaced only if a checksum shows that it is as this program wrote it: every writer takes a `Kind`
of file (kinds.py), and without one only creates new files.
"""

from .append import AppendLog, link_folder
from .atomic import atomic_write, check_folder_writable, check_place, discard, is_stray, sweep_strays, write_files
from .checksums import read_npz
from .files import (
    npz_bytes,
    read_checked_json,
    read_json,
    read_lines,
    read_safetensors,
    sha256_file,
    write_bytes,
    write_checked_json,
    write_json,
    write_safetensors,
    write_text,
)
from .folders import (
    MANIFEST,
    check_folder,
    check_manifest,
    check_replaceable,
    is_listed,
    replace_folder,
    write_manifest,
    write_together,
)
from .kinds import ANY, KEPT, NEW, Kind

__all__ = [
    "ANY",
    "KEPT",
    "MANIFEST",
    "NEW",
    "AppendLog",
    "Kind",
    "atomic_write",
    "check_folder",
    "check_folder_writable",
    "check_manifest",
    "check_place",
    "check_replaceable",
    "discard",
    "is_listed",
    "is_stray",
    "link_folder",
    "npz_bytes",
    "read_checked_json",
    "read_json",
    "read_lines",
    "read_npz",
    "read_safetensors",
    "replace_folder",
    "sha256_file",
    "sweep_strays",
    "write_bytes",
    "write_checked_json",
    "write_files",
    "write_json",
    "write_manifest",
    "write_safetensors",
    "write_text",
    "write_together",
]
