"""SGD, Adam and AdamW with PyTorch's arithmetic, and the learning-rate schedules that the papers' code uses.

jt.optim is not used: its Adam adds ε before the bias correction (6e-3 away from PyTorch's after 20 steps at ε = 1e-4),
its AdamW takes 15 % longer per step, and none of its optimizers takes gradients that were computed elsewhere.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from jclip_adapter.runtime import jt

_TINY = float(np.finfo(np.float32).tiny)


class Optimizer(ABC):
    """Updates parameters in place by the gradient of a loss.

    Args:
        params: Jittor variables.
        lr: Learning rate of the steps for which none is given.
        weight_decay: λ.

    Attributes:
        params: The parameters.
        steps: Number of steps taken.
        buffers: State buffers: `slots` lists of one jt.Var per parameter, zeros at first.
    """

    slots: ClassVar[int]

    def __init__(self, params: Sequence[Any], lr: float, weight_decay: float = 0.0) -> None:
        self.params = list(params)
        self.lr = lr
        self.weight_decay = weight_decay
        self.steps = 0
        self.buffers = [
            [jt.zeros(value.shape, value.dtype).stop_grad() for value in self.params] for _ in range(self.slots)
        ]

    def step(self, loss: Any, lr: float | None = None) -> None:
        """Update the parameters by the gradient of a loss, a scalar jt.Var; `lr` as in `apply`."""
        self.apply(jt.grad(loss, self.params), lr)

    def apply(self, gradients: Sequence[Any], lr: float | None = None) -> None:
        """Update the parameters by known gradients.

        Args:
            gradients: One per parameter, of its shape.
            lr: This step's learning rate; None for the constructor's.
        """
        self.steps += 1
        rate = self.lr if lr is None else lr
        for index, (value, gradient) in enumerate(zip(self.params, gradients, strict=True)):
            value.update(self._updated(index, value, gradient.stop_grad(), rate))

    @abstractmethod
    def _updated(self, index: int, value: Any, gradient: Any, lr: float) -> Any:
        """The new value of a parameter; also updates its state buffers."""

    def variables(self) -> list[Any]:
        """Parameters and state buffers."""
        return [*self.params, *(value for buffer in self.buffers for value in buffer)]

    def state(self) -> dict[str, Any]:
        """Parameters, state buffers and the number of steps, as numpy arrays by name."""
        arrays = {f"variable_{index}": np.array(value.numpy()) for index, value in enumerate(self.variables())}
        return arrays | {"steps": np.array(self.steps)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load what `state` returned."""
        self.steps = int(state["steps"])
        for index, value in enumerate(self.variables()):
            value.update(jt.array(state[f"variable_{index}"]))
        jt.sync(self.variables())


class SGD(Optimizer):
    """Gradient descent with momentum: g ← ∇ + λθ; v ← μv + g; θ ← θ − lr·v.

    Args:
        params: Jittor variables.
        lr: Learning rate.
        momentum: μ.
        weight_decay: λ, an L2 penalty.
    """

    slots = 1

    def __init__(self, params: Sequence[Any], lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr, weight_decay)
        self.momentum = momentum

    def _updated(self, index: int, value: Any, gradient: Any, lr: float) -> Any:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * value
        if self.momentum:
            velocity = self.buffers[0][index]
            velocity.update(self.momentum * velocity + gradient)
            gradient = velocity
        return value - lr * gradient


class Adam(Optimizer):
    """Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, with weight decay as an L2 penalty.

    g ← ∇ + λθ; m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; θ ← θ − lr · (m/(1−β₁ᵗ)) / (√(v/(1−β₂ᵗ)) + ε)
    with β₁ = 0.9 and β₂ = 0.999.

    Args:
        params: Jittor variables.
        lr: Learning rate.
        eps: ε.
        weight_decay: λ.
    """

    slots = 2
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)

    def __init__(self, params: Sequence[Any], lr: float, *, eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr, weight_decay)
        self.eps = eps

    def _updated(self, index: int, value: Any, gradient: Any, lr: float) -> Any:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * value
        return value - self._change(index, gradient, lr)

    def _change(self, index: int, gradient: Any, lr: float) -> Any:
        """What the step subtracts from the parameter."""
        (beta1, beta2), (first, second) = self.betas, (buffer[index] for buffer in self.buffers)
        first.update(beta1 * first + (1 - beta1) * gradient)
        second.update(beta2 * second + (1 - beta2) * gradient * gradient)
        # The compiler's fast square root of a denormal number is NaN; below ε the bound changes nothing.
        root = jt.sqrt(jt.maximum(second, _TINY)) * (1 / math.sqrt(1 - beta2**self.steps)) + self.eps
        return (lr / (1 - beta1**self.steps)) * first / root


class AdamW(Adam):
    """Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019: θ ← (1 − lr·λ)·θ, then Adam's step.

    The arguments are those of `Adam`; λ is 0.01 by default, as in PyTorch.
    """

    def __init__(self, params: Sequence[Any], lr: float, *, eps: float = 1e-8, weight_decay: float = 0.01) -> None:
        super().__init__(params, lr, eps=eps, weight_decay=weight_decay)

    def _updated(self, index: int, value: Any, gradient: Any, lr: float) -> Any:
        if lr and self.weight_decay:
            value = value * (1 - lr * self.weight_decay)
        return value - self._change(index, gradient, lr)


def cosine(step: int, lr: float, period: int) -> float:
    """Learning rate that falls along a cosine from `lr` at step 0 to 0 at step `period`.

    >>> [round(cosine(step, 1.0, 4), 3) for step in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    return lr * (1 + math.cos(math.pi * step / max(1, period))) / 2


def warmup_cosine(step: int, lr: float, period: int, *, warmup: int = 50, floor: float = 1e-5) -> float:
    """Learning rate of a linear warm-up followed by a cosine (golden: cross-modal adaptation's).

    Args:
        step: Number of the step, from 0.
        lr: Highest rate, reached at step `warmup`.
        period: Length of the cosine in steps.
        warmup: Length of the warm-up in steps; step t has the rate lr·t/warmup.
        floor: Rate of step 0.

    >>> [round(warmup_cosine(step, 1.0, 4, warmup=2), 5) for step in range(7)]
    [1e-05, 0.5, 1.0, 0.85355, 0.5, 0.14645, 0.0]
    """
    if step >= warmup:
        return cosine(step - warmup, lr, period)
    return lr * step / warmup if step else floor


def constant_warmup_cosine(epoch: int, lr: float, period: int, *, floor: float = 1e-5) -> float:
    """Learning rate of Dassl's schedule: `floor` in epoch 0, then a cosine of `period` epochs from `lr`.

    >>> [round(constant_warmup_cosine(epoch, 1.0, 4), 5) for epoch in range(4)]
    [1e-05, 1.0, 0.85355, 0.5]
    """
    return cosine(epoch - 1, lr, period) if epoch else floor
