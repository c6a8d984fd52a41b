"""Files made to harm, as bytes: each asks for something that a reader of weights must not do.

Nothing here does harm by being imported or made; only Python's own unpickler would do what the files say.
"""
# ruff: noqa: TID251

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np


def text(value: str) -> bytes:
    """Text of protocol 1."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def blob(value: bytes) -> bytes:
    """Bytes of protocol 3."""
    return b"B" + struct.pack("<I", len(value)) + value


def ask(module: str, name: str) -> bytes:
    """A global, by name."""
    return f"c{module}\n{name}\n".encode()


def reduce(symbol: bytes, *arguments: bytes) -> bytes:
    """A call."""
    return symbol + b"(" + b"".join(arguments) + b"tR"


SYSTEM = reduce(ask("os", "system"), text("true"))
EMPTY = reduce(ask("numpy.core.multiarray", "_reconstruct"), ask("numpy", "ndarray"), b"K\x00\x85", b"C\x01b")
F4 = reduce(ask("numpy", "dtype"), text("f4"), b"\x89", b"\x88")
ORDERED = ask("collections", "OrderedDict")
LOAD = ask("torch.storage", "_load_from_bytes")


def filled(shape: bytes, data: bytes, dtype: bytes = F4) -> bytes:
    """A numpy array."""
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
    """A torch storage, by persistent id."""
    return b"(" + text("storage") + ask("torch", kind) + text(key) + text("cpu") + pickle.dumps(count, 2)[2:-1] + b"NtQ"


def tensor(store: bytes, offset: bytes = b"K\x00", shape: bytes = b"K\x02\x85", strides: bytes = b"K\x01\x85") -> bytes:
    """A torch tensor on a storage."""
    return reduce(ask("torch._utils", "_rebuild_tensor_v2"), store, offset, shape, strides, b"\x89", b"}")


def nested(stream: bytes) -> bytes:
    """A torch tensor in a plain pickle, which holds a chain of pickles."""
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


def zipped(data: bytes, **extra: bytes) -> bytes:
    """PyTorch's archive around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/data.pkl", data)
        for name, value in extra.items():
            archive.writestr(f"m/{name}", value)
    return buffer.getvalue()


def jittor(data: bytes) -> bytes:
    """Jittor's file of a pickle."""
    return data + hashlib.sha1(data, usedforsecurity=False).digest() + b"HCAJSLHD"


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

CALLS = """
os.popen os.execv os.spawnl os.remove os.rename os.symlink os.putenv os.kill os.fork posix.system nt.system posix.fork
subprocess.call subprocess.run subprocess.check_output subprocess.getoutput pty.spawn platform.popen
commands.getoutput builtins.eval builtins.exec builtins.compile builtins.__import__ builtins.getattr builtins.setattr
builtins.open builtins.breakpoint builtins.globals builtins.vars builtins.map builtins.filter builtins.apply
builtins.type builtins.object builtins.super builtins.print builtins.input builtins.bytearray builtins.list
__builtin__.eval __builtin__.execfile __builtin__.getattr __builtin__.apply importlib.import_module
importlib.machinery.SourceFileLoader imp.load_source runpy.run_path runpy.run_module code.interact
code.InteractiveInterpreter timeit.timeit cProfile.run profile.run pdb.run trace.Trace bdb.Bdb doctest.debug_script
ctypes.CDLL ctypes.PyDLL ctypes.cdll.LoadLibrary webbrowser.open socket.create_connection socket.socket
urllib.request.urlopen http.client.HTTPSConnection ftplib.FTP smtplib.SMTP xmlrpc.client.ServerProxy shutil.rmtree
shutil.copyfile shutil.move pathlib.Path pathlib.PosixPath tempfile.mkstemp io.open io.FileIO _io.FileIO pickle.loads
pickle.Unpickler _pickle.loads marshal.loads shelve.open copyreg._reconstructor copyreg.__newobj__
copyreg.add_extension types.CodeType types.FunctionType types.SimpleNamespace operator.attrgetter
operator.methodcaller operator.itemgetter functools.partial functools.reduce itertools.starmap collections.deque
collections.defaultdict collections.UserDict multiprocessing.Process asyncio.run threading.Thread signal.signal
atexit.register weakref.finalize gc.get_objects sys.exit sys.setprofile sys.modules logging.config.listen
distutils.spawn.spawn pip._internal.main pydoc.pipepager venv.create ensurepip.bootstrap sqlite3.connect torch.load
torch.jit.load torch.hub.load torch.ops.load_library torch.utils.cpp_extension.load_inline
torch.package.PackageImporter torch.nn.Module torch._utils._import_dotted_name torch.storage.UntypedStorage
torch.serialization._load torch.FloatTensor torch._tensor._rebuild_from_type_v2 torch.distributed.init_process_group
numpy.load numpy.memmap numpy.fromfile numpy.ctypeslib.load_library numpy.f2py.compile numpy.core.records.fromfile
numpy.testing._private.utils.runstring numpy.frompyfunc numpy.random.__generator_ctor numpy.core.multiarray.fromfile
jittor.load jittor.compile_extern jittor.compiler.compile jittor_utils.run_cmd joblib.load
joblib.numpy_pickle.NumpyArrayWrapper dill._dill._create_function cloudpickle.cloudpickle._make_function
pandas.read_pickle yaml.unsafe_load PIL.Image.open __main__.Exploit
""".split()  # noqa: SIM905


class _Reduced:
    """What `pickle.dumps` writes for it calls `function` where it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.pair = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.pair


def _by_protocol() -> dict[str, bytes]:
    """Calls as Python itself pickles them, in every protocol, alone and among what weights consist of."""
    made = {}
    for protocol in range(6):
        system = _Reduced(os.system, "true")
        chained = _Reduced(getattr, _Reduced(__import__, "os"), "system")
        roots = {
            "system": system,
            "eval": _Reduced(eval, "1"),
            "getattr chain": _Reduced(getattr, chained, "__call__"),
            "system beside weights": {"w": np.ones(2, np.float32), "x": system},
            "system in a list": {"w": [np.ones(2, np.float32), system]},
            "system as a key's value deep down": {"state_dict": {"model": {"w": (system,)}}},
        }
        for name, root in roots.items():
            made[f"protocol {protocol}: {name}"] = pickle.dumps(root, protocol)
    return made


def _calls() -> dict[str, bytes]:
    """Every name of CALLS, in one of the ways in which a pickle can ask for a call, taking turns."""
    ways: list[Callable[[str, str], bytes]] = [
        lambda module, name: reduce(ask(module, name), text("true")),
        lambda module, name: reduce(short(module) + short(name) + b"\x93", text("true")),
        lambda module, name: b"(" + text("true") + f"i{module}\n{name}\n".encode(),
        lambda module, name: b"(" + ask(module, name) + text("true") + b"o",
        lambda module, name: ask(module, name) + text("true") + b"\x85\x81",
        lambda module, name: ask(module, name) + b")}\x92",
        lambda module, name: ask(module, name) + b"}" + text("__setstate__") + ask("os", "system") + b"sb",
    ]
    made = {}
    for number, dotted in enumerate(CALLS):
        module, _, name = dotted.rpartition(".")
        made[f"call of {dotted}"] = entry(ways[number % len(ways)](module, name))
    return made


def short(value: str) -> bytes:
    """Text of protocol 4."""
    return b"\x8c" + bytes([len(value)]) + value.encode()


def _memo_tricks() -> dict[str, bytes]:
    """Names that are put together from the memo, or thrown away and taken up again."""
    put, get = b"q\x05", b"h\x05"
    system = ask("os", "system")
    return {
        "module and name from the memo": entry(
            short("os") + b"\x940" + short("system") + b"\x940h\x00h\x01\x93" + text("true") + b"\x85R"
        ),
        "symbol from the memo": entry(system + put + b"0" + get + text("true") + b"\x85R"),
        "symbol thrown away with a mark": entry(b"(" + system + put + b"1" + get + text("true") + b"\x85R"),
        "arguments from the memo": entry(text("true") + b"\x85" + put + b"0" + system + get + b"R"),
        "an allowed symbol put over by another": entry(ORDERED + put + b"0" + system + put + b"0" + get + b")R"),
        "a symbol under a huge index": entry(system + b"r\xff\xff\xff\xff" + b"0j\xff\xff\xff\xff)R"),
        "a symbol under a decimal index": entry(system + b"p99999999999\n0g99999999999\n)R"),
        "a negative index": entry(system + b"p-1\n0g-1\n)R"),
        "a symbol twice": entry(system + b"2)R"),
        "a tuple in itself": entry(b"(]" + put + get + b"at" + put + b"0" + get),
        "a dict in itself": entry(b"}" + put + text("a") + get + b"s"),
        "a result called again": entry(ORDERED + b")R" + put + b")R"),
    }


def _builds() -> dict[str, bytes]:
    """BUILD, which sets attributes where a reader lets it."""
    state = b"}" + text("__class__") + ask("os", "_wrap_close") + b"s"
    targets = {
        "a list": b"]",
        "a tuple": b")",
        "a number": b"K\x01",
        "nothing": b"N",
        "a truth value": b"\x88",
        "bytes": b"C\x01b",
        "a dtype": F4,
        "an empty array": EMPTY,
        "a storage class": ask("torch", "FloatStorage"),
        "a module's function": ask("torch._utils", "_rebuild_tensor_v2"),
        "a TorchScript class": ask("__torch__", "M"),
    }
    made = {f"BUILD of {name}": entry(code + state + b"b") for name, code in targets.items()}
    made |= {f"BUILD of {name} by text": entry(code + text("x") + b"b") for name, code in targets.items()}
    made["BUILD of a module that holds a call"] = entry(
        ask("__torch__", "M") + b")\x81}" + text("forward") + reduce(ask("os", "system"), text("true")) + b"sb"
    )
    return made


def _streams() -> dict[str, bytes]:
    """Several pickles, and pickles in pickles."""
    harmless = pickle.dumps({"w": np.ones(2, np.float32)}, 2)
    system = b"\x80\x02" + SYSTEM + b"."
    made = {
        "a call behind a harmless pickle": harmless + system,
        "a harmless pickle behind a call": system + harmless,
        "two harmless pickles": harmless + harmless,
        "a hundred pickles": b"\x80\x02N." * 100 + system,
        "a call in a comment behind the end": harmless + b"# " + system,
        "an archive behind a pickle": harmless + zipped(system),
        "an array file behind a pickle": harmless + b"\x93NUMPY\x01\x00",
    }
    nest = system
    for depth in range(1, 10):
        nest = entry(reduce(ask("pickle", "loads"), blob(nest)))
        if depth > 1:
            made[f"pickles in pickles, {depth} deep"] = nest
    for depth in range(2, 6):
        inner = system
        for _ in range(depth):
            inner = entry(nested(inner))
        made[f"a call in {depth} storages"] = inner
    return made


def _sizes() -> dict[str, bytes]:
    """Lengths and numbers of absurd size, and nesting without end."""
    made = {
        f"number of {bits} bits": entry(b"\x8a" + bytes([bits // 8]) + b"\x7f" * (bits // 8))
        for bits in (136, 256, 1024, 2040)
    }
    made |= {f"decimal of {digits} digits": entry(b"I" + b"9" * digits + b"\n") for digits in (60, 4299, 4301, 50_000)}
    made |= {f"long decimal of {digits} digits": entry(b"L" + b"9" * digits + b"L\n") for digits in (60, 4301, 50_000)}
    for name, code, form in (
        ("LONG4", b"\x8b", "<i"), ("BINBYTES", b"B", "<I"), ("BINBYTES8", b"\x8e", "<Q"), ("BINUNICODE", b"X", "<I"),
        ("BINUNICODE8", b"\x8d", "<Q"), ("BYTEARRAY8", b"\x96", "<Q"),
        ("BINSTRING", b"T", "<i"), ("FRAME", b"\x95", "<Q"),
    ):  # fmt: skip
        most = (1 << (8 * struct.calcsize(form) - (form[1].islower()))) - 1
        made[f"{name} of the greatest length"] = entry(code + struct.pack(form, most) + b"xx")
        made[f"{name} of half the greatest length"] = entry(code + struct.pack(form, most // 2) + b"xx")
    made["LONG4 of negative length"] = entry(b"\x8b" + struct.pack("<i", -1) + b"xx")
    made["BINSTRING of negative length"] = entry(b"T" + struct.pack("<i", -1) + b"xx")
    for name, opened, closed in (
        ("lists", b"]", b"a"), ("tuples", b"", b"\x85"), ("dicts", b"}K\x01", b"s"), ("marks", b"(", b"t"),
        ("calls", ORDERED + b"]", b"a\x85R"), ("storages", b"", b"\x85Q"),
    ):  # fmt: skip
        for depth in (200, 5_000, 20_000):
            made[f"{name} {depth} deep"] = entry(opened * depth + b"N" + closed * depth)
    return made


HOSTILE |= _by_protocol() | _calls() | _memo_tricks() | _builds() | _streams() | _sizes()


def archives() -> dict[str, bytes]:
    """Archives that are hostile as such, whatever lies in them."""
    harmless = pickle.dumps({"w": 1.5}, 2)
    system = b"\x80\x02" + SYSTEM + b"."
    made = {
        "a bomb": _archive({"m/data.pkl": bytes(40_000_000)}, zipfile.ZIP_DEFLATED),
        "bzip2": _archive({"m/data.pkl": harmless}, zipfile.ZIP_BZIP2),
        "lzma": _archive({"m/data.pkl": harmless}, zipfile.ZIP_LZMA),
        "no pickle": _archive({"data.txt": harmless}),
        "two roots": _archive({"a/data.pkl": harmless, "b/data.pkl": system}),
        "a root too deep": _archive({"a/b/data.pkl": harmless}),
        "a root outside": _archive({"../data.pkl": system}),
        "code beside a call": _archive({"m/data.pkl": system, "m/code/__torch__.py": b"import os"}),
        "a pickle beside": _archive({"m/data.pkl": system, "m/constants.pkl": system}),
        "an absolute root": _archive({"/data.pkl": system}),
        "a call in capitals": _archive({"m/DATA.PKL": system}),
    }
    good = _archive({"m/data.pkl": system})
    at = good.index(b"PK\x01\x02")
    made["another name in the directory"] = good[:at] + good[at:].replace(b"m/data.pkl", b"n/data.pkl")
    made["an encrypted entry"] = good[:6] + b"\x01" + good[7 : at + 8] + b"\x01" + good[at + 9 :]
    huge = bytearray(good)
    huge[at + 24 : at + 28] = b"\xff\xff\xff\x7f"
    made["an entry of 2 GB"] = bytes(huge)
    shifted = bytearray(good)
    shifted[at + 42 : at + 46] = b"\xff\xff\xff\x7f"
    made["an entry behind the end"] = bytes(shifted)
    return made


def _archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()
