"""Cross-modal fine-tuning of the last block, the image tower and the text tower, against float64 towers."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from jclip_adapter.core.task import FewShotTask, normalise
from jclip_adapter.data.photos.preprocess import normalise_pixels
from jclip_adapter.methods import create
from jclip_adapter.methods.cross_modal_partial import CrossModalPartial
from jclip_adapter.methods.training import loop
from tests.reference_text_tower import TextTower, cross_entropy

from .captured_step import NAMES, tiny_task

ENCODERS = ("last-block", "image", "text")
PATCH = 16
TEMPLATES = normalise(np.random.default_rng(6).standard_normal((3, 2, 16)).astype(np.float32))
HEARD = {  # two sounds of class 0, one of class 2
    "extra_features": normalise(np.random.default_rng(7).standard_normal((3, 16)).astype(np.float32)),
    "extra_labels": np.array([0, 2, 0]),
    "extra_modalities": ("audio",) * 3,
}
STEP = 1e-5  # of the numeric derivatives


class ImageTower(TextTower):
    """CLIP's vision transformer in float64; its blocks are the text tower's, without the causal mask."""

    causal = False

    def __init__(self, state: dict[str, np.ndarray]) -> None:
        super().__init__({key.replace("visual.", ""): value for key, value in state.items() if "visual" in key})

    def photo(self, pixels: np.ndarray) -> np.ndarray:
        """(d,) feature, normalised, of (3, n, n) preprocessed pixels."""
        side = pixels.shape[1] // PATCH
        patches = pixels.reshape(3, side, PATCH, side, PATCH).transpose(1, 3, 0, 2, 4).reshape(side * side, -1)
        kernels = self.state["conv1.weight"]
        x = np.concatenate([self.state["class_embedding"][None], patches @ kernels.reshape(len(kernels), -1).T])
        x = self._norm(x + self.state["positional_embedding"], "ln_pre")
        for layer in range(self.layers):
            x = self._block(x, f"transformer.resblocks.{layer}")
        feature = self._norm(x[0], "ln_post") @ self.state["proj"]
        return feature / np.sqrt((feature**2).sum())


@dataclass(frozen=True)
class Captured:
    """One training step: the loss, and the gradients by name; "weight" is the classifier's."""

    loss: float
    gradients: dict[str, np.ndarray]


def world(labels: list[int]) -> tuple[FewShotTask, dict[str, np.ndarray], np.ndarray]:
    """A task with photos, the weights of its CLIP, and the photos (N, 32, 32, 3)."""
    task, state = tiny_task(labels, text_views=tuple(TEMPLATES))
    photos = np.random.default_rng(8).integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    link = replace(task.encoder, pixels=lambda rows, *_: photos[rows])
    return replace(task, encoder=link), state, photos


def captured(task: FewShotTask, **values: object) -> Captured:
    """The first step, with all support rows at once."""
    method = create("cross-modal-partial", **values)
    found = []
    importlib.import_module("jclip_adapter.methods.training.cross_modal")  # it would keep the replaced function

    def instead(step, optimizer, batches, **_):
        model = task.encoder.model
        names = [key for key, _ in model.named_parameters() if method._trains(task.encoder, key)]
        loss, gradients, *_ = step((np.arange(len(task.support_labels)), np.random.default_rng(3)))
        arrays = [np.array(gradient.numpy()) for gradient in gradients]
        found.append(Captured(loss, dict(zip([*names, "weight"], arrays, strict=True))))
        return loop.History([], [])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train", instead)
        method.fit(task)
    return found[0]


def reference_loss(
    task: FewShotTask, photos: np.ndarray, state: dict[str, np.ndarray], weight: np.ndarray, encoder: str
) -> float:
    """The loss of that step by the definition, in float64."""
    rng = np.random.default_rng(3)
    mirrored = rng.integers(2, size=len(photos)).astype(bool)
    views = np.where(mirrored[:, None, None, None], photos[:, :, ::-1], photos)
    pixels = normalise_pixels(views).astype(np.float64)
    tower = ImageTower(state)
    rows = [tower.photo(photo) for photo in pixels]
    if encoder == "text":
        words = TextTower(state)
        texts = np.array([words.prompt(f"a {name}", np.zeros((0, 64))) for name in NAMES])
        drawn = rng.permutation(len(NAMES))
        labels = drawn
    else:
        texts = TEMPLATES.reshape(-1, 16).astype(np.float64)
        drawn = rng.permutation(len(texts))
        labels = drawn // 2
    scale = np.exp(4.0)
    seen = task.seen
    of_photos = scale * np.array(rows) @ weight[seen].T
    of_texts = scale * texts[drawn] @ weight.T
    count = len(rows) + len(drawn)
    total = len(rows) * cross_entropy(of_photos, np.searchsorted(seen, task.support_labels))
    total += len(drawn) * cross_entropy(of_texts, labels)
    for sounds, own in task.extra_rows().values():
        heard = np.union1d(own, seen)
        total += len(own) * cross_entropy(scale * sounds @ weight[heard].T, np.searchsorted(heard, own))
        count += len(own)
    return total / count


@pytest.mark.parametrize(("labels", "sounds"), [([0, 1, 2, 1], {}), ([0, 2, 2], {}), ([0, 1, 1], HEARD)])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_loss_and_gradients_are_those_of_all_modalities(
    encoder: str, labels: list[int], sounds: dict[str, Any]
) -> None:
    task, state, photos = world(labels)
    task = replace(task, **sounds)
    step = captured(task, encoder=encoder)
    exact = {key: np.asarray(value, dtype=np.float64) for key, value in state.items()}
    weight = task.text_features.astype(np.float64)
    assert step.loss == pytest.approx(reference_loss(task, photos, exact, weight, encoder), rel=1e-4)
    rng = np.random.default_rng(5)
    for name, gradient in step.gradients.items():
        way = rng.standard_normal(gradient.shape)
        ends = []
        for sign in (1, -1):
            changed = weight + sign * STEP * way if name == "weight" else weight
            moved = exact if name == "weight" else {**exact, name: exact[name] + sign * STEP * way}
            ends.append(reference_loss(task, photos, moved, changed, encoder))
        numeric = (ends[0] - ends[1]) / (2 * STEP)
        norm = np.sqrt((gradient.astype(np.float64) ** 2).sum())
        assert (gradient * way).sum() == pytest.approx(numeric, abs=2e-3 * norm + 1e-6), name


@pytest.mark.parametrize("encoder", ENCODERS[1:])
def test_chunks_change_nothing(encoder: str) -> None:
    task, _, _ = world([0, 1, 2, 1])
    whole, parts = captured(task, encoder=encoder), captured(task, encoder=encoder, chunk=2)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    for name, gradient in whole.gradients.items():
        np.testing.assert_allclose(parts.gradients[name], gradient, atol=1e-4 * np.abs(gradient).max() + 1e-7)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_only_the_chosen_part_is_trained_and_clip_is_given_back(encoder: str) -> None:
    task, state, _ = world([0, 1, 2, 1])
    method = CrossModalPartial(encoder=encoder, iterations=2, warmup=0, lr=1e-3).fit(task)
    parts = {
        "last-block": ("visual.transformer.resblocks.0.", "visual.ln_post.", "visual.proj"),
        "image": ("visual.",),
        "text": ("transformer.", "ln_final.", "positional_embedding", "text_projection"),
    }
    assert set(method.encoder_) == {key for key in state if key.startswith(parts[encoder])}
    assert all((value != state[key]).any() for key, value in method.encoder_.items())
    assert (method.weight_ != task.text_features).any()
    assert all((value.numpy() == state[key]).all() for key, value in task.encoder.model.named_parameters())
    assert method.tunes_images == (encoder != "text")
