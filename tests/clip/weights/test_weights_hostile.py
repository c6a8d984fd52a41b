"""Files made to harm: each is refused, and nothing that it asks for happens."""
# ruff: noqa: TID251, S301

from __future__ import annotations

import hashlib
import io
import os
import pickle
import pickletools
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jclip_adapter.clip.weights import read_state_dict
from jclip_adapter.errors import WeightsError

FOLDER = Path(__file__).parents[2] / "golden" / "weights"
GENUINE = sorted(path.name for path in FOLDER.iterdir() if path.suffix != ".npz")
WATCHED = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "exec", "socket.connect"}
WATCHED |= {"pickle.find_class", "marshal.loads", "ctypes.dlopen", "os.remove", "os.rename", "shutil.rmtree"}
seen: list[str] | None = None


def watch(event: str, _: Any) -> None:
    if seen is not None and event in WATCHED:
        seen.append(event)


sys.addaudithook(watch)  # cannot be taken away again: it is idle unless `seen` is a list


@pytest.fixture()
def events() -> Iterator[list[str]]:
    """What of the watched happens during the test."""
    global seen  # noqa: PLW0603
    read_state_dict(FOLDER / "zip.pt")  # imports what is imported late
    zipfile.ZipFile(io.BytesIO(zipped(b""))).close()
    seen = []
    yield seen
    seen = None


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def blob(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def ask(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def reduce(symbol: bytes, *arguments: bytes) -> bytes:
    return symbol + b"(" + b"".join(arguments) + b"tR"


SYSTEM = reduce(ask("os", "system"), text("true"))
EMPTY = reduce(ask("numpy.core.multiarray", "_reconstruct"), ask("numpy", "ndarray"), b"K\x00\x85", b"C\x01b")
F4 = reduce(ask("numpy", "dtype"), text("f4"), b"\x89", b"\x88")
ORDERED = ask("collections", "OrderedDict")
LOAD = ask("torch.storage", "_load_from_bytes")


def filled(shape: bytes, data: bytes, dtype: bytes = F4) -> bytes:
    return EMPTY + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


def entry(value: bytes) -> bytes:
    """A pickle of a dict with one entry `w`."""
    return b"\x80\x02}" + text("w") + value + b"s."


def chain(root: bytes, keys: bytes = b"]", raw: bytes = b"", magic: int = 0x1950A86A20F9469CFC6C) -> bytes:
    """PyTorch's older chain of pickles."""
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = [pickle.dumps(part, 2) for part in (magic, 1001, facts)]
    return b"".join(parts) + b"\x80\x02" + root + b".\x80\x02" + keys + b"." + raw


def storage(count: int = 2, kind: str = "FloatStorage", key: str = "0") -> bytes:
    return b"(" + text("storage") + ask("torch", kind) + text(key) + text("cpu") + pickle.dumps(count, 2)[2:-1] + b"NtQ"


def tensor(store: bytes, offset: bytes = b"K\x00", shape: bytes = b"K\x02\x85", strides: bytes = b"K\x01\x85") -> bytes:
    return reduce(ask("torch._utils", "_rebuild_tensor_v2"), store, offset, shape, strides, b"\x89", b"}")


def nested(stream: bytes) -> bytes:
    return tensor(reduce(LOAD, blob(stream)))


RAW = struct.pack("<q", 2) + np.array([1, 2], "<f4").tobytes()
KEYS = b"](" + text("0") + b"e"


def windowed(
    offset: bytes = b"K\x00", shape: bytes = b"K\x02\x85", strides: bytes = b"K\x01\x85", keys: bytes = KEYS
) -> bytes:
    """A chain with one tensor `w` on a storage of the numbers 1 and 2."""
    return chain(b"}" + text("w") + tensor(storage(), offset, shape, strides) + b"s", keys, RAW)


DEEP_TUPLE = b"K\x01" + b"\x85" * 20_000
LAUGHS = b"]" + b"".join(b"q" + bytes([i]) + b"0](" + (b"h" + bytes([i])) * 9 + b"e" for i in range(30))

HOSTILE: dict[str, bytes] = {
    "system": entry(SYSTEM),
    "system as root": b"\x80\x02" + SYSTEM + b".",
    "system by stack": entry(reduce(b"\x8c\x05posix\x8c\x06system\x93", text("true"))),
    "system after a dict": b"\x80\x02}" + SYSTEM + b"0.",
    "system thrown away": b"\x80\x02" + SYSTEM + b"0" + entry(filled(b"K\x01\x85", blob(bytes(4))))[2:],
    "eval": entry(reduce(ask("builtins", "eval"), text("1"))),
    "exec of Python 2": entry(reduce(ask("__builtin__", "exec"), text("1"))),
    "getattr chain": entry(reduce(reduce(ask("builtins", "getattr"), ask("os", "path"), text("os")), text("system"))),
    "dotted name": entry(reduce(b"\x8c\x05numpy\x8c\x0bos.system.x\x93", text("true"))),
    "dotted in an allowed module": entry(reduce(b"\x8c\x05torch\x8c\x10serialization.os\x93", text("true"))),
    "name with a blank": entry(reduce(ask("numpy dtype", "x"), text("f4"))),
    "import": entry(reduce(ask("importlib", "import_module"), text("antigravity"))),
    "subprocess": entry(reduce(ask("subprocess", "Popen"), text("true"))),
    "runpy": entry(reduce(ask("runpy", "run_path"), text("x.py"))),
    "nested pickle": entry(reduce(ask("pickle", "loads"), blob(b"\x80\x02" + SYSTEM + b"."))),
    "torch.load": entry(reduce(ask("torch", "load"), text("x.pt"))),
    "numpy.load": entry(reduce(ask("numpy", "load"), text("x.npy"), b"N", b"\x88")),
    "numpy's exec": entry(reduce(ask("numpy.testing._private.utils", "runstring"), text("1"), b"}")),
    "partial": entry(reduce(ask("functools", "partial"), ask("os", "system"))),
    "INST": entry(b"(" + text("true") + b"ios\nsystem\n"),
    "OBJ": entry(b"(" + ask("os", "system") + text("true") + b"o"),
    "OBJ of an allowed class": entry(b"(" + ORDERED + b"o"),
    "NEWOBJ": entry(ask("os", "system") + text("true") + b"\x85\x81"),
    "NEWOBJ_EX": entry(ORDERED + b")}\x92"),
    "EXT1": entry(b"\x82\x01"),
    "BUILD on a symbol": entry(ask("numpy", "ndarray") + b"}" + text("__reduce__") + ask("numpy", "dtype") + b"sb"),
    "BUILD on text": entry(text("x") + b"}b"),
    "BUILD with slots": entry(ORDERED + b")R" + b"N}" + text("__class__") + b"Ns\x86b"),
    "call of a dict": entry(b"}" + b")R"),
    "call of text": entry(text("os.system") + text("true") + b"\x85R"),
    "call of a dtype": entry(ask("torch", "float32") + b")R"),
    "call of a storage class": entry(ask("torch", "FloatStorage") + b"K\x02\x85R"),
    "call without a tuple": entry(ORDERED + b"]R"),
    "bytes of a huge size": entry(reduce(ask("builtins", "bytes"), b"J\xff\xff\xff\x7f")),
    "encode by another codec": entry(reduce(ask("_codecs", "encode"), text("x"), text("zip"))),
    "encode beyond latin-1": entry(reduce(ask("_codecs", "encode"), text("\u20ac"), text("latin1"))),
    "persistent id": entry(b"Pos.system\n"),
    "persistent id of a plain pickle": entry(tensor(storage())),
    "class of TorchScript called": entry(ask("__torch__.os", "system") + text("true") + b"\x85R"),
    "class like TorchScript's": entry(ask("__torch__os", "system") + b")R"),
    "objects": entry(filled(b"K\x01\x85", b"](" + SYSTEM + b"e", reduce(ask("numpy", "dtype"), text("O8")))),
    "structured dtype": entry(
        filled(b"K\x01\x85", blob(bytes(4)), F4 + b"(K\x03" + text("|") + b"N]}K\x04K\x01K\x00tb")
    ),
    "text array": entry(filled(b"K\x01\x85", blob(bytes(4)), reduce(ask("numpy", "dtype"), text("U1")))),
    "huge shape": entry(filled(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", blob(bytes(4)))),
    "negative shape": entry(filled(b"J\xff\xff\xff\xff\x85", blob(bytes(4)))),
    "empty shape of a huge size": entry(filled(b"K\x00\x8a\x08" + b"\xff" * 7 + b"\x3f\x86", blob(b""))),
    "shape of text": entry(filled(text("4") + b"\x85", blob(bytes(4)))),
    "thirty-three dimensions": entry(filled(b"(" + b"K\x01" * 33 + b"t", blob(bytes(4)))),
    "array never filled": entry(EMPTY),
    "array of another class": entry(reduce(EMPTY[: EMPTY.index(b"(")], ask("numpy", "dtype"), b"K\x00\x85", b"C\x01b")),
    "oversized number": entry(b"\x8b" + struct.pack("<i", 4096) + b"\x7f" * 4096),
    "oversized decimal": entry(b"L" + b"9" * 5000 + b"L\n"),
    "oversized frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"}" + text("w") + b"Ns.",
    "oversized text": entry(b"\x8d" + struct.pack("<Q", 1 << 62) + b"x"),
    "oversized bytes": entry(b"\x8e" + struct.pack("<Q", 1 << 63) + b"x"),
    "oversized byte array": b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b"x" * 20 + b".",
    "out-of-band buffer": b"\x80\x05}" + text("w") + b"\x97s." + bytes(8),
    "no STOP": entry(b"N")[:-1] + b"N" * 20,
    "nothing on the stack": b"\x80\x02" + b"." * 30,
    "stack under the mark": b"\x80\x02}(0s." + bytes(16),
    "missing mark": entry(b"u"),
    "memo never stored": entry(b"h\x07"),
    "memo cycle": b"\x80\x02}q\x00" + text("w") + b"h\x00s.",
    "wrapper cycle": b"\x80\x02}q\x00" + text("state_dict") + b"h\x00s.",
    "list cycle": entry(b"]q\x01h\x01a"),
    "tuple as deep as it goes": entry(DEEP_TUPLE),
    "deep tuple as a key": b"\x80\x02}" + DEEP_TUPLE + b"Ns.",
    "unhashable key": b"\x80\x02}]Ns." + bytes(16),
    "key without a value": b"\x80\x02}(" + text("w") + b"u." + bytes(16),
    "billion laughs": entry(LAUGHS),
    "million marks": b"\x80\x02" + b"(" * 500_001,
    "million lists": b"\x80\x02" + b"]0" * 250_001,
    "append to text": entry(text("x") + b"Na"),
    "items of a list": entry(b"]" + text("x") + b"Ns"),
    "unknown opcode": entry(b"\xff"),
    "bytes behind the end": entry(filled(b"K\x01\x85", blob(bytes(4)))) + SYSTEM,
    "system in a chain": chain(b"}" + text("w") + SYSTEM + b"s"),
    "system in a chain's facts": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"\x80\x02" + SYSTEM + b".",
    "system in a chain's keys": windowed(keys=SYSTEM),
    "system in a storage": entry(nested(chain(SYSTEM))),
    "system in a storage's magic": entry(nested(b"\x80\x02" + SYSTEM + b".")),
    "storage in a storage": entry(nested(chain(reduce(LOAD, blob(chain(storage(), KEYS, RAW))), KEYS, RAW))),
    "storage without bytes": entry(nested(chain(storage(), KEYS))),
    "storage of another length": entry(nested(chain(storage(1 << 40), KEYS, struct.pack("<q", 1 << 40) + bytes(8)))),
    "storage of negative length": entry(nested(chain(storage(-1), KEYS, struct.pack("<q", -1) + bytes(8)))),
    "storage never listed": entry(nested(chain(storage(), b"]"))),
    "storage listed twice": entry(nested(chain(storage(), b"](" + text("0") * 2 + b"e", RAW + RAW))),
    "storage of two kinds": chain(b"](" + storage() + storage(2, "HalfStorage") + b"e", KEYS, RAW),
    "stride of 0": windowed(shape=b"J\xff\xff\xff\x7f\x85", strides=b"K\x00\x85"),
    "negative stride": windowed(strides=b"J\xff\xff\xff\xff\x85"),
    "stride past the end": windowed(strides=b"M\xff\xff\x85"),
    "huge stride": windowed(strides=b"\x8a\x08" + b"\xff" * 7 + b"\x7f\x85"),
    "strides too few": windowed(strides=b")"),
    "offset before the start": windowed(b"J\xff\xff\xff\xff"),
    "offset past the end": windowed(b"K\x01"),
    "another magic number": chain(b"}", magic=1 << 79),
}


def zipped(data: bytes, **extra: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/data.pkl", data)
        for name, value in extra.items():
            archive.writestr(f"m/{name}", value)
    return buffer.getvalue()


def jittor(data: bytes) -> bytes:
    return data + hashlib.sha1(data, usedforsecurity=False).digest() + b"HCAJSLHD"


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 90


def test_the_watch_sees_what_python_would_do(events: list[str]) -> None:
    os.system("true")  # noqa: S605
    assert events == ["os.system"]
    events.clear()
    pickle.loads(b"\x80\x02" + SYSTEM + b".")
    assert "os.system" in events


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("wrap", [bytes, jittor, zipped], ids=["plain", "jittor", "zip"])
def test_refused(name: str, wrap: Any, tmp_path: Path, events: list[str]) -> None:
    file = tmp_path / "ViT-B-32.pkl"
    file.write_bytes(wrap(HOSTILE[name]))
    with pytest.raises(WeightsError) as caught:
        read_state_dict(file)
    assert events == []
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "symbol"), [("system", "os.system"), ("system by stack", "posix.system"), ("INST", "os system")]
)
def test_symbol_is_named(name: str, symbol: str, tmp_path: Path) -> None:
    file = tmp_path / "x.pkl"
    file.write_bytes(HOSTILE[name])
    with pytest.raises(WeightsError, match=symbol):
        read_state_dict(file)


def test_symbol_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "x.pkl"
    file.write_bytes(entry(ask("os", "\\x1b[2J" + "x" * 1000).replace(b"\\x1b", b"\x1b")))
    with pytest.raises(WeightsError) as caught:
        read_state_dict(file)
    assert "\x1b" not in str(caught.value)
    assert len(caught.value.message) < 400


@pytest.mark.filterwarnings("error")
def test_text_of_python_2_with_an_odd_escape(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(entry(b"S'\\q'\n"))
    with pytest.raises(WeightsError, match="escape"):
        read_state_dict(tmp_path / "x.pkl")


def test_the_parts_that_the_hostile_files_are_made_of_are_sound(tmp_path: Path) -> None:
    """So that each is refused for what it does, and not for a slip in the test."""
    good = {
        "array": entry(filled(b"K\x02\x85", blob(np.array([1, 2], "<f4").tobytes()))),
        "chain": windowed(),
        "nested": entry(nested(chain(storage(), KEYS, RAW))),
    }
    for name, data in good.items():
        (tmp_path / name).write_bytes(data)
        assert read_state_dict(tmp_path / name)["w"].tolist() == [1, 2]


def test_repeated_bytes_are_not_derived_without_end(tmp_path: Path) -> None:
    """A call on remembered text costs two bytes of file and yields a megabyte."""
    calls = b"(" + text("x" * 1_000_000) + text("latin1") + b"tq\x00" + ask("_codecs", "encode") + b"q\x01"
    file = tmp_path / "x.pkl"
    file.write_bytes(b"\x80\x02](" + calls + b"h\x01h\x00R" * 10_000 + b"e.")
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match="unfolds"):
            read_state_dict(file)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def test_one_storage_under_many_names_is_limited(tmp_path: Path) -> None:
    many = b"".join(text(f"w{i}") + tensor(b"h\x00", shape=b"M\x00\x10\x85") for i in range(2000))
    root = storage(4096, "HalfStorage") + b"q\x000}(" + many + b"u"
    file = tmp_path / "x.pt"
    file.write_bytes(chain(root, KEYS, struct.pack("<q", 4096) + bytes(8192)))
    with pytest.raises(WeightsError, match="more numbers than"):
        read_state_dict(file)


def test_modules_within_themselves(tmp_path: Path) -> None:
    module = ask("__torch__", "M") + b")\x81q\x00}" + text("inner") + b"h\x00sb."
    (tmp_path / "x.pt").write_bytes(zipped(b"\x80\x02" + module))
    with pytest.raises(WeightsError, match="nested without end"):
        read_state_dict(tmp_path / "x.pt")


def test_modules_that_branch_without_end(tmp_path: Path) -> None:
    module = ask("__torch__", "M") + b")\x81q\x00"
    for i in range(1, 25):
        again = b"}(" + text("a") + b"h" + bytes([i - 1]) + text("b") + b"h" + bytes([i - 1]) + b"ub"
        module += b"0" + ask("__torch__", "M") + b")\x81" + again + b"q" + bytes([i])
    (tmp_path / "x.pt").write_bytes(zipped(b"\x80\x02" + module + b"."))
    with pytest.raises(WeightsError, match="nested without end"):
        read_state_dict(tmp_path / "x.pt")


def test_zip_bombs(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", bytes(40_000_000))
    (tmp_path / "x.pt").write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError, match="unfold"):
        read_state_dict(tmp_path / "x.pt")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w", method) as archive:
        archive.writestr("m/data.pkl", pickle.dumps({}))
    with pytest.raises(WeightsError, match="compressed in a way"):
        read_state_dict(tmp_path / "x.pt")


@pytest.mark.parametrize("names", [["data.txt"], ["a/data.pkl", "b/data.pkl"], ["a/b/data.pkl"]])
def test_zip_of_something_else(names: list[str], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for name in names:
            archive.writestr(name, pickle.dumps({}))
    with pytest.raises(WeightsError, match=r"no single data\.pkl"):
        read_state_dict(tmp_path / "x.pt")


def read_or_refuse(data: bytes, folder: Path) -> None:
    file = folder / "mutant"
    file.write_bytes(data)
    try:
        weights = read_state_dict(file)
    except WeightsError as error:
        assert "mutant" in error.message
    else:
        assert all(value.dtype == np.float32 for value in weights.values())


def body(name: str) -> bytes:
    data = (FOLDER / name).read_bytes()
    return data[:-28] if data.endswith(b"HCAJSLHD") else data


LOOSE = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@LOOSE
@given(
    name=st.sampled_from(GENUINE),
    edits=st.lists(
        st.tuples(st.floats(0, 1, allow_subnormal=False), st.binary(max_size=9), st.integers(0, 9)),
        min_size=1,
        max_size=4,
    ),
)
def test_mutants_of_genuine_files(name: str, edits: list[tuple[float, bytes, int]], tmp_path: Path) -> None:
    data = body(name)
    for where, new, gone in edits:
        at = int(where * len(data))
        data = data[:at] + new + data[at + gone :]
    read_or_refuse(data, tmp_path)


@LOOSE
@given(
    name=st.sampled_from([name for name in GENUINE if body(name).startswith(b"PK")]),
    where=st.floats(0, 1, allow_subnormal=False),
    new=st.binary(max_size=4),
    gone=st.integers(0, 4),
)
def test_mutants_of_the_pickle_in_an_archive(name: str, where: float, new: bytes, gone: int, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(FOLDER / name) as old, zipfile.ZipFile(buffer, "w") as archive:
        for member in old.namelist():
            data = old.read(member)
            if member.count("/") == 1 and member.endswith("/data.pkl"):
                at = int(where * len(data))
                data = data[:at] + new + data[at + gone :]
            archive.writestr(member, data)
    read_or_refuse(buffer.getvalue(), tmp_path)


ATOMS = [text("w"), blob(bytes(8)), b"K\x01", b"N", b"\x88", b"q\x00", b"h\x00"]
ATOMS += [SYSTEM, EMPTY, F4, ORDERED, LOAD, storage()]
ATOMS += [code.code.encode("latin-1") for code in pickletools.opcodes if code.arg is None]
ATOMS += [ask("torch._utils", "_rebuild_tensor_v2"), ask("__torch__", "M"), ask("torch", "Size"), tensor(storage())]


@settings(LOOSE, max_examples=400)
@given(program=st.lists(st.sampled_from(ATOMS), max_size=40), container=st.sampled_from([bytes, zipped, jittor, chain]))
def test_random_programs(program: list[bytes], container: Any, tmp_path: Path) -> None:
    code = b"".join(program)
    read_or_refuse(container(code if container is chain else b"\x80\x04" + code + b"." + bytes(16)), tmp_path)


@settings(LOOSE, max_examples=200)
@given(
    head=st.sampled_from([b"", b"\x80\x02", b"PK\x03\x04", struct.pack("<Q", 20) + b"{"]), tail=st.binary(max_size=80)
)
def test_random_bytes(head: bytes, tail: bytes, tmp_path: Path) -> None:
    read_or_refuse(head + tail, tmp_path)
