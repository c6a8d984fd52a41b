"""Reads weight files of all supported formats, recognised by content."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import NamedTuple

from jclip_adapter.core.errors import WeightsError

from . import safetensors_file
from .names import to_openai
from .origin import Origin, is_index
from .pickles import Budget, Stream
from .state import state_dict
from .tensors import Floats, Record
from .torch_archive import read_stream, read_zip

_log = logging.getLogger(__name__)

_JITTOR_MARK = b"HCAJSLHD"
_JITTOR_TRAILER = 20 + len(_JITTOR_MARK)  # a SHA-1 of the pickle, and the mark
_DOWNLOAD_AGAIN = "Download it again; a web page or a pointer to the file may have been saved in its place."
_OTHER = "Give JCLIP's ViT-B-32.pkl, or a CLIP checkpoint by OpenAI, open_clip or Hugging Face."
_NO_WEIGHTS = (b"version https://git-lfs", b"<!DOCTYPE", b"<!doctype", b"<html", b"<?xml", b"<HTML")


class WeightFile(NamedTuple):
    """Content of a weight file.

    Attributes:
        state: OpenAI's name → float32 array, possibly read-only, in the file's order, without entries that are not
            weights: `input_resolution`, `context_length`, `vocab_size`, `attn_mask`, `num_batches_tracked`,
            `position_ids`.
        origin: How it was written.
    """

    state: dict[str, Floats]
    origin: Origin


def read_state_dict(path: str | Path) -> dict[str, Floats]:
    """The arrays of `read_weight_file`."""
    return read_weight_file(path).state


def read_weight_file(path: str | Path) -> WeightFile:
    """Read CLIP's weights from a file in this process, without executing anything in it (see also confined.py).

    Supported are JCLIP's and Jittor's `.pkl` (numpy arrays, Jittor variables or torch tensors), OpenAI's `.pt`
    (TorchScript), state dicts by `torch.save` (also in a checkpoint, or from DataParallel), and safetensors, also in
    parts with an index; with OpenAI's, open_clip's or Hugging Face's names. The file's name is irrelevant, except for
    an index's `.safetensors.index.json`.

    Args:
        path: The file.

    Returns:
        Its weights and how it was written.

    Raises:
        WeightsError: the file is missing, damaged, unsafe, has no tensors, or is not a CLIP's.
    """
    file = Path(path)
    try:
        read = _read(file)
        state, layout, notes = to_openai(read.state)
        if not state:
            raise WeightsError("it has no tensors.", "Give a dict of tensors by name.")
    except WeightsError as error:
        raise WeightsError(f"cannot read weights from {file}: {error.message}", error.hint or _OTHER) from error
    except OSError as error:
        raise WeightsError(
            f"cannot read weights from {file}: {error.strerror or error}.", "Check the path and its permissions."
        ) from error
    _log.debug("%s: %d tensors, %d numbers", file, len(state), sum(value.size for value in state.values()))
    origin = read.origin
    if not origin.layout:  # a cached copy has it in its metadata
        origin = origin._replace(layout=layout, notes=(*origin.notes, *notes))
    return WeightFile(state, origin)


def is_safetensors(path: str | Path) -> bool:
    """Whether a file begins like safetensors.

    Raises:
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as handle:
        return safetensors_file.looks_like(handle.read(9), Path(path).stat().st_size)


def _read(file: Path) -> WeightFile:
    """The arrays by the file's own names."""
    if is_index(file):
        return WeightFile(safetensors_file.read_parts(file), Origin("safetensors"))
    size = file.stat().st_size
    with file.open("rb") as handle:
        head = handle.read(32)
        handle.seek(0)
        if not size or head.startswith(_NO_WEIGHTS):
            raise WeightsError("it is not a weight file.", _DOWNLOAD_AGAIN)
        if safetensors_file.looks_like(head, size):
            arrays, facts = safetensors_file.read_with_facts(file)
            return WeightFile(arrays, Origin.from_facts(facts) if facts is not None else Origin("safetensors"))
        if head.startswith(b"PK\x03\x04"):
            root, unfolded = read_zip(file)
            return _whole(root, unfolded, "torch")
        end = _pickle_end(file, size)
        root = read_stream(Stream(handle, end), Budget(size))
    return _whole(root, size, "torch" if end == size else "jittor")


def _whole(root: object, limit: int, form: str) -> WeightFile:
    state, notes = state_dict(root, limit)
    return WeightFile(state, Origin("torchscript" if isinstance(root, Record) else form, notes=tuple(notes)))


def _pickle_end(file: Path, size: int) -> int:
    """Where the pickle ends: before Jittor's trailer, whose SHA-1 is checked, or at the file's end."""
    with file.open("rb") as handle:
        if size < _JITTOR_TRAILER:
            return size
        handle.seek(size - _JITTOR_TRAILER)
        trailer = handle.read(_JITTOR_TRAILER)
        if not trailer.endswith(_JITTOR_MARK):
            return size
        handle.seek(0)
        digest = hashlib.sha1(usedforsecurity=False)  # Jittor's choice; it detects damage, not malice
        left = size - _JITTOR_TRAILER
        while left and (block := handle.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
    if digest.digest() != trailer[:20]:
        raise WeightsError("its checksum is wrong: the file is damaged.", _DOWNLOAD_AGAIN)
    return size - _JITTOR_TRAILER
