"""CUDA without a GPU, in short: Jittor starts on the stand-ins of cuda_stub, and nvcc compiles a few operators.

The first run compiles Jittor's core for CUDA, which takes minutes. `python -m benchmarks.cuda_rehearsal` rehearses
every command.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from benchmarks import ROOT, cuda_rehearsal
from jclip_adapter.runtime import planning
from tests import cuda_stub

TOOLKIT = cuda_stub.toolkit()
pytestmark = [
    pytest.mark.skipif(TOOLKIT is None, reason="there is no nvcc of CUDA 13: CUDA is not rehearsed"),
    pytest.mark.xdist_group("cuda-rehearsal"),  # of two that start at once, one would wait for nothing
]
# What all commands share: softmax, a product in half precision, a loss and its gradient, and hits.
FEW = """
import numpy as np
from jclip_adapter.runtime import jt, start
start("cuda")
from jclip_adapter.models.clip.jittor_ops import linear, pack
from jclip_adapter.methods.training.loop import count_hits
x, weight = jt.array(np.ones((4, 8), np.float32)), jt.array(np.ones((3, 8), np.float32))
scores = linear(x, pack(weight, "bfloat16"), jt.zeros(3), "bfloat16")
target = jt.array(np.zeros(4, np.int32))
loss = jt.nn.cross_entropy_loss(linear(x, weight, jt.zeros(3), "float32"), target)
share, slope = jt.nn.softmax(scores, dim=-1), jt.grad(loss, weight)
print(share.numpy().shape, slope.numpy().shape, count_hits(scores, target).item())
"""


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """A process's with this finds a GPU. It lies in Jittor's cache, so that a second run compiles nothing."""
    assert TOOLKIT is not None
    stub = cuda_stub.build(planning.cache_folder() / "jclip_adapter_cuda_stub", TOOLKIT)
    named = {name: value for name, value in os.environ.items() if name != "nvcc_path"}
    paths = os.pathsep.join(filter(None, [str(ROOT), stub.pop("PYTHONPATH", "")]))
    return {**named, **stub, "JITTOR_HOME": str(planning.jittor_home()), "PYTHONPATH": paths}


def run(environment: dict[str, str], *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], env={**environment, **more}, capture_output=True, text=True, check=False, cwd=ROOT
    )


def test_a_few_operators_compile_and_run(environment: dict[str, str]) -> None:
    done = run(environment, "-c", FEW)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "(4, 3) (3, 8) 0"


def test_a_kernel_that_the_gpu_refuses_is_an_error(environment: dict[str, str]) -> None:
    """Jittor itself goes on with the memory as it was, and takes it for the result."""
    done = run(environment, "-c", FEW, STUB_REFUSE="1")
    assert "the GPU refused a kernel (cudaErrorInvalidDeviceFunction), so its results are invalid" in done.stderr
    assert done.returncode != 0


def test_the_doctor_notices_wrong_results(environment: dict[str, str]) -> None:
    done = run(environment, "runner.py", "--doctor", "--device", "cuda")
    assert done.returncode == 2
    assert "[  ok   ] CUDA: the CUDA driver reports 1 device(s), compute capability 9.0, nvcc 13." in done.stdout
    assert re.search(cuda_rehearsal.situations()[0].expected, done.stdout)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("STUB_DRIVER", "12040", "the driver supports CUDA up to 12.4, but nvcc is 13.0"),
        ("STUB_DRIVER", "0", "does not initialise (cuInit returned 999)"),
        ("STUB_CAPABILITY", "61", "CUDA 13 no longer compiles for a GPU of compute capability 6.1"),
    ],
)
def test_what_does_not_fit_is_told(environment: dict[str, str], variable: str, value: str, reason: str) -> None:
    done = run(environment, "runner.py", "--doctor", "--device", "cuda", **{variable: value})
    assert done.returncode == 2
    problem = next(line for line in done.stdout.splitlines() if line.startswith("[problem]"))
    assert problem.startswith("[problem] device: CUDA was asked for: ")
    assert reason in problem
