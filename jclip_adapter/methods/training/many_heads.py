"""Many linear heads trained at once on the CPU, for benchmarks that train thousands of them.

A head of 27 classes and 1,024 channels with its two moments fits a core's cache, while those of a hundred do not. So a
thread takes one head through all steps of a block before the next one: the time is that of arithmetic, not of memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array
from jclip_adapter.runtime import jt

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # of AdamW
_LANES = 16  # the kernel's vectors

# x·Wᵀ, softmax and its gradient for the rows of a batch, then AdamW on each class's weights.
_STEPS = """
typedef float v16 __attribute__((vector_size(64), aligned(4)));
const int64_t heads = in0_shape0, classes = in0_shape1, width = in0_shape2, steps = in5_shape1;
const float scale = data["scale"];
#pragma omp parallel for schedule(dynamic)
for (int64_t n = 0; n < heads; n++) {{
    const int64_t size = classes * width;
    float* weight = out0_p + n * size;
    float* mean = out1_p + n * size;
    float* square = out2_p + n * size;
    std::memcpy(weight, in0_p + n * size, size * sizeof(float));
    std::memcpy(mean, in1_p + n * size, size * sizeof(float));
    std::memcpy(square, in2_p + n * size, size * sizeof(float));
    std::vector<float> share(classes * {batch});
    for (int64_t s = 0; s < steps; s++) {{
        const float* x[{batch}];
        for (int64_t b = 0; b < {batch}; b++) x[b] = in3_p + in5_p[(n * steps + s) * {batch} + b] * width;
        for (int64_t c = 0; c < classes; c++) {{
            v16 sum[{batch}] = {{}};
            for (int64_t j = 0; j < width; j += 16) {{
                const v16 w = *(const v16*)(weight + c * width + j);
                for (int64_t b = 0; b < {batch}; b++) sum[b] += w * *(const v16*)(x[b] + j);
            }}
            for (int64_t b = 0; b < {batch}; b++) {{
                float total = 0;
                for (int64_t i = 0; i < 16; i++) total += sum[b][i];
                share[c * {batch} + b] = scale * total;
            }}
        }}
        double loss = 0;
        for (int64_t b = 0; b < {batch}; b++) {{
            const int64_t label = in4_p[in5_p[(n * steps + s) * {batch} + b]];
            float most = share[b];
            double total = 0;
            for (int64_t c = 1; c < classes; c++) most = std::max(most, share[c * {batch} + b]);
            const float own = share[label * {batch} + b];
            for (int64_t c = 0; c < classes; c++)
                total += share[c * {batch} + b] = std::exp(share[c * {batch} + b] - most);
            loss += std::log(total) + most - own;
            for (int64_t c = 0; c < classes; c++)
                share[c * {batch} + b] = (share[c * {batch} + b] / total - (c == label)) * scale / {batch};
        }}
        out3_p[n * steps + s] = loss / {batch};
        const double number = data["done"] + s + 1;
        const float rate = in6_p[n * steps + s], kept = 1 - rate * in7_p[n];
        const float step = rate / (1 - std::pow({beta1}, number));
        const float factor = 1 / std::sqrt(1 - std::pow({beta2}, number));
        for (int64_t c = 0; c < classes; c++) {{
            const float* q = share.data() + c * {batch};
            float *w = weight + c * width, *m = mean + c * width, *v = square + c * width;
            #pragma GCC ivdep
            for (int64_t j = 0; j < width; j++) {{
                const float g = {gradient};
                m[j] = {beta1}f * m[j] + (float)(1 - {beta1}) * g;
                v[j] = {beta2}f * v[j] + (float)(1 - {beta2}) * g * g;
                w[j] = kept * w[j] - step * m[j] / (std::sqrt(v[j]) * factor + {epsilon}f);
            }}
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Curves:
    """Outcomes of N heads.

    Attributes:
        iteration: (N,) the iteration with the best validation accuracy, the first of equals.
        val: (N,) its validation accuracy.
        test: (N,) its test accuracy.
        weights: (N, C, d) after the last step.
        losses: (N, T) of each step.
    """

    iteration: npt.NDArray[np.int64]
    val: npt.NDArray[np.float64]
    test: npt.NDArray[np.float64]
    weights: Array
    losses: Array


class ManyHeads:
    """N linear heads W (C, d) without bias under AdamW, each with its own batches, rates and weight decay.

    The loss is the mean cross-entropy of scale·x·Wᵀ; beta1 0.9, beta2 0.999, epsilon 1e-8, as in PyTorch.

    Args:
        weights: (N, C, d) initial weights.
        rows: (R, d) training rows of all heads together.
        labels: (R,) class indices.
        decays: (N,) weight decay.
        scale: Logit scale.
    """

    def __init__(
        self, weights: Array, rows: Array, labels: npt.NDArray[np.integer[Any]], decays: npt.ArrayLike, scale: float
    ) -> None:
        self.width = weights.shape[2]
        # Channels of zeros keep weights, moments and gradients of zero.
        wide = ((0, 0), (0, 0), (0, -self.width % _LANES))
        self._state = [np.pad(np.asarray(weights, np.float32), wide)]
        self._state += [np.zeros_like(self._state[0]) for _ in range(2)]
        self._rows = np.pad(np.asarray(rows, np.float32), wide[1:])
        self._labels = np.asarray(labels, np.int32)
        self._decays = np.asarray(decays, np.float32)
        self._scale, self._done = scale, 0

    @property
    def weights(self) -> Array:
        """(N, C, d) the current weights."""
        return self._state[0][:, :, : self.width]

    def step(self, orders: npt.NDArray[np.integer[Any]], rates: npt.ArrayLike) -> Array:
        """Take k steps.

        Args:
            orders: (N, k, B) row numbers of each batch.
            rates: (N, k) learning rates.

        Returns:
            (N, k) losses before each step.
        """
        count, steps, batch = orders.shape
        source = _STEPS.format(
            batch=batch,
            gradient=" + ".join(f"q[{row}] * x[{row}][j]" for row in range(batch)),
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            epsilon=_EPSILON,
        )
        inputs = [*self._state, self._rows, self._labels, np.asarray(orders, np.int32)]
        inputs += [np.asarray(rates, np.float32), self._decays]
        with jt.flag_scope(use_cuda=0), jt.no_grad():
            found = jt.code(
                [*(value.shape for value in self._state), (count, steps)],
                ["float32"] * 4,
                [jt.array(value) for value in inputs],
                cpu_header="#include <cmath>\n#include <cstring>\n#include <vector>",
                cpu_src=source,
                data={"scale": float(self._scale), "done": float(self._done)},
            )
            *self._state, losses = (np.asarray(value.numpy()) for value in found)
        self._done += steps
        return losses

    def predictions(self, features: Array, heads: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        """Predicted classes of some heads.

        Args:
            features: (M, d).
            heads: (n,) numbers of the heads.

        Returns:
            (n, M).
        """
        chosen = self.weights[heads]
        scores = features @ chosen.reshape((-1, self.width)).T
        return scores.reshape((len(features), len(heads), -1)).argmax(axis=2).T


def seeded_order(rows: int, size: int, steps: int, seed: int, stream: int) -> npt.NDArray[np.int64]:
    """Batches of row numbers that depend on nothing but the arguments (golden: imagenet_esc's recipe).

    Args:
        rows: Number of rows.
        size: Rows per batch, at most all of them.
        steps: Number of batches.
        seed: Seed of the shuffling.
        stream: Number of the set of rows, so that several sets are shuffled on their own.

    Returns:
        (steps, size); every pass shuffles anew and drops a smaller last batch.

    >>> sorted(seeded_order(5, 2, 2, 0, 1).ravel().tolist())[-1] < 5
    True
    """
    per_pass = rows // size
    passes = [
        np.random.default_rng([seed, stream, number]).permutation(rows)[: per_pass * size]
        for number in range(-(-steps // per_pass))
    ]
    return np.concatenate(passes).reshape((-1, size))[:steps]


def train_heads(
    heads: ManyHeads,
    orders: npt.NDArray[np.integer[Any]],
    rates: Array,
    val: tuple[Array, npt.NDArray[np.integer[Any]]],
    test: tuple[Array, npt.NDArray[np.integer[Any]]],
    every: int = 100,
) -> Curves:
    """Train heads and take each at the iteration with the best validation accuracy, as cross-modal adaptation does.

    Accuracies are taken behind iterations 0, `every`, 2·`every` and so on; the test accuracy only where the validation
    accuracy is better than before.

    Args:
        heads: The heads.
        orders: (N, T, B) row numbers of each batch.
        rates: (N, T) learning rates.
        val: (V, d) L2-normalised features and (V,) class indices.
        test: (M, d) L2-normalised features and (M,) class indices.
        every: Iterations from one evaluation to the next.

    Returns:
        The outcomes.
    """
    count, steps = orders.shape[:2]
    everyone = np.arange(count)
    (val_x, val_y), (test_x, test_y) = val, test
    best = np.full(count, -1.0)
    iteration, accuracy = np.zeros(count, np.int64), np.zeros(count)
    losses, start = [], 0
    for end in [*range(1, steps + 1, every), steps]:
        if end > start:
            losses.append(heads.step(orders[:, start:end], rates[:, start:end]))
        if end % every == 1 or every == 1:
            found = (heads.predictions(val_x, everyone) == val_y).mean(axis=1)
            better = np.flatnonzero(found > best)
            best[better], iteration[better] = found[better], end - 1
            if len(better):
                accuracy[better] = (heads.predictions(test_x, better) == test_y).mean(axis=1)
        start = end
    return Curves(iteration, best, accuracy, heads.weights, np.concatenate(losses, axis=1))
