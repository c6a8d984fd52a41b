"""Attention of bfloat16 heads on AMX, the matrix unit of Intel's processors since Sapphire Rapids: C++ for onednn_ops.

A tile is 16 rows of 64 bytes. A product takes a tile of 16 × 32 numbers from the left, and from the right one of
32 × 16 numbers in which a pair of rows lies number beside number. Queries are read where they are. Keys are transposed
pair by pair, and pairs of values interleaved, once per head. Scores and the softmax are float32; its numerators become
bfloat16 for their product with the values, and the denominators divide the result.
"""

from __future__ import annotations

HEADER = """
#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && !defined(__clang__)
#define JCLIP_AMX
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
namespace jclip {
typedef uint32_t u16_anywhere __attribute__((vector_size(64), aligned(2)));
typedef __m256bh half_anywhere __attribute__((aligned(2)));
// Linux lets a process use the tiles after it has asked (ARCH_REQ_XCOMP_PERM for XTILEDATA).
inline bool may_use_tiles() { static const bool granted = syscall(SYS_arch_prctl, 0x1023, 18) == 0; return granted; }
struct alignas(64) Shapes {
    uint8_t palette = 1, start = 0, rest[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
};
// 2^x of numbers from −126 to 0, to 1e-4 of it: bfloat16 keeps 4e-3.
inline v16 power_of_two(v16 x) {
    const i16 n = __builtin_convertvector(x - 0.5f, i16);
    const v16 r = x - __builtin_convertvector(n, v16);
    return (1.f + r * (0.69314718f + r * (0.24022651f + r * (0.0555041f + r * 0.0096181f)))) * (v16)((n + 127) << 23);
}
// A square of 16 rows: blocks of 1, 2, 4 and 8 change places.
inline void transpose(u16* rows) {
#pragma GCC unroll 4
    for (int d = 1; d < 16; d *= 2) {
        u16 low, high;
#pragma GCC unroll 16
        for (int j = 0; j < 16; j++) { low[j] = j & d ? 16 + j - d : j; high[j] = j & d ? 16 + j : j + d; }
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) if (!(i & d)) {
            const u16 a = rows[i], b = rows[i + d];
            rows[i] = __builtin_shuffle(a, b, low);
            rows[i + d] = __builtin_shuffle(a, b, high);
        }
    }
}
// 16 columns of a product of rows `from` (whose distance is in bytes) with pairs of rows `right`, which are `wide`, as
// those of the result are. The instructions contain the numbers of their tiles.
#define JCLIP_PRODUCT(name, left, sums) \\
    inline void name( \\
            const uint16_t* from, int64_t bytes, const uint32_t* right, int64_t wide, int64_t depth, float* to) { \\
        _tile_zero(sums); \\
        for (int64_t at = 0; at < depth; at += 32) { \\
            _tile_loadd(left, from + at, bytes); \\
            _tile_loadd(2, right + at / 2 * wide, wide * 4); \\
            _tile_dpbf16ps(sums, left, 2); \\
        } \\
        _tile_stored(sums, to, wide * 4); \\
    }
JCLIP_PRODUCT(product_of_16_rows, 0, 4)
JCLIP_PRODUCT(product_of_last_rows, 1, 5)
}
#endif
"""
"""What SOURCE needs, behind onednn_ops' own header."""

SOURCE = """
#ifdef JCLIP_AMX
if (may_use_tiles()) {{
    constexpr int w = {head};
    const int64_t heads = data["heads"], batch = data["batch"], length = in0_shape0 / batch;
    const int64_t wide = in0_shape1, width = out0_shape1, keys = (length + 31) / 32 * 32;
    const i16 lane = {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};
    const v16 none = v16{{}} - 1e30f;
    const float scale = {scale}f * 1.44269504f;
    #pragma omp parallel
    {{
        Shapes shapes;
        for (int t = 0; t < 6; t++) {{ shapes.bytes[t] = 64; shapes.rows[t] = 16; }}
        if (length % 16) shapes.rows[1] = shapes.rows[5] = length % 16;  // `product_of_last_rows`
        _tile_loadconfig(&shapes);
        #pragma omp for collapse(2)
        for (int64_t b = 0; b < batch; b++) for (int64_t h = 0; h < heads; h++) {{
            alignas(64) uint32_t kt[w / 2 * keys], v[keys / 2 * w];
            alignas(64) float score[16 * keys], mixed[16 * w];
            alignas(64) uint16_t share[16 * keys];  // of a query's attention, times `total`
            const uint16_t* own = in0_p + b * length * wide + h * w;
            for (int64_t s = 0; s < keys; s += 16) for (int64_t c = 0; c < w; c += 32) {{
                u16 block[16];
                #pragma GCC unroll 16
                for (int i = 0; i < 16; i++)
                    block[i] = s + i < length ? *(const u16_anywhere*)(own + (s + i) * wide + width + c) : u16{{}};
                transpose(block);
                #pragma GCC unroll 16
                for (int i = 0; i < 16; i++) *(u16*)(kt + (c / 2 + i) * keys + s) = block[i];
            }}
            for (int64_t s = 0; s < keys; s += 2) {{
                const uint16_t *first = own + s * wide + 2 * width, *second = first + wide;
                uint32_t* to = v + s / 2 * w;
                if (s + 1 < length) for (int64_t c = 0; c < w; c++) to[c] = first[c] | (uint32_t)second[c] << 16;
                else for (int64_t c = 0; c < w; c++) to[c] = s < length ? first[c] : 0;
            }}
            for (int64_t start = 0; start < length; start += 16) {{
                const int64_t rows = std::min<int64_t>(16, length - start);
                const auto product = [rows](auto... given) {{
                    rows < 16 ? product_of_last_rows(given...) : product_of_16_rows(given...);
                }};
                for (int64_t at = 0; at < keys; at += 16)
                    product(own + start * wide, wide * 2, kt + at, keys, w, score + at);
                float total[16];
                for (int64_t i = 0; i < rows; i++) {{
                    const int64_t r = start + i;
                    const int seen = {seen};
                    const float* from = score + i * keys;
                    v16 most = none;
                    for (int s = 0; s < keys; s += 16) {{
                        const v16 x = lane + s < seen ? *(const v16*)(from + s) : none;
                        most = most > x ? most : x;
                    }}
                    const float top = _mm512_reduce_max_ps((__m512)most);
                    v16 sum = {{}};
                    for (int s = 0; s < keys; s += 32) {{
                        v16 x[2];
                        for (int j = 0; j < 2; j++) {{
                            x[j] = (*(const v16*)(from + s + 16 * j) - top) * scale;
                            const v16 least = x[j] - x[j] - 100.f;
                            x[j] = power_of_two(x[j] > least ? x[j] : least);
                            x[j] = lane + s + 16 * j < seen ? x[j] : v16{{}};
                            sum += x[j];
                        }}
                        *(__m512bh*)(share + i * keys + s) = _mm512_cvtne2ps_pbh((__m512)x[1], (__m512)x[0]);
                    }}
                    total[i] = _mm512_reduce_add_ps((__m512)sum);
                }}
                for (int64_t c = 0; c < w; c += 16) product(share, keys * 2, v + c, w, keys, mixed + c);
                for (int64_t i = 0; i < rows; i++) for (int64_t c = 0; c < w; c += 16)
                    *(half_anywhere*)(out0_p + (b * length + start + i) * width + h * w + c) =
                        _mm512_cvtneps_pbh((__m512)(*(const v16*)(mixed + i * w + c) / total[i]));
            }}
        }}
        _tile_release();
    }}
    return;
}}
#endif
"""
"""Attention as onednn_ops' own, of whole rows of queries, keys and values; it returns from the kernel.

`head`, a multiple of 32, `scale` and `seen` are to be filled in.
"""
