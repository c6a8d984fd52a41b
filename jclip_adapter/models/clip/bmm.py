"""Batched matrix multiplication of many small matrices, for attention.

On the CPU, Jittor's generic loops reach 2 to 3 GFLOP/s, a twentieth of the processor's rate. The loops here stay within
one small matrix and run along its rows; on CUDA cuBLAS is used.
"""

from __future__ import annotations

from typing import Any

from jclip_adapter.runtime import jt

# Z (n, k) = X (n, m) · Y (m, k), for each of a batch.
_PLAIN = """
#pragma omp parallel for
for (index_t i = 0; i < {x}_shape0; i++)
    for (index_t r = 0; r < {x}_shape1; r++) {{
        const float* x = {x}_p + (i * {x}_shape1 + r) * {x}_shape2;
        const float* y = {y}_p + i * {y}_shape1 * {y}_shape2;
        float* z = out_p + (i * {x}_shape1 + r) * {y}_shape2;
        for (index_t c = 0; c < {y}_shape2; c++) z[c] = 0;
        for (index_t s = 0; s < {y}_shape1; s++)
            for (index_t c = 0; c < {y}_shape2; c++) z[c] += x[s] * y[s * {y}_shape2 + c];
    }}
"""
# Z (n, k) = X (n, m) · Y (k, m)ᵀ.
_SECOND = """
#pragma omp parallel for
for (index_t i = 0; i < {x}_shape0; i++)
    for (index_t r = 0; r < {x}_shape1; r++) {{
        const float* x = {x}_p + (i * {x}_shape1 + r) * {x}_shape2;
        const float* y = {y}_p + i * {y}_shape1 * {y}_shape2;
        float* z = out_p + (i * {x}_shape1 + r) * {y}_shape1;
        for (index_t s = 0; s < {y}_shape1; s++) {{
            float sum = 0;
            for (index_t c = 0; c < {y}_shape2; c++) sum += x[c] * y[s * {y}_shape2 + c];
            z[s] = sum;
        }}
    }}
"""
# Z (m, k) = X (n, m)ᵀ · Y (n, k).
_FIRST = """
#pragma omp parallel for
for (index_t i = 0; i < {x}_shape0; i++) {{
    const float* x = {x}_p + i * {x}_shape1 * {x}_shape2;
    const float* y = {y}_p + i * {y}_shape1 * {y}_shape2;
    float* z = out_p + i * {x}_shape2 * {y}_shape2;
    for (index_t c = 0; c < {x}_shape2 * {y}_shape2; c++) z[c] = 0;
    for (index_t r = 0; r < {x}_shape1; r++)
        for (index_t s = 0; s < {x}_shape2; s++)
            for (index_t c = 0; c < {y}_shape2; c++)
                z[s * {y}_shape2 + c] += x[r * {x}_shape2 + s] * y[r * {y}_shape2 + c];
}}
"""


def bmm(a: Any, b: Any) -> Any:
    """a·b of each pair: (N, n, m), (N, m, k) → (N, n, k), float32."""
    if jt.flags.use_cuda:
        return jt.matmul(a, b)
    gradients = [_SECOND.format(x="dout", y="in1"), _FIRST.format(x="in0", y="dout")]
    shape = (a.shape[0], a.shape[1], b.shape[2])
    return jt.code(shape, "float32", [a, b], cpu_src=_PLAIN.format(x="in0", y="in1"), cpu_grad_src=gradients)


def bmm_transposed(a: Any, b: Any) -> Any:
    """a·bᵀ of each pair: (N, n, m), (N, k, m) → (N, n, k), float32."""
    if jt.flags.use_cuda:
        return jt.matmul(a, b.transpose(0, 2, 1))
    gradients = [_PLAIN.format(x="dout", y="in1"), _FIRST.format(x="dout", y="in0")]
    shape = (a.shape[0], a.shape[1], b.shape[1])
    return jt.code(shape, "float32", [a, b], cpu_src=_SECOND.format(x="in0", y="in1"), cpu_grad_src=gradients)
