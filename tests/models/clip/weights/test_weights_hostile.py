"""Files made to harm: each is refused, and nothing that it asks for happens."""
# ruff: noqa: TID251, S301

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.reliability import audit
from benchmarks.reliability.hostile_files import (
    EMPTY,
    F4,
    HOSTILE,
    KEYS,
    LOAD,
    ORDERED,
    RAW,
    SYSTEM,
    archives,
    ask,
    blob,
    chain,
    entry,
    filled,
    jittor,
    nested,
    storage,
    tensor,
    text,
    windowed,
    zipped,
)
from benchmarks.reliability.hostile_pickles import GENUINE as FOLDER
from benchmarks.reliability.hostile_pickles import warm_up
from jclip_adapter.core.errors import WeightsError
from jclip_adapter.models.weights import read_state_dict

GENUINE = sorted(path.name for path in FOLDER.iterdir() if path.suffix != ".npz")
WATCHED = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "exec", "socket.connect"}
WATCHED |= {"pickle.find_class", "marshal.loads", "ctypes.dlopen", "os.remove", "os.rename", "shutil.rmtree"}


@pytest.fixture()
def events() -> Iterator[list[str]]:
    """What of the watched happens during the test."""
    warm_up()
    with audit.watched(lambda event, _: event if event in WATCHED else "") as seen:
        yield seen


def test_the_watch_sees_what_python_would_do(events: list[str]) -> None:
    os.system("true")  # noqa: S605
    assert events == ["os.system"]
    events.clear()
    pickle.loads(b"\x80\x02" + SYSTEM + b".")
    assert "os.system" in events


@pytest.mark.parametrize("wrap", [bytes, jittor, zipped], ids=["plain", "jittor", "zip"])
def test_refused(wrap: Any, tmp_path: Path, events: list[str], subtests: pytest.Subtests) -> None:
    file = tmp_path / "ViT-B-32.pkl"
    assert len(HOSTILE) > 370
    for name, content in HOSTILE.items():
        with subtests.test(name):
            events.clear()
            file.write_bytes(wrap(content))
            with pytest.raises(WeightsError) as caught:
                read_state_dict(file)
            assert events == []
            assert str(file) in str(caught.value)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "symbol"), [("system", "os.system"), ("system by stack", "posix.system"), ("INST", r"os\.system")]
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
def test_text_of_python_2_is_refused_before_its_escapes_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(entry(b"S'\\q'\n"))
    with pytest.raises(WeightsError, match="opcode STRING"):
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
        with pytest.raises(WeightsError, match="expands"):
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
    with pytest.raises(WeightsError, match="nested too deeply"):
        read_state_dict(tmp_path / "x.pt")


def test_modules_that_branch_without_end(tmp_path: Path) -> None:
    module = ask("__torch__", "M") + b")\x81q\x00"
    for i in range(1, 25):
        again = b"}(" + text("a") + b"h" + bytes([i - 1]) + text("b") + b"h" + bytes([i - 1]) + b"ub"
        module += b"0" + ask("__torch__", "M") + b")\x81" + again + b"q" + bytes([i])
    (tmp_path / "x.pt").write_bytes(zipped(b"\x80\x02" + module + b"."))
    with pytest.raises(WeightsError, match="nested too deeply"):
        read_state_dict(tmp_path / "x.pt")


def test_zip_bombs(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", bytes(40_000_000))
    (tmp_path / "x.pt").write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError, match="expand"):
        read_state_dict(tmp_path / "x.pt")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w", method) as archive:
        archive.writestr("m/data.pkl", pickle.dumps({}))
    with pytest.raises(WeightsError, match="compression method"):
        read_state_dict(tmp_path / "x.pt")


def test_archives_are_refused(tmp_path: Path, events: list[str], subtests: pytest.Subtests) -> None:
    for name, content in archives().items():
        with subtests.test(name):
            events.clear()
            (tmp_path / "x.pt").write_bytes(content)
            with pytest.raises(WeightsError, match=r"x\.pt"):
                read_state_dict(tmp_path / "x.pt")
            assert events == []


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
