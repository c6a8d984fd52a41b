"""Small files of every format with a header, and changes of their headers that keep most of the structure."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.storage import checksums, npz_bytes, write_safetensors

Mutate = Callable[[bytes, Random], bytes]

_TOKEN = re.compile(rb"-?\d+|\"[^\"]*\"|'[^']*'|[{}\[\](),:]")
_NUMBERS: tuple[int, ...] = (
    *(0, 1, 2, 3, 4, 7, 8, 9, 255, 256, 65535, 65536, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32),
    *(1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, 1 << 200),
)
_TEXTS = (
    b"F64 F32 F16 BF16 F8_E4M3 F8_E5M2 I64 U64 I32 U16 I8 U8 BOOL F4 dtype shape data_offsets __metadata__ seal".split()
)
_TEXTS += b"<f4 >f8 <f2 |b1 |O <i8 |S4 <U3 <c16 <M8[s] f4,f4 V0 |V9999999999 descr fortran_order format x".split()
_TEXTS += [b"", b"\xff\xfe", b"\\ud800", b"a" * 300, b"../../x", b"\\u0000", "ü".encode()]
_SYNTAX = (
    *b"{}[](),:",
    b"null",
    b"true",
    b"False",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"1.5",
    b"[" * 3000,
    b"{}",
    b"[]",
    b"-",
)
_SYNTAX += (b"(" * 1000, b"9" * 5000, b'"', b"'", b"\\", b"\0", b"//", b"0x10", b"1_000", b"lambda: 0", b"9**9**9")
_LOCAL = ((4, 2), (6, 2), (8, 2), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2))
_CENTRAL: tuple[tuple[int, int], ...] = (
    *((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (34, 2)),
    *((36, 2), (38, 4), (42, 4)),
)
_END = ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2))
_FIELDS = {b"PK\x03\x04": _LOCAL, b"PK\x01\x02": _CENTRAL, b"PK\x05\x06": _END}


@dataclass(frozen=True)
class Format:
    """A format whose headers are changed.

    Attributes:
        name: What to call it.
        share: Of all cases.
        files: Sound files.
        changes: Any of them is made.
    """

    name: str
    share: float
    files: tuple[bytes, ...]
    changes: tuple[Mutate, ...]


def formats(folder: Path, genuine: Path) -> list[Format]:
    """The formats.

    Args:
        folder: For files that are written on the way.
        genuine: Folder of genuine weight files.
    """
    rng = np.random.default_rng(0)
    arrays = {"visual.proj": rng.normal(size=(4, 3)), "ln_final.bias": rng.normal(size=3), "logit_scale": np.ones(())}
    write_safetensors(folder / "own", {k: v.astype(np.float32) for k, v in arrays.items()}, {"method": "zero-shot"})
    own = (folder / "own").read_bytes()
    foreign = (genuine / "bfloat16.safetensors").read_bytes(), _foreign(own)
    shard = npz_bytes({"keys": np.zeros((2, 32), np.uint8), "features": np.ones((2, 4), np.float32)})
    features = npz_bytes(_feature_arrays(rng))
    zips = tuple((genuine / name).read_bytes() for name in ("half.pt", "traced.pt", "bfloat16.pt"))
    token, bits = partial(in_header, change=change_token), partial(in_header, change=flip_bits)
    any_byte: tuple[Mutate, ...] = (flip_bits, change_bytes, cut)
    of_json: tuple[Mutate, ...] = (*any_byte, change_length, token, token, bits)
    in_token, in_bits = partial(in_member, change=change_token), partial(in_member, change=flip_bits)
    of_npz: tuple[Mutate, ...] = (*any_byte, change_field, change_field, in_token, in_bits)
    return [
        Format("safetensors (weights)", 0.4, foreign, of_json),
        Format("safetensors (own)", 0.2, (own,), tuple(map(rechecked, of_json))),
        Format("npz (shard)", 0.15, (shard, without_checksum(shard)), tuple(map(rechecked_npz, of_npz))),
        Format("npz (feature file)", 0.05, (features, without_checksum(features)), tuple(map(rechecked_npz, of_npz))),
        Format("pt (archive)", 0.2, zips, (*any_byte, change_field, change_field, in_bits)),
    ]


def _foreign(own: bytes) -> bytes:
    """The same tensors as another program would write them."""
    length = struct.unpack("<Q", own[:8])[0]
    header = json.loads(own[8 : 8 + length])
    del header["__metadata__"]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + own[8 + length :]


def _feature_arrays(rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    x = rng.normal(size=(4, 6)).astype(np.float32)
    y = np.array([0, 1, 0, 1])
    return {
        "classnames": np.array(["a", "b"]),
        "text": x[:2],
        "train2_x": x,
        "train2_y": y,
        "test_x": x,
        "test_y": y,
        "logit_scale": np.array(50, np.float32),
    }


def without_checksum(data: bytes) -> bytes:
    """A .npz with a checksum as numpy writes it."""
    body = data[: data.rindex(b"PK\x05\x06") + 22]
    return body[:-2] + b"\0\0"


# --- changes


def flip_bits(data: bytes, rng: Random) -> bytes:
    """One to four bits."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def change_bytes(data: bytes, rng: Random) -> bytes:
    """Some bytes taken out, some put in."""
    at, gone = rng.randrange(len(data)), rng.choice((0, 0, 1, 2, 4, 8, 100))
    return data[:at] + rng.randbytes(rng.choice((0, 0, 1, 2, 4, 8, 100))) + data[at + gone :]


def cut(data: bytes, rng: Random) -> bytes:
    """An end, or a beginning, that is missing."""
    at = rng.randrange(len(data))
    return data[:at] if rng.random() < 0.8 else data[at:]


def change_token(text: bytes, rng: Random) -> bytes:
    """One or two of a header's numbers, texts and brackets made others."""
    for _ in range(rng.randint(1, 2)):
        places = [match.span() for match in _TOKEN.finditer(text)]
        if not places:
            return text
        begin, end = rng.choice(places)
        token = text[begin:end]
        new: bytes
        if rng.random() < 0.1:
            piece = rng.choice(_SYNTAX)
            new = bytes([piece]) if isinstance(piece, int) else piece
        elif token[:1] in b"\"'":
            new = token[:1] + rng.choice(_TEXTS) + token[:1]
        elif token[:1] in b"-0123456789":
            new = str(rng.choice(_NUMBERS) * rng.choice((1, 1, 1, -1)) + rng.choice((0, 0, 1, -1))).encode()
        else:
            new = rng.choice((b"", token * 2, b"{", b"]", b",", b":", b"(", b"[[[["))
        text = text[:begin] + new + text[end:]
    return text


def change_length(data: bytes, rng: Random) -> bytes:
    """Another length of a safetensors header."""
    length = struct.unpack("<Q", data[:8])[0]
    new = rng.choice((*_NUMBERS, length + 1, length - 1, length + 8, length - 8, len(data), len(data) - 8))
    return struct.pack("<Q", new % (1 << 64)) + data[8:]


def in_header(data: bytes, rng: Random, change: Mutate) -> bytes:
    """A change within a safetensors header, its length set right."""
    length = struct.unpack("<Q", data[:8])[0]
    header = change(data[8 : 8 + length], rng)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def change_field(data: bytes, rng: Random) -> bytes:
    """One or two fields of an archive's local headers, directory or end."""
    changed = bytearray(data)
    places = [match.start() for match in re.finditer(rb"PK(?:\x03\x04|\x01\x02|\x05\x06)", data)]
    for _ in range(rng.randint(1, 2)):
        start = rng.choice(places)
        offset, width = rng.choice(_FIELDS[data[start : start + 4]])
        old = int.from_bytes(changed[start + offset : start + offset + width], "little")
        new = rng.choice((*_NUMBERS[:19], old + 1, old - 1, old * 2, old ^ 1, old ^ 8, len(data)))
        changed[start + offset : start + offset + width] = (new % (1 << (8 * width))).to_bytes(width, "little")
    return bytes(changed)


def in_member(data: bytes, rng: Random, change: Mutate) -> bytes:
    """A change at the beginning of one of an archive's files, packed again with right check sums."""
    members = _members(data)
    number = rng.randrange(len(members))
    name, content = members[number]
    edge = min(len(content), 128 if content.startswith(b"\x93NUMPY") else 4096)
    head, rest = content[:edge], content[edge:]
    if content.startswith(b"\x93NUMPY") and rng.random() < 0.7:
        text = change(head[10:], rng)
        head = head[:8] + struct.pack("<H", min(65535, len(text))) + text
    elif head:
        head = change(head, rng)
    changed = [*members]
    changed[number] = (rng.choice((name, name, name, name + "/", "../" + name, "")), head + rest)
    return _pack(changed)


_unpacked: dict[bytes, list[tuple[str, bytes]]] = {}


def _members(data: bytes) -> list[tuple[str, bytes]]:
    if data not in _unpacked:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _unpacked[data] = [(name, archive.read(name)) for name in archive.namelist()]
    return _unpacked[data]


def _pack(members: list[tuple[str, bytes]]) -> bytes:
    """An archive of stored files; zipfile takes ten times as long."""
    body, directory = b"", b""
    for name, content in members:
        path = name.encode()
        facts = struct.pack(
            "<HHHHHIIIHH", 20, 0, 0, 0, 33, zlib.crc32(content), len(content), len(content), len(path), 0
        )
        directory += b"PK\x01\x02\x14\0" + facts + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + path
        body += b"PK\x03\x04" + facts + path + content
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(body), 0)
    return body + directory + b"PK\x05\x06" + end


# --- checksums, which whoever changes a file on purpose would set right


def rechecked(change: Mutate) -> Mutate:
    """The change, and in most cases the checksum of a safetensors file computed anew."""

    def changed(data: bytes, rng: Random) -> bytes:
        new = change(data, rng)
        begin = 8 + len(checksums.SAFETENSORS_START)
        if rng.random() < 0.1 or len(new) < begin + 64:
            return new
        return (
            new[:begin] + checksums.checksum_of([new[:begin], checksums.ZEROS, new[begin + 64 :]]) + new[begin + 64 :]
        )

    return changed


def rechecked_npz(change: Mutate) -> Mutate:
    """The change, and in most cases the checksum of a .npz computed anew."""

    def changed(data: bytes, rng: Random) -> bytes:
        new = change(data, rng)
        plain = new[-22:].startswith(b"PK\x05\x06")
        if rng.random() < 0.1 or len(new) < 64 or plain:
            return new
        return new[:-64] + checksums.checksum_of([new[:-64], checksums.ZEROS])

    return changed
