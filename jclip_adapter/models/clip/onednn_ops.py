"""Operations of a transformer on the CPU without gradients: oneDNN's matmuls, and C++ loops for the rest.

Compared with Jittor's operators they move less memory: weights are packed once into oneDNN's blocked layout; biases,
activation and residual are fused into the matmul; attention reads queries, keys and values from the projection's
output. With "bfloat16", matmuls take bfloat16 and accumulate in float32; norms, softmax and the residual are float32.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jclip_adapter.runtime import jt

from . import amx_attention

PRECISIONS = ("float32", "bfloat16")
_ROWS = 1600  # rows for which oneDNN chooses the packing: 32 photos of 50 positions
_STORED = {"float32": "float32", "bfloat16": "uint16"}  # Jittor's type for the bits

_HEADER = """
#include <dnnl.hpp>
#include <cmath>
#include <cstring>
#include <stdexcept>
namespace jclip {{
using dnnl::memory;
typedef float v16 __attribute__((vector_size(64)));
typedef float v16_anywhere __attribute__((vector_size(64), aligned(4)));
typedef int32_t i16 __attribute__((vector_size(64)));
typedef uint32_t u16 __attribute__((vector_size(64)));
typedef uint16_t h16 __attribute__((vector_size(32)));
typedef uint16_t h16_anywhere __attribute__((vector_size(32), aligned(2)));
inline dnnl::engine& engine() {{ static dnnl::engine e(dnnl::engine::kind::cpu, 0); return e; }}
inline dnnl::stream& stream() {{ static dnnl::stream s(engine()); return s; }}
inline memory::data_type kind(const float*) {{ return memory::data_type::f32; }}
inline memory::data_type kind(const uint16_t*) {{ return memory::data_type::bf16; }}
inline void put(float* to, float value) {{ *to = value; }}
inline void put(uint16_t* to, float value) {{  // rounded to the nearest, ties to even
    uint32_t bits; std::memcpy(&bits, &value, 4);
    *to = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}}
inline v16 load(const float* from) {{ return *(const v16_anywhere*)from; }}
inline v16 load(const uint16_t* from) {{
    return (v16)(__builtin_convertvector((h16)*(const h16_anywhere*)from, u16) << 16);
}}
inline void store(float* to, v16 value) {{ *(v16_anywhere*)to = value; }}
inline void store(uint16_t* to, v16 value) {{
    const u16 bits = (u16)value;
    *(h16_anywhere*)to = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, h16);
}}
inline float total(v16 x) {{ float sum = 0; for (int j = 0; j < 16; j++) sum += x[j]; return sum; }}
inline float get(const float* from) {{ return *from; }}
inline float get(const uint16_t* from) {{
    const uint32_t bits = (uint32_t)*from << 16;
    float value; std::memcpy(&value, &bits, 4);
    return value;
}}
// The w numbers of a head, to a place for a multiple of 16; behind them zeros.
template <int w, typename T> inline void load_head(const T* from, float* to) {{
    for (int c = 0; c + 16 <= w; c += 16) *(v16*)(to + c) = load(from + c);
    if (w % 16) for (int c = w / 16 * 16; c < (w + 15) / 16 * 16; c++) to[c] = c < w ? get(from + c) : 0.f;
}}
// Rotates neighbouring channels: (a, b) becomes (a·cos − b·sin, b·cos + a·sin).
template <int w> inline void rotate(float* x, const float* cosines, const float* sines) {{
    for (int c = 0; c < w; c += 2) {{
        const float a = x[c], b = x[c + 1];
        x[c] = a * cosines[c] - b * sines[c];
        x[c + 1] = b * cosines[c + 1] + a * sines[c + 1];
    }}
}}
template <int w, typename T> inline void store_head(T* to, const v16* from) {{
    for (int c = 0; c + 16 <= w; c += 16) store(to + c, from[c / 16]);
    if (w % 16) for (int c = w / 16 * 16; c < w; c++) put(to + c, from[c / 16][c % 16]);
}}
// e^x of numbers that are not positive: 2^n times a polynomial, to 2e-7 of it. Below −60 it stays at e^−60, which is
// nothing beside the largest, e^0; products with less would be denormal numbers, and take the processor long.
inline v16 power(v16 x) {{
    const v16 least = x - x - 60.f;
    x = x > least ? x : least;
    const i16 n = __builtin_convertvector(x * 1.44269504f - 0.5f, i16);
    const v16 r = x - __builtin_convertvector(n, v16) * 0.693147181f;
    const v16 sum = 1 + r * (1 + r * (1 / 2.f + r * (1 / 6.f + r * (1 / 24.f + r * (1 / 120.f + r / 720.f)))));
    return sum * (v16)((n + 127) << 23);
}}
inline dnnl::matmul::primitive_desc plan(int64_t n, int64_t m, int64_t k, memory::data_type x, memory::data_type w,
        memory::data_type z, const memory::desc& packed, int activation, bool residual) {{
    dnnl::primitive_attr attributes;
    dnnl::post_ops after;
    if (activation == 1) after.append_eltwise(1.f, dnnl::algorithm::eltwise_swish, 1.702f, 0.f);
    if (activation == 2) after.append_eltwise(1.f, dnnl::algorithm::eltwise_gelu_erf, 0.f, 0.f);
    if (activation == 3) after.append_eltwise(1.f, dnnl::algorithm::eltwise_gelu_tanh, 0.f, 0.f);
    if (residual) after.append_sum(1.f);
    attributes.set_post_ops(after);
    const memory::format_tag ab = memory::format_tag::ab;
    dnnl::matmul::desc what({{{{n, m}}, x, ab}}, packed, {{{{1, k}}, memory::data_type::f32, ab}}, {{{{n, k}}, z, ab}});
    return dnnl::matmul::primitive_desc(what, attributes, engine());
}}
inline memory::desc packing(int64_t m, int64_t k, memory::data_type w) {{
    memory::desc any({{m, k}}, w, memory::format_tag::any);
    return plan({rows}, m, k, w, w, memory::data_type::f32, any, 0, false).weights_desc();
}}
}}
using namespace jclip;
"""

_PACK = """
int64_t k = in0_shape0, m = in0_shape1;
memory::desc order = packing(m, k, kind((const {stored}*)nullptr));
if (order.get_size() > (size_t)out0_shape0)
    throw std::runtime_error("oneDNN packs weights into more bytes than expected");
memory from({{{{m, k}}, memory::data_type::f32, memory::format_tag::ba}}, engine(), (void*)in0_p);
memory to(order, engine(), (void*)out0_p);
dnnl::reorder(from, to).execute(stream(), from, to);
stream().wait();
"""

_LINEAR = """
int64_t n = in0_shape0, m = in0_shape1, k = out0_shape1;
auto weight = kind((const {stored}*)nullptr);
memory::desc order = packing(m, k, weight);
auto plan_ = plan(n, m, k, kind((const {x}*)nullptr), weight, kind((const {z}*)nullptr), order,
    (int)data["activation"], {residual});
memory x(plan_.src_desc(), engine(), (void*)in0_p), w(order, engine(), (void*)in1_p);
memory b(plan_.bias_desc(), engine(), (void*)in2_p), z(plan_.dst_desc(), engine(), (void*)out0_p);
{copy}
dnnl::matmul(plan_).execute(stream(),
    {{{{DNNL_ARG_SRC, x}}, {{DNNL_ARG_WEIGHTS, w}}, {{DNNL_ARG_BIAS, b}}, {{DNNL_ARG_DST, z}}}});
stream().wait();
"""
_COPY = "std::memcpy(out0_p, in3_p, n * k * sizeof(float));"

_NORM = """
#pragma omp parallel for
for (int64_t i = 0; i < in0_shape0; i++) {{
    const int64_t d = in0_shape1;
    const float* x = in0_p + i * d;
    float sum = 0, squares = 0;
    if (sizeof(*out0_p) == 2 && d % 64 == 0) {{  // by hand in half the time; four sums do not wait for one another
        v16 sums[4] = {{}}, powers[4] = {{}};
        for (int64_t c = 0; c < d; c += 64) for (int j = 0; j < 4; j++) sums[j] += load(x + c + 16 * j);
        const v16 mean = v16{{}} + total((sums[0] + sums[1]) + (sums[2] + sums[3])) / d;
        for (int64_t c = 0; c < d; c += 64) for (int j = 0; j < 4; j++) {{
            const v16 y = load(x + c + 16 * j) - mean;
            powers[j] += y * y;
        }}
        const float scale = 1.f / std::sqrt(total((powers[0] + powers[1]) + (powers[2] + powers[3])) / d + {eps}f);
        for (int64_t c = 0; c < d; c += 16)
            store(out0_p + i * d + c, (load(x + c) - mean) * scale * load(in1_p + c) + load(in2_p + c));
        continue;
    }}
    for (int64_t c = 0; c < d; c++) sum += x[c];
    const float mean = sum / d;
    for (int64_t c = 0; c < d; c++) squares += (x[c] - mean) * (x[c] - mean);
    const float scale = 1.f / std::sqrt(squares / d + {eps}f);
    for (int64_t c = 0; c < d; c++) put(out0_p + i * d + c, (x[c] - mean) * scale * in1_p[c] + in2_p[c]);
}}
"""

# Four queries and 32 keys at a time: their sums stay in registers, and each number that is read is used four times.
# The width of a head is part of the code, so that its loops have fixed lengths; `lanes` is a multiple of 16.
_ATTENTION = """
constexpr int w = {head}, lanes = (w + 15) / 16 * 16, parts = lanes / 16;
const int64_t heads = data["heads"], batch = data["batch"], length = in0_shape0 / batch, queries = out0_shape0 / batch;
const int64_t wide = in0_shape1, width = out0_shape1, first = {first}, padded = (length + 31) / 32 * 32;
#pragma omp parallel for collapse(2)
for (int64_t b = 0; b < batch; b++) for (int64_t h = 0; h < heads; h++) {{
    alignas(64) float kt[w * padded], v[lanes * length], score[4][padded], q[4][lanes];
    for (int64_t s = 0; s < length; s++) {{
        const auto* row = in0_p + (b * length + s) * wide + h * w + first;
        alignas(64) float key[lanes];
        load_head<w>(row, key);
        {rotate_key}
        load_head<w>(row + width, v + s * lanes);
        for (int64_t c = 0; c < w; c++) kt[c * padded + s] = key[c];
    }}
    for (int64_t c = 0; c < w; c++) for (int64_t s = length; s < padded; s++) kt[c * padded + s] = 0;
    for (int64_t start = 0; start < queries; start += 4) {{
        const int64_t rows = std::min<int64_t>(4, queries - start);
        int64_t seen[4], most_seen = 0;
        for (int64_t i = 0; i < 4; i++) {{
            const int64_t r = start + std::min(i, rows - 1);  // the last one again where there are fewer than four
            const auto* own = {query} + h * w;
            load_head<w>(own, q[i]);
            {rotate_query}
            for (int64_t c = 0; c < lanes; c += 16) *(v16*)(q[i] + c) *= {scale}f;
            seen[i] = {seen};
            most_seen = std::max(most_seen, seen[i]);
        }}
        for (int64_t at = 0; at < most_seen; at += 32) {{
            v16 sum[4][2] = {{}};
            for (int64_t c = 0; c < w; c++) {{
                const v16 left = *(const v16*)(kt + c * padded + at), right = *(const v16*)(kt + c * padded + at + 16);
                for (int64_t i = 0; i < 4; i++) {{ sum[i][0] += q[i][c] * left; sum[i][1] += q[i][c] * right; }}
            }}
            for (int64_t i = 0; i < 4; i++) {{
                *(v16*)(score[i] + at) = sum[i][0];
                *(v16*)(score[i] + at + 16) = sum[i][1];
            }}
        }}
        float share[4];
        for (int64_t i = 0; i < 4; i++) {{
            float most = score[i][0], total = 0;
            for (int64_t s = 1; s < seen[i]; s++) most = std::max(most, score[i][s]);
            for (int64_t s = 0; s < most_seen; s += 16)
                *(v16*)(score[i] + s) = power(*(const v16*)(score[i] + s) - most);
            for (int64_t s = seen[i]; s < most_seen; s++) score[i][s] = 0;
            for (int64_t s = 0; s < seen[i]; s++) total += score[i][s];
            share[i] = 1 / total;
        }}
        v16 mix[4][parts] = {{}};
        for (int64_t s = 0; s < most_seen; s++)
            for (int64_t j = 0; j < parts; j++) {{
                const v16 value = *(const v16*)(v + s * lanes + j * 16);
                for (int64_t i = 0; i < 4; i++) mix[i][j] += score[i][s] * value;
            }}
        for (int64_t i = 0; i < rows; i++) {{
            for (int64_t j = 0; j < parts; j++) mix[i][j] *= share[i];
            store_head<w>(out0_p + (b * queries + start + i) * width + h * w, mix[i]);
        }}
    }}
}}
"""

_CAST = """
#pragma omp parallel for
for (int64_t i = 0; i < in0_shape0; i++) for (int64_t c = 0; c < in0_shape1; c++)
    put(out0_p + i * in0_shape1 + c, in0_p[i * in0_shape1 + c]);
"""

# Pixels (B, n, n, 3) to rows of a patch each, channel by channel, as the convolution's weights have them.
_PATCHES = """
const int64_t side = in0_shape1, patch = {patch}, grid = side / patch, area = patch * patch;
const float mean[3] = {{ {mean} }}, deviation[3] = {{ {deviation} }};
#pragma omp parallel for collapse(2)
for (int64_t b = 0; b < in0_shape0; b++) for (int64_t g = 0; g < grid * grid; g++) {{
    auto* z = out0_p + (b * grid * grid + g) * 3 * area;
    for (int64_t y = 0; y < patch; y++) {{
        const uint8_t* x = in0_p + ((b * side + g / grid * patch + y) * side + g % grid * patch) * 3;
        for (int64_t k = 0; k < 3; k++) for (int64_t c = 0; c < patch; c++)
            put(z + k * area + y * patch + c, (x[c * 3 + k] * (1 / 255.f) - mean[k]) / deviation[k]);
    }}
}}
"""


@cache
def _header() -> str:
    return _HEADER.format(rows=_ROWS)


def _code(shape: tuple[int, ...], kind: str, inputs: list[Any], source: str, header: str = "", **numbers: float) -> Any:
    data = {name: float(value) for name, value in numbers.items()}
    return jt.code(shape, kind, inputs, cpu_header=_header() + header, cpu_src=source, data=data)


_ACTIVATIONS = {"": 0, "quick_gelu": 1, "gelu": 2, "gelu_tanh": 3}  # as `plan` numbers them
_C = {"float32": "float", "uint16": "uint16_t"}


def pack(weight: Any, precision: str) -> Any:
    """A linear map's weight (k, m) float32, packed for `linear`, as bytes."""
    size = 4 if precision == "float32" else 2
    k, m = (-(-side // 64) * 64 for side in weight.shape)
    return _code((k * m * size,), "uint8", [weight], _PACK.format(stored=_C[_STORED[precision]]))


def cast(x: Any, precision: str) -> Any:
    """Float32 numbers (n, d) in a precision."""
    return x if precision == "float32" else _code(tuple(x.shape), _STORED[precision], [x], _CAST)


def linear(
    x: Any,
    packed: Any,
    bias: Any,
    precision: str,
    *,
    activation: str = "",
    residual: Any = None,
    out: str = "float32",
) -> Any:
    """x·Wᵀ + b, with an activation or a residual.

    Args:
        x: (n, m), of `precision`.
        packed: W (k, m), by `pack`.
        bias: (k,) float32.
        precision: Precision of the matmul.
        activation: One of `config.ACTIVATIONS`; empty for none.
        residual: (n, k) float32 to be added; None for none.
        out: Precision of the result.

    Returns:
        (n, k).
    """
    source = _LINEAR.format(
        stored=_C[_STORED[precision]],
        x=_C[str(x.dtype)],
        z=_C[_STORED[out]],
        residual=str(residual is not None).lower(),
        copy=_COPY if residual is not None else "",
    )
    inputs = [x, packed, bias, *([residual] if residual is not None else [])]
    return _code((x.shape[0], bias.shape[0]), _STORED[out], inputs, source, activation=_ACTIVATIONS[activation])


def layer_norm(x: Any, weight: Any, bias: Any, out: str = "float32", *, eps: float = 1e-5) -> Any:
    """LayerNorm of rows (n, d) float32."""
    return _code(tuple(x.shape), _STORED[out], [x, weight, bias], _NORM.format(eps=f"{eps:.9e}"))


def attention(
    joined: Any,
    batch: int,
    heads: int,
    *,
    causal: bool = False,
    one: Any = None,
    seen: Any = None,
    rotary: Any = None,
) -> Any:
    """Softmax attention of heads of one width, scaled by its inverse square root.

    Args:
        joined: (batch·L, 3·width) queries, keys and values; with `one` (batch·L, 2·width) keys and values.
        batch: Number of rows of L positions.
        heads: Number of heads, which divides the width.
        causal: Whether a causal mask is applied.
        one: (batch, width) queries of one position per row; None for those in `joined`.
        seen: (batch,) int32, how many positions of each row are attended to; None for all.
        rotary: (2, L, width/heads) from `positions.rotary_table`; None for none, as it must be with `one`.

    Returns:
        (batch·L, width), or (batch, width) with `one`.
    """
    width = joined.shape[1] // (3 if one is None else 2)
    inputs = {"joined": joined, "one": one, "seen": seen, "rotary": rotary}
    inputs = {name: value for name, value in inputs.items() if value is not None}
    place = {name: f"in{number}" for number, name in enumerate(inputs)}
    rotate = f"rotate<w>({{}}, {place.get('rotary')}_p + {{}} * w, {place.get('rotary')}_p + (length + {{}}) * w);"
    facts = {
        "head": width // heads,
        "scale": f"{(width // heads) ** -0.5:.9e}",
        "seen": f"{place['seen']}_p[b]" if "seen" in place else "r + 1" if causal else "length",
    }
    source = _ATTENTION.format(
        **facts,
        first="width" if one is None else "0",
        query="in0_p + (b * length + r) * wide" if one is None else f"{place['one']}_p + b * width",
        rotate_key=rotate.format("key", "s", "s") if "rotary" in place else "",
        rotate_query=rotate.format("q[i]", "r", "r") if "rotary" in place else "",
    )
    header = ""
    if str(joined.dtype) == _STORED["bfloat16"] and one is None and rotary is None and facts["head"] % 32 == 0:
        header, source = amx_attention.HEADER, amx_attention.SOURCE.format(**facts) + source
    shape = (joined.shape[0] if one is None else batch, width)
    return _code(shape, str(joined.dtype), list(inputs.values()), source, header, heads=heads, batch=batch)


def patches(pixels: Any, patch: int, mean: Any, deviation: Any, out: str) -> Any:
    """Normalised patches of photos.

    Args:
        pixels: (B, n, n, 3) uint8.
        patch: Side of a patch.
        mean: Mean of the three channels in 0 to 1.
        deviation: Standard deviation of the three channels.
        out: Precision of the result.

    Returns:
        (B·(n/patch)², 3·patch²).
    """
    batch, side = pixels.shape[:2]
    lists = (", ".join(f"{value!r}f" for value in map(float, each)) for each in (mean, deviation))
    source = _PATCHES.format(**dict(zip(("mean", "deviation"), lists, strict=True)), patch=patch)
    return _code((batch * (side // patch) ** 2, 3 * patch * patch), _STORED[out], [pixels], source)
