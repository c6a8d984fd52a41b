"""Inert stand-ins for what a weight file describes, and their values as numpy arrays.

The pickle reader builds nothing but these: no class, function or constructor that the file names is ever looked
up. Every size is checked against the bytes that are really there before an array is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import WeightsError

Floats = npt.NDArray[np.float32]

MAX_DIMENSIONS = 8
NUMBERS = frozenset(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"])
BFLOAT16 = "bf16"  # numpy has no such kind: read as u2 and shifted into a float32's upper half


@dataclass(eq=False, slots=True)
class Symbol:
    """A global that the file names and that the allow-list knows: its name, and what a call of it is passed to."""

    name: str
    call: Callable[..., object] | None


@dataclass(eq=False, slots=True)
class StorageKind:
    """A `torch.*Storage` class: only its number format matters."""

    code: str


@dataclass(eq=False, slots=True)
class Record:
    """An object of a TorchScript class (`__torch__.…`), of which only the attributes are kept."""

    fields: dict[Any, object] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Storage:
    """A torch storage: a run of numbers of one kind.

    Args:
        code: Number format, one of `NUMBERS` or `BFLOAT16`.
        count: How many numbers.
        data: Their bytes; None while a legacy stream has not come to them yet.
        order: Byte order, `<` or `>`.
    """

    code: str
    count: int
    data: bytes | None = None
    order: str = "<"


@dataclass(eq=False, slots=True)
class Tensor:
    """A strided window on a storage; offset and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[object, ...]
    strides: tuple[object, ...]


@dataclass(eq=False, slots=True)
class DType:
    """A numpy dtype of plain numbers."""

    code: str
    order: str = "<"


@dataclass(eq=False, slots=True)
class Array:
    """A numpy array, empty until the pickle's BUILD fills it."""

    values: npt.NDArray[Any] | None = None


def dimensions(shape: Sequence[object]) -> tuple[int, ...]:
    """Check a shape: at most 8 dimensions, each a positive whole number.

    Raises:
        WeightsError: it is none.
    """
    sizes = tuple(size for size in shape if isinstance(size, int) and not isinstance(size, bool) and size > 0)
    if len(sizes) != len(shape) or len(sizes) > MAX_DIMENSIONS:
        raise WeightsError("a tensor has an impossible shape.")
    return sizes


def array_from_bytes(data: bytes | bytearray, dtype: DType, shape: Sequence[object], fortran: bool) -> Array:
    """Lay a numpy array over its pickled bytes without copying them.

    Args:
        data: The array's bytes.
        dtype: Its number format.
        shape: Its shape.
        fortran: True where the first index runs fastest.

    Raises:
        WeightsError: bytes and shape contradict each other.
    """
    sizes = dimensions(shape)
    kind = np.dtype(dtype.order + dtype.code)
    if math.prod(sizes) * kind.itemsize != len(data):
        raise WeightsError(f"an array of shape {sizes} does not fit its {len(data)} bytes.")
    return Array(np.frombuffer(data, kind).reshape(sizes, order="F" if fortran else "C"))


def tensor_values(tensor: Tensor) -> npt.NDArray[Any]:
    """The numbers of a torch tensor as a numpy view of its storage (bfloat16 already as float32).

    Raises:
        WeightsError: the tensor reaches outside its storage, or the storage's bytes are missing.
    """
    storage = tensor.storage
    kind = np.dtype(storage.order + ("u2" if storage.code == BFLOAT16 else storage.code))
    if storage.data is None or storage.count < 0 or len(storage.data) < storage.count * kind.itemsize:
        raise WeightsError("the bytes of a tensor are missing: the file is cut short.")
    sizes = dimensions(tensor.shape)
    steps = tuple(step for step in tensor.strides if isinstance(step, int) and step >= 0)
    if len(steps) != len(sizes) or len(tensor.strides) != len(sizes) or tensor.offset < 0:
        raise WeightsError("a tensor has impossible strides.")
    last = tensor.offset + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    # A stride of 0 would let a few bytes unfold to any size: an expanded tensor has no place in a weight file.
    if last >= storage.count or math.prod(sizes) > storage.count:
        raise WeightsError(f"a tensor of shape {sizes} reaches outside its storage of {storage.count} numbers.")
    flat = np.frombuffer(storage.data, kind, storage.count)[tensor.offset :]
    # Along a dimension of size 1 torch keeps whatever stride it had; it is never taken.
    strides = [kind.itemsize * (step if size > 1 else 1) for size, step in zip(sizes, steps, strict=True)]
    view = np.lib.stride_tricks.as_strided(flat, sizes, strides, writeable=False)
    return bfloat16_values(view) if storage.code == BFLOAT16 else view


def bfloat16_values(bits: npt.NDArray[np.uint16]) -> Floats:
    """Bfloat16 numbers, given as their bits, as float32: they are the upper halves of float32 numbers.

    >>> bfloat16_values(np.array([0x3F80, 0xC000], np.uint16)).tolist()
    [1.0, -2.0]
    """
    wide = np.left_shift(bits.astype(np.uint32), np.uint32(16))
    return wide.view(np.float32)


def to_float32(values: npt.NDArray[Any]) -> Floats:
    """Numbers of any kind as a C-ordered little-endian float32 array; not copied where they are that already."""
    # A float64 beyond float32's range becomes inf, as torch's .float() does; a NaN stays one.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values, dtype="<f4", order="C")
