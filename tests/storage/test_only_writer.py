"""Nothing in the package but storage/ writes, renames or removes files."""

from __future__ import annotations

import ast

import pytest

from tests import ROOT

PACKAGE = ROOT / "jclip_adapter"
WRITER = PACKAGE / "storage"

# (file, call): why it may stand there.
EXCEPTIONS = {
    ("models/weights/download.py", "urllib.request.build_opener(handler).open"): "opens an address, to read",
    ("models/weights/safetensors_file.py", "np.memmap"): "maps a file into memory, to read",
    (
        "models/weights/confined.py",
        "tempfile.TemporaryDirectory",
    ): "weights on their way from the child",
    ("data/photos/decode.py", "os.open"): "opens a photo to read, without waiting where it is a pipe",
    ("data/photos/decode.py", "os.fdopen"): "reads what was opened so",
    ("data/sounds.py", "os.open"): "opens a sound to read, as for photos",
    ("data/sounds.py", "os.fdopen"): "reads what was opened so",
    ("web/downloads.py", "zipfile.ZipFile"): "a zip that goes to the browser while it is made",
    ("runtime/compiled.py", "path.unlink"): "libraries in Jittor's cache that are cut short or crash",
    ("runtime/shared_library.py", "fresh.touch"): "the compiler's output, before it is there",
    ("runtime/shared_library.py", "fresh.open"): "a checksum behind the compiler's output, before it is put in place",
    ("runtime/shared_library.py", "fresh.replace"): "the C++ compiler's output, in Jittor's cache, put in place whole",
    ("runtime/shared_library.py", "fresh.unlink"): "what a compiler that failed has left",
    ("runtime/shared_library.py", "path.parent.mkdir"): "Jittor's cache, before its first file",
    ("cli/runs.py", "method.save"): "a method's own save, which calls storage.write_safetensors",
    ("classifier.py", "self.method_.save"): "a method's own save, which calls storage.write_safetensors",
    ("runtime/kernels.py", "fresh.replace"): "the C++ compiler's output, in Jittor's cache, put in place whole",
    ("runtime/kernels.py", "fresh.unlink"): "what a compiler that failed has left",
    ("runtime/onednn.py", "there.mkdir"): "the folder in Jittor's cache where it looks for oneDNN",
    ("runtime/onednn.py", "fresh.mkdir"): "the folder of links, before it is put in place",
    ("runtime/onednn.py", "(fresh / name).symlink_to"): "links to the installed oneDNN; they hold no bytes of ours",
    ("runtime/onednn.py", "fresh.symlink_to"): "a link to its headers",
    ("runtime/onednn.py", "fresh.replace"): "those links, put in place whole",
    ("runtime/onednn.py", "target.unlink"): "an older link to oneDNN",
    ("runtime/onednn.py", "(target / name).unlink"): "links within an older folder of links",
    (
        "runtime/cuda_toolkit.py",
        "(fresh / name).mkdir",
    ): "a folder of links in Jittor's cache, before it is put in place",
    (
        "runtime/cuda_toolkit.py",
        "(fresh / name / link).symlink_to",
    ): "links to the CUDA toolkit; they hold no bytes of ours",
    ("runtime/cuda_toolkit.py", "shim.chmod"): "makes a script, written by storage, one that can be run",
    ("runtime/cuda_toolkit.py", "fresh.replace"): "those links, put in place whole",
    ("runtime/python_headers.py", "path.chmod"): "makes a script, written by storage, one that can be run",
    (
        "runtime/__init__.py",
        "marker.unlink",
    ): "a mark in Jittor's cache that was found to be wrong, while another error is told",
}

# Methods of paths, files, arrays, images and figures that write, whatever they are called on.
METHODS = {
    *("write_text", "write_bytes", "touch", "unlink", "rename", "mkdir", "rmdir", "symlink_to", "hardlink_to"),
    *("tofile", "chmod", "lchmod", "extractall", "extract"),
}
# Functions of modules that write.
FUNCTIONS = {
    "os": {
        *("open", "rename", "renames", "replace", "remove", "unlink", "mkdir", "makedirs", "rmdir", "removedirs"),
        *("symlink", "link", "truncate", "mkfifo", "mknod", "fdopen", "chmod", "utime"),
    },
    "shutil": {"copy", "copy2", "copyfile", "copyfileobj", "copytree", "move", "rmtree", "make_archive"},
    "np": {"save", "savez", "savez_compressed", "savetxt", "memmap"},
    "numpy": {"save", "savez", "savez_compressed", "savetxt", "memmap"},
    "json": {"dump"},
    "yaml": {"dump", "safe_dump"},
    "pickle": {"dump"},
    "tempfile": {"NamedTemporaryFile", "TemporaryFile", "TemporaryDirectory", "mkstemp", "mkdtemp"},
    "jt": {"save"},
    "logging": {"FileHandler"},
}
# Calls that write unless what they write to lies in memory; where their target stands among the arguments.
TARGETS = {"save": 0, "savefig": 0, "imsave": 0, "ZipFile": 0, "save_file": 1, "dump": 1}


def writers(source: str) -> list[str]:
    """The calls of a module that write files, as they are spelled."""
    tree = ast.parse(source)
    ours = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("storage")
        for alias in node.names
    }
    borrowed = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in FUNCTIONS.get(node.module or "", ())
    }
    in_memory = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.value) in ("io.BytesIO()", "io.StringIO()")
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [ast.unparse(call.func) for call in calls if _writes(call, ours, borrowed, in_memory)]


def _writes(call: ast.Call, ours: set[str], borrowed: set[str], in_memory: set[str]) -> bool:
    if isinstance(call.func, ast.Name):
        name, owner = call.func.id, ""
    elif isinstance(call.func, ast.Attribute):
        name, owner = call.func.attr, ast.unparse(call.func.value)
    else:
        return False
    if owner == "storage" or (not owner and name in ours | borrowed):
        return name in borrowed
    if name == "open":
        return owner == "os" or _opens_to_write(call, owner)
    if name == "replace":  # text's takes two arguments, dataclasses' has fields by name
        return owner == "os" or (bool(owner) and owner != "dataclasses" and len(call.args) == 1)
    return (
        (name in FUNCTIONS.get(owner, ()) and not _in_memory(call, 0, in_memory))
        or (bool(owner) and name in METHODS)
        or (name in TARGETS and owner not in FUNCTIONS and not _in_memory(call, TARGETS[name], in_memory))
    )


def _opens_to_write(call: ast.Call, owner: str) -> bool:
    """Whether a mode is given that writes, or one that is not written out."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    place = 1 if owner in ("", "io", "builtins", "gzip", "bz2", "lzma", "zipfile") else 0
    mode = given[0] if given else call.args[place] if len(call.args) > place else None
    if owner == "Image" or mode is None:
        return False
    return not isinstance(mode, ast.Constant) or not set(str(mode.value)).isdisjoint("wax+")


def _in_memory(call: ast.Call, place: int, known: set[str]) -> bool:
    if len(call.args) <= place:
        return False
    target = call.args[place]
    reads = len(call.args) == 1 and not call.keywords and ast.unparse(call.func).endswith("ZipFile")
    return reads or (isinstance(target, ast.Name) and target.id in known)


def found() -> list[tuple[str, str]]:
    """(file, call) of all writers in the package."""
    paths = sorted(path for path in PACKAGE.rglob("*.py") if WRITER not in path.parents)
    return [(path.relative_to(PACKAGE).as_posix(), call) for path in paths for call in writers(path.read_text("utf-8"))]


def test_only_storage_writes() -> None:
    assert set(found()) - set(EXCEPTIONS) == set()


def test_every_exception_is_still_needed() -> None:
    assert set(EXCEPTIONS) - set(found()) == set()


def replaces_anything(source: str) -> bool:
    """Whether a module names the kind that replaces any file."""
    names = [node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    names += [
        alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    return "ANY" in names


def test_nothing_in_the_package_replaces_foreign_files() -> None:
    paths = [path for path in PACKAGE.rglob("*.py") if WRITER not in path.parents]
    assert [path.name for path in paths if replaces_anything(path.read_text("utf-8"))] == []
    assert replaces_anything("from .storage import ANY")
    assert replaces_anything("storage.write_text(path, text, storage.ANY)")


def test_storage_itself_would_be_found() -> None:
    calls = {call for path in WRITER.glob("*.py") for call in writers(path.read_text("utf-8"))}
    assert {"partial.open", "partial.replace", "partial.unlink", "os.open", "fresh.rename", "ready.rmdir"} <= calls


@pytest.mark.parametrize(
    "line",
    [
        "open('x', 'w')",
        "open('x', mode='ab')",
        "open('x', mode)",
        "path.open('x')",
        "path.open(mode='r+')",
        "io.open('x', 'wb')",
        "gzip.open('x', 'wb')",
        "Path('x').write_text('')",
        "path.write_bytes(b'')",
        "path.rename(other)",
        "path.replace(other)",
        "path.unlink(missing_ok=True)",
        "path.mkdir()",
        "path.touch()",
        "os.replace(a, b)",
        "os.rename(a, b)",
        "os.open('x', 1)",
        "from os import replace\nreplace(a, b)",
        "from shutil import copy as put\nput(a, b)",
        "shutil.copyfile(a, b)",
        "shutil.move(a, b)",
        "shutil.rmtree(a)",
        "np.save('x', a)",
        "np.savez(path, a=a)",
        "np.savetxt(path, a)",
        "array.tofile('x')",
        "json.dump(a, handle)",
        "image.save('x.png')",
        "image.save(path, format='PNG')",
        "figure.savefig(path)",
        "zipfile.ZipFile(path, 'w')",
        "tempfile.NamedTemporaryFile()",
        "save_file(arrays, 'x.safetensors')",
        "safetensors.numpy.save_file(arrays, path)",
        "jt.save(a, 'x')",
    ],
)
def test_a_writer_is_found(line: str) -> None:
    assert writers(f"def f():\n    {line.replace(chr(10), chr(10) + '    ')}\n")


@pytest.mark.parametrize(
    "line",
    [
        "open('x')",
        "path.open('rb')",
        "path.open(encoding='utf-8')",
        "Image.open(stream, formats=FORMATS)",
        "from .storage import write_text\nwrite_text(path, '')",
        "storage.write_bytes(path, b'')",
        "buffer = io.BytesIO()\nimage.save(buffer, format='PNG')",
        "buffer = io.BytesIO()\nnp.savez(buffer, a=a)",
        "'a'.replace('a', 'b')",
        "dataclasses.replace(a, b=1)",
        "replace(a, b=1)",
        "json.dumps(a)",
        "zipfile.ZipFile(path)",
    ],
)
def test_what_reads_or_stays_in_memory_is_let_alone(line: str) -> None:
    assert writers(f"def f():\n    {line.replace(chr(10), chr(10) + '    ')}\n") == []
