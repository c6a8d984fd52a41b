"""Convolutions on the CPU by oneDNN, channels last.

Bias, the residual and the activation are fused, and weights are packed once into oneDNN's blocked layout.
"""

from __future__ import annotations

from typing import Any

from jclip_adapter.runtime import jt

from .layers import Convolution

_ACTIVATIONS = {"": 0, "relu": 1, "relu6": 2}  # as `plan` numbers them

_HEADER = """
#include <dnnl.hpp>
#include <cstring>
#include <stdexcept>
namespace jclip_convolution {
using dnnl::memory;
inline dnnl::engine& engine() { static dnnl::engine e(dnnl::engine::kind::cpu, 0); return e; }
inline dnnl::stream& stream() { static dnnl::stream s(engine()); return s; }
struct Sizes {
    int64_t height, width, in, out, tall, wide, stride, groups;
    int64_t rows, columns, top, left, bottom, right, activation, residual, batch;
};
inline memory::dims weight_dims(const Sizes& s) {
    if (s.groups == 1) return {s.out, s.in, s.tall, s.wide};
    return {s.groups, s.out / s.groups, s.in / s.groups, s.tall, s.wide};
}
inline dnnl::convolution_forward::primitive_desc plan(int64_t photos, const Sizes& s, const memory::desc& packed) {
    const auto f32 = memory::data_type::f32;
    dnnl::primitive_attr attributes;
    dnnl::post_ops after;
    if (s.residual) after.append_sum(1.f);
    if (s.activation == 1) after.append_eltwise(1.f, dnnl::algorithm::eltwise_relu, 0.f, 0.f);
    if (s.activation == 2) after.append_eltwise(1.f, dnnl::algorithm::eltwise_clip, 0.f, 6.f);
    attributes.set_post_ops(after);
    dnnl::convolution_forward::desc what(dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
        {{photos, s.in, s.height, s.width}, f32, memory::format_tag::nhwc}, packed,
        {{s.out}, f32, memory::format_tag::x},
        {{photos, s.out, s.rows, s.columns}, f32, memory::format_tag::nhwc},
        {s.stride, s.stride}, {s.top, s.left}, {s.bottom, s.right});
    return dnnl::convolution_forward::primitive_desc(what, attributes, engine());
}
inline memory::desc packing(const Sizes& s) {
    Sizes plain = s;
    plain.activation = plain.residual = 0;
    return plan(s.batch, plain, {weight_dims(s), memory::data_type::f32, memory::format_tag::any}).weights_desc();
}
}
using namespace jclip_convolution;
"""

_FACTS = (
    *("height", "width", "in", "out", "tall", "wide", "stride", "groups"),
    *("rows", "columns", "top", "left", "bottom", "right", "activation", "residual", "batch"),
)  # in the order of `Sizes`
_FIELDS = ", ".join(f'(int64_t)data["{name}"]' for name in _FACTS)
_SIZES = f"Sizes s{{{_FIELDS}}};\nmemory::desc order = packing(s);"

_PACK = (
    _SIZES
    + """
if (order.get_size() > (size_t)out0_shape0)
    throw std::runtime_error("oneDNN packs weights into more bytes than expected");
const auto tag = s.groups == 1 ? memory::format_tag::oihw : memory::format_tag::goihw;
memory from({weight_dims(s), memory::data_type::f32, tag}, engine(), (void*)in0_p);
memory to(order, engine(), (void*)out0_p);
dnnl::reorder(from, to).execute(stream(), from, to);
stream().wait();
"""
)

_CONVOLVE = (
    _SIZES
    + """
memory w(order, engine(), (void*)in1_p);
// For another batch oneDNN may have no fast convolution with this packing.
auto plan_ = plan(in0_shape0, s, {weight_dims(s), memory::data_type::f32, memory::format_tag::any});
if (plan_.weights_desc() != order) {
    memory other(plan_.weights_desc(), engine());
    dnnl::reorder(w, other).execute(stream(), w, other);
    w = other;
}
memory x(plan_.src_desc(), engine(), (void*)in0_p);
memory b(plan_.bias_desc(), engine(), (void*)in2_p), z(plan_.dst_desc(), engine(), (void*)out0_p);
COPY
dnnl::convolution_forward(plan_).execute(stream(),
    {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_BIAS, b}, {DNNL_ARG_DST, z}});
stream().wait();
"""
)
_COPY = "std::memcpy(out0_p, in3_p, plan_.dst_desc().get_size());"


def _facts(layer: Convolution, activation: int = 0, residual: bool = False) -> dict[str, float]:
    sizes = (*layer.size, layer.channels, layer.filters, *layer.kernel, layer.stride, layer.groups)
    values = (*sizes, *layer.made, *layer.before, *layer.after, activation, residual, layer.batch)
    return {name: float(value) for name, value in zip(_FACTS, values, strict=True)}


def pack(weight: Any, layer: Convolution) -> Any:
    """Weights (k, c/groups, s, t) float32, packed for `convolve`, as bytes."""
    k, c = (side + 64 for side in weight.shape[:2])  # blocks are of at most 64
    size = 4 * k * c * layer.kernel[0] * layer.kernel[1]
    return jt.code((size,), "uint8", [weight], cpu_header=_HEADER, cpu_src=_PACK, data=_facts(layer))


def convolve(x: Any, packed: Any, bias: Any, layer: Convolution, *, activation: str = "", residual: Any = None) -> Any:
    """A convolution with bias, a residual and an activation.

    Args:
        x: (B, h, w, c) float32.
        packed: By `pack`.
        bias: (k,) float32.
        layer: The sizes.
        activation: "relu", "relu6", or empty for none.
        residual: (B, m, n, k) added before the activation; None for none.

    Returns:
        (B, m, n, k) float32.
    """
    source = _CONVOLVE.replace("COPY", _COPY if residual is not None else "")
    inputs = [x, packed, bias, *([residual] if residual is not None else [])]
    shape = (x.shape[0], *layer.made, layer.filters)
    facts = _facts(layer, _ACTIVATIONS[activation], residual is not None)
    return jt.code(shape, "float32", inputs, cpu_header=_HEADER, cpu_src=source, data=facts)
