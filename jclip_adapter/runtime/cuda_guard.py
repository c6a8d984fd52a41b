"""Workarounds for Jittor on CUDA: unchecked kernel errors, and operators that do not compile.

A kernel that fails to launch leaves its output unchanged. CUDA records the error, but Jittor checks it only in debug
mode, so invalid numbers would look like results. Here every read of numbers checks it.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

from jclip_adapter.core.errors import SetupError

_READERS = ("numpy", "item")  # the methods of jt.Var that this program reads numbers with
WITHOUT = ("argmax", "argmin", "argsort", "sort", "topk", "cumsum", "where", "nonzero", "unique")
"""Jittor's operators that use cub, whose sources do not compile with CUDA 13."""


def leave_cub_out() -> None:
    """Compute softmax by Jittor's plain operators, as on the CPU, instead of its own kernel.

    That kernel calls cub::Max, which CUDA 13 removed, and needs C++17, which Jittor does not request from nvcc.
    """
    from jittor.other import code_softmax  # noqa: TID251  (started already)

    code_softmax.can_softmax_v1 = lambda *_: False


def guard(jittor: Any) -> None:
    """Make every read of a jt.Var raise after a failed kernel.

    Args:
        jittor: The module, started on CUDA; its class `Var` is changed.
    """
    # From the runtime library that Jittor has loaded, whatever its version.
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
                f"the GPU refused a kernel ({name_of(status).decode()}), so its results are invalid.",
                "Run `python runner.py --doctor`, or use --device cpu.",
            )
        return found

    return checked
