"""What is told of a failure of Jittor's is its reason."""

from __future__ import annotations

import pytest

from jclip_adapter.core.errors import SetupError
from jclip_adapter.runtime.jittor_messages import in_one_line, reason

RED, PLAIN = "\x1b[38;5;1m", "\x1b[m"
# Each as it was seen, cut short; the reason is in the middle of it.
CUBLAS = f"""\
{RED}[i 1127 23:40:00.100000 52 compiler.py:1012] cuda key:cu13.0.88_sm_90{PLAIN}
Traceback (most recent call last):
  File "jittor/compile_extern.py", line 236, in setup_cuda_extern
    setup_cuda_lib(lib_name, extra_flags=link_cuda_extern)
RuntimeError: {RED}[f 1127 23:40:01.334895 52 compile_extern.py:251] CUDA found but cublas is not loaded:

or you can let jittor install cuda and cudnn for you:
>>> python3.11 -m jittor_utils.install_cuda
{PLAIN}
terminate called without an active exception
"""
HEADER = f"""\
In file included from \x1b[01m\x1b[K/home/u/.cache/jittor/jit/cast_op.cc:17\x1b[m\x1b[K:
\x1b[01m\x1b[K/usr/lib/jittor/src/misc/cuda_limits.h:10:10:\x1b[m\x1b[K \x1b[01;31m\x1b[Kfatal error: \x1b[m\x1b[K\
npp.h: No such file or directory
compilation terminated.
RuntimeError: {RED}[f 1127 23:45:03.334895 52 executor.cc:686]
Execute fused operator(1/3) failed.
[Reason]: {RED}[f 1127 23:45:03.334634 52 log.cc:608] Check failed ret(256) == 0(0) Run cmd failed: "nvcc" …
"""
MEMORY = f"""\
{RED}[f 1127 23:45:03.334895 52 executor.cc:686]
Execute fused operator(1/3) failed.
[Input]: float32[64,3,224,224,],
[Reason]: {RED}[f 1127 23:45:03.3 52 cuda_device_allocator.cc:31] Unable to alloc cuda device memory for size 154140672
**********
Async error was detected. To locate the async backtrace and get better error report, please rerun your code
>>> export JT_SYNC=1
"""


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (CUBLAS, "CUDA found but cublas is not loaded"),
        (HEADER, "cuda_limits.h:10:10: fatal error: npp.h: No such file or directory"),
        (MEMORY, "Unable to alloc cuda device memory for size 154140672"),
        ("nvcc fatal   : Unsupported gpu architecture 'sm_30'\n", ": Unsupported gpu architecture 'sm_30'"),
        ('/a/b.cu(1): error: identifier "foo" is undefined\n1 error', 'b.cu(1): error: identifier "foo" is undefined'),
        ("/usr/bin/ld: cannot find -lcublas\ncollect2: error: ld returned 1 exit status", "ld: cannot find -lcublas"),
        ("Traceback:\n  File x\nKeyError: 'x'\nAborted", "KeyError: 'x'"),
        ("Traceback:\nImportError: libcudart.so.13: cannot open\n", "libcudart.so.13: cannot open"),
        ("one\ntwo\nterminate called without an active exception", "one | two"),
        ("", ""),
    ],
)
def test_the_reason_is_found(said: str, why: str) -> None:
    found = reason(said.splitlines())
    assert found.endswith(why)
    assert len(found) <= len(why) + len("nvcc fatal   ")


def test_a_reason_is_one_short_line() -> None:
    assert len(reason(["nvcc fatal : " + "x" * 1000])) == 400


def test_what_the_gpu_has_no_memory_for_is_told_in_one_line() -> None:
    with pytest.raises(SetupError) as told, in_one_line():
        raise RuntimeError(MEMORY)
    assert "\n" not in str(told.value)
    assert "not enough GPU memory (Unable to alloc" in told.value.message
    assert "--batch-size" in told.value.hint


def test_a_kernel_that_does_not_compile_is_told_in_one_line() -> None:
    why = r"Jittor stopped \(cuda_limits\.h:10:10: fatal error: npp\.h"
    with pytest.raises(SetupError, match=why) as told, in_one_line():
        raise RuntimeError(HEADER)
    assert "\n" not in str(told.value)


def test_errors_of_others_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="dictionary changed size"), in_one_line():
        raise RuntimeError("dictionary changed size during iteration")
