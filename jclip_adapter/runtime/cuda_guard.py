"""What Jittor leaves open on CUDA: errors that it does not look at, and operators that do not compile.

A kernel that the GPU refuses to start leaves what it should have written as it was. CUDA notes the error and goes on,
and Jittor asks for such notes only in its debug mode: the numbers read afterwards would look like results. Here every
reading of numbers asks first.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

from jclip_adapter.core.errors import SetupError

_READERS = ("numpy", "item")  # of jt.Var; nothing in this program reads numbers in another way
WITHOUT = ("argmax", "argmin", "argsort", "sort", "topk", "cumsum", "where", "nonzero", "unique")
"""Jittor's operators that are made of cub: its sources do not compile with those of CUDA 13."""


def leave_cub_out() -> None:
    """Let softmax be made of Jittor's plain operators, as on the CPU, instead of a kernel of its own.

    That kernel calls cub::Max, which CUDA 13 has no more, and needs C++17, which Jittor does not ask nvcc for.
    """
    from jittor.other import code_softmax  # noqa: TID251  (started already)

    code_softmax.can_softmax_v1 = lambda *_: False


def guard(jittor: Any) -> None:
    """Make every reading of a jt.Var's numbers refuse those that a failed kernel has left.

    Args:
        jittor: The module, started on CUDA; its class `Var` is changed.
    """
    # Those of the runtime that Jittor has loaded, whatever its version.
    runtime = ctypes.CDLL(None)
    try:
        last_error, name_of = runtime.cudaGetLastError, runtime.cudaGetErrorName
    except AttributeError as error:
        raise SetupError("Jittor did not load the CUDA runtime.", "Run `python runner.py --doctor`.") from error
    name_of.restype = ctypes.c_char_p
    for name in _READERS:
        setattr(jittor.Var, name, _checked(getattr(jittor.Var, name), last_error, name_of))


def _checked(
    read: Callable[..., Any], last_error: Callable[[], int], name_of: Callable[[int], bytes]
) -> Callable[..., Any]:
    @functools.wraps(read)
    def checked(*arguments: Any) -> Any:
        found = read(*arguments)
        status = last_error()
        if status:
            raise SetupError(
                f"the GPU refused a kernel ({name_of(status).decode()}), so its results are void.",
                "Run `python runner.py --doctor`, or use --device cpu.",
            )
        return found

    return checked
