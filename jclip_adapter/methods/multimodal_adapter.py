"""Multi-Modal Adapter: attention between an image and all class texts that adapts both."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jclip_adapter.core.errors import DataError, UsageError
from jclip_adapter.core.task import Array, FewShotTask, Queries

from .base import Hyperparameters, Meta, Method, hyper

if TYPE_CHECKING:
    from .training.loop import Batches, History

_PREFIX = "module_"
_PAIRS = 16_384  # of photos and classes in a chunk of the transformer's block, 2,048 numbers each


class MultimodalAdapter(Method):
    """Seputis et al., "Multi-Modal Adapter for Vision-Language Models", 2024.

    For each image, masked attention over the C class texts and the image computes a residual for both, so that the
    texts are adapted to the image that they are compared with. The sequence [t_1 … t_C, x] passes through two linear
    layers d→r→a, multi-head attention of width a, and a→r, GELU, r→d. With its normalised outputs m̂: x' =
    normalise(R·m̂_x + (1−R)·x), t'_i = normalise(R·m̂_i + (1−R)·t_i), logits_i = s·x'·t'_i. It is trained with
    cross-entropy and Adam with an L2 penalty, and has 107,712 parameters at d = 512. `training.multimodal` computes it
    without building the sequences.

    The authors' code differs from the paper:

    - Mask: in the paper, texts attend only to the image and the image only to texts. The code passes a 0/1 matrix where
      PyTorch adds the mask, so scores between text and image increase by 1 and nothing is masked. Their results were
      computed so: `mask="add"` is the default, `mask="block"` is the paper's.
    - Ratio: the paper weights the original feature by λ = 0.2, the code by 0.8. R = 0.2 is the code's.
    - Momentum: the paper states 0.5, which the code does not pass to Adam. It is not used here.
    - The code fails on a batch of one image. This one does not.
    - Epochs: the code runs up to 200 and keeps the best by validation accuracy. Here few epochs at a lower rate, chosen
      on shots (results/defaults.csv), are run, and the ratio, of which 0 is zero-shot, is chosen on the shots
      (`lr=5e-3`, `epochs=200` are the authors').

    - Patience: with `patience` p, the weights with the best accuracy on the task's validation set are kept, and the
      training ends after p epochs without a better one (10 in the paper, 20 in the code's notebook).

    The paper's ablations: `adapt="image"` does not adapt the texts; `down` and `up` replace the bottlenecks by one
    layer or by an MLP of the attention's width; `block="transformer"` replaces the attention by an encoder layer with
    PyTorch's defaults (2,048 hidden units, ReLU, normalisation after the sums) but without its dropout. That block
    needs about 30 kB of memory per class and photo of a batch.

    In training, the attention and the softmax of the loss run over the classes with shots only, as in the authors'
    code, which knows no others then. At prediction the texts of classes without shots take part and are adapted like
    the others.

    Learnt arrays: the module's weights `module_…_` (see `multimodal.draw`), `text_` (C, d), `scale_` ().

    See Also:
        JclipAdapter: adapts both sides without attention. ClipAdapter: the image side only.

    >>> import numpy as np
    >>> task = FewShotTask(np.eye(8)[:2], [0, 1], np.eye(8)[:2], ("cat", "dog"))
    >>> MultimodalAdapter(epochs=0).fit(task).logits(np.eye(8)[:1]).argmax()
    0
    """

    meta = Meta(
        name="multimodal-adapter",
        summary="attention between the image and all class texts adapts both",
        paper="Seputis et al., Multi-Modal Adapter for Vision-Language Models",
        year=2024,
        arxiv="2409.02958",
        code="dqmis/clip-mma",
        uses=("validation",),
        trains="a bottleneck around multi-head attention (107,712 parameters at d = 512)",
    )

    @dataclass(frozen=True)
    class Hyper(Hyperparameters):
        """Hyper-parameters of the Multi-Modal Adapter."""

        ratio: float = hyper(0.2, "residual ratio R; 0 is zero-shot", low=0, high=1, grid=(0.0, 0.2))
        mask: str = hyper("add", "attention mask: +1 (authors' code) or −inf (paper)", choices=("add", "block"))
        adapt: str = hyper("both", "adapt texts and image, or only the image", choices=("both", "image"))
        block: str = hyper("attention", "attention alone, or an encoder layer", choices=("attention", "transformer"))
        down: str = hyper("bottleneck", "layers before the block", choices=("bottleneck", "linear", "mlp"))
        up: str = hyper("bottleneck", "layers after the block", choices=("bottleneck", "linear", "mlp"))
        attention: int = hyper(128, "width a of the attention, a multiple of the heads", low=1, high=65536)
        inner: int = hyper(32, "width r of the bottleneck layers", low=1, high=65536)
        heads: int = hyper(4, "number of attention heads", low=1, high=1024)
        epochs: int = hyper(20, "passes over the shots", low=0, high=100_000)
        batch_size: int = hyper(256, "shots per step", low=1, high=1_000_000)
        lr: float = hyper(2e-3, "learning rate of Adam", low=0, high=10)
        weight_decay: float = hyper(1e-4, "L2 penalty of Adam", low=0, high=10)
        patience: int = hyper(
            0, "epochs without a better validation accuracy before training ends; 0 for all", low=0, high=100_000
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.attention % self.heads:
                raise UsageError(f"attention={self.attention} is not a multiple of heads={self.heads}.")

    hyper: Hyper

    def _fit(self, task: FewShotTask) -> None:
        from .training.multimodal import draw

        rng = np.random.default_rng(self.seed)
        h = self.hyper
        weights = draw(rng, task.width, h.attention, h.inner, block=h.block, down=h.down, up=h.up)
        self.text_ = task.text_features
        self.scale_ = np.array(task.logit_scale, dtype=np.float32)
        if h.ratio and h.epochs:
            weights = self._train(task, weights, rng)
        for name, array in weights.items():
            setattr(self, f"{_PREFIX}{name}_", array)

    def _train(self, task: FewShotTask, weights: dict[str, Array], rng: np.random.Generator) -> dict[str, Array]:
        from .training.loop import shuffled

        batches = shuffled(len(task.support_labels), self.hyper.batch_size, self.hyper.epochs, rng)
        trained, (self.history_, self.step_losses_) = self.train(weights, task, batches)
        return trained

    def train(self, weights: dict[str, Array], task: FewShotTask, batches: Batches) -> tuple[dict[str, Array], History]:
        """Train the module with Adam, as the authors do.

        Args:
            weights: Initial values, as `multimodal.draw` returns them.
            task: Its support rows and texts.
            batches: Row numbers of each step.

        Returns:
            The trained weights and the history.

        Raises:
            DataError: `patience` without a validation set of classes with shots.
        """
        from jclip_adapter.runtime import jt

        from .training.loop import Step, classification, train
        from .training.optimizers import Adam

        params = {name: jt.array(array) for name, array in weights.items()}
        seen = task.seen
        text = jt.array(task.text_features[seen]).stop_grad()
        labels = np.searchsorted(seen, task.support_labels)

        def step(rows: npt.NDArray[np.int64]) -> Step:
            scores = self.scores(jt.array(task.support_features[rows]), text, params, task.logit_scale)
            return classification(scores, labels[rows])

        def weights_now() -> dict[str, Array]:
            return {name: np.asarray(value.numpy()) for name, value in params.items()}

        optimizer = Adam(list(params.values()), self.hyper.lr, weight_decay=self.hyper.weight_decay)
        if not self.hyper.patience:
            history = train(step, optimizer, batches)
            return weights_now(), history
        rows, truth = _validation(task)
        best: tuple[float, int, dict[str, Array]] = (-1.0, 0, {})  # accuracy, epoch, weights
        epoch = 0

        def finished() -> bool:
            nonlocal best, epoch
            epoch += 1
            with jt.no_grad():
                scores = self._in_chunks(rows, text, params, task.logit_scale)
            accuracy = float((scores.argmax(axis=1) == truth).mean())
            if accuracy > best[0]:
                best = (accuracy, epoch, weights_now())
            return epoch - best[1] >= self.hyper.patience

        history = train(step, optimizer, batches, finished=finished)
        return best[2], history

    def scores(self, images: Any, text: Any, weights: dict[str, Any], scale: float) -> Any:
        """(B, C) logits of (B, d) images as `multimodal.adapted_logits` computes them."""
        from .training.multimodal import adapted_logits

        h = self.hyper
        return adapted_logits(
            images, text, weights, heads=h.heads, mask=h.mask, adapt=h.adapt, ratio=h.ratio, scale=scale
        )

    def _in_chunks(self, features: Array, text: Any, weights: dict[str, Any], scale: float) -> Array:
        """(M, d) → (M, C) logits; the chunks of the transformer's block are smaller."""
        from .training.multimodal import score_in_chunks

        size = 256 if self.hyper.block == "attention" else min(256, max(1, _PAIRS // len(text)))
        return score_in_chunks(features, lambda batch: self.scores(batch, text, weights, scale), size)

    def logits_among(self, queries: Queries, classes: npt.NDArray[np.int64]) -> Array:
        """As for every method; the attention sees the texts of these classes only."""
        twin = copy.copy(self)
        twin.classes_ = tuple(self.classes_[number] for number in classes)
        twin.text_ = self.text_[classes]
        return twin.logits(queries)

    def _logits(self, queries: Queries) -> Array:
        from jclip_adapter.runtime import jt

        scale = float(self.scale_)
        if not (self.hyper.ratio and self.hyper.epochs):  # an untrained module would distort zero-shot
            return np.asarray(scale * (queries.features @ self.text_.T), dtype=np.float32)
        text = jt.array(self.text_)
        names = [name for name in self.learnt() if name.startswith(_PREFIX)]
        weights = {name[len(_PREFIX) : -1]: jt.array(getattr(self, name)) for name in names}
        with jt.no_grad():
            return self._in_chunks(queries.features, text, weights, scale)


def _validation(task: FewShotTask) -> tuple[Array, npt.NDArray[np.int64]]:
    """Features of the validation photos of classes with shots, and their places among these classes.

    Raises:
        DataError: there are none.
    """
    held = task.validation
    known = np.zeros(0, dtype=bool) if held is None else np.isin(held.labels, task.seen)
    if held is None or not known.any():
        raise DataError("patience needs a validation set.", "Give --select validation, or patience=0.")
    return held.queries.features[known], np.searchsorted(task.seen, held.labels[known])
