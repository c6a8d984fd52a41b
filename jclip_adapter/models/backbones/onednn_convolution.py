"""Convolutions on the CPU by oneDNN, channels last.

Bias, ReLU6 and the residual are fused, and weights are packed once into oneDNN's blocked layout.
"""

from __future__ import annotations

from typing import Any

from jclip_adapter.runtime import jt

from .layers import Convolution

_PHOTOS = 32  # the batch for which oneDNN chooses the packing

_HEADER = """
#include <dnnl.hpp>
#include <cstring>
#include <stdexcept>
namespace jclip_convolution {
using dnnl::memory;
inline dnnl::engine& engine() { static dnnl::engine e(dnnl::engine::kind::cpu, 0); return e; }
inline dnnl::stream& stream() { static dnnl::stream s(engine()); return s; }
struct Sizes { int64_t side, in, out, kernel, stride, groups, made, before, after; bool relu6, residual; };
inline memory::dims weight_dims(const Sizes& s) {
    if (s.groups == 1) return {s.out, s.in, s.kernel, s.kernel};
    return {s.groups, s.out / s.groups, s.in / s.groups, s.kernel, s.kernel};
}
inline dnnl::convolution_forward::primitive_desc plan(int64_t photos, const Sizes& s, const memory::desc& packed) {
    const auto f32 = memory::data_type::f32;
    dnnl::primitive_attr attributes;
    dnnl::post_ops after;
    if (s.residual) after.append_sum(1.f);
    if (s.relu6) after.append_eltwise(1.f, dnnl::algorithm::eltwise_clip, 0.f, 6.f);
    attributes.set_post_ops(after);
    dnnl::convolution_forward::desc what(dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
        {{photos, s.in, s.side, s.side}, f32, memory::format_tag::nhwc}, packed, {{s.out}, f32, memory::format_tag::x},
        {{photos, s.out, s.made, s.made}, f32, memory::format_tag::nhwc},
        {s.stride, s.stride}, {s.before, s.before}, {s.after, s.after});
    return dnnl::convolution_forward::primitive_desc(what, attributes, engine());
}
inline memory::desc packing(const Sizes& s) {
    Sizes plain = s;
    plain.relu6 = plain.residual = false;
    return plan(PHOTOS, plain, {weight_dims(s), memory::data_type::f32, memory::format_tag::any}).weights_desc();
}
}
using namespace jclip_convolution;
""".replace("PHOTOS", str(_PHOTOS))

_SIZES = """
Sizes s{(int64_t)data["side"], (int64_t)data["ins"], (int64_t)data["outs"], (int64_t)data["kernel"],
    (int64_t)data["stride"], (int64_t)data["groups"], (int64_t)data["made"], (int64_t)data["before"],
    (int64_t)data["after"], data["relu6"] != 0, data["residual"] != 0};
memory::desc order = packing(s);
"""

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
auto plan_ = plan(in0_shape0, s, order);
memory x(plan_.src_desc(), engine(), (void*)in0_p), w(order, engine(), (void*)in1_p);
memory b(plan_.bias_desc(), engine(), (void*)in2_p), z(plan_.dst_desc(), engine(), (void*)out0_p);
COPY
dnnl::convolution_forward(plan_).execute(stream(),
    {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_BIAS, b}, {DNNL_ARG_DST, z}});
stream().wait();
"""
)
_COPY = "std::memcpy(out0_p, in3_p, plan_.dst_desc().get_size());"


def _facts(layer: Convolution, **more: bool) -> dict[str, float]:
    before, after = layer.padding
    sizes = {"side": layer.side, "ins": layer.channels, "outs": layer.filters, "kernel": layer.kernel}
    sizes |= {"stride": layer.stride, "groups": layer.groups, "made": layer.made, "before": before, "after": after}
    return {name: float(value) for name, value in {**sizes, "relu6": False, "residual": False, **more}.items()}


def pack(weight: Any, layer: Convolution) -> Any:
    """Weights (k, c/groups, s, s) float32, packed for `convolve`, as bytes."""
    k, c = (side + 64 for side in weight.shape[:2])  # blocks are of at most 64
    size = 4 * k * c * layer.kernel**2
    return jt.code((size,), "uint8", [weight], cpu_header=_HEADER, cpu_src=_PACK, data=_facts(layer))


def convolve(x: Any, packed: Any, bias: Any, layer: Convolution, *, relu6: bool, residual: Any = None) -> Any:
    """A convolution with bias, and ReLU6 or a residual.

    Args:
        x: (B, n, n, c) float32.
        packed: By `pack`.
        bias: (k,) float32.
        layer: The sizes.
        relu6: Whether ReLU6 follows.
        residual: (B, m, m, k) to be added; None for none.

    Returns:
        (B, m, m, k) float32.
    """
    source = _CONVOLVE.replace("COPY", _COPY if residual is not None else "")
    inputs = [x, packed, bias, *([residual] if residual is not None else [])]
    shape = (x.shape[0], layer.made, layer.made, layer.filters)
    facts = _facts(layer, relu6=relu6, residual=residual is not None)
    return jt.code(shape, "float32", inputs, cpu_header=_HEADER, cpu_src=source, data=facts)
