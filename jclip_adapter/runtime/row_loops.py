"""Loops over the rows of large matrices in C++: one pass where numpy needs several, and threads run side by side.

To classify a stored feature of 512 numbers takes a core 3 µs for the product with 374 classes. Normalisation and the
best five take numpy another 2.2 µs, and 0.6 µs here. Where there is no C++ compiler, numpy computes them.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import planning, shared_library

_Normalised = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]
_ONE_AT_A_TIME = threading.Lock()
MOST = 16
"""Most classes per photo that `Loops.best` finds."""
# Pragmas, not -ffast-math: that would change how the process treats NaN and numbers below the normal ones.
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math")
_SOURCE = (
    f"constexpr long MOST = {MOST};\n"
    + r"""
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr long LANES = 32, STEP = 16, AHEAD = 8;
constexpr float TINY = 0x1p-126f;  // the smallest normal number

float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float widened(float value) { return value; }

// IEEE half: 5 bits of exponent, biased by 15 (a float's by 127), and 10 of mantissa. The smallest are multiples of
// 2^-24; they are made from an integer, as Jittor lets the processor take floats below the normal ones for zero.
float widened(uint16_t half) {
    const uint32_t size = half & 0x7fff, bias = size < 0x7c00 ? 112 : 224;  // 0x7c00: infinity, then NaN
    const uint32_t bits = size < 0x400 ? bits_of(float(size) * 0x1p-24f) : (size << 13) + (bias << 23);
    return float_of(bits | uint32_t(half & 0x8000) << 16);
}

template <class T> void normalise(const char *from, long rows, long width, float *to, bool *finite) {
    const long bytes = width * long(sizeof(T));
    for (long row = 0; row < rows; row++, from += bytes, to += width) {
        for (long at = 0; at < bytes; at += 64) __builtin_prefetch(from + AHEAD * bytes + at);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (long k = 0; k < width; k++) {
            T value;
            memcpy(&value, from + k * long(sizeof(T)), sizeof value);  // rows may lie at any address
            to[k] = widened(value);
            sum += to[k] * to[k];
        }
        finite[row] = std::isfinite(sum);
        const float norm = std::sqrt(sum), scale = 1 / (norm < TINY ? TINY : norm);
        for (long k = 0; k < width; k++) to[k] *= scale;
    }
}

// e^x of x <= 0, to 2 units of a float's last place: 2^n times the Taylor polynomial of the rest, at most ln(2)/2.
float exponential(float x) {
    const float least = -87, held = x < least ? least : x;
    const float n = std::floor(held * 1.44269504f + 0.5f);
    const float r = held - n * 0.693359375f + n * 2.12194440e-4f;  // ln 2 in two parts, of which n times one is exact
    const float e = 1 + r * (1 + r * (1 / 2.f + r * (1 / 6.f + r * (1 / 24.f + r * (1 / 120.f + r * (1 / 720.f))))));
    return e * float_of(uint32_t(int32_t(n) + 127) << 23);
}

// A number that at least k of the scores reach, and few more: the k-th largest of the maxima of LANES groups.
float bound(const float *scores, long classes, long k) {
    float lanes[LANES];
    for (long j = 0; j < LANES; j++) lanes[j] = -INFINITY;
    long c = 0;
    for (long first = 0; c + STEP <= classes; c += STEP, first = (first + STEP) % LANES)
#pragma omp simd
        for (long j = 0; j < STEP; j++) {
            const float score = scores[c + j];
            lanes[first + j] = score > lanes[first + j] ? score : lanes[first + j];
        }
    for (long j = 0; c < classes; j++, c++) lanes[j] = scores[c] > lanes[j] ? scores[c] : lanes[j];
    float high = -INFINITY;
    for (long rank = 0; rank < k; rank++) {
        for (long j = 0; j < LANES; j++) lanes[j] = rank && lanes[j] == high ? -INFINITY : lanes[j];
        high = -INFINITY;
#pragma omp simd reduction(max : high)
        for (long j = 0; j < LANES; j++) high = lanes[j] > high ? lanes[j] : high;
    }
    return high;
}

}  // namespace

extern "C" void normalise_half(const char *from, long rows, long width, float *to, bool *finite) {
    normalise<uint16_t>(from, rows, width, to, finite);
}

extern "C" void normalise_single(const char *from, long rows, long width, float *to, bool *finite) {
    normalise<float>(from, rows, width, to, finite);
}

extern "C" void best(
        const float *scores, long rows, long classes, long k, float inverse, int64_t *ids, float *shares) {
    const long eights = (classes + 7) / 8;
    std::vector<int64_t> held(8 * eights), hit(eights);
    std::vector<uint8_t> reaches(8 * eights);
    for (long row = 0; row < rows; row++, scores += classes, ids += k, shares += k) {
        const float least = bound(scores, classes, k);
        // The classes that reach it, in the eights that have one; both are written without a branch, as the processor
        // could not foresee it.
        for (long c = 0; c < classes; c++) reaches[c] = scores[c] >= least;
        long hits = 0, count = 0;
        for (long eight = 0; eight < eights; eight++) {
            uint64_t any;
            memcpy(&any, reaches.data() + 8 * eight, sizeof any);
            hit[hits] = eight;
            hits += any != 0;
        }
        for (long i = 0; i < hits; i++)
            for (long c = 8 * hit[i]; c < 8 * hit[i] + 8; c++) {
                held[count] = c;
                count += reaches[c];
            }
        float values[MOST];
        long found = 0;
        for (long i = 0; i < count; i++) {
            const float score = scores[held[i]];
            if (found == k && score <= values[k - 1]) continue;
            long place = found < k ? found++ : k - 1;
            for (; place && values[place - 1] < score; place--) {
                values[place] = values[place - 1];
                ids[place] = ids[place - 1];
            }
            values[place] = score;
            ids[place] = held[i];
        }
        const float top = values[0];
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (long j = 0; j < classes; j++) sum += exponential((scores[j] - top) * inverse);
        for (long j = 0; j < k; j++) shares[j] = exponential((values[j] - top) * inverse) / sum;
    }
}
"""
)


@dataclass(frozen=True)
class Loops:
    """The compiled loops.

    Attributes:
        library: With `normalise_half`, `normalise_single` and `best`.
    """

    library: Any

    def normalised(self, rows: npt.NDArray[Any]) -> _Normalised:
        """As `row_loops.normalised`."""
        rows = np.ascontiguousarray(rows)
        found, finite = np.empty(rows.shape, np.float32), np.empty(len(rows), np.bool_)
        function = {2: self.library.normalise_half, 4: self.library.normalise_single}[rows.itemsize]
        function(rows.ctypes.data, *rows.shape, found.ctypes.data, finite.ctypes.data)
        return found, finite

    def best(
        self, logits: npt.NDArray[np.float32], k: int, temperature: float
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The best classes of each row, and their probabilities.

        Args:
            logits: (M, C), finite.
            k: From 1 to the lesser of C and `MOST`.
            temperature: The logits are divided by it before the softmax over all classes.

        Returns:
            (M, k) class indices, best first, ties by lower index, and (M, k) probabilities to six digits.
        """
        logits = np.ascontiguousarray(logits)
        best, shares = np.empty((len(logits), k), np.int64), np.empty((len(logits), k), np.float32)
        self.library.best(logits.ctypes.data, *logits.shape, k, 1 / temperature, best.ctypes.data, shares.ctypes.data)
        return best, shares


def normalised(rows: npt.NDArray[Any]) -> _Normalised:
    """L2-normalise rows, as `core.task.normalise`, and tell which could be.

    Args:
        rows: (M, d) float16 or float32, at any address.

    Returns:
        (M, d), rows of zeros stay zeros; and (M,) whether the sum of a row's squares is finite.
    """
    compiled = loops()
    if compiled is not None:
        return compiled.normalised(rows)
    found = rows.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.square(found).sum(axis=1)
        found /= np.maximum(np.sqrt(squares), np.finfo(np.float32).tiny)[:, None]
    return found, np.isfinite(squares)


def loops() -> Loops | None:
    """The loops, compiled on a machine's first use in half a second; None without a C++ compiler."""
    with _ONE_AT_A_TIME:
        return _loaded()


@functools.cache
def _loaded() -> Loops | None:
    folder, compiler = planning.cache_folder(), planning.compiler_path()
    without = "stored features are classified at two thirds of the speed"
    library = shared_library.load("row_loops", _SOURCE, folder, compiler, _FLAGS, without)
    if library is None:
        return None
    place, number = ctypes.c_void_p, ctypes.c_long
    for name in ("normalise_half", "normalise_single"):
        getattr(library, name).argtypes = [place, number, number, place, place]
        getattr(library, name).restype = None
    library.best.argtypes = [place, number, number, number, ctypes.c_float, place, place]
    library.best.restype = None
    return Loops(library)
