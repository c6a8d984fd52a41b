"""LP++: a linear probe with a learnt weight of the text per class."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.task import Array, FewShotTask, Queries, class_means

from .base import Hyperparameters, Meta, hyper
from .training.seen_classes import SeenClassMethod

if TYPE_CHECKING:
    from .training.loop import History

ALPHA_EVERY = 10  # steps of W and b per step of α, as in the authors' code


@dataclass
class Probe:
    """The learnt parameters of LP++.

    Attributes:
        weight: (C, d).
        bias: (C,).
        alpha: (C,) weight of each class's text.
    """

    weight: Array
    bias: Array
    alpha: Array


def step_sizes(features: npt.NDArray[Any], cosines: npt.NDArray[Any]) -> tuple[float, float]:
    """Learning rates from the loss's Lipschitz bounds: 4N/λ_max(FᵀF) for the weights, N/(4·max_c Σ_i cos²) for α.

    Args:
        features: (N, d).
        cosines: (N, C) of the features with the class texts.
    """
    rows = len(features)
    wide = features.astype(np.float64)
    largest = float(np.linalg.eigvalsh(wide.T @ wide if wide.shape[1] <= rows else wide @ wide.T)[-1])
    steepest = float((cosines.astype(np.float64) ** 2).sum(axis=0).max())
    tiny = float(np.finfo(np.float32).tiny)
    return 4 * rows / max(largest, tiny), rows / (4 * max(steepest, tiny))


def initial_alpha(cosines: npt.NDArray[Any], labels: npt.NDArray[np.int64], factor: float = 250.0) -> float:
    """`factor`·mean over classes of the mean cosine of the class's shots with its text; every class has shots."""
    own = cosines[np.arange(len(labels)), labels].astype(np.float64)
    return factor * float(class_means(own[:, None], labels, cosines.shape[1]).mean())


def train(
    probe: Probe,
    features: Array,
    cosines: Array,
    labels: npt.NDArray[np.int64],
    rates: tuple[float, float],
    *,
    steps: int,
    momentum: float = 0.9,
    accumulate: bool = True,
) -> tuple[Probe, History]:
    """Block-coordinate descent on the cross-entropy of F·Wᵀ + b + α∘cosines, in Jittor.

    Args:
        probe: Initial values; left unchanged.
        features: (N, d).
        cosines: (N, C) of the features with the class texts.
        labels: (N,) class indices.
        rates: Learning rates of (W, b) and of α.
        steps: Full-batch steps of (W, b).
        momentum: Of the steps of (W, b).
        accumulate: Whether α's gradient is accumulated over all steps, as in the authors' code.

    Returns:
        The probe after the last step and the history.
    """
    from jclip_adapter.runtime import jt

    from .training.loop import Batches, Step
    from .training.loop import train as run
    from .training.optimizers import SGD

    weight, bias, alpha = params = [jt.array(part) for part in (probe.weight, probe.bias, probe.alpha)]
    rows, near, target = (jt.array(part) for part in (features, cosines, labels.astype(np.int32)))

    class BlockCoordinateDescent(SGD):
        """SGD for W and b; α takes a step every ALPHA_EVERY steps."""

        def _updated(self, index: int, value: Any, gradient: Any, lr: float) -> Any:
            if value is not alpha:
                return super()._updated(index, value, gradient, lr)
            total = self.buffers[0][index]
            total.update(total + gradient if accumulate else gradient)
            return value if self.steps % ALPHA_EVERY else value - rates[1] * total

    def step(_: None) -> Step:
        return Step(jt.nn.cross_entropy_loss(jt.nn.matmul_transpose(rows, weight) + bias + alpha * near, target))

    history = run(step, BlockCoordinateDescent(params, rates[0], momentum), Batches(itertools.repeat(None), steps))
    return Probe(*(np.asarray(part.numpy(), dtype=np.float32) for part in params)), history


class LpPlusPlus(SeenClassMethod):
    """Huang et al., "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP", CVPR 2024.

    A linear probe in which the text is a part of each class's weight, with a learnt coefficient: logits = Q·Wᵀ + b +
    α_c·(Q·Tᵀ)_c, where cosines are not multiplied by s. It is initialised near its solution and optimised by block
    coordinate descent with step sizes computed from the data (`step_sizes`). W starts at the class sums of the
    features, and α at 250 times the mean cosine of photos with their text. W and b take full-batch steps with momentum;
    α takes one step after every ten of them.

    The authors' code differs from the paper in three places that its results depend on, and is followed here: W starts
    at class sums instead of means (`init="mean"` gives means); the step size of W is twice 1/L of the softmax's bound,
    with momentum; α's gradient is never reset, so that each step uses the sum of all gradients since the first
    (`accumulate=False` gives the plain gradient). The authors keep the best of 300 epochs on a validation set of K
    photos per class. Here the last epoch is kept, and the number of epochs was chosen on held-out shots
    (results/defaults.csv). `alpha_factor` is chosen on the shots; larger values give the text more weight.

    A class without shots keeps its zero-shot score, rescaled to the scores of the others (`training.seen_classes`).

    Learnt arrays: `weight_` (S, d), `bias_` (S,) and `alpha_` (S,) of the classes with shots, `seen_` (S,) their
    indices, `text_` (C, d), `scale_` ().

    See Also:
        LinearProbe: without the text. Clap: another classifier that starts from the text. Gda: a closed form.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(2), [1, 0], [[1.0, 0.0], [1.0, 0.0]], ("cat", "dog"))
    >>> LpPlusPlus(epochs=3).fit(task).logits(np.eye(2)).argmax(axis=1).tolist()
    [1, 0]
    """

    meta = Meta(
        name="lp-plus-plus",
        summary="a linear probe that blends the text in with a learnt weight per class",
        paper="Huang et al., LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP",
        year=2024,
        arxiv="2404.02285",
        code="FereshteShakeri/FewShot-CLIP-Strong-Baseline",
        trains="a linear layer (C×d + C) and a weight per class (C)",
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of LP++."""

        epochs: int = hyper(120, "full-batch steps", low=0, high=100_000)
        alpha_factor: float = hyper(
            250.0, "initial weight α of the text, divided by the mean cosine", low=0, high=1e6, grid=(250.0, 1000.0)
        )
        momentum: float = hyper(0.9, "momentum of the linear layer's steps", low=0, high=1)
        init: str = hyper("sum", "initial weights: class sums or class means of the features", choices=("sum", "mean"))
        accumulate: bool = hyper(True, "accumulate α's gradient over all steps, as in the authors' code")

    hyper: Hyper

    def _fit_seen(self, task: FewShotTask) -> None:
        features, labels, text = task.support_features, task.support_labels, task.text_features
        cosines = features @ text.T
        weight = class_means(features, labels, task.num_classes)
        if self.hyper.init == "sum":
            weight *= np.bincount(labels, minlength=task.num_classes)[:, None]
        bound = task.width**-0.5
        bias = np.random.default_rng(self.seed).uniform(-bound, bound, task.num_classes)
        alpha = np.full(task.num_classes, initial_alpha(cosines, labels, self.hyper.alpha_factor))
        probe = Probe(*(part.astype(np.float32) for part in (weight, bias, alpha)))
        probe, (self.history_, self.step_losses_) = train(
            probe,
            features,
            cosines,
            labels,
            step_sizes(features, cosines),
            steps=self.hyper.epochs,
            momentum=self.hyper.momentum,
            accumulate=self.hyper.accumulate,
        )
        self.weight_, self.bias_, self.alpha_ = probe.weight, probe.bias, probe.alpha

    def _scores(self, queries: Queries, zero_shot: Array) -> Array:
        cosines = zero_shot / self.scale_
        return np.asarray(queries.features @ self.weight_.T + self.bias_ + self.alpha_ * cosines, dtype=np.float32)
