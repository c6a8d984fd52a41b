"""CoOp and its kin: their options. methods/training/test_prompting.py compares losses and gradients."""

import numpy as np
import pytest

from jclip_adapter.core.errors import UsageError
from jclip_adapter.methods import create
from jclip_adapter.methods.training.prompting import POSITIONS

from .captured_step import NAMES, captured_step, tiny_task

LABELS = [0, 1, 2, 1, 0]


@pytest.mark.parametrize("specific", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
def test_chunks_change_nothing(position, specific):
    task, _ = tiny_task(LABELS)
    values = {"context": 4, "position": position, "class_specific": specific}
    whole, parts = (captured_step(create("coop", **values, chunk=chunk), task) for chunk in (100, 1))
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    np.testing.assert_allclose(parts.gradient, whole.gradient, atol=1e-4 * np.abs(whole.gradient).max())


@pytest.mark.parametrize("name", ["coop", "prograd", "cross-modal-prompting", "proda"])
def test_vectors_of_a_class_without_photos_stay(name):
    task, _ = tiny_task([0, 2, 2, 0])
    values = {"context": 2, "class_specific": True, "weight_decay": 0, "lr": 0.1}
    start, trained = (create(name, **values, epochs=epochs).fit(task).vectors_ for epochs in (0, 4))
    moved = np.abs(trained - start).reshape((-1, 3, start.shape[-2] * start.shape[-1])).max(axis=(0, 2))
    assert moved[1] == 0
    assert (moved[[0, 2]] > 0).all()


@pytest.mark.parametrize("specific", [False, True])
def test_cocoop_scores_by_its_own_prompts_for_each_photo(specific):
    """With a meta-net that adds nothing it is CoOp with the same vectors."""
    task, _ = tiny_task([0, 2, 2, 0])
    values = {"init": "a photo of a", "class_specific": specific}
    cocoop = create("cocoop", **values, epochs=2, lr=0.01).fit(task)
    photos = task.support_features
    alone = np.concatenate([cocoop.logits(photos[row : row + 1]) for row in range(len(photos))])
    np.testing.assert_allclose(alone, cocoop.logits(photos), atol=1e-4)
    cocoop.outer_, cocoop.outer_bias_ = 0 * cocoop.outer_, 0 * cocoop.outer_bias_
    coop = create("coop", **values, epochs=0)
    coop._start = lambda *_: cocoop.vectors_
    np.testing.assert_allclose(coop.fit(task).logits(photos), cocoop.logits(photos), atol=1e-3)


def test_a_phrase_says_where_vectors_start_and_how_many_there_are():
    task, _ = tiny_task(LABELS)
    table = task.encoder.model.token_embedding.weight.numpy()
    from jclip_adapter.models.clip.tokenizer import encode

    vectors = create("coop", init="a photo of a", epochs=0).fit(task).vectors_
    np.testing.assert_array_equal(vectors, table[encode("a photo of a")])
    led = create("prograd", init="a photo of a", context=6, epochs=0).fit(task).vectors_
    np.testing.assert_array_equal(led, np.concatenate([np.zeros((2, table.shape[1])), vectors]))
    with pytest.raises(UsageError, match="init"):
        create("coop", init=" ").fit(task)


def test_at_first_prompts_in_words_are_those_of_the_text_tower():
    """Vectors that are a phrase's embeddings give the phrase's features."""
    from jclip_adapter.core.task import normalise
    from jclip_adapter.models.clip.tokenizer import token_ids

    task, _ = tiny_task(LABELS)
    method = create("coop", init="a photo of a", epochs=0).fit(task)
    tokens = token_ids([f"a photo of a {name}." for name in NAMES], 77)
    expected = normalise(task.encoder.model.encode_text(tokens).numpy())
    np.testing.assert_allclose(method.text_, expected, atol=1e-5)


def test_original_wise_ft_lies_between_zero_shot_and_trained():
    """The text tower's weights are interpolated, so half-way the weights are the mean."""
    task, _ = tiny_task(LABELS)
    runs = [create("text-tower", lr=1e-3, epochs=3, interpolation=share).fit(task) for share in (0, 0.5, 1)]
    base = {key: value.numpy() for key, value in task.encoder.model.state_dict().items()}
    for key in runs[0].encoder_:
        np.testing.assert_array_equal(runs[0].encoder_[key], base[key])
        middle = (runs[0].encoder_[key] + runs[2].encoder_[key]) / 2
        np.testing.assert_allclose(runs[1].encoder_[key], middle, atol=1e-6)
    assert any((runs[2].encoder_[key] != base[key]).any() for key in base if key in runs[2].encoder_)
