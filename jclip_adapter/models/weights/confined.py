"""Pickled weights, read in a child process with limited memory and time, and cached as safetensors.

The reader executes nothing in a file. If it has a bug, or a file exhausts memory, that is confined to a child process
limited to a small multiple of the file's size, which writes only a safetensors file. The cache is keyed by the source's
SHA-256, so that every source is read once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jclip_adapter import storage
from jclip_adapter.core.console import doing
from jclip_adapter.core.errors import AdapterError, SetupError, UsageError, WeightsError
from jclip_adapter.storage.kinds import unchanged_safetensors

from .download import check_published, resolve
from .folders import SUFFIXES
from .hub import check_cached
from .origin import FORMAT, Loaded, is_index
from .reader import WeightFile, is_safetensors, read_weight_file
from .safetensors_file import read_index

if TYPE_CHECKING:
    from jclip_adapter.models.clip.config import ClipConfig

_log = logging.getLogger(__name__)

CONVERTED = storage.Kind("converted weights", unchanged_safetensors("source_sha256", format=FORMAT))
FOLDER = "weights"  # below the cache
_FORMAT = 2  # raise it when the reader gives other numbers or names
MEMORY_BASE = 512 << 20  # Python and numpy take 90 MB
MEMORY_PER_BYTE = 6  # of the file; bytes converted to float32 take 5, float16 in text pickles 4
_SECONDS, _BYTES_PER_SECOND = 120, 1_000_000  # of CPU time; the slowest known files take a tenth
_ERRORS = {kind.__name__: kind for kind in (WeightsError, SetupError, UsageError)}
_CODE = "import sys; sys.path[:] = {path!r}; from jclip_adapter.models.weights.confined import serve; sys.exit(serve())"


def load_weights(name_or_path: str | Path, cache: Path | None = None) -> Loaded:
    """Find and read weights; formats other than safetensors are read in a child process.

    Args:
        name_or_path: As for `resolve`.
        cache: Folder where a pickled file is kept as safetensors for the next time; None for none.

    Returns:
        The weights.

    Raises:
        WeightsError: they are missing, damaged, unsafe, not weights, or exceed the memory or time limit.
        SetupError: the cache cannot be written.
    """
    with doing(f"reading {name_or_path}"):
        return _load(name_or_path, cache)


def _load(name_or_path: str | Path, cache: Path | None) -> Loaded:
    path = resolve(name_or_path)
    digest, plain = _look(path)
    check_published(name_or_path, path, digest)
    if plain:
        file = read_weight_file(path)
    else:
        kept = cache / FOLDER / f"{digest[:32]}-{_FORMAT}.safetensors" if cache is not None else None
        file = (_kept_file(kept) if kept is not None else None) or _read_anew(path, digest, kept)
    for note in file.origin.notes:
        _log.warning("%s: %s", path, note)
    return Loaded(path, digest, file.state, file.origin)


def convert(src: str | Path, dst: str | Path, model_config: str = "") -> None:
    """Convert weights of any format to safetensors (float32) with the model's settings.

    Args:
        src: The file or folder, or a name of `KNOWN`.
        dst: A path ending in `.safetensors`, for one file with OpenAI's names, or a folder, which gets the files that
            open_clip and transformers load, if their configurations can express the model, and its tokenizer. The
            same source gives the same bytes.
        model_config: As for `description.find.configure`.

    Raises:
        UsageError: `dst` has another suffix, is a file for a model with a tokenizer of its own, or is something that
            this program did not write.
        WeightsError: `src` cannot be read, or its configuration is unknown.
        SetupError: `dst` cannot be written.
    """
    from jclip_adapter.models.description.find import configure

    target = Path(dst)
    is_file = target.suffix == ".safetensors"
    if target.suffix in SUFFIXES and not is_file:
        raise UsageError(
            f"--convert: expected a folder or a path ending in .safetensors, got {target.name}.", "Rename it."
        )
    if is_file:
        storage.check_place(target, CONVERTED)
    else:
        storage.check_replaceable(target)
    loaded = load_weights(src)
    config = configure(loaded, model_config)
    if not is_file:
        write_folder(loaded, config, target)
    elif config.text_vocabulary.name:
        raise UsageError(f"--convert: this model needs its {config.text_vocabulary.name}, too.", "Give a folder.")
    else:
        write_converted(loaded, config.settings(), target)


def write_converted(loaded: Loaded, settings: Mapping[str, Any], target: Path) -> None:
    """Write weights as safetensors with the model's settings.

    Args:
        loaded: The weights.
        settings: From `ClipConfig.settings`.
        target: The path.
    """
    facts = {"format": FORMAT, "source_sha256": loaded.sha256, "model": json.dumps(settings, sort_keys=True)}
    storage.write_safetensors(target, loaded.state, facts, CONVERTED)


def write_folder(loaded: Loaded, config: ClipConfig, target: Path) -> None:
    """Write a model as a folder that open_clip and transformers load, as far as they can express it.

    Args:
        loaded: The weights.
        config: The architecture.
        target: The folder.
    """
    from jclip_adapter.models.families.export import TOKENIZER_FILES, Form, forms

    found = forms(config, loaded.state) or [Form("", "model.safetensors", dict(loaded.state), {})]
    source = Path(config.text_vocabulary.folder or loaded.path.parent)
    copied = {name: (source / name).read_bytes() for name in TOKENIZER_FILES if (source / name).is_file()}
    facts = {
        "format": "pt",  # transformers refuses other values
        "model": json.dumps(config.settings(), sort_keys=True),
        "source_sha256": loaded.sha256,
    }
    with storage.replace_folder(target) as fresh:
        for form in found:
            storage.write_safetensors(fresh / form.weights, form.state, facts)
            for name, table in form.tables.items():
                storage.write_json(fresh / name, table)
        for name, data in copied.items():
            storage.write_bytes(fresh / name, data)
        storage.write_manifest(fresh, sorted(path.name for path in fresh.iterdir()))
    libraries = " and ".join(form.library for form in found if form.library)
    _log.info("%s: %s", target, f"for {libraries}" if libraries else "no other library can express this model")


def _look(path: Path) -> tuple[str, bool]:
    """A file's SHA-256, and whether it is safetensors, which need no child process."""
    try:
        if not is_index(path):
            return _digest(path), is_safetensors(path)
        parts = sorted({path, *(path.parent / name for name in read_index(path).values())})
        digests = "\n".join(f"{part.name} {_digest(part)}" for part in parts if part.exists())
        return hashlib.sha256(digests.encode()).hexdigest(), True
    except WeightsError as error:
        raise WeightsError(f"cannot read weights from {path}: {error.message}", error.hint) from error
    except OSError as error:
        raise WeightsError(
            f"cannot read weights from {path}: {error.strerror or error}.", "Check the path and its permissions."
        ) from error


def _digest(path: Path) -> str:
    """A file's SHA-256, compared with the hub's for a file of its cache."""
    sha256 = storage.sha256_file(path)
    check_cached(path, sha256)
    return sha256


def _write(source: Path, digest: str, target: Path) -> None:
    """Write the cached copy of `source`."""
    kind = storage.KEPT if target.name.startswith(digest[:32]) else CONVERTED
    file = read_weight_file(source)
    storage.write_safetensors(target, file.state, file.origin._replace(source_sha256=digest).as_facts(), kind)


def _kept_file(kept: Path) -> WeightFile | None:
    """The cached copy; None if it is missing or damaged."""
    if not kept.is_file():
        return None
    try:
        return read_weight_file(kept)
    except WeightsError:
        _log.warning("%s is damaged; converting the weights again", kept)
        return None


def _read_anew(path: Path, digest: str, kept: Path | None) -> WeightFile:
    if kept is not None:
        _write_in_child(path, digest, kept)
        return read_weight_file(kept)
    with tempfile.TemporaryDirectory(prefix="jclip-weights-") as folder:
        target = Path(folder) / "weights.safetensors"
        _write_in_child(path, digest, target)
        return read_weight_file(target)


def _write_in_child(source: Path, digest: str, target: Path) -> None:
    """Read `source` in a child process, which writes `target`.

    Raises:
        AdapterError: the error of the process, or a WeightsError if it was killed.
    """
    size = source.stat().st_size
    memory = MEMORY_BASE + MEMORY_PER_BYTE * size
    task = {"source": str(source), "digest": digest, "target": str(target), "memory": memory}
    task["seconds"] = _SECONDS + size // _BYTES_PER_SECOND
    # One thread, as OpenBLAS's buffers per core would count against the limit.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CODE.format(path=sys.path)],
            input=json.dumps(task).encode(),
            capture_output=True,
            env=environment,
            check=False,
        )
    except OSError as error:
        raise WeightsError(
            f"cannot read weights from {source}: no child process can be started ({error.strerror or error}).",
            "Free memory, or end other processes.",
        ) from error
    if done.returncode == 0 and done.stdout == b"{}":
        return
    _log.debug("stderr of the reading process: %s", done.stderr.decode("utf-8", "replace"))
    raise _reported_error(done.stdout) or WeightsError(
        f"cannot read weights from {source}: the process that read it {_death(done.returncode, memory)}.",
        "The file is damaged or malicious, or there is not enough memory.",
    )


def _reported_error(answer: bytes) -> AdapterError | None:
    """The error that the process reported; None for none."""
    try:
        match json.loads(answer):
            case {"kind": str(kind), "message": str(message), "hint": str(hint)} if kind in _ERRORS:
                return _ERRORS[kind](message, hint)
    except ValueError:
        pass
    return None


def _death(status: int, memory: int) -> str:
    if status == -signal.SIGXCPU:
        return "exceeded its time limit"
    name = signal.Signals(-status).name if -status in list(signal.Signals) else f"status {status}"
    return f"died ({name}); its limit is {memory >> 20} MB"


def serve() -> int:
    """The child process: reads the task from stdin, writes the target, reports an error on stdout.

    Returns:
        Exit status: 0 if the target is written.
    """
    task = json.load(sys.stdin)
    _limit(task["memory"], task["seconds"])
    source = task["source"]
    answer: dict[str, str] = {}
    try:
        _write(Path(source), task["digest"], Path(task["target"]))
    except AdapterError as error:
        answer = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    except MemoryError:
        message = f"cannot read weights from {source}: it takes more than {task['memory'] >> 20} MB of memory."
        answer = {"kind": "WeightsError", "message": message, "hint": "Do not use it: no weights of its size do."}
    sys.stdout.write(json.dumps(answer))
    return int(bool(answer))


def _limit(memory: int, seconds: int) -> None:
    """Limit this process, as far as the system supports it."""
    with contextlib.suppress(ImportError):  # Windows has no such limits
        import resource

        # The first CPU limit sends SIGXCPU, the second kills.
        for kind, value, more in (
            (resource.RLIMIT_AS, memory, 0),
            (resource.RLIMIT_CPU, seconds, 5),
            (resource.RLIMIT_CORE, 0, 0),
        ):
            hard = resource.getrlimit(kind)[1]
            most = sys.maxsize if hard == resource.RLIM_INFINITY else hard
            with contextlib.suppress(ValueError, OSError):  # macOS refuses some
                resource.setrlimit(kind, (min(value, most), min(value + more, most)))
