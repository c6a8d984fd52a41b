"""Methods train through CLIP's relatives as through CLIP: other masks, pooling, positions and tokenizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from jclip_adapter.core.task import EncoderLink, FewShotTask, Queries, Weights, normalise
from jclip_adapter.data.photos.preprocess import normalise_pixels
from jclip_adapter.methods import create
from jclip_adapter.methods.training.prompting import POSITIONS, class_prompts, encode_prompts
from jclip_adapter.methods.training.tuning import cross_entropy, trainable
from jclip_adapter.models import clip
from jclip_adapter.models.clip.model import build_model
from jclip_adapter.models.clip.tokenizer import around, model_tokens, word_ids
from jclip_adapter.runtime import jt
from tests import ROOT

FAMILIES = ("chinese_clip", "siglip", "siglip2", "oc_custom_bias", "pe_core")
NAMES = {"chinese_clip": ("猫", "雪山", "红色的花")}
METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("coop", {"epochs": 2, "context": 3, "lr": 0.1}),
    ("coop", {"epochs": 2, "context": 2, "class_specific": True, "position": "middle"}),
    ("cocoop", {"epochs": 1, "init": "", "context": 2}),
    ("clip-lora", {"steps_per_shot": 2}),
    ("text-tower", {"epochs": 2}),
    ("full", {"epochs": 2}),
    ("cross-modal-partial", {"iterations": 2, "warmup": 0}),
)


def names_of(family: str) -> tuple[str, ...]:
    return NAMES.get(family, ("cat", "type of dog", "animal"))


def task_of(family: str) -> tuple[FewShotTask, np.ndarray]:
    """Two shots of each of three classes."""
    model = clip.load(ROOT / "tests/golden/models" / family)[0]
    side, labels = model.config.image_resolution, np.repeat(np.arange(3), 2)
    photos = np.random.default_rng(0).integers(0, 256, (6, side, side, 3), dtype=np.uint8)
    prompts = tuple(f"a photo of a {name}." for name in names_of(family))
    with jt.no_grad():
        images = model.encode_image(normalise_pixels(photos, model.config.pixels)).numpy()
        texts = model.encode_text(model_tokens(prompts, model.config)).numpy()
    link = EncoderLink(model, names_of(family), prompts, lambda rows, rng, share: photos[rows])
    task = FewShotTask(normalise(images), labels, normalise(texts), names_of(family), encoder=link, logit_scale=20.0)
    return task, photos


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("position", POSITIONS)
def test_prompts_of_vectors_are_the_texts_whose_words_they_embed(family: str, position: str) -> None:
    model = clip.load(ROOT / "tests/golden/models" / family)[0]
    config, names = model.config, names_of(family)
    words = word_ids("a photo of", config)
    table = model.token_embedding.weight.numpy()
    prompts = class_prompts(model, names, len(words), position)
    start, end, padding = around(config.text_vocabulary)
    skipped = len(word_ids("X " * len(words), config))
    before = {"end": len(words), "middle": len(words) // 2, "front": 0}[position]
    rows = []
    for name in names:
        whole = word_ids(f"{'X ' * len(words)}{name}.", config)[skipped:]
        size = len(word_ids(f"{'X ' * len(words)}{name}", config)) - skipped
        row = [*start, *words[:before], *whole[:size], *words[before:], *whole[size:], end]
        rows.append(row + [padding] * (config.context_length - len(row)))
    with jt.no_grad():
        wanted = model.encode_text(np.array(rows)).numpy()
        found = encode_prompts(model, prompts, jt.array(table[words])).numpy()
    np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("name", "values"), METHODS, ids=lambda value: value if isinstance(value, str) else "")
def test_methods_train_through_them(family: str, name: str, values: dict[str, Any]) -> None:
    task, photos = task_of(family)
    config = task.encoder.model.config
    before = {key: value.numpy() for key, value in task.encoder.model.state_dict().items()}
    method = create(name, **values, seed=0).fit(task)

    def encode(change: Callable[[Weights], Weights]) -> np.ndarray:
        model = build_model({**before, **change(before)}, config)
        with jt.no_grad():
            return np.asarray(model.encode_image(normalise_pixels(photos, config.pixels)).numpy())

    scores = method.logits(Queries(task.support_features, encode=encode))
    assert scores.shape == (6, 3)
    assert np.isfinite(scores).all()
    assert np.isfinite(method.step_losses_).all()
    changed = method.encoder_weights(before) if method.meta.tunes else {}
    for key, value in changed.items():
        assert value.shape == before[key].shape, key
        assert not key.startswith("logit_"), key
    assert bool(changed) == bool(method.meta.tunes)
    for key, value in task.encoder.model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[key], err_msg=key)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_weight(family: str) -> None:
    """Against central differences along the gradient itself, weight by weight."""
    task, photos = task_of(family)
    model, tokens = task.encoder.model, model_tokens(task.encoder.prompts, task.encoder.model.config)
    pixels = normalise_pixels(photos, model.config.pixels)

    def loss() -> Any:
        return cross_entropy(model.encode_image(pixels), model.encode_text(tokens), task.support_labels, 5.0)

    keys = [key for key, _ in model.named_parameters() if not key.startswith(("logit_", "token_embedding"))]
    with trainable(model, keys.__contains__) as (weights, before):
        gradients = jt.grad(loss(), [weights[key] for key in keys])
        found = {key: gradient.numpy() for key, gradient in zip(keys, gradients, strict=True)}
        largest = max(np.linalg.norm(gradient) for gradient in found.values())
        for key, gradient in found.items():
            norm = float(np.linalg.norm(gradient))
            if norm < 1e-2 * largest:
                continue  # differences of float32 do not show it
            step = np.float32(1e-2 * np.linalg.norm(before[key]) / norm / np.sqrt(before[key].size))
            ends = []
            for sign in (1, -1):
                weights[key].update(jt.array(before[key] + sign * step * gradient))
                with jt.no_grad():
                    ends.append(float(loss().item()))
            weights[key].update(jt.array(before[key]))
            assert (ends[0] - ends[1]) / (2 * float(step) * norm**2) == pytest.approx(1, abs=0.1), key
