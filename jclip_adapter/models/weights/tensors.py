"""Inert stand-ins for the objects in a weight file, and their values as numpy arrays.

The pickle reader creates only these; no class or function named in the file is looked up. Every size is checked against
the actual bytes before an array is made.
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
BFLOAT16 = "bf16"  # not a numpy dtype: read as u2 and shifted into a float32's upper half


@dataclass(eq=False, slots=True)
class Symbol:
    """A global of the allow-list: its name, and the function called instead."""

    name: str
    call: Callable[..., object] | None


@dataclass(eq=False, slots=True)
class StorageKind:
    """A `torch.*Storage` class, as its dtype."""

    code: str


@dataclass(eq=False, slots=True)
class Record:
    """Attributes of an object of a TorchScript class (`__torch__.…`)."""

    fields: dict[Any, object] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Storage:
    """A torch storage: a sequence of numbers of one dtype.

    Args:
        code: Dtype, one of `NUMBERS` or `BFLOAT16`.
        count: Number of elements.
        data: Their bytes; None until a legacy stream reaches them.
        order: Byte order, `<` or `>`.
    """

    code: str
    count: int
    data: bytes | None = None
    order: str = "<"


@dataclass(eq=False, slots=True)
class Tensor:
    """A strided view of a storage; offset and strides count elements, not bytes."""

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
    """Check a shape: at most 8 dimensions, each a positive integer.

    Raises:
        WeightsError: the shape is invalid.
    """
    sizes = tuple(size for size in shape if isinstance(size, int) and not isinstance(size, bool) and size > 0)
    if len(sizes) != len(shape) or len(sizes) > MAX_DIMENSIONS:
        raise WeightsError("a tensor has an invalid shape.")
    return sizes


def array_from_bytes(data: bytes | bytearray, dtype: DType, shape: Sequence[object], fortran: bool) -> Array:
    """A numpy array on its pickled bytes, without a copy.

    Args:
        data: The array's bytes.
        dtype: Its dtype.
        shape: Its shape.
        fortran: Fortran order.

    Raises:
        WeightsError: bytes and shape do not match.
    """
    sizes = dimensions(shape)
    kind = np.dtype(dtype.order + dtype.code)
    if math.prod(sizes) * kind.itemsize != len(data):
        raise WeightsError(f"an array of shape {sizes} does not match its {len(data)} bytes.")
    return Array(np.frombuffer(data, kind).reshape(sizes, order="F" if fortran else "C"))


def tensor_values(tensor: Tensor) -> npt.NDArray[Any]:
    """The values of a torch tensor as a numpy view of its storage (bfloat16 as float32).

    Raises:
        WeightsError: the tensor exceeds its storage, or the storage's bytes are missing.
    """
    storage = tensor.storage
    kind = np.dtype(storage.order + ("u2" if storage.code == BFLOAT16 else storage.code))
    if storage.data is None or storage.count < 0 or len(storage.data) < storage.count * kind.itemsize:
        raise WeightsError("the bytes of a tensor are missing: the file is truncated.")
    sizes = dimensions(tensor.shape)
    steps = tuple(step for step in tensor.strides if isinstance(step, int) and step >= 0)
    if len(steps) != len(sizes) or len(tensor.strides) != len(sizes) or tensor.offset < 0:
        raise WeightsError("a tensor has invalid strides.")
    last = tensor.offset + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    # A stride of 0, as in expanded tensors, would let a few bytes expand to any size.
    if last >= storage.count or math.prod(sizes) > storage.count:
        raise WeightsError(f"a tensor of shape {sizes} exceeds its storage of {storage.count} numbers.")
    flat = np.frombuffer(storage.data, kind, storage.count)[tensor.offset :]
    # The stride of a dimension of size 1 is arbitrary in torch.
    strides = [kind.itemsize * (step if size > 1 else 1) for size, step in zip(sizes, steps, strict=True)]
    view = np.lib.stride_tricks.as_strided(flat, sizes, strides, writeable=False)
    return bfloat16_values(view) if storage.code == BFLOAT16 else view


def bfloat16_values(bits: npt.NDArray[np.uint16]) -> Floats:
    """Bfloat16 numbers, given as bits, as float32: they are the upper halves of float32 numbers.

    >>> bfloat16_values(np.array([0x3F80, 0xC000], np.uint16)).tolist()
    [1.0, -2.0]
    """
    wide = np.left_shift(bits.astype(np.uint32), np.uint32(16))
    return wide.view(np.float32)


def to_float32(values: npt.NDArray[Any]) -> Floats:
    """Numbers of any dtype as a C-ordered little-endian float32 array, without a copy if possible."""
    # A float64 beyond float32's range becomes inf, as by torch's .float().
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values, dtype="<f4", order="C")
